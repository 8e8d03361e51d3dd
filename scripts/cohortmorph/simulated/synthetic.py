"""Pairs with a known displacement, made of one real image: RegNet's experiment.

Sokooti et al., Nonrigid image registration using multi-scale 3D convolutional neural networks, MICCAI 2017, section 2.2
and table 1: a displacement of the fixed image's points is P random vectors with components in ±θ, smoothed by a
Gaussian of standard deviation σ. As in the authors' code, it is scaled afterwards so that its largest component is that
of the largest vector drawn: smoothing alone would leave next to nothing of it.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import SimpleITK as sitk
from scipy.ndimage import gaussian_filter

from cohortmorph import UserError
from cohortmorph.spatial.displacement import as_transform
from cohortmorph.spatial.geometry import Grid, to_array, to_image
from cohortmorph.spatial.landmarks import COORDINATES


@dataclass(frozen=True)
class Field:
    """How a field is drawn: smoothing σ (mm), number of points P, largest component θ (mm)."""

    sigma_mm: float
    points: int
    theta_mm: float


# By spatial frequency.
FIELDS = {"low": Field(35, 80, 8), "medium": Field(25, 100, 8), "high": Field(20, 100, 8), "zero": Field(35, 0, 0)}
# The moving image is a deformed one too, so that no two pairs of one image share it; and both get noise (HU in a CT).
MOVING_FIELD = Field(35, 100, 8)
FIXED_NOISE, MOVING_NOISE = 5.0, 3.0
LANDMARKS = 100


def random_displacement(field: Field, grid: Grid, rng: np.random.Generator) -> sitk.Image:
    """Return a random displacement on `grid`.

    Parameters
    ----------
    field : Field
    grid : Grid
    rng : numpy Generator

    Returns
    -------
    SimpleITK vector image, float32, mm, LPS
        Its largest absolute component is that of the largest vector drawn, at most θ.
    """
    drawn = rng.uniform(-field.theta_mm, field.theta_mm, (field.points, 3))
    places = rng.integers(0, grid.size, (field.points, 3))
    values = np.zeros((*grid.size, 3))
    if field.points:
        np.add.at(values, tuple(places.T), drawn)
        sigma = [field.sigma_mm / step for step in grid.spacing_mm]
        values = np.stack([gaussian_filter(values[..., axis], sigma) for axis in range(3)], axis=-1)
        values *= np.abs(drawn).max() / np.abs(values).max()
    return to_image(values.astype(np.float32), grid)


def make_pair(image: sitk.Image, mask: sitk.Image | None, field: str, rng: np.random.Generator) -> dict[str, Any]:
    """Make a fixed and a moving image of a real one, with what is known of them.

    Parameters
    ----------
    image : SimpleITK image
    mask : SimpleITK image or None
        On the grid of `image`; landmarks are drawn inside of it.
    field : str
        A key of :data:`FIELDS`.
    rng : numpy Generator

    Returns
    -------
    dict
        ``fixed, moving`` (float32), ``fixed_mask, moving_mask`` (uint8), ``displacement`` (fixed → moving, mm, LPS, on
        the fixed grid), ``fixed_landmarks_mm, moving_landmarks_mm`` (LPS, shape (100, 3)).

    Raises
    ------
    UserError
        If the mask leaves fewer than 100 voxels for landmarks.
    """
    grid = Grid.of(image)
    background = float(to_array(image).min())
    whole = to_image(np.ones(grid.size, np.uint8), grid) if mask is None else sitk.Cast(mask != 0, sitk.sitkUInt8)
    again = random_displacement(MOVING_FIELD, grid, rng)
    displacement = random_displacement(FIELDS[field], grid, rng)

    # A composite applies its last transform first: a fixed point goes to the moving image, and on to the real one.
    to_real: dict[str, sitk.Transform] = {"moving": as_transform(again)}
    to_real["fixed"] = sitk.CompositeTransform([as_transform(again), as_transform(displacement)])
    picture = sitk.Cast(image, sitk.sitkFloat32)
    made: dict[str, Any] = {"displacement": displacement}
    for role, noise in (("fixed", FIXED_NOISE), ("moving", MOVING_NOISE)):
        deformed = sitk.Resample(picture, picture, to_real[role], sitk.sitkBSpline, background)
        made[role] = _noisy(deformed, noise, rng)
        made[f"{role}_mask"] = sitk.Resample(whole, whole, to_real[role], sitk.sitkNearestNeighbor, 0.0)
    voxels = np.argwhere(to_array(made["fixed_mask"]) > 0)
    if len(voxels) < LANDMARKS:
        raise UserError(f"the mask has {len(voxels)} voxels; at least {LANDMARKS} are needed for landmarks.")
    chosen = voxels[rng.choice(len(voxels), LANDMARKS, replace=False)]
    made["fixed_landmarks_mm"] = grid.to_world(chosen)
    made["moving_landmarks_mm"] = made["fixed_landmarks_mm"] + to_array(made["displacement"])[tuple(chosen.T)]
    return made


def landmark_table(points_lps_mm: np.ndarray) -> pd.DataFrame:
    """Return points as a landmark table, see :mod:`cohortmorph.spatial.landmarks`."""
    ids = [f"S{number:03d}" for number in range(1, len(points_lps_mm) + 1)]
    return pd.DataFrame(points_lps_mm, columns=COORDINATES).assign(landmark=ids)[["landmark", *COORDINATES]]


def _noisy(image: sitk.Image, sd: float, rng: np.random.Generator) -> sitk.Image:
    values = to_array(image)
    return to_image((values + rng.normal(0, sd, values.shape)).astype(np.float32), Grid.of(image))
