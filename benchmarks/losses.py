"""Which similarity finds a known displacement between a real T1 and a real T2, and what integration does to folding.

    python benchmarks/losses.py planted T1 T2 --dimensions 2 --spacing-mm 2 2 6.5
    python benchmarks/losses.py folding FOLDER [--pairs 8]

No network: the displacement of the one pair is found by gradient steps (Adam) on the loss itself, from zero, on a
field of a quarter of the resolution, so that nothing but the loss differs. `planted` takes two images of one head or
spine that lie on each other (a NIfTI file or a folder of one DICOM series each). The fixed image is the T2 deformed
by a random smooth field (RegNet's, `cohortmorph.simulated.synthetic`); the T1 is to be moved onto it. λ is tuned for
each loss on one field, the error is measured on others: mean ‖u − u_true‖ in mm over the body. `folding` takes a run's
results/pairs, whose network inputs and labels are registered with a displacement and with an integrated velocity.
"""

import argparse
import itertools
import os
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import SimpleITK as sitk
from scipy.ndimage import binary_fill_holes, gaussian_filter

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))

from cohortmorph.clinic import reader as dicom
from cohortmorph.evaluation import metrics, plausibility
from cohortmorph.learning.losses import folding_penalty, gradient_penalty, similarity
from cohortmorph.learning.networks import start_tensorflow, tf, upsample, warp
from cohortmorph.simulated.synthetic import Field, random_displacement
from cohortmorph.spatial import displacement, labels
from cohortmorph.spatial.geometry import Grid, network_grid, read_image, to_array, to_image
from cohortmorph.spatial.intensity import prepare

LOSSES = {
    "ncc-squared, image": {"name": "ncc-squared", "window": None},
    "ncc-squared, 9": {"name": "ncc-squared", "window": 9},
    "ncc-voxelmorph, image": {"name": "ncc-voxelmorph", "window": None},
    "ncc-voxelmorph, 9 (stock)": {"name": "ncc-voxelmorph", "window": 9},
    "mse": {"name": "mse"},
    "nmi": {"name": "nmi"},
    "mind": {"name": "mind"},
}
WEIGHTS = (0.1, 1, 10, 100)
TUNING_SEED, TEST_SEEDS = 1, (2, 3)


