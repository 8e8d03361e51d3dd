"""The page of a pair, on which somebody judges its registrations by eye: its pictures, flags and measures.

The pictures (cohortmorph.figures.pair_pictures) are files beside the page, which needs nothing else: no network, and no
script.
"""

from collections.abc import Mapping
from typing import Any

import matplotlib
import numpy as np

from cohortmorph.cohort.pairs import images_of
from cohortmorph.evaluation.measures import shown_in
from cohortmorph.evaluation.quality import FLAGS
from cohortmorph.evaluation.tables import Evaluation
from cohortmorph.figures.tiles import BEYOND_AFFINE, GRID_MM
from cohortmorph.report.templates import template
from cohortmorph.report.wording import digits

# Title and caption of each kind of picture, in the order of the page.
CAPTIONS = {
    "moved": (
        "Moved image",
        "What the method makes of the moving image, on the fixed image's grid. Dark blue: the moving image does not "
        "reach here.",
    ),
    "edges": ("Edges of the moved on the fixed image", "They should run along the edges of the fixed image."),
    "checkerboard": ("Checkerboard", "Fixed and moved image in turn: edges should go on from square to square."),
    "difference": (
        "Difference",
        "Fixed − moved, intensities from 0 to 1: purple where the fixed image is brighter, orange where the moved one "
        "is. Where the modalities differ, contrast shows as well as misalignment.",
    ),
    "landmarks": (
        "Landmarks",
        "All landmarks of the fixed image, projected onto the slices, each with the error that is left as a line.",
    ),
    "grid": (
        "Displacement as a grid",
        f"A grid of {GRID_MM} mm through what the method adds to the affine: straight where it adds nothing.",
    ),
    "magnitude": ("Displacement in mm", "Length of what the method adds to the affine."),
    "jacobian": (
        "Jacobian determinant",
        "Local change of volume, affine included: orange shrinks, purple grows on the way from the fixed to the moving "
        "image. Cyan: folded, in any slice, projected onto these.",
    ),
}
SCALES = {
    "difference": ("PuOr", "−1: moved brighter", "+1: fixed brighter"),
    "magnitude": ("viridis", "0", "{magnitude_mm:g} mm and more"),
    "jacobian": ("PuOr", "½ and less", "2 and more"),
}


def page(
    pair: str,
    described: Mapping[str, Any],
    evaluation: Evaluation,
    previous: str = "",
    following: str = "",
    phantom: bool = False,
) -> str:
    """Return the page of one pair as HTML; its pictures are expected in `pictures/{pair}` beside it.

    Parameters
    ----------
    pair : str
        Its id.
    described : dict
        What :func:`cohortmorph.figures.pair_pictures.draw` returned.
    evaluation : Evaluation
        With metrics and flags.
    previous, following : str
        The pairs before and after this one, the worst first; "" for none.
    phantom : bool
        Whether the images are the embedded phantom's: then the page says so.
    """
    flags = evaluation.flags[evaluation.flags.pair == pair]
    splits = evaluation.metrics.split[evaluation.metrics.pair == pair]
    methods = [
        {
            "number": number,
            "id": method,
            "name": evaluation.label(method),
            "kinds": kinds,
            "flags": int((flags.method == method).sum()),
        }
        for number, (method, kinds) in enumerate(described["methods"].items())
    ]
    drawn = [one["id"] for one in methods if one["kinds"]]
    flagged = [method for method in flags.method if method in drawn]
    last = next(iter([*flagged, *drawn[::-1]]), "")
    moving, fixed = images_of(pair)
    return template("review.html.jinja").render(
        pair=pair,
        folder=f"pictures/{pair}",
        title=f"{moving} (moving) to {fixed} (fixed)",
        split=next(iter(splits), ""),
        methods=methods,
        after=last,
        before="affine" if "affine" in drawn and last != "affine" else next(iter(drawn), ""),
        flags=[
            {"method": evaluation.label(row.method), "name": FLAGS[row.flag], "sentence": row.sentence}
            for row in flags.itertuples()
        ],
        kinds=[_kind(kind, described) for kind in CAPTIONS if any(kind in one["kinds"] for one in methods)],
        chart={"caption": chart_caption(described)} if described["landmarks"] and drawn else None,
        table=measured_table(pair, evaluation),
        previous=previous,
        next=following,
        phantom=phantom,
        **{key: described[key] for key in ("size", "slices", "moving_size", "moving_slices")},
    )


def chart_caption(described: Mapping[str, Any]) -> str:
    """Say what the chart of landmark errors shows."""
    return (
        f"Every point is one of the {described['landmarks']} landmarks, a grey line joins the same landmark from "
        "method to method; the diamond is the mean, the TRE. Landmarks outside of the fixed image are left out."
    )


def _kind(kind: str, described: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the page says of a kind of pictures."""
    title, caption = CAPTIONS[kind]
    scale = None
    if kind in SCALES:
        colours, low, high = SCALES[kind]
        scale = {"low": low, "high": high.format(**described), "gradient": gradient(colours)}
    return {"id": kind, "title": title, "caption": caption, "flickers": kind not in BEYOND_AFFINE, "scale": scale}


def gradient(colours: str, stops: int = 12) -> str:
    """Return a colormap as a CSS gradient."""
    shades = matplotlib.colormaps[colours](np.linspace(0, 1, stops))
    return f"linear-gradient(to right, {', '.join(map(matplotlib.colors.to_hex, shades))})"


def measured_table(pair: str, evaluation: Evaluation) -> tuple[list[str], list[list[str]]]:
    """Return what was measured on one pair, a column a method, as (columns, rows of text); empty rows are left out."""
    metrics = evaluation.compared(evaluation.metrics[evaluation.metrics.pair == pair])
    values = metrics.set_index(["method", "metric", "structure"]).value
    methods = evaluation.in_order(metrics.method)
    rows = []
    for measure in shown_in("page"):
        cells = [values.get((method, *measure.key), np.nan) for method in methods]
        if np.isfinite(cells).any():
            rows.append([measure.label, *(digits(measure, cell) for cell in cells)])
    return ["", *map(evaluation.label, methods)], rows
