"""Experiments of the sources that the workflow repeats beside its own: RegNet's table, simulated neuronavigation.

Nothing imports them but their scripts; they may import all but the pool.
"""
