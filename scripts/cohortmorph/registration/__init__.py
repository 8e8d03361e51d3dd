"""The classical tools: each turns a pair into a transform, fixed to moving, from the same problem.

May import: run, cohort, spatial.
"""
