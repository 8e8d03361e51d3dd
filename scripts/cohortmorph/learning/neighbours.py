"""Neighbouring voxels of images and fields: differences, shifts and means over windows, as TensorFlow functions.

Tensors have shape (batch, *shape, channels); axis 1 is the first of the shape.
"""

from collections.abc import Mapping

import numpy as np

# TensorFlow comes from `networks`, which prepares its import.
from cohortmorph.learning.networks import along_axes, tf

# Of a window or patch: what counts less of it does not exist. A voxel of the largest windows is more.
LEAST_SHARE = 1e-6


def part_along(values: tf.Tensor, axis: int, part: slice) -> tf.Tensor:
    """Return a slice along one axis."""
    return values[(*[slice(None)] * axis, part)]


def at_corner(values: tf.Tensor, sides: Mapping[int, int]) -> tf.Tensor:
    """Leave out the last (side 0) or the first (side 1) voxel along each axis of `sides`."""
    for axis, side in sides.items():
        values = part_along(values, axis, slice(1, None) if side else slice(-1))
    return values


def forward_difference(values: tf.Tensor, axis: int) -> tf.Tensor:
    """Return the forward difference, one shorter along `axis`."""
    return at_corner(values, {axis: 1}) - at_corner(values, {axis: 0})


def central_difference(values: tf.Tensor, axis: int) -> tf.Tensor:
    """Return the central difference, one-sided at the ends, as numpy.gradient does."""
    forward = forward_difference(values, axis)
    middle = (at_corner(forward, {axis: 1}) + at_corner(forward, {axis: 0})) / 2
    return tf.concat([part_along(forward, axis, slice(1)), middle, part_along(forward, axis, slice(-1, None))], axis)


def shifted(values: tf.Tensor, axis: int, step: int) -> tf.Tensor:
    """Return values[x + step] along an axis; beyond the border the border's value holds."""
    length = values.shape[axis]
    step = max(-length, min(step, length))
    if step < 0:
        return tf.concat(
            [part_along(values, axis, slice(1))] * -step + [part_along(values, axis, slice(length + step))], axis
        )
    return tf.concat(
        [part_along(values, axis, slice(step, None))] + [part_along(values, axis, slice(-1, None))] * step, axis
    )


def window_means(values: tf.Tensor, window: int) -> tf.Tensor:
    """Return the mean in the window around each voxel, axis by axis; at the border, of the voxels that there are."""
    bands = []
    for size in values.shape[1:-1]:
        index = np.arange(size)
        inside = np.abs(index[:, None] - index[None]) <= window // 2
        bands.append(inside / inside.sum(axis=1, keepdims=True))
    # Products with band matrices: sums of shifted slices would be fused into window^d terms by XLA.
    return along_axes(bands, values)
