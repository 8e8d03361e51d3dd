"""Every λ of a conditional network, measured on pairs as measure_pair measures what register_network writes."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from cohortmorph.cohort.methods import Method
from cohortmorph.evaluation.measures import FOLDING, SELECTABLE
from cohortmorph.evaluation.pair import PairEvaluation, PairFiles
from cohortmorph.evaluation.tables import table_of
from cohortmorph.learning.applied_network import AppliedNetwork, registrar_of
from cohortmorph.learning.conditional import weights_to_try
from cohortmorph.learning.kinds import kind_of
from cohortmorph.learning.networks import load_parameters
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
        ``network``: its name in the configuration; ``weights``: the λ that the configuration names (texts); ``epoch``
        that the parameters are of; ``settings``: those of the training.
    pairs : sequence of dict
        Of each: ``pair``, its id; ``files`` by name, those of :class:`PairFiles`, the network's views ``fixed_input``
        and ``moving_input``, and the affine transforms ``frame_to_fixed`` and ``frame_to_moving``; ``intensities``
        (fixed, moving), see :class:`PairEvaluation`.
    metric : {"tre", "dice", "ncc", "nmi"}
        What is measured beside folding.

    Returns
    -------
    DataFrame
        Tidy, as metrics.tsv.
    """
    weights, settings = conditional["weights"], conditional["settings"]
    kind = kind_of(settings["kind"])
    of_any_weight = kind.conditional_network(kind.smallest_shape(settings), settings, list(map(float, weights)))
    load_parameters(of_any_weight, network)
    tried = weights_to_try(weights)
    registrars: dict[tuple[int, ...], Registrar[AppliedNetwork]] = {}
    tables = []
    for one in pairs:
        view = View.read(one["files"])
        size = view.network_grid.size
        if size not in registrars:
            registrars[size] = registrar_of(kind, size, settings)
        registrar = registrars[size]
        evaluation = PairEvaluation(one["pair"], PairFiles.of(one["files"]), one["intensities"])
        for weight in tried:
            of_any_weight.hand_over(float(weight), registrar.applied.network)
            field = registrar.register(view)
            found = [evaluation.row_of(measure, field) for measure in (SELECTABLE[metric], FOLDING)]
            rows = [row for row in found if row is not None] + evaluation.given.rows
            method = Method(conditional["network"], weight, conditional["epoch"])
            tables.append(table_of(rows, one["pair"], "validation", method.id))
        log.info("%s, %s: %d λ from %s to %s", conditional["network"], one["pair"], len(tried), tried[0], tried[-1])
    return pd.concat(tables, ignore_index=True)
