"""Pictures show the right side of the patient and the right shape."""

import harmonize_subject
import matplotlib.image
import numpy as np
import pandas as pd
import plot_harmonize
import plot_pair
import pytest
import SimpleITK as sitk
from matplotlib.backends.backend_agg import FigureCanvasAgg
from scipy.spatial.transform import Rotation
from test_charts import EPOCHS, OTHERS, SELECTED, WEIGHTS, by_network, titles

from cohortmorph.cohort.methods import Method
from cohortmorph.figures import pair_pictures, pictures
from cohortmorph.figures.pictures import Search
from cohortmorph.registration import harmonize
from cohortmorph.run.files import read_json, write_json, write_table
from cohortmorph.spatial import displacement
from cohortmorph.spatial.geometry import (
    PLANES,
    Grid,
    affine,
    read_affine,
    to_array,
    to_image,
    write_image,
    write_transform,
)

AXES = {
    "LPS": np.eye(3),
    "RAS": np.diag([-1.0, -1.0, 1.0]),
    "LPI": np.diag([1.0, 1.0, -1.0]),
    "oblique": Rotation.from_euler("xyz", [20, -15, 25], degrees=True).as_matrix(),
    "permuted": np.array([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]]),
    "sagittal oblique": np.array([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]])
    @ Rotation.from_euler("x", 20, degrees=True).as_matrix(),
}


def grid_of(axes, size=(24, 30, 20), spacing_mm=(2.0, 1.5, 3.0)):
    return Grid(size, spacing_mm, (-20.0, 11.0, 60.0), tuple(np.asarray(axes).ravel()))


def ball(grid, centre_mm, radius_mm=5):
    distance_mm = np.linalg.norm(grid.points_mm() - centre_mm, axis=-1)
    return to_image((distance_mm < radius_mm).astype(np.float32), grid)


@pytest.mark.parametrize("axes", AXES.values(), ids=AXES)
@pytest.mark.parametrize("towards", ["L", "R", "P", "A", "S", "I"])
def test_what_lies_on_a_side_of_the_patient_is_shown_at_its_letter(axes, towards):
    grid = grid_of(axes)
    sides = {"L": (1, 0, 0), "R": (-1, 0, 0), "P": (0, 1, 0), "A": (0, -1, 0), "S": (0, 0, 1), "I": (0, 0, -1)}
    centre_mm = grid.centre_mm + 13 * np.array(sides[towards])
    image = pictures.oriented(ball(grid, centre_mm, radius_mm=6))
    seen = 0
    for plane, across in PLANES.items():
        voxels = Grid.of(image).to_indices(centre_mm)
        picture = pictures.cut(image, plane, round(voxels[across]))
        if towards not in picture.letters.values():
            continue
        rows, columns = np.nonzero(picture.values)
        height, width = picture.values.shape
        place = {"left": -(columns.mean() - (width - 1) / 2) / width, "top": -(rows.mean() - (height - 1) / 2) / height}
        place |= {"right": -place["left"], "bottom": -place["top"]}
        side = next(side for side, letter in picture.letters.items() if letter == towards)
        assert max(place, key=place.get) == side
        seen += 1
    assert seen == 2


@pytest.mark.parametrize("axes", AXES.values(), ids=AXES)
def test_pictures_look_as_radiologists_expect(axes):
    image = pictures.oriented(ball(grid_of(axes), (0, 0, 0)))
    assert pictures.cut(image, "axial", 3).letters == {"left": "R", "right": "L", "top": "A", "bottom": "P"}
    assert pictures.cut(image, "coronal", 3).letters == {"left": "R", "right": "L", "top": "S", "bottom": "I"}
    assert pictures.cut(image, "sagittal", 3).letters == {"left": "A", "right": "P", "top": "S", "bottom": "I"}


