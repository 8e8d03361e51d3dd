"""Instance optimization: its splines, its levels, and what it keeps of its start."""

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from cohortmorph import UserError
from cohortmorph.learning import instance
from cohortmorph.registration.problem import Problem, Run
from cohortmorph.spatial import displacement, geometry
from cohortmorph.spatial.geometry import Grid

OBLIQUE = (0.8, -0.6, 0, 0.6, 0.8, 0, 0, 0, 1)
SETTINGS = {
    "dimensions": 3,
    "similarity": {"name": "mse"},
    "weight": 0.01,
    "levels": [{"spacing_mm": 2, "grid_mm": 8, "iterations": 30, "step_mm": 0.3}],
}


ROOT = Path(__file__).parents[1]
SHIPPED = sorted((ROOT / "config/instance").glob("*.yaml"))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_each_shipped_file_is_read_has_a_known_similarity_and_says_what_it_is_for(path):
    from cohortmorph.learning.losses import SIMILARITIES

    settings = instance.read_settings(path)
    assert settings["similarity"].keys() - {"name"} == set(SIMILARITIES[settings["similarity"]["name"]][1])
    spacings, steps = ([level[key] for level in settings["levels"]] for key in ("spacing_mm", "step_mm"))
    assert sorted(spacings, reverse=True) == spacings and sorted(steps, reverse=True) == steps
    assert f"| `{path.name}` | " in (ROOT / "docs/methods.md").read_text()
    # NCC, which misleads between CT and MR, says that it is for one modality.
    if "modalit" in path.read_text().splitlines()[0]:
        of_two = "two modalities" in path.read_text().splitlines()[0]
        assert of_two == (settings["similarity"]["name"] in ("mind", "nmi"))


def test_splines_add_up_to_one_and_follow_a_line():
    positions = np.linspace(0, 50, 41)
    matrix = instance.bspline_matrix(positions, 50.0, 12.0)
    assert matrix.shape == (41, 8)  # five intervals of 10 mm, and one point more at each end
    np.testing.assert_allclose(matrix.sum(axis=1), 1, atol=1e-12)
    np.testing.assert_allclose(matrix @ (10.0 * np.arange(-1, 7)), positions, atol=1e-9)


def test_a_single_control_interval_serves_an_axis_of_one_voxel():
    np.testing.assert_allclose(instance.bspline_matrix([0.0], 0.0, 12.0).sum(), 1)


@pytest.mark.parametrize("direction", [(1, 0, 0, 0, 1, 0, 0, 0, 1), OBLIQUE], ids=["LPS", "oblique"])
def test_coarser_stays_inside_and_keeps_a_linear_image(direction):
    grid = Grid((31, 24, 9), (1.0, 1.3, 5.0), (3.0, -20.0, 400.0), direction)
    image = geometry.to_image((grid.points_mm() @ [1.0, 2.0, -0.5]).astype(np.float32), grid)
    small = instance.coarser(image, [3.0, 3.0, 3.0])
    new = Grid.of(small)
    assert new.spacing_mm == (3.0, 3.0, 5.0) and new.direction == grid.direction
    assert grid.contains(new.points_mm()).all() and new.size == (11, 10, 9)
    inside = (slice(2, -2), slice(2, -2), slice(2, -2))  # smoothing bends a line at its ends
    values = geometry.to_array(small)[inside]
    np.testing.assert_allclose(values, (new.points_mm() @ [1.0, 2.0, -0.5])[inside], atol=1e-3)
    assert instance.coarser(image, [0.5, 0.5, 0.5]) is image


def blobs(grid, shift_mm=(0.0, 0.0, 0.0)):
    """An image of a few blobs, moved."""
    centres_mm = grid.to_world(np.random.default_rng(4).uniform(0.2, 0.8, (9, 3)) * np.array(grid.size))
    distance2 = ((grid.points_mm()[..., None, :] - np.array(shift_mm) - centres_mm) ** 2).sum(axis=-1)
    return geometry.to_image(np.exp(-distance2 / 50).sum(axis=-1).astype(np.float32), grid)


