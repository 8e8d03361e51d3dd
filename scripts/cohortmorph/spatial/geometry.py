"""Grids and affine transforms in millimetres, in ITK's world frame LPS (x to the left, y to posterior, z to superior).

Arrays are indexed ``[i, j, k]``, in the order of the image's own axes (SimpleITK's order, the reverse of its arrays).
A transform maps points of the fixed world to points of the moving world.
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from isal import igzip
from numpy.typing import ArrayLike

from cohortmorph.run.files import StrPath, prove_written, publishing, refuse_cut_text
from cohortmorph.spatial import volume_file

COPIED_BYTES = 2**24  # at once, of a file that is compressed
PLANES = {"axial": 2, "coronal": 1, "sagittal": 0}  # the world axis (LPS) across each plane, about which it is rotated


@dataclass(frozen=True)
class Grid:
    """The points at which an image has values.

    Attributes
    ----------
    size : tuple of int
        Number of voxels along i, j, k.
    spacing_mm, origin_mm : tuple of float
        Distance of neighbours, and position (LPS) of voxel (0, 0, 0).
    direction : tuple of float
        Direction cosines, row by row; the columns are the unit vectors (LPS) along i, j, k.
    """

    size: tuple[int, ...]
    spacing_mm: tuple[float, ...]
    origin_mm: tuple[float, ...]
    direction: tuple[float, ...] = (1, 0, 0, 0, 1, 0, 0, 0, 1)

    @classmethod
    def of(cls, image: sitk.Image | sitk.ImageFileReader) -> "Grid":
        """Return the grid of a SimpleITK image (or image reader whose header was read)."""
        return cls(image.GetSize(), image.GetSpacing(), image.GetOrigin(), image.GetDirection())

    @property
    def axes(self) -> np.ndarray:
        """The direction cosines as an array, shape (3, 3); column n is the unit vector along axis n."""
        return np.array(self.direction, dtype=float).reshape(3, 3)

    @property
    def steps_mm(self) -> np.ndarray:
        """The vectors (LPS, mm) from a voxel to its neighbours, as columns, shape (3, 3)."""
        return self.axes * np.array(self.spacing_mm)

    @property
    def centre_mm(self) -> np.ndarray:
        """The middle of the grid, LPS, shape (3,)."""
        return self.to_world((np.array(self.size) - 1) / 2)

    def to_world(self, indices: ArrayLike) -> np.ndarray:
        """Map voxel indices, shape (..., 3), to points in LPS mm."""
        return np.asarray(indices, dtype=float) @ self.steps_mm.T + np.array(self.origin_mm)

    def to_indices(self, points_lps_mm: ArrayLike) -> np.ndarray:
        """Map points in LPS mm, shape (..., 3), to continuous voxel indices."""
        return (np.asarray(points_lps_mm, dtype=float) - np.array(self.origin_mm)) @ np.linalg.inv(self.steps_mm).T

    def contains(self, points_lps_mm: ArrayLike) -> np.ndarray:
        """Say for each point whether it lies between the first and the last voxel centre of every axis."""
        indices = self.to_indices(points_lps_mm)
        return np.all((indices >= -1e-6) & (indices <= np.array(self.size) - 1 + 1e-6), axis=-1)

    def points_mm(self) -> np.ndarray:
        """Return the world position of every voxel, LPS, shape (*size, 3)."""
        return self.to_world(np.stack(np.meshgrid(*map(np.arange, self.size), indexing="ij"), axis=-1))

    def resized(self, size: Sequence[int]) -> "Grid":
        """Return this grid with `size` voxels, padded or cropped evenly on both sides; positions stay as they are."""
        before = (np.array(size) - np.array(self.size)) // 2
        return Grid(tuple(int(n) for n in size), self.spacing_mm, tuple(self.to_world(-before)), self.direction)

    def respaced(self, spacing_mm: float | Sequence[float]) -> "Grid":
        """Return a grid of `spacing_mm` with the same orientation and middle, covering at least the same voxels."""
        steps_mm = np.broadcast_to(np.array(spacing_mm, dtype=float), 3)
        extent_mm = np.array(self.size) * np.array(self.spacing_mm)
        size = np.ceil(extent_mm / steps_mm - 1e-6).astype(int)
        origin_mm = self.centre_mm - self.axes @ (steps_mm * (size - 1) / 2)
        return Grid(tuple(map(int, size)), tuple(map(float, steps_mm)), tuple(map(float, origin_mm)), self.direction)

    def difference_from(self, other: "Grid") -> str | None:
        """Say in words how `other` differs from this grid; None if they agree within a hundredth of a voxel."""
        if self.size != other.size:
            return f"size {other.size} voxels instead of {self.size}"
        corners = np.array([[0, 0, 0], np.array(self.size) - 1, [self.size[0] - 1, 0, 0], [0, self.size[1] - 1, 0]])
        distance_mm = np.linalg.norm(self.to_world(corners) - other.to_world(corners), axis=1).max()
        if distance_mm > 0.01 * min(self.spacing_mm):
            return f"the corners of the grids lie up to {distance_mm:.3f} mm apart"
        return None


def read_image(path: StrPath, pixel_type: int = sitk.sitkFloat32) -> sitk.Image:
    """Read a 3-D image; a file that is damaged, ambiguous or not 3-D is a UserError."""
    return volume_file.read(path, pixel_type)[0]


def read_grid(path: StrPath, form: str = "") -> Grid:
    """Read the grid of the 3-D image at `path` without its voxels; `form` as in :func:`volume_file.read`."""
    header = volume_file.read_header(path, form)
    return Grid(header.size, header.spacing_mm, header.origin_mm, header.direction)


def write_image(image: sitk.Image, path: StrPath) -> None:
    """Write a SimpleITK image; the file is complete or absent."""
    with publishing(path) as partial:
        if not partial.name.endswith(".nii.gz"):
            sitk.WriteImage(image, str(partial), useCompression=True)
        else:  # compressed by ISA-L, in a tenth of ITK's time; without a name or time: the same image, the same bytes
            plain = partial.with_name("plain.nii")
            sitk.WriteImage(image, str(plain))
            with (
                plain.open("rb") as source,
                partial.open("wb") as raw,
                igzip.IGzipFile("", "wb", fileobj=raw, mtime=0) as compressed,
            ):
                shutil.copyfileobj(source, compressed, COPIED_BYTES)
        prove_written(partial, volume_file.refuse_damaged)  # ITK says nothing when the disk is full


def to_array(image: sitk.Image) -> np.ndarray:
    """Return an image's values as an array indexed [i, j, k] (and components last)."""
    # A copy: SimpleITK's view does not keep its image alive, and that of a passing image would show freed memory.
    array = sitk.GetArrayFromImage(image)
    return np.moveaxis(array, [0, 1, 2], [2, 1, 0])


