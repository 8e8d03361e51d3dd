"""Methods against each other on the test pairs: tests with effect sizes, and a ranking. Tables only.

docs/statistics.md says what is tested and why.
"""

import itertools
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from cohortmorph.evaluation.measures import RANKED, RUNTIME, Direction, better
from cohortmorph.evaluation.statistics import (
    SIGNIFICANCE,
    SignedRank,
    failures_as_worst,
    holm,
    independent_units,
    signed_rank,
    tails_percent,
)
from cohortmorph.evaluation.tables import COMPARISON_COLUMNS, Evaluation


def compare(evaluation: Evaluation, bootstrap_samples: int, seed: int) -> pd.DataFrame:
    """Compare all methods on the test pairs, metric by metric, with the best of them and with the affine.

    The best is the method with the best mean over subjects. Since only the same data say which one that is, p is
    corrected (Holm) for all pairs of methods, not for those with the best alone; that covers the affine's rows as well.

    Parameters
    ----------
    evaluation : Evaluation
        Its metrics, and each network's choice: its other λ and epochs take no part.
    bootstrap_samples, seed : int

    Returns
    -------
    pandas.DataFrame
        With :data:`~cohortmorph.evaluation.tables.COMPARISON_COLUMNS`, a row each metric with a direction, structure,
        reference and other method. ``n`` is the number of independent subjects (see :func:`independent_units`),
        ``failed`` the method's failed pairs. ``median_difference`` is method - reference over the subjects in ``unit``,
        from ``ci_low`` to ``ci_high`` its 95 % percentile bootstrap interval, empty if n is 1. ``effect_size`` is the
        rank-biserial correlation, positive where the method is better than the reference, whichever the metric's
        direction.
    """
    rows = _of_test_pairs(evaluation)
    found = []
    for (metric, structure), own in rows.groupby(["metric", "structure"], sort=False):
        direction = better(metric)
        if direction is None or own["method"].nunique() < 2:
            continue
        keys = {"split": "test", "metric": metric, "structure": structure, "unit": own["unit"].iloc[0]}
        found += [keys | one for one in _with_references(_per_subject(own, direction), bootstrap_samples, seed)]
    return pd.DataFrame(found, columns=COMPARISON_COLUMNS)


def rank(evaluation: Evaluation) -> pd.DataFrame:
    """Rank methods over several metrics on the test pairs, in Learn2Reg's manner (Hering et al. 2022).

    For each measure of :data:`RANKED` that was measured, a method wins over each other one that it is better than with
    p < 0.05 (:func:`signed_rank`, as there not corrected). The ranks of the numbers of wins, equal numbers sharing
    theirs, are mapped linearly to scores from 0.1 (fewest wins) to 1 (most); the geometric mean over the metrics orders
    the methods. `initial` is no method that anybody enters, and takes no part.

    Parameters
    ----------
    evaluation : Evaluation
        Its metrics, and each network's choice: its other λ and epochs take no part.

    Returns
    -------
    pandas.DataFrame
        A row a method, best first: ``rank`` (equal scores share the smallest), ``method``, ``score``, for each metric
        ``{metric}_n`` (independent subjects), ``{metric}_wins`` and ``{metric}_score``, and ``runtime_s``, the mean,
        which is for reading and takes no part. Without rows if fewer than two methods were measured.
    """
    rows = _of_test_pairs(evaluation)
    rows = rows[rows["method"] != "initial"]
    columns = {}
    for measure in RANKED:
        own, direction = measure.rows(rows), better(measure.metric)
        if direction is None or not own["value"].notna().any():
            continue
        values = _per_subject(own, direction).values
        if values.shape[1] < 2:
            continue
        wins = pd.Series(_wins(values, direction))
        columns[f"{measure.metric}_n"] = len(values)
        columns[f"{measure.metric}_wins"] = wins
        columns[f"{measure.metric}_score"] = 0.1 + 0.9 * (wins.rank() - 1) / (len(wins) - 1)
    table = pd.DataFrame(columns)
    scores = table.filter(regex="_score$")
    table.insert(0, "score", np.exp(np.log(scores).mean(axis=1, skipna=False)) if len(columns) else np.nan)
    table.insert(0, "method", table.index)
    table.insert(0, "rank", table["score"].rank(ascending=False, method="min"))
    table["runtime_s"] = RUNTIME.rows(rows).groupby("method")["value"].mean().reindex(table.index)
    return table.astype({"rank": "Int64"}).sort_values(["rank", "method"], ignore_index=True)


