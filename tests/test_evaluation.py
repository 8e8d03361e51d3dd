"""The scripts of the evaluation, from files to files."""

import dataclasses
import json
import os
from pathlib import Path

import collect_metrics
import measure_pair
import numpy as np
import pandas as pd
import pytest
import select_model
import SimpleITK as sitk
import warp_pair

from cohortmorph import UserError
from cohortmorph.evaluation.measures import FOLDING, MEASURES, SELECTABLE
from cohortmorph.evaluation.pair import PairEvaluation, PairFiles
from cohortmorph.evaluation.tables import read_metrics
from cohortmorph.run import logs
from cohortmorph.run.files import write_json
from cohortmorph.spatial import displacement, geometry, landmarks
from cohortmorph.spatial.geometry import Grid

FIXED = Grid((16, 15, 14), (2.0, 2.0, 3.0), (-10.0, -12.0, -20.0))
MOVING = Grid((30, 28, 20), (2.0, 2.0, 3.0), (30.0, 25.0, -30.0), (-1, 0, 0, 0, -1, 0, 0, 0, 1))
TRUTH = geometry.affine(np.diag([1.02, 0.98, 1.0]), [2.0, 4.0, 3.0])
METHODS = ["initial", "affine", "voxelmorph_weight-1.0_epoch-20"]


def pattern(points_lps_mm):
    x, y, z = np.moveaxis(points_lps_mm, -1, 0)
    return (300 * np.sin(x / 9) + 200 * np.cos(y / 8 + z / 7) - 500).astype(np.float32)


@pytest.fixture
def pair(tmp_path):
    return make_pair(tmp_path)


def make_pair(tmp_path):
    """Write a pair whose true transform is known: the affine method has it, the others are the identity."""
    inverse = geometry.affine(*geometry.matrix_and_offset(TRUTH.GetInverse()))
    matrix, offset = geometry.matrix_and_offset(inverse)
    fixed, moving = pattern(FIXED.points_mm()), pattern(MOVING.points_mm() @ matrix.T + offset)
    for name, values, grid in [("fixed", fixed, FIXED), ("moving", moving, MOVING)]:
        geometry.write_image(geometry.to_image(values, grid), tmp_path / f"{name}.nii.gz")
        geometry.write_image(
            geometry.to_image((values > -500).astype(np.uint8), grid), tmp_path / f"{name}_labels.nii.gz"
        )
    points = FIXED.to_world([[2, 3, 4], [8, 8, 8], [12, 10, 9], [40, 8, 8]])
    moved = [TRUTH.TransformPoint(tuple(point)) for point in points]
    for name, positions in [("fixed", points), ("moving", moved)]:
        table = pd.DataFrame(positions, columns=landmarks.COORDINATES)
        table.insert(0, "landmark", list("abcd"))
        landmarks.write_tsv(table, tmp_path / f"{name}.tsv")
    geometry.write_transform(TRUTH, tmp_path / "affine.tfm")
    for method in METHODS:
        transform = TRUTH if method == "affine" else sitk.Transform(3, sitk.sitkIdentity)
        displacement.write(displacement.sample(transform, FIXED), tmp_path / method / "displacement.nii.gz")
        write_json({"seconds": 2.5, "threads": 1, "seed": 1}, tmp_path / method / "registration.json")
    return tmp_path


INTENSITIES = [{"percentiles": [0, 100]}] * 2
SETTINGS = {"near_landmarks_mm": 8.0, "surface_tolerance_mm": 2.0}


def files_of(folder, **changes):
    """Return the files of the pair by name; with a path or "" in the place of some."""
    files = {"affine": folder / "affine.tfm"}
    for role in ("fixed", "moving"):
        files[role] = folder / f"{role}.nii.gz"
        files[f"{role}_labels"], files[f"{role}_landmarks"] = folder / f"{role}_labels.nii.gz", folder / f"{role}.tsv"
    return files | changes


def measure(folder, methods=METHODS, reverse_displacements=(), surface_tolerance_mm=2.0, **files):
    measure_pair.main(
        pair="P1-T1_to_P1-CT",
        split="validation",
        files=files_of(folder, **files),
        displacements={method: folder / method / "displacement.nii.gz" for method in methods},
        reverse_displacements=dict(zip(methods, reverse_displacements, strict=True)) if reverse_displacements else {},
        intensities=INTENSITIES,
        settings={"near_landmarks_mm": 8.0, "surface_tolerance_mm": surface_tolerance_mm},
        output=folder / "metrics.tsv",
    )
    table = read_metrics(folder / "metrics.tsv")
    return table, table.set_index(["method", "metric", "structure"])["value"]


