"""Flags: each by hand at its limit, and failures planted into phantoms."""

from pathlib import Path

import flag_pairs
import measure_pair
import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk
import yaml

from cohortmorph.evaluation import quality, reported
from cohortmorph.evaluation.tables import (
    FAILURES_COLUMNS,
    FLAGS_COLUMNS,
    Evaluation,
    read_flags,
    read_metrics,
    table_of,
)
from cohortmorph.run.files import write_json, write_table
from cohortmorph.simulated import phantom, scanner
from cohortmorph.simulated.chance import random_numbers
from cohortmorph.spatial import displacement, geometry, landmarks
from cohortmorph.spatial.geometry import Grid, to_image, write_image

SETTINGS = yaml.safe_load(Path("config/config.yaml").read_text())["quality"]
NO_FAILURES = pd.DataFrame(columns=FAILURES_COLUMNS)
GOOD = {
    ("overlap", "image"): 90.0, ("contrast", "fixed"): 0.3, ("contrast", "moving"): 0.3,
    ("contrast", "moved"): 0.3, ("tre_mean", "total"): 2.0,
    ("ncc_local", "image"): 0.3, ("ncc_local_covered", "image"): 0.3, ("rotation", "image"): 5.0,
    ("nmi", "image"): 1.2, ("nmi_covered", "image"): 1.2,
    ("jacobian_mean", "image"): 1.0,
    ("jacobian_p01", "image"): 0.7, ("jacobian_p99", "image"): 1.5, ("folding", "image"): 0.0, ("ndv", "image"): 0.0,
    ("border_displacement", "image"): 3.0,
}  # fmt: skip
INITIAL = GOOD | {
    ("tre_mean", "total"): 30.0, ("ncc_local", "image"): 0.1, ("nmi", "image"): 1.1, ("overlap", "image"): 60.0
}  # fmt: skip
METHODS = ["initial", "affine", "bspline-3r"]


def measured(changes=None, pair="P1-T1_to_P1-CT"):
    """Return the metrics of a good pair, but for ``changes``, {(method, metric, structure): value}."""
    tables = []
    for method in METHODS:
        values = INITIAL if method == "initial" else GOOD
        values = values | {key[1:]: value for key, value in (changes or {}).items() if key[0] == method}
        rows = [(*key, value, "1") for key, value in values.items()]
        tables.append(table_of(rows, pair, "test", method))
    return pd.concat(tables, ignore_index=True)


def flagged(table, failures=NO_FAILURES, selected=None, of_two_modalities=(), **settings):
    evaluation = Evaluation(metrics=table, failures=failures, selected=selected or {})
    return quality.flags(evaluation, SETTINGS | settings, of_two_modalities)


def test_a_good_pair_has_no_flag():
    assert flagged(measured()).empty and list(flagged(measured()).columns) == FLAGS_COLUMNS


AT_THE_LIMIT = [
    ("empty_image", "affine", "contrast", "moved", 0.0101, 0.0099, "below 0.01"),
    ("little_overlap", "affine", "overlap", "image", 50.1, 49.9, "covers 50 % of the fixed one, less than 50 %"),
    ("landmarks_far", "affine", "tre_mean", "total", 9.9, 10.1, "10.1 mm apart (mean TRE), more than 10 mm"),
    ("landmarks_worse", "bspline-3r", "tre_mean", "total", 2.9, 3.1, "by affine it was 2.0 mm"),
    ("similarity_worse", "bspline-3r", "ncc_local", "image", 0.256, 0.254, "by affine it was 0.300"),
    ("rotation", "affine", "rotation", "image", 44.0, 46.0, "turned by 46°, more than 45°"),
    ("folding", "bspline-3r", "folding", "image", 0.49, 0.51, "0.51 % of the voxels"),
    ("folding", "bspline-3r", "ndv", "image", 0.49, 0.51, "0.51 % of the volume"),
    ("volume_change", "affine", "jacobian_mean", "image", 1.24, 1.26, "changes by +26 %"),
    ("volume_change", "affine", "jacobian_mean", "image", 0.76, 0.74, "changes by -26 %"),
    ("volume_change", "bspline-3r", "jacobian_p99", "image", 2.9, 3.1, "at least 3.1 times"),
    ("volume_change", "bspline-3r", "jacobian_p01", "image", 0.34, 0.32, "at most 0.32 of itself"),
    ("border_displacement", "bspline-3r", "border_displacement", "image", 14.9, 15.1, "by 15.1 mm"),
]


