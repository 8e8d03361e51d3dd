"""Tiles: one slice of what a method made of a pair, drawn in one way, in the pixels of a box.

Rows and columns are as in :func:`cohortmorph.figures.pictures.cut`; a tile is uint8, shape (rows, columns, 3).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import matplotlib
import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from cohortmorph.figures.pictures import Cut, Place, checkerboard, cut, sliced
from cohortmorph.spatial import displacement
from cohortmorph.spatial.geometry import PLANES, Grid, matrix_and_offset, to_array

GRID_MM = 10  # distance of the lines of the displacement's grid
CHECKERBOARD_MM = 25  # side of its squares, about
UNCOVERED = (38, 52, 92)  # dark blue: the moving image does not reach here
FOLDED = (0, 229, 255)  # cyan: neither purple nor orange, and brighter than both
EDGES = (255, 176, 0)
BEYOND_AFFINE = ("grid", "magnitude")  # kinds that only methods after the affine have


class Box(NamedTuple):
    """A rectangle in a picture, in pixels from its upper left corner."""

    left: int
    top: int
    width: int
    height: int


def resized(values: np.ndarray, box: Box, order: int = 1) -> np.ndarray:
    """Resample an array (rows, columns) to the pixels of a box."""
    rows, columns = (
        (np.arange(pixels) + 0.5) * length / pixels - 0.5
        for pixels, length in zip((box.height, box.width), values.shape, strict=True)
    )
    places = np.meshgrid(rows, columns, indexing="ij")
    return ndimage.map_coordinates(np.asarray(values, dtype=np.float32), places, order=order, mode="nearest")


def coloured(values: np.ndarray, colours: str, low: float, high: float) -> np.ndarray:
    """Return uint8 colours (…, 3) of values between the limits."""
    scaled = (np.clip(values, low, high) - low) / (high - low)
    return matplotlib.colormaps[colours](scaled, bytes=True)[..., :3]


@dataclass(frozen=True)
class SeenSlice:
    """One slice of one method's result, rows and columns as in :func:`cohortmorph.figures.pictures.cut`.

    Attributes
    ----------
    fixed, moved : Cut
        Intensities from 0 to 1.
    covered : boolean array
        Where the moving image has values.
    across_mm, down_mm : array
        Where the method puts each voxel, with the affine taken back, along the axes of the slice.
    beyond_mm : array
        Length of what the method adds to the affine.
    determinant : array
        Of the Jacobian.
    folded : boolean array
        Whether it is zero or negative in any slice.
    """

    fixed: Cut
    moved: Cut
    covered: np.ndarray
    across_mm: np.ndarray
    down_mm: np.ndarray
    beyond_mm: np.ndarray
    determinant: np.ndarray
    folded: np.ndarray


def slices_of(
    places: Sequence[Place],
    fixed: sitk.Image,
    moved: sitk.Image,
    field: sitk.Image,
    moving_grid: Grid,
    affine: sitk.Transform,
) -> list[SeenSlice]:
    """Return the :class:`SeenSlice` of each place; images and field are oriented, `affine` maps fixed → moving."""
    grid, displacement_mm = Grid.of(field), to_array(field)
    determinant = displacement.jacobian_determinant(field)
    matrix, offset_mm = matrix_and_offset(affine)
    back, back_mm = matrix_and_offset(affine.GetInverse())
    found = []
    for plane, index in places:
        across = PLANES[plane]
        ranges = [np.array([index]) if axis == across else np.arange(n) for axis, n in enumerate(grid.size)]
        points = sliced(grid.to_world(np.stack(np.meshgrid(*ranges, indexing="ij"), axis=-1)), plane, 0)
        targets = points + sliced(displacement_mm, plane, index)
        in_plane = (targets @ back.T + back_mm - grid.centre_mm) @ grid.axes
        horizontal, vertical = [axis for axis in range(3) if axis != across]
        found.append(
            SeenSlice(
                fixed=cut(fixed, plane, index),
                moved=cut(moved, plane, index),
                covered=moving_grid.contains(targets),
                across_mm=in_plane[..., horizontal],
                down_mm=in_plane[..., vertical],
                beyond_mm=np.linalg.norm(targets - (points @ matrix.T + offset_mm), axis=-1),
                determinant=sliced(determinant, plane, index),
                folded=sliced(np.asarray((determinant <= 0).any(axis=across, keepdims=True)), plane, 0),
            )
        )
    return found


def draw_moved(seen: SeenSlice, box: Box, _: float) -> np.ndarray:
    """Grey; where the moving image does not reach, dark blue."""
    tile = coloured(resized(seen.moved.values, box), "gray", 0, 1)
    tile[~_there(seen.covered, box)] = UNCOVERED
    return tile


def draw_edges(seen: SeenSlice, box: Box, _: float) -> np.ndarray:
    """The fixed image with Canny's edges of the moved one."""
    tile = coloured(0.85 * resized(seen.fixed.values, box), "gray", 0, 1)
    values = sitk.GetImageFromArray(resized(seen.moved.values, box))
    edges = sitk.CannyEdgeDetection(values, lowerThreshold=0.02, upperThreshold=0.06, variance=[4.0, 4.0])
    tile[ndimage.binary_dilation(sitk.GetArrayFromImage(edges) > 0) & _there(seen.covered, box)] = EDGES
    return tile


