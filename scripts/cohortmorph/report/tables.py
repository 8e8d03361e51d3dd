"""The report's tables, as columns and rows of text."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from cohortmorph.evaluation.measures import (
    DICE,
    FOLDING,
    MEASURES,
    OVERLAP,
    RUNTIME,
    SIMILARITIES,
    TRE,
    TRE_NEAR,
    Measure,
)
from cohortmorph.evaluation.quality import FLAGS, by_pair
from cohortmorph.evaluation.statistics import SIGNIFICANCE
from cohortmorph.evaluation.tables import Evaluation
from cohortmorph.report.findings import against_best, tested
from cohortmorph.report.wording import count, digits

Table = tuple[list[str], list[list[str]]]  # columns and rows


def quality_table(evaluation: Evaluation, links: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return every pair with its flags, the worst first: dicts of pair, link, split, flags and the first sentence.

    Parameters
    ----------
    evaluation : Evaluation
    links : dict of pair to address
        Of the pairs' pages, relative to the report; a pair without one has no link.
    """
    flags = evaluation.flags
    splits = evaluation.metrics.drop_duplicates("pair").set_index("pair").split
    rows = []
    for pair, raised in by_pair(flags, [*splits.index, *sorted(set(flags.pair) - set(splits.index))]).items():
        names = [
            f"{FLAGS[flag]} ({', '.join(map(evaluation.label, evaluation.in_order(of.method)))})"
            for flag, of in raised.groupby("flag", sort=False)
        ]
        rows.append(
            {
                "pair": pair,
                "link": links.get(pair, ""),
                "split": splits.get(pair, "train"),
                "flags": names,
                "sentence": raised.sentence.iloc[0] if len(raised) else "",
            }
        )
    return rows


def tests_table(evaluation: Evaluation) -> Table:
    """Return how each method differs from the best one."""
    columns = ["measure", "method", "against the best", "subjects", "failed pairs", "median difference",
               "95 % interval", "effect size", "p", "p corrected"]  # fmt: skip
    table = []
    for measure in tested(evaluation):
        rows = against_best(measure, evaluation).set_index("method")
        for method in evaluation.in_order(rows.index):
            row = rows.loc[method]
            table.append(
                [
                    measure.label,
                    evaluation.label(method),
                    evaluation.label(row.reference) if row.reference else "–",
                    str(row.n),
                    str(row.failed),
                    digits(measure, row.median_difference, "+"),
                    _to(measure, row, "+"),
                    "–" if np.isnan(row.effect_size) else f"{row.effect_size:+.2f}",
                    _probability(row.p),
                    _probability(row.p_holm) + (" *" if row.p_holm < SIGNIFICANCE else ""),
                ]
            )
    return columns, table


def _to(measure: Measure, row: pd.Series, sign: str = "") -> str:
    """Write an interval; a missing one is a dash."""
    if np.isnan(row.ci_low):
        return "–"
    return f"{digits(measure, row.ci_low, sign)} to {digits(measure, row.ci_high, sign)}"


def _probability(p: float) -> str:
    """Write a p value; a tiny one by its bound."""
    return "–" if np.isnan(p) else "< 0.0001" if p < 1e-4 else f"{p:.2g}"


def ranking_table(evaluation: Evaluation) -> Table:
    """Return the ranking in Learn2Reg's manner; without rows if methods are ranked by nothing."""
    ranking = evaluation.ranking
    metrics = [column.removesuffix("_wins") for column in ranking.columns if column.endswith("_wins")]
    columns = ["rank", "method", "score", *(f"{MEASURES[one].name}: wins, score" for one in metrics), RUNTIME.label]
    table = [
        [
            f"{row['rank']}",
            evaluation.label(row["method"]),
            f"{row['score']:.2f}",
            *(f"{row[f'{one}_wins']:g}, {row[f'{one}_score']:.2f}" for one in metrics),
            digits(RUNTIME, row["runtime_s"]),
        ]
        for _, row in ranking.iterrows()
    ]
    return columns, table if metrics else []


