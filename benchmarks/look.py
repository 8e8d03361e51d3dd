"""What it costs at each start to look at every file of a cohort, so that a change of any of them shows.

    python benchmarks/look.py [--subjects 2000] [--slices 167] [--folder FOLDER] [--runs 3]

Makes folders of three images a subject, each with so many (empty) slices two levels deep: below --folder, to measure
another disk or a file server. Prints seconds, CPU seconds and the load of the machine; the first run may have to read
directories from the disk.
"""

import argparse
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))

from cohortmorph.cohort.on_disk import OnDisk


def main():
    """Make, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--subjects", type=int, default=2000)
    parser.add_argument("--slices", type=int, default=167)
    parser.add_argument("--folder")
    parser.add_argument("--runs", type=int, default=3)
    chosen = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="look-", dir=chosen.folder))
    try:
        sources = [folder / f"P{n:05d}" / image for n in range(chosen.subjects) for image in ("CT", "T1", "T2")]
        for source in sources:
            (source / "DICOM/S1").mkdir(parents=True)
            for n in range(chosen.slices):
                (source / f"DICOM/S1/IM{n:05d}").touch()
        files = len(sources) * chosen.slices
        for _ in range(chosen.runs):
            started, cpu = time.perf_counter(), time.process_time()
            OnDisk().look_at(map(str, sources))
            seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
            load = os.getloadavg()[0]
            print(f"{len(sources)} folders, {files} files: {seconds:.1f} s, CPU {cpu:.1f} s (load {load:.1f})")
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
