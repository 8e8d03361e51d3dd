"""A copy of the project, small phantom cohorts, and Snakemake as its users start it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).parents[1]
# The smallest phantom that has room for networks of two levels, each on a grid of its own, and 30 landmarks a subject.
SMALL = """
phantom: {seed: 1, spacing_mm: 4.0, slab_mm: 32, deformation_mm: 4.0}
networks:
  matching: null
  voxelmorph:
    kind: voxelmorph
    weights: ["1", "4"]
    epochs: 6
    kept_epochs: [3, 6]
    encoder: [8, 8]
    decoder: [8, 8, 8]
    threads: 2
  voxelmorph-diff:
    kind: voxelmorph
    dimensions: 3
    spacing_mm: 6
    weights: ["2"]
    epochs: 4
    kept_epochs: [4]
    batch_size: 1
    int_steps: 5
    field_downsampling: 2
    encoder: [8, 8]
    decoder: [8, 8, 8]
    threads: 1
baselines:
  matching-refined: null
  ants: {tool: ants, parameters: config/ants/syn-mutual-information.txt}
  demons: {tool: demons, parameters: config/demons/symmetric.yaml}
  points-rigid: {tool: points, model: rigid}
evaluation: {bootstrap_samples: 200}
"""
# Ids as BIDS and hospitals write them.
SUBJECTS = {"LUNG1-001": "train", "P_01": "validation", "12.3": "test"}


def table_of(subjects):
    """Return a cohort table of phantom subjects."""
    rows = ["subject\timage\tmodality\tsource\tlabels\tlandmarks\tfiducials\tsplit"]
    for subject, split in subjects.items():
        for image in ("CT", "T1", "T2"):
            base = f"results/phantom/{subject}/{image}"
            points = f"{base}_landmarks.tsv\t{base}_fiducials.tsv"
            rows.append(f"{subject}\t{image}\t{image}\t{base}\t{base}_labels.nii.gz\t{points}\t{split}")
    return "\n".join(rows) + "\n"


class Project:
    """A copy of the project's files, without results, to run Snakemake in."""

    def __init__(self, folder):
        self.folder = Path(folder)
        for name in ("Snakefile", "config", "rules", "scripts", "envs", "profiles", "tests/real"):
            source, target = PROJECT / name, self.folder / name
            if source.is_dir():
                shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, target)

    def copy(self, folder):
        """Return a copy of the project with its results."""
        copied = type(self).__new__(type(self))
        copied.folder = Path(shutil.copytree(self.folder, folder))
        return copied

    def write(self, name, text):
        """Write a file of the copy."""
        (self.folder / name).write_text(text)

    def snakemake(self, *arguments, cores=2):
        """Run Snakemake; return its exit code and everything it said."""
        command = [sys.executable, "-m", "snakemake", "--cores", str(cores), *arguments]
        ran = subprocess.run(
            command, cwd=self.folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=dict(os.environ)
        )
        return ran.returncode, ran.stdout

    def planned(self, *arguments):
        """Return {rule: number of jobs} of a dry run."""
        code, said = self.snakemake(*arguments, "--dry-run", "--quiet", "rules")
        assert code == 0, said
        lines = said.splitlines()
        if "job" not in "".join(line[:3] for line in lines) or not any(line.startswith("total") for line in lines):
            return {}
        start = next(n for n, line in enumerate(lines) if line.startswith("job "))
        rows = [line.split() for line in lines[start + 2 :]]
        counts = {}
        for row in rows:
            if len(row) != 2 or row[0] == "total":
                break
            counts[row[0]] = int(row[1])
        return counts
