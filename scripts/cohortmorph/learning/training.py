"""The training loop, the same for every kind of network: epochs of steps, what is watched, kept, shown and rescued."""

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from cohortmorph import UserError
from cohortmorph.learning.checkpoints import Checkpoint
from cohortmorph.learning.conditional import network_for

# TensorFlow comes from `networks`, which prepares its import.
from cohortmorph.learning.networks import assign, save_parameters, tf
from cohortmorph.learning.objective import Parts
from cohortmorph.learning.samples import Samples
from cohortmorph.learning.trainer import Step, Trainer
from cohortmorph.run import memory
from cohortmorph.run.files import StrPath, write_table

log = logging.getLogger("cohortmorph")

# Validation samples that are watched at every epoch: always the same, so that their loss shows the training's course
# without the noise of what a batch happens to hold.
PROBE = 16

# Where the last good parameters are put if the loss or its gradient stops being a number.
RESCUE = "last-good-parameters.npz"

# Seconds between two writings of the history so far, which one can watch while a training runs (docs/progress.md).
LIVE_SECONDS = 5
LIVE_HISTORY = "live_history.tsv"

# The parts that are watched: validation needs no labels.
WATCHED = ("loss", "similarity", "penalty", "folding_penalty")
HISTORY = ("epoch", *Parts._fields, *(f"validation_{name}" for name in WATCHED), "seconds")


def train(
    training: Samples,
    validation: Samples,
    weights: Sequence[float],
    settings: Mapping[str, Any],
    seed: int,
    kept_paths: Mapping[int, StrPath],
    folder: StrPath,
    checkpoint: Checkpoint | None = None,
) -> pd.DataFrame:
    """Train a network for one λ, or one for several.

    Parameters
    ----------
    training, validation : Samples
        Validation pairs are watched only: they change nothing.
    weights : sequence of float
        λ of L = similarity + λ · penalty (+ the parts that have a weight of their own in the settings: label loss and
        incompressibility, for which `training` needs labels, and the folding penalty). Of several, one conditional
        network learns all from the least to the greatest: each sample draws its own λ, and the epochs take turns in
        watching the validation samples at the λ that were named.
    settings : dict
        The config's ``voxelmorph`` section.
    seed : int
        With the epoch, it fixes what is drawn.
    kept_paths : dict
        {epoch: path of the parameters (.npz)}.
    folder : path
        Where :data:`RESCUE` and :data:`LIVE_HISTORY` go.
    checkpoint : Checkpoint, optional
        Where a training that was cut short goes on, and what it leaves behind.

    Returns
    -------
    history : DataFrame
        One row an epoch; columns :data:`HISTORY`. `similarity`, `penalty`, `label_loss`, `folding_penalty` and
        `incompressibility` (0 where their weight is 0) are the unweighted parts of `loss`; `validation_loss` has no
        part from labels. For several λ a column `validation_weight` follows: the λ at which the validation samples
        were watched.

    Raises
    ------
    UserError
        The loss or its gradient is not finite: epoch, step and parts are named. Or, before the first step: no training
        image has a label that is to be incompressible, or a step does not fit into memory.
    """
    _check_labels(settings, training.label_numbers)
    trainer = Trainer(network_for(training.shape, settings, weights), settings, list(training.label_numbers))
    if validation.shape != training.shape:
        raise ValueError(f"validation images of {validation.shape} for a network of {training.shape}")
    _check_memory(trainer, training.shape, settings["batch_size"])
    probe = validation.probe(PROBE, settings["batch_size"])
    course = _Course(trainer, training, probe, tuple(map(float, weights)), settings, seed, Path(folder))
    record = _Record(trainer, settings["epochs"], kept_paths, Path(folder), checkpoint)
    record.restore()
    epochs = range(len(record.rows) + 1, settings["epochs"] + 1)
    for epoch in tqdm(epochs, desc=course.name, unit="epoch", mininterval=2):
        record.add(course.run_epoch(epoch))
    return pd.DataFrame(record.rows)


def _check_labels(settings: Mapping[str, Any], label_numbers: np.ndarray) -> None:
    unknown = set(settings["incompressible"]["labels"]) - set(label_numbers)
    if settings["incompressible"]["weight"] and unknown:
        known = ", ".join(f"{number:g}" for number in label_numbers)
        raise UserError(
            f"voxelmorph.incompressible.labels: no train image has label {', '.join(map(str, sorted(unknown)))}; their "
            f"maps, on the network's grid, hold {known or 'none'}."
        )


