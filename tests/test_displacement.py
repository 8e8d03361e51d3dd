"""The contract of all methods, against fields that are known exactly and against an independent reader."""

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from nitransforms.io.itk import ITKDisplacementsField
from nitransforms.nonlinear import DenseFieldTransform
from scipy.spatial.transform import Rotation

from cohortmorph import UserError
from cohortmorph.spatial import displacement, geometry
from cohortmorph.spatial.geometry import Grid

OBLIQUE = Rotation.from_euler("xyz", [20, -35, 50], degrees=True).as_matrix()
GRIDS = {
    "LPS": Grid((20, 18, 16), (2.0, 2.0, 2.0), (-20.0, -15.0, -10.0)),
    "RAS": Grid((20, 18, 16), (2.0, 1.5, 2.5), (20.0, 15.0, -10.0), (-1, 0, 0, 0, -1, 0, 0, 0, 1)),
    "oblique": Grid((20, 18, 16), (1.8, 2.0, 2.5), (-10.0, -20.0, 5.0), tuple(OBLIQUE.ravel())),
    "thick slices": Grid((30, 28, 8), (0.8, 0.8, 5.0), (-12.0, -11.0, -20.0)),
    "axes permuted": Grid((20, 18, 16), (1.5, 2.0, 2.5), (-15.0, -15.0, -15.0), (0, 0, 1, 1, 0, 0, 0, 1, 0)),
    "mirrored": Grid((20, 18, 16), (2.0, 1.5, 2.5), (20.0, -15.0, -10.0), (-1, 0, 0, 0, 1, 0, 0, 0, 1)),
}
SHEAR = np.array([[1.05, 0.10, -0.03], [0.02, 0.92, 0.07], [-0.04, 0.06, 1.10]])


@pytest.fixture(params=GRIDS.values(), ids=GRIDS.keys())
def grid(request):
    return request.param


def smooth_mm(points_lps_mm):
    """A smooth displacement, LPS mm, with another formula for each component."""
    x, y, z = np.moveaxis(points_lps_mm, -1, 0)
    return np.stack(
        [4 * np.sin(y / 25) + 5 * np.sin(x / 20), 3 * np.cos(z / 30) - 2, 5 * np.sin((x + y) / 40)], axis=-1
    )


def smooth_determinant(points_lps_mm):
    """The exact determinant of I + ∇u of :func:`smooth_mm`."""
    x, y, z = np.moveaxis(points_lps_mm, -1, 0)
    jacobian = np.zeros((*x.shape, 3, 3)) + np.eye(3)
    jacobian[..., 0, 0] += 5 / 20 * np.cos(x / 20)
    jacobian[..., 0, 1] = 4 / 25 * np.cos(y / 25)
    jacobian[..., 1, 2] = -3 / 30 * np.sin(z / 30)
    jacobian[..., 2, 0] = jacobian[..., 2, 1] = 5 / 40 * np.cos((x + y) / 40)
    return np.linalg.det(jacobian)


def smooth_field(grid):
    return geometry.to_image(smooth_mm(grid.points_mm()).astype(np.float32), grid)


def some_voxels(grid, n=25):
    return np.random.default_rng(3).integers(0, grid.size, size=(n, 3))


def test_landmarks_arrive_where_the_formula_says_after_the_file(grid, tmp_path):
    displacement.write(smooth_field(grid), tmp_path / "displacement.nii.gz")
    field = displacement.read(tmp_path / "displacement.nii.gz", grid)
    fixed_mm = grid.to_world(some_voxels(grid))
    tre_mm = np.linalg.norm(displacement.move_points(fixed_mm, field) - (fixed_mm + smooth_mm(fixed_mm)), axis=1)
    assert tre_mm.max() < 1e-3


def test_the_file_is_5d_float32_with_the_vector_intent_and_lps_components(grid, tmp_path):
    displacement.write(smooth_field(grid), tmp_path / "displacement.nii.gz")
    image = nib.load(tmp_path / "displacement.nii.gz")
    assert image.shape == (*grid.size, 1, 3)
    assert image.header.get_data_dtype() == np.float32
    assert int(image.header["intent_code"]) == 1007
    index = (4, 5, 6)
    np.testing.assert_allclose(image.dataobj[(*index, 0)], smooth_mm(grid.to_world(index)), atol=1e-5)


