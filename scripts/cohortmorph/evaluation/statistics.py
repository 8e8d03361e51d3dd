"""From single pairs to a cohort: means with their uncertainty, and tests of paired differences. Tables only.

docs/statistics.md says what is tested and why. Everywhere in here a failed registration counts as the worst value that
any method reached on that pair, and the subject, not the pair, is what is drawn and tested.
"""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.stats import norm, rankdata

from cohortmorph.cohort.pairs import subjects_of
from cohortmorph.evaluation.measures import UNREADABLE, better
from cohortmorph.evaluation.tables import SUMMARY_COLUMNS

KEYS = SUMMARY_COLUMNS[: SUMMARY_COLUMNS.index("n")]  # what a mean is of
CONFIDENCE_PERCENT = 95
SIGNIFICANCE = 0.05
# Up to so many subjects the null distribution is counted out; beyond, the normal approximation is as good.
EXACT_SUBJECTS_MAX = 60


def independent_units(pairs: Iterable[str]) -> dict[str, str]:
    """Group pairs so that no two groups share a subject.

    Pairs within a subject give a group each subject. Pairs between subjects link these: whatever is linked, directly or
    over others, is one group. A subject that takes part in every pair (an atlas) links nothing; what is found then
    holds for this atlas.

    Parameters
    ----------
    pairs : iterable of str

    Returns
    -------
    dict of pair to the group's name, which is the first of its subjects

    Examples
    --------
    >>> independent_units(["A-T1_to_A-CT", "A-T2_to_A-CT", "B-T1_to_C-T1"])
    {'A-T1_to_A-CT': 'A', 'A-T2_to_A-CT': 'A', 'B-T1_to_C-T1': 'B'}
    >>> independent_units(["A-T1_to_X-T1", "B-T1_to_X-T1"])
    {'A-T1_to_X-T1': 'A', 'B-T1_to_X-T1': 'B'}
    """
    subjects = {pair: subjects_of([pair]) for pair in sorted(set(pairs))}
    common = set.intersection(*subjects.values()) if subjects else set()
    if len(common) == 1 and all(len(of_pair) > 1 for of_pair in subjects.values()):
        subjects = {pair: of_pair - common for pair, of_pair in subjects.items()}
    group: dict[str, set[str]] = {subject: {subject} for of_pair in subjects.values() for subject in of_pair}
    for of_pair in subjects.values():
        linked: set[str] = set().union(*(group[subject] for subject in of_pair))
        group.update(dict.fromkeys(linked, linked))
    return {pair: min(group[min(of_pair)]) for pair, of_pair in subjects.items()}


def failures_as_worst(metrics: pd.DataFrame) -> pd.DataFrame:
    """Give failed registrations the worst value that any method reached on the same pair.

    A failure is no better than doing nothing, so `initial` is among these methods; so is every weight and epoch. Left
    out, failures would flatter the method that fails where registration is hard.

    Parameters
    ----------
    metrics : pandas.DataFrame
        metrics.tsv. Infinite values failed, as NaN did.

    Returns
    -------
    pandas.DataFrame
        A copy with the column ``failed`` (bool). The value stays NaN where every method failed on the pair, and for
        metrics of which neither more nor less is better, see :func:`cohortmorph.evaluation.measures.better`.
    """
    rows = metrics.assign(failed=~np.isfinite(metrics["value"]))
    rows["value"] = rows["value"].where(~rows["failed"])
    direction = rows["metric"].map({metric: better(metric) for metric in rows["metric"].unique()})
    values = rows.groupby(["pair", "metric", "structure"], sort=False)["value"]
    for wanted, worst in (("less", "max"), ("more", "min")):
        filled = rows["failed"] & (direction == wanted)
        if filled.any():
            rows.loc[filled, "value"] = values.transform(worst)[filled]
    return rows


def summarize(metrics: pd.DataFrame, bootstrap_samples: int, seed: int) -> pd.DataFrame:
    """Summarize a tidy table over its pairs.

    Parameters
    ----------
    metrics : pandas.DataFrame
        metrics.tsv.
    bootstrap_samples : int
    seed : int
        The result depends on the values and the seed alone, not on the order of the rows.

    Returns
    -------
    pandas.DataFrame
        With :data:`~cohortmorph.evaluation.tables.SUMMARY_COLUMNS`, a row for each split, method, weight, epoch, metric
        and structure: ``n`` pairs of ``subjects`` independent
        subjects (see :func:`independent_units`), of which ``failed`` have no value of their own and count as the worst
        (see :func:`failures_as_worst`; where that gives none, they are not among the n). Over the n pairs ``mean``,
        ``sd`` (divided by n - 1), ``median``, and from ``ci_low`` to ``ci_high`` the 95 % percentile bootstrap interval
        of the mean, for which subjects are drawn with all their pairs; empty if there is one subject.

    Raises
    ------
    ValueError
        If a value stands there twice.
    """
    metrics = metrics[metrics["metric"] != UNREADABLE.metric]  # of files there is no mean
    repeated = metrics[metrics.duplicated(["pair", *KEYS])]
    if len(repeated):
        raise ValueError(f"the metrics hold {len(repeated)} values twice, such as {repeated.iloc[0].to_dict()}")
    group = metrics.groupby(KEYS, sort=False, dropna=False).ngroup()
    summary = metrics[KEYS].loc[~group.duplicated()].reset_index(drop=True)
    # Sorted by pair: equal draws then meet equal subjects, whatever the order of the rows.
    rows = failures_as_worst(metrics.assign(group=group)).sort_values("pair", kind="stable")
    for _, of_split in metrics.groupby("split"):
        units = independent_units(of_split["pair"])
        rows.loc[of_split.index, "subject"] = rows.loc[of_split.index, "pair"].map(units)
    values = rows.groupby("group")["value"]
    of_subject = rows.dropna(subset="value").groupby(["group", "subject"])["value"].agg(["sum", "count"])
    subjects = of_subject.groupby("group").size().reindex(summary.index, fill_value=0)
    summary["n"], summary["subjects"] = values.count(), subjects
    summary["failed"] = rows.groupby("group")["failed"].sum()
    summary["mean"], summary["sd"], summary["median"] = values.mean(), values.std(), values.median()
    summary[["ci_low", "ci_high"]] = np.nan
    for number in sorted(set(subjects) - {0, 1}):
        groups = summary.index[subjects == number]
        sums, counts = (of_subject[name].loc[groups].to_numpy().reshape(-1, number) for name in ("sum", "count"))
        summary.loc[groups, ["ci_low", "ci_high"]] = bootstrap_interval(sums, bootstrap_samples, seed, counts)
    return summary


