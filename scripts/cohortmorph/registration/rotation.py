"""The angle by which an image is rotated against the fixed one: the best along matching slices, over all starts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from cohortmorph import UserError
from cohortmorph.registration.stacks import Stack, normal_of, slice_matrix
from cohortmorph.registration.starts import TIE, no_overlap, scores_of_all_starts
from cohortmorph.run.logs import log
from cohortmorph.spatial.geometry import PLANES, Grid

# Only images without contrast or without any overlap stay below this squared NCC.
NCC_SQUARED_MIN = 0.01


@dataclass(frozen=True)
class Found:
    """The best angle of an image, and what was tried.

    Attributes
    ----------
    angle_degrees : float
    tried_degrees : list of float
        Of the first search, nearest to zero first.
    ncc_squared : array
        Of each of these, the best over all starts.
    """

    angle_degrees: float
    tried_degrees: list[float]
    ncc_squared: np.ndarray


def rotation_matrix(fixed_grid: Grid, plane: str, angle_degrees: float) -> np.ndarray:
    """Return R, shape (3, 3): right-handed about the fixed image's axis normal to `plane`, one of :data:`PLANES`."""
    world_axis = PLANES[plane]
    axis = fixed_grid.axes[:, np.argmax(np.abs(fixed_grid.axes[world_axis]))]
    return Rotation.from_rotvec(axis * np.sign(axis[world_axis]) * angle_degrees, degrees=True).as_matrix()


def find_angle(
    stacks: Mapping[str, Stack],
    name: str,
    fixed: str,
    plane: str,
    range_degrees: float,
    step_degrees: float,
    refine_degrees: float | None = None,
) -> Found:
    """Find the angle of an image.

    Parameters
    ----------
    stacks : dict of name to Stack
    name, fixed : str
        The image's name, and the fixed one's.
    plane, range_degrees, step_degrees, refine_degrees
        See :func:`cohortmorph.registration.harmonize.harmonize`.

    Raises
    ------
    UserError
        If the images do not overlap, or nothing in them agrees.
    """
    steps = int(np.floor(range_degrees / step_degrees + 1e-6))
    # Nearest to zero first: at a tie the first wins.
    tried = sorted((np.arange(-steps, steps + 1) * float(step_degrees)).tolist(), key=lambda angle: (abs(angle), angle))
    scores = _angle_scores(stacks, name, fixed, plane, tried)
    best = _best_angle(name, fixed, tried, scores)
    if abs(best) == max(map(abs, tried)):
        log.warning(
            "%s: the best angle, %g°, is at the edge of the range, so the true one may lie beyond: widen "
            "`harmonize: range_degrees`.",
            name,
            best,
        )
    if refine_degrees:
        near = _nearby(best, step_degrees, refine_degrees)
        best = _best_angle(name, fixed, near, _angle_scores(stacks, name, fixed, plane, near))
    return Found(best, tried, scores)


def _angle_scores(
    stacks: Mapping[str, Stack], name: str, fixed: str, plane: str, angles_degrees: Sequence[float]
) -> np.ndarray:
    """Return the best score over all starts for each angle."""
    stack, frame = stacks[name], stacks[fixed]
    fixed_slices = frame.sampled(frame, np.eye(3))
    rotations = [rotation_matrix(frame.grid, plane, angle) for angle in angles_degrees]
    common: np.ndarray | bool = True
    if np.allclose(rotations[-1] @ normal_of(frame.grid), normal_of(frame.grid)):
        # Every angle is judged on the same pixels: else background at the corners, which comes and goes with the angle,
        # would choose. A rotation out of the slice plane leaves too few of them, so there each angle has its own.
        common = np.all([np.isfinite(stack.sampled(frame, rotation)) for rotation in rotations], axis=0)
    scores = np.empty(len(rotations))
    for n, rotation in enumerate(rotations):
        slices = np.where(common, stack.sampled(frame, rotation), np.nan)
        # The stack with fewer slices moves along the other.
        if stack.count < frame.count:
            along = scores_of_all_starts(slice_matrix(slices, fixed_slices, frame), stack, frame)
        else:
            along = scores_of_all_starts(slice_matrix(fixed_slices, slices, frame), frame, stack)
        scores[n] = np.nanmax(along, initial=-1)
    if scores.max() < 0:
        raise no_overlap(name, fixed)
    return scores


def _nearby(angle_degrees: float, step_degrees: float, refine_degrees: float) -> list[float]:
    """Return the angles of the second search, the nearest to the best one first."""
    steps = int(np.ceil(step_degrees / refine_degrees - 1e-6)) - 1
    around = sorted(range(-steps, steps + 1), key=lambda step: (abs(step), step))
    return [round(angle_degrees + step * refine_degrees, 6) for step in around]


def _best_angle(name: str, fixed: str, angles_degrees: Sequence[float], scores: np.ndarray) -> float:
    """Return the angle with the highest score; the first one at a tie."""
    best = int(np.flatnonzero(scores >= scores.max() - TIE)[0])
    if scores[best] < NCC_SQUARED_MIN:
        raise UserError(
            f"{name}: no angle makes it agree with {fixed}: the best squared NCC is {scores[best]:.4f} at "
            f"{angles_degrees[best]:g}°, expected at least {NCC_SQUARED_MIN}. Check that both show the same body part "
            "and that `intensity` leaves contrast in both, or set `harmonize: enabled: false`."
        )
    return angles_degrees[best]