def refine(tmp_path, fixed, moving, initial=None, mask=None, **changed):
    import yaml

    (tmp_path / "instance.yaml").write_text(yaml.safe_dump(SETTINGS | changed))
    initial = initial or sitk.AffineTransform(3)
    problem, run = Problem(fixed, moving, mask, initial), Run(1, 1, tmp_path)
    transform, cost, how = instance.register(problem, [tmp_path / "instance.yaml"], run)
    assert cost.cpu_seconds > 0 and how["mask_used"] == (mask is not None)
    return geometry.to_array(displacement.sample(transform, Grid.of(fixed))), how


def test_a_start_of_any_shape_is_kept_where_nothing_pulls(tmp_path):
    """The residual is added to the start; an identical pair under a bent start is pulled back, a step of 0 is not."""
    grid = Grid((20, 22, 18), (2.0, 2.0, 2.5), (0.0, 0.0, 0.0), OBLIQUE)
    bent = np.zeros((*grid.size, 3))
    bent[..., 0] = 2 * np.sin(np.arange(grid.size[1]) / 3)[None, :, None]
    start = displacement.as_transform(geometry.to_image(bent, grid))
    image = blobs(grid)
    level = SETTINGS["levels"][0]
    still, _ = refine(tmp_path, image, image, start, levels=[level | {"step_mm": 1e-7}])
    np.testing.assert_allclose(still, bent, atol=1e-4)
    back, how = refine(tmp_path, image, image, start)
    likeness = how["levels"][0]["similarity"]
    assert likeness[1] < 0.3 * likeness[0]
    inside = geometry.to_array(image) > 0.5
    assert np.abs(back)[inside].mean() < 0.6 * np.abs(bent)[inside].mean()


def test_the_affine_part_of_the_start_costs_nothing(tmp_path):
    """λ weighs how the displacement bends: an affine start is not drawn back, whatever λ is."""
    grid = Grid((20, 22, 18), (2.0, 2.0, 2.5), (0.0, 0.0, 0.0), OBLIQUE)
    start = geometry.affine(np.diag([1.1, 0.9, 1.05]), [3.0, -2.0, 1.0])
    flat = blobs(grid) * 0 + sitk.Cast(blobs(grid) > 99, sitk.sitkFloat32)
    found, how = refine(tmp_path, flat, flat, start, weight=1.0)
    np.testing.assert_allclose(found, geometry.to_array(displacement.sample(start, grid)), atol=0.05)
    assert how["levels"][0]["penalty"] == pytest.approx([0, 0], abs=1e-5)


def test_what_else_is_penalized_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"instance.yaml: penalized: found all; expected displacement or change\.$"):
        refine(tmp_path, None, None, sitk.AffineTransform(3), penalized="all")


def test_a_bent_start_costs_nothing_where_only_its_change_is_penalized(tmp_path):
    """λ pulls the displacement of a network back to its affine part, unless it weighs what is added to it."""
    grid = Grid((20, 22, 18), (2.0, 2.0, 2.5), (0.0, 0.0, 0.0), OBLIQUE)
    bent = np.zeros((*grid.size, 3))
    bent[..., 0] = 2 * np.sin(np.arange(grid.size[1]) / 3)[None, :, None]
    start = displacement.as_transform(geometry.to_image(bent, grid))
    flat = blobs(grid) * 0
    level = {"spacing_mm": 2, "grid_mm": 8, "iterations": 40, "step_mm": 0.2}
    runs = {
        each: refine(tmp_path, flat, flat, start, weight=1.0, penalized=each, levels=[level] * 2)
        for each in ("displacement", "change")
    }
    found, how = runs["change"]
    np.testing.assert_allclose(found, bent, atol=1e-3)
    assert how["levels"][1]["penalty"] == pytest.approx([0, 0], abs=1e-6)
    found, how = runs["displacement"]
    assert np.abs(found).mean() < 0.7 * np.abs(bent).mean() and how["levels"][0]["penalty"][0] > 1e-3


