"""The page of a pair: pictures that lie on each other, foldings and landmarks where they are, and no script."""

import dataclasses
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
import write_reviews
from test_charts import SELECTED, cohort_metrics, evaluated
from test_pictures import AXES, grid_of, head
from test_report import Page, raised

from cohortmorph.cohort.methods import Method
from cohortmorph.evaluation import quality
from cohortmorph.figures import pair_pictures, tiles
from cohortmorph.figures.pair_pictures import RegisteredPair, Result, StripLayout, draw_landmarks, magnitude_limit_mm
from cohortmorph.figures.pictures import oriented
from cohortmorph.report.pair_page import CAPTIONS, page
from cohortmorph.run.files import write_json
from cohortmorph.spatial import displacement
from cohortmorph.spatial.geometry import PLANES, Grid, affine, chain, to_array, to_image

IDENTITY = affine(np.eye(3), np.zeros(3))
SLAB = Grid((48, 64, 9), (2.0, 2.0, 3.0), (-50.0, -60.0, 10.0))
VOLUME = Grid((48, 64, 50), (2.0, 2.0, 3.0), (-50.0, -60.0, 10.0))
PAIR = "P05-T1_to_P05-CT"


def shifted(grid, shift_mm):
    return displacement.sample(affine(np.eye(3), shift_mm), grid)


@pytest.mark.parametrize("axes", AXES.values(), ids=AXES)
def test_a_strip_shows_three_planes_at_one_scale(axes):
    image = oriented(head(grid_of(axes, (40, 50, 30), (2.0, 1.5, 3.0)), (0, 0, 0)))
    layout = StripLayout.of(image)
    assert {plane for plane, _ in layout.places} == set(PLANES)
    for (plane, _), (left, top, width, height) in zip(layout.places, layout.boxes, strict=True):
        horizontal, vertical = [axis for axis in range(3) if axis != PLANES[plane]]
        mm = np.array(Grid.of(image).size) * Grid.of(image).spacing_mm
        assert width / height == pytest.approx(mm[horizontal] / mm[vertical], rel=0.03)
        assert left >= 0 and top >= 0 and left + width <= layout.size[0] and top + height <= layout.size[1]
    assert layout.size[0] <= pair_pictures.WIDTH_PIXELS and layout.size[1] <= pair_pictures.HEIGHT_PIXELS


def test_a_thin_slab_shows_two_of_its_own_slices_and_the_other_planes_above_each_other():
    layout = StripLayout.of(head(SLAB, SLAB.centre_mm))
    assert layout.places == [("axial", 3), ("axial", 6), ("coronal", 32), ("sagittal", 24)]
    coronal, sagittal = layout.boxes[2:]
    assert coronal[0] == sagittal[0] and coronal[1] + coronal[3] < sagittal[1]
    assert sagittal[1] + sagittal[3] <= layout.size[1] == layout.boxes[0][3]


def seen(field, fixed=None, moving_grid=SLAB, affine=IDENTITY):
    """Return the layout and the slices of one method on the slab."""
    fixed = head(SLAB, SLAB.centre_mm) if fixed is None else fixed
    layout = StripLayout.of(fixed)
    return layout, tiles.slices_of(layout.places, fixed, fixed, field, moving_grid, affine)


def drawn_tiles(kind, layout, slices, limit_mm=10):
    return [tiles.DRAWN[kind](one, box, limit_mm) for one, box in zip(slices, layout.boxes, strict=True)]


