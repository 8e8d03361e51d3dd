"""Networks in TensorFlow as a registrar applies them: those of kinds that have no graph, and those of a search of λ."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

# TensorFlow comes from `networks`, which prepares its import.
from cohortmorph.learning.kind import Kind, Network
from cohortmorph.learning.networks import device, load_parameters, tf
from cohortmorph.learning.registrar import Registrar
from cohortmorph.run.files import StrPath


class AppliedNetwork:
    """A network; see :class:`cohortmorph.learning.registrar.Applied`."""

    def __init__(self, network: Network) -> None:
        self.network, self.shape, self.device = network, tuple(network.shape), device()

    def load(self, path: StrPath) -> None:
        """Answer with the parameters in this file from now on."""
        load_parameters(self.network, path)

    def __call__(self, fixed: np.ndarray, moving: np.ndarray) -> np.ndarray:
        """Return the displacement in voxels, (batch, *shape, dimensions); images are (batch, *shape), float32."""
        return self._answer(tf.constant(fixed[..., None]), tf.constant(moving[..., None])).numpy()

    # One graph, in which TensorFlow fuses each convolution with what follows; compiled by XLA it would be slower.
    @tf.function(autograph=False)
    def _answer(self, fixed, moving):
        return self.network.displacement(self.network.field(moving, fixed, training=False))


def registrar_of(kind: Kind, shape: Sequence[int], settings: Mapping[str, Any]) -> Registrar[AppliedNetwork]:
    """Return a new registrar for images of a `shape` (i, j, k): the kind's own, or that which serves most kinds."""
    if kind.registrar:
        return kind.registrar(shape, settings)
    multiple = kind.multiple(settings)
    padded = tuple(int(-(-n // multiple) * multiple) for n in shape[: settings["dimensions"]])
    applied = AppliedNetwork(kind.network(padded, settings))
    return Registrar(applied, settings.get("passes", 1), settings.get("mirrored", False))
