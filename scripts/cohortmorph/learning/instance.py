"""Instance optimization: a pair's displacement refined by gradient steps on the loss that networks are trained with.

No network learns here. The residual r of a start (the affine, or what a network answered) is a cubic B-spline on a
grid of control points (Rueckert et al., IEEE TMI 1999), improved by Adam, from coarse images and wide grids to fine
ones:

    u(x) = start(x) + r(x),   L = L_sim(F(x), M(x + u(x))) + λ · L_reg(v) + μ · L_folding(u),
    v = u − (the affine part of the start), or v = r.

M is the moving image on its own grid, sampled once for each step; images are never resampled through each other.
(Balakrishnan et al., IEEE TMI 2019, section V-E; Siebert et al., ConvexAdam, 2021.)
"""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
import yaml

from cohortmorph import UserError
from cohortmorph.registration.problem import Problem, Registered, Run
from cohortmorph.registration.process import Cost, peak_memory_mb
from cohortmorph.run.files import StrPath
from cohortmorph.spatial import displacement
from cohortmorph.spatial.geometry import Grid, to_array, to_image

NUMBER = (int, float)
LEVEL: dict[str, Any] = {"spacing_mm": NUMBER, "grid_mm": NUMBER, "iterations": int, "step_mm": NUMBER}
KEYS: dict[str, Any] = {
    "dimensions": int,
    "similarity": dict,
    "weight": (int, float),
    "penalized": str,
    "folding_weight": (int, float),
    "levels": list,
}
DEFAULTS: dict[str, Any] = {"penalized": "displacement", "folding_weight": 0}
PENALIZED = ("displacement", "change")


def register(problem: Problem, parameters: Sequence[StrPath], run: Run) -> Registered:
    """Refine a pair's start; see :class:`cohortmorph.registration.problem.Tool`.

    The one parameter file is that of :func:`read_settings`. The similarity counts in the mask. Nothing is drawn; the
    seed is fixed for TensorFlow, whose import and compilation count as cost. How the loss of each level went stands in
    the provenance.
    """
    fixed, moving, fixed_mask, initial = problem.fixed, problem.moving, problem.mask, problem.start
    (path,) = parameters
    settings = read_settings(path)
    started, cpu_started = time.monotonic(), time.process_time()
    # Loaded where it is needed: the workflow reads this module's settings without TensorFlow.
    from cohortmorph.learning.losses import SIMILARITIES
    from cohortmorph.learning.networks import start_tensorflow, tf

    name, unknown = settings["similarity"].get("name"), settings["similarity"].keys() - {"name"}
    known = SIMILARITIES.get(name, (None, []))[1]
    if name not in SIMILARITIES or unknown - set(known):
        names = "; ".join(f"{each} with {', '.join(of) or 'nothing'}" for each, (_, of) in SIMILARITIES.items())
        raise UserError(
            f"{path}: similarity: found {settings['similarity']}; expected a name with its own keys: {names}."
        )
    start_tensorflow(run.seed, run.threads)
    grid = Grid.of(fixed)
    total = to_array(displacement.sample(initial, grid)).astype(np.float64)
    free = total
    if settings["penalized"] == "displacement":
        points_mm = grid.points_mm()
        matrix, offset_mm = affine_part(points_mm, total)
        free = points_mm @ matrix + offset_mm
    unpenalized = to_image(free, grid)
    course: list[dict[str, Any]] = []
    for level in settings["levels"]:
        images = fixed, moving, fixed_mask, to_image(total, grid), unpenalized
        residual, went = _Level(settings, level, *images).descend()
        total, course = total + residual, [*course, went]
        if not np.isfinite(total).all():
            raise UserError(f"the loss stopped being a number at level {len(course)} of {path}: lower its step_mm.")
    cost = Cost(time.monotonic() - started, time.process_time() - cpu_started, peak_memory_mb())
    how = {"version": f"TensorFlow {tf.version.VERSION}", "mask_used": fixed_mask is not None, "levels": course}
    return Registered(displacement.as_transform(to_image(total, grid)), cost, how)


