"""Grids and affine transforms, against SimpleITK's and nibabel's own arithmetic."""

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from cohortmorph import UserError
from cohortmorph.spatial import geometry
from cohortmorph.spatial.geometry import Grid

OBLIQUE = Rotation.from_euler("xyz", [20, -35, 50], degrees=True).as_matrix()
GRIDS = {
    "LPS": Grid((9, 8, 7), (1.0, 1.0, 1.0), (-4.0, 3.0, -1200.0)),
    "RAS": Grid((9, 8, 7), (1.5, 1.0, 2.0), (40.0, 30.0, -20.0), (-1, 0, 0, 0, -1, 0, 0, 0, 1)),
    "oblique": Grid((9, 8, 7), (1.1, 0.9, 2.5), (10.0, -20.0, 30.0), tuple(OBLIQUE.ravel())),
    "thick slices": Grid((9, 8, 7), (0.8, 0.8, 5.0), (-100.0, -90.0, 15.0)),
    "axes permuted": Grid((9, 8, 7), (0.8, 1.2, 3.0), (7.0, 8.0, 9.0), (0, 0, 1, 1, 0, 0, 0, 1, 0)),
    "left-handed": Grid((9, 8, 7), (1.0, 1.3, 2.0), (7.0, 8.0, 9.0), (-1, 0, 0, 0, 1, 0, 0, 0, 1)),
}


@pytest.fixture(params=GRIDS.values(), ids=GRIDS.keys())
def grid(request):
    return request.param


def test_world_and_indices_are_those_of_itk(grid):
    image = geometry.to_image(np.zeros(grid.size), grid)
    indices = np.array([[0, 0, 0], [8, 0, 0], [0, 7, 0], [0, 0, 6], [2.25, 3.5, 4.75]])
    expected = [image.TransformContinuousIndexToPhysicalPoint(tuple(index)) for index in indices]
    np.testing.assert_allclose(grid.to_world(indices), expected, atol=1e-9)
    np.testing.assert_allclose(grid.to_indices(grid.to_world(indices)), indices, atol=1e-9)
    np.testing.assert_allclose(grid.points_mm()[8, 7, 6], grid.to_world([8, 7, 6]))
    np.testing.assert_allclose(grid.centre_mm, grid.points_mm().mean(axis=(0, 1, 2)), atol=1e-9)


def test_a_written_image_has_its_voxels_where_nibabel_finds_them(grid, tmp_path):
    values = np.random.default_rng(1).normal(size=grid.size).astype(np.float32)
    geometry.write_image(geometry.to_image(values, grid), tmp_path / "image.nii.gz")
    image = nib.load(tmp_path / "image.nii.gz")
    np.testing.assert_array_equal(np.asarray(image.dataobj), values)
    index = (3, 5, 2)
    ras_mm = image.affine[:3, :3] @ index + image.affine[:3, 3]
    np.testing.assert_allclose(ras_mm * [-1, -1, 1], grid.to_world(index), atol=2e-4)
    back = geometry.read_image(tmp_path / "image.nii.gz")
    np.testing.assert_array_equal(geometry.to_array(back), values)
    assert grid.difference_from(Grid.of(back)) is None
    assert grid.difference_from(geometry.read_grid(tmp_path / "image.nii.gz")) is None


def test_to_array_outlives_its_image(grid):
    array = geometry.to_array(geometry.to_image(np.full(grid.size, 7.0), grid))
    assert [np.zeros(grid.size) for _ in range(20)] and (array == 7).all()


def test_contains_goes_from_the_first_to_the_last_voxel_centre(grid):
    inside = grid.to_world([[0, 0, 0], [8, 7, 6], [4, 4, 4]])
    outside = grid.to_world([[-0.01, 0, 0], [8, 7.01, 6], [4, 4, 7]])
    assert grid.contains(inside).all() and not grid.contains(outside).any()