@pytest.mark.parametrize("axes", AXES.values(), ids=AXES)
def test_a_ball_is_round_whatever_the_voxels(axes):
    grid = grid_of(axes, size=(60, 40, 11), spacing_mm=(0.8, 1.2, 4.8))
    fixed = ball(grid, grid.centre_mm, radius_mm=15)
    figure = pictures.pair(fixed, {Method("affine"): fixed})
    FigureCanvasAgg(figure).draw()
    drawn = [panel for panel in figure.axes if panel.get_images()]
    assert len(drawn) >= 8
    for panel in drawn:
        values = np.asarray(panel.get_images()[0].get_array())
        if values.max() < 1:
            continue  # the difference, which is zero here
        box = panel.get_window_extent()
        rows, columns = (np.ptp(index) + 1 for index in np.nonzero(values > 0.5))
        height_pixels, width_pixels = rows * box.height / values.shape[0], columns * box.width / values.shape[1]
        voxel_pixels = max(box.height / values.shape[0], box.width / values.shape[1])
        assert abs(height_pixels - width_pixels) < 2.1 * voxel_pixels
        assert height_pixels > 20


def test_a_thin_slab_is_shown_in_its_own_slices_and_a_volume_in_three_planes():
    slab, volume = (
        to_image(np.zeros(size, np.float32), Grid(size, (2, 2, 2), (0, 0, 0))) for size in [(60, 50, 9), (60, 50, 40)]
    )
    assert pictures.views(slab) == [("axial", 2), ("axial", 4), ("axial", 6)]
    assert [plane for plane, _ in pictures.views(volume)] == ["axial", "coronal", "sagittal"]


def test_a_checkerboard_has_squares_of_equal_length_and_both_images():
    fixed = pictures.Cut(np.zeros((16, 80)), (80.0, 80.0), {})
    board = pictures.checkerboard(fixed, pictures.Cut(np.ones((16, 80)), (80.0, 80.0), {}), fields=8)
    assert board.values.mean() == 0.5
    assert (board.values[:2, :10] == 0).all() and (board.values[:2, 10:20] == 1).all()
    assert (board.values[2:4, :10] == 1).all()


def test_a_pair_shows_every_method_and_refuses_another_grid():
    grid = grid_of(np.eye(3))
    fixed = ball(grid, grid.centre_mm)
    methods = [Method("initial"), Method("affine"), Method("voxelmorph", "1", 100)]
    figure = pictures.pair(fixed, dict.fromkeys(methods, fixed), "P05")
    assert sorted(titles(figure)) == ["affine", "fixed", "initial", "voxelmorph,\nλ = 1, epoch 100"]
    other = ball(grid_of(np.eye(3), size=(24, 30, 21)), (0, 0, 0))
    with pytest.raises(ValueError, match="affine: the moved image is not on the fixed image's grid"):
        pictures.pair(fixed, {Method("affine"): other})


def test_the_column_of_a_method_shows_its_own_image_and_its_difference():
    grid = grid_of(np.eye(3))
    fixed, near, far = (ball(grid, grid.centre_mm + [shift_mm, 0, 0], 9) for shift_mm in (0, 4, 10))
    figure = pictures.pair(fixed, {Method("zeta"): near, Method("alpha"): far}, "P05")
    panels = np.array([axes for axes in figure.axes if axes.get_images() or not axes.axison][:15]).reshape(5, 3)
    assert [axes.get_title(loc="center") for axes in panels[0]] == ["fixed", "zeta", "alpha"]
    drawn = [np.asarray(axes.get_images()[0].get_array()) for axes in panels[0]]
    middles = [np.nonzero(picture > 0.5)[1].mean() * 2 for picture in drawn]  # 2 mm a column
    np.testing.assert_allclose(np.subtract(middles, middles[0]), [0, 4, 10], atol=0.3)
    differences = [np.asarray(axes.get_images()[0].get_array()) for axes in panels[4, 1:]]
    for difference, moved in zip(differences, drawn[1:], strict=True):
        np.testing.assert_array_equal(difference, drawn[0] - moved)


def head(grid, centre_mm, seed=0):
    """A head-like image: an ellipsoid with blobs, so that a rotation can be seen."""
    rng = np.random.default_rng(seed)
    points = (grid.points_mm() - centre_mm) / [40, 55, 60]
    array = np.linalg.norm(points, axis=-1) < 1
    blobs = sum(np.exp(-(np.linalg.norm(points - rng.uniform(-0.6, 0.6, 3), axis=-1) ** 2) / 0.02) for _ in range(12))
    return to_image((array * (0.4 + 0.6 * np.clip(blobs, 0, 1))).astype(np.float32), grid)


def panel_of(figure, title):
    (panel,) = [panel for panel in figure.axes if panel.get_title(loc="center") == title]
    return panel


