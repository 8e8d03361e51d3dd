"""A finished run's tables, read back; and that reading them needs no imaging library."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from cohortmorph.cohort.methods import Method
from cohortmorph.evaluation.tables import READERS, Evaluation, best_of, read_choices, read_metrics, table_of
from cohortmorph.run import files

ROWS = [("folding", "image", np.nan, "%"), ("dice", "1", 0.5, "1")]
METHODS = ["initial", "harmonized", "affine", "zebra", "bspline-3r", "deepreg_weight-1.0_epoch-20"]


def run_of(methods, selected=None):
    tables = [table_of(ROWS, pair, "test", method) for pair in ("A-T1_to_A-CT", "B-T1_to_B-CT") for method in methods]
    return Evaluation(metrics=pd.concat(tables, ignore_index=True), selected=selected or {})


def test_the_table_keeps_the_weight_as_typed(tmp_path):
    methods = ["voxelmorph_weight-1.0_epoch-20", "voxelmorph_weight-1e-3_epoch-50", "affine"]
    table = pd.concat([table_of(ROWS, "NA-T1_to_NA-CT", "test", method) for method in methods], ignore_index=True)
    files.write_table(table, tmp_path / "metrics.tsv")
    back = read_metrics(tmp_path / "metrics.tsv")
    pd.testing.assert_frame_equal(back, table, check_dtype=False)
    assert list(back.weight) == ["1.0", "1.0", "1e-3", "1e-3", "", ""] and list(back.structure[:2]) == ["image", "1"]
    assert back.epoch.isna().tolist() == [False] * 4 + [True] * 2 and list(back.epoch[:4]) == [20, 20, 50, 50]
    assert list(back.method) == ["voxelmorph"] * 4 + ["affine"] * 2


def test_methods_stand_in_the_configuration_s_order_whatever_they_are_called():
    run = run_of(METHODS)
    names = ["initial", "harmonized", "affine", "zebra", "bspline-3r", "deepreg"]
    assert run.methods == names
    assert run.in_order(reversed(names[1:4] * 2)) == ["harmonized", "affine", "zebra"]
    assert run.in_order(["unknown", "deepreg"]) == ["deepreg", "unknown"]


def test_a_network_is_what_has_a_weight_whatever_it_is_called():
    selected = {"deepreg": {"network": "deepreg", "weight": "2", "epoch": 20}}
    run = run_of([*METHODS, "deepreg_weight-2_epoch-20"], selected)
    assert run.learned == {"deepreg"}
    rows = run.compared(run.metrics)
    assert set(rows.weight) == {"", "2"} and list(rows.method.unique()) == run.methods
    assert set(run_of(METHODS).compared(run.metrics).weight) == {""}
    assert run.label("deepreg") == "deepreg, λ = 2, epoch 20" and run.label("zebra") == "zebra"
    assert run_of(METHODS).label("deepreg") == "deepreg"


def chosen(network, weight, epoch, value=1.0, folding_percent=0.1, metric="tre_mean"):
    """Return what select_model says of a network; folding of at most 0.5 % is admissible."""
    said = {"metric": metric, "value": value, "folding_percent": folding_percent}
    return {"network": network, "weight": weight, "epoch": epoch, **said, "admissible": folding_percent <= 0.5}


NETWORKS = ["diff_weight-1_epoch-20", "diff_weight-2_epoch-50", "plain_weight-1_epoch-20", "plain_weight-2_epoch-50"]


def test_of_each_network_only_its_own_choice_is_kept(tmp_path):
    run = run_of(["initial", *NETWORKS, "third_weight-1_epoch-20"])
    files.write_table(run.metrics, tmp_path / "metrics.tsv")
    choices = [chosen("plain", "2", 50), chosen("diff", "1", 20)]
    paths = [tmp_path / f"{choice['network']}.json" for choice in choices]
    for choice, path in zip(choices, paths, strict=True):
        files.write_json(choice, path)
    run = Evaluation.read({"metrics": tmp_path / "metrics.tsv", "selected": paths})
    assert list(run.selected) == ["plain", "diff"], "in the order of the files"
    kept = run.compared(run.metrics).drop_duplicates(["method", "weight", "epoch"])
    found = [Method(row.method, row.weight, row.epoch if row.weight else None).id for row in kept.itertuples()]
    assert found == ["initial", "diff_weight-1_epoch-20", "plain_weight-2_epoch-50"], "and nothing without a choice"
    assert run.label("plain") == "plain, λ = 2, epoch 50" and run.label("diff") == "diff, λ = 1, epoch 20"
    assert run.label("third") == "third"
    # Snakemake gives a list of one as one path.
    assert read_choices(str(paths[0])) == read_choices(paths[:1]) == {"plain": choices[0]}
    assert read_choices([]) == read_choices("") == read_choices(None) == {}


BEST = [
    ("lower", [chosen("a", "1", 9, 2.0), chosen("b", "1", 9, 1.5)], "b"),
    ("higher", [chosen("a", "1", 9, 0.7, metric="dice"), chosen("b", "1", 9, 0.6, metric="dice")], "a"),
    ("a tie goes to the first", [chosen("b", "1", 9, 2.0), chosen("a", "2", 9, 2.0 - 1e-12)], "b"),
    ("admissible before better", [chosen("a", "1", 9, 1.0, 0.6), chosen("b", "1", 9, 3.0, 0.5)], "b"),
    ("the least folding of none admissible", [chosen("a", "1", 9, 1.0, 0.9), chosen("b", "1", 9, 3.0, 0.8)], "b"),
    ("then the value", [chosen("a", "1", 9, 3.0, 0.9), chosen("b", "1", 9, 1.0, 0.9)], "b"),
    ("folding within the limit does not count", [chosen("a", "1", 9, 2.0, 0.0), chosen("b", "1", 9, 1.5, 0.4)], "b"),
]


@pytest.mark.parametrize(("choices", "best"), [row[1:] for row in BEST], ids=[row[0] for row in BEST])
def test_the_best_network_on_the_validation_pairs(choices, best):
    assert best_of(choices)["network"] == best
    selected = {choice["network"]: choice for choice in choices}
    assert Evaluation(selected=selected).best == Method.of_choice(selected[best])


def test_of_no_network_none_is_best():
    assert best_of([]) is None and Evaluation().best is None


def test_only_what_is_named_is_read_and_the_rest_has_its_columns_and_no_rows(tmp_path):
    files.write_table(run_of(METHODS).metrics, tmp_path / "metrics.tsv")
    (tmp_path / "flags.tsv").write_text("not of this run")
    run = Evaluation.read({"metrics": tmp_path / "metrics.tsv", "selected": [], "failures": []})
    assert len(run.metrics) == 24 and run.selected == {}
    for name in READERS.keys() - {"metrics"}:
        assert len(getattr(run, name)) == 0 and len(getattr(run, name).columns) >= 4
    assert run.compared(run.failures).empty and run.compared(run.summary).empty


@pytest.mark.parametrize("script", ["select_model", "collect_metrics", "compare_methods", "flag_pairs"])
def test_what_reads_tables_alone_loads_no_imaging_library(script):
    code = f"""
import sys
sys.path.insert(0, "scripts")
import {script}
print(*{{"SimpleITK", "matplotlib", "itk", "tensorflow"}} & set(sys.modules))
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == ""
