"""What a training draws from: pairs of images (or of their slices) of one size, padded to what the network can halve.

Images are arrays indexed [i, j, k] on one grid a pair (see ``prepare_input``), float32 in [0, 1]. In 2-D every slice
along k is a sample of its own.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cohortmorph import UserError
from cohortmorph.learning.batch import Batch


@dataclass(frozen=True, eq=False)
class Image:
    """An image as networks see it, and what is known of it on its grid.

    Attributes
    ----------
    values : array, shape (i, j, k)
    spacing_mm : three numbers
        Of its voxels, along the axes of the arrays.
    labels : array, optional
        Whole numbers, 0: no structure.
    mask : array, optional
        Not 0 where the image counts.
    """

    values: np.ndarray
    spacing_mm: Sequence[float] = (1.0, 1.0, 1.0)
    labels: np.ndarray | None = None
    mask: np.ndarray | None = None


# An image, or a pair (fixed, moving) of images.
Entry = Image | tuple[Image, Image]


class Samples:
    """Pairs of images (or of their slices) of one size, for a training or a validation.

    Parameters
    ----------
    entries : list of (fixed, moving), or list of Image
        Pairs: images of one pair share a grid; different pairs are padded evenly with zeros to the largest. Images, on
        one grid: any two of them make a pair; memory and work grow with their number. All of them have labels, or none,
        and so with masks.
    dimensions : {2, 3}
    multiple : int
        Every side of the samples is padded to a multiple of it.
    at_least : tuple of int, optional
        Size below which no side stays: training and validation share a network, but not their subjects' grids.
    flips : bool
        Whether samples are mirrored at random along each axis, both images alike. Without it a network of few subjects
        learns where their heads differ, not what their images show.

    Attributes
    ----------
    label_numbers : array
        The structures, in ascending order; empty without labels.
    """

    def __init__(
        self,
        entries: Sequence[Entry],
        dimensions: int,
        multiple: int,
        at_least: Sequence[int] | np.ndarray = (0, 0, 0),
        flips: bool = False,
    ) -> None:
        self.dimensions = dimensions
        self.flips = flips
        images = list(_flat(entries))
        if not images:
            raise ValueError("there is nothing to draw from")
        self.any_two = isinstance(entries[0], Image)
        largest = np.maximum(largest_shape(entries), at_least)
        shape = -(-largest // multiple) * multiple
        if dimensions == 2:
            shape[2] = largest[2]
        self.shape = tuple(int(n) for n in shape[:dimensions])
        # What is drawn from: arrays of shape (samples, *shape); of images of which any two make a pair, the same twice.
        self.fixed, self.moving = self._stacks([image.values for image in images], shape)
        self.spacing_mm = self._spacings_mm(images, shape)
        masks = [None if image.mask is None else image.mask != 0 for image in images]
        self.fixed_mask, self.moving_mask = self._stacks(masks, shape)
        label_maps = [image.labels for image in images]
        found = [np.unique(map_) for map_ in label_maps if map_ is not None]
        self.label_numbers = np.unique([number for numbers in found for number in numbers if number > 0])
        labels = label_maps if len(self.label_numbers) else []
        self.fixed_labels, self.moving_labels = self._stacks(labels, shape)
        if dimensions == 2 and not self.any_two:
            self._drop_empty_slices()

    def _stacks(self, arrays: Sequence[np.ndarray | None], shape: np.ndarray) -> tuple[Any, Any]:
        """Return (fixed, moving), arrays of shape (samples, *shape); of images, the same twice; of nothing, None."""
        given = [array for array in arrays if array is not None]
        if not given:
            return None, None
        if len(given) < len(arrays):
            raise ValueError(f"{len(arrays) - len(given)} of {len(arrays)} images lack what the others have")
        padded = [pad(array, shape) for array in given]
        if self.dimensions == 2:
            padded = [np.moveaxis(array, 2, 0) for array in padded]
        if self.any_two:
            stack = np.stack(padded)
            return stack, stack
        fixed, moving = np.stack(padded[0::2]), np.stack(padded[1::2])
        if self.dimensions == 2:
            return fixed.reshape(-1, *self.shape), moving.reshape(-1, *self.shape)
        return fixed, moving

    def _spacings_mm(self, images: Sequence[Image], shape: np.ndarray) -> np.ndarray:
        """Return the spacing of each sample, that of its fixed image, shape (samples, dimensions)."""
        fixed = images if self.any_two else images[0::2]
        spacings_mm = np.array([image.spacing_mm for image in fixed], np.float32)[:, : self.dimensions]
        by_slice = self.dimensions == 2 and not self.any_two
        return np.repeat(spacings_mm, shape[2], axis=0) if by_slice else spacings_mm

    def _drop_empty_slices(self) -> None:
        """Keep the slices that both stacks reach: others have nothing to register."""
        content = np.logical_and(*[np.ptp(stack, axis=(1, 2)) > 0 for stack in (self.fixed, self.moving)])
        if not content.any():
            raise UserError("no slice has content in both images of a pair: look at the affine alignment.")
        for name in ("fixed", "moving", "spacing_mm", "fixed_labels", "moving_labels", "fixed_mask", "moving_mask"):
            stack = getattr(self, name)
            setattr(self, name, None if stack is None else stack[content])

    def __len__(self) -> int:
        return len(self.fixed)

    def draw(self, rng: np.random.Generator, number: int) -> Batch:
        """Draw `number` random samples."""
        slices = None
        if self.any_two:
            fixed, moving = np.array([rng.choice(len(self), 2, replace=False) for _ in range(number)]).T
            if self.dimensions == 2:
                slices = rng.integers(self.fixed.shape[1], size=number)
        else:
            # Evenly spread from a random start: neighbouring slices are alike, and would not stand for all of them.
            fixed = moving = ((rng.random() + np.arange(number)) * len(self) / number).astype(int) % len(self)
        flipped = [np.flatnonzero(rng.random(self.dimensions) < 0.5) for _ in range(number)] if self.flips else []
        return self._batch(fixed, moving, slices, flipped)

    def probe(self, most: int, batch_size: int) -> list[Batch]:
        """Return at most `most` samples of the pairs, evenly spread and always the same, as batches."""
        number = min(most, len(self))
        chosen = ((np.arange(number) + 0.5) * len(self) / number).astype(int)
        return [self._batch(part, part) for part in np.split(chosen, range(batch_size, number, batch_size))]

    def _batch(
        self,
        fixed: np.ndarray,
        moving: np.ndarray,
        slices: np.ndarray | None = None,
        flipped: Sequence[np.ndarray] = (),
    ) -> Batch:
        """Return samples by their places in the stacks, each mirrored along its axes in `flipped`, if there are any."""

        def taken(stack: np.ndarray | None, index: np.ndarray) -> np.ndarray | None:
            if stack is None:
                return None
            arrays = stack[index] if slices is None else stack[index, slices]
            for sample, axes in enumerate(flipped):
                arrays[sample] = np.flip(arrays[sample], axes)
            return arrays[..., None]

        def structures(stack: np.ndarray | None, index: np.ndarray) -> np.ndarray | None:
            maps = taken(stack, index)
            return None if maps is None else (maps == self.label_numbers).astype(np.float32)

        return Batch(
            taken(self.fixed, fixed),
            taken(self.moving, moving),
            self.spacing_mm[fixed],
            structures(self.fixed_labels, fixed),
            structures(self.moving_labels, moving),
            taken(self.fixed_mask, fixed),
            taken(self.moving_mask, moving),
        )


def drawn_and_watched(
    settings: Mapping[str, Any], multiple: int, training: Sequence[Entry], validation: Sequence[Entry]
) -> tuple[Samples, Samples]:
    """Return what a training draws from and what it is watched with, padded to one size.

    Parameters
    ----------
    settings : dict
        ``dimensions`` and ``flips``.
    multiple : int
        Every side is padded to a multiple of it.
    training : list
        Images of which any two make a pair, or (fixed, moving).
    validation : list of (fixed, moving)
    """
    at_least, dimensions = largest_shape([*training, *validation]), settings["dimensions"]
    drawn = Samples(training, dimensions, multiple, at_least, flips=settings["flips"])
    return drawn, Samples(validation, dimensions, multiple, at_least)


def _flat(entries: Iterable[Entry]) -> Iterator[Image]:
    for entry in entries:
        yield from (entry,) if isinstance(entry, Image) else entry


def largest_shape(entries: Iterable[Entry]) -> np.ndarray:
    """Return the largest size along each axis of some images, or pairs of images."""
    return np.max([image.values.shape for image in _flat(entries)], axis=0)


def pad(array: np.ndarray, shape: Sequence[int] | np.ndarray) -> np.ndarray:
    """Pad an array evenly with zeros to `shape`; :func:`crop` is its inverse."""
    before = [(new - old) // 2 for new, old in zip(shape, array.shape, strict=True)]
    after = [new - old - b for new, old, b in zip(shape, array.shape, before, strict=True)]
    return np.pad(array, list(zip(before, after, strict=True))).astype(np.float32)


def crop(array: np.ndarray, shape: Sequence[int] | np.ndarray) -> np.ndarray:
    """Cut the middle of `shape` out of an array (more axes may follow)."""
    before = [(old - new) // 2 for old, new in zip(array.shape, shape, strict=False)]
    return array[tuple(slice(b, b + n) for b, n in zip(before, shape, strict=True))]
