"""Pictures: slices of images as radiologists look at them, in millimetres, and the figures that are made of them."""

import warnings
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator
from scipy import ndimage

from cohortmorph.figures.style import WIDTH_INCHES, message, method_label, styled
from cohortmorph.spatial.geometry import Grid, affine, to_array

HEIGHT_INCHES = 13  # of pictures: with the width, the shape of a printed page
# Letters and scales stand on bright and on dark tissue.
ON_IMAGE = {"color": "#F0E442", "path_effects": [withStroke(linewidth=2, foreground="k")]}
PLANES = {"axial": 2, "coronal": 1, "sagittal": 0}  # the LPS axis across each plane
LETTERS = ("RL", "AP", "IS")  # where the LPS axes come from and go to
THIN = 0.4  # a slab thinner than this share of its largest extent is shown in three slices, not in three planes
PICTURES_PER_ROW = 4  # of the figure of harmonize


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
    horizontal, vertical = [axis for axis in range(3) if axis != PLANES[plane]]
    grid = Grid.of(image)
    left, right = _letters(grid.axes[:, horizontal])
    first, last = _letters(grid.axes[:, vertical])
    top, bottom = (last, first) if vertical == 2 else (first, last)
    return Cut(
        sliced(to_array(image), plane, index),
        tuple(grid.size[axis] * grid.spacing_mm[axis] for axis in (horizontal, vertical)),
        {"left": left, "right": right, "top": top, "bottom": bottom},
    )


def sliced(array, plane, index):
    """Take a slice of an array of an :func:`oriented` image as it is seen: shape (rows, columns), components last."""
    values = np.take(array, index, axis=PLANES[plane]).swapaxes(0, 1)
    # Axis j runs down the picture (anterior on top); axis k runs up it (superior on top).
    return values if plane == "axial" else values[::-1]


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


def where(image, plane, index):
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
            panels[row, 0].set_ylabel(where(fixed, *place), size=9)
            _scale(panels[row, 0], still)
        else:
            panels[row, 0].axis("off")
            text = ("fixed and moved\nin turn", "fixed − moved\n(intensities from 0 to 1)")[row == 4]
            text = f"{where(fixed, *place)}:\n{text}".replace("\n", " ", 1)
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
