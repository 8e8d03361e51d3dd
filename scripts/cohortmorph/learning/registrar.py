"""Networks applied to pairs: a pair as they see it, what they answer, and that in mm on the fixed image's own grid."""

import itertools
import logging
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

# TensorFlow comes from `networks`, which prepares its import.
from cohortmorph import UserError
from cohortmorph.learning.kind import Kind, Network
from cohortmorph.learning.kinds import kind_of
from cohortmorph.learning.networks import checksum, device, load_parameters, tf, warp
from cohortmorph.learning.samples import crop, pad
from cohortmorph.registration.problem import Registered
from cohortmorph.registration.process import peak_memory_mb
from cohortmorph.run.files import StrPath, write_json
from cohortmorph.spatial import displacement, geometry
from cohortmorph.spatial.geometry import Grid

log = logging.getLogger("cohortmorph")


@dataclass(frozen=True)
class View:
    """A pair as networks see it, on the grid of its frame, and the way back to its own images.

    Attributes
    ----------
    fixed, moving : array, shape network_grid.size
        In [0, 1].
    network_grid : Grid
        Lies in the frame.
    to_frame, to_moving : SimpleITK affine transform
        Fixed world → frame, frame → moving world.
    grid : Grid
        Of the fixed image itself.
    """

    fixed: np.ndarray
    moving: np.ndarray
    network_grid: Grid
    to_frame: sitk.Transform
    to_moving: sitk.Transform
    grid: Grid

    @classmethod
    def read(cls, files: Mapping[str, str]) -> "View":
        """Read a pair's files.

        Parameters
        ----------
        files : mapping
            Paths: ``fixed`` (the image, for its grid), ``fixed_input`` and ``moving_input`` (see prepare_input.py),
            ``frame_to_fixed`` and ``frame_to_moving`` (affine transforms). More may be in it.
        """
        fixed, moving = (geometry.read_image(files[name]) for name in ("fixed_input", "moving_input"))
        return cls(
            fixed=geometry.to_array(fixed),
            moving=geometry.to_array(moving),
            network_grid=Grid.of(fixed),
            to_frame=geometry.read_affine(files["frame_to_fixed"]).GetInverse(),
            to_moving=geometry.read_affine(files["frame_to_moving"]),
            grid=geometry.read_grid(files["fixed"]),
        )

    @property
    def empty(self) -> bool:
        """Whether one of the images could not be prepared, and shows nothing (see prepare_input.py)."""
        return not (np.ptp(self.fixed) and np.ptp(self.moving))


