"""Each metric by hand, and by another implementation where there is one."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import pearsonr

from cohortmorph import displacement, files, geometry, metrics
from cohortmorph.geometry import Grid
from cohortmorph.ncc import local_ncc_squared

GRID = Grid((12, 11, 10), (1.0, 2.0, 3.0), (-5.0, 4.0, -100.0), (-1, 0, 0, 0, -1, 0, 0, 0, 1))


def values(rows):
    return {(metric, structure): value for metric, structure, value, _ in rows}


def test_method_ids():
    assert metrics.parse_method("initial") == ("initial", "", None)
    assert metrics.parse_method("bspline-3r") == ("bspline-3r", "", None)
    assert metrics.parse_method("voxelmorph_weight-1e-3_epoch-50") == ("voxelmorph", "1e-3", 50)


def test_the_table_keeps_the_weight_as_typed(tmp_path):
    rows = [("folding", "image", np.nan, "%"), ("dice", "1", 0.5, "1")]
    table = pd.concat(
        [
            metrics.table_of(rows, "NA-T1_to_NA-CT", "test", "voxelmorph_weight-1.0_epoch-20"),
            metrics.table_of(rows, "NA-T1_to_NA-CT", "test", "affine"),
        ],
        ignore_index=True,
    )
    files.write_table(table, tmp_path / "metrics.tsv")
    back = metrics.read_table(tmp_path / "metrics.tsv")
    pd.testing.assert_frame_equal(back, table, check_dtype=False)
    assert list(back.weight) == ["1.0", "1.0", "", ""] and list(back.structure[:2]) == ["image", "1"]
    assert back.epoch.isna().tolist() == [False, False, True, True] and back.epoch[0] == 20


def test_landmark_errors_are_moved_minus_true_and_nan_outside():
    field = geometry.to_image(np.full((*GRID.size, 3), [1.0, -2.0, 3.0], np.float32), GRID)
    fixed = GRID.to_world([[3, 3, 3], [20, 3, 3]])
    errors = metrics.landmark_errors_mm(fixed, fixed + [1, -2, 0], field)
    np.testing.assert_allclose(errors[0], [0, 0, 3], atol=1e-5)
    assert np.isnan(errors[1]).all()


def test_near_is_decided_by_the_affine_transform_from_fixed_to_moving():
    affine = geometry.affine(np.eye(3), [10, 0, 0])
    fixed = np.array([[0.0, 0, 0], [0, 0, 0], [0, 0, 0]])
    moving = np.array([[10.0, 0, 8], [10, 0, 8.01], [0, 0, 0]])
    assert metrics.near_landmarks(fixed, moving, affine, 8.0).tolist() == [True, False, False]


def test_tre_by_hand():
    errors = np.array([[3.0, -4, 0], [0, 0, 1], [0, 0, -12], [np.nan] * 3])
    found = metrics.target_registration_error(errors, near=[True, True, False, True])
    by_name = values(found)
    # Lengths 5, 1, 12.
    assert by_name["tre_mean", "total"] == pytest.approx(6)
    assert by_name["tre_sd", "total"] == pytest.approx(np.sqrt((1 + 25 + 36) / 3))
    assert by_name["tre_median", "total"] == pytest.approx(5)
    assert by_name["tre_max", "total"] == pytest.approx(12)
    assert by_name["tre_p95", "total"] == pytest.approx(5 + 0.9 * 7)
    assert by_name["tre_mean", "x"] == pytest.approx(1)
    assert by_name["tre_mean", "y"] == pytest.approx(4 / 3)
    assert by_name["tre_mean", "z"] == pytest.approx(13 / 3)
    assert by_name["tre_sd", "x"] == pytest.approx(np.sqrt(2))
    assert by_name["tre_near_mean", "total"] == pytest.approx(3)
    assert by_name["tre_near_sd", "total"] == pytest.approx(2)
    assert by_name["tre_near_mean", "y"] == pytest.approx(2)
    assert [by_name[name, "total"] for name in ("landmarks_n", "landmarks_outside", "tre_near_n")] == [3, 1, 2]
    units = {metric: unit for metric, _, _, unit in found}
    assert units["tre_mean"] == units["tre_near_sd"] == "mm" and units["landmarks_outside"] == "count"


def test_tre_without_any_landmark_inside_is_nan_and_says_so():
    by_name = values(metrics.target_registration_error(np.full((2, 3), np.nan), near=[True, True]))
    assert np.isnan(by_name["tre_mean", "total"]) and np.isnan(by_name["tre_max", "z"])
    assert by_name["landmarks_n", "total"] == 0 and by_name["landmarks_outside", "total"] == 2
    assert by_name["tre_near_n", "total"] == 0 and ("tre_near_mean", "total") not in by_name


def test_dice_rows_and_their_mean():
    fixed, moved = np.array([1, 1, 2, 0]), np.array([1, 1, 0, 0])
    assert metrics.dice(fixed, moved) == [("dice", "1", 1.0, "1"), ("dice", "2", 0.0, "1"), ("dice", "mean", 0.5, "1")]
    assert np.isnan(values(metrics.dice(moved * 0, moved * 0))["dice", "mean"])


def test_ncc_is_pearsons_over_what_is_covered_and_in_the_mask():
    random = np.random.default_rng(4)
    fixed = random.normal(size=(20, 20, 20))
    moved = -2 * fixed + random.normal(size=fixed.shape) + 7
    moved[15:] = np.nan
    mask = np.zeros(fixed.shape, bool)
    mask[:, 2:18] = True
    by_name = values(metrics.similarity(fixed, moved, mask))
    expected = pearsonr(fixed[:15, 2:18].ravel(), moved[:15, 2:18].ravel()).statistic
    assert by_name["ncc_signed", "image"] == pytest.approx(expected) and expected < -0.8
    assert by_name["ncc_squared", "image"] == pytest.approx(expected**2)


def test_local_ncc_counts_windows_that_are_covered_as_a_whole():
    fixed = np.random.default_rng(4).normal(size=(24, 14, 14))
    fading = np.linspace(1, 50, 14)
    moved = -3 * fixed * fading + 100 * fading
    moved[20:] = np.nan
    # Were windows with filled-in voxels counted, or voxels of the other half, this would not be that of the cut images.
    cut = np.s_[:16, 3:9]
    whole = local_ncc_squared(fixed[:20], moved[:20], 9)[cut].mean()
    mask = np.zeros(fixed.shape, bool)
    mask[:, 3:9] = True
    assert values(metrics.similarity(fixed, moved, mask))["ncc_local", "image"] == pytest.approx(whole, rel=1e-9)
    alike = values(metrics.similarity(fixed, 5 - 2 * fixed))["ncc_local", "image"]
    assert alike == pytest.approx(1)


def test_nothing_covered_is_nan():
    fixed = np.ones((10, 10, 10))
    by_name = values(metrics.similarity(fixed, fixed * np.nan))
    assert np.isnan(by_name["ncc_squared", "image"]) and ("ncc_local", "image") not in by_name


def test_regularity_by_hand():
    determinant = np.array([[1.0, np.e], [-0.5, 0.0]])
    by_name = values(metrics.regularity(determinant))
    assert by_name["jacobian_min", "image"] == -0.5
    assert by_name["folding", "image"] == 50
    assert by_name["jacobian_sd_log", "image"] == pytest.approx(0.5)
    by_name = values(metrics.regularity(determinant, np.array([[True, True], [False, False]])))
    assert by_name["jacobian_min", "image"] == 1 and by_name["folding", "image"] == 0
    assert np.isnan(values(metrics.regularity(determinant, determinant > 9))["folding", "image"])
    assert np.isnan(values(metrics.regularity(-np.ones(3)))["jacobian_sd_log", "image"])


def test_a_planted_fold_is_found_where_it_is():
    voxels = np.zeros((*GRID.size, 3))
    voxels[6, :, :, 0] = -4
    determinant = displacement.jacobian_determinant(displacement.from_voxels(voxels, GRID))
    # u falls by 4 voxels from i = 5 to 6: the difference over two voxels is -2 at i = 5, and +2 at i = 7.
    np.testing.assert_allclose(determinant[5], -1, atol=1e-5)
    np.testing.assert_allclose(determinant[7], 3, atol=1e-5)
    assert values(metrics.regularity(determinant))["folding", "image"] == pytest.approx(100 / 12)


def test_runtime():
    assert metrics.runtime({"seconds": 3, "threads": 1}) == [("runtime", "image", 3.0, "s")]
