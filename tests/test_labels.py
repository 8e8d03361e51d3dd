"""Label maps and their overlap."""

import gzip
import itertools

import nibabel as nib
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from cohortmorph import UserError
from cohortmorph.spatial import geometry, labels
from cohortmorph.spatial.geometry import Grid

GRID = Grid((4, 3, 2), (1.0, 1.0, 5.0), (0.0, 0.0, -1200.0))


def save(values, path, grid=GRID):
    geometry.write_image(geometry.to_image(values, grid), path)
    return path


@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.uint16, np.float32])
def test_whole_numbers_of_any_type_are_labels(tmp_path, kind):
    values = np.arange(24).reshape(GRID.size).astype(kind)
    found = geometry.to_array(labels.read(save(values, tmp_path / "l.nii.gz"), GRID))
    assert found.dtype == np.int32
    np.testing.assert_array_equal(found, values)


@pytest.mark.parametrize("wrong", [0.5, -1, np.nan, 1e12])
def test_other_values_are_refused(tmp_path, wrong):
    values = np.zeros(GRID.size, np.float32)
    values[1, 1, 1] = wrong
    with pytest.raises(UserError, match=r"l\.mha: 1 voxels are not labels"):
        labels.read(save(values, tmp_path / "l.mha"))


def test_labels_of_another_grid_are_refused(tmp_path):
    path = save(np.zeros(GRID.size, np.uint8), tmp_path / "l.nii.gz")
    with pytest.raises(UserError, match="do not lie on their image's grid: the corners"):
        labels.read(path, Grid(GRID.size, GRID.spacing_mm, (0.0, 0.0, -1199.0)))


# ---- the same world, written otherwise

OBLIQUE = Grid(
    (4, 3, 2),
    (1.0, 1.5, 5.0),
    (3.0, -7.0, 11.0),
    tuple(Rotation.from_euler("xyz", [20, -35, 50], degrees=True).as_matrix().ravel()),
)


@pytest.mark.parametrize("grid", [GRID, OBLIQUE], ids=["LPS", "oblique"])
@pytest.mark.parametrize("axes", list(itertools.permutations(range(3))))
@pytest.mark.parametrize("signs", list(itertools.product([1, -1], repeat=3)))
def test_axes_reversed_or_exchanged_are_put_in_the_images_order_exactly(grid, axes, signs, tmp_path):
    values = np.arange(24).reshape(grid.size).astype(np.int16)
    turned = np.flip(np.transpose(values, axes), [n for n in range(3) if signs[n] < 0])
    first = np.zeros(3)
    for n, axis in enumerate(axes):
        first[axis] = grid.size[axis] - 1 if signs[n] < 0 else 0
    other = Grid(
        turned.shape,
        tuple(grid.spacing_mm[axis] for axis in axes),
        tuple(grid.to_world(first)),
        tuple((grid.axes[:, axes] * signs).ravel()),
    )
    found = labels.read(save(turned, tmp_path / "l.nii.gz", other), grid)
    np.testing.assert_array_equal(geometry.to_array(found), values)
    in_order = tuple(axes) == (0, 1, 2) and min(signs) > 0
    assert Grid.of(found) == (geometry.read_grid(tmp_path / "l.nii.gz") if in_order else grid)


def test_a_reversed_map_that_lies_elsewhere_is_refused(tmp_path):
    flipped = Grid(GRID.size, GRID.spacing_mm, (3.0, 1.0, -1200.0), (-1, 0, 0, 0, 1, 0, 0, 0, 1))
    with pytest.raises(UserError, match="do not lie on their image's grid"):
        labels.read(save(np.zeros(GRID.size, np.uint8), tmp_path / "l.nii.gz", flipped), GRID)


