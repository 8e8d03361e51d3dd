"""Choose the regularization weight λ and the epoch of one network on the validation pairs alone.

In: the tidy table of all pairs. Out: a JSON with the network, the choice, its mean (mm for TRE, 1 for Dice, NCC, NMI),
the number of validation pairs, the reason, and every candidate.
"""

from cohortmorph.evaluation.selection import select_model
from cohortmorph.evaluation.tables import read_metrics
from cohortmorph.run import logs
from cohortmorph.run.files import write_json


def main(metrics: str, network: str, settings: dict, output: str):
    """Write the network's choice to `output`; `settings` are those of :func:`select_model`."""
    selected = select_model(read_metrics(metrics), network, **settings)
    logs.log.info("%s: λ = %s, epoch %s. %s", network, selected["weight"], selected["epoch"], selected["reason"])
    write_json(selected, output)


if __name__ == "__main__":
    with logs.job(snakemake.log[0], packages=["pandas"]):
        main(metrics=snakemake.input.metrics, output=snakemake.output[0], **snakemake.params)
