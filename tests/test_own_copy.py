"""Every classical tool's self-test: an image registered to its own copy stays where it is, on awkward grids too."""

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from register_pair import tool_of
from scipy.spatial.transform import Rotation
from test_tools import TOOLS, spots

from cohortmorph.registration.niftyreg import off_the_table
from cohortmorph.registration.problem import Problem, Run
from cohortmorph.spatial import displacement, geometry
from cohortmorph.spatial.geometry import Grid

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
# The tests' own settings, which are quick, and all that is shipped for NiftyReg: its faults are those of settings.
SETTINGS = {name: (module, text) for name, (module, text) in TOOLS.items() if not name.startswith("niftyreg")}
SETTINGS |= {
    f"niftyreg {path.stem}": (tool_of("niftyreg"), path.read_text()) for path in sorted(CONFIG.glob("niftyreg/*.txt"))
}
SETTINGS["niftyreg without -sx"] = (tool_of("niftyreg"), "reg_f3d -ln 3")


def image_on(number):
    """An image of spots on a grid turned to all sides, every other one mirrored as RAS is."""
    size, spacing_mm = SHAPES[number]
    axes = Rotation.from_euler("xyz", ANGLES[number], degrees=True).as_matrix()
    axes = axes @ np.diag([-1, -1, 1]) if number % 2 else axes
    grid = Grid(size, spacing_mm, (0.0, 0.0, 0.0), tuple(axes.ravel()))
    grid = Grid(size, spacing_mm, tuple(-grid.centre_mm), grid.direction)
    return geometry.to_image(spots(grid.points_mm()).astype(np.float32), grid)


@pytest.mark.parametrize("name", SETTINGS)
def test_nothing_moves_on_its_own_copy(name, tmp_path):
    module, text = SETTINGS[name]
    (tmp_path / "parameters.txt").write_text(text)
    moved_mm = {}
    for number, shape in enumerate(SHAPES):
        image = image_on(number)
        problem = Problem(image, sitk.Image(image), None, sitk.AffineTransform(3))
        transform, *_ = module.register(problem, [tmp_path / "parameters.txt"], Run(1, 1, tmp_path))
        field = geometry.to_array(displacement.sample(transform, Grid.of(image)))
        moved_mm[shape] = float(np.linalg.norm(field, axis=-1).max())
    print(name, {shape: round(mm, 3) for shape, mm in moved_mm.items()})
    assert all(mm < 0.1 for mm in moved_mm.values()), moved_mm


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
    ],
)
def test_control_points_are_never_five_voxels_apart(words, spacing_mm, expected):
    assert off_the_table(["reg_f3d", *words.split()], spacing_mm) == ["reg_f3d", *expected.split()]
    assert off_the_table(["reg_aladin", "-ln", "3"], 2.0) == ["reg_aladin", "-ln", "3"]