@pytest.mark.parametrize(("flag", "method", "metric", "structure", "inside", "outside", "words"), AT_THE_LIMIT)
def test_each_limit(flag, method, metric, structure, inside, outside, words):
    # What follows the affine has its own values, so that it does not get better or worse with it.
    assert flag not in set(flagged(measured({(method, metric, structure): inside})).flag)
    found = flagged(measured({(method, metric, structure): outside}))
    (row,) = found[found.flag == flag].to_dict("records")
    assert (row["subject"], row["pair"], row["method"]) == ("P1", "P1-T1_to_P1-CT", method)
    assert words in row["sentence"]
    value = 100 * (outside - 1) if metric == "jacobian_mean" else outside
    assert row["value"] == pytest.approx(value) and abs(value - row["threshold"]) < 0.12 * abs(value)


def test_where_the_scanners_put_the_images_is_no_registration():
    bad = {("overlap", "image"): 3, ("tre_mean", "total"): 300, ("folding", "image"): 9, ("contrast", "moved"): 0}
    assert flagged(measured({("initial", *key): value for key, value in bad.items()})).empty


@pytest.mark.parametrize("image", ["fixed", "moving"])
def test_an_empty_image_is_said_once(image):
    changes = {(method, "contrast", one): 0.0 for method in METHODS for one in (image, "moved")}
    empty = flagged(measured(changes))
    assert list(empty.method) == ["initial"] and set(empty.flag) == {"empty_image"}
    assert empty.sentence[0].startswith(f"The {image} image shows nothing:")


def test_the_best_step_before_counts_unless_it_hardly_covers_the_image():
    worse = {("bspline-3r", "tre_mean", "total"): 6.0, ("affine", "tre_mean", "total"): 5.5,
             ("initial", "tre_mean", "total"): 4.0}  # fmt: skip
    found = flagged(measured(worse))
    assert list(found.method) == ["bspline-3r", "affine"] and found.sentence.str.contains("by initial it was 4.0").all()
    away = {("initial", "ncc_local", "image"): 0.9}
    assert set(flagged(measured(away)).flag) == {"similarity_worse"}
    assert flagged(measured(away | {("initial", "overlap", "image"): 20.0})).empty


def cohort(values, kind="T1"):
    """Return good pairs whose affine has these local NCC, and the later method the same."""
    tables = []
    for number, value in enumerate(values):
        changes = {(method, "ncc_local_covered", "image"): value for method in ("affine", "bspline-3r")}
        tables.append(measured(changes, f"P{number}-{kind}_to_P{number}-CT"))
    return pd.concat(tables, ignore_index=True)


def test_a_pair_unlike_the_others_is_found_by_share_and_spread_among_pairs_of_its_kind():
    found = flagged(cohort([0.30, 0.31, 0.29, 0.25]))
    assert set(found.flag) == {"unlike_others"} and set(found.pair) == {"P3-T1_to_P3-CT"}
    assert "the median of the 3 other pairs of these images is 0.300" in found.sentence[0]
    assert flagged(cohort([0.30, 0.31, 0.29, 0.26])).empty, "within 85 %"
    assert flagged(cohort([0.30, 0.40, 0.22, 0.35, 0.25, 0.24])).empty, "within the spread of the others"
    assert not flagged(cohort([0.30, 0.40, 0.22, 0.35, 0.25, 0.24]), similarity_of_others_deviations_max=0).empty
    assert flagged(cohort([0.30, 0.15])).empty, "one other pair says nothing"
    other_kind = pd.concat([cohort([0.30, 0.31, 0.29]), cohort([0.15, 0.16, 0.14], "T2").assign()])
    assert flagged(other_kind).empty


