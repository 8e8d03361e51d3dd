"""What charts do to axes: panels in rows, logarithmic scales with plain numbers, on how many pairs a panel rests."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from cohortmorph.evaluation.measures import DICE, SIMILARITIES, TRE, Measure
from cohortmorph.figures.style import WIDTH_INCHES

LOGARITHMIC_ABOVE = 8  # values that differ by a larger factor share a logarithmic axis


def panels_of(count: int) -> tuple[Figure, list[Axes]]:
    """Return a figure and `count` panels of it, two in a row."""
    figure = Figure(figsize=(WIDTH_INCHES, 0.7 + 3.1 * -(-count // 2)), layout="constrained")
    panels = list(figure.subplots(-(-count // 2), 2 if count > 1 else 1, squeeze=False).ravel())
    for axes in panels[count:]:
        axes.remove()
    return figure, panels[:count]


def accuracy_in(summary: pd.DataFrame) -> list[Measure]:
    """Return the measures of accuracy that rows of the summary hold; similarities stand in where there is neither."""
    shown = [measure for measure in (TRE, DICE) if measure.rows(summary)["mean"].notna().any()]
    return shown or [measure for measure in SIMILARITIES if measure.rows(summary)["mean"].notna().any()]


def pairs_in(summary: pd.DataFrame, split: str) -> str:
    """Say on how many pairs of a split rows of the summary rest."""
    counts = sorted(summary.n.dropna().astype(int).unique())
    number = "–".join(str(count) for count in dict.fromkeys([counts[0], counts[-1]])) if counts else "0"
    return f"n = {number} {split} pair{'' if number == '1' else 's'}"


def plain(value: float, _place: int | None = None) -> str:
    """Write a number without exponent or needless zeros."""
    return f"{value:g}"


def logarithmic_label(measure: Measure) -> str:
    """Return the label of a measure's logarithmic axis."""
    return f"{measure.name} ({measure.reader_unit}, logarithmic)"


def logarithmic_if_wide(axes: Axes, means: pd.Series, measure: Measure, side: str = "x") -> None:
    """Label an axis with the measure; make it logarithmic where one method would hide the others' differences."""
    means = means[means > 0]
    axes.set(**{f"{side}label": measure.label})
    if measure.unit != "mm" or means.empty or means.max() < LOGARITHMIC_ABOVE * means.min():
        return
    make_logarithmic(axes, side)
    axes.set(**{f"{side}label": logarithmic_label(measure)})


def make_logarithmic(axes: Axes, side: str = "x") -> None:
    """Make an axis logarithmic, with ticks at 1, 2, 5, 10, …"""
    axes.set(**{f"{side}scale": "log"})
    axis = axes.xaxis if side == "x" else axes.yaxis
    low, high = axis.get_view_interval()
    ticks = [digit * 10.0**power for power in range(-4, 6) for digit in (1, 2, 5)]
    axis.set_ticks([tick for tick in ticks if low <= tick <= high])
    axis.set_ticks([], minor=True)
    axis.set_major_formatter(FuncFormatter(plain))
