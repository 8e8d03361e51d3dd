"""Stack the tables of all pairs and summarize them over the pairs; list what failed, and why.

In: the metrics.tsv of each pair, every registration.json of these pairs, and the affine.json of each alignment that
training uses. Out: one tidy table of all of them; a row a split, method and metric with mean, standard deviation,
median and the 95 % bootstrap interval of the mean, each in the unit of its row; and a row a failed registration: pair,
split, method, weight, epoch, why.
"""

import pandas as pd

from cohortmorph.evaluation import reported
from cohortmorph.evaluation.statistics import summarize
from cohortmorph.evaluation.tables import read_metrics
from cohortmorph.run import logs
from cohortmorph.run.files import write_table


def main(
    tables: list,
    metrics: str,
    summary: str,
    bootstrap_samples: int,
    seed: int,
    registrations: list = (),
    failures: str = "",
    training_alignments: list = (),
):
    """Write the stacked tables to `metrics`, their summary to `summary`, and to `failures` what `registrations` say.

    `registrations` lie at ``{pair}/{method}/registration.json``; a failed one holds ``failed``, the reason in words.
    """
    stacked = pd.concat([read_metrics(path) for path in tables], ignore_index=True)
    write_table(stacked, metrics)
    write_table(summarize(stacked, bootstrap_samples, seed), summary)
    if failures:
        splits = dict(zip(stacked["pair"], stacked["split"], strict=True))
        of_training = reported.failures_in_training(training_alignments)
        failed = pd.concat([reported.failures(registrations, splits), of_training])
        write_table(failed, failures)
        logs.log.info("%d of %d registrations failed", len(failed), len(registrations) + len(training_alignments))


if __name__ == "__main__":
    with logs.job(snakemake.log[0], packages=["numpy", "pandas"]):
        main(
            tables=list(snakemake.input.tables),
            registrations=list(snakemake.input.registrations),
            training_alignments=list(snakemake.input.get("training_alignments", [])),
            metrics=snakemake.output.metrics,
            summary=snakemake.output.summary,
            failures=snakemake.output.failures,
            **snakemake.params,
        )
