"""What lies at a user's paths: any change of content shows, wherever it is, and nothing else of it does."""

import os
import shutil
import threading
import time
from pathlib import Path

import pytest
import SimpleITK as sitk

from cohortmorph.cohort import on_disk
from cohortmorph.cohort.on_disk import OnDisk, look

LARGE = on_disk.SMALL_BYTES + 1


def write(path, content, size=LARGE):
    """Write a file of this size, too large to be read."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes((content * size)[:size])


def overwrite(path, content, old):
    """Write other content of the same size into the same file, and put the time of the old one back."""
    with path.open("r+b") as file:
        file.write((content * old.st_size)[: old.st_size])
    while path.stat().st_ctime_ns == old.st_ctime_ns or path.stat().st_mtime_ns != old.st_mtime_ns:
        os.utime(path, ns=(old.st_atime_ns, old.st_mtime_ns))  # a file system's clock may tick every 4 ms only
    new = path.stat()
    assert (new.st_size, new.st_mtime_ns, new.st_ino) == (old.st_size, old.st_mtime_ns, old.st_ino)


@pytest.fixture
def study(tmp_path):
    """A folder with slices in it and in its subfolders."""
    folder = tmp_path / "study"
    for name in ("IM1", "DICOM/S1/IM1", "DICOM/S1/IM2", "DICOM/S2/IM1"):
        write(folder / name, b"slice", 1000)
    return folder


def in_place(folder):
    path = folder / "DICOM/S1/IM2"
    overwrite(path, b"other", path.stat())


def added(folder):
    write(folder / "DICOM/S1/deep/IM3", b"slice", 1000)


def removed(folder):
    (folder / "DICOM/S2/IM1").unlink()


def exchanged(folder):
    one, other, aside = folder / "DICOM/S1/IM1", folder / "DICOM/S1/IM2", folder.parent / "aside"
    one.rename(aside)
    other.rename(one)
    aside.rename(other)


def moved_to_another_folder(folder):
    (folder / "DICOM/S1/IM2").rename(folder / "DICOM/S2/IM2")


def replaced_by_an_older_one(folder):
    write(folder.parent / "corrected", b"other", 1000)
    os.utime(folder.parent / "corrected", ns=(10**18, 10**18))
    (folder.parent / "corrected").rename(folder / "IM1")


def emptied(folder):
    (folder / "IM1").write_bytes(b"")


def unpacked_over(folder):
    shutil.copytree(folder, folder.parent / "new", copy_function=shutil.copy2)
    write(folder.parent / "new/IM1", b"other", 1000)
    shutil.copytree(folder.parent / "new", folder, dirs_exist_ok=True)


CHANGES = [
    in_place,
    added,
    removed,
    exchanged,
    moved_to_another_folder,
    replaced_by_an_older_one,
    emptied,
    unpacked_over,
]


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_anywhere_in_a_folder_shows(study, change):
    before = look(str(study)).fingerprint
    assert look(str(study)).fingerprint == before and len(before) == 16
    change(study)
    assert look(str(study)).fingerprint != before


def test_what_a_system_leaves_in_a_folder_is_no_change(study):
    before = look(str(study)).fingerprint
    for name in (".DS_Store", "DICOM/._IM1", "DICOM/S1/.snakemake_timestamp"):
        (study / name).write_text("x")
    assert look(str(study)).fingerprint == before


@pytest.mark.parametrize("what", ["folder", "file"])
def test_a_link_that_leads_elsewhere_shows(tmp_path, study, what):
    shutil.copytree(study, tmp_path / "other")
    link, inside = tmp_path / "link", "" if what == "folder" else "IM1"
    link.symlink_to(study / inside)
    first, target = look(str(link)), look(str(tmp_path / "other/.." / "study" / inside))
    assert (first.identity, first.real_path) == (target.identity, target.real_path)
    link.unlink()
    link.symlink_to(tmp_path / "other" / inside)
    if what == "file":
        write(tmp_path / "other" / inside, b"another", 900)
    assert look(str(link)).fingerprint != first.fingerprint


def test_a_link_within_a_folder_shows_what_it_leads_to(tmp_path, study):
    write(tmp_path / "aside/IM9", b"slice", 1000)
    (study / "IM9").symlink_to(tmp_path / "aside/IM9")
    (study / "lost").symlink_to(tmp_path / "nothing")
    before = look(str(study)).fingerprint
    overwrite(tmp_path / "aside/IM9", b"other", (tmp_path / "aside/IM9").stat())
    assert look(str(study)).fingerprint != before


@pytest.mark.parametrize("size", [100, LARGE])
def test_a_file_overwritten_in_place_shows(tmp_path, size):
    path = tmp_path / "image.nii.gz"
    write(path, b"voxels", size)
    before = look(str(path)).fingerprint
    overwrite(path, b"others", path.stat())
    assert look(str(path)).fingerprint != before
    path.unlink()
    missing = look(str(path))
    assert missing.identity is None and missing.fingerprint not in (before, look(str(tmp_path / "else")).fingerprint)


def test_a_small_file_is_known_by_its_content_alone(tmp_path):
    """Points and parameters: a copy of the project, or a file written again, makes nothing again."""
    path = tmp_path / "points.csv"
    path.write_text("1,2,3")
    before = look(str(path)).fingerprint
    path.unlink()
    path.write_text("1,2,3")
    os.utime(path, ns=(10**18, 10**18))
    assert look(str(path)).fingerprint == before


@pytest.mark.parametrize("name", ["a.mhd", "a.nhdr", "A.MHD"])
def test_the_voxels_beside_a_header_show(tmp_path, name):
    """As ITK writes them: .raw, or compressed beside it."""
    sitk.WriteImage(sitk.Image(40, 40, 40, sitk.sitkInt16), str(tmp_path / "a") + name[1:].lower())
    (tmp_path / ("a" + name[1:].lower())).rename(tmp_path / name)
    (voxels,) = (path for path in tmp_path.iterdir() if path.name != name)
    before = look(str(tmp_path / name)).fingerprint
    overwrite(voxels, b"other", voxels.stat())
    assert look(str(tmp_path / name)).fingerprint != before


HEADERS = {
    "list.mhd": "ObjectType = Image\nElementDataFile = LIST\nv/1.raw\nv/2.raw\n",
    "pattern.mhd": "ObjectType = Image\nElementDataFile = v/%d.raw 1 2 1\n",
    "crlf.mhd": "ObjectType = Image\r\nElementDataFile = v/2.raw\r\n",
    "long.mhd": f"Comment = {'x' * 70000}\nElementDataFile = v/2.raw\n",
    "list.nhdr": "NRRD0005\ntype: short\ndata file: LIST\nv/1.raw\nv/2.raw\n",
    "pattern.nrrd": "NRRD0005\ndatafile: ./v/%01d.raw 1 2 1\nencoding: raw\n\n",
    "planes.nrrd": "NRRD0005\ndata file: v/%d.raw 1 2 1 2\nencoding: raw\n\n",
    "single.nrrd": "NRRD0005\nData File: v/2.raw\nencoding: raw\n",
}


@pytest.mark.parametrize("name", HEADERS)
def test_every_way_to_name_the_voxels_is_understood(tmp_path, name):
    for n in (1, 2):
        write(tmp_path / f"v/{n}.raw", b"voxels", 1000)
    (tmp_path / name).write_bytes(HEADERS[name].encode())
    before = look(str(tmp_path / name)).fingerprint
    overwrite(tmp_path / "v/2.raw", b"others", (tmp_path / "v/2.raw").stat())
    changed = look(str(tmp_path / name)).fingerprint
    assert changed != before
    write(tmp_path / "v/3.raw", b"voxels", 1000)
    assert look(str(tmp_path / name)).fingerprint == changed


JUNK = [
    b"",
    b"ElementDataFile = LOCAL\n" + bytes(range(256)) * 400,
    b"ElementDataFile = a\0b.raw\n",
    b"ElementDataFile = %s%d 1 9 1\n",
    b"data file: \xff\xfe\n",
    b"NRRD0005\nencoding: raw\n\ndata file: none.raw\n",
]


@pytest.mark.parametrize("suffix", [".mhd", ".mha", ".nrrd"])
@pytest.mark.parametrize("content", JUNK)
def test_no_header_stops_a_start(tmp_path, content, suffix):
    (tmp_path / f"a{suffix}").write_bytes(content)
    assert len(look(str(tmp_path / f"a{suffix}")).fingerprint) == 16


def test_a_folder_that_may_not_be_read_stops_no_start(study, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied")

    before = look(str(study)).fingerprint
    monkeypatch.setattr(os, "scandir", refuse)
    assert look(str(study)).fingerprint != before


def test_a_run_goes_by_what_it_found_first(tmp_path):
    """A file that changes while the run goes on is new to the next one, whether it was read before or after."""
    path = tmp_path / "a.csv"
    path.write_text("1")
    first = OnDisk()
    first.look_at([str(path), str(path)])
    before = first.fingerprint([("landmarks", str(path))])
    path.write_text("2")
    assert first.fingerprint([("landmarks", str(path))]) == before
    assert OnDisk().fingerprint([("landmarks", str(path))]) != before
    assert OnDisk().fingerprint([]) == ""


def test_files_that_exchange_their_roles_are_a_change(tmp_path):
    one, other = (str(tmp_path / name) for name in "ab")
    found = [OnDisk().fingerprint([("fixed", a), ("moving", b)]) for a, b in ((one, other), (other, one), (one, one))]
    assert len(set(found)) == 3


def test_small_files_of_a_project_that_was_moved_are_the_same(tmp_path):
    """Parameter files above all: every registration rests on one. Another suffix is read in another way."""
    write(tmp_path / "here/points.csv", b"x", 900)
    before = look(str(tmp_path / "here/points.csv")).fingerprint
    shutil.copytree(tmp_path / "here", tmp_path / "there")
    (tmp_path / "there/points.csv").touch()
    assert look(str(tmp_path / "there/points.csv")).fingerprint == before
    (tmp_path / "there/points.csv").rename(tmp_path / "there/points.tsv")
    assert look(str(tmp_path / "there/points.tsv")).fingerprint != before


def test_a_fingerprint_says_nothing_of_the_path(tmp_path):
    folder = tmp_path / "DOE^JANE"
    folder.mkdir()
    assert set(look(str(folder)).fingerprint) <= set("0123456789abcdef")


def test_hard_links_in_a_folder_are_known(tmp_path, study):
    assert look(str(study)).parts == frozenset()
    (tmp_path / "other").mkdir()
    os.link(study / "DICOM/S1/IM2", tmp_path / "other/x")
    assert look(str(study)).parts == look(str(tmp_path / "other")).parts != frozenset()
    assert Path(look(str(study)).real_path) == study.resolve()


@pytest.mark.parametrize(("waits_s", "side_by_side"), [(0, False), (0.03, True)])
def test_a_slow_file_server_is_asked_by_many_at_once(monkeypatch, waits_s, side_by_side):
    """On a fast disk one after the other is faster."""
    by = {}

    def look(path):
        time.sleep(waits_s)
        by[path] = threading.current_thread()
        return path

    monkeypatch.setattr(on_disk, "look", look)
    looked_at = on_disk.OnDisk()
    looked_at.look_at([f"P{n}" for n in range(40)])
    assert dict(looked_at) == {f"P{n}": f"P{n}" for n in range(40)} == {path: path for path in by}
    assert (len(set(by.values())) > 2) == side_by_side
