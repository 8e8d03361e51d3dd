"""Images read as stacks of slices parallel to the fixed image's, sampled on its pixels: what harmonizing compares.

Formula and words are those of :mod:`cohortmorph.registration.harmonize`.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from scipy.ndimage import gaussian_filter

from cohortmorph.spatial.geometry import Grid, affine, to_array, to_image
from cohortmorph.spatial.ncc import local_ncc_squared_matrix

# Slices with more pixels than this are binned for the search only: 1° still moves the rim of a head by a pixel.
SEARCH_PIXELS = 128 * 128
# Larger than the deformation between the images, smaller than the distance between bone and ventricles.
WINDOW_MM = 14
# Rotated images are interpolated, those at 0° are not: after this smoothing, noise does not tell them apart.
SMOOTHING_MM = 3


@dataclass(frozen=True)
class Stack:
    """An image read as slices parallel to the fixed image's, counted along n.

    Attributes
    ----------
    image : SimpleITK image
        Its prepared intensities, binned and smoothed in the slice plane for the search.
    grid : Grid
        Its native grid.
    axis : int
        The axis of `grid` nearest to the fixed image's slice axis.
    ascending : bool
        Whether that axis runs along n, not against it.
    middle_mm : array, shape (3,)
        The world point, LPS, that the fixed image's middle meets before any shift along the slices (c').
    """

    image: sitk.Image
    grid: Grid
    axis: int
    ascending: bool
    middle_mm: np.ndarray

    @classmethod
    def of(cls, image: sitk.Image, fixed_grid: Grid, centre: str) -> "Stack":
        """Read an image of prepared intensities; `centre` is ``image`` or ``world``."""
        grid, normal = Grid.of(image), normal_of(fixed_grid)
        along = normal @ grid.axes
        axis = int(np.argmax(np.abs(along)))
        middle_mm = grid.centre_mm
        if centre == "world":
            middle_mm = fixed_grid.centre_mm + normal * ((middle_mm - fixed_grid.centre_mm) @ normal)
        return cls(_searched(image, axis), grid, axis, bool(along[axis] > 0), middle_mm)

    @property
    def count(self) -> int:
        """The number of slices."""
        return self.grid.size[self.axis]

    @property
    def distance_mm(self) -> float:
        """The distance of neighbouring slices."""
        return self.grid.spacing_mm[self.axis]

    def position_mm(self, slice_number: float) -> float:
        """Return the distance of a slice from the middle of the stack, along n."""
        return (slice_number - (self.count - 1) / 2) * self.distance_mm

    def in_file(self, slice_number: int) -> int:
        """Return the slice's number in the image's own file, where the axis may run the other way."""
        return slice_number if self.ascending else self.count - 1 - slice_number

    def fixed_to_own(self, frame: "Stack", rotation: np.ndarray, shift_mm: float) -> sitk.AffineTransform:
        """Return the transform fixed world → image's world of the module's formula.

        Parameters
        ----------
        frame : Stack
            The fixed image's.
        rotation : array, shape (3, 3)
            R.
        shift_mm : float
            t.
        """
        offset_mm = self.middle_mm - rotation @ (frame.middle_mm - shift_mm * normal_of(frame.grid))
        return affine(rotation, offset_mm)

    def sampled(self, frame: "Stack", rotation: np.ndarray) -> np.ndarray:
        """Sample the stack at its own slices on the fixed image's pixels, rotated, the middles of both meeting.

        Returns
        -------
        array, shape (slices, rows, columns)
            NaN where the stack has no value.
        """
        grid = parallel_grid(Grid.of(frame.image), self.position_mm(0), self.count, self.distance_mm)
        transform = self.fixed_to_own(frame, rotation, shift_mm=0)
        return sitk.GetArrayFromImage(resampled(self.image, transform, grid))


def normal_of(grid: Grid) -> np.ndarray:
    """Return n: the unit vector (LPS) along slice axis k, to superior, posterior or left, whichever is nearest."""
    axis = grid.axes[:, 2]
    return axis * np.sign(axis[np.argmax(np.abs(axis))])


def parallel_grid(fixed_grid: Grid, first_mm: float, count: int, distance_mm: float) -> Grid:
    """Return the grid of slices along n with the fixed image's pixels, the first `first_mm` from the fixed middle."""
    normal = normal_of(fixed_grid)
    middle_corner_mm = fixed_grid.to_world((0, 0, (fixed_grid.size[2] - 1) / 2))
    return Grid(
        (*fixed_grid.size[:2], count),
        (*fixed_grid.spacing_mm[:2], distance_mm),
        tuple((middle_corner_mm + first_mm * normal).tolist()),
        tuple(np.column_stack([fixed_grid.axes[:, :2], normal]).ravel().tolist()),
    )


def resampled(image: sitk.Image, transform: sitk.Transform, grid: Grid, outside: float = np.nan) -> sitk.Image:
    """Resample an image linearly onto a grid, as float32; beyond the image is `outside`."""
    return sitk.Resample(
        image,
        grid.size,
        transform,
        sitk.sitkLinear,
        grid.origin_mm,
        grid.spacing_mm,
        grid.direction,
        outside,
        sitk.sitkFloat32,
    )


def slice_matrix(a: np.ndarray, b: np.ndarray, frame: Stack) -> np.ndarray:
    """Return the local squared NCC of all slices of two stacks, shape (slices of a, slices of b).

    Parameters
    ----------
    a, b : array, shape (slices, rows, columns)
        As :meth:`Stack.sampled` gives them.
    frame : Stack
        The fixed image's.

    Returns
    -------
    array
        NaN for slices mostly outside of their image.
    """
    window = max(round(WINDOW_MM / np.mean(frame.image.GetSpacing()[:2])), 5)
    matrix, windows = local_ncc_squared_matrix(a, b, window)
    return np.where(windows >= 0.5 * windows.max(), matrix, np.nan)


def agreement(
    stacks: Mapping[str, Stack], fixed: str, transforms: Mapping[str, sitk.Transform], grid: Grid
) -> dict[str, float | None]:
    """Return each image's mean squared NCC with the fixed one over the slices of `grid`; None without overlap."""
    slices = {name: sitk.GetArrayFromImage(resampled(stacks[name].image, transforms[name], grid)) for name in stacks}
    found: dict[str, float | None] = {fixed: None}
    for name in stacks.keys() - {fixed}:
        along = np.diagonal(slice_matrix(slices[fixed], slices[name], stacks[fixed]))
        found[name] = float(np.nanmean(along)) if np.isfinite(along).any() else None
    return found


def _searched(image: sitk.Image, slice_axis: int) -> sitk.Image:
    """Bin blocks of pixels in the slice plane until few enough are left for the search, and smooth them."""
    in_plane = [axis for axis in range(3) if axis != slice_axis]
    spacing_mm, extent_mm = np.array(image.GetSpacing()), np.array(image.GetSize()) * image.GetSpacing()
    target_mm = np.sqrt(np.prod(extent_mm[in_plane]) / SEARCH_PIXELS)
    factors = [1, 1, 1]
    for axis in in_plane:
        factors[axis] = int(np.clip(np.round(target_mm / spacing_mm[axis]), 1, image.GetSize()[axis]))
    binned = sitk.BinShrink(image, factors) if max(factors) > 1 else image
    sigmas = SMOOTHING_MM / np.array(binned.GetSpacing())
    sigmas[slice_axis] = 0
    return to_image(gaussian_filter(to_array(binned).astype(np.float32), sigmas), Grid.of(binned))
