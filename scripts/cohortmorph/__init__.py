"""The library behind CohortMorph's rules: a room a concern, a module a concept.

Each room's first lines say what lives there and which rooms it may import: imports only lead downward
(docs/architecture.md, held by tests/test_architecture.py). Heavy ones stand where they are needed.
"""


class UserError(Exception):
    """A mistake that the user can mend: its message names the file, what was found, what was expected, what to do.

    Scripts show it without a traceback (see :func:`cohortmorph.run.logs.job`).
    """
