"""Figures show the right side of the patient, the right shape and the summary's numbers, whatever was not measured."""

import harmonize_subject
import matplotlib.image
import numpy as np
import pandas as pd
import plot_comparison
import plot_harmonize
import plot_pair
import plot_training
import pytest
import SimpleITK as sitk
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text
from scipy.spatial.transform import Rotation

from cohortmorph import figures, harmonize, statistics
from cohortmorph.files import read_json, write_json, write_table
from cohortmorph.geometry import Grid, affine, read_affine, to_array, to_image, write_image, write_transform
from cohortmorph.metrics import COLUMNS, table_of

WEIGHTS, EPOCHS = ("0.5", "1", "10"), (20, 100)
AXES = {
    "LPS": np.eye(3),
    "RAS": np.diag([-1.0, -1.0, 1.0]),
    "LPI": np.diag([1.0, 1.0, -1.0]),
    "oblique": Rotation.from_euler("xyz", [20, -15, 25], degrees=True).as_matrix(),
    "permuted": np.array([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]]),
    "sagittal oblique": np.array([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]])
    @ Rotation.from_euler("x", 20, degrees=True).as_matrix(),
}


def cohort_metrics(landmarks=True, labels=True, learned=True, subjects=None, seed=0):
    """Make a tidy table as measure_pair writes it: better methods have better values, pairs differ."""
    rng = np.random.default_rng(seed)
    subjects = subjects or {"validation": ["P04", "P07"], "test": ["P05", "P06"]}
    # TRE in mm, Dice, squared NCC, folding in %, runtime in s
    quality = {
        "initial": (30, 0.3, 0.1, 0, None),
        "affine": (4, 0.6, 0.3, 0, 7),
        "bspline-1r": (2, 0.7, 0.4, 0.1, 18),
        "bspline-3r": (1.5, 0.8, 0.5, 0, 25),
    }
    for rank, weight in enumerate(WEIGHTS if learned else ()):
        for epoch in EPOCHS:
            name = f"voxelmorph_weight-{weight}_epoch-{epoch}"
            quality[name] = (2 + rank * 0.3 + 20 / epoch, 0.75 - 2 / epoch, 0.45 - rank / 20 - 2 / epoch, 0, 2)
    tables = []
    for split, ids in subjects.items():
        for subject in ids:
            for image in ("T1", "T2"):
                for method, (tre_mm, dice, ncc, folding, seconds) in quality.items():
                    f = rng.normal(1, 0.05)
                    rows = [("ncc_squared", "image", ncc * f, "1"), ("folding", "image", folding * f, "%")]
                    if landmarks:
                        rows += [("tre_mean", axis, tre_mm * f * part, "mm")
                                 for axis, part in {"total": 1, "x": 0.5, "y": 0.6, "z": 0.4}.items()]  # fmt: skip
                        rows += [("tre_near_mean", "total", tre_mm * f * 0.9, "mm")]
                        rows += [("landmarks_n", "total", 40, "count"), ("landmarks_outside", "total", 0, "count")]
                    if labels:
                        rows += [("dice", label, min(dice * f, 1), "1") for label in ("1", "2", "mean")]
                    if seconds:
                        rows.append(("runtime", "image", seconds * f, "s"))
                    tables.append(table_of(rows, f"{subject}-{image}_to_{subject}-CT", split, method))
    return pd.concat(tables, ignore_index=True)


def summarized(metrics):
    return statistics.summarize(metrics, 200, 1)


def histories(epochs=30):
    epoch = np.arange(1, epochs + 1)
    tables = {}
    for weight in WEIGHTS:
        table = pd.DataFrame({"epoch": epoch, "similarity": -0.5 + 1 / epoch, "penalty": 0.01 * epoch / float(weight)})
        table["loss"] = table.similarity + float(weight) * table.penalty
        table["label_loss"] = 0.0
        for part in ("loss", "similarity", "penalty"):
            table[f"validation_{part}"] = table[part].where(epoch % 10 == 0)
        tables[weight] = table.assign(seconds=0.1)
    return tables


