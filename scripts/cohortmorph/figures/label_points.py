"""Naming points in a chart beside them: where no other name, point, interval or line lies."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backend_bases import RendererBase
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.text import Annotation, Text
from matplotlib.transforms import Bbox

# Pixels.
POINT, LINE, MARGIN = 24, 5, (6, 4)  # sides of what a point and a piece of a line cover; room around a name
CROWDED = 160  # points nearer than this make each other crowded
AWAY = 30  # a name farther from its point is joined to it by a line


@dataclass(frozen=True)
class Point:
    """A point with its intervals, in the data's units, and the text that names it.

    Attributes
    ----------
    x, y : float
    x_interval, y_interval : (float, float)
        Low and high end; NaN where there is none.
    text, colour : str
    """

    x: float
    y: float
    x_interval: tuple[float, float]
    y_interval: tuple[float, float]
    text: str
    colour: str


@dataclass(frozen=True)
class Panel:
    """Axes with points to be named, by a key that orders them, and a line (x, y), shape (n, 2), to be left free."""

    axes: Axes
    points: Mapping[str, Point]
    line: np.ndarray


def label_points(figure: Figure, panels: Sequence[Panel]) -> None:
    """Name each point of each panel; the axes do not move any more."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # constrained layout has placed the axes only now
    figure.set_layout_engine("none")  # the names must not move the axes that they were placed in
    for panel in panels:
        _label_panel(panel, canvas.get_renderer())


def _label_panel(panel: Panel, renderer: RendererBase) -> None:
    """Name the points of one panel, the crowded ones first, while there is room."""
    axes = panel.axes
    inside = axes.get_window_extent(renderer)
    middles = [(point.x, point.y) for point in panel.points.values()]
    place = dict(zip(panel.points, axes.transData.transform(middles), strict=True))
    taken = [_box(pixels, POINT, POINT) for pixels in place.values()]
    for point in panel.points.values():
        taken += _line_boxes(axes, [(point.x, y) for y in point.y_interval])
        taken += _line_boxes(axes, [(x, point.y) for x in point.x_interval])
    taken += _line_boxes(axes, panel.line)
    crowd = {one: sum(int(np.linalg.norm(place[one] - place[other]) < CROWDED) for other in place) for one in place}
    for key in sorted(place, key=lambda name: (-crowd[name], name)):
        label = _annotate(axes, panel.points[key])
        size = Text.get_window_extent(label, renderer)
        width, height = size.width + MARGIN[0], size.height + MARGIN[1]
        centre = _free_place(place[key], width, height, taken, inside)
        taken.append(_box(centre, width, height))
        # In shares of the axes: it then lies there at every resolution, and in the SVG.
        label.set_position(tuple(axes.transAxes.inverted().transform(centre)))
        half = np.array([size.width, size.height]) / 2
        away = {one: float(np.linalg.norm(np.maximum(np.abs(centre - place[one]) - half, 0))) for one in place}
        # Where a name lies away from its point, or nearer to another one, a line says whose it is.
        doubtful = away[key] > AWAY or any(away[one] < 1.2 * away[key] for one in place if one != key)
        if label.arrow_patch is not None:
            label.arrow_patch.set_visible(doubtful)
        if doubtful:
            taken += [_box(centre + part * (place[key] - centre), LINE, LINE) for part in np.linspace(0, 1, 40)]


def _annotate(axes: Axes, point: Point) -> Annotation:
    """Write a point's name into the middle of the axes, with a line to the point."""
    return axes.annotate(
        point.text, (point.x, point.y), (0.5, 0.5),
        textcoords="axes fraction", ha="center", va="center", size=10.5, color=_dark(point.colour), zorder=6,
        path_effects=[withStroke(linewidth=3, foreground="w")],
        arrowprops={"arrowstyle": "-", "color": "0.5", "linewidth": 0.7, "shrinkA": 0, "shrinkB": 5},
    )  # fmt: skip


def _line_boxes(axes: Axes, points: Sequence[tuple[float, float]] | np.ndarray) -> list[Bbox]:
    """Return small boxes (pixels) along a line through points in the data's units; none for one that is not finite."""
    points = np.asarray(points, dtype=float)
    if len(points) < 2 or not np.isfinite(points).all():
        return []
    pixels = axes.transData.transform(points)
    boxes = []
    for start, end in itertools.pairwise(pixels):
        steps = np.linspace(0, 1, 2 + int(np.linalg.norm(end - start) / 4))
        boxes += [_box(start + step * (end - start), LINE, LINE) for step in steps]
    return boxes


def _box(centre: np.ndarray, width: float, height: float) -> Bbox:
    return Bbox.from_bounds(centre[0] - width / 2, centre[1] - height / 2, width, height)


def _free_place(point: np.ndarray, width: float, height: float, taken: list[Bbox], inside: Bbox) -> np.ndarray:
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


def _overlap(one: Bbox, other: Bbox) -> float:
    """Return the area that two boxes share; lines have an area too."""
    width = min(one.x1, other.x1) - max(one.x0, other.x0)
    height = min(one.y1, other.y1) - max(one.y0, other.y0)
    return max(width, 0) * max(height, 0)


def _dark(colour: str) -> np.ndarray:
    """Return a colour dark enough for text on white, of the same hue."""
    red_green_blue = np.array(matplotlib.colors.to_rgb(colour))
    luminance = red_green_blue @ [0.2126, 0.7152, 0.0722]
    return red_green_blue * min(1, 0.42 / max(float(luminance), 1e-6))
