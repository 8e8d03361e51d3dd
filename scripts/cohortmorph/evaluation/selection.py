"""The choice of each network's λ and epoch, on the validation pairs alone. Tables only."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from cohortmorph import UserError
from cohortmorph.evaluation.measures import FOLDING, SELECTABLE, UNREADABLE, Measure
from cohortmorph.evaluation.statistics import bootstrap_interval, independent_units
from cohortmorph.evaluation.tables import cost
from cohortmorph.run.logs import log


def select_model(
    metrics: pd.DataFrame, network: str, metric: str, folding_percent_max: float, why: str = ""
) -> dict[str, Any]:
    """Choose a network's weight λ and epoch on the validation pairs; no other row is looked at.

    The candidate with the best mean wins among those whose mean folding is small enough; the larger weight and then the
    smaller epoch break ties. If all fold too much, the one that folds least wins, and the reason says so. A candidate
    without a value for each validation pair cannot win: its mean would leave out the pairs at which it failed. What was
    given for a pair and cannot be read leaves the pair out for all candidates alike, and the reason says so.

    Parameters
    ----------
    metrics : pandas.DataFrame
        metrics.tsv.
    network : str
        Its name.
    metric : {"tre", "dice", "ncc", "nmi"}
        A key of :data:`~cohortmorph.evaluation.measures.SELECTABLE`.
    folding_percent_max : float
    why : str
        Why it is chosen by this metric, or what speaks against it: a sentence of the reason.

    Returns
    -------
    dict
        ``network``, ``weight`` (str), ``epoch``, ``metric``, ``value`` (the mean), ``unit``, ``folding_percent``,
        ``admissible``, ``validation_pairs`` (that have a value), ``reason`` and ``candidates``.

    Raises
    ------
    UserError
        If no candidate was measured on all validation pairs.
    """
    measure = SELECTABLE[metric]
    rows = metrics[(metrics["split"] == "validation") & (metrics["method"] == network)]
    lost = {one: _lost(rows, one) for one in (measure, FOLDING)}
    pairs = rows["pair"].nunique() - len(lost[measure])
    if not len(rows):
        raise UserError(
            f"No result of the network {network} on a validation pair was found, so its weight and epoch cannot be "
            "chosen. Give at least one subject the split `validation` in the cohort table."
        )
    table = _candidates(rows, network, lost, folding_percent_max)
    measured = table[table["measured"]]
    admissible = measured[measured["admissible"]]
    rule = [*(["cost"] if len(admissible) else ["folding_percent", "cost"]), "size", "epoch"]
    best = (admissible if len(admissible) else measured).sort_values(rule).iloc[0]
    return {
        "network": network,
        "weight": best["weight"],
        "epoch": int(best["epoch"]),
        "metric": measure.metric,
        "value": float(best["value"]),
        "unit": measure.unit,
        "folding_percent": float(best["folding_percent"]),
        "admissible": bool(best["admissible"]),
        "validation_pairs": pairs,
        "reason": _reason(table, measure, best, folding_percent_max, pairs) + _left_out(lost) + f" {why}".rstrip(),
        "candidates": _entries(table),
    }


def _reason(table: pd.DataFrame, measure: Measure, best: pd.Series, folding_percent_max: float, pairs: int) -> str:
    """Say why this candidate of the table was chosen, on so many pairs."""
    admissible, measured = (table["admissible"] & table["measured"]).sum(), table["measured"].sum()
    limit = f"folding of at most {folding_percent_max:g} %"
    if admissible:
        end = "Highest" if measure.better == "more" else "Lowest"
        reason = f"{end} mean {measure.metric} among {admissible} candidates with {limit}"
    else:
        reason = f"No candidate has {limit}: this one folds least ({best['folding_percent']:.3g} %)"
    reason += f", on {pairs} validation pair{'s' * (pairs > 1)}; test pairs were not looked at."
    if measured < len(table):
        reason += f" {len(table) - measured} candidates lack a value on some validation pair and could not be chosen."
    return reason


def _lost(rows: pd.DataFrame, measure: Measure) -> list[str]:
    """Return the pairs without a measure for which something was given that cannot be read."""
    pairs = set(rows["pair"][rows["metric"] == UNREADABLE.metric])
    return sorted(pairs - set(measure.rows(rows)["pair"]))


def _left_out(lost: Mapping[Measure, Sequence[str]]) -> str:
    """Say which validation pairs took no part in which mean."""
    parts = [f"the mean {measure.metric} ({', '.join(pairs)})" for measure, pairs in lost.items() if pairs]
    return f" Left out of {' and of '.join(parts)}, as what that needs cannot be read." if parts else ""


def _candidates(
    rows: pd.DataFrame, network: str, lost: Mapping[Measure, Sequence[str]], folding_percent_max: float
) -> pd.DataFrame:
    """Return a row for each weight and epoch in a network's rows.

    Parameters
    ----------
    rows : DataFrame
        Of the validation pairs.
    network : str
    lost : dict of Measure to list of str
        What is selected by, and folding: the pairs that take no part in the mean.
    folding_percent_max : float

    Returns
    -------
    DataFrame
        ``weight``, ``epoch``, ``value`` and ``folding_percent``, means over the pairs, NaN where one is missing;
        ``admissible``: it folds little enough; ``measured``: it has both means; and what ties are broken by, less being
        better: ``cost`` and ``size``.
    """
    index = [rows["weight"], rows["epoch"].astype(int), rows["pair"]]
    values, foldings = (
        rows["value"]
        .where((rows["metric"] == wanted.metric) & (rows["structure"] == wanted.structure) & np.isfinite(rows["value"]))
        .groupby(index)
        # min_count: NaN, not 0, where a candidate has no value; each has one at most.
        .sum(min_count=1)
        .unstack("pair")
        .drop(columns=pairs)
        for wanted, pairs in lost.items()
    )
    table = pd.DataFrame(
        {"value": values.mean(axis=1, skipna=False), "folding_percent": foldings.mean(axis=1, skipna=False)}
    )
    table["admissible"] = table["folding_percent"] <= folding_percent_max
    table["measured"] = table[["value", "folding_percent"]].notna().all(axis=1)
    measure = next(iter(lost))
    unread = [one.metric for one, pairs in lost.items() if len(pairs) == rows["pair"].nunique()]
    if unread:
        raise UserError(
            f"The weight and epoch of the network {network} cannot be chosen: what {' and '.join(unread)} needs cannot "
            "be read for any validation pair. `snakemake check_cohort` says what is wrong."
        )
    if not table["measured"].any():
        missing = [pair for pair in rows["pair"].unique() if _lacks(pair, values) or _lacks(pair, foldings)]
        raise UserError(
            f"No weight and epoch of the network {network} has {measure.metric} and folding on every validation pair; "
            f"missing for {', '.join(missing)}. Give these pairs {measure.needs_in_words}, or choose another "
            "evaluation.selection.metric."
        )
    table["cost"] = table["value"].map(lambda value: cost(value, measure.better))
    table = table.reset_index()
    table["size"] = -table["weight"].astype(float)
    return table


def _lacks(pair: str, values: pd.DataFrame) -> bool:
    """Say whether a candidate has no value for a pair that takes part."""
    return pair in values and bool(values[pair].isna().any())


def _entries(candidates: pd.DataFrame) -> list[dict[str, Any]]:
    """Return what selected_model.json says of each candidate, by weight and epoch; None where a mean is missing."""
    return [
        {
            "weight": row.weight,
            "epoch": int(row.epoch),
            "value": None if np.isnan(row.value) else float(row.value),
            "folding_percent": None if np.isnan(row.folding_percent) else float(row.folding_percent),
            "admissible": bool(row.admissible and row.measured),
        }
        for row in candidates.sort_values(["size", "epoch"], ascending=[False, True]).itertuples()
    ]


def search_weight(
    metrics: pd.DataFrame,
    network: str,
    metric: str,
    folding_percent_max: float,
    named: Sequence[str],
    bootstrap_samples: int,
    seed: int,
    why: str = "",
) -> dict[str, Any]:
    """Choose λ among all that a search tried, and say which others the validation pairs do not tell from it.

    Parameters
    ----------
    metrics : pandas.DataFrame
        Tidy table of one epoch: the validation pairs at each λ.
    network, metric, folding_percent_max, why
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
    metrics = metrics[(metrics["split"] == "validation") & (metrics["method"] == network)]
    found = select_model(metrics, network, metric, folding_percent_max, why)
    candidates = pd.DataFrame(found.pop("candidates")).set_index("weight")
    candidates = candidates.loc[sorted(candidates.index, key=float)]
    values = SELECTABLE[metric].rows(metrics).pivot(index="pair", columns="weight", values="value")[candidates.index]
    subjects = values.groupby(values.index.map(independent_units(values.index))).mean()
    sign = 1 if SELECTABLE[metric].better == "more" else -1
    candidates = candidates.join(_gains(sign, values, subjects, found["weight"], bootstrap_samples, seed))
    alike = candidates["alike"] = candidates["admissible"] & (candidates["low"] <= 0)
    around = _block(alike.to_numpy(), candidates.index.get_loc(found["weight"])) if len(subjects) > 1 else None
    of_named = select_model(metrics[metrics["weight"].isin(named)], network, metric, folding_percent_max)
    return found | {
        "folding_percent_max": folding_percent_max,
        "range": [candidates.index[0], candidates.index[-1]],
        "tried": len(candidates),
        "subjects": len(subjects),
        "at_the_edge": found["weight"] in (candidates.index[0], candidates.index[-1]),
        "as_good": [candidates.index[around[0]], candidates.index[around[1]]] if around else None,
        "named": {key: of_named[key] for key in ("weight", "value", "folding_percent")},
        "course": _course(candidates, len(subjects)),
    }