def draw_checkerboard(seen: SeenSlice, box: Box, _: float) -> np.ndarray:
    """Fixed and moved in turn."""
    fixed, moved = (Cut(resized(one.values, box), seen.fixed.size_mm, {}) for one in (seen.fixed, seen.moved))
    fields = max(2, round(min(seen.fixed.size_mm) / CHECKERBOARD_MM))
    return coloured(checkerboard(fixed, moved, fields).values, "gray", 0, 1)


def draw_difference(seen: SeenSlice, box: Box, _: float) -> np.ndarray:
    """Fixed − moved; white where the moving image does not reach."""
    difference = np.where(seen.covered, seen.fixed.values - seen.moved.values, 0)
    return coloured(resized(difference, box), "PuOr", -1, 1)


def draw_grid(seen: SeenSlice, box: Box, _: float) -> np.ndarray:
    """The lines of a regular grid, as what the method adds to the affine bends them."""
    pixel_mm = seen.fixed.size_mm[0] / box.width
    ink = np.zeros((box.height, box.width))
    for coordinates_mm in (resized(seen.across_mm, box), resized(seen.down_mm, box)):
        from_line_mm = np.abs((coordinates_mm + GRID_MM / 2) % GRID_MM - GRID_MM / 2)
        # So many mm of the coordinate pass from pixel to pixel: a line is as wide where the grid is stretched.
        steepness_mm = np.hypot(*np.gradient(coordinates_mm)) if min(coordinates_mm.shape) > 1 else pixel_mm
        ink = np.maximum(ink, np.clip(1.3 - from_line_mm / np.maximum(steepness_mm, 1e-6), 0, 1))
    background = 0.55 * resized(seen.fixed.values, box)
    return coloured(np.maximum(background, ink), "gray", 0, 1)


def draw_magnitude(seen: SeenSlice, box: Box, limit_mm: float) -> np.ndarray:
    """Length of what the method adds to the affine, from 0 to `limit_mm`."""
    return coloured(resized(seen.beyond_mm, box), "viridis", 0, limit_mm)


def draw_jacobian(seen: SeenSlice, box: Box, _: float) -> np.ndarray:
    """The determinant from a half to twice, on a logarithmic scale; cyan where it is folded in any slice."""
    tile = coloured(np.log2(resized(np.maximum(seen.determinant, 0.01), box)), "PuOr", -1, 1)
    tile[_there(seen.folded, box)] = FOLDED
    return tile


def _there(mask: np.ndarray, box: Box) -> np.ndarray:
    """Resample a mask to pixels."""
    return resized(mask, box, order=0) > 0.5


DRAWN = {
    "moved": draw_moved,
    "edges": draw_edges,
    "checkerboard": draw_checkerboard,
    "difference": draw_difference,
    "grid": draw_grid,
    "magnitude": draw_magnitude,
    "jacobian": draw_jacobian,
}
