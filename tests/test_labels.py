"""Label maps and their overlap."""

import numpy as np
import pytest
import SimpleITK as sitk

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
    # Not NIfTI: its reader in ITK turns NaN into 0.
    with pytest.raises(UserError, match=r"l\.mha: 1 voxels are not labels"):
        labels.read(save(values, tmp_path / "l.mha"))


def test_labels_of_another_grid_are_refused(tmp_path):
    path = save(np.zeros(GRID.size, np.uint8), tmp_path / "l.nii.gz")
    with pytest.raises(UserError, match="do not lie on their image's grid: the corners"):
        labels.read(path, Grid(GRID.size, GRID.spacing_mm, (0.0, 0.0, -1199.0)))


def test_dice_by_hand():
    fixed = np.array([0, 1, 1, 1, 2, 2, 0, 5])
    moved = np.array([0, 1, 1, 0, 2, 1, 0, 9])
    # 1: 2·2/(3+3); 2: 2·1/(2+1); 5 and 9 stand in one map only.
    assert labels.dice(fixed, moved) == pytest.approx({1: 2 / 3, 2: 2 / 3, 5: 0, 9: 0})
    assert labels.dice(np.zeros(4, int), np.zeros(4, int)) == {}
    with pytest.raises(ValueError, match="shapes"):
        labels.dice(fixed, moved[:4])


def test_dice_agrees_with_simpleitk():
    random = np.random.default_rng(2)
    fixed, moved = random.integers(0, 6, size=(2, 12, 11, 10))
    ours = labels.dice(fixed, moved)
    measure = sitk.LabelOverlapMeasuresImageFilter()
    measure.Execute(sitk.GetImageFromArray(fixed.astype(np.uint8)), sitk.GetImageFromArray(moved.astype(np.uint8)))
    assert ours == pytest.approx({label: measure.GetDiceCoefficient(label) for label in range(1, 6)})
