"""Cohorts of two contrasts: what is planted is what images and landmarks have; every pair has one changed contrast."""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk
import yaml
from projects import Project

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
import contrasts

from cohortmorph import UserError
from cohortmorph.evaluation import metrics
from cohortmorph.spatial import displacement, geometry, labels, landmarks
from cohortmorph.spatial.geometry import Grid

OBLIQUE = (0.8, -0.6, 0, 0.6, 0.8, 0, 0, 0, 1)
GRIDS = {
    "LPS": Grid((44, 40, 36), (1.0, 1.0, 1.0), (-20.0, -18.0, -15.0)),
    "RAS": Grid((44, 40, 36), (1.0, 1.0, 1.0), (20.0, 18.0, -15.0), (-1, 0, 0, 0, -1, 0, 0, 0, 1)),
    "oblique": Grid((44, 40, 36), (1.0, 1.0, 1.0), (-5.0, -28.0, -15.0), OBLIQUE),
    "anisotropic": Grid((60, 56, 12), (1.0, 0.8, 4.0), (-26.0, -22.0, -20.0), OBLIQUE),
}
# As a scanner's other sequence may have it: other axes, another size, and more of the person.
OTHER = Grid((70, 80, 80), (1.0, 1.0, 1.0), (38.0, -40.0, -38.0), (0, 0, -1, 1, 0, 0, 0, 1, 0))
SHIFT_MM = np.array([1.5, -0.75, 0.0])


def tissue(points_mm):
    """Smooth, and bright enough to count as a body."""
    return 500 + 100 * np.sin(points_mm / 4).sum(axis=-1)


def cord(points_mm):
    """A cord along z."""
    return (np.hypot(points_mm[..., 0], points_mm[..., 1]) < 7).astype(np.uint8)


def person(name="LPS", shift_mm=0.0, in_plane=False, margin_mm=7):
    """Return the maker for a person whose two images have one contrast; the T2 and its cord lie `shift_mm` off."""
    anatomy = contrasts.Anatomy({}, {}, 10, margin_mm, in_plane, network={}, matching={}, levels=())
    points = {"T1": GRIDS[name].points_mm(), "T2": OTHER.points_mm() - shift_mm}
    grids = {"T1": GRIDS[name], "T2": OTHER}
    images = {of: geometry.to_image(tissue(where).astype(np.float32), grids[of]) for of, where in points.items()}
    maps = {of: geometry.to_image(cord(where), grids[of]) for of, where in points.items()}
    return contrasts.Planted(anatomy, images, maps if np.any(shift_mm) else {})


@pytest.mark.parametrize("name", GRIDS)
def test_the_truth_leads_to_the_same_tissue_and_the_landmarks_follow_it(name):
    made = person(name, in_plane=name == "anisotropic").make(np.random.default_rng(3))
    truth, images = made["truth"], made["images"]
    np.testing.assert_allclose(displacement.move_points(made["t1_mm"], truth), made["t2_mm"], atol=1e-4)
    warped = geometry.to_array(displacement.warp(images["T2"], truth))
    fixed, moving = (geometry.to_array(images[image]).astype(float) for image in ("T1", "T2"))
    grid = Grid.of(images["T1"])
    reached = grid.contains(grid.points_mm() + geometry.to_array(truth))
    assert reached.mean() > 0.5
    left, before = np.abs(warped - fixed)[reached].mean(), np.abs(moving - fixed)[reached].mean()
    print(f"{name}: {before:.1f} apart before, {left:.1f} by the truth")
    assert left < 0.15 * before  # a linear interpolation and whole numbers
    assert not grid.difference_from(Grid.of(images["T2"])) and not grid.difference_from(Grid.of(truth))
    assert len(made["t1_mm"]) == contrasts.LANDMARKS
    assert grid.contains(made["t1_mm"]).all() and grid.contains(made["t2_mm"]).all()