def test_of_a_map_with_two_places_the_one_on_the_image_is_taken(tmp_path):
    values = np.arange(24).reshape(GRID.size).astype(np.uint8)
    for form in ("sform", "qform"):
        image = nib.load(save(values, tmp_path / "l.nii.gz"))
        elsewhere = image.affine.copy()
        elsewhere[:3, 3] += 20
        getattr(image, "set_sform" if form == "qform" else "set_qform")(elsewhere, 2)
        nib.save(image, tmp_path / f"{form}.nii.gz")
        found = labels.read(tmp_path / f"{form}.nii.gz", GRID)
        np.testing.assert_array_equal(geometry.to_array(found), values)
        with pytest.raises(UserError, match=r"sform and qform put a corner of the image up to 34\.64 mm"):
            labels.read(tmp_path / f"{form}.nii.gz", Grid(GRID.size, GRID.spacing_mm, (500.0, 0.0, 0.0)))


# ---- scale factors


@pytest.mark.parametrize(("kind", "numbers"), [("int16", [0, 3, 6]), ("int16", [0, 1, 1027]), ("uint8", [0, 1, 2])])
def test_labels_that_a_scale_factor_moved_are_taken(kind, numbers, tmp_path):
    values = np.array(numbers * 8, float).reshape(GRID.size)
    image = nib.Nifti1Image(values, np.diag([-1, -1, 5, 1]))
    image.set_data_dtype(kind)
    nib.save(image, tmp_path / "l.nii.gz")
    stored = nib.load(tmp_path / "l.nii.gz").get_fdata()
    assert (stored != values).any() or kind == "uint8"
    np.testing.assert_array_equal(geometry.to_array(labels.read(tmp_path / "l.nii.gz")), values)
    save(stored.astype(np.float32), tmp_path / "again.mha")  # no scale factor any more: 3.00005
    if kind == "int16" and max(numbers) < 10:
        np.testing.assert_array_equal(geometry.to_array(labels.read(tmp_path / "again.mha")), values)


def test_labels_that_a_scale_factor_moved_too_far_are_refused_for_it(tmp_path):
    values = np.linspace(0, 200, 24).round().reshape(GRID.size)
    image = nib.Nifti1Image(values * 1.0, np.diag([-1, -1, 5, 1]))
    image.set_data_dtype("int8")
    image.header.set_slope_inter(0.9, 0.2)
    nib.save(image, tmp_path / "l.nii.gz")
    with pytest.raises(UserError, match=r"scale factor \(scl_slope 0\.9\)"):
        labels.read(tmp_path / "l.nii.gz")
    interpolated = save(np.full(GRID.size, 0.4, np.float32), tmp_path / "l.mha")
    with pytest.raises(UserError, match="linear interpolation"):
        labels.read(interpolated)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_labels_that_are_not_finite_are_refused_in_nifti_as_well(value, tmp_path):
    values = np.zeros(GRID.size, np.float32)
    values[0, 0, 0] = value
    with pytest.raises(UserError, match="1 voxels are not labels"):
        labels.read(save(values, tmp_path / "l.nii.gz"))


def test_labels_that_a_scale_factor_made_too_small_are_not_lost(tmp_path):
    """Whole numbers of a map, and a factor that was meant for other ones: all would be 0, within rounding."""
    values = (np.arange(24).reshape(GRID.size) % 4).astype(np.uint8)
    image = nib.Nifti1Image(values, np.diag([-1, -1, 5, 1]))
    image.header.set_slope_inter(3 / 65535, 0)
    nib.save(image, tmp_path / "l.nii.gz")
    raw = bytearray(gzip.decompress((tmp_path / "l.nii.gz").read_bytes()))
    raw[112:116] = np.float32(3 / 65535).tobytes()
    raw[352:] = values.tobytes(order="F")
    (tmp_path / "l.nii.gz").write_bytes(gzip.compress(bytes(raw)))
    with pytest.raises(UserError, match=r"18 voxels are not labels .* scale factor"):
        labels.read(tmp_path / "l.nii.gz")
    empty = labels.read(save(np.zeros(GRID.size, np.float32), tmp_path / "l.mha"))
    assert not geometry.to_array(empty).any()
