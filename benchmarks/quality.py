"""Failures planted into the finished phantom cohort, registered and measured as the workflow does: what is flagged?

    python benchmarks/quality.py plant RESULTS OUT [--subjects P04 P05 P06] [--failures none ...]
    python benchmarks/quality.py count RESULTS OUT

RESULTS is `results/` of `make demo`, which is only read. `plant` replaces the moving image (T1, T2) of each subject,
with its labels and landmarks, by one that cannot be right, and runs harmonizing, the affine and bspline-3r of
config/config.yaml on it, one thread, then measures; half a minute a pair and failure. `none` plants nothing. `count`
flags each planted pair beside the others' good ones, and every registration of RESULTS, each network as if it had been
selected.
"""

import argparse
import os
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import SimpleITK as sitk
import yaml

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "scripts")]

import harmonize_subject  # noqa: E402
import measure_pair  # noqa: E402
import prealign  # noqa: E402
import register_affine  # noqa: E402

from cohortmorph.evaluation import quality, reported  # noqa: E402
from cohortmorph.evaluation.measures import TRE  # noqa: E402
from cohortmorph.evaluation.tables import Evaluation, compared, read_metrics  # noqa: E402
from cohortmorph.registration import elastix  # noqa: E402
from cohortmorph.registration.pairwise import Attempt, PairFiles, register_pair  # noqa: E402
from cohortmorph.registration.problem import Run  # noqa: E402
from cohortmorph.run.files import read_json  # noqa: E402
from cohortmorph.spatial import geometry, landmarks  # noqa: E402
from cohortmorph.spatial.geometry import Grid, to_image, write_image  # noqa: E402

GOOD_MM = 2.2  # the distance of T2's slices
METHODS = ["initial", "harmonized", "affine", "bspline-3r"]
IMAGES = ("T1", "T2")


def quarter_turn(results, subject, image):
    """Turn the moving image, its labels and landmarks by 90° about the slices' normal."""
    grid, turned = Grid.of(read(results, subject, image)), []
    turn = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    to_source = geometry.affine(turn.T, grid.centre_mm - turn.T @ grid.centre_mm)
    for kind in ("image", "labels"):
        source = read(results, subject, image, kind)
        turned.append(sitk.Resample(source, source, to_source, sitk.sitkNearestNeighbor, 0.0))
    points = points_of(results, subject, image)
    positions = (points[landmarks.COORDINATES].to_numpy() - grid.centre_mm) @ turn.T + grid.centre_mm
    return *turned, points.assign(**dict(zip(landmarks.COORDINATES, positions.T, strict=True)))


def other_patient(results, subject, image):
    """Take the image of the next subject."""
    subjects = sorted(path.name for path in (results / "images").iterdir())
    other = subjects[(subjects.index(subject) + 1) % len(subjects)]
    return *(read(results, other, image, kind) for kind in ("image", "labels")), points_of(results, other, image)


def empty_image(results, subject, image):
    """Give all voxels one value."""
    return (
        read(results, subject, image) * 0 + 7,
        read(results, subject, image, "labels"),
        points_of(results, subject, image),
    )


def shifted_sideways(results, subject, image):
    """Move the field of view by half its width: half of it is air, half of the head is missing."""
    return shifted(results, subject, image, 0, 0.5)


def shifted_upwards(results, subject, image):
    """Move the field of view by two thirds of its height and leave out the slices that were not scanned."""
    return shifted(results, subject, image, 2, 2 / 3, cut=True)


def shifted(results, subject, image, axis, share, cut=False):
    moved = []
    for kind in ("image", "labels"):
        source = read(results, subject, image, kind)
        grid = Grid.of(source)
        steps = round(share * grid.size[axis])
        start = np.zeros(3)
        start[axis] = steps
        size = list(grid.size)
        size[axis] -= steps if cut else 0
        there = Grid(tuple(size), grid.spacing_mm, tuple(grid.to_world(start)), grid.direction)
        blank = to_image(np.zeros(there.size, np.float32), there)
        moved.append(sitk.Resample(source, blank, sitk.Transform(3, sitk.sitkIdentity), sitk.sitkNearestNeighbor, 0.0))
    return *moved, points_of(results, subject, image)


