"""Draw how one network's λ and epoch were chosen on the validation pairs.

In:  metrics.tsv and summary.tsv of all pairs (TRE in mm, folding in %), the network's choice of λ and epoch.
Out: two figures, each as PNG and SVG: `selection` (metrics against epoch, a line a λ) and `weights` (metrics against λ
     at the last epoch).
"""

from cohortmorph.evaluation.tables import Evaluation
from cohortmorph.figures import network_charts
from cohortmorph.figures.style import save
from cohortmorph.run import logs

FIGURES = {"selection": network_charts.selection, "weights": network_charts.weights}


def main(evaluation: Evaluation, network: str, outputs: dict, phantom: bool = False):
    """Draw the figures of a network; `outputs` are lists of paths to write, by the keys of FIGURES."""
    for name, draw in FIGURES.items():
        save(draw(evaluation, network), *outputs[name], phantom=phantom)


if __name__ == "__main__":
    with logs.job(snakemake.log[0], packages=["matplotlib"]):
        main(Evaluation.read(snakemake.input), outputs=snakemake.output, **snakemake.params)