def ranking_caution(evaluation: Evaluation) -> str:
    """Say in a sentence if the ranking tells nothing; "" if it does."""
    ranking = evaluation.ranking
    wins = ranking.filter(regex="_wins$")
    if not len(wins.columns) or wins.to_numpy().any():
        return ""
    subjects_n = int(ranking.filter(regex="_n$").to_numpy().max())
    return (
        f"No method is better than another with p < {SIGNIFICANCE:g} in any metric, so all share the first rank: with "
        f"{count(subjects_n, 'subject')}, this ranking says nothing."
    )


def _of_test_pairs(evaluation: Evaluation) -> pd.DataFrame:
    """Return the summary's rows of all methods on the test pairs."""
    return evaluation.compared(evaluation.summary[evaluation.summary.split == "test"])


def comparison_table(evaluation: Evaluation) -> Table:
    """Return the comparison of methods on the test pairs; columns without a value are left out."""
    rows = _of_test_pairs(evaluation)
    others = (DICE, *SIMILARITIES, OVERLAP, FOLDING, RUNTIME)
    columns = ["method", "n", "failed", TRE.label, "95 % interval", "median", TRE_NEAR.label,
               *(f"{one.name} ({one.unit})" if one is FOLDING else one.label for one in others)]  # fmt: skip
    table = []
    for method in evaluation.in_order(rows.method):
        own = rows[rows.method == method]
        tre, near = (_only(measure.rows(own)) for measure in (TRE, TRE_NEAR))
        rest = [_only(measure.rows(own)) for measure in others]
        judged = [row for row in (tre, *rest[: 1 + len(SIMILARITIES)]) if row is not None]
        counts = {int(row.n) for row in judged}
        failed = max((int(row.failed) for row in judged), default=0)
        table.append(
            [
                evaluation.label(method),
                "–".join(map(str, sorted({min(counts), max(counts)}))) if counts else "–",
                str(failed) if failed else "–",
                _mean_and_sd(TRE, tre),
                "–" if tre is None else _to(TRE, tre),
                "–" if tre is None else digits(TRE, tre["median"]),
                _mean_and_sd(TRE_NEAR, near),
                *(_mean_and_sd(measure, row) for measure, row in zip(others, rest, strict=True)),
            ]
        )
    filled = [n for n, name in enumerate(columns) if n < 2 or any(row[n] != "–" for row in table)]
    return [columns[n] for n in filled], [[row[n] for n in filled] for row in table]


def structures_table(evaluation: Evaluation) -> Table:
    """Return TRE by axis and Dice by label for each method on the test pairs; without rows if there are none."""
    rows = _of_test_pairs(evaluation)
    axes = rows[(rows.metric == TRE.metric) & rows.structure.isin(list("xyz"))]
    labels = rows[(rows.metric == DICE.metric) & (rows.structure != DICE.structure)]
    sides = {"x": "left–right", "y": "anterior–posterior", "z": "inferior–superior"}
    wanted = [(TRE, axis, f"error {sides[axis]} (mm)") for axis in sorted(axes.structure.unique())]
    ordered = sorted(labels.structure.unique(), key=lambda label: (not label.isdigit(), label.zfill(9)))
    wanted += [(DICE, label, f"Dice, label {label}") for label in ordered]
    table = []
    for method in evaluation.in_order(rows.method):
        own = rows[rows.method == method]
        cells = [_mean_and_sd(measure, _only(measure.rows(own, structure))) for measure, structure, _ in wanted]
        table.append([evaluation.label(method), *cells])
    return ["method", *(name for _, _, name in wanted)], table if wanted else []


def _only(rows: pd.DataFrame) -> pd.Series | None:
    """Return the one row of a table, None if there is none."""
    return rows.iloc[0] if len(rows) else None


def _mean_and_sd(measure: Measure, row: pd.Series | None) -> str:
    """Write mean ± standard deviation; a single pair has no deviation."""
    if row is None or not np.isfinite(row["mean"]):
        return "–"
    spread = f" ± {digits(measure, row.sd)}" if np.isfinite(row.sd) else ""
    return digits(measure, row["mean"]) + spread
