"""Masks that elastix alone would lose: thin, small, askew; and those that no tool can use."""

from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk
from test_elastix import AFFINE, FIXED, MOVING_IMAGE, TRUTH, image_on
from test_tools import ELASTIX, OBLIQUE, START, pair_on, spots

from cohortmorph import UserError
from cohortmorph.registration import elastix, elastix_mask
from cohortmorph.registration.problem import Problem, Run
from cohortmorph.spatial import geometry
from cohortmorph.spatial.geometry import Grid

pytestmark = pytest.mark.filterwarnings("ignore:builtin type .* has no __module__:DeprecationWarning")

SIZE = (44, 42, 40)
GRID = Grid(SIZE, (1.0, 1.0, 1.0), (-22.0, -21.0, -20.0))
THREE = ELASTIX.replace("(NumberOfResolutions 1)", "(NumberOfResolutions 3)")
SETTINGS = {"NumberOfResolutions": ["3"], "NumberOfSpatialSamples": ["1500"], "ImageSampler": ["RandomCoordinate"]}


def slab(thickness, first=10):
    inside = np.zeros(SIZE, np.uint8)
    inside[2:42, 2:40, first : first + thickness] = 1
    return inside


def told(inside, grid=GRID, **settings):
    return elastix_mask.settings_for(geometry.to_image(inside, grid), SETTINGS | settings)


def register(fixed, moving, mask, folder, text=THREE, start=START):
    (folder / "parameters.txt").write_text(text)
    problem = Problem(fixed, moving, mask, start)
    problem.check()
    return elastix.register(problem, [folder / "parameters.txt"], Run(3, 1, folder))


# ---- what elastix is told


def test_a_mask_that_does_no_harm_changes_nothing():
    assert told(slab(36, 2)) == {}
    assert told(np.ones(SIZE, np.uint8)) == {}


@pytest.mark.parametrize(("resolutions", "lost", "left"), [(3, 10, 11), (4, 18, 19)])
def test_the_erosion_is_elastix_s_own(resolutions, lost, left, tmp_path, monkeypatch):
    """What is said to be lost is lost to elastix, and what is said to be left is not."""
    factors = [2 ** (resolutions - 1)] * 3
    assert not elastix_mask.eroded(slab(lost) != 0, factors).any()
    assert elastix_mask.eroded(slab(left) != 0, factors).any()
    monkeypatch.setattr(elastix, "settings_for", lambda mask, settings: {})
    image = geometry.to_image(spots(GRID.points_mm()).astype(np.float32), GRID)
    text = ELASTIX.replace("(NumberOfResolutions 1)", f"(NumberOfResolutions {resolutions})")
    text = text.replace("(MaximumNumberOfIterations 100)", "(MaximumNumberOfIterations 2)")
    with pytest.raises(UserError, match="No valid voxels"):
        register(image, image, geometry.to_image(slab(lost), GRID), tmp_path, text, sitk.AffineTransform(3))
    register(image, image, geometry.to_image(slab(left), GRID), tmp_path, text, sitk.AffineTransform(3))


def test_a_mask_is_eroded_on_every_grid_by_what_the_file_says():
    thin = slab(8)
    assert told(thin)["ErodeFixedMask"] == "false"
    # Fewer voxels would be left than samples are drawn: 30 x 28 of the one slice in the middle.
    assert told(slab(11))["ErodeFixedMask"] == "false"
    assert "ErodeFixedMask" not in told(slab(11), NumberOfSpatialSamples=["800"])
    assert "ErodeFixedMask" not in told(thin, ErodeMask=["false"])
    assert "ErodeFixedMask" not in told(thin, ErodeFixedMask=["false"], ErodeMask=["true"])
    assert told(slab(6), ErodeMask=["false", "true"])["ErodeFixedMask"] == "false"
    # Slices are not halved.
    schedule = ["4", "4", "1", "2", "2", "1", "1", "1", "1"]
    assert "ErodeFixedMask" not in told(slab(7), ImagePyramidSchedule=schedule, NumberOfSpatialSamples=["1000"])


