"""Every classical tool's adapter: the geometry of its result, its bits, and bad input, the same for all.

Each result is compared with what the tool itself makes of its transform: the moved image and moved points.
"""

import os
import subprocess
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import SimpleITK as sitk
from register_pair import tool_of
from scipy.spatial.transform import Rotation

from cohortmorph import UserError
from cohortmorph.learning import instance
from cohortmorph.registration import demons, elastix, niftyreg
from cohortmorph.registration.pairwise import Attempt, PairFiles, register_pair
from cohortmorph.registration.problem import Problem, Registered, Run
from cohortmorph.registration.process import Cost
from cohortmorph.run import tools
from cohortmorph.run.files import read_json
from cohortmorph.spatial import displacement, geometry
from cohortmorph.spatial.geometry import Grid

pytestmark = pytest.mark.filterwarnings("ignore:builtin type .* has no __module__:DeprecationWarning")

ELASTIX = """
(FixedInternalImagePixelType "float")
(MovingInternalImagePixelType "float")
(UseDirectionCosines "true")
(Registration "MultiResolutionRegistration")
(FixedImagePyramid "FixedSmoothingImagePyramid")
(MovingImagePyramid "MovingSmoothingImagePyramid")
(Interpolator "LinearInterpolator")
(ResampleInterpolator "FinalLinearInterpolator")
(Resampler "DefaultResampler")
(Optimizer "AdaptiveStochasticGradientDescent")
(Transform "BSplineTransform")
(Metric "AdvancedNormalizedCorrelation")
(FinalGridSpacingInPhysicalUnits 16)
(NumberOfResolutions 1)
(MaximumNumberOfIterations 100)
(ImageSampler "RandomCoordinate")
(NumberOfSpatialSamples 1500)
(NewSamplesEveryIteration "true")
"""
ANTS = """
--transform SyN[0.2,3,0]
--metric CC[FIXED,MOVING,1,2]
--convergence [20x10,1e-6,10]
--shrink-factors 2x1
--smoothing-sigmas 1x0vox
"""
DEMONS = """
variant: symmetric
iterations: [20, 20]
shrink_factors: [2, 1]
smoothing_mm: 3.0
match: false
"""
INSTANCE = """
dimensions: 3
similarity: {name: ncc-squared, window: 5}
weight: 0.1
levels:
  - {spacing_mm: 4, grid_mm: 20, iterations: 30, step_mm: 0.5}
  - {spacing_mm: 2, grid_mm: 12, iterations: 20, step_mm: 0.2}
"""
TOOLS = {
    "elastix": (elastix, ELASTIX),
    "niftyreg": (niftyreg, "reg_f3d -sx 16 -ln 2 -maxit 40"),
    "niftyreg-velocity": (niftyreg, "reg_f3d -vel -sx 16 -ln 1 -maxit 20"),
    "ants": (tool_of("ants"), ANTS),
    "demons": (demons, DEMONS),
    "instance": (instance, INSTANCE),
}
# What has no program of its own that says where points go.
ALONE = ["demons", "instance"]
OBLIQUE = tuple(Rotation.from_euler("xyz", [12, -20, 33], degrees=True).as_matrix().ravel())
GRIDS = {
    "LPS": ((34, 32, 30), (2.0, 2.0, 2.0), (1, 0, 0, 0, 1, 0, 0, 0, 1)),
    "RAS": ((34, 32, 30), (2.0, 2.0, 2.0), (-1, 0, 0, 0, -1, 0, 0, 0, 1)),
    "oblique": ((34, 32, 30), (2.0, 2.0, 2.0), OBLIQUE),
    "permuted": ((30, 34, 32), (2.0, 2.0, 2.0), (0, 1, 0, 0, 0, 1, 1, 0, 0)),
    "anisotropic": ((44, 40, 18), (1.5, 1.6, 3.6), OBLIQUE),
}
CENTRES_MM = np.random.default_rng(8).uniform(-22, 22, (14, 3))
WIDTHS_MM = np.random.default_rng(9).uniform(6, 10, 14)
START = geometry.affine(Rotation.from_euler("z", 4, degrees=True).as_matrix(), [3.0, -2.0, 1.0])


