"""What ends jobs and runs on a real pool, one test each: nothing is lost, and nobody writes a file twice."""

import json
import os
import re
import signal
from pathlib import Path

import pandas as pd
from pools import Run, rule_of, wait_for

PHANTOM = "results/phantom/LUNG1-001/truth.json"  # one job of some seconds


def descendants(pid):
    """Return the processes below one, deepest last."""
    found = []
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:  # it has just ended
        return found
    for child in children:
        found += [int(child), *descendants(int(child))]
    return found


def starts(pool, project):
    """Return how often each rule has been started."""
    jobs = pool.history(project.folder)
    return pd.Series([rule_of(job) for job in jobs], dtype=str).value_counts().to_dict()


def complete(pool, project):
    """Say whether the phantom is there, with nothing left in the queue and no half-written file."""
    left = list((project.folder / "results").rglob(".partial-*"))
    return (project.folder / PHANTOM).exists() and pool.queue(project.folder) == [] and left == []


def test_job_killed_by_signal(pool, project):
    run = Run(project, pool, PHANTOM)
    job = pool.running(project.folder, "make_phantom")
    pid = wait_for(
        lambda: next((p for p in descendants(_starter(pool, job)) if "snakemake" in _command(p)), None),
        30,
        "no process",
    )
    os.kill(pid, signal.SIGKILL)
    said = run.finish()
    assert "terminated by signal 9" in said
    assert starts(pool, project) == {"make_phantom": 2}
    assert complete(pool, project)


def _command(pid):
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""


def _starter(pool, job):
    master = int((pool.folder / "master.pid").read_text())

    def look():
        starters = [pid for pid in descendants(master) if "condor_starter" in _command(pid)]
        return starters[0] if len(starters) == 1 else None

    return wait_for(look, 120, f"not exactly one job runs beside cluster {job['ClusterId']}")


def test_machine_side_of_a_job_dies(pool, project):
    run = Run(project, pool, PHANTOM)
    job = pool.running(project.folder, "make_phantom")
    os.kill(_starter(pool, job), signal.SIGKILL)
    run.finish()
    assert complete(pool, project)


def test_job_removed_by_condor_rm(pool, project):
    run = Run(project, pool, PHANTOM)
    job = pool.running(project.folder, "make_phantom")
    pool.tool("condor_rm", str(job["ClusterId"]))
    said = run.finish()
    assert "was removed/aborted" in said
    assert starts(pool, project) == {"make_phantom": 2}
    assert complete(pool, project)


def test_held_job_is_told_in_words_and_removed_and_tried_again(pool, project):
    run = Run(project, pool, PHANTOM, "--config", "networks={}")
    job = pool.running(project.folder, "make_phantom")
    pool.tool("condor_hold", "-reason", "the disk smells", str(job["ClusterId"]))
    run.says(r"HTCondor held make_phantom \(subject=LUNG1-001\)")
    said = run.finish()
    assert "the disk smells" in said and "Somebody held it by hand" in said
    assert starts(pool, project) == {"make_phantom": 2}
    wait_for(lambda: complete(pool, project), 300, "the held job stays in the queue")


def test_memory_exceeded_passes_with_more(pool, project):
    # Fine pixels, so that the job lasts longer than the pool takes to look at its memory.
    project.write("fine.yaml", "phantom: {spacing_mm: 1.5}\n")
    memory = "make_phantom:htcondor_request_mem_mb=300 if attempt == 1 else 6000"
    run = Run(project, pool, PHANTOM, "--configfile", "fine.yaml", "--set-resources", memory)
    run.finish()
    requested = [job["RequestMemory"] for job in pool.history(project.folder)]
    assert requested == [300, 6000]
    # Whoever looks first tells it: the executor plugin, or our watch of the queue.
    told = r"(is held: |HTCondor held make_phantom \(subject=LUNG1-001\)).*memory usage exceeded"
    assert re.search(told, run.said), run.said[-3000:]
    wait_for(lambda: complete(pool, project), 300, "the held job stays in the queue")


