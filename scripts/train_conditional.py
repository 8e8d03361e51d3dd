"""Train one VoxelMorph network for every λ from the least to the greatest weight, and take a network from it for each.

In: as train_voxelmorph.py. Out: history.tsv (an epoch a row; validation is watched at each weight in turn), the weights
of the conditional network at each kept epoch, from these a plain network for each regularization weight and epoch (all
plain arrays, .npz), training.json, and checkpoint.npz, from which a training that was cut short goes on.
"""

import itertools

import train_voxelmorph

from cohortmorph.learning.conditional import ConditionalNetwork
from cohortmorph.learning.networks import RegistrationNetwork, load_weights, save_weights, size_multiple
from cohortmorph.run import logs


def main(weight: list, settings: dict, conditional: list, weights: list, **arguments):
    """Train as train_voxelmorph.py does.

    `conditional` are the paths of the kept epochs, `weights` those of the plain networks: all epochs of the first
    regularization weight of `weight`, then of the next.
    """
    train_voxelmorph.main(weight=weight, settings=settings, weights=conditional, **arguments)
    shape = [size_multiple(settings["encoder"])] * settings["dimensions"]  # any: the weights do not depend on it
    network = ConditionalNetwork(shape, settings, list(map(float, weight)))
    plain = RegistrationNetwork(shape, settings)
    wanted = list(itertools.product(weight, conditional))
    for (of_weight, source), path in zip(wanted, weights, strict=True):
        load_weights(network, source)
        network.hand_over(float(of_weight), plain)
        save_weights(plain, path)


if __name__ == "__main__":
    with logs.job(snakemake.log[0], packages=["tensorflow-cpu", "voxelmorph"]):
        main(
            threads=snakemake.threads,
            conditional=list(snakemake.output.conditional),
            weights=list(snakemake.output.weights),
            history=snakemake.output.history,
            report=snakemake.output.report,
            **snakemake.params,
        )
