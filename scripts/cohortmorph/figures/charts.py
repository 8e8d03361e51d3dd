"""Charts of methods: one function a figure; each takes a run's evaluation and returns a matplotlib Figure.

Means and intervals come from the summary table, so that a figure and the report never disagree; points are pairs.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter

from cohortmorph.cohort.methods import Method
from cohortmorph.evaluation.measures import DICE, FOLDING, RUNTIME, TRE, Measure
from cohortmorph.evaluation.statistics import failures_as_worst
from cohortmorph.evaluation.tables import Evaluation
from cohortmorph.figures.axes import (
    LOGARITHMIC_ABOVE,
    accuracy_in,
    logarithmic_if_wide,
    logarithmic_label,
    make_logarithmic,
    pairs_in,
    plain,
)
from cohortmorph.figures.label_points import Panel, Point, label_points
from cohortmorph.figures.style import WEIGHT_MARKERS, WIDTH_INCHES, colours_of, message, styled

STRUCTURES_MAX = 12  # panels of the figure of structures: more of them would be too small to read
FOLDING_LINEAR_PERCENT = 0.01  # below, the axis of folding is linear, so that 0 % has a place on it
MANY_PAIRS = 60  # so many points of pairs would hide what lies below them


@styled
def comparison(evaluation: Evaluation) -> Figure:
    """Draw TRE and Dice (of neither: squared NCC and NMI) of every method on the test pairs.

    The diamond and the bar are mean and 95 % interval; below them every pair is a point, in each row at one height, or
    a cross where the method failed and the worst value counts.
    """
    rows, points = _on_test_pairs(evaluation)
    shown = accuracy_in(rows)
    if not shown:
        return message("Nothing was measured on test pairs.")
    methods = evaluation.in_order(rows.method)
    figure = Figure(figsize=(WIDTH_INCHES, 1.3 + 0.62 * len(methods)), layout="constrained")
    panels = np.atleast_1d(figure.subplots(1, len(shown), sharey=True))
    for axes, measure in zip(panels, shown, strict=True):
        _rows_of_methods(axes, measure, methods, rows, points, colours_of(evaluation))
        logarithmic_if_wide(axes, measure.rows(rows)["mean"], measure)
        axes.set_title(f"{measure.title} on test pairs ({measure.direction} is better)")
    _name_rows(panels[0], map(evaluation.label, methods))
    _legend_of_rows(figure, any(measure.rows(points).failed.any() for measure in shown))
    return figure


@styled
def folding(evaluation: Evaluation) -> Figure:
    """Draw accuracy (TRE, else Dice, else squared NCC) and, beside it, how much of the space each method folds.

    Read together they show what an accuracy was paid with. Means with 95 % intervals, and every test pair, as in
    :func:`comparison`.
    """
    rows, points = _on_test_pairs(evaluation)
    accuracy = accuracy_in(rows)
    if not accuracy or not FOLDING.rows(rows)["mean"].notna().any():
        return message("No folding was measured on test pairs.")
    methods = evaluation.in_order(rows.method)
    figure = Figure(figsize=(WIDTH_INCHES, 1.3 + 0.62 * len(methods)), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    for axes, measure in zip(panels, (accuracy[0], FOLDING), strict=True):
        _rows_of_methods(axes, measure, methods, rows, points, colours_of(evaluation))
        axes.set_title(f"{measure.title} on test pairs ({measure.direction} is better)")
    logarithmic_if_wide(panels[0], accuracy[0].rows(rows)["mean"], accuracy[0])
    _percent_with_zero(panels[1], FOLDING.rows(points).value.max())
    _name_rows(panels[0], map(evaluation.label, methods))
    _legend_of_rows(figure, any(measure.rows(points).failed.any() for measure in (accuracy[0], FOLDING)))
    return figure


@styled
def landmark_errors(errors_mm: Mapping[Method, np.ndarray], colours: Mapping[str, str]) -> Figure:
    """Draw the error of every landmark of one pair by method, the same landmark joined; the diamond is the mean.

    Parameters
    ----------
    errors_mm : dict of Method to array, shape (n,)
        From top to bottom; NaN for a landmark outside of the fixed image.
    colours : dict of str to str
        By the method's name.
    """
    table = np.array(list(errors_mm.values()), dtype=float)
    figure = Figure(figsize=(WIDTH_INCHES, 1.1 + 0.42 * len(table)), layout="constrained")
    axes = figure.subplots()
    axes.plot(table, range(len(table)), color="0.85", linewidth=0.6, zorder=1)
    for place, (method, lengths_mm) in enumerate(zip(errors_mm, table, strict=True)):
        colour = colours[method.name]
        inside = lengths_mm[np.isfinite(lengths_mm)]
        axes.scatter(inside, np.full(inside.size, place), s=12, color=colour, lw=0, alpha=0.6, zorder=2)
        if inside.size:
            axes.plot(inside.mean(), place, "D", color=colour, mec="k", markersize=8, zorder=4)
    finite = table[np.isfinite(table) & (table > 0)]
    axes.set_xlabel("landmark error (mm)")
    if finite.size and finite.max() > LOGARITHMIC_ABOVE * finite.min():
        axes.set_xlim(max(finite.min() / 1.3, 0.02), finite.max() * 1.3)
        make_logarithmic(axes)
        axes.set_xlabel("landmark error (mm, logarithmic)")
    axes.grid(axis="y", visible=False)
    _name_rows(axes, [method.label for method in errors_mm])
    return figure


def _on_test_pairs(evaluation: Evaluation) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the summary's rows and the pairs' values (failures as the worst) of all methods on the test pairs."""
    metrics, summary = evaluation.metrics, evaluation.summary
    points = failures_as_worst(metrics[metrics.split == "test"])
    return evaluation.compared(summary[summary.split == "test"]), evaluation.compared(points)


