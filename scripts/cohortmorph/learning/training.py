"""The training loop, the same for every kind of network: epochs of steps, what is watched, kept, shown and rescued."""

import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from cohortmorph import UserError
from cohortmorph.learning.batch import Batch
from cohortmorph.learning.checkpoints import Checkpoint
from cohortmorph.learning.kind import Kind, Objective, Samples

# TensorFlow comes from `networks`, which prepares its import.
from cohortmorph.learning.networks import assign, save_parameters, tf
from cohortmorph.learning.trainer import Step, Trainer
from cohortmorph.run import memory
from cohortmorph.run.files import StrPath, write_table

log = logging.getLogger("cohortmorph")

# Validation samples that are watched: always the same, so that their loss shows the training's course without the noise
# of what a batch happens to hold.
PROBE = 16
# How often at least they are watched, at each λ, and the course is told: to look takes a third of a step.
LOOKS = 20

# Where the last good parameters are put if the loss or its gradient stops being a number.
RESCUE = "last-good-parameters.npz"

# Seconds between two writings of the history so far, which one can watch while a training runs (docs/progress.md).
LIVE_SECONDS = 5
LIVE_HISTORY = "live_history.tsv"


@dataclass(frozen=True)
class Recipe:
    """What decides how a network learns, the images aside.

    Attributes
    ----------
    network : str
        Its name in the configuration, for messages.
    kind : Kind
    weights : sequence of float
        λ, one, or several: then one conditional network learns all from the least to the greatest.
    settings : dict
        The network's section of the configuration, with defaults.
    seed : int
        With the epoch, it fixes what is drawn.
    """

    network: str
    kind: Kind
    weights: Sequence[float]
    settings: Mapping[str, Any]
    seed: int

    @property
    def title(self) -> str:
        """What is trained, for messages."""
        ends = sorted({min(self.weights), max(self.weights)})
        return f"{self.network} with λ = " + " to ".join(f"{weight:g}" for weight in ends)

    @property
    def section(self) -> str:
        """Where the settings stand in the configuration."""
        return f"networks.{self.network}"

    @property
    def more_memory(self) -> str:
        """How the job of this training gets more memory."""
        rule = f"train_{self.network}" + "_conditional" * (len(self.weights) > 1)
        return f"--set-resources {rule}:htcondor_request_mem_mb=..."


def history_columns(objective: Objective) -> tuple[str, ...]:
    """Return the columns of a history: the objective's parts, unweighted, those watched also of validation samples."""
    return ("epoch", *objective.names, *(f"validation_{name}" for name in objective.watched), "seconds")


def train(
    recipe: Recipe,
    training: Samples,
    validation: Samples,
    kept_paths: Mapping[int, StrPath],
    folder: StrPath,
    checkpoint: Checkpoint | None = None,
) -> pd.DataFrame:
    """Train a network for one λ, or one for several.

    Of several, each sample draws its own λ, and the epochs take turns in watching the validation samples at the λ that
    were named.

    Parameters
    ----------
    recipe : Recipe
    training, validation : Samples
        Validation pairs are watched only: they change nothing.
    kept_paths : dict
        {epoch: path of the parameters (.npz)}.
    folder : path
        Where :data:`RESCUE` and :data:`LIVE_HISTORY` go.
    checkpoint : Checkpoint, optional
        Where a training that was cut short goes on, and what it leaves behind.

    Returns
    -------
    history : DataFrame
        One row an epoch; columns :func:`history_columns`; those of validation are NaN for epochs after which nobody
        looked. For several λ a column `validation_weight` follows: the λ at which the validation samples were watched.

    Raises
    ------
    UserError
        The loss or its gradient is not finite: epoch, step and parts are named. Or, before the first step: the samples
        lack what the objective asks for, or a step does not fit into memory.
    """
    kind, settings = recipe.kind, recipe.settings
    try:
        objective = kind.objective(settings, list(training.label_numbers))
    except UserError as error:
        raise UserError(f"{recipe.section}.{error}") from None
    trainer = Trainer(kind.network_for(training.shape, settings, recipe.weights), objective, settings)
    if validation.shape != training.shape:
        raise ValueError(f"validation images of {validation.shape} for a network of {training.shape}")
    _check_memory(recipe, trainer, training.shape)
    probe = validation.probe(PROBE, settings["batch_size"])
    looks = _looks(settings["epochs"], kept_paths, len(recipe.weights))
    course = _Course(recipe, trainer, training, probe, looks, Path(folder))
    record = _Record(trainer, settings["epochs"], kept_paths, looks, Path(folder), checkpoint)
    record.restore()
    epochs = range(len(record.rows) + 1, settings["epochs"] + 1)
    for epoch in tqdm(epochs, desc=recipe.title, unit="epoch", mininterval=2):
        record.add(course.run_epoch(epoch))
    return pd.DataFrame(record.rows)