def test_between_two_modalities_nmi_says_what_looks_alike():
    """NCC may fall there in what got better; the loss is counted from 1, where images tell nothing of each other."""
    pair = "P1-T1_to_P1-CT"
    less_correlated = measured({("bspline-3r", "ncc_local", "image"): 0.2})
    assert set(flagged(less_correlated).flag) == {"similarity_worse"}
    assert flagged(less_correlated, of_two_modalities=[pair]).empty
    assert flagged(measured({("bspline-3r", "nmi", "image"): 1.171}), of_two_modalities=[pair]).empty
    found = flagged(measured({("bspline-3r", "nmi", "image"): 1.169}), of_two_modalities=[pair])
    (row,) = found.to_dict("records")
    assert (row["flag"], row["method"]) == ("similarity_worse", "bspline-3r")
    assert (row["value"], row["threshold"]) == (pytest.approx(0.169), pytest.approx(0.17))
    assert row["sentence"] == (
        "The NMI, less the 1 of unrelated images, is 0.169; by affine it was 0.200. A loss of 15 % is allowed."
    )


def test_a_pair_of_two_modalities_is_compared_with_the_others_by_nmi():
    """By share and spread as with NCC, and never with a pair of the same names that is judged otherwise."""
    pairs = [f"P{number}-T1_to_P{number}-CT" for number in range(4)]
    values = {"ncc_local_covered": [0.30, 0.31, 0.29, 0.30], "nmi_covered": [1.20, 1.21, 1.19, 1.15]}
    tables = []
    for number, pair in enumerate(pairs):
        changes = {("affine", name, "image"): of[number] for name, of in values.items()}
        tables.append(measured(changes, pair))
    table = pd.concat(tables)
    assert flagged(table).empty
    (row,) = flagged(table, of_two_modalities=pairs).to_dict("records")
    assert (row["flag"], row["pair"], row["method"]) == ("unlike_others", pairs[3], "affine")
    assert row["sentence"] == (
        "The NMI, less the 1 of unrelated images, of what is covered is 0.150; the median of the 3 other pairs of "
        "these images is 0.200, and 0.156 is expected at least."
    )
    assert flagged(table, of_two_modalities=pairs[2:]).empty, "one other pair says nothing"


def test_failures_come_first_and_each_flag_by_how_far_its_limit_is_passed():
    pairs = [f"P{number}-T1_to_P{number}-CT" for number in range(3)]
    changes = [{("affine", "overlap", "image"): 45.0}, {("affine", "overlap", "image"): 10.0}, {}]
    table = pd.concat([measured(change, pair) for change, pair in zip(changes, pairs, strict=True)])
    failures = pd.DataFrame([(pairs[2], "test", "bspline-3r", "", pd.NA, "gave up.")], columns=FAILURES_COLUMNS)
    found = flagged(table, failures)
    assert list(found.pair) == [pairs[2], pairs[1], pairs[0]] and found.sentence[0] == "Failed: gave up."
    ordered = quality.by_pair(found, ["P9-T1_to_P9-CT", *pairs])
    assert list(ordered) == [pairs[2], *pairs[:2], "P9-T1_to_P9-CT"] and ordered["P9-T1_to_P9-CT"].empty
    assert (
        quality.count_in_words(found, pairs, Evaluation(metrics=table))[0]
        == "registration failed: 1 of 3 pairs (bspline-3r)"
    )


def test_of_each_network_only_the_selected_one_is_looked_at():
    overlaps = {"voxelmorph_weight-1_epoch-9": 11.0, "voxelmorph_weight-2_epoch-9": 12.0,
                "voxelmorph-diff_weight-1_epoch-9": 13.0, "voxelmorph-diff_weight-2_epoch-9": 14.0}  # fmt: skip
    networks = [table_of([("overlap", "image", overlap, "%")], "P1-T1_to_P1-CT", "test", method)
                for method, overlap in overlaps.items()]  # fmt: skip
    table = pd.concat([measured(), *networks])
    choices = {name: {"network": name, "weight": weight, "epoch": 9}
               for name, weight in (("voxelmorph", "2"), ("voxelmorph-diff", "1"))}  # fmt: skip
    found = flagged(table, selected=choices)
    assert dict(zip(found.method, found.value, strict=True)) == {"voxelmorph": 12, "voxelmorph-diff": 13}
    assert list(flagged(table, selected={"voxelmorph": choices["voxelmorph"]}).method) == ["voxelmorph"]
    assert flagged(table).empty


