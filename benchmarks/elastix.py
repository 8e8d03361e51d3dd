"""itk-elastix in this workflow against the `elastix` program on the same work; needs `elastix` on PATH.

    python benchmarks/elastix.py [--fixed F --moving M] [--runs 3]

Both read the same prepared images and the same parameter files (affine, then B-splines of one and of three resolutions
from it), with one thread. A run of ours is one process for all three, as a job of the workflow has it, with loading;
elastix is started once for each. The pairs of runs alternate; ratios are of medians.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent / "scripts")]

from cohortmorph.spatial import geometry, intensity  # noqa: E402

FILES = [HERE.parent / f"config/elastix/{name}.txt" for name in ("affine", "bspline-1r", "bspline-3r")]
OURS = """
import json, sys, time
sys.path.insert(0, sys.argv[1])
from cohortmorph.registration import elastix
from cohortmorph.registration.problem import Problem, Run
from cohortmorph.spatial import geometry
folder = sys.argv[2]
fixed, moving = (geometry.read_image(f"{folder}/{role}.nii") for role in ("fixed", "moving"))
started, affine, alone = time.monotonic(), None, {}
for file in sys.argv[3:]:
    problem = Problem(fixed, moving, initial=affine)
    transform, cost, _ = elastix.register(problem, [file], Run(1, 1, folder + "/ours"))
    affine = affine or geometry.affine(*geometry.matrix_and_offset(transform))
    alone[file] = cost.seconds
print(json.dumps(alone))
"""


def timed(command):
    """Run a command; return (seconds, CPU seconds, what it printed)."""
    before, started = os.times(), time.perf_counter()
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    seconds, after = time.perf_counter() - started, os.times()
    return seconds, sum(after[2:4]) - sum(before[2:4]), ran.stdout


def theirs(folder):
    """Run the program once a parameter file; return ({file: seconds}, CPU seconds)."""
    found, cpu = {}, 0.0
    for number, file in enumerate(FILES):
        out = Path(folder) / f"theirs-{number}"
        out.mkdir(exist_ok=True)
        # As the workflow sets them: no result image (Debian's build lacks its interpolator); the affine alone centres.
        text = file.read_text().replace("FinalLinear", "FinalBSpline")
        text += '\n(WriteResultImage "false")\n(RandomSeed 1)\n'
        if number:
            text += '(AutomaticTransformInitialization "false")\n'
        (out / "parameters.txt").write_text(text)
        command = [
            "elastix",
            "-f",
            f"{folder}/fixed.nii",
            "-m",
            f"{folder}/moving.nii",
            "-p",
            str(out / "parameters.txt"),
        ]
        command += ["-out", str(out), "-threads", "1"]
        command += ["-t0", f"{folder}/theirs-0/TransformParameters.0.txt"] if number else []
        found[str(file)], cpu_seconds, _ = timed(command)
        cpu += cpu_seconds
    return found, cpu


def main():
    """Run both in turn and print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    data = os.environ.get("COHORTMORPH_DATA", ".")
    parser.add_argument("--fixed", default=f"{data}/lung-ct/3DCT_lung_baseline.mha")
    parser.add_argument("--moving", default=f"{data}/lung-ct/3DCT_lung_followup.mha")
    parser.add_argument("--runs", type=int, default=3)
    chosen = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for role in ("fixed", "moving"):
            image = intensity.prepare(geometry.read_image(getattr(chosen, role)), {"window": [-1024, 1500]})
            geometry.write_image(image, Path(folder) / f"{role}.nii")
        for _ in range(chosen.runs):
            whole, cpu, printed = timed(
                [sys.executable, "-c", OURS, str(HERE.parent / "scripts"), folder, *map(str, FILES)]
            )
            program, program_cpu = theirs(folder)
            rows.append((whole, cpu, json.loads(printed), sum(program.values()), program_cpu, program))
            print(f"ours {whole:.1f} s ({cpu:.1f} CPU), elastix {rows[-1][3]:.1f} s ({program_cpu:.1f} CPU)")
    middle = [statistics.median(values) for values in zip(*[(r[0], r[1], r[3], r[4]) for r in rows], strict=True)]
    print(
        f"whole processes, three registrations: {middle[0] / middle[2]:.2f} × its time, "
        f"{middle[1] / middle[3]:.2f} × its CPU time"
    )
    for file in map(str, FILES):
        ours, program = (statistics.median(row[n][file] for row in rows) for n in (2, 5))
        print(
            f"{Path(file).stem}: registration alone {ours:.1f} s, elastix from start to end {program:.1f} s: "
            f"{ours / program:.2f} ×"
        )


if __name__ == "__main__":
    main()
