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
from test_charts import EPOCHS, SELECTED, WEIGHTS, titles

from cohortmorph.figures import pictures
from cohortmorph.figures import style as figures
from cohortmorph.registration import harmonize
from cohortmorph.run.files import read_json, write_json, write_table
from cohortmorph.spatial import displacement
from cohortmorph.spatial.geometry import Grid, affine, read_affine, to_array, to_image, write_image, write_transform

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
    for plane, across in pictures.PLANES.items():
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
    figure = pictures.pair(fixed, {"affine": fixed})
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
    figure = pictures.pair(fixed, dict.fromkeys(["initial", "affine", "voxelmorph"], fixed), SELECTED, "P05")
    assert sorted(titles(figure)) == ["affine", "fixed", "initial", "voxelmorph,\nλ = 1, epoch 100"]
    other = ball(grid_of(np.eye(3), size=(24, 30, 21)), (0, 0, 0))
    with pytest.raises(ValueError, match="affine: the moved image is not on the fixed image's grid"):
        pictures.pair(fixed, {"affine": other})


def head(grid, centre_mm, seed=0):
    """A head-like image: an ellipsoid with blobs, so that a rotation can be seen."""
    rng = np.random.default_rng(seed)
    points = (grid.points_mm() - centre_mm) / [40, 55, 60]
    array = np.linalg.norm(points, axis=-1) < 1
    blobs = sum(np.exp(-(np.linalg.norm(points - rng.uniform(-0.6, 0.6, 3), axis=-1) ** 2) / 0.02) for _ in range(12))
    return to_image((array * (0.4 + 0.6 * np.clip(blobs, 0, 1))).astype(np.float32), grid)


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
    figure = pictures.harmonize({"CT": fixed, "T1": moving}, {"T1": transform}, angles, starts, found, "P05")
    (panel,) = [panel for panel in figure.axes if panel.get_title(loc="center") == "T1 on CT, after"]
    outline = np.concatenate([path.vertices for path in panel.collections[0].get_paths()])
    bright = np.asarray(panel.get_images()[0].get_array()) > 0.2
    rows, columns = np.nonzero(bright)
    height = len(bright)
    # mm from the lower left corner of the picture, as the contours are
    shown = np.array(
        [columns.min() * 2, (columns.max() + 1) * 2, (height - rows.max() - 1) * 2, (height - rows.min()) * 2]
    )
    lines = np.array([*np.quantile(outline[:, 0], [0, 1]), *np.quantile(outline[:, 1], [0, 1])])
    np.testing.assert_allclose(lines, shown, atol=4)
    curves = figure.axes[0]
    assert [text.get_text() for text in curves.get_legend().get_texts()] == ["T1: 9°"]
    assert curves.lines[1].get_xdata() == [9]


def test_stacks_that_were_not_harmonized_and_single_images_are_drawn_too(tmp_path):
    grid = Grid((48, 64, 20), (2, 2, 3), (-50.0, -60.0, 10.0))
    images = {"CT": head(grid, grid.centre_mm), "T1": head(grid, grid.centre_mm)}
    for names in (["CT", "T1"], ["CT"]):
        off = harmonize.untouched(names, "CT")
        figure = pictures.harmonize(
            {name: images[name] for name in names}, off.transforms, off.angles, off.starts, off.summary
        )
        figures.save(figure, tmp_path / "harmonize.png")


