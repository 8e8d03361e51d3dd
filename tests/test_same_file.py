"""One file under two subjects is found however it is spelled, and what may stand under two is left alone."""

import os
import shutil
from pathlib import Path

import pytest

from cohortmorph.cohort import on_disk, same_file
from cohortmorph.cohort.on_disk import OnDisk
from cohortmorph.cohort.pairs import Image
from cohortmorph.cohort.problems import Problems
from cohortmorph.cohort.table import CohortTable


def said(folder, first, second, column="source", look=True):
    """Return what is said of two subjects with these cells, typed from the folder; the rest of their rows is empty."""
    typed = {f"{subject}-A": Image(subject, "A", **{column: cell}) for subject, cell in (("P1", first), ("P2", second))}
    problems = Problems({}, [])
    table = CohortTable("cohort.tsv", dict(typed), {"P1-A": 2, "P2-A": 3}, 1, True, problems)
    for image in typed.values():
        cell = getattr(image, column)
        made_here = cell.startswith("results/")
        table.change(image, **{column: cell if made_here else str(Path(folder, cell))})
    same_file.check_same_files(table, typed, OnDisk() if look else None)
    return [str(problem) for problem in sorted(problems.found)]


@pytest.fixture
def data(tmp_path):
    """Image files, and folders with slices."""
    (tmp_path / "a.nii.gz").write_bytes(b"a")
    (tmp_path / "b.nii.gz").write_bytes(b"a")
    for folder in ("ct/S1", "mr/S1"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "IM1").write_bytes(b"slice")
    (tmp_path / "link.nii.gz").symlink_to("a.nii.gz")
    (tmp_path / "again.nii.gz").symlink_to("link.nii.gz")
    (tmp_path / "linked").symlink_to("ct")
    (tmp_path / "upper").symlink_to(tmp_path)
    os.link(tmp_path / "a.nii.gz", tmp_path / "hard.nii.gz")
    return tmp_path


FILE = ["a.nii.gz", "./a.nii.gz", "ct/../a.nii.gz", "link.nii.gz", "again.nii.gz", "hard.nii.gz", "upper/a.nii.gz"]
FOLDER = ["ct", "ct/", "./ct", "mr/../ct", "linked", "upper/linked", "upper/upper/ct"]


@pytest.mark.parametrize("column", ["source", "labels", "landmarks"])
@pytest.mark.parametrize("other", [*FILE, "absolute"])
def test_a_file_of_two_subjects_is_found(data, column, other):
    other = str(data / "a.nii.gz") if other == "absolute" else other
    (line,) = said(data, "a.nii.gz", other, column)
    assert line.startswith(f"cohort.tsv line 3, subject P2, column {column}: found {other!r}, ")
    assert line.endswith("line 2 gives to subject P1") and (other == "a.nii.gz" or "as 'a.nii.gz'" in line)


@pytest.mark.parametrize("other", FOLDER)
def test_a_folder_of_two_subjects_is_found(data, other):
    assert len(said(data, "ct", other)) == len(said(data, other, "ct")) == 1


@pytest.mark.parametrize(("first", "second"), [("ct", "ct/S1"), ("ct/S1", "ct"), (".", "mr/S1"), ("linked", "ct/S1")])
def test_a_folder_within_another_subject_s_is_found(data, first, second):
    (line,) = said(data, first, second)
    assert "a folder within" in line


def test_slices_that_are_hard_links_are_found(data):
    shutil.copytree(data / "ct", data / "renamed", copy_function=os.link)
    (line,) = said(data, "ct", "renamed")
    assert "found 'renamed', which shares files" in line and "with 'ct', which line 2 gives to subject P1" in line


def test_headers_of_the_same_voxels_are_found(data):
    for name in "cd":
        (data / f"{name}.mhd").write_text("ElementDataFile = voxels.raw\n")
    (data / "voxels.raw").write_bytes(b"voxels")
    assert len(said(data, "c.mhd", "d.mhd")) == 1


def test_letters_that_a_file_system_does_not_tell_apart_are_found(data, monkeypatch):
    """As macOS and Windows see it: another name, the same number of a file."""
    real = on_disk.look
    monkeypatch.setattr(on_disk, "look", lambda path: real(path.replace("A.NII.GZ", "a.nii.gz")))
    assert len(said(data, "a.nii.gz", "A.NII.GZ")) == 1


@pytest.mark.parametrize(
    ("first", "second"), [("a.nii.gz", "b.nii.gz"), ("ct", "mr"), ("ct", "a.nii.gz"), ("no", "none")]
)
def test_different_files_are_left_alone(data, first, second):
    """Equal content is found by check_cohort, which reads; what does not exist is told elsewhere."""
    assert said(data, first, second) == []


@pytest.mark.parametrize("column", ["mask", "fiducials"])
def test_masks_and_fiducials_may_be_shared(data, column):
    assert said(data, "a.nii.gz", "a.nii.gz", column) == []


def test_a_phantom_s_folder_is_found_by_its_whole_path_as_well(data, monkeypatch):
    monkeypatch.chdir(data)
    Path("results/phantom/P1/CT").mkdir(parents=True)
    made = "results/phantom/P1/CT"
    assert len(said(data, made, made)) == len(said(data, made, str(data / made))) == 1
    assert said(data, made, "results/phantom/P2/CT") == []


def test_a_job_elsewhere_compares_what_is_typed(data):
    assert len(said(data, "a.nii.gz", "./a.nii.gz", look=False)) == 1
    assert said(data, "a.nii.gz", "link.nii.gz", look=False) == []
