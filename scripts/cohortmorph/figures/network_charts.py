"""Charts of one network each: how it trained, and how λ and epoch were chosen on validation pairs.

Means and intervals come from the summary table, so that a figure and the report never disagree.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from cohortmorph.evaluation.measures import DICE, FOLDING, MEASURES, SIMILARITIES, TRE, Measure
from cohortmorph.evaluation.tables import Evaluation
from cohortmorph.figures.axes import make_logarithmic, pairs_in, panels_of
from cohortmorph.figures.style import WIDTH_INCHES, message, styled, weight_styles

PANELS_IN_A_ROW = 4  # of a training
# Parts of the loss, as history.tsv calls them, of networks that learn how alike images are; others have no such titles.
PARTS = {"similarity": "Similarity term", "penalty": "Penalty (before × λ)", "label_loss": "Label loss (before × γ)"}
# And of those that learn a known displacement.
ERROR = "displacement_error"
PARTS_OF_ERROR = {ERROR: "Mean squared error of the displacement", "penalty": PARTS["penalty"]}


@styled
def training(network: str, histories: Mapping[str, pd.DataFrame], conditional: pd.DataFrame | None = None) -> Figure:
    """Draw a network's loss and its parts against epoch, a line a λ; validation dashed with markers.

    Every part that is not 0 throughout has a panel, those of other kinds under the names of their columns. Validation
    has no part from labels, and its loss is without it.

    Parameters
    ----------
    network : str
        Its name.
    histories : dict of weight (str) to DataFrame
        Each with the columns of history.tsv.
    conditional : DataFrame, optional
        history.tsv of the one network that all λ share. What it trained on is one grey line, as each sample drew its
        own λ, and `histories` hold the epochs at which validation was watched at their λ.
    """
    if not histories:
        return message(f"{network} was not trained.")
    titles = _parts(list(histories.values()) if conditional is None else [conditional])
    figure, panels = _panels_of_parts(len(titles))
    figure.suptitle(network, x=0.006, ha="left")
    styles = weight_styles(histories)
    squared_mm = ("loss", ERROR) if ERROR in titles else ()
    validated = False
    for axes, (column, title) in zip(panels, titles.items(), strict=True):
        for weight, (colour, marker) in styles.items():
            history = histories[weight].sort_values("epoch")
            if conditional is None:
                lonely = "." if len(history) == 1 else None
                axes.plot(history.epoch, history[column], color=colour, linewidth=1.1, marker=lonely)
            if f"validation_{column}" in history:
                validated |= _validation(axes, history[["epoch", f"validation_{column}"]].dropna(), colour, marker)
        if conditional is not None:
            axes.plot(conditional.epoch, conditional[column], color="0.7", linewidth=1.1, zorder=1)
        axes.set(title=title, xlabel="epoch", ylabel="mm²" if column in squared_mm else "dimensionless")
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    handles = [Line2D([], [], color=colour, label=f"λ = {weight}") for weight, (colour, _) in styles.items()]
    one = conditional is None
    handles.append(Line2D([], [], color="0.3" if one else "0.7", label="training" if one else "training, any λ"))
    if validated:
        handles.append(Line2D([], [], color="0.3", linestyle="--", marker="o", mfc="w", label="validation"))
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))
    return figure


def _parts(trained: list[pd.DataFrame]) -> dict[str, str]:
    """Return the columns of history.tsv that have a panel, with its title: the loss, and its parts as they stand."""
    columns = [name for name in trained[0] if not name.startswith("validation_")]
    parts = [name for name in columns if name not in ("epoch", "loss", "seconds")]
    shown = [name for name in parts if any(history[name].any() for history in trained)]
    if PARTS_OF_ERROR.keys() <= set(columns):
        return {"loss": "Loss = error + λ · penalty"} | {name: PARTS_OF_ERROR.get(name, name) for name in shown}
    if not PARTS.keys() <= set(columns):
        return {name: name for name in ("loss", *shown)}
    labels = "\n+ γ · label loss (validation: without)" if "label_loss" in shown else ""
    loss = f"Loss = similarity term + λ · penalty{labels}"
    return {"loss": loss} | {name: PARTS.get(name, name) for name in shown}


def _panels_of_parts(count: int) -> tuple[Figure, list[Axes]]:
    """Return a figure and a panel for each part of a loss."""
    columns = min(count, PANELS_IN_A_ROW)
    rows = -(-count // columns)
    figure = Figure(figsize=(WIDTH_INCHES, 4.2 * rows), layout="constrained")
    panels = list(figure.subplots(rows, columns, squeeze=False).ravel())
    for axes in panels[count:]:
        axes.remove()
    return figure, panels[:count]


def _validation(axes: Axes, validation: pd.DataFrame, colour: str, marker: str) -> bool:
    """Draw what was watched on validation data, columns epoch and value; say whether there is any."""
    every = max(len(validation) // 8, 1)
    axes.plot(*validation.to_numpy().T, "--", color=colour, marker=marker, markevery=every, markersize=5, mfc="w")
    return not validation.empty


@styled
def selection(evaluation: Evaluation, network: str) -> Figure:
    """Draw squared NCC, NMI, TRE, Dice, folding on validation pairs against epoch, a line a λ, the selected one marked.

    Means over pairs with their 95 % intervals, of the network of this name alone.
    """
    learned, selected = _of_network(network, evaluation.summary), evaluation.selected.get(network)
    shown = _measured(learned)
    if not shown:
        return message(f"{network} was not measured on validation pairs.")
    styles = weight_styles(learned.weight)
    epochs = np.sort(learned.epoch.dropna().unique().astype(int))
    # Side by side, so that the intervals of different λ stay apart.
    beside = np.linspace(-1, 1, len(styles)) * (0.012 * (np.ptp(epochs) or 1) if len(styles) > 1 else 0)
    figure, panels = panels_of(len(shown))
    figure.suptitle(network, x=0.006, ha="left")
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
        axes.set(title=f"{measure.title}, {pairs_in(rows, 'validation')}", xlabel="epoch", ylabel=measure.label)
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
def weights(evaluation: Evaluation, network: str) -> Figure:
    """Draw one network's squared NCC, NMI, TRE, Dice and folding on validation pairs against λ at the last epoch.

    Grey lines are pairs, markers the mean with its 95 % interval.
    """
    learned, values = _of_network(network, evaluation.summary), _of_network(network, evaluation.metrics)
    shown = _measured(learned)
    if not shown:
        return message(f"{network} was not measured on validation pairs.")
    last = learned.epoch.max()
    styles = weight_styles(learned.weight)
    names = list(styles)
    figure, panels = panels_of(len(shown))
    figure.suptitle(network, x=0.006, ha="left")
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
        axes.set(title=f"{measure.title}, {pairs_in(rows, 'validation')}", xlabel="λ", ylabel=measure.label)
        axes.margins(x=0.08, y=0.12)
    handles = [
        Line2D([], [], color="0.3", marker="o", label=f"mean and 95 % interval, epoch {last}"),
        Line2D([], [], color="0.75", marker=".", label="a pair"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=2)
    return figure


def _of_network(network: str, table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of a table that one network gave on validation pairs."""
    return table[(table.method == network) & (table.split == "validation")]


