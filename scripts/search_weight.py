"""Search the regularization weight λ with a conditional network, on validation pairs alone.

In: the conditional network of one epoch; for each validation pair the images, the network's views of them, the affine
transforms frame → fixed and frame → moving, labels, landmarks and mask ("" where there is none). Out: the choice as
selected_weight.json, a tidy table of what was measured at each λ (as metrics.tsv: mm for TRE, 1 for Dice, NCC and
NMI, % for folding), and a figure.

No file of a train or test subject is read: see the rule's inputs.
"""

from cohortmorph.evaluation import weight_search
from cohortmorph.evaluation.selection import log_search, search_weight
from cohortmorph.figures import network_charts
from cohortmorph.figures.style import save
from cohortmorph.learning.networks import start_tensorflow
from cohortmorph.learning.parameters import checksum
from cohortmorph.run import logs
from cohortmorph.run.files import write_json, write_table


def main(
    network: str,
    conditional: dict,
    pairs: list,
    selection: dict,
    seed: int,
    threads: int,
    outputs: dict,
    phantom: bool = False,
):
    """Write the choice to `outputs` (selected, table, pictures); see :func:`weight_search.measure` for the others.

    `selection` has metric, folding_percent_max, bootstrap_samples and, where there is something to say, why.
    """
    start_tensorflow(seed, threads, with_gradients=True)
    measured = weight_search.measure(network, conditional, pairs, selection["metric"])
    found = search_weight(measured, conditional["network"], **selection, named=conditional["weights"], seed=seed)
    log_search(found)
    write_table(measured, outputs["table"])
    save(network_charts.weight_search(measured, found), *outputs["pictures"], phantom=phantom)
    write_json(found | {"sha256": checksum(network)}, outputs["selected"])


if __name__ == "__main__":
    with logs.job(snakemake.log[0], packages=["tensorflow-cpu", "voxelmorph", "SimpleITK"]):
        main(
            network=snakemake.input.network[0],
            threads=snakemake.threads,
            outputs={
                "selected": snakemake.output.selected,
                "table": snakemake.output.table,
                "pictures": list(snakemake.output.pictures),
            },
            **snakemake.params,
        )
