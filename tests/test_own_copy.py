"""Every classical tool's self-test: an image registered to its own copy stays where it is, on awkward grids too.

With the parameter files that are shipped; of those that take long fewer iterations, which change nothing for a tool
that is right: the start is the answer.
"""

import re
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from register_pair import tool_of
from scipy.spatial.transform import Rotation

from cohortmorph.registration import fiducials
from cohortmorph.registration.niftyreg import off_the_table
from cohortmorph.registration.problem import Problem, Run
from cohortmorph.spatial import displacement, geometry
from cohortmorph.spatial.geometry import Grid

pytestmark = pytest.mark.filterwarnings("ignore:builtin type .* has no __module__:DeprecationWarning")

CONFIG = Path(__file__).parents[1] / "config"
# (voxels, spacing in mm): anisotropic and of odd sizes; control points 10 and 5 mm apart are 5 voxels along x in most.
SHAPES = [
    ((33, 35, 27), (2, 2, 3)),
    ((33, 31, 51), (2, 2, 1)),
    ((41, 37, 19), (2, 2, 4)),
    ((37, 39, 25), (2, 2, 2.5)),
    ((67, 69, 21), (2, 2, 2)),  # levels of a pyramid halve two axes of three
    ((45, 43, 29), (1, 1, 1.5)),
    ((35, 27, 25), (2, 3, 3)),
    ((33, 31, 37), (2.5, 2.5, 1.9)),
    ((21, 35, 33), (4, 2, 2)),
    ((31, 29, 17), (1.3, 1.7, 4.1)),
]
ANGLES = np.random.default_rng(5).uniform(-40, 40, (len(SHAPES), 3))
WAVES = np.random.default_rng(12)
DIRECTIONS = WAVES.normal(size=(60, 3))
LENGTHS_MM = WAVES.uniform(12, 40, 60)
PHASES = WAVES.uniform(0, 2 * np.pi, 60)

ITERATIONS = 100  # of each resolution of elastix
SETTINGS = {
    f"{tool} {path.stem}": (tool, path.read_text())
    for tool in ("niftyreg", "elastix", "ants", "demons", "instance")
    for path in sorted(CONFIG.glob(f"{tool}/*.*"))
    if path.stem != "small-volumes"  # as ncc.yaml, at 1 mm: half a minute a grid
}
SETTINGS["niftyreg without -sx"] = ("niftyreg", "reg_f3d -ln 3")
# Tools whose faults are not those of settings, and that take long: each grid with one of their files.
IN_TURN = {
    "elastix": [name for name in SETTINGS if name.startswith("elastix b")],
    "ants": [name for name in SETTINGS if name.startswith("ants")],
    "instance": [name for name in SETTINGS if name.startswith("instance")],
}
# reg_aladin takes seconds a grid, and f3d alone is tried on all: every third grid.
EVERY = {"niftyreg aladin-f3d": 3}
# How far anything may move, and all of it on average, in mm.
LIMITS_MM = (0.1, 0.1)
# What moves farther, as was seen, and why. Free control points follow the noise of drawn samples (whole files: .2 mm
# at most); with mutual information they do so with any number of iterations: its maximum over free deformations is not
# where nothing moves. ANTs' own affine begins on four voxels a side, and SyN does not mend that at the border.
LOOSE_MM = {
    "elastix bspline-1r": (1.0, 0.2),
    "elastix bspline-3r": (1.0, 0.2),
    "elastix bspline-1r-mutual-information": (2.0, 0.4),
    "elastix bspline-3r-mutual-information": (2.0, 0.4),
    "ants affine-syn": (4.0, 0.2),
    # Adam's first steps are as long for the rounding of a gradient as for any (the whole file: .02 mm).
    "instance ncc": (0.4, 0.1),
    "instance slices": (0.4, 0.1),
    "instance mind": (0.4, 0.1),
    # As with elastix: a free field sharpens the joint histogram of an image and its copy a little.
    "instance nmi": (1.5, 0.3),
}


def image_on(number):
    """An image of waves, with something to see everywhere, on a grid turned to all sides, every other one mirrored."""
    size, spacing_mm = SHAPES[number]
    axes = Rotation.from_euler("xyz", ANGLES[number], degrees=True).as_matrix()
    axes = axes @ np.diag([-1, -1, 1]) if number % 2 else axes
    grid = Grid(size, spacing_mm, (0.0, 0.0, 0.0), tuple(axes.ravel()))
    grid = Grid(size, spacing_mm, tuple(-grid.centre_mm), grid.direction)
    waves = DIRECTIONS / np.linalg.norm(DIRECTIONS, axis=1, keepdims=True) * (2 * np.pi / LENGTHS_MM[:, None])
    values = sum(np.cos(grid.points_mm() @ wave + phase) for wave, phase in zip(waves, PHASES, strict=True))
    return geometry.to_image(values.astype(np.float32), grid)


