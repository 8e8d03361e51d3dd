"""Experiments of the sources that are no registration of a cohort: RegNet's table, neuronavigation.

May import: run, cohort, spatial, registration, simulated, evaluation, figures.
"""
