"""What a training draws from: pairs of images (or of their slices) of one size, padded to what the network can halve.

Images are arrays indexed [i, j, k] on one grid a pair (see ``prepare_input``), float32 in [0, 1]. In 2-D every slice
along k is a sample of its own.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

import numpy as np

from cohortmorph import UserError

# An image, or a pair (fixed, moving) of images.
Entry = np.ndarray | tuple[np.ndarray, np.ndarray]


class Samples:
    """Pairs of images (or of their slices) of one size, for a training or a validation.

    Parameters
    ----------
    pairs : list of (fixed, moving) arrays, or None
        Images of one pair share a size; different pairs are padded evenly with zeros to the largest.
    images : list of arrays, or None
        Instead of pairs: images on one grid, of which any two make a pair. Memory and work grow with their number.
    dimensions : {2, 3}
    multiple : int
        Every side of the samples is padded to a multiple of it.
    at_least : tuple of int, optional
        Size below which no side stays: training and validation share a network, but not their subjects' grids.
    labels : list, optional
        Label maps (whole numbers, 0: no structure) of the `pairs` or `images`, in the same form.
    flips : bool
        Whether samples are mirrored at random along each axis, both images alike. Without it a network of few subjects
        learns where their heads differ, not what their images show.

    Attributes
    ----------
    label_numbers : array
        The structures, in ascending order; empty without `labels`.
    """

    def __init__(
        self,
        dimensions: int,
        multiple: int,
        pairs: Sequence[tuple[np.ndarray, np.ndarray]] | None = None,
        images: Sequence[np.ndarray] | None = None,
        at_least: Sequence[int] | np.ndarray = (0, 0, 0),
        labels: Sequence[Entry] | None = None,
        flips: bool = False,
    ) -> None:
        self.dimensions = dimensions
        self.flips = flips
        self.any_two = images is not None
        arrays = _flat(images if images is not None else pairs or [])
        if not arrays:
            raise ValueError("there is nothing to draw from")
        largest = np.maximum(largest_shape(arrays), at_least)
        shape = -(-largest // multiple) * multiple
        if dimensions == 2:
            shape[2] = largest[2]
        self.shape = tuple(int(n) for n in shape[:dimensions])
        self.fixed, self.moving = self._stacks(arrays, shape)
        label_maps = _flat(labels or [])
        if label_maps:
            self.fixed_labels, self.moving_labels = self._stacks(label_maps, shape)
        self.label_numbers = np.unique([number for map_ in label_maps for number in np.unique(map_) if number > 0])
        if dimensions == 2 and not self.any_two:
            # A slice that one of the stacks does not reach has nothing to register.
            content = np.logical_and(*[np.ptp(stack, axis=(1, 2)) > 0 for stack in (self.fixed, self.moving)])
            if not content.any():
                raise UserError("no slice has content in both images of a pair: look at the affine alignment.")
            self.fixed, self.moving = self.fixed[content], self.moving[content]
            if label_maps:
                self.fixed_labels, self.moving_labels = self.fixed_labels[content], self.moving_labels[content]

    def _stacks(self, arrays: Sequence[np.ndarray], shape: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return what is drawn from: (fixed, moving), arrays of shape (samples, *shape); of images, the same twice."""
        padded = [pad(array, shape) for array in arrays]
        if self.dimensions == 2:
            padded = [np.moveaxis(array, 2, 0) for array in padded]
        if self.any_two:
            stack = np.stack(padded)
            return stack, stack
        fixed, moving = np.stack(padded[0::2]), np.stack(padded[1::2])
        if self.dimensions == 2:
            return fixed.reshape(-1, *self.shape), moving.reshape(-1, *self.shape)
        return fixed, moving

    def __len__(self) -> int:
        return len(self.fixed)

    def draw(self, rng: np.random.Generator, number: int) -> tuple[np.ndarray, ...]:
        """Draw random samples.

        Returns
        -------
        fixed, moving : arrays, shape (number, *shape, 1)
        fixed_labels, moving_labels : arrays, shape (number, *shape, structures)
            With labels only: 1 where the structure is, else 0.
        """
        by_slice = self.any_two and self.dimensions == 2
        if self.any_two:
            fixed, moving = np.array([rng.choice(len(self), 2, replace=False) for _ in range(number)]).T
            if by_slice:
                slices = rng.integers(self.fixed.shape[1], size=number)
        else:
            # Evenly spread from a random start: neighbouring slices are alike, and would not stand for all of them.
            fixed = moving = ((rng.random() + np.arange(number)) * len(self) / number).astype(int) % len(self)
        stacks = [(self.fixed, fixed), (self.moving, moving)]
        if len(self.label_numbers):
            stacks += [(self.fixed_labels, fixed), (self.moving_labels, moving)]
        drawn = [stack[index, slices] if by_slice else stack[index] for stack, index in stacks]
        if self.flips:
            for sample in range(number):
                axes = np.flatnonzero(rng.random(self.dimensions) < 0.5)
                for arrays in drawn:
                    arrays[sample] = np.flip(arrays[sample], axes)
        images, labels = drawn[:2], drawn[2:]
        structures = [(array[..., None] == self.label_numbers).astype(np.float32) for array in labels]
        return (*(array[..., None] for array in images), *structures)

    def probe(self, most: int, batch_size: int) -> list[tuple[np.ndarray, np.ndarray]]:
        """Return at most `most` samples of the pairs, evenly spread and always the same, as batches (fixed, moving)."""
        number = min(most, len(self))
        chosen = ((np.arange(number) + 0.5) * len(self) / number).astype(int)
        batches = np.split(chosen, range(batch_size, number, batch_size))
        return [(self.fixed[batch, ..., None], self.moving[batch, ..., None]) for batch in batches]


def drawn_and_watched(
    settings: Mapping[str, Any],
    multiple: int,
    training: Sequence[Entry],
    validation: Sequence[Entry],
    labels: Sequence[Entry],
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
    labels : list
        Label maps of the training entries, or nothing.
    """
    at_least = largest_shape([*training, *validation])
    material: dict[str, Any] = {"pairs" if isinstance(training[0], tuple) else "images": training}
    drawn = Samples(
        settings["dimensions"],
        multiple,
        **material,
        at_least=at_least,
        labels=labels or None,
        flips=settings["flips"],
    )
    pairs = cast(Sequence[tuple[np.ndarray, np.ndarray]], validation)
    return drawn, Samples(settings["dimensions"], multiple, pairs=pairs, at_least=at_least)


def _flat(entries: Iterable[Entry]) -> list[np.ndarray]:
    return [array for entry in entries for array in (entry if isinstance(entry, tuple) else [entry])]


def largest_shape(entries: Iterable[Entry]) -> np.ndarray:
    """Return the largest size along each axis of some images, or pairs of images."""
    return np.max([array.shape for array in _flat(entries)], axis=0)


def pad(array: np.ndarray, shape: Sequence[int] | np.ndarray) -> np.ndarray:
    """Pad an array evenly with zeros to `shape`; :func:`crop` is its inverse."""
    before = [(new - old) // 2 for new, old in zip(shape, array.shape, strict=True)]
    after = [new - old - b for new, old, b in zip(shape, array.shape, before, strict=True)]
    return np.pad(array, list(zip(before, after, strict=True))).astype(np.float32)


def crop(array: np.ndarray, shape: Sequence[int] | np.ndarray) -> np.ndarray:
    """Cut the middle of `shape` out of an array (more axes may follow)."""
    before = [(old - new) // 2 for old, new in zip(array.shape, shape, strict=False)]
    return array[tuple(slice(b, b + n) for b, n in zip(before, shape, strict=True))]