@given(
    size=st.tuples(*[st.integers(1, 12)] * 3),
    new_size=st.tuples(*[st.integers(1, 12)] * 3),
    name=st.sampled_from(sorted(GRIDS)),
)
@settings(max_examples=50, deadline=None)
def test_resized_keeps_positions_and_resizing_back_restores(size, new_size, name):
    base = GRIDS[name]
    grid = Grid(size, base.spacing_mm, base.origin_mm, base.direction)
    new = grid.resized(new_size)
    shift = grid.to_indices(new.to_world([0, 0, 0]))
    np.testing.assert_allclose(shift, np.round(shift), atol=1e-6)
    assert np.abs(grid.to_indices(new.centre_mm) - grid.to_indices(grid.centre_mm)).max() <= 0.5 + 1e-6
    if all(n >= o for n, o in zip(new_size, size, strict=True)):
        assert new.contains(grid.points_mm()).all()


def test_respaced_keeps_the_middle_and_covers_the_voxels(grid):
    new = grid.respaced([1.0, 2.0, 0.7])
    assert new.spacing_mm == (1.0, 2.0, 0.7)
    np.testing.assert_allclose(new.centre_mm, grid.centre_mm, atol=1e-9)
    assert new.direction == grid.direction
    extent_mm, new_extent_mm = (np.array(g.size) * g.spacing_mm for g in (grid, new))
    assert (new_extent_mm >= extent_mm - 1e-6).all() and (new_extent_mm < extent_mm + new.spacing_mm).all()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"size": (9, 8, 6)}, "size"),
        ({"origin_mm": (-4.0, 3.0, -1199.9)}, "0.100 mm"),
        ({"spacing_mm": (1.0, 1.01, 1.0)}, "0.070 mm"),
        ({"direction": (1, 0, 0, 0, -1, 0, 0, 0, 1)}, "14.000 mm"),
        ({"direction": (1, 0, 0, 0, 1, 0, 0, 0, -1)}, "12.000 mm"),
        ({"origin_mm": (-4.0, 3.0, -1200.001)}, None),
    ],
)
def test_difference_from_tells_what_differs(change, said):
    grid = GRIDS["LPS"]
    other = Grid(**({name: getattr(grid, name) for name in ("size", "spacing_mm", "origin_mm", "direction")} | change))
    difference = grid.difference_from(other)
    assert difference is None if said is None else said in difference


def test_read_image_refuses_what_is_no_volume(tmp_path):
    (tmp_path / "text.nii.gz").write_text("no image")
    with pytest.raises(UserError, match=r"text\.nii\.gz: not readable"):
        geometry.read_image(tmp_path / "text.nii.gz")
    nib.save(nib.Nifti1Image(np.zeros((4, 4, 4, 3), np.float32), np.eye(4)), tmp_path / "series.nii.gz")
    with pytest.raises(UserError, match="4 dimensions"):
        geometry.read_image(tmp_path / "series.nii.gz")


def test_chain_follows_the_point():
    first = geometry.affine(Rotation.from_euler("z", 30, degrees=True).as_matrix(), [10, 0, 0])
    second = geometry.affine(np.diag([2, 1, 0.5]), [0, -5, 3])
    point = (3.0, -4.0, 100.0)
    expected = second.TransformPoint(first.TransformPoint(point))
    np.testing.assert_allclose(geometry.chain(first, second).TransformPoint(point), expected, atol=1e-9)
    reversed_order = geometry.chain(second, first).TransformPoint(point)
    assert np.linalg.norm(np.subtract(reversed_order, expected)) > 1
    np.testing.assert_allclose(geometry.chain().TransformPoint(point), point)


def test_an_affine_survives_its_file_with_its_centre(tmp_path):
    transform = sitk.AffineTransform(3)
    transform.SetMatrix([1.1, 0.1, 0, -0.05, 0.9, 0.2, 0, 0, 1.3])
    transform.SetTranslation((5, -3, 40))
    transform.SetCenter((12, -150, -1300))
    geometry.write_transform(transform, tmp_path / "affine.tfm")
    back = geometry.read_affine(tmp_path / "affine.tfm")
    for point in [(0.0, 0.0, 0.0), (100.0, -50.0, -1200.0)]:
        np.testing.assert_allclose(back.TransformPoint(point), transform.TransformPoint(point), atol=1e-8)


def test_a_deformation_is_not_taken_for_an_affine():
    field = geometry.to_image(
        np.random.default_rng(0).normal(size=(200, 5, 60, 3)), Grid((200, 5, 60), (1, 40, 1), (0, -100, 0))
    )
    with pytest.raises(ValueError, match="not affine"):
        geometry.matrix_and_offset(sitk.DisplacementFieldTransform(field))
