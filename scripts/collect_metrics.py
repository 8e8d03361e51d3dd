"""Stack the tables of all pairs and summarize them over the pairs.

In: the metrics.tsv of each pair. Out: one tidy table of all of them, and a row a split, method and metric with mean,
standard deviation, median and the 95 % bootstrap interval of the mean, each in the unit of its row.
"""

import pandas as pd

from cohortmorph import logs
from cohortmorph.files import write_table
from cohortmorph.metrics import read_table
from cohortmorph.statistics import summarize


def main(tables: list, metrics: str, summary: str, bootstrap_samples: int, seed: int):
    """Write the stacked tables to `metrics` and their summary to `summary`."""
    stacked = pd.concat([read_table(path) for path in tables], ignore_index=True)
    write_table(stacked, metrics)
    write_table(summarize(stacked, bootstrap_samples, seed), summary)


if __name__ == "__main__":
    with logs.job(snakemake.log[0], packages=["numpy", "pandas"]):  # noqa: F821
        main(
            tables=list(snakemake.input.tables),  # noqa: F821
            metrics=snakemake.output.metrics,  # noqa: F821
            summary=snakemake.output.summary,  # noqa: F821
            **snakemake.params,  # noqa: F821
        )
