"""The report's tables, as columns and rows of text."""

import numpy as np

from cohortmorph.evaluation.quality import FLAGS, by_pair
from cohortmorph.evaluation.statistics import SIGNIFICANCE
from cohortmorph.evaluation.tables import compared
from cohortmorph.figures.style import (
    DICE,
    FOLDING,
    NCC,
    RUNTIME,
    TRE,
    Measure,
    method_label,
    ordered_methods,
)
from cohortmorph.report.findings import tested
from cohortmorph.report.wording import DECIMALS, count, digits

TRE_NEAR = Measure("tre_near_mean", "total", "TRE′", "mm", True)


def quality_table(flags, metrics, selected, links):
    """Return every pair with its flags, the worst first: dicts of pair, link, split, flags and the first sentence.

    Parameters
    ----------
    flags, metrics : DataFrame
        flags.tsv and metrics.tsv.
    selected : dict or None
        selected_model.json.
    links : dict of pair to address
        Of the pairs' pages, relative to the report; a pair without one has no link.
    """
    splits = metrics.drop_duplicates("pair").set_index("pair").split
    rows = []
    for pair, raised in by_pair(flags, [*splits.index, *sorted(set(flags.pair) - set(splits.index))]).items():
        names = [
            f"{FLAGS[flag]} ({', '.join(method_label(method, selected) for method in ordered_methods(of.method))})"
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


def tests_table(tests, selected):
    """Return how each method differs from the best one, as (columns, rows of text).

    Parameters
    ----------
    tests : DataFrame
        comparison.tsv.
    selected : dict or None
        selected_model.json.
    """
    columns = ["measure", "method", "against the best", "subjects", "failed pairs", "median difference",
               "95 % interval", "effect size", "p", "p corrected"]  # fmt: skip
    table = []
    for measure in tested(tests):
        rows = measure.rows(tests)
        # The best comes first in the file; affine, the other reference, is in the file only.
        rows = rows[rows.reference == rows.reference.iloc[0]].set_index("method")
        for method in ordered_methods(rows.index):
            row = rows.loc[method]
            table.append(
                [
                    measure.label,
                    method_label(method, selected),
                    method_label(row.reference, selected) if row.reference else "–",
                    str(row.n),
                    str(row.failed),
                    _signed(measure, row.median_difference),
                    "–"
                    if np.isnan(row.ci_low)
                    else f"{_signed(measure, row.ci_low)} to {_signed(measure, row.ci_high)}",
                    "–" if np.isnan(row.effect_size) else f"{row.effect_size:+.2f}",
                    _probability(row.p),
                    _probability(row.p_holm) + (" *" if row.p_holm < SIGNIFICANCE else ""),
                ]
            )
    return columns, table


def _signed(measure, value):
    """Write a difference with its sign; a missing one is a dash."""
    return f"{value:+.{DECIMALS[measure.unit]}f}" if np.isfinite(value) else "–"


def _probability(p):
    """Write a p value; a tiny one by its bound."""
    return "–" if np.isnan(p) else "< 0.0001" if p < 1e-4 else f"{p:.2g}"


def ranking_table(ranking, selected):
    """Return the ranking in Learn2Reg's manner, as (columns, rows of text).

    Parameters
    ----------
    ranking : DataFrame
        ranking.tsv.
    selected : dict or None
        selected_model.json.
    """
    names = {"tre_mean": "TRE", "landmarks_improved": "landmarks improved", "dice": "Dice", "hd95": "HD95",
             "jacobian_sd_log": "SD of log J"}  # fmt: skip
    metrics = [column.removesuffix("_wins") for column in ranking.columns if column.endswith("_wins")]
    columns = ["rank", "method", "score", *(f"{names[one]}: wins, score" for one in metrics), "runtime (s)"]
    table = [
        [
            f"{row['rank']}",
            method_label(row["method"], selected),
            f"{row['score']:.2f}",
            *(f"{row[f'{one}_wins']:g}, {row[f'{one}_score']:.2f}" for one in metrics),
            digits(RUNTIME, row["runtime_s"]),
        ]
        for _, row in ranking.iterrows()
    ]
    return columns, table if metrics else []


def ranking_caution(ranking):
    """Say in a sentence if the ranking tells nothing; "" if it does."""
    wins = ranking.filter(regex="_wins$")
    if not len(wins.columns) or wins.to_numpy().any():
        return ""
    subjects_n = int(ranking.filter(regex="_n$").to_numpy().max())
    return (
        f"No method is better than another with p < {SIGNIFICANCE:g} in any metric, so all share the first rank: with "
        f"{count(subjects_n, 'subject')}, this ranking says nothing."
    )


def comparison_table(summary, selected):
    """Return the comparison of methods on the test pairs, as (columns, rows of text)."""
    rows = compared(summary[summary.split == "test"], selected)
    columns = ["method", "n", "failed", "TRE (mm)", "95 % interval", "median", "TRE′ (mm)", "Dice", "squared NCC",
               "folding (%)", "runtime (s)"]  # fmt: skip
    table = []
    for method in ordered_methods(rows.method):
        own = rows[rows.method == method]
        tre, near, dice, ncc, folding, seconds = (
            _only(measure.rows(own)) for measure in (TRE, TRE_NEAR, DICE, NCC, FOLDING, RUNTIME)
        )
        counts = {int(row.n) for row in (tre, dice, ncc) if row is not None}
        failed = max((int(row.failed) for row in (tre, dice, ncc) if row is not None), default=0)
        table.append(
            [
                method_label(method, selected),
                "–".join(map(str, sorted({min(counts), max(counts)}))) if counts else "–",
                str(failed) if failed else "–",
                _mean_and_sd(TRE, tre),
                "–" if tre is None or np.isnan(tre.ci_low) else f"{tre.ci_low:.2f} to {tre.ci_high:.2f}",
                "–" if tre is None else digits(TRE, tre["median"]),
                _mean_and_sd(TRE_NEAR, near),
                _mean_and_sd(DICE, dice),
                _mean_and_sd(NCC, ncc),
                _mean_and_sd(FOLDING, folding),
                _mean_and_sd(RUNTIME, seconds),
            ]
        )
    filled = [n for n, name in enumerate(columns) if n < 2 or any(row[n] != "–" for row in table)]
    return [columns[n] for n in filled], [[row[n] for n in filled] for row in table]


def structures_table(summary, selected):
    """Return TRE by axis and Dice by label for each method on the test pairs, as (columns, rows of text)."""
    rows = compared(summary[summary.split == "test"], selected)
    axes = rows[(rows.metric == "tre_mean") & rows.structure.isin(list("xyz"))]
    labels = rows[(rows.metric == "dice") & (rows.structure != "mean")]
    sides = {"x": "left–right", "y": "anterior–posterior", "z": "inferior–superior"}
    wanted = [(TRE, axis, f"error {sides[axis]} (mm)") for axis in sorted(axes.structure.unique())]
    ordered = sorted(labels.structure.unique(), key=lambda label: (not label.isdigit(), label.zfill(9)))
    wanted += [(DICE, label, f"Dice, label {label}") for label in ordered]
    table = []
    for method in ordered_methods(rows.method):
        own = rows[rows.method == method]
        cells = [
            _mean_and_sd(measure, _only(own[(own.metric == measure.metric) & (own.structure == structure)]))
            for measure, structure, _ in wanted
        ]
        table.append([method_label(method, selected), *cells])
    return ["method", *(name for _, _, name in wanted)], table if wanted else []


def _only(rows):
    """Return the one row of a table, None if there is none."""
    return rows.iloc[0] if len(rows) else None


def _mean_and_sd(measure, row):
    """Write mean ± standard deviation; a single pair has no deviation."""
    if row is None or not np.isfinite(row["mean"]):
        return "–"
    spread = f" ± {digits(measure, row.sd)}" if np.isfinite(row.sd) else ""
    return digits(measure, row["mean"]) + spread