def test_a_pair_is_drawn_with_the_selected_network_and_equal_limits(tmp_path):
    methods = ["initial", "harmonized", "affine", "bspline-1r", "bspline-3r",
               *(f"voxelmorph_weight-{w}_epoch-{e}" for w in WEIGHTS for e in EPOCHS)]  # fmt: skip
    assert plot_pair.shown(methods, SELECTED) == ["initial", "affine", "bspline-3r", "voxelmorph_weight-1_epoch-100"]
    assert plot_pair.shown(methods, None) == ["initial", "affine", "bspline-3r"]

    grid = grid_of(np.eye(3))
    image = ball(grid, grid.centre_mm)
    constant, dim = image * 0.0, image * 50.0
    alike = plot_pair.prepared_alike(
        {"initial": constant, "affine": dim, "bspline-3r": image * 100.0}, {"window": [0, 100]}, "P05"
    )
    assert [to_array(one).max() for one in alike.values()] == [0, 0.5, 1]
    empty = plot_pair.prepared_alike({"initial": constant, "affine": constant}, {"percentiles": [0, 100]}, "P05")
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
    plot_pair.main(
        "P05-T1_to_P05-CT", tmp_path / "fixed.nii.gz", paths[0], paths, fields, methods, tmp_path / "affine.tfm", "",
        "", settings, settings, tmp_path / "selected.json", tmp_path / "pair.png", tmp_path / "qc",
        tmp_path / "described.json",
    )  # fmt: skip
    described = read_json(tmp_path / "described.json")
    classical = ["initial", "harmonized", "affine", "bspline-1r", "bspline-3r"]
    assert list(described["methods"]) == [*classical, "voxelmorph"] and described["landmarks"] == 0
    assert matplotlib.image.imread(tmp_path / "pair.png").shape[1] <= 1600


def test_harmonize_is_drawn_from_its_files(tmp_path):
    grid = Grid((48, 64, 20), (2, 2, 3), (-50.0, -60.0, 10.0))
    names = ["CT", "T1", "T2"]
    for name in names:
        write_image(head(grid, grid.centre_mm), tmp_path / f"{name}.nii.gz")
        write_transform(affine(np.eye(3), np.zeros(3)), tmp_path / f"{name}.tfm")
    images = {"T1": {"angle_degrees": 1, "start_slice": 0}, "T2": {"angle_degrees": 1, "start_slice": 0}}
    write_json({"fixed": "CT", "held": "T2", "plane": "coronal", "images": images}, tmp_path / "found.json")
    table = pd.DataFrame({"image": ["T1", "T1", "T2", "T2"], "ncc_squared": [0.1, 0.2, 0.3, 0.4]})
    write_table(table.assign(angle_degrees=[0, 1, 0, 1]), tmp_path / "angles.tsv")
    write_table(table.assign(start_slice=[0, 1, 0, 1]), tmp_path / "starts.tsv")
    plot_harmonize.main(
        "P05", names, [tmp_path / f"{name}.nii.gz" for name in names], [{"percentiles": [0, 100]}] * 3,
        [tmp_path / f"{name}.tfm" for name in names], tmp_path / "angles.tsv", tmp_path / "starts.tsv",
        tmp_path / "found.json", tmp_path / "P05.png",
    )  # fmt: skip
    assert (tmp_path / "P05.png").stat().st_size > 10_000


def test_a_subject_that_could_not_be_harmonized_is_drawn_as_scanned(tmp_path):
    """As harmonize_subject.py leaves it where one of its images shows nothing."""
    grid = Grid((48, 64, 20), (2, 2, 3), (-50.0, -60.0, 10.0))
    names = ["CT", "T1"]
    write_image(head(grid, grid.centre_mm), tmp_path / "CT.nii.gz")
    write_image(head(grid, grid.centre_mm) * 0 + 7, tmp_path / "T1.nii.gz")
    made = [tmp_path / "out" / name for name in ("angles.tsv", "starts.tsv", "harmonize.json")]
    images = [tmp_path / f"{name}.nii.gz" for name in names]
    percentiles = [{"percentiles": [0, 100]}] * 2
    settings = {"enabled": True, "fixed": "CT", "plane": "axial", "range_degrees": 5, "step_degrees": 1,
                "refine_degrees": None, "centre": "image"}  # fmt: skip
    transforms = [tmp_path / "out" / f"{name}.tfm" for name in names]
    of_images, intensities = (dict(zip(names, values, strict=True)) for values in (images, percentiles))
    harmonize_subject.main("P05", of_images, intensities, settings, tmp_path / "out")
    found = read_json(made[2])
    assert found["failed"].startswith("T1: the intensities run from 7 to 7")
    assert read_affine(transforms[1]).TransformPoint((1.0, 2.0, 3.0)) == (1.0, 2.0, 3.0)
    plot_harmonize.main("P05", names, images, percentiles, transforms, *made, tmp_path / "P05.png")
    assert (tmp_path / "P05.png").stat().st_size > 10_000