def test_what_the_moving_image_does_not_reach_is_dark_blue():
    layout, slices = seen(shifted(SLAB, [24.0, 0, 0]))
    tile = drawn_tiles("moved", layout, slices)[0]
    blue = (tile == tiles.UNCOVERED).all(axis=-1)
    # A quarter of the 96 mm, at the patient's left, which is the right of the picture.
    assert (
        blue.mean() == pytest.approx(0.25, abs=0.03) and blue[:, -10:].all() and not blue[:, : blue.shape[1] // 2].any()
    )


def test_foldings_of_all_slices_are_marked_where_they_are():
    array = np.zeros((*SLAB.size, 3), np.float32)
    array[10, 50, 8] = [9, 0, 0]  # in the last slice, which is not shown: folded one voxel beside
    layout, slices = seen(to_image(array, SLAB))
    folded = np.argwhere(displacement.jacobian_determinant(to_image(array, SLAB)) <= 0)
    assert len(folded) > 0
    cyan = (drawn_tiles("jacobian", layout, slices)[0] == tiles.FOLDED).all(axis=-1)
    rows, columns = np.nonzero(cyan)
    height, width = cyan.shape
    place = columns.mean() / width * SLAB.size[0] - 0.5, rows.mean() / height * SLAB.size[1] - 0.5
    np.testing.assert_allclose(place, folded[:, :2].mean(axis=0), atol=0.3)
    still = drawn_tiles("jacobian", *seen(shifted(SLAB, [3.0, 0, 0])))[0]
    assert not (still == tiles.FOLDED).all(axis=-1).any()


def test_growth_is_purple_and_shrinkage_orange():
    for factor, brighter in ((1.5, 2), (0.67, 0)):
        field = displacement.sample(affine(np.eye(3) * factor, np.zeros(3)), SLAB)
        red_green_blue = drawn_tiles("jacobian", *seen(field))[0].mean(axis=(0, 1))
        assert int(np.argmax(red_green_blue)) == brighter


def test_grid_and_magnitude_show_what_a_method_adds_to_the_affine():
    turn = affine(np.array([[0.9, -0.3, 0], [0.3, 0.9, 0], [0, 0, 1]]), [20.0, -30.0, 5.0])
    plain = drawn_tiles("grid", *seen(displacement.sample(turn, SLAB), affine=turn))[0]
    unmoved = drawn_tiles("grid", *seen(shifted(SLAB, [0.0, 0, 0])))[0]
    np.testing.assert_allclose(plain.astype(int), unmoved, atol=3)
    moved_on = displacement.sample(chain(affine(np.eye(3), [5.0, 0, 0]), turn), SLAB)
    half = drawn_tiles("grid", *seen(moved_on, affine=turn))[0]
    # Columns that are bright almost everywhere are lines.
    lines = [np.flatnonzero((picture[..., 0] > 150).mean(axis=0) > 0.9) for picture in (unmoved, half)]
    pixels_per_mm = unmoved.shape[1] / 96
    # What lies at x is moved to x + 5 mm, so that the line of x + 5 mm is seen at x, and that of x there no more.
    middle = lines[0][np.argmin(abs(lines[0] - 140))]
    assert min(abs(lines[1] - (middle - 5 * pixels_per_mm))) < 2 and min(abs(lines[1] - middle)) > 5
    colour = drawn_tiles("magnitude", *seen(moved_on, affine=turn), limit_mm=5 * np.hypot(0.9, 0.3))[0]
    assert tuple(colour[50, 50]) == tuple(tiles.coloured(np.ones(1), "viridis", 0, 1)[0])


def test_the_scale_of_magnitudes_is_round_and_common_to_all_methods():
    blank = to_image(np.zeros(SLAB.size, np.float32), SLAB)

    def limit_mm(**fields):
        results = {Method(name): Result(blank, field) for name, field in fields.items()}
        return magnitude_limit_mm(results, IDENTITY)

    far = shifted(SLAB, [90.0, 0, 0])
    assert limit_mm(initial=far, a=shifted(SLAB, [4.0, 0, 0]), b=shifted(SLAB, [0, 7.0, 0]), c=None) == 8
    assert limit_mm(affine=far) == 1


def test_edges_lie_on_the_edges_of_the_moved_image():
    array = np.zeros(SLAB.size, np.float32)
    array[20:30, 20:40] = 1
    layout, slices = seen(shifted(SLAB, [0.0, 0, 0]), to_image(array, SLAB))
    edges = (drawn_tiles("edges", layout, slices)[0] == tiles.EDGES).all(axis=-1)
    rows, columns = np.nonzero(edges)
    scale = edges.shape[1] / SLAB.size[0]
    assert [columns.min() / scale, columns.max() / scale] == pytest.approx([20, 30], abs=0.7)
    assert [rows.min() / scale, rows.max() / scale] == pytest.approx([20, 40], abs=0.7)


def test_difference_is_purple_where_the_fixed_image_is_brighter_and_white_outside():
    fixed = to_image(np.ones(SLAB.size, np.float32), SLAB)
    layout = StripLayout.of(fixed)
    slices = tiles.slices_of(layout.places, fixed, fixed * 0.2, shifted(SLAB, [48.0, 0, 0]), SLAB, IDENTITY)
    tile = drawn_tiles("difference", layout, slices)[0].astype(int)
    assert tile[50, 10, 2] > tile[50, 10, 0] + 20 and np.ptp(tile[50, -10]) < 6


@pytest.mark.parametrize("axes", [AXES["LPS"], AXES["RAS"]], ids=["LPS", "RAS"])
def test_a_landmark_and_its_error_are_drawn_where_they_are(axes):
    corner = np.array([-50.0, -60.0, 10.0]) + (np.array(SLAB.size) - 1) * SLAB.spacing_mm * (np.diag(axes) < 0)
    grid = Grid(SLAB.size, SLAB.spacing_mm, tuple(corner), tuple(axes.ravel()))
    image = oriented(to_image(np.zeros(grid.size, np.float32), grid))
    layout = StripLayout.of(image)
    strip = layout.strip([np.zeros((box[3], box[2], 3), np.uint8) for box in layout.boxes])
    point, error = np.array([[-20.0, -30.0, 20.0], [0, 0, 0]]), np.array([[20.0, 0, 0], [np.nan] * 3])
    drawn = draw_landmarks(strip, layout, Grid.of(image), point, error)
    assert drawn.shape == strip.shape
    # Voxel 15 of 48 from the patient's right, 15 of 64 from the front.
    dots = (drawn[..., 2].astype(int) - drawn[..., 0]) > 60
    lines = (drawn[..., 0].astype(int) - drawn[..., 2]) > 60
    left, top, width, height = layout.boxes[0]
    rows, columns = np.nonzero(dots[:, : left + width])
    assert columns.mean() == pytest.approx(left + 15.5 / 48 * width, abs=2)
    assert rows.mean() == pytest.approx(top + 15.5 / 64 * height, abs=2)
    across = np.flatnonzero(lines[:, : left + width].any(axis=0))
    assert across.max() == pytest.approx(left + 25.5 / 48 * width, abs=3)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """A folder of pictures of four methods, one of which failed, and what `draw` says of it."""
    folder = tmp_path_factory.mktemp("qc")
    fixed = head(SLAB, SLAB.centre_mm)
    fields = {"initial": shifted(SLAB, [6.0, 0, 0]), "affine": shifted(SLAB, [1.0, 0, 0]), "bspline-3r": None,
              "voxelmorph": shifted(SLAB, [0.0, 0, 0])}  # fmt: skip
    points = SLAB.to_world([[10, 10, 3], [30, 40, 5]])
    results = {}
    for name, field in fields.items():
        method = Method(name, "1", 100) if name == "voxelmorph" else Method(name)
        results[method] = Result(fixed if field is None else displacement.warp(fixed, field), field)
    described = pair_pictures.draw(
        RegisteredPair(fixed, fixed, IDENTITY, results, (points, points)), folder / "pictures" / PAIR
    )
    return folder, described


def test_every_method_has_its_pictures_of_one_size_and_a_failed_one_none(drawn):
    folder, described = drawn
    kinds = {method: set(kinds) for method, kinds in described["methods"].items()}
    assert kinds["bspline-3r"] == set() and not (folder / "pictures" / PAIR / "bspline-3r").exists()
    assert kinds["voxelmorph"] == set(CAPTIONS)
    assert kinds["affine"] == kinds["initial"] == set(CAPTIONS) - {"grid", "magnitude"}
    width, height = described["size"]
    for method, names in kinds.items():
        for kind in names:
            picture = matplotlib.image.imread(folder / "pictures" / PAIR / method / f"{kind}.webp")
            assert picture.shape[:2] == (height, width)
    assert described["landmarks"] == 2 and (folder / "pictures" / PAIR / "errors.png").exists()
    one, other = (
        matplotlib.image.imread(folder / "pictures" / PAIR / path) for path in ("fixed.webp", "voxelmorph/moved.webp")
    )
    assert np.abs(one[..., :3].astype(int) - other[..., :3]).mean() < 1, "nothing jumps where all is in place"


def reviews(drawn, tmp_path, flags, phantom=False):
    """Write the pages of three pairs; return them."""
    _, described = drawn
    metrics = cohort_metrics(subjects={"validation": ["P04"], "test": ["P05"]})
    metrics = metrics[~metrics.pair.str.contains("P04-T1")]
    pairs = sorted(metrics.pair.unique())
    write_json(described, tmp_path / "described.json")
    pages = {pair: tmp_path / f"{pair}.html" for pair in pairs}
    write_reviews.main(
        evaluated(metrics, SELECTED, flags=flags), dict.fromkeys(pairs, tmp_path / "described.json"), pages, phantom
    )
    return pages, metrics


class Form(Page):
    """A page with inputs, which have no end."""

    def handle_starttag(self, tag, attributes):
        super().handle_starttag(tag, attributes)
        if tag == "input":
            self.open.pop()


def test_a_page_needs_its_pictures_only_and_works_without_scripts(drawn, tmp_path):
    folder, _ = drawn
    pages, _ = reviews(drawn, tmp_path, raised((PAIR, "affine", "folding")))
    html = pages[PAIR].read_text()
    page = Form(html)
    assert page.scripts == 0 and "://" not in html and "@import" not in html
    pictures = [resource for resource in page.resources if resource.endswith((".webp", ".png"))]
    assert len(set(pictures)) == 3 + 2 * 6 + 8
    assert all((folder / Path(resource)).exists() for resource in pictures)
    assert "<script" not in Form(pages[PAIR].read_text()).text


def test_a_page_shows_flags_metrics_and_leads_to_the_next_pair(drawn, tmp_path):
    flags = raised((PAIR, "affine", "failed"), ("P05-T2_to_P05-CT", "voxelmorph", "folding"))
    pages, metrics = reviews(drawn, tmp_path, flags, phantom=True)
    worst, second, last = (Form(pages[pair].read_text()) for pair in (PAIR, "P05-T2_to_P05-CT", "P04-T2_to_P04-CT"))
    assert "affine: registration failed." in worst.text and "Why failed." in worst.text and "PHANTOM" in worst.text
    assert "No flag was raised" in last.text
    assert [one for one in worst.resources if one.endswith(".html")] == ["P05-T2_to_P05-CT.html"]
    assert [one for one in second.resources if one.endswith(".html")] == [f"{PAIR}.html", "P04-T2_to_P04-CT.html"]
    assert "../report.html#quality" in worst.resources
    compared = evaluated(metrics, SELECTED).compared(metrics)
    value = compared[(compared.pair == PAIR) & (compared.method == "voxelmorph") & (compared.metric == "tre_mean")
                     & (compared.structure == "total")].value.item()  # fmt: skip
    assert f"{value:.2f}" in worst.text and "validation pair" in last.text and "test pair" in worst.text


def test_the_page_opens_at_the_worst_flagged_method_else_at_the_network(drawn):
    _, described = drawn
    none = evaluated(cohort_metrics(), SELECTED)

    def opens_at(*rows):
        html = page(PAIR, described, dataclasses.replace(none, flags=raised(*rows)))
        return [name for name in ("initial", "affine", "bspline-3r", "voxelmorph")
                if f'id="a{list(described["methods"]).index(name)}" checked' in html]  # fmt: skip

    assert opens_at() == ["voxelmorph"]
    assert opens_at((PAIR, "affine", "folding"), (PAIR, "bspline-3r", "failed")) == ["affine"], "a failed one has none"


def test_pictures_of_an_empty_pair_are_drawn_too(tmp_path):
    blank = to_image(np.zeros(VOLUME.size, np.float32), VOLUME)
    results = {Method("initial"): Result(blank, shifted(VOLUME, [0.0, 0, 900]))}
    described = pair_pictures.draw(RegisteredPair(blank, blank, IDENTITY, results), tmp_path)
    assert set(described["methods"]["initial"]) == {"moved", "edges", "checkerboard", "difference", "jacobian"}
    assert quality.FLAGS.keys() >= {"empty_image"} and to_array(blank).max() == 0
