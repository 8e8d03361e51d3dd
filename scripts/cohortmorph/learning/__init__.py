"""Networks of several kinds and what they learn by: losses, samples, training, checkpoints, and the same losses
optimized pair by pair.

May import: run, cohort, spatial, registration.
"""