def test_the_change_is_counted_from_the_start_and_not_from_the_last_level(tmp_path):
    grid = Grid((24, 22, 20), (2.0, 2.0, 2.5), (0.0, 0.0, 0.0), OBLIQUE)
    start = geometry.affine(np.eye(3), [0.3, 0.0, 0.0])
    level = {"spacing_mm": 2, "grid_mm": 8, "iterations": 20, "step_mm": 0.3}
    _, how = refine(
        tmp_path, blobs(grid), blobs(grid, (1.5, 1.0, 0.5)), start, weight=1e-9, penalized="change", levels=[level] * 2
    )
    first, second = how["levels"]
    assert first["penalty"][0] == 0
    assert second["penalty"][0] == pytest.approx(first["penalty"][1], rel=0.2) and second["penalty"][0] > 1e-4


def test_the_penalty_is_the_mean_square_of_the_derivatives(tmp_path):
    """u_x = 2 sin(y/9 mm): by voxels, three components and three axes, the mean of (2/9 cos)² is shared by nine."""
    grid = Grid((12, 120, 12), (2.0, 1.5, 3.0), (0.0, 0.0, 0.0))
    bent = np.zeros((*grid.size, 3))
    y_mm = 1.5 * np.arange(120)
    bent[..., 0] = 2 * np.sin(y_mm / 9)[None, :, None]
    start = displacement.as_transform(geometry.to_image(bent, grid))
    level = {"spacing_mm": 0.1, "grid_mm": 8, "iterations": 1, "step_mm": 1e-9}
    _, how = refine(tmp_path, blobs(grid), blobs(grid), start, levels=[level])
    matrix, _ = instance.affine_part(grid.points_mm(), bent)
    slope = 2 / 9 * np.cos((y_mm[1:] + y_mm[:-1]) / 18) - matrix[1, 0]
    assert how["levels"][0]["penalty"][0] == pytest.approx((slope**2).mean() / 9, rel=0.01)


def test_the_folding_penalty_counts_what_is_measured_and_takes_it_away(tmp_path):
    """Two images of nothing alike, without λ, tear the field; on a grid of its own axes, spacings and zooming start."""
    grid = Grid((16, 18, 12), (2.0, 1.5, 2.5), (0.0, 0.0, 400.0), OBLIQUE)
    rng = np.random.default_rng(2)
    fixed, moving = (geometry.to_image(rng.random(grid.size, dtype=np.float32), grid) for _ in range(2))
    start = geometry.affine(np.diag([1.1, 0.9, 1.2]), [-20.0, 2.0, -80.0])
    folded = []
    level = {"spacing_mm": 0.1, "grid_mm": 4, "iterations": 40, "step_mm": 1.0}
    for weight in (1e-9, 100):
        found, how = refine(tmp_path, fixed, moving, start, weight=0, folding_weight=weight, levels=[level])
        folded.append(displacement.non_diffeomorphic_volume(geometry.to_image(found, grid)).mean())
        before_last_step = how["levels"][0]["folding"][1]
        assert before_last_step == pytest.approx(folded[-1], rel=0.2, abs=1e-5)
    assert folded[0] > 0.01 and folded[1] < 0.02 * folded[0]


def test_in_2d_each_slice_is_for_itself_and_stays_in_its_plane(tmp_path):
    grid = Grid((24, 22, 5), (2.0, 2.0, 6.0), (0.0, 0.0, 0.0), OBLIQUE)
    fixed, moving = blobs(grid), blobs(grid, shift_mm=(1.5, 1.0, 0.0))
    found, _ = refine(tmp_path, fixed, moving, dimensions=2)
    normal = grid.axes[:, 2]
    np.testing.assert_allclose(found @ normal, 0, atol=1e-6)
    changed = geometry.to_array(moving)
    changed[..., 4] = changed[::-1, ..., 4]
    other, _ = refine(tmp_path, fixed, geometry.to_image(changed, grid), dimensions=2)
    np.testing.assert_allclose(found[..., :3, :], other[..., :3, :], atol=1e-5)
    assert np.abs(found - other)[..., 4, :].max() > 0.1
    inside = geometry.to_array(fixed) > 0.5
    assert np.abs(found[inside] - [1.5, 1.0, 0]).mean() < 0.5
