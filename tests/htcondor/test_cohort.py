"""The small phantom cohort through a real pool: the same results as locally, and what each rule asked for."""

import json
import re
from pathlib import Path

import pandas as pd
import pytest
import yaml
from pools import Run, rule_of, small_project, wait_for
from projects import PROJECT, SUBJECTS, table_of
from rules_of import rules_of

from cohortmorph.pool import htcondor as pool_module

# {rule: (memory, MB; time, minutes; GPUs)} as the rules state them.
NEEDS = {rule.name: (rule.memory_mb, rule.minutes) for rule in rules_of() if rule.memory_mb}
THREADS = 2  # of a training, in the small cohort's config
MEASURED = {"seconds", "runtime", "cpu_seconds", "cpu_time", "peak_memory_mb", "peak_memory", "runtime_s"}


def rules_in(job):
    """Return the rules that a job of the queue runs."""
    targets = re.search(r"--target-jobs (.*?) --", job["Args"])[1]
    return [target.partition(":")[0] for target in targets.split()]


@pytest.fixture(scope="module")
def jobs(pool, finished):
    return pool.history(finished.folder)


def test_needs_are_read_from_the_rules():
    assert len(NEEDS) > 15 and NEEDS["train_voxelmorph"][0] >= 4000


def test_every_rule_reached_htcondor(jobs):
    local = {"all", "select_weight", "check_cohort", "list_series"}
    # Of a phantom there are no structures drawn in the clinic, its training uses neither labels nor masks, and it is no
    # experiment.
    absent = {"convert_labels", "prepare_labels", "prepare_mask", "make_synthetic", "regnet_table", "neuronavigation"}
    absent |= {
        "train_matching",
        "register_matching",
        "register_instance",
        "train_voxelmorph_conditional",
        "search_weight",
    }
    ran = {rule for job in jobs for rule in rules_in(job)}
    other_network = {"train_voxelmorph-diff", "register_voxelmorph-diff"}
    assert ran == (set(NEEDS) - local - absent) | other_network


@pytest.mark.parametrize("rule", sorted(NEEDS))
def test_htcondor_received_what_the_rule_asks_for(jobs, finished, rule):
    mine = [job for job in jobs if rule in rules_in(job)]
    memory_mb, minutes = NEEDS[rule]
    for job in mine:
        assert job["RequestMemory"] >= memory_mb
        assert job["RequestDisk"] >= 2000 * 1024
        assert job["AllowedExecuteDuration"] >= 60 * minutes
        assert job["RequestCpus"] >= (THREADS if rule == "train_voxelmorph" else 1)
        assert job["RequestCpus"] <= 2, "more cores than a group may use"
        assert job["CohortMorphFolder"] == str(finished.folder)
        if len(rules_in(job)) == 1:
            assert job["RequestMemory"] == memory_mb and job["AllowedExecuteDuration"] == 60 * minutes
        assert "PATH=" in job["Environment"] and "HOME=" in job["Environment"]


def test_training_asks_for_a_gpu_where_the_config_says_so(pool, finished, tmp_path):
    """The pool pretends to have one; TensorFlow finds none and trains on the CPU."""
    project = finished.copy(tmp_path / "cohort")
    project.write("gpu.yaml", "networks: {voxelmorph: {gpu: true}}\n")
    gpu = ["--configfile", "small.yaml", "gpu.yaml"]
    run = Run(project, pool, *gpu, "--until", "train_voxelmorph", "--forcerun", "train_voxelmorph")
    run.finish()
    trained = [job for job in pool.history(project.folder) if rules_in(job) == ["train_voxelmorph"]]
    assert [job["RequestGPUs"] for job in trained] == [1, 1]


