"""Charts: one function a figure; each takes tables and returns a matplotlib Figure in the house style.

Means and intervals come from the summary table, so that a figure and the report never disagree; points are pairs.
"""

import itertools

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from matplotlib.text import Text
from matplotlib.ticker import FuncFormatter, MaxNLocator
from matplotlib.transforms import Bbox

from cohortmorph.evaluation.statistics import failures_as_worst
from cohortmorph.evaluation.tables import compared
from cohortmorph.figures.style import (
    DICE,
    FOLDING,
    NCC,
    RUNTIME,
    TRE,
    WEIGHT_MARKERS,
    WIDTH_INCHES,
    message,
    method_colours,
    method_label,
    ordered_methods,
    styled,
    weight_styles,
)

STRUCTURES_MAX = 12  # panels of the figure of structures: more of them would be too small to read
FOLDING_LINEAR_PERCENT = 0.01  # below, the axis of folding is linear, so that 0 % has a place on it
LOGARITHMIC_ABOVE = 8  # methods whose means differ by a larger factor share a logarithmic axis


@styled
def training(histories, conditional=None):
    """Draw loss and its parts against epoch, a line a λ; validation dashed with markers.

    A training that used labels has a panel for their part; validation has none, and its loss is without it.

    Parameters
    ----------
    histories : dict of weight (str) to DataFrame
        Each with the columns of history.tsv.
    conditional : DataFrame, optional
        history.tsv of the one network that all λ share. What it trained on is one grey line, as each sample drew its
        own λ, and `histories` hold the epochs at which validation was watched at their λ.
    """
    if not histories:
        return message("No network was trained: the configuration has no learned method.")
    titles = {
        "loss": "Loss = similarity term + λ · penalty",
        "similarity": "Similarity term",
        "penalty": "Penalty (before × λ)",
    }
    trained = list(histories.values()) if conditional is None else [conditional]
    if any(history.label_loss.any() for history in trained):
        titles["loss"] = "Loss = similarity term + λ · penalty\n+ γ · label loss (validation: without)"
        titles["label_loss"] = "Label loss (before × γ)"
    figure = Figure(figsize=(WIDTH_INCHES, 4.2), layout="constrained")
    panels = figure.subplots(1, len(titles))
    styles = weight_styles(histories)
    validated = False
    for axes, (column, title) in zip(panels, titles.items(), strict=True):
        for weight, (colour, marker) in styles.items():
            history = histories[weight].sort_values("epoch")
            lonely = "." if len(history) == 1 else None
            if conditional is None:
                axes.plot(history.epoch, history[column], color=colour, linewidth=1.1, marker=lonely)
            if column == "label_loss":
                continue
            validation = history[["epoch", f"validation_{column}"]].dropna()
            validated |= not validation.empty
            every = max(len(validation) // 8, 1)
            axes.plot(
                *validation.to_numpy().T, "--", color=colour, marker=marker, markevery=every, markersize=5, mfc="w"
            )
        if conditional is not None:
            axes.plot(conditional.epoch, conditional[column], color="0.7", linewidth=1.1, zorder=1)
        axes.set(title=title, xlabel="epoch", ylabel="dimensionless")
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    handles = [Line2D([], [], color=colour, label=f"λ = {weight}") for weight, (colour, _) in styles.items()]
    one = conditional is None
    handles.append(Line2D([], [], color="0.3" if one else "0.7", label="training" if one else "training, any λ"))
    if validated:
        handles.append(Line2D([], [], color="0.3", linestyle="--", marker="o", mfc="w", label="validation"))
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))
    return figure


