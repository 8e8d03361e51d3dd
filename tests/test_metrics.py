"""Each metric by hand, and by another implementation where there is one."""

import numpy as np
import pytest
import SimpleITK as sitk
from scipy.spatial.transform import Rotation
from scipy.stats import pearsonr

from cohortmorph.evaluation import metrics, plausibility, reported
from cohortmorph.evaluation.measures import Row
from cohortmorph.evaluation.metrics import SurfaceAgreement as Agreement
from cohortmorph.spatial import displacement, geometry
from cohortmorph.spatial.geometry import Grid
from cohortmorph.spatial.ncc import local_ncc_squared

GRID = Grid((12, 11, 10), (1.0, 2.0, 3.0), (-5.0, 4.0, -100.0), (-1, 0, 0, 0, -1, 0, 0, 0, 1))


def values(rows):
    return {(metric, structure): value for metric, structure, value, _ in rows}


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


def test_robustness_by_hand():
    fixed = np.zeros((5, 3))
    # Before: 5, 10, 2, 0 mm; the last lies outside.
    moving = np.array([[3.0, 4, 0], [0, 10, 0], [0, 0, 2], [0, 0, 0], [9, 9, 9]])
    errors = np.array([[1.0, 0, 0], [0, 0, -10], [0, 3, 0], [0, 0, 1], [np.nan] * 3])
    found = metrics.robustness(fixed, moving, errors)
    # Smaller at the first alone, of four; quotients 1/5, 1 and 3/2, and none for the one that was in place.
    assert values(found) == pytest.approx(
        {("landmarks_improved", "total"): 25, ("tre_relative", "total"): (0.2 + 1 + 1.5) / 3}
    )
    assert {metric: unit for metric, _, _, unit in found} == {"landmarks_improved": "%", "tre_relative": "1"}
    nothing_apart = values(metrics.robustness(moving, moving, errors))
    assert nothing_apart["landmarks_improved", "total"] == 0 and np.isnan(nothing_apart["tre_relative", "total"])
    assert np.isnan(list(values(metrics.robustness(fixed, moving, errors * np.nan)).values())).all()


def test_no_registration_is_no_improvement():
    fixed, moving = np.random.default_rng(2).normal(size=(2, 50, 3))
    before = values(metrics.robustness(fixed, moving, fixed - moving))
    assert before == {("landmarks_improved", "total"): 0, ("tre_relative", "total"): 1}


def test_field_error_by_hand_and_by_numpy():
    size = (2, 3, 1)
    grid = Grid(size, (1.0, 2.0, 3.0), (0, 0, 0), (0, 0, 1, 1, 0, 0, 0, 1, 0))
    true = np.random.default_rng(6).normal(size=(*size, 3)).astype(np.float32)
    errors = np.zeros((*size, 3), np.float32)
    errors[0, 0, 0], errors[1, 2, 0] = [3, -4, 0], [0, 0, -2]
    images = [geometry.to_image(array, grid) for array in (true + errors, true)]
    found = metrics.field_error(*images)
    by_name = values(found)
    assert by_name["mae_mean", "total"] == pytest.approx((5 + 2) / 6, abs=1e-6)
    assert by_name["mae_sd", "total"] == pytest.approx(np.std([5, 2, 0, 0, 0, 0]), abs=1e-6)
    assert [by_name["mae_mean", axis] for axis in "xyz"] == pytest.approx([3 / 6, 4 / 6, 2 / 6], abs=1e-6)
    assert by_name["mae_sd", "z"] == pytest.approx(np.std([2, 0, 0, 0, 0, 0]), abs=1e-6)
    assert {unit for *_, unit in found} == {"mm"}
    mask = np.zeros(size, bool)
    mask[0, 0, 0] = mask[0, 1, 0] = True
    assert values(metrics.field_error(*images, mask))["mae_mean", "total"] == pytest.approx(2.5, abs=1e-6)
    nothing = values(metrics.field_error(*images, mask & False))
    assert len(nothing) == 8 and np.isnan(list(nothing.values())).all()


def test_only_structures_of_both_images_are_compared():
    fixed, moving = np.array([[0, 1, 5], [7, 7, 70000]]), np.array([0, 5, 70000, 3])
    assert metrics.shared_structures(fixed, moving) == ([5, 70000], [1, 3, 7])
    assert metrics.shared_structures(fixed, moving * 0) == ([], [1, 5, 7, 70000])


