"""Chance that can be repeated: each thing that is drawn has numbers of its own, whatever else is drawn before it."""

import hashlib

import numpy as np


def random_numbers(*words: str | float) -> np.random.Generator:
    """Return a generator that depends on all of `words`, and on nothing else."""
    return np.random.default_rng(np.frombuffer(hashlib.sha256(repr(words).encode()).digest(), dtype=np.uint32))
