"""The results of a small made-up cohort, with what the viewer reads: one subject, an oblique CT and its MR."""

from contextlib import chdir
from pathlib import Path

import numpy as np
import pandas as pd
import SimpleITK as sitk
import write_viewer
from scipy.spatial.transform import Rotation

from cohortmorph.cohort.methods import Method
from cohortmorph.evaluation.tables import Evaluation, table_of
from cohortmorph.run.files import write_json, write_table
from cohortmorph.spatial import displacement, geometry, landmarks
from cohortmorph.spatial.geometry import Grid, to_image

PAIRS = ["A1-T1_to_A1-CT", "A2-T1_to_A2-CT"]
NETWORK, OTHER = "voxelmorph_weight-2_epoch-20", "voxelmorph-diff_weight-4_epoch-20"  # the first is the better one
METHODS = ["initial", "affine", "broken", OTHER, NETWORK]
GRID = Grid(
    (24, 30, 16), (2.0, 2.0, 3.0), (-20.0, 11.0, 40.0),
    tuple(Rotation.from_euler("xyz", [4, -7, 12], degrees=True).as_matrix().ravel()),
)  # fmt: skip
# How far each method moves the middle, mm, LPS; the best network's field folds.
SIZES_MM = {"initial": 0.0, "affine": 3.0, OTHER: 5.0, NETWORK: 14.0}
WHY = "no overlap of the images"


def field(size_mm, grid=GRID):
    """Return a bump of a displacement in the middle of the grid, of this size in mm."""
    distance_mm = np.linalg.norm(grid.points_mm() - grid.centre_mm, axis=-1, keepdims=True)
    bump = np.exp(-((distance_mm / 8) ** 2)) * size_mm * np.array([0.8, -0.5, 0.33])
    return to_image(bump.astype(np.float32), grid)


def image(seed):
    """Return an image of blobs on the grid: the brightest lies at the patient's left (LPS +x)."""
    points_mm, rng = GRID.points_mm(), np.random.default_rng(seed)
    values = np.zeros(GRID.size)
    for shift_mm in rng.uniform(-14, 14, (12, 3)):
        values += 40 * np.exp(-(np.linalg.norm(points_mm - GRID.centre_mm - shift_mm, axis=-1) ** 2) / 30)
    values += 150 * np.exp(-(np.linalg.norm(points_mm - GRID.centre_mm - [14, 0, 0], axis=-1) ** 2) / 20)
    return to_image(values.astype(np.float32), GRID)


class MadeUp:
    """Two pairs in `folder`/results; the second has no landmarks."""

    def __init__(self, folder):
        self.folder = Path(folder)
        rng = np.random.default_rng(5)
        self.fixed_lps_mm = GRID.to_world(rng.uniform(0.3, 0.7, (6, 3)) * (np.array(GRID.size) - 1))
        self.fixed_lps_mm[5] = GRID.centre_mm + [200, 0, 0]  # outside of the image
        self.moving_lps_mm = self.fixed_lps_mm + rng.uniform(-2, 2, (6, 3))
        with chdir(self.folder):
            self._write()

    def path(self, pair, method, name):
        """Return a file of a pair and method."""
        return self.folder / "results/pairs" / pair / method / name

    def _write(self):
        for subject, seed in (("A1", 1), ("A2", 2)):
            for n, name in enumerate(("CT", "T1")):
                geometry.write_image(image(seed + 10 * n), f"results/images/{subject}/{name}.nii.gz")
        moved, rows = {pair: {} for pair in PAIRS}, []
        for pair in PAIRS:
            moving = sitk.ReadImage(f"results/images/{pair[:2]}/T1.nii.gz")
            for method in METHODS:
                folder = Path("results/pairs", pair, method)
                moved[pair][method] = str(folder / "moved.nii.gz")
                if method == "broken":
                    displacement.write_failed(GRID, folder / "displacement.nii.gz")
                    geometry.write_image(moving * 0, moved[pair][method])
                    continue
                displacement.write(field(SIZES_MM[method]), folder / "displacement.nii.gz")
                geometry.write_image(displacement.warp(moving, field(SIZES_MM[method])), moved[pair][method])
                values = [("tre_mean", "total", 1.23456 + len(rows), "mm"), ("folding", "image", 0.5, "%")]
                rows.append(table_of(values, pair, "test", method))
        tables = Path("results/evaluation")
        write_table(pd.concat(rows), tables / "metrics.tsv")
        failed = {"pair": PAIRS, "split": "test", "method": "broken", "weight": "", "epoch": None, "why": WHY}
        write_table(pd.DataFrame(failed), tables / "failures.tsv")
        choices = []
        for method, value in ((OTHER, 3.5), (NETWORK, 3.0)):
            of = Method.of(method)
            choice = {"network": of.name, "weight": of.weight, "epoch": of.epoch, "metric": "tre_mean", "value": value}
            choices.append(tables / of.name / "selected_model.json")
            write_json(choice | {"folding_percent": 0.1, "admissible": True}, choices[-1])
        for name, points in (("CT", self.fixed_lps_mm), ("T1", self.moving_lps_mm)):
            table = pd.DataFrame(points, columns=landmarks.COORDINATES)
            table.insert(0, "landmark", [f"Miller_{n}" for n in range(len(points))])
            landmarks.write_tsv(table, f"results/{name}.tsv")
        Path("results/report.html").write_text("<title>the report</title>")
        images = {"CT": {"window": [0, 120]}, "T1": {"percentiles": [1, 99]}}

        def described(subject, name):
            file = f"results/images/{subject}/{name}.nii.gz"
            return {"name": f"{subject}-{name}", "file": file, "intensity": images[name]}

        pairs = [
            {"pair": pair, "split": split, "moved": moved[pair], "landmarks": landmarks_of_pair,
             "fixed": described(pair[:2], "CT"), "moving": described(pair[:2], "T1")}
            for pair, split, landmarks_of_pair in zip(
                PAIRS, ("validation", "test"), (["results/CT.tsv", "results/T1.tsv"], None), strict=True
            )
        ]  # fmt: skip
        given = {"metrics": tables / "metrics.tsv", "failures": tables / "failures.tsv"}
        evaluation = Evaluation.read(given | {"selected": choices})
        write_viewer.main(evaluation, pairs, "results/viewer", phantom=True)