def shortened(tool, text):
    """The parameter file with fewer iterations, and nothing else changed."""
    if tool == "elastix":
        return re.sub(r"(MaximumNumberOfIterations) \d+", rf"\1 {ITERATIONS}", text)
    if tool == "ants":
        return re.sub(r"\[[\dx]+,1e-6,10\]", lambda found: re.sub(r"\d+(?=x|,1e)", "12", found[0]), text)
    if tool == "instance":
        return re.sub(r"iterations: \d+", "iterations: 5", text)
    return text


@pytest.mark.parametrize("name", SETTINGS)
def test_nothing_moves_on_its_own_copy(name, tmp_path):
    tool, text = SETTINGS[name]
    (tmp_path / "parameters.txt").write_text(shortened(tool, text))
    turn = IN_TURN.get(tool, [])
    numbers = (
        range(turn.index(name), len(SHAPES), len(turn)) if name in turn else range(0, len(SHAPES), EVERY.get(name, 1))
    )
    moved_mm = {}
    for number in numbers:
        image = image_on(number)
        # elastix's affine begins with the images' middles, as in the workflow.
        start = None if name.startswith("elastix affine") else sitk.AffineTransform(3)
        problem = Problem(image, sitk.Image(image), None, start)
        transform, *_ = tool_of(tool).register(problem, [tmp_path / "parameters.txt"], Run(1, 1, tmp_path))
        field = geometry.to_array(displacement.sample(transform, Grid.of(image)))
        lengths_mm = np.linalg.norm(field, axis=-1)
        moved_mm[SHAPES[number]] = (float(lengths_mm.max()), float(lengths_mm.mean()))
    print(name, {shape: [round(mm, 3) for mm in both] for shape, both in moved_mm.items()})
    limits = LOOSE_MM.get(name, LIMITS_MM)
    assert all(mm < limit for both in moved_mm.values() for mm, limit in zip(both, limits, strict=True)), moved_mm


@pytest.mark.parametrize("model", ["rigid", "affine"])
def test_fiducials_stay_on_their_own_copy(model):
    for number in range(len(SHAPES)):
        grid = Grid.of(image_on(number))
        points_mm = grid.to_world(np.random.default_rng(number).uniform(0, 1, (6, 3)) * (np.array(grid.size) - 1))
        matrix, offset_mm = geometry.matrix_and_offset(fiducials.fit(model, points_mm, points_mm.copy()))
        np.testing.assert_allclose(matrix, np.eye(3), atol=1e-9)
        np.testing.assert_allclose(offset_mm, 0, atol=1e-6)


@pytest.mark.parametrize(
    ("words", "spacing_mm", "expected"),
    [
        ("-sx 10 -ln 3", 2.0, "-sx 10.01 -ln 3"),
        ("-ln 3 -sx 5", 2.0, "-ln 3 -sx 5.005"),  # 5 voxels at a coarser level that halves y or z only
        ("-sx 5 -ln 1", 2.0, "-sx 5 -ln 1"),
        ("-sx 2.5", 1.0, "-sx 2.5025"),  # three levels without -ln
        ("-sx -5 -ln 1", 1.3, "-sx -5.005 -ln 1"),
        ("-ln 2", 0.7, "-ln 2 -sx -5.005"),  # 5 voxels without -sx
        ("-sx 12 -ln 3", 2.0, "-sx 12 -ln 3"),
        ("-sx 10 -ln 3", 2.0000001, "-sx 10.01 -ln 3"),
        ("-sx 10 -ln 3", 1.9999999, "-sx 10.01 -ln 3"),  # as a header holds it
        ("-sx 20 -ln 3 -lp 2", 2.0, "-sx 20.02 -ln 3 -lp 2"),  # the finest level left out: voxels twice as wide
        ("-sx 10 -ln 3 -lp 1", 4.0, "-sx 10 -ln 3 -lp 1"),
        ("-sx 10 -sx 12 -ln 1", 2.4, "-sx 10 -sx 12.012 -ln 1"),  # the last counts
        ("-sy 10 -sz 10 -ln 1", 2.0, "-sy 10 -sz 10 -ln 1 -sx -5.005"),
    ],
)
def test_control_points_are_never_five_voxels_apart(words, spacing_mm, expected):
    assert off_the_table(["reg_f3d", *words.split()], spacing_mm, spacing_mm) == ["reg_f3d", *expected.split()]
    assert off_the_table(["reg_aladin", "-ln", "3"], 2.0, 2.0) == ["reg_aladin", "-ln", "3"]


def test_control_points_are_not_five_voxels_of_the_moving_image_apart_either():
    assert off_the_table(["reg_f3d", "-vel", "-sx", "10"], 1.7, 2.0) == ["reg_f3d", "-vel", "-sx", "10.01"]
    assert off_the_table(["reg_f3d", "-sx", "-5", "-ln", "1"], 1.0, 1.001)[2] == "-5.010005"  # neither image's
