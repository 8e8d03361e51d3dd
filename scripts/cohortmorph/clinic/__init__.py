"""DICOM in and out: which series, which slices, structures drawn in the clinic, moved images as new series; privacy.

What comes from a hospital's disk passes here: it is proved whole and on one grid, or refused in words that name nobody.
Uses `spatial` and what lies below it.
"""
