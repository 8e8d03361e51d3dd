"""The one contract of all methods: a displacement u on the fixed image's own grid.

The fixed point x corresponds to the moving point x + u(x); u is in mm, in LPS, with every affine and harmonizing
transform composed in. The file is a 5-D NIfTI of float32 with intent 1007 (vector), as ITK, ANTs and 3D Slicer read it.
"""

import numpy as np
import SimpleITK as sitk

from cohortmorph import UserError
from cohortmorph.geometry import Grid, to_array, to_image, write_image


def sample(transform, grid):
    """Sample a SimpleITK transform, fixed world → moving world, as a displacement on `grid` (vector float32)."""
    field = sitk.TransformToDisplacementField(
        transform, sitk.sitkVectorFloat64, grid.size, grid.origin_mm, grid.spacing_mm, grid.direction
    )
    return sitk.Cast(field, sitk.sitkVectorFloat32)


def as_transform(field):
    """Return the displacement as a SimpleITK transform; outside its grid it is the identity."""
    # DisplacementFieldTransform empties its argument, so it gets a copy.
    return sitk.DisplacementFieldTransform(sitk.Cast(field, sitk.sitkVectorFloat64))


def write(field, path):
    """Write a displacement (see the module's contract); one that is not finite is a ValueError."""
    if field.GetNumberOfComponentsPerPixel() != 3 or field.GetDimension() != 3:
        raise ValueError(f"{path}: a displacement has three components on a 3-D grid")
    if not np.isfinite(sitk.GetArrayViewFromImage(field)).all():
        raise ValueError(f"{path}: the displacement has values that are not finite")
    write_image(sitk.Cast(field, sitk.sitkVectorFloat32), path)


def read(path, fixed_grid=None):
    """Read a displacement; one that breaks the contract, or is not on `fixed_grid`, is a UserError."""
    field = sitk.ReadImage(str(path))
    if field.GetDimension() != 3 or field.GetNumberOfComponentsPerPixel() != 3:
        raise UserError(
            f"{path}: found {field.GetDimension()} dimensions with {field.GetNumberOfComponentsPerPixel()} components; "
            "expected a 5-D NIfTI with intent 1007 that holds three components (mm, LPS) on a 3-D grid."
        )
    difference = fixed_grid and fixed_grid.difference_from(Grid.of(field))
    if difference:
        raise UserError(f"{path}: the displacement is not on the fixed image's grid: {difference}.")
    return sitk.Cast(field, sitk.sitkVectorFloat32)


def warp(moving, field, outside=0.0):
    """Resample the moving image, once and linearly, onto the field's grid; points outside of it get `outside`."""
    return sitk.Resample(moving, field, as_transform(field), sitk.sitkLinear, float(outside), moving.GetPixelID())


def warp_labels(moving_labels, field):
    """Resample a label map onto the field's grid (nearest neighbour); outside is label 0."""
    return sitk.Resample(
        moving_labels, field, as_transform(field), sitk.sitkNearestNeighbor, 0, moving_labels.GetPixelID()
    )


def move_points(points_lps_mm, field):
    """Move fixed points to their moving positions, x + u(x), with u interpolated linearly.

    Parameters
    ----------
    points_lps_mm : array, shape (n, 3)
    field : SimpleITK vector image

    Returns
    -------
    moved_lps_mm : array, shape (n, 3)
        NaN where the fixed point lies outside of the grid: ITK would silently leave such a point where it is.
    """
    transform = as_transform(field)
    points = np.asarray(points_lps_mm, dtype=float).reshape(-1, 3)
    moved = np.array([transform.TransformPoint(tuple(point)) for point in points]).reshape(-1, 3)
    moved[~Grid.of(field).contains(points)] = np.nan
    return moved


def from_voxels(displacement_voxels, grid):
    """Turn a displacement in voxels along i, j, k into an image of it in mm, LPS.

    Parameters
    ----------
    displacement_voxels : array, shape (*grid.size, 3)
        As VoxelMorph gives it for arrays indexed [i, j, k]. In 2-D, component k is zero.
    grid : Grid
    """
    return to_image((displacement_voxels @ grid.steps_mm.T).astype(np.float32), grid)


def jacobian_determinant(field):
    """Return the determinant of the Jacobian of x ↦ x + u(x) by central differences, shape of the grid, [i, j, k].

    SimpleITK's own filter ignores direction cosines. Here the differences are taken along the voxel axes: with the
    steps S between neighbours and the differences D of u as columns, det(I + D · S⁻¹) = det(S + D) / det(S).
    Along an axis of one voxel u counts as constant. Float32, as the field: nine values a voxel are held at once.
    """
    grid = Grid.of(field)
    displacement_mm = to_array(field).astype(np.float32, copy=False)
    steps_mm = grid.steps_mm.astype(np.float32)
    i, j, k = (_difference(displacement_mm, axis) + steps_mm[:, axis] for axis in range(3))
    volume_mm3 = i[..., 0] * (j[..., 1] * k[..., 2] - j[..., 2] * k[..., 1])
    volume_mm3 += i[..., 1] * (j[..., 2] * k[..., 0] - j[..., 0] * k[..., 2])
    volume_mm3 += i[..., 2] * (j[..., 0] * k[..., 1] - j[..., 1] * k[..., 0])
    return volume_mm3 / np.float32(np.linalg.det(grid.steps_mm))


def _difference(values, axis):
    """Return the central difference for one step along `axis`, one-sided at its ends; zero if it has one voxel."""
    return np.gradient(values, axis=axis) if values.shape[axis] > 1 else np.zeros_like(values)
