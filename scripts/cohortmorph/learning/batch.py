"""What a training draws for a step, and passes on to its objective under one name."""

from collections.abc import Callable
from typing import Any, NamedTuple


class Batch(NamedTuple):
    """Samples side by side: arrays where they are drawn, tensors where they are learned from; None: not given.

    Attributes
    ----------
    fixed, moving : shape (batch, *shape, 1)
        In [0, 1].
    spacing_mm : shape (batch, dimensions)
        Of the voxels, along the axes of the arrays.
    fixed_labels, moving_labels : shape (batch, *shape, structures)
        1 where the structure is, else 0.
    fixed_mask, moving_mask : shape (batch, *shape, 1)
        1 where the image counts, else 0, as in what the samples are padded with.
    displacement_mm : shape (batch, *shape, dimensions)
        The known displacement fixed → moving, along the axes of the arrays.
    """

    fixed: Any
    moving: Any
    spacing_mm: Any
    fixed_labels: Any = None
    moving_labels: Any = None
    fixed_mask: Any = None
    moving_mask: Any = None
    displacement_mm: Any = None

    @property
    def number(self) -> int:
        """How many samples there are."""
        return len(self.fixed)

    def each(self, function: Callable[[Any], Any]) -> "Batch":
        """Return the batch with `function` of all that is given."""
        return Batch(*(None if values is None else function(values) for values in self))
