"""The figures: one house style, one function a figure; each takes tables or images and returns a matplotlib Figure.

Means and intervals come from the summary table, so that a figure and the report never disagree; points are pairs. A
table without what a figure needs gives a figure that says so, since a rule's output must exist.
"""

import itertools
import warnings
from dataclasses import dataclass

import matplotlib
import numpy as np
import pandas as pd
import SimpleITK as sitk
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from matplotlib.text import Text
from matplotlib.ticker import FuncFormatter, MaxNLocator
from matplotlib.transforms import Bbox
from scipy import ndimage

from cohortmorph.files import publishing
from cohortmorph.geometry import Grid, affine, to_array
from cohortmorph.statistics import compared, failures_as_worst

WIDTH_INCHES, DPI = 10.6, 150  # 1590 pixels: a full text width in print, and Snakemake's report cuts larger images
HEIGHT_INCHES = 13  # of pictures: with the width, the shape of a printed page
STYLE = {
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.labelsize": 10,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 10.5,
    "figure.titlesize": 11.5,
    "font.size": 10,
    "grid.color": "0.9",
    "legend.fontsize": 9.5,
    "legend.frameon": False,
    "savefig.dpi": DPI,
    "svg.hashsalt": "cohortmorph",  # the same figure gives the same bytes
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
}
# Okabe and Ito's colours, which colour-blind readers can tell apart.
METHOD_COLOURS = {
    "initial": "#7f7f7f",
    "harmonized": "#CC79A7",
    "affine": "#E69F00",
    "bspline-1r": "#56B4E9",
    "bspline-3r": "#0072B2",
    "voxelmorph": "#D55E00",
}
OTHER_COLOURS = ("#009E73", "#000000", "#8C6D1F", "#6A3D9A", "#004D40", "#B2182B")
WEIGHT_MARKERS = "osD^vP*X"
# Letters and scales stand on bright and on dark tissue.
ON_IMAGE = {"color": "#F0E442", "path_effects": [withStroke(linewidth=2, foreground="k")]}
PLANES = {"axial": 2, "coronal": 1, "sagittal": 0}  # the LPS axis across each plane
LETTERS = ("RL", "AP", "IS")  # where the LPS axes come from and go to
THIN = 0.4  # a slab thinner than this share of its largest extent is shown in three slices, not in three planes
PICTURES_PER_ROW = 4  # of the figure of harmonize
STRUCTURES_MAX = 12  # panels of the figure of structures: more of them would be too small to read
FOLDING_LINEAR_PERCENT = 0.01  # below, the axis of folding is linear, so that 0 % has a place on it
LOGARITHMIC_ABOVE = 8  # methods whose means differ by a larger factor share a logarithmic axis


@dataclass(frozen=True)
class Measure:
    """A metric as figures and report show it: its rows in the tables, its name, unit, and which end is good."""

    metric: str
    structure: str
    name: str
    unit: str
    lower_is_better: bool

    @property
    def label(self):
        """The name with its unit, for an axis."""
        return f"{self.name} ({self.unit})" if self.unit else self.name

    @property
    def direction(self):
        """Which end is good, as a word."""
        return "lower" if self.lower_is_better else "higher"

    @property
    def title(self):
        """The name as the first word of a title."""
        return self.name[0].upper() + self.name[1:]

    def rows(self, table):
        """Return the rows of a tidy table that hold this measure."""
        return table[(table.metric == self.metric) & (table.structure == self.structure)]


TRE = Measure("tre_mean", "total", "TRE", "mm", True)
DICE = Measure("dice", "mean", "Dice", "", False)
NCC = Measure("ncc_squared", "image", "squared NCC", "", False)
FOLDING = Measure("folding", "image", "folding", "% of voxels", True)
RUNTIME = Measure("runtime", "image", "runtime", "s", True)

styled = matplotlib.rc_context(STYLE)


def read_summary(path):
    """Read summary.tsv; weight and structure stay the texts that they are, epoch is an integer or <NA>."""
    texts = dict.fromkeys(["split", "method", "weight", "metric", "structure", "unit"], str)
    table = pd.read_csv(path, sep="\t", dtype=texts | {"epoch": "Int64"})
    return table.fillna(dict.fromkeys(texts, ""))


def read_history(path):
    """Read a training's history.tsv."""
    return pd.read_csv(path, sep="\t")


def ordered_methods(methods):
    """Sort methods as every figure and table shows them: from doing nothing to the learned one."""
    first = ["initial", "harmonized", "affine"]

    def place(method):
        if method in first:
            return (first.index(method), "")
        return (5 if method.startswith("voxelmorph") else 3 if method.startswith("bspline") else 4, method)

    return sorted(set(methods), key=place)


