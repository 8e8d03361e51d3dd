"""What a result is worth: the registry of measures, what is measured of a displacement, the tables of a run,
statistics, selection on validation pairs, quality control.

May import: run, cohort, spatial, registration, learning.
"""
