"""Networks as graphs of OpenVINO: what has learned is applied without TensorFlow, which takes ten seconds to start.

Each kind's graph is what its network in TensorFlow is, layer by layer, and is fed with the same parameters;
``tests/test_graphs.py`` holds them to the same answers. Tensors are (batch, channels, *shape) here.
"""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import openvino
import openvino.opset15 as op

from cohortmorph.learning import parameters
from cohortmorph.run.files import StrPath

Node = Any  # of OpenVINO
Settings = Mapping[str, Any]


# ---- operations


def along_axes(matrices: Sequence[np.ndarray], values: Node) -> Node:
    """Multiply all lines along each spatial axis by a matrix (new size, size) of that axis."""
    last = len(matrices) + 1
    for axis, matrix in enumerate(matrices, 2):
        order = list(range(last + 1))
        order[axis], order[last] = last, axis
        lines = op.matmul(_swapped(values, order), _floats(matrix.T), False, False)
        values = _swapped(lines, order)
    return values


def upsample(field: Node, shape: Sequence[int], new_shape: Sequence[int]) -> Node:
    """Resize a field, linearly and axis by axis; the corners of both grids coincide."""
    hats = []
    for coarse, size in zip(shape, new_shape, strict=True):
        position = np.linspace(0, coarse - 1, size)
        hats.append(np.maximum(0, 1 - np.abs(position[:, None] - np.arange(coarse)[None])))
    return along_axes(hats, field)


def averaged(values: Node, dimensions: int) -> Node:
    """Return the means of blocks of two voxels along each axis."""
    two, none = [2] * dimensions, [0] * dimensions
    return op.avg_pool(values, two, none, none, two, True)


def shifted(values: Node, shape: Sequence[int], steps: Sequence[int]) -> Node:
    """Return the values `steps` further along each axis; beyond the border the border's value holds."""
    for axis, (size, step) in enumerate(zip(shape, steps, strict=True)):
        if step:
            index = np.clip(np.arange(size) + step, 0, size - 1)
            values = op.gather(values, op.constant(index.astype(np.int32)), op.constant(np.int32(axis + 2)))
    return values


def warp(values: Node, displacement: Node, shape: Sequence[int], channels: int) -> Node:
    """Sample `values` at x + displacement(x), linearly; beyond the border the border's value holds."""
    dimensions, points = len(shape), int(np.prod(shape))
    flat = op.reshape(values, _ints([-1, channels, points]), False)
    lower, fractions = [], []
    for axis, size in enumerate(shape):
        index = np.arange(size, dtype=np.float32).reshape([1, 1] + [-1 if a == axis else 1 for a in range(dimensions)])
        moved = op.slice(displacement, _ints([axis]), _ints([axis + 1]), _ints([1]), _ints([1]))
        position = op.clamp(op.add(moved, _floats(index)), 0.0, size - 1.0)
        # The last cell takes the border itself, so that the upper corner always exists.
        cell = op.clamp(op.floor(position), 0.0, max(size - 2.0, 0.0))
        lower.append(op.convert(cell, "i32"))
        fractions.append(op.subtract(position, cell))
    total = None
    for corner in np.ndindex(*[2] * dimensions):
        place, share = None, None
        for upper, cell, fraction, size, axis in zip(corner, lower, fractions, shape, range(dimensions), strict=True):
            at = op.minimum(op.add(cell, op.constant(np.int32(upper))), op.constant(np.int32(size - 1)))
            at = op.multiply(at, op.constant(np.int32(np.prod(shape[axis + 1 :], dtype=int))))
            part = fraction if upper else op.subtract(_floats(1), fraction)
            place = at if place is None else op.add(place, at)
            share = part if share is None else op.multiply(share, part)
        place = op.reshape(place, _ints([-1, points]), False)
        found = op.multiply(
            op.gather(flat, place, op.constant(np.int32(2)), 1), op.reshape(share, _ints([-1, 1, points]), False)
        )
        total = found if total is None else op.add(total, found)
    return op.reshape(total, _ints([-1, channels, *shape]), False)


def window_means(values: Node, shape: Sequence[int], window: int) -> Node:
    """Return the mean in the window around each voxel; at the border, of the voxels that there are."""
    bands = []
    for size in shape:
        index = np.arange(size)
        inside = np.abs(index[:, None] - index[None]) <= window // 2
        bands.append(inside / inside.sum(axis=1, keepdims=True))
    return along_axes(bands, values)


