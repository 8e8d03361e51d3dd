"""The slices of one series as one image on an even grid with axes at right angles, or refused with the numbers.

Slices are sorted by their position along the normal, and their distance comes from the positions: neither file names,
nor InstanceNumber, nor SliceThickness, nor SpacingBetweenSlices can be relied upon.

An image must have axes at right angles and one slice distance. Where the slices have not:

- Tilt (of the gantry): each slice is moved within its own plane, so slices do not mix, by linear interpolation between
  its pixels. The grid grows until it holds every pixel.
- Uneven distances, only if asked for: values between slices are interpolated linearly along the normal, at the median
  distance from the first slice on.

Outside of the slices a CT gets −1000 HU (air), another image its lowest value.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.ndimage import affine_transform

from cohortmorph import UserError
from cohortmorph.clinic.pixels import read_values
from cohortmorph.clinic.slices import Slice, names
from cohortmorph.run.logs import log
from cohortmorph.spatial.geometry import Grid

ORIENTATION_TOLERANCE = 1e-4  # of a direction cosine; one series may round the same orientation in two ways
POSITION_TOLERANCE = 0.01  # of the slice distance: how far a slice may lie from its place on the even grid
TILT_TOLERANCE = 0.1  # of a pixel: how far the whole stack may drift sideways
LINE_TOLERANCE = 0.5  # of a pixel: how far a slice of a tilted stack may lie beside the line of the others
TAG_TOLERANCE_DEGREES = 0.5  # between the tilt in the header and that of the positions
AIR_HU = -1000.0


@dataclass(frozen=True)
class Stack:
    """Slices in order of position.

    Attributes
    ----------
    slices : list of Slice
    axes : array, shape (3, 3)
        Unit vectors (LPS) along i (a row), j (a column) and their normal, as columns.
    along_mm : array, shape (n,)
        Position of each slice along the normal.
    sideways_mm : array, shape (n, 2)
        How far each slice lies from the first along i and j: zero without tilt.
    """

    slices: list[Slice]
    axes: np.ndarray
    along_mm: np.ndarray
    sideways_mm: np.ndarray

    @property
    def pixel_mm(self) -> np.ndarray:
        """The distances of neighbouring pixels along i and j (PixelSpacing names them the other way round)."""
        row_mm, column_mm = np.array(self.slices[0].spacing_mm)
        return np.array([column_mm, row_mm])

    @property
    def is_tilted(self) -> bool:
        """Whether the slices fail to follow one another along their normal."""
        return bool(np.abs(self.sideways_mm).max() > TILT_TOLERANCE * self.pixel_mm.min())

    @property
    def tilt_degrees(self) -> float:
        """The angle between the normal and the line through the first and the last slice."""
        drift_mm = np.linalg.norm(self.sideways_mm[-1])
        return float(np.rad2deg(np.arctan2(drift_mm, self.along_mm[-1] - self.along_mm[0])))

    @property
    def steps_mm(self) -> np.ndarray:
        """The distances of neighbouring slices along the normal."""
        return np.diff(self.along_mm)

    @property
    def is_even(self) -> bool:
        """Whether every slice lies in its place on an even grid."""
        usual_mm, tolerance_mm = np.median(self.steps_mm), self.tolerance_mm
        places_mm = np.linspace(self.along_mm[0], self.along_mm[-1], len(self.along_mm))
        return bool(
            np.abs(self.along_mm - places_mm).max() <= tolerance_mm
            and np.abs(self.steps_mm - usual_mm).max() <= 2 * tolerance_mm
        )

    @property
    def tolerance_mm(self) -> float:
        """How far a slice may lie from its place."""
        return max(POSITION_TOLERANCE * float(np.median(self.steps_mm)), 0.001)


def arrange(slices: Sequence[Slice], name: str, allow: Collection[str] = ()) -> Stack:
    """Sort the slices of one volume along their normal.

    Parameters
    ----------
    slices : list of Slice
        Of one series, size and orientation, each at a position of its own.
    name : str
        For messages.
    allow : sequence of str
        ``two-slices``: do not ask for a third one.

    Returns
    -------
    Stack

    Raises
    ------
    UserError
        If there are too few.
    """
    axes = orientation(slices, name)
    slices = sorted(slices, key=lambda one: one.along_mm(axes[:, 2]))
    needed = 2 if "two-slices" in allow else 3
    if len(slices) < needed:
        raise UserError(
            f"{name}: found {len(slices)} slice(s); expected at least three, so that their distances can be compared"
            + (". Two are taken with `dicom: allow: [two-slices]`." if len(slices) == 2 else ".")
        )
    steps_mm = (np.array([slice_.position_mm for slice_ in slices]) - slices[0].position_mm) @ axes
    return Stack(slices, axes, steps_mm[:, 2], steps_mm[:, :2])


def orientation(slices: Sequence[Slice], name: str) -> np.ndarray:
    """Return the unit vectors (LPS) along i, j and the normal as columns, shape (3, 3)."""
    cosines = np.array(slices[0].cosines)
    row, column = cosines[:3], cosines[3:]
    if abs(row @ column) > 1e-3 or np.abs(np.linalg.norm([row, column], axis=1) - 1).max() > 1e-3:
        raise UserError(
            f"{name}: ImageOrientationPatient {cosines.tolist()} is not made of two perpendicular unit vectors."
        )
    row = row / np.linalg.norm(row)
    normal = np.cross(row, column)
    normal = normal / np.linalg.norm(normal)
    return np.stack([row, np.cross(normal, row), normal], axis=1)


def tilt(stack: Stack) -> str | None:
    """Say how the slices fail to follow one another along their normal, or return None."""
    if not stack.is_tilted:
        return None
    drift_mm, height_mm = np.linalg.norm(stack.sideways_mm[-1]), stack.along_mm[-1] - stack.along_mm[0]
    return (
        f"the slices drift sideways by {drift_mm:.2f} mm over {height_mm:.2f} mm along their normal, "
        f"a (gantry) tilt of {stack.tilt_degrees:.1f}°"
    )


def unevenness(stack: Stack) -> str | None:
    """Say where slice distances differ and whether slices seem to be missing, or return None."""
    if stack.is_even:
        return None
    steps_mm, along_mm = stack.steps_mm, stack.along_mm
    usual_mm, tolerance_mm = float(np.median(steps_mm)), stack.tolerance_mm
    n = int(np.abs(steps_mm - usual_mm).argmax())
    where = (
        f"{steps_mm[n]:.3f} mm between {along_mm[n]:.3f} and {along_mm[n + 1]:.3f} mm along the normal from the first "
        f"slice ({names(stack.slices[n : n + 2])})"
    )
    multiples = np.rint(steps_mm / usual_mm)
    missing = int(multiples.sum()) - len(multiples)
    if missing and np.all(multiples >= 1) and np.abs(steps_mm - multiples * usual_mm).max() <= 3 * tolerance_mm:
        return f"slices are missing, {missing} by the positions: usually {usual_mm:.3f} mm apart, but found {where}"
    return (
        f"the slice distances run from {steps_mm.min():.3f} to {steps_mm.max():.3f} mm, median {usual_mm:.3f} mm, "
        f"the most different being {where}; expected one distance within {tolerance_mm:.3f} mm"
    )


def read_stack(
    stack: Stack, name: str, tilt_is: str = "resample", uneven_is: str = "refuse"
) -> tuple[np.ndarray, Grid, dict[str, Any]]:
    """Read a stack's values on an even grid with axes at right angles (see the module's description).

    Parameters
    ----------
    stack : Stack
    name : str
        For messages.
    tilt_is, uneven_is : {"resample", "refuse"}
        What to do with tilt, and with distances that differ.

    Returns
    -------
    array : int16 or float32, indexed [i, j, k]
    grid : Grid
        i runs along the rows, j down the columns, k along the normal i × j.
    resampled : dict
        What was done and with which numbers; empty if nothing was.
    """
    found = _irregular(stack, name, tilt_is, uneven_is)
    grid, first_pixel = _grid(stack, found)
    _compare_with_tag(stack, name)
    array = read_values(stack.slices, name)
    resampled: dict[str, Any] = {}
    outside = AIR_HU if stack.slices[0].series.modality == "CT" else float(array.min())
    if found["tilt"]:
        # NaN until the end, so that no value is a mixture with what lies outside.
        array = _straightened(array, stack, first_pixel, grid.size[:2])
        resampled |= {"tilt_degrees": stack.tilt_degrees, "kernel": "linear", "outside": outside}
        log.warning("%s: %s: moved in their planes, linearly, %g outside.", name, found["tilt"], outside)
    if found["uneven"]:
        array = _evened(array, stack.along_mm, grid.spacing_mm[2], grid.size[2])
        resampled |= {
            "kernel": "linear",
            "uneven_distances_mm": [float(stack.steps_mm.min()), float(stack.steps_mm.max())],
        }
        log.warning("%s: %s: interpolated linearly at every %.3f mm.", name, found["uneven"], grid.spacing_mm[2])
    if found["tilt"]:
        array = np.nan_to_num(array, copy=False, nan=outside)
    return array, grid, resampled


def grid_of(stack: Stack, name: str, tilt_is: str = "resample", uneven_is: str = "refuse") -> Grid:
    """Return the grid on which :func:`read_stack` reads a stack, and refuse what it refuses, without the pixels."""
    return _grid(stack, _irregular(stack, name, tilt_is, uneven_is))[0]


def _irregular(stack: Stack, name: str, tilt_is: str, uneven_is: str) -> dict[str, str | None]:
    """Say what keeps the slices from an even grid, by its kind, None where nothing does; refuse what is to be."""
    _refuse_beside(stack, name)
    found = {"tilt": tilt(stack), "uneven": unevenness(stack)}
    advice = {
        "tilt": "Resample it (`dicom: tilt: resample`).",
        "uneven": "Export the complete and even series, or have it interpolated (`dicom: uneven: resample`).",
    }
    refused = [kind for kind, what in (("tilt", tilt_is), ("uneven", uneven_is)) if found[kind] and what == "refuse"]
    if refused:
        problems = "; besides, ".join(text for text in found.values() if text)
        raise UserError(f"{name}: {problems}. {' '.join(advice[kind] for kind in refused)}")
    return found


def _grid(stack: Stack, found: dict[str, str | None]) -> tuple[Grid, np.ndarray]:
    """Return the grid, and where along i and j the first slice's pixel (0, 0) has to start for it to hold all."""
    series = stack.slices[0].series
    size, first = np.array([series.columns, series.rows]), np.zeros(2)
    if found["tilt"]:
        shifts = stack.sideways_mm / stack.pixel_mm
        # Rounding alone must not add a row.
        first, last = np.floor(shifts.min(axis=0) + 1e-4), np.ceil(shifts.max(axis=0) - 1e-4)
        size = (size + last - first).astype(int)
    count, distance_mm = len(stack.slices), float(stack.along_mm[-1] / (len(stack.slices) - 1))
    if found["uneven"]:
        distance_mm = float(np.median(stack.steps_mm))
        count = int(np.floor((stack.along_mm[-1] - stack.along_mm[0]) / distance_mm + 1e-4)) + 1
    origin_mm = np.array(stack.slices[0].position_mm)
    if found["tilt"]:
        origin_mm = origin_mm + stack.axes[:, :2] @ (first * stack.pixel_mm)
    grid = Grid(
        (*map(int, size), count),
        (*map(float, stack.pixel_mm), distance_mm),
        tuple(map(float, origin_mm)),
        tuple(map(float, stack.axes.ravel())),
    )
    return grid, first


