"""The parts of the training loss L(F, M, φ) = L_sim(F, M∘φ) + λ · L_reg(u) (+ γ · L_labels), as TensorFlow functions.

Images have shape (batch, *shape, 1) and values in [0, 1]; fields have shape (batch, *shape, dimensions), in voxels.
Each function returns one number a sample, shape (batch,).
"""

import numpy as np

# TensorFlow comes from `networks`, which prepares its import.
from cohortmorph.networks import along_axis, tf

# On windows of images in [0, 1]: product of two variances below which a window counts as flat.
FLAT = 1e-9


def ncc_squared(fixed, moved, window=None, weights=None):
    """Return −NCC(F, M∘φ), the course's squared NCC (A. Ratke, 2021): blind to the sign of the contrast.

    ``NCC = (Σ(F−F̄)(M−M̄))² / (Σ(F−F̄)² Σ(M−M̄)²)``, in [0, 1].

    Parameters
    ----------
    window : int, optional
        Side of the window, in voxels, over which the means and sums run for each voxel (cut off at the border);
        without it they run over the whole image.
    """
    covariance, fixed_variance, moved_variance = _second_moments(fixed, moved, window, weights)
    return -_mean(covariance**2 / (fixed_variance * moved_variance + FLAT), weights)


def ncc_voxelmorph(fixed, moved, window=None, weights=None):
    """Return the NCC loss of voxelmorph 0.2: a negative covariance is clipped to 0 before it is squared.

    Two differences: at the border windows are cut off instead of filled with zeros; windows that are flat in both
    images count as 0, while voxelmorph's epsilons make them 1 (a constant: the gradient is the same).
    """
    covariance, fixed_variance, moved_variance = _second_moments(fixed, moved, window, weights)
    return -_mean(tf.maximum(covariance, 0.0) ** 2 / (fixed_variance * moved_variance + FLAT), weights)


def mse(fixed, moved, window=None, weights=None):
    """Return the mean squared difference; `window` has no meaning here."""
    return _mean((fixed - moved) ** 2, weights)


SIMILARITIES = {"ncc-squared": ncc_squared, "ncc-voxelmorph": ncc_voxelmorph, "mse": mse}


def similarity(settings):
    """Return the function (fixed, moved, weights) → loss that ``{"name": ..., "window": ...}`` names.

    `weights`, (batch, *shape, 1) or None, say how much each voxel counts; a mask, for example.
    """
    function, window = SIMILARITIES[settings["name"]], settings.get("window")
    return lambda fixed, moved, weights=None: function(fixed, moved, window, weights)


def gradient_penalty(field, convention, field_downsampling=1):
    """Return L_reg, the squared gradient of the field by forward differences.

    Parameters
    ----------
    convention : {"mean", "sum"}
        ``sum`` is the course's Σ_p ‖∇u(p)‖². ``mean`` is voxelmorph's: means over voxels and components, averaged over
        the axes, times the downsampling of the field. With n voxels and d dimensions,
        mean ≈ sum · field_downsampling / (n d²).
    """
    squares = []
    for axis in range(1, len(field.shape) - 1):
        size = field.shape[axis]
        ahead = tf.gather(field, tf.range(1, size), axis=axis)
        behind = tf.gather(field, tf.range(size - 1), axis=axis)
        squares.append((ahead - behind) ** 2)
    if convention == "sum":
        return sum(tf.reduce_sum(square, axis=list(range(1, len(square.shape)))) for square in squares)
    return field_downsampling * sum(_mean(square) for square in squares) / len(squares)


def dice_loss(fixed_labels, moved_labels):
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


def _mean(values, weights=None):
    """Return the mean of each sample; with `weights`, (batch, *shape, 1), the weighted one, 0 if none counts."""
    axes = list(range(1, len(values.shape)))
    if weights is None or all(size == 1 for size in values.shape[1:]):
        return tf.reduce_mean(values, axis=axes)
    channels = values.shape[-1]
    return tf.reduce_sum(weights * values, axis=axes) / (channels * tf.reduce_sum(weights, axis=axes) + 1e-9)


def _second_moments(fixed, moved, window, weights=None):
    """Return covariance and variances in each window, (batch, *shape, 1), or in the image, (batch, 1...)."""

    def mean(values):
        of_samples = _mean(values, None if window else weights)
        return tf.reshape(of_samples, [-1] + [1] * (len(fixed.shape) - 1))

    # Differences of large equal numbers lose digits: centring first keeps them small.
    fixed, moved = fixed - mean(fixed), moved - mean(moved)
    if window is None:
        return mean(fixed * moved), mean(fixed**2), mean(moved**2)
    moments = _window_means(tf.concat([fixed, moved, fixed * moved, fixed**2, moved**2], axis=-1), window)
    fixed_mean, moved_mean, product, fixed_square, moved_square = tf.split(moments, 5, axis=-1)
    return (
        product - fixed_mean * moved_mean,
        tf.maximum(fixed_square - fixed_mean**2, 0.0),
        tf.maximum(moved_square - moved_mean**2, 0.0),
    )


def _window_means(values, window):
    """Return the mean in the window around each voxel, axis by axis; at the border, of the voxels that there are."""
    for axis in range(1, len(values.shape) - 1):
        index = np.arange(values.shape[axis])
        inside = np.abs(index[:, None] - index[None]) <= window // 2
        # A product with a band matrix: sums of shifted slices would be fused into window^d terms by XLA.
        values = along_axis(inside / inside.sum(axis=1, keepdims=True), values, axis)
    return values
