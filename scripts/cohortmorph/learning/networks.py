"""What networks of any kind are built of and kept as: TensorFlow, warping and upsampling, parameters on disk.

Importing it loads TensorFlow, which takes seconds: only training and registration do.
"""

import os
from collections.abc import Sequence

os.environ["TF_USE_LEGACY_KERAS"] = "1"  # voxelmorph 0.2 is written for Keras 2
# On processors without AVX-512 TensorFlow was seen to leave oneDNN off; a training step then took five times as long.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import tensorflow as tf

from cohortmorph.learning import parameters
from cohortmorph.learning.kind import Learned
from cohortmorph.run.files import StrPath

# Rows of a band matrix that share a product: more would multiply by more zeros, fewer would copy more.
ROWS_AT_ONCE = 64


def start_tensorflow(seed: int, threads: int, with_gradients: bool = False) -> None:
    """Fix threads and randomness, before TensorFlow's first operation: on a CPU, the same run gives the same bits."""
    if with_gradients:  # TensorFlow cannot fuse convolutions whose gradient is wanted, tries, and tells it as an error
        tf.config.optimizer.set_experimental_options({"remapping": False})
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    tf.keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()


def warp(values: tf.Tensor, displacement: tf.Tensor, values_vary: bool = False) -> tf.Tensor:
    """Sample `values` at x + displacement(x), linearly; beyond the border the border's value holds.

    Parameters
    ----------
    values : tensor, shape (batch, *shape, channels)
    displacement : tensor, shape (batch, *shape, dimensions)
        In voxels.
    values_vary : bool
        Whether a gradient of `values` is wanted too. That is only a question of speed: it then takes two thirds of
        the time, but an image that stays as it is takes three times as long.
    """
    return _sample(values, _positions(displacement), at_once=values_vary)


def whole_cells(mask: tf.Tensor, displacement: tf.Tensor) -> tf.Tensor:
    """Return 1 where all that :func:`warp` would interpolate an image from lies in its `mask`, else 0.

    So where the mask is 0, or beyond the border, an image may show anything: neither what is interpolated where this
    is 1, nor its derivative by the displacement, knows of it.

    Parameters
    ----------
    mask : tensor, shape (batch, *shape, 1)
        0 or 1.
    displacement : tensor, shape (batch, *shape, dimensions)
        In voxels.
    """
    inside, cells = tf.ones_like(mask), []
    for axis, position in enumerate(_positions(displacement)):
        size = mask.shape[axis + 1]
        inside *= tf.cast((position >= 0) & (position <= size - 1), tf.float32)[..., None]
        cells.append(tf.clip_by_value(tf.floor(position), 0.0, max(size - 2.0, 0.0)))
        ends = tf.gather(mask, np.minimum(np.arange(size) + 1, size - 1), axis=axis + 1)
        mask = tf.minimum(mask, ends)
    return inside * _sample(mask, cells)


def _positions(displacement):
    """Return the positions x + displacement(x) along each axis, in voxels, (batch, *shape)."""
    shape = displacement.shape[1:-1].as_list()
    axes = [
        tf.reshape(tf.range(size, dtype=tf.float32), [size if a == axis else 1 for a in range(len(shape))])
        for axis, size in enumerate(shape)
    ]
    return [displacement[..., axis] + at for axis, at in enumerate(axes)]


def sample(values: tf.Tensor, indices: tf.Tensor) -> tf.Tensor:
    """Sample one array at positions of any shape, linearly; beyond the border the border's value holds.

    Parameters
    ----------
    values : tensor, shape (*shape, channels)
    indices : tensor, shape (*points, dimensions)
        In voxels.

    Returns
    -------
    tensor, shape (*points, channels)
    """
    return _sample(values[None], [indices[None, ..., axis] for axis in range(indices.shape[-1])])[0]