def _gains(
    sign: int, values: pd.DataFrame, subjects: pd.DataFrame, chosen: str, bootstrap_samples: int, seed: int
) -> pd.DataFrame:
    """Return what the choice gains over each λ, a row each.

    Parameters
    ----------
    sign : {1, -1}
        1 where more is better.
    values, subjects : DataFrame
        A column each λ, a row each pair, and each subject.
    chosen : str
        λ.
    bootstrap_samples, seed : int

    Returns
    -------
    DataFrame
        ``mean`` over the pairs, ``worse_by``, and ``low`` and ``high`` of its interval over subjects, NaN for one.
    """
    gains = pd.DataFrame({"mean": values.mean(), "worse_by": (values[chosen].mean() - values.mean()) * sign})
    gains[["low", "high"]] = np.nan
    if len(subjects) > 1:
        gains_of_subjects = subjects.rsub(subjects[chosen], axis=0) * sign
        gains[["low", "high"]] = bootstrap_interval(gains_of_subjects.to_numpy().T, bootstrap_samples, seed)
    return gains


def _course(candidates: pd.DataFrame, subjects: int) -> dict[str, Any]:
    """Return what is known of λ = 1, see :func:`search_weight`."""
    for weight in candidates.index[candidates.index.astype(float) == 1][-1:]:
        one = candidates.loc[weight]
        return {
            "weight": weight,
            "tried": True,
            "value": float(one["mean"]),
            "worse_by": float(one["worse_by"]),
            "interval": [float(one["low"]), float(one["high"])] if subjects > 1 else None,
            "admissible": bool(one["admissible"]),
            "agrees": bool(one["alike"]) if subjects > 1 else None,
        }
    return {"weight": "1", "tried": False, "agrees": None}