def test_the_true_transform_measures_as_true_and_the_identity_does_not(pair):
    table, value = measure(pair)
    assert value["affine", "tre_mean", "total"] < 1e-3
    expected = np.mean(
        [
            np.linalg.norm(np.subtract(TRUTH.TransformPoint(tuple(p)), p))
            for p in FIXED.to_world([[2, 3, 4], [8, 8, 8], [12, 10, 9]])
        ]
    )
    assert value["initial", "tre_mean", "total"] == pytest.approx(expected, abs=1e-3)
    for method in ("initial", "affine", "voxelmorph"):
        assert value[method, "landmarks_n", "total"] == 3 and value[method, "landmarks_outside", "total"] == 1
    assert value["affine", "dice", "mean"] > 0.95 > 0.9 > value["initial", "dice", "mean"]
    assert value["affine", "ncc_squared", "image"] > 0.99 > value["initial", "ncc_squared", "image"]
    assert value["affine", "ncc_signed", "image"] > 0.99 and value["affine", "ncc_local", "image"] > 0.9
    assert value["affine", "jacobian_min", "image"] == pytest.approx(1.02 * 0.98, abs=1e-4)
    assert value["affine", "folding", "image"] == value["affine", "ndv", "image"] == 0
    assert value["affine", "overlap", "image"] == pytest.approx(100 * np.mean(MOVING.contains(moved_points())), abs=1)
    assert value["affine", "border_displacement", "image"] < 1e-3 < value["initial", "border_displacement", "image"]
    assert value["affine", "jacobian_p01", "image"] == pytest.approx(1.02 * 0.98, abs=1e-4)
    assert value["affine", "volume_change", "1"] == pytest.approx(100 * (1.02 * 0.98 - 1), abs=1e-3)
    assert value["affine", "runtime", "image"] == 2.5
    assert value["affine", "landmarks_improved", "total"] == 100 and value["affine", "tre_relative", "total"] < 1e-3
    assert value["initial", "landmarks_improved", "total"] == 0 and value["initial", "tre_relative", "total"] == 1
    for name, more in [("iou", True), ("surface_dice", True), ("hd95", False), ("surface_distance_mean", False)]:
        assert (value["affine", name, "mean"] > value["initial", name, "mean"]) == more
    learned = table[table.method == "voxelmorph"]
    assert set(learned.weight) == {"1.0"} and set(learned.epoch) == {20}
    assert set(table.unit) == {"mm", "1", "%", "s", "count", "degrees"} and set(table.split) == {"validation"}
    assert not table.value.isna().any()


def moved_points():
    matrix, offset = geometry.matrix_and_offset(TRUTH)
    return FIXED.points_mm() @ matrix.T + offset


def test_a_pair_without_landmarks_labels_or_mask_is_measured_on_what_it_has(pair):
    none = {"fixed_labels": "", "moving_labels": "", "fixed_landmarks": "", "moving_landmarks": ""}
    table, _ = measure(pair, **none)
    assert set(table.metric) == {
        *("ncc_squared", "ncc_signed", "ncc_local", "ncc_local_covered", "nmi", "nmi_covered"),
        *("jacobian_min", "jacobian_sd_log", "jacobian_sd_log_learn2reg"),
        *("jacobian_mean", "jacobian_p01", "jacobian_p99", "folding", "ndv", "runtime"),
        *("overlap", "contrast", "rotation", "border_displacement"),
    }


def test_volumes_need_labels_of_the_fixed_image_only(pair):
    table, value = measure(pair, moving_labels="")
    assert value["initial", "volume_change", "1"] == 0
    assert "dice" not in set(table.metric)
    assert "volume_change" not in set(measure(pair, fixed_labels="")[0].metric)


