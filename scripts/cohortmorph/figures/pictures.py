"""Pictures: slices of images as radiologists look at them, in millimetres, and the figures that are made of them."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import SimpleITK as sitk
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator
from scipy import ndimage

from cohortmorph.cohort.methods import Method
from cohortmorph.figures.style import WIDTH_INCHES, message, styled
from cohortmorph.spatial.geometry import PLANES, Grid, affine, to_array

HEIGHT_INCHES = 13  # of pictures: with the width, the shape of a printed page
# Letters and scales stand on bright and on dark tissue.
ON_IMAGE: dict[str, Any] = {"color": "#F0E442", "path_effects": [withStroke(linewidth=2, foreground="k")]}
LETTERS = (("R", "L"), ("A", "P"), ("I", "S"))  # where the LPS axes come from and go to
THIN = 0.4  # a slab thinner than this share of its largest extent is shown in three slices, not in three planes
PICTURES_PER_ROW = 4  # of the figure of harmonize
IMAGE_COLOURS = ("#D55E00", "#0072B2", "#009E73", "#CC79A7")  # of a subject's images in it, in turn


@dataclass(frozen=True)
class Cut:
    """A slice of an image as it is shown.

    Attributes
    ----------
    values : array, shape (rows, columns), or (rows, columns, 3) in colours
        The first row is the top, the first column the left of the picture.
    size_mm : (float, float)
        Width and height.
    letters : dict
        The patient's side (R, L, A, P, I, S) at ``left``, ``right``, ``top`` and ``bottom`` of the picture.
    """

    values: np.ndarray
    size_mm: tuple[float, float]
    letters: dict[str, str]


class Place(NamedTuple):
    """Which slice of an :func:`oriented` image: its plane (axial, coronal, sagittal) and its number across it."""

    plane: str
    slice_index: int


def oriented(image: sitk.Image) -> sitk.Image:
    """Return the image with its axes swapped and flipped to run nearest to left, posterior, superior; no resampling."""
    return sitk.DICOMOrient(image, "LPS")


def cut(image: sitk.Image, plane: str, index: int) -> Cut:
    """Cut a slice out of an :func:`oriented` image, seen as radiologists do: the patient's left on the right.

    Parameters
    ----------
    image : SimpleITK image
    plane : {"axial", "coronal", "sagittal"}
    index : int
        Number of the slice along the axis across the plane.
    """
    horizontal, vertical = [axis for axis in range(3) if axis != PLANES[plane]]
    grid = Grid.of(image)
    left, right = _letters(grid.axes[:, horizontal])
    first, last = _letters(grid.axes[:, vertical])
    top, bottom = (last, first) if vertical == 2 else (first, last)
    width_mm, height_mm = (grid.size[axis] * grid.spacing_mm[axis] for axis in (horizontal, vertical))
    return Cut(
        sliced(to_array(image), plane, index),
        (width_mm, height_mm),
        {"left": left, "right": right, "top": top, "bottom": bottom},
    )


def sliced(array: np.ndarray, plane: str, index: int) -> np.ndarray:
    """Take a slice of an array of an :func:`oriented` image as it is seen: shape (rows, columns), components last."""
    values = np.take(array, index, axis=PLANES[plane]).swapaxes(0, 1)
    # Axis j runs down the picture (anterior on top); axis k runs up it (superior on top).
    return values if plane == "axial" else values[::-1]


def _letters(axis: np.ndarray) -> tuple[str, str]:
    """Return the patient's sides (letters) from which and to which a unit vector (LPS) points, by its largest part."""
    nearest = int(np.argmax(np.abs(axis)))
    first, last = LETTERS[nearest]
    return (first, last) if axis[nearest] > 0 else (last, first)


