"""A pool whose machines share no files with this one: HTCondor carries them to a folder of each job's own, and back."""

import json

import pytest
from pools import Run, small_project
from projects import table_of

SUBJECTS = {"LUNG1-001": "train", "P_01": "validation"}
PAIR = "results/pairs/P_01-T1_to_P_01-CT"


@pytest.fixture(scope="module")
def transferred(pool, tmp_path_factory):
    """A cohort of two subjects and one λ, run to the report."""
    project = small_project(tmp_path_factory.mktemp("transfer"))
    project.write("config/cohort.tsv", table_of(SUBJECTS))
    project.write("one.yaml", 'networks: {voxelmorph: {weights: ["1"]}}\n')
    run = Run(project, pool, "--shared-fs-usage", "none", "--configfile", "small.yaml", "one.yaml")
    run.finish(1800)
    return project


def test_jobs_ran_on_files_that_were_sent(pool, transferred):
    jobs = pool.history(transferred.folder)
    assert len(jobs) > 20
    assert all(job["ShouldTransferFiles"] == "YES" for job in jobs)
    assert all(job["BytesSent"] > 0 and job["BytesRecvd"] > 0 for job in jobs)


def test_results_are_those_of_a_pool_with_shared_files(transferred, finished):
    for method in ("affine", "bspline-3r", "voxelmorph_weight-1_epoch-6"):
        name = f"{PAIR}/{method}/displacement.nii.gz"
        assert (transferred.folder / name).read_bytes() == (finished.folder / name).read_bytes(), name


def test_logs_and_benchmarks_come_back(transferred):
    for name in ("register_elastix", "measure_pair", "warp_pair"):
        log = transferred.folder / f"results/logs/{name}/P_01-T1_to_P_01-CT.log"
        assert "Python 3" in log.read_text()
        assert (transferred.folder / f"results/benchmarks/{name}/P_01-T1_to_P_01-CT.tsv").read_text().startswith("s\t")
    trained = json.loads((transferred.folder / "results/models/voxelmorph/weight-1/training.json").read_text())
    assert trained["device"] == "CPU"


def test_the_hospitals_files_stay_here(pool, transferred):
    """Their jobs ran on this machine: HTCondor has never heard of them."""
    assert list((transferred.folder / "results/logs/convert_image").iterdir())
    assert not [job for job in pool.history(transferred.folder) if "convert_image" in job["Args"]]


def test_a_finished_run_has_nothing_to_do(transferred):
    assert transferred.planned("--configfile", "small.yaml", "one.yaml") == {}