@pytest.mark.parametrize("name", GRIDS)
def test_both_images_have_the_value_of_the_real_point_that_their_landmark_comes_from(name):
    made = person(name).make(np.random.default_rng(5))
    points = {"T1": made["t1_mm"][:40], "T2": made["t2_mm"][:40]}
    real = {image: [made["paths"][image].TransformPoint(tuple(point)) for point in points[image]] for image in points}
    np.testing.assert_allclose(real["T1"], real["T2"], atol=1e-4)
    picture = made["images"]["T1"]
    values = [picture.GetPixel(picture.TransformPhysicalPointToIndex(tuple(point))) for point in points["T1"]]
    np.testing.assert_allclose(values, tissue(np.array(real["T1"])), atol=12)


def test_the_mean_length_over_the_body_is_what_was_asked_for_and_nothing_folds():
    made = person("oblique").make(np.random.default_rng(1))
    at_landmarks_mm = np.linalg.norm(made["t2_mm"] - made["t1_mm"], axis=1)
    assert made["body_mm"] == pytest.approx(contrasts.MEAN_MM, rel=1e-4)
    assert at_landmarks_mm.mean() == pytest.approx(contrasts.MEAN_MM, rel=0.2)
    assert displacement.jacobian_determinant(made["truth"]).min() > 0.25


def test_what_folds_is_refused(monkeypatch):
    monkeypatch.setattr(contrasts, "JACOBIAN_MIN", 1.0)  # a volume that shrinks nowhere
    monkeypatch.setattr(contrasts, "DRAWS", 3)
    with pytest.raises(UserError, match="folded"):
        person().make(np.random.default_rng(0))


@pytest.mark.parametrize("name", GRIDS)
def test_a_displacement_does_not_end_within_its_grid(name):
    of = person(name)
    field = contrasts.smooth(of.anatomy, of.drawn_on, of.body, 2.0, np.random.default_rng(1))
    values = geometry.to_array(field)
    for axis, step_mm in enumerate(of.drawn_on.spacing_mm):
        assert np.linalg.norm(np.diff(values, axis=axis), axis=-1).max() < step_mm  # nowhere a tear


@pytest.mark.parametrize("name", ["oblique", "anisotropic"])
def test_in_plane_displacements_keep_to_the_slices(name):
    through = geometry.to_array(person(name, in_plane=True).make(np.random.default_rng(2))["truth"])
    normal = GRIDS[name].axes[:, 2]
    assert np.abs(through @ normal).max() < 1e-5 < np.abs(through).max()


@pytest.mark.parametrize("name", GRIDS)
def test_nothing_comes_from_beyond_the_real_images(name, monkeypatch):
    maker = person(name)
    for seed in range(3):
        made = maker.make(np.random.default_rng(seed))
        for image in made["images"].values():
            assert geometry.to_array(image).min() > 190  # the darkest tissue is 200; what is not reached becomes 0
    monkeypatch.setattr(contrasts, "DRAWS", 3)
    with pytest.raises(UserError, match="larger margin"):
        person(name, margin_mm=0.5).make(np.random.default_rng(0))


@pytest.mark.parametrize("name", ["LPS", "RAS", "oblique"])
def test_a_person_who_moved_between_the_images_is_moved_back(name):
    moved = person(name, shift_mm=SHIFT_MM)
    np.testing.assert_allclose(moved.to_image["T2"].TransformPoint((0.0, 0.0, 0.0)), SHIFT_MM, atol=0.2)
    made = moved.make(np.random.default_rng(6))
    t1_mm, t2_mm = (
        np.array([made["paths"][image].TransformPoint(tuple(point)) for point in made[f"{image.lower()}_mm"]])
        for image in ("T1", "T2")
    )
    shift_mm = np.array(moved.to_image["T2"].TransformPoint((0.0, 0.0, 0.0)))
    np.testing.assert_allclose(t2_mm - t1_mm, np.tile(shift_mm, (len(t1_mm), 1)), atol=1e-4)
    warped, drawn = (
        geometry.to_array(image)
        for image in (
            displacement.warp_labels(sitk.Cast(made["labels"]["T2"], sitk.sitkUInt8), made["truth"]),
            made["labels"]["T1"],
        )
    )
    inner = (slice(6, -6),) * 3
    assert 2 * (warped & drawn)[inner].sum() / (warped[inner].sum() + drawn[inner].sum()) > 0.93