def test_the_script_writes_the_table_and_counts(tmp_path, caplog):
    write_table(measured({("affine", "rotation", "image"): 90.0}), tmp_path / "metrics.tsv")
    write_table(NO_FAILURES, tmp_path / "failures.tsv")
    with caplog.at_level("INFO", logger="cohortmorph"):
        flag_pairs.main(tmp_path / "metrics.tsv", tmp_path / "failures.tsv", [], SETTINGS, [], tmp_path / "flags.tsv")
    table = read_flags(tmp_path / "flags.tsv")
    assert list(table.columns) == FLAGS_COLUMNS and table.sentence[0] == "The image is turned by 90°, more than 45°."
    assert "turned far: 1 of 1 pairs (affine)" in caplog.text and "1 of 1 pairs are flagged" in caplog.text


# Planted failures -----------------------------------------------------------------------------------------------------

SUBJECTS = ["A", "B", "C"]


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory):
    """Files of three phantoms, and the transforms that a good registration would find."""
    folder = tmp_path_factory.mktemp("phantoms")
    made = {}
    for subject in SUBJECTS:
        drawn = phantom.draw(subject, seed=1, spacing_mm=6, slab_mm=30, deformation_mm=4)
        for image in ("CT", "T1"):
            values, labels = phantom.scan(drawn, image, random_numbers(subject, image))
            write_image(to_image(values, drawn.grids[image]), folder / f"{subject}-{image}.nii.gz")
            if image == "CT":
                points = phantom.landmarks(drawn, labels)
        for image in ("CT", "T1"):
            scanner.write_points(points[image], "L", folder / f"{subject}-{image}.tsv")
        placement, ct = drawn.placements["T1"], drawn.grids["CT"]
        turn, centre = placement.rotation, placement.centre_mm
        found = geometry.affine(turn, centre - turn @ centre + placement.shift_mm)
        truth = placement.from_ct(ct.points_mm()) - ct.points_mm()
        made[subject] = {"affine": found, "truth": truth.astype(np.float32), "grid": ct}
    return folder, made


def measure(folder, made, subject, tmp_path, moving="", points="", affine=None, failed=False):
    """Measure a pair as the workflow does, its T1 replaced by ``moving``, its affine by ``affine``."""
    one = made[subject]
    affine_of_pair = affine or one["affine"]
    geometry.write_transform(affine_of_pair, tmp_path / "affine.tfm")
    fields = {"initial": displacement.sample(sitk.Transform(3, sitk.sitkIdentity), one["grid"])}
    fields["affine"] = displacement.sample(affine_of_pair, one["grid"])
    fields["bspline-3r"] = to_image(one["truth"], one["grid"]) if affine is None else fields["affine"]
    for method, field in fields.items():
        path = tmp_path / method / "displacement.nii.gz"
        if failed and method != "initial":
            displacement.write_failed(one["grid"], path)
        else:
            displacement.write(field, path)
        how = {"failed": "the moving image is constant"} if failed and method != "initial" else {"seconds": 1.0}
        write_json(how, path.parent / "registration.json")
    pair = f"{subject}-T1_to_{subject}-CT"
    displacements = {method: tmp_path / method / "displacement.nii.gz" for method in fields}
    measure_pair.main(
        pair=pair, split="test",
        files={
            "fixed": folder / f"{subject}-CT.nii.gz", "moving": moving or folder / f"{subject}-T1.nii.gz",
            "affine": tmp_path / "affine.tfm", "fixed_landmarks": folder / f"{subject}-CT.tsv",
            "moving_landmarks": points or folder / f"{subject}-T1.tsv",
        },
        displacements=displacements, reverse_displacements={},
        intensities=[{"window": [-20, 100]}, {"percentiles": [0.5, 99.5]}],
        settings={"near_landmarks_mm": 8, "surface_tolerance_mm": 2}, output=tmp_path / "metrics.tsv",
    )  # fmt: skip
    registrations = sorted((tmp_path).glob("*/registration.json"))
    failures = reported.failures(registrations, {})
    return read_metrics(tmp_path / "metrics.tsv"), failures.assign(pair=pair)


