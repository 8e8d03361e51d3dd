"""Label maps and their overlap."""

import numpy as np
import pytest

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
