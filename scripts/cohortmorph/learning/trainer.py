"""One step of a training: a batch through the network, the loss, its gradient, and what that changes."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from cohortmorph.learning.augment import augment

# TensorFlow comes from `networks`, which prepares its import.
from cohortmorph.learning.networks import RegistrationNetwork, tf
from cohortmorph.learning.objective import Objective, Parts

# Longer gradients are shortened to this. Usual ones are 0.3 to 1 long; one of fifty, from windows that are almost flat,
# throws the network out of all that it has learned, and it does not come back.
GRADIENT_NORM_MAX = 1.0

# Of the memory of a step: how often each number that a layer puts out is held, and numbers a voxel for warp and loss.
# Less than what was measured (docs/training.md): only what surely does not fit is refused.
VALUES_KEPT = 1.5
LOSS_VALUES = 60


class Step(NamedTuple):
    """What a step found before it changed the network."""

    parts: Parts
    gradient_norm: float

    @property
    def finite(self) -> bool:
        """Whether all are numbers. The gradient can break down, and take the network along, while the loss is one."""
        return bool(np.isfinite([*self.parts, self.gradient_norm]).all())


class Trainer:
    """One optimizer step on a batch, and the loss without a step.

    The U-Net runs as it is; integration, warp and loss are one compiled (XLA) function, much faster than apart.

    Parameters
    ----------
    network : RegistrationNetwork
        Of any kind: what it sees of λ is its own affair.
    settings : dict
        The config's ``voxelmorph`` section.
    label_numbers : sequence of number
        Which structures the labels of a step are, in their order.
    """

    def __init__(
        self, network: RegistrationNetwork, settings: Mapping[str, Any], label_numbers: Sequence[float] = ()
    ) -> None:
        self.network = network
        self.objective = Objective(settings, label_numbers)
        self.optimizer = tf.keras.optimizers.Adam(learning_rate(settings))
        self.strengths = settings["augment"]

    def step(
        self, fixed: tf.Tensor, moving: tf.Tensor, *labels: tf.Tensor, weights: tf.Tensor, seed: tf.Tensor | None = None
    ) -> Step:
        """Improve the network by one step.

        Parameters
        ----------
        fixed, moving : tensor, shape (batch, *shape, 1)
        *labels : tensor, shape (batch, *shape, structures)
            None, or those of the fixed and of the moving images.
        weights : tensor
            λ, as the network draws it.
        seed : tensor of int32, shape (2,)
            Wanted if the settings ask for augmented images.
        """
        *parts, gradient_norm = self._step(fixed, moving, *labels, weights=weights, seed=seed).numpy()
        return Step(Parts(*parts), gradient_norm)

    def evaluate(self, fixed: tf.Tensor, moving: tf.Tensor, weights: tf.Tensor) -> Parts:
        """Return the loss of a batch and its parts, those from labels 0; the network stays as it is."""
        return Parts(*self._evaluate(fixed, moving, weights).numpy())

    @tf.function
    def _step(self, fixed, moving, *labels, weights, seed):
        if any(self.strengths.values()):
            fixed, moving, *labels = self._varied(seed, fixed, moving, *labels)
        with tf.GradientTape() as tape:
            field = self.network.model(self.network.inputs(moving, fixed, weights), training=True)
        parts, gradient = self._parts_and_gradient(field, weights, fixed, moving, *labels)
        gradients = tape.gradient(field, self.network.parameters, output_gradients=gradient)
        gradients, norm = tf.clip_by_global_norm(gradients, GRADIENT_NORM_MAX)
        self.optimizer.apply_gradients(zip(gradients, self.network.parameters, strict=True))
        return tf.stack([*parts, norm])

    @tf.function
    def _evaluate(self, fixed, moving, weights):
        field = self.network.model(self.network.inputs(moving, fixed, weights), training=False)
        # Without a way back, XLA would compute the steps of the integration again and again.
        displacement = self.network.displacement(field)
        return tf.stack(self._parts(field, displacement, weights, fixed, moving))

    @tf.function(jit_compile=True)
    def _varied(self, seed, fixed, moving, fixed_labels=None, moving_labels=None):
        for_fixed, for_moving = tf.unstack(tf.random.split(seed, 2))
        fixed, fixed_labels = augment(fixed, fixed_labels, for_fixed, **self.strengths)
        moving, moving_labels = augment(moving, moving_labels, for_moving, **self.strengths)
        return [fixed, moving] if fixed_labels is None else [fixed, moving, fixed_labels, moving_labels]

    # The parts are compiled twice, not one inside the other: the gradient of a compiled function is 25 times slower.
    @tf.function(jit_compile=True)
    def _parts_and_gradient(self, field, weights, *images):
        with tf.GradientTape() as tape:
            tape.watch(field)
            parts = self.objective.parts(field, self.network.displacement(field), weights, *images)
        return parts, tape.gradient(parts.loss, field)

    @tf.function(jit_compile=True)
    def _parts(self, *arguments):
        return self.objective.parts(*arguments)

    def memory_mb(self, batch_size: int) -> float:
        """Return the least memory that a step takes on a CPU, in MB, libraries and images aside (docs/training.md)."""
        voxels = int(np.prod(self.network.shape))
        return 4 * batch_size * (VALUES_KEPT * self.network.values + LOSS_VALUES * voxels) / 2**20

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
