"""What went wrong in a cohort, in sentences: failed registrations, missing values, foldings, worse landmarks."""

from collections.abc import Collection, Iterable, Iterator

import numpy as np
import pandas as pd

from cohortmorph.cohort.pairs import in_words
from cohortmorph.evaluation.measures import DICE, FOLDING, START_KEPT, TRE
from cohortmorph.evaluation.statistics import failures_as_worst
from cohortmorph.evaluation.tables import Evaluation
from cohortmorph.report.wording import count


def what_went_wrong(evaluation: Evaluation, skipped: Collection[str] = ()) -> list[str]:
    """List, in sentences, what failed, folded, got worse or was left out on the test pairs; empty if nothing did.

    Parameters
    ----------
    evaluation : Evaluation
    skipped : collection of str
        Methods whose tool is not installed.
    """
    test = evaluation.compared(evaluation.metrics[evaluation.metrics.split == "test"])
    return [
        *_left_out(skipped),
        *_unreadable(evaluation),
        *_unmeasured(test, evaluation),
        *_registrations_failed(evaluation),
        *_starts_kept(evaluation),
        *_values_missing(test, evaluation),
        *_landmarks_outside(test),
        *_landmarks_rounded(test),
        *_foldings(test, evaluation),
        *_worse(test, evaluation),
    ]


def _left_out(skipped: Collection[str]) -> list[str]:
    """Say which methods did not take part."""
    if not skipped:
        return []
    return [
        f"Left out, as the tool is not installed where this ran (missing: skip): {', '.join(skipped)}. "
        "docs/methods.md says how to get it."
    ]


def _unreadable(evaluation: Evaluation) -> Iterator[str]:
    """Say what was given and cannot be read, and on which pairs nothing is measured by it."""
    for (image, column), rows in evaluation.unreadable.groupby(["image", "column"], sort=False):
        yield (
            f"The {column} of {in_words(image)} cannot be read: what needs this file is left out on "
            f"{_listed(rows.pair)}, for every method alike. `snakemake check_cohort` says what is wrong with it."
        )


def _unmeasured(test: pd.DataFrame, evaluation: Evaluation) -> Iterator[str]:
    """Say for which pairs there are no landmarks or labels."""
    pairs, unreadable = set(test.pair), evaluation.unreadable
    for measure in (TRE, DICE):
        without = pairs - set(measure.rows(test).pair) - set(unreadable.pair[unreadable.column == measure.needs])
        if without and without == pairs:
            yield f"No {measure.name}: no test pair has {measure.needs} on both images."
        elif without:
            yield f"No {measure.name} for {_listed(without)} of {len(pairs)} test pairs: they have no {measure.needs}."


def _registrations_failed(evaluation: Evaluation) -> Iterator[str]:
    """Say which registrations failed on which pairs, and why; those of validation and other networks are counted."""
    failures = evaluation.failures
    shown = evaluation.compared(failures[failures.split == "test"])
    for (method, why), rows in shown.groupby(["method", "why"], sort=False):
        yield f"{evaluation.label(method)} failed on {', '.join(sorted(rows.pair))}: {why.rstrip('.')}."
    in_training = failures[failures.split == "train"]
    for (method, why), rows in in_training.groupby(["method", "why"], sort=False):
        left_out = "; training leaves them out" if method == "affine" else ""
        pairs = ", ".join(rows.pair)
        yield f"{evaluation.label(method)} failed on train images {pairs}: {why.rstrip('.')}{left_out}."
    others = len(failures) - len(shown) - len(in_training)
    if others:
        yield (
            f"{count(others, 'more registration')} failed on validation pairs or by networks that were not chosen; "
            "results/evaluation/failures.tsv lists them."
        )


