"""Whether the affine alignment has made a pair better than its start: by the self-similarity contexts of both images.

The judge is another measure than those that elastix optimizes, and is blind to contrast, so that a CT is compared with
an MR. It needs neither labels nor landmarks. docs/methods.md says how often it is right.
"""

from typing import Any, NamedTuple

import numpy as np
import SimpleITK as sitk

from cohortmorph.registration.problem import LEAST_OVERLAP, Problem
from cohortmorph.spatial.geometry import to_array
from cohortmorph.spatial.mind import SelfSimilarity, mind_distance

MEASURE = "MIND distance, 0 for equal self-similarity contexts; less is better"
# Larger images are averaged over blocks first, of the finest axes, so that the judge takes seconds.
MOST_VOXELS = 4_000_000


class Judgement(NamedTuple):
    """Which of the two is kept.

    Attributes
    ----------
    start_kept : bool
    how : dict
        For the JSON file: by what measure, both values (None where they cannot be compared), on what share of the
        voxels, and why in words.
    """

    start_kept: bool
    how: dict[str, Any]


def judge(problem: Problem, start: sitk.Transform, affine: sitk.Transform) -> Judgement:
    """Keep the affine, unless it is worse than its start.

    Both are judged on the same voxels: those of the fixed image's mask that the moving image covers by both. Where the
    affine has moved more than half of what the start covers out of view, these are no fair choice: then on what the
    start covers, and what the affine does not cover counts as unknown (see
    :func:`cohortmorph.spatial.mind.mind_distance`).

    Parameters
    ----------
    problem : Problem
        Its own start is not looked at.
    start, affine : SimpleITK transform
        Fixed world → moving world.

    Returns
    -------
    Judgement
        The affine is kept as well where both are equal, and where the start covers too little to be judged.
    """
    blocks = _blocks(problem.fixed)
    fixed = SelfSimilarity(_averaged(problem.fixed, blocks))
    by_start, by_affine = (SelfSimilarity(_moved(problem, transform, blocks)) for transform in (start, affine))
    mask = np.ones(fixed.image.shape, dtype=bool)
    if problem.mask is not None:
        mask = _averaged(sitk.Cast(problem.mask != 0, sitk.sitkFloat32), blocks) >= 0.5
    covered = mask & by_start.known
    share = covered.sum() / max(1, mask.sum())
    if not covered.any() or share < LEAST_OVERLAP:
        why = f"of only {share:.0%} of the fixed image the start shows enough to be compared: the affine is kept"
        return Judgement(False, {"by": MEASURE, "start": None, "affine": None, "compared": float(share), "why": why})
    common = covered & by_affine.known
    compared = common if 2 * common.sum() >= covered.sum() else covered
    of_start, of_affine = (mind_distance(fixed, moved, compared) for moved in (by_start, by_affine))
    worse = of_affine > of_start
    why = (
        f"after the affine alignment the images agree less ({of_affine:.5f}) than at its start ({of_start:.5f}): the "
        "start is kept"
        if worse
        else f"after the affine alignment the images agree no less ({of_affine:.5f}) than at its start "
        f"({of_start:.5f}): the affine is kept"
    )
    share = float(compared.sum() / mask.sum())
    return Judgement(worse, {"by": MEASURE, "start": of_start, "affine": of_affine, "compared": share, "why": why})


def _blocks(image: sitk.Image) -> list[int]:
    """Return over how many voxels along each axis is averaged; the finest axis is made coarser first."""
    blocks = [1, 1, 1]
    while np.prod([n // block for n, block in zip(image.GetSize(), blocks, strict=True)]) > MOST_VOXELS:
        blocks[int(np.argmin(np.multiply(image.GetSpacing(), blocks)))] += 1
    return blocks


def _averaged(image: sitk.Image, blocks: list[int]) -> np.ndarray:
    """Return the means over blocks of voxels, indexed [i, j, k]; NaN where one of a block's voxels is."""
    return to_array(image if blocks == [1, 1, 1] else sitk.BinShrink(image, blocks))


def _moved(problem: Problem, transform: sitk.Transform, blocks: list[int]) -> np.ndarray:
    """Return the moving image where a transform puts it, NaN where it does not reach."""
    moved = sitk.Resample(problem.moving, problem.fixed, transform, sitk.sitkLinear, np.nan, sitk.sitkFloat32)
    return _averaged(moved, blocks)
