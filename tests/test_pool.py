"""Words about jobs, the lock of a folder, and the plugin as it is installed; tests/htcondor has a real pool."""

import logging
import re
import subprocess
import sys
import tomllib
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from cohortmorph import UserError
from cohortmorph.cohort.pairs import Image
from cohortmorph.pool import executor, queue
from cohortmorph.pool.lock import lock_folder

ROOT = Path(__file__).parent.parent

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
    assert queue.unmatchable(asked, MACHINES) == words


def test_a_pool_without_machines():
    assert queue.unmatchable({"RequestMemory": 1}, []).startswith("asked for")


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
    assert queue.job_name({"Args": arguments, "ClusterId": 7}) == name


def test_one_run_a_folder_and_the_lock_dies_with_its_process(tmp_path):
    path = tmp_path / "lock"
    code = (
        "import sys, pathlib; from cohortmorph.pool.lock import lock_folder; "
        "lock_folder(pathlib.Path(sys.argv[1])); input()"
    )
    other = subprocess.Popen([sys.executable, "-c", code, path], stdin=subprocess.PIPE, cwd=ROOT / "scripts")
    try:
        while not (path.exists() and path.read_text()):
            assert other.poll() is None
        with pytest.raises(UserError, match=f"another Snakemake is at work in .*: process {other.pid} on .*kill"):
            lock_folder(path, patience_seconds=0.1)
    finally:
        other.kill()
        other.communicate()
    lock_folder(path, patience_seconds=0.1)


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

    assert executor.patiently(submit, withdraw, waits_seconds=(0, 0, 0))("job") == "job"
    assert events == ["submit", "withdraw"] * 2 + ["submit"]


def test_submission_gives_up_in_the_end():
    def submit(job):
        raise RuntimeError("schedd away")

    with pytest.raises(RuntimeError, match="schedd away"):
        executor.patiently(submit, lambda job: None, waits_seconds=(0, 0))("job")


class Job:
    """A job as the plugin sees it: alone, or packed of others."""

    def __init__(self, name, input=(), output=(), log=(), benchmark=None, jobs=()):
        self.name, self.jobid, self.input, self.output, self.jobs = name, 7, input, output, jobs
        self.log, self.benchmark, self.resources = log, benchmark, {"job_wrapper": "profiles/htcondor/job.sh"}
        self.rule = SimpleNamespace(script=f"../scripts/{name}.py")

    def is_group(self):
        return bool(self.jobs)


def settings(folder):
    """What the plugin reads of a workflow."""
    return SimpleNamespace(
        executor_settings=SimpleNamespace(jobdir=str(folder / "jobs"), shared_fs_prefixes=None, held_timeout=0),
        storage_settings=SimpleNamespace(shared_fs_usage=frozenset()),
        configfiles=[folder / "config/config.yaml", folder / "small.yaml"],
        overwrite_configfiles=["small.yaml", "config/mine.yaml"],
        workdir_init=str(folder),
    )


@pytest.fixture
def workflow(tmp_path, monkeypatch):
    """A workflow whose executor is the installed plugin's own, but that no thread of it waits for jobs."""
    plugin = pytest.importorskip("snakemake_executor_plugin_htcondor")
    monkeypatch.chdir(tmp_path)
    real = object.__new__(plugin.Executor)
    real.workflow, real.snakefile, real.logger = settings(tmp_path), "Snakefile", logging.getLogger("plugin")
    real.__post_init__()
    return SimpleNamespace(scheduler=SimpleNamespace(_executor=real))


def test_the_workflow_goes_along_and_logs_come_back(workflow, tmp_path):
    executor.Executor(workflow).send_files()
    plugin = workflow.scheduler._executor
    members = [
        Job("prealign", log=["a.log"], benchmark="a.tsv", output=["results/affine.tfm"]),
        Job("prepare_input", log=["b.log"]),
    ]
    packed = Job(
        "group", ["results/images/P01/CT.nii.gz", "config/elastix/a.txt"], ["results/affine.tfm"], jobs=members
    )
    sent, back, remaps = plugin._get_files_for_transfer(packed)
    assert sent == ["results/images/P01/CT.nii.gz", "profiles/htcondor/job.sh", *executor.WORKFLOW]
    assert back == ["results/affine.tfm", "a.log", "a.tsv", "b.log"]
    assert remaps == [f"{name} = {tmp_path / name}" for name in back]
    arguments = "-m snakemake --configfiles small.yaml config/mine.yaml --cores 1"
    assert plugin._prepare_config_files_for_transfer(arguments, []) == (arguments, ["small.yaml"])


def test_the_plugin_asks_the_changed_members_before_it_submits(workflow, monkeypatch):
    """The way from a job to what is sent is the plugin's own: a member no longer called would change nothing."""
    executor.Executor(workflow).send_files()
    plugin = workflow.scheduler._executor
    monkeypatch.setattr(plugin, "_get_base_exec_and_args", lambda job: ("python", "-m snakemake --configfiles x"))
    _, arguments, sent, back, _ = plugin._get_exec_args_and_transfer_files(Job("prealign", log=["a.log"]), True)
    assert sent[-1] == "small.yaml" and set(executor.WORKFLOW) <= set(sent) and back == ["a.log"]
    assert arguments == "-m snakemake --configfiles x"


