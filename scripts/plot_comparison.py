"""Draw how λ and epoch were chosen on the validation pairs, and how the methods compare on the test pairs.

In:  metrics.tsv and summary.tsv of all pairs (TRE in mm, runtime in s, folding in %), and the selected model.
Out: six figures, each as PNG and SVG: `selection` (metrics against epoch, a line a λ), `weights` (metrics against λ at
     the last epoch), `methods` (metrics by method), `runtime` (accuracy against runtime), `structures` (Dice by label,
     else TRE by axis) and `folding` (accuracy beside folding).
"""

from cohortmorph import charts, figures, files, logs
from cohortmorph.metrics import read_table


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
    values, statistics = read_table(metrics), figures.read_summary(summary)
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
    with logs.job(snakemake.log[0], packages=["matplotlib"]):  # noqa: F821
        main(
            metrics=snakemake.input.metrics,  # noqa: F821
            summary=snakemake.input.summary,  # noqa: F821
            selected=snakemake.input.get("selected", ""),  # noqa: F821
            selection=list(snakemake.output.selection),  # noqa: F821
            weights=list(snakemake.output.weights),  # noqa: F821
            methods=list(snakemake.output.methods),  # noqa: F821
            runtime=list(snakemake.output.runtime),  # noqa: F821
            structures=list(snakemake.output.structures),  # noqa: F821
            folding=list(snakemake.output.folding),  # noqa: F821
            **snakemake.params,  # noqa: F821
        )