def test_nitransforms_reads_the_same_points_in_ras(grid, tmp_path):
    displacement.write(smooth_field(grid), tmp_path / "displacement.nii.gz")
    field = ITKDisplacementsField.from_image(nib.load(tmp_path / "displacement.nii.gz"))
    fixed_mm, flip = grid.to_world(some_voxels(grid)), np.array([-1, -1, 1])
    theirs = DenseFieldTransform(field).map(fixed_mm * flip) * flip
    ours = displacement.move_points(fixed_mm, displacement.read(tmp_path / "displacement.nii.gz"))
    np.testing.assert_allclose(ours, theirs, atol=1e-3)


def test_the_warped_image_shows_the_moving_image_at_the_moved_point(grid):
    # A moving image linear in world coordinates: linear interpolation is exact, whatever its grid.
    moving_grid = Grid((60, 55, 50), (2.5, 2.5, 3.0), tuple(grid.centre_mm - 72), (1, 0, 0, 0, 1, 0, 0, 0, 1))
    slope = np.array([1.0, -2.0, 0.5])
    moving = geometry.to_image((moving_grid.points_mm() @ slope).astype(np.float32), moving_grid)
    points_mm = grid.points_mm()
    expected = (points_mm + smooth_mm(points_mm)) @ slope
    moved = displacement.warp(moving, smooth_field(grid), outside=np.nan)
    assert grid.difference_from(Grid.of(moved)) is None
    np.testing.assert_allclose(geometry.to_array(moved), expected, atol=1e-3)


def test_labels_stay_labels_and_what_is_not_covered_is_told_apart():
    grid = GRIDS["LPS"]
    labels = np.zeros(grid.size, np.int32)
    labels[5:10, 5:10, 5:10] = 70000
    shift = geometry.to_image(np.full((*grid.size, 3), [4.0, 0, 0], np.float32), grid)
    moved = geometry.to_array(displacement.warp_labels(geometry.to_image(labels, grid), shift))
    np.testing.assert_array_equal(moved[:-2], labels[2:])
    assert (moved[-2:] == 0).all()
    image = displacement.warp(geometry.to_image(labels.astype(np.float32), grid), shift, outside=-1000)
    assert (geometry.to_array(image)[-2:] == -1000).all() and (geometry.to_array(image)[:-2] >= 0).all()


def test_voxels_become_millimetres_by_the_world_formula(grid):
    voxels = np.random.default_rng(5).normal(size=(*grid.size, 3))
    field = geometry.to_array(displacement.from_voxels(voxels, grid))
    index = np.array([3, 4, 5])
    expected_mm = grid.to_world(index + voxels[3, 4, 5]) - grid.to_world(index)
    np.testing.assert_allclose(field[3, 4, 5], expected_mm, atol=1e-5)


def test_voxels_in_nibabel_axes_give_the_same(grid, tmp_path):
    geometry.write_image(geometry.to_image(np.zeros(grid.size, np.float32), grid), tmp_path / "fixed.nii.gz")
    affine = nib.load(tmp_path / "fixed.nii.gz").affine
    voxels = np.random.default_rng(5).normal(size=(*grid.size, 3))
    np.testing.assert_allclose(
        geometry.to_array(displacement.from_voxels(voxels, grid)),
        (voxels @ affine[:3, :3].T) * [-1, -1, 1],
        atol=1e-4,
    )


def test_a_composite_is_sampled_last_transform_first(grid):
    affine = geometry.affine(SHEAR, [3, -2, 1])
    rotation = geometry.affine(Rotation.from_euler("z", 10, degrees=True).as_matrix(), [0, 5, 0])
    field = geometry.to_array(displacement.sample(sitk.CompositeTransform([affine, rotation]), grid))
    point = grid.to_world((3, 4, 5))
    expected = affine.TransformPoint(rotation.TransformPoint(tuple(point)))
    np.testing.assert_allclose(point + field[3, 4, 5], expected, atol=1e-4)
    chained = displacement.sample(geometry.chain(rotation, affine), grid)
    np.testing.assert_allclose(field, geometry.to_array(chained), atol=1e-4)


def test_sampling_a_displacement_on_its_own_grid_gives_it_back(grid):
    field = smooth_field(grid)
    again = displacement.sample(displacement.as_transform(field), grid)
    np.testing.assert_allclose(geometry.to_array(again), geometry.to_array(field), atol=1e-4)
    assert displacement.as_transform(field) and field.GetSize() == grid.size


def test_points_outside_are_nan_not_left_where_they_are(grid):
    points = grid.to_world([[0, 0, 0], [-1, 3, 3], [2, 2, 2], [2, 2, grid.size[2]]])
    moved = displacement.move_points(points, smooth_field(grid))
    np.testing.assert_array_equal(np.isnan(moved).all(axis=1), [False, True, False, True])
    assert displacement.move_points(np.empty((0, 3)), smooth_field(grid)).shape == (0, 3)