class _PerSubject(NamedTuple):
    """One metric of the methods that are compared.

    Attributes
    ----------
    values : DataFrame, shape (subjects, methods)
        Averages over each subject's pairs. Pairs on which every method failed are in none.
    failed : Series
        Failed pairs of each method.
    direction : {"less", "more"}
        Which values are better.
    """

    values: pd.DataFrame
    failed: pd.Series
    direction: Direction


def _per_subject(rows: pd.DataFrame, direction: Direction) -> _PerSubject:
    """Average one metric's rows over each subject's pairs. What is missing altogether failed as what is NaN did."""
    values = rows.pivot(index="pair", columns="method", values="value")
    failed = len(values) - rows[~rows["failed"]].groupby("method")["value"].count().reindex(
        values.columns, fill_value=0
    )
    worst = values.max(axis=1) if direction == "less" else values.min(axis=1)
    values = values.apply(lambda column: column.fillna(worst)).dropna()
    units = independent_units(rows["pair"])
    return _PerSubject(values.groupby(values.index.map(units)).mean(), failed, direction)


def _of_test_pairs(evaluation: Evaluation) -> pd.DataFrame:
    """Return the test pairs' rows with failures as the worst, all methods, of each network only the selected one."""
    metrics = evaluation.metrics
    return evaluation.compared(failures_as_worst(metrics[metrics["split"] == "test"]))


def _with_references(of: _PerSubject, bootstrap_samples: int, seed: int) -> Iterator[dict[str, Any]]:
    """Yield the rows of one metric: each method with the best one, and with the affine."""
    values, failed, direction = of
    if values.empty:
        yield from ({"method": method, "reference": "", "n": 0, "failed": failed[method]} for method in values)
        return
    best = (_sign(direction) * values.mean()).idxmax()
    tests = _tests(values, direction)
    corrected = dict(zip(tests, holm([test.p for test in tests.values()]), strict=True))
    draws = np.random.default_rng([seed, len(values)]).integers(len(values), size=(bootstrap_samples, len(values)))
    for reference in dict.fromkeys([best, *(["affine"] if "affine" in values else [])]):
        for method in values.columns.drop(reference):
            difference = _differences(values[method].to_numpy(), values[reference].to_numpy())
            low, high = np.nan, np.nan
            if len(values) > 1:
                low, high = np.percentile(np.median(difference[draws], axis=1), tails_percent())
            turned = (method, reference) not in tests
            key = (reference, method) if turned else (method, reference)
            yield {
                "method": method, "reference": reference, "n": len(values), "failed": failed[method],
                "median_difference": np.median(difference), "ci_low": low, "ci_high": high,
                "effect_size": -tests[key].effect_size if turned else tests[key].effect_size,
                "p": tests[key].p, "p_holm": corrected[key],
            }  # fmt: skip


def _wins(values: pd.DataFrame, direction: Direction) -> dict[str, int]:
    """Count, for each method, those that it is better than with p < 0.05."""
    wins = dict.fromkeys(values.columns, 0)
    for (one, other), test in _tests(values, direction).items():
        if test.p < SIGNIFICANCE and test.effect_size:
            wins[one if test.effect_size > 0 else other] += 1
    return wins


def _tests(values: pd.DataFrame, direction: Direction) -> dict[tuple[str, str], SignedRank]:
    """Test all pairs of methods; the effect is positive where the first is better."""
    return {
        (one, other): signed_rank(_sign(direction) * _differences(values[one].to_numpy(), values[other].to_numpy()))
        for one, other in itertools.combinations(values.columns, 2)
    }


def _sign(direction: Direction) -> int:
    return 1 if direction == "more" else -1


def _differences(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return one - other; what is no more than rounding in the table's nine digits is zero, and ties are ties."""
    scale = max(np.abs(one).max(), np.abs(other).max()) or 1
    return np.round((one - other) / scale, 8) * scale