def test_without_a_common_slice_or_voxel_it_is_said():
    empty = geometry.to_image(np.zeros(OTHER.size, np.uint8), OTHER)
    with pytest.raises(UserError, match="no slice in common"):
        contrasts.between_images(empty, empty)
    far = Grid((20, 20, 20), (1.0, 1.0, 1.0), (500.0, 0.0, 0.0))
    with pytest.raises(UserError, match="no voxel in common"):
        contrasts.common_grid(GRIDS["LPS"], {"T2": (far, sitk.Transform(3, sitk.sitkIdentity))}, np.zeros(3))
    with pytest.raises(UserError, match="voxels are left"):
        contrasts.common_grid(
            GRIDS["LPS"], {"T2": (OTHER, sitk.Transform(3, sitk.sitkIdentity))}, np.array([20.0, 5, 5])
        )


def test_a_seed_makes_the_same_subject_and_another_a_different_one():
    maker = person()
    one, again, other = (maker.make(np.random.default_rng(seed)) for seed in (1, 1, 2))
    for image in ("T1", "T2"):
        values = [geometry.to_array(made["images"][image]) for made in (one, again, other)]
        np.testing.assert_array_equal(*values[:2])
        assert (values[0] != values[2]).mean() > 0.5  # no image is another subject's


# ---- the whole program


@pytest.fixture
def data(tmp_path, monkeypatch):
    """A data folder with a small spine and eight hippocampi."""
    folder = tmp_path / "data"
    of = person(shift_mm=SHIFT_MM)
    for name in ("T1", "T2"):
        geometry.write_image(of.images[name], folder / f"{name}.nii.gz")
        geometry.write_image(of.labels[name], folder / f"{name}_cord.nii.gz")
    spine = contrasts.ANATOMIES["spine"]
    images, maps = ({name: f"{name}{end}.nii.gz" for name in ("T1", "T2")} for end in ("", "_cord"))
    made_up = contrasts.Anatomy(images, maps, 10, 5, False, spine.network, spine.matching, spine.levels)
    monkeypatch.setitem(contrasts.ANATOMIES, "spine", made_up)
    lines = ["# made up", "subject\timage\tmodality\tsource\tlabels\tlandmarks\tmask\tsplit"]
    rng = np.random.default_rng(0)
    for number, split in enumerate(["train"] * 3 + ["validation"] * 2 + ["test"] * 4):
        grid = Grid((20, 24, 18), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0))
        geometry.write_image(
            geometry.to_image(rng.uniform(50, 900, grid.size).astype(np.float32), grid), folder / f"i/{number}.nii.gz"
        )
        geometry.write_image(
            geometry.to_image(rng.integers(0, 3, grid.size).astype(np.uint8), grid), folder / f"l/{number}.nii.gz"
        )
        lines.append(f"H{number}\tMR\tMR\ti/{number}.nii.gz\tl/{number}.nii.gz\t\t\t{split}")
    (tmp_path / "hippocampus.tsv").write_text("\n".join(lines) + "\n")
    monkeypatch.setattr(contrasts, "HIPPOCAMPI", tmp_path / "hippocampus.tsv")
    return folder


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["contrasts.py", *map(str, arguments)])
    contrasts.main()


