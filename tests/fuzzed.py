"""How many cases a fuzzer tries: few in the suite, `COHORTMORPH_FUZZ` times as many if that is set."""

import os

from hypothesis import HealthCheck, settings

TIMES = int(os.environ.get("COHORTMORPH_FUZZ", "1"))


def cases(count):
    """Return a decorator: `count` cases, or so many times more, the same ones each time."""
    return settings(
        max_examples=count * TIMES,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
