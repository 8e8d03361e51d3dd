"""Where things are: grids, displacements, intensities, label maps and points, in mm and in ITK's LPS frame.

May import: run.
"""
