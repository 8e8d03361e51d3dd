"""What all figures share: one house style, the colours of methods and of weights λ, and files.

A table without what a figure needs gives a figure that says so, since a rule's output must exist.
"""

from collections.abc import Iterable

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from cohortmorph.cohort.methods import Method, ordered_weights
from cohortmorph.evaluation.tables import Evaluation
from cohortmorph.run.files import StrPath, publishing

WIDTH_INCHES, DPI = 10.6, 150  # 1590 pixels: a full text width in print, and Snakemake's report cuts larger images
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
# Okabe and Ito's colours, which colour-blind readers can tell apart; then others that are as dark.
START_COLOURS = {"initial": "#7f7f7f", "harmonized": "#CC79A7", "affine": "#E69F00"}
CLASSICAL_COLOURS = ("#56B4E9", "#0072B2", "#009E73", "#000000", "#8C6D1F", "#6A3D9A", "#004D40", "#5B7F95")
LEARNED_COLOURS = ("#D55E00", "#B2182B", "#A0522D", "#E78AC3")
WEIGHT_MARKERS = "osD^vP*X"

styled = matplotlib.rc_context(STYLE)


def method_colours(methods: Iterable[Method]) -> dict[str, str]:
    """Return a colour for each name of a method: the starts have their own, the others take theirs in order.

    Parameters
    ----------
    methods : iterable of Method
        All of the run, in the configuration's order, whatever a figure shows of them: each then has one colour in all
        figures. A network counts once, however many λ and epochs of it there are.

    Returns
    -------
    dict of str to str
    """
    learned = {method.name: method.learned for method in methods}
    colours: dict[str, str] = {}
    for palette, is_learned in ((CLASSICAL_COLOURS, False), (LEARNED_COLOURS, True)):
        names = [name for name, of_name in learned.items() if of_name == is_learned and name not in START_COLOURS]
        colours |= {name: palette[place % len(palette)] for place, name in enumerate(names)}
    return {name: START_COLOURS.get(name) or colours[name] for name in learned}


def colours_of(evaluation: Evaluation) -> dict[str, str]:
    """Return the :func:`method_colours` of a run."""
    if not evaluation.methods:
        return {}
    rows = evaluation.metrics.drop_duplicates("method")
    return method_colours(Method(name, weight) for name, weight in zip(rows.method, rows.weight, strict=True))


def weight_styles(weights: Iterable[str]) -> dict[str, tuple[str, str]]:
    """Return (colour, marker) for each weight: dark to light as it grows, with markers for readers without colour."""
    ordered = ordered_weights(weights)
    shades = matplotlib.colormaps["viridis"](np.linspace(0, 0.82, max(len(ordered), 2)))
    return {
        weight: (matplotlib.colors.to_hex(shade), WEIGHT_MARKERS[n % len(WEIGHT_MARKERS)])
        for n, (weight, shade) in enumerate(zip(ordered, shades, strict=False))
    }


def save(figure: Figure, *paths: StrPath, phantom: bool = False) -> None:
    """Write a figure to each path (format by suffix); `phantom` says so on the figure itself."""
    if phantom:
        figure.text(0.998, 0.998, "PHANTOM", ha="right", va="top", color="#B2182B", weight="bold", size=12)
    with matplotlib.rc_context(STYLE):
        for path in paths:
            with publishing(path) as partial:
                # Without the date, the same figure gives the same file.
                figure.savefig(partial, metadata={"Date": None} if partial.suffix == ".svg" else {"Software": None})


@styled
def message(text: str) -> Figure:
    """Return a figure that only says why there is nothing to draw."""
    figure = Figure(figsize=(WIDTH_INCHES, 1.2))
    figure.text(0.5, 0.5, text, ha="center", va="center", color="0.35")
    return figure
