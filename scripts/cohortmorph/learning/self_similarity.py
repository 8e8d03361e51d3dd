"""The self-similarity context (MIND-SSC) of images, as a TensorFlow function: where they change, and not how.

Heinrich et al., MICCAI 2013; :func:`cohortmorph.learning.losses.mind` compares two of them, and
:mod:`cohortmorph.spatial.mind` is the same without TensorFlow.
"""

import itertools

from cohortmorph.learning.neighbours import LEAST_SHARE, shifted, window_means

# TensorFlow comes from `networks`, which prepares its import.
from cohortmorph.learning.networks import tf

# The least variance by which the patch distances of MIND are divided: of images in [0, 1], noise of 0.001.
FLAT_PATCH = 1e-6
# Larger than any distance of patches.
LOST = 1e9


def self_similarity(image: tf.Tensor, radius: int, dilation: int) -> tf.Tensor:
    """Return the descriptor exp(−(D − min D) / V) of each voxel, in [0, 1].

    Parameters
    ----------
    image : tensor, shape (batch, *shape, 1)
        Values in [0, 1].
    radius : int
        Voxels from a patch's middle to its side.
    dilation : int
        Voxels from the middle to its neighbours.

    Returns
    -------
    tensor, shape (12 in 3-D or 4 in 2-D, batch, *shape, 1)

    Notes
    -----
    One volume after the other takes half the time of all twelve numbers of a voxel side by side.
    """
    axes = range(1, len(image.shape))
    # Differences do not see the mean, but they lose digits to it.
    image = image - tf.reduce_mean(image, axis=axes, keepdims=True)
    distances = _patch_means(tf.stack([(one - other) ** 2 for one, other in _neighbours(image, dilation)]), radius)
    variance = tf.reduce_mean(distances, axis=0)
    least = 1e-3 * tf.reduce_mean(variance, axis=axes, keepdims=True)
    nearest = tf.reduce_min(distances, axis=0)
    return tf.exp(-(distances - nearest) / (tf.maximum(variance, least) + FLAT_PATCH))


def self_similarity_alone(
    image: tf.Tensor, radius: int, dilation: int, counts: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Return the descriptor of what counts alone, and where its distances exist: patches that count somewhere."""
    axes = list(range(1, len(image.shape)))
    image = counts * (image - tf.reshape(_counted_mean(image, counts), [-1] + [1] * len(axes)))
    both = tf.stack([one * other for one, other in _neighbours(counts, dilation)])
    squares = tf.stack([(one - other) ** 2 for one, other in _neighbours(image, dilation)])
    shares = _patch_means(both, radius)
    exist = tf.cast(shares > LEAST_SHARE, tf.float32)
    distances = exist * _patch_means(both * squares, radius) / tf.maximum(shares, LEAST_SHARE)
    number = tf.reduce_sum(exist, axis=0)
    variance = tf.reduce_sum(distances, axis=0) / tf.maximum(number, 1.0)
    least = 1e-3 * tf.reshape(_counted_mean(variance, counts), [-1] + [1] * len(axes))
    nearest = tf.reduce_min(distances + LOST * (1 - exist), axis=0)
    return tf.exp(-exist * (distances - nearest) / (tf.maximum(variance, least) + FLAT_PATCH)), exist


def _patch_means(values: tf.Tensor, radius: int) -> tf.Tensor:
    """Return the means over the patch around each voxel, of (comparisons, batch, *shape, 1)."""
    means = window_means(tf.reshape(values, [-1, *values.shape[2:]]), 2 * radius + 1)
    return tf.reshape(means, values.shape)


def _neighbours(image: tf.Tensor, dilation: int) -> list[tuple[tf.Tensor, tf.Tensor]]:
    """Return the pairs of neighbours of each voxel that do not lie opposite."""
    axes = range(1, len(image.shape) - 1)
    around = [(axis, shifted(image, axis, step)) for axis in axes for step in (-dilation, dilation)]
    return [(one, other) for (a, one), (b, other) in itertools.combinations(around, 2) if a != b]


def _counted_mean(values: tf.Tensor, counts: tf.Tensor) -> tf.Tensor:
    axes = list(range(1, len(values.shape)))
    return tf.reduce_sum(counts * values, axis=axes) / (tf.reduce_sum(counts, axis=axes) + 1e-9)
