"""Distances of surfaces, by hand, by brute force, by the library itself and by SimpleITK."""

import warnings

import numpy as np
import pytest
import SimpleITK as sitk
import surface_distance

from cohortmorph.evaluation import surfaces

SPACING_MM = (0.8, 1.5, 3.0)


def ball(size, centre_mm, radius_mm, spacing_mm=SPACING_MM):
    at_mm = np.moveaxis(np.indices(size), 0, -1) * np.array(spacing_mm[: len(size)])
    return np.linalg.norm(at_mm - centre_mm, axis=-1) < radius_mm


def two_balls():
    size = (40, 24, 14)
    return ball(size, (14, 17, 20), 9), ball(size, (17, 18, 21), 8)


def compared(fixed, moved, tolerance_mm=2.0, spacing_mm=SPACING_MM):
    found = surfaces.of_structures(fixed.astype(int), [1], spacing_mm)
    return surfaces.compare_maps(found, moved.astype(int), spacing_mm, tolerance_mm)[1]


def by_library(fixed, moved, tolerance_mm=2.0, spacing_mm=SPACING_MM):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        found = surface_distance.compute_surface_distances(fixed, moved, spacing_mm)
    lengths_mm, areas = (
        np.concatenate([found[name.format(a)] for a in ends])
        for name, ends in [
            ("distances_{}", ("gt_to_pred", "pred_to_gt")),
            ("surfel_areas_{}", ("gt", "pred")),
        ]
    )
    return (
        surface_distance.compute_robust_hausdorff(found, 95),
        np.sum(lengths_mm * areas) / areas.sum(),
        surface_distance.compute_surface_dice_at_tolerance(found, tolerance_mm),
    )


def test_two_planes_by_hand():
    # Two slabs that fill the grid along j and k and differ by two voxels in thickness, on one side.
    fixed, moved = np.zeros((12, 150, 150), bool), np.zeros((12, 150, 150), bool)
    fixed[2:6], moved[2:8] = True, True
    hd95_mm, mean_mm, surface_dice = compared(fixed, moved, tolerance_mm=1.5)
    assert hd95_mm == pytest.approx(1.6)  # two steps of 0.8 mm
    # Half of both surfaces lies at 0, half at 1.6 mm, but for the narrow rims.
    assert mean_mm == pytest.approx(0.8, abs=0.03)
    assert surface_dice == pytest.approx(0.5, abs=0.03)
    assert compared(fixed, moved, tolerance_mm=1.6)[2] == 1


def test_distances_are_those_of_brute_force():
    of_fixed, of_moved = (surfaces.of_structures(mask.astype(int), [1], SPACING_MM)[1] for mask in two_balls())
    fixed_mm, moved_mm = (surface.corners * np.array(SPACING_MM) for surface in (of_fixed, of_moved))
    brute_mm = np.linalg.norm(fixed_mm[:, None] - moved_mm[None], axis=-1)
    np.testing.assert_allclose(surfaces.distances_mm(of_fixed, of_moved), brute_mm.min(axis=1), atol=1e-9)
    np.testing.assert_allclose(surfaces.distances_mm(of_moved, of_fixed), brute_mm.min(axis=0), atol=1e-9)
    assert 2 < brute_mm.min(axis=1).max() < 8


@pytest.mark.parametrize("few", [0, 10**9])
def test_looking_at_neighbours_and_looking_in_the_tree_agree(few, monkeypatch):
    monkeypatch.setattr(surfaces, "FEW", few)
    fixed, moved = two_balls()
    assert compared(fixed, moved) == pytest.approx(by_library(fixed, moved), rel=1e-9)


@pytest.mark.parametrize("axes", [(0, 1, 2), (2, 0, 1), (1, 0, 2)])
def test_the_library_finds_the_same_whatever_the_order_of_the_axes(axes):
    fixed, moved = (mask.transpose(axes) for mask in two_balls())
    spacing_mm = tuple(SPACING_MM[axis] for axis in axes)
    found = compared(fixed, moved, spacing_mm=spacing_mm)
    assert found == pytest.approx(by_library(fixed, moved, spacing_mm=spacing_mm), rel=1e-9)
    assert found == pytest.approx(compared(*two_balls()), rel=1e-9)