def _refuse_beside(stack: Stack, name: str) -> None:
    """Refuse slices that do not follow one line: those of a tilted gantry do."""
    line_mm = np.outer(stack.along_mm / stack.along_mm[-1], stack.sideways_mm[-1])
    beside_mm = np.linalg.norm(stack.sideways_mm - line_mm, axis=1)
    n = int(beside_mm.argmax())
    if stack.is_tilted and beside_mm[n] > LINE_TOLERANCE * stack.pixel_mm.min():
        raise UserError(
            f"{name}: a slice ({names(stack.slices[n : n + 1])}) lies {beside_mm[n]:.2f} mm beside the line through "
            "the first and the last one, so it is no stack, even a tilted one. Export the series again."
        )


def _compare_with_tag(stack: Stack, name: str) -> None:
    """Warn where the header's tilt is not that of the positions, which decide."""
    tagged = stack.slices[0].series.tilt_degrees
    if tagged is not None and abs(abs(tagged) - stack.tilt_degrees) > TAG_TOLERANCE_DEGREES:
        log.warning(
            "%s: the header says a gantry tilt of %.1f°, the positions of the slices %.1f°; the positions were taken.",
            name,
            tagged,
            stack.tilt_degrees,
        )


def _straightened(array: np.ndarray, stack: Stack, first: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """Move every slice within its plane to where it lies in the world; NaN where it has no pixels.

    Parameters
    ----------
    array : indexed [i, j, k]
    stack : Stack
    first : array, shape (2,)
        Where the first slice's pixel (0, 0) has to start, see :func:`_grid`.
    size : tuple of int
        Of the grid along i and j.

    Returns
    -------
    array : float32, indexed [i, j, k]
    """
    moved = np.empty((*size, array.shape[2]), dtype=np.float32)
    for k, shift in enumerate(stack.sideways_mm / stack.pixel_mm):
        # Exact places keep exact values.
        offset = np.where(np.abs(first - shift - np.rint(first - shift)) < 1e-6, np.rint(first - shift), first - shift)
        moved[:, :, k] = affine_transform(
            array[:, :, k].astype(np.float32), [1, 1], offset, size, order=1, mode="constant", cval=np.nan
        )
    return moved


def _evened(array: np.ndarray, along_mm: np.ndarray, distance_mm: float, count: int) -> np.ndarray:
    """Interpolate linearly between slices, at `count` places `distance_mm` apart from the first on."""
    wanted_mm = along_mm[0] + distance_mm * np.arange(count)
    above = np.clip(np.searchsorted(along_mm, wanted_mm - 0.001), 1, len(along_mm) - 1)
    fraction = (wanted_mm - along_mm[above - 1]) / (along_mm[above] - along_mm[above - 1])
    near = np.rint(fraction)
    fraction = np.clip(np.where(np.abs(fraction - near) < 1e-4, near, fraction), 0, 1).astype(np.float32)
    mixed = array[..., above - 1] * (1 - fraction) + array[..., above] * fraction
    # A neighbour that is not needed must not spread its NaN.
    mixed = np.where(fraction == 0, array[..., above - 1], np.where(fraction == 1, array[..., above], mixed))
    return mixed.astype(np.float32)
