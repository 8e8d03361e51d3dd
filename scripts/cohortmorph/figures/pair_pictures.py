"""Pictures of one pair: an overview of a few methods, and small pictures of each method that lie on each other.

Every small picture is a strip of the same slices of the fixed image, in three planes, at the same scale, so that any
two of them can be laid on each other and flicker. Their page is cohortmorph.report.pair_page.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import imsave
from matplotlib.patches import Rectangle

from cohortmorph import UserError
from cohortmorph.cohort.methods import STARTS, Method
from cohortmorph.evaluation.given import Given
from cohortmorph.evaluation.metrics import landmark_errors_mm
from cohortmorph.evaluation.tables import Choices, read_choices
from cohortmorph.figures import charts, pictures, style
from cohortmorph.figures.pictures import Place, cut, oriented, views, where
from cohortmorph.figures.tiles import BEYOND_AFFINE, DRAWN, Box, coloured, resized, slices_of
from cohortmorph.run.files import StrPath, publishing
from cohortmorph.run.logs import log
from cohortmorph.spatial import displacement, intensity
from cohortmorph.spatial.geometry import PLANES, Grid, matrix_and_offset, read_affine, read_image, to_array, to_image

WIDTH_PIXELS, HEIGHT_PIXELS, GAP_PIXELS = 960, 380, 6
SUFFIX = ".webp"


@dataclass(frozen=True)
class Result:
    """What one method made of a pair.

    Attributes
    ----------
    moved : SimpleITK image
        On the fixed image's grid, prepared to [0, 1] with the same limits for all methods.
    displacement : SimpleITK vector image or None
        Mm, LPS, on the fixed image's grid; None where the registration failed.
    """

    moved: sitk.Image
    displacement: sitk.Image | None


@dataclass(frozen=True)
class RegisteredPair:
    """A pair with what every method made of it.

    Attributes
    ----------
    fixed, moving : SimpleITK image
        Prepared to [0, 1], each on its own grid.
    affine : SimpleITK transform
        Fixed → moving; the other methods add to it.
    results : dict of Method to Result
        In the configuration's order; of each network the selected one.
    landmarks : (array, array) or None
        Of the fixed and of the moving image, shape (n, 3), LPS mm.
    """

    fixed: sitk.Image
    moving: sitk.Image
    affine: sitk.Transform
    results: Mapping[Method, Result]
    landmarks: tuple[np.ndarray, np.ndarray] | None = None


def methods_to_draw(ids: Sequence[str], selected: Choices) -> list[Method]:
    """Return the methods of these ids, of each network only its selected one, in their order."""
    wanted = set(map(Method.of_choice, selected.values()))
    methods = [Method.of(id) for id in ids]
    return [method for method in methods if not method.learned or method in wanted]


def methods_of_overview(methods: Sequence[Method]) -> list[Method]:
    """Return which of these methods the overview shows: initial, affine, the last other classical one, networks."""
    starts = [method for method in methods if method.name in ("initial", "affine")]
    classical = [method for method in methods if not method.learned and method.name not in STARTS]
    return [*starts, *classical[-1:], *(method for method in methods if method.learned)]


def prepared_alike(
    images: Mapping[Method, sitk.Image], settings: Mapping[str, Any], name: str
) -> dict[Method, sitk.Image]:
    """Scale the moved images of all methods to [0, 1] with the same limits, so that they can be compared by eye.

    Without overlap, or of an image that shows nothing, they are constant: they are shown so, where
    :func:`cohortmorph.spatial.intensity.prepare` would refuse them.
    """
    arrays = {method: to_array(image) for method, image in images.items()}
    try:
        low, high = intensity.limits(np.stack(list(arrays.values())), settings, name)
    except UserError as error:
        log.error("%s", error)
        return {method: image * 0 for method, image in images.items()}
    return {
        method: to_image(np.clip((array - low) / (high - low), 0, 1).astype(np.float32), Grid.of(images[method]))
        for method, array in arrays.items()
    }


def overview(pair: RegisteredPair, title: str) -> Figure:
    """Draw a few methods beside each other."""
    shown = methods_of_overview(list(pair.results))
    return pictures.pair(pair.fixed, {method: pair.results[method].moved for method in shown}, title)


@dataclass(frozen=True)
class StripLayout:
    """Where the slices lie in a strip.

    Attributes
    ----------
    places : list of Place
        See :func:`cohortmorph.figures.pictures.views`.
    boxes : list of Box
    size : (int, int)
        Width and height of the strip, in pixels.
    """

    places: list[Place]
    boxes: list[Box]
    size: tuple[int, int]

    @classmethod
    def of(cls, image: sitk.Image) -> "StripLayout":
        """Lay out slices of all three planes of an :func:`~cohortmorph.figures.pictures.oriented` image side by side.

        A slab that is thin in one direction shows two of its own slices, then what is left of the other planes, one
        above the other where they fit.
        """
        best, grid = views(image), Grid.of(image)
        thin = best[0][0] if len({plane for plane, _ in best}) == 1 else None
        if thin:
            own = [Place(thin, int(grid.size[PLANES[thin]] * part)) for part in (1 / 3, 2 / 3)]
            best = own + [Place(plane, grid.size[axis] // 2) for plane, axis in PLANES.items() if plane != thin]
        sizes_mm = [np.array(cut(image, *place).size_mm) for place in best]
        columns = [[number] for number in range(len(best))]
        if thin and sum(size[1] for size in sizes_mm[2:]) < sizes_mm[0][1]:
            columns = [[0], [1], [2, 3]]
        widths_mm = [max(sizes_mm[number][0] for number in column) for column in columns]
        room = WIDTH_PIXELS - GAP_PIXELS * (len(columns) - 1)
        scale = min(room / sum(widths_mm), HEIGHT_PIXELS / max(size[1] for size in sizes_mm))
        pixels = [np.maximum((size * scale).astype(int), 1) for size in sizes_mm]
        height = max(int(size[1]) for size in pixels)
        boxes, left = {}, 0
        for column in columns:
            inner = sum(pixels[number][1] for number in column) + GAP_PIXELS * (len(column) - 1)
            top = max(height - inner, 0) // 2
            for number in column:
                boxes[number] = Box(left, int(top), *map(int, pixels[number]))
                top += boxes[number].height + GAP_PIXELS
            height = max(height, inner)
            left += max(boxes[number].width for number in column) + GAP_PIXELS
        return cls(best, [boxes[number] for number in range(len(best))], (left - GAP_PIXELS, int(height)))

    def strip(self, tiles: Sequence[np.ndarray]) -> np.ndarray:
        """Put one picture a slice, uint8 of the shape of its box, into a strip of shape (rows, columns, 3)."""
        strip = np.zeros((self.size[1], self.size[0], 3), np.uint8)
        for (left, top, width, height), tile in zip(self.boxes, tiles, strict=True):
            strip[top : top + height, left : left + width] = tile
        return strip

    def described(self, image: sitk.Image) -> list[dict[str, Any]]:
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


def magnitude_limit_mm(results: Mapping[Method, Result], affine: sitk.Transform) -> float:
    """Return the end of the scale of magnitudes, a round number: 99 % of what methods add to the affine lie below."""
    matrix, offset_mm = matrix_and_offset(affine)
    largest_mm = 0.0
    for method, result in results.items():
        field = result.displacement
        if field is None or method.name in STARTS:
            continue
        grid = Grid.of(field)
        some = np.meshgrid(*(np.arange(0, n, max(1, n // 48)) for n in grid.size), indexing="ij")
        indices = np.stack(some, axis=-1).reshape(-1, 3)
        points = grid.to_world(indices)
        beyond_mm = points + to_array(field)[tuple(indices.T)] - (points @ matrix.T + offset_mm)
        largest_mm = max(largest_mm, float(np.percentile(np.linalg.norm(beyond_mm, axis=-1), 99)))
    return next((mm for mm in (1, 2, 3, 5, 8, 10, 15, 20, 30, 50, 100) if mm >= largest_mm), float(np.ceil(largest_mm)))


def draw_landmarks(
    strip: np.ndarray, layout: StripLayout, grid: Grid, fixed_lps_mm: np.ndarray, errors_mm: np.ndarray
) -> np.ndarray:
    """Draw landmarks and their errors (x + u(x) − y, turned into the fixed image) onto a strip of the fixed image.

    Parameters
    ----------
    strip : uint8 array
    layout : StripLayout
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


