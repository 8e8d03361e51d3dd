"""Which methods are skipped, as the run's machine lacks their tool: decided once, by the main run, for all its jobs.

A job may run on another machine, with other tools. If each looked for itself, one would measure a method that the next
leaves out. So the main run looks, and tells its jobs in a variable of the environment, which Snakemake hands to every
job, here or on a pool. A job whose machine lacks a tool fails, or records a failed registration.
"""

import os
from collections.abc import Mapping
from typing import Any

from cohortmorph import UserError
from cohortmorph.run import tools

VARIABLE = "COHORTMORPH_SKIPPED"  # ":" and, after each method, another one


def tell(baselines: Mapping[str, Mapping[str, Any]], tools_are_here: bool) -> None:
    """Decide which methods are skipped, and tell all jobs to come.

    Parameters
    ----------
    baselines : dict
        The configuration's, with defaults.
    tools_are_here : bool
        False where each job has a conda environment of its own, with its tool: then none is skipped.
    """
    missing = [
        method
        for method, chosen in baselines.items()
        if tools_are_here and chosen["missing"] == "skip" and not tools.find(chosen["tool"])
    ]
    os.environ[VARIABLE] = ":" + "".join(f"{method}:" for method in missing)


def told() -> tuple[str, ...]:
    """Return what the main run told: the methods that are skipped."""
    if VARIABLE not in os.environ:
        raise UserError(
            f"This job was not told which methods are skipped: the variable {VARIABLE} of its environment is missing. "
            "Start jobs through Snakemake's main run, which sets it."
        )
    return tuple(filter(None, os.environ[VARIABLE].split(":")))
