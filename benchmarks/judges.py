"""Which measure of likeness orders registrations as the truth does: NCC, local NCC, NMI or MIND?

    python benchmarks/judges.py registered RESULTS OUT [--subjects P04]
    python benchmarks/judges.py planted RESULTS OUT [--subjects P01 P02 P03 P04]

RESULTS is `results/` of `make demo`, which is only read; half a minute a pair. `registered` measures the
displacements that its methods and networks found. `planted` measures the known displacement of the phantom with smooth
random errors of 0.5 to 4 mm on it, so that no candidate was made by optimizing a judge. Printed are, for each pair, by
TRE, by the error against the known displacement in the head, and by Dice: Kendall's rank correlation of the judge with
the truth (1: the same order), and how often the judge prefers the better of two whose TRE differs by at least 0.2 mm.
OUT gets every value (TSV).
"""

import argparse
import sys
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import yaml
from scipy.stats import kendalltau

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "scripts")]

from cohortmorph.evaluation import metrics  # noqa: E402
from cohortmorph.evaluation.measures import MEASURES  # noqa: E402
from cohortmorph.evaluation.pair import PairEvaluation, PairFiles  # noqa: E402
from cohortmorph.learning.losses import mind  # noqa: E402
from cohortmorph.learning.networks import start_tensorflow, tf  # noqa: E402
from cohortmorph.simulated.synthetic import Field, random_displacement  # noqa: E402
from cohortmorph.spatial import displacement  # noqa: E402
from cohortmorph.spatial.geometry import to_array, to_image  # noqa: E402

JUDGES = {"ncc_squared": 1, "ncc_local": 1, "nmi": 1, "mind": -1}  # -1: less is more alike
TRUTHS = ["tre_mean", "mae_mean", "dice"]
APART_MM = 0.2
ERRORS_MM, SIGMAS_MM, SEEDS = (0.5, 1, 2, 4), (12, 25), (1,)
GROUPS = {
    "all but where the scanners put them": lambda method: True,
    "the networks alone": lambda method: method.startswith("voxelmorph"),
    "without the networks": lambda method: not method.startswith("voxelmorph"),
}


def pair_of(results, subject, image, config):
    """Return the evaluation of one pair and the head of its fixed image."""
    images, phantom = results / f"images/{subject}", results / f"phantom/{subject}"
    files = {
        "fixed": images / "CT.nii.gz", "moving": images / f"{image}.nii.gz",
        "fixed_labels": phantom / "CT_labels.nii.gz", "moving_labels": phantom / f"{image}_labels.nii.gz",
        "fixed_landmarks": phantom / "CT_landmarks.tsv", "moving_landmarks": phantom / f"{image}_landmarks.tsv",
        "affine": results / f"pairs/{subject}-{image}_to_{subject}-CT/affine.tfm",
        "true_displacement": phantom / f"truth_{image}_to_CT.nii.gz",
    }  # fmt: skip
    intensities = [config["intensity"]["CT"], config["intensity"][image]]
    settings = {"near_landmarks_mm": 8, "surface_tolerance_mm": 2}
    return PairEvaluation(f"{subject}-{image}", PairFiles.of(files), intensities, settings)


def measured(pair, field):
    """Return the judges and truths of one displacement."""
    # The error in the head: what an air voxel should do nobody can see.
    rows = pair._of_landmarks(field) + pair._overlap(field) + pair._similarity(field)
    rows += metrics.field_error(field, pair.true_displacement, pair.fixed_map > 0)
    values = {row.metric: row.value for row in rows if row.key == MEASURES[row.metric].key}
    moved = pair._moved(field)
    # The networks' loss; where nothing is known of the moved image it does not count.
    tensors = [tf.constant(one[None, ..., None], tf.float32) for one in (pair.fixed_values, np.nan_to_num(moved))]
    values["mind"] = float(mind(*tensors, importance=tf.constant(np.isfinite(moved)[None, ..., None], tf.float32))[0])
    return {name: values[name] for name in (*JUDGES, *TRUTHS)}


def registered(pair, results):
    """Give (method, displacement) of all that was registered."""
    subject, image = pair.pair.split("-")
    for path in sorted(results.glob(f"pairs/{subject}-{image}_to_{subject}-CT/*/displacement.nii.gz")):
        if path.parent.name != "initial":
            yield path.parent.name, displacement.read(path, pair.fixed_grid)


def planted(pair, results):
    """Give (name, displacement) of the truth with errors."""
    grid, truth = pair.fixed_grid, to_array(pair.true_displacement)
    yield "truth", pair.true_displacement
    for sigma_mm in SIGMAS_MM:
        for seed in SEEDS:
            error = to_array(random_displacement(Field(sigma_mm, 60, 1), grid, np.random.default_rng(seed)))
            error /= np.linalg.norm(error, axis=-1).max()
            for error_mm in ERRORS_MM:
                yield f"{sigma_mm} mm, seed {seed}, {error_mm} mm", to_image(truth + error_mm * error, grid)


def agreement(table, judge, truth):
    """Return Kendall's τ, 1 where the judge orders as the truth does."""
    sign = 1 if MEASURES[truth].better == "more" else -1
    return kendalltau(JUDGES[judge] * table[judge], sign * table[truth]).statistic


def right(table, judge):
    """Return how many of the pairs of registrations that differ in TRE are ordered right, and how many there are."""
    rows = [(row.tre_mean, -JUDGES[judge] * getattr(row, judge)) for row in table.itertuples()]
    apart = [(a, b) for a, b in combinations(rows, 2) if abs(a[0] - b[0]) >= APART_MM]
    return sum((a[0] < b[0]) == (a[1] < b[1]) for a, b in apart), len(apart)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("which", choices=["registered", "planted"])
    parser.add_argument("results", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--subjects", nargs="+", default=None)
    asked = parser.parse_args()
    config = yaml.safe_load((ROOT / "config/config.yaml").read_text())
    start_tensorflow(1, 1)
    candidates = {"registered": registered, "planted": planted}[asked.which]
    subjects = asked.subjects or (["P04"] if asked.which == "registered" else ["P01", "P02", "P03", "P04"])
    found = []
    for subject in subjects:
        for image in ("T1", "T2"):
            pair = pair_of(asked.results, subject, image, config)
            for method, field in candidates(pair, asked.results):
                found.append({"pair": pair.pair, "method": method, **measured(pair, field)})
    table = pd.DataFrame(found)
    table.to_csv(asked.out, sep="\t", index=False)
    groups = GROUPS if asked.which == "registered" else {"planted errors": lambda method: True}
    for group, belongs in groups.items():
        print(f"\n{group}; judge; {'; '.join(f'τ {truth}' for truth in TRUTHS)}; right of two")
        rows = table[table.method.map(belongs)]
        for judge in JUDGES:
            taus = [[agreement(of_pair, judge, truth) for _, of_pair in rows.groupby("pair")] for truth in TRUTHS]
            counts = np.sum([right(of_pair, judge) for _, of_pair in rows.groupby("pair")], axis=0)
            means = "; ".join(f"{np.mean(tau):.2f} ({', '.join(f'{one:.2f}' for one in tau)})" for tau in taus)
            print(f"{judge}; {means}; {counts[0]} of {counts[1]}")


if __name__ == "__main__":
    main()