def test_schedd_killed_while_a_job_runs(pool, project):
    run = Run(project, pool, PHANTOM)
    pool.running(project.folder, "make_phantom")
    master = int((pool.folder / "master.pid").read_text())
    schedds = [pid for pid in descendants(master) if "condor_schedd" in _command(pid)]
    os.kill(schedds[0], signal.SIGKILL)
    run.finish()
    assert wait_for(lambda: complete(pool, project), 300, "not complete")


def test_unmatchable_request_is_told_within_minutes(pool, project):
    run = Run(project, pool, PHANTOM, "--set-resources", "make_phantom:htcondor_request_mem_mb=64 * 1024")
    try:
        run.says(r"No machine can run make_phantom \(subject=LUNG1-001\)", 900)
        assert "asked for 64 GB memory; no slot of the pool has more than 16 GB" in run.said
    finally:
        run.process.send_signal(signal.SIGINT)
        run.process.wait(600)
    assert wait_for(lambda: pool.queue(project.folder) == [], 300, "Ctrl-C leaves jobs in the queue")


def test_second_run_in_the_same_folder_is_refused_in_words(pool, project):
    first = Run(project, pool, PHANTOM)
    pool.running(project.folder, "make_phantom")
    second = Run(project, pool, PHANTOM)
    assert second.process.wait(900) != 0
    assert "another Snakemake is at work" in second.said and str(first.process.pid) in second.said
    assert "Traceback" not in second.said
    first.finish()
    assert starts(pool, project) == {"make_phantom": 1}


def test_snakemake_killed_while_a_job_waits_and_another_runs(pool, project):
    phantoms = [PHANTOM, "results/phantom/P_01/truth.json", "results/phantom/12.3/truth.json"]
    first = Run(project, pool, *phantoms)
    pool.running(project.folder, "make_phantom")
    first.kill()
    left = [job["ClusterId"] for job in pool.queue(project.folder)]
    assert left
    second = Run(project, pool, *phantoms)  # all of them: the next writer of a file removes what a killed one left
    said = second.finish()
    assert re.search(
        rf"Removing {len(left)} jobs that an earlier run left in the queue: .*make_phantom \(subject=LUNG1-001\)", said
    )
    ended = {job["ClusterId"]: job["EnteredCurrentStatus"] for job in pool.history(project.folder)}
    newer = [job for job in pool.history(project.folder) if job["ClusterId"] not in left]
    assert newer and all(ended[old] <= min(job["QDate"] for job in newer) for old in left), "two writers at a time"
    assert complete(pool, project)


def test_snakemake_killed_during_training_goes_on(pool, finished, tmp_path):
    """Killed by SIGKILL, started again: the old job is gone first, and its successor goes on from the checkpoint."""
    project = finished.copy(tmp_path / "cohort")
    folder = project.folder
    project.write("long.yaml", "networks: {voxelmorph: {epochs: 1000, kept_epochs: [3, 1000]}}\n")
    history = "results/models/voxelmorph/weight-1/history.tsv"
    state = folder / "results/models/voxelmorph/weight-1/checkpoint.npz"
    before = state.stat().st_mtime_ns
    last = "results/models/voxelmorph/weight-1/epoch-1000.npz"
    first = Run(project, pool, last, "--configfile", "small.yaml", "long.yaml")
    old = pool.running(folder, "train_voxelmorph")["ClusterId"]
    wait_for(lambda: state.stat().st_mtime_ns > before, 900, "no checkpoint")
    first.kill()
    assert [job["ClusterId"] for job in pool.queue(folder)] == [old], "the job itself goes on"
    said = Run(project, pool, last, "--configfile", "small.yaml", "long.yaml").finish()
    assert "Removing 1 jobs that an earlier run left in the queue: train_voxelmorph (weight=1)" in said
    ended, started = (
        next(job[key] for job in pool.history(folder) if (job["ClusterId"] == old) == is_old)
        for key, is_old in (("EnteredCurrentStatus", True), ("JobStartDate", False))
    )
    assert ended <= started, "two writers at a time"
    report = json.loads((folder / "results/models/voxelmorph/weight-1/training.json").read_text())
    assert report["resumed_after_epoch"] > 0
    epochs = pd.read_csv(folder / history, sep="\t")["epoch"].tolist()
    assert epochs == list(range(1, 1001))