def test_the_mask_of_the_fixed_image_restricts_similarity_and_regularity(pair):
    mask = np.zeros(FIXED.size, np.uint8)
    mask[4:9, 4:9, 4:9] = 1
    geometry.write_image(geometry.to_image(mask, FIXED), pair / "mask.nii.gz")
    # A field that folds and errs in the mask alone.
    field = np.zeros((*FIXED.size, 3), np.float32)
    field[6, 6, 6] = [0, 0, -20]
    displacement.write(geometry.to_image(field, FIXED), pair / "initial" / "displacement.nii.gz")
    extra = {"reverse_displacements": reversed_pair(pair), "true_displacement": known(pair)}
    _, whole = measure(pair, **extra)
    _, masked = measure(pair, fixed_mask=pair / "mask.nii.gz", **extra)
    more = ["folding", "ndv", "jacobian_sd_log_learn2reg", "inverse_consistency_mean"]
    assert all(masked["initial", name, "image"] > 2 * whole["initial", name, "image"] > 0 for name in more)
    matrix, offset = geometry.matrix_and_offset(TRUTH)
    error_mm = np.linalg.norm(FIXED.points_mm() + field - (FIXED.points_mm() @ matrix.T + offset), axis=-1)
    assert whole["initial", "mae_mean", "total"] == pytest.approx(error_mm.mean(), rel=1e-5)
    assert masked["initial", "mae_mean", "total"] == pytest.approx(error_mm[mask > 0].mean(), rel=1e-5)
    assert masked["initial", "ncc_signed", "image"] != pytest.approx(whole["initial", "ncc_signed", "image"], abs=1e-3)
    assert masked["initial", "tre_mean", "total"] == whole["initial", "tre_mean", "total"]


def test_what_the_moving_image_does_not_cover_is_not_explained_by_it(pair):
    shift_mm = np.array([20.0, 0, 0])
    away = displacement.sample(geometry.affine(np.eye(3), shift_mm), FIXED)
    displacement.write(away, pair / "initial" / "displacement.nii.gz")
    moving = geometry.to_image(pattern(MOVING.points_mm() - shift_mm), MOVING)
    geometry.write_image(moving, pair / "moving.nii.gz")
    assert 0.2 < np.mean(~MOVING.contains(FIXED.points_mm() + shift_mm)) < 0.5
    _, value = measure(pair)
    # What is covered agrees; its share of the fixed image's variation is all that it explains.
    fixed = geometry.to_array(geometry.read_image(pair / "fixed.nii.gz"))
    covered = fixed[MOVING.contains(FIXED.points_mm() + shift_mm)]
    share = ((covered - covered.mean()) ** 2).sum() / ((fixed - fixed.mean()) ** 2).sum()
    assert value["initial", "ncc_squared", "image"] == pytest.approx(share, abs=0.02) and share < 0.85
    assert value["initial", "ncc_local", "image"] < value["initial", "overlap", "image"] / 100 + 0.05


def reversed_pair(folder):
    """Write displacements of the way back: the inverse for the affine method, the identity for the others."""
    paths = [folder / "reverse" / method / "displacement.nii.gz" for method in METHODS]
    for method, path in zip(METHODS, paths, strict=True):
        back = TRUTH.GetInverse() if method == "affine" else sitk.Transform(3, sitk.sitkIdentity)
        displacement.write(displacement.sample(back, MOVING), path)
    return paths


def known(folder):
    """Write the true displacement."""
    displacement.write(displacement.sample(TRUTH, FIXED), folder / "truth.nii.gz")
    return folder / "truth.nii.gz"


def test_every_metric_of_a_pair_is_in_the_registry_with_its_unit(pair):
    full = {"seconds": 1, "cpu_seconds": 2, "peak_memory_mb": 3, "fre_mm": 4}
    write_json(full, pair / "affine" / "registration.json")
    table, _ = measure(pair, reverse_displacements=reversed_pair(pair), true_displacement=known(pair))
    assert set(table.metric) == set(MEASURES) - {"tre_of_rounding", "unreadable", "start_kept"}  # none was
    # One metric has one unit, the registry's; and what it finds its rows by stands there.
    assert all(row.unit == MEASURES[row.metric].unit for row in table.itertuples())
    for measure_of in MEASURES.values():
        if measure_of.metric in set(table.metric) - {"volume_change"}:
            assert len(measure_of.rows(table)) == len(table[table.metric == measure_of.metric].method.unique())


