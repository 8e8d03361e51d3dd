"""The viewer in a real browser: what it shows, what it says, and that its numbers are those of Python."""

import io
import re

import numpy as np
import pytest
import SimpleITK as sitk
from made_up import GRID, METHODS, NETWORK, PAIRS, SIZES_MM, WHY, field
from PIL import Image
from scipy.spatial.transform import Rotation

from cohortmorph.evaluation import metrics
from cohortmorph.spatial import displacement
from cohortmorph.spatial.geometry import Grid


def array_of(png):
    return np.array(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)


def select(viewer, method):
    """Choose a method by its place in the table."""
    viewer.page.locator("#methods tbody tr").nth(METHODS.index(method)).get_by_role("button").click()
    viewer.wait(f" {method} ")


def test_it_loads_with_the_best_of_the_selected_networks_and_three_pictures(viewer):
    assert viewer.evaluate("document.body.dataset.shown") == f"{PAIRS[0]} {NETWORK} moved"
    assert viewer.text("message") == "" and "PHANTOM" in viewer.text("phantom")
    for name in ("fixed", "moved", "overlay"):
        assert array_of(viewer.pixels(name)).std() > 10, f"the pane {name} is empty"
    assert "voxelmorph, λ = 2, epoch 20 ★" in viewer.text("methods") and "1.23\t" in viewer.text("methods")
    assert "voxelmorph-diff, λ = 4, epoch 20 ☆" in viewer.text("methods") and "☆" in viewer.text("star")


def test_the_method_switch_changes_the_moved_and_the_overlaid_picture_only(viewer):
    before = {name: viewer.pixels(name) for name in ("fixed", "moved", "overlay")}
    select(viewer, "initial")
    after = {name: viewer.pixels(name) for name in before}
    assert before["fixed"] == after["fixed"]
    for name in ("moved", "overlay"):
        assert np.abs(array_of(before[name]) - array_of(after[name])).max() > 60
    select(viewer, NETWORK)
    assert viewer.pixels("moved") == before["moved"]


def test_an_answer_that_comes_late_does_not_replace_what_was_asked_for_since(viewer):
    held = []
    viewer.page.route("**/affine/moved.nii.gz", lambda route: held.append(route))
    viewer.page.locator("#methods tbody tr").nth(METHODS.index("affine")).get_by_role("button").click()
    select(viewer, "initial")
    before = viewer.pixels("moved")
    with viewer.page.expect_response("**/affine/moved.nii.gz") as answer:
        held[0].continue_()
    answer.value.finished()
    viewer.page.unroute("**/affine/moved.nii.gz")
    viewer.evaluate("() => new Promise(done => setTimeout(done, 300))")
    assert viewer.evaluate("document.body.dataset.shown").endswith(" initial moved")
    assert viewer.pixels("moved") == before


def test_the_pair_picker_changes_the_fixed_picture_and_keeps_the_method(viewer):
    select(viewer, "affine")
    before = viewer.pixels("fixed")
    viewer.page.locator("#pairs").get_by_role("button", name="A2-T1 → A2-CT").click()
    viewer.wait(f"{PAIRS[1]} affine")
    assert viewer.pixels("fixed") != before
    assert "A2-CT" in viewer.text("fixed-title")