def test_the_jacobian_of_a_shear_is_its_determinant_everywhere(grid):
    field = displacement.sample(geometry.affine(SHEAR, [1, 2, 3]), grid)
    np.testing.assert_allclose(displacement.jacobian_determinant(field), np.linalg.det(SHEAR), atol=2e-5)


def test_the_jacobian_of_a_mirrored_world_is_negative(grid):
    field = displacement.sample(geometry.affine(np.diag([-1, 1, 1]), [0, 0, 0]), grid)
    np.testing.assert_allclose(displacement.jacobian_determinant(field), -1, atol=2e-5)


def test_the_jacobian_of_a_smooth_field_is_the_analytic_one(grid):
    found = displacement.jacobian_determinant(smooth_field(grid))[1:-1, 1:-1, 1:-1]
    exact = smooth_determinant(grid.points_mm())[1:-1, 1:-1, 1:-1]
    # Central differences leave h²/6 of the third derivative.
    np.testing.assert_allclose(found, exact, atol=3e-3)
    assert np.ptp(exact) > 0.03


def test_the_jacobian_agrees_with_simpleitk_on_vectors_turned_into_the_voxel_axes(grid):
    turned = geometry.to_array(smooth_field(grid)).astype(float) @ grid.axes
    upright = geometry.to_image(turned, Grid(grid.size, grid.spacing_mm, (0, 0, 0)))
    theirs = geometry.to_array(sitk.DisplacementFieldJacobianDeterminant(upright))
    ours = displacement.jacobian_determinant(smooth_field(grid))
    np.testing.assert_allclose(ours[1:-1, 1:-1, 1:-1], theirs[1:-1, 1:-1, 1:-1], atol=1e-5)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_the_jacobian_of_one_slice_is_that_in_the_plane(axis):
    size = tuple(1 if n == axis else 12 for n in range(3))
    grid = Grid(size, (0.8, 0.9, 5.0), (1, 2, 3), tuple(OBLIQUE.ravel()))
    stretch = np.full(3, 1.2)
    stretch[axis] = 1
    voxels = np.stack(np.meshgrid(*map(np.arange, size), indexing="ij"), axis=-1) * (stretch - 1)
    determinant = displacement.jacobian_determinant(displacement.from_voxels(voxels, grid))
    assert determinant.shape == size
    np.testing.assert_allclose(determinant, 1.44, atol=1e-4)


def test_writing_refuses_what_is_no_displacement(tmp_path):
    grid = GRIDS["LPS"]
    values = smooth_mm(grid.points_mm())
    values[3, 3, 3, 1] = np.nan
    with pytest.raises(ValueError, match="not finite"):
        displacement.write(geometry.to_image(values, grid), tmp_path / "a.nii.gz")
    with pytest.raises(ValueError, match="three components"):
        displacement.write(geometry.to_image(values[..., 0], grid), tmp_path / "a.nii.gz")
    assert not (tmp_path / "a.nii.gz").exists()


def test_reading_refuses_another_grid_and_4d_files(tmp_path):
    grid = GRIDS["oblique"]
    displacement.write(smooth_field(grid), tmp_path / "a.nii.gz")
    with pytest.raises(UserError, match="not on the fixed image's grid"):
        displacement.read(tmp_path / "a.nii.gz", GRIDS["LPS"])
    nib.save(nib.Nifti1Image(np.zeros((*grid.size, 3), np.float32), np.eye(4)), tmp_path / "4d.nii.gz")
    with pytest.raises(UserError, match="intent 1007"):
        displacement.read(tmp_path / "4d.nii.gz")


def test_where_a_registration_failed_only_who_asks_gets_past(tmp_path):
    grid = GRIDS["oblique"]
    displacement.write_failed(grid, tmp_path / "failed.nii.gz")
    assert displacement.read_unless_failed(tmp_path / "failed.nii.gz", grid) is None
    assert grid.difference_from(geometry.read_grid(tmp_path / "failed.nii.gz")) is None
    with pytest.raises(UserError, match="this registration failed"):
        displacement.read(tmp_path / "failed.nii.gz", grid)
    with pytest.raises(UserError, match="not on the fixed image's grid"):
        displacement.read_unless_failed(tmp_path / "failed.nii.gz", GRIDS["LPS"])
    displacement.write(smooth_field(grid), tmp_path / "good.nii.gz")
    assert displacement.read_unless_failed(tmp_path / "good.nii.gz", grid) is not None


