"""Whether a displacement is one that tissue could follow: Jacobian, folding, change of volume, the way back.

One function a metric, as in metrics.py.
"""

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from cohortmorph.evaluation.measures import Row, row

# Learn2Reg's evaluation leaves out so many voxels at the edge of the grid.
LEARN2REG_RIM = 2


def regularity(determinant: ArrayLike, mask: np.ndarray | None = None) -> list[Row]:
    """Return the rows of the Jacobian's determinant: how strongly space is deformed, and whether it folds.

    Parameters
    ----------
    determinant : array
        See :func:`cohortmorph.spatial.displacement.jacobian_determinant`.
    mask : boolean array of that shape, optional
        Where to look; the whole grid if there is none.

    Returns
    -------
    list of Row
        ``jacobian_min``, ``jacobian_mean``, ``jacobian_p01``, ``jacobian_p99`` (percentiles); ``jacobian_sd_log``, the
        standard deviation of the logarithm of the positive determinants;
        ``jacobian_sd_log_learn2reg``, the same of all determinants + 3, clipped to 1e-9 … 1e9, without the two outer
        voxels of the grid (except along axes of no more than four), which is what Learn2Reg prints as SDlogJ: far
        smaller, and blind to folding; ``folding``, the percentage of voxels whose determinant is zero or negative.
        Central differences can miss a folding between neighbours: 0 % is no proof, see :func:`folded_volume`.
    """
    determinant = np.asarray(determinant)
    values = determinant.ravel() if mask is None else determinant[mask]
    minimum, sd_log, folding, mean, low, high = [np.nan] * 6
    if values.size:
        positive = values[values > 0].astype(float)
        sd_log = np.log(positive).std() if positive.size else np.nan
        minimum, folding = values.min(), 100 * (1 - positive.size / values.size)
        mean, (low, high) = values.mean(dtype=float), np.percentile(values, [1, 99])
    inner = tuple(
        slice(LEARN2REG_RIM, -LEARN2REG_RIM) if length > 2 * LEARN2REG_RIM else slice(None)
        for length in determinant.shape
    )
    inner_values = determinant[inner] if mask is None else determinant[inner][mask[inner]]
    raised = np.clip(inner_values.astype(float) + 3, 1e-9, 1e9)
    sd_log_learn2reg = np.log(raised).std() if raised.size else np.nan
    return [
        row("jacobian_min", "image", float(minimum)),
        row("jacobian_mean", "image", float(mean)),
        row("jacobian_p01", "image", float(low)),
        row("jacobian_p99", "image", float(high)),
        row("jacobian_sd_log", "image", float(sd_log)),
        row("jacobian_sd_log_learn2reg", "image", float(sd_log_learn2reg)),
        row("folding", "image", float(folding)),
    ]


def volume_changes(determinant: ArrayLike, fixed_labels: ArrayLike) -> list[Row]:
    """Return a row ``volume_change`` for each structure of the fixed image, in %: mean det J over it, less 1.

    Parameters
    ----------
    determinant : array
        See :func:`cohortmorph.spatial.displacement.jacobian_determinant`: the local ratio of volumes, moving to fixed.
    fixed_labels : integer array of that shape

    Returns
    -------
    list of Row
        Positive: the displacement says that the structure is larger in the moving image. Its structure is the label's
        number; there is no mean, as one organ's growth is not another's shrinking.
    """
    index, numbers = pd.factorize(np.asarray(fixed_labels).ravel(), sort=True)  # unlike np.unique, it sorts no voxels
    sums = np.bincount(index, weights=np.asarray(determinant, dtype=float).ravel())
    changes = 100 * (sums / np.bincount(index) - 1)
    return [
        row("volume_change", str(int(label)), float(change))
        for label, change in zip(numbers, changes, strict=True)
        if label > 0
    ]


def folded_volume(inverted: np.ndarray, mask: np.ndarray | None = None) -> list[Row]:
    """Return the row of the non-diffeomorphic volume, ``ndv``: what is turned inside out, in % of the volume measured.

    Parameters
    ----------
    inverted : array
        See :func:`cohortmorph.spatial.displacement.non_diffeomorphic_volume`.
    mask : boolean array of the image's shape, optional
        Where to look: the cubes with all eight corners in it. The whole grid if there is none.
    """
    values = inverted
    if mask is not None:
        whole = mask
        for axis, (voxels, cubes) in enumerate(zip(mask.shape, inverted.shape, strict=True)):
            if voxels > cubes:
                whole = whole.take(range(cubes), axis) & whole.take(range(1, voxels), axis)
        values = inverted[whole]
    return [row("ndv", "image", 100 * float(values.mean(dtype=float)) if values.size else np.nan)]


def inverse_consistency(errors_mm: np.ndarray, mask: np.ndarray | None = None) -> list[Row]:
    """Return the rows of how far the way there and back ends from its start, over the fixed image's voxels.

    Parameters
    ----------
    errors_mm : array
        See :func:`cohortmorph.spatial.displacement.inverse_error_mm`; NaN where the way back is not known.
    mask : boolean array of that shape, optional
        Where to look; the whole grid if there is none.

    Returns
    -------
    list of Row
        ``inverse_consistency_mean`` and ``inverse_consistency_p95`` in mm over the voxels that stay on the reverse
        grid (NaN if none does); ``inverse_consistency_outside``, the percentage that leaves it.
    """
    errors_mm = errors_mm.ravel() if mask is None else errors_mm[mask]
    inside_mm = errors_mm[np.isfinite(errors_mm)].astype(float)
    mean, p95 = (inside_mm.mean(), np.percentile(inside_mm, 95)) if inside_mm.size else (np.nan, np.nan)
    outside = 100 * (1 - inside_mm.size / errors_mm.size) if errors_mm.size else np.nan
    return [
        row("inverse_consistency_mean", "image", float(mean)),
        row("inverse_consistency_p95", "image", float(p95)),
        row("inverse_consistency_outside", "image", float(outside)),
    ]
