"""The library behind CohortMorph's rules: one concept a module, heavy imports only where they are needed."""


class UserError(Exception):
    """A mistake that the user can mend: its message names the file, what was found, what was expected, what to do.

    Scripts show it without a traceback (see :func:`cohortmorph.run.logs.job`).
    """