def _floats(values: Any) -> Node:
    return op.constant(np.asarray(values, np.float32))


def _ints(values: Any) -> Node:
    return op.constant(np.asarray(values, np.int64))


def _swapped(values: Node, order: Sequence[int]) -> Node:
    return values if list(order) == sorted(order) else op.transpose(values, _ints(order))


def _mean(values: Node, axes: Sequence[int]) -> Node:
    return op.reduce_mean(values, _ints(axes), True)


# ---- networks


def unet(values: Node, arrays: Iterator[np.ndarray], settings: Settings, field_downsampling: int = 1) -> Node:
    """Return the field of the U-Net that :func:`cohortmorph.learning.unet.field_model` builds."""
    encoder, decoder = settings["encoder"], settings["decoder"]
    dimensions = settings["dimensions"]
    skipped = []
    for features in encoder:
        values = _activated(_convolution(values, arrays, features))
        skipped.append(values)
        one, none, two = [1] * dimensions, [0] * dimensions, [2] * dimensions
        values = op.max_pool(values, two, one, none, none, two).output(0)
    for level, features in enumerate(decoder[: len(encoder)]):
        values = _activated(_convolution(values, arrays, features))
        if level < len(encoder) - (field_downsampling - 1):
            values = op.concat([_repeated(values, dimensions), skipped.pop()], 1)
    for features in decoder[len(encoder) :]:
        values = _activated(_convolution(values, arrays, features))
    return _convolution(values, arrays, dimensions)


def _convolution(values, arrays, features):
    kernel, bias = next(arrays), next(arrays)  # (*size, channels, features)
    if bias.shape != (features,):
        raise ValueError(f"a layer has {bias.shape} features; expected {features}")
    one = [1] * (kernel.ndim - 2)
    kernel = np.ascontiguousarray(np.moveaxis(kernel, (-1, -2), (0, 1)))
    return op.add(op.convolution(values, _floats(kernel), one, one, one, one), _floats(bias.reshape([1, -1, *one])))


def _activated(values):
    return op.prelu(values, _floats([0.2]))


def _repeated(values, dimensions):
    """Return each voxel twice along each axis."""
    axes = _ints(range(2, 2 + dimensions))
    nearest = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    return op.interpolate(values, _floats([2] * dimensions), "nearest", "scales", axes=axes, **nearest)