def method_colours(methods):
    """Return a colour for each method; known methods always have the same one."""
    others = [method for method in ordered_methods(methods) if method not in METHOD_COLOURS]
    return METHOD_COLOURS | {method: OTHER_COLOURS[n % len(OTHER_COLOURS)] for n, method in enumerate(others)}


def ordered_weights(weights):
    """Sort regularization weights (strings) by their value."""
    return sorted({weight for weight in weights if weight}, key=float)


def weight_styles(weights):
    """Return (colour, marker) for each weight: dark to light as it grows, with markers for readers without colour."""
    weights = ordered_weights(weights)
    shades = matplotlib.colormaps["viridis"](np.linspace(0, 0.82, max(len(weights), 2)))
    return {
        weight: (matplotlib.colors.to_hex(shade), WEIGHT_MARKERS[n % len(WEIGHT_MARKERS)])
        for n, (weight, shade) in enumerate(zip(weights, shades, strict=False))
    }


def method_label(method, selected=None):
    """Return a method's name for a reader; the learned one with its λ and epoch."""
    if method == "voxelmorph" and selected:
        return f"voxelmorph, λ = {selected['weight']}, epoch {selected['epoch']}"
    return method


def save(figure, *paths, phantom=False):
    """Write a figure to each path (format by suffix); `phantom` says so on the figure itself."""
    if phantom:
        figure.text(0.998, 0.998, "PHANTOM", ha="right", va="top", color="#B2182B", weight="bold", size=12)
    with matplotlib.rc_context(STYLE):
        for path in paths:
            with publishing(path) as partial:
                # Without the date, the same figure gives the same file.
                figure.savefig(partial, metadata={"Date": None} if partial.suffix == ".svg" else {"Software": None})


@styled
def message(text):
    """Return a figure that only says why there is nothing to draw."""
    figure = Figure(figsize=(WIDTH_INCHES, 1.2))
    figure.text(0.5, 0.5, text, ha="center", va="center", color="0.35")
    return figure


# Tables --------------------------------------------------------------------------------------------------------------


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


# Images --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Cut:
    """A slice of an image as it is shown.

    Attributes
    ----------
    values : array, shape (rows, columns), or (rows, columns, 3) in colours
        The first row is the top, the first column the left of the picture.
    size_mm : tuple of float
        Width and height.
    letters : dict
        The patient's side (R, L, A, P, I, S) at ``left``, ``right``, ``top`` and ``bottom`` of the picture.
    """

    values: np.ndarray
    size_mm: tuple
    letters: dict


def oriented(image):
    """Return the image with its axes swapped and flipped to run nearest to left, posterior, superior; no resampling."""
    return sitk.DICOMOrient(image, "LPS")


def cut(image, plane, index):
    """Cut a slice out of an :func:`oriented` image, seen as radiologists do: the patient's left on the right.

    Parameters
    ----------
    image : SimpleITK image
    plane : {"axial", "coronal", "sagittal"}
    index : int
        Number of the slice along the axis across the plane.
    """
    across = PLANES[plane]
    horizontal, vertical = [axis for axis in range(3) if axis != across]
    values = np.take(to_array(image), index, axis=across).swapaxes(0, 1)  # colours, if any, stay last
    grid = Grid.of(image)
    left, right = _letters(grid.axes[:, horizontal])
    first, last = _letters(grid.axes[:, vertical])
    # Axis j runs down the picture (anterior on top); axis k runs up it (superior on top).
    upwards = vertical == 2
    top, bottom = (last, first) if upwards else (first, last)
    return Cut(
        values[::-1] if upwards else values,
        tuple(grid.size[axis] * grid.spacing_mm[axis] for axis in (horizontal, vertical)),
        {"left": left, "right": right, "top": top, "bottom": bottom},
    )


def _letters(axis):
    """Return the patient's sides (letters) from which and to which a unit vector (LPS) points, by its largest part."""
    nearest = int(np.argmax(np.abs(axis)))
    return LETTERS[nearest] if axis[nearest] > 0 else LETTERS[nearest][::-1]