SELECTED = {"weight": "1", "epoch": 100}


def titles(figure):
    return [
        axes.get_title(loc=where) for axes in figure.axes for where in ("left", "center") if axes.get_title(loc=where)
    ]


def grid_of(axes, size=(24, 30, 20), spacing_mm=(2.0, 1.5, 3.0)):
    return Grid(size, spacing_mm, (-20.0, 11.0, 60.0), tuple(np.asarray(axes).ravel()))


def ball(grid, centre_mm, radius_mm=5):
    distance_mm = np.linalg.norm(grid.points_mm() - centre_mm, axis=-1)
    return to_image((distance_mm < radius_mm).astype(np.float32), grid)


# Pictures -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("axes", AXES.values(), ids=AXES)
@pytest.mark.parametrize("towards", ["L", "R", "P", "A", "S", "I"])
def test_what_lies_on_a_side_of_the_patient_is_shown_at_its_letter(axes, towards):
    grid = grid_of(axes)
    sides = {"L": (1, 0, 0), "R": (-1, 0, 0), "P": (0, 1, 0), "A": (0, -1, 0), "S": (0, 0, 1), "I": (0, 0, -1)}
    centre_mm = grid.centre_mm + 13 * np.array(sides[towards])
    image = figures.oriented(ball(grid, centre_mm, radius_mm=6))
    seen = 0
    for plane, across in figures.PLANES.items():
        voxels = Grid.of(image).to_indices(centre_mm)
        picture = figures.cut(image, plane, round(voxels[across]))
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
    image = figures.oriented(ball(grid_of(axes), (0, 0, 0)))
    assert figures.cut(image, "axial", 3).letters == {"left": "R", "right": "L", "top": "A", "bottom": "P"}
    assert figures.cut(image, "coronal", 3).letters == {"left": "R", "right": "L", "top": "S", "bottom": "I"}
    assert figures.cut(image, "sagittal", 3).letters == {"left": "A", "right": "P", "top": "S", "bottom": "I"}


@pytest.mark.parametrize("axes", AXES.values(), ids=AXES)
def test_a_ball_is_round_whatever_the_voxels(axes):
    grid = grid_of(axes, size=(60, 40, 11), spacing_mm=(0.8, 1.2, 4.8))
    fixed = ball(grid, grid.centre_mm, radius_mm=15)
    figure = figures.pair(fixed, {"affine": fixed})
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
    assert figures.views(slab) == [("axial", 2), ("axial", 4), ("axial", 6)]
    assert [plane for plane, _ in figures.views(volume)] == ["axial", "coronal", "sagittal"]


def test_a_checkerboard_has_squares_of_equal_length_and_both_images():
    fixed = figures.Cut(np.zeros((16, 80)), (80.0, 80.0), {})
    board = figures.checkerboard(fixed, figures.Cut(np.ones((16, 80)), (80.0, 80.0), {}), fields=8)
    assert board.values.mean() == 0.5
    assert (board.values[:2, :10] == 0).all() and (board.values[:2, 10:20] == 1).all()
    assert (board.values[2:4, :10] == 1).all()


def test_a_pair_shows_every_method_and_refuses_another_grid():
    grid = grid_of(np.eye(3))
    fixed = ball(grid, grid.centre_mm)
    figure = figures.pair(fixed, dict.fromkeys(["initial", "affine", "voxelmorph"], fixed), SELECTED, "P05")
    assert sorted(titles(figure)) == ["affine", "fixed", "initial", "voxelmorph,\nλ = 1, epoch 100"]
    other = ball(grid_of(np.eye(3), size=(24, 30, 21)), (0, 0, 0))
    with pytest.raises(ValueError, match="affine: the moved image is not on the fixed image's grid"):
        figures.pair(fixed, {"affine": other})


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
    figure = figures.harmonize({"CT": fixed, "T1": moving}, {"T1": transform}, angles, starts, found, "P05")
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
        figure = figures.harmonize(
            {name: images[name] for name in names}, off.transforms, off.angles, off.starts, off.summary
        )
        figures.save(figure, tmp_path / "harmonize.png")