def read_settings(path: StrPath) -> dict[str, Any]:
    """Read a parameter file of the instance optimization.

    Returns
    -------
    dict
        ``dimensions`` (2: within slices along the third axis, each for itself; 3), ``similarity`` (as in the config's
        ``voxelmorph`` section), ``weight`` (λ; L_reg is the mean over voxels and axes of ‖∂v‖², v in mm, x in mm),
        ``penalized`` (what v is: ``displacement``, u less the affine part of the start, if it is not given; ``change``,
        what is added to the start), ``folding_weight`` (μ, 0 if it is not given; L_folding is
        :func:`cohortmorph.learning.losses.folding_penalty` of u), and ``levels``, each with ``spacing_mm``
        of the images (not below their own), ``grid_mm`` between control points, ``iterations`` and ``step_mm``, the
        first step's length of Adam (it falls to a tenth along a cosine).

    Raises
    ------
    UserError
        With all that is wrong in it.
    """
    try:
        settings = yaml.safe_load(Path(path).read_text())
    except yaml.YAMLError as error:
        raise UserError(f"{path}: not readable as YAML: {' '.join(str(error).split())}.") from None
    if not isinstance(settings, dict):
        raise UserError(
            f"{path}: expected the keys {', '.join(key for key in KEYS if key not in DEFAULTS)}, each with a value."
        )
    settings = DEFAULTS | settings
    wrong = _wrong(settings, KEYS, "")
    levels: Any = settings.get("levels")
    for number, level in enumerate(levels if isinstance(levels, list) else [], 1):
        where = f"level {number}, "
        wrong += _wrong(level, LEVEL, where) if isinstance(level, dict) else [f"{where}found {level!r}"]
    if not wrong:
        wrong += [f"dimensions: found {settings['dimensions']}; expected 2 or 3"] * (
            settings["dimensions"] not in (2, 3)
        )
        wrong += [f"penalized: found {settings['penalized']}; expected {' or '.join(PENALIZED)}"] * (
            settings["penalized"] not in PENALIZED
        )
        wrong += [
            f"{key}: found {settings[key]}; expected 0 or more"
            for key in ("weight", "folding_weight")
            if settings[key] < 0
        ]
        wrong += ["levels: expected at least one"] * (not levels)
        wrong += [
            f"level {number}, {key}: found {level[key]}; expected more than 0"
            for number, level in enumerate(levels, 1)
            for key in LEVEL
            if not level[key] > 0
        ]
    if wrong:
        raise UserError(f"{path}: {'; '.join(wrong)}.")
    return settings


def _wrong(found: Mapping[str, Any], expected: Mapping[str, Any], where: str) -> list[str]:
    """Return what is wrong with the keys and kinds of a mapping."""
    wrong = [f"{where}unknown key {key}" for key in found if key not in expected]
    wrong += [f"{where}{key} is missing" for key in expected if key not in found]
    return wrong + [
        f"{where}{key}: found {found[key]!r}"
        for key, kind in expected.items()
        if key in found and (not isinstance(found[key], kind) or isinstance(found[key], bool))
    ]


