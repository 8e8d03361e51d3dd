"""What comes from a hospital and goes back to it: DICOM series, slices, stacks, structures, and the privacy of
whom they show.

May import: run, cohort, spatial.
"""
