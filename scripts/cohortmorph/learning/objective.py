"""What a network is trained for without a truth: likeness of the images and the like, put together as configured.

docs/losses.md has the formulas; the functions themselves are those of :mod:`cohortmorph.learning.losses`.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from cohortmorph import UserError
from cohortmorph.learning.batch import Batch
from cohortmorph.learning.losses import (
    LABEL_LOSSES,
    folding_penalty,
    gradient_penalty,
    incompressibility,
    physical_gradient_penalty,
    similarity,
)

# TensorFlow comes from `networks`, which prepares its import.
from cohortmorph.learning.networks import tf, warp, whole_cells


class Parts(NamedTuple):
    """The loss of a batch, and of what it is made: means over the samples, before their weights; 0 if that is 0.

    Scalar tensors inside of a graph, numbers outside.
    """

    loss: Any
    similarity: Any
    penalty: Any
    label_loss: Any
    folding_penalty: Any
    incompressibility: Any


class SimilarityObjective:
    """L = similarity + λ · penalty + γ · label loss + μ · folding penalty + ν · incompressibility.

    Parameters
    ----------
    settings : dict
        ``similarity``, ``regularization``, ``field_downsampling``, ``label_loss``, ``label_weight``,
        ``incompressible``.
    label_numbers : sequence of number
        Which structures the labels of a batch are, in their order.

    Raises
    ------
    UserError
        A structure that is to be incompressible is not among them.
    """

    names: tuple[str, ...] = Parts._fields
    watched: tuple[str, ...] = ("loss", "similarity", "penalty", "folding_penalty")  # validation needs no labels
    values = 60  # less than what was measured (docs/training.md): only what surely does not fit is refused

    def __init__(self, settings: Mapping[str, Any], label_numbers: Sequence[float] = ()) -> None:
        self.mask = settings["similarity"]["mask"]
        self.similarity = similarity(settings["similarity"], alone=True)
        self.regularization = settings["regularization"]
        self.field_downsampling = settings["field_downsampling"]
        self.label_loss, self.label_weight = LABEL_LOSSES[settings["label_loss"]], settings["label_weight"]
        self.volume_weight = settings["incompressible"]["weight"]
        kept = settings["incompressible"]["labels"] if self.volume_weight else []
        if unknown := set(kept) - set(label_numbers):
            known = ", ".join(f"{number:g}" for number in label_numbers)
            raise UserError(
                f"incompressible.labels: no train image has label {', '.join(map(str, sorted(unknown)))}; their maps, "
                f"on the network's grid, hold {known or 'none'}."
            )
        self.incompressible = [list(label_numbers).index(number) for number in kept]

    def parts(self, field: tf.Tensor, displacement: tf.Tensor, weights: tf.Tensor, batch: Batch) -> Parts:
        """Return the loss and its parts.

        Parameters
        ----------
        field : tensor
            What the network put out, which is penalized.
        displacement : tensor, shape (batch, *shape, dimensions)
            In voxels.
        weights : tensor, shape () or (batch,)
            λ.
        batch : Batch
        """
        fixed_labels = batch.fixed_labels
        convention, folding_weight = self.regularization["convention"], self.regularization["folding_weight"]
        moved, counts = warp(batch.moving, displacement), self._counts(batch, displacement)
        likeness = tf.reduce_mean(self.similarity(batch.fixed, moved, counts))
        penalty = self._penalty(field, displacement, batch.spacing_mm)
        overlap = folding = volume = tf.constant(0.0)
        if fixed_labels is not None and self.label_weight:
            overlap = tf.reduce_mean(self.label_loss(fixed_labels, warp(batch.moving_labels, displacement)))
        if folding_weight:
            folding = tf.reduce_mean(folding_penalty(displacement, convention))
        if fixed_labels is not None and self.volume_weight:
            inside = tf.gather(fixed_labels, self.incompressible, axis=-1)
            volume = tf.reduce_mean(incompressibility(displacement, inside, convention))
        others = self.label_weight * overlap + folding_weight * folding + self.volume_weight * volume
        loss = likeness + tf.reduce_mean(weights * penalty) + others
        return Parts(loss, likeness, tf.reduce_mean(penalty), overlap, folding, volume)

    def _counts(self, batch: Batch, displacement: tf.Tensor) -> tf.Tensor | None:
        """Return 1 where likeness counts, 0 elsewhere, on the fixed image's grid; None: everywhere."""
        if self.mask == "none":
            return None
        if batch.fixed_mask is None or batch.moving_mask is None:
            raise ValueError(f"similarity.mask is {self.mask}, and a batch has no masks")
        if self.mask == "fixed":
            return batch.fixed_mask
        # The mask moves with its image, but has no say in where: with a gradient, or a likeness that is better where
        # less counts, the network would learn to push the mask off what is unlike.
        moved = tf.stop_gradient(whole_cells(batch.moving_mask, displacement))
        if self.mask == "moving":
            return moved
        return tf.maximum(batch.fixed_mask, moved) if self.mask == "union" else batch.fixed_mask * moved

    def _penalty(self, field: tf.Tensor, displacement: tf.Tensor, spacing_mm: tf.Tensor) -> tf.Tensor:
        """Return what λ weighs, one number a sample."""
        convention, name = self.regularization["convention"], self.regularization["name"]
        if self.regularization["unit"] == "voxel":
            return gradient_penalty(field, convention, self.field_downsampling, name)
        voxels = zip(displacement.shape[1:-1], field.shape[1:-1], strict=True)
        # The first and the last voxels of image and field coincide, see `networks.upsample`.
        step_mm = spacing_mm * tf.constant([(fine - 1) / max(coarse - 1, 1) for fine, coarse in voxels])
        one_a_component = [-1, *[1] * (len(field.shape) - 2), field.shape[-1]]
        field_mm = self.field_downsampling * field * tf.reshape(spacing_mm, one_a_component)
        return physical_gradient_penalty(field_mm, step_mm, convention, name)