# Tables ---------------------------------------------------------------------------------------------------------------

MISSING = [
    (landmarks, labels, learned) for landmarks in (True, False) for labels in (True, False) for learned in (True, False)
]


@pytest.mark.parametrize(("landmarks", "labels", "learned"), MISSING)
def test_figures_show_what_was_measured_and_nothing_else(tmp_path, landmarks, labels, learned):
    metrics = cohort_metrics(landmarks, labels, learned)
    summary, selected = summarized(metrics), SELECTED if learned else None
    drawn = {
        "selection": figures.selection(summary, selected),
        "weights": figures.weights(metrics, summary),
        "comparison": figures.comparison(metrics, summary, selected),
        "runtime": figures.runtime(summary, selected),
        "folding": figures.folding(metrics, summary, selected),
        "structures": figures.structures(metrics, selected),
    }
    for name, figure in drawn.items():
        figures.save(figure, tmp_path / f"{name}.png")
        words = " ".join(titles(figure))
        if name == "folding":
            assert ("TRE" in words) == landmarks and ("Dice" in words) == (labels and not landmarks)
        elif name == "structures":
            words += figure.get_suptitle()
            assert ("Dice of each label" in words) == labels
            assert ("TRE of each axis" in words) == (landmarks and not labels)
        elif learned or name in ("comparison", "runtime"):
            assert ("TRE" in words) == landmarks
            assert ("Dice" in words) == labels
            assert ("NCC" in words) == (name in ("selection", "weights") or not (landmarks or labels))
        else:
            assert "No network was measured" in figure.texts[0].get_text()


def test_the_comparison_shows_means_of_the_summary_on_test_pairs_and_the_selected_network_only():
    metrics = cohort_metrics()
    summary = summarized(metrics)
    figure = figures.comparison(metrics, summary, SELECTED)
    panel = figure.axes[0]
    methods = ["initial", "affine", "bspline-1r", "bspline-3r", "voxelmorph,\nλ = 1, epoch 100"]
    assert [label.get_text() for label in panel.get_yticklabels()] == methods
    diamonds = [line.get_xdata()[0] for line in panel.lines if line.get_marker() == "D"]
    test = figures.TRE.rows(figures.compared(summary[summary.split == "test"], SELECTED)).set_index("method")["mean"]
    np.testing.assert_allclose(
        diamonds, test[["initial", "affine", "bspline-1r", "bspline-3r", "voxelmorph"]], rtol=1e-12
    )
    assert all(len(points.get_offsets()) == 4 for points in panel.collections if len(points.get_offsets()) > 1)
    assert [text.get_text() for text in panel.texts] == ["n = 4"] * 5


NAMES = ["initial", "harmonized", "affine", "bspline-1r", "bspline-3r", "bspline-mutual-information", "niftyreg",
         "ants-syn", "ants-elastic-syn", "demons-diffeomorphic", "deeds", "convexadam", "unigradicon"]  # fmt: skip


def many_methods(count, subjects=6, failing=0, seed=0):
    """Return a table of `count` methods beside the network, their times and errors close together."""
    random = np.random.default_rng(seed)
    tables = []
    for place, method in enumerate([*NAMES[:count], "voxelmorph_weight-1_epoch-100"]):
        tre_mm, seconds = random.uniform(1.3, 2.6), 10 ** random.uniform(0.8, 1.6)
        for subject in range(subjects):
            rows = [("tre_mean", "total", tre_mm * random.lognormal(0, 0.1), "mm"),
                    ("dice", "mean", 0.9 - tre_mm / 10, "1"), ("folding", "image", place / 10, "%"),
                    ("runtime", "image", 0.0 if place < 2 else seconds * random.lognormal(0, 0.1), "s")]  # fmt: skip
            if place == count - 1 and subject < failing:
                rows = [(name, of, np.nan, unit) for name, of, _, unit in rows]
            tables.append(table_of(rows, f"S{subject}-T1_to_S{subject}-CT", "test", method))
    return pd.concat(tables, ignore_index=True)