def _rows_of_methods(
    axes: Axes,
    measure: Measure,
    methods: Sequence[str],
    rows: pd.DataFrame,
    points: pd.DataFrame,
    colours: Mapping[str, str],
) -> None:
    """Draw a measure, a row each method: diamond and bar for mean and 95 % interval, below them the pairs."""
    pairs = sorted(points.pair.unique())
    heights = dict(zip(pairs, np.linspace(0.14, 0.4, len(pairs)) if len(pairs) > 1 else [0.2], strict=True))
    faint: dict[str, Any] = {
        "alpha": 0.55 if len(pairs) < MANY_PAIRS else 0.2,
        "s": 16 if len(pairs) < MANY_PAIRS else 8,
    }
    statistics = measure.rows(rows).set_index("method")
    for place, method in enumerate(methods):
        values = measure.rows(points[points.method == method]).dropna(subset="value")
        measured, failed = values[~values.failed], values[values.failed]
        axes.scatter(measured.value, place + measured.pair.map(heights), color=colours[method], lw=0, **faint)
        axes.scatter(failed.value, place + failed.pair.map(heights), color="k", marker="x", s=26, linewidths=1.1)
        if method not in statistics.index:
            continue
        row = statistics.loc[method]
        axes.hlines(place, row.ci_low, row.ci_high, color="k", linewidth=2, zorder=3)
        axes.plot(row["mean"], place, "D", color=colours[method], mec="k", markersize=7, zorder=4)
        number = row.get("failed", 0)
        axes.annotate(
            f"n = {row.n:g}" + (f",\n{number:g} failed" if number > 0 else ""), (1.01, place),
            xycoords=axes.get_yaxis_transform(), va="center", size=9, color="0.3", annotation_clip=False,
        )  # fmt: skip
    axes.set_xlabel(measure.label)
    axes.grid(axis="y", visible=False)


def _name_rows(axes: Axes, labels: Iterable[str]) -> None:
    """Name the rows of methods from top to bottom."""
    names = [label.replace(", λ", ",\nλ") for label in labels]
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)


def _legend_of_rows(figure: Figure, failed: bool) -> None:
    """Explain the marks of rows of methods."""
    handles = [
        Line2D([], [], ls="none", marker="o", color="0.5", alpha=0.7, label="a pair"),
        Line2D([], [], color="k", marker="D", mfc="0.6", label="mean and 95 % interval"),
    ]
    if failed:
        handles.append(Line2D([], [], ls="none", marker="x", color="k", label="failed: the worst of that pair counts"))
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))


def _percent_with_zero(axes: Axes, largest: float) -> None:
    """Give an axis of percentages that are mostly tiny room for both 0 and what is large."""
    if not largest > 0:
        axes.set_xlim(-0.05, 1)
        axes.text(0.5, 0.04, "no method folds anywhere", transform=axes.transAxes, ha="center", color="0.35")
        return
    axes.set_xscale("symlog", linthresh=FOLDING_LINEAR_PERCENT, linscale=0.6)
    ticks = [0, *(10.0**power for power in range(-2, 3))]
    top = next((tick for tick in ticks[2:] if tick >= largest * 1.4), 130)
    axes.set_xlim(-0.2 * FOLDING_LINEAR_PERCENT, top)
    axes.set_xticks([tick for tick in ticks if tick <= top])
    axes.minorticks_off()
    axes.xaxis.set_major_formatter(FuncFormatter(plain))
    axes.set_xlabel(f"{FOLDING.label}, logarithmic above {FOLDING_LINEAR_PERCENT:g} %")


