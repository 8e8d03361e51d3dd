"""Workflow folders with the shipped configuration, made-up cohorts, and the problems that loading them raises."""

import shutil
from copy import deepcopy
from functools import partial
from pathlib import Path

import pytest
import yaml

from cohortmorph import UserError
from cohortmorph.cohort import cohort
from cohortmorph.evaluation.measures import SELECTABLE

REPOSITORY = Path(__file__).parents[1]
load = partial(cohort.load, needs={name: measure.needs for name, measure in SELECTABLE.items()})
COLUMNS = ["subject", "image", "modality", "source", "labels", "landmarks", "mask", "split"]
SHIPPED = yaml.safe_load((REPOSITORY / "config/config.yaml").read_text())
BETWEEN = {"design": "between-subjects", "image": "MR", "reference": "H1", "moving_per_fixed": 1}
SPLITS = ["train"] * 3 + ["validation"] * 2 + ["test"] * 3


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A workflow folder of its own: the shipped configuration, with parameter files that exist."""
    shutil.copytree(REPOSITORY / "config", tmp_path / "config")
    for file in (SHIPPED["prealign"]["parameters"], *(one["parameters"] for one in SHIPPED["baselines"].values())):
        (tmp_path / file).touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write_table(rows, path="config/cohort.tsv"):
    Path(path).write_text("".join("\t".join(row) + "\n" for row in rows))


def phantom_rows(subjects=4, splits=("train", "train", "validation", "test"), images=("CT", "T1")):
    """Rows of the phantom; line 1 is the header, subject n has lines 2n and 2n + 1."""
    rows = [list(COLUMNS)]
    for n, split in zip(range(1, subjects + 1), splits, strict=True):
        for image in images:
            path = f"results/phantom/P{n:02}/{image}"
            rows.append([f"P{n:02}", image, image, path, f"{path}_labels.nii.gz", f"{path}_landmarks.tsv", "", split])
    return rows


def write_mr_cohort(splits=SPLITS, table_folder="."):
    """Make a cohort of subjects H1, H2, … with one MR file each."""
    rows = [list(COLUMNS)]
    for n, split in enumerate(splits, 1):
        for name in (f"H{n}.nii.gz", f"H{n}_labels.nii.gz", f"H{n}.csv"):
            Path(table_folder, name).touch()
        rows.append([f"H{n}", "MR", "MR", f"H{n}.nii.gz", f"H{n}_labels.nii.gz", f"H{n}.csv", "", split])
    write_table(rows)
    return rows


def mr_config(pairs=BETWEEN, **changes):
    config = deepcopy(SHIPPED) | {"pairs": pairs, "harmonize": {"enabled": False}}
    return config | {"phantom": None, "intensity": {"MR": {"percentiles": [0.5, 99.5]}}} | changes


def edited(old, new, path="config/config.yaml"):
    text = Path(path).read_text()
    assert old in text
    Path(path).write_text(text.replace(old, new, 1))


def load_files(*files):
    """Load as Snakemake does: the deep merge of the files."""

    def merged(base, over):
        for key, value in over.items():
            nested = isinstance(value, dict) and isinstance(base.get(key), dict)
            base[key] = merged(base[key], value) if nested else value
        return base

    files = files or ("config/config.yaml",)
    config = {}
    for file in files:
        merged(config, yaml.safe_load(Path(file).read_text()))
    return load(config, files)


def problems(call, *arguments):
    """Return the problems that a call raises, one a line."""
    with pytest.raises(UserError) as error:
        call(*arguments)
    first, *lines = str(error.value).splitlines()
    assert int(first.split()[0]) == len(lines)
    return lines


def the_problem(call, *arguments):
    lines = problems(call, *arguments)
    assert len(lines) == 1, lines
    return lines[0]
