"""A registration's result as files, also where it failed.

A registration that fails is a result as well. Its displacement leads nowhere and its registration.json says why, so
that the rest of the cohort goes on, and the evaluation counts the failure instead of losing it.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from cohortmorph import UserError
from cohortmorph.registration.problem import Registered
from cohortmorph.run import logs
from cohortmorph.run.files import StrPath, write_json
from cohortmorph.spatial import displacement
from cohortmorph.spatial.geometry import Grid


def record(pair: str, method: str, grid: Grid, path: StrPath, attempt: Callable[[], Registered]) -> None:
    """Write what an attempt gives: a displacement on `grid` and its registration.json, or that and why it failed.

    Parameters
    ----------
    pair, method : str
        Ids, for the log.
    grid : Grid
        Of the fixed image.
    path : path
        Of the displacement.
    attempt : callable
        Raises UserError where it fails.
    """
    try:
        registered = attempt()
        field = displacement.sample(registered.transform, grid)
        if not np.isfinite(sitk.GetArrayViewFromImage(field)).all():
            raise UserError("the displacement has values that are not finite.")
    except UserError as error:
        logs.log.error("%s, method %s failed: %s", pair, method, error)
        displacement.write_failed(grid, path)
        write_json({"failed": str(error)}, Path(path).parent / "registration.json")
        return
    displacement.write(field, path)
    write_json(registered.cost.entries() | registered.provenance, Path(path).parent / "registration.json")
    logs.log.info("%s: %s in %.1f s", pair, method, registered.cost.seconds)