def _measured(summary: pd.DataFrame) -> list[Measure]:
    """Return what λ and epoch are judged by, as far as rows of the summary hold it."""
    return [measure for measure in (*SIMILARITIES, TRE, DICE, FOLDING) if measure.rows(summary)["mean"].notna().any()]


@styled
def weight_search(metrics: pd.DataFrame, found: Mapping[str, Any]) -> Figure:
    """Draw what a search over λ measured on validation pairs, and the folding, against λ on a logarithmic axis.

    Grey lines are pairs, the dark one their mean; a ring is the choice, a band the λ that they do not tell from it.

    Parameters
    ----------
    metrics : DataFrame
        Tidy table with a weight for each λ that was tried.
    found : dict
        selected_weight.json.
    """
    measures = [MEASURES[found["metric"]], FOLDING]
    figure, panels = panels_of(2)
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
        make_logarithmic(axes)
    handles = [
        Line2D([], [], color="0.2", marker=".", label=f"mean of {found['validation_pairs']} validation pairs"),
        Line2D([], [], color="0.75", label="a pair"),
        Line2D([], [], ls="none", marker="o", ms=11, mfc="none", mec="k", label=f"selected: λ = {found['weight']}"),
        Line2D([], [], color="#D55E00", ls=":", label="folding allowed"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=2)
    return figure