class Registrar:
    """Networks of one architecture applied to pairs: built once, then fed with the parameters of any λ and epoch.

    Parameters
    ----------
    network : Network
        For one λ. In 2-D every slice along k is registered by itself. Smaller images are padded to its shape.
    passes : int
        How often it is applied: each time to the fixed image and what the passes before have moved.
    mirrored : bool
        Whether each pass takes the mean of its answers to the pair and to all of its mirror images, mirrored back: a
        convolution is not the same for both, and what differs is its own error.
    """

    def __init__(self, network: Network, passes: int = 1, mirrored: bool = False) -> None:
        self.network, self.passes = network, passes
        self.shape = tuple(network.shape)
        self.dimensions = len(self.shape)
        axes = range(1, self.dimensions + 1)
        numbers = range(self.dimensions + 1) if mirrored else [0]
        self.mirrors = [list(mirror) for number in numbers for mirror in itertools.combinations(axes, number)]

    def register(self, view: View) -> sitk.Image:
        """Return the displacement of a pair, in mm (LPS) on the fixed image's grid: x ↦ frame ↦ network ↦ moving."""
        voxels = self(view.fixed, view.moving)
        return displacement.of_network(voxels, view.network_grid, view.to_frame, view.to_moving, view.grid)

    def __call__(self, fixed: np.ndarray, moving: np.ndarray, slices_at_once: int = 16) -> np.ndarray:
        """Return the displacement in voxels of the arrays' grid, shape (*fixed.shape, 3); in 2-D k's component is 0."""
        if self.dimensions == 3:
            field = self._run(pad(fixed, self.shape)[None], pad(moving, self.shape)[None])[0]
            return crop(field, fixed.shape)
        count = fixed.shape[2]
        size = (*self.shape, count)
        fixed_slices, moving_slices = (np.moveaxis(pad(array, size), 2, 0) for array in (fixed, moving))
        # The last batch is filled up: every size of batch would be compiled anew.
        filled = -(-count // slices_at_once) * slices_at_once
        index = np.minimum(np.arange(filled), count - 1)
        fields = [
            self._run(fixed_slices[part], moving_slices[part]) for part in np.split(index, filled // slices_at_once)
        ]
        field = np.moveaxis(np.concatenate(fields)[:count], 0, 2)
        field = np.concatenate([field, np.zeros((*field.shape[:-1], 1), np.float32)], axis=-1)
        return crop(field, fixed.shape)

    def _run(self, fixed: np.ndarray, moving: np.ndarray) -> np.ndarray:
        fixed, moving = tf.constant(fixed[..., None]), tf.constant(moving[..., None])
        found = self._pass(fixed, moving)
        for _ in range(1, self.passes):
            more = self._pass(fixed, warp(moving, found))
            # x goes to x + more(x), and from there on as before.
            found = more + warp(found, more)
        return found.numpy()

    def _pass(self, fixed, moving):
        found = 0.0
        for axes in self.mirrors:
            answer = self._answer(tf.reverse(fixed, axes), tf.reverse(moving, axes))
            signs = [-1.0 if axis in axes else 1.0 for axis in range(1, self.dimensions + 1)]
            found += signs * tf.reverse(answer, axes)
        return found / len(self.mirrors)

    # One graph, in which TensorFlow fuses each convolution with what follows; compiled by XLA it would be slower.
    @tf.function
    def _answer(self, fixed, moving):
        return self.network.displacement(self.network.field(moving, fixed, training=False))


def registrar_of(kind: Kind, shape: Sequence[int], settings: Mapping[str, Any]) -> Registrar:
    """Return a new registrar for images of a `shape` (i, j, k): the kind's own, or that which serves most kinds."""
    if kind.registrar:
        return kind.registrar(shape, settings)
    multiple = kind.multiple(settings)
    padded = tuple(int(-(-n // multiple) * multiple) for n in shape[: settings["dimensions"]])
    return Registrar(kind.network(padded, settings), settings.get("passes", 1), settings.get("mirrored", False))


def write_displacements(
    view: View, networks: Sequence[StrPath], settings: Mapping[str, Any], threads: int, outputs: Sequence[StrPath]
) -> None:
    """Register a pair with each of some networks; registration.json, beside each displacement, says how it was done.

    Parameters
    ----------
    view : View
    networks : list of path
        Parameters (.npz), all of one architecture.
    settings : dict
        Those of their training, with their ``kind``.
    threads : int
    outputs : list of path
        Of the displacements, in the order of `networks`.
    """
    used, registrar = device(), registrar_of(kind_of(settings["kind"]), view.network_grid.size, settings)
    registrar(view.fixed, view.moving)  # the first call compiles; it is nobody's run time
    # A third of the time goes into compressing a field; meanwhile the next network can run.
    with ThreadPoolExecutor(1) as writer:
        clock = writer.submit(lambda: time.pthread_getcpuclockid(threading.get_ident())).result()
        written = None
        for path, output in zip(networks, outputs, strict=True):
            load_parameters(registrar.network, path)
            started, cpu_started = time.monotonic(), _cpu_time_without(clock)
            field = registrar.register(view)
            seconds, cpu_seconds = time.monotonic() - started, _cpu_time_without(clock) - cpu_started
            how: dict[str, Any] = {"seconds": seconds, "cpu_seconds": cpu_seconds, "peak_memory_mb": peak_memory_mb()}
            how |= {"threads": threads, "device": used, "sha256": checksum(path)}
            if written:
                written.result()
            written = writer.submit(_write, field, how, output)
        if written:
            written.result()
    log.info("%d networks on %s", len(networks), used)


def refuse_empty() -> Registered:
    """Fail, as the attempt of a registration whose view is empty: what the network would see is nothing."""
    raise UserError("an image could not be prepared for the network; its log in results/logs/prepare_input says why.")


def _cpu_time_without(clock: int) -> float:
    """Return the CPU seconds of this process but for the thread of `clock`."""
    return time.process_time() - time.clock_gettime(clock)


def _write(field: sitk.Image, how: Mapping[str, Any], output: StrPath) -> None:
    displacement.write(field, output)
    write_json(how, Path(output).parent / "registration.json")