def _check_memory(trainer: Trainer, shape: Sequence[int], batch_size: int) -> None:
    if tf.config.list_physical_devices("GPU"):  # a GPU has memory of its own
        return
    step = f"a step with batches of {batch_size} × {' × '.join(map(str, shape))} voxels"
    memory.check(
        {step: trainer.memory_mb(batch_size)},
        "Lower voxelmorph.batch_size, raise voxelmorph.spacing_mm, or let the job ask for more memory "
        "(rules/train.smk, or --set-resources train_voxelmorph:htcondor_request_mem_mb=...).",
    )


@dataclass
class _Course:
    """How a training goes: what each epoch draws follows from the seed and its number alone."""

    trainer: Trainer
    samples: Samples
    probe: list[tuple[np.ndarray, np.ndarray]]
    weights: tuple[float, ...]
    settings: Mapping[str, Any]
    seed: int
    folder: Path

    @property
    def name(self) -> str:
        """What is trained, for messages."""
        return "λ = " + " to ".join(f"{value:g}" for value in sorted({min(self.weights), max(self.weights)}))

    def run_epoch(self, epoch: int) -> dict[str, float]:
        """Train for an epoch, look at the validation samples, and return the row of the history."""
        started = time.monotonic()
        trained = self._learn(epoch)
        watched_at = self.weights[epoch % len(self.weights)]
        watched = self._watch(watched_at)
        row = {"epoch": epoch, **trained._asdict()}
        row |= {f"validation_{name}": getattr(watched, name) for name in WATCHED}
        row |= {"seconds": time.monotonic() - started}
        return row | ({"validation_weight": watched_at} if len(self.weights) > 1 else {})

    def _learn(self, epoch: int) -> Parts:
        """Make the steps of an epoch and return the means of what they found."""
        network, batch_size = self.trainer.network, self.settings["batch_size"]
        good = [variable.numpy() for variable in network.parameters]
        rng, found = np.random.default_rng([self.seed, epoch]), []
        for number in range(1, self.settings["steps_per_epoch"] + 1):
            images = map(tf.constant, self.samples.draw(rng, batch_size))
            weights, seed = network.draw_weights(rng, self.weights, batch_size), None
            if any(self.settings["augment"].values()):
                seed = tf.constant(rng.integers(2**31, size=2), tf.int32)
            step = self.trainer.step(*images, weights=weights, seed=seed)
            if not step.finite:
                assign(network.parameters, good)
                raise self._breakdown(epoch, number, step)
            found.append(step.parts)
        return Parts(*np.mean(found, axis=0))

    def _watch(self, weight: float) -> Parts:
        """Return the loss of the validation samples at λ = `weight`, and its parts."""
        found = [
            self.trainer.evaluate(
                tf.constant(fixed), tf.constant(moving), self.trainer.network.weights_of(weight, len(fixed))
            )
            for fixed, moving in self.probe
        ]
        return Parts(*np.average(found, axis=0, weights=[len(fixed) for fixed, _ in self.probe]))

    def _breakdown(self, epoch: int, number: int, step: Step) -> UserError:
        """Save the network, which is that of the last epoch again, and return what is to be told."""
        save_parameters(self.trainer.network, self.folder / RESCUE)
        parts = step.parts
        return UserError(
            f"training with {self.name} broke down at epoch {epoch}, step {number}: loss {parts.loss:g} "
            f"(similarity {parts.similarity:g}, penalty {parts.penalty:g}, labels {parts.label_loss:g}, "
            f"folding {parts.folding_penalty:g}, incompressible structures {parts.incompressibility:g}, "
            f"size of the gradient {step.gradient_norm:g}). The parameters of epoch {epoch - 1} are in "
            f"{self.folder / RESCUE}. Lower voxelmorph.learning_rate, and look whether an input image is flat."
        )


class _Record:
    """The history so far, and what is written while the training runs: kept epochs, checkpoint, live history, log."""

    def __init__(
        self,
        trainer: Trainer,
        epochs: int,
        kept_paths: Mapping[int, StrPath],
        folder: Path,
        checkpoint: Checkpoint | None,
    ) -> None:
        self.trainer, self.epochs, self.kept_paths = trainer, epochs, kept_paths
        self.folder, self.checkpoint = folder, checkpoint
        self.rows: list[dict[str, float]] = []
        self._told = set(kept_paths) | set(range(0, epochs + 1, max(1, epochs // 20)))
        self._shown = -np.inf

    def restore(self) -> None:
        """Put back what an earlier job left of this training."""
        if self.checkpoint:
            rows = self.checkpoint.restore(self.trainer.variables, self.kept_paths)
            self.rows = [dict(zip((*HISTORY, "validation_weight"), row, strict=False)) for row in rows]

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
        if epoch in self._told:
            log.info(
                "epoch %d of %d: loss %.4f, similarity %.4f, penalty %.4g; validation %.4f",
                *(epoch, self.epochs, row["loss"], row["similarity"], row["penalty"], row["validation_loss"]),
            )
