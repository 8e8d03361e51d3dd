"""A run's jobs on an HTCondor pool, as Snakemake's rules need them before the first job.

The roof: uses `cohort` and `run`; nothing of the house imports it but the rules.
"""