def draw(pair: RegisteredPair, folder: StrPath) -> dict[str, Any]:
    """Write the pictures of a pair to `folder`, which is made; return what its page needs to know of them.

    Returns
    -------
    dict
        For a JSON file: the layout of the strips, the kinds of pictures by the name of each method, the end
        of the scale of magnitudes, the number of landmarks.
    """
    still, other = oriented(pair.fixed), oriented(pair.moving)
    layout, own = StripLayout.of(still), StripLayout.of(other)
    save(_strip_of(still, layout), folder, "fixed")
    save(_strip_of(other, own), folder, "moving")
    limit_mm = magnitude_limit_mm(pair.results, pair.affine)
    kinds = {method.name: _draw_result(pair, method, still, layout, limit_mm, folder) for method in pair.results}
    if pair.landmarks is not None:
        for name in _draw_errors(pair, pair.landmarks, still, layout, folder):
            kinds[name].append("landmarks")
    return {
        "size": layout.size,
        "slices": layout.described(still),
        "moving_size": own.size,
        "moving_slices": own.described(other),
        "methods": kinds,
        "magnitude_mm": limit_mm,
        "landmarks": len(pair.landmarks[0]) if pair.landmarks is not None else 0,
    }


def _strip_of(image: sitk.Image, layout: StripLayout) -> np.ndarray:
    """Return the strip of an oriented image itself, in grey."""
    cuts = [cut(image, *place).values for place in layout.places]
    return layout.strip(
        [coloured(resized(values, box), "gray", 0, 1) for values, box in zip(cuts, layout.boxes, strict=True)]
    )


