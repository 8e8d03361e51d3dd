"""What is drawn: the one style, charts of tables, pictures of images, fused images.

May import: run, cohort, spatial, clinic, registration, evaluation.
"""
