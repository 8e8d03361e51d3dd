"""Methods: how they are called, in files, tables and words, and in which order they stand.

A method is anything that turns a pair into a displacement. Its id is the name of its folder. Of a network there is a
method for each regularization weight λ and kept epoch, so its id carries both; tables hold name, λ and epoch apart.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

STARTS = ("initial", "harmonized", "affine")  # what comes before every other method, in this order
LEARNED_ID = re.compile(r"(?P<name>[a-z0-9-]+)_weight-(?P<weight>.+)_epoch-(?P<epoch>\d+)")


@dataclass(frozen=True)
class Method:
    """A method: its name and, of a network, λ and epoch.

    Attributes
    ----------
    name : str
        As the configuration calls it (`bspline-3r`), or one of :data:`STARTS`; of a network the network's name.
    weight : str
        The regularization weight λ as the user typed it; "" unless learned.
    epoch : int or None

    Examples
    --------
    >>> Method.of("voxelmorph_weight-0.5_epoch-200")
    Method(name='voxelmorph', weight='0.5', epoch=200)
    >>> Method.of("bspline-3r").id
    'bspline-3r'
    """

    name: str
    weight: str = ""
    epoch: int | None = None

    @classmethod
    def of(cls, id: str) -> "Method":
        """Return the method of an id."""
        found = LEARNED_ID.fullmatch(id)
        return cls(found["name"], found["weight"], int(found["epoch"])) if found else cls(id)

    @classmethod
    def of_choice(cls, choice: Mapping[str, Any]) -> "Method":
        """Return the method that a network's selected_model.json chose: its network, weight and epoch."""
        return cls(choice["network"], str(choice["weight"]), int(choice["epoch"]))

    @property
    def id(self) -> str:
        """The name of its folder: unique in a run."""
        return f"{self.name}_weight-{self.weight}_epoch-{self.epoch}" if self.learned else self.name

    @property
    def learned(self) -> bool:
        """Whether it is a network with one λ and epoch."""
        return self.weight != ""

    @property
    def label(self) -> str:
        """Its name for a reader, a network's with λ and epoch."""
        return f"{self.name}, λ = {self.weight}, epoch {self.epoch}" if self.learned else self.name


def in_order(names: Iterable[str], order: Sequence[str]) -> list[str]:
    """Return names, each once, as they stand in `order`, the configuration's; what that lacks comes last, by name.

    Examples
    --------
    >>> in_order(["niftyreg", "affine", "niftyreg"], ["initial", "affine", "bspline-3r", "niftyreg"])
    ['affine', 'niftyreg']
    """
    place = {name: n for n, name in enumerate(order)}
    return sorted(set(names), key=lambda name: (place.get(name, len(place)), name))


def ordered_weights(weights: Iterable[str]) -> list[str]:
    """Return regularization weights λ (as typed), each once, by their value."""
    return sorted({weight for weight in weights if weight}, key=float)