def untouched(results, subject, image):
    """Plant nothing."""
    return *(read(results, subject, image, kind) for kind in ("image", "labels")), points_of(results, subject, image)


PLANTED = {
    "none": untouched,
    "90° turn": quarter_turn,
    "other patient": other_patient,
    "empty image": empty_image,
    "field of view shifted sideways": shifted_sideways,
    "field of view shifted upwards": shifted_upwards,
    "inverted affine": untouched,
}


def read(results, subject, image, kind="image"):
    path = {"image": f"images/{subject}/{image}.nii.gz", "labels": f"phantom/{subject}/{image}_labels.nii.gz"}[kind]
    return geometry.read_image(results / path)


def points_of(results, subject, image):
    return landmarks.read(results / f"phantom/{subject}/{image}_landmarks.tsv")


def plant(results, folder, subject, image, failure, config):
    """Register and measure one pair with one failure; files go to `folder`, an existing metrics.tsv stays."""
    if (folder / "metrics.tsv").exists():
        return
    moving, labels, points = PLANTED[failure](results, subject, image)
    write_image(moving, folder / "moving.nii.gz")
    write_image(sitk.Cast(labels, sitk.sitkUInt8), folder / "moving_labels.nii.gz")
    landmarks.write_tsv(points, folder / "moving.tsv")
    fixed, of_fixed = results / f"images/{subject}/CT.nii.gz", results / f"phantom/{subject}/CT"
    intensities = [config["intensity"]["CT"], config["intensity"][image]]
    files = {"CT": fixed, "MR": folder / "moving.nii.gz"}
    transforms = [folder / "harmonized" / f"{name}.tfm" for name in files]
    of_images = dict(zip(files, intensities, strict=True))
    harmonize_subject.main(subject, files, of_images, config["harmonize"], folder / "harmonized")
    common = {"pair": folder.name, "fixed": fixed, "moving": folder / "moving.nii.gz", "fixed_mask": ""}
    common |= {"fixed_intensity": intensities[0], "moving_intensity": intensities[1]}
    tfm, how = folder / "affine.tfm", folder / "affine.json"
    parameters = str(ROOT / config["prealign"]["parameters"])
    run, pair = Run(1, 1, folder / "log"), PairFiles(**common, affine=tfm, harmonized=transforms)
    prealign.main(pair, parameters, run, affine=tfm, registration=how)
    if failure == "inverted affine":
        geometry.write_transform(
            geometry.affine(*geometry.matrix_and_offset(geometry.read_affine(tfm).GetInverse())), tfm
        )
    displacements = [folder / method / "displacement.nii.gz" for method in METHODS]
    register_affine.main(fixed, tfm, how, transforms, dict(zip(METHODS[:3], displacements[:3], strict=True)))
    chosen = str(ROOT / config["baselines"]["bspline-3r"]["parameters"])
    register_pair(elastix, pair, [Attempt(METHODS[3], [chosen], "affine", displacements[3])], run)
    measure_pair.main(
        pair=folder.name, split="test",
        files={
            "fixed": fixed, "moving": folder / "moving.nii.gz", "affine": tfm,
            "fixed_labels": f"{of_fixed}_labels.nii.gz", "moving_labels": folder / "moving_labels.nii.gz",
            "fixed_landmarks": f"{of_fixed}_landmarks.tsv", "moving_landmarks": folder / "moving.tsv",
        },
        displacements=dict(zip(METHODS, displacements, strict=True)), reverse_displacements={},
        intensities=intensities, settings={"near_landmarks_mm": 8, "surface_tolerance_mm": 2},
        output=folder / "metrics.tsv",
    )  # fmt: skip