@pytest.mark.parametrize("folder", ["results/phantom/P1", "given"])
def test_only_moving_landmarks_that_may_be_rounded_count_as_rounded(pair, folder, monkeypatch):
    """Planted landmarks are exact, though they lie on voxel centres; the fixed ones may be what was chosen."""
    monkeypatch.chdir(pair)
    Path(folder).mkdir(parents=True)
    indices = np.random.default_rng(3).integers(4, 10, size=(12, 3))
    for role, grid in (("fixed", FIXED), ("moving", MOVING)):
        table = pd.DataFrame(grid.to_world(indices), columns=landmarks.COORDINATES)
        landmarks.write_tsv(table.assign(landmark=[f"p{n}" for n in range(12)]), Path(folder, f"{role}.tsv"))
    points = {f"{role}_landmarks": f"{folder}/{role}.tsv" for role in ("fixed", "moving")}
    evaluation = PairEvaluation("pair", PairFiles.of(files_of(pair, **points)), INTENSITIES, SETTINGS)
    found = {one.metric for one in evaluation.rows(displacement.sample(TRUTH, FIXED))}
    assert ("tre_of_rounding" in found) == (folder == "given")
    # Of landmarks on voxels of the fixed image alone nothing is known to be rounded.
    points["moving_landmarks"] = pair / "off.tsv"
    table = pd.DataFrame(MOVING.to_world(indices + 0.3), columns=landmarks.COORDINATES)
    landmarks.write_tsv(table.assign(landmark=[f"p{n}" for n in range(12)]), pair / "off.tsv")
    evaluation = PairEvaluation("pair", PairFiles.of(files_of(pair, **points)), INTENSITIES, SETTINGS)
    assert evaluation.rounding_mm == 0


def test_what_a_model_is_selected_by_is_what_is_measured_of_all(pair):
    """search_weight measures a field in part, measure_pair as a whole: it is the same number."""
    fold = np.zeros((*FIXED.size, 3), np.float32)
    fold[6, 6, 6] = [0, 0, -20]
    field = geometry.to_image(fold, FIXED)
    mask = np.zeros(FIXED.size, np.uint8)
    mask[2:12, 2:12, 2:12] = 1
    geometry.write_image(geometry.to_image(mask, FIXED), pair / "mask.nii.gz")
    files = PairFiles.of(files_of(pair, fixed_mask=pair / "mask.nii.gz"))
    whole = PairEvaluation("pair", files, INTENSITIES, SETTINGS)
    rows = {row.key: row for row in whole.rows(field)}
    for measure_of in (*SELECTABLE.values(), FOLDING):
        # As search_weight has it: without the pair's affine and what only other measures need.
        in_part = PairEvaluation("pair", dataclasses.replace(files, affine=""), INTENSITIES)
        assert in_part.row_of(measure_of, field) == rows[measure_of.key] and rows[measure_of.key].value != 0


def test_the_true_displacement_and_the_way_back_measure_as_true(pair):
    _, value = measure(pair, reverse_displacements=reversed_pair(pair), true_displacement=known(pair))
    assert value["affine", "mae_mean", "total"] < 1e-6 and value["affine", "inverse_consistency_p95", "image"] < 1e-3
    matrix, offset = geometry.matrix_and_offset(TRUTH)
    points = FIXED.points_mm()
    expected = np.linalg.norm(points @ matrix.T + offset - points, axis=-1).mean()
    assert value["initial", "mae_mean", "total"] == pytest.approx(expected, rel=1e-5)
    assert value["initial", "inverse_consistency_mean", "image"] == 0


def failing(folder, method="voxelmorph_weight-1.0_epoch-20"):
    displacement.write_failed(FIXED, folder / method / "displacement.nii.gz")
    write_json({"failed": "no overlap", "threads": 1}, folder / method / "registration.json")


def test_a_failed_method_has_every_row_and_no_value(pair):
    extra = {"reverse_displacements": reversed_pair(pair), "true_displacement": known(pair)}
    keys = ["metric", "structure", "unit"]
    whole, _ = measure(pair, **extra)
    failing(pair)
    table, _ = measure(pair, **extra)
    of_failed, before = (rows[rows.method == "voxelmorph"] for rows in (table, whole))
    assert of_failed.value.isna().all() and len(of_failed) > 40
    assert set(of_failed[keys].itertuples(index=False)) == set(before[keys].itertuples(index=False))
    assert set(of_failed.weight) == {"1.0"} and not of_failed.duplicated(keys).any()
    pd.testing.assert_frame_equal(table[table.method != "voxelmorph"], whole[whole.method != "voxelmorph"])


def test_a_method_that_says_it_failed_has_no_value_whatever_its_displacement(pair):
    write_json({"failed": "diverged", "seconds": 3.0}, pair / "affine" / "registration.json")
    table, _ = measure(pair)
    assert table[table.method == "affine"].value.isna().all()
    assert list(table.method.unique()) == ["initial", "affine", "voxelmorph"]


