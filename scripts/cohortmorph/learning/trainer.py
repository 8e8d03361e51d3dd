"""One step of a training: a batch through the network, the loss, its gradient, and what that changes."""

from collections import namedtuple
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from cohortmorph.learning.augment import augment
from cohortmorph.learning.batch import Batch
from cohortmorph.learning.kind import Network, Objective

# TensorFlow comes from `networks`, which prepares its import.
from cohortmorph.learning.networks import tf

# Longer gradients are shortened to this. Usual ones are 0.3 to 1 long; one of fifty, from windows that are almost flat,
# throws the network out of all that it has learned, and it does not come back.
GRADIENT_NORM_MAX = 1.0

# Of the memory of a step: how often each number that a layer puts out is held. Less than what was measured
# (docs/training.md): only what surely does not fit is refused.
VALUES_KEPT = 1.5


class Step(NamedTuple):
    """What a step found before it changed the network: the parts of its objective, and how long the gradient was."""

    parts: Any
    gradient_norm: float

    @property
    def finite(self) -> bool:
        """Whether all are numbers. The gradient can break down, and take the network along, while the loss is one."""
        return bool(np.isfinite([*self.parts, self.gradient_norm]).all())


class Trainer:
    """One optimizer step on a batch, and the loss without a step.

    The network runs as it is; integration, warp and loss are one compiled (XLA) function, much faster than apart.

    Parameters
    ----------
    network : Network
        Of any kind: what it sees of λ is its own affair.
    objective : Objective
        What it learns.
    settings : dict
        Those of the training.
    """

    def __init__(self, network: Network, objective: Objective, settings: Mapping[str, Any]) -> None:
        self.network, self.objective = network, objective
        self._named = namedtuple("Parts", objective.names)  # type: ignore[misc] # an objective's own
        self.optimizer = tf.keras.optimizers.Adam(learning_rate(settings))
        self.strengths = settings.get("augment", {})

    def step(self, batch: Batch, weights: tf.Tensor, seed: tf.Tensor | None = None) -> Step:
        """Improve the network by one step.

        Parameters
        ----------
        batch : Batch
        weights : tensor
            λ, as the network draws it.
        seed : tensor of int32, shape (2,)
            Wanted if the settings ask for augmented images.
        """
        *parts, gradient_norm = self._step(batch.each(tf.convert_to_tensor), weights, seed).numpy()
        return Step(self._named(*parts), gradient_norm)

    def evaluate(self, batch: Batch, weights: tf.Tensor) -> Any:
        """Return the parts of a batch, a named tuple, those from what is not given 0; the network stays as it is."""
        return self._named(*self._evaluate(batch.each(tf.convert_to_tensor), weights).numpy())

    @tf.function(autograph=False)
    def _step(self, batch, weights, seed):
        if any(self.strengths.values()):
            batch = self._varied(batch, seed)
        with tf.GradientTape() as tape:
            field = self.network.field(batch.moving, batch.fixed, weights, training=True)
        parts, gradient = self._parts_and_gradient(field, weights, batch)
        gradients = tape.gradient(field, self.network.parameters, output_gradients=gradient)
        gradients, norm = tf.clip_by_global_norm(gradients, GRADIENT_NORM_MAX)
        self.optimizer.apply_gradients(zip(gradients, self.network.parameters, strict=True))
        return tf.stack([*parts, norm])

    @tf.function(autograph=False)
    def _evaluate(self, batch, weights):
        field = self.network.field(batch.moving, batch.fixed, weights, training=False)
        # Without a way back, XLA would compute the steps of the integration again and again.
        displacement = self.network.displacement(field)
        return tf.stack(self._parts(field, displacement, weights, batch))

    @tf.function(jit_compile=True, autograph=False)
    def _varied(self, batch, seed):
        for_fixed, for_moving = tf.unstack(tf.random.split(seed, 2))

        def whole(mask):
            """Return where what was interpolated counts altogether."""
            return None if mask is None else tf.cast(mask > 0.999, tf.float32)

        if batch.displacement_mm is not None and self.strengths["deformation"]:
            raise ValueError("images with a known displacement cannot be bent at random: it would be another one")
        fixed, (fixed_labels, fixed_mask) = augment(
            batch.fixed, [batch.fixed_labels, batch.fixed_mask], for_fixed, **self.strengths
        )
        moving, (moving_labels, moving_mask) = augment(
            batch.moving, [batch.moving_labels, batch.moving_mask], for_moving, **self.strengths
        )
        return batch._replace(
            fixed=fixed,
            moving=moving,
            fixed_labels=fixed_labels,
            moving_labels=moving_labels,
            fixed_mask=whole(fixed_mask),
            moving_mask=whole(moving_mask),
        )

    # The parts are compiled twice, not one inside the other: the gradient of a compiled function is 25 times slower.
    @tf.function(jit_compile=True, autograph=False)
    def _parts_and_gradient(self, field, weights, batch):
        with tf.GradientTape() as tape:
            tape.watch(field)
            parts = self.objective.parts(field, self.network.displacement(field), weights, batch)
        return parts, tape.gradient(parts[0], field)

    @tf.function(jit_compile=True, autograph=False)
    def _parts(self, *arguments):
        return self.objective.parts(*arguments)

    def memory_mb(self, batch_size: int) -> float:
        """Return the least memory that a step takes on a CPU, in MB, libraries and images aside (docs/training.md)."""
        voxels = int(np.prod(self.network.shape))
        return 4 * batch_size * (VALUES_KEPT * self.network.values + self.objective.values * voxels) / 2**20

    @property
    def variables(self) -> list[tf.Variable]:
        """All that a step changes: the network's parameters, and the optimizer's moments and count of steps."""
        self.optimizer.build(self.network.parameters)
        return [*self.network.parameters, *self.optimizer.variables]


def learning_rate(settings: Mapping[str, Any]) -> Any:
    """Return the step size of Adam: a number, or a schedule of Keras.

    `cosine` rises to the number over the first tenth of the training, at most 200 steps, and then falls to a hundredth.
    """
    if settings["learning_rate_schedule"] == "constant":
        return settings["learning_rate"]
    steps = settings["epochs"] * settings["steps_per_epoch"]
    warm_up = min(200, steps // 10)
    return tf.keras.optimizers.schedules.CosineDecay(
        0.0, steps - warm_up, alpha=0.01, warmup_target=settings["learning_rate"], warmup_steps=warm_up
    )
