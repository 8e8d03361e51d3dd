"""Train a network, of any kind, for one regularization weight λ.

In: the network's views of the training and validation images (see prepare_input.py). Out: history.tsv (one row an
epoch: loss and its parts, unweighted; which, its kind says), the network of each kept epoch (its parameters as plain
arrays, .npz), training.json (how it was done), and checkpoint.npz, from which a training that was cut short goes on.
"""

from cohortmorph.learning.task import Training
from cohortmorph.run import logs


def main(training: dict, networks: list, history: str, report: str):
    """Train; `training` are the arguments of :class:`Training`."""
    Training(**training).run(networks, history, report)


if __name__ == "__main__":
    with logs.job(snakemake.log[0], packages=["tensorflow-cpu", "voxelmorph"]):
        main(
            training=dict(weight=snakemake.wildcards.weight, threads=snakemake.threads, **snakemake.params),
            networks=list(snakemake.output.networks),
            history=snakemake.output.history,
            report=snakemake.output.report,
        )
