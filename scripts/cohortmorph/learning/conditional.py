"""One registration network for every regularization weight λ of a range.

A small network turns λ into a scale and a shift for each feature map of the U-Net (FiLM: Perez et al., AAAI 2018; for
registration, with instance normalization, Mok & Chung, MICCAI 2021). HyperMorph (Hoopes et al., IPMI 2021) lets the
small network write all of the U-Net's parameters instead, which takes a hundred times as many.

Scale and shift come between a convolution and its activation, without normalization. So at a fixed λ they are nothing
but other kernels and biases: the network becomes a plain one, which is stored, applied and measured as any other.
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

# TensorFlow comes from `networks`, which prepares its import.
from cohortmorph.learning.kind import Learned
from cohortmorph.learning.networks import assign, tf
from cohortmorph.learning.unet import UNet

HIDDEN = 32  # features of the two hidden layers between λ and the scales and shifts
# Training also draws λ beyond the range, by this fraction of it on a logarithmic scale, half at either end: at an end
# with neighbours on one side only, the network was seen to answer as if λ lay further inside.
BEYOND = 0.5


class ConditionalNetwork(UNet):
    """A U-Net that knows λ.

    Parameters
    ----------
    shape, settings
        As of a plain network.
    weights : sequence of float
        λ, above 0; the network serves all from the least to the greatest.

    Attributes
    ----------
    model : keras model
        (moving, fixed, λ), λ of shape (batch,) → the field that is penalized, as of a plain network.
    """

    def __init__(self, shape: Sequence[int], settings: Mapping[str, Any], weights: Sequence[float]) -> None:
        super().__init__(shape, settings)
        self.lowest, self.highest = float(min(weights)), float(max(weights))
        plain = self.model
        self._convolutions = [layer for layer in plain.layers if layer.weights]
        features = [layer.filters for layer in self._convolutions]
        weight = tf.keras.Input((), name="regularization_weight")
        hidden = tf.keras.layers.Lambda(self.position, name="position_of_weight")(weight)
        for number in range(2):
            hidden = tf.keras.layers.Dense(HIDDEN, activation="tanh", name=f"hidden_{number}")(hidden)
        # Zeros: training begins with a network to which λ makes no difference.
        scales = tf.keras.layers.Dense(sum(features), kernel_initializer="zeros", name="scales")(hidden)
        shifts = tf.keras.layers.Dense(sum(features), kernel_initializer="zeros", name="shifts")(hidden)
        self._modulation = tf.keras.Model(weight, [scales, shifts])
        starts = dict(zip([layer.name for layer in self._convolutions], np.cumsum([0, *features]), strict=False))
        tensors = {id(tensor): tensor for tensor in plain.inputs}
        for layer in plain.layers:
            if isinstance(layer, tf.keras.layers.InputLayer):
                continue
            output = layer(tf.nest.map_structure(lambda tensor: tensors[id(tensor)], layer.get_input_at(0)))
            if layer.name in starts:
                part = slice(starts[layer.name], starts[layer.name] + layer.filters)
                output = modulate(output, scales[:, part], shifts[:, part])
            tensors[id(layer.get_output_at(0))] = output
        self.model: Any = tf.keras.Model([*plain.inputs, weight], tensors[id(plain.output)])
        self._plain = plain

    def field(
        self, moving: tf.Tensor, fixed: tf.Tensor, weights: tf.Tensor | None = None, training: bool = False
    ) -> tf.Tensor:
        """Return the model's output at the λ of each sample."""
        return self.model([moving, fixed, weights], training=training)

    def draw_weights(self, rng: np.random.Generator, weights: Sequence[float], number: int) -> tf.Tensor:
        """Return λ of `number` training samples, each its own: see :func:`draw_weights`."""
        return tf.constant(draw_weights(rng, weights, number))

    def weights_of(self, weight: float, number: int) -> tf.Tensor:
        """Return one λ for `number` samples, as :meth:`field` and the loss take it."""
        return tf.fill([number], tf.constant(weight, tf.float32))

    def position(self, weight: tf.Tensor) -> tf.Tensor:
        """Return where λ stands in the range, on a logarithmic scale from −1 to 1, shape (batch, 1)."""
        middle = (np.log(self.lowest) + np.log(self.highest)) / 2
        half = (np.log(self.highest) - np.log(self.lowest)) / 2
        return (tf.math.log(weight[:, None]) - middle) / half

    def hand_over(self, weight: float, network: Learned) -> None:
        """Make a plain `network` of the same architecture what this one is at λ = `weight`.

        Raises
        ------
        ValueError
            λ lies outside of the range that this network has learned.
        """
        if not self.lowest <= weight <= self.highest:
            raise ValueError(f"λ = {weight:g} lies outside of the range {self.lowest:g} to {self.highest:g}")
        scales, shifts = (values.numpy()[0] for values in self._modulation(tf.constant([weight], tf.float32)))
        arrays, start = [], 0
        for layer in self._convolutions:
            kernel, bias = (variable.numpy() for variable in layer.weights)
            scale, shift = (values[start : start + layer.filters] for values in (scales, shifts))
            arrays += [kernel * (1 + scale), bias * (1 + scale) + shift]
            start += layer.filters
        assign(network.parameters, arrays)


def modulate(features: tf.Tensor, scale: tf.Tensor, shift: tf.Tensor) -> tf.Tensor:
    """Return ``features · (1 + scale) + shift``, each feature map of each sample by its own numbers.

    Parameters
    ----------
    features : tensor, shape (batch, *shape, channels)
    scale, shift : tensors, shape (batch, channels)
    """
    one_a_map = [-1, *[1] * (len(features.shape) - 2), features.shape[-1]]
    return features * tf.reshape(1 + scale, one_a_map) + tf.reshape(shift, one_a_map)


def draw_weights(rng: np.random.Generator, weights: Sequence[float], number: int) -> np.ndarray:
    """Draw λ for each of `number` samples, evenly on a logarithmic scale, somewhat beyond the range of `weights`.

    A batch spreads over all of it, in random order: each step then learns from small and from great λ.

    Returns
    -------
    array of float32, shape (number,)
    """
    places = (rng.random() + rng.permutation(number)) / number
    lowest, highest = np.log(min(weights)), np.log(max(weights))
    places = places * (1 + BEYOND) - BEYOND / 2
    return np.exp(lowest + (highest - lowest) * places).astype(np.float32)


def weights_to_try(weights: Sequence[str]) -> list[str]:
    """Return λ (strings, ascending) from the least to the greatest of `weights`, at most 10 % apart, with these and 1.

    All of them are tried: no assumption that there is one best λ, and ten per cent is less than what pairs tell apart.
    """
    named = sorted([*weights, *(["1"] if min(map(float, weights)) < 1 < max(map(float, weights)) else [])], key=float)
    named = list({float(weight): weight for weight in reversed(named)}.values())[::-1]
    tried = [named[0]]
    for low, high in itertools.pairwise(named):
        steps = int(np.ceil(np.log(float(high) / float(low)) / np.log(1.1) - 1e-9))
        tried += [f"{weight:.4g}" for weight in np.geomspace(float(low), float(high), steps + 1)[1:-1]] + [high]
    return tried
