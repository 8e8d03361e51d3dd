"""Draw the loss of every training of one network against its epoch.

In:  the history.tsv of each regularization weight λ, or the one of a conditional network (the loss and its parts are
     dimensionless; mm² where the displacement is known).
Out: one figure, as PNG and SVG.
"""

import numpy as np

from cohortmorph.evaluation.tables import read_history
from cohortmorph.figures.network_charts import training
from cohortmorph.figures.style import save
from cohortmorph.run import logs


def main(network: str, histories: list, weights: list, outputs: list, phantom: bool = False):
    """Draw `histories`, one for each of `weights` in the same order or one for all, to every path of `outputs`."""
    tables = [read_history(path) for path in histories]
    conditional = tables[0] if tables and "validation_weight" in tables[0] else None
    if conditional is not None:
        tables = [conditional[np.isclose(conditional.validation_weight, float(weight))] for weight in weights]
    save(training(network, dict(zip(weights, tables, strict=True)), conditional), *outputs, phantom=phantom)


if __name__ == "__main__":
    with logs.job(snakemake.log[0], packages=["matplotlib"]):
        main(
            histories=list(snakemake.input.histories),
            outputs=list(snakemake.output),
            **snakemake.params,
        )
