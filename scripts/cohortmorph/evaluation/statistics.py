"""From single pairs to a cohort: means with their uncertainty, methods against each other, the choice of the model.

docs/statistics.md says what is tested and why. Everywhere in here a failed registration counts as the worst value that
any method reached on that pair, and the subject, not the pair, is what is drawn and tested.
"""

import itertools

import numpy as np
import pandas as pd
from scipy.stats import norm, rankdata

from cohortmorph import UserError
from cohortmorph.evaluation.metrics import BETTER

KEYS = ["split", "method", "weight", "epoch", "metric", "structure", "unit"]
CONFIDENCE_PERCENT = 95
SIGNIFICANCE = 0.05
# Up to so many subjects the null distribution is counted out; beyond, the normal approximation is as good.
EXACT_SUBJECTS_MAX = 60
COMPARISON = ["split", "metric", "structure", "unit", "method", "reference", "n", "failed", "median_difference",
              "ci_low", "ci_high", "effect_size", "p", "p_holm"]  # fmt: skip
# What Learn2Reg ranks by: accuracy, robustness, plausibility. Those that were measured take part.
RANKED = [("tre_mean", "total"), ("landmarks_improved", "total"), ("dice", "mean"), ("hd95", "mean"),
          ("jacobian_sd_log", "image")]  # fmt: skip
COSTS = ("runtime", "cpu_time", "peak_memory")

# What the user calls it: metric and structure in the table, unit, whether more is better, what it needs.
SELECTION = {
    "tre": ("tre_mean", "total", "mm", False, "landmarks inside the fixed image"),
    "dice": ("dice", "mean", "1", True, "label maps"),
    "ncc": ("ncc_squared", "image", "1", True, "images that overlap"),
}


def better(metric):
    """Say which values of a metric are better: ``"less"``, ``"more"``, or None where neither is.

    What a registration costs is no quality of its result: a failed one has no value, and no other takes its place.
    """
    return None if metric in COSTS else BETTER.get(metric)


def compared(table, selected):
    """Return the rows of all methods, of voxelmorph only those of the selected weight and epoch.

    Parameters
    ----------
    table : DataFrame
        metrics.tsv or summary.tsv.
    selected : dict or None
        selected_model.json.
    """
    learned = table.method == "voxelmorph"
    if selected is None:
        return table[~learned]
    return table[~learned | ((table.weight == str(selected["weight"])) & (table.epoch == int(selected["epoch"])))]


def subjects_of(pairs):
    """Return the subjects in pair ids, ``P01-T1_to_P01-CT``; ids hold letters and digits only."""
    return {image.split("-")[0] for pair in pairs for image in pair.split("_to_")}


def independent_units(pairs):
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
    group = {subject: {subject} for of_pair in subjects.values() for subject in of_pair}
    for of_pair in subjects.values():
        linked = set().union(*(group[subject] for subject in of_pair))
        group.update(dict.fromkeys(linked, linked))
    return {pair: min(group[min(of_pair)]) for pair, of_pair in subjects.items()}


