"""Two runs are the same if their numbers are, also where the earlier one is of before networks had names."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cohortmorph.evaluation.tables import table_of
from cohortmorph.run.files import write_json, write_table

SCRIPT = Path(__file__).parents[1] / "benchmarks/compare_runs.py"
CHOICE = {"weight": "1", "epoch": 20, "metric": "tre_mean", "value": 1.25}


def write_run(root, mark, tre_mm=2.0):
    """Write the tables and one displacement of a run whose ids join subject and image with `mark`."""
    pair = f"P01{mark}T1_to_P01{mark}CT"
    rows = [("tre_mean", "total", tre_mm, "mm"), ("runtime", "image", np.random.default_rng().random(), "s")]
    write_table(pd.concat([table_of(rows, pair, "test", "affine")]), root / "evaluation/metrics.tsv")
    field = root / "pairs" / pair / "affine/displacement.nii.gz"
    field.parent.mkdir(parents=True)
    field.write_bytes(b"displacement")
    return field


@pytest.fixture
def runs(tmp_path):
    """A run of before networks had names and the same one of now."""
    before, after = tmp_path / "before", tmp_path / "after"
    write_run(before, "-")
    write_run(after, "~")
    write_json(CHOICE, before / "evaluation/selected_model.json")
    write_json({"network": "voxelmorph", **CHOICE}, after / "evaluation/voxelmorph/selected_model.json")
    return before, after


def compared(runs):
    """Return the exit status and what was printed."""
    found = subprocess.run([sys.executable, SCRIPT, *runs], capture_output=True, text=True)
    assert not found.stderr
    return found.returncode, found.stdout


def test_what_has_other_names_and_the_same_numbers_is_the_same(runs):
    status, said = compared(runs)
    assert status == 0, said
    assert "pairs/*/*/displacement.nii.gz: 1 files, 0 differ, 0 on one side only" in said
    assert "selected_model.json of voxelmorph: the same (λ = 1, epoch 20)" in said
    assert "1 rows, the same" in said


def test_what_differs_is_said(runs):
    _, after = runs
    (field,) = after.glob("pairs/*/affine/displacement.nii.gz")
    field.write_bytes(b"other")
    status, said = compared(runs)
    assert status == 1 and "1 files, 1 differ" in said and "P01-T1_to_P01-CT/affine" in said
    field.unlink()
    assert compared(runs)[0] == 1 and "1 on one side only" in compared(runs)[1]


def test_another_choice_another_network_and_another_value_differ(runs):
    before, after = runs
    path = after / "evaluation/voxelmorph/selected_model.json"
    same = path.read_text()
    write_json(json.loads(same) | {"value": 1.2500001}, path)
    status, said = compared(runs)
    assert status == 1 and "selected_model.json of voxelmorph: DIFFERENT" in said
    path.write_text(same)
    write_json({"network": "voxelmorph-diff", **CHOICE}, after / "evaluation/voxelmorph-diff/selected_model.json")
    status, said = compared(runs)
    assert status == 1 and "selected_model.json of voxelmorph-diff: on one side only" in said
    assert compared((after, after))[0] == 0
    write_run(before.parent / "third", "~", tre_mm=2.5)
    assert "DIFFERENT" in compared((after, before.parent / "third"))[1]