@pytest.mark.parametrize(("count", "subjects", "failing"), [(3, 6, 0), (7, 1, 0), (8, 6, 2), (13, 8, 1)])
@pytest.mark.parametrize("seed", range(3))
def test_each_method_is_named_beside_its_point_and_no_name_covers_another(count, subjects, failing, seed):
    summary = summarized(many_methods(count, subjects, failing, seed))
    figure = figures.runtime(summary, SELECTED)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    assert not figure.legends
    for axes in figure.axes:
        names = axes.texts
        shown = {text.get_text().split(" (")[0] for text in names}
        assert shown == {*NAMES[2:count], "voxelmorph, λ = 1, epoch 100"}, (
            "those without a time of their own are left out"
        )
        assert sum("failed" in text.get_text() for text in names) == (failing > 0)
        boxes = {text.get_text(): Text.get_window_extent(text, canvas.get_renderer()) for text in names}
        inside = axes.get_window_extent()
        points = [axes.transData.transform(text.xy) for text in names]
        for name, box in boxes.items():
            assert inside.x0 <= box.x0 and box.x1 <= inside.x1 and inside.y0 <= box.y0 and box.y1 <= inside.y1, name
            assert not any(box.contains(*point) for point in points), f"{name} covers a point"
            assert not [other for other in boxes if other != name and box.overlaps(boxes[other])], name


def test_the_pareto_front_is_what_no_other_method_beats():
    points = pd.DataFrame({"x": [1, 2, 3, 4, 4], "y": [5, 6, 3, 3, 1]}, index=list("abcde"))
    assert figures.pareto_front(points, lower_is_better=True) == ["a", "c", "e"]
    assert figures.pareto_front(points, lower_is_better=False) == ["a", "b"]
    figure = figures.runtime(summarized(many_methods(8)), SELECTED)
    (dashed,) = [line for line in figure.axes[0].lines if line.get_linestyle() == "--"]
    y = dashed.get_ydata()
    assert (np.diff(dashed.get_xdata()) > 0).all() and (np.diff(y) < 0).all()


def test_runtime_shows_the_intervals_of_the_summary():
    summary = summarized(cohort_metrics())
    axes = figures.runtime(summary, SELECTED).axes[0]
    row = figures.TRE.rows(summary[(summary.split == "test") & (summary.method == "affine")]).iloc[0]
    ends = [segment for lines in axes.collections for segment in lines.get_segments()]
    assert any(np.allclose(segment[:, 1], [row.ci_low, row.ci_high]) for segment in ends)


def test_folding_stands_beside_accuracy_and_zero_has_a_place():
    metrics = cohort_metrics()
    figure = figures.folding(metrics, summarized(metrics), SELECTED)
    assert titles(figure) == ["TRE on test pairs (lower is better)", "Folding on test pairs (lower is better)"]
    panel = figure.axes[1]
    assert "% of voxels" in panel.get_xlabel() and panel.get_xlim()[0] < 0
    diamonds = [line.get_xdata()[0] for line in panel.lines if line.get_marker() == "D"]
    assert diamonds[0] == 0 and diamonds[2] == pytest.approx(0.1, abs=0.02) and max(diamonds) < panel.get_xlim()[1]
    metrics.loc[metrics.metric == "folding", "value"] = 0
    still = figures.folding(metrics, summarized(metrics), SELECTED)
    assert "no method folds anywhere" in [text.get_text() for text in still.axes[1].texts]