def failures_as_worst(metrics):
    """Give failed registrations the worst value that any method reached on the same pair.

    A failure is no better than doing nothing, so `initial` is among these methods; so is every weight and epoch. Left
    out, failures would flatter the method that fails where registration is hard.

    Parameters
    ----------
    metrics : pandas.DataFrame
        Tidy table, see :mod:`cohortmorph.evaluation.metrics`. Infinite values failed, as NaN did.

    Returns
    -------
    pandas.DataFrame
        A copy with the column ``failed`` (bool). The value stays NaN where every method failed on the pair, and for
        metrics of which neither more nor less is better, see :func:`better`.
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


def summarize(metrics, bootstrap_samples, seed):
    """Summarize a tidy table (see :mod:`cohortmorph.evaluation.metrics`) over its pairs.

    Parameters
    ----------
    metrics : pandas.DataFrame
    bootstrap_samples : int
    seed : int
        The result depends on the values and the seed alone, not on the order of the rows.

    Returns
    -------
    pandas.DataFrame
        A row for each split, method, weight, epoch, metric and structure: ``n`` pairs of ``subjects`` independent
        subjects (see :func:`independent_units`), of which ``failed`` have no value of their own and count as the worst
        (see :func:`failures_as_worst`; where that gives none, they are not among the n). Over the n pairs ``mean``,
        ``sd`` (divided by n - 1), ``median``, and from ``ci_low`` to ``ci_high`` the 95 % percentile bootstrap interval
        of the mean, for which subjects are drawn with all their pairs; empty if there is one subject.

    Raises
    ------
    ValueError
        If a value stands there twice.
    """
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


def bootstrap_interval(values, samples, seed, counts=None):
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
    return np.percentile(means, _tails_percent(), axis=1).T


def _tails_percent():
    """Return the percentages at which the interval begins and ends."""
    tail = (100 - CONFIDENCE_PERCENT) / 2
    return [tail, 100 - tail]


# Methods against each other -----------------------------------------------------------------------------------------


def signed_rank(differences):
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
    p : float
        1 if all differences are zero. At least 2 / 2**n.
    effect_size : float
        The matched-pairs rank-biserial correlation (Kerby 2014): the share of the rank sum on the positive side minus
        that on the negative one, from -1 (all below zero) to 1 (all above).
    """
    differences = np.asarray(differences, dtype=float)
    ranks = rankdata(np.abs(differences))[differences != 0]
    if not len(ranks):
        return 1.0, 0.0
    total, above = ranks.sum(), ranks[differences[differences != 0] > 0].sum()
    effect_size = float((2 * above - total) / total)
    smaller = min(above, total - above)
    if len(differences) > EXACT_SUBJECTS_MAX:
        deviation = np.sqrt((ranks**2).sum()) / 2
        return float(min(1, 2 * norm.cdf((smaller - total / 2) / deviation))), effect_size
    # How likely each doubled rank sum is if every sign is a fair coin; mean ranks are halves, so doubled whole numbers.
    likely = np.ones(1)
    for rank in np.rint(2 * ranks).astype(int):
        likely = (np.pad(likely, (0, rank)) + np.pad(likely, (rank, 0))) / 2
    return float(min(1, 2 * likely[: round(2 * smaller) + 1].sum())), effect_size


def holm(p):
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


def smallest_p_holm(subjects, methods):
    """Return the smallest corrected p that so many subjects can give for so many methods, however clear the difference.

    The smallest two-sided exact p is 2 / 2**n; it is corrected for all pairs of methods, see :func:`compare`.
    """
    return min(1.0, 2.0 / 2**subjects * methods * (methods - 1) / 2) if subjects and methods > 1 else 1.0


def _per_subject(rows):
    """Average one metric's rows over each subject's pairs: shape (subjects, methods), and each method's failures.

    What is missing altogether failed as what is NaN did. Pairs on which every method failed are in no average.
    """
    direction = better(rows["metric"].iloc[0])
    values = rows.pivot(index="pair", columns="method", values="value")
    failed = len(values) - rows[~rows["failed"]].groupby("method")["value"].count().reindex(
        values.columns, fill_value=0
    )
    worst = values.max(axis=1) if direction == "less" else values.min(axis=1)
    values = values.apply(lambda column: column.fillna(worst)).dropna()
    units = independent_units(rows["pair"])
    return values.groupby(values.index.map(units)).mean(), failed


def _differences(one, other):
    """Return one - other; what is no more than rounding in the table's nine digits is zero, and ties are ties."""
    scale = max(np.abs(one).max(), np.abs(other).max()) or 1
    return np.round((one - other) / scale, 8) * scale


def _of_test_pairs(metrics, selected):
    """Return the test pairs' rows with failures as the worst, all methods, of the networks only the selected one."""
    return compared(failures_as_worst(metrics[metrics["split"] == "test"]), selected)


