"""A structure on the image's grid, and closed planar contours as voxels: which centres they enclose, slice by slice.

A voxel belongs to a structure if an odd number of its contours encloses the voxel's centre (even-odd rule: a contour
within another one is a hole). A contour that repeats another one of its slice counts once.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from cohortmorph import UserError
from cohortmorph.run.logs import log
from cohortmorph.spatial.geometry import Grid

SLICE_TOLERANCE = 0.2  # of the slice distance: how far a contour or a segment's slice may lie from a slice of the image
SAME_CURVE = 0.05  # of a pixel: how far two contours may lie apart and still be one, written with other digits


@dataclass(frozen=True)
class Structure:
    """One structure on the image's grid.

    Attributes
    ----------
    name : str
        As in the file.
    mask : bool array, indexed [i, j, k]
        Where it is.
    drawn, outside : int
        How many contours, slices or voxels the file has of it, and how many of these lie outside of the image.
    """

    name: str
    mask: np.ndarray
    drawn: int
    outside: int

    @property
    def why_empty(self) -> str:
        """Why it covers no voxel, in words."""
        if not self.drawn:
            return "nothing is drawn"
        if self.outside == self.drawn:
            return "it lies outside of the image"
        return "it encloses no centre of a voxel"


def same_name(name: str) -> str:
    """Return what is compared of a name: not its case, nor outer spaces."""
    return str(name).strip().casefold()


def within(points_lps_mm: np.ndarray, grid: Grid) -> np.ndarray:
    """Say for each point whether it lies in a voxel of the grid."""
    indices = grid.to_indices(points_lps_mm)
    return np.all((indices >= -0.5) & (indices <= np.array(grid.size) - 0.5), axis=-1)


def rasterize(contours_lps_mm: Iterable[np.ndarray], grid: Grid, name: str) -> np.ndarray:
    """Return where closed planar contours enclose the centres of voxels.

    Parameters
    ----------
    contours_lps_mm : list of array, shape (n, 3)
    grid : Grid
    name : str
        For messages.

    Returns
    -------
    mask : bool array, indexed [i, j, k]

    Raises
    ------
    UserError
        If a contour lies between the slices or across them, or if there is one on every second slice or fewer only.
    """
    by_slice: dict[int, list[np.ndarray]] = {}
    repeated = 0
    for contour in contours_lps_mm:
        k = slice_of(contour, grid, name)
        if k is None:
            continue
        polygon, others = grid.to_indices(contour)[:, :2], by_slice.setdefault(k, [])
        if any(_same_curve(polygon, other) for other in others):
            repeated += 1
        else:
            others.append(polygon)
    if repeated:
        log.warning("%s: %d contours repeat another one of their slice and were drawn once.", name, repeated)
    check_gaps(by_slice, grid.spacing_mm[2], name)
    mask, crossing = np.zeros(grid.size, dtype=bool), 0
    for k, polygons in by_slice.items():
        regions = [_inside(polygon, grid.size[:2]) for polygon in polygons]
        crossing += _cross(polygons, regions)
        mask[:, :, k] = np.logical_xor.reduce(regions)
    if crossing:
        log.warning("%s: contours cross in %d slices; what two of them enclose was left out.", name, crossing)
    return mask


def slice_of(contour_lps_mm: np.ndarray, grid: Grid, name: str) -> int | None:
    """Return the slice that a contour lies on; None if it lies outside of the image."""
    indices = grid.to_indices(contour_lps_mm)
    low, high = indices.min(axis=0), indices.max(axis=0)
    # Along i and j the image ends with its voxels, across the slices with the planes that count as on a slice.
    reach = np.array([0.5, 0.5, SLICE_TOLERANCE])
    if (high < -reach).any() or (low > np.array(grid.size) - 1 + reach).any():
        return None
    k = int(np.rint(indices[:, 2].mean()))
    off, step_mm = np.abs(indices[:, 2] - k).max(), grid.spacing_mm[2]
    if high[2] - low[2] > 2 * SLICE_TOLERANCE:
        raise UserError(
            f"{name}: a contour reaches over {(high[2] - low[2]) * step_mm:.2f} mm across the slices, which are "
            f"{step_mm:.2f} mm apart. It was drawn in another direction; draw or resample it on this image's slices."
        )
    if off > SLICE_TOLERANCE:
        raise UserError(
            f"{name}: a contour lies between the slices, up to {off * step_mm:.2f} mm off the nearest slice; slices "
            f"are {step_mm:.2f} mm apart. Was it drawn on another series? Resample the structures onto this image."
        )
    return k


def check_gaps(slices: Iterable[int], step_mm: float, name: str) -> None:
    """Refuse a structure of three or more slices none of which are neighbours: it was drawn on slices further apart."""
    gaps = np.diff(sorted(slices))
    if len(gaps) > 1 and gaps.min() > 1:
        raise UserError(
            f"{name}: it is drawn on slices {gaps.min() * step_mm:.2f} mm apart or more, while the image's are "
            f"{step_mm:.2f} mm apart, so that those between would be empty. Was it drawn on another series? Draw or "
            "interpolate it on every slice of this image."
        )
    if (gaps > 1).any():
        log.warning("%s: nothing is drawn on %d slices between its first and last.", name, (gaps - 1).sum())


def _inside(polygon: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """Return which pixels of a slice have their centre inside a polygon of indices (i, j), by the even-odd rule."""
    crossings = np.zeros((size[0] + 1, size[1]), dtype=bool)
    for (i0, j0), (i1, j1) in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
        # An edge is crossed by the lines of pixels from its lower end on up to, but without, its upper end.
        low, high = sorted((j0, j1))
        lines = np.arange(max(int(np.ceil(low)), 0), min(int(np.ceil(high)), size[1]))
        if lines.size:
            at = i0 + (lines - j0) * (i1 - i0) / (j1 - j0)
            np.logical_xor.at(crossings, (np.clip(np.ceil(at), 0, size[0]).astype(int), lines), True)
    return np.logical_xor.accumulate(crossings, axis=0)[:-1]


def _same_curve(one: np.ndarray, other: np.ndarray) -> bool:
    """Say whether two polygons run along the same curve, from whatever point on and in whatever direction."""
    ends = np.array([(polygon.min(axis=0), polygon.max(axis=0)) for polygon in (one, other)])
    if np.abs(ends[0] - ends[1]).max() > SAME_CURVE:
        return False
    perimeter = np.linalg.norm(one - np.roll(one, -1, axis=0), axis=1).sum()
    if abs(abs(_area(one)) - abs(_area(other))) > SAME_CURVE * perimeter:
        return False
    return max(_distance(one, other), _distance(other, one)) <= SAME_CURVE


def _area(polygon: np.ndarray) -> float:
    """Return the area that a polygon encloses, negative where it runs the other way round."""
    (i0, j0), (i1, j1) = polygon.T, np.roll(polygon, -1, axis=0).T
    return float(np.sum(i0 * j1 - i1 * j0) / 2)


def _distance(points: np.ndarray, polygon: np.ndarray) -> float:
    """Return how far the furthest of the points lies from a polygon's edges."""
    starts, edges = polygon, np.roll(polygon, -1, axis=0) - polygon
    squares = np.maximum((edges**2).sum(axis=1), 1e-12)
    furthest = 0.0
    for point in points:
        along = np.clip(((point - starts) * edges).sum(axis=1) / squares, 0, 1)
        furthest = max(furthest, float(np.linalg.norm(point - starts - along[:, None] * edges, axis=1).min()))
    return furthest


def _cross(polygons: Sequence[np.ndarray], regions: Sequence[np.ndarray]) -> bool:
    """Say whether two regions share pixels and neither holds the other."""
    low, high = (np.array([end(polygon, axis=0) for polygon in polygons]) for end in (np.min, np.max))
    for n, one in enumerate(regions):
        near = np.all((low[:n] <= high[n]) & (low[n] <= high[:n]), axis=1)
        for other in (regions[m] for m in np.flatnonzero(near)):
            shared = np.count_nonzero(one & other)
            if 0 < shared < min(np.count_nonzero(one), np.count_nonzero(other)):
                return True
    return False
