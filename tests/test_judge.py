"""The judge of the affine alignment, on images whose true transform is known: the better of two, on any grid."""

import numpy as np
import pytest
import SimpleITK as sitk
from scipy.ndimage import gaussian_filter
from scipy.spatial.transform import Rotation

from cohortmorph.registration import judge as module
from cohortmorph.registration.judge import judge
from cohortmorph.registration.problem import Problem
from cohortmorph.spatial import geometry
from cohortmorph.spatial.geometry import Grid

OBLIQUE = Rotation.from_euler("xyz", [12, -20, 35], degrees=True).as_matrix()
GRIDS = {
    "LPS": np.eye(3),
    "RAS": np.diag([-1.0, -1.0, 1.0]),
    "oblique": OBLIQUE,
    "axes exchanged": np.eye(3)[[2, 0, 1]],
}
SPACINGS_MM = {"isotropic": (2.0, 2.0, 2.0), "anisotropic": (1.4, 1.8, 4.0)}
TRUTH = geometry.affine(Rotation.from_euler("z", 6, degrees=True).as_matrix(), [4.0, -3.0, 2.0])
EXTENT_MM = 56.0
ANATOMY = gaussian_filter(np.random.default_rng(4).normal(size=(48, 48, 48)), 2.5)
ANATOMY = (ANATOMY - ANATOMY.min()) / np.ptp(ANATOMY)
WORLD = Grid((48, 48, 48), (2.0, 2.0, 2.0), (-48.0, -48.0, -48.0))