def test_dice_by_hand():
    fixed = np.array([0, 1, 1, 1, 2, 2, 0, 5])
    moved = np.array([0, 1, 1, 0, 2, 1, 0, 9])
    # 1: 2·2/(3+3); 2: 2·1/(2+1); 5 and 9 stand in one map only.
    assert metrics.dice(fixed, moved) == pytest.approx({1: 2 / 3, 2: 2 / 3, 5: 0, 9: 0})
    assert metrics.dice(np.zeros(4, int), np.zeros(4, int)) == {}
    with pytest.raises(ValueError, match="shapes"):
        metrics.dice(fixed, moved[:4])


def test_dice_agrees_with_simpleitk():
    random = np.random.default_rng(2)
    fixed, moved = random.integers(0, 6, size=(2, 12, 11, 10))
    ours = metrics.dice(fixed, moved)
    measure = sitk.LabelOverlapMeasuresImageFilter()
    measure.Execute(sitk.GetImageFromArray(fixed.astype(np.uint8)), sitk.GetImageFromArray(moved.astype(np.uint8)))
    assert ours == pytest.approx({label: measure.GetDiceCoefficient(label) for label in range(1, 6)})


def test_overlap_by_hand():
    fixed, moved = np.array([1, 1, 1, 2, 0, 9]), np.array([1, 1, 0, 0, 1, 0])
    found = metrics.overlap(fixed, moved, [1, 2, 4])
    by_name = values(found)
    assert by_name["dice", "1"] == pytest.approx(4 / 6) and by_name["iou", "1"] == pytest.approx(2 / 4)
    assert by_name["dice", "2"] == by_name["iou", "2"] == 0
    assert np.isnan([by_name[name, of] for name in ("dice", "iou") for of in ("4", "mean")]).all()
    assert ("dice", "9") not in by_name
    by_name = values(metrics.overlap(fixed, moved, [1, 2]))
    assert by_name["dice", "mean"] == pytest.approx(1 / 3) and by_name["iou", "mean"] == pytest.approx(1 / 4)
    assert np.isnan(values(metrics.overlap(fixed, moved, []))["dice", "mean"])


def test_overlap_is_that_of_simpleitk():
    random = np.random.default_rng(8)
    fixed, moved = random.integers(0, 4, size=(2, 9, 8, 7))
    by_name = values(metrics.overlap(fixed, moved, [1, 2, 3]))
    theirs = sitk.LabelOverlapMeasuresImageFilter()
    theirs.Execute(*(sitk.GetImageFromArray(labels.astype(np.uint8)) for labels in (fixed, moved)))
    for label in (1, 2, 3):
        assert by_name["dice", str(label)] == pytest.approx(theirs.GetDiceCoefficient(label))
        assert by_name["iou", str(label)] == pytest.approx(theirs.GetJaccardCoefficient(label))


def test_a_lost_structure_takes_the_mean_distance_with_it():
    found = metrics.surface_agreement({1: Agreement(4.0, 1.0, 0.5), 2: Agreement(np.nan, np.nan, 0.0)})
    assert [(metric, of) for metric, of, _, _ in found] == [
        (metric, of) for metric in ("hd95", "surface_distance_mean", "surface_dice") for of in ("1", "2", "mean")
    ]
    by_name = values(found)
    assert by_name["hd95", "1"] == 4 and by_name["surface_distance_mean", "1"] == 1
    assert np.isnan([by_name["hd95", of] for of in ("2", "mean")]).all()
    assert np.isnan(by_name["surface_distance_mean", "mean"]) and by_name["surface_dice", "mean"] == 0.25
    assert {metric: unit for metric, _, _, unit in found}["hd95"] == "mm"
    by_name = values(metrics.surface_agreement({1: Agreement(4.0, 1.0, 0.5), 2: Agreement(2.0, 0.5, 1.0)}))
    assert by_name["hd95", "mean"] == 3 and by_name["surface_distance_mean", "mean"] == 0.75
    assert len(metrics.surface_agreement({})) == 3


def partly_covered():
    """Return a fixed and a moved image of opposite contrast, which ends at i = 15, and a mask; a seed each."""
    random = np.random.default_rng(4)
    fixed = np.clip(random.normal(0.5, 0.15, size=(20, 20, 20)), 0, 1)
    moved = np.clip(0.9 - 0.8 * fixed + random.normal(0, 0.05, size=fixed.shape), 0, 1)
    moved[15:] = np.nan
    mask = np.zeros(fixed.shape, bool)
    mask[:, 2:18] = True
    return fixed, moved, mask


