"""The one contract of all methods: a displacement u on the fixed image's own grid.

The fixed point x corresponds to the moving point x + u(x); u is in mm, in LPS, with every affine and harmonizing
transform composed in. The file is a 5-D NIfTI of float32 with intent 1007 (vector), as ITK, ANTs and 3D Slicer read it.

Where a registration failed the file is there all the same, and throws every point a thousand kilometres away, so that
no plausible picture or number comes of it in any program. :func:`read` refuses it; who can go on without it says so by
:func:`read_unless_failed`. (NaN would not do: ITK's NIfTI reader turns it into 0, the identity.)
"""

import numpy as np
import SimpleITK as sitk
from numpy.typing import ArrayLike

from cohortmorph import UserError
from cohortmorph.run.files import StrPath
from cohortmorph.spatial import volume_file
from cohortmorph.spatial.geometry import Grid, to_array, to_image, write_image

FAILED_MM = 1e9
# Beyond the grid on which a network answers, its displacement fades within this length. It folds nowhere there
# as long as its components, along the axes of that grid, add up to less.
FADE_MM = 20.0
# So many voxels are measured at a time where the intermediate results are many times the displacement.
CACHED_VOXELS = 2**14


def sample(transform: sitk.Transform, grid: Grid) -> sitk.Image:
    """Sample a SimpleITK transform, fixed world → moving world, as a displacement on `grid` (vector float32)."""
    field = sitk.TransformToDisplacementField(
        transform, sitk.sitkVectorFloat64, grid.size, grid.origin_mm, grid.spacing_mm, grid.direction
    )
    return sitk.Cast(field, sitk.sitkVectorFloat32)


def as_transform(field: sitk.Image) -> sitk.DisplacementFieldTransform:
    """Return the displacement as a SimpleITK transform; outside its grid it is the identity."""
    # DisplacementFieldTransform empties its argument, so it gets a copy.
    return sitk.DisplacementFieldTransform(sitk.Cast(field, sitk.sitkVectorFloat64))


def write(field: sitk.Image, path: StrPath) -> None:
    """Write a displacement (see the module's contract); one that is not finite is a ValueError."""
    if field.GetNumberOfComponentsPerPixel() != 3 or field.GetDimension() != 3:
        raise ValueError(f"{path}: a displacement has three components on a 3-D grid")
    if not np.isfinite(sitk.GetArrayViewFromImage(field)).all():
        raise ValueError(f"{path}: the displacement has values that are not finite")
    write_image(sitk.Cast(field, sitk.sitkVectorFloat32), path)


def nowhere(grid: Grid) -> sitk.Image:
    """Return what stands for the displacement of a registration that failed, on the fixed `grid`."""
    return to_image(np.full((*grid.size, 3), FAILED_MM, np.float32), grid)


def write_failed(grid: Grid, path: StrPath) -> None:
    """Write :func:`nowhere` to `path`."""
    write_image(nowhere(grid), path)


def read(path: StrPath, fixed_grid: Grid | None = None) -> sitk.Image:
    """Read a displacement; one that breaks the contract, failed, or is not on `fixed_grid`, is a UserError."""
    field = read_unless_failed(path, fixed_grid)
    if field is None:
        raise UserError(
            f"{path}: this registration failed, so there is no displacement; registration.json beside says why."
        )
    return field


def read_unless_failed(path: StrPath, fixed_grid: Grid | None = None) -> sitk.Image | None:
    """Read a displacement, or return None if its registration failed (see :func:`write_failed`).

    Raises
    ------
    UserError
        If the file breaks the contract or is not on `fixed_grid`.
    """
    header = volume_file.read_header(path)
    if (header.volumes, header.components) != (1, 3):
        raise UserError(
            f"{path}: found {header.volumes} volumes with {header.components} components; expected a 5-D NIfTI with "
            "intent 1007 that holds three components (mm, LPS) on a 3-D grid."
        )
    field, _ = volume_file.read(path, components=3)
    difference = fixed_grid and fixed_grid.difference_from(Grid.of(field))
    if difference:
        raise UserError(f"{path}: the displacement is not on the fixed image's grid: {difference}.")
    if (sitk.GetArrayViewFromImage(field) == FAILED_MM).all():
        return None
    return field


def warp(moving: sitk.Image, field: sitk.Image, outside: float = 0.0) -> sitk.Image:
    """Resample the moving image, once and linearly, onto the field's grid; points outside of it get `outside`."""
    return sitk.Resample(moving, field, as_transform(field), sitk.sitkLinear, float(outside), moving.GetPixelID())


