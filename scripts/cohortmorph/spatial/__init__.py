"""Millimetres, LPS and grids: images, label maps, landmarks, intensities, displacements. Imports cohort and below."""