class Optimizer:
    """Adam on the field of a batch of images; compiled once for a loss and a size, then run with any λ and images."""

    def __init__(
        self, shape, chosen, int_steps=0, regularization="l2", folding_weight=0.0, coarser=4, step_voxels=0.05
    ):
        self.coarse = [-(-n // coarser) for n in shape[1:-1]]
        self.field = tf.Variable(tf.zeros((shape[0], *self.coarse, len(self.coarse))))
        self.step_voxels, self.int_steps = step_voxels, int_steps
        compare = similarity(chosen)

        def displacement_of(field):
            if int_steps:
                field = field / 2**int_steps
                for _ in range(int_steps):
                    field = field + warp(field, field)
            return coarser * upsample(field, shape[1:-1])

        @tf.function(jit_compile=True)
        def gradient(field, fixed, moving, weight):
            with tf.GradientTape() as tape:
                tape.watch(field)
                moved = displacement_of(field)
                loss = compare(fixed, warp(moving, moved))
                loss += weight * gradient_penalty(field, "mean", coarser, regularization)
                if folding_weight:
                    loss += folding_weight * folding_penalty(moved)
                loss = tf.reduce_sum(loss)
            return tape.gradient(loss, field)

        self.gradient, self.displacement_of = gradient, tf.function(displacement_of, jit_compile=True)

    def __call__(self, fixed, moving, weight, steps):
        """Return the displacement in voxels, shape (batch, *shape, dimensions)."""
        self.field.assign(tf.zeros_like(self.field))
        adam = tf.keras.optimizers.Adam(self.step_voxels)
        adam.build([self.field])
        weight = tf.constant(weight, tf.float32)
        for _ in range(steps):
            adam.apply_gradients([(self.gradient(self.field, fixed, moving, weight), self.field)])
        return self.displacement_of(self.field).numpy()


# ---- a planted displacement between two contrasts


def read(path):
    """Read an image, a NIfTI file or a folder of one series, with values in [0, 1]."""
    image = dicom.read_series(path)[0] if Path(path).is_dir() else read_image(path)
    return prepare(sitk.Cast(image, sitk.sitkFloat32), {"percentiles": [0.5, 99.5]})


class Planted:
    """The pairs of one T1 and one T2: as batches of slices in 2-D, as one volume in 3-D."""

    def __init__(self, t1, t2, dimensions, spacing_mm, kind, slices):
        self.dimensions, self.kind = dimensions, kind
        self.t1, self.t2 = read(t1), read(t2)
        self.grid = network_grid(Grid.of(self.t2), spacing_mm, dimensions, 2)
        middle = (self.grid.size[2] - slices) // 2 if dimensions == 2 and slices else 0
        # The same slices in every field; the others are made as well, and left out.
        self.slices = slice(middle, middle + slices if middle else None)

    def batch(self, values):
        """Return an array indexed [i, j, k] as (batch, *shape)."""
        return np.moveaxis(values, 2, 0)[self.slices] if self.dimensions == 2 else values[None]

    def make(self, seed):
        """Return fixed, moving (batch, *shape, 1), the true displacement in voxels, and the body as a boolean array."""
        truth = random_displacement(self.kind, self.grid, np.random.default_rng(seed))
        voxels = to_array(truth) @ np.linalg.inv(self.grid.steps_mm).T
        voxels[..., self.dimensions :] = 0
        fixed, moving = (
            to_array(sitk.Resample(image, grid_image, transform, sitk.sitkLinear, 0.0))
            for grid_image in [to_image(np.zeros(self.grid.size, np.float32), self.grid)]
            for image, transform in [
                (self.t2, displacement.as_transform(displacement.from_voxels(voxels, self.grid))),
                (self.t1, sitk.Transform(3, sitk.sitkIdentity)),
            ]
        )
        # Where both images show something: what one of them does not reach cannot be found again.
        body = [gaussian_filter(image, [3 / step for step in self.grid.spacing_mm]) > 0.1 for image in (fixed, moving)]
        body = binary_fill_holes(np.logical_and(*body))
        images = [tf.constant(self.batch(image)[..., None], tf.float32) for image in (fixed, moving)]
        return *images, self.batch(voxels[..., : self.dimensions]), self.batch(body)

    def error_mm(self, found, true, body):
        """Return the mean length of the difference over the body, mm."""
        spacing_mm = np.array(self.grid.spacing_mm[: self.dimensions])
        return float(np.linalg.norm((found - true) * spacing_mm, axis=-1)[body].mean())


def planted(arguments):
    """Print a table: for each loss the λ chosen, the error that is left, and the time of a registration."""
    kind = Field(arguments.sigma_mm, 100, arguments.largest_mm)
    spacing_mm = arguments.spacing_mm if len(arguments.spacing_mm) > 1 else arguments.spacing_mm[0]
    pairs = Planted(arguments.t1, arguments.t2, arguments.dimensions, spacing_mm, kind, arguments.slices)
    tuning, tests = pairs.make(TUNING_SEED), [pairs.make(seed) for seed in TEST_SEEDS]
    before = [pairs.error_mm(0 * true, true, body) for _, _, true, body in (tuning, *tests)]
    print(f"grid {pairs.grid.size}, spacing {np.round(pairs.grid.spacing_mm, 3)} mm, {arguments.steps} steps")
    print("before:", np.round(before, 3), flush=True)
    rows = []
    for name, chosen in LOSSES.items():
        register = Optimizer(tuning[0].shape, chosen)
        tuned = {}
        for weight in WEIGHTS:
            fixed, moving, *known = tuning
            tuned[weight] = pairs.error_mm(register(fixed, moving, weight, arguments.steps), *known)
        best = min(tuned, key=tuned.get)
        started, errors = time.perf_counter(), []
        for fixed, moving, *known in tests:
            errors.append(pairs.error_mm(register(fixed, moving, best, arguments.steps), *known))
        seconds = (time.perf_counter() - started) / len(tests)
        at_end = "at the end of the grid" if best in (WEIGHTS[0], WEIGHTS[-1]) else ""
        rows.append([name, best, *np.round(errors, 3), round(np.mean(errors), 3), round(seconds, 1), at_end])
        print(rows[-1], "tuning:", {weight: round(error, 3) for weight, error in tuned.items()}, flush=True)
    columns = ["loss", "λ", *(f"seed {seed}" for seed in TEST_SEEDS), "mean error mm", "s", ""]
    print(pd.DataFrame(rows, columns=columns).to_string(index=False))


# ---- folding with and without integration

ABLATION = {
    "displacement": {"int_steps": 0},
    "displacement, folding penalty": {"int_steps": 0, "folding_weight": 10.0},
    "velocity, 7 steps": {"int_steps": 7},
    "velocity, 7 steps, folding penalty": {"int_steps": 7, "folding_weight": 10.0},
}


def folding(arguments):
    """Print Dice, SDlogJ, folding and NDV, means over pairs, for displacement and velocity at each λ."""
    files = sorted(Path(arguments.folder).glob("*/network_input_*.nii.gz"))
    files = [file for file in files if file.with_name("network_labels.nii.gz").is_file()]
    chosen = list(itertools.islice(itertools.pairwise(files), 0, 2 * arguments.pairs, 2))
    images = {file: read_image(file) for pair in chosen for file in pair}
    maps = {file: labels.read(file.with_name("network_labels.nii.gz")) for file in images}
    shape = (1, *next(iter(images.values())).GetSize(), 1)
    print(f"{len(chosen)} pairs of {shape[1:-1]}", flush=True)

    def measure(fixed, moving, field):
        moved = to_array(displacement.warp_labels(maps[moving], field))
        structures, _ = metrics.shared_structures(to_array(maps[fixed]), to_array(maps[moving]))
        rows = metrics.overlap(to_array(maps[fixed]), moved, structures)
        rows += plausibility.regularity(displacement.jacobian_determinant(field))
        rows += plausibility.folded_volume(displacement.non_diffeomorphic_volume(field))
        return {name: value for name, of, value, _ in rows if of in ("mean", "image")}

    table = []
    for name, settings in {"before": None, **ABLATION}.items():
        register = settings and Optimizer(shape, {"name": "ncc-squared", "window": 7}, **settings)
        for weight in arguments.weights if settings else [np.nan]:
            found = []
            for fixed, moving in chosen:
                grid = Grid.of(images[fixed])
                voxels = np.zeros((*grid.size, 3), np.float32)
                if register:
                    arrays = (
                        tf.constant(to_array(images[file])[None, ..., None], tf.float32) for file in (fixed, moving)
                    )
                    voxels = register(*arrays, weight, arguments.steps)[0]
                found.append(measure(fixed, moving, displacement.from_voxels(voxels, grid)))
            mean = pd.DataFrame(found).mean()
            worst = max(one["ndv"] for one in found)
            table.append([name, weight, *mean[["dice", "jacobian_sd_log", "folding", "ndv"]], worst])
            print(table[-1], flush=True)
    columns = ["method", "λ", "Dice", "SDlogJ", "folding %", "NDV %", "NDV % of the worst pair"]
    print(pd.DataFrame(table, columns=columns).round(5).to_string(index=False))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("planted")
    command.set_defaults(run=planted)
    command.add_argument("t1")
    command.add_argument("t2")
    command.add_argument("--dimensions", type=int, default=2)
    command.add_argument("--spacing-mm", type=float, nargs="+", default=[2.0])
    command.add_argument("--slices", type=int, help="in 2-D: so many in the middle of the stack only")
    command.add_argument("--sigma-mm", type=float, default=20)
    command.add_argument("--largest-mm", type=float, default=8)
    command.add_argument("--steps", type=int, default=100)
    command = commands.add_parser("folding")
    command.set_defaults(run=folding)
    command.add_argument("folder")
    command.add_argument("--pairs", type=int, default=8)
    command.add_argument("--weights", type=float, nargs="+", default=[0.1, 0.3, 1.0, 3.0])
    command.add_argument("--steps", type=int, default=100)
    for command in commands.choices.values():
        command.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    start_tensorflow(seed=1, threads=arguments.threads)
    print(f"TensorFlow {tf.__version__}, {arguments.threads} thread(s), load {os.getloadavg()[0]:.1f}")
    arguments.run(arguments)
    print(f"load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
