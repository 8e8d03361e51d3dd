"""What somebody reads of a finished run: the report, the page of each pair, the viewer, and the server that shows them.

All take an :class:`~cohortmorph.evaluation.tables.Evaluation`. Imports figures and all below them.
"""