def voxelmorph(
    fixed: Node, moving: Node, arrays: Iterator[np.ndarray], shape: Sequence[int], settings: Settings
) -> Node:
    """Return the displacement of :class:`cohortmorph.learning.unet.UNet`, (batch, dimensions, *shape), in voxels."""
    downsampling, dimensions = settings["field_downsampling"], len(shape)
    field = unet(op.concat([moving, fixed], 1), arrays, settings, downsampling)
    coarse = [size // downsampling for size in shape]
    if settings["int_steps"] > 0:
        field = op.divide(field, _floats(2 ** settings["int_steps"]))
        for _ in range(settings["int_steps"]):
            field = op.add(field, warp(field, field, coarse, dimensions))
    if downsampling > 1:
        field = op.multiply(_floats(downsampling), upsample(field, coarse, shape))
    return field


FLAT_PATCH = 1e-6  # as cohortmorph.learning.self_similarity has it
COARSER, COST_SCALE = 2, 10.0  # as cohortmorph.learning.matching has them


def matching(fixed: Node, moving: Node, arrays: Iterator[np.ndarray], shape: Sequence[int], settings: Settings) -> Node:
    """Return the displacement of :class:`cohortmorph.learning.matching.MatchingNetwork`, in voxels."""
    dimensions, size = len(shape), list(shape)
    coarse = [side // COARSER for side in shape]
    one, other = (_self_similarity(image, shape, **settings["mind"]) for image in (fixed, moving))
    volumes = []
    for scale in range(settings["scales"]):
        if scale > 0:
            one, other = averaged(one, dimensions), averaged(other, dimensions)
            size = [side // COARSER for side in size]
        costs = _cost_volume(one, other, size, average=scale == 0)
        costs = costs if scale < 2 else upsample(costs, size, coarse)
        mean = _mean(costs, [1])
        volumes += [op.multiply(_floats(COST_SCALE), each) for each in (op.subtract(costs, mean), mean)]
    field = unet(op.concat(volumes, 1), arrays, settings)
    return op.multiply(_floats(COARSER), upsample(field, coarse, shape))


def _self_similarity(image, shape, radius, dilation):
    """As :func:`cohortmorph.learning.self_similarity.self_similarity`."""
    dimensions = len(shape)
    axes = range(1, dimensions + 2)
    image = op.subtract(image, _mean(image, axes))
    around = [
        (axis, shifted(image, shape, [step if a == axis else 0 for a in range(dimensions)]))
        for axis in range(dimensions)
        for step in (-dilation, dilation)
    ]
    pairs = [(one, other) for (a, one), (b, other) in itertools.combinations(around, 2) if a != b]
    squares = op.concat([op.squared_difference(one, other) for one, other in pairs], 1)
    distances = window_means(squares, shape, 2 * radius + 1)
    variance = _mean(distances, [1])
    least = op.multiply(_floats(1e-3), _mean(variance, axes))
    above = op.subtract(distances, op.reduce_min(distances, _ints([1]), True))
    return op.exp(op.negative(op.divide(above, op.add(op.maximum(variance, least), _floats(FLAT_PATCH)))))


def _cost_volume(fixed, moving, shape, average):
    """As :func:`cohortmorph.learning.matching.cost_volume`."""
    volume = []
    for steps in itertools.product((-1, 0, 1), repeat=len(shape)):
        costs = _mean(op.squared_difference(fixed, shifted(moving, shape, steps)), [1])
        volume.append(averaged(costs, len(shape)) if average else costs)
    return op.concat(volume, 1)


# ---- what a registrar asks


@dataclass(frozen=True)
class Graph:
    """How networks of a kind are applied.

    Attributes
    ----------
    build : function (fixed, moving, parameters, shape, settings) → displacement
        Nodes; images are (batch, 1, *shape).
    halved : function (settings) → int
        How often the network halves its images' sides.
    """

    build: Callable[..., Node]
    halved: Callable[[Settings], int]


GRAPHS = {
    "voxelmorph": Graph(voxelmorph, lambda settings: len(settings["encoder"])),
    "matching": Graph(matching, lambda settings: len(settings["encoder"]) + 1),
}


class Applied:
    """Networks of one architecture; :meth:`load` chooses whose parameters answer.

    Parameters
    ----------
    shape : sequence of int
        Of the images; their sides are rounded up to what the network can halve.
    settings : dict
        Of the training, with the ``kind``, one of `GRAPHS`.
    batch, threads : int
        Images at once.

    Attributes
    ----------
    shape : tuple of int
    device : str
    """

    device = "CPU"

    def __init__(self, shape: Sequence[int], settings: Settings, batch: int, threads: int) -> None:
        self.graph, self.settings, self.batch = GRAPHS[settings["kind"]], settings, batch
        multiple = 2 ** self.graph.halved(settings)
        self.shape = tuple(-(-size // multiple) * multiple for size in shape)
        # What networks learned is exact; a processor that could halve its digits is not asked to.
        self.options = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads}
        # Threads tied to the first cores would make the jobs of one machine take turns on them.
        self.options |= {"ENABLE_CPU_PINNING": False}
        self.core = openvino.Core()

    def load(self, path: StrPath) -> None:
        """Answer with these parameters from now on; a ValueError if they are those of another architecture."""
        images = [op.parameter([self.batch, 1, *self.shape], np.float32, name=name) for name in ("fixed", "moving")]
        arrays = iter(parameters.read(path))
        try:
            displacement = self.graph.build(*images, arrays, self.shape, self.settings)
        except (StopIteration, RuntimeError, ValueError) as wrong:
            raise ValueError(f"{path} holds parameters of another network: {wrong or 'too few'}") from wrong
        if next(arrays, None) is not None:
            raise ValueError(f"{path} holds parameters of another network: too many")
        self.compiled = self.core.compile_model(openvino.Model([displacement], images, "network"), "CPU", self.options)

    def __call__(self, fixed: np.ndarray, moving: np.ndarray) -> np.ndarray:
        """Return the displacement in voxels, (batch, *shape, dimensions); images are (batch, *shape)."""
        (answer,) = self.compiled([fixed[:, None], moving[:, None]]).values()
        return np.moveaxis(answer, 1, -1)