@pytest.mark.parametrize(
    "name, why",
    [("moved.nii.gz", "is missing"), ("displacement.nii.gz", "is missing"), ("displacement.nii.gz", "is damaged")],
)
def test_a_file_that_is_missing_or_damaged_is_named_and_no_old_picture_stays(viewer, cohort, name, why):
    select(viewer, "initial")
    path = cohort.path(PAIRS[0], "affine", name)
    content = path.read_bytes()
    try:
        path.unlink()
        if why == "is damaged":
            path.write_bytes(content[: len(content) // 2])
        if name.startswith("displacement"):
            viewer.press("j", "jacobian")
        select(viewer, "affine")
        said = viewer.text("message")
        shown = viewer.is_empty("moved")
    finally:
        path.write_bytes(content)
    named = f"results/pairs/{PAIRS[0]}/affine/{name}"
    assert named in said and f"snakemake {named}" in said and why in said
    assert shown == (name == "moved.nii.gz")
    if not shown:
        assert viewer.evaluate("viewer.panes.overlay.volumes.length") == 1


def test_a_failed_registration_says_why_and_shows_nothing(viewer):
    select(viewer, "broken")
    assert WHY in viewer.text("message") and "broken failed" in viewer.text("message")
    assert viewer.is_empty("moved") and not viewer.is_empty("overlay")
    row = viewer.page.locator("#methods tbody tr").nth(METHODS.index("broken"))
    assert "failed" in row.inner_text()


def test_opacity_runs_from_the_fixed_picture_to_the_moved_one(viewer):
    viewer.press("o")
    assert viewer.text("percent") == "100 %"
    moved = array_of(viewer.pixels("overlay"))
    viewer.press("o")
    assert viewer.text("percent") == "0 %"
    fixed = array_of(viewer.pixels("overlay"))
    assert np.abs(fixed - array_of(viewer.pixels("fixed"))).max() <= 2
    viewer.page.locator("#opacity").fill("50")
    half = array_of(viewer.pixels("overlay"))
    assert np.abs(half - (moved + fixed) / 2).max() <= 3 < np.abs(moved - fixed).max()


def test_the_patient_s_left_is_on_the_right_of_axial_and_coronal_slices(viewer):
    viewer.put_cross_hair(GRID.centre_mm)
    for key in "12":
        viewer.press(key)
        viewer.evaluate("() => { viewer.panes.fixed.setCrosshairWidth(0); }")
        picture = array_of(viewer.pixels("fixed")).sum(axis=2)
        bright = np.argwhere(picture > 0.9 * picture.max())
        # The bright blob lies 14 mm to the left (LPS +x) of the middle.
        assert np.median(bright[:, 1]) > 0.55 * picture.shape[1]


def test_the_position_is_that_of_the_voxel_in_lps(viewer):
    select(viewer, "affine")
    voxel = (5, 20, 9)
    viewer.put_cross_hair(GRID.to_world(voxel))
    said = viewer.text("position")
    assert f"voxel ({', '.join(map(str, voxel))})" in said and "LPS" in said
    shown = [float(number) for number in re.findall(r"[xyz] (-?[\d.]+)", said)]
    np.testing.assert_allclose(shown, GRID.to_world(voxel), atol=0.051)
    sides = {True: ("left", "posterior", "superior"), False: ("right", "anterior", "inferior")}
    for axis, value in enumerate(shown):
        assert sides[value >= 0][axis] in said.split("·")[axis]


def test_values_and_the_moving_point_are_those_of_the_files(viewer, cohort):
    select(viewer, "affine")
    viewer.press("j", "jacobian")
    voxel = (13, 16, 7)
    viewer.put_cross_hair(GRID.to_world(voxel))
    u = field(SIZES_MM["affine"])
    wanted = [
        sitk.ReadImage(str(cohort.folder / "results/images/A1/CT.nii.gz"))[voxel],
        sitk.ReadImage(str(cohort.path(PAIRS[0], "affine", "moved.nii.gz")))[voxel],
        displacement.jacobian_determinant(u)[voxel],
    ]
    said = viewer.text("values")
    shown = [float(number) for number in re.findall(r"(?:fixed|moved|volume ×) (-?[\d.]+)", said)]
    np.testing.assert_allclose(shown, wanted, rtol=1e-3)
    moving = [float(number) for number in re.findall(r"[xyz] (-?[\d.]+)", said)]
    np.testing.assert_allclose(moving, displacement.move_points([GRID.to_world(voxel)], u)[0], atol=0.051)


def test_the_cross_hairs_are_linked(viewer):
    viewer.press("1")
    position = "name => Array.from(viewer.panes[name].scene.crosshairPos)"
    start = viewer.evaluate(position, "fixed")
    for name in ("moved", "fixed"):
        box = viewer.page.locator(f"#{name}").bounding_box()
        share = 0.4 if name == "moved" else 0.6
        viewer.page.mouse.click(box["x"] + share * box["width"], box["y"] + share * box["height"])
        clicked = viewer.evaluate(position, name)
        assert np.abs(np.subtract(clicked, start)).max() > 0.02
        for other in ("fixed", "moved", "overlay"):
            np.testing.assert_allclose(viewer.evaluate(position, other), clicked, atol=1e-5)
        start = clicked
    viewer.page.mouse.move(5, 5)
    box = viewer.page.locator("#overlay").bounding_box()
    viewer.page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    viewer.page.mouse.wheel(0, 100)
    scrolled = viewer.evaluate(position, "overlay")
    assert abs(scrolled[2] - start[2]) > 0.02
    np.testing.assert_allclose(viewer.evaluate(position, "fixed"), scrolled, atol=1e-5)


@pytest.mark.parametrize(
    "plane, key, direction_lps",
    [
        ("1", "ArrowRight", [1, 0, 0]),
        ("1", "ArrowUp", [0, -1, 0]),
        ("1", "PageUp", [0, 0, 1]),
        ("2", "ArrowLeft", [-1, 0, 0]),
        ("2", "ArrowDown", [0, 0, -1]),
        ("3", "ArrowRight", [0, -1, 0]),
    ],
)
def test_arrow_keys_move_all_cross_hairs_by_a_voxel_as_the_slice_is_seen(viewer, plane, key, direction_lps):
    viewer.page.locator("#moved").focus()  # a pane has the focus: NiiVue's own keys must not move it again
    viewer.press(plane)
    voxel = np.array([10, 12, 8])
    viewer.put_cross_hair(GRID.to_world(voxel))
    viewer.press(key)
    for name in ("fixed", "moved", "overlay"):
        position = viewer.evaluate("name => Array.from(viewer.panes[name].scene.crosshairPos)", name)
        ras = viewer.evaluate("point => Array.from(viewer.panes.fixed.frac2mm(point, 0, true))", position)
        steps = GRID.to_indices(np.array(ras)[:3] * [-1, -1, 1]) - voxel
        np.testing.assert_allclose(steps, direction_lps, atol=1e-3)  # the grid's axes are L, P, S but for a tilt


def test_niivue_s_own_keys_do_nothing_beside_ours(viewer):
    box = viewer.page.locator("#moved").bounding_box()
    viewer.page.mouse.click(box["x"] + 0.4 * box["width"], box["y"] + 0.3 * box["height"])
    look = (
        "() => { const pane = viewer.panes.moved; return [Array.from(pane.scene.crosshairPos), pane.opts.dragMode]; }"
    )
    before = viewer.evaluate(look)
    viewer.press("l", " moved")
    viewer.press("m", " moved")
    viewer.press("j", " jacobian")
    assert viewer.evaluate("[viewer.state.landmarks, viewer.state.layer]") == [True, "jacobian"]
    assert viewer.evaluate(look) == before


def test_landmark_errors_are_those_of_python(viewer, cohort):
    select(viewer, "affine")
    viewer.press("l", "affine")
    errors = viewer.evaluate("viewer.errorsOfLandmarks(viewer.state.pairs[0].landmarks, viewer.state.displacement)")
    wanted = metrics.landmark_errors_mm(cohort.fixed_lps_mm, cohort.moving_lps_mm, field(SIZES_MM["affine"]))
    wanted = np.linalg.norm(wanted, axis=1) if np.ndim(wanted) > 1 else wanted
    assert errors[5] is None and np.isnan(wanted[5])
    np.testing.assert_allclose(errors[:5], wanted[:5], atol=1e-4)
    said = viewer.text("landmark-errors")
    assert f"error {wanted[:5].mean():.2f} mm (mean of 5)" in said and "1 outside" in said


def test_moving_landmarks_are_drawn_where_the_moved_image_shows_them(viewer, cohort):
    select(viewer, "affine")
    viewer.press("l", "affine")
    marks = viewer.evaluate("viewer.state.marks")
    found = np.array([mark["moving"] for mark in marks[:5]]) * [-1, -1, 1]
    there = displacement.move_points(found, field(SIZES_MM["affine"]))
    np.testing.assert_allclose(there, cohort.moving_lps_mm[:5], atol=0.01)
    assert np.abs(found - cohort.moving_lps_mm[:5]).max() > 0.5


@pytest.mark.parametrize("plane", "1234")
def test_a_ring_lies_around_the_landmark(viewer, cohort, plane):
    viewer.press("l")
    viewer.press(plane)
    point = cohort.fixed_lps_mm[2]
    viewer.put_cross_hair(point)
    viewer.evaluate("n => { viewer.state.marks = [viewer.state.marks[n]]; viewer.panes.fixed.drawScene(); }", 2)
    marks, centre = viewer.evaluate(
        """() => {
          const canvas = document.getElementById("fixed-marks"), pane = viewer.panes.fixed;
          const { data, width } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
          const found = [];
          for (let n = 0; n < data.length / 4; n++)
            if (data[4 * n + 2] > 150) found.push([n % width, Math.floor(n / width)]);
          return [found, Array.from(pane.frac2canvasPos(pane.scene.crosshairPos))];
        }"""
    )
    assert len(marks) > 20
    near = np.array(marks)[np.linalg.norm(np.subtract(marks, centre), axis=1) < 60]
    np.testing.assert_allclose((near.min(axis=0) + near.max(axis=0)) / 2 + 0.5, centre, atol=1.5)


def test_a_pair_without_landmarks_says_so(viewer):
    viewer.press("l")
    viewer.press("p", PAIRS[1])
    assert "no landmarks" in viewer.text("message")


def test_the_jacobian_lies_over_the_fixed_image_and_folding_stands_out(viewer):
    before = {name: viewer.pixels(name) for name in ("fixed", "moved", "overlay")}
    viewer.press("j", "jacobian")
    assert viewer.pixels("fixed") == before["fixed"] and viewer.pixels("moved") == before["moved"]
    viewer.page.locator("#opacity").fill("100")

    def magenta():
        red, green, blue = np.moveaxis(array_of(viewer.pixels("overlay")), -1, 0)
        return int(((red > 200) & (blue > 200) & (green < 80)).sum())

    assert (displacement.jacobian_determinant(field(SIZES_MM[NETWORK])) <= 0).any()
    assert magenta() > 50
    select(viewer, "affine")
    assert magenta() == 0


MIRRORED = Grid((9, 8, 7), (1.5, 2.0, 4.0), (3.0, -8.0, 5.0), (-1, 0, 0, 0, 1, 0, 0, 0, 1))
TILTED = tuple(Rotation.from_euler("xyz", [30, 20, -40], degrees=True).as_matrix().ravel())


@pytest.mark.parametrize(
    "grid",
    [
        MIRRORED,
        Grid((9, 8, 7), (1.5, 2.0, 4.0), (3.0, -8.0, 5.0), TILTED),
        Grid((12, 9, 1), (1.0, 1.0, 5.0), (0, 0, 0)),
    ],
    ids=["mirrored", "tilted", "one slice"],
)
def test_the_jacobian_and_moved_points_are_those_of_python(viewer, tmp_path, grid):
    rng = np.random.default_rng(3)
    u = displacement.from_voxels(rng.normal(0, 0.4, (*grid.size, 3)), grid)
    displacement.write(u, tmp_path / "displacement.nii.gz")
    indices = rng.uniform(0, 1, (20, 3)) * (np.array(grid.size) - 1)
    points = grid.to_world(np.vstack([indices, [[0, 0, 0]], [np.array(grid.size) - 1], [[-1, 0, 0]]]))
    affine = np.column_stack([grid.steps_mm, grid.origin_mm]) * np.array([-1, -1, 1])[:, None]
    determinant, moved = viewer.evaluate(
        """async ({ bytes, size, affine, points }) => {
          const { Displacement, Grid } = await import("./displacement.js");
          const u = await Displacement.read(new Uint8Array(bytes).buffer, new Grid(size, affine));
          return [Array.from(u.jacobian()), points.map(point => u.move(point))];
        }""",
        {
            "bytes": list((tmp_path / "displacement.nii.gz").read_bytes()),
            "size": list(map(int, grid.size)),
            "affine": affine.tolist(),
            "points": points.tolist(),
        },
    )
    wanted = displacement.jacobian_determinant(u)
    np.testing.assert_allclose(np.reshape(determinant, grid.size, order="F"), wanted, atol=1e-4)
    assert moved[-1] is None
    np.testing.assert_allclose(moved[:-1], displacement.move_points(points[:-1], u), atol=1e-4)


def test_a_moving_point_is_found_through_a_large_rotation(viewer):
    found = viewer.evaluate(
        """async () => {
          const { Displacement, Grid } = await import("./displacement.js");
          const size = [20, 20, 5], grid = new Grid(size, [[-2, 0, 0, 19], [0, -2, 0, 19], [0, 0, 2, -4]]);
          const [c, s] = [Math.cos(1.8), Math.sin(1.8)];
          const values = new Float32Array(3 * 2000);
          for (let n = 0; n < 2000; n++) {
            const [x, y] = grid.toWorld([n % 20, Math.floor(n / 20) % 20, Math.floor(n / 400)]);
            values[n] = c * x - s * y - x;
            values[n + 2000] = s * x + c * y - y;
          }
          const u = new Displacement(values, grid, new ArrayBuffer(352));
          const outside = u.whereAppears([100, 0, 0], [0, 0, 0]);
          return [u.whereAppears([3 * c + 7 * s, 3 * s - 7 * c, 1], [0, 0, 0]), outside];
        }"""
    )
    np.testing.assert_allclose(found[0], [3, -7, 1], atol=2e-3)
    assert found[1] is None


def test_a_displacement_on_another_grid_is_refused(viewer, cohort):
    path = cohort.path(PAIRS[0], "affine", "displacement.nii.gz")
    content = path.read_bytes()
    beside = Grid(GRID.size, GRID.spacing_mm, tuple(np.add(GRID.origin_mm, [1, 0, 0])), GRID.direction)
    try:
        displacement.write(field(3.0, beside), path)
        select(viewer, "affine")
        viewer.press("j", "jacobian")
        assert "1.00 mm beside the fixed image's" in viewer.text("message")
        assert viewer.evaluate("viewer.state.determinant") is None
    finally:
        path.write_bytes(content)


def test_opened_as_a_file_it_says_what_to_do(browser, cohort):
    page = browser.new_page()
    page.goto((cohort.folder / "results/viewer/index.html").as_uri())
    assert "make view" in page.locator("#message").inner_text()
    page.close()


def test_the_report_can_be_reached(browser, address):
    page = browser.new_page()
    page.goto(f"{address}viewer/index.html")
    page.get_by_role("link", name="Report").click()
    page.wait_for_url("**/report.html")
    assert page.title() == "the report"
    page.close()
