"""The parts of the training loss, as TensorFlow functions; docs/losses.md has formulas, ranges and when to use which.

L(F, M, φ) = L_sim(F, M∘φ) + λ · L_reg(u) (+ γ · L_labels + μ · L_folding + ν · L_incompressible).
Images have shape (batch, *shape, 1) and values in [0, 1]; fields have shape (batch, *shape, dimensions), in voxels.
Each function returns one number a sample, shape (batch,).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

# TensorFlow comes from `networks`, which prepares its import.
from cohortmorph.learning.neighbours import (
    LEAST_SHARE,
    at_corner,
    central_difference,
    forward_difference,
    window_means,
)
from cohortmorph.learning.networks import tf
from cohortmorph.learning.self_similarity import self_similarity, self_similarity_alone

# On windows of images in [0, 1]: product of two variances below which a window counts as flat.
FLAT = 1e-9
# A probability of 0 costs log(1 / this) in the cross-entropy.
LEAST_PROBABILITY = 1e-3


def ncc_squared(
    fixed: tf.Tensor,
    moved: tf.Tensor,
    window: int | None = None,
    importance: tf.Tensor | None = None,
    alone: bool = False,
) -> tf.Tensor:
    """Return −NCC(F, M∘φ), the course's squared NCC (A. Ratke, 2021): blind to the sign of the contrast.

    ``NCC = (Σ(F−F̄)(M−M̄))² / (Σ(F−F̄)² Σ(M−M̄)²)``, in [0, 1].

    Parameters
    ----------
    window : int, optional
        Side of the window, in voxels, over which the means and sums run for each voxel (cut off at the border);
        without it they run over the whole image.
    """
    covariance, fixed_variance, moved_variance = _second_moments(fixed, moved, window, importance, alone)
    return -_mean(covariance**2 / (fixed_variance * moved_variance + FLAT), importance)


def ncc_voxelmorph(
    fixed: tf.Tensor,
    moved: tf.Tensor,
    window: int | None = None,
    importance: tf.Tensor | None = None,
    alone: bool = False,
) -> tf.Tensor:
    """Return the NCC loss of voxelmorph 0.2: a negative covariance is clipped to 0 before it is squared.

    Two differences: at the border windows are cut off instead of filled with zeros; windows that are flat in both
    images count as 0, while voxelmorph's epsilons make them 1 (a constant: the gradient is the same).
    """
    covariance, fixed_variance, moved_variance = _second_moments(fixed, moved, window, importance, alone)
    return -_mean(tf.maximum(covariance, 0.0) ** 2 / (fixed_variance * moved_variance + FLAT), importance)


def mse(fixed: tf.Tensor, moved: tf.Tensor, importance: tf.Tensor | None = None) -> tf.Tensor:
    """Return the mean squared difference."""
    return _mean((fixed - moved) ** 2, importance)


def nmi(fixed: tf.Tensor, moved: tf.Tensor, bins: int = 32, importance: tf.Tensor | None = None) -> tf.Tensor:
    """Return 1 − NMI with ``NMI = (H(F) + H(M∘φ)) / H(F, M∘φ)``: 0 for independent images, −1 for a sharp relation.

    Studholme, Hill & Hawkes 1999. The joint histogram is a Parzen estimate with cubic B-splines (Thévenaz & Unser
    2000): a value in [0, 1] is shared by four neighbouring bins, so that the gradient exists everywhere. That blurs
    the histogram: even an image and itself do not reach −1.

    Parameters
    ----------
    bins : int
        Number of bins along each side of the histogram. Time and memory grow with voxels · bins.
    """
    shares = [_bin_shares(image, bins) for image in (fixed, moved)]
    if importance is not None:
        shares[0] *= tf.reshape(importance, [1, importance.shape[0], -1])
    joint = tf.einsum("vbn,wbn->bvw", *shares)
    joint /= tf.reduce_sum(joint, axis=[1, 2], keepdims=True) + 1e-9
    fixed_entropy, moved_entropy = (_entropy(tf.reduce_sum(joint, axis=axis)) for axis in (2, 1))
    # Where no voxel counts there is nothing to tell.
    return 1 - tf.math.divide_no_nan(fixed_entropy + moved_entropy, _entropy(tf.reshape(joint, [-1, bins**2])))


# Voxels from a patch's middle to its side, and from the middle to its neighbours.
MIND_PATCHES = {"radius": 1, "dilation": 2}


def mind(
    fixed: tf.Tensor,
    moved: tf.Tensor,
    radius: int = MIND_PATCHES["radius"],
    dilation: int = MIND_PATCHES["dilation"],
    importance: tf.Tensor | None = None,
    alone: bool = False,
) -> tf.Tensor:
    """Return the mean squared difference of the self-similarity contexts, MIND-SSC; in [0, 1], 0 for equal contexts.

    Heinrich et al., MICCAI 2013. Around each voxel, the patches at two neighbours (of six in 3-D, of four in 2-D) that
    do not lie opposite are compared: 12 distances D in 3-D, 4 in 2-D, each the mean squared difference over a
    patch. The descriptor is exp(−(D − min D) / V), with V the mean of the D, at least a thousandth of its mean over
    the image, as in the authors' code. It says where an image changes, not how: any I → a·I + b keeps it.

    Parameters
    ----------
    radius : int
        Voxels from a patch's middle to its side.
    dilation : int
        Voxels from the middle to its neighbours.
    """
    if alone and importance is not None:
        (of_fixed, compared), (of_moved, _) = (
            self_similarity_alone(image, radius, dilation, importance) for image in (fixed, moved)
        )
        axes = [0, *range(2, len(fixed.shape) + 1)]
        counted = importance * compared
        return tf.math.divide_no_nan(
            tf.reduce_sum(counted * (of_fixed - of_moved) ** 2, axis=axes), tf.reduce_sum(counted, axis=axes)
        )
    return _mind_to(self_similarity(fixed, radius, dilation), moved, radius, dilation, importance)


def _mind_to(
    of_fixed: tf.Tensor, moved: tf.Tensor, radius: int, dilation: int, importance: tf.Tensor | None
) -> tf.Tensor:
    difference = of_fixed - self_similarity(moved, radius, dilation)
    return _mean(tf.reduce_mean(difference**2, axis=0), importance)


Similarity = Callable[..., tf.Tensor]  # (fixed, moved, importance=None) → a number a sample

# The settings of the config that each one takes.
SIMILARITIES: dict[str, tuple[Similarity, list[str]]] = {
    "ncc-squared": (ncc_squared, ["window"]),
    "ncc-voxelmorph": (ncc_voxelmorph, ["window"]),
    "mse": (mse, []),
    "nmi": (nmi, ["bins"]),
    "mind": (mind, ["radius", "dilation"]),
}


# Those that look around each voxel.
LOOK_AROUND = (ncc_squared, ncc_voxelmorph, mind)


def similarity(settings: Mapping[str, Any], alone: bool = False) -> Similarity:
    """Return the function (fixed, moved, importance=None) → loss that ``{"name": ..., "window": ...}`` names.

    It takes the settings that it knows. `importance`, (batch, *shape, 1): how much each voxel counts; a mask, perhaps.
    With `alone`, voxels that do not count are left out of the windows and patches around others, too: what they show
    changes nothing.
    """
    function, names = SIMILARITIES[settings["name"]]
    chosen = {name: settings[name] for name in names if name in settings}
    chosen |= {"alone": alone} if function in LOOK_AROUND else {}
    return lambda fixed, moved, importance=None: function(fixed, moved, importance=importance, **chosen)


def similarity_to(
    fixed: tf.Tensor, settings: Mapping[str, Any], importance: tf.Tensor | None = None
) -> Callable[[tf.Tensor], tf.Tensor]:
    """Return :func:`similarity` as a function of the moved image alone, for one fixed image that many are compared to.

    What MIND asks of the fixed image is computed here, once.
    """
    if settings["name"] != "mind":
        unlike = similarity(settings)
        return lambda moved: unlike(fixed, moved, importance)
    patches = {key: settings.get(key, usual) for key, usual in MIND_PATCHES.items()}
    of_fixed = self_similarity(fixed, **patches)
    return lambda moved: _mind_to(of_fixed, moved, **patches, importance=importance)


def gradient_penalty(field: tf.Tensor, convention: str, field_downsampling: int = 1, name: str = "l2") -> tf.Tensor:
    """Return L_reg, from the field's forward differences, in voxels of the field.

    Parameters
    ----------
    convention : {"mean", "sum"}
        ``sum`` is the course's, Σ over voxels, components and axes. ``mean`` is voxelmorph's: means over voxels and
        components, averaged over the axes, times the downsampling of the field. With n voxels and d dimensions,
        mean ≈ sum · field_downsampling / (n d²); for `bending`, which has d² pairs of axes, / (n d³).
    name : {"l2", "l1", "bending"}
        Σ ‖∇u‖², Σ |∇u| (each derivative by itself), or the bending energy Σ (∂²u / ∂a ∂b)² over all pairs of axes,
        mixed ones twice (Rueckert et al. 1999, equation 4), which leaves affine displacements free.
    """
    terms = _penalty_terms(field, name)
    if convention == "sum":
        return sum(_sum(term) for term in terms)
    return field_downsampling * sum(_mean(term) for term in terms) / len(terms)


def physical_gradient_penalty(field_mm: tf.Tensor, step_mm: tf.Tensor, convention: str, name: str = "l2") -> tf.Tensor:
    """Return L_reg of a field in mm by x in mm: the same for the same field on whatever grid it is sampled.

    Parameters
    ----------
    field_mm : tensor, shape (batch, *shape, dimensions)
        Components along the axes of the array.
    step_mm : tensor, shape (batch, dimensions)
        From one voxel of the field to the next along each axis.
    convention : {"mean", "sum"}
        ``mean``: over voxels, components and axes, without a unit; of `bending` in 1/mm², as its derivatives are in
        1/mm. ``sum``: the integral over the volume V, Σ over voxels, components and axes · mm³ of a voxel (in 2-D,
        mm²). mean ≈ sum / (V d²), for `bending` / (V d³).
    name : {"l2", "l1", "bending"}
        As :func:`gradient_penalty`.
    """
    terms = _penalty_terms(field_mm, name, step_mm)
    if convention == "sum":
        return tf.reduce_prod(step_mm, axis=-1) * sum(_sum(term) for term in terms)
    return sum(_mean(term) for term in terms) / len(terms)


def _penalty_terms(field: tf.Tensor, name: str, step: tf.Tensor | None = None) -> list[tf.Tensor]:
    """Return what is added up, an entry an axis or pair of axes: derivatives by voxels or, with `step`, its unit."""

    def derivative(values: tf.Tensor, axis: int) -> tf.Tensor:
        difference = forward_difference(values, axis)
        if step is None:
            return difference
        return difference / tf.reshape(step[:, axis - 1], [-1] + [1] * (len(field.shape) - 1))

    axes = range(1, len(field.shape) - 1)
    terms = [derivative(field, axis) for axis in axes]
    if name == "bending":
        terms = [derivative(term, axis) for term in terms for axis in axes]
    return [tf.abs(term) if name == "l1" else term**2 for term in terms]


def folding_penalty(displacement: tf.Tensor, convention: str = "mean") -> tf.Tensor:
    """Return how much volume (in 2-D, area) x ↦ x + u(x) turns inside out: differentiable, and blind to no folding.

    In 3-D it is the non-diffeomorphic volume of Liu et al. 2022 that is measured afterwards
    (:func:`cohortmorph.spatial.displacement.non_diffeomorphic_volume`): Σ relu(−volume) over the tetrahedra into which
    the cubes between voxel centres fall apart, in both ways. In 2-D, the triangles of each square, in both ways. A
    penalty on relu(−det J) is Mok & Chung's (CVPR 2020), there with forward differences only.

    Parameters
    ----------
    displacement : tensor, shape (batch, *shape, dimensions)
        In voxels. Volumes relative to the voxel's are the same in mm, whatever the spacing.
    convention : {"mean", "sum"}
        The fraction of the volume, mean over the m cubes; or its sum, in voxels: mean = sum / m.
    """
    dimensions = displacement.shape[-1]
    steps = np.eye(dimensions, dtype=np.float32)
    edges = [forward_difference(displacement, 1 + axis) + steps[axis] for axis in range(dimensions)]
    inverted = 0.0
    for corner in np.ndindex(*[2] * dimensions):
        # The edges run along the axes, also those that end at the corner.
        sides = [
            at_corner(edge, {1 + other: at for other, at in enumerate(corner) if other != axis})
            for axis, edge in enumerate(edges)
        ]
        inverted += tf.nn.relu(-_determinant(sides))
    for parity in (0, 1) if dimensions == 3 else ():
        # The middle tetrahedron joins the corners of one parity.
        first, *others = [corner for corner in np.ndindex(2, 2, 2) if sum(corner) % 2 == parity]
        ways = np.subtract(others, first)
        start = at_corner(displacement, dict(enumerate(first, 1)))
        diagonals = [
            at_corner(displacement, dict(enumerate(corner, 1))) - start + way.astype(np.float32)
            for corner, way in zip(others, ways, strict=True)
        ]
        inverted += tf.nn.relu(-np.sign(np.linalg.det(ways)) * _determinant(diagonals))
    inverted /= 12.0 if dimensions == 3 else 4.0
    return _mean(inverted) if convention == "mean" else _sum(inverted)


def incompressibility(displacement: tf.Tensor, inside: tf.Tensor, convention: str = "mean") -> tf.Tensor:
    """Return |det J − 1| of x ↦ x + u(x) inside of structures that keep their volume (bone, prostate).

    Rohlfing et al. 2003 penalize |log det J|, which a folding would make infinite. A rigid motion costs nothing.

    Parameters
    ----------
    displacement : tensor, shape (batch, *shape, dimensions)
        In voxels; det J by central differences is the same in mm, whatever the spacing.
    inside : tensor, shape (batch, *shape, structures)
        1 inside of a structure of the fixed image, else 0.
    convention : {"mean", "sum"}
        The mean in each structure, averaged over those that the sample has (0 if none), so that a small organ counts as
        much as a large one; or the sum over all their voxels. For one structure of n voxels, mean = sum / n.
    """
    dimensions = displacement.shape[-1]
    steps = np.eye(dimensions, dtype=np.float32)
    columns = [central_difference(displacement, 1 + axis) + steps[axis] for axis in range(dimensions)]
    change = tf.abs(_determinant(columns) - 1)[..., None] * inside
    axes = list(range(1, dimensions + 1))
    if convention == "sum":
        return _sum(change)
    voxels = tf.reduce_sum(inside, axis=axes)
    means = tf.reduce_sum(change, axis=axes) / tf.maximum(voxels, 1.0)
    structures = tf.reduce_sum(tf.cast(voxels > 0, tf.float32), axis=-1)
    return tf.reduce_sum(means, axis=-1) / tf.maximum(structures, 1.0)


def dice_loss(fixed_labels: tf.Tensor, moved_labels: tf.Tensor) -> tf.Tensor:
    """Return 1 − Dice, the mean over structures of ``2 Σ F M / (Σ F + Σ M)``, for maps in [0, 1].

    A structure that neither map holds counts as overlapping. (Balakrishnan et al., IEEE TMI 2019, equation 7.)

    Parameters
    ----------
    fixed_labels, moved_labels : tensor, shape (batch, *shape, structures)
    """
    axes = list(range(1, len(fixed_labels.shape) - 1))
    both = tf.reduce_sum(fixed_labels * moved_labels, axis=axes)
    total = tf.reduce_sum(fixed_labels + moved_labels, axis=axes)
    return 1 - tf.reduce_mean((2 * both + 1e-3) / (total + 1e-3), axis=-1)


def voxelwise_dice_loss(fixed_labels: tf.Tensor, moved_labels: tf.Tensor) -> tf.Tensor:
    """Return the Dice loss as the U-Net lecture prints it (T. Grenier), which divides at each voxel before it sums.

    ``1 − 1/(|C| N) Σ_c Σ_i 2 p(i, c) gt(i = c) / (p(i, c) + gt(i = c))``, over the N voxels and the |C| classes; class
    0 is what no structure holds. A voxel has one true class, so the value runs from 1 − 1/|C| (equal maps) to 1, and
    a class counts as much as it has voxels.
    """
    fixed_classes, moved_classes = _with_background(fixed_labels), _with_background(moved_labels)
    # Only where the truth is 1 is the quotient not 0, and there its divisor is at least 1.
    overlap = 2 * moved_classes * fixed_classes / (moved_classes + tf.maximum(fixed_classes, 1e-3))
    return 1 - _mean(overlap)


def cross_entropy(fixed_labels: tf.Tensor, moved_labels: tf.Tensor) -> tf.Tensor:
    """Return the categorical cross-entropy of the U-Net lecture, ``−1/(N |C|) Σ_c Σ_i gt(i = c) log p(i, c)``.

    Class 0 is what no structure holds. p is mixed with a thousandth of 1, so that a class that is lost costs a number.
    """
    fixed_classes, moved_classes = _with_background(fixed_labels), _with_background(moved_labels)
    likely = (moved_classes + LEAST_PROBABILITY) / (1 + LEAST_PROBABILITY)
    return -_mean(fixed_classes * tf.math.log(likely))


LABEL_LOSSES: dict[str, Callable[[tf.Tensor, tf.Tensor], tf.Tensor]] = {
    "dice": dice_loss,
    "dice-voxelwise": voxelwise_dice_loss,
    "cross-entropy": cross_entropy,
}


def _with_background(labels: tf.Tensor) -> tf.Tensor:
    """Put class 0, what is left of 1, before the structures."""
    return tf.concat([tf.maximum(1 - tf.reduce_sum(labels, axis=-1, keepdims=True), 0.0), labels], axis=-1)


def _mean(values: tf.Tensor, importance: tf.Tensor | None = None) -> tf.Tensor:
    """Return the mean of each sample; with `importance`, (batch, *shape, 1), as each voxel counts, 0 if none does."""
    axes = list(range(1, len(values.shape)))
    if importance is None or all(size == 1 for size in values.shape[1:]):
        return tf.reduce_mean(values, axis=axes)
    channels = values.shape[-1]
    return tf.reduce_sum(importance * values, axis=axes) / (channels * tf.reduce_sum(importance, axis=axes) + 1e-9)


def _sum(values: tf.Tensor) -> tf.Tensor:
    return tf.reduce_sum(values, axis=list(range(1, len(values.shape))))


def _determinant(columns: Sequence[tf.Tensor]) -> tf.Tensor:
    """Return the determinant of the matrices with these columns, each (..., dimensions)."""
    columns = [tf.unstack(column, axis=-1) for column in columns]
    if len(columns) == 2:
        (a, b), (c, d) = columns
        return a * d - b * c
    i, j, k = columns
    volume = i[0] * (j[1] * k[2] - j[2] * k[1])
    volume += i[1] * (j[2] * k[0] - j[0] * k[2])
    return volume + i[2] * (j[0] * k[1] - j[1] * k[0])


def _bin_shares(image: tf.Tensor, bins: int) -> tf.Tensor:
    """Return each voxel's share in each bin, shape (bins, batch, voxels): a cubic B-spline around its value."""
    values = tf.clip_by_value(tf.reshape(image, [-1, int(np.prod(image.shape[1:]))]), 0.0, 1.0)
    # 0 and 1 lie one bin inside the ends: there too the shares add up to 1.
    distance = tf.abs(1 + values * (bins - 3) - np.arange(bins, dtype=np.float32)[:, None, None])
    near = 2 / 3 - distance**2 + distance**3 / 2
    far = tf.maximum(2 - distance, 0.0) ** 3 / 6
    return tf.where(distance < 1, near, far)


