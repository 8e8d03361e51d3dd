"""What is said of jobs that cannot run, and how those of an earlier run go; on a real pool, with plain jobs."""

import pytest
from pools import wait_for

from cohortmorph.pool import queue as house


@pytest.fixture
def queue(pool, monkeypatch):
    """HTCondor's queue, as the library sees it in this process."""
    for name, value in pool.environment.items():
        monkeypatch.setenv(name, value)
    import htcondor2

    htcondor2.reload_config()
    return htcondor2.Schedd()


def submit(queue, folder, rule, **asked):
    """Submit a job that looks like one of Snakemake's, and sleeps; return its number in the queue."""
    import htcondor2

    description = {
        "executable": "/bin/sh",
        # What follows the command, Snakemake's words, the shell does not look at.
        "arguments": f"\"-c 'sleep 300' -m snakemake --target-jobs {rule} --cores 1\"",
        "log": str(folder / "events.log"),
        f"+{house.FOLDER}": f'"{folder}"',
        "request_memory": "100MB",
        "request_disk": "10MB",
        "request_cpus": "1",
        "job_max_vacate_time": "5",
    } | asked
    return queue.submit(htcondor2.Submit(description)).cluster()


def status(queue, cluster):
    found = queue.query(constraint=f"ClusterId == {cluster}", projection=["JobStatus"])
    return found[0]["JobStatus"] if found else None


@pytest.fixture
def watch(queue, tmp_path, caplog, monkeypatch):
    caplog.set_level("WARNING", logger=house.log.name)
    monkeypatch.setattr(house.log, "propagate", True)  # once Snakemake has set it up, its logger keeps all to itself
    yield house.Watch(str(tmp_path))
    house.remove_leftovers(queue, str(tmp_path))


def test_a_request_beyond_every_machine_is_told_once(queue, watch, tmp_path, caplog):
    cluster = submit(queue, tmp_path, "train_voxelmorph:weight=1", request_memory="64GB")
    watch.look()
    watch.look()
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 1, told
    assert f"No machine can run train_voxelmorph (weight=1), cluster {cluster}" in told[0]
    assert "asked for 64 GB memory; no slot of the pool has more than 16 GB" in told[0]


def test_a_job_that_fits_is_not_told(queue, watch, tmp_path, caplog):
    submit(queue, tmp_path, "prealign:pair=P01-T1_to_P01-CT")
    watch.look()
    assert caplog.records == []


def test_a_held_job_is_told_with_its_reason_and_removed(pool, queue, watch, tmp_path, caplog):
    cluster = submit(queue, tmp_path, "prealign:pair=P01-T1_to_P01-CT")
    pool.tool("condor_hold", "-reason", "the disk smells", str(cluster))
    watch.look()
    told = caplog.records[-1].getMessage()
    assert "HTCondor held prealign (pair=P01-T1_to_P01-CT)" in told and "the disk smells" in told
    assert "asked for 100 MB memory" in told and "by hand" in told
    wait_for(lambda: status(queue, cluster) is None, 300, "the held job stays in the queue")


def test_jobs_of_an_earlier_run_are_gone_before_the_next_begins_and_others_stay(queue, watch, tmp_path, caplog):
    (tmp_path / "other").mkdir()
    running = submit(queue, tmp_path, "train_voxelmorph:weight=1")
    waiting = submit(queue, tmp_path, "train_voxelmorph:weight=2", request_memory="64GB")
    others = submit(queue, tmp_path / "other", "train_voxelmorph:weight=1")
    wait_for(lambda: status(queue, running) == 2, 300, "no job runs")
    house.remove_leftovers(queue, str(tmp_path))
    assert status(queue, running) is None and status(queue, waiting) is None
    assert status(queue, others) in (1, 2)
    assert "Removing 2 jobs that an earlier run left in the queue: train_voxelmorph (weight=1)" in caplog.text
    house.remove_leftovers(queue, str(tmp_path / "other"))


def test_a_withdrawn_job_leaves_the_queue(queue, watch, tmp_path, monkeypatch):
    class Job:
        name, jobid = "prealign", 7

    monkeypatch.chdir(tmp_path)
    cluster = submit(queue, tmp_path, "prealign:pair=P01-T1_to_P01-CT", batch_name="prealign-7")
    other = submit(queue, tmp_path, "prealign:pair=P01-T2_to_P01-CT", batch_name="prealign-8")
    house.withdraw(Job())
    wait_for(lambda: status(queue, cluster) is None, 300, "the job stays in the queue")
    assert status(queue, other) in (1, 2)