def test_ncc_is_pearsons_over_the_mask_and_what_is_not_covered_explains_nothing():
    fixed, moved, mask = partly_covered()
    by_name = values(metrics.similarity(fixed, moved, mask))
    covered = np.s_[:15, 2:18]
    of_covered = pearsonr(fixed[covered].ravel(), moved[covered].ravel()).statistic
    assert of_covered < -0.8
    # Both sums of squares about the mean of all that is compared.
    mean = fixed[:, 2:18].mean()
    share = ((fixed[covered] - fixed[covered].mean()) ** 2).sum() / ((fixed[:, 2:18] - mean) ** 2).sum()
    assert by_name["ncc_squared", "image"] == pytest.approx(of_covered**2 * share)
    assert by_name["ncc_signed", "image"] == pytest.approx(-np.sqrt(of_covered**2 * share))
    whole = values(metrics.similarity(fixed[:15], moved[:15], mask[:15]))
    assert whole["ncc_signed", "image"] == pytest.approx(of_covered)


def test_local_ncc_is_the_mean_over_the_windows_of_the_mask():
    fixed, moved, mask = partly_covered()
    fading = np.linspace(1, 50, 20)
    fixed, moved = fixed * fading, -3 * moved / fading + 7
    # Windows that end before 15 do not see that the image does; those from 19 on see nothing else.
    cut = local_ncc_squared(fixed[:15], moved[:15], 9)
    found = local_ncc_squared(fixed, moved, 9)
    assert found[:11] == pytest.approx(cut[:11], rel=1e-9) and not found[19:].any()
    by_name = values(metrics.similarity(fixed, moved, mask))
    assert by_name["ncc_local", "image"] == pytest.approx(found[:, 2:18].mean(), rel=1e-9)
    assert by_name["ncc_local_covered", "image"] == pytest.approx(cut[:11, 2:18].mean(), rel=1e-9)
    alike = values(metrics.similarity(fixed, 5 - 2 * fixed))["ncc_local", "image"]
    assert alike == pytest.approx(1)


def entropy(*images):
    """Return the joint entropy of intensities in 64 bins, counted by their names."""
    bins = np.stack([np.minimum(np.floor(64 * image), 63) for image in images])
    counts = np.unique(bins, axis=1, return_counts=True)[1]
    return -(counts / counts.sum() * np.log2(counts / counts.sum())).sum()


def test_nmi_is_studholmes():
    fixed, moved, mask = partly_covered()
    f, m = fixed[:15][mask[:15]], moved[:15][mask[:15]]
    expected = (entropy(f) + entropy(m)) / entropy(f, m)
    assert values(metrics.similarity(fixed[:15], moved[:15], mask[:15]))["nmi", "image"] == pytest.approx(expected)
    both = values(metrics.similarity(fixed, moved, mask))
    assert both["nmi_covered", "image"] == pytest.approx(expected) and both["nmi", "image"] < expected
    # Four intensities, of which the moved image tells two classes: 2 bits, 1 bit, 2 bits together.
    f, m = np.array([0.1, 0.3, 0.6, 1.0]), np.array([0.2, 0.2, 0.9, 0.9])
    assert metrics.normalized_mutual_information(f, m) == pytest.approx(3 / 2)
    assert metrics.normalized_mutual_information(f, m[[0, 2, 3, 1]]) == pytest.approx(3 / 2)  # two of each, any way
    assert metrics.normalized_mutual_information(f, 1 - f) == pytest.approx(2)
    assert metrics.normalized_mutual_information(np.repeat(f, 4), np.tile(f, 4)) == pytest.approx(1)
    assert metrics.normalized_mutual_information(f, np.ones(4)) == pytest.approx(1)
    assert metrics.normalized_mutual_information(np.ones(4), np.ones(4)) == 1


def test_nmi_takes_what_is_not_covered_as_independent():
    # Half is covered and tells F exactly; of the other half M may be either, whatever F is.
    f, m = np.array([0.1, 0.9, 0.1, 0.9]), np.array([0.1, 0.9, np.nan, np.nan])
    together = -2 * (3 / 8 * np.log2(3 / 8) + 1 / 8 * np.log2(1 / 8))
    assert metrics.normalized_mutual_information(f, m) == pytest.approx(2 / together)


SIMILARITIES = ["ncc_squared", "ncc_local", "nmi"]


