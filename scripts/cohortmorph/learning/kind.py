"""What a kind of network is: all in which one differs from another.

The training loop, checkpoints, the check of memory, the stop at NaN, the live history, and how a pair becomes a
displacement in mm are the same for every kind. :mod:`cohortmorph.learning.kinds` says which kinds there are.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Protocol

import numpy as np

from cohortmorph.learning.batch import Batch
from cohortmorph.learning.samples import Entry, drawn_and_watched

Tensor = Any  # of TensorFlow, which takes seconds to load
Settings = Mapping[str, Any]


class Learned(Protocol):
    """What has parameters."""

    @property
    def parameters(self) -> list[Any]:
        """What is learned, TensorFlow's variables, always in the same order."""


class Network(Learned, Protocol):
    """Two images in, the displacement of every voxel out.

    Attributes
    ----------
    shape : tuple of int
        Size of the images in voxels, (i, j) or (i, j, k).
    """

    shape: tuple[int, ...]

    @property
    def values(self) -> int:
        """How many numbers the layers put out for one sample; a training step keeps them all for its way back."""

    def field(self, moving: Tensor, fixed: Tensor, weights: Tensor | None = None, training: bool = False) -> Tensor:
        """Return what the network answers and the objective judges: the field that is penalized.

        Parameters
        ----------
        moving, fixed : tensor, shape (batch, *shape, 1)
            In [0, 1].
        weights : tensor
            λ, as :meth:`draw_weights` and :meth:`weights_of` give it; None where the network is applied, which only
            those of one λ are.
        training : bool
            Whether this is a step of a training.

        Returns
        -------
        tensor, shape (batch, ...)
        """

    def displacement(self, field: Tensor) -> Tensor:
        """Turn a field into the displacement in voxels of the images, shape (batch, *shape, dimensions)."""

    def draw_weights(self, rng: np.random.Generator, weights: Sequence[float], number: int) -> Tensor:
        """Return λ of `number` training samples, out of `weights` or between them."""

    def weights_of(self, weight: float, number: int) -> Tensor:
        """Return one λ for `number` samples, as :meth:`field` and the objective take it."""


class Conditional(Network, Protocol):
    """One network for every λ of a range."""

    def hand_over(self, weight: float, network: Learned) -> None:
        """Make a plain network of the kind what this one is at λ = `weight`; a ValueError outside of the range."""


class Objective(Protocol):
    """What a network is trained for.

    Attributes
    ----------
    names : tuple of str
        The parts of which :meth:`parts` tells, as history.tsv calls them; the first is ``loss``, what is minimized.
    watched : tuple of str
        Those of them that mean something for validation samples too, ``loss`` first.
    values : int
        About how many numbers a voxel :meth:`parts` holds for its way back, at the least.
    """

    names: tuple[str, ...]
    watched: tuple[str, ...]
    values: int

    def parts(self, field: Tensor, displacement: Tensor, weights: Tensor, batch: Batch) -> Sequence[Tensor]:
        """Return the parts of a batch: scalars, in the order of `names`, those that play no part 0.

        Parameters
        ----------
        field, displacement : tensor
            Of :class:`Network`.
        weights : tensor
            λ.
        batch : Batch
            Of tensors; what is not given in it plays no part.
        """


class Samples(Protocol):
    """What a training draws from, or is watched with.

    Attributes
    ----------
    shape : tuple of int
        Of the network's images, in voxels.
    label_numbers : array
        The structures that are drawn with the images, in ascending order; may be empty.
    """

    shape: tuple[int, ...]
    label_numbers: np.ndarray

    def __len__(self) -> int:
        """How many images or pairs (in 2-D: slices) there are."""

    def draw(self, rng: np.random.Generator, number: int) -> Batch:
        """Draw a batch of `number` samples, of arrays."""

    def probe(self, most: int, batch_size: int) -> Sequence[Batch]:
        """Return at most `most` samples, always the same, as batches; of each what the watched parts need."""


@dataclass(frozen=True)
class Kind:
    """A kind of network.

    `settings` are a network's section of the configuration with its defaults, as a training gets them. The shared code
    reads of them ``kind``, ``dimensions``, ``epochs``, ``steps_per_epoch``, ``batch_size``, ``learning_rate``,
    ``learning_rate_schedule``, ``kept_epochs`` and, if it is there, ``augment``; all others are the kind's own.

    Attributes
    ----------
    modules : tuple of module
        Whose code decides what a network of this kind learns, beside the shared one: a checkpoint of another is not
        used.
    multiple : function (settings) → int
        What every side of the network's images must be a multiple of; 1 if any size will do.
    network : function (shape, settings) → Network
        A new network for one λ.
    objective : function (settings, label numbers of the samples) → Objective
        A UserError that begins with a key of the settings if the samples lack what it asks for.
    conditional : function (shape, settings, weights) → Conditional, or None
        A new network for every λ from the least to the greatest of `weights`; None if this kind has no such thing.
    samples : function (settings, multiple, training entries, validation entries) → (Samples, Samples)
        What is drawn from, and what is watched: of one shape, which is a multiple of `multiple`. Entries are images of
        which any two make a pair, or (fixed, moving); those of the training may have labels.
    registrar : function (shape, settings) → Registrar, or None
        How a network is applied to pairs with images of this shape (i, j, k); None:
        :class:`cohortmorph.learning.registrar.Registrar`.
    """

    modules: tuple[ModuleType, ...]
    multiple: Callable[[Settings], int]
    network: Callable[[Sequence[int], Settings], Network]
    objective: Callable[[Settings, Sequence[float]], Objective]
    conditional: Callable[[Sequence[int], Settings, Sequence[float]], Conditional] | None = None
    samples: Callable[[Settings, int, Sequence[Entry], Sequence[Entry]], tuple[Samples, Samples]] = drawn_and_watched
    registrar: Callable[[Sequence[int], Settings], Any] | None = None

    def conditional_network(self, shape: Sequence[int], settings: Settings, weights: Sequence[float]) -> Conditional:
        """Return a new network for every λ of a range; a ValueError if this kind has no such thing."""
        if self.conditional is None:
            raise ValueError(f"a network of the kind {settings['kind']} learns one λ: found {len(weights)} weights")
        return self.conditional(shape, settings, weights)

    def network_for(self, shape: Sequence[int], settings: Settings, weights: Sequence[float]) -> Network:
        """Return a new network that learns these λ: a plain one for one λ, for several one that is told which."""
        if len(weights) > 1:
            return self.conditional_network(shape, settings, weights)
        return self.network(shape, settings)

    def smallest_shape(self, settings: Settings) -> list[int]:
        """Return the least size of a network's images, for where only its parameters count: they do not know it."""
        return [self.multiple(settings)] * settings["dimensions"]