def test_networks_train_beside_each_other(pool, finished, tmp_path):
    project = finished.copy(tmp_path / "cohort")
    long = "epochs: 5000, kept_epochs: [5000]"
    project.write(
        "long.yaml",
        f"networks: {{voxelmorph: {{weights: ['1'], threads: 1, {long}}}, voxelmorph-diff: {{{long}}}}}\n",
    )
    ends = [
        f"results/models/{trained}/epoch-5000.npz" for trained in ("voxelmorph/weight-1", "voxelmorph-diff/weight-2")
    ]
    run = Run(project, pool, "--configfile", "small.yaml", "long.yaml", "--", *ends)
    both = {"train_voxelmorph", "train_voxelmorph-diff"}

    def running():
        assert run.process.poll() is None, run.said[-4000:]
        return both <= {rule_of(job) for job in pool.queue(project.folder) if job["JobStatus"] == 2}

    try:
        wait_for(running, 900, "the trainings do not run beside each other")
    finally:
        run.kill()
        pool.tool("condor_rm", *(str(job["ClusterId"]) for job in pool.queue(project.folder)))


def test_same_results_as_on_this_machine(finished, tmp_path):
    """Everything but measured times is identical: the CPU stages and, in deterministic mode, training as well."""
    local = small_project(tmp_path)
    code, said = local.snakemake("--configfile", "small.yaml")
    assert code == 0, said[-4000:]
    compared = 0
    for path in sorted((local.folder / "results").rglob("*")):
        name = path.relative_to(local.folder)
        if not path.is_file() or name.parts[1] in ("logs", "benchmarks", "figures"):
            continue
        other = finished.folder / name
        if path.suffix == ".json":
            assert untimed(json.loads(path.read_text())) == untimed(json.loads(other.read_text())), name
        elif path.suffix == ".tsv":
            tables = [untimed_table(file) for file in (path, other)]
            pd.testing.assert_frame_equal(*tables, check_exact=True, obj=str(name))
        elif path.suffix != ".html" and path.name != "checkpoint.npz":  # pages tell the measured times of these tables
            assert path.read_bytes() == other.read_bytes(), name
        compared += 1
    assert compared > 200


def untimed(content):
    """Return JSON content without measured costs and versions of the moment."""
    if isinstance(content, dict):
        return {key: untimed(value) for key, value in content.items() if key not in MEASURED}
    return [untimed(value) for value in content] if isinstance(content, list) else content


def untimed_table(path):
    table = pd.read_csv(path, sep="\t", dtype={"weight": str})
    if "metric" in table:
        table = table[~table["metric"].isin(MEASURED)].reset_index(drop=True)
    return table.drop(columns=MEASURED & set(table.columns))


def test_a_new_test_subject_adds_its_own_jobs_and_the_final_tables(finished):
    table = finished.folder / "config/cohort.tsv"
    before = table.read_text()
    try:
        table.write_text(table_of(SUBJECTS | {"sub-01": "test"}))
        code, said = finished.snakemake("--dry-run", "--configfile", "small.yaml")
    finally:
        table.write_text(before)
    assert code == 0, said
    touched = set(re.findall(r"(?:subject|pair)=([\w.-]+)", said))
    rerun = set(re.findall(r"^rule ([\w-]+):", said, re.M))
    known = "|".join(map(re.escape, SUBJECTS))
    # Pictures and fused images of all pairs may be made anew: they show the network that the tables choose.
    of_known = rf"(?:(?!rule ).)*?(?:subject|pair)=(?:{known})[~,\n]"
    others = {rule for rule in rerun if re.search(rf"rule {rule}:{of_known}", said, re.S)}
    assert touched >= {"sub-01"} and others <= {"plot_pair", "fuse_subject"}, others
    assert "train_voxelmorph" not in rerun


def test_every_value_of_the_profile_has_its_why():
    text = (PROJECT / "profiles/htcondor/config.yaml").read_text()
    assert yaml.safe_load(text)["htcondor-jobdir"] == str(pool_module.RUNS)
    assert Path(PROJECT / "docs/htcondor.md").exists()