def test_where_a_registration_failed_no_reader_sees_anything_plausible(tmp_path):
    """ITK would read NaN as 0, that is as the identity; this it reads as it is."""
    grid = GRIDS["oblique"]
    displacement.write_failed(grid, tmp_path / "failed.nii.gz")
    assert np.abs(sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "failed.nii.gz")))).min() > 1e8
    assert np.abs(nib.load(tmp_path / "failed.nii.gz").get_fdata()).min() > 1e8


def inverted_by_points(field):
    """The non-diffeomorphic volume by another way: vertices of tetrahedra in mm, cube by cube, in plain Python."""
    grid = Grid.of(field)
    moved_mm = grid.points_mm() + geometry.to_array(field).astype(float)
    # Both ways to cut a cube: a corner with its three neighbours, four times, and the middle one of what is left.
    cuts = []
    for parity in (0, 1):
        own = [corner for corner in np.ndindex(2, 2, 2) if sum(corner) % 2 == parity]
        others = [corner for corner in np.ndindex(2, 2, 2) if sum(corner) % 2 != parity]
        near = [[o for o in others if np.abs(np.subtract(o, corner)).sum() == 1] for corner in own]
        cuts += [[corner, *three] for corner, three in zip(own, near, strict=True)] + [others]

    def volume(points):
        return np.linalg.det(np.asarray(points[1:], dtype=float) - points[0]) / 6

    found = np.zeros(np.array(grid.size) - 1)
    for cube in np.ndindex(*found.shape):
        for cut in cuts:
            before = volume([grid.to_world(np.add(cube, corner)) for corner in cut])
            after = volume([moved_mm[tuple(np.add(cube, corner))] for corner in cut])
            found[cube] += max(-after * np.sign(before), 0)
    return found / 2 / np.prod(grid.spacing_mm)


@pytest.mark.parametrize("name", GRIDS)
def test_the_non_diffeomorphic_volume_is_that_of_tetrahedra_turned_inside_out(name, monkeypatch):
    whole = GRIDS[name]
    grid = Grid((5, 4, 6), whole.spacing_mm, whole.origin_mm, whole.direction)
    field = displacement.from_voxels(np.random.default_rng(7).normal(scale=0.7, size=(*grid.size, 3)), grid)
    found = displacement.non_diffeomorphic_volume(field)
    np.testing.assert_allclose(found, inverted_by_points(field), atol=1e-5)
    assert 0.01 < found.mean() < 1
    monkeypatch.setattr(displacement, "CACHED_VOXELS", 1)
    np.testing.assert_array_equal(displacement.non_diffeomorphic_volume(field), found)


def test_a_checkerboard_is_seen_by_the_non_diffeomorphic_volume_alone(grid):
    voxels = np.zeros((*grid.size, 3))
    # At +1 and -1 voxel in turns: half of the corner tetrahedra have determinant 1 - 2, each a sixth of the cube.
    voxels[..., 0] = 1 - 2 * (np.indices(grid.size).sum(axis=0) % 2)
    field = displacement.from_voxels(voxels, grid)
    np.testing.assert_allclose(displacement.jacobian_determinant(field)[1:-1], 1, atol=1e-5)
    np.testing.assert_allclose(displacement.non_diffeomorphic_volume(field), 2 / 6, atol=1e-5)


def test_nothing_folds_in_a_smooth_field_and_all_in_a_mirrored_world(grid):
    np.testing.assert_array_equal(displacement.non_diffeomorphic_volume(smooth_field(grid)), 0)
    mirrored = displacement.sample(geometry.affine(np.diag([-2, 1, 1]), [0, 0, 0]), grid)
    found = displacement.non_diffeomorphic_volume(mirrored)
    assert found.shape == tuple(n - 1 for n in grid.size)
    np.testing.assert_allclose(found, 2, atol=1e-4)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_the_non_diffeomorphic_volume_of_one_slice_is_that_in_the_plane(axis):
    size = tuple(1 if n == axis else 12 for n in range(3))
    grid = Grid(size, (0.8, 0.9, 5.0), (1, 2, 3), tuple(OBLIQUE.ravel()))
    along = (axis + 1) % 3
    voxels = np.zeros((*size, 3))
    voxels[..., along] = np.where(np.indices(size)[along] >= 6, -1.5, 0)
    found = displacement.non_diffeomorphic_volume(displacement.from_voxels(voxels, grid))
    assert found.shape == tuple(max(n - 1, 1) for n in size)
    # Between 5 and 6 space is stretched by 1 - 1.5.
    expected = np.where(np.indices(found.shape)[along] == 5, 0.5, 0)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_the_way_there_and_back_by_points(grid):
    reverse_grid = Grid((24, 22, 20), (3.0, 3.0, 3.5), tuple(grid.centre_mm - 32), tuple(OBLIQUE.T.ravel()))
    back_mm = -smooth_mm(reverse_grid.points_mm()) + [0.5, 0, 0]
    reverse = geometry.to_image(back_mm.astype(np.float32), reverse_grid)
    found = displacement.inverse_error_mm(smooth_field(grid), reverse)
    fixed_mm = grid.points_mm().reshape(-1, 3)
    there_mm = displacement.move_points(fixed_mm, smooth_field(grid))
    expected = np.linalg.norm(displacement.move_points(there_mm, reverse) - fixed_mm, axis=1).reshape(grid.size)
    inside = np.isfinite(expected)
    np.testing.assert_allclose(found[inside], expected[inside], atol=1e-3)
    # Up to half a voxel beyond its last centre the reverse field has a value for SimpleITK.
    index = reverse_grid.to_indices(there_mm).reshape(*grid.size, 3)
    np.testing.assert_array_equal(
        np.isfinite(found), ((index >= -0.5) & (index <= np.array(reverse_grid.size) - 0.5)).all(axis=-1)
    )
    assert inside.any() and found[inside].max() > 0.4


