"""The VoxelMorph network (voxelmorph 0.2 on TensorFlow): two images in, the displacement of every voxel out.

This is the one place that makes voxelmorph 0.2 and neurite 0.2 work with today's Python, numpy and TensorFlow.
Importing it loads TensorFlow, which takes seconds: only training and registration do.
"""

import inspect
import os

os.environ["TF_USE_LEGACY_KERAS"] = "1"  # voxelmorph 0.2 is written for Keras 2
os.environ["VXM_BACKEND"] = "tensorflow"
os.environ["NEURITE_BACKEND"] = "tensorflow"
# On processors without AVX-512 TensorFlow was seen to leave oneDNN off; a training step then took five times as long.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np

# Names that voxelmorph 0.2 and neurite 0.2 use, gone since Python 3.11 and numpy 2.
if not hasattr(inspect, "getargspec"):
    inspect.getargspec = lambda function: inspect.getfullargspec(function)[:4]
if not hasattr(np, "Inf"):
    np.Inf = np.inf  # noqa: NPY201

import tensorflow as tf
import voxelmorph as vxm

from cohortmorph.run.files import publishing

# Rows of a band matrix that share a product: more would multiply by more zeros, fewer would copy more.
ROWS_AT_ONCE = 64


def size_multiple(encoder):
    """Return the number by which every side of the network's images must be divisible."""
    return 2 ** len(encoder)


class RegistrationNetwork:
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

    def __init__(self, shape, settings):
        self.shape = tuple(shape)
        self.int_steps = settings["int_steps"]
        self.field_downsampling = settings["field_downsampling"]
        # As VxmDense builds it, without the integration and the warp that come after the field: those are below, and
        # most of the time that VxmDense takes to be built.
        images = [tf.keras.Input((*self.shape, 1), name=f"{name}_input") for name in ("source", "target")]
        unet = vxm.networks.Unet(
            input_model=tf.keras.Model(images, images),
            nb_features=[settings["encoder"], settings["decoder"]],
            nb_upsample_skips=self.field_downsampling - 1,
        )
        convolution = getattr(tf.keras.layers, f"Conv{len(self.shape)}D")
        almost_zero = tf.keras.initializers.RandomNormal(mean=0.0, stddev=1e-5)
        field = convolution(len(self.shape), 3, padding="same", kernel_initializer=almost_zero, name="flow")(
            unet.output
        )
        self.model = tf.keras.Model(images, field)

    @property
    def weights(self):
        """The network's variables, in the order in which :func:`save_weights` keeps them."""
        return self.model.trainable_variables

    @property
    def values(self):
        """How many numbers the layers put out for one sample; a training step keeps them all for its way back."""
        outputs = [tensor for layer in self.model.layers for tensor in tf.nest.flatten(layer.output)]
        return sum(int(np.prod(tensor.shape[1:])) for tensor in outputs)

    def displacement(self, field):
        """Turn the model's output into the displacement in voxels of the images, shape (batch, *shape, dimensions)."""
        if self.int_steps > 0:
            field = field / 2**self.int_steps
            for _ in range(self.int_steps):  # scaling and squaring (Dalca et al., MICCAI 2018)
                field = field + warp(field, field, values_vary=True)
        if self.field_downsampling > 1:
            field = self.field_downsampling * upsample(field, self.shape)
        return field


def warp(values, displacement, values_vary=False):
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
    shape = values.shape[1:-1].as_list()
    axes = [
        tf.reshape(tf.range(size, dtype=tf.float32), [size if a == axis else 1 for a in range(len(shape))])
        for axis, size in enumerate(shape)
    ]
    positions = [displacement[..., axis] + at for axis, at in enumerate(axes)]
    return _sample(values, positions, at_once=values_vary)


def sample(values, indices):
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
    indices, weights = [], []
    for corner in np.ndindex(*[2] * len(shape)):
        index, weight = 0, 1.0
        for axis, upper in enumerate(corner):
            index += tf.minimum(lower[axis] + upper, shape[axis] - 1) * strides[axis]
            weight *= fraction[axis] if upper else 1.0 - fraction[axis]
        indices.append(tf.reshape(index, [-1, int(np.prod(points))]))
        weights.append(tf.reshape(weight, [-1, int(np.prod(points)), 1]))
    if at_once:
        gathered = tf.gather(flat, tf.stack(indices, axis=2), batch_dims=1)
        sampled = tf.reduce_sum(tf.stack(weights, axis=2) * gathered, axis=2)
    else:
        sampled = 0.0
        for index, weight in zip(indices, weights, strict=True):
            sampled += weight * tf.gather(flat, index, batch_dims=1)
    return tf.reshape(sampled, [-1, *points, values.shape[-1]])


def upsample(field, shape):
    """Resize a field, linearly and axis by axis, to `shape`; the corners of both grids coincide, as in voxelmorph."""
    hats = []
    for coarse, size in zip(field.shape[1:-1], shape, strict=True):
        position = np.linspace(0, coarse - 1, size)
        hats.append(np.maximum(0, 1 - np.abs(position[:, None] - np.arange(coarse)[None])))
    return along_axes(hats, field)


def along_axes(matrices, values):
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


def save_weights(network, path):
    """Write the weights as plain arrays (.npz), in the order of the network's layers."""
    arrays = {f"{number:03d}": variable.numpy() for number, variable in enumerate(network.weights)}
    with publishing(path) as partial:
        np.savez_compressed(partial, **arrays)


def load_weights(network, path):
    """Read weights that :func:`save_weights` wrote; a file for another architecture is a ValueError."""
    with np.load(path, allow_pickle=False) as arrays:
        weights = [arrays[name] for name in sorted(arrays.files)]
    expected = [tuple(variable.shape) for variable in network.weights]
    if [array.shape for array in weights] != expected:
        raise ValueError(f"{path} holds weights of another network: {[array.shape for array in weights]} != {expected}")
    for variable, array in zip(network.weights, weights, strict=True):
        variable.assign(array)


def device():
    """Return the name of the device that TensorFlow uses: the GPU if there is one."""
    gpus = tf.config.list_physical_devices("GPU")
    for gpu in gpus:  # shared nodes: take memory as it is needed
        tf.config.experimental.set_memory_growth(gpu, True)
    if gpus:
        return tf.config.experimental.get_device_details(gpus[0]).get("device_name", gpus[0].name)
    return "CPU"