def views(image):
    """Return (plane, index) of the three slices that show an :func:`oriented` image best.

    The middle of each plane; for a slab that is thin in one direction, three of its own slices.
    """
    grid = Grid.of(image)
    extent_mm = np.array(grid.size) * np.array(grid.spacing_mm)
    thin = int(np.argmin(extent_mm))
    if extent_mm[thin] < THIN * extent_mm.max():
        plane = next(name for name, axis in PLANES.items() if axis == thin)
        return [(plane, int(grid.size[thin] * part)) for part in (0.25, 0.5, 0.75)]
    return [(plane, grid.size[axis] // 2) for plane, axis in PLANES.items()]


def _where(image, plane, index):
    """Say which slice of an :func:`oriented` image is shown, counted from 1 at a side of the patient."""
    grid, across = Grid.of(image), PLANES[plane]
    return f"{plane}\n{index + 1}/{grid.size[across]} from {_letters(grid.axes[:, across])[0]}"


def checkerboard(fixed, moved, fields=8):
    """Return a cut that shows `fixed` and `moved` in turn, in squares, `fields` of them along the shorter side."""
    width_mm, height_mm = fixed.size_mm
    rows, columns = fixed.values.shape
    field_mm = min(fixed.size_mm) / fields
    row_fields = ((np.arange(rows) + 0.5) * height_mm / rows // field_mm).astype(int)
    column_fields = ((np.arange(columns) + 0.5) * width_mm / columns // field_mm).astype(int)
    odd = (row_fields[:, None] + column_fields) % 2 == 1
    return Cut(np.where(odd, moved.values, fixed.values), fixed.size_mm, fixed.letters)


@styled
def pair(fixed, moved, selected=None, title=""):
    """Show how each method's moved image fits the fixed one.

    Rows are three slices, then checkerboard and difference of one of them. Columns are the fixed image and the methods.

    Parameters
    ----------
    fixed : SimpleITK image
        Prepared to [0, 1].
    moved : dict of method to SimpleITK image
        On the grid of `fixed`, prepared to [0, 1] with the same limits for all methods.
    selected : dict or None
        selected_model.json, for the title of the learned method.
    """
    for method, image in moved.items():
        difference = Grid.of(fixed).difference_from(Grid.of(image))
        if difference:
            raise ValueError(f"{method}: the moved image is not on the fixed image's grid: {difference}")
    fixed = oriented(fixed)
    moved = {method: oriented(image) for method, image in moved.items()}
    shown = views(fixed)
    closer = shown[1] if len({plane for plane, _ in shown}) == 1 else shown[0]
    rows = [*shown, closer, closer]
    cuts = [cut(fixed, *place) for place in rows]
    columns = 1 + len(moved)
    figure, panels = _pictures(cuts, columns, title)
    for row, (place, still) in enumerate(zip(rows, cuts, strict=True)):
        for column, (method, image) in enumerate(moved.items(), start=1):
            axes = panels[row, column]
            moving = cut(image, *place)
            if row == 3:
                moving = checkerboard(still, moving)
            if row < 4:
                _show(axes, moving)
            else:
                difference = _show(axes, Cut(still.values - moving.values, still.size_mm, {}), cmap="PuOr", low=-1)
            if row == 0:
                axes.set_title(method_label(method, selected).replace(", λ", ",\nλ"), loc="center", size=9)
        if row < 3:
            _show(panels[row, 0], still)
            panels[row, 0].set_ylabel(_where(fixed, *place), size=9)
            _scale(panels[row, 0], still)
        else:
            panels[row, 0].axis("off")
            text = ("fixed and moved\nin turn", "fixed − moved\n(intensities from 0 to 1)")[row == 4]
            text = f"{_where(fixed, *place)}:\n{text}".replace("\n", " ", 1)
            panels[row, 0].text(0.5, 0.6, text, ha="center", va="center", size=9, transform=panels[row, 0].transAxes)
    panels[0, 0].set_title("fixed", loc="center", size=9)
    if moved:
        bar = panels[4, 0].inset_axes([0.15, 0.3, 0.7, 0.06])
        figure.colorbar(difference, cax=bar, orientation="horizontal", ticks=[-1, 0, 1]).ax.tick_params(labelsize=8)
    return figure


@styled
def fused(images, plane, index, title=""):
    """Show one slice of every step of a fusion, a row a moved image.

    Parameters
    ----------
    images : dict of str to dict of str to SimpleITK image
        By moved image, then by what is shown, the same for all: grey in [0, 1], or colours (uint8); :func:`oriented`,
        on one grid.
    plane : {"axial", "coronal", "sagittal"}
    index : int
    """
    cuts = {name: {shown: cut(image, plane, index) for shown, image in row.items()} for name, row in images.items()}
    first = [next(iter(row.values())) for row in cuts.values()]
    figure, panels = _pictures(first, len(next(iter(cuts.values()))), title)
    for axes_of_row, (name, row) in zip(panels, cuts.items(), strict=True):
        for axes, (shown, picture) in zip(axes_of_row, row.items(), strict=True):
            _show(axes, picture)
            if axes in panels[0]:
                axes.set_title(shown, loc="center", size=9)
        axes_of_row[0].set_ylabel(name, size=10)
        _scale(axes_of_row[0], next(iter(row.values())))
    return figure


@styled
def harmonize(images, transforms, angles, starts, found, title=""):
    """Show how one subject's stacks were made comparable: NCC against angle and start slice, then before and after.

    The pictures lay contours of each image on the fixed one; before: the middles of both on each other, not rotated.

    Parameters
    ----------
    images : dict of name to SimpleITK image
        Native, prepared to [0, 1].
    transforms : dict of name to SimpleITK transform
        Fixed world → image's world.
    angles, starts : DataFrame
        angles.tsv and starts.tsv; empty if harmonize is off.
    found : dict
        harmonize.json.
    """
    fixed, plane = found["fixed"], found.get("plane", "axial")
    others = [name for name in images if name != fixed]
    if not others:
        return message(f"There is no other image to make comparable with {fixed}.")
    colours = dict(zip(others, ("#D55E00", "#0072B2", "#009E73", "#CC79A7") * len(others), strict=False))
    still = oriented(images[fixed])
    index = _shared_index(still, {name: images[name] for name in others}, transforms, PLANES[plane])
    sheet = _sheet(still, PLANES[plane], index)
    pictures = []
    for name in others:
        if angles.empty:
            pictures.append((name, "as scanned", transforms[name]))
            continue
        middles = affine(np.eye(3), Grid.of(images[name]).centre_mm - Grid.of(images[fixed]).centre_mm)
        pictures += [(name, "before", middles), (name, "after", transforms[name])]
    rows = -(-len(pictures) // PICTURES_PER_ROW)
    width_mm, height_mm = cut(sheet, plane, 0).size_mm
    heights = [3.6, rows * (WIDTH_INCHES / PICTURES_PER_ROW * height_mm / width_mm + 0.5)]
    figure = Figure(figsize=(WIDTH_INCHES, sum(heights)), layout="constrained")
    figure.suptitle(title)
    upper, lower = figure.subfigures(2, 1, height_ratios=heights)
    angle_axes, start_axes = upper.subplots(1, 2)
    _curves(angle_axes, angles, "angle_degrees", found, colours, "rotation angle (degrees)")
    _curves(start_axes, starts, "start_slice", found, colours, f"start slice (held: {found.get('held')})")
    panels = lower.subplots(rows, PICTURES_PER_ROW, squeeze=False).ravel()
    for axes in panels[len(pictures) :]:
        axes.remove()
    for axes, (name, when, transform) in zip(panels, pictures, strict=False):
        _overlay(axes, sheet, plane, images[name], transform, colours[name], f"{name} on {fixed}, {when}")
    return figure


def _curves(axes, table, column, found, colours, label):
    """Draw squared NCC against a column of the search's table for every image, with what was chosen."""
    axes.set(xlabel=label, ylabel="squared NCC")
    if table.empty:
        axes.axis("off")
        axes.text(
            0.5,
            0.5,
            "failed" if "failed" in found else "not searched",
            ha="center",
            va="center",
            transform=axes.transAxes,
            color="0.35",
        )
        return
    for name, rows in table.groupby("image", sort=False):
        colour = colours.get(name, "k")  # the fixed image too has a start slice, where another is held
        chosen = found["images"][name][column]
        rows = rows.sort_values(column)
        axes.plot(rows[column], rows.ncc_squared, color=colour, linewidth=1.2)
        best = rows[np.isclose(rows[column], chosen)]
        unit = "°" if column == "angle_degrees" else ""
        axes.plot(best[column], best.ncc_squared, "o", color=colour, mec="k", ms=8, label=f"{name}: {chosen:g}{unit}")
        axes.axvline(chosen, color=colour, linewidth=0.8, linestyle=":")
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    axes.margins(y=0.12)
    axes.legend(loc="best")


def _shared_index(still, others, transforms, across):
    """Return the slice of the fixed image in the middle of those that all other images cover."""
    grid = Grid.of(still)
    middle = (np.array(grid.size) - 1) / 2
    covered = np.ones(grid.size[across], dtype=bool)
    for name, image in others.items():
        points = np.tile(middle, (grid.size[across], 1))
        points[:, across] = np.arange(grid.size[across])
        there = [transforms[name].TransformPoint(tuple(point)) for point in grid.to_world(points)]
        covered &= Grid.of(image).contains(np.array(there))
    slices = np.flatnonzero(covered)
    return int(slices[len(slices) // 2]) if slices.size else grid.size[across] // 2


def _sheet(image, across, index):
    """Return one slice of an image as a 3-D image."""
    size, start = list(image.GetSize()), [0, 0, 0]
    size[across], start[across] = 1, index
    return sitk.RegionOfInterest(image, size, start)


def _overlay(axes, sheet, plane, image, transform, colour, title):
    """Lay contours of an image, resampled once through `transform`, on a slice of the fixed image."""
    background = cut(sheet, plane, 0)
    moved = cut(sitk.Resample(image, sheet, transform, sitk.sitkLinear, np.nan, sitk.sitkFloat32), plane, 0).values
    inside = np.isfinite(moved)
    _show(axes, background)
    if not inside.any():
        axes.set_title(f"{title}: no overlap in this slice", size=9, loc="center")
        return
    smooth = ndimage.gaussian_filter(np.where(inside, moved, 0), 1)
    # Two levels part dark, middle and bright: the outline of the head, and what stands out within it.
    otsu = sitk.OtsuMultipleThresholdsImageFilter()
    otsu.SetNumberOfThresholds(2)
    otsu.Execute(sitk.GetImageFromArray(smooth.astype(np.float32)))
    rows, columns = smooth.shape
    width_mm, height_mm = background.size_mm
    x = (np.arange(columns) + 0.5) * width_mm / columns
    y = height_mm - (np.arange(rows) + 0.5) * height_mm / rows
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "No contour levels were found")
        axes.contour(x, y, smooth, levels=sorted(set(otsu.GetThresholds())), colors=[colour], linewidths=0.9)
    axes.set_title(title, size=9, loc="center")


def _pictures(cuts, columns, title):
    """Return a figure and its panels (rows, columns), each row as high as its cut at the columns' common width."""
    ratios = [picture.size_mm[1] / picture.size_mm[0] for picture in cuts]
    gap, head, side = 0.06, 0.75, 0.45
    # Tall, narrow slices would make an endless page.
    width = min((WIDTH_INCHES - side) / columns - gap, HEIGHT_INCHES / sum(ratios))
    size = (max(side + columns * (width + gap), 4.5), head + sum(ratio * width + gap for ratio in ratios))
    figure = Figure(figsize=size)
    figure.text(side / size[0], 1 - 0.06 / size[1], title, va="top", size=11.5)
    panels = np.empty((len(cuts), columns), dtype=object)
    top = size[1] - head
    for row, ratio in enumerate(ratios):
        top -= ratio * width
        for column in range(columns):
            left = side + column * (width + gap)
            box = (left / size[0], top / size[1], width / size[0], ratio * width / size[1])
            panels[row, column] = figure.add_axes(box)
        top -= gap
    return figure, panels


def _show(axes, picture, cmap="gray", low=0.0):
    """Draw a cut in mm, so that its shape is right whatever the voxels are, with the letters of the patient's sides."""
    width_mm, height_mm = picture.size_mm
    drawn = axes.imshow(
        picture.values, cmap=cmap, vmin=low, vmax=1, extent=(0, width_mm, 0, height_mm), interpolation="nearest"
    )
    axes.set(xticks=[], yticks=[])
    axes.grid(visible=False)
    for spine in axes.spines.values():
        spine.set_visible(False)
    places = {"left": (0.02, 0.5, "left", "center"), "right": (0.98, 0.5, "right", "center"),
              "top": (0.5, 0.98, "center", "top"), "bottom": (0.5, 0.02, "center", "bottom")}  # fmt: skip
    for side, letter in picture.letters.items():
        x, y, horizontal, vertical = places[side]
        axes.text(x, y, letter, ha=horizontal, va=vertical, weight="bold", size=9, **ON_IMAGE,
                  transform=axes.transAxes, gid=f"side-{side}")  # fmt: skip
    return drawn


def _scale(axes, picture):
    """Draw a bar of a round length in mm into the lower left corner."""
    length_mm = max((mm for mm in (1, 2, 5, 10, 20, 50, 100) if mm < 0.35 * picture.size_mm[0]), default=1)
    x, y = 0.05 * picture.size_mm[0], 0.05 * picture.size_mm[1]
    axes.plot([x, x + length_mm], [y, y], linewidth=2, **ON_IMAGE)
    axes.text(x, y + 0.015 * picture.size_mm[1], f"{length_mm} mm", size=7.5, va="bottom", **ON_IMAGE)
    axes.set(xlim=(0, picture.size_mm[0]), ylim=(0, picture.size_mm[1]))
