"""From single pairs to a cohort: means with their uncertainty, and the choice of the learned model."""

import numpy as np
import pandas as pd

from cohortmorph import UserError

KEYS = ["split", "method", "weight", "epoch", "metric", "structure", "unit"]
CONFIDENCE_PERCENT = 95

# What the user calls it: metric and structure in the table, unit, whether more is better, what it needs.
SELECTION = {
    "tre": ("tre_mean", "total", "mm", False, "landmarks inside the fixed image"),
    "dice": ("dice", "mean", "1", True, "label maps"),
    "ncc": ("ncc_squared", "image", "1", True, "images that overlap"),
}


def summarize(metrics, bootstrap_samples, seed):
    """Summarize a tidy table (see :mod:`cohortmorph.metrics`) over its pairs.

    Parameters
    ----------
    metrics : pandas.DataFrame
    bootstrap_samples : int
    seed : int
        The result depends on the values and the seed alone, not on the order of the rows.

    Returns
    -------
    pandas.DataFrame
        A row for each split, method, weight, epoch, metric and structure: ``n`` pairs with a value, ``failed`` pairs
        without (NaN), and over the n pairs ``mean``, ``sd`` (divided by n - 1), ``median``, and from ``ci_low`` to
        ``ci_high`` the 95 % percentile bootstrap interval of the mean, empty if n is 1. Pairs are drawn as if they were
        independent; two pairs of one subject are not.

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
    # Sorted by pair: equal draws then meet equal pairs, whatever the order of the rows. Infinite values failed too.
    rows = metrics.assign(group=group).sort_values("pair", kind="stable")
    rows["value"] = rows["value"].where(np.isfinite(rows["value"]))
    values = rows.groupby("group")["value"]
    summary["n"], summary["failed"] = values.count(), values.size() - values.count()
    summary["mean"], summary["sd"], summary["median"] = values.mean(), values.std(), values.median()
    summary[["ci_low", "ci_high"]] = np.nan
    per_group = rows.dropna(subset="value").groupby("group")["value"].apply(np.array)
    for n in sorted(set(summary["n"]) - {0, 1}):
        groups = summary.index[summary["n"] == n]
        intervals = bootstrap_interval(np.stack(per_group[groups].tolist()), bootstrap_samples, seed)
        summary.loc[groups, ["ci_low", "ci_high"]] = intervals
    return summary


def bootstrap_interval(values, samples, seed):
    """Return the percentile bootstrap interval of the mean of each row.

    Parameters
    ----------
    values : array, shape (rows, n)
    samples, seed : int

    Returns
    -------
    array, shape (rows, 2)
        Lower and upper end of the 95 % interval. All rows share their draws.
    """
    n = values.shape[1]
    # How often a sample drew each pair: the means of all samples and rows are then one matrix product.
    draws = np.random.default_rng([seed, n]).multinomial(n, np.full(n, 1 / n), size=samples)
    means = values @ draws.T / n
    tail = (100 - CONFIDENCE_PERCENT) / 2
    return np.percentile(means, [tail, 100 - tail], axis=1).T


def select_model(metrics, metric, folding_percent_max):
    """Choose the weight and epoch of VoxelMorph on the validation pairs; no other row is looked at.

    The candidate with the best mean wins among those whose mean folding is small enough; the larger weight and then the
    smaller epoch break ties. If all fold too much, the one that folds least wins, and the reason says so. A candidate
    without a value for each validation pair cannot win: its mean would leave out the pairs at which it failed.

    Parameters
    ----------
    metrics : pandas.DataFrame
        Tidy table, see :mod:`cohortmorph.metrics`.
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
