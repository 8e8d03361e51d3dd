"""What somebody needs to see to judge the registrations of one pair: small pictures of each method, and their page.

Every picture of a pair is a strip of the same slices of the fixed image, in three planes, at the same scale, so that
any two of them can be laid on each other and flicker. The pictures are files beside the page, which needs nothing else:
no network, and no script.
"""

from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
import SimpleITK as sitk
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import imsave
from matplotlib.patches import Rectangle
from scipy import ndimage

from cohortmorph.cohort.methods import STARTS
from cohortmorph.evaluation.metrics import landmark_errors_mm
from cohortmorph.evaluation.quality import FLAGS
from cohortmorph.figures import charts
from cohortmorph.figures import style as figures
from cohortmorph.figures.pictures import PLANES, Cut, checkerboard, cut, oriented, sliced, views, where
from cohortmorph.report.page import template
from cohortmorph.run.files import publishing
from cohortmorph.spatial import displacement
from cohortmorph.spatial.geometry import Grid, matrix_and_offset, to_array

WIDTH_PIXELS, HEIGHT_PIXELS, GAP_PIXELS = 960, 380, 6
GRID_MM = 10  # distance of the lines of the displacement's grid
CHECKERBOARD_MM = 25  # side of its squares, about
UNCOVERED = (38, 52, 92)  # dark blue: the moving image does not reach here
FOLDED = (0, 229, 255)  # cyan: neither purple nor orange, and brighter than both
EDGES = (255, 176, 0)
SUFFIX = ".webp"
KINDS = {
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
BEYOND_AFFINE = ("grid", "magnitude")  # kinds that only methods after the affine have


@dataclass(frozen=True)
class Layout:
    """Where the slices lie in a strip.

    Attributes
    ----------
    places : list of (plane, index)
        See :func:`cohortmorph.figures.pictures.views`.
    boxes : list of (left, top, width, height)
        In pixels.
    size : (width, height)
        Of the strip, in pixels.
    """

    places: list
    boxes: list
    size: tuple

    @classmethod
    def of(cls, image):
        """Lay out slices of all three planes of an :func:`~cohortmorph.figures.pictures.oriented` image side by side.

        A slab that is thin in one direction shows two of its own slices, then what is left of the other planes, one
        above the other where they fit.
        """
        best, grid = views(image), Grid.of(image)
        thin = best[0][0] if len({plane for plane, _ in best}) == 1 else None
        if thin:
            own = [(thin, int(grid.size[PLANES[thin]] * part)) for part in (1 / 3, 2 / 3)]
            best = own + [(plane, grid.size[axis] // 2) for plane, axis in PLANES.items() if plane != thin]
        sizes_mm = [np.array(cut(image, *place).size_mm) for place in best]
        columns = [[number] for number in range(len(best))]
        if thin and sum(size[1] for size in sizes_mm[2:]) < sizes_mm[0][1]:
            columns = [[0], [1], [2, 3]]
        widths_mm = [max(sizes_mm[number][0] for number in column) for column in columns]
        room = WIDTH_PIXELS - GAP_PIXELS * (len(columns) - 1)
        scale = min(room / sum(widths_mm), HEIGHT_PIXELS / max(size[1] for size in sizes_mm))
        pixels = [np.maximum((size * scale).astype(int), 1) for size in sizes_mm]
        height = max(int(size[1]) for size in pixels)
        boxes, left = [None] * len(best), 0
        for column in columns:
            inner = sum(pixels[number][1] for number in column) + GAP_PIXELS * (len(column) - 1)
            top = max(height - inner, 0) // 2
            for number in column:
                width, own_height = map(int, pixels[number])
                boxes[number] = (left, int(top), width, own_height)
                top += own_height + GAP_PIXELS
            height = max(height, inner)
            left += max(int(pixels[number][0]) for number in column) + GAP_PIXELS
        return cls(best, boxes, (left - GAP_PIXELS, int(height)))

    def strip(self, tiles):
        """Put one picture a slice, uint8 of the shape of its box, into a strip of shape (rows, columns, 3)."""
        strip = np.zeros((self.size[1], self.size[0], 3), np.uint8)
        for (left, top, width, height), tile in zip(self.boxes, tiles, strict=True):
            strip[top : top + height, left : left + width] = tile
        return strip

    def described(self, image):
        """Return what the page needs to letter the strip: per slice its box in % of the strip, its name and sides."""
        across, down = self.size
        return [
            {
                "box": [100 * left / across, 100 * top / down, 100 * width / across, 100 * height / down],
                "name": where(image, *place).replace("\n", " "),
                "letters": cut(image, *place).letters,
            }
            for place, (left, top, width, height) in zip(self.places, self.boxes, strict=True)
        ]


def resized(values, box, order=1):
    """Resample an array (rows, columns) to the pixels of a box (left, top, width, height)."""
    rows, columns = (
        (np.arange(pixels) + 0.5) * length / pixels - 0.5
        for pixels, length in zip((box[3], box[2]), values.shape, strict=True)
    )
    places = np.meshgrid(rows, columns, indexing="ij")
    return ndimage.map_coordinates(np.asarray(values, dtype=np.float32), places, order=order, mode="nearest")


def coloured(values, colours, low, high):
    """Return uint8 colours (…, 3) of values between the limits."""
    scaled = (np.clip(values, low, high) - low) / (high - low)
    return matplotlib.colormaps[colours](scaled, bytes=True)[..., :3]


def magnitude_limit_mm(fields, affine):
    """Return the end of the scale of magnitudes, a round number: 99 % of what methods add to the affine lie below."""
    matrix, offset_mm = matrix_and_offset(affine)
    largest_mm = 0.0
    for method, field in fields.items():
        if field is None or method in STARTS:
            continue
        grid = Grid.of(field)
        some = np.meshgrid(*(np.arange(0, n, max(1, n // 48)) for n in grid.size), indexing="ij")
        indices = np.stack(some, axis=-1).reshape(-1, 3)
        points = grid.to_world(indices)
        beyond_mm = points + to_array(field)[tuple(indices.T)] - (points @ matrix.T + offset_mm)
        largest_mm = max(largest_mm, float(np.percentile(np.linalg.norm(beyond_mm, axis=-1), 99)))
    return next((mm for mm in (1, 2, 3, 5, 8, 10, 15, 20, 30, 50, 100) if mm >= largest_mm), float(np.ceil(largest_mm)))


@dataclass(frozen=True)
class Slice:
    """One slice of one method's result, rows and columns as in :func:`cohortmorph.figures.pictures.cut`.

    Attributes
    ----------
    fixed, moved : Cut
        Intensities from 0 to 1.
    covered : boolean array
        Where the moving image has values.
    across_mm, down_mm : array
        Where the method puts each voxel, with the affine taken back, along the axes of the slice.
    beyond_mm : array
        Length of what the method adds to the affine.
    determinant : array
        Of the Jacobian.
    folded : boolean array
        Whether it is zero or negative in any slice.
    """

    fixed: Cut
    moved: Cut
    covered: np.ndarray
    across_mm: np.ndarray
    down_mm: np.ndarray
    beyond_mm: np.ndarray
    determinant: np.ndarray
    folded: np.ndarray


def slices_of(layout, fixed, moved, field, moving_grid, affine):
    """Return the :class:`Slice` of each place; images and field are oriented, `affine` maps fixed → moving."""
    grid, displacement_mm = Grid.of(field), to_array(field)
    determinant = displacement.jacobian_determinant(field)
    matrix, offset_mm = matrix_and_offset(affine)
    back, back_mm = matrix_and_offset(affine.GetInverse())
    found = []
    for plane, index in layout.places:
        across = PLANES[plane]
        ranges = [np.array([index]) if axis == across else np.arange(n) for axis, n in enumerate(grid.size)]
        points = sliced(grid.to_world(np.stack(np.meshgrid(*ranges, indexing="ij"), axis=-1)), plane, 0)
        targets = points + sliced(displacement_mm, plane, index)
        in_plane = (targets @ back.T + back_mm - grid.centre_mm) @ grid.axes
        horizontal, vertical = [axis for axis in range(3) if axis != across]
        found.append(
            Slice(
                fixed=cut(fixed, plane, index),
                moved=cut(moved, plane, index),
                covered=moving_grid.contains(targets),
                across_mm=in_plane[..., horizontal],
                down_mm=in_plane[..., vertical],
                beyond_mm=np.linalg.norm(targets - (points @ matrix.T + offset_mm), axis=-1),
                determinant=sliced(determinant, plane, index),
                folded=sliced((determinant <= 0).any(axis=across, keepdims=True), plane, 0),
            )
        )
    return found


def draw_moved(seen, box, _):
    """Grey; where the moving image does not reach, dark blue."""
    tile = coloured(resized(seen.moved.values, box), "gray", 0, 1)
    tile[~_there(seen.covered, box)] = UNCOVERED
    return tile


def draw_edges(seen, box, _):
    """The fixed image with Canny's edges of the moved one."""
    tile = coloured(0.85 * resized(seen.fixed.values, box), "gray", 0, 1)
    values = sitk.GetImageFromArray(resized(seen.moved.values, box))
    edges = sitk.CannyEdgeDetection(values, lowerThreshold=0.02, upperThreshold=0.06, variance=[4.0, 4.0])
    tile[ndimage.binary_dilation(sitk.GetArrayFromImage(edges) > 0) & _there(seen.covered, box)] = EDGES
    return tile


def draw_checkerboard(seen, box, _):
    """Fixed and moved in turn."""
    both = [Cut(resized(one.values, box), seen.fixed.size_mm, {}) for one in (seen.fixed, seen.moved)]
    fields = max(2, round(min(seen.fixed.size_mm) / CHECKERBOARD_MM))
    return coloured(checkerboard(*both, fields).values, "gray", 0, 1)


def draw_difference(seen, box, _):
    """Fixed − moved; white where the moving image does not reach."""
    difference = np.where(seen.covered, seen.fixed.values - seen.moved.values, 0)
    return coloured(resized(difference, box), "PuOr", -1, 1)


def draw_grid(seen, box, _):
    """The lines of a regular grid, as what the method adds to the affine bends them."""
    pixel_mm = seen.fixed.size_mm[0] / box[2]
    ink = np.zeros((box[3], box[2]))
    for coordinates_mm in (resized(seen.across_mm, box), resized(seen.down_mm, box)):
        from_line_mm = np.abs((coordinates_mm + GRID_MM / 2) % GRID_MM - GRID_MM / 2)
        # So many mm of the coordinate pass from pixel to pixel: a line is as wide where the grid is stretched.
        steepness_mm = np.hypot(*np.gradient(coordinates_mm)) if min(coordinates_mm.shape) > 1 else pixel_mm
        ink = np.maximum(ink, np.clip(1.3 - from_line_mm / np.maximum(steepness_mm, 1e-6), 0, 1))
    background = 0.55 * resized(seen.fixed.values, box)
    return coloured(np.maximum(background, ink), "gray", 0, 1)


def draw_magnitude(seen, box, limit_mm):
    """Length of what the method adds to the affine, from 0 to `limit_mm`."""
    return coloured(resized(seen.beyond_mm, box), "viridis", 0, limit_mm)


def draw_jacobian(seen, box, _):
    """The determinant from a half to twice, on a logarithmic scale; cyan where it is folded in any slice."""
    tile = coloured(np.log2(resized(np.maximum(seen.determinant, 0.01), box)), "PuOr", -1, 1)
    tile[_there(seen.folded, box)] = FOLDED
    return tile


def _there(mask, box):
    """Resample a mask to pixels."""
    return resized(mask, box, order=0) > 0.5


DRAWN = {
    "moved": draw_moved,
    "edges": draw_edges,
    "checkerboard": draw_checkerboard,
    "difference": draw_difference,
    "grid": draw_grid,
    "magnitude": draw_magnitude,
    "jacobian": draw_jacobian,
}


def draw_landmarks(strip, layout, grid, fixed_lps_mm, errors_mm):
    """Draw landmarks and their errors (x + u(x) − y, turned into the fixed image) onto a strip of the fixed image.

    Parameters
    ----------
    strip : uint8 array
    layout : Layout
    grid : Grid
        Of the oriented fixed image.
    fixed_lps_mm, errors_mm : array, shape (n, 3)
        NaN in `errors_mm` for a landmark outside of the grid: it is left out.
    """
    height, width = strip.shape[:2]
    figure = Figure(figsize=(width / 100, height / 100), dpi=100)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.imshow((strip * 0.8).astype(np.uint8), extent=(0, width, height, 0), interpolation="nearest")
    axes.set(xlim=(0, width), ylim=(height, 0))
    axes.axis("off")
    ends = [grid.to_indices(points) for points in (fixed_lps_mm, fixed_lps_mm + errors_mm)]
    for (plane, _), (left, top, across, down) in zip(layout.places, layout.boxes, strict=True):
        horizontal, vertical = [axis for axis in range(3) if axis != PLANES[plane]]
        shares = [(end + 0.5) / grid.size for end in ends]
        x = np.array([left + across * share[:, horizontal] for share in shares])
        down_share = [share[:, vertical] if plane == "axial" else 1 - share[:, vertical] for share in shares]
        y = np.array([top + down * share for share in down_share])
        inside = np.isfinite(x).all(axis=0)
        clip = axes.transData, (left, top, across, down)
        lines = axes.plot(x[:, inside], y[:, inside], color="#E69F00", linewidth=1.4)
        dots = axes.plot(x[0, inside], y[0, inside], "o", ms=4, mfc="#56B4E9", mec="k", mew=0.6)
        for artist in (*lines, *dots):
            artist.set_clip_path(Rectangle(clip[1][:2], across, down, transform=clip[0]))
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def draw(folder, fixed, moving, moved, fields, affine, points=None, selected=None):
    """Write the pictures of a pair to `folder`; return what :func:`page` needs to know of them.

    Parameters
    ----------
    folder : path
        Made if it is not there.
    fixed, moving : SimpleITK image
        Prepared to [0, 1], each on its own grid.
    moved : dict of method to SimpleITK image
        On the grid of `fixed`, prepared to [0, 1] with the same limits for all methods.
    fields : dict of method to SimpleITK vector image or None
        The displacement (mm, LPS, fixed grid) of each method; None where the registration failed.
    affine : SimpleITK transform
        Fixed → moving; the other methods add to it.
    points : (array, array), optional
        Landmarks, shape (n, 3), LPS mm, of the fixed and of the moving image.
    selected : dict or None
        selected_model.json, for the name of the network.

    Returns
    -------
    dict
        For a JSON file: the layout of the strips, the methods with their kinds of pictures, the end of the scale of
        magnitudes.
    """
    still, other = oriented(fixed), oriented(moving)
    layout, own = Layout.of(still), Layout.of(other)
    strips = {}
    for name, image, placed in (("fixed", still, layout), ("moving", other, own)):
        cuts = [cut(image, *place).values for place in placed.places]
        strips[name] = placed.strip(
            [coloured(resized(values, box), "gray", 0, 1) for values, box in zip(cuts, placed.boxes, strict=True)]
        )
        save(strips[name], folder, name)
    limit_mm, kinds_of, lengths_mm = magnitude_limit_mm(fields, affine), {}, {}
    to_fixed = np.linalg.inv(matrix_and_offset(affine)[0])
    for method, field in fields.items():
        kinds_of[method] = []
        if field is None:
            continue
        slices = slices_of(layout, still, oriented(moved[method]), oriented(field), Grid.of(moving), affine)
        for kind, draw_tile in DRAWN.items():
            if kind in BEYOND_AFFINE and method in STARTS:
                continue
            tiles = [draw_tile(seen, box, limit_mm) for seen, box in zip(slices, layout.boxes, strict=True)]
            save(layout.strip(tiles), folder, method, kind)
            kinds_of[method].append(kind)
        if points is not None:
            errors_mm = landmark_errors_mm(*points, field)
            lengths_mm[method] = np.linalg.norm(errors_mm, axis=1)
            drawn = draw_landmarks(strips["fixed"], layout, Grid.of(still), points[0], errors_mm @ to_fixed.T)
            save(drawn, folder, method, "landmarks")
            kinds_of[method].append("landmarks")
    if lengths_mm:
        figures.save(charts.landmark_errors(lengths_mm, selected), Path(folder) / "errors.png")
    return {
        "size": layout.size,
        "slices": layout.described(still),
        "moving_size": own.size,
        "moving_slices": own.described(other),
        "methods": kinds_of,
        "magnitude_mm": limit_mm,
        "landmarks": len(points[0]) if points is not None else 0,
    }


def save(strip, folder, *names):
    """Write a strip as a picture."""
    path = (Path(folder) / "/".join(names)).with_suffix(SUFFIX)
    with publishing(path) as partial:
        imsave(partial, strip, pil_kwargs={"quality": 82, "method": 2})


# The page -------------------------------------------------------------------------------------------------------------

# What the page's table shows: title, metric, structure, decimals.
MEASURED = (
    ("TRE mean (mm)", "tre_mean", "total", 2),
    ("TRE median (mm)", "tre_median", "total", 2),
    ("TRE largest (mm)", "tre_max", "total", 1),
    ("landmarks improved (%)", "landmarks_improved", "total", 0),
    ("Dice", "dice", "mean", 3),
    ("local squared NCC", "ncc_local", "image", 3),
    ("squared NCC", "ncc_squared", "image", 3),
    ("fixed image covered (%)", "overlap", "image", 0),
    ("turned (°)", "rotation", "image", 1),
    ("Jacobian, mean", "jacobian_mean", "image", 2),
    ("Jacobian, 1st percentile", "jacobian_p01", "image", 2),
    ("Jacobian, 99th percentile", "jacobian_p99", "image", 2),
    ("folded voxels (%)", "folding", "image", 3),
    ("folded volume (%)", "ndv", "image", 3),
    ("border beyond the affine (mm)", "border_displacement", "image", 1),
    ("runtime (s)", "runtime", "image", 1),
)
SCALES = {
    "difference": ("PuOr", "−1: moved brighter", "+1: fixed brighter"),
    "magnitude": ("viridis", "0", "{magnitude_mm:g} mm and more"),
    "jacobian": ("PuOr", "½ and less", "2 and more"),
}


def page(pair, described, flags, metrics, selected=None, previous="", following="", phantom=False):
    """Return the page of one pair as HTML; its pictures are expected in the folder `pair` beside it.

    Parameters
    ----------
    pair : str
    described : dict
        What :func:`draw` returned.
    flags, metrics : DataFrame
        The rows of this pair of flags.tsv and, of the methods that are compared, of metrics.tsv.
    selected : dict or None
        selected_model.json.
    previous, following : str
        The pairs before and after this one, the worst first; "" for none.
    phantom : bool
    """
    methods = [
        {
            "number": number,
            "id": method,
            "name": figures.method_label(method, selected),
            "kinds": kinds,
            "flags": int((flags.method == method).sum()),
        }
        for number, (method, kinds) in enumerate(described["methods"].items())
    ]
    drawn = [one["id"] for one in methods if one["kinds"]]
    flagged = [method for method in flags.method if method in drawn]
    last = next(iter([*flagged, *drawn[::-1]]), "")
    split = next(iter(metrics.split), "")
    shown = [kind for kind in KINDS if any(kind in one["kinds"] for one in methods)]
    moving, fixed = pair.split("_to_")
    return template("review.html.jinja").render(
        pair=pair,
        folder=pair,
        title=f"{moving} (moving) to {fixed} (fixed)",
        split=split,
        methods=methods,
        after=last,
        before="affine" if "affine" in drawn and last != "affine" else next(iter(drawn), ""),
        flags=[
            {"method": figures.method_label(row.method, selected), "name": FLAGS[row.flag], "sentence": row.sentence}
            for row in flags.itertuples()
        ],
        kinds=[_kind(kind, described) for kind in shown],
        chart={"caption": chart_caption(described)} if described["landmarks"] and drawn else None,
        table=measured_table(metrics, selected),
        previous=previous,
        next=following,
        phantom=phantom,
        **{key: described[key] for key in ("size", "slices", "moving_size", "moving_slices")},
    )


def chart_caption(described):
    """Say what the chart of landmark errors shows."""
    return (
        f"Every point is one of the {described['landmarks']} landmarks, a grey line joins the same landmark from "
        "method to method; the diamond is the mean, the TRE. Landmarks outside of the fixed image are left out."
    )


def _kind(kind, described):
    """Return what the page says of a kind of pictures."""
    title, caption = KINDS[kind]
    scale = None
    if kind in SCALES:
        colours, low, high = SCALES[kind]
        scale = {"low": low, "high": high.format(**described), "gradient": gradient(colours)}
    return {"id": kind, "title": title, "caption": caption, "flickers": kind not in BEYOND_AFFINE, "scale": scale}


def gradient(colours, stops=12):
    """Return a colormap as a CSS gradient."""
    shades = matplotlib.colormaps[colours](np.linspace(0, 1, stops))
    return f"linear-gradient(to right, {', '.join(map(matplotlib.colors.to_hex, shades))})"


def measured_table(metrics, selected):
    """Return what was measured on one pair, a column a method, as (columns, rows of text); empty rows are left out."""
    values = metrics.set_index(["method", "metric", "structure"]).value
    methods = figures.ordered_methods(metrics.method)
    rows = []
    for title, metric, structure, decimals in MEASURED:
        cells = [values.get((method, metric, structure), np.nan) for method in methods]
        if np.isfinite(cells).any():
            rows.append([title, *(f"{cell:.{decimals}f}" if np.isfinite(cell) else "–" for cell in cells)])
    return ["", *(figures.method_label(method, selected) for method in methods)], rows