def grid_around(name, middle_mm=(0.0, 0.0, 0.0)):
    """A grid whose middle lies at this point."""
    size, spacing_mm, direction = GRIDS[name]
    grid = Grid(size, spacing_mm, (0.0, 0.0, 0.0), direction)
    return Grid(size, spacing_mm, tuple(np.array(middle_mm) - grid.centre_mm), direction)


def bulge(points_mm):
    """A displacement of up to 3 mm."""
    distance2 = (points_mm**2).sum(axis=-1, keepdims=True)
    return np.exp(-distance2 / (2 * 12.0**2)) * np.array([3.0, -2.0, 1.5])


def spots(points_mm):
    distance2 = ((points_mm[..., None, :] - CENTRES_MM) ** 2).sum(axis=-1)
    return np.exp(-distance2 / (2 * WIDTHS_MM**2)).sum(axis=-1)


def pair_on(fixed_name, moving_name):
    """Spots, and spots displaced by the bulge and carried away by START."""
    fixed_grid, moving_grid = grid_around(fixed_name), grid_around(moving_name, (3.0, -2.0, 1.0))
    matrix, offset_mm = geometry.matrix_and_offset(START.GetInverse())
    back = moving_grid.points_mm() @ matrix.T + offset_mm
    return (
        geometry.to_image(spots(fixed_grid.points_mm()).astype(np.float32), fixed_grid),
        geometry.to_image(spots(back - bulge(back)).astype(np.float32), moving_grid),
    )


def files_in(folder, **more):
    """The pair of the images in a folder, and its affine transform."""
    images = {role: str(folder / f"{role}.nii.gz") for role in ("fixed", "moving")}
    intensities = {f"{role}_intensity": {"percentiles": [0, 100]} for role in images}
    return PairFiles("P01-T1_to_P01-CT", **images, **intensities, affine=str(folder / "affine.tfm"), **more)


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Register with a tool; its own files stay in tmp_path / "scratch"."""

    @contextmanager
    def kept():
        (tmp_path / "scratch").mkdir(exist_ok=True)
        yield str(tmp_path / "scratch")

    for module in map(tool_of, ("elastix", "niftyreg", "ants")):
        monkeypatch.setattr(module, "scratch", kept)

    def register(name, fixed, moving, initial=START, mask=None, text=None, seed=3):
        module, parameters = TOOLS[name]
        (tmp_path / "parameters.txt").write_text(text or parameters)
        problem = Problem(fixed, moving, mask, initial)
        problem.check()
        return module.register(problem, [tmp_path / "parameters.txt"], Run(seed, 1, tmp_path))

    return register


def own_results(name, folder, fixed, moving, points_mm):
    """What the tool's own programs make of its transform: (moved image, moved points), or None for what they cannot."""
    scratch = folder / "scratch"
    if name.startswith("niftyreg"):
        resample = tools.niftyreg_program("reg_resample")
        images = ["-ref", "fixed.nii", "-flo", "moving.nii", "-trans", "grid.nii", "-inter", "1", "-pad", "0"]
        own = {
            "cwd": scratch,
            "env": os.environ | tools.openmp_for_niftyreg(scratch),
            "check": True,
            "capture_output": True,
        }
        subprocess.run([resample, *images, "-res", "own.nii"], **own)
        np.savetxt(scratch / "points.txt", points_mm * niftyreg.RAS, fmt="%.9f")
        transform = [tools.niftyreg_program("reg_transform"), "-ref", "fixed.nii"]
        subprocess.run([*transform, "-land", "grid.nii", "points.txt", "moved.txt"], **own)
        return sitk.ReadImage(str(scratch / "own.nii")), np.loadtxt(scratch / "moved.txt") * niftyreg.RAS
    if name == "ants":
        import ants
        import pandas as pd

        images = [ants.image_read(str(scratch / f"{role}.nii")) for role in ("fixed", "moving")]
        transform = [str(scratch / "Composite.h5")]
        moved = ants.apply_transforms(*images, transform, interpolator="linear").numpy()
        table = pd.DataFrame(points_mm, columns=["x", "y", "z"])
        points = ants.apply_transforms_to_points(3, table, transform)[["x", "y", "z"]].to_numpy()
        return geometry.to_image(moved, Grid.of(fixed)), points
    if name == "elastix":
        import itk

        # transformix reads what elastix has written down, the start included, by names from the folder it works in.
        parameters = itk.ParameterObject.New()
        parameters.ReadParameterFile(str(folder / "TransformParameters.0.txt"))
        np.savetxt(folder / "points.txt", points_mm, fmt="%.9f", header=f"point\n{len(points_mm)}", comments="")
        filter_ = itk.TransformixFilter[itk.Image[itk.F, 3]].New()
        filter_.SetMovingImage(elastix._to_itk(itk, moving, np.float32))
        filter_.SetTransformParameterObject(parameters)
        filter_.SetFixedPointSetFileName(str(folder / "points.txt"))
        filter_.SetOutputDirectory(str(folder))
        filter_.UpdateLargestPossibleRegion()
        lines = (folder / "outputpoints.txt").read_text().splitlines()
        points = [line.split("OutputPoint = [")[1].split("]")[0].split() for line in lines]
        return geometry.to_image(_from_itk(filter_.GetOutput()), Grid.of(fixed)), np.array(points, dtype=float)
    # SimpleITK's demons on the images as they are, direction cosines and all.
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    return None