def _looks(epochs: int, kept: Iterable[int], weights: int) -> list[int]:
    """Return the epochs after which the validation samples are watched: the last, those kept, and some between."""
    every = max(1, epochs // (LOOKS * weights))
    return sorted({*range(every, epochs + 1, every), *kept, epochs})


def _check_memory(recipe: Recipe, trainer: Trainer, shape: Sequence[int]) -> None:
    if tf.config.list_physical_devices("GPU"):  # a GPU has memory of its own
        return
    batch_size = recipe.settings["batch_size"]
    step = f"a step with batches of {batch_size} × {' × '.join(map(str, shape))} voxels"
    memory.check(
        {step: trainer.memory_mb(batch_size)},
        f"Lower {recipe.section}.batch_size, raise {recipe.section}.spacing_mm, or let the job ask for more memory "
        f"(rules/train.smk, or {recipe.more_memory}).",
    )


@dataclass
class _Course:
    """How a training goes: what each epoch draws follows from the seed and its number alone."""

    recipe: Recipe
    trainer: Trainer
    samples: Samples
    probe: Sequence[Batch]
    looks: Sequence[int]
    folder: Path

    def run_epoch(self, epoch: int) -> dict[str, float]:
        """Train for an epoch, look at the validation samples if it is time, and return the row of the history."""
        started, weights, watched_at = time.monotonic(), self.recipe.weights, np.nan
        row = {"epoch": epoch, **self._learn(epoch)}
        watched = dict.fromkeys(self.trainer.objective.watched, np.nan)
        if epoch in self.looks:
            watched_at = weights[(self.looks.index(epoch) + 1) % len(weights)]
            watched = self._watch(watched_at)
        row |= {f"validation_{name}": watched[name] for name in self.trainer.objective.watched}
        row |= {"seconds": time.monotonic() - started}
        return row | ({"validation_weight": watched_at} if len(weights) > 1 else {})

    def _learn(self, epoch: int) -> dict[str, float]:
        """Make the steps of an epoch and return the means of what they found."""
        network, settings = self.trainer.network, self.recipe.settings
        good = [variable.numpy() for variable in network.parameters]
        rng, found = np.random.default_rng([self.recipe.seed, epoch]), []
        for number in range(1, settings["steps_per_epoch"] + 1):
            batch = self.samples.draw(rng, settings["batch_size"])
            weights, seed = network.draw_weights(rng, self.recipe.weights, settings["batch_size"]), None
            if any(settings.get("augment", {}).values()):
                seed = tf.constant(rng.integers(2**31, size=2), tf.int32)
            step = self.trainer.step(batch, weights, seed)
            if not step.finite:
                assign(network.parameters, good)
                raise self._breakdown(epoch, number, step)
            found.append(step.parts)
        return dict(zip(self.trainer.objective.names, np.mean(found, axis=0), strict=True))

    def _watch(self, weight: float) -> dict[str, float]:
        """Return the loss of the validation samples at λ = `weight`, and its parts."""
        numbers = [batch.number for batch in self.probe]
        found = [
            self.trainer.evaluate(batch, self.trainer.network.weights_of(weight, batch.number)) for batch in self.probe
        ]
        return dict(zip(self.trainer.objective.names, np.average(found, axis=0, weights=numbers), strict=True))

    def _breakdown(self, epoch: int, number: int, step: Step) -> UserError:
        """Save the network, which is that of the last epoch again, and return what is to be told."""
        save_parameters(self.trainer.network, self.folder / RESCUE)
        loss, *others = zip(self.trainer.objective.names, step.parts, strict=True)
        told = [f"{_in_words(name)} {value:g}" for name, value in others]
        return UserError(
            f"training {self.recipe.title} broke down at epoch {epoch}, step {number}: loss {loss[1]:g} "
            f"({', '.join([*told, f'size of the gradient {step.gradient_norm:g}'])}). The parameters of epoch "
            f"{epoch - 1} are in {self.folder / RESCUE}. Lower {self.recipe.section}.learning_rate, and look whether "
            "an input image is flat."
        )


def _in_words(name: str) -> str:
    return name.replace("_", " ")


class _Record:
    """The history so far, and what is written while the training runs: kept epochs, checkpoint, live history, log."""

    def __init__(
        self,
        trainer: Trainer,
        epochs: int,
        kept_paths: Mapping[int, StrPath],
        looks: Sequence[int],
        folder: Path,
        checkpoint: Checkpoint | None,
    ) -> None:
        self.trainer, self.epochs, self.kept_paths, self.looks = trainer, epochs, kept_paths, looks
        self.folder, self.checkpoint = folder, checkpoint
        self.rows: list[dict[str, float]] = []
        self._shown = -np.inf

    def restore(self) -> None:
        """Put back what an earlier job left of this training."""
        if self.checkpoint:
            rows = self.checkpoint.restore(self.trainer.variables, self.kept_paths)
            columns = (*history_columns(self.trainer.objective), "validation_weight")
            self.rows = [dict(zip(columns, row, strict=False)) for row in rows]

    def add(self, row: dict[str, float]) -> None:
        """Take the row of an epoch that has just ended, and write what is due."""
        self.rows.append(row)
        epoch, is_last = int(row["epoch"]), row["epoch"] == self.epochs
        if epoch in self.kept_paths:
            save_parameters(self.trainer.network, self.kept_paths[epoch])
        if self.checkpoint:
            rows = [list(row.values()) for row in self.rows]
            self.checkpoint.save(self.trainer.variables, rows, self.kept_paths, last=is_last)
        if is_last or time.monotonic() - self._shown > LIVE_SECONDS:
            write_table(pd.DataFrame(self.rows), self.folder / LIVE_HISTORY)
            self._shown = time.monotonic()
        if epoch in self.looks:
            parts = ", ".join(f"{_in_words(name)} {row[name]:.4g}" for name in self.trainer.objective.names)
            log.info("epoch %d of %d: %s; validation %.4g", epoch, self.epochs, parts, row["validation_loss"])