@styled
def selection(summary, selected=None):
    """Draw squared NCC, TRE, Dice and folding on validation pairs against epoch, a line a λ, the selected one marked.

    Parameters
    ----------
    summary : DataFrame
        summary.tsv; mean and 95 % interval of the mean over pairs.
    selected : dict or None
        selected_model.json.
    """
    learned = summary[(summary.method == "voxelmorph") & (summary.split == "validation")]
    shown = [measure for measure in (NCC, TRE, DICE, FOLDING) if measure.rows(learned)["mean"].notna().any()]
    if not shown:
        return message("No network was measured on validation pairs.")
    styles = weight_styles(learned.weight)
    epochs = np.sort(learned.epoch.dropna().unique().astype(int))
    # Side by side, so that the intervals of different λ stay apart.
    beside = np.linspace(-1, 1, len(styles)) * (0.012 * (np.ptp(epochs) or 1) if len(styles) > 1 else 0)
    figure, panels = _panels(len(shown))
    for axes, measure in zip(panels, shown, strict=True):
        rows = measure.rows(learned)
        for shift, (weight, (colour, marker)) in zip(beside, styles.items(), strict=True):
            line = rows[rows.weight == weight].sort_values("epoch")
            x = line.epoch.to_numpy(dtype=float) + shift
            axes.plot(x, line["mean"], color=colour, marker=marker, markersize=5, linewidth=1.3)
            axes.vlines(x, line.ci_low, line.ci_high, color=colour, linewidth=1.3)
            if selected and weight == str(selected["weight"]):
                chosen = (line.epoch == int(selected["epoch"])).to_numpy()
                axes.plot(x[chosen], line["mean"][chosen], "o", ms=15, mfc="none", mec="k", mew=1.4)
        axes.set(title=f"{measure.title}, {_pairs(rows, 'validation')}", xlabel="epoch", ylabel=measure.label)
        axes.set_xticks(epochs)
        axes.margins(x=0.06, y=0.12)
    handles = [
        Line2D([], [], color=colour, marker=marker, markersize=5, label=f"λ = {weight}")
        for weight, (colour, marker) in styles.items()
    ]
    if selected:
        label = f"selected: λ = {selected['weight']}, epoch {selected['epoch']}"
        handles.append(Line2D([], [], ls="none", marker="o", ms=11, mfc="none", mec="k", mew=1.4, label=label))
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))
    return figure


