"""Equal content under two subjects is found under other names, formats and UIDs, and nothing else is."""

import gzip
import shutil

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from pydicom import uid
from test_dicom_volumes import grid_of, write

from cohortmorph.clinic import copies
from cohortmorph.clinic.copies import BYTES, INSTANCE, PIXELS, SERIES, VOXELS

FIRST, SECOND = ("P1", "A", "source"), ("P2", "B", "source")


def what_is_shared(first, second, column="source"):
    """Return in words what is found between two subjects' files."""
    one, other = (*FIRST[:2], column), (*SECOND[:2], column)
    found = copies.find({one: str(first), other: str(second)})
    assert set(found) <= {other}
    if not found:
        return None
    before, after = found[other].split(" in common with subject P1, image A; expected another patient's. ")
    assert str(first.parent) not in found[other] and after
    return before.removeprefix("found ")


def written(path, seed=1, constant=None, dtype=np.int16):
    values = np.random.default_rng(seed).integers(0, 900, (5, 6, 7)).astype(dtype)
    sitk.WriteImage(sitk.GetImageFromArray(values if constant is None else values * 0 + constant), str(path))
    return path


@pytest.mark.parametrize("name", ["b.nii", "b.nii.gz", "b.mha", "b.mhd", "b.nrrd"])
@pytest.mark.parametrize("column", ["source", "labels"])
def test_equal_voxels_are_found_in_every_format(tmp_path, name, column):
    first = written(tmp_path / "a.nii.gz")
    assert what_is_shared(first, written(tmp_path / name), column) == VOXELS
    assert what_is_shared(first, written(tmp_path / name, seed=2), column) is None


def test_a_file_compressed_again_is_found(tmp_path):
    first, second = written(tmp_path / "a.nii"), tmp_path / "b.nii.gz"
    second.write_bytes(gzip.compress(first.read_bytes(), 1))
    assert what_is_shared(first, second) == VOXELS


def test_one_value_everywhere_is_no_copy(tmp_path):
    """Empty label maps on one grid, say."""
    assert what_is_shared(written(tmp_path / "a.nii", constant=0), written(tmp_path / "b.nii", constant=0)) is None


def test_points_and_structures_are_compared_by_their_content(tmp_path):
    for suffix in (".csv", ".dcm"):
        one, same, other = (tmp_path / f"{name}{suffix}" for name in "abc")
        one.write_text("x,y\n1,2\n")
        same.write_bytes(b"x,y\r\n1,2\r\n")
        other.write_text("x,y\n1,3\n")
        assert what_is_shared(one, same, "landmarks") == BYTES
        assert what_is_shared(one, other, "landmarks") is None


def test_masks_fiducials_and_a_subject_s_own_images_may_be_equal(tmp_path):
    one, other = written(tmp_path / "a.nii"), written(tmp_path / "b.nii")
    for column in ("mask", "fiducials"):
        assert what_is_shared(one, other, column) is None
    assert copies.find({FIRST: str(one), ("P1", "B", "source"): str(other)}) == {}


@pytest.fixture
def folder(tmp_path):
    write(tmp_path / "a", 1, grid_of())
    return tmp_path / "a"


def renamed(folder, *keywords):
    """Return a copy with other names of files and other UIDs of these keywords, one level deeper."""
    target = folder.parent / "b" / "S1"
    target.mkdir(parents=True)
    new = {}
    for n, path in enumerate(sorted(folder.iterdir(), reverse=True)):
        dataset = pydicom.dcmread(path)
        for keyword in keywords:
            dataset[keyword].value = new.setdefault(dataset[keyword].value, uid.generate_uid())
        dataset.save_as(target / f"IM{n}")
    return folder.parent / "b"


def test_a_copied_folder_is_found(folder):
    assert what_is_shared(folder, renamed(folder)) == INSTANCE


def test_a_copy_with_new_uids_is_found_by_its_pixels(folder):
    assert what_is_shared(folder, renamed(folder, "SOPInstanceUID", "SeriesInstanceUID")) == PIXELS


def test_a_series_in_two_folders_is_found(folder):
    """Half of its slices here, half there."""
    (folder.parent / "half").mkdir()
    for path in sorted(folder.iterdir())[:3]:
        shutil.move(path, folder.parent / "half")
    assert what_is_shared(folder, folder.parent / "half") == SERIES


def test_other_series_are_no_copies(folder):
    write(folder.parent / "b", 2, grid_of(), SeriesInstanceUID="1.2.3.5")
    assert what_is_shared(folder, folder.parent / "b") is None


def test_what_cannot_be_read_stops_nothing(tmp_path, folder):
    copy = renamed(folder)
    (folder / "IM_notes.txt").write_text("no slice")
    (folder / "IM_empty").write_bytes(b"")
    (tmp_path / "cut.nii.gz").write_bytes(written(tmp_path / "whole.nii.gz").read_bytes()[:200])
    (tmp_path / "empty").mkdir()
    paths = [folder, tmp_path / "cut.nii.gz", tmp_path / "empty", tmp_path / "nothing.csv", copy]
    found = copies.find({(f"P{n}", "A", "source"): str(path) for n, path in enumerate(paths)}, workers=2)
    assert list(found) == [("P4", "A", "source")]
