"""The U-Net of VoxelMorph (voxelmorph 0.2 on TensorFlow): two images in, the displacement of every voxel out.

This is the one place that makes voxelmorph 0.2 and neurite 0.2 work with today's Python and numpy.
"""

import inspect
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

# TensorFlow comes from `networks`, which prepares its import.
from cohortmorph.learning.networks import tf, upsample, warp

os.environ["VXM_BACKEND"] = "tensorflow"
os.environ["NEURITE_BACKEND"] = "tensorflow"
# Names that voxelmorph 0.2 and neurite 0.2 use, gone since Python 3.11 and numpy 2.
if not hasattr(inspect, "getargspec"):
    inspect.getargspec = lambda function: inspect.getfullargspec(function)[:4]  # type: ignore[attr-defined]
if not hasattr(np, "Inf"):
    np.Inf = np.inf  # type: ignore[attr-defined] # noqa: NPY201

import voxelmorph as vxm


def size_multiple(encoder: Sequence[int]) -> int:
    """Return the number by which every side of the network's images must be divisible."""
    return 2 ** len(encoder)


def field_model(inputs: Sequence[Any], settings: Mapping[str, Any], field_downsampling: int = 1) -> Any:
    """Return a U-Net that ends in a field, which at its start is almost 0 everywhere.

    Parameters
    ----------
    inputs : list of keras input
        What it sees, of one size.
    settings : dict
        ``encoder``, ``decoder`` (features).
    field_downsampling : {1, 2}
        Voxels of the inputs to one of the field.

    Returns
    -------
    keras model
        inputs → field, shape (batch, *shape / field_downsampling, dimensions).
    """
    unet = vxm.networks.Unet(
        input_model=tf.keras.Model(inputs, inputs),
        nb_features=[settings["encoder"], settings["decoder"]],
        nb_upsample_skips=field_downsampling - 1,
    )
    dimensions = len(inputs[0].shape) - 2
    convolution = getattr(tf.keras.layers, f"Conv{dimensions}D")
    almost_zero = tf.keras.initializers.RandomNormal(mean=0.0, stddev=1e-5)
    field = convolution(dimensions, 3, padding="same", kernel_initializer=almost_zero, name="flow")(unet.output)
    return tf.keras.Model(inputs, field)


def values_of(model: Any) -> int:
    """Return how many numbers the layers of a keras model put out for one sample."""
    outputs = [tensor for layer in model.layers for tensor in tf.nest.flatten(layer.output)]
    return sum(int(np.prod(tensor.shape[1:])) for tensor in outputs)


class UNet:
    """A U-Net whose output is a displacement or, with `int_steps`, a velocity field that is integrated to one.

    3×3(×3) kernels, LeakyReLU 0.2, 2×2(×2) max pooling and skip connections, as in Balakrishnan et al. (CVPR 2018).

    Parameters
    ----------
    shape : tuple of int
        Size of the images in voxels, (i, j) or (i, j, k); see :func:`size_multiple`.
    settings : dict
        ``encoder``, ``decoder`` (features), ``int_steps``, ``field_downsampling`` (1 or 2).

    Attributes
    ----------
    model : keras model
        (moving, fixed), each of shape (batch, *shape, 1) → the field that is penalized, in its own (downsampled)
        voxels, of shape (batch, *shape / field_downsampling, dimensions).
    """

    def __init__(self, shape: Sequence[int], settings: Mapping[str, Any]) -> None:
        self.shape = tuple(shape)
        self.int_steps = settings["int_steps"]
        self.field_downsampling = settings["field_downsampling"]
        # As VxmDense builds it, without the integration and the warp that come after the field: those are below, and
        # most of the time that VxmDense takes to be built.
        images = [tf.keras.Input((*self.shape, 1), name=f"{name}_input") for name in ("source", "target")]
        self.model: Any = field_model(images, settings, self.field_downsampling)

    @property
    def parameters(self) -> list[tf.Variable]:
        """What is learned, in the order in which :func:`save_parameters` keeps it."""
        return self.model.trainable_variables

    def field(
        self, moving: tf.Tensor, fixed: tf.Tensor, weights: tf.Tensor | None = None, training: bool = False
    ) -> tf.Tensor:
        """Return the model's output; it sees nothing of λ, for which it is trained."""
        return self.model([moving, fixed], training=training)

    def draw_weights(self, rng: np.random.Generator, weights: Sequence[float], number: int) -> tf.Tensor:
        """Return λ of `number` training samples: the only one of `weights`, for all of them."""
        (weight,) = weights
        return self.weights_of(weight, number)

    def weights_of(self, weight: float, number: int) -> tf.Tensor:
        """Return one λ for `number` samples, as :meth:`field` and the loss take it."""
        return tf.constant(weight, tf.float32)

    @property
    def values(self) -> int:
        """How many numbers the layers put out for one sample; a training step keeps them all for its way back."""
        return values_of(self.model)

    def displacement(self, field: tf.Tensor) -> tf.Tensor:
        """Turn the model's output into the displacement in voxels of the images, shape (batch, *shape, dimensions)."""
        if self.int_steps > 0:
            field = field / 2**self.int_steps
            for _ in range(self.int_steps):  # scaling and squaring (Dalca et al., MICCAI 2018)
                field = field + warp(field, field, values_vary=True)
        if self.field_downsampling > 1:
            field = self.field_downsampling * upsample(field, self.shape)
        return field