def _sample(values, positions, at_once=False):
    """Sample (batch, *shape, channels) at a position of each axis, (batch, *points); see :func:`warp`.

    The corners of a point's cell are gathered one by one or, with `at_once`, in one operation.
    """
    shape = values.shape[1:-1].as_list()
    strides = [int(np.prod(shape[axis + 1 :])) for axis in range(len(shape))]
    flat = tf.reshape(values, [-1, int(np.prod(shape)), values.shape[-1]])
    points = positions[0].shape[1:].as_list()
    lower, fraction = [], []
    for size, position in zip(shape, positions, strict=True):
        position = tf.clip_by_value(position, 0.0, size - 1.0)
        # The last cell takes the border itself, so that the upper corner always exists.
        cell = tf.clip_by_value(tf.floor(position), 0.0, max(size - 2.0, 0.0))
        lower.append(tf.cast(cell, tf.int32))
        fraction.append(position - cell)
    indices, shares = [], []
    for corner in np.ndindex(*[2] * len(shape)):
        index, share = 0, 1.0
        for axis, upper in enumerate(corner):
            index += tf.minimum(lower[axis] + upper, shape[axis] - 1) * strides[axis]
            share *= fraction[axis] if upper else 1.0 - fraction[axis]
        indices.append(tf.reshape(index, [-1, int(np.prod(points))]))
        shares.append(tf.reshape(share, [-1, int(np.prod(points)), 1]))
    if at_once:
        gathered = tf.gather(flat, tf.stack(indices, axis=2), batch_dims=1)
        sampled = tf.reduce_sum(tf.stack(shares, axis=2) * gathered, axis=2)
    else:
        sampled = 0.0
        for index, share in zip(indices, shares, strict=True):
            sampled += share * tf.gather(flat, index, batch_dims=1)
    return tf.reshape(sampled, [-1, *points, values.shape[-1]])


def upsample(field: tf.Tensor, shape: Sequence[int]) -> tf.Tensor:
    """Resize a field, linearly and axis by axis, to `shape`; the corners of both grids coincide, as in voxelmorph."""
    hats = []
    for coarse, size in zip(field.shape[1:-1], shape, strict=True):
        position = np.linspace(0, coarse - 1, size)
        hats.append(np.maximum(0, 1 - np.abs(position[:, None] - np.arange(coarse)[None])))
    return along_axes(hats, field)


def along_axes(matrices: Sequence[np.ndarray], values: tf.Tensor) -> tf.Tensor:
    """Multiply all lines along each spatial axis by a matrix of that axis.

    Parameters
    ----------
    matrices : list of array, shape (new size, size)
        Rows with few numbers other than 0, side by side, take little time.
    values : tensor, shape (batch, *shape, channels)
    """
    dimensions = len(matrices)
    values = tf.transpose(values, [*range(1, dimensions + 1), 0, dimensions + 1])
    for matrix in matrices:
        # The first axis is summed over and comes back as the last: nothing is rearranged between two products.
        parts = []
        for rows in np.split(matrix, range(ROWS_AT_ONCE, len(matrix), ROWS_AT_ONCE)):
            used = np.flatnonzero(rows.any(axis=0))
            columns = slice(used[0], used[-1] + 1) if len(used) else slice(0)
            parts.append(tf.tensordot(values[columns], tf.constant(rows[:, columns], values.dtype), [[0], [1]]))
        values = tf.concat(parts, axis=-1)
    return tf.transpose(values, [0, *range(2, dimensions + 2), 1])


def save_parameters(network: Learned, path: StrPath) -> None:
    """Write a network's parameters as plain arrays (.npz), in the order of its layers."""
    parameters.write([variable.numpy() for variable in network.parameters], path)


def load_parameters(network: Learned, path: StrPath) -> None:
    """Read parameters that :func:`save_parameters` wrote; a file for another architecture is a ValueError."""
    arrays = parameters.read(path)
    found, expected = [array.shape for array in arrays], [tuple(each.shape) for each in network.parameters]
    if found != expected:
        raise ValueError(f"{path} holds parameters of another network: {found} != {expected}")
    assign(network.parameters, arrays)


def assign(variables: Sequence[tf.Variable], arrays: Sequence[np.ndarray]) -> None:
    """Give each of the variables its array."""
    for variable, array in zip(variables, arrays, strict=True):
        variable.assign(array)


def device() -> str:
    """Return the name of the device that TensorFlow uses: the GPU if there is one."""
    gpus = tf.config.list_physical_devices("GPU")
    for gpu in gpus:  # shared nodes: take memory as it is needed
        tf.config.experimental.set_memory_growth(gpu, True)
    if gpus:
        return tf.config.experimental.get_device_details(gpus[0]).get("device_name", gpus[0].name)
    return "CPU"