@pytest.mark.parametrize("contrast", [1, -1])
def test_what_is_moved_out_of_view_makes_no_image_look_better(contrast):
    """Of one image against another only a part agrees: leaving out the rest must not help, wherever it ends."""
    random = np.random.default_rng(7)
    fixed = random.random((30, 12, 12))
    fixed[:10] = 0.1 * fixed[:10]  # air, in which nothing can be told
    moved = 0.5 + contrast * (fixed - 0.5)
    moved[15:] = random.random(moved[15:].shape)  # what does not match
    mask = np.ones(fixed.shape, bool)
    before = values(metrics.similarity(fixed, moved, mask))
    for end in (25, 20, 15, 12, 8):
        less = moved.copy()
        less[end:] = np.nan
        after = values(metrics.similarity(fixed, less, mask))
        # What is left agrees perfectly from 15 on, and still the values are not those of a perfect agreement.
        for name in SIMILARITIES:
            assert after[name, "image"] < (0.6 if name != "nmi" else 1.5)
        if end <= 12:
            assert all(after[name, "image"] < before[name, "image"] for name in SIMILARITIES)
        before = after if end <= 15 else before


def test_nothing_covered_is_the_worst_value_and_nothing_to_compare_is_nan():
    fixed = np.random.default_rng(4).random((10, 10, 10))
    by_name = values(metrics.similarity(fixed, fixed * np.nan))
    assert np.isnan([by_name.pop((f"{name}_covered", "image")) for name in ("ncc_local", "nmi")]).all()
    assert by_name == {
        ("ncc_squared", "image"): 0, ("ncc_signed", "image"): 0, ("ncc_local", "image"): 0, ("nmi", "image"): 1,
    }  # fmt: skip
    assert np.isnan(list(values(metrics.similarity(fixed, fixed, fixed > 2)).values())).all()


def test_regularity_by_hand():
    determinant = np.array([[1.0, np.e], [-0.5, 0.0]])
    by_name = values(plausibility.regularity(determinant))
    assert by_name["jacobian_min", "image"] == -0.5
    assert by_name["folding", "image"] == 50
    assert by_name["jacobian_sd_log", "image"] == pytest.approx(0.5)
    by_name = values(plausibility.regularity(determinant, np.array([[True, True], [False, False]])))
    assert by_name["jacobian_min", "image"] == 1 and by_name["folding", "image"] == 0
    assert np.isnan(values(plausibility.regularity(determinant, determinant > 9))["folding", "image"])
    assert np.isnan(values(plausibility.regularity(-np.ones(3)))["jacobian_sd_log", "image"])


def test_the_volume_of_a_structure_changes_by_its_mean_determinant():
    determinant = np.array([[1.0, 1.2, 0.5], [1.0, 0.9, 1.5]])
    fixed = np.array([[0, 3, 3], [7, 0, 7]])
    assert plausibility.volume_changes(determinant, fixed) == [
        ("volume_change", "3", pytest.approx(-15), "%"),
        ("volume_change", "7", pytest.approx(25), "%"),
    ]
    assert plausibility.volume_changes(determinant, 0 * fixed) == []


def test_the_volume_change_of_a_ball_is_that_of_counting_voxels():
    """A ball that the moving image shows with a radius larger by a tenth; anisotropic, mirrored axes."""
    grid = Grid((60, 40, 30), (1.0, 1.5, 2.0), (0, 0, 0), (-1, 0, 0, 0, -1, 0, 0, 0, 1))
    away_mm = grid.points_mm() - grid.centre_mm
    ball = np.linalg.norm(away_mm, axis=-1) < 20
    grown = np.linalg.norm(away_mm, axis=-1) < 22
    field = geometry.to_image((0.1 * away_mm).astype(np.float32), grid)
    (row,) = plausibility.volume_changes(displacement.jacobian_determinant(field), ball.astype(int))
    assert row[2] == pytest.approx(33.1, abs=0.01)  # 1.1³ − 1
    assert row[2] == pytest.approx(100 * (grown.sum() / ball.sum() - 1), abs=1)


def test_a_planted_fold_is_found_where_it_is():
    voxels = np.zeros((*GRID.size, 3))
    voxels[6, :, :, 0] = -4
    determinant = displacement.jacobian_determinant(displacement.from_voxels(voxels, GRID))
    # u falls by 4 voxels from i = 5 to 6: the difference over two voxels is -2 at i = 5, and +2 at i = 7.
    np.testing.assert_allclose(determinant[5], -1, atol=1e-5)
    np.testing.assert_allclose(determinant[7], 3, atol=1e-5)
    assert values(plausibility.regularity(determinant))["folding", "image"] == pytest.approx(100 / 12)


