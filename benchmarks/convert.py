"""Conversion against dcm2niix on the same series: processor time, and the largest memory.

    python benchmarks/convert.py FOLDER [FOLDER ...]      real series
    python benchmarks/convert.py --phantom 300            a made CT of 300 slices of 512 × 512

Both read, arrange and write a .nii.gz; dcm2niix must be on PATH. Each is timed as a process, start of Python
included, and ours besides without the start, since the workflow pays it once a job.
Best of three runs: the disk cache is warm in all.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))

from cohortmorph.clinic import reader as dicom
from cohortmorph.simulated.scanner import PROTOCOLS, write_scan
from cohortmorph.spatial import geometry

OURS = """
import sys
sys.path[:0] = [sys.argv[4]]
import convert_image
convert_image.main(*sys.argv[1:4], settings={"uneven": "resample"})
"""
SCRIPTS = str(Path(__file__).parents[1] / "scripts")


def best_seconds(work, runs=3):
    """Return the shortest of some runs in seconds of processor time, children included: others may use the machine."""
    seconds = []
    for _ in range(runs):
        before = os.times()
        work()
        seconds.append(sum(os.times()[:4]) - sum(before[:4]))
    return min(seconds)


def compare(folder, out):
    """Print the times of one series."""

    def theirs():
        command = ["dcm2niix", "-z", "y", "-b", "y", "-w", "1", "-f", "theirs", "-o", str(out), str(folder)]
        subprocess.run(command, check=True, capture_output=True)

    def ours():
        command = [sys.executable, "-c", OURS, str(folder), f"{out}/ours.nii.gz", f"{out}/ours.json", SCRIPTS]
        subprocess.run(command, check=True, capture_output=True)

    def inside():
        image, _ = dicom.read_series(folder, uneven="resample")
        geometry.write_image(image, out / "inside.nii.gz")

    def raw():
        for path in Path(folder).rglob("*"):
            if path.is_file():
                path.read_bytes()

    timed = {name: best_seconds(work) for name, work in (("dcm2niix", theirs), ("ours", ours), ("inside", inside))}
    reading = best_seconds(lambda: dicom.read_series(folder, uneven="resample"))
    print(
        f"{Path(folder).name}\tdcm2niix {timed['dcm2niix']:.2f} s\tours {timed['ours']:.2f} s as a process, "
        f"{timed['inside']:.2f} s inside one ({reading:.2f} s without writing; files alone {best_seconds(raw):.2f} s)\t"
        f"ratio {timed['ours'] / timed['dcm2niix']:.2f}, {timed['inside'] / timed['dcm2niix']:.2f}"
    )


def main():
    """Compare the folders given, or a phantom."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="*")
    parser.add_argument("--phantom", type=int, default=0, help="slices of a made CT")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folders, out = list(chosen.folders), Path(temporary)
        if chosen.phantom:
            grid = geometry.Grid((512, 512, chosen.phantom), (0.8, 0.8, 1.0), (0.0, 0.0, 0.0))
            rng = np.random.default_rng(0)
            values = (np.indices(grid.size).sum(axis=0) % 700 + rng.integers(0, 30, grid.size)).astype(np.int16)
            write_scan(values, grid, PROTOCOLS["CT"], out / "made", ["made", "CT"], rng)
            folders.append(out / "made")
        for folder in folders:
            compare(folder, out)
    print(f"largest memory of this process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB")


if __name__ == "__main__":
    main()
