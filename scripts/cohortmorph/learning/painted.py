"""Pairs made of one image each: bent by a displacement that is known, and both painted with contrasts of their own.

A network that learns from them is told the truth at every voxel, and can rely on no contrast: what CT, T1 and T2 show
alike is where tissues meet. (Random contrasts: Hoffmann et al., SynthMorph, IEEE TMI 2022, who paint label maps; here
grey values stand for the labels, so that none are needed. Random displacements as truth: Sokooti et al., MICCAI 2017;
Eppenhof & Pluim, IEEE TMI 2019.)
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from cohortmorph.learning import samples
from cohortmorph.learning.batch import Batch

# TensorFlow comes from `networks`, which prepares its import.
from cohortmorph.learning.networks import tf, upsample, warp
from cohortmorph.learning.samples import Entry, Samples

# An image is bent before, by so many times what is planted, so that no two pairs show the same anatomy.
ANATOMY = 1.5
BIAS_SD = 0.15  # of the logarithm of the factor at three control points along each axis
NOISE_SD_MAX = 0.05
# So much of what an image shows may be cut off at either end of each axis. Where images end says nothing of where their
# anatomy lies; ends that were bent with it would.
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
    painting : dict
        ``grey_values``: how many, evenly spread, get a random one each; between them a contrast is linear. ``ends``:
        ``stack`` if the slices of the moving images may end before those of the fixed ones, ``anywhere`` if both kinds
        may end on all sides.

    Attributes
    ----------
    shape : tuple of int
    label_numbers : array
        Empty: labels play no part.
    """

    label_numbers = np.array([])

    def __init__(self, originals: Samples, displacements: Mapping[str, Any], painting: Mapping[str, Any]) -> None:
        self.originals, self.shape = originals, originals.shape
        self.grey_values, self.anywhere = int(painting["grey_values"]), painting["ends"] == "anywhere"
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
        return _pairs_of(images, spacing_mm, seed, self.control_points, self.length_mm, self.grey_values, self.anywhere)


# One function for all samples of a training: it takes seconds to compile.
@tf.function(jit_compile=True, autograph=False)
def _pairs_of(
    images: tf.Tensor,
    spacing_mm: tf.Tensor,
    seed: tf.Tensor,
    control_points: Sequence[Sequence[int]],
    length_mm: float,
    grey_values: int,
    anywhere: bool,
) -> Batch:
    """Make a pair of each image."""
    seeds = iter(tf.unstack(tf.random.split(seed, 64)))
    dimensions = len(images.shape) - 2
    steps_mm = tf.reshape(spacing_mm, [images.shape[0], *[1] * dimensions, dimensions])
    anatomy_mm, displacement_mm = (
        _displacement_mm(images.shape[1:-1].as_list(), steps_mm, control_points, length_mm, seeds) for _ in range(2)
    )
    moving = warp(images, ANATOMY * anatomy_mm / steps_mm)
    fixed = warp(moving, displacement_mm / steps_mm)
    shown = {"fixed": fixed, "moving": moving}
    fixed, moving = (_spoiled(_in_a_random_contrast(image, grey_values, seeds), seeds) for image in (fixed, moving))
    axes = range(1, dimensions + 1)
    if anywhere:
        fixed *= _inside(shown["fixed"], axes, seeds)
    if anywhere or dimensions == 3:
        moving *= _inside(shown["moving"], axes if anywhere else [3], seeds)
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
        As :func:`cohortmorph.learning.samples.drawn_and_watched` takes them; ``displacements`` and ``painting``
        among the settings.
    """
    originals = samples.drawn_and_watched(settings, multiple, training, validation)
    drawn, watched = (PaintedPairs(each, settings["displacements"], settings["painting"]) for each in originals)
    return drawn, watched


def _in_a_random_contrast(images: tf.Tensor, grey_values: int, seeds: Seeds) -> tf.Tensor:
    """Give each grey value another, at random but for what lies close; the result has values in [0, 1]."""
    painted = tf.random.stateless_uniform([grey_values, images.shape[0], *[1] * (len(images.shape) - 1)], next(seeds))
    positions = tf.clip_by_value(images, 0.0, 1.0) * (grey_values - 1)
    values = tf.add_n([painted[knot] * tf.nn.relu(1 - tf.abs(positions - knot)) for knot in range(grey_values)])
    axes = list(range(1, len(images.shape)))
    lowest, highest = (extreme(values, axis=axes, keepdims=True) for extreme in (tf.reduce_min, tf.reduce_max))
    return (values - lowest) / (highest - lowest + 1e-3)


def _spoiled(images: tf.Tensor, seeds: Seeds) -> tf.Tensor:
    """Return images with shading and noise, in [0, 1]."""
    size = images.shape[1:-1].as_list()
    logarithm = tf.random.stateless_normal([images.shape[0], *[3] * len(size), 1], next(seeds), stddev=BIAS_SD)
    sd = tf.random.stateless_uniform([images.shape[0], *[1] * (len(size) + 1)], next(seeds), maxval=NOISE_SD_MAX)
    noise = sd * tf.random.stateless_normal(images.shape, next(seeds))
    return tf.clip_by_value(images * tf.exp(upsample(logarithm, size)) + noise, 0.0, 1.0)


def _inside(images: tf.Tensor, axes: Iterable[int], seeds: Seeds) -> tf.Tensor:
    """Return 1 within a random box of what each image shows, and 0 where it is cut off, at the ends of these axes."""
    inside = 1.0
    for axis in axes:
        others = [other for other in range(1, len(images.shape)) if other != axis]
        size = images.shape[axis]
        index = tf.range(size, dtype=tf.float32)[None]
        shown = tf.reduce_max(images, axis=others) > 0
        first = tf.reduce_min(tf.where(shown, index, size - 1.0), axis=1, keepdims=True)
        last = tf.reduce_max(tf.where(shown, index, 0.0), axis=1, keepdims=True)
        cut = CUT_MAX * (last - first) * tf.random.stateless_uniform([2, images.shape[0], 1], next(seeds))
        within = tf.cast((index > first + cut[0] - 1) & (index < last - cut[1] + 1), tf.float32)
        inside *= tf.reshape(within, [-1, *[size if each == axis else 1 for each in range(1, len(images.shape))]])
    return inside
