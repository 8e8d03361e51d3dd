"""The kind `matching`: a U-Net that reads where surroundings look alike, and learns from known displacements.

A plain U-Net of two images has to find out by itself that it should compare them; between contrasts that takes tens of
thousands of steps. Here the comparison is built in. Each image becomes its self-similarity (MIND-SSC, Heinrich et al.,
MICCAI 2013), which any contrast leaves much as it is; the cost volume says at each voxel how much the two differ for
each of a few displacements, as optical flow networks do (Sun et al., PWC-Net, CVPR 2018; Heinrich, MICCAI 2019); what
is left to learn is which displacement that speaks for, and how smooth it is. The pairs that it learns from are made of
one image each (:mod:`cohortmorph.learning.painted`), so the displacement is known, no landmark or label is needed, and
no pair of images is trusted to be alike.
"""

import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cohortmorph.learning import known, losses, neighbours, painted, self_similarity, unet
from cohortmorph.learning.kind import Kind

# TensorFlow comes from `networks`, which prepares its import.
from cohortmorph.learning.networks import tf, upsample

# The cost volume, and the field, have a voxel for so many of the images, along each axis: matches are averaged.
COARSER = 2
# By which costs are multiplied: they then vary by about 1.
COST_SCALE = 10.0


class MatchingNetwork:
    """A U-Net on the cost volume of two images; its output is their displacement.

    Parameters
    ----------
    shape : tuple of int
        Size of the images in voxels, (i, j) or (i, j, k); each a multiple of :func:`size_multiple`.
    settings : dict
        ``encoder``, ``decoder`` (features), ``mind`` (``radius``, ``dilation``), ``scales``.
    """

    def __init__(self, shape: Sequence[int], settings: Mapping[str, Any]) -> None:
        self.shape = tuple(shape)
        self.mind, self.scales = settings["mind"], settings["scales"]
        self.coarse = tuple(size // COARSER for size in self.shape)
        channels = self.scales * (3 ** len(self.shape) + 1)
        costs = tf.keras.Input((*self.coarse, channels), name="costs")
        self.model: Any = unet.field_model([costs], settings)

    @property
    def parameters(self) -> list[tf.Variable]:
        """What is learned, in the order in which :func:`save_parameters` keeps it."""
        return self.model.trainable_variables

    @property
    def values(self) -> int:
        """How many numbers the layers put out for one sample; a training step keeps them all for its way back."""
        return unet.values_of(self.model)

    def field(
        self, moving: tf.Tensor, fixed: tf.Tensor, weights: tf.Tensor | None = None, training: bool = False
    ) -> tf.Tensor:
        """Return the displacement in voxels of the coarse grid; it sees nothing of λ, for which it is trained."""
        return self.model(self._costs(fixed, moving), training=training)

    def displacement(self, field: tf.Tensor) -> tf.Tensor:
        """Turn the model's output into the displacement in voxels of the images, shape (batch, *shape, dimensions)."""
        return COARSER * upsample(field, self.shape)

    def draw_weights(self, rng: np.random.Generator, weights: Sequence[float], number: int) -> tf.Tensor:
        """Return λ of `number` training samples: the only one of `weights`, for all of them."""
        (weight,) = weights
        return self.weights_of(weight, number)

    def weights_of(self, weight: float, number: int) -> tf.Tensor:
        """Return one λ for `number` samples, as the objective takes it."""
        return tf.constant(weight, tf.float32)

    # Nothing is learned here: no gradient passes, and XLA makes one loop of the many differences.
    @tf.function(jit_compile=True, autograph=False)
    def _costs(self, fixed: tf.Tensor, moving: tf.Tensor) -> tf.Tensor:
        """Return the cost volumes of all scales, side by side on the coarse grid."""
        one, other = (self_similarity.self_similarity(image, **self.mind) for image in (fixed, moving))
        volumes = []
        for scale in range(self.scales):
            # The first scale has the images' own voxels, the second the coarse grid's, and so on.
            if scale > 0:
                one, other = (tf.map_fn(averaged, features) for features in (one, other))
            costs = cost_volume(one, other, average=scale == 0)
            costs = costs if scale < 2 else upsample(costs, self.coarse)
            mean = tf.reduce_mean(costs, axis=-1, keepdims=True)
            volumes += [COST_SCALE * (costs - mean), COST_SCALE * mean]
        return tf.concat(volumes, axis=-1)


def cost_volume(fixed: tf.Tensor, moving: tf.Tensor, average: bool = False) -> tf.Tensor:
    """Return how unlike each voxel's features and those of the moving image next to it are.

    Parameters
    ----------
    fixed, moving : tensor, shape (features, batch, *shape, 1)
    average : bool
        Whether the means of blocks are returned (see :func:`averaged`): all of the volume would take much memory.

    Returns
    -------
    tensor, shape (batch, *shape, 3^dimensions)
        Mean squared differences for displacements of −1, 0 and 1 voxel along each axis, in the order of
        :func:`numpy.ndindex`; beyond the border the border's features hold.
    """
    size, dimensions = fixed.shape[2:-1].as_list(), len(fixed.shape) - 3
    for axis, length in enumerate(size, 2):
        moving = tf.gather(moving, np.clip(np.arange(-1, length + 1), 0, length - 1), axis=axis)

    def difference(start: tf.Tensor) -> tf.Tensor:
        part = tf.slice(moving, tf.concat([[0, 0], start, [0]], axis=0), fixed.shape)
        differences = tf.reduce_mean((fixed - part) ** 2, axis=0)
        return (averaged(differences) if average else differences)[..., 0]

    starts = tf.constant(list(np.ndindex(*[3] * dimensions)), tf.int32)
    return tf.stack(tf.unstack(tf.map_fn(difference, starts, fn_output_signature=tf.float32)), axis=-1)


def averaged(values: tf.Tensor) -> tf.Tensor:
    """Return the means of blocks of COARSER voxels along each axis, (batch, *shape, channels)."""
    size = values.shape[1:-1].as_list()
    blocks = [side for n in size for side in (n // COARSER, COARSER)]
    return tf.reduce_mean(
        tf.reshape(values, [-1, *blocks, values.shape[-1]]), axis=[2 + 2 * n for n in range(len(size))]
    )


def size_multiple(settings: Mapping[str, Any]) -> int:
    """Return what every side of the network's images must be a multiple of: for the U-Net on the coarse grid."""
    return COARSER * unet.size_multiple(settings["encoder"])


MATCHING = Kind(
    modules=(sys.modules[__name__], known, losses, neighbours, painted, self_similarity, unet),
    multiple=size_multiple,
    network=MatchingNetwork,
    objective=known.KnownDisplacement,
    samples=painted.drawn_and_watched,
)
