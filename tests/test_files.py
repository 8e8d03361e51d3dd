"""Files are complete or absent."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk

from cohortmorph import UserError
from cohortmorph.run import files
from cohortmorph.spatial import displacement, geometry


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "table.nii.gz"
    path.write_text("old")
    with pytest.raises(RuntimeError), files.publishing(path) as partial:
        partial.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_publishing_keeps_all_suffixes_and_makes_the_folder(tmp_path):
    path = tmp_path / "deep" / "image.nii.gz"
    with files.publishing(path) as partial:
        assert partial.name == "image.nii.gz" and partial != path and not path.exists()
        partial.write_text("new")
    assert path.read_text() == "new"
    assert list(path.parent.iterdir()) == [path]


def test_json_returns_and_refuses_nan(tmp_path):
    content = {"weight": "1.0", "candidates": [1, None, 2.5]}
    files.write_json(content, tmp_path / "a.json")
    assert files.read_json(tmp_path / "a.json") == content
    with pytest.raises(ValueError):
        files.write_json({"value": float("nan")}, tmp_path / "b.json")
    assert not (tmp_path / "b.json").exists()


def test_table_keeps_micrometres_far_from_the_origin(tmp_path):
    files.write_table(pd.DataFrame({"z_mm": [-1204.512345]}), tmp_path / "a.tsv")
    assert pd.read_csv(tmp_path / "a.tsv", sep="\t").z_mm[0] == pytest.approx(-1204.512345, abs=1e-5)


def test_what_a_killed_writer_left_behind_goes_with_the_next_one(tmp_path):
    killed = subprocess.run(
        [
            sys.executable,
            "-c",
            "import os, sys; from cohortmorph.run.files import publishing\n"
            "with publishing(sys.argv[1]) as partial:\n    partial.write_text('half'); os._exit(9)",
            str(tmp_path / "a[1].tsv"),
        ],
        cwd=Path(files.__file__).parents[2],
    )
    assert killed.returncode == 9 and len(list(tmp_path.iterdir())) == 1
    other = tmp_path / ".partial-a.tsv-x"
    other.mkdir()
    files.write_json({}, tmp_path / "a[1].tsv")
    assert sorted(tmp_path.iterdir()) == sorted([other, tmp_path / "a[1].tsv"])


WRITE = """
import resource, sys
from pathlib import Path
import numpy as np, pandas as pd, SimpleITK as sitk
from cohortmorph import UserError
from cohortmorph.figures import pair_pictures, style
from cohortmorph.run import files
from cohortmorph.spatial import displacement, geometry

noise = np.random.default_rng(0).normal(size=40 * 40 * 12)
grid = geometry.Grid((40, 40, 12), (1.0, 1.0, 3.0), (0.0, 0.0, 0.0))
image = geometry.to_image((noise * 99).astype(np.int16).reshape(grid.size), grid)
vectors = np.stack([noise.reshape(grid.size).astype(np.float32)] * 3, axis=-1)
bspline = sitk.BSplineTransformInitializer(image, [8, 8, 8])
bspline.SetParameters(np.arange(len(bspline.GetParameters())) / 7)
folder = Path(sys.argv[1])

def write_arrays(path):
    with files.publishing(path) as partial:
        np.savez_compressed(partial, noise=noise)

def write_folder(path):
    with files.publishing_folder(path) as folder:
        (folder / "slice.dcm").write_bytes(noise.tobytes())

WRITERS = {
    "image.nii.gz": lambda path: geometry.write_image(image, path),
    "image.nii": lambda path: geometry.write_image(image, path),
    "image.mha": lambda path: geometry.write_image(image, path),
    "labels.nii.gz": lambda path: geometry.write_image(sitk.Cast(image, sitk.sitkUInt8), path),
    "displacement.nii.gz": lambda path: displacement.write(geometry.to_image(vectors, grid), path),
    "affine.tfm": lambda path: geometry.write_transform(bspline, path),
    "table.tsv": lambda path: files.write_table(pd.DataFrame({"value": noise}), path),
    "content.json": lambda path: files.write_json(noise.tolist(), path),
    "figure.png": lambda path: style.save(style.message("no room"), path),
    "figure.svg": lambda path: style.save(style.message("no room"), path),
    "picture.webp": lambda path: pair_pictures.save(np.abs(noise.reshape(80, 80, 3)) % 1, path.parent, "picture"),
    "arrays.npz": write_arrays,
    "folder": write_folder,
}
for name, write in WRITERS.items():
    path = folder / name / name
    write(path)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1500, resource.RLIM_INFINITY))
    try:
        write(path)
        print(name, "NOTHING SAID")
    except UserError as error:
        print(error)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    left = [file.name for file in path.parent.iterdir()]
    assert left == [name], left
    whole = path.stat().st_size if path.is_file() else (path / "slice.dcm").stat().st_size
    assert whole > 1500, (name, whole)