def learn2reg(voxels):
    """SDlogJ as Learn2Reg's evaluation prints it, written from its description for displacements in voxels."""
    gradients = [np.stack(np.gradient(voxels[..., component]), axis=-1) for component in range(3)]
    jacobian = np.eye(3) + np.stack(gradients, axis=-2)[2:-2, 2:-2, 2:-2]
    return np.log((np.linalg.det(jacobian) + 3).clip(1e-9, 1e9)).std()


def test_sd_log_as_learn2reg_prints_it():
    voxels = np.random.default_rng(9).normal(scale=0.5, size=(*GRID.size, 3))
    determinant = displacement.jacobian_determinant(displacement.from_voxels(voxels, GRID))
    by_name = values(plausibility.regularity(determinant))
    assert by_name["jacobian_sd_log_learn2reg", "image"] == pytest.approx(learn2reg(voxels), rel=1e-4)
    assert by_name["folding", "image"] > 1 and by_name["jacobian_sd_log", "image"] > 2 * learn2reg(voxels)
    # By hand: the logarithms of 4 and of 1e-9, half and half; the rim does not count.
    determinant = np.full((6, 6, 6), 100.0)
    determinant[2:4, 2:4, 2], determinant[2:4, 2:4, 3] = 1, -7
    by_hand = (np.log(4) - np.log(1e-9)) / 2
    assert values(plausibility.regularity(determinant))["jacobian_sd_log_learn2reg", "image"] == pytest.approx(by_hand)
    inside = determinant == 1
    assert values(plausibility.regularity(determinant, inside))["jacobian_sd_log_learn2reg", "image"] == 0
    one_slice = values(plausibility.regularity(determinant[:, :, 2:4]))
    assert one_slice["jacobian_sd_log_learn2reg", "image"] == pytest.approx(by_hand)


def test_folded_volume_by_hand():
    inverted = np.zeros((4, 3, 2))
    inverted[1, 1, 0], inverted[3, 2, 1] = 0.5, 0.1
    assert plausibility.folded_volume(inverted) == [("ndv", "image", pytest.approx(100 * 0.6 / 24), "%")]
    # The cubes whose eight corners lie in the mask: two along i.
    mask = np.zeros((5, 4, 3), bool)
    mask[1:4, 1:3, 0:2] = True
    assert values(plausibility.folded_volume(inverted, mask))["ndv", "image"] == pytest.approx(100 * 0.5 / 2)
    mask[1:4, 2] = False
    assert np.isnan(values(plausibility.folded_volume(inverted, mask))["ndv", "image"])
    one_slice = np.array([[[0.2], [0.0]]])
    assert values(plausibility.folded_volume(one_slice, np.ones((2, 3, 1), bool)))["ndv", "image"] == pytest.approx(10)


def test_inverse_consistency_by_hand():
    errors = np.array([0.0, 1, 2, 3, 4, np.nan, np.nan, np.nan, np.nan, np.nan])
    found = plausibility.inverse_consistency(errors)
    assert values(found) == pytest.approx(
        {
            ("inverse_consistency_mean", "image"): 2,
            ("inverse_consistency_p95", "image"): 3.8,
            ("inverse_consistency_outside", "image"): 50,
        }
    )
    assert [unit for *_, unit in found] == ["mm", "mm", "%"]
    assert values(plausibility.inverse_consistency(errors, errors > 2))["inverse_consistency_mean", "image"] == 3.5
    nowhere = values(plausibility.inverse_consistency(errors * np.nan))
    assert np.isnan(nowhere["inverse_consistency_mean", "image"])
    assert nowhere["inverse_consistency_outside", "image"] == 100
    assert np.isnan(list(values(plausibility.inverse_consistency(errors, errors > 9)).values())).all()


def test_what_a_method_reports_of_itself():
    assert reported.rows_of({"seconds": 3, "threads": 1}) == [("runtime", "image", 3.0, "s")]
    everything = {"seconds": 3, "cpu_seconds": 5.5, "peak_memory_mb": 700, "fre_mm": 0.7}
    assert reported.rows_of(everything) == [
        *(("runtime", "image", 3.0, "s"), ("cpu_time", "image", 5.5, "s")),
        *(("peak_memory", "image", 700.0, "MB"), ("fre", "image", 0.7, "mm")),
    ]
    for kept in (True, False):
        row = reported.rows_of({"seconds": 3, "start_kept": kept, "judged": {"start": 0.1}})[1]
        assert row == ("start_kept", "image", float(kept), "1")
    (_, _, value, unit) = reported.rows_of({"seconds": 3, "fre_mm": None})[1]
    assert np.isnan(value) and unit == "mm"
    with pytest.raises(KeyError):
        reported.rows_of({"threads": 1})