def compare(metrics, selected, bootstrap_samples, seed):
    """Compare all methods on the test pairs, metric by metric, with the best of them and with the affine.

    The best is the method with the best mean over subjects. Since only the same data say which one that is, p is
    corrected (Holm) for all pairs of methods, not for those with the best alone; that covers the affine's rows as well.

    Parameters
    ----------
    metrics : pandas.DataFrame
        Tidy table, see :mod:`cohortmorph.evaluation.metrics`.
    selected : dict or None
        selected_model.json; the other networks take no part.
    bootstrap_samples, seed : int

    Returns
    -------
    pandas.DataFrame
        With the columns of :data:`COMPARISON`, a row each metric with a direction, structure, reference and other
        method. ``n`` is the number of independent subjects (see :func:`independent_units`), ``failed`` the method's
        failed pairs. ``median_difference`` is method - reference over the subjects in ``unit``, from ``ci_low`` to
        ``ci_high`` its 95 % percentile bootstrap interval, empty if n is 1. ``effect_size`` is the rank-biserial
        correlation, positive where the method is better than the reference, whichever the metric's direction.
    """
    rows = _of_test_pairs(metrics, selected)
    found = []
    for (metric, structure), own in rows.groupby(["metric", "structure"], sort=False):
        direction = better(metric)
        if direction is None or own["method"].nunique() < 2:
            continue
        values, failed = _per_subject(own)
        keys = {"split": "test", "metric": metric, "structure": structure, "unit": own["unit"].iloc[0]}
        if values.empty:
            found += [keys | {"method": method, "reference": "", "n": 0, "failed": failed[method]} for method in values]
            continue
        sign = 1 if direction == "more" else -1
        best = (sign * values.mean()).idxmax()
        of_pair = {}
        for one, other in itertools.combinations(values.columns, 2):
            p, effect_size = signed_rank(sign * _differences(values[one].to_numpy(), values[other].to_numpy()))
            of_pair[one, other], of_pair[other, one] = [p, effect_size], [p, -effect_size]
        names = list(itertools.combinations(values.columns, 2))
        corrected = dict(zip(names, holm([of_pair[name][0] for name in names]), strict=True))
        corrected |= {(other, one): p for (one, other), p in corrected.items()}
        draws = np.random.default_rng([seed, len(values)]).integers(len(values), size=(bootstrap_samples, len(values)))
        for reference in dict.fromkeys([best, *(["affine"] if "affine" in values else [])]):
            for method in values.columns.drop(reference):
                difference = _differences(values[method].to_numpy(), values[reference].to_numpy())
                low, high = np.nan, np.nan
                if len(values) > 1:
                    low, high = np.percentile(np.median(difference[draws], axis=1), _tails_percent())
                p, effect_size = of_pair[method, reference]
                found.append(
                    keys | {"method": method, "reference": reference, "n": len(values), "failed": failed[method],
                            "median_difference": np.median(difference), "ci_low": low, "ci_high": high,
                            "effect_size": effect_size, "p": p, "p_holm": corrected[method, reference]}
                )  # fmt: skip
    return pd.DataFrame(found, columns=COMPARISON)


def rank(metrics, selected):
    """Rank methods over several metrics on the test pairs, in Learn2Reg's manner (Hering et al. 2022).

    For each metric of :data:`RANKED` that was measured, a method wins over each other one that it is better than with
    p < 0.05 (:func:`signed_rank`, as there not corrected). The ranks of the numbers of wins, equal numbers sharing
    theirs, are mapped linearly to scores from 0.1 (fewest wins) to 1 (most); the geometric mean over the metrics orders
    the methods. `initial` is no method that anybody enters, and takes no part.

    Parameters
    ----------
    metrics : pandas.DataFrame
        Tidy table, see :mod:`cohortmorph.evaluation.metrics`.
    selected : dict or None
        selected_model.json; the other networks take no part.

    Returns
    -------
    pandas.DataFrame
        A row a method, best first: ``rank`` (equal scores share the smallest), ``method``, ``score``, for each metric
        ``{metric}_n`` (independent subjects), ``{metric}_wins`` and ``{metric}_score``, and ``runtime_s``, the mean,
        which is for reading and takes no part. Without rows if fewer than two methods were measured.
    """
    rows = _of_test_pairs(metrics, selected)
    rows = rows[rows["method"] != "initial"]
    columns = {}
    for metric, structure in RANKED:
        own = rows[(rows["metric"] == metric) & (rows["structure"] == structure)]
        values = _per_subject(own)[0] if own["value"].notna().any() and better(metric) else pd.DataFrame()
        if values.shape[1] < 2:
            continue
        sign = 1 if better(metric) == "more" else -1
        wins = dict.fromkeys(values.columns, 0)
        for one, other in itertools.combinations(values.columns, 2):
            p, effect_size = signed_rank(sign * _differences(values[one].to_numpy(), values[other].to_numpy()))
            if p < SIGNIFICANCE and effect_size:
                wins[one if effect_size > 0 else other] += 1
        columns[f"{metric}_n"] = len(values)
        columns[f"{metric}_wins"] = pd.Series(wins)
        columns[f"{metric}_score"] = 0.1 + 0.9 * (pd.Series(wins).rank() - 1) / (len(wins) - 1)
    table = pd.DataFrame(columns)
    scores = table.filter(regex="_score$")
    table.insert(0, "score", np.exp(np.log(scores).mean(axis=1, skipna=False)) if len(columns) else np.nan)
    table.insert(0, "method", table.index)
    table.insert(0, "rank", table["score"].rank(ascending=False, method="min"))
    seconds = rows[rows["metric"] == "runtime"].groupby("method")["value"].mean()
    table["runtime_s"] = seconds.reindex(table.index)
    return table.astype({"rank": "Int64"}).sort_values(["rank", "method"], ignore_index=True)