def test_an_affine_and_its_inverse_are_consistent_and_far_away_is_nan(grid):
    there = geometry.affine(SHEAR, [1, 2, 3])
    reverse_grid = Grid((60, 60, 60), (3.0, 3.0, 3.0), tuple(grid.centre_mm - 88))
    back = displacement.sample(there.GetInverse(), reverse_grid)
    assert displacement.inverse_error_mm(displacement.sample(there, grid), back).max() < 1e-3
    away = displacement.sample(geometry.affine(np.eye(3), [1000, 0, 0]), grid)
    assert np.isnan(displacement.inverse_error_mm(away, back)).all()


def test_the_frame_of_the_grid_changes_neither_determinants_nor_inverted_volumes():
    voxels = np.random.default_rng(11).normal(scale=0.4, size=(8, 7, 6, 3))
    found = []
    for frame in GRIDS.values():
        grid = Grid((8, 7, 6), frame.spacing_mm, frame.origin_mm, frame.direction)
        field = displacement.from_voxels(voxels, grid)
        found.append((displacement.jacobian_determinant(field), displacement.non_diffeomorphic_volume(field)))
    for determinant, inverted in found[1:]:
        np.testing.assert_allclose(determinant, found[0][0], atol=1e-4)
        np.testing.assert_allclose(inverted, found[0][1], atol=1e-4)
    assert found[0][0].min() < 0 and found[0][1].max() > 0.1


# ---- beyond the grid


def test_beyond_its_grid_a_displacement_fades_without_folding(grid):
    """Inside nothing changes; around it, on a larger, turned grid, 12 mm fold only where they end suddenly."""
    points_mm = grid.points_mm()
    to_middle = points_mm - grid.centre_mm
    field = geometry.to_image((12 * to_middle / np.linalg.norm(to_middle, axis=-1).max()).astype(np.float32), grid)
    turned = Rotation.from_euler("z", 10, degrees=True).as_matrix() @ grid.axes
    size, spacing_mm = np.array([45, 45, 45]), np.array([2.5, 2.0, 3.0])
    origin_mm = grid.centre_mm - turned @ (spacing_mm * (size - 1) / 2)
    around = Grid(tuple(size.tolist()), tuple(spacing_mm), tuple(origin_mm), tuple(turned.ravel()))
    faded = displacement.fading(field, around.to_world(np.array(list(np.ndindex(2, 2, 2))) * (size - 1)))
    inside = displacement.sample(displacement.as_transform(faded), grid)
    np.testing.assert_allclose(geometry.to_array(inside), geometry.to_array(field), atol=1e-4)
    wide = displacement.sample(displacement.as_transform(faded), around)
    assert displacement.non_diffeomorphic_volume(wide).max() == 0
    sudden = displacement.sample(displacement.as_transform(field), around)
    assert displacement.non_diffeomorphic_volume(sudden).mean() > 0.001
    far = grid.to_indices(around.points_mm()) * np.array(grid.spacing_mm)
    far = (far < -displacement.FADE_MM - 3).any(axis=-1)
    assert far.any() and np.abs(geometry.to_array(wide)[far]).max() < 1e-3


def test_nothing_is_added_where_nothing_is_asked_for(grid):
    assert Grid.of(displacement.fading(smooth_field(grid), grid.points_mm().reshape(-1, 3))).size == grid.size