def test_if_all_methods_fail_their_rows_are_there(pair):
    extra = {"reverse_displacements": reversed_pair(pair), "true_displacement": known(pair)}
    whole, _ = measure(pair, **extra)
    for method in METHODS:
        failing(pair, method)
    table, _ = measure(pair, **extra)
    assert table.value.isna().all()
    columns = ["method", "metric", "structure", "unit"]
    assert set(table[columns].itertuples(index=False)) == set(whole[columns].itertuples(index=False))


def test_if_the_way_back_failed_there_is_no_consistency(pair):
    paths = reversed_pair(pair)
    displacement.write_failed(MOVING, paths[1])
    table, value = measure(pair, reverse_displacements=paths)
    lost = table[(table.method == "affine") & table.value.isna()]
    assert set(lost.metric) == {"inverse_consistency_mean", "inverse_consistency_p95"}
    assert value["initial", "inverse_consistency_mean", "image"] == 0


def test_labels_of_one_image_only_are_left_out_and_named(pair, caplog):
    labels = geometry.to_array(geometry.read_image(pair / "fixed_labels.nii.gz"))
    labels[3:6, 3:6, 3:6] = 8
    geometry.write_image(geometry.to_image(labels.astype(np.uint8), FIXED), pair / "fixed_labels.nii.gz")
    with caplog.at_level("WARNING", logger=logs.log.name):
        table, _ = measure(pair)
    assert set(table[table.metric == "dice"].structure) == {"1", "mean"}
    assert "labels in one of the two images only, which cannot be compared: 8" in caplog.text


def test_a_structure_moved_out_of_the_grid_has_no_distance_and_no_overlap(pair):
    far = displacement.sample(geometry.affine(np.eye(3), [1000, 0, 0]), FIXED)
    displacement.write(far, pair / "initial" / "displacement.nii.gz")
    _, value = measure(pair)
    assert value["initial", "dice", "1"] == value["initial", "iou", "1"] == value["initial", "surface_dice", "1"] == 0
    assert np.isnan([value["initial", "hd95", of] for of in ("1", "mean")]).all()


def test_the_surface_tolerance_is_in_mm(pair):
    _, value = measure(pair, surface_tolerance_mm=0.5)
    _, tolerant = measure(pair, surface_tolerance_mm=50.0)
    assert value["initial", "surface_dice", "1"] < 0.8 and tolerant["initial", "surface_dice", "1"] == 1


def test_an_image_that_nobody_can_register_does_not_end_the_evaluation(pair, caplog):
    grid = geometry.read_grid(pair / "moving.nii.gz")
    geometry.write_image(geometry.to_image(np.full(grid.size, 7.0, np.float32), grid), pair / "moving.nii.gz")
    with caplog.at_level("ERROR", logger=logs.log.name):
        _, value = measure(pair)
    assert "P1-T1_to_P1-CT, moving image: the intensities run from 7 to 7" in caplog.text
    assert value["initial", "ncc_squared", "image"] == 0 and value["initial", "tre_mean", "total"] > 0


def test_the_moved_image_of_a_failed_method_is_empty(pair, caplog):
    failing(pair, "initial")
    moved, moved_labels = ([pair / m / f"{name}.nii.gz" for m in METHODS[:2]] for name in ("moved", "moved_labels"))
    sources = [pair / method / "displacement.nii.gz" for method in METHODS[:2]]
    with caplog.at_level("WARNING", logger=logs.log.name):
        warp_pair.main(
            pair / "moving.nii.gz", pair / "moving_labels.nii.gz", sources, moved, moved_labels, "P1-T1_to_P1-CT"
        )
    assert f"{sources[0]}: this registration failed" in caplog.text and str(sources[1]) not in caplog.text
    background = geometry.to_array(geometry.read_image(pair / "moving.nii.gz")).min()
    assert (geometry.to_array(geometry.read_image(moved[0])) == background).all()
    assert not geometry.to_array(geometry.read_image(moved_labels[0])).any()
    assert geometry.to_array(geometry.read_image(moved[1])).max() > background
    for path in (*moved, *moved_labels):
        assert FIXED.difference_from(geometry.read_grid(path)) is None