def _from_itk(image):
    import itk

    return np.moveaxis(itk.array_from_image(image), [0, 1, 2], [2, 1, 0])


def inner(field, moving, margin=2):
    """The voxels that come to lie inside the moving image, away from its border: there the tools differ."""
    indices = Grid.of(moving).to_indices(Grid.of(field).points_mm() + geometry.to_array(field))
    return ((indices > margin) & (indices < np.array(moving.GetSize()) - 1 - margin)).all(axis=-1)


@pytest.mark.parametrize("grid_name", GRIDS)
@pytest.mark.parametrize("name", [name for name in TOOLS if name not in ALONE])
def test_our_warp_and_points_are_the_tool_s_own(name, grid_name, run, tmp_path, monkeypatch):
    """Inside the image, to 1e-5 of the range and 1e-3 mm, on every kind of grid; and it registers."""
    fixed, moving = pair_on(grid_name, "RAS" if grid_name == "LPS" else "LPS")
    monkeypatch.chdir(tmp_path)
    transform, cost, _ = run(name, fixed, moving)
    grid = Grid.of(fixed)
    field = displacement.sample(transform, grid)
    points_mm = np.random.default_rng(2).uniform(-14, 14, (60, 3))
    # Of a transform that is finer than the grid, between the voxels the field is an interpolation: points on voxels.
    points_mm = grid.to_world(np.round(grid.to_indices(points_mm)))
    own_image, own_points_mm = own_results(name, tmp_path, fixed, moving, points_mm)
    error_mm = np.linalg.norm(displacement.move_points(points_mm, field) - own_points_mm, axis=1)
    ours, own = geometry.to_array(displacement.warp(moving, field)), geometry.to_array(own_image)
    difference = np.abs(ours - own)[inner(field, moving)].max() / np.ptp(geometry.to_array(moving))
    truth_mm = np.array([START.TransformPoint(tuple(x)) for x in points_mm + bulge(points_mm)])
    left_mm = np.linalg.norm(displacement.move_points(points_mm, field) - truth_mm, axis=1).mean()
    print(f"{name} {grid_name}: {error_mm.max():.1e} mm, {difference:.1e} of the range; TRE {left_mm:.2f} mm, {cost}")
    assert error_mm.max() < 1e-3
    assert difference < 1e-5
    assert left_mm < 1.0


@pytest.mark.parametrize("grid_name", GRIDS)
@pytest.mark.parametrize("name", ALONE)
def test_methods_of_our_own_do_not_depend_on_the_frame(name, grid_name, run):
    """The same anatomy on another grid: the same displacement in mm, LPS, up to interpolation; and it registers."""
    fixed, moving = pair_on(grid_name, grid_name if name == "demons" else "LPS")
    transform, *_ = run(name, fixed, moving)
    points_mm = np.random.default_rng(2).uniform(-14, 14, (60, 3))
    moved_mm = np.array([transform.TransformPoint(tuple(x)) for x in points_mm])
    truth_mm = np.array([START.TransformPoint(tuple(x)) for x in points_mm + bulge(points_mm)])
    affine_mm = np.array([START.TransformPoint(tuple(x)) for x in points_mm])
    before_mm = np.linalg.norm(affine_mm - truth_mm, axis=1).mean()
    left_mm = np.linalg.norm(moved_mm - truth_mm, axis=1).mean()
    print(f"{name} {grid_name}: {before_mm:.2f} mm before, {left_mm:.2f} mm after")
    assert left_mm < 0.6 * before_mm