def views(image: sitk.Image) -> list[Place]:
    """Return the places of the three slices that show an :func:`oriented` image best.

    The middle of each plane; for a slab that is thin in one direction, three of its own slices.
    """
    grid = Grid.of(image)
    extent_mm = np.array(grid.size) * np.array(grid.spacing_mm)
    thin = int(np.argmin(extent_mm))
    if extent_mm[thin] < THIN * extent_mm.max():
        plane = plane_across(thin)
        return [Place(plane, int(grid.size[thin] * part)) for part in (0.25, 0.5, 0.75)]
    return [Place(plane, grid.size[axis] // 2) for plane, axis in PLANES.items()]


def plane_across(axis: int) -> str:
    """Return the plane that an axis (LPS) runs across."""
    return next(plane for plane, across in PLANES.items() if across == axis)


def where(image: sitk.Image, plane: str, index: int) -> str:
    """Say which slice of an :func:`oriented` image is shown, counted from 1 at a side of the patient."""
    grid, across = Grid.of(image), PLANES[plane]
    return f"{plane}\n{index + 1}/{grid.size[across]} from {_letters(grid.axes[:, across])[0]}"


def in_odd_squares(shape: tuple[int, int], pixel_mm: tuple[float, float], side_mm: float) -> np.ndarray:
    """Say of each pixel, by its middle, whether it lies in an odd square of a checkerboard; each holds one at least.

    Parameters
    ----------
    shape : (int, int)
    pixel_mm : (float, float)
        Sides of a pixel along both axes.
    side_mm : float
        Side of a square.
    """
    down, across = (
        ((np.arange(n) + 0.5) * step_mm // max(side_mm, step_mm)).astype(int)
        for n, step_mm in zip(shape, pixel_mm, strict=True)
    )
    return (down[:, None] + across) % 2 == 1


def checkerboard(fixed: Cut, moved: Cut, fields: int = 8) -> Cut:
    """Return a cut that shows `fixed` and `moved` in turn, in squares, `fields` of them along the shorter side."""
    rows, columns = fixed.values.shape
    pixel_mm = fixed.size_mm[1] / rows, fixed.size_mm[0] / columns
    odd = in_odd_squares((rows, columns), pixel_mm, min(fixed.size_mm) / fields)
    return Cut(np.where(odd, moved.values, fixed.values), fixed.size_mm, fixed.letters)


@styled
def pair(fixed: sitk.Image, moved: Mapping[Method, sitk.Image], title: str = "") -> Figure:
    """Show how each method's moved image fits the fixed one.

    Rows are three slices, then checkerboard and difference of one of them. Columns are the fixed image and the methods.

    Parameters
    ----------
    fixed : SimpleITK image
        Prepared to [0, 1].
    moved : dict of Method to SimpleITK image
        On the grid of `fixed`, prepared to [0, 1] with the same limits for all methods.

    Raises
    ------
    ValueError
        If a moved image is not on the grid of `fixed`.
    """
    for method, image in moved.items():
        difference = Grid.of(fixed).difference_from(Grid.of(image))
        if difference:
            raise ValueError(f"{method.id}: the moved image is not on the fixed image's grid: {difference}")
    fixed = oriented(fixed)
    shown = views(fixed)
    closer = shown[1] if len({plane for plane, _ in shown}) == 1 else shown[0]
    places = [*shown, closer, closer]
    cuts = [cut(fixed, *place) for place in places]
    figure, panels = _pictures(cuts, 1 + len(moved), title)
    for axes, place, still in zip(panels[:3, 0], shown, cuts, strict=False):
        _show(axes, still)
        axes.set_ylabel(where(fixed, *place), size=9)
        _scale(axes, still)
    panels[0, 0].set_title("fixed", loc="center", size=9)
    texts = "fixed and moved\nin turn", "fixed − moved\n(intensities from 0 to 1)"
    for axes, text in zip(panels[3:, 0], texts, strict=True):
        axes.axis("off")
        text = f"{where(fixed, *closer)}:\n{text}".replace("\n", " ", 1)
        axes.text(0.5, 0.6, text, ha="center", va="center", size=9, transform=axes.transAxes)
    for column, (method, image) in zip(panels[:, 1:].T, moved.items(), strict=True):
        seen = oriented(image)
        shades = _column(column, cuts, [cut(seen, *place) for place in places])
        column[0].set_title(method.label.replace(", λ", ",\nλ"), loc="center", size=9)
    if moved:
        bar = panels[4, 0].inset_axes([0.15, 0.3, 0.7, 0.06])
        figure.colorbar(shades, cax=bar, orientation="horizontal", ticks=[-1, 0, 1]).ax.tick_params(labelsize=8)
    return figure


def _column(column: Sequence[Axes], fixed: Sequence[Cut], moved: Sequence[Cut]) -> AxesImage:
    """Show one method: three cuts, checkerboard and difference of the last two; return the difference as drawn."""
    for axes, cut_ in zip(column, [*moved[:3], checkerboard(fixed[3], moved[3])], strict=False):
        _show(axes, cut_)
    difference = Cut(fixed[4].values - moved[4].values, fixed[4].size_mm, {})
    return _show(column[4], difference, cmap="PuOr", low=-1)


@styled
def fused(images: Mapping[str, Mapping[str, sitk.Image]], plane: str, index: int, title: str = "") -> Figure:
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


@dataclass(frozen=True)
class Search:
    """How one subject's stacks were made comparable.

    Attributes
    ----------
    transforms : dict of name to SimpleITK transform
        Fixed world → image's world.
    angles, starts : DataFrame
        angles.tsv and starts.tsv; empty if harmonize is off.
    found : dict
        harmonize.json.
    """

    transforms: Mapping[str, sitk.Transform]
    angles: pd.DataFrame
    starts: pd.DataFrame
    found: Mapping[str, Any]


@styled
def harmonize(images: Mapping[str, sitk.Image], search: Search, title: str = "") -> Figure:
    """Show how one subject's stacks were made comparable: NCC against angle and start slice, then before and after.

    The pictures lay contours of each image on the fixed one; before: the middles of both on each other, not rotated.

    Parameters
    ----------
    images : dict of name to SimpleITK image
        Native, prepared to [0, 1].
    search : Search
    """
    found = search.found
    fixed, plane = found["fixed"], found.get("plane", "axial")
    others = {name: image for name, image in images.items() if name != fixed}
    if not others:
        return message(f"There is no other image to make comparable with {fixed}.")
    colours = {name: IMAGE_COLOURS[n % len(IMAGE_COLOURS)] for n, name in enumerate(others)}
    still = oriented(images[fixed])
    sheet = _sheet(still, PLANES[plane], _shared_index(still, others, search.transforms, PLANES[plane]))
    overlays = [overlay for name in others for overlay in _before_and_after(name, images, search)]
    rows = -(-len(overlays) // PICTURES_PER_ROW)
    width_mm, height_mm = cut(sheet, plane, 0).size_mm
    heights = [3.6, rows * (WIDTH_INCHES / PICTURES_PER_ROW * height_mm / width_mm + 0.5)]
    figure = Figure(figsize=(WIDTH_INCHES, sum(heights)), layout="constrained")
    figure.suptitle(title)
    upper, lower = figure.subfigures(2, 1, height_ratios=heights)
    angle_axes, start_axes = upper.subplots(1, 2)
    _curves(angle_axes, search.angles, "angle_degrees", found, colours, "rotation angle (degrees)")
    _curves(start_axes, search.starts, "start_slice", found, colours, f"start slice (held: {found.get('held')})")
    panels = lower.subplots(rows, PICTURES_PER_ROW, squeeze=False).ravel()
    for axes in panels[len(overlays) :]:
        axes.remove()
    for axes, (name, when, transform) in zip(panels, overlays, strict=False):
        _show(axes, cut(sheet, plane, 0))
        title = f"{name} on {fixed}, {when}"
        outlined = _outline(axes, sheet, plane, images[name], transform, colours[name])
        axes.set_title(title if outlined else f"{title}: no overlap in this slice", size=9, loc="center")
    return figure


def _before_and_after(
    name: str, images: Mapping[str, sitk.Image], search: Search
) -> list[tuple[str, str, sitk.Transform]]:
    """Return (name, when, fixed → image) of the pictures of one image."""
    if search.angles.empty:
        return [(name, "as scanned", search.transforms[name])]
    fixed = images[search.found["fixed"]]
    middles = affine(np.eye(3), Grid.of(images[name]).centre_mm - Grid.of(fixed).centre_mm)
    return [(name, "before", middles), (name, "after", search.transforms[name])]


def _curves(
    axes: Axes,
    table: pd.DataFrame,
    column: str,
    found: Mapping[str, Any],
    colours: Mapping[str, str],
    label: str,
) -> None:
    """Draw squared NCC against a column of the search's table for every image, with what was chosen."""
    axes.set(xlabel=label, ylabel="squared NCC")
    if table.empty:
        axes.axis("off")
        why = "failed" if "failed" in found else "not searched"
        axes.text(0.5, 0.5, why, ha="center", va="center", transform=axes.transAxes, color="0.35")
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


def _shared_index(
    still: sitk.Image, others: Mapping[str, sitk.Image], transforms: Mapping[str, sitk.Transform], across: int
) -> int:
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


def _sheet(image: sitk.Image, across: int, index: int) -> sitk.Image:
    """Return one slice of an image as a 3-D image."""
    size, start = list(image.GetSize()), [0, 0, 0]
    size[across], start[across] = 1, index
    return sitk.RegionOfInterest(image, size, start)


def _outline(
    axes: Axes, sheet: sitk.Image, plane: str, image: sitk.Image, transform: sitk.Transform, colour: str
) -> bool:
    """Draw contours of an image, resampled once through `transform`, on a slice of the fixed image, if it is there."""
    moved = cut(sitk.Resample(image, sheet, transform, sitk.sitkLinear, np.nan, sitk.sitkFloat32), plane, 0)
    inside = np.isfinite(moved.values)
    if not inside.any():
        return False
    smooth = ndimage.gaussian_filter(np.where(inside, moved.values, 0), 1)
    # Two levels part dark, middle and bright: the outline of the head, and what stands out within it.
    otsu = sitk.OtsuMultipleThresholdsImageFilter()
    otsu.SetNumberOfThresholds(2)
    otsu.Execute(sitk.GetImageFromArray(smooth.astype(np.float32)))
    rows, columns = smooth.shape
    width_mm, height_mm = moved.size_mm
    x = (np.arange(columns) + 0.5) * width_mm / columns
    y = height_mm - (np.arange(rows) + 0.5) * height_mm / rows
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "No contour levels were found")
        axes.contour(x, y, smooth, levels=sorted(set(otsu.GetThresholds())), colors=[colour], linewidths=0.9)
    return True


def _pictures(cuts: Sequence[Cut], columns: int, title: str) -> tuple[Figure, np.ndarray]:
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


def _show(axes: Axes, picture: Cut, cmap: str = "gray", low: float = 0.0) -> AxesImage:
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


def _scale(axes: Axes, picture: Cut) -> None:
    """Draw a bar of a round length in mm into the lower left corner."""
    length_mm = max((mm for mm in (1, 2, 5, 10, 20, 50, 100) if mm < 0.35 * picture.size_mm[0]), default=1)
    x, y = 0.05 * picture.size_mm[0], 0.05 * picture.size_mm[1]
    axes.plot([x, x + length_mm], [y, y], linewidth=2, **ON_IMAGE)
    axes.text(x, y + 0.015 * picture.size_mm[1], f"{length_mm} mm", size=7.5, va="bottom", **ON_IMAGE)
    axes.set(xlim=(0, picture.size_mm[0]), ylim=(0, picture.size_mm[1]))