def test_a_displacement_of_another_grid_is_refused(pair):
    wrong = pair / "affine" / "displacement.nii.gz"
    displacement.write(displacement.sample(TRUTH, MOVING), wrong)
    with pytest.raises(UserError, match="not on the fixed image's grid"):
        measure(pair)
    assert not (pair / "metrics.tsv").exists()


def test_warping_writes_each_method_with_the_moving_minimum_outside(pair):
    far = displacement.sample(geometry.affine(np.eye(3), [1000, 0, 0]), FIXED)
    displacement.write(far, pair / "initial" / "displacement.nii.gz")
    moved, moved_labels = ([pair / m / f"{name}.nii.gz" for m in METHODS[:2]] for name in ("moved", "moved_labels"))
    sources = [pair / method / "displacement.nii.gz" for method in METHODS[:2]]
    warp_pair.main(
        pair / "moving.nii.gz", pair / "moving_labels.nii.gz", sources, moved, moved_labels, "P1-T1_to_P1-CT"
    )
    away, onto = (geometry.to_array(geometry.read_image(path)) for path in moved)
    minimum = geometry.to_array(geometry.read_image(pair / "moving.nii.gz")).min()
    assert (away == minimum).all() and minimum < -900
    assert np.abs(onto - pattern(FIXED.points_mm())).max() < 20
    away, onto = (geometry.to_array(geometry.read_image(path)) for path in moved_labels)
    assert (away == 0).all() and set(np.unique(onto)) == {0, 1}


def test_warping_without_labels(pair):
    source = [pair / "affine" / "displacement.nii.gz"]
    warp_pair.main(pair / "moving.nii.gz", "", source, [pair / "moved.nii.gz"], [], "P1-T1_to_P1-CT")
    assert FIXED.difference_from(geometry.read_grid(pair / "moved.nii.gz")) is None


def test_from_pairs_to_the_chosen_model(pair):
    measure(pair)
    collect_metrics.main([pair / "metrics.tsv"], pair / "all.tsv", pair / "summary.tsv", bootstrap_samples=100, seed=1)
    settings = {"metric": "tre", "folding_percent_max": 0.5}
    select_model.main(pair / "all.tsv", "voxelmorph", settings, pair / "selected.json")
    selected = json.loads((pair / "selected.json").read_text())
    assert next(iter(selected)) == "network"
    found = [selected[key] for key in ("network", "weight", "epoch", "validation_pairs")]
    assert found == ["voxelmorph", "1.0", 20, 1]
    summary = pd.read_csv(pair / "summary.tsv", sep="\t", dtype={"weight": str})
    row = summary[(summary.method == "affine") & (summary.metric == "tre_mean") & (summary.structure == "total")]
    assert row[["n", "failed"]].to_numpy().tolist() == [[1, 0]] and row.ci_low.isna().all()


@pytest.mark.real
@pytest.mark.skipif("COHORTMORPH_DATA" not in os.environ, reason="COHORTMORPH_DATA names no folder of real data")
def test_the_lung_landmarks_before_registration(tmp_path):
    data = Path(os.environ["COHORTMORPH_DATA"]) / "lung-ct"
    fixed = data / "3DCT_lung_baseline.mha"
    identity = sitk.Transform(3, sitk.sitkIdentity)
    path = tmp_path / "initial" / "displacement.nii.gz"
    displacement.write(displacement.sample(identity, geometry.read_grid(fixed)), path)
    write_json({"seconds": 0.0}, path.parent / "registration.json")
    geometry.write_transform(geometry.affine(np.eye(3), [0, 0, 0]), tmp_path / "affine.tfm")
    _, value = measure(
        tmp_path,
        fixed=fixed,
        moving=data / "3DCT_lung_followup.mha",
        methods=["initial"],
        affine=tmp_path / "affine.tfm",
        fixed_labels="",
        moving_labels="",
        fixed_landmarks=data / "CT_3D_lung_fixed_point_set_corrected.txt",
        moving_landmarks=data / "CT_3D_lung_moving_point_set_corrected.txt",
    )
    found = [value["initial", f"tre_{name}", "total"] for name in ("mean", "sd", "max")]
    assert found == pytest.approx([35.27, 3.06, 49.34], abs=0.005)
    # Its moving landmarks lie on half pixels and slices; drawn independently, 2 million times: 0.705 mm.
    assert value["initial", "tre_of_rounding", "total"] == pytest.approx(0.705, abs=0.01)
    assert value["initial", "landmarks_n", "total"] == 51 and value["initial", "tre_near_n", "total"] == 0