@pytest.mark.parametrize("name", TOOLS)
def test_the_same_bits_twice(name, run):
    fixed, moving = pair_on("LPS", "RAS")
    fields = [geometry.to_array(displacement.sample(run(name, fixed, moving)[0], Grid.of(fixed))) for _ in range(2)]
    np.testing.assert_array_equal(*fields)


@pytest.mark.parametrize("name", ["niftyreg", "ants", "elastix", "instance"])
def test_the_mask_is_used(name, run):
    fixed, moving = pair_on("LPS", "RAS")
    left = np.zeros(fixed.GetSize(), np.uint8)
    left[:17] = 1
    mask = geometry.to_image(left, Grid.of(fixed))
    masked, whole = (
        geometry.to_array(displacement.sample(run(name, fixed, moving, mask=chosen)[0], Grid.of(fixed)))
        for chosen in (mask, None)
    )
    assert np.abs(masked - whole).max() > 0.05


def test_a_start_of_its_own_aligns_first(run):
    """reg_aladin, then reg_f3d, from the scanner's positions."""
    fixed, moving = pair_on("oblique", "LPS")
    transform, *_ = run(
        "niftyreg", fixed, moving, sitk.AffineTransform(3), text="reg_aladin -ln 2\nreg_f3d -sx 16 -ln 2"
    )
    points_mm = np.random.default_rng(2).uniform(-14, 14, (60, 3))
    moved_mm = np.array([transform.TransformPoint(tuple(x)) for x in points_mm])
    truth_mm = np.array([START.TransformPoint(tuple(x)) for x in points_mm + bulge(points_mm)])
    assert np.linalg.norm(moved_mm - truth_mm, axis=1).mean() < 1.0


@pytest.mark.parametrize("harmonized", [True, False])
def test_each_method_starts_where_the_configuration_says(harmonized, tmp_path):
    """From the shared affine, or from where harmonizing (else the scanner) has put the images."""
    of_fixed = geometry.affine(np.eye(3), [1.0, 0, 0])
    of_moving = geometry.affine(np.eye(3), [0, 5.0, 0])
    for name, transform in (("affine", START), ("of_fixed", of_fixed), ("of_moving", of_moving)):
        geometry.write_transform(transform, tmp_path / f"{name}.tfm")
    for role, image in zip(("fixed", "moving"), pair_on("LPS", "RAS"), strict=True):
        geometry.write_image(image, tmp_path / f"{role}.nii.gz")
    started = {}

    def register(problem, parameters, run):
        started[parameters[0]] = np.array(problem.initial.TransformPoint((0.0, 0.0, 0.0)))
        assert run == Run(1, 1, tmp_path / "log" / parameters[0])
        return Registered(problem.initial, Cost(1.0, 1.0, 1.0), {})

    bent = geometry.to_image(np.full((*GRIDS["LPS"][0], 3), [0, 0, 7.0], np.float32), grid_around("LPS"))
    displacement.write(bent, tmp_path / "network" / "displacement.nii.gz")
    files = files_in(
        tmp_path,
        harmonized=[str(tmp_path / f"of_{role}.tfm") for role in ("fixed", "moving")] if harmonized else [],
        displacements={"network": tmp_path / "network" / "displacement.nii.gz"},
    )
    starts = {"shared": "affine", "alone": "own", "refined": "network"}
    attempts = [
        Attempt(method, [method], start, tmp_path / method / "displacement.nii.gz") for method, start in starts.items()
    ]
    register_pair(SimpleNamespace(register=register), files, attempts, Run(1, 1, tmp_path / "log"))
    np.testing.assert_allclose(started["refined"], [0, 0, 7], atol=1e-6)
    np.testing.assert_allclose(started["shared"], START.TransformPoint((0.0, 0.0, 0.0)), atol=1e-9)
    # x in the fixed image lies at x - 1 in the harmonized world, and that at + 5 mm in the moving one.
    np.testing.assert_allclose(started["alone"], [-1, 5, 0] if harmonized else [0, 0, 0], atol=1e-9)
    facts = read_json(tmp_path / "alone" / "registration.json")
    assert (facts["start"], facts["seed"], facts["threads"], facts["parameters"]) == ("own", 1, 1, ["alone"])