# The choice of the learned model ------------------------------------------------------------------------------------


def select_model(metrics, metric, folding_percent_max):
    """Choose the weight and epoch of VoxelMorph on the validation pairs; no other row is looked at.

    The candidate with the best mean wins among those whose mean folding is small enough; the larger weight and then the
    smaller epoch break ties. If all fold too much, the one that folds least wins, and the reason says so. A candidate
    without a value for each validation pair cannot win: its mean would leave out the pairs at which it failed.

    Parameters
    ----------
    metrics : pandas.DataFrame
        Tidy table, see :mod:`cohortmorph.evaluation.metrics`.
    metric : {"tre", "dice", "ncc"}
    folding_percent_max : float

    Returns
    -------
    dict
        ``weight`` (str), ``epoch``, ``metric``, ``value`` (the mean), ``unit``, ``folding_percent``, ``admissible``,
        ``validation_pairs``, ``reason`` and ``candidates``.

    Raises
    ------
    UserError
        If no candidate was measured on all validation pairs.
    """
    name, structure, unit, more_is_better, needs = SELECTION[metric]
    rows = metrics[(metrics["split"] == "validation") & (metrics["method"] == "voxelmorph")]
    pairs = sorted(rows["pair"].unique())
    if not pairs:
        raise UserError(
            "No VoxelMorph result on a validation pair was found, so no weight and epoch can be chosen. Give at "
            "least one subject the split `validation` in the cohort table."
        )
    index = [rows["weight"], rows["epoch"].astype(int), rows["pair"]]
    values, foldings = (
        rows["value"]
        .where((rows["metric"] == wanted) & (rows["structure"] == of) & np.isfinite(rows["value"]))
        .groupby(index)
        # min_count: NaN, not 0, where a candidate has no value; each has one at most.
        .sum(min_count=1)
        .unstack("pair")
        for wanted, of in [(name, structure), ("folding", "image")]
    )
    table = pd.DataFrame(
        {"value": values.mean(axis=1, skipna=False), "folding_percent": foldings.mean(axis=1, skipna=False)}
    )
    table["admissible"] = table["folding_percent"] <= folding_percent_max
    table["measured"] = table[["value", "folding_percent"]].notna().all(axis=1)
    if not table["measured"].any():
        missing = [pair for pair in pairs if values[pair].isna().any() or foldings[pair].isna().any()]
        raise UserError(
            f"No weight and epoch has {name} and folding on every validation pair; missing for {', '.join(missing)}. "
            f"Give these pairs {needs}, or choose another evaluation.selection.metric."
        )
    # Nine digits, as in the table's file: below that a difference is rounding, and the tie rule decides.
    table["cost"] = table["value"].map(lambda value: float(f"{value:.9g}")) * (-1 if more_is_better else 1)
    table = table.reset_index()
    table["size"] = -table["weight"].astype(float)
    measured = table[table["measured"]]
    admissible = measured[measured["admissible"]]
    rule = [*(["cost"] if len(admissible) else ["folding_percent", "cost"]), "size", "epoch"]
    best = (admissible if len(admissible) else measured).sort_values(rule).iloc[0]
    limit = f"folding of at most {folding_percent_max:g} %"
    if len(admissible):
        reason = (
            f"{'Highest' if more_is_better else 'Lowest'} mean {name} among {len(admissible)} candidates with {limit}"
        )
    else:
        reason = f"No candidate has {limit}: this one folds least ({best['folding_percent']:.3g} %)"
    reason += f", on {len(pairs)} validation pair{'s' * (len(pairs) > 1)}; test pairs were not looked at."
    incomplete = len(table) - len(measured)
    if incomplete:
        reason += f" {incomplete} candidates lack a value on some validation pair and could not be chosen."
    table = table.sort_values(["size", "epoch"], ascending=[False, True])
    return {
        "weight": best["weight"],
        "epoch": int(best["epoch"]),
        "metric": name,
        "value": float(best["value"]),
        "unit": unit,
        "folding_percent": float(best["folding_percent"]),
        "admissible": bool(best["admissible"]),
        "validation_pairs": len(pairs),
        "reason": reason,
        "candidates": [
            {
                "weight": row.weight,
                "epoch": int(row.epoch),
                "value": None if np.isnan(row.value) else float(row.value),
                "folding_percent": None if np.isnan(row.folding_percent) else float(row.folding_percent),
                "admissible": bool(row.admissible and row.measured),
            }
            for row in table.itertuples()
        ],
    }


