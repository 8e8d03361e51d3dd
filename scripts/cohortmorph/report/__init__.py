"""What a reader opens: the report, a page a pair, the viewer, with what they say in words.

May import: run, cohort, spatial, evaluation, figures.
"""
