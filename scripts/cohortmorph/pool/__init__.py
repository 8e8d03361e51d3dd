"""Runs on an HTCondor pool: what its jobs ask for, take along and say.

May import: run, cohort.
"""
