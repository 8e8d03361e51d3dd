"""Every λ of a conditional network, measured on pairs as measure_pair measures what register_voxelmorph writes."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from cohortmorph.cohort.methods import Method
from cohortmorph.evaluation.measures import FOLDING, SELECTABLE
from cohortmorph.evaluation.pair import PairEvaluation, PairFiles
from cohortmorph.evaluation.tables import table_of
from cohortmorph.learning.conditional import ConditionalNetwork, weights_to_try
from cohortmorph.learning.networks import load_parameters, size_multiple
from cohortmorph.learning.registrar import Registrar, View
from cohortmorph.run.files import StrPath
from cohortmorph.run.logs import log


def measure(
    network: StrPath, conditional: Mapping[str, Any], pairs: Sequence[Mapping[str, Any]], metric: str
) -> pd.DataFrame:
    """Measure every λ on every pair.

    Parameters
    ----------
    network : path
        Parameters of the conditional network.
    conditional : dict
        ``weights``: the λ that the configuration names (texts); ``epoch`` that the parameters are of; ``settings``: the
        architecture.
    pairs : sequence of dict
        Of each: ``pair``, its id; ``files`` by name, those of :class:`PairFiles`, the network's views ``fixed_input``
        and ``moving_input``, and the affine transforms ``frame_to_fixed`` and ``frame_to_moving``; ``intensities``
        (fixed, moving), see :class:`PairEvaluation`.
    metric : {"tre", "dice", "ncc"}
        What is measured beside folding.

    Returns
    -------
    DataFrame
        Tidy, as metrics.tsv.
    """
    weights, settings = conditional["weights"], conditional["settings"]
    shape = [size_multiple(settings["encoder"])] * settings["dimensions"]  # any: the parameters do not depend on it
    of_any_weight = ConditionalNetwork(shape, settings, list(map(float, weights)))
    load_parameters(of_any_weight, network)
    tried = weights_to_try(weights)
    registrars: dict[tuple[int, ...], Registrar] = {}
    tables = []
    for one in pairs:
        view = View.read(one["files"])
        size = view.network_grid.size
        if size not in registrars:
            registrars[size] = Registrar(size, settings)
        registrar = registrars[size]
        evaluation = PairEvaluation(one["pair"], PairFiles.of(one["files"]), one["intensities"])
        for weight in tried:
            of_any_weight.hand_over(float(weight), registrar.network)
            field = registrar.register(view)
            rows = [evaluation.row_of(measure, field) for measure in (SELECTABLE[metric], FOLDING)]
            method = Method("voxelmorph", weight, conditional["epoch"])
            tables.append(table_of(rows, one["pair"], "validation", method.id))
        log.info("%s: %d λ from %s to %s", one["pair"], len(tried), tried[0], tried[-1])
    return pd.concat(tables, ignore_index=True)
