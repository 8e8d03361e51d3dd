"""What all figures share: one house style, the measures and methods as they are named and ordered, and files.

charts.py draws tables, pictures.py draws images. A table without what a figure needs gives a figure that says so,
since a rule's output must exist.
"""

from dataclasses import dataclass

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from cohortmorph.run.files import publishing

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