# ---- what goes wrong


def noise(size=(16, 16, 16), origin_mm=(0.0, 0.0, 0.0), seed=1):
    grid = Grid(size, (2.0, 2.0, 2.0), origin_mm)
    return geometry.to_image(np.random.default_rng(seed).random(size).astype(np.float32), grid)


CONSTANT = geometry.to_image(np.ones((16, 16, 16), np.float32), Grid.of(noise()))
NO_VALUES = geometry.to_image(np.full((16, 16, 16), np.nan, np.float32), Grid.of(noise()))
BAD = {
    "fixed constant": (CONSTANT, noise(), None, "fixed image: the intensities run from 1 to 1"),
    "moving constant": (noise(), CONSTANT, None, "moving image: the intensities run from 1 to 1"),
    "NaN": (noise(), NO_VALUES, None, "moving image: no voxel has a finite value"),
    "tiny": (noise((4, 4, 4)), noise(), None, "the fixed image has 4 × 4 × 4 voxels; at least 8"),
    "2-D": (noise(), noise((16, 16, 1)), None, "the moving image has 16 × 16 × 1 voxels; at least 8"),
    "mask elsewhere": (
        noise(),
        noise(),
        noise(origin_mm=(0.0, 5.0, 0.0)) > 0,
        "labels do not lie on their image's grid",
    ),
    "mask empty": (noise(), noise(), noise() < 0, "mask is empty"),
    "no overlap": (noise(), noise(origin_mm=(500.0, 0.0, 0.0)), None, "only 0% of the fixed image lies inside"),
    "missing file": (noise(), None, None, "not readable as a file"),
}


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("name", ["elastix", "niftyreg", "ants", "demons", "instance"])
def test_bad_input_is_recorded_as_a_failure_with_pair_and_cause(name, bad, tmp_path, caplog):
    fixed, moving, mask, words = BAD[bad]
    for role, image in (("fixed", fixed), ("moving", moving), ("mask", mask)):
        if image is not None:
            geometry.write_image(image, tmp_path / f"{role}.nii.gz")
    geometry.write_transform(sitk.AffineTransform(3), tmp_path / "affine.tfm")
    module, text = TOOLS[name]
    (tmp_path / "parameters.txt").write_text(text)
    output = tmp_path / "method" / "displacement.nii.gz"
    files = files_in(tmp_path, fixed_mask=str(tmp_path / "mask.nii.gz") if mask is not None else "")
    attempt = Attempt("method", [str(tmp_path / "parameters.txt")], "affine", str(output))
    register_pair(module, files, [attempt], Run(1, 1, str(tmp_path / "log")))
    facts = read_json(output.parent / "registration.json")
    assert set(facts) == {"failed"} and words in facts["failed"], facts
    said = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert len(said) == 1 and said[0].startswith("P01-T1_to_P01-CT, method method failed: ")
    # Complete and without a result: nothing half-written, nothing that could pass for a result.
    assert sorted(path.name for path in output.parent.iterdir()) == ["displacement.nii.gz", "registration.json"]
    assert displacement.read_unless_failed(output) is None


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("niftyreg", "reg_f3d -sx\n", "parameters.txt: -sx of reg_f3d is followed by nothing; expected a number"),
        ("niftyreg", "reg_f3d --lncc -ln 3", "parameters.txt: --lncc of reg_f3d is followed by -ln; expected a number"),
        ("niftyreg", "reg_f3d -lcc 3", "parameters.txt: found -lcc for reg_f3d; known: -ln, -lp, "),
        ("niftyreg", "rm -rf x", "begins with rm; expected reg_aladin or reg_f3d"),
        ("niftyreg", "reg_f3d -ref other.nii", "line 1: -ref is set by the workflow itself"),
        ("niftyreg", "# nothing\n", "no options found"),
        ("ants", "--transform NoSuch[1]\n--metric CC[FIXED,MOVING,1,2]", "ANTs gave up with .*parameters.txt"),
        ("ants", "--output x", "line 1: --output is set by the workflow itself"),
        ("demons", DEMONS.replace("symmetric", "fast"), "variant: found fast; expected one of"),
        ("demons", "variant: [demons", r"parameters.txt: not readable as YAML"),
        ("demons", "- a list", r"parameters.txt: expected the keys variant, iterations"),
        ("demons", DEMONS.replace("[20, 20]", "[20, many]"), "iterations and shrink_factors: expected whole numbers"),
        ("demons", "variant: demons\nlevels: 3", "unknown key levels; iterations is missing"),
        ("instance", "weight: [1", r"parameters.txt: not readable as YAML"),
        ("instance", "ncc", r"parameters.txt: expected the keys dimensions, similarity, weight, levels"),
        ("instance", INSTANCE.replace("weight: 0.1", "weights: 0.1"), "unknown key weights; weight is missing"),
        ("instance", INSTANCE.replace("grid_mm: 12", "grid_mm: true"), "level 2, grid_mm: found True"),
        ("instance", INSTANCE.replace("step_mm: 0.5", "step_mm: 0"), "level 1, step_mm: found 0; expected more than 0"),
        ("instance", INSTANCE.replace("ncc-squared", "ncc"), "similarity: .*ncc"),
        ("instance", INSTANCE.replace("step_mm: 0.5", "step_mm: 1.0e+38"), "stopped being a number at level 1"),
    ],
)
def test_a_wrong_parameter_file_is_told_with_its_name(name, text, words, run):
    fixed, moving = pair_on("LPS", "LPS")
    with pytest.raises(UserError, match=words):
        run(name, fixed, moving, text=text)


