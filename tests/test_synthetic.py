"""Synthetic pairs: the displacement that is written is the one that the images and landmarks have."""

import make_synthetic
import numpy as np
import pytest
import SimpleITK as sitk

from cohortmorph import UserError
from cohortmorph.simulated import synthetic
from cohortmorph.spatial import displacement, geometry, landmarks
from cohortmorph.spatial.geometry import Grid

OBLIQUE = (0.8, -0.6, 0, 0.6, 0.8, 0, 0, 0, 1)
GRIDS = {
    "LPS": Grid((48, 44, 40), (3.0, 3.0, 3.5), (-70.0, -60.0, -50.0)),
    "RAS": Grid((48, 44, 40), (3.0, 3.0, 3.5), (70.0, 60.0, -50.0), (-1, 0, 0, 0, -1, 0, 0, 0, 1)),
    "oblique": Grid((48, 44, 40), (3.0, 2.5, 3.5), (-20.0, -90.0, -50.0), OBLIQUE),
}


def anatomy(points_mm):
    """Smooth, HU-like."""
    return 400 * np.sin(points_mm / 14).sum(axis=-1)


def made(name, kind="high", seed=1, mask=None):
    grid = GRIDS[name]
    image = geometry.to_image(anatomy(grid.points_mm()).astype(np.float32), grid)
    return image, synthetic.make_pair(image, mask, kind, np.random.default_rng(seed))


@pytest.mark.parametrize("name", GRIDS)
def test_the_moving_image_warped_by_the_displacement_is_the_fixed_image(name, monkeypatch):
    monkeypatch.setattr(synthetic, "FIXED_NOISE", 0.0)
    monkeypatch.setattr(synthetic, "MOVING_NOISE", 0.0)
    image, pair = made(name)
    grid = GRIDS[name]
    warped = geometry.to_array(displacement.warp(pair["moving"], pair["displacement"]))
    fixed, moving = geometry.to_array(pair["fixed"]), geometry.to_array(pair["moving"])
    inner = (slice(8, -8),) * 3
    left, before = np.abs(warped - fixed)[inner].mean(), np.abs(moving - fixed)[inner].mean()
    print(f"{name}: {before:.1f} HU apart before, {left:.1f} after")
    assert left < 0.1 * before  # two interpolations of a smooth image
    assert np.abs(moving - geometry.to_array(image))[inner].mean() > 0.3 * before
    moved = displacement.move_points(pair["fixed_landmarks_mm"], pair["displacement"])
    np.testing.assert_allclose(moved, pair["moving_landmarks_mm"], atol=1e-4)
    assert grid.contains(pair["fixed_landmarks_mm"]).all() and len(pair["fixed_landmarks_mm"]) == 100


@pytest.mark.parametrize("kind", ["low", "medium", "high"])
def test_fields_reach_theta_and_are_smoother_at_lower_frequency(kind):
    grid = GRIDS["oblique"]
    u = geometry.to_array(synthetic.random_displacement(synthetic.FIELDS[kind], grid, np.random.default_rng(3)))
    assert 7.0 < np.abs(u).max() <= 8.0
    gradients = {
        name: np.abs(
            np.gradient(
                geometry.to_array(
                    synthetic.random_displacement(synthetic.Field(of.sigma_mm, 90, 8), grid, np.random.default_rng(3))
                )[..., 0]
            )[0]
        ).mean()
        for name, of in synthetic.FIELDS.items()
        if name != "zero"
    }
    assert gradients["low"] < gradients["medium"] < gradients["high"]


def test_the_zero_field_is_zero():
    _, pair = made("RAS", kind="zero")
    assert not geometry.to_array(pair["displacement"]).any()
    np.testing.assert_array_equal(pair["fixed_landmarks_mm"], pair["moving_landmarks_mm"])


def test_noise_has_the_paper_s_size():
    grid = GRIDS["LPS"]
    flat = geometry.to_image(np.full(grid.size, 50, np.float32), grid)
    pair = synthetic.make_pair(flat, None, "low", np.random.default_rng(1))
    assert geometry.to_array(pair["fixed"]).std() == pytest.approx(5, rel=0.05)
    assert geometry.to_array(pair["moving"]).std() == pytest.approx(3, rel=0.05)


def test_landmarks_lie_in_the_mask_which_moves_along():
    grid = GRIDS["oblique"]
    ball = np.linalg.norm(grid.points_mm() - grid.centre_mm, axis=-1) < 40
    mask = geometry.to_image(ball.astype(np.uint8), grid)
    _, pair = made("oblique", mask=mask)
    indices = tuple(np.round(grid.to_indices(pair["fixed_landmarks_mm"])).astype(int).T)
    assert geometry.to_array(pair["fixed_mask"])[indices].all()
    warped = displacement.warp_labels(pair["moving_mask"], pair["displacement"])
    agree = geometry.to_array(warped) == geometry.to_array(pair["fixed_mask"])
    assert agree.mean() > 0.99 and not (geometry.to_array(pair["fixed_mask"]) == ball).all()


def test_a_mask_without_room_for_landmarks_is_refused():
    grid = GRIDS["LPS"]
    few = np.zeros(grid.size, np.uint8)
    few[20:23, 20:23, 20:23] = 1
    with pytest.raises(UserError, match=r"the mask has \d+ voxels; at least 100"):
        made("LPS", kind="zero", mask=geometry.to_image(few, grid))


def test_the_script_writes_all_files_and_the_same_ones_again(tmp_path):
    image, _ = made("oblique")
    geometry.write_image(image, tmp_path / "image.nii.gz")
    for folder in ("a", "b"):
        make_synthetic.main("S1", str(tmp_path / "image.nii.gz"), "", "medium", 1, str(tmp_path / folder))
    make_synthetic.main("S2", str(tmp_path / "image.nii.gz"), "", "medium", 1, str(tmp_path / "other"))
    read = [sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / f / "fixed.nii.gz"))) for f in ("a", "b", "other")]
    np.testing.assert_array_equal(read[0], read[1])
    assert not np.array_equal(read[0], read[2])
    field = displacement.read(tmp_path / "a" / "truth.nii.gz", geometry.read_grid(tmp_path / "a" / "fixed.nii.gz"))
    fixed, moving = landmarks.read_pair(*(tmp_path / "a" / f"{role}_landmarks.tsv" for role in ("fixed", "moving")))
    moved = displacement.move_points(landmarks.points_lps_mm(fixed), field)
    np.testing.assert_allclose(moved, landmarks.points_lps_mm(moving), atol=1e-4)
