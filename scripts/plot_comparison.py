"""Draw how the methods compare on the test pairs.

In:  metrics.tsv and summary.tsv of all pairs (TRE in mm, runtime in s, folding in %), each network's choice of λ and
     epoch.
Out: four figures, each as PNG and SVG: `methods` (metrics by method), `runtime` (accuracy against runtime),
     `structures` (Dice by label, else TRE by axis) and `folding` (accuracy beside folding).
"""

from cohortmorph.evaluation.tables import Evaluation
from cohortmorph.figures import charts
from cohortmorph.figures.style import save
from cohortmorph.run import logs

FIGURES = {
    "methods": charts.comparison,
    "runtime": charts.runtime,
    "structures": charts.structures,
    "folding": charts.folding,
}


def main(evaluation: Evaluation, outputs: dict, phantom: bool = False):
    """Draw the figures; `outputs` are lists of paths to write, by the keys of FIGURES."""
    for name, draw in FIGURES.items():
        save(draw(evaluation), *outputs[name], phantom=phantom)


if __name__ == "__main__":
    with logs.job(snakemake.log[0], packages=["matplotlib"]):
        main(Evaluation.read(snakemake.input), snakemake.output, **snakemake.params)
