"""Real landmarks (lung CT) and real labels (hippocampus), from config alone; the latter in a shortened form."""

import pandas as pd
import pytest

pytestmark = pytest.mark.real

# The shortened form: so many subjects of each split, and a training of a minute or two.
SUBJECTS = {"train": 6, "validation": 2, "test": 2}
SHORT = """
networks:
  voxelmorph:
    {epochs: 8, steps_per_epoch: 60, kept_epochs: [8], weights: ["1"], label_weight: 2, field_downsampling: 2,
    decoder: [32, 32, 32, 32, 16, 16]}
evaluation: {bootstrap_samples: 200}
"""


def values_of(project, metric, structure):
    """Return the mean of a metric over the test pairs, by method."""
    summary = pd.read_csv(project.folder / "results/evaluation/summary.tsv", sep="\t")
    rows = summary[(summary["split"] == "test") & (summary["metric"] == metric) & (summary["structure"] == structure)]
    return rows.groupby("method")["mean"].min()


def test_lung_landmarks(project):
    code, said = project.snakemake("--configfile", "tests/real/lung.yaml")
    assert code == 0, said[-6000:]
    tre_mm = values_of(project, "tre_mean", "total")
    assert tre_mm["initial"] == pytest.approx(35.27, abs=0.005)
    assert tre_mm["affine"] < 6.3
    assert tre_mm["bspline-3r"] < tre_mm["bspline-1r"] < tre_mm["affine"]
    assert tre_mm["bspline-3r"] < 1.5
    assert tre_mm["instance"] < 1.6
    assert values_of(project, "tre_median", "total")["bspline-3r"] <= 1.0
    assert values_of(project, "landmarks_n", "total")["bspline-3r"] == 51
    assert values_of(project, "landmarks_outside", "total").max() == 0


def test_hippocampus_labels_in_a_shortened_form(project):
    table = (project.folder / "tests/real/hippocampus.tsv").read_text().splitlines()
    head = [line for line in table if line.startswith(("#", "subject"))]
    rows = [
        line
        for split, number in SUBJECTS.items()
        for line in [row for row in table if row.endswith(f"\t{split}")][:number]
    ]
    project.write("tests/real/hippocampus.tsv", "\n".join(head + rows) + "\n")
    project.write("short.yaml", SHORT)
    code, said = project.snakemake("--configfile", "tests/real/hippocampus.yaml", "short.yaml")
    assert code == 0, said[-6000:]
    dice = values_of(project, "dice", "mean")
    assert dice["affine"] > dice["initial"]
    assert dice["bspline-3r"] > dice["affine"]
    assert dice["voxelmorph"] > dice["affine"] - 0.02  # a training of two minutes: it must not do harm
    assert values_of(project, "folding", "image")["voxelmorph"] < 0.5
