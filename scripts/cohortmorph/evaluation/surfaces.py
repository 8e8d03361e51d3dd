"""How far the surfaces of two label maps on one grid lie apart, in mm.

Definitions, neighbourhood codes and areas are those of the ``surface-distance`` library (Nikolov et al. 2018), which
Learn2Reg uses as well: the surface of a structure is the set of voxel corners whose eight voxels are not all inside or
all outside, each with the area of its piece of the marching-cubes surface; beyond the edge of the grid all is outside.
A grid of one slice has contours and lengths instead: as a surface, each of its voxels would be one.

The library's own ``compute_surface_distances`` fails on empty masks under numpy 2 and does the work of the fixed map
again for each method. Here a surface is found once, and most distances by looking at the nearest corners: those of two
similar surfaces are 0 or one step long. Direction cosines do not matter, since they neither stretch nor shear.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import ArrayLike
from scipy.ndimage import find_objects
from scipy.spatial import cKDTree
from surface_distance import lookup_tables
from surface_distance import metrics as library

from cohortmorph.evaluation.metrics import SurfaceAgreement

# A corner's key holds its three indices, each in so many bits, so that a step to a neighbour is one addition.
KEY_BITS = 20
# Indices are raised by this much, so that no step leads below zero.
KEY_MARGIN = 64
NEAREST_STEPS = 60
# So few corners are looked up faster in a tree than step by step.
FEW = 200


@dataclass(frozen=True, eq=False)
class Surface:
    """The surface of one structure.

    Attributes
    ----------
    corners : int array, shape (n, 2 or 3)
        Indices of voxel corners, in ascending order: (0, 0, 0) is the one before the first voxel of every axis.
    areas : array, shape (n,)
        Area of each piece in mm², or its length in mm on a grid of one slice.
    spacing_mm : tuple of float
        Distance of neighbouring corners along each axis.
    """

    corners: np.ndarray
    areas: np.ndarray
    spacing_mm: tuple[float, ...]

    @cached_property
    def keys(self) -> np.ndarray:
        """One whole number a corner, ascending."""
        return _keys(self.corners + KEY_MARGIN)

    @cached_property
    def tree(self) -> cKDTree:
        """The corners in mm as a tree."""
        return cKDTree(self.corners * np.array(self.spacing_mm), balanced_tree=False, compact_nodes=False)


def of_structures(
    label_map: ArrayLike, structures: Sequence[int], spacing_mm: Sequence[float]
) -> dict[int, Surface | None]:
    """Find the surface of each structure.

    Parameters
    ----------
    label_map : integer array, shape (i, j, k)
    structures : sequence of int
        The labels wanted; 0 is none.
    spacing_mm : sequence of three floats
        Along i, j, k.

    Returns
    -------
    dict of int to Surface
        In the order of `structures`; None where the map does not have the label.

    Raises
    ------
    ValueError
        If the grid has one voxel along two axes: there is neither a surface nor a contour.
    """
    label_map = np.asarray(label_map)
    extended = [axis for axis in range(3) if label_map.shape[axis] > 1]
    if len(extended) < 2:
        raise ValueError(f"a label map of shape {label_map.shape} has neither surfaces nor contours")
    values = label_map.reshape([label_map.shape[axis] for axis in extended])
    spacing_mm = tuple(float(spacing_mm[axis]) for axis in extended)
    wanted = np.unique(np.asarray(structures, dtype=np.int64))
    if wanted.size == 0:
        return {}
    at = np.minimum(np.searchsorted(wanted, values), wanted.size - 1)
    numbers = np.where(wanted[at] == values, at + 1, 0)
    boxes = dict(zip(wanted.tolist(), find_objects(numbers, wanted.size), strict=True))
    position = {label: number for number, label in enumerate(wanted.tolist(), start=1)}
    return {
        label: None
        if boxes[label] is None
        else _surface(numbers[boxes[label]] == position[label], [side.start for side in boxes[label]], spacing_mm)
        for label in map(int, structures)
    }


def distances_mm(from_surface: Surface, to_surface: Surface) -> np.ndarray:
    """Return the distance from each corner of a surface to the nearest corner of another one, in mm, shape (n,)."""
    left = np.arange(len(from_surface.keys))
    found_mm = np.zeros(len(left))
    for step, length_mm in _nearest_steps(from_surface.spacing_mm):
        if left.size <= FEW:
            break
        wanted = from_surface.keys[left] + step
        at = np.minimum(np.searchsorted(to_surface.keys, wanted), len(to_surface.keys) - 1)
        reached = to_surface.keys[at] == wanted
        found_mm[left[reached]] = length_mm
        left = left[~reached]
    if left.size:
        points_mm = from_surface.corners[left] * np.array(from_surface.spacing_mm)
        found_mm[left] = to_surface.tree.query(points_mm)[0]
    return found_mm


def compare(fixed: Surface | None, moved: Surface | None, tolerance_mm: float) -> SurfaceAgreement:
    """Compare two surfaces of one structure.

    Parameters
    ----------
    fixed, moved : Surface or None
        None if the structure is empty.
    tolerance_mm : float

    Returns
    -------
    SurfaceAgreement
        If one surface is missing no distance exists: (NaN, NaN, 0). If both are: (NaN, NaN, NaN).
    """
    if fixed is None or moved is None:
        return SurfaceAgreement(np.nan, np.nan, np.nan if fixed is moved else 0.0)
    measured = {}
    for name, target, surface, other in [("gt", "pred", fixed, moved), ("pred", "gt", moved, fixed)]:
        lengths_mm = distances_mm(surface, other)
        ascending = np.argsort(lengths_mm, kind="stable")
        measured[f"distances_{name}_to_{target}"] = lengths_mm[ascending]
        measured[f"surfel_areas_{name}"] = surface.areas[ascending]
    hd95_mm = library.compute_robust_hausdorff(measured, 95)
    lengths_mm = np.concatenate([measured["distances_gt_to_pred"], measured["distances_pred_to_gt"]])
    areas = np.concatenate([measured["surfel_areas_gt"], measured["surfel_areas_pred"]])
    surface_dice = library.compute_surface_dice_at_tolerance(measured, tolerance_mm)
    return SurfaceAgreement(float(hd95_mm), float(np.average(lengths_mm, weights=areas)), float(surface_dice))


def compare_maps(
    fixed_surfaces: Mapping[int, Surface | None],
    moved_labels: ArrayLike,
    spacing_mm: Sequence[float],
    tolerance_mm: float,
) -> dict[int, SurfaceAgreement]:
    """Compare the surfaces of a fixed label map with those of a moved one on the same grid.

    Parameters
    ----------
    fixed_surfaces : dict of int to Surface
        See :func:`of_structures`.
    moved_labels : integer array, shape (i, j, k)
    spacing_mm : sequence of three floats
    tolerance_mm : float

    Returns
    -------
    dict of int to SurfaceAgreement
        See :func:`compare`.
    """
    moved_surfaces = of_structures(moved_labels, list(fixed_surfaces), spacing_mm)
    return {label: compare(fixed, moved_surfaces[label], tolerance_mm) for label, fixed in fixed_surfaces.items()}


def _surface(mask: np.ndarray, start: Sequence[int], spacing_mm: tuple[float, ...]) -> Surface:
    """Return the surface of a mask that fills its box, which starts at voxel `start`."""
    padded = np.pad(mask, 1).view(np.uint8)
    code = np.zeros([length - 1 for length in padded.shape], np.uint8)
    kernel, areas = _tables(spacing_mm)
    for offset, code_of_voxel in np.ndenumerate(kernel):
        code += padded[tuple(slice(o, o + n) for o, n in zip(offset, code.shape, strict=True))] * np.uint8(
            code_of_voxel
        )
    on_surface = (code != 0) & (code != kernel.sum())
    return Surface(np.argwhere(on_surface) + start, areas[code[on_surface]], spacing_mm)


@lru_cache
def _tables(spacing_mm: tuple[float, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Return the library's codes of the voxels around a corner, and the area (or length) for each sum of them."""
    if len(spacing_mm) == 2:
        lengths = lookup_tables.create_table_neighbour_code_to_contour_length(spacing_mm)
        return lookup_tables.ENCODE_NEIGHBOURHOOD_2D_KERNEL, lengths
    areas = lookup_tables.create_table_neighbour_code_to_surface_area(spacing_mm)
    return lookup_tables.ENCODE_NEIGHBOURHOOD_3D_KERNEL, areas


@lru_cache
def _nearest_steps(spacing_mm: tuple[float, ...]) -> list[tuple[int, float]]:
    """Return the shortest steps between corners, none left out, as (difference of keys, length in mm), ascending."""
    # Half as many on both sides along the finest axis alone fill the list: nothing farther can be in it.
    reach = [int(np.ceil(NEAREST_STEPS / 2 * min(spacing_mm) / step)) for step in spacing_mm]
    steps = np.stack(np.meshgrid(*(np.arange(-n, n + 1) for n in reach), indexing="ij"), axis=-1)
    steps = steps.reshape(-1, len(spacing_mm))
    lengths_mm = np.linalg.norm(steps * np.array(spacing_mm), axis=1)
    shortest = np.argsort(lengths_mm, kind="stable")[:NEAREST_STEPS]
    return list(zip(_keys(steps[shortest]).tolist(), lengths_mm[shortest].tolist(), strict=True))


def _keys(indices: np.ndarray) -> np.ndarray:
    """Return one whole number for each row of indices; keys of a sum are the sum of keys."""
    place_values = 1 << (KEY_BITS * np.arange(indices.shape[1])[::-1])
    return indices @ place_values