def bootstrap_interval(values: np.ndarray, samples: int, seed: int, counts: np.ndarray | None = None) -> np.ndarray:
    """Return the percentile bootstrap interval of the mean of each row.

    Parameters
    ----------
    values : array, shape (rows, n)
        Values, or sums of `counts` values that are drawn together.
    samples, seed : int
    counts : array, shape (rows, n), optional

    Returns
    -------
    array, shape (rows, 2)
        Lower and upper end of the 95 % interval. All rows share their draws.
    """
    n = values.shape[1]
    # How often a sample drew each subject: the means of all samples and rows are then one matrix product.
    draws = np.random.default_rng([seed, n]).multinomial(n, np.full(n, 1 / n), size=samples)
    means = values @ draws.T / (n if counts is None else counts @ draws.T)
    return np.percentile(means, tails_percent(), axis=1).T


def tails_percent() -> list[float]:
    """Return the percentages at which the interval begins and ends."""
    tail = (100 - CONFIDENCE_PERCENT) / 2
    return [tail, 100 - tail]


class SignedRank(NamedTuple):
    """What Wilcoxon's signed-rank test says of paired differences.

    Attributes
    ----------
    p : float
        Two-sided.
    effect_size : float
        The matched-pairs rank-biserial correlation (Kerby 2014): the share of the rank sum on the positive side minus
        that on the negative one, from -1 (all below zero) to 1 (all above).
    """

    p: float
    effect_size: float


def signed_rank(differences: ArrayLike) -> SignedRank:
    """Test whether paired differences lie on one side of zero: Wilcoxon's signed-rank test, two-sided.

    Zeros are ranked and then left out, as Pratt (1959) does: dropping them first would make a method that mostly equals
    another look surely better. Equal differences share their mean rank. Up to 60 differences all signs are counted out,
    with ties and zeros too; beyond, it is the normal approximation with the variance of the ranks that occur.

    Parameters
    ----------
    differences : array, shape (n,)
        One an independent subject.

    Returns
    -------
    SignedRank
        p is 1 if all differences are zero, and at least 2 / 2**n.
    """
    differences = np.asarray(differences, dtype=float)
    ranks = rankdata(np.abs(differences))[differences != 0]
    if not len(ranks):
        return SignedRank(1.0, 0.0)
    total, above = ranks.sum(), ranks[differences[differences != 0] > 0].sum()
    effect_size = float((2 * above - total) / total)
    smaller = min(above, total - above)
    if len(differences) > EXACT_SUBJECTS_MAX:
        deviation = np.sqrt((ranks**2).sum()) / 2
        return SignedRank(float(min(1, 2 * norm.cdf((smaller - total / 2) / deviation))), effect_size)
    # How likely each doubled rank sum is if every sign is a fair coin; mean ranks are halves, so doubled whole numbers.
    likely = np.ones(1)
    for rank in np.rint(2 * ranks).astype(int):
        likely = (np.pad(likely, (0, rank)) + np.pad(likely, (rank, 0))) / 2
    return SignedRank(float(min(1, 2 * likely[: round(2 * smaller) + 1].sum())), effect_size)


def holm(p: ArrayLike) -> np.ndarray:
    """Return p values corrected for their number by Holm's step-down method (1979).

    Parameters
    ----------
    p : array, shape (m,)

    Examples
    --------
    >>> holm([0.01, 0.04, 0.03]).tolist()
    [0.03, 0.06, 0.06]
    """
    p = np.asarray(p, dtype=float)
    order = np.argsort(p, kind="stable")
    corrected = np.empty_like(p)
    corrected[order] = np.minimum(np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)), 1)
    return corrected


def smallest_p_holm(subjects: int, methods: int) -> float:
    """Return the smallest corrected p that so many subjects can give for so many methods, however clear the difference.

    The smallest two-sided exact p is 2 / 2**n; it is corrected for all pairs of methods, see comparison.py.
    """
    return min(1.0, 2.0 / 2**subjects * methods * (methods - 1) / 2) if subjects and methods > 1 else 1.0