def outline_mm(panel):
    """Return left, right, bottom and top of the contours, in mm from the lower left corner of the picture."""
    outline = np.concatenate([path.vertices for path in panel.collections[0].get_paths()])
    return np.array([*np.quantile(outline[:, 0], [0, 1]), *np.quantile(outline[:, 1], [0, 1])])


def shown_mm(panel):
    """Return the same of what is bright in the fixed image."""
    image = panel.get_images()[0]
    bright = np.asarray(image.get_array()) > 0.2
    _, width_mm, _, height_mm = image.get_extent()
    column_mm, row_mm = width_mm / bright.shape[1], height_mm / bright.shape[0]
    rows, columns = np.nonzero(bright)
    return np.array([columns.min() * column_mm, (columns.max() + 1) * column_mm,
                     height_mm - (rows.max() + 1) * row_mm, height_mm - rows.min() * row_mm])  # fmt: skip


def assert_outline_lies_on_the_fixed_image(figure, title):
    panel = panel_of(figure, title)
    np.testing.assert_allclose(outline_mm(panel), shown_mm(panel), atol=4)


def words_in(axes):
    return [text.get_text() for text in axes.texts]


@pytest.fixture
def kept(monkeypatch):
    """The figures that plot_harmonize.py saves."""
    figures, save = [], plot_harmonize.save

    def keep(figure, *paths, **options):
        figures.append(figure)
        save(figure, *paths, **options)

    monkeypatch.setattr(plot_harmonize, "save", keep)
    return figures


@pytest.mark.parametrize("axes", [AXES["LPS"], AXES["RAS"], AXES["oblique"]], ids=["LPS", "RAS", "oblique"])
def test_harmonized_contours_lie_on_the_fixed_image(axes):
    grid = Grid((48, 64, 20), (2, 2, 3), (-50.0, -60.0, 10.0))
    fixed = head(grid, grid.centre_mm + [4, -8, 0])
    turn = Rotation.from_euler("z", 9, degrees=True).as_matrix()
    transform = affine(turn, grid.centre_mm - turn @ grid.centre_mm + [0, 0, 40])  # fixed → moving
    there = Grid((90, 90, 60), (2, 2, 2), (0.0, 0.0, 0.0), tuple(np.asarray(axes).ravel()))
    middle_mm = np.array(transform.TransformPoint(tuple(grid.centre_mm)))
    there = Grid(there.size, there.spacing_mm, tuple(middle_mm - there.centre_mm), there.direction)
    moving = sitk.Resample(fixed, to_image(np.zeros(there.size, np.float32), there), transform.GetInverse())
    found = {"fixed": "CT", "held": "T2", "plane": "axial", "images": {"T1": {"angle_degrees": 9, "start_slice": 2}}}
    angles = pd.DataFrame({"image": "T1", "angle_degrees": [8, 9, 10], "ncc_squared": [0.2, 0.5, 0.3]})
    starts = pd.DataFrame({"image": "T1", "start_slice": [1, 2, 3], "ncc_squared": [0.2, 0.5, 0.3]})
    figure = pictures.harmonize({"CT": fixed, "T1": moving}, Search({"T1": transform}, angles, starts, found), "P05")
    assert_outline_lies_on_the_fixed_image(figure, "T1 on CT, after")
    curves = figure.axes[0]
    assert [text.get_text() for text in curves.get_legend().get_texts()] == ["T1: 9°"]
    assert curves.lines[1].get_xdata() == [9]


def test_stacks_that_were_not_harmonized_are_drawn_where_the_scanner_put_them():
    grid = Grid((48, 64, 20), (2, 2, 3), (-50.0, -60.0, 10.0))
    images = {"CT": head(grid, grid.centre_mm), "T1": head(grid, grid.centre_mm + [6, -3, 0])}
    off = harmonize.untouched(["CT", "T1"], "CT")
    figure = pictures.harmonize(images, Search(off.transforms, off.angles, off.starts, off.summary))
    assert words_in(figure.axes[0]) == words_in(figure.axes[1]) == ["not searched"]
    panel = panel_of(figure, "T1 on CT, as scanned")
    # To the patient's left, which is on the right, and to the front, which is on top.
    np.testing.assert_allclose(outline_mm(panel) - shown_mm(panel), [6, 6, 3, 3], atol=2.5)


