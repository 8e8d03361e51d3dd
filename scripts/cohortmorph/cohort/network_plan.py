"""How a network is trained and applied: which files, and which settings of the configuration."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from cohortmorph import UserError
from cohortmorph.cohort.cohort import Cohort, Sample
from cohortmorph.cohort.configuration import conditional_problem
from cohortmorph.cohort.layout import Layout
from cohortmorph.cohort.methods import Method
from cohortmorph.cohort.pairs import Pair, pair_id

SampleFiles = str | tuple[str, str]  # the file of an alignment, or (fixed, moving)


@dataclass(frozen=True, eq=False)
class NetworkPlan:
    """A network of the configuration.

    Attributes
    ----------
    name : str
    chosen : dict
        Its section of the configuration, with defaults.
    cohort : Cohort
    results : Layout
    """

    name: str
    chosen: dict[str, Any]
    cohort: Cohort
    results: Layout

    # ---- what comes out

    @property
    def weights(self) -> list[str]:
        """The regularization weights λ."""
        return self.chosen["weights"]

    @property
    def kept_epochs(self) -> list[int]:
        """The epochs whose networks are kept."""
        return self.chosen["kept_epochs"]

    @cached_property
    def methods(self) -> list[Method]:
        """A method for each weight λ and kept epoch."""
        return [Method(self.name, weight, epoch) for weight in self.weights for epoch in self.kept_epochs]

    @property
    def may_be_conditional(self) -> bool:
        """Whether one network of this kind can learn every λ."""
        return "conditional" in self.chosen

    @property
    def conditional(self) -> bool:
        """Whether one does, in place of a network each."""
        return self.may_be_conditional and self.chosen["conditional"]

    @property
    def ids(self) -> list[str]:
        """The ids of these methods."""
        return [method.id for method in self.methods]

    @property
    def parameters(self) -> list[str]:
        """The parameter files of these methods, in their order."""
        if self.conditional:
            return self.parameters_at_weights
        return [self.results.parameters(method) for method in self.methods]

    @property
    def parameters_at_weights(self) -> list[str]:
        """The same, taken from the network for every λ."""
        return [self.results.parameters_of_conditional(method) for method in self.methods]

    def parameters_of_weight(self, weight: str) -> list[str]:
        """Return the parameter files of one training."""
        return [self.results.parameters(Method(self.name, weight, epoch)) for epoch in self.kept_epochs]

    @cached_property
    def histories(self) -> list[str]:
        """What is written down of each training."""
        if self.conditional:
            return [self.results.of_conditional(self.name, "history.tsv")]
        return [self.results.of_training(self.name, weight, "history.tsv") for weight in self.weights]

    def parameters_of_conditional(self, epochs: Iterable[int]) -> list[str]:
        """Return the parameter files of the network for every λ at these epochs."""
        return [self.results.of_conditional(self.name, f"epoch-{epoch}.npz") for epoch in epochs]

    def range_of_weights(self, **_: str) -> list[str]:
        """Return the weights between the least and greatest of which one network learns every λ."""
        if problem := conditional_problem(self.weights):
            raise UserError(f"networks.{self.name}.weights: {problem}")
        return self.weights

    @property
    def search_settings(self) -> dict[str, Any]:
        """What the search of λ needs to know of the network for every λ: its weights, epoch and settings."""
        return {
            "network": self.name,
            "weights": self.range_of_weights(),
            "epoch": self.kept_epochs[-1],
            "settings": self.settings,
        }

    # ---- what it learns from

    @cached_property
    def training_inputs(self) -> list[SampleFiles]:
        """The views of the training images, of which any two make a pair, or of the (fixed, moving) images."""
        return self._files(self.cohort.training_inputs, self._input)

    @cached_property
    def validation_inputs(self) -> list[SampleFiles]:
        """The views of the (fixed, moving) images of the validation pairs."""
        return self._files(self.cohort.validation_inputs, self._input)

    @cached_property
    def training_labels(self) -> list[SampleFiles]:
        """The label maps of the training inputs, in their form; nothing if labels play no part."""
        supervised = self.chosen.get("label_weight", 0) > 0
        if not supervised and self.chosen.get("incompressible", {}).get("weight", 0) <= 0:
            return []
        samples = self.cohort.training_inputs
        if not supervised:
            # Incompressible structures are the fixed image's: the moving one needs no labels, and its place is filled.
            samples = [sample if isinstance(sample, str) else (sample[0], sample[0]) for sample in samples]
        return self._files(samples, lambda alignment: self.results.network_labels(alignment, self.grid))

    @cached_property
    def training_masks(self) -> list[SampleFiles]:
        """The masks of the training inputs, in their form; nothing if likeness counts everywhere."""
        return self._masks(self.cohort.training_inputs)

    @cached_property
    def validation_masks(self) -> list[SampleFiles]:
        """The same of the validation inputs."""
        return self._masks(self.cohort.validation_inputs)

    def _masks(self, samples: Iterable[Sample]) -> list[SampleFiles]:
        if self.chosen.get("similarity", {}).get("mask", "none") == "none":
            return []
        return self._files(samples, lambda alignment: self.results.network_mask(alignment, self.grid))

    def _input(self, alignment: str) -> str:
        return self.results.network_input(alignment, self.grid)

    @staticmethod
    def _files(samples: Iterable[Sample], file: Any) -> list[SampleFiles]:
        return [file(one) if isinstance(one, str) else (file(one[0]), file(one[1])) for one in samples]

    @property
    def training(self) -> dict[str, Any]:
        """What a training is told beside λ and seed."""
        return {
            "network": self.name,
            "training_inputs": self.training_inputs,
            "training_labels": self.training_labels,
            "training_masks": self.training_masks,
            "validation_inputs": self.validation_inputs,
            "validation_masks": self.validation_masks,
            "settings": self.settings,
        }

    @cached_property
    def training_files(self) -> list[str]:
        """All files that a training reads, each once."""
        masks = [*self.training_masks, *self.validation_masks]
        return _each_once([*self.training_inputs, *self.validation_inputs, *self.training_labels, *masks])

    def views(self, pair: Pair) -> dict[str, str]:
        """Return the networks' views of a pair's images, and the transforms from the frame to each."""
        files = {}
        for role, image in (("fixed", pair.fixed), ("moving", pair.moving)):
            alignment = pair_id(image.id, pair.frame.id)
            files[f"{role}_input"] = self._input(alignment)
            files[f"frame_to_{role}"] = self.results.affine(alignment)
        return files

    # ---- settings: a rule reruns only for the keys that it uses

    @property
    def grid_settings(self) -> dict[str, Any]:
        """The grid on which the network works: spacing in mm, dimensions, and what its sides are multiples of."""
        halved = len(self.chosen.get("encoder", ())) + (self.chosen["kind"] == "matching")  # which compares first
        return {key: self.chosen[key] for key in ("spacing_mm", "dimensions")} | {"multiple": 2**halved}

    @cached_property
    def grid(self) -> str:
        """The name of this grid in file names, such as ``2d-own-16`` or ``3d-1x1x3-8``: who agrees shares views."""
        spacing_mm = self.chosen["spacing_mm"]
        sides = spacing_mm if isinstance(spacing_mm, list) else [spacing_mm]
        spacing = "x".join("own" if side is None else f"{side:.12g}" for side in sides)
        return f"{self.chosen['dimensions']}d-{spacing}-{self.grid_settings['multiple']}"

    @property
    def settings(self) -> dict[str, Any]:
        """What a training depends on beside λ and the images."""
        return {key: value for key, value in self.chosen.items() if key not in (*NOT_LEARNED, *APPLIED)}

    @property
    def settings_applied(self) -> dict[str, Any]:
        """What the network's answer depends on beside λ, the training images and the pair's."""
        return self.settings | {key: self.chosen[key] for key in APPLIED if key in self.chosen}


# Keys of a network that decide nothing in a training for one λ: which λ there are, how the images come, who computes.
NOT_LEARNED = ("weights", "conditional", "spacing_mm", "threads", "gpu")
# Keys that decide how a network is applied once it has learned.
APPLIED = ("passes", "mirrored")


def _each_once(samples: Iterable[SampleFiles]) -> list[str]:
    return sorted({path for one in samples for path in ([one] if isinstance(one, str) else one)})
