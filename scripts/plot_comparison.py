"""Draw how λ and epoch were chosen on the validation pairs, and how the methods compare on the test pairs.

In:  metrics.tsv and summary.tsv of all pairs (TRE in mm, runtime in s, folding in %), and the selected model.
Out: six figures, each as PNG and SVG: `selection` (metrics against epoch, a line a λ), `weights` (metrics against λ at
     the last epoch), `methods` (metrics by method), `runtime` (accuracy against runtime), `structures` (Dice by label,
     else TRE by axis) and `folding` (accuracy beside folding).
"""

from cohortmorph.evaluation.tables import read_metrics
from cohortmorph.figures import charts
from cohortmorph.figures import style as figures
from cohortmorph.run import files, logs


def main(
    metrics: str,
    summary: str,
    selected: str,
    selection: list,
    weights: list,
    methods: list,
    runtime: list,
    structures: list,
    folding: list,
    phantom: bool = False,
):
    """Draw the figures; `selected` is "" where no network was trained, the last six are lists of paths to write."""
    values, statistics = read_metrics(metrics), figures.read_summary(summary)
    chosen = files.read_json(selected) if selected else None
    for figure, paths in (
        (charts.selection(statistics, chosen), selection),
        (charts.weights(values, statistics), weights),
        (charts.comparison(values, statistics, chosen), methods),
        (charts.runtime(statistics, chosen), runtime),
        (charts.structures(values, chosen), structures),
        (charts.folding(values, statistics, chosen), folding),
    ):
        figures.save(figure, *paths, phantom=phantom)


if __name__ == "__main__":
    with logs.job(snakemake.log[0], packages=["matplotlib"]):
        main(
            metrics=snakemake.input.metrics,
            summary=snakemake.input.summary,
            selected=snakemake.input.get("selected", ""),
            selection=list(snakemake.output.selection),
            weights=list(snakemake.output.weights),
            methods=list(snakemake.output.methods),
            runtime=list(snakemake.output.runtime),
            structures=list(snakemake.output.structures),
            folding=list(snakemake.output.folding),
            **snakemake.params,
        )
