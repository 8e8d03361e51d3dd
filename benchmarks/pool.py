"""The share of slot time that a pool spends on science, for a cohort of phantom subjects; on a private pool of 2 cores.

    python benchmarks/pool.py [--subjects 40] [--small] [--folder FOLDER]

Runs the whole workflow through a real HTCondor pool with the profile's packing on (its commented lines), and prints for
each rule and altogether

- slot: seconds that HTCondor's slots were taken, times their cores (RemoteWallClockTime × RequestCpus);
- script: seconds of the rules' scripts times their cores, from the benchmarks;
- science: script without the loading of libraries, which is timed here beforehand, rule by rule.

The projection to real images repeats the arithmetic with the same overhead a job and longer science: `--factor` times.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import pandas as pd

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent / "tests"), str(HERE.parent / "scripts")]

from pools import Pool, Run  # noqa: E402
from projects import PROJECT, SMALL, Project, table_of  # noqa: E402


def packed(profile):
    """Return the profile's text with its packing switched on."""
    before, packing = profile.split("# cores: 2\n")
    return before + "cores: 2\n" + re.sub(r"^# ", "", packing, flags=re.M)


def loading_seconds(rules):
    """Return {rule: seconds that its script takes to load}, the shorter of two runs."""
    seconds = {}
    for rule in rules:
        command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(PROJECT / 'scripts')!r}); import {rule}"]
        times = []
        for _ in range(2):
            started = time.perf_counter()
            subprocess.run(command, check=True, capture_output=True)
            times.append(time.perf_counter() - started)
        seconds[rule] = min(times)
    return seconds


def measure(folder, jobs, loading, factor):
    """Print the table of a finished run."""
    slot, members, threads = 0.0, Counter(), Counter()
    for job in jobs:
        cores = job["RequestCpus"]
        slot += job["RemoteWallClockTime"] * cores
        targets = re.search(r"--target-jobs (.*?) --", job["Args"] + " --")[1].split()
        members.update(target.strip("'\"").partition(":")[0] for target in targets)
    rows = []
    for rule in sorted(members):
        paths = list((folder / "results/benchmarks").glob(f"{rule}/*.tsv"))
        paths += [path for path in [folder / f"results/benchmarks/{rule}.tsv"] if path.exists()]
        threads = 2 if rule.startswith("train_") and len(members) and _training_cores(folder) == 2 else 1
        script = sum(pd.read_csv(path, sep="\t")["s"].sum() for path in paths) * threads
        rows.append((rule, members[rule], script, script - loading[rule] * members[rule]))
    table = pd.DataFrame(rows, columns=["rule", "steps", "script_s", "science_s"])
    print(table.round(0).to_string(index=False))
    script, science = table["script_s"].sum(), table["science_s"].sum()
    print(f"{len(jobs)} HTCondor jobs for {table['steps'].sum()} steps; slots taken {slot:.0f} core-seconds")
    for name, seconds in (("scripts", script), ("science", science)):
        print(f"{name} {seconds:.0f} s = {100 * seconds / slot:.1f} %")
    overhead = slot - science
    print(
        f"projected, science × {factor:g} and the same {overhead:.0f} s beside it: "
        f"{100 * factor * science / (factor * science + overhead):.1f} %"
    )


def _training_cores(folder):
    return json.loads(next((folder / "results/models").glob("*/*/training.json")).read_text())["threads"]


def _plain(job):
    return {name: job[name] for name in ("ClusterId", "RemoteWallClockTime", "RequestCpus", "Args")}


def main():
    """Run and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--subjects", type=int, default=40)
    parser.add_argument("--small", action="store_true", help="the small phantom of the tests")
    parser.add_argument("--folder", help="where to run; kept")
    parser.add_argument("--factor", type=float, default=10.0, help="how much longer science takes on real images")
    chosen = parser.parse_args()
    folder = Path(chosen.folder or tempfile.mkdtemp(prefix="cohort-"))
    folder.mkdir(parents=True, exist_ok=True)
    project = Project(folder)
    splits = ["train"] * 8 + ["validation", "test"]
    subjects = {f"P{n:03d}": splits[n % len(splits)] for n in range(1, chosen.subjects + 1)}
    project.write("config/cohort.tsv", table_of(subjects))
    project.write("run.yaml", SMALL if chosen.small else "{}\n")
    project.write("profiles/htcondor/config.yaml", packed((PROJECT / "profiles/htcondor/config.yaml").read_text()))
    loading = loading_seconds(path.stem for path in (PROJECT / "scripts").glob("*.py"))
    with tempfile.TemporaryDirectory(prefix="pool") as short:
        pool = Pool(Path(tempfile.gettempdir()) / "htcondor-prefix", short)
        code, said = pool.script("start")
        assert code == 0, said
        try:
            started = time.perf_counter()
            Run(project, pool, "--configfile", "run.yaml").finish(6 * 3600)
            minutes = (time.perf_counter() - started) / 60
            print(f"{chosen.subjects} subjects in {minutes:.1f} min; load {os.getloadavg()[0]:.1f}")
            jobs = pool.history(folder)
            (folder / "history.json").write_text(json.dumps([_plain(job) for job in jobs]))
            measure(folder, jobs, loading, chosen.factor)
        finally:
            pool.script("stop")


if __name__ == "__main__":
    main()
