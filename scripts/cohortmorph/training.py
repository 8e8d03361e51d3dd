"""Training of the registration network for one regularization weight λ, and its use on a pair.

Images are arrays indexed [i, j, k] on one grid a pair (see ``prepare_input``), float32 in [0, 1]. In 2-D every slice
along k is a sample of its own.
"""

import hashlib
import logging
import time
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from cohortmorph import UserError, memory
from cohortmorph.losses import dice_loss, gradient_penalty, similarity

# TensorFlow comes from `networks`, which prepares its import.
from cohortmorph.networks import RegistrationNetwork, save_weights, size_multiple, tf, warp

log = logging.getLogger("cohortmorph")

# Validation samples that are watched at every epoch: always the same, so that their loss shows the training's course
# without the noise of what a batch happens to hold.
PROBE = 16

# Longer gradients are shortened to this. Usual ones are 0.3 to 1 long; one of fifty, from windows that are almost flat,
# throws the network out of all that it has learned, and it does not come back.
GRADIENT_NORM_MAX = 1.0

# Of the memory of a step: how often each number that a layer puts out is held, and numbers a voxel for warp and loss.
# Fitted to measured peaks, see docs/training.md.
VALUES_KEPT = 1.5
LOSS_VALUES = 60

HISTORY = (
    "epoch",
    "loss",
    "similarity",
    "penalty",
    "label_loss",
    "validation_loss",
    "validation_similarity",
    "validation_penalty",
    "seconds",
)


def start_tensorflow(seed, threads):
    """Fix threads and randomness, before TensorFlow's first operation: on a CPU, the same run gives the same bits."""
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    tf.keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()