def test_structures_are_drawn_one_by_one_and_of_many_the_worst():
    metrics = cohort_metrics()
    failing = (metrics.pair == "P05-T1_to_P05-CT") & (metrics.method == "affine") & (metrics.metric == "dice")
    metrics.loc[failing, "value"] = np.nan
    figure = figures.structures(metrics, SELECTED)
    assert titles(figure) == ["label 1", "label 2"] and "4 test pairs" in figure.get_suptitle()
    crosses = [points for points in figure.axes[0].collections
               if len(points.get_offsets()) == 1 and points.get_sizes()[0] == 22]  # fmt: skip
    initial = metrics[(metrics.pair == "P05-T1_to_P05-CT") & (metrics.method == "initial")]
    assert crosses[0].get_offsets()[0][0] == figures.DICE.rows(initial).value.iloc[0], "as bad as doing nothing"
    assert "failed" in figure.get_supxlabel()
    medians = [line.get_xdata()[0] for line in figure.axes[1].lines if line.get_linewidth() == 1.6]
    of_label = metrics[(metrics.split == "test") & (metrics.structure == "2") & (metrics.method == "bspline-3r")]
    assert medians[3] == pytest.approx(of_label.value.median())
    rows = [("dice", str(label), 1 - label / 100, "1") for label in range(1, 36)]
    many = table_of(rows, "P1-T1_to_P1-CT", "test", "affine")
    figure = figures.structures(many)
    assert titles(figure) == [f"label {number}" for number in range(24, 36)]
    assert "the 12 worst of 35 labels" in figure.get_suptitle()


def test_failed_pairs_are_said(tmp_path):
    metrics = cohort_metrics()
    first = (metrics.pair == "P05-T1_to_P05-CT") & (metrics.method == "affine") & (metrics.metric == "tre_mean")
    metrics.loc[first, "value"] = np.nan
    figure = figures.comparison(metrics, summarized(metrics), SELECTED)
    assert [text.get_text() for text in figure.axes[0].texts][1] == "n = 4,\n1 failed"
    # The pair is not lost: its cross lies where the worst method on that pair is.
    worst = metrics[(metrics.pair == "P05-T1_to_P05-CT") & (metrics.metric == "tre_mean")
                    & (metrics.structure == "total")].value.max()  # fmt: skip
    offsets = [
        tuple(points.get_offsets()[0]) for points in figure.axes[0].collections if len(points.get_offsets()) == 1
    ]
    assert worst in [x for x, _ in offsets]
    assert "failed: the worst of that pair counts" in [text.get_text() for text in figure.legends[0].get_texts()]


def test_the_choice_of_the_network_shows_validation_pairs_only():
    metrics = cohort_metrics()
    spoiled = metrics.assign(value=metrics.value.where(metrics.split != "test", 1e6))
    lines = []
    for table in (metrics, spoiled):
        for figure in (figures.selection(summarized(table), SELECTED), figures.weights(table, summarized(table))):
            lines.append([np.asarray(line.get_ydata(), float) for panel in figure.axes for line in panel.lines])
    for one, other in zip(lines[:2], lines[2:], strict=True):
        assert len(one) == len(other) > 10
        for a, b in zip(one, other, strict=True):
            np.testing.assert_array_equal(a, b)


def test_the_selected_network_is_marked():
    summary = summarized(cohort_metrics())
    panel = next(
        axes for axes in figures.selection(summary, SELECTED).axes if axes.get_title(loc="left").startswith("TRE")
    )
    (ring,) = [line for line in panel.lines if line.get_markersize() == 15]
    rows = figures.TRE.rows(summary[(summary.split == "validation") & (summary.method == "voxelmorph")])
    chosen = rows[(rows.weight == "1") & (rows.epoch == 100)]
    np.testing.assert_allclose(ring.get_ydata(), chosen["mean"])