@pytest.fixture(scope="module")
def good(phantoms, tmp_path_factory):
    """Return the metrics of good registrations of the three phantoms, by subject."""
    return {subject: measure(*phantoms, subject, tmp_path_factory.mktemp(subject))[0] for subject in SUBJECTS}


def test_good_phantom_pairs_have_no_flag(good):
    assert flagged(pd.concat(good.values())).empty


def quarter_turn(folder, tmp_path):
    image = geometry.read_image(folder / "A-T1.nii.gz")
    grid, turn = Grid.of(image), np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    back = geometry.affine(turn.T, grid.centre_mm - turn.T @ grid.centre_mm)
    write_image(sitk.Resample(image, image, back), tmp_path / "moving.nii.gz")
    points = landmarks.read(folder / "A-T1.tsv")
    positions = (landmarks.points_lps_mm(points) - grid.centre_mm) @ turn.T + grid.centre_mm
    scanner.write_points(positions, "L", tmp_path / "moving.tsv")
    return {"moving": tmp_path / "moving.nii.gz", "points": tmp_path / "moving.tsv"}


def other_patient(folder, tmp_path):
    # Where its own scanner put it is where the other's would be, so that only the anatomy tells.
    image, own = (geometry.read_image(folder / f"{subject}-T1.nii.gz") for subject in "BA")
    middle = Grid.of(image).centre_mm - Grid.of(own).centre_mm
    image.SetOrigin(tuple(np.array(image.GetOrigin()) - middle))
    write_image(image, tmp_path / "moving.nii.gz")
    scanner.write_points(
        landmarks.points_lps_mm(landmarks.read(folder / "B-T1.tsv")) - middle, "L", tmp_path / "moving.tsv"
    )
    return {"moving": tmp_path / "moving.nii.gz", "points": tmp_path / "moving.tsv"}


def empty_image(folder, tmp_path):
    write_image(geometry.read_image(folder / "A-T1.nii.gz") * 0 + 7, tmp_path / "moving.nii.gz")
    return {"moving": tmp_path / "moving.nii.gz", "failed": True}


def shifted_field_of_view(folder, tmp_path):
    image = geometry.read_image(folder / "A-T1.nii.gz")
    grid = Grid.of(image)
    there = Grid(grid.size, grid.spacing_mm, tuple(grid.to_world([0.6 * grid.size[0], 0, 0])), grid.direction)
    blank = to_image(np.zeros(grid.size, np.float32), there)
    write_image(sitk.Resample(image, blank), tmp_path / "moving.nii.gz")
    return {"moving": tmp_path / "moving.nii.gz"}


PLANTED = {
    "90° turn": (quarter_turn, {"unlike_others"}, {"landmarks_far"}),
    "other patient": (other_patient, {"unlike_others"}, {"landmarks_far"}),
    "empty image": (empty_image, {"failed", "empty_image"}, set()),
    "shifted field of view": (shifted_field_of_view, {"little_overlap"}, set()),
    "inverted affine": (None, {"little_overlap"}, {"landmarks_far"}),
}


@pytest.mark.parametrize("failure", PLANTED)
def test_a_planted_failure_is_flagged_with_and_without_landmarks(phantoms, good, failure, tmp_path):
    plant, without, with_landmarks = PLANTED[failure]
    folder, made = phantoms
    changes = plant(folder, tmp_path) if plant else {"affine": made["A"]["affine"].GetInverse()}
    table, failures = measure(folder, made, "A", tmp_path, **changes)
    others = [good[subject] for subject in SUBJECTS[1:]]
    found = flagged(pd.concat([table, *others]), failures)
    assert set(found.pair) == {"A-T1_to_A-CT"} and without | with_landmarks <= set(found.flag), found.to_string()
    blind = pd.concat([table, *others])
    blind = blind[~blind.metric.str.startswith(("tre_", "landmarks_"))]
    assert without <= set(flagged(blind, failures).flag)