def grid_of(direction=OBLIQUE, spacing_mm=(2.0, 2.0, 2.0), middle_mm=(0.0, 0.0, 0.0)):
    """A grid of 56 mm about a point."""
    direction = np.asarray(direction)
    size = tuple(int(EXTENT_MM // spacing) for spacing in spacing_mm)
    half_mm = direction @ ((np.array(size) - 1) / 2 * spacing_mm)
    return Grid(size, spacing_mm, tuple(np.asarray(middle_mm) - half_mm), tuple(direction.ravel()))


def seen(grid, world_to_anatomy=None, contrast=lambda values: values):
    """The anatomy as an image on a grid, in some contrast."""
    transform = sitk.AffineTransform(3) if world_to_anatomy is None else world_to_anatomy
    anatomy = geometry.to_image(contrast(ANATOMY).astype(np.float32), WORLD)
    return sitk.Resample(
        anatomy, grid.size, transform, sitk.sitkLinear, grid.origin_mm, grid.spacing_mm, grid.direction
    )


def other_contrast(values):
    """Dark where it was bright, and the middle brightest: no line leads from one contrast to the other."""
    return 1 - np.abs(2 * values - 0.8)


def problem(direction=OBLIQUE, spacing_mm=(2.0, 2.0, 2.0), **more):
    """Two images of one anatomy, of other contrasts, grids and positions: TRUTH leads from one to the other."""
    fixed = seen(grid_of(direction, spacing_mm))
    moving_grid = grid_of(np.eye(3), (2.2, 1.9, 2.4), TRUTH.TransformPoint((0.0, 0.0, 0.0)))
    return Problem(fixed, seen(moving_grid, TRUTH.GetInverse(), other_contrast), **more)


def off(x_mm=0.0, y_mm=0.0, z_mm=0.0):
    """The true transform, and then beside it."""
    return geometry.chain(TRUTH, geometry.affine(np.eye(3), [x_mm, y_mm, z_mm]))


@pytest.mark.parametrize("spacing_mm", SPACINGS_MM.values(), ids=SPACINGS_MM)
@pytest.mark.parametrize("direction", GRIDS.values(), ids=GRIDS)
@pytest.mark.parametrize("axis", range(3))
def test_the_better_of_two_is_kept_in_another_contrast_on_any_grid(direction, spacing_mm, axis):
    pair = problem(direction, spacing_mm)
    near, far = (off(*np.roll([distance_mm, 0, 0], axis)) for distance_mm in (1.0, 3.0))
    worse, better = judge(pair, start=near, affine=far), judge(pair, start=far, affine=near)
    assert worse.start_kept and not better.start_kept
    assert worse.how["start"] == better.how["affine"] < worse.how["affine"] == better.how["start"]
    assert worse.how["why"].endswith("the start is kept") and better.how["why"].endswith("the affine is kept")
    assert 0.2 < worse.how["compared"] <= 1


def test_both_are_judged_on_the_voxels_that_both_cover():
    """A start that covers everything against a better affine that leaves a third uncovered: cover alone is no merit."""
    grid = grid_of(np.eye(3))
    fixed, moving = seen(grid), seen(Grid((28, 28, 19), grid.spacing_mm, grid.origin_mm, grid.direction))
    wide = seen(WORLD)
    found = judge(
        Problem(fixed, moving),
        start=geometry.affine(np.eye(3), [0.0, 0.0, -1.5]),
        affine=geometry.affine(np.eye(3), [0.0, 0.0, 0.3]),
    )
    assert not found.start_kept and found.how["compared"] < 0.75
    assert judge(Problem(fixed, wide), sitk.AffineTransform(3), TRUTH).how["compared"] > 0.9


def test_an_affine_that_moves_the_images_apart_is_not_judged_on_what_is_left():
    """Of the start's cover a fifth is left, where both images are air: there nothing speaks against the affine."""
    values = np.zeros((40, 40, 40), np.float32)
    values[8:] = np.random.default_rng(1).random((32, 40, 40))
    image = geometry.to_image(gaussian_filter(values, 1), Grid((40, 40, 40), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0)))
    away = geometry.affine(np.eye(3), [34.0, 0.0, 0.0])
    found = judge(Problem(image, image), start=geometry.affine(np.eye(3), [0.3, 0.0, 0.0]), affine=away)
    assert found.start_kept and found.how["compared"] > 0.9


def test_a_start_that_hardly_overlaps_is_not_judged():
    found = judge(problem(), start=off(52.0), affine=off(30.0))
    assert not found.start_kept and (found.how["start"], found.how["affine"]) == (None, None)
    assert "the start shows enough to be compared: the affine is kept" in found.how["why"]
    nowhere = judge(problem(), start=off(500.0), affine=off(0.5))
    assert not nowhere.start_kept and nowhere.how["compared"] == 0


def test_equal_values_keep_the_affine():
    found = judge(problem(), start=off(1.0), affine=off(1.0))
    assert not found.start_kept and found.how["start"] == found.how["affine"]


def test_the_mask_says_where_they_are_compared():
    """A second body lies elsewhere in the moving image: in its half the start is right, in the other the affine."""
    grid = grid_of(np.eye(3))
    fixed = seen(grid)
    shifted = geometry.affine(np.eye(3), [0.0, 0.0, 3.0])
    values = geometry.to_array(seen(grid)).copy()
    values[14:] = geometry.to_array(seen(grid, shifted.GetInverse()))[14:]
    moving = geometry.to_image(values, grid)
    masks = np.zeros((2, *grid.size), np.uint8)
    masks[0, 2:11], masks[1, 17:26] = 1, 1
    stay, follow = geometry.affine(np.eye(3), [0.0, 0.0, 0.3]), geometry.affine(np.eye(3), [0.0, 0.0, 2.7])
    kept = [
        judge(Problem(fixed, moving, geometry.to_image(mask, grid)), start=stay, affine=follow).start_kept
        for mask in masks
    ]
    assert kept == [True, False]


@pytest.mark.parametrize("spacing_mm", SPACINGS_MM.values(), ids=SPACINGS_MM)
def test_large_images_are_averaged_first_along_their_finest_axes(monkeypatch, spacing_mm):
    monkeypatch.setattr(module, "MOST_VOXELS", 9000)
    pair = Problem(seen(grid_of(OBLIQUE, spacing_mm)), seen(WORLD, TRUTH.GetInverse(), other_contrast))
    blocks = module._blocks(pair.fixed)
    coarse_mm = np.multiply(spacing_mm, blocks)
    assert coarse_mm.max() / coarse_mm.min() < 2.3 and max(blocks) > 1
    assert np.prod(np.array(pair.fixed.GetSize()) // blocks) <= 9000
    first = geometry.to_array(pair.fixed)[tuple(slice(block) for block in blocks)]
    assert module._averaged(pair.fixed, blocks)[0, 0, 0] == pytest.approx(first.mean(), rel=1e-5)
    assert judge(pair, start=off(1.0), affine=off(6.0)).start_kept
    assert not judge(pair, start=off(6.0), affine=off(1.0)).start_kept
    masked = Problem(pair.fixed, pair.moving, pair.fixed > 0.45)
    assert judge(masked, start=off(1.0), affine=off(6.0)).start_kept


def test_the_same_bits_whatever_the_threads():
    pair = problem()
    threads = sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
    try:
        values = []
        for count in (1, 3):
            sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(count)
            values.append(judge(pair, off(1.0), off(3.0)).how)
    finally:
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(threads)
    assert values[0] == values[1]