def test_training_shows_every_weight_and_its_validation():
    figure = figures.training(histories())
    loss = figure.axes[0]
    table = histories()["10"]
    np.testing.assert_allclose(loss.lines[4].get_ydata(), table.loss)
    np.testing.assert_allclose(loss.lines[5].get_ydata(), table.validation_loss.dropna())
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["λ = 0.5", "λ = 1", "λ = 10", "training", "validation"]
    bare = {weight: table.assign(validation_loss=np.nan, validation_similarity=np.nan, validation_penalty=np.nan)
            for weight, table in histories().items()}  # fmt: skip
    assert "validation" not in [text.get_text() for text in figures.training(bare).legends[0].get_texts()]


def test_a_conditional_training_shows_one_line_for_all_weights_and_each_weight_s_validation():
    epoch = np.arange(1, 13)
    table = next(iter(histories(12).values())).assign(validation_weight=np.resize([0.5, 1.0, 10.0], 12))
    for part in ("loss", "similarity", "penalty"):
        table[f"validation_{part}"] = epoch + table["validation_weight"]
    of_weights = {weight: table[table.validation_weight == float(weight)] for weight in WEIGHTS}
    figure = figures.training(of_weights, table)
    loss = figure.axes[0]
    assert len(loss.lines) == len(WEIGHTS) + 1
    np.testing.assert_allclose(loss.lines[-1].get_ydata(), table.loss)
    np.testing.assert_allclose(loss.lines[0].get_xdata(), [1, 4, 7, 10])
    np.testing.assert_allclose(loss.lines[2].get_ydata(), np.array([3, 6, 9, 12]) + 10)
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["λ = 0.5", "λ = 1", "λ = 10", "training, any λ", "validation"]


def test_a_search_over_weights_shows_pairs_mean_choice_and_folding():
    rows = [
        (f"p{pair}", "validation", "voxelmorph", str(weight), 50, metric, of, value, "1")
        for weight in (1.0, 2.0, 4.0)
        for pair in range(3)
        for metric, of, value in (("dice", "mean", 0.6 + 0.1 * pair + weight / 100), ("folding", "image", 0.1 / weight))
    ]
    table = pd.DataFrame(rows, columns=COLUMNS)
    found = {"metric": "dice", "weight": "4.0", "as_good": ["2.0", "4.0"], "folding_percent_max": 0.5}
    dice, folding = figures.weight_search(table, found | {"validation_pairs": 3}).axes
    np.testing.assert_allclose(dice.lines[3].get_ydata(), [0.71, 0.72, 0.74])
    np.testing.assert_allclose(dice.lines[4].get_xdata(), 4.0)
    np.testing.assert_allclose(folding.lines[3].get_ydata(), [0.1, 0.05, 0.025])
    assert dice.get_xscale() == "log" and len(dice.patches) == 1
    assert not figures.weight_search(table, found | {"validation_pairs": 3, "as_good": None}).axes[0].patches


def test_a_training_with_labels_shows_their_part():
    assert len(figures.training(histories()).axes) == 3
    tables = {weight: table.assign(label_loss=1 / table.epoch) for weight, table in histories().items()}
    axes = figures.training(tables).axes
    assert len(axes) == 4 and "Label loss" in axes[3].get_title(loc="left")
    np.testing.assert_allclose(axes[3].lines[2].get_ydata(), tables["10"].label_loss)
    assert len(axes[3].lines) == len(WEIGHTS), "validation has no labels"


def test_a_method_and_a_weight_have_one_colour_everywhere():
    few, many = figures.method_colours(["affine", "initial"]), figures.method_colours(["affine", "ants", "niftyreg"])
    assert few["affine"] == many["affine"] and many["ants"] != many["niftyreg"]
    assert len(set(many.values())) == len(many)
    assert figures.weight_styles(["10", "2", "0.5"]) == figures.weight_styles(["0.5", "10", "2", "2"])
    assert list(figures.weight_styles(["10", "2", "0.5"])) == ["0.5", "2", "10"]