def test_of_a_single_image_is_said_that_there_is_no_other():
    grid = Grid((48, 64, 20), (2, 2, 3), (-50.0, -60.0, 10.0))
    off = harmonize.untouched(["CT"], "CT")
    search = Search(off.transforms, off.angles, off.starts, off.summary)
    figure = pictures.harmonize({"CT": head(grid, grid.centre_mm)}, search)
    assert [text.get_text() for text in figure.texts] == ["There is no other image to make comparable with CT."]


def test_a_pair_is_drawn_with_the_selected_network_and_equal_limits(tmp_path):
    methods = ["initial", "harmonized", "affine", "bspline-1r", "bspline-3r",
               *(f"voxelmorph_weight-{w}_epoch-{e}" for w in WEIGHTS for e in EPOCHS)]  # fmt: skip
    network = "voxelmorph_weight-1_epoch-100"
    drawn = pair_pictures.methods_to_draw(methods, by_network(SELECTED))
    classical = methods[:5]
    assert [method.id for method in drawn] == [*classical, network]
    few = pair_pictures.methods_of_overview(drawn)
    assert [method.id for method in few] == ["initial", "affine", "bspline-3r", network]
    others = [method.replace("voxelmorph", "voxelmorph-diff") for method in methods[5:]]
    both = pair_pictures.methods_to_draw([*methods, *others], by_network(SELECTED, OTHERS))
    few = [method.id for method in pair_pictures.methods_of_overview(both)]
    assert few == ["initial", "affine", "bspline-3r", network, "voxelmorph-diff_weight-10_epoch-20"]
    without = pair_pictures.methods_to_draw(methods, {})
    assert [method.id for method in without] == classical
    few = pair_pictures.methods_of_overview(list(map(Method, ["initial", "affine", "zeta", "alpha"])))
    assert [method.id for method in few] == ["initial", "affine", "alpha"], "the last of the configuration"

    grid = grid_of(np.eye(3))
    image = ball(grid, grid.centre_mm)
    constant, dim = image * 0.0, image * 50.0
    alike = pair_pictures.prepared_alike(
        dict(zip(map(Method, "abc"), (constant, dim, image * 100.0), strict=True)), {"window": [0, 100]}, "P05"
    )
    assert [to_array(one).max() for one in alike.values()] == [0, 0.5, 1]
    empty = pair_pictures.prepared_alike(
        {Method("a"): constant, Method("b"): constant}, {"percentiles": [0, 100]}, "P05"
    )
    assert [to_array(one).max() for one in empty.values()] == [0, 0]

    paths = [tmp_path / f"{method}.nii.gz" for method in methods]
    for path in (*paths, tmp_path / "fixed.nii.gz"):
        write_image(image, path)
    write_json(SELECTED, tmp_path / "selected.json")
    settings = {"percentiles": [0, 100]}
    field = displacement.sample(affine(np.eye(3), [1.0, 0, 0]), grid)
    fields = [tmp_path / method / "displacement.nii.gz" for method in methods]
    for path in fields:
        displacement.write(field, path)
    write_transform(affine(np.eye(3), np.zeros(3)), tmp_path / "affine.tfm")
    files = {"fixed": tmp_path / "fixed.nii.gz", "moving": paths[0], "moved": paths, "displacements": fields,
             "affine": tmp_path / "affine.tfm", "fixed_landmarks": [],
             "selected": [tmp_path / "selected.json"]}  # fmt: skip
    outputs = {"overview": tmp_path / "pair.png", "pictures": tmp_path / "qc", "description": tmp_path / "qc.json"}
    plot_pair.main(files, "P05-T1_to_P05-CT", methods, [settings, settings], **outputs)
    described = read_json(tmp_path / "qc.json")
    assert list(described["methods"]) == [*classical, "voxelmorph"] and described["landmarks"] == 0
    assert matplotlib.image.imread(tmp_path / "pair.png").shape[1] <= 1600


