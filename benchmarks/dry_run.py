"""What a large cohort costs before its first job: time and memory of a dry run over all stages, and of one job's start.

    python benchmarks/dry_run.py [--subjects 2000] [--networks 1] [--runs 1]

The cohort is a table of phantom subjects (CT, T1, T2; 60 % train, 20 % validation, 20 % test) under the default
configuration, four λ, its network so many times; no phantom is made. Prints jobs, seconds, ms and kB a job, and the
load of the machine.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from projects import Project, table_of


def measured(folder, *arguments):
    """Run Snakemake; return (what it said, seconds, largest memory in MB)."""
    command = [sys.executable, "-m", "snakemake", "--cores", "2", *arguments]
    started = time.perf_counter()
    with (folder / "said.txt").open("w+") as said:
        process = subprocess.Popen(command, cwd=folder, stdout=said, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
        said.seek(0)
        text = said.read()
    assert status == 0, text[-3000:]
    return text, seconds, usage.ru_maxrss / 1024


def main():
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--subjects", type=int, default=2000)
    parser.add_argument("--networks", type=int, default=1)
    parser.add_argument("--runs", type=int, default=1)
    chosen = parser.parse_args()
    splits = ["train", "train", "train", "validation", "test"]
    subjects = {f"P{n:05d}": splits[n % len(splits)] for n in range(1, chosen.subjects + 1)}
    folder = Path(tempfile.mkdtemp(prefix="dry-run-"))
    try:
        project = Project(folder)
        project.write("config/cohort.tsv", table_of(subjects))
        config = yaml.safe_load((folder / "config/config.yaml").read_text())
        network = config["networks"]["voxelmorph"]
        config["networks"] = {f"network-{n}": network for n in range(1, chosen.networks + 1)}
        del config["baselines"]["matching-refined"]
        project.write("config/config.yaml", yaml.safe_dump(config, sort_keys=False))
        for _ in range(chosen.runs):
            said, seconds, megabytes = measured(folder, "--dry-run", "--quiet", "rules")
            jobs = int(re.search(r"^total +(\d+)", said, re.M)[1])
            _, empty, least = measured(folder, "--version")
            print(
                f"{chosen.subjects} subjects, {chosen.networks} networks: {jobs} jobs in {seconds:.0f} s "
                f"and {megabytes:.0f} MB: "
                f"{1000 * seconds / jobs:.2f} ms and {1024 * (megabytes - least) / jobs:.1f} kB a job "
                f"(Snakemake alone {empty:.1f} s, {least:.0f} MB); load {os.getloadavg()[0]:.1f}"
            )
            one = "results/phantom/P00001/truth.json"
            _, seconds, megabytes = measured(folder, one, "--dry-run", "--quiet", "rules")
            print(f"start of one job in such a cohort: {seconds:.1f} s, {megabytes:.0f} MB")
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