def to_image(array: ArrayLike, grid: Grid) -> sitk.Image:
    """Make an image of an array indexed [i, j, k] (and, for vectors, components last) on `grid`."""
    values = np.asarray(array)
    image = sitk.GetImageFromArray(
        np.ascontiguousarray(np.moveaxis(values, [0, 1, 2], [2, 1, 0])), isVector=values.ndim == 4
    )
    image.SetSpacing(grid.spacing_mm)
    image.SetOrigin(grid.origin_mm)
    image.SetDirection(grid.direction)
    return image


def affine(matrix: ArrayLike, offset_mm: ArrayLike) -> sitk.AffineTransform:
    """Return the transform y = matrix · x + offset."""
    transform = sitk.AffineTransform(3)
    transform.SetMatrix(np.asarray(matrix, dtype=float).ravel().tolist())
    transform.SetTranslation(np.asarray(offset_mm, dtype=float).tolist())
    return transform


def matrix_and_offset(transform: sitk.Transform) -> tuple[np.ndarray, np.ndarray]:
    """Return (matrix, offset in mm) of any SimpleITK transform that is affine; anything else is a ValueError."""
    offset = np.array(transform.TransformPoint((0.0, 0.0, 0.0)))
    matrix = np.array([np.array(transform.TransformPoint(tuple(unit))) - offset for unit in np.eye(3)]).T
    probe = np.array([101.0, -57.0, 23.0])
    if not np.allclose(transform.TransformPoint(tuple(probe)), matrix @ probe + offset, atol=1e-6):
        raise ValueError(f"{transform.GetName()} is not affine")
    return matrix, offset


def chain(*transforms: sitk.Transform) -> sitk.AffineTransform:
    """Compose affine transforms in the order in which a point meets them: ``chain(a, b)(x) = b(a(x))``."""
    matrix, offset = np.eye(3), np.zeros(3)
    for transform in transforms:
        next_matrix, next_offset = matrix_and_offset(transform)
        matrix, offset = next_matrix @ matrix, next_matrix @ offset + next_offset
    return affine(matrix, offset)


def read_affine(path: StrPath) -> sitk.AffineTransform:
    """Read an affine ITK transform file (.tfm); one that is cut off is a UserError."""
    refuse_cut_text(path, "FixedParameters:")
    return affine(*matrix_and_offset(sitk.ReadTransform(str(path))))


def write_transform(transform: sitk.Transform, path: StrPath) -> None:
    """Write an ITK transform file; the file is complete or absent."""
    with publishing(path) as partial:
        sitk.WriteTransform(transform, str(partial))
        prove_written(partial, lambda written: refuse_cut_text(written, "FixedParameters:"))


def network_grid(frame: Grid, spacing_mm: float | Sequence[float] | None, dimensions: int, multiple: int) -> Grid:
    """Return the frame's grid at `spacing_mm` (None: as it is), with sides that the network can halve."""
    grid = frame if spacing_mm is None else frame.respaced(spacing_mm)
    size = [-(-n // multiple) * multiple for n in grid.size]
    if dimensions == 2:
        size[2] = grid.size[2]
    return grid.resized(size)
