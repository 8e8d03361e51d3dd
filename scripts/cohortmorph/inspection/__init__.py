"""What the files of a cohort hold, looked at before anything is computed: images, label maps, points, parameter files,
and whether they fit each other. The readers are those of the jobs, and so are their words.

May import: run, cohort, spatial, clinic, registration.
"""
