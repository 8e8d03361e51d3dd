"""Label maps: a whole number at each voxel, 0 where there is no structure."""

import numpy as np
import SimpleITK as sitk

from cohortmorph import UserError
from cohortmorph.run.files import StrPath
from cohortmorph.spatial import volume_file
from cohortmorph.spatial.geometry import Grid, read_grid, to_array, to_image

ROUNDING = 1e-3  # how far a label may lie from a whole number: a map that was scaled, then saved in 32 bits
SCALED = 1e-2  # the same, where the file has a scale factor and half of it is no less


def read(path: StrPath, grid: Grid | None = None) -> sitk.Image:
    """Read a label map.

    Parameters
    ----------
    path : str or Path
    grid : Grid, optional
        The grid of the image that the labels belong to. The map may have its axes in another order or direction,
        as long as its voxels are the image's; of a NIfTI that gives two places, the one on `grid` is taken.

    Returns
    -------
    SimpleITK image of int32, on `grid` within a header's rounding

    Raises
    ------
    UserError
        If a value is not a whole number from 0, or if the map does not lie on `grid`.
    """
    form = "" if grid is None else _form_on(path, grid)
    image, header = volume_file.read(path, None, form)
    values = to_array(image)
    scale = header.slope
    whole = values if values.dtype.kind in "iu" else np.round(values)
    tolerance = ROUNDING if scale == 1 else max(ROUNDING, min(abs(scale) / 2 * 1.01, SCALED))
    with np.errstate(invalid="ignore"):  # infinite ones
        wrong = values[
            ~(
                (whole >= 0)
                & (values - whole <= tolerance)
                & (whole - values <= tolerance)
                & (values <= np.iinfo(np.int32).max)
            )
        ]
    if not whole.any():
        wrong = values[values != 0]  # labels that a scale factor made so small that all would be 0
    if wrong.size:
        raise UserError(_no_labels(path, wrong, scale))
    found, labels = Grid.of(image), whole.astype(np.int32)
    if grid is None:
        return to_image(labels, found)
    if not found.difference_from(grid):
        # To the digits of its own header: where samples are drawn in a mask, the last one makes another registration.
        return to_image(labels, found)
    order = _reordering(found, grid)
    if order is None:
        difference = grid.difference_from(found)
        raise UserError(
            f"{path}: the labels do not lie on their image's grid: {difference}. Resample them onto the image."
        )
    axes, reversed_ = order
    return to_image(np.flip(np.transpose(labels, axes), [axis for axis in range(3) if reversed_[axis]]), grid)


def resampled(label_map: sitk.Image, grid: Grid, transform: sitk.Transform) -> sitk.Image:
    """Return a label map or mask on a grid, to the nearest neighbour; 0 where it does not reach.

    Parameters
    ----------
    label_map : SimpleITK image
    grid : Grid
    transform : SimpleITK transform
        World of the grid → world of the label map.
    """
    return sitk.Resample(
        label_map, grid.size, transform, sitk.sitkNearestNeighbor, grid.origin_mm, grid.spacing_mm, grid.direction, 0
    )


def _no_labels(path: StrPath, wrong: np.ndarray, scale: float) -> str:
    """Return the message about values that are no labels."""
    said = f"{path}: {wrong.size} voxels are not labels (the first is {wrong[0]:.6g}); expected whole numbers from 0. "
    if scale != 1:
        return said + (
            f"The file has a scale factor (scl_slope {scale:g}), whose rounding may have moved them: save the map as "
            "whole numbers, without one."
        )
    return said + (
        "Was the map resampled with linear interpolation? Resample it with nearest neighbours, or threshold it."
    )


def _form_on(path: StrPath, grid: Grid) -> str:
    """Return by which form of a NIfTI the map lies on `grid`; "" if its forms agree, or none does."""
    try:
        read_grid(path)
        return ""
    except UserError:
        for form in ("sform", "qform"):
            try:
                if _reordering(read_grid(path, form), grid):
                    return form
            except UserError:
                continue
    return ""


def _reordering(found: Grid, grid: Grid) -> tuple[list[int], list[bool]] | None:
    """Say how to order the axes of `found` to get `grid`; None if their voxels are not the same points.

    Returns
    -------
    axes : list of int
        Which axis of `found` becomes i, j, k.
    reversed : list of bool
        Which of i, j, k then run the other way.
    """
    turned = found.axes.T @ grid.axes  # row: an axis of `found`, column: one of `grid`
    axes = [int(axis) for axis in np.abs(turned).argmax(axis=0)]
    if sorted(axes) != [0, 1, 2]:
        return None
    signs = np.sign([turned[axis, n] for n, axis in enumerate(axes)])
    size = tuple(found.size[axis] for axis in axes)
    first = np.zeros(3)
    for n, axis in enumerate(axes):
        first[axis] = found.size[axis] - 1 if signs[n] < 0 else 0
    reordered = Grid(
        size,
        tuple(found.spacing_mm[axis] for axis in axes),
        tuple(found.to_world(first).tolist()),
        tuple((found.axes[:, axes] * signs).ravel().tolist()),
    )
    return None if grid.difference_from(reordered) else (axes, (signs < 0).tolist())