def _draw_result(
    pair: RegisteredPair, method: Method, still: sitk.Image, layout: StripLayout, limit_mm: float, folder: StrPath
) -> list[str]:
    """Write a method's pictures but that of landmarks; return their kinds. `still` is the oriented fixed image."""
    result = pair.results[method]
    if result.displacement is None:
        return []
    images = still, oriented(result.moved), oriented(result.displacement)
    slices = slices_of(layout.places, *images, Grid.of(pair.moving), pair.affine)
    kinds = [kind for kind in DRAWN if kind not in BEYOND_AFFINE or method.name not in STARTS]
    for kind in kinds:
        tiles = [DRAWN[kind](seen, box, limit_mm) for seen, box in zip(slices, layout.boxes, strict=True)]
        save(layout.strip(tiles), folder, method.name, kind)
    return kinds


def _draw_errors(
    pair: RegisteredPair, points: tuple[np.ndarray, np.ndarray], still: sitk.Image, layout: StripLayout, folder: StrPath
) -> list[str]:
    """Write the picture of the landmarks of each method that did not fail, and their chart; return the methods."""
    strip = _strip_of(still, layout)
    to_fixed = np.linalg.inv(matrix_and_offset(pair.affine)[0])
    lengths_mm = {}
    for method, result in pair.results.items():
        if result.displacement is None:
            continue
        errors_mm = landmark_errors_mm(*points, result.displacement)
        lengths_mm[method] = np.linalg.norm(errors_mm, axis=1)
        drawn = draw_landmarks(strip, layout, Grid.of(still), points[0], errors_mm @ to_fixed.T)
        save(drawn, folder, method.name, "landmarks")
    if lengths_mm:
        colours = style.method_colours(pair.results)
        style.save(charts.landmark_errors(lengths_mm, colours), Path(folder) / "errors.png")
    return [method.name for method in lengths_mm]


def save(strip: np.ndarray, folder: StrPath, *names: str) -> None:
    """Write a strip as a picture."""
    path = (Path(folder) / "/".join(names)).with_suffix(SUFFIX)
    with publishing(path) as partial:
        imsave(partial, strip, pil_kwargs={"quality": 82, "method": 2})


def read_pair(
    given: Mapping[str, Any],
    pair: str,
    methods: Sequence[str],
    fixed_intensity: Mapping[str, Any],
    moving_intensity: Mapping[str, Any],
) -> RegisteredPair:
    """Read the files of a pair; of each network only the selected one.

    Parameters
    ----------
    given : mapping
        Paths: ``fixed``, ``moving``, ``affine``; in the order of `methods` ``moved`` and ``displacements``; where there
        are some ``fixed_landmarks`` and ``moving_landmarks``; ``selected``: of each network's selected_model.json.
    pair : str
        Its id, for messages.
    methods : list of str
        Ids of all methods.
    fixed_intensity, moving_intensity : dict
        Settings of cohortmorph.spatial.intensity.prepare.
    """
    drawn = methods_to_draw(methods, read_choices(given.get("selected")))
    moved = dict(zip(methods, given["moved"], strict=True))
    displacements = dict(zip(methods, given["displacements"], strict=True))
    fixed = intensity.prepare_or_blank(read_image(given["fixed"]), fixed_intensity, f"{pair}, fixed")
    images = prepared_alike(
        {method: read_image(moved[method.id]) for method in drawn}, moving_intensity, f"{pair}, moved"
    )
    files = [given.get(f"{role}_landmarks") or "" for role in ("fixed", "moving")]
    return RegisteredPair(
        fixed=fixed,
        moving=intensity.prepare_or_blank(read_image(given["moving"]), moving_intensity, f"{pair}, moving"),
        affine=read_affine(given["affine"]),
        results={
            method: Result(images[method], displacement.read_unless_failed(displacements[method.id], Grid.of(fixed)))
            for method in drawn
        },
        landmarks=Given(pair).landmarks(*files) if all(files) else None,
    )
