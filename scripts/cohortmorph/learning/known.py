"""What a network is trained for where the displacement is known: to answer it."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from cohortmorph.learning.batch import Batch
from cohortmorph.learning.losses import physical_gradient_penalty

# TensorFlow comes from `networks`, which prepares its import.
from cohortmorph.learning.networks import tf


class Parts(NamedTuple):
    """The loss of a batch, and of what it is made: means over the samples.

    Scalar tensors inside of a graph, numbers outside.
    """

    loss: Any
    displacement_error: Any
    penalty: Any


class KnownDisplacement:
    """L = mean of ‖u − u_known‖² over voxels, in mm², + λ · penalty of u, in mm by mm.

    It is least for the mean of all displacements that may have led to what the images show: where they show nothing,
    for a smooth guess. (Eppenhof & Pluim, IEEE TMI 2019.)

    Parameters
    ----------
    settings : dict
        ``regularization``: its ``name``, as of :func:`cohortmorph.learning.losses.physical_gradient_penalty`.
    label_numbers : sequence of number
        Labels play no part.
    """

    names: tuple[str, ...] = Parts._fields
    watched: tuple[str, ...] = Parts._fields
    values = 20  # less than what was measured: only what surely does not fit is refused

    def __init__(self, settings: Mapping[str, Any], label_numbers: Sequence[float] = ()) -> None:
        self.regularization = settings["regularization"]["name"]

    def parts(self, field: tf.Tensor, displacement: tf.Tensor, weights: tf.Tensor, batch: Batch) -> Parts:
        """Return the loss and its parts: the mean squared error in mm², the penalty without a unit.

        Parameters
        ----------
        field : tensor
            Not looked at.
        displacement : tensor, shape (batch, *shape, dimensions)
            In voxels.
        weights : tensor, shape () or (batch,)
            λ.
        batch : Batch
            With ``displacement_mm``.
        """
        dimensions = displacement.shape[-1]
        found_mm = displacement * tf.reshape(batch.spacing_mm, [-1, *[1] * dimensions, dimensions])
        error = dimensions * tf.reduce_mean((found_mm - batch.displacement_mm) ** 2)
        penalty = physical_gradient_penalty(found_mm, batch.spacing_mm, "mean", self.regularization)
        return Parts(error + tf.reduce_mean(weights * penalty), error, tf.reduce_mean(penalty))
