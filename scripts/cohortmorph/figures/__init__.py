"""Figures, from tables and from images: style.py, charts of methods and of networks, pictures of slices, fused images.

Imports the measured (evaluation), the images (spatial), DICOM (clinic) and what is to be done (cohort), no page.
"""