"""


def test_where_there_is_no_room_the_job_fails_and_leaves_nothing(tmp_path):
    """No file may have more than 1500 bytes, the second time: to who writes it, the disk is full. The old one stays."""
    command = [sys.executable, "-c", WRITE, str(tmp_path)]
    found = subprocess.run(command, cwd=Path(files.__file__).parents[2], capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    said = found.stdout.splitlines()
    names = [path.name for path in sorted(tmp_path.iterdir())]
    assert len(said) == len(names) == 13
    for line in said:
        assert ": could not be written whole. Is the disk full" in line, line
    assert sorted(line.split(":")[0] for line in said) == names


def test_what_an_image_writer_lost_in_silence_is_noticed(tmp_path, monkeypatch):
    """ITK prints that it wrote less than it should, and goes on."""
    grid = geometry.Grid((9, 8, 7), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0))
    image, write = geometry.to_image(np.arange(504).reshape(grid.size), grid), sitk.WriteImage

    def lossy(image, path, **how):
        write(image, path, **how)
        Path(path).write_bytes(Path(path).read_bytes()[:-20])

    monkeypatch.setattr(sitk, "WriteImage", lossy)
    for name in ("a.nii.gz", "a.nii", "a.mha", "a.nrrd"):
        with pytest.raises(UserError, match="could not be written whole"):
            geometry.write_image(image, tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_a_transform_is_refused_wherever_it_ends(tmp_path):
    """At the end of a line, too: without its parameters ITK would take it for the identity."""
    path = tmp_path / "a.tfm"
    geometry.write_transform(geometry.affine(np.eye(3), [1.125, 2, 3]), path)
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(UserError, match="cut off"):
            geometry.read_affine(path)
    path.write_bytes(whole)
    assert geometry.read_affine(path).GetTranslation() == (1.125, 2, 3)


def test_an_image_and_a_displacement_are_refused_wherever_they_end(tmp_path):
    grid = geometry.Grid((3, 2, 2), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0))
    geometry.write_image(geometry.to_image(np.arange(12).reshape(grid.size), grid), tmp_path / "a.nii.gz")
    displacement.write(geometry.to_image(np.ones((*grid.size, 3), np.float32), grid), tmp_path / "b.nii.gz")
    for name, read in (("a.nii.gz", geometry.read_image), ("b.nii.gz", displacement.read)):
        whole = (tmp_path / name).read_bytes()
        for length in range(len(whole)):
            (tmp_path / name).write_bytes(whole[:length])
            with pytest.raises(UserError, match=name):
                read(tmp_path / name)


@pytest.mark.parametrize("left", [0, 1, 40, -1])
def test_a_file_of_our_own_that_is_cut_off_is_refused_by_who_reads_it(left, tmp_path):
    files.write_json({"failed": "", "seconds": 3.25, "parameters": ["a", "b"]}, tmp_path / "a.json")
    files.write_table(pd.DataFrame({"metric": ["dice"] * 9, "value": [0.125] * 9}), tmp_path / "a.tsv")
    geometry.write_transform(geometry.affine(np.eye(3), [1.125, 2, 3]), tmp_path / "a.tfm")
    readers = {"a.json": files.read_json, "a.tsv": files.read_table, "a.tfm": geometry.read_affine}
    for name, read in readers.items():
        whole = (tmp_path / name).read_bytes()
        read(tmp_path / name)
        (tmp_path / name).write_bytes(whole[: left if left >= 0 else len(whole) - 2])
        with pytest.raises(UserError, match=f"{name}: "):
            read(tmp_path / name)