def test_samples_of_a_mask_that_fills_little_of_its_box_are_its_voxels():
    slice_ = slab(1)
    assert "ImageSampler" not in told(slice_)
    assert told(slice_, Grid(SIZE, GRID.spacing_mm, GRID.origin_mm, OBLIQUE))["ImageSampler"] == "RandomSparseMask"
    assert "ImageSampler" not in told(slab(30, 5), Grid(SIZE, GRID.spacing_mm, GRID.origin_mm, OBLIQUE))


# ---- what elastix makes of them


def in_middle(size, **spans):
    inside = np.zeros(size, np.uint8)
    inside[tuple(spans.get(axis, slice(3, -3)) for axis in "xyz")] = 1
    return inside


MASKS = {
    "eight slices": lambda size: in_middle(size, z=slice(size[2] // 2 - 4, size[2] // 2 + 4)),
    "two slices": lambda size: in_middle(size, z=slice(size[2] // 2, size[2] // 2 + 2)),
    "a rod": lambda size: in_middle(size, x=slice(14, 18), y=slice(14, 18), z=slice(None)),
    "a slanting plate": lambda size: (np.abs(np.indices(size).sum(axis=0) - sum(size) // 2) < 3).astype(np.uint8),
}
SLANTING = Grid(FIXED.size, FIXED.spacing_mm, (0.0, 0.0, 0.0), OBLIQUE)
SLANTING = Grid(FIXED.size, FIXED.spacing_mm, tuple(-SLANTING.centre_mm), OBLIQUE)


@pytest.mark.parametrize("grid", [FIXED, SLANTING], ids=["straight", "oblique"])
@pytest.mark.parametrize("name", MASKS)
def test_a_thin_mask_is_used(name, grid, tmp_path):
    """The affine is found within a voxel where the mask is."""
    inside = MASKS[name](grid.size)
    text = AFFINE.replace("(NumberOfResolutions 2)", "(NumberOfResolutions 3)")
    mask = geometry.to_image(inside, grid)
    transform, _, how = register(image_on(grid), MOVING_IMAGE, mask, tmp_path, text, None)
    assert how["set_for_mask"][0]["ErodeFixedMask"] == "false"
    points_mm = grid.to_world(np.argwhere(inside)[:: max(1, int(inside.sum()) // 60)])
    moved_mm, truth_mm = (np.array([of.TransformPoint(tuple(x)) for x in points_mm]) for of in (transform, TRUTH))
    error_mm = np.linalg.norm(moved_mm - truth_mm, axis=1).mean()
    print(f"{name}: {error_mm:.2f} mm, {how['set_for_mask']}")
    assert error_mm < 2


# ---- what no tool can use


def test_a_mask_of_too_few_voxels_or_elsewhere_is_refused_in_words():
    fixed, moving = pair_on("LPS", "RAS")
    inside = np.zeros(fixed.GetSize(), np.uint8)
    inside[:4, :5, :5] = 1
    problem = Problem(fixed, moving, geometry.to_image(inside, Grid.of(fixed)), START)
    problem.check()
    inside[0, 0, 0] = 0
    with pytest.raises(UserError, match="mask has 99 voxels; at least 100 are needed"):
        replace(problem, mask=geometry.to_image(inside, Grid.of(fixed))).check()
    with pytest.raises(UserError, match="mask is nowhere two voxels thick along every axis"):
        replace(problem, mask=geometry.to_image(in_middle(fixed.GetSize(), y=slice(-1, None)), Grid.of(fixed))).check()
    replace(problem, mask=geometry.to_image(in_middle(fixed.GetSize(), y=slice(-2, None)), Grid.of(fixed))).check()
    far = geometry.affine(np.eye(3), [-30.0, 0.0, 0.0])
    inside[:, :, :] = 0
    inside[:5, :, :] = 1
    elsewhere = replace(problem, mask=geometry.to_image(inside, Grid.of(fixed)), initial=far)
    assert elsewhere.overlap(far) > 0.3
    with pytest.raises(UserError, match="only 0% of the fixed image's mask lies inside the moving image"):
        elsewhere.check()


def test_a_parameter_file_that_elastix_cannot_read_is_told(tmp_path):
    fixed, moving = pair_on("LPS", "RAS")
    path = tmp_path / "parameters.par"
    path.write_text(ELASTIX)
    with pytest.raises(UserError, match=r"parameters.par: elastix cannot read .*should be a text file"):
        elastix.register(Problem(fixed, moving), [path], Run(1, 1, tmp_path))
