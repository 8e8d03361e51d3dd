"""What elastix needs to be told so that it can use a mask that is thin, small, or askew in its image.

elastix loses such masks in three places: it erodes a mask before each resolution, as if its border were that of what
was measured; it measures step lengths on a wide grid of voxels, which may miss the mask; and it draws samples from the
box around the mask, and gives up where nine of ten miss it. A mask that none of this harms is used as ever.
"""

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from cohortmorph.spatial.geometry import Grid, to_array

Settings = Mapping[str, Sequence[str]]  # a parameter file: its names, each with its values
# elastix's own values of what a file leaves out.
RESOLUTIONS, SAMPLES, MEASUREMENTS = 3, 5000, 1000
# elastix draws ten times as often as it needs samples: a mask that fills less of its box would be in danger.
LEAST_FILLED = 0.15


def settings_for(mask: sitk.Image, settings: Settings) -> dict[str, str]:
    """Return what to set beside a parameter file so that elastix can use a mask; nothing where all is well.

    Parameters
    ----------
    mask : SimpleITK image
        Not 0 where the fixed image counts.
    settings : mapping of str to sequence of str
        What the parameter file says.

    Returns
    -------
    dict of str to str
        ``ErodeFixedMask``: false, if eroding would leave fewer voxels than samples are drawn; ``ImageSampler``, for
        samples at the mask's own voxels instead of at random places in the box around it;
        ``NumberOfJacobianMeasurements``, for a grid that cannot miss the mask.
    """
    inside = to_array(mask) != 0
    samples = max(map(int, settings.get("NumberOfSpatialSamples", [str(SAMPLES)])))
    coarsest = max(_eroding(settings), key=np.prod, default=None)
    used = [inside] if coarsest is None else [inside, eroded(inside, coarsest)]  # the most, and the least, of the mask
    found = {}
    if used[-1].sum() < samples and coarsest is not None:
        found["ErodeFixedMask"] = "false"
        used = [inside]
    sampler = settings.get("ImageSampler", [""])
    if "RandomCoordinate" in sampler and min(_filled(level, Grid.of(mask)) for level in used) < LEAST_FILLED:
        found["ImageSampler"] = "RandomSparseMask"
    measurements = min(map(int, settings.get("NumberOfJacobianMeasurements", [str(MEASUREMENTS)])))
    step = max(1, round((inside.size / measurements) ** (1 / 3)))
    smaller = next(n for n in range(step, 0, -1) if all(_is_met(level, n) for level in used))
    if smaller < step:
        found["NumberOfJacobianMeasurements"] = str(-(-inside.size // smaller**3))
    return found


def eroded(inside: np.ndarray, factors: Sequence[float]) -> np.ndarray:
    """Return what elastix's erosion leaves of a mask where an image is smoothed for every n-th voxel.

    Its structuring element is a parabola (``itkErodeMaskImageFilter``): what stays is √((n + 1)² + 2) voxels or more
    away from all that is outside, and beyond the image's border nothing is.

    Parameters
    ----------
    inside : array of bool
    factors : sequence of float
        n along each axis.
    """
    if inside.all():
        return inside
    radii = np.sqrt((np.asarray(factors, dtype=float) + 1) ** 2 + 2)
    left = np.zeros_like(inside)
    # The mask and the voxels around it: all that is outside is nearer there than farther away.
    around = tuple(slice(max(0, int(low - 0.5)), int(high + 1.5)) for low, high in _box(inside))
    left[around] = ndimage.distance_transform_edt(inside[around], sampling=1 / radii) >= 1 - 1e-9
    return left


def _eroding(settings: Settings) -> list[list[float]]:
    """Return the factors, along each axis, of the resolutions before which a mask is eroded."""
    resolutions = int(settings.get("NumberOfResolutions", [str(RESOLUTIONS)])[0])
    factors = [[2.0**level] * 3 for level in reversed(range(resolutions))]
    for name in ("ImagePyramidSchedule", "FixedImagePyramidSchedule"):
        values = [float(value) for value in settings.get(name, [])]
        if len(values) == 3 * resolutions:
            factors = [values[3 * level : 3 * level + 3] for level in range(resolutions)]
    # The last value given holds for all resolutions after it.
    said = settings.get("ErodeFixedMask") or settings.get("ErodeMask") or ["true"]
    return [each for level, each in enumerate(factors) if said[min(level, len(said) - 1)] == "true"]


def _filled(inside: np.ndarray, grid: Grid) -> float:
    """Return how much of the box that elastix draws in lies in the mask.

    The box has the world's axes; drawn in are all voxels between its corners: more of them where the image is oblique.
    """
    world_mm = grid.to_world(_corners(_box(inside)))
    indices = grid.to_indices(_corners(np.stack([world_mm.min(axis=0), world_mm.max(axis=0)], axis=1)))
    last = np.array(inside.shape) - 1
    low, high = (np.clip(np.round(found(axis=0)), 0, last) for found in (indices.min, indices.max))
    return float(inside.sum() / np.prod(high - low + 1))


def _box(inside: np.ndarray) -> list[tuple[float, float]]:
    """Return where the mask begins and ends along each axis, in voxels, at their outer faces."""
    along = [np.flatnonzero(inside.any(axis=tuple({0, 1, 2} - {axis}))) for axis in range(3)]
    return [(indices[0] - 0.5, indices[-1] + 0.5) for indices in along]


def _corners(box: Sequence[tuple[float, float]] | np.ndarray) -> np.ndarray:
    """Return the eight corners of a box that is given by its two ends along each axis."""
    return np.array(list(itertools.product(*box)), dtype=float)


def _is_met(inside: np.ndarray, step: int) -> bool:
    """Say whether a grid of every n-th voxel meets the mask wherever it begins."""
    places = np.ravel_multi_index([index % step for index in np.nonzero(inside)], (step,) * 3)
    return bool(np.bincount(places, minlength=step**3).all())