def _entropy(probabilities: tf.Tensor) -> tf.Tensor:
    return -tf.reduce_sum(probabilities * tf.math.log(tf.maximum(probabilities, 1e-12)), axis=-1)


def _second_moments(
    fixed: tf.Tensor, moved: tf.Tensor, window: int | None, importance: tf.Tensor | None = None, alone: bool = False
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Return covariance, variance of F and of M, in each window, (batch, *shape, 1), or in the image, (batch, 1...)."""

    def mean(values: tf.Tensor) -> tf.Tensor:
        of_samples = _mean(values, importance if alone or not window else None)
        return tf.reshape(of_samples, [-1] + [1] * (len(fixed.shape) - 1))

    # Differences of large equal numbers lose digits: centring first keeps them small.
    fixed, moved = fixed - mean(fixed), moved - mean(moved)
    if window is None:
        return mean(fixed * moved), mean(fixed**2), mean(moved**2)

    def around(values: tf.Tensor) -> tf.Tensor:
        """Return the means over the windows: of all that there is or, `alone`, of what counts."""
        if importance is None or not alone:
            return window_means(values, window)
        return window_means(importance * values, window) / tf.maximum(window_means(importance, window), LEAST_SHARE)

    # One by one: side by side as channels, their values would have to be rearranged.
    fixed_mean, moved_mean, product, fixed_square, moved_square = map(
        around, (fixed, moved, fixed * moved, fixed**2, moved**2)
    )
    return (
        product - fixed_mean * moved_mean,
        tf.maximum(fixed_square - fixed_mean**2, 0.0),
        tf.maximum(moved_square - moved_mean**2, 0.0),
    )
