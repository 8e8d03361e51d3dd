"""Pairs made of one image each: bent by a displacement that is known, and both painted with contrasts of their own.

A network that learns from them is told the truth at every voxel, and can rely on no contrast: what CT, T1 and T2 show
alike is where tissues meet. (Random contrasts: Hoffmann et al., SynthMorph, IEEE TMI 2022, who paint label maps; here
grey values stand for the labels, so that none are needed. Random displacements as truth: Sokooti et al., MICCAI 2017;
Eppenhof & Pluim, IEEE TMI 2019.)
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from cohortmorph.learning import samples
from cohortmorph.learning.batch import Batch

# TensorFlow comes from `networks`, which prepares its import.
from cohortmorph.learning.networks import tf, upsample, warp
from cohortmorph.learning.samples import Entry, Samples

# An image is bent before, by so many times what is planted, so that no two pairs show the same anatomy.
ANATOMY = 1.5
# Grey values, evenly spread, that get a random one each; between them a contrast is linear.
KNOTS = 9
BIAS_SD = 0.15  # of the logarithm of the factor at three control points along each axis
NOISE_SD_MAX = 0.05
# Of its slices, the moving stack may lack so many at either end.
CUT_MAX = 1 / 8

Seeds = Iterator[tf.Tensor]


class PaintedPairs:
    """Pairs painted from the images that some samples hold.

    Parameters
    ----------
    originals : Samples
        Each pair is made of a fixed or a moving image of them; which of them belong together plays no part.
    displacements : dict
        ``length_mm``, the root mean square length of what is planted, and ``bends_mm``, the distances of the control
        points of the random fields that it is a sum of; a random affine displacement is one more.

    Attributes
    ----------
    shape : tuple of int
    label_numbers : array
        Empty: labels play no part.
    """

    label_numbers = np.array([])

    def __init__(self, originals: Samples, displacements: Mapping[str, Any]) -> None:
        self.originals, self.shape = originals, originals.shape
        self.length_mm = float(displacements["length_mm"])
        # How many control points there are must be known beforehand, for samples of whatever spacing.
        spacing_mm = originals.spacing_mm.mean(axis=0)
        extent_mm = np.multiply(self.shape, spacing_mm)
        self.control_points = tuple(
            tuple(int(number) + 1 for number in np.ceil(extent_mm / distance_mm))
            for distance_mm in displacements["bends_mm"]
        )

    def __len__(self) -> int:
        return len(self.originals)

    def draw(self, rng: np.random.Generator, number: int) -> Batch:
        """Draw `number` pairs with their ``displacement_mm``, all of tensors."""
        return self._of(self.originals.draw(rng, number), rng)

    def probe(self, most: int, batch_size: int) -> list[Batch]:
        """Return at most `most` pairs, always the same, as batches."""
        rng = np.random.default_rng(0)
        return [self._of(batch, rng) for batch in self.originals.probe(most, batch_size)]

    def _of(self, batch: Batch, rng: np.random.Generator) -> Batch:
        either = rng.random((batch.number, *[1] * (batch.fixed.ndim - 1))) < 0.5
        seed = tf.constant(rng.integers(2**31, size=2), tf.int32)
        spacing_mm = tf.constant(batch.spacing_mm, tf.float32)
        images = tf.constant(np.where(either, batch.fixed, batch.moving))
        return _pairs_of(images, spacing_mm, seed, self.control_points, self.length_mm)


# One function for all samples of a training: it takes seconds to compile.
@tf.function(jit_compile=True)
def _pairs_of(
    images: tf.Tensor, spacing_mm: tf.Tensor, seed: tf.Tensor, control_points: Sequence[Sequence[int]], length_mm: float
) -> Batch:
    """Make a pair of each image."""
    seeds = iter(tf.unstack(tf.random.split(seed, 32)))
    dimensions = len(images.shape) - 2
    steps_mm = tf.reshape(spacing_mm, [len(images), *[1] * dimensions, dimensions])
    anatomy_mm, displacement_mm = (
        _displacement_mm(images.shape[1:-1].as_list(), steps_mm, control_points, length_mm, seeds) for _ in range(2)
    )
    moving = warp(images, ANATOMY * anatomy_mm / steps_mm)
    fixed = warp(moving, displacement_mm / steps_mm)
    fixed, moving = (_spoiled(_in_a_random_contrast(image, seeds), seeds) for image in (fixed, moving))
    if dimensions == 3:
        moving = _cut(moving, seeds)
    return Batch(fixed, moving, spacing_mm, displacement_mm=displacement_mm)


def _displacement_mm(
    shape: Sequence[int], steps_mm: tf.Tensor, control_points: Sequence[Sequence[int]], length_mm: float, seeds: Seeds
) -> tf.Tensor:
    """Return random displacements, (batch, *shape, dimensions), mm along the axes: affine and bent ones, added."""
    batch, dimensions = steps_mm.shape[0], len(shape)
    centred = [tf.range(size, dtype=tf.float32) - (size - 1) / 2 for size in shape]
    position_mm = steps_mm * tf.stack(tf.meshgrid(*centred, indexing="ij"), axis=-1)
    matrix = tf.random.stateless_normal([batch, dimensions, dimensions], next(seeds))
    shift = tf.random.stateless_normal([batch, *[1] * dimensions, dimensions], next(seeds))
    fields = [tf.einsum("b...j,bij->b...i", position_mm, matrix), tf.zeros_like(position_mm) + shift]
    for points in control_points:
        fields.append(upsample(tf.random.stateless_normal([batch, *points, dimensions], next(seeds)), shape))
    # Of each field as much as chance will have it, between nothing and twice its share of the length.
    share_mm = length_mm / np.sqrt(len(fields) * 4 / 3)
    axes = list(range(1, dimensions + 2))
    drawn = []
    for field in fields:
        length = tf.sqrt(dimensions * tf.reduce_mean(field**2, axis=axes, keepdims=True))
        amount = tf.random.stateless_uniform([batch, *[1] * (dimensions + 1)], next(seeds), maxval=2.0)
        drawn.append(amount * share_mm * field / length)
    return tf.add_n(drawn)


def drawn_and_watched(
    settings: Mapping[str, Any], multiple: int, training: Sequence[Entry], validation: Sequence[Entry]
) -> tuple[PaintedPairs, PaintedPairs]:
    """Return pairs painted from the training images, and from the validation images: other anatomies.

    Parameters
    ----------
    settings, multiple, training, validation
        As :func:`cohortmorph.learning.samples.drawn_and_watched` takes them; ``displacements`` among the settings.
    """
    originals = samples.drawn_and_watched(settings, multiple, training, validation)
    drawn, watched = (PaintedPairs(each, settings["displacements"]) for each in originals)
    return drawn, watched


def _in_a_random_contrast(images: tf.Tensor, seeds: Seeds) -> tf.Tensor:
    """Give each grey value another, at random but for what lies close; the result has values in [0, 1]."""
    painted = tf.random.stateless_uniform([KNOTS, len(images), *[1] * (len(images.shape) - 1)], next(seeds))
    positions = tf.clip_by_value(images, 0.0, 1.0) * (KNOTS - 1)
    values = tf.add_n([painted[knot] * tf.nn.relu(1 - tf.abs(positions - knot)) for knot in range(KNOTS)])
    axes = list(range(1, len(images.shape)))
    lowest, highest = (extreme(values, axis=axes, keepdims=True) for extreme in (tf.reduce_min, tf.reduce_max))
    return (values - lowest) / (highest - lowest + 1e-3)


def _spoiled(images: tf.Tensor, seeds: Seeds) -> tf.Tensor:
    """Return images with shading and noise, in [0, 1]."""
    size = images.shape[1:-1].as_list()
    logarithm = tf.random.stateless_normal([len(images), *[3] * len(size), 1], next(seeds), stddev=BIAS_SD)
    sd = tf.random.stateless_uniform([len(images), *[1] * (len(size) + 1)], next(seeds), maxval=NOISE_SD_MAX)
    noise = sd * tf.random.stateless_normal(images.shape, next(seeds))
    return tf.clip_by_value(images * tf.exp(upsample(logarithm, size)) + noise, 0.0, 1.0)


def _cut(volumes: tf.Tensor, seeds: Seeds) -> tf.Tensor:
    """Blank slices at both ends, as where a stack does not reach."""
    slices = volumes.shape[3]
    cut = tf.random.stateless_uniform([2, len(volumes), 1], next(seeds), maxval=CUT_MAX * slices)
    index = tf.range(slices, dtype=tf.float32)[None]
    reached = tf.cast((index >= cut[0]) & (index <= slices - 1 - cut[1]), tf.float32)
    return volumes * reached[:, None, None, :, None]