def affine_part(points_mm: np.ndarray, displacement_mm: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return (matrix, offset) of the affine displacement ``x @ matrix + offset`` nearest to some (least squares).

    Parameters
    ----------
    points_mm, displacement_mm : array, shape (..., 3)

    Examples
    --------
    >>> points = np.random.default_rng(1).normal(size=(9, 3))
    >>> matrix, offset = affine_part(points, points @ np.diag([0.1, 0, 0]) + [1, 2, 3])
    >>> matrix.round(6)[0, 0].item(), offset.round(6).tolist()
    (0.1, [1.0, 2.0, 3.0])
    """
    points_mm, displacement_mm = points_mm.reshape(-1, 3), displacement_mm.reshape(-1, 3)
    # Centred: the middle may lie a metre from the origin.
    middle = points_mm.mean(axis=0)
    solved = np.linalg.lstsq(
        np.column_stack([points_mm - middle, np.ones(len(points_mm))]), displacement_mm, rcond=None
    )[0]
    return solved[:3], solved[3] - middle @ solved[:3]


def bspline_matrix(positions_mm: np.ndarray, length_mm: float, spacing_mm: float) -> np.ndarray:
    """Return the cubic B-splines of evenly spaced control points at some positions, shape (positions, control points).

    Parameters
    ----------
    positions_mm : array, shape (n,)
        From 0 to `length_mm`.
    spacing_mm : float
        Of the control points; narrowed so that whole intervals fit. One more lies beyond each end.
    """
    intervals = max(1, round(np.ceil(length_mm / spacing_mm - 1e-6)))
    steps = np.asarray(positions_mm) / (length_mm / intervals if length_mm > 0 else 1.0)
    distance = np.abs(steps[:, None] - np.arange(-1, intervals + 2)[None])
    near, far = 2 / 3 - distance**2 + distance**3 / 2, np.maximum(2 - distance, 0) ** 3 / 6
    return np.where(distance < 1, near, far)


def coarser(image: sitk.Image, spacing_mm: Sequence[float]) -> sitk.Image:
    """Smooth an image and sample it at `spacing_mm` (three numbers; nowhere below its own), inside its own grid."""
    grid = Grid.of(image)
    own_mm, size = np.array(grid.spacing_mm), np.array(grid.size)
    new_mm = np.where(size > 1, np.maximum(spacing_mm, own_mm), own_mm)
    new_size = np.floor((size - 1) * own_mm / new_mm + 1e-6).astype(int) + 1
    if np.array_equal(new_size, size):
        return image
    # What lies between the samples is averaged: without that, edges turn into steps that depend on their position.
    variances_mm2 = np.maximum(0.25 * (new_mm**2 - own_mm**2), 1e-6 * own_mm**2)
    smooth = sitk.DiscreteGaussian(image, variances_mm2.tolist(), 32, 0.01, True)
    origin_mm = grid.centre_mm - grid.axes @ (new_mm * (new_size - 1) / 2)
    new = Grid(tuple(map(int, new_size)), tuple(map(float, new_mm)), tuple(map(float, origin_mm)), grid.direction)
    return _sampled(smooth, new)


def _sampled(image: sitk.Image, grid: Grid) -> sitk.Image:
    """Sample an image (or field) linearly on a grid that lies inside its own."""
    return sitk.Resample(
        image, grid.size, sitk.Transform(), sitk.sitkLinear, grid.origin_mm, grid.spacing_mm, grid.direction
    )


class _Level:
    """Gradient descent on one grid of control points, at one spacing of the images.

    Vectors have components in mm along the fixed image's axes; in 2-D there are two, and slices are a batch.
    """

    def __init__(self, settings, level, fixed, moving, mask, total, unpenalized):
        self.level, self.similarity, self.weight = level, settings["similarity"], settings["weight"]
        self.folding_weight = settings["folding_weight"]
        self.dimensions = settings["dimensions"]
        grid, moving_grid = Grid.of(fixed), Grid.of(moving)
        spacings_mm = [
            [level["spacing_mm"]] * self.dimensions + list(of.spacing_mm[self.dimensions :])
            for of in (grid, moving_grid)
        ]
        self.fixed, self.moving = coarser(fixed, spacings_mm[0]), coarser(moving, spacings_mm[1])
        self.own_grid, self.grid, self.moving_grid = grid, Grid.of(self.fixed), Grid.of(self.moving)
        mask = fixed * 0 + 1 if mask is None else sitk.Cast(mask != 0, sitk.sitkFloat32)
        points_mm, total_mm = self.grid.points_mm(), to_array(_sampled(total, self.grid))
        self.start_indices = self.moving_grid.to_indices(points_mm + total_mm)
        # What the moving image does not show says nothing about likeness.
        self.importance = to_array(_sampled(mask, self.grid)) * self.moving_grid.contains(points_mm + total_mm)
        bent_mm = total_mm - to_array(_sampled(unpenalized, self.grid))
        self.start_mm = (total_mm @ self.grid.axes)[..., : self.dimensions]
        self.start_bent_mm = (bent_mm @ self.grid.axes)[..., : self.dimensions]

    def splines(self, grid):
        """Return the matrix of each axis from control points to the voxels of `grid`."""
        first_mm = self.own_grid.axes.T @ (np.array(grid.origin_mm) - np.array(self.own_grid.origin_mm))
        matrices = []
        for axis in range(self.dimensions):
            length_mm = (self.own_grid.size[axis] - 1) * self.own_grid.spacing_mm[axis]
            positions_mm = first_mm[axis] + np.arange(grid.size[axis]) * grid.spacing_mm[axis]
            matrices.append(bspline_matrix(positions_mm, length_mm, self.level["grid_mm"]))
        # Slices of a 2-D refinement know nothing of each other.
        return matrices + [np.eye(grid.size[axis]) for axis in range(self.dimensions, 3)]

    def descend(self):
        """Return the residual on the fixed image's own grid, (*size, 3) in mm LPS, and how the loss went."""
        from cohortmorph.learning.losses import folding_penalty, similarity_to
        from cohortmorph.learning.networks import along_axes, sample, tf

        def spread(points, matrices):
            return along_axes(matrices, points[None])[0]

        def batch(values):
            """Put the axis of samples first: one volume, or the slices."""
            return values[None] if self.dimensions == 3 else tf.transpose(values, [2, 0, 1, 3])

        axes, axes_of_moving = self.grid.axes[:, : self.dimensions], np.linalg.inv(self.moving_grid.steps_mm)
        to_indices = tf.constant((axes_of_moving @ axes).T, tf.float32)
        start_indices, start, start_bent = (
            tf.constant(values, tf.float32) for values in (self.start_indices, self.start_mm, self.start_bent_mm)
        )
        spacing_mm = np.array(self.grid.spacing_mm[: self.dimensions], np.float32)
        fixed, importance = (
            batch(tf.constant(values[..., None], tf.float32)) for values in (to_array(self.fixed), self.importance)
        )
        moving = tf.constant(to_array(self.moving)[..., None], tf.float32)
        matrices, unlike = self.splines(self.grid), similarity_to(fixed, self.similarity, importance)

        @tf.function(jit_compile=True, autograph=False)
        def loss_and_gradient(points):
            with tf.GradientTape() as tape:
                tape.watch(points)
                residual_mm = spread(points, matrices)
                moved = batch(sample(moving, start_indices + tf.einsum("ijkd,dc->ijkc", residual_mm, to_indices)))
                likeness = tf.reduce_mean(unlike(moved))
                penalty = self._penalty(start_bent + residual_mm)
                folding = tf.constant(0.0)
                if self.folding_weight and min(self.grid.size[: self.dimensions]) > 1:  # one slice has no volume
                    folding = tf.reduce_mean(folding_penalty(batch((start + residual_mm) / spacing_mm)))
                loss = likeness + self.weight * penalty + self.folding_weight * folding
            return tape.gradient(loss, points), likeness, penalty, folding

        points = tf.Variable(tf.zeros([*(matrix.shape[1] for matrix in matrices), self.dimensions]))
        first, second = tf.Variable(tf.zeros_like(points)), tf.Variable(tf.zeros_like(points))
        iterations, course = self.level["iterations"], []
        for number in range(1, iterations + 1):
            gradient, *parts = loss_and_gradient(points)
            course.append([float(part) for part in parts])
            if not np.isfinite(course[-1]).all():
                break
            # Adam (Kingma and Ba, 2015), as the paper writes it: Keras' own puts its ε elsewhere and rounds in another
            # order, and would change results. The step falls to a tenth, so that the last ones settle.
            first.assign(0.9 * first + 0.1 * gradient)
            second.assign(0.999 * second + 0.001 * gradient**2)
            step_mm = self.level["step_mm"] * (0.1 + 0.45 * (1 + np.cos(np.pi * number / iterations)))
            moments = first / (1 - 0.9**number), second / (1 - 0.999**number)
            points.assign_sub(step_mm * moments[0] / (tf.sqrt(moments[1]) + 1e-8))
        residual_mm = spread(points, self.splines(self.own_grid)).numpy() if np.isfinite(course[-1]).all() else np.nan
        residual_mm = np.zeros((*self.own_grid.size, self.dimensions)) + residual_mm
        names = ("similarity", "penalty", "folding")
        went = {name: [course[0][n], course[-1][n]] for n, name in enumerate(names)} | {"iterations": len(course)}
        return residual_mm @ axes.T, went

    def _penalty(self, bent_mm):
        """Return the mean over voxels, components and axes of (∂v)², v in mm by mm: `mean` of the networks' loss."""
        from cohortmorph.learning.networks import tf

        total, counted = 0.0, 0
        for axis in range(self.dimensions):
            size = self.grid.size[axis]
            if size > 1:
                ahead = tf.gather(bent_mm, tf.range(1, size), axis=axis)
                behind = tf.gather(bent_mm, tf.range(size - 1), axis=axis)
                total += tf.reduce_mean(((ahead - behind) / self.grid.spacing_mm[axis]) ** 2)
                counted += 1
        return total / max(counted, 1)
