"""Training of the registration network for one regularization weight λ, or for all of a range, and its use on a pair.

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

from cohortmorph import UserError
from cohortmorph.learning.augment import augment
from cohortmorph.learning.conditional import ConditionalNetwork, draw_weights
from cohortmorph.learning.losses import LABEL_LOSSES, folding_penalty, gradient_penalty, incompressibility, similarity

# TensorFlow comes from `networks`, which prepares its import.
from cohortmorph.learning.networks import RegistrationNetwork, save_weights, size_multiple, tf, warp
from cohortmorph.run import memory
from cohortmorph.run.files import write_table

log = logging.getLogger("cohortmorph")

# Validation samples that are watched at every epoch: always the same, so that their loss shows the training's course
# without the noise of what a batch happens to hold.
PROBE = 16

# Longer gradients are shortened to this. Usual ones are 0.3 to 1 long; one of fifty, from windows that are almost flat,
# throws the network out of all that it has learned, and it does not come back.
GRADIENT_NORM_MAX = 1.0

# Of the memory of a step: how often each number that a layer puts out is held, and numbers a voxel for warp and loss.
# Less than what was measured (docs/training.md): only what surely does not fit is refused.
VALUES_KEPT = 1.5
LOSS_VALUES = 60

# Seconds between two writings of the history so far, which one can watch while a training runs (docs/progress.md).
LIVE_SECONDS = 5
LIVE_HISTORY = "live_history.tsv"

HISTORY = (
    "epoch",
    "loss",
    "similarity",
    "penalty",
    "label_loss",
    "folding_penalty",
    "incompressibility",
    "validation_loss",
    "validation_similarity",
    "validation_penalty",
    "validation_folding_penalty",
    "seconds",
)


def start_tensorflow(seed, threads, with_gradients=False):
    """Fix threads and randomness, before TensorFlow's first operation: on a CPU, the same run gives the same bits."""
    if with_gradients:  # TensorFlow cannot fuse convolutions whose gradient is wanted, tries, and tells it as an error
        tf.config.optimizer.set_experimental_options({"remapping": False})
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
    `label_numbers` says which structures the labels of a step are, in their order.

    With several λ instead of one, `weight`, the network is conditional, and `step` and `evaluate` want `weights`, a λ a
    sample, shape (batch,). If the settings ask for augmented images, `step` wants a `seed`, two whole numbers.
    """

    def __init__(self, shape, settings, weight, label_numbers=()):
        one = np.ndim(weight) == 0
        self.network = RegistrationNetwork(shape, settings) if one else ConditionalNetwork(shape, settings, weight)
        self.optimizer = tf.keras.optimizers.Adam(learning_rate(settings))
        compare = similarity(settings["similarity"])
        regularity = settings["regularization"]
        name, convention, folding_weight = (regularity[key] for key in ("name", "convention", "folding_weight"))
        label_loss, label_weight = LABEL_LOSSES[settings["label_loss"]], settings["label_weight"]
        volume_weight = settings["incompressible"]["weight"]
        kept_labels = settings["incompressible"]["labels"] if volume_weight else []
        incompressible = [list(label_numbers).index(number) for number in kept_labels]
        network = self.network

        def parts(field, displacement, weights, fixed, moving, fixed_labels=None, moving_labels=None):
            likeness = tf.reduce_mean(compare(fixed, warp(moving, displacement)))
            penalty = gradient_penalty(field, convention, network.field_downsampling, name)
            overlap = folding = volume = tf.constant(0.0)
            if fixed_labels is not None and label_weight:
                overlap = tf.reduce_mean(label_loss(fixed_labels, warp(moving_labels, displacement)))
            if folding_weight:
                folding = tf.reduce_mean(folding_penalty(displacement, convention))
            if fixed_labels is not None and volume_weight:
                inside = tf.gather(fixed_labels, incompressible, axis=-1)
                volume = tf.reduce_mean(incompressibility(displacement, inside, convention))
            others = label_weight * overlap + folding_weight * folding + volume_weight * volume
            loss = likeness + tf.reduce_mean(weights * penalty) + others
            return loss, likeness, tf.reduce_mean(penalty), overlap, folding, volume

        def inputs(moving, fixed, weights):
            return [moving, fixed] if one else [moving, fixed, weights]

        def of_samples(weights):
            return tf.constant(weight, tf.float32) if one else weights

        @tf.function(jit_compile=True)
        def parts_and_gradient(field, weights, *images):
            with tf.GradientTape() as tape:
                tape.watch(field)
                result = parts(field, network.displacement(field), weights, *images)
            return result, tape.gradient(result[0], field)

        strengths = settings["augment"]

        @tf.function(jit_compile=True)
        def varied(seed, fixed, moving, fixed_labels=None, moving_labels=None):
            for_fixed, for_moving = tf.unstack(tf.random.split(seed, 2))
            fixed, fixed_labels = augment(fixed, fixed_labels, for_fixed, **strengths)
            moving, moving_labels = augment(moving, moving_labels, for_moving, **strengths)
            return [fixed, moving] if fixed_labels is None else [fixed, moving, fixed_labels, moving_labels]

        @tf.function
        def step(fixed, moving, *labels, weights=None, seed=None):
            if any(strengths.values()):
                fixed, moving, *labels = varied(seed, fixed, moving, *labels)
            with tf.GradientTape() as tape:
                field = network.model(inputs(moving, fixed, weights), training=True)
            result, gradient = parts_and_gradient(field, of_samples(weights), fixed, moving, *labels)
            gradients = tape.gradient(field, network.weights, output_gradients=gradient)
            gradients, norm = tf.clip_by_global_norm(gradients, GRADIENT_NORM_MAX)
            self.optimizer.apply_gradients(zip(gradients, network.weights, strict=True))
            # The gradient's size as well: it can break down, and take the weights along, while the loss is a number.
            return tf.stack([*result, norm])

        # Compiled twice, not one inside the other: the gradient of a compiled function is 25 times slower.
        compiled_parts = tf.function(parts, jit_compile=True)

        @tf.function
        def evaluate(fixed, moving, weights=None):
            field = network.model(inputs(moving, fixed, weights), training=False)
            # Without a way back, XLA would compute the steps of the integration again and again.
            displacement = network.displacement(field)
            loss, likeness, penalty, _, folding, _ = compiled_parts(
                field, displacement, of_samples(weights), fixed, moving
            )
            return tf.stack([loss, likeness, penalty, folding])

        self.step, self.evaluate = step, evaluate

    def memory_mb(self, batch_size):
        """Return the least memory that a step takes on a CPU, in MB, libraries and images aside (docs/training.md)."""
        voxels = int(np.prod(self.network.shape))
        return 4 * batch_size * (VALUES_KEPT * self.network.values + LOSS_VALUES * voxels) / 2**20

    @property
    def variables(self):
        """All that a step changes: the network's weights, and the optimizer's moments and count of steps."""
        self.optimizer.build(self.network.weights)
        return [*self.network.weights, *self.optimizer.variables]


def learning_rate(settings):
    """Return the step size of Adam: a number, or a schedule.

    `cosine` rises to the number over the first tenth of the training, at most 200 steps, and then falls to a hundredth.
    """
    if settings["learning_rate_schedule"] == "constant":
        return settings["learning_rate"]
    steps = settings["epochs"] * settings["steps_per_epoch"]
    warm_up = min(200, steps // 10)
    return tf.keras.optimizers.schedules.CosineDecay(
        0.0, steps - warm_up, alpha=0.01, warmup_target=settings["learning_rate"], warmup_steps=warm_up
    )


def train(training, validation, weight, settings, seed, kept_paths, rescue_path, checkpoint=None):
    """Train a network for one λ, or one for several.

    Parameters
    ----------
    training, validation : Samples
        Validation pairs are watched only: they change nothing.
    weight : float, or tuple of float
        λ of L = similarity + λ · penalty (+ the parts that have a weight of their own in the settings: label loss and
        incompressibility, for which `training` needs labels, and the folding penalty). Of several, one conditional
        network learns all from the least to the greatest: each sample draws its own λ, and the epochs take turns in
        watching the validation samples at the λ that were named.
    settings : dict
        The config's ``voxelmorph`` section.
    seed : int
        With the epoch, it fixes what is drawn.
    kept_paths : dict
        {epoch: path of the weights (.npz)}.
    rescue_path : path
        Where the last good weights are put if the loss or its gradient stops being a number. Beside it the history so
        far, :data:`LIVE_HISTORY`, is renewed every few seconds.
    checkpoint : checkpoints.Checkpoint, optional
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
    unknown = set(settings["incompressible"]["labels"]) - set(training.label_numbers)
    if settings["incompressible"]["weight"] and unknown:
        known = ", ".join(f"{number:g}" for number in training.label_numbers)
        raise UserError(
            f"voxelmorph.incompressible.labels: no train image has label {', '.join(map(str, sorted(unknown)))}; their "
            f"maps, on the network's grid, hold {known or 'none'}."
        )
    trainer = Trainer(training.shape, settings, weight, training.label_numbers)
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
    named = np.atleast_1d(weight)
    conditional = len(named) > 1
    columns = [*HISTORY, *(["validation_weight"] if conditional else [])]
    live_written = -np.inf
    name = "λ = " + " to ".join(f"{value:g}" for value in sorted({named.min(), named.max()}))
    for epoch in tqdm(range(len(rows) + 1, epochs + 1), desc=name, unit="epoch", mininterval=2):
        rng = np.random.default_rng([seed, epoch])
        started, parts = time.monotonic(), []
        for step in range(1, steps + 1):
            images = map(tf.constant, training.draw(rng, settings["batch_size"]))
            also = {"weights": draw_weights(rng, named, settings["batch_size"])} if conditional else {}
            if any(settings["augment"].values()):
                also["seed"] = tf.constant(rng.integers(2**31, size=2), tf.int32)
            parts.append(trainer.step(*images, **also).numpy())
            if not np.isfinite(parts[-1]).all():
                _rescue(trainer.network, good, rescue_path)
                loss, likeness, penalty, overlap, folding, volume, gradient = parts[-1]
                raise UserError(
                    f"training with {name} broke down at epoch {epoch}, step {step}: loss {loss:g} "
                    f"(similarity {likeness:g}, penalty {penalty:g}, labels {overlap:g}, folding {folding:g}, "
                    f"incompressible structures {volume:g}, size of the gradient {gradient:g}). "
                    f"The weights of epoch {epoch - 1} are in {rescue_path}. Lower "
                    "voxelmorph.learning_rate, and look whether an input image is flat."
                )
        good = [variable.numpy() for variable in trainer.network.weights]
        watched_at = named[epoch % len(named)]
        parts_of_probe = []
        for fixed, moving in probe:
            weights = {"weights": np.full(len(fixed), watched_at, np.float32)} if conditional else {}
            parts_of_probe.append(trainer.evaluate(tf.constant(fixed), tf.constant(moving), **weights).numpy())
        watched = np.average(parts_of_probe, axis=0, weights=[len(fixed) for fixed, _ in probe])
        row = [epoch, *np.mean(parts, axis=0)[:-1], *watched, time.monotonic() - started]
        row += [watched_at] if conditional else []
        rows.append(row)
        if epoch in kept_paths:
            save_weights(trainer.network, kept_paths[epoch])
        if checkpoint:
            checkpoint.save(trainer.variables, rows, kept_paths, last=epoch == epochs)
        if epoch == epochs or time.monotonic() - live_written > LIVE_SECONDS:
            write_table(pd.DataFrame(rows, columns=columns), Path(rescue_path).with_name(LIVE_HISTORY))
            live_written = time.monotonic()
        if epoch in told:
            log.info(
                "epoch %d of %d: loss %.4f, similarity %.4f, penalty %.4g; validation %.4f",
                epoch,
                epochs,
                *row[1:4],
                row[HISTORY.index("validation_loss")],
            )
    return pd.DataFrame(rows, columns=columns)


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
