"""Draw the loss of every training against its epoch.

In:  the history.tsv of each regularization weight λ (loss, similarity term and penalty are dimensionless).
Out: one figure, as PNG and SVG.
"""

from cohortmorph import figures, logs


def main(histories: list, weights: list, outputs: list, phantom: bool = False):
    """Draw `histories`, one for each of `weights` in the same order, to every path of `outputs`."""
    tables = {weight: figures.read_history(path) for weight, path in zip(weights, histories, strict=True)}
    figures.save(figures.training(tables), *outputs, phantom=phantom)


if __name__ == "__main__":
    with logs.job(snakemake.log[0], packages=["matplotlib"]):  # noqa: F821
        main(
            histories=list(snakemake.input.histories),  # noqa: F821
            outputs=list(snakemake.output),  # noqa: F821
            **snakemake.params,  # noqa: F821
        )
