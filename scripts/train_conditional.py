"""Train one network for every λ from the least to the greatest weight, and take a network from it for each.

In: as train_network.py. Out: history.tsv (an epoch a row; validation is watched at each weight in turn), the
conditional network at each kept epoch, from these a plain network for each regularization weight and epoch (parameters
as plain arrays, .npz), training.json, and checkpoint.npz, from which a training that was cut short goes on.
"""

from cohortmorph.learning.task import Training
from cohortmorph.run import logs


def main(training: dict, conditional: list, networks: list, history: str, report: str):
    """Train; `training` are the arguments of :class:`Training`, with a list of weights.

    `conditional` are the paths of the kept epochs, `networks` those of the plain networks: all epochs of the first
    regularization weight, then of the next.
    """
    task = Training(**training)
    task.run(conditional, history, report)
    task.write_plain_networks(conditional, networks)


if __name__ == "__main__":
    with logs.job(snakemake.log[0], packages=["tensorflow-cpu", "voxelmorph"]):
        main(
            training=dict(threads=snakemake.threads, **snakemake.params),
            conditional=list(snakemake.output.conditional),
            networks=list(snakemake.output.networks),
            history=snakemake.output.history,
            report=snakemake.output.report,
        )
