"""A training as a rule asks for it: which images, which λ, settings and seed; and all that it leaves behind."""

import itertools
import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cohortmorph import UserError
from cohortmorph.learning import augment, batch, checkpoints, kind, networks, parameters, samples, trainer, training
from cohortmorph.learning.kind import Kind, Samples
from cohortmorph.learning.kinds import kind_of
from cohortmorph.learning.samples import Entry, Image
from cohortmorph.run import memory
from cohortmorph.run.files import StrPath, write_json, write_table
from cohortmorph.spatial import geometry

log = logging.getLogger("cohortmorph")

# The code that decides a training's result, of whatever kind, with the modules of its kind: a checkpoint of another is
# not used.
CODE = (sys.modules[__name__], augment, batch, checkpoints, kind, networks, parameters, samples, trainer, training)

# A path, or those of a pair (fixed, moving).
Input = str | Sequence[str]


class Material(NamedTuple):
    """What a training draws from, what it is watched with, and the inputs that show nothing."""

    drawn: Samples
    watched: Samples
    left_out: list[Input]


@dataclass(frozen=True)
class Training:
    """A training: all that decides its result, and the threads that it may use.

    Attributes
    ----------
    network : str
        Its name in the configuration.
    weight : str, or list of str
        λ as the user typed it; of several, one conditional network learns all.
    training_inputs : list
        Paths of images of which any two make a pair, or (fixed, moving) paths.
    training_labels, training_masks : list
        Their label maps and masks in the same form, or empty: then these play no part.
    validation_inputs, validation_masks : list
        (fixed, moving) paths.
    settings : dict
        The network's section of the configuration with its defaults, its ``kind`` among them.
    seed, threads : int
    """

    network: str
    weight: str | list[str]
    training_inputs: list[Input]
    training_labels: list[Input]
    training_masks: list[Input]
    validation_inputs: list[Input]
    validation_masks: list[Input]
    settings: dict[str, Any]
    seed: int
    threads: int

    @property
    def weights(self) -> list[str]:
        """λ, one or more."""
        return [self.weight] if isinstance(self.weight, str) else list(self.weight)

    @property
    def kind(self) -> Kind:
        """What kind of network it is."""
        return kind_of(self.settings["kind"])

    @property
    def recipe(self) -> training.Recipe:
        """How the network learns."""
        weights = [float(weight) for weight in self.weights]
        return training.Recipe(self.network, self.kind, weights, self.settings, self.seed)

    @property
    def _inputs(self) -> list[list[Input]]:
        learned = [self.training_inputs, self.training_labels, self.training_masks]
        return [*learned, self.validation_inputs, self.validation_masks]

    @property
    def fingerprint(self) -> str:
        """Of everything that decides the result: settings, code and the contents of the images; not of the name."""
        inputs = self._inputs
        files = [path for entries in inputs for entry in entries for path in np.atleast_1d(entry)]
        code = [Path(str(module.__file__)) for module in (*CODE, *self.kind.modules)]
        return checkpoints.fingerprint([self.weight, self.settings, self.seed, *inputs], [*code, *files])

    def run(self, kept: Sequence[StrPath], history: StrPath, report: StrPath) -> None:
        """Train, or go on where an earlier job was cut short.

        Parameters
        ----------
        kept : list of path
            Where the network's parameters go after each of the settings' ``kept_epochs``.
        history : path
            A table, an epoch a row (see :func:`cohortmorph.learning.training.history_columns`). Beside it stand
            checkpoint.npz, the history so far and, after a breakdown, the last good parameters.
        report : path
            How it was done, as JSON.
        """
        networks.start_tensorflow(self.seed, self.threads, with_gradients=True)
        device, recipe = networks.device(), self.recipe
        check_memory(list(itertools.chain(*self._inputs)), recipe)
        material = self.material()
        log.info(
            "%s, λ = %s, on %s with %d threads: %d images or pairs to draw from, %d validation samples, images of %s",
            *(self.network, ", ".join(self.weights), device, self.threads),
            *(len(material.drawn), len(material.watched), material.drawn.shape),
        )
        paths = dict(zip(self.settings["kept_epochs"], kept, strict=True))
        folder = Path(history).parent
        checkpoint = checkpoints.Checkpoint(folder / "checkpoint.npz", self.fingerprint)
        table = training.train(recipe, material.drawn, material.watched, paths, folder, checkpoint)
        write_table(table, history)
        facts = {
            "network": self.network,
            "weight": self.weight,
            "settings": self.settings,
            "seed": self.seed,
            "device": device,
            "threads": self.threads,
            "shape": material.drawn.shape,
            "samples": len(material.drawn),
            "left_out": material.left_out,
            "validation_samples": len(material.watched),
            "label_numbers": material.drawn.label_numbers.tolist(),
            "seconds": float(table["seconds"].sum()),
            "resumed_after_epoch": checkpoint.first_epoch - 1,
            "sha256": {str(epoch): parameters.checksum(path) for epoch, path in paths.items()},
        }
        write_json(facts, report)

    def material(self) -> Material:
        """Read the images, but for those that show nothing, and pad them to one size.

        Raises
        ------
        UserError
            Nothing is left.
        """
        learned = read(self.training_inputs, self.training_labels, self.training_masks)
        learned, left_out = without_empty(self.training_inputs, learned)
        validated = read(self.validation_inputs, masks=self.validation_masks)
        validated, unwatched = without_empty(self.validation_inputs, validated)
        for entry in left_out + unwatched:
            log.error("left out, as an image has no values (see results/logs/prepare_input): %s", entry)
        if not learned or not validated:
            raise UserError(
                "nothing is left to train on, or to watch the training with: every pair of the split failed."
            )
        kind = self.kind
        drawn, watched = kind.samples(self.settings, kind.multiple(self.settings), learned, validated)
        return Material(drawn, watched, left_out + unwatched)

    def write_plain_networks(self, conditional: Sequence[StrPath], plain: Sequence[StrPath]) -> None:
        """Take a plain network from the conditional one at each λ, and for each epoch.

        Parameters
        ----------
        conditional : sequence of path
            Parameters of the conditional network, an epoch each.
        plain : sequence of path
            Where those of the plain networks go: all epochs of the first λ, then of the next.
        """
        kind, shape = self.kind, self.kind.smallest_shape(self.settings)
        network = kind.conditional_network(shape, self.settings, self.recipe.weights)
        taken = kind.network(shape, self.settings)
        for (weight, source), path in zip(itertools.product(self.weights, conditional), plain, strict=True):
            networks.load_parameters(network, source)
            network.hand_over(float(weight), taken)
            networks.save_parameters(taken, path)