def test_a_run_has_an_event_log_of_its_own(workflow, tmp_path):
    plugin = workflow.scheduler._executor
    executor.Executor(workflow).use_folder(tmp_path / "jobs/now")
    assert plugin.jobDir == str(tmp_path / "jobs/now") and Path(plugin.jobDir).is_dir()
    assert Path(plugin._unified_log_file).parent == Path(plugin.jobDir)


def test_jobs_are_submitted_patiently_and_errors_of_packed_jobs_are_told(workflow, monkeypatch, caplog):
    plugin, done = workflow.scheduler._executor, []
    monkeypatch.setattr(plugin, "run_job", done.append)
    monkeypatch.setattr(plugin, "report_job_error", lambda job_info, msg=None, **details: done.append(msg))
    monkeypatch.setattr(executor.log, "propagate", True)
    executor.Executor(workflow)
    plugin.run_job("job")
    plugin.report_job_error(SimpleNamespace(job=Job("group", jobs=[Job("prealign")])), msg="held: disk")
    assert done == ["job", "held: disk"] and "held: disk" in caplog.text


@pytest.mark.parametrize("member", [*executor.MEMBERS, "_executor"])
def test_a_plugin_without_a_member_that_is_replaced_is_refused(workflow, monkeypatch, member):
    plugin = workflow.scheduler._executor
    if member == "_executor":
        del workflow.scheduler._executor
    elif member in vars(plugin):
        delattr(plugin, member)
    else:
        for owner in type(plugin).__mro__:
            if member in vars(owner):
                monkeypatch.delattr(owner, member)
    named = "jobDir, " if member == "_executor" else f"no {member};"
    with pytest.raises(UserError, match=rf"found {executor.PLUGIN} .*whose executor has .*{named}.*pip install"):
        executor.Executor(workflow)


def test_another_version_of_the_plugin_is_refused_with_what_to_install(workflow, monkeypatch):
    monkeypatch.setattr(executor, "version", lambda package: "0.4.0")
    plugin = workflow.scheduler._executor
    with pytest.raises(UserError, match=r"found .* 0\.4\.0 .*pip install snakemake-executor-plugin-htcondor==0\.3\.0"):
        executor.Executor(workflow)
    assert "run_job" not in vars(plugin), "nothing is changed"


def test_the_tested_version_is_the_one_that_is_installed():
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    assert f"{executor.PLUGIN}=={executor.TESTED}" in wanted


def test_what_goes_along_is_what_the_rules_name():
    """The top folders of every file that the Snakefile and the rules name and that a job reads of this folder."""
    needed = set()
    for file in [ROOT / "Snakefile", *sorted((ROOT / "rules").glob("*.smk"))]:
        needed.add(file.relative_to(ROOT).parts[0])
        for named in re.findall(r'"([^"{}\n]+)"', file.read_text()):
            for path in ((file.parent / named).resolve(), (ROOT / named).resolve()):
                if path.is_file() and path.is_relative_to(ROOT):
                    needed.add(path.relative_to(ROOT).parts[0])
    # HTCondor sends the wrapper itself, which is what it starts; results are inputs of their own.
    assert needed - {"profiles", "results"} == set(executor.WORKFLOW)


def test_a_job_s_environment_is_in_htcondor_s_new_syntax():
    """As the manual has it: in double quotes, values in single quotes, either doubled within."""
    said = executor.environment({"FOLDER": "/data/the 'new' one", "SKIPPED": ':"'})
    assert said == """ "FOLDER='/data/the ''new'' one' SKIPPED=':""'" """.strip()


def test_files_that_cannot_be_sent_are_all_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    images = [
        Image("A01", "CT", source="/pacs/1", labels="/data/ct.nii.gz"),
        Image("A02", "T1", source="/pacs/2", labels="labels/t1.nii.gz", landmarks="../t1.fcsv"),
    ]
    said = executor.outside(images, ["../mine.yaml", str(tmp_path / "here.yaml")])
    assert (
        "3 files" in said
        and "--configfile ../mine.yaml" in said
        and "here.yaml" not in said
        and "subject A01, image CT, column labels: /data/ct.nii.gz" in said
    )
    assert "subject A02, image T1, column landmarks: ../t1.fcsv" in said and "/pacs" not in said
    assert executor.outside([replace(image, labels="", landmarks="") for image in images]) == ""
    assert executor.outside([Image("A01", "CT", labels="/pacs/Doe/rtstruct.dcm")]) == "", "converted here"


@pytest.mark.parametrize(("slots", "found"), [([{"TotalSlotGPUs": 2}, {}], True), ([{"TotalSlotGPUs": 0}, {}], False)])
def test_a_pool_without_gpus_is_told(monkeypatch, caplog, slots, found):
    monkeypatch.setattr(queue, "machines", lambda collector: slots)
    monkeypatch.setattr(queue.log, "propagate", True)
    queue.has_gpus.cache_clear()
    assert queue.has_gpus() is found
    assert ("training runs on CPUs" in caplog.text) is not found
    queue.has_gpus.cache_clear()