def _starts_kept(evaluation: Evaluation) -> Iterator[str]:
    """Say where the affine was judged to be worse than its start, so that its figures are those of the start."""
    rows = START_KEPT.rows(evaluation.metrics)
    for method, of_method in rows[rows.value == 1].groupby("method", sort=False):
        pairs = list(of_method.pair)
        yield (
            f"{evaluation.label(method)} made the images agree less than its start did (MIND distance) on "
            f"{_listed(pairs)} ({len(pairs)} of {count(rows.pair.nunique(), 'validation and test pair')}): there the "
            "start was kept, for it and for all methods that begin from it. affine.json of a pair has both values."
        )


def _values_missing(test: pd.DataFrame, evaluation: Evaluation) -> Iterator[str]:
    """Say which values do not exist although the registration did not fail, and what counts in their place."""
    registrations = evaluation.compared(evaluation.failures)  # of each network `test` has the selected one already
    known = set(zip(registrations.pair, registrations.method, strict=True))
    failed = failures_as_worst(test)
    unexplained = np.array([key not in known for key in zip(failed.pair, failed.method, strict=True)], dtype=bool)
    failed = failed[failed.failed & unexplained]
    for (metric, method), rows in failed.groupby(["metric", "method"], sort=False):
        instead = "it takes no part in the mean" if rows.value.isna().any() else "the worst value of the pair counts"
        yield f"No value of {metric} by {evaluation.label(method)} for {_listed(rows.pair)}: {instead}."


def _landmarks_outside(test: pd.DataFrame) -> Iterator[str]:
    """Say which pairs have landmarks that could not be measured."""
    counts = test[test.metric.isin(["landmarks_n", "landmarks_outside"])]
    counts = counts.pivot_table(index="pair", columns="metric", values="value", aggfunc="max")
    for pair, row in counts.iterrows():
        outside = row.get("landmarks_outside", 0)
        if outside > 0:
            total = outside + row.get("landmarks_n", 0)
            yield f"{pair}: {outside:g} of {total:g} landmarks lie outside of the fixed image, and so not in the TRE."


def _landmarks_rounded(test: pd.DataFrame) -> Iterator[str]:
    """Say where moving landmarks lie on voxels, and how much of the TRE their rounding explains at most."""
    rounded = test[test.metric == "tre_of_rounding"].drop_duplicates("pair")
    if len(rounded):
        yield (
            f"The moving landmarks of {_listed(rounded.pair)} lie on voxel centres, half voxels or slices. If they "
            f"were rounded to these, that explains a mean TRE of at most {rounded.value.mean():.2f} mm; a registration "
            "may stay below it."
        )


def _foldings(test: pd.DataFrame, evaluation: Evaluation) -> Iterator[str]:
    """Say which methods turn space inside out somewhere."""
    rows = FOLDING.rows(test)
    for method in evaluation.in_order(rows.method):
        of_method = rows[rows.method == method]
        folded = of_method[of_method.value > 0]
        if len(folded):
            yield (
                f"{evaluation.label(method)} folds in {len(folded)} of {count(len(of_method), 'test pair')}, at worst "
                f"{folded.value.max():.3g} % of the voxels."
            )


def _worse(test: pd.DataFrame, evaluation: Evaluation) -> Iterator[str]:
    """Say where a method left a larger TRE (else a smaller Dice) than there was before any registration."""
    measure = TRE if len(TRE.rows(test)) else DICE
    values = measure.rows(test).pivot_table(index="pair", columns="method", values="value")
    if "initial" not in values:
        return
    sign = 1 if measure.lower_is_better else -1
    for method in evaluation.in_order(values.columns):
        worse = values.index[sign * (values[method] - values["initial"]) > 0]
        if len(worse):
            yield f"{evaluation.label(method)} left a worse {measure.name} than the start had: {_listed(worse)}."


def _listed(pairs: Iterable[str], most: int = 6) -> str:
    """List pairs, the first few by name."""
    pairs = sorted(set(pairs))
    return ", ".join(pairs[:most]) + (f" and {len(pairs) - most} more" if len(pairs) > most else "")