def search_weight(metrics, metric, folding_percent_max, named, bootstrap_samples, seed):
    """Choose λ among all that a search tried, and say which others the validation pairs do not tell from it.

    Parameters
    ----------
    metrics : pandas.DataFrame
        Tidy table of one epoch: the validation pairs at each λ.
    metric, folding_percent_max
        As for :func:`select_model`, which chooses.
    named : list of str
        The λ of the configuration, all of them among those tried.
    bootstrap_samples, seed : int

    Returns
    -------
    dict
        As of :func:`select_model` without the candidates, and

        ``at_the_edge``: whether the choice is the least or greatest λ tried, so that a better one may lie beyond.
        ``as_good``: [least, greatest] of the admissible λ around the choice to which it has no sure advantage: the 95 %
        interval of the paired difference over subjects reaches 0. None below two subjects. The choice is the best of
        many on these very pairs, so a λ outside is not proven worse.
        ``named``: what :func:`select_model` chooses among `named`.
        ``course``: λ = 1, the choice of the course: ``tried``, ``value``, ``worse_by`` (what the choice gains, in the
        metric's unit, below 0 where λ = 1 folds too much), ``interval`` and ``agrees`` (None: cannot be said).
    """
    name, structure, _, more_is_better, _ = SELECTION[metric]
    metrics = metrics[metrics["split"] == "validation"]
    found = select_model(metrics, metric, folding_percent_max)
    candidates = pd.DataFrame(found.pop("candidates")).set_index("weight")
    candidates = candidates.loc[sorted(candidates.index, key=float)]
    rows = metrics[(metrics["metric"] == name) & (metrics["structure"] == structure)]
    values = rows.pivot(index="pair", columns="weight", values="value")[candidates.index]
    subjects = values.groupby(values.index.map(independent_units(values.index))).mean()
    gains = (values[found["weight"]].mean() - values.mean()) * (1 if more_is_better else -1)
    intervals = pd.DataFrame(np.nan, candidates.index, ["low", "high"])
    if len(subjects) > 1:
        gains_of_subjects = subjects.rsub(subjects[found["weight"]], axis=0) * (1 if more_is_better else -1)
        intervals[:] = bootstrap_interval(gains_of_subjects.to_numpy().T, bootstrap_samples, seed)
    alike = candidates["admissible"] & (intervals["low"] <= 0)
    around = _block(alike.to_numpy(), candidates.index.get_loc(found["weight"])) if len(subjects) > 1 else None
    course = {"weight": "1", "tried": False, "agrees": None}
    for weight in candidates.index[candidates.index.astype(float) == 1]:
        course = {
            "weight": weight,
            "tried": True,
            "value": float(values[weight].mean()),
            "worse_by": float(gains[weight]),
            "interval": [float(end) for end in intervals.loc[weight]] if len(subjects) > 1 else None,
            "admissible": bool(candidates.at[weight, "admissible"]),
            "agrees": bool(alike[weight]) if len(subjects) > 1 else None,
        }
    of_named = select_model(metrics[metrics["weight"].isin(named)], metric, folding_percent_max)
    return found | {
        "folding_percent_max": folding_percent_max,
        "range": [candidates.index[0], candidates.index[-1]],
        "tried": len(candidates),
        "subjects": len(subjects),
        "at_the_edge": found["weight"] in (candidates.index[0], candidates.index[-1]),
        "as_good": [candidates.index[around[0]], candidates.index[around[1]]] if around else None,
        "named": {key: of_named[key] for key in ("weight", "value", "folding_percent")},
        "course": course,
    }


def _block(flags, place):
    """Return (first, last) of the run of true flags around `place`, which counts as true."""
    first = last = place
    while first > 0 and flags[first - 1]:
        first -= 1
    while last < len(flags) - 1 and flags[last + 1]:
        last += 1
    return first, last