class Samples:
    """What a training or a validation draws from: pairs of images (or of their slices) of one size.

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

    def __init__(self, dimensions, multiple, pairs=None, images=None, at_least=(0, 0, 0), labels=None, flips=False):
        self.dimensions = dimensions
        self.flips = flips
        self.any_two = images is not None
        arrays = images if self.any_two else _flat(pairs)
        if not arrays:
            raise ValueError("there is nothing to draw from")
        largest = np.maximum(largest_shape(arrays), at_least)
        shape = -(-largest // multiple) * multiple
        if dimensions == 2:
            shape[2] = largest[2]
        self.shape = tuple(int(n) for n in shape[:dimensions])
        self.fixed, self.moving = self._stacks(arrays, shape)
        label_maps = [] if labels is None else labels if self.any_two else _flat(labels)
        self.fixed_labels, self.moving_labels = self._stacks(label_maps, shape) if label_maps else (None, None)
        self.label_numbers = np.unique([number for map_ in label_maps for number in np.unique(map_) if number > 0])
        if dimensions == 2 and not self.any_two:
            # A slice that one of the stacks does not reach has nothing to register.
            content = np.logical_and(*[np.ptp(stack, axis=(1, 2)) > 0 for stack in (self.fixed, self.moving)])
            if not content.any():
                raise UserError("no slice has content in both images of a pair: look at the affine alignment.")
            self.fixed, self.moving = self.fixed[content], self.moving[content]
            if label_maps:
                self.fixed_labels, self.moving_labels = self.fixed_labels[content], self.moving_labels[content]

    def _stacks(self, arrays, shape):
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

    def __len__(self):
        return len(self.fixed)

    def draw(self, rng, number):
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

    def probe(self, most, batch_size):
        """Return at most `most` samples of the pairs, evenly spread and always the same, as batches (fixed, moving)."""
        number = min(most, len(self))
        chosen = ((np.arange(number) + 0.5) * len(self) / number).astype(int)
        batches = np.split(chosen, range(batch_size, number, batch_size))
        return [(self.fixed[batch, ..., None], self.moving[batch, ..., None]) for batch in batches]


def _flat(pairs):
    return [array for pair in pairs for array in pair]


def largest_shape(samples):
    """Return the largest size along each axis of some arrays, or pairs of arrays."""
    arrays = [array for sample in samples for array in (sample if isinstance(sample, tuple) else [sample])]
    return np.max([array.shape for array in arrays], axis=0)


def pad(array, shape):
    """Pad an array evenly with zeros to `shape`; :func:`crop` is its inverse."""
    before = [(new - old) // 2 for new, old in zip(shape, array.shape, strict=True)]
    after = [new - old - b for new, old, b in zip(shape, array.shape, before, strict=True)]
    return np.pad(array, list(zip(before, after, strict=True))).astype(np.float32)


def crop(array, shape):
    """Cut the middle of `shape` out of an array (more axes may follow)."""
    before = [(old - new) // 2 for old, new in zip(array.shape, shape, strict=False)]
    return array[tuple(slice(b, b + n) for b, n in zip(before, shape, strict=True))]


class Trainer:
    """One optimizer step on a batch, and the loss without a step.

    The U-Net runs as it is; integration, warp and loss are one compiled (XLA) function, much faster than apart.
    """

    def __init__(self, shape, settings, weight):
        self.network = RegistrationNetwork(shape, settings)
        self.optimizer = tf.keras.optimizers.Adam(settings["learning_rate"])
        compare = similarity(settings["similarity"])
        convention = settings["regularization"]["convention"]
        label_weight = settings["label_weight"]
        network = self.network

        def parts(field, fixed, moving, fixed_labels=None, moving_labels=None):
            displacement = network.displacement(field)
            likeness = tf.reduce_mean(compare(fixed, warp(moving, displacement)))
            penalty = tf.reduce_mean(gradient_penalty(field, convention, network.field_downsampling))
            overlap = tf.constant(0.0)
            if fixed_labels is not None:
                overlap = tf.reduce_mean(dice_loss(fixed_labels, warp(moving_labels, displacement)))
            return likeness + weight * penalty + label_weight * overlap, likeness, penalty, overlap

        @tf.function(jit_compile=True)
        def parts_and_gradient(field, *images):
            with tf.GradientTape() as tape:
                tape.watch(field)
                result = parts(field, *images)
            return result, tape.gradient(result[0], field)

        @tf.function
        def step(fixed, moving, *labels):
            with tf.GradientTape() as tape:
                field = network.model([moving, fixed], training=True)
            result, gradient = parts_and_gradient(field, fixed, moving, *labels)
            gradients = tape.gradient(field, network.weights, output_gradients=gradient)
            gradients, norm = tf.clip_by_global_norm(gradients, GRADIENT_NORM_MAX)
            self.optimizer.apply_gradients(zip(gradients, network.weights, strict=True))
            # The gradient's size as well: it can break down, and take the weights along, while the loss is a number.
            return tf.stack([*result, norm])

        # Compiled twice, not one inside the other: the gradient of a compiled function is 25 times slower.
        compiled_parts = tf.function(parts, jit_compile=True)

        @tf.function
        def evaluate(fixed, moving):
            return tf.stack(compiled_parts(network.model([moving, fixed], training=False), fixed, moving)[:3])

        self.step, self.evaluate = step, evaluate

    def memory_mb(self, batch_size):
        """Estimate the memory that a step takes on a CPU, in MB, libraries and images aside (docs/training.md)."""
        voxels = int(np.prod(self.network.shape))
        return 4 * batch_size * (VALUES_KEPT * self.network.values + LOSS_VALUES * voxels) / 2**20

    @property
    def variables(self):
        """All that a step changes: the network's weights, and the optimizer's moments and count of steps."""
        self.optimizer.build(self.network.weights)
        return [*self.network.weights, *self.optimizer.variables]


def train(training, validation, weight, settings, seed, kept_paths, rescue_path, checkpoint=None):
    """Train a network for one λ.

    Parameters
    ----------
    training, validation : Samples
        Validation pairs are watched only: they change nothing.
    weight : float
        λ of L = similarity + λ · penalty (+ the settings' ``label_weight`` · Dice loss, if `training` has labels).
    settings : dict
        The config's ``voxelmorph`` section.
    seed : int
        With the epoch, it fixes what is drawn.
    kept_paths : dict
        {epoch: path of the weights (.npz)}.
    rescue_path : path
        Where the last good weights are put if the loss or its gradient stops being a number.
    checkpoint : checkpoints.Checkpoint, optional
        Where a training that was cut short goes on, and what it leaves behind.

    Returns
    -------
    history : DataFrame
        One row an epoch; columns :data:`HISTORY`. `similarity`, `penalty` and `label_loss` (0 without labels) are the
        unweighted parts of `loss`; `validation_loss` has no part from labels.

    Raises
    ------
    UserError
        The loss or its gradient is not finite: epoch, step and parts are named. Or, before the first step: a step does
        not fit into memory.
    """
    trainer = Trainer(training.shape, settings, weight)
    epochs, steps = settings["epochs"], settings["steps_per_epoch"]
    if validation.shape != training.shape:
        raise ValueError(f"validation images of {validation.shape} for a network of {training.shape}")
    if not tf.config.list_physical_devices("GPU"):  # a GPU has memory of its own
        size = " × ".join(map(str, training.shape))
        memory.check(
            {
                f"a step with batches of {settings['batch_size']} × {size} voxels": trainer.memory_mb(
                    settings["batch_size"]
                )
            },
            "Lower voxelmorph.batch_size, raise voxelmorph.spacing_mm, or let the job ask for more memory "
            "(rules/train.smk, or --set-resources train_voxelmorph:htcondor_request_mem_mb=...).",
        )
    probe = validation.probe(PROBE, settings["batch_size"])
    told = set(kept_paths) | set(range(0, epochs + 1, max(1, epochs // 20)))
    rows = checkpoint.restore(trainer.variables, kept_paths) if checkpoint else []
    good = [variable.numpy() for variable in trainer.network.weights]
    for epoch in tqdm(range(len(rows) + 1, epochs + 1), desc=f"λ = {weight:g}", unit="epoch", mininterval=2):
        rng = np.random.default_rng([seed, epoch])
        started, parts = time.monotonic(), []
        for step in range(1, steps + 1):
            parts.append(trainer.step(*map(tf.constant, training.draw(rng, settings["batch_size"]))).numpy())
            if not np.isfinite(parts[-1]).all():
                _rescue(trainer.network, good, rescue_path)
                loss, likeness, penalty, overlap, gradient = parts[-1]
                raise UserError(
                    f"training with λ = {weight:g} broke down at epoch {epoch}, step {step}: loss {loss:g} "
                    f"(similarity {likeness:g}, penalty {penalty:g}, labels {overlap:g}, size of the gradient "
                    f"{gradient:g}). The weights of epoch {epoch - 1} are in {rescue_path}. Lower "
                    "voxelmorph.learning_rate, and look whether an input image is flat."
                )
        good = [variable.numpy() for variable in trainer.network.weights]
        parts_of_probe = [trainer.evaluate(tf.constant(fixed), tf.constant(moving)).numpy() for fixed, moving in probe]
        watched = np.average(parts_of_probe, axis=0, weights=[len(fixed) for fixed, _ in probe])
        row = [epoch, *np.mean(parts, axis=0)[:4], *watched, time.monotonic() - started]
        rows.append(row)
        if epoch in kept_paths:
            save_weights(trainer.network, kept_paths[epoch])
        if checkpoint:
            checkpoint.save(trainer.variables, rows, kept_paths, last=epoch == epochs)
        if epoch in told:
            log.info(
                "epoch %d of %d: loss %.4f, similarity %.4f, penalty %.4g; validation %.4f",
                epoch,
                epochs,
                *row[1:4],
                row[5],
            )
    return pd.DataFrame(rows, columns=HISTORY)


def _rescue(network, weights, path):
    for variable, array in zip(network.weights, weights, strict=True):
        variable.assign(array)
    save_weights(network, path)


class Registrar:
    """Networks of one architecture applied to pairs: built once, then fed with the weights of any λ and epoch."""

    def __init__(self, shape, settings):
        self.dimensions = settings["dimensions"]
        multiple = size_multiple(settings["encoder"])
        self.shape = tuple(int(-(-n // multiple) * multiple) for n in shape[: self.dimensions])
        self.network = RegistrationNetwork(self.shape, settings)

        # One graph, in which TensorFlow fuses each convolution with what follows; compiled by XLA it would be slower.
        @tf.function
        def displacement(fixed, moving):
            return self.network.displacement(self.network.model([moving, fixed], training=False))

        self._displacement = displacement

    def __call__(self, fixed, moving, slices_at_once=16):
        """Return the displacement in voxels of the arrays' grid, shape (*fixed.shape, 3); in 2-D k's component is 0."""
        if self.dimensions == 3:
            field = self._run(pad(fixed, self.shape)[None], pad(moving, self.shape)[None])[0]
            return crop(field, fixed.shape)
        count = fixed.shape[2]
        size = (*self.shape, count)
        fixed_slices, moving_slices = (np.moveaxis(pad(array, size), 2, 0) for array in (fixed, moving))
        # The last batch is filled up: every size of batch would be compiled anew.
        filled = -(-count // slices_at_once) * slices_at_once
        index = np.minimum(np.arange(filled), count - 1)
        fields = [
            self._run(fixed_slices[part], moving_slices[part]) for part in np.split(index, filled // slices_at_once)
        ]
        field = np.moveaxis(np.concatenate(fields)[:count], 0, 2)
        field = np.concatenate([field, np.zeros((*field.shape[:-1], 1), np.float32)], axis=-1)
        return crop(field, fixed.shape)

    def _run(self, fixed, moving):
        return self._displacement(tf.constant(fixed[..., None]), tf.constant(moving[..., None])).numpy()


def checksum(path):
    """Return the sha256 of a file, as hexadecimal digits."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