def check_memory(inputs: Sequence[Input], recipe: training.Recipe) -> None:
    """Refuse images that do not fit into memory: as they are read, and padded to the largest, once each and stacked."""
    sizes = np.array(
        [geometry.read_grid(str(path)).size for entry in inputs for path in np.atleast_1d(entry)], dtype=float
    )
    values_mb = 4 / 2**20
    memory.check(
        {
            f"{len(sizes)} images": values_mb * sizes.prod(axis=1).sum(),
            "the same padded for the network": 2 * values_mb * len(sizes) * sizes.max(axis=0).prod(),
        },
        f"Raise {recipe.section}.spacing_mm, use fewer train or validation images, or let the job ask for more memory "
        f"({recipe.more_memory}).",
    )


def without_empty(inputs: Sequence[Input], entries: Sequence[Entry]) -> tuple[list[Entry], list[Input]]:
    """Return the entries that show something, and the inputs of those that do not (see prepare_input.py)."""
    good = [
        all(np.ptp(image.values) > 0 for image in ([entry] if isinstance(entry, Image) else entry)) for entry in entries
    ]
    kept = [entry for entry, is_good in zip(entries, good, strict=True) if is_good]
    return kept, [entry for entry, is_good in zip(inputs, good, strict=True) if not is_good]


def read(inputs: Sequence[Input], label_maps: Sequence[Input] = (), masks: Sequence[Input] = ()) -> list[Entry]:
    """Read images, or pairs of images, by their paths; and label maps and masks, if given, in the same form."""

    def image(path: str, *others: Any) -> Image:
        found = geometry.read_image(path)
        labels, mask = (None if other is None else array(other) for other in others)
        return Image(geometry.to_array(found), found.GetSpacing(), labels, mask)

    entries: list[Entry] = []
    for one, *others in itertools.zip_longest(inputs, label_maps, masks):
        if isinstance(one, str):
            entries.append(image(one, *others))
        else:
            of_sides = zip(one, *(other or (None, None) for other in others), strict=True)
            fixed, moving = (image(*paths) for paths in of_sides)
            entries.append((fixed, moving))
    return entries


def array(path: str) -> np.ndarray:
    """Read an image's voxels."""
    return geometry.to_array(geometry.read_image(path))
