"""Images and displacements whose truth is known: the phantom patients, synthetic displacements.

May import: run, cohort, spatial, clinic.
"""
