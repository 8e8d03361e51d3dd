"""Files are complete or absent."""

import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from cohortmorph.run import files


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