def test_a_planted_cohort_is_one_that_the_workflow_takes(data, tmp_path, monkeypatch):
    folder = tmp_path / "spine"
    run(monkeypatch, "planted", "spine", data, folder, "--train", 1, "--test", 2)
    table = pd.read_csv(folder / "cohort.tsv", sep="\t")
    assert list(table["split"]) == ["train"] * 2 + ["validation"] * 2 + ["test"] * 4
    known = pd.read_csv(folder / "planted.tsv", sep="\t")
    truth = displacement.read(folder / "images/S02_truth_T2_to_T1.nii.gz")
    # By what the workflow reads and measures with: no error with the truth, what was planted with none.
    files = [folder / f"images/S02_{image}_landmarks.tsv" for image in ("T1", "T2")]
    t1_mm, t2_mm = (landmarks.points_lps_mm(points) for points in landmarks.read_pair(*files))
    grid = geometry.read_grid(folder / "images/S02_T1.nii.gz")
    none = geometry.to_image(np.zeros((*grid.size, 3), np.float32), grid)
    for field, tre_mm in ((truth, 0.0), (none, known["at_landmarks_mm"][2])):
        errors_mm = metrics.landmark_errors_mm(t1_mm, t2_mm, field)
        assert np.linalg.norm(errors_mm, axis=1).mean() == pytest.approx(tre_mm, abs=1e-4)
    assert set(np.unique(geometry.to_array(labels.read(folder / "images/S02_T1_labels.nii.gz")))) == {0, 1}
    (tmp_path / "project").mkdir()
    jobs = Project(tmp_path / "project").planned("--configfile", str(folder / "config.yaml"))
    assert jobs["measure_pair"] == jobs["register_instance"] == 2 * 3  # both ways, validation and test
    methods = yaml.safe_load((folder / "config.yaml").read_text())["baselines"]
    assert sum(bool(method) and method["tool"] == "instance" for method in methods.values()) == 4
    assert sum(number for rule, number in jobs.items() if rule.startswith("train_")) == 3


@pytest.mark.parametrize("contrast", contrasts.CONTRASTS)
def test_of_each_pair_one_image_has_another_contrast(contrast, data, tmp_path, monkeypatch):
    folder = tmp_path / "h"
    run(monkeypatch, "remapped", contrast, data, folder)
    table = pd.read_csv(folder / "cohort.tsv", sep="\t")
    changed = [number in (1, 4, 6, 8) and contrast != "plain" for number in range(9)]  # the second, fourth of a split
    assert list(table["modality"] != "MR") == changed
    for number in range(9):
        real = geometry.to_array(geometry.read_image(data / f"i/{number}.nii.gz"))
        values = geometry.to_array(geometry.read_image(folder / table["source"][number]))
        low, high = np.percentile(real, [0.5, 99.5])
        prepared = np.clip((real - low) / (high - low), 0, 1)
        if not changed[number]:
            np.testing.assert_array_equal(values, real)
        elif contrast == "inverted":
            np.testing.assert_allclose(values, 1000 * (1 - prepared), atol=0.6)
        else:
            order = np.argsort(prepared, axis=None)
            steps = np.diff(values.ravel()[order])
            assert steps[steps > 0].sum() >= 400 and steps[steps < 0].sum() <= -400  # it rises and falls
            assert values.min() >= 0 and values.max() <= 1000
            assert np.abs(steps).max() < 30  # smooth: neighbours in brightness stay neighbours
        np.testing.assert_array_equal(
            geometry.to_array(labels.read(folder / table["labels"][number])),
            geometry.to_array(labels.read(data / f"l/{number}.nii.gz")),
        )
    made = [(folder / source).read_bytes() for source in table["source"]]
    run(monkeypatch, "remapped", contrast, data, folder)
    assert made == [(folder / source).read_bytes() for source in table["source"]]  # the same each time
    config = yaml.safe_load((folder / "config.yaml").read_text())
    assert set(config["intensity"]) == {"MR", contrast} - {"plain"}


def test_the_functions_of_two_subjects_differ_and_that_of_one_stays():
    values = np.linspace(0, 1, 50)
    one, again, other = (contrasts.remapped(values, np.random.default_rng(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, again)
    assert np.abs(one - other).max() > 0.1