def warp_labels(moving_labels: sitk.Image, field: sitk.Image) -> sitk.Image:
    """Resample a label map onto the field's grid (nearest neighbour); outside is label 0."""
    return sitk.Resample(
        moving_labels, field, as_transform(field), sitk.sitkNearestNeighbor, 0, moving_labels.GetPixelID()
    )


def move_points(points_lps_mm: ArrayLike, field: sitk.Image) -> np.ndarray:
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


def from_voxels(displacement_voxels: np.ndarray, grid: Grid) -> sitk.Image:
    """Turn a displacement in voxels along i, j, k into an image of it in mm, LPS.

    Parameters
    ----------
    displacement_voxels : array, shape (*grid.size, 3)
        As VoxelMorph gives it for arrays indexed [i, j, k]. In 2-D, component k is zero.
    grid : Grid
    """
    return to_image((displacement_voxels @ grid.steps_mm.T).astype(np.float32), grid)


def of_network(
    displacement_voxels: np.ndarray,
    network_grid: Grid,
    to_frame: sitk.Transform,
    to_moving: sitk.Transform,
    grid: Grid,
) -> sitk.Image:
    """Return what a network answered as a displacement on the fixed image's `grid`: x ↦ frame ↦ network ↦ moving.

    Parameters
    ----------
    displacement_voxels : array, shape (*network_grid.size, 3)
        In voxels along i, j, k of `network_grid`, which lies in the frame. Beyond it, see :func:`fading`.
    to_frame, to_moving : SimpleITK affine transform
        Fixed world → frame, frame → moving world.
    """
    corners_mm = grid.to_world(np.array(list(np.ndindex(2, 2, 2))) * (np.array(grid.size) - 1))
    outermost_mm = [to_frame.TransformPoint(corner) for corner in corners_mm.tolist()]
    field = fading(from_voxels(displacement_voxels, network_grid), outermost_mm)
    # A composite applies its last transform first.
    return sample(sitk.CompositeTransform([to_moving, as_transform(field), to_frame]), grid)


def fading(field: sitk.Image, points_mm: ArrayLike) -> sitk.Image:
    """Let a displacement go on beyond its grid, from the border's value to 0 within FADE_MM along each axis.

    Else it would end at the border, which tears and folds what lies there.

    Parameters
    ----------
    field : SimpleITK vector image
    points_mm : array, shape (n, 3)
        The outermost points, LPS, at which it will be asked for: no more than they need is added.

    Returns
    -------
    SimpleITK vector image
        On a larger grid, with the same values inside of its own.
    """
    grid = Grid.of(field)
    last, spacing_mm = np.array(grid.size) - 1, np.array(grid.spacing_mm)
    indices, most = grid.to_indices(points_mm), np.ceil(FADE_MM / spacing_mm)
    before = np.clip(np.ceil(-indices.min(axis=0) - 1e-6), 0, most).astype(int)
    after = np.clip(np.ceil(indices.max(axis=0) - last - 1e-6), 0, most).astype(int)
    values = to_array(field)
    for axis in range(3):
        added = [(before[axis], after[axis]) if each == axis else (0, 0) for each in range(4)]
        index = np.arange(-before[axis], last[axis] + after[axis] + 1)
        beyond_mm = spacing_mm[axis] * np.maximum(0, np.maximum(-index, index - last[axis]))
        fade = np.maximum(0, 1 - beyond_mm / FADE_MM).astype(values.dtype)
        values = np.pad(values, added, mode="edge") * fade.reshape([-1 if each == axis else 1 for each in range(4)])
    return to_image(values, Grid(values.shape[:3], grid.spacing_mm, tuple(grid.to_world(-before)), grid.direction))


def jacobian_determinant(field: sitk.Image) -> np.ndarray:
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