def test_a_failed_method_has_the_rows_of_the_others_without_values():
    others = [
        [Row("dice", "1", 0.5, "1"), Row("runtime", "image", 3.0, "s"), Row("fre", "image", 0.1, "mm")],
        [Row("dice", "1", 0.7, "1"), Row("runtime", "image", 4.0, "s"), Row("cpu_time", "image", 4.0, "s")],
        [Row("start_kept", "image", 1.0, "1")],
    ]
    found = reported.rows_of_failed({"failed": "no overlap", "seconds": 1.0}, others)
    keys = [("dice", "1", "1"), ("runtime", "image", "s"), ("cpu_time", "image", "s")]
    assert [(metric, of, unit) for metric, of, _, unit in found] == keys
    assert np.isnan([value for _, _, value, _ in found]).all()
    of_fiducials = reported.rows_of_failed({"failed": "no fiducials", "fre_mm": None}, others)
    assert ("fre", "image") in values(of_fiducials) and len(of_fiducials) == 4


def test_coverage_by_hand():
    fixed, moved, moving = np.zeros((2, 2, 2)), np.full((2, 2, 2), np.nan), np.array([0.0, 0, 0.5, 0.5])
    fixed[0], moved[0] = [[0, 1], [0, 1]], 0.3
    assert values(metrics.coverage(fixed, moving, moved)) == pytest.approx(
        {("overlap", "image"): 50, ("contrast", "fixed"): np.sqrt(0.1875), ("contrast", "moving"): 0.25,
         ("contrast", "moved"): 0}
    )  # fmt: skip
    mask = np.zeros((2, 2, 2), bool)
    mask[:, 0] = True
    assert values(metrics.coverage(fixed, moving, moved, mask))["overlap", "image"] == 50
    mask[1] = False
    found = values(metrics.coverage(fixed, moving, moved, mask))
    assert found["overlap", "image"] == 100 and found["contrast", "fixed"] == 0.5
    nothing = values(metrics.coverage(fixed, moving, moved * np.nan))
    assert nothing["overlap", "image"] == 0 and np.isnan(nothing["contrast", "moved"])
    assert np.isnan(values(metrics.coverage(fixed, moving, moved, mask & False))["overlap", "image"])


@pytest.mark.parametrize("degrees", [0, 30, 90, 180])
@pytest.mark.parametrize("size", [(12, 11, 10), (12, 11, 1)], ids=["volume", "slice"])
def test_motion_finds_the_planted_rotation_and_what_goes_beyond_the_affine_at_the_border(degrees, size):
    grid = Grid(size, GRID.spacing_mm, GRID.origin_mm, GRID.direction)
    turn = Rotation.from_euler("z", degrees, degrees=True).as_matrix()
    affine = geometry.affine(turn @ np.diag([1.1, 0.9, 1.0]), [3.0, -20.0, 8.0])
    field = displacement.sample(affine, grid)
    found = values(metrics.motion(field, affine))
    assert found["rotation", "image"] == pytest.approx(degrees, abs=0.1)
    assert found["border_displacement", "image"] == pytest.approx(0, abs=1e-4)
    # 7 mm everywhere but in the middle.
    beyond = np.full((*size, 3), [0.0, 7.0, 0.0], np.float32)
    beyond[1:-1, 1:-1] = 0
    edge = values(metrics.motion(geometry.to_image(geometry.to_array(field) + beyond, grid), affine))
    assert edge["border_displacement", "image"] == pytest.approx(7, abs=1e-4)


def test_a_mirrored_image_counts_as_turned_around():
    mirror = displacement.sample(geometry.affine(np.diag([-1.0, 1, 1]), [0, 0, 0]), GRID)
    assert values(metrics.motion(mirror, geometry.affine(np.eye(3), [0, 0, 0])))["rotation", "image"] == 180


def test_percentiles_of_the_determinant():
    found = values(plausibility.regularity(np.arange(1.0, 102.0).reshape(101, 1, 1)))
    assert [found[f"jacobian_{name}", "image"] for name in ("mean", "p01", "p99")] == pytest.approx([51, 2, 100])