def test_simpleitk_finds_about_the_same_hausdorff_and_mean_distance():
    spacing_mm = (0.5, 0.7, 0.6)
    size = (60, 50, 54)
    fixed, moved = ball(size, (14, 16, 15), 10, spacing_mm), ball(size, (16, 17, 15.5), 9, spacing_mm)
    images = [sitk.GetImageFromArray(mask.astype(np.uint8).transpose(2, 1, 0)) for mask in (fixed, moved)]
    for image in images:
        image.SetSpacing(spacing_mm)
    contours = [sitk.LabelContour(image) for image in images]
    from_fixed, from_moved = (
        sitk.GetArrayFromImage(
            sitk.Abs(sitk.SignedMaurerDistanceMap(other, squaredDistance=False, useImageSpacing=True))
        )[sitk.GetArrayFromImage(own) > 0]
        for own, other in (contours, contours[::-1])
    )
    hd95_mm, mean_mm, _ = compared(fixed, moved, spacing_mm=spacing_mm)
    # Theirs are centres of voxels inside, ours corners.
    assert hd95_mm == pytest.approx(max(np.percentile(from_fixed, 95), np.percentile(from_moved, 95)), abs=0.4)
    assert mean_mm == pytest.approx(np.concatenate([from_fixed, from_moved]).mean(), abs=0.2)
    assert hd95_mm > 2


def test_one_slice_has_contours_and_not_two_faces():
    size, spacing_mm = (40, 40), (1.0, 2.0)
    fixed, moved = ball(size, (20, 40), 12, spacing_mm), ball(size, (20, 40), 6, spacing_mm)
    expected = by_library(fixed, moved, spacing_mm=spacing_mm)
    for axis in range(3):
        spacing = list(spacing_mm)
        spacing.insert(axis, 5.0)
        found = compared(np.expand_dims(fixed, axis), np.expand_dims(moved, axis), spacing_mm=spacing)
        assert found == pytest.approx(expected, rel=1e-9)
    # As a surface, the inside of the smaller disc would be at distance 0.
    assert expected[1] == pytest.approx(6, abs=0.7) and expected[2] == 0
    with pytest.raises(ValueError, match="neither surfaces nor contours"):
        surfaces.of_structures(np.ones((9, 1, 1), int), [1], (1, 1, 1))


def test_structures_are_told_apart_and_those_that_are_missing_are_none():
    label_map = np.zeros((20, 20, 20), int)
    label_map[2:6, 2:6, 2:6] = 70000
    label_map[5:12, 10:15, 3:9] = 3
    found = surfaces.of_structures(label_map, [70000, 5, 3], (1, 1, 1))
    assert list(found) == [70000, 5, 3] and found[5] is None
    for label in (70000, 3):
        alone = surfaces.of_structures((label_map == label).astype(int), [1], (1, 1, 1))[1]
        np.testing.assert_array_equal(found[label].corners, alone.corners)
        np.testing.assert_array_equal(found[label].areas, alone.areas)
    assert surfaces.of_structures(label_map, [], (1, 1, 1)) == {}


def test_without_a_surface_there_is_no_distance():
    mask = two_balls()[0]
    hd95_mm, mean_mm, surface_dice = compared(mask, np.zeros_like(mask))
    assert np.isnan(hd95_mm) and np.isnan(mean_mm) and surface_dice == 0
    hd95_mm, mean_mm, surface_dice = compared(np.zeros_like(mask), mask)
    assert np.isnan(hd95_mm) and np.isnan(mean_mm) and surface_dice == 0
    assert np.isnan(compared(np.zeros_like(mask), np.zeros_like(mask))).all()
    assert compared(mask, mask) == (0, 0, 1)


def test_the_mean_weighs_surfaces_by_area_not_by_corners():
    # On a box twice as long as wide with thick slices, corners are dense where areas are small.
    fixed, moved = np.zeros((30, 30, 12), bool), np.zeros((30, 30, 12), bool)
    fixed[5:25, 5:25, 4:8], moved[5:25, 5:25, 4:10] = True, True
    found, other = (surfaces.of_structures(mask.astype(int), [1], SPACING_MM)[1] for mask in (fixed, moved))
    edges_mm = np.array([20, 20, 4]) * SPACING_MM
    box_mm2 = 2 * (edges_mm[0] * edges_mm[1] + edges_mm[0] * edges_mm[2] + edges_mm[1] * edges_mm[2])
    assert found.areas.sum() == pytest.approx(box_mm2, rel=0.08)
    ways_mm = np.concatenate([surfaces.distances_mm(found, other), surfaces.distances_mm(other, found)])
    mean_mm = compared(fixed, moved)[1]
    assert mean_mm == pytest.approx(np.average(ways_mm, weights=np.concatenate([found.areas, other.areas])))
    assert mean_mm != pytest.approx(ways_mm.mean(), abs=0.05)