def test_harmonize_is_drawn_from_its_files(tmp_path, kept):
    grid = Grid((72, 64, 60), (2, 2, 3), (-50.0, -60.0, 10.0))
    fixed = head(grid, grid.centre_mm + [5, 0, -8])
    # Each image shows the head elsewhere, and its own transform leads there.
    shifts_mm = {"CT": [0.0, 0, 0], "T1": [14.0, 0, -9], "T2": [-10.0, 3, 12]}
    for name, shift_mm in shifts_mm.items():
        there = affine(np.eye(3), shift_mm)
        write_image(sitk.Resample(fixed, fixed, there.GetInverse()), tmp_path / f"{name}.nii.gz")
        write_transform(there, tmp_path / f"{name}.tfm")
    chosen = {"T1": {"angle_degrees": 1, "start_slice": 0}, "T2": {"angle_degrees": 0, "start_slice": 1}}
    found = {"fixed": "CT", "held": "T2", "plane": "coronal", "images": chosen}
    write_json(found, tmp_path / "harmonize.json")
    table = pd.DataFrame({"image": ["T1", "T1", "T2", "T2"], "ncc_squared": [0.1, 0.2, 0.3, 0.4]})
    write_table(table.assign(angle_degrees=[0, 1, 0, 1]), tmp_path / "angles.tsv")
    write_table(table.assign(start_slice=[0, 1, 0, 1]), tmp_path / "starts.tsv")
    images = [tmp_path / f"{name}.nii.gz" for name in shifts_mm]
    plot_harmonize.main("P05", list(shifts_mm), images, [{"percentiles": [0, 100]}] * 3, tmp_path, tmp_path / "P05.png")
    assert matplotlib.image.imread(tmp_path / "P05.png").shape[1] <= 1600
    (figure,) = kept
    assert figure.get_suptitle() == "P05"
    for name, shift_mm in (("T1", shifts_mm["T1"]), ("T2", shifts_mm["T2"])):
        assert_outline_lies_on_the_fixed_image(figure, f"{name} on CT, after")
        before = panel_of(figure, f"{name} on CT, before")
        across_mm, up_mm = shift_mm[0], shift_mm[2]
        np.testing.assert_allclose(outline_mm(before) - shown_mm(before), [across_mm, across_mm, up_mm, up_mm], atol=4)
    legends = [[text.get_text() for text in axes.get_legend().get_texts()] for axes in figure.axes[:2]]
    assert legends == [["T1: 1°", "T2: 0°"], ["T1: 0", "T2: 1"]]
    rings = [line for line in figure.axes[0].lines if line.get_marker() == "o"]
    assert [(ring.get_xdata()[0], ring.get_ydata()[0]) for ring in rings] == [(1, 0.2), (0, 0.3)]
    assert figure.axes[1].get_xlabel() == "start slice (held: T2)"


def test_a_subject_that_could_not_be_harmonized_is_drawn_as_scanned(tmp_path, kept):
    """As harmonize_subject.py leaves it where one of its images shows nothing."""
    grid = Grid((48, 64, 20), (2, 2, 3), (-50.0, -60.0, 10.0))
    names = ["CT", "T1"]
    write_image(head(grid, grid.centre_mm), tmp_path / "CT.nii.gz")
    write_image(head(grid, grid.centre_mm) * 0 + 7, tmp_path / "T1.nii.gz")
    images, harmonized = [tmp_path / f"{name}.nii.gz" for name in names], tmp_path / "harmonized"
    percentiles = [{"percentiles": [0, 100]}] * 2
    settings = {"enabled": True, "fixed": "CT", "plane": "axial", "range_degrees": 5, "step_degrees": 1,
                "refine_degrees": None, "centre": "image"}  # fmt: skip
    given = [dict(zip(names, values, strict=True)) for values in (images, percentiles)]
    harmonize_subject.main("P05", *given, settings, harmonized)
    found = read_json(harmonized / "harmonize.json")
    assert found["failed"].startswith("T1: the intensities run from 7 to 7")
    assert read_affine(harmonized / "T1.tfm").TransformPoint((1.0, 2.0, 3.0)) == (1.0, 2.0, 3.0)
    plot_harmonize.main("P05", names, images, percentiles, harmonized, tmp_path / "P05.png")
    (figure,) = kept
    assert words_in(figure.axes[0]) == words_in(figure.axes[1]) == ["failed"]
    panel = panel_of(figure, "T1 on CT, as scanned")
    assert np.asarray(panel.get_images()[0].get_array()).max() > 0.5, "the CT is there"
    assert not any(len(path.vertices) for lines in panel.collections for path in lines.get_paths()), "the T1 is blank"
    assert matplotlib.image.imread(tmp_path / "P05.png").shape[1] <= 1600
