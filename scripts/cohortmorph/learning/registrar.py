"""Networks applied to pairs: a pair as they see it, what they answer, and that in mm on the fixed image's own grid."""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import numpy as np
import SimpleITK as sitk
from scipy.ndimage import map_coordinates

from cohortmorph.learning.samples import crop, pad
from cohortmorph.run.files import StrPath
from cohortmorph.spatial import displacement, geometry
from cohortmorph.spatial.geometry import Grid

# In 2-D; the last of them are filled up.
SLICES_AT_ONCE = 16


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


class Applied(Protocol):
    """Networks of one architecture, of which one answers at a time.

    Attributes
    ----------
    shape : tuple of int
        Size of the images in voxels, (i, j) or (i, j, k).
    device : str
        What it runs on.
    """

    shape: tuple[int, ...]
    device: str

    def load(self, path: StrPath) -> None:
        """Answer with the parameters in this file from now on."""

    def __call__(self, fixed: np.ndarray, moving: np.ndarray) -> np.ndarray:
        """Return the displacement in voxels, (batch, *shape, dimensions); images are (batch, *shape), float32."""


AnyApplied = TypeVar("AnyApplied", bound=Applied)


class Registrar(Generic[AnyApplied]):
    """Networks of one architecture applied to pairs: built once, then fed with the parameters of any λ and epoch.

    Parameters
    ----------
    applied : Applied
        In 2-D every slice along k is registered by itself. Smaller images are padded to its shape.
    passes : int
        How often it is applied: each time to the fixed image and what the passes before have moved.
    mirrored : bool
        Whether each pass takes the mean of its answers to the pair and to all of its mirror images, mirrored back: a
        convolution is not the same for both, and what differs is its own error.
    """

    def __init__(self, applied: AnyApplied, passes: int = 1, mirrored: bool = False) -> None:
        self.applied, self.passes = applied, passes
        self.shape = tuple(applied.shape)
        self.dimensions = len(self.shape)
        axes = range(1, self.dimensions + 1)
        numbers = range(self.dimensions + 1) if mirrored else [0]
        self.mirrors = [mirror for number in numbers for mirror in itertools.combinations(axes, number)]

    def load(self, path: StrPath) -> None:
        """Answer with the parameters in this file from now on."""
        self.applied.load(path)

    def register(self, view: View) -> sitk.Image:
        """Return the displacement of a pair, in mm (LPS) on the fixed image's grid: x ↦ frame ↦ network ↦ moving."""
        voxels = self(view.fixed, view.moving)
        return displacement.of_network(voxels, view.network_grid, view.to_frame, view.to_moving, view.grid)

    def __call__(self, fixed: np.ndarray, moving: np.ndarray) -> np.ndarray:
        """Return the displacement in voxels of the arrays' grid, shape (*fixed.shape, 3); in 2-D k's component is 0."""
        if self.dimensions == 3:
            field = self._passes(pad(fixed, self.shape)[None], pad(moving, self.shape)[None])[0]
            return crop(field, fixed.shape)
        count = fixed.shape[2]
        size = (*self.shape, count)
        fixed_slices, moving_slices = (np.moveaxis(pad(array, size), 2, 0) for array in (fixed, moving))
        # The last batch is filled up: every size of batch would be compiled anew.
        filled = -(-count // SLICES_AT_ONCE) * SLICES_AT_ONCE
        index = np.minimum(np.arange(filled), count - 1)
        fields = [
            self._passes(fixed_slices[part], moving_slices[part]) for part in np.split(index, filled // SLICES_AT_ONCE)
        ]
        field = np.moveaxis(np.concatenate(fields)[:count], 0, 2)
        field = np.concatenate([field, np.zeros((*field.shape[:-1], 1), np.float32)], axis=-1)
        return crop(field, fixed.shape)

    def _passes(self, fixed: np.ndarray, moving: np.ndarray) -> np.ndarray:
        found = self._pass(fixed, moving)
        for _ in range(1, self.passes):
            more = self._pass(fixed, warped(moving[..., None], found)[..., 0])
            # x goes to x + more(x), and from there on as before.
            found = more + warped(found, more)
        return found

    def _pass(self, fixed: np.ndarray, moving: np.ndarray) -> np.ndarray:
        found = np.zeros((*fixed.shape, self.dimensions), np.float32)
        for axes in self.mirrors:
            answer = self.applied(*(np.ascontiguousarray(np.flip(image, axes)) for image in (fixed, moving)))
            signs = np.where(np.isin(range(1, self.dimensions + 1), axes), -1, 1).astype(np.float32)
            found += signs * np.flip(answer, axes)
        return found / np.float32(len(self.mirrors))


def warped(values: np.ndarray, displacement: np.ndarray) -> np.ndarray:
    """Sample `values`, (batch, *shape, channels), at x + displacement(x), linearly; beyond the border, its value holds.

    The displacement, (batch, *shape, dimensions), is in voxels.
    """
    result = np.empty_like(values)
    index = np.indices(displacement.shape[1:-1], np.float32)
    for number, field in enumerate(displacement):
        positions = index + np.moveaxis(field, -1, 0)
        for channel in range(values.shape[-1]):
            result[number, ..., channel] = map_coordinates(
                values[number, ..., channel], positions, order=1, mode="nearest", output=np.float32
            )
    return result