@styled
def weights(metrics, summary):
    """Draw squared NCC, TRE, Dice and folding on validation pairs against λ at the last epoch.

    Grey lines are pairs, markers the mean with its 95 % interval.
    """
    learned, values = (
        table[(table.method == "voxelmorph") & (table.split == "validation")] for table in (summary, metrics)
    )
    shown = [measure for measure in (NCC, TRE, DICE, FOLDING) if measure.rows(learned)["mean"].notna().any()]
    if not shown:
        return message("No network was measured on validation pairs.")
    last = learned.epoch.max()
    styles = weight_styles(learned.weight)
    names = list(styles)
    figure, panels = _panels(len(shown))
    for axes, measure in zip(panels, shown, strict=True):
        rows = measure.rows(learned[learned.epoch == last]).set_index("weight").reindex(names)
        pairs = measure.rows(values[values.epoch == last]).pivot_table(index="pair", columns="weight", values="value")
        for _, pair in pairs.reindex(columns=names).iterrows():
            axes.plot(range(len(names)), pair, color="0.75", linewidth=0.9, marker=".", markersize=4)
        axes.plot(range(len(names)), rows["mean"], color="0.3", linewidth=1.2)
        for place, weight in enumerate(names):
            colour, marker = styles[weight]
            row = rows.loc[weight]
            axes.vlines(place, row.ci_low, row.ci_high, color=colour, linewidth=2.2, zorder=3)
            axes.plot(place, row["mean"], marker=marker, color=colour, markersize=8, zorder=4)
        axes.set_xticks(range(len(names)), names)
        axes.set(title=f"{measure.title}, {_pairs(rows, 'validation')}", xlabel="λ", ylabel=measure.label)
        axes.margins(x=0.08, y=0.12)
    handles = [
        Line2D([], [], color="0.3", marker="o", label=f"mean and 95 % interval, epoch {last}"),
        Line2D([], [], color="0.75", marker=".", label="a pair"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=2)
    return figure


@styled
def weight_search(metrics, found):
    """Draw what a search over λ measured on validation pairs, and the folding, against λ on a logarithmic axis.

    Grey lines are pairs, the dark one their mean; a ring is the choice, a band the λ that they do not tell from it.

    Parameters
    ----------
    metrics : DataFrame
        Tidy table with a weight for each λ that was tried.
    found : dict
        selected_weight.json.
    """
    measures = [next(measure for measure in (NCC, TRE, DICE) if measure.metric == found["metric"]), FOLDING]
    figure, panels = _panels(2)
    for axes, measure in zip(panels, measures, strict=True):
        pairs = measure.rows(metrics).pivot(index="weight", columns="pair", values="value")
        pairs.index = pairs.index.astype(float)
        pairs = pairs.sort_index()
        axes.plot(pairs.index, pairs, color="0.75", linewidth=0.9)
        axes.plot(pairs.index, pairs.mean(axis=1, skipna=False), color="0.2", linewidth=1.6, marker=".")
        chosen = float(found["weight"])
        axes.plot(chosen, pairs.loc[chosen].mean(), "o", ms=13, mfc="none", mec="k", mew=1.4)
        if found["as_good"]:
            axes.axvspan(*map(float, found["as_good"]), color="#56B4E9", alpha=0.2, linewidth=0)
        if measure is FOLDING:
            axes.axhline(found["folding_percent_max"], color="#D55E00", linestyle=":")
        axes.set(title=measure.title, xlabel="λ (logarithmic)", ylabel=measure.label)
        _logarithmic(axes)
    handles = [
        Line2D([], [], color="0.2", marker=".", label=f"mean of {found['validation_pairs']} validation pairs"),
        Line2D([], [], color="0.75", label="a pair"),
        Line2D([], [], ls="none", marker="o", ms=11, mfc="none", mec="k", label=f"selected: λ = {found['weight']}"),
        Line2D([], [], color="#D55E00", ls=":", label="folding allowed"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=2)
    return figure


@styled
def comparison(metrics, summary, selected=None):
    """Draw TRE and Dice (of neither: squared NCC) of every method on the test pairs.

    The diamond and the bar are mean and 95 % interval; below them every pair is a point, in each row at one height, or
    a cross where the method failed and the worst value counts.
    """
    rows, points = _on_test_pairs(metrics, summary, selected)
    shown = _accuracy(rows)
    if not shown:
        return message("Nothing was measured on test pairs.")
    methods = ordered_methods(rows.method)
    figure = Figure(figsize=(WIDTH_INCHES, 1.3 + 0.62 * len(methods)), layout="constrained")
    panels = np.atleast_1d(figure.subplots(1, len(shown), sharey=True))
    for axes, measure in zip(panels, shown, strict=True):
        _rows_of_methods(axes, measure, methods, rows, points)
        _logarithmic_if_wide(axes, measure.rows(rows)["mean"], measure)
        axes.set_title(f"{measure.title} on test pairs ({measure.direction} is better)")
    _name_rows(panels[0], methods, selected)
    _legend_of_rows(figure, any(measure.rows(points).failed.any() for measure in shown))
    return figure


@styled
def folding(metrics, summary, selected=None):
    """Draw accuracy (TRE, else Dice, else squared NCC) and, beside it, how much of the space each method folds.

    Read together they show what an accuracy was paid with. Means with 95 % intervals, and every test pair, as in
    :func:`comparison`.
    """
    rows, points = _on_test_pairs(metrics, summary, selected)
    accuracy = _accuracy(rows)
    if not accuracy or not FOLDING.rows(rows)["mean"].notna().any():
        return message("No folding was measured on test pairs.")
    methods = ordered_methods(rows.method)
    figure = Figure(figsize=(WIDTH_INCHES, 1.3 + 0.62 * len(methods)), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    for axes, measure in zip(panels, (accuracy[0], FOLDING), strict=True):
        _rows_of_methods(axes, measure, methods, rows, points)
        axes.set_title(f"{measure.title} on test pairs ({measure.direction} is better)")
    _logarithmic_if_wide(panels[0], accuracy[0].rows(rows)["mean"], accuracy[0])
    _percent_with_zero(panels[1], FOLDING.rows(points).value.max())
    _name_rows(panels[0], methods, selected)
    _legend_of_rows(figure, any(measure.rows(points).failed.any() for measure in (accuracy[0], FOLDING)))
    return figure


@styled
def landmark_errors(errors_mm, selected=None):
    """Draw the error of every landmark of one pair by method, the same landmark joined; the diamond is the mean.

    Parameters
    ----------
    errors_mm : dict of method to array, shape (n,)
        NaN for a landmark outside of the fixed image.
    selected : dict or None
        selected_model.json, for the name of the network.
    """
    methods = ordered_methods(errors_mm)
    colours = method_colours(methods)
    table = np.array([errors_mm[method] for method in methods], dtype=float)
    figure = Figure(figsize=(WIDTH_INCHES, 1.1 + 0.42 * len(methods)), layout="constrained")
    axes = figure.subplots()
    axes.plot(table, range(len(methods)), color="0.85", linewidth=0.6, zorder=1)
    for place, (method, lengths_mm) in enumerate(zip(methods, table, strict=True)):
        inside = lengths_mm[np.isfinite(lengths_mm)]
        axes.scatter(inside, np.full(inside.size, place), s=12, color=colours[method], lw=0, alpha=0.6, zorder=2)
        if inside.size:
            axes.plot(inside.mean(), place, "D", color=colours[method], mec="k", markersize=8, zorder=4)
    finite = table[np.isfinite(table) & (table > 0)]
    axes.set_xlabel("landmark error (mm)")
    if finite.size and finite.max() > LOGARITHMIC_ABOVE * finite.min():
        axes.set_xlim(max(finite.min() / 1.3, 0.02), finite.max() * 1.3)
        _logarithmic(axes)
        axes.set_xlabel("landmark error (mm, logarithmic)")
    axes.grid(axis="y", visible=False)
    _name_rows(axes, methods, selected)
    return figure


def _on_test_pairs(metrics, summary, selected):
    """Return the summary's rows and the pairs' values (failures as the worst) of all methods on the test pairs."""
    points = failures_as_worst(metrics[metrics.split == "test"])
    return compared(summary[summary.split == "test"], selected), compared(points, selected)


def _accuracy(rows):
    """Return the measures of accuracy that rows of the summary hold; squared NCC stands in where there is neither."""
    shown = [measure for measure in (TRE, DICE) if measure.rows(rows)["mean"].notna().any()]
    return shown or [measure for measure in (NCC,) if measure.rows(rows)["mean"].notna().any()]


def _rows_of_methods(axes, measure, methods, rows, points):
    """Draw a measure, a row each method: diamond and bar for mean and 95 % interval, below them the pairs."""
    colours = method_colours(methods)
    pairs = sorted(points.pair.unique())
    heights = dict(zip(pairs, np.linspace(0.14, 0.4, len(pairs)) if len(pairs) > 1 else [0.2], strict=True))
    faint = {"alpha": 0.55 if len(pairs) < 60 else 0.2, "s": 16 if len(pairs) < 60 else 8}
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


def _name_rows(axes, methods, selected):
    """Name the rows of methods from top to bottom."""
    axes.set_yticks(range(len(methods)), [method_label(method, selected).replace(", λ", ",\nλ") for method in methods])
    axes.set_ylim(len(methods) - 0.5, -0.5)


def _legend_of_rows(figure, failed):
    """Explain the marks of rows of methods."""
    handles = [
        Line2D([], [], ls="none", marker="o", color="0.5", alpha=0.7, label="a pair"),
        Line2D([], [], color="k", marker="D", mfc="0.6", label="mean and 95 % interval"),
    ]
    if failed:
        handles.append(Line2D([], [], ls="none", marker="x", color="k", label="failed: the worst of that pair counts"))
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))


def _percent_with_zero(axes, largest):
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
    axes.xaxis.set_major_formatter(FuncFormatter(_plain))
    axes.set_xlabel(f"{FOLDING.label}, logarithmic above {FOLDING_LINEAR_PERCENT:g} %")


@styled
def structures(metrics, selected=None):
    """Draw the Dice of each label on the test pairs as box plots by method; without labels the error along each axis.

    Boxes are quartiles and median, whiskers reach to the last pair within 1.5 box lengths; every pair is a point (of 60
    and more, those beyond the whiskers), a cross where the method failed and the worst value counts. Of many labels the
    worst are shown.
    """
    points = compared(failures_as_worst(metrics[metrics.split == "test"]), selected)
    points = points.dropna(subset="value")
    measure, found = DICE, points[(points.metric == "dice") & (points.structure != "mean")]
    if found.empty:
        measure, found = TRE, points[(points.metric == "tre_mean") & (points.structure != "total")]
    if found.empty:
        return message("No structure was measured on its own on test pairs.")
    # The worst first to be kept, then in the order of their numbers.
    means = found.groupby("structure").value.mean().sort_values(ascending=not measure.lower_is_better)
    names = sorted(means.index[:STRUCTURES_MAX], key=lambda name: (not name.isdigit(), name.zfill(9)))
    methods = ordered_methods(found.method)
    colours = method_colours(methods)
    columns = min(len(names), 3 if len(names) in (3, 5, 6, 9) else 4)
    height = 0.7 + 0.23 * len(methods)
    figure = Figure(figsize=(WIDTH_INCHES, 0.9 + height * -(-len(names) // columns)), layout="constrained")
    panels = figure.subplots(-(-len(names) // columns), columns, sharex=True, sharey=True, squeeze=False).ravel()
    for axes, name in zip(panels, names, strict=False):
        of_structure = found[found.structure == name]
        for place, method in enumerate(methods):
            rows = of_structure[of_structure.method == method].sort_values("pair")
            many = len(rows) >= 60  # points would hide the boxes: only those beyond the whiskers are shown
            if len(rows) > 2:
                axes.boxplot(
                    rows.value, positions=[place], orientation="horizontal", widths=0.62, manage_ticks=False,
                    patch_artist=True, boxprops={"facecolor": colours[method], "alpha": 0.45, "linewidth": 0.8},
                    medianprops={"color": "k", "linewidth": 1.6}, showfliers=many, flierprops={"markersize": 2},
                )  # fmt: skip
            beside = place + (np.linspace(-0.2, 0.2, len(rows)) if len(rows) > 1 else np.zeros(len(rows)))
            failed = rows.failed.to_numpy()
            if not many:
                points_style = {"s": 10, "color": colours[method], "lw": 0.4, "edgecolor": "k", "zorder": 3}
                axes.scatter(rows.value[~failed], beside[~failed], **points_style)
            axes.scatter(rows.value[failed], beside[failed], s=22, color="k", marker="x", linewidths=1.1, zorder=4)
        axes.set_title(_structure_label(name))
        axes.grid(axis="y", visible=False)
    for axes in panels[len(names) :]:
        axes.remove()
    _name_rows(panels[0], methods, None)
    pairs = found.pair.nunique()
    title = f"{measure.title} of each {'label' if measure is DICE else 'axis'}, {pairs} test pair{'s' * (pairs != 1)}"
    title += f" ({measure.direction} is better)"
    if len(means) > len(names):
        title += f"; the {len(names)} worst of {len(means)} labels"
    if selected and "voxelmorph" in methods:
        title += f"; {method_label('voxelmorph', selected)}"
    figure.suptitle(title, x=0.006, ha="left")
    wide = measure is TRE and found.value.min() > 0 and found.value.max() > LOGARITHMIC_ABOVE * found.value.median()
    if wide:
        panels[0].set_xscale("log")
        _logarithmic(panels[0])
    label = f"{measure.name} ({measure.unit}, logarithmic)" if wide else measure.label
    crosses = " (×: failed, counts as the worst of that pair)" if found.failed.any() else ""
    figure.supxlabel(label + crosses, size=10)
    return figure


def _structure_label(name):
    """Name a structure for a reader: a label's number, or an axis of the patient."""
    sides = {"x": "left–right", "y": "anterior–posterior", "z": "inferior–superior"}
    return sides.get(name, f"label {name}" if name.isdigit() else name)


@styled
def runtime(summary, selected=None):
    """Draw accuracy (TRE and Dice, else squared NCC) against runtime: means over the test pairs with 95 % intervals.

    Each method is named beside its point. The dashed line joins the Pareto front: the methods than which no other is
    both faster and better.
    """
    rows = compared(summary[summary.split == "test"], selected)
    seconds = RUNTIME.rows(rows).set_index("method")
    seconds = seconds[seconds["mean"] > 0]
    shown = _accuracy(rows)
    measured = {method for measure in shown for method in measure.rows(rows).dropna(subset="mean").method}
    methods = [method for method in ordered_methods(seconds.index) if method in measured]
    if not methods:
        return message("No runtime was measured on test pairs.")
    colours = method_colours(rows.method)
    figure, fronts = Figure(figsize=(WIDTH_INCHES, 0.3 + 4.9 * len(shown)), layout="constrained"), []
    for axes, measure in zip(np.atleast_1d(figure.subplots(len(shown), 1)), shown, strict=True):
        accuracy = measure.rows(rows).set_index("method").dropna(subset="mean")
        drawn = [method for method in methods if method in accuracy.index]
        points = pd.DataFrame({"x": seconds["mean"], "y": accuracy["mean"]}).loc[drawn]
        front = pareto_front(points, measure.lower_is_better)
        # Where colours come round again, the marker tells apart.
        used = [colours[method] for method in drawn]
        markers = {method: WEIGHT_MARKERS[used[:n].count(used[n])] for n, method in enumerate(drawn)}
        for method in drawn:
            x, y = seconds.loc[method], accuracy.loc[method]
            style = {"color": colours[method], "linewidth": 2, "alpha": 0.8}
            axes.vlines(x["mean"], y.ci_low, y.ci_high, **style)
            axes.hlines(y["mean"], x.ci_low, x.ci_high, **style)
            axes.plot(x["mean"], y["mean"], markers[method], color=colours[method], mec="k", ms=10, zorder=4)
        axes.set_xscale("log")
        axes.margins(x=0.16, y=0.14)
        _logarithmic_if_wide(axes, accuracy["mean"], measure, "y", among=drawn)
        axes.plot(points.x[front], points.y[front], color="0.55", linewidth=1, linestyle=(0, (4, 3)), zorder=1)
        if points.x.max() < 3 * points.x.min():
            # One decade at least: what differs by a few percent should not look far apart.
            middle = np.sqrt(points.x.max() * points.x.min())
            axes.set_xlim(middle / 10**0.5, middle * 10**0.5)
        _logarithmic(axes)
        axes.set_xlabel("runtime of one registration (s, logarithmic)")
        title = f"{measure.title} against runtime, {_pairs(measure.rows(rows), 'test')} ({measure.direction} is better)"
        if "initial" in accuracy.index:
            title += f"; before registration {accuracy.at['initial', 'mean']:.3g} {measure.unit}".rstrip()
        axes.set_title(title)
        fronts.append(points.loc[front])
    if any(len(front) > 1 for front in fronts):
        figure.supxlabel("dashed: no other method is both faster and better", x=0.998, ha="right", size=9, color="0.4")
    _label_points(figure, shown, fronts, rows, seconds, selected)
    return figure


def pareto_front(points, lower_is_better):
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


def _label_points(figure, measures, fronts, rows, seconds, selected):
    """Name each method beside its point in each panel, where no other name, point, interval or front lies.

    `fronts` has the points (x, y) of each panel's dashed line.
    """
    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # constrained layout has placed the axes only now
    renderer = canvas.get_renderer()
    figure.set_layout_engine("none")  # the names must not move the axes that they were placed in
    colours = method_colours(rows.method)
    for axes, measure, front in zip(figure.axes, measures, fronts, strict=True):
        accuracy = measure.rows(rows).set_index("method").dropna(subset="mean")
        drawn = [method for method in ordered_methods(seconds.index) if method in accuracy.index]
        middles = [(seconds.at[method, "mean"], accuracy.at[method, "mean"]) for method in drawn]
        place = dict(zip(drawn, axes.transData.transform(middles), strict=True))
        taken = [_box(point, 24, 24) for point in place.values()]
        for method in drawn:
            x, y = seconds.loc[method], accuracy.loc[method]
            taken += _line_boxes(axes, [(x["mean"], y.ci_low), (x["mean"], y.ci_high)])
            taken += _line_boxes(axes, [(x.ci_low, y["mean"]), (x.ci_high, y["mean"])])
        taken += _line_boxes(axes, front.to_numpy())
        inside = axes.get_window_extent(renderer)
        # The crowded ones first, while there is room.
        crowd = {one: sum(np.linalg.norm(place[one] - place[other]) < 160 for other in drawn) for one in drawn}
        for method in sorted(drawn, key=lambda name: (-crowd[name], name)):
            failed = accuracy.loc[method].get("failed", 0)
            text = method_label(method, selected) + (f" ({failed:g} failed)" if failed > 0 else "")
            label = axes.annotate(
                text, (seconds.at[method, "mean"], accuracy.at[method, "mean"]), (0.5, 0.5),
                textcoords="axes fraction", ha="center", va="center", size=10.5, color=_dark(colours[method]), zorder=6,
                path_effects=[withStroke(linewidth=3, foreground="w")],
                arrowprops={"arrowstyle": "-", "color": "0.5", "linewidth": 0.7, "shrinkA": 0, "shrinkB": 5},
            )  # fmt: skip
            size = Text.get_window_extent(label, renderer)
            centre = _free_place(place[method], size.width + 6, size.height + 4, taken, inside)
            taken.append(_box(centre, size.width + 6, size.height + 4))
            # In shares of the axes: it then lies there at every resolution, and in the SVG.
            label.set_position(axes.transAxes.inverted().transform(centre))
            half = np.array([size.width, size.height]) / 2
            away = {one: np.linalg.norm(np.maximum(np.abs(centre - place[one]) - half, 0)) for one in drawn}
            # Where a name lies away from its point, or nearer to another one, a line says whose it is.
            doubtful = away[method] > 30 or any(away[one] < 1.2 * away[method] for one in drawn if one != method)
            label.arrow_patch.set_visible(doubtful)
            if doubtful:
                taken += [_box(centre + part * (place[method] - centre), 5, 5) for part in np.linspace(0, 1, 40)]


def _line_boxes(axes, points):
    """Return small boxes (pixels) along a line through points in the data's units; none for one that is not finite."""
    points = np.asarray(points, dtype=float)
    if len(points) < 2 or not np.isfinite(points).all():
        return []
    pixels = axes.transData.transform(points)
    boxes = []
    for start, end in itertools.pairwise(pixels):
        steps = np.linspace(0, 1, 2 + int(np.linalg.norm(end - start) / 4))
        boxes += [_box(start + step * (end - start), 5, 5) for step in steps]
    return boxes


def _box(centre, width, height):
    return Bbox.from_bounds(centre[0] - width / 2, centre[1] - height / 2, width, height)


def _free_place(point, width, height, taken, inside):
    """Return the centre of a box (pixels) near a point that covers nothing taken; the least covering one if all do."""
    choices = []
    for ring, gap in enumerate((16, 26, 42, 64, 92, 124, 160)):
        for angle in np.deg2rad([0, 180, 90, 270, 45, 315, 135, 225, 20, 340, 160, 200]):
            across = (width / 2 + gap) * np.cos(angle), (height / 2 + gap) * np.sin(angle)
            box = _box(point + across, width, height)
            if not (inside.x0 < box.x0 and box.x1 < inside.x1 and inside.y0 < box.y0 and box.y1 < inside.y1):
                continue
            covered = sum(_overlap(box, other) for other in taken)
            if not covered:
                return point + across
            choices.append((covered, ring, tuple(point + across)))
    return np.array(min(choices)[2]) if choices else point + [0, height]


def _overlap(one, other):
    """Return the area that two boxes share; lines have an area too."""
    width = min(one.x1, other.x1) - max(one.x0, other.x0)
    height = min(one.y1, other.y1) - max(one.y0, other.y0)
    return max(width, 0) * max(height, 0)


def _dark(colour):
    """Return a colour dark enough for text on white, of the same hue."""
    red_green_blue = np.array(matplotlib.colors.to_rgb(colour))
    luminance = red_green_blue @ [0.2126, 0.7152, 0.0722]
    return red_green_blue * min(1, 0.42 / max(luminance, 1e-6))


def _panels(count):
    """Return a figure and `count` panels of it, two in a row."""
    figure = Figure(figsize=(WIDTH_INCHES, 0.7 + 3.1 * -(-count // 2)), layout="constrained")
    panels = figure.subplots(-(-count // 2), 2 if count > 1 else 1, squeeze=False).ravel()
    for axes in panels[count:]:
        axes.remove()
    return figure, panels[:count]


def _pairs(rows, split):
    """Say on how many pairs rows of the summary rest."""
    counts = sorted(rows.n.dropna().astype(int).unique())
    number = "–".join(str(count) for count in dict.fromkeys([counts[0], counts[-1]])) if counts else "0"
    return f"n = {number} {split} pair{'' if number == '1' else 's'}"


def _plain(value, _place=None):
    """Write a number without exponent or needless zeros."""
    return f"{value:g}"


def _logarithmic_if_wide(axes, means, measure, side="x", among=None):
    """Label an axis with the measure; make it logarithmic where one method would hide the others' differences."""
    means = means if among is None else means[among]
    means = means[means > 0]
    axes.set(**{f"{side}label": measure.label})
    if measure.unit != "mm" or means.empty or means.max() < LOGARITHMIC_ABOVE * means.min():
        return
    _logarithmic(axes, side)
    axes.set(**{f"{side}label": f"{measure.name} ({measure.unit}, logarithmic)"})


def _logarithmic(axes, side="x"):
    """Make an axis logarithmic, with ticks at 1, 2, 5, 10, …"""
    axes.set(**{f"{side}scale": "log"})
    axis = axes.xaxis if side == "x" else axes.yaxis
    low, high = axis.get_view_interval()
    ticks = [digit * 10.0**power for power in range(-4, 6) for digit in (1, 2, 5)]
    axis.set_ticks([tick for tick in ticks if low <= tick <= high])
    axis.set_ticks([], minor=True)
    axis.set_major_formatter(FuncFormatter(_plain))