ALL = ("elastix", "niftyreg", "ants", "demons", "instance", "points")


def test_where_nothing_is_installed_no_tool_is_found(monkeypatch):
    monkeypatch.setattr(tools.importlib.util, "find_spec", lambda package: None)
    monkeypatch.setenv("PATH", "")
    for tool in ALL:
        assert tools.find(tool) == "" and "was not found. Get it" in tools.HOW_TO_GET[tool]


def test_a_tool_without_a_start_begins_where_the_scanners_have_put_the_images(run):
    fixed, moving = pair_on("LPS", "LPS")
    given, left_out = (
        geometry.to_array(displacement.sample(run("demons", fixed, moving, start)[0], Grid.of(fixed)))
        for start in (sitk.AffineTransform(3), None)
    )
    np.testing.assert_array_equal(given, left_out)


def test_an_unknown_tool_is_never_found():
    with pytest.raises(ValueError, match="greedy is no tool; expected one of elastix"):
        tools.find("greedy")
    with pytest.raises(ValueError, match="points is no tool that registers a pair by its images"):
        tool_of("points")


@pytest.mark.parametrize("name", ["niftyreg", "ants"])
def test_a_missing_tool_is_told_with_three_ways_to_get_it(name, run, monkeypatch):
    monkeypatch.setattr(tools.importlib.util, "find_spec", lambda package: None)
    monkeypatch.setenv("PATH", "")
    fixed, moving = pair_on("LPS", "LPS")
    with pytest.raises(UserError, match=r"was not found\. Get it in one of three ways: .*uv sync.*conda.*, or"):
        run(name, fixed, moving)


def test_the_tools_of_this_environment_are_found():
    assert all(tools.find(tool) for tool in ALL)
    assert Path(tools.niftyreg_program("reg_aladin")).name == "reg_aladin"


def test_niftyreg_runs_on_a_machine_without_openmp(tmp_path, monkeypatch):
    """A bare Debian has no libgomp: the programs find the one that a wheel of the lock brings, and load that."""
    monkeypatch.setattr(tools.ctypes.util, "find_library", lambda name: None)
    variables = tools.openmp_for_niftyreg(tmp_path)
    program = tools.niftyreg_program()
    said = subprocess.run(
        ["ldd", program], env=os.environ | variables, capture_output=True, text=True, check=True
    ).stdout
    assert f"{tmp_path}/libgomp.so.1" in said
    subprocess.run([program, "--version"], env=os.environ | variables, capture_output=True, check=True)
    monkeypatch.setattr(tools.ctypes.util, "find_library", lambda name: "libgomp.so.1")
    assert tools.openmp_for_niftyreg(tmp_path) == {}
