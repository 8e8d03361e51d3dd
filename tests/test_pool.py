"""Words about jobs, and the lock of a folder; what needs a real pool stands in tests/htcondor."""

import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from cohortmorph import UserError
from cohortmorph.pool import htcondor as pool

MACHINES = [
    {"TotalSlotMemory": 32 * 1024, "TotalSlotDisk": 100 * 1024**2, "TotalSlotCpus": 16, "TotalSlotGPUs": 0},
    {"TotalSlotMemory": 8 * 1024, "TotalSlotDisk": 100 * 1024**2, "TotalSlotCpus": 4, "TotalSlotGPUs": 2},
]


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"RequestMemory": 64 * 1024}, "asked for 64 GB memory; no slot of the pool has more than 32 GB"),
        ({"RequestCpus": 32}, "asked for 32 cores; no slot of the pool has more than 16"),
        ({"RequestGPUs": 4}, "asked for 4 GPUs; no slot of the pool has more than 2"),
        ({"RequestDisk": 200 * 1024**2}, "asked for 200 GB disk; no slot of the pool has more than 100 GB"),
        (
            {"RequestMemory": 16 * 1024, "RequestGPUs": 1},
            "asked for 16 GB memory, 1 GPUs; no slot of the pool has all of it together",
        ),
        ({"RequestMemory": 16 * 1024, "RequestCpus": 16, "RequestGPUs": 0}, ""),
        ({"RequestMemory": 8 * 1024, "RequestGPUs": 2}, ""),
    ],
)
def test_unmatchable_requests_in_words(asked, words):
    assert pool.unmatchable(asked, MACHINES) == words


def test_a_pool_without_machines():
    assert pool.unmatchable({"RequestMemory": 1}, []).startswith("asked for")


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ("-m snakemake --target-jobs prealign:pair=P01-T1_to_P01-CT --cores 2", "prealign (pair=P01-T1_to_P01-CT)"),
        ("--target-jobs select_model: --allowed-rules select_model", "select_model"),
        ("--target-jobs a:x=1,y=2 b:x=1 --cores all", "a (x=1,y=2) + b (x=1)"),
        ("", "job 7"),
    ],
)
def test_job_names_come_from_the_command_line(arguments, name):
    assert pool.job_name({"Args": arguments, "ClusterId": 7}) == name


def test_one_run_a_folder_and_the_lock_dies_with_its_process(tmp_path):
    path = tmp_path / "lock"
    code = (
        "import sys, pathlib; from cohortmorph.pool.htcondor import lock_folder; "
        "lock_folder(pathlib.Path(sys.argv[1])); input()"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", code, path], stdin=subprocess.PIPE, cwd=Path(pool.__file__).parents[2]
    )
    try:
        while not (path.exists() and path.read_text()):
            assert other.poll() is None
        with pytest.raises(UserError, match=f"another Snakemake is at work in .*: process {other.pid} on .*kill"):
            pool.lock_folder(path, patience_seconds=0.1)
    finally:
        other.kill()
        other.communicate()
    pool.lock_folder(path, patience_seconds=0.1)


def test_submission_waits_for_a_schedd_that_is_away():
    events = []

    def submit(job):
        events.append("submit")
        if len(events) < 5:
            raise RuntimeError("schedd away")
        return job

    def withdraw(job):
        events.append("withdraw")
        if len(events) == 2:
            raise RuntimeError("still away")

    assert pool.patiently(submit, withdraw, waits_seconds=(0, 0, 0))("job") == "job"
    assert events == ["submit", "withdraw"] * 2 + ["submit"]


def test_submission_gives_up_in_the_end():
    def submit(job):
        raise RuntimeError("schedd away")

    with pytest.raises(RuntimeError, match="schedd away"):
        pool.patiently(submit, lambda job: None, waits_seconds=(0, 0))("job")


class Rule:
    """A job as the plugin sees it."""

    def __init__(self, log, benchmark, members=()):
        self.log, self.benchmark, self.jobs = log, benchmark, members

    def is_group(self):
        return bool(self.jobs)


class Plugin:
    """The two methods of the plugin's executor that decide which files are sent."""

    class workflow:
        overwrite_configfiles = ("small.yaml", "config/mine.yaml")

    def _add_file_if_transferable(self, path, files, **options):
        files.append(path)
        return True

    def _get_files_for_transfer(self, job):
        sent = []
        for path in ("Snakefile", "../scripts/prealign.py", "results/images/P01/CT.nii.gz", None):
            self._add_file_if_transferable(path, sent, expand_wildcards=True)
        return sent, ["affine.tfm"], ["affine.tfm = /there/affine.tfm"]


def test_the_workflow_goes_along_and_logs_come_back(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    plugin = Plugin()
    pool.send_files(plugin)
    members = [Rule(["a.log"], "a.tsv"), Rule(["b.log"], None)]
    sent, back, remaps = plugin._get_files_for_transfer(Rule([], None, members))
    assert sent == ["results/images/P01/CT.nii.gz", None, "Snakefile", "rules", "scripts", "config", "envs"]
    assert back == ["affine.tfm", "a.log", "a.tsv", "b.log"]
    assert remaps[1:] == [f"{name} = {tmp_path / name}" for name in back[1:]]
    arguments = "-m snakemake --configfiles small.yaml config/mine.yaml --cores 1"
    assert plugin._prepare_config_files_for_transfer(arguments, []) == (arguments, ["small.yaml"])


def test_files_that_cannot_be_sent_are_all_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    images = pd.DataFrame(
        {
            "subject": ["A01", "A02"],
            "image": ["CT", "T1"],
            "source": ["/pacs/1", "/pacs/2"],
            "labels": ["/data/ct.nii.gz", "labels/t1.nii.gz"],
            "landmarks": ["", "../t1.fcsv"],
            "mask": ["", ""],
            "fiducials": ["", ""],
        }
    )
    said = pool.outside(images, ["../mine.yaml", str(tmp_path / "here.yaml")])
    assert (
        "3 files" in said
        and "--configfile ../mine.yaml" in said
        and "here.yaml" not in said
        and "subject A01, image CT, column labels: /data/ct.nii.gz" in said
    )
    assert "subject A02, image T1, column landmarks: ../t1.fcsv" in said and "/pacs" not in said
    assert pool.outside(images.assign(labels="", landmarks="")) == ""
    assert pool.outside(images.assign(labels="/pacs/Doe/rtstruct.dcm", landmarks="")) == "", "converted here"


@pytest.mark.parametrize(("slots", "found"), [([{"TotalSlotGPUs": 2}, {}], True), ([{"TotalSlotGPUs": 0}, {}], False)])
def test_a_pool_without_gpus_is_told(monkeypatch, caplog, slots, found):
    monkeypatch.setattr(pool, "machines", lambda collector: slots)
    monkeypatch.setattr(pool.log, "propagate", True)
    pool.has_gpus.cache_clear()
    assert pool.has_gpus() is found
    assert ("training runs on CPUs" in caplog.text) is not found
    pool.has_gpus.cache_clear()
