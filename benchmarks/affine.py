"""Is the affine better than its start, who tells so (NMI or MIND), and what would an affine of fewer parameters give?

    python benchmarks/affine.py RESULTS [RESULTS ...] [--restricted]

RESULTS is `results/` of `make demo`, perhaps with other seeds of the phantom; it is only read. Of each pair CT ← T1 or
T2 the start (harmonized) and the affine are measured against the truth: mean TRE at the landmarks and mean error in the
head. Printed are both means over the pairs and those of what each judge would keep, and how often it picks the better.
The judges look at the fixed image's own voxels that both transforms cover; `--restricted` adds rigid and similarity
transforms by elastix, with the same parameters, and the affine without its scaling and shear or with 1 % of it at most.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import SimpleITK as sitk
import yaml

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "scripts")]

from cohortmorph.evaluation.metrics import normalized_mutual_information  # noqa: E402
from cohortmorph.registration import elastix, harmonized  # noqa: E402
from cohortmorph.registration.problem import Problem, Run  # noqa: E402
from cohortmorph.spatial import displacement, geometry, landmarks  # noqa: E402
from cohortmorph.spatial.intensity import prepare  # noqa: E402
from cohortmorph.spatial.mind import SelfSimilarity, mind_distance  # noqa: E402

CONFIG = yaml.safe_load((ROOT / "config/config.yaml").read_text())
PARAMETERS = ROOT / CONFIG["prealign"]["parameters"]
ERRORS = ["tre_mm", "error_mm"]


def measured(results, subject, name, restricted):
    """Give a row for each transform of one pair."""
    images = {
        role: prepare(geometry.read_image(results / f"images/{subject}/{role}.nii.gz"), CONFIG["intensity"][role])
        for role in ("CT", name)
    }
    fixed, moving = images.values()
    phantom, pair = results / f"phantom/{subject}", f"{subject}-{name}_to_{subject}-CT"
    start = harmonized.fixed_to_moving([results / f"harmonized/{subject}/{role}.tfm" for role in images])
    transforms = {"start": start, "affine": geometry.read_affine(results / f"pairs/{pair}/affine.tfm")}
    grid = geometry.Grid.of(fixed)
    head = geometry.to_array(geometry.read_image(phantom / "CT_labels.nii.gz")) > 0
    points_mm = grid.points_mm()[head]
    true_mm = points_mm + geometry.to_array(displacement.read(phantom / f"truth_{name}_to_CT.nii.gz"))[head]
    if restricted:
        transforms |= fewer_parameters(*transforms.values(), points_mm.mean(axis=0)) | by_elastix(fixed, moving, start)
    read = landmarks.read_pair(phantom / "CT_landmarks.tsv", phantom / f"{name}_landmarks.tsv")
    of_fixed_mm, of_moving_mm = map(landmarks.points_lps_mm, read)
    moved = {
        which: geometry.to_array(sitk.Resample(moving, fixed, transform, sitk.sitkLinear, np.nan, sitk.sitkFloat32))
        for which, transform in transforms.items()
    }
    here = {which: SelfSimilarity(image) for which, image in moved.items()}
    common, of_fixed = here["start"].known & here["affine"].known, SelfSimilarity(geometry.to_array(fixed))
    for which, transform in transforms.items():
        matrix, offset_mm = geometry.matrix_and_offset(transform)
        yield {
            "pair": f"{results} {pair}",
            "transform": which,
            "tre_mm": np.linalg.norm(of_fixed_mm @ matrix.T + offset_mm - of_moving_mm, axis=1).mean(),
            "error_mm": np.linalg.norm(points_mm @ matrix.T + offset_mm - true_mm, axis=1).mean(),
            "MIND": mind_distance(of_fixed, here[which], common),
            "NMI": -normalized_mutual_information(geometry.to_array(fixed)[common], moved[which][common]),
        }


def fewer_parameters(start, affine, middle_mm):
    """Return the affine without what it scales and shears beside its start, or with 1 % of it, about the middle."""
    matrix, offset_mm = geometry.matrix_and_offset(affine)
    of_start, _ = geometry.matrix_and_offset(start)
    left, scales, right = np.linalg.svd(matrix @ np.linalg.inv(of_start))
    limited = {"affine, 1 %": np.clip(scales, 0.99, 1.01), "affine, turned only": np.ones(3)}
    turned = {which: left @ np.diag(values) @ right @ of_start for which, values in limited.items()}
    target_mm = matrix @ middle_mm + offset_mm
    return {which: geometry.affine(own, target_mm - own @ middle_mm) for which, own in turned.items()}


def by_elastix(fixed, moving, start):
    """Return what elastix finds with fewer parameters."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for which in ("Euler", "Similarity"):
            path = Path(folder) / f"{which}.txt"
            path.write_text(PARAMETERS.read_text().replace('"AffineTransform"', f'"{which}Transform"'))
            transform = elastix.register(Problem(fixed, moving, None, start), [path], Run(1, 1, folder)).transform
            found[which] = geometry.affine(*geometry.matrix_and_offset(transform))
    return found


def told(table):
    """Print the mean errors of each transform, and of what each judge keeps of the start and the affine."""
    print(table.groupby("transform", sort=False)[ERRORS].mean().round(3).to_string())
    wide = table.pivot(index="pair", columns="transform")
    for error in ERRORS:
        start, affine = wide[error, "start"], wide[error, "affine"]
        better = affine < start
        print(f"{error}: the affine is better in {better.sum()} of {len(better)}; always the better one of both gives "
              f"{np.minimum(start, affine).mean():.3f}")  # fmt: skip
        for judge in ("MIND", "NMI"):
            kept = wide[judge, "affine"] <= wide[judge, "start"]
            print(f"  {judge}: keeps the affine in {kept.sum()}, picks the better in {(kept == better).sum()}, "
                  f"and gives {np.where(kept, affine, start).mean():.3f}")  # fmt: skip


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", nargs="+", type=Path)
    parser.add_argument("--restricted", action="store_true")
    chosen = parser.parse_args()
    told(pd.DataFrame([
        row
        for results in chosen.results
        for subject in sorted(path.name for path in (results / "phantom").iterdir() if path.is_dir())
        for name in ("T1", "T2")
        for row in measured(results, subject, name, chosen.restricted)
    ]))  # fmt: skip
