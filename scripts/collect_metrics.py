"""Stack the tables of all pairs and summarize them over the pairs; list what failed, and why.

In: the metrics.tsv of each pair, every registration.json of these pairs, and the affine.json of each alignment that
training uses. Out: one tidy table of all of them; a row
a split, method and metric with mean, standard deviation, median and the 95 % bootstrap interval of the mean, each in
the unit of its row; and a row a failed registration: pair, split, method, weight, epoch, why.
"""

import re
from pathlib import Path

import pandas as pd

from cohortmorph.evaluation.metrics import parse_method, read_table
from cohortmorph.evaluation.statistics import summarize
from cohortmorph.run import logs
from cohortmorph.run.files import read_json, write_table

COLUMNS = ["pair", "split", "method", "weight", "epoch", "why"]


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
    stacked = pd.concat([read_table(path) for path in tables], ignore_index=True)
    write_table(stacked, metrics)
    write_table(summarize(stacked, bootstrap_samples, seed), summary)
    if failures:
        splits = dict(zip(stacked["pair"], stacked["split"], strict=True))
        failed = pd.concat([failures_of(registrations, splits), failures_in_training(training_alignments)])
        write_table(failed, failures)
        logs.log.info("%d of %d registrations failed", len(failed), len(registrations) + len(training_alignments))


def failures_of(registrations, splits):
    """Return the table of failed registrations, one a row; `splits` maps pairs to their split."""
    rows = []
    for path in map(Path, registrations):
        why = read_json(path).get("failed")
        if why:
            method, pair = path.parent.name, path.parent.parent.name
            rows.append((pair, splits.get(pair, ""), *parse_method(method), in_one_line(why)))
    return pd.DataFrame(rows, columns=COLUMNS).astype({"epoch": "Int64"})


def failures_in_training(alignments):
    """Return the same table for what training leaves out (the affine failed) or takes as it is (harmonizing failed)."""
    rows = []
    for path in map(Path, alignments):
        how = read_json(path)
        for method, key in (("harmonized", "harmonizing_failed"), ("affine", "failed")):
            if key in how:
                rows.append((path.parent.name, "train", method, "", None, in_one_line(how[key])))
    return pd.DataFrame(rows, columns=COLUMNS).astype({"epoch": "Int64"})


def in_one_line(why):
    """Return a reason as one line without folders, whose names may name people."""
    return re.sub(r"(?<![\w.])~?/(?:[^\s/'\"]+/)+", "", " ".join(str(why).split()))


if __name__ == "__main__":
    with logs.job(snakemake.log[0], packages=["numpy", "pandas"]):
        main(
            tables=list(snakemake.input.tables),
            registrations=list(snakemake.input.registrations),
            training_alignments=list(snakemake.input.training_alignments),
            metrics=snakemake.output.metrics,
            summary=snakemake.output.summary,
            failures=snakemake.output.failures,
            **snakemake.params,
        )