def read_planted(folder):
    """Return metrics and failures of every planted pair: {(failure, pair): (metrics, failures)}."""
    found = {}
    for path in sorted(folder.glob("*/*/metrics.tsv")):
        failed = reported.failures(sorted(path.parent.glob("*/registration.json")), {path.parent.name: "test"})
        found[path.parent.parent.name, path.parent.name] = read_metrics(path), failed
    return found


def count(results, folder, settings):
    """Print how many planted pairs are flagged, by which flags, and how many good registrations."""
    run = Evaluation.read({name: results / f"evaluation/{name}.tsv" for name in ("metrics", "failures")})
    planted = read_planted(folder)
    good = pd.concat(table for (failure, _), (table, _) in planted.items() if failure == "none")
    points = ("tre_", "landmarks_", "dice", "iou", "hd95", "surface_")
    print("failure; pairs; flagged; flagged without landmarks and labels; flags")
    for failure in PLANTED:
        found = {"all": [], "without": []}
        pairs = [pair for name, pair in planted if name == failure]
        names = set()
        for pair in pairs:
            table, failed = planted[failure, pair]
            cohort = pd.concat([good[good.pair != pair], table])
            for which, rows in (("all", cohort), ("without", cohort[~cohort.metric.str.startswith(points)])):
                flags = quality.flags(Evaluation(metrics=rows, failures=failed), settings, set(cohort.pair))
                flags = flags[flags.pair == pair]
                found[which].append(len(flags))
                names |= set(flags.flag)
        hits = {which: sum(number > 0 for number in numbers) for which, numbers in found.items()}
        print(f"{failure}; {len(pairs)}; {hits['all']}; {hits['without']}; {', '.join(sorted(names))}")
    flagged, total, bad, bad_flagged, pairs = 0, 0, 0, 0, set()
    choices = map(read_json, sorted(results.glob("evaluation/*/selected_model.json")))
    candidates = [one | {"network": choice["network"]} for choice in choices for one in choice["candidates"]]
    for number, candidate in enumerate(candidates):
        selected = {candidate["network"]: candidate}
        flags = quality.flags(replace(run, selected=selected), settings, set(run.metrics.pair))
        raised = set(zip(flags.pair, flags.method, strict=True))
        rows = compared(TRE.rows(run.metrics), selected)
        rows = rows[(rows.method != "initial") & ((number == 0) | (rows.method == candidate["network"]))]
        for row in rows.itertuples():
            is_good, is_flagged = row.value <= GOOD_MM, (row.pair, row.method) in raised
            total, flagged = total + is_good, flagged + (is_good and is_flagged)
            bad, bad_flagged = bad + (not is_good), bad_flagged + (not is_good and is_flagged)
            if is_good and is_flagged:
                pairs.add((row.pair, row.method, f"{row.value:.2f} mm"))
    print(
        f"registrations of the cohort with a TRE of at most {GOOD_MM} mm: {flagged} of {total} flagged {sorted(pairs)}"
    )
    print(f"others: {bad_flagged} of {bad} flagged")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("step", choices=["plant", "count"])
    parser.add_argument("results", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--subjects", nargs="+", default=["P04", "P05", "P06"])
    parser.add_argument("--failures", nargs="+", default=list(PLANTED), choices=list(PLANTED))
    asked = parser.parse_args()
    config = yaml.safe_load((ROOT / "config/config.yaml").read_text())
    if asked.step == "count":
        count(asked.results, asked.out, config["quality"])
    else:
        os.environ["ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"] = "1"
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
        for failure in asked.failures:
            for subject in asked.subjects:
                for image in IMAGES:
                    pair = f"{subject}-{image}_to_{subject}-CT"
                    plant(asked.results, asked.out / failure / pair, subject, image, failure, config)
                    print(failure, pair, flush=True)


if __name__ == "__main__":
    main()
