"""How a job runs: files that are complete or absent, its log, its memory, the tools of its machine.

The ground floor: of the house it imports :class:`~cohortmorph.UserError` alone.
"""