def non_diffeomorphic_volume(field: sitk.Image) -> np.ndarray:
    """Return how much of each cube between eight voxel centres is turned inside out, as a fraction of the cube.

    Central differences miss a folding that alternates from voxel to voxel. Liu et al. 2022 (On Finite Difference
    Jacobian Computation in Deformable Image Registration) take the interpolation as linear in tetrahedra: a cube falls
    apart into five of them in two ways, that is one at each of its eight corners (the eight determinants of forward and
    backward differences) and two in its middle. The fraction is the mean over both ways of the volumes, after the
    displacement, of those that come out negative; it can exceed 1.

    Parameters
    ----------
    field : SimpleITK vector image

    Returns
    -------
    float32 array, indexed [i, j, k]
        One entry a cube: one fewer than voxels along each axis. Along an axis of one voxel u counts as constant, and
        there is one cube.
    """
    grid = Grid.of(field)
    displacement_mm = to_array(field).astype(np.float32, copy=False)
    for axis in range(3):
        if grid.size[axis] == 1:
            displacement_mm = np.repeat(displacement_mm, 2, axis=axis)
    # Components first, and a few slices at a time: what one tetrahedron after the other needs then stays in the cache.
    slices = max(1, CACHED_VOXELS // (displacement_mm.shape[0] * displacement_mm.shape[1]))
    last = displacement_mm.shape[2] - 1
    return np.concatenate(
        [
            _inverted(
                np.ascontiguousarray(np.moveaxis(displacement_mm[:, :, k : k + slices + 1], -1, 0)), grid.steps_mm
            )
            for k in range(0, last, slices)
        ],
        axis=2,
    )


def inverse_error_mm(field: sitk.Image, reverse: sitk.Image) -> np.ndarray:
    """Return ‖u(x) + v(x + u(x))‖ at each voxel x of the fixed image: how far from x the way back ends.

    Parameters
    ----------
    field, reverse : SimpleITK vector image
        u, fixed → moving, on the fixed image's grid; v, moving → fixed, on the moving image's grid.

    Returns
    -------
    array, shape of the fixed grid, [i, j, k]
        In mm; NaN where x + u(x) lies outside of the grid of v.
    """
    back = sitk.Resample(reverse, field, as_transform(field), sitk.sitkLinear, float("nan"), sitk.sitkVectorFloat32)
    return np.linalg.norm(to_array(field) + to_array(back), axis=-1)


def _inverted(displacement_mm: np.ndarray, steps_mm: np.ndarray) -> np.ndarray:
    """Return :func:`non_diffeomorphic_volume` for an array of displacements, shape (3, i, j, k)."""
    volume_mm3 = np.linalg.det(steps_mm)
    # The axes of a mirrored grid are left-handed: there the volume of a cube as it was is negative.
    handedness = np.float32(np.sign(volume_mm3))
    steps_mm = steps_mm.astype(np.float32)
    low, high, whole = slice(None, -1), slice(1, None), slice(None)
    # The edges of the moved cubes along each axis, shape (3, i, j, k) with one fewer along that axis.
    edges = [np.diff(displacement_mm, axis=1 + axis) + steps_mm[:, axis].reshape(3, 1, 1, 1) for axis in range(3)]
    inverted = np.zeros([length - 1 for length in displacement_mm.shape[1:]], np.float32)
    for corner in np.ndindex(2, 2, 2):
        sides = [high if at else low for at in corner]
        i, j, k = (
            edge[(whole, *(whole if other == axis else sides[other] for other in range(3)))]
            for axis, edge in enumerate(edges)
        )
        # Six times a tetrahedron's volume. The edges run along the axes, also those that end at the corner.
        inverted += np.maximum(-handedness * _triple(i, j, k), 0)
    for parity in (0, 1):
        # The middle one joins the corners of one parity: three diagonals of faces from one of them.
        first, *others = [corner for corner in np.ndindex(2, 2, 2) if sum(corner) % 2 == parity]
        corners = {
            corner: displacement_mm[(whole, *(high if at else low for at in corner))] for corner in (first, *others)
        }
        ways = [np.subtract(other, first) for other in others]
        diagonals = [
            corners[other] - corners[first] + (steps_mm @ way.astype(np.float32)).reshape(3, 1, 1, 1)
            for other, way in zip(others, ways, strict=True)
        ]
        orientation = handedness * np.float32(np.sign(np.linalg.det(ways)))
        inverted += np.maximum(-orientation * _triple(*diagonals), 0)
    return inverted / np.float32(6 * 2 * abs(volume_mm3))


def _triple(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """Return the signed volume spanned by three vectors, components first: a · (b × c)."""
    volume = a[0] * (b[1] * c[2] - b[2] * c[1])
    volume += a[1] * (b[2] * c[0] - b[0] * c[2])
    volume += a[2] * (b[0] * c[1] - b[1] * c[0])
    return volume


def _difference(values: np.ndarray, axis: int) -> np.ndarray:
    """Return the central difference for one step along `axis`, one-sided at its ends; zero if it has one voxel."""
    return np.gradient(values, axis=axis) if values.shape[axis] > 1 else np.zeros_like(values)