def test_methods_come_in_the_order_of_the_story():
    shuffled = ["voxelmorph", "niftyreg", "bspline-3r", "affine", "bspline-1r", "harmonized", "initial"]
    ordered = ["initial", "harmonized", "affine", "bspline-1r", "bspline-3r", "niftyreg", "voxelmorph"]
    assert figures.ordered_methods(shuffled) == ordered


def test_files_are_the_same_twice_fit_a_page_and_say_phantom(tmp_path):
    metrics = cohort_metrics()
    for run in ("one", "two"):
        figure = figures.comparison(metrics, summarized(metrics), SELECTED)
        figures.save(figure, tmp_path / run / "a.png", tmp_path / run / "a.svg", phantom=run == "two")
        assert ("PHANTOM" in [text.get_text() for text in figure.texts]) == (run == "two")
        figures.save(figures.training(histories()), tmp_path / run / "b.png", tmp_path / run / "b.svg")
    for name in ("b.png", "b.svg"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    assert (tmp_path / "one" / "a.png").read_bytes() != (tmp_path / "two" / "a.png").read_bytes()
    assert matplotlib.image.imread(tmp_path / "one" / "a.png").shape[1] <= 1600


# Scripts --------------------------------------------------------------------------------------------------------------


def test_scripts_of_tables_write_every_figure(tmp_path):
    metrics = cohort_metrics()
    write_table(metrics, tmp_path / "metrics.tsv")
    write_table(summarized(metrics), tmp_path / "summary.tsv")
    write_json(SELECTED, tmp_path / "selected.json")
    for weight, table in histories().items():
        write_table(table, tmp_path / f"{weight}.tsv")
    plot_training.main([tmp_path / f"{weight}.tsv" for weight in WEIGHTS], list(WEIGHTS), [tmp_path / "training.png"])
    names = ("selection", "weights", "methods", "runtime", "structures", "folding")
    outputs = {name: [tmp_path / f"{name}.png", tmp_path / f"{name}.svg"] for name in names}
    for selected in (tmp_path / "selected.json", ""):
        plot_comparison.main(tmp_path / "metrics.tsv", tmp_path / "summary.tsv", selected, **outputs, phantom=True)
    assert all(path.stat().st_size > 1000 for paths in outputs.values() for path in paths)
    read = figures.read_summary(tmp_path / "summary.tsv")
    assert list(read[read.method == "voxelmorph"].weight.unique()) == list(WEIGHTS)
    assert (read[read.method == "affine"].weight == "").all()


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
    plot_pair.main(
        "P05-T1_to_P05-CT", tmp_path / "fixed.nii.gz", paths, methods, settings, settings, tmp_path / "selected.json",
        tmp_path / "pair.png",
    )  # fmt: skip
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
    made = [tmp_path / name for name in ("angles.tsv", "starts.tsv", "slices.tsv", "found.json")]
    images, transforms = ([tmp_path / f"{name}{suffix}" for name in names] for suffix in (".nii.gz", ".tfm"))
    percentiles = [{"percentiles": [0, 100]}] * 2
    settings = {"enabled": True, "fixed": "CT", "plane": "axial", "range_degrees": 5, "step_degrees": 1,
                "refine_degrees": None, "centre": "image"}  # fmt: skip
    stacks = [tmp_path / f"{name}_stack.nii.gz" for name in names]
    harmonize_subject.main("P05", names, images, percentiles, settings, transforms, stacks, *made)
    found = read_json(made[3])
    assert found["failed"].startswith("T1: the intensities run from 7 to 7")
    assert read_affine(transforms[1]).TransformPoint((1.0, 2.0, 3.0)) == (1.0, 2.0, 3.0)
    plot_harmonize.main("P05", names, images, percentiles, transforms, made[0], made[1], made[3], tmp_path / "P05.png")
    assert (tmp_path / "P05.png").stat().st_size > 10_000