def _block(flags: np.ndarray, place: int) -> tuple[int, int]:
    """Return (first, last) of the run of true flags around `place`, which counts as true."""
    first = last = place
    while first > 0 and flags[first - 1]:
        first -= 1
    while last < len(flags) - 1 and flags[last + 1]:
        last += 1
    return first, last


def log_search(found: Mapping[str, Any]) -> None:
    """Log the choice, how sure it is, and whether it agrees with the course's λ = 1 and the configuration's weights.

    Parameters
    ----------
    found : dict
        See :func:`search_weight`.
    """
    chosen = (found["network"], found["weight"], found["metric"], found["value"], found["reason"])
    log.info("%s: λ = %s (%s %.4g). %s", *chosen)
    if found["as_good"]:
        log.info("not told from it by %d subjects: λ from %s to %s", found["subjects"], *found["as_good"])
    if found["at_the_edge"]:
        log.warning("λ = %s is at the edge of what was tried; a better one may lie beyond.", found["weight"])
    log.info("among networks.%s.weights: λ = %s", found["network"], found["named"]["weight"])
    course = found["course"]
    if not course["tried"]:
        log.info("the course's λ = 1 lies outside of the range")
    else:
        words = {True: "agrees", False: "does not agree", None: "cannot be compared on so few subjects"}
        log.info("the course's λ = 1 %s: worse by %.3g", words[course["agrees"]], course["worse_by"])
