"""Training images bent, turned and changed in brightness at random, so that few subjects teach more.

TensorFlow functions; images have shape (batch, *shape, 1) and values in [0, 1], maps (batch, *shape, channels).
"""

from collections.abc import Iterator, Sequence

# TensorFlow comes from `networks`, which prepares its import.
from cohortmorph.learning.networks import tf, upsample, warp

# What strength 1 is; docs/hippocampus.md compares strengths up to 1.
AFFINE_SD = 0.06  # of each element of the matrix that is added to 1: about 3° and 6 %
SHIFT_SD_VOXELS = 0.7
BEND_SD_VOXELS = 1.0  # of each component at control points...
BEND_SPACING_VOXELS = 8  # ... at most this far apart
LOG_GAMMA_SD = 0.2
CONTRAST_SD = 0.1
BRIGHTNESS_SD = 0.05
NOISE_SD = 0.02
BIAS_SD = 0.1  # of the factor at three control points along each axis


def augment(
    image: tf.Tensor, maps: Sequence[tf.Tensor | None], seed: tf.Tensor, deformation: float, intensity: float
) -> tuple[tf.Tensor, list[tf.Tensor | None]]:
    """Return one random variant of each image, and its label maps and mask bent alike.

    Parameters
    ----------
    image : tensor, shape (batch, *shape, 1)
    maps : list of tensor, shape (batch, *shape, channels), or None
        Of the same places: labels, a mask.
    seed : tensor of int32, shape (2,)
        The same seed gives the same variants.
    deformation, intensity : float
        Strengths; 0 leaves shape or values as they are.

    Returns
    -------
    image, maps : as given
        Beyond the border an image goes on with its border's values. Values may leave [0, 1].
    """
    seeds = iter(tf.unstack(tf.random.split(seed, 7)))
    if deformation:
        displacement = deformation * _random_displacement(image.shape, seeds)
        image = warp(image, displacement)
        maps = [None if map_ is None else warp(map_, displacement) for map_ in maps]
    if intensity:
        image = _random_intensity(image, intensity, seeds)
    return image, list(maps)


def _random_displacement(shape: tf.TensorShape, seeds: Iterator[tf.Tensor]) -> tf.Tensor:
    """Return affine and smooth displacements in voxels, shape (batch, *shape, dimensions), at strength 1."""
    batch, size = shape[0], shape[1:-1].as_list()
    dimensions = len(size)
    centred = [tf.range(n, dtype=tf.float32) - (n - 1) / 2 for n in size]
    position = tf.stack(tf.meshgrid(*centred, indexing="ij"), axis=-1)
    matrix = tf.random.stateless_normal([batch, dimensions, dimensions], next(seeds), stddev=AFFINE_SD)
    shift = tf.random.stateless_normal([batch, *[1] * dimensions, dimensions], next(seeds), stddev=SHIFT_SD_VOXELS)
    points = [-(-n // BEND_SPACING_VOXELS) + 1 for n in size]
    bend = tf.random.stateless_normal([batch, *points, dimensions], next(seeds), stddev=BEND_SD_VOXELS)
    return tf.einsum("...j,bij->b...i", position, matrix) + shift + upsample(bend, size)


def _random_intensity(image: tf.Tensor, strength: float, seeds: Iterator[tf.Tensor]) -> tf.Tensor:
    """Return images with another gamma, contrast, brightness, noise and bias field."""
    batch, size = image.shape[0], image.shape[1:-1].as_list()
    one_each = [batch, *[1] * (len(size) + 1)]
    values = tf.random.stateless_normal([3, *one_each], next(seeds))
    gamma = tf.exp(strength * LOG_GAMMA_SD * values[0])
    contrast = 1 + strength * CONTRAST_SD * values[1]
    brightness = strength * BRIGHTNESS_SD * values[2]
    noise = tf.random.stateless_normal(image.shape, next(seeds), stddev=strength * NOISE_SD)
    bias = upsample(tf.random.stateless_normal([batch, *[3] * len(size), 1], next(seeds)), size)
    image = tf.clip_by_value(image, 0.0, 1.0) ** gamma
    return (image * contrast + brightness + noise) * (1 + strength * BIAS_SD * bias)