@styled
def structures(evaluation: Evaluation) -> Figure:
    """Draw the Dice of each label on the test pairs as box plots by method; without labels the error along each axis.

    Boxes are quartiles and median, whiskers reach to the last pair within 1.5 box lengths; every pair is a point (of 60
    and more, those beyond the whiskers), a cross where the method failed and the worst value counts. Of many labels the
    worst are shown.
    """
    points = _on_test_pairs(evaluation)[1].dropna(subset="value")
    found = {
        measure: points[(points.metric == measure.metric) & (points.structure != measure.structure)]
        for measure in (DICE, TRE)
    }
    measure = next((measure for measure, rows in found.items() if not rows.empty), None)
    if measure is None:
        return message("No structure was measured on its own on test pairs.")
    rows = found[measure]
    # The worst first to be kept, then in the order of their numbers.
    means = rows.groupby("structure").value.mean().sort_values(ascending=not measure.lower_is_better)
    names = sorted(means.index[:STRUCTURES_MAX], key=lambda name: (not name.isdigit(), name.zfill(9)))
    methods = evaluation.in_order(rows.method)
    columns = min(len(names), 3 if len(names) in (3, 5, 6, 9) else 4)
    height = 0.7 + 0.23 * len(methods)
    figure = Figure(figsize=(WIDTH_INCHES, 0.9 + height * -(-len(names) // columns)), layout="constrained")
    panels = figure.subplots(-(-len(names) // columns), columns, sharex=True, sharey=True, squeeze=False).ravel()
    for axes, name in zip(panels, names, strict=False):
        _boxes_of_methods(axes, methods, rows[rows.structure == name], colours_of(evaluation))
        axes.set_title(_structure_label(name))
    for axes in panels[len(names) :]:
        axes.remove()
    _name_rows(panels[0], methods)
    networks = [label for method in methods if (label := evaluation.label(method)) != method]
    figure.suptitle("; ".join([_structures_title(measure, rows, len(names)), *networks]), x=0.006, ha="left")
    wide = measure is TRE and rows.value.min() > 0 and rows.value.max() > LOGARITHMIC_ABOVE * rows.value.median()
    if wide:
        panels[0].set_xscale("log")
        make_logarithmic(panels[0])
    crosses = " (×: failed, counts as the worst of that pair)" if rows.failed.any() else ""
    figure.supxlabel((logarithmic_label(measure) if wide else measure.label) + crosses, size=10)
    return figure


def _boxes_of_methods(axes: Axes, methods: Sequence[str], points: pd.DataFrame, colours: Mapping[str, str]) -> None:
    """Draw the pairs' values of one structure as a box and points, a row each method."""
    for place, method in enumerate(methods):
        rows = points[points.method == method].sort_values("pair")
        many = len(rows) >= MANY_PAIRS  # points would hide the boxes: only those beyond the whiskers are shown
        if len(rows) > 2:
            axes.boxplot(
                rows.value, positions=[place], orientation="horizontal", widths=0.62, manage_ticks=False,
                patch_artist=True, boxprops={"facecolor": colours[method], "alpha": 0.45, "linewidth": 0.8},
                medianprops={"color": "k", "linewidth": 1.6}, showfliers=many, flierprops={"markersize": 2},
            )  # fmt: skip
        beside = place + (np.linspace(-0.2, 0.2, len(rows)) if len(rows) > 1 else np.zeros(len(rows)))
        failed = rows.failed.to_numpy()
        if not many:
            style: dict[str, Any] = {"s": 10, "color": colours[method], "lw": 0.4, "edgecolor": "k", "zorder": 3}
            axes.scatter(rows.value[~failed], beside[~failed], **style)
        axes.scatter(rows.value[failed], beside[failed], s=22, color="k", marker="x", linewidths=1.1, zorder=4)
    axes.grid(axis="y", visible=False)


def _structures_title(measure: Measure, points: pd.DataFrame, shown: int) -> str:
    """Say what is drawn, of how many pairs and labels."""
    pairs, structures = points.pair.nunique(), points.structure.nunique()
    title = f"{measure.title} of each {'label' if measure is DICE else 'axis'}, {pairs} test pair{'s' * (pairs != 1)}"
    title += f" ({measure.direction} is better)"
    return title + (f"; the {shown} worst of {structures} labels" if structures > shown else "")


def _structure_label(name: str) -> str:
    """Name a structure for a reader: a label's number, or an axis of the patient."""
    sides = {"x": "left–right", "y": "anterior–posterior", "z": "inferior–superior"}
    return sides.get(name, f"label {name}" if name.isdigit() else name)


@styled
def runtime(evaluation: Evaluation) -> Figure:
    """Draw accuracy (TRE and Dice, else squared NCC) against runtime: means over the test pairs with 95 % intervals.

    Each method is named beside its point. The dashed line joins the Pareto front: the methods than which no other is
    both faster and better.
    """
    rows = evaluation.compared(evaluation.summary[evaluation.summary.split == "test"])
    seconds = RUNTIME.rows(rows).set_index("method")
    seconds = seconds[seconds["mean"] > 0]
    shown = accuracy_in(rows)
    measured = {method for measure in shown for method in measure.rows(rows).dropna(subset="mean").method}
    if not measured & set(seconds.index):
        return message("No runtime was measured on test pairs.")
    figure, panels = Figure(figsize=(WIDTH_INCHES, 0.3 + 4.9 * len(shown)), layout="constrained"), []
    for axes, measure in zip(np.atleast_1d(figure.subplots(len(shown), 1)), shown, strict=True):
        accuracy = measure.rows(rows).set_index("method").dropna(subset="mean")
        points = _points_of(evaluation, seconds, accuracy)
        means = pd.DataFrame({"x": seconds["mean"], "y": accuracy["mean"]}).loc[list(points)]
        front = means.loc[pareto_front(means, measure.lower_is_better)]
        _draw_points(axes, points.values())
        axes.set_xscale("log")
        axes.margins(x=0.16, y=0.14)
        logarithmic_if_wide(axes, means.y, measure, "y")
        axes.plot(front.x, front.y, color="0.55", linewidth=1, linestyle=(0, (4, 3)), zorder=1)
        if means.x.max() < 3 * means.x.min():
            # One decade at least: what differs by a few percent should not look far apart.
            middle = np.sqrt(means.x.max() * means.x.min())
            axes.set_xlim(middle / 10**0.5, middle * 10**0.5)
        make_logarithmic(axes)
        axes.set_xlabel("runtime of one registration (s, logarithmic)")
        pairs = pairs_in(measure.rows(rows), "test")
        title = f"{measure.title} against runtime, {pairs} ({measure.direction} is better)"
        if "initial" in accuracy.index:
            before = accuracy.at["initial", "mean"]
            title += f"; before registration {before:.3g} {measure.reader_unit}".rstrip()
        axes.set_title(title)
        panels.append(Panel(axes, points, front.to_numpy()))
    if any(len(panel.line) > 1 for panel in panels):
        figure.supxlabel("dashed: no other method is both faster and better", x=0.998, ha="right", size=9, color="0.4")
    label_points(figure, panels)
    return figure


def _points_of(evaluation: Evaluation, seconds: pd.DataFrame, accuracy: pd.DataFrame) -> dict[str, Point]:
    """Return the point of each method that has both, from rows of the summary by method, in order."""
    colours, points = colours_of(evaluation), {}
    for method in evaluation.in_order(set(seconds.index) & set(accuracy.index)):
        x, y = seconds.loc[method], accuracy.loc[method]
        failed = y.get("failed", 0)
        text = evaluation.label(method) + (f" ({failed:g} failed)" if failed > 0 else "")
        intervals = (x.ci_low, x.ci_high), (y.ci_low, y.ci_high)
        points[method] = Point(x["mean"], y["mean"], *intervals, text, colours[method])
    return points


def _draw_points(axes: Axes, points: Iterable[Point]) -> None:
    """Draw points with their intervals; where colours come round again, the marker tells apart."""
    used: list[str] = []
    for point in points:
        style: dict[str, Any] = {"color": point.colour, "linewidth": 2, "alpha": 0.8}
        axes.vlines(point.x, *point.y_interval, **style)
        axes.hlines(point.y, *point.x_interval, **style)
        marker = WEIGHT_MARKERS[used.count(point.colour) % len(WEIGHT_MARKERS)]
        axes.plot(point.x, point.y, marker, color=point.colour, mec="k", ms=10, zorder=4)
        used.append(point.colour)


def pareto_front(points: pd.DataFrame, lower_is_better: bool) -> list[str]:
    """Return the methods than which no other is at least as fast and as good, and better in one: fastest first.

    Parameters
    ----------
    points : DataFrame
        Index: methods; ``x`` the runtime (s), ``y`` the accuracy.
    lower_is_better : bool
        Of y.
    """
    ordered = points.assign(y=points.y if lower_is_better else -points.y).sort_values(["x", "y"], kind="stable")
    best = ordered.y.cummin()
    # Whoever is slower must be better than all before.
    return list(ordered.index[(ordered.y < best.shift(fill_value=np.inf))])
