"""elastix on small images whose true transform is known, through the library and the script of the affine."""

import os
import re
import tempfile
from pathlib import Path

import numpy as np
import prealign
import pytest
import SimpleITK as sitk
from scipy.spatial.transform import Rotation

from cohortmorph import UserError
from cohortmorph.registration import elastix
from cohortmorph.registration.pairwise import Attempt, PairFiles, register_pair
from cohortmorph.registration.problem import Problem, Registered, Run
from cohortmorph.registration.process import Cost
from cohortmorph.run.files import read_json, write_json
from cohortmorph.spatial import displacement, geometry
from cohortmorph.spatial.geometry import Grid

FIXED = Grid((32, 30, 28), (2.0, 2.0, 2.5), (-30.0, -28.0, -34.0))
# The moving image's axes point elsewhere, and its voxels are larger.
MOVING = Grid((34, 32, 30), (2.2, 2.2, 2.4), (37.0, 34.0, -35.0), (-1, 0, 0, 0, -1, 0, 0, 0, 1))
VOXEL_MM = 2.0
# Fixed world to moving world.
TRUTH = geometry.affine(
    Rotation.from_euler("xyz", [3, -4, 8], degrees=True).as_matrix() @ np.diag([1.04, 0.97, 1.0]), [4.0, -3.0, 2.0]
)
CENTRES_MM = np.random.default_rng(8).uniform(-22, 22, (14, 3))
WIDTHS_MM = np.random.default_rng(9).uniform(5, 9, 14)

AFFINE = """
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
(Transform "AffineTransform")
(Metric "AdvancedNormalizedCorrelation")
(AutomaticScalesEstimation "true")
(AutomaticTransformInitialization "true")
(AutomaticTransformInitializationMethod "GeometricalCenter")
(NumberOfResolutions 2)
(MaximumNumberOfIterations 150)
(ImageSampler "RandomCoordinate")
(NumberOfSpatialSamples 1500)
(NewSamplesEveryIteration "true")
(CheckNumberOfSamples "true")
(RequiredRatioOfValidSamples 0.1)
(BSplineInterpolationOrder 1)
(DefaultPixelValue 0)
"""
BSPLINE = AFFINE.replace("AffineTransform", "BSplineTransform").replace(
    "(NumberOfResolutions 2)", "(NumberOfResolutions 1)\n(FinalGridSpacingInPhysicalUnits 16)"
)
UNINITIALIZED = AFFINE.replace('TransformInitialization "true"', 'TransformInitialization "false"')


# itk's own classes say so at their import.
pytestmark = pytest.mark.filterwarnings("ignore:builtin type .* has no __module__:DeprecationWarning")


@pytest.fixture
def parameters(tmp_path):
    """Write a parameter file."""

    def write(text, name="affine.txt"):
        (tmp_path / name).write_text(text)
        return str(tmp_path / name)

    return write


def spots(points_mm):
    """The anatomy: fourteen bright spots around the origin, LPS mm."""
    distance2 = ((points_mm[..., None, :] - CENTRES_MM) ** 2).sum(axis=-1)
    return np.exp(-distance2 / (2 * WIDTHS_MM**2)).sum(axis=-1)


def mapped(transform, points_mm):
    matrix, offset_mm = geometry.matrix_and_offset(transform)
    return points_mm @ matrix.T + offset_mm


def image_on(grid, anatomy_from_world=None):
    """An image on `grid` whose anatomy at the point y is that at anatomy_from_world(y)."""
    points_mm = grid.points_mm()
    if anatomy_from_world is not None:
        points_mm = mapped(anatomy_from_world, points_mm)
    return geometry.to_image(spots(points_mm).astype(np.float32), grid)


def inverse(transform):
    return geometry.affine(*geometry.matrix_and_offset(transform.GetInverse()))


FIXED_IMAGE = image_on(FIXED)
MOVING_IMAGE = image_on(MOVING, inverse(TRUTH))


def fixed_points():
    """Points in the inner part of the fixed image."""
    return np.random.default_rng(2).uniform(-18, 18, (200, 3))


def error_mm(transform, truth=TRUTH):
    """Distances between where a transform takes points and where they belong."""
    points_mm = fixed_points()
    moved = np.array([transform.TransformPoint(tuple(point)) for point in points_mm])
    return np.linalg.norm(moved - mapped(truth, points_mm), axis=1)


def files_in(folder, **more):
    """The pair of the images in a folder."""
    return PairFiles(
        pair="P01-T1_to_P01-CT",
        fixed=str(folder / "fixed.nii.gz"),
        moving=str(folder / "moving.nii.gz"),
        fixed_intensity={"percentiles": [0, 100]},
        moving_intensity={"percentiles": [0, 100]},
        **more,
    )


def prealign_files(folder, fixed, moving, parameter_file, harmonized=(), mask=None, keep="better"):
    """Write the images and run the script; return the transform it wrote."""
    geometry.write_image(fixed, folder / "fixed.nii.gz")
    geometry.write_image(moving, folder / "moving.nii.gz")
    if mask is not None:
        geometry.write_image(mask, folder / "mask.nii.gz")
    prealign.main(
        files_in(folder, fixed_mask=str(folder / "mask.nii.gz") if mask is not None else "", harmonized=harmonized),
        parameters=parameter_file,
        run=Run(seed=3, threads=1, log_folder=str(folder / "log")),
        keep=keep,
        affine=str(folder / "affine.tfm"),
        registration=str(folder / "affine.json"),
    )
    return geometry.read_affine(folder / "affine.tfm")


# ---- the true transform


def test_prealign_finds_the_affine_transform_from_fixed_to_moving(tmp_path, parameters):
    found = prealign_files(tmp_path, FIXED_IMAGE, MOVING_IMAGE, parameters(AFFINE))
    assert error_mm(sitk.AffineTransform(3)).mean() > 2 * VOXEL_MM
    print(f"{error_mm(found).mean():.3f} mm, at most {error_mm(found).max():.3f} mm")
    assert error_mm(found).max() < 0.25 * VOXEL_MM
    facts = read_json(tmp_path / "affine.json")
    assert (facts["threads"], facts["seed"], facts["parameters"]) == (1, 3, parameters(AFFINE))
    assert facts["seconds"] > 0 and facts["overlap"] > 0.8
    assert "Final metric value" in (tmp_path / "log" / "elastix.log").read_text()


def test_prealign_starts_from_the_harmonizing_transforms_and_composes_them_in(tmp_path, parameters):
    """The moving world lies 80 mm away and turned by 60°: only a start that is applied once, and first, gets there."""
    of_fixed = geometry.affine(Rotation.from_euler("z", 20, degrees=True).as_matrix(), [5.0, 0.0, -10.0])
    of_moving = geometry.affine(Rotation.from_euler("z", 80, degrees=True).as_matrix(), [90.0, -20.0, 30.0])
    start = geometry.chain(inverse(of_fixed), of_moving)
    truth = geometry.chain(TRUTH, start)
    # The same anatomy, carried along by the start.
    grid = Grid((40, 40, 40), (2.2, 2.2, 2.4), tuple(mapped(start, np.zeros((1, 3)))[0] - 45), FIXED.direction)
    moving = image_on(grid, inverse(truth))
    for name, transform in (("of_fixed", of_fixed), ("of_moving", of_moving)):
        geometry.write_transform(transform, tmp_path / f"{name}.tfm")
    harmonized = [str(tmp_path / "of_fixed.tfm"), str(tmp_path / "of_moving.tfm")]
    write_json({}, tmp_path / "harmonize.json")
    found = prealign_files(tmp_path, FIXED_IMAGE, moving, parameters(AFFINE), harmonized)
    assert error_mm(start, truth).mean() > 2 * VOXEL_MM
    assert error_mm(found, truth).max() < 0.25 * VOXEL_MM
    assert "harmonizing_failed" not in read_json(tmp_path / "affine.json")


def found_by_elastix(monkeypatch, transform):
    """Have elastix find a transform."""
    monkeypatch.setattr(elastix, "register", lambda *arguments: Registered(transform, Cost(1.0, 1.0, 1.0), {}))


def flat(transform):
    """The numbers of a transform."""
    return np.concatenate([part.ravel() for part in geometry.matrix_and_offset(transform)])


@pytest.mark.parametrize("harmonizing", [False, True])
def test_an_affine_that_makes_a_pair_worse_leaves_it_at_its_start(tmp_path, monkeypatch, harmonizing):
    """The start is where harmonizing, else the scanners, put the images; metrics of the affine are then those of it."""
    start = geometry.chain(TRUTH, geometry.affine(np.eye(3), [1.0, 0.0, 0.0])) if harmonizing else TRUTH
    of_both = [sitk.AffineTransform(3), start]
    moving = MOVING_IMAGE if harmonizing else image_on(FIXED)
    start = start if harmonizing else sitk.AffineTransform(3)
    for name, transform in zip("fm", of_both, strict=True):
        geometry.write_transform(transform, tmp_path / f"{name}.tfm")
    write_json({}, tmp_path / "harmonize.json")
    harmonized = [str(tmp_path / f"{name}.tfm") for name in "fm"] if harmonizing else ()
    worse = geometry.chain(start, geometry.affine(np.diag([1.05, 1.0, 0.95]), [-5.0, 3.0, 0.0]))
    found_by_elastix(monkeypatch, worse)
    kept = prealign_files(tmp_path, FIXED_IMAGE, moving, "a.txt", harmonized)
    np.testing.assert_array_equal(flat(kept), flat(start))
    how = read_json(tmp_path / "affine.json")
    assert how["start_kept"] is True and "failed" not in how and how["seconds"] == 1.0
    assert 0 <= how["judged"]["start"] < how["judged"]["affine"] < 1 and 0.1 < how["judged"]["compared"] <= 1
    assert "agree less" in how["judged"]["why"] and how["judged"]["why"].endswith("the start is kept")
    assert how["overlap"] == Problem(FIXED_IMAGE, moving).overlap(start)
    always = prealign_files(tmp_path, FIXED_IMAGE, moving, "a.txt", harmonized, keep="always")
    np.testing.assert_array_equal(flat(always), flat(worse))
    assert not {"start_kept", "judged"} & set(read_json(tmp_path / "affine.json"))


def test_an_affine_that_helps_is_kept_to_the_bit(tmp_path, parameters):
    always, better = (
        flat(prealign_files(tmp_path, FIXED_IMAGE, MOVING_IMAGE, parameters(AFFINE), keep=keep))
        for keep in ("always", "better")
    )
    np.testing.assert_array_equal(better, always)
    how = read_json(tmp_path / "affine.json")
    assert how["start_kept"] is False and how["judged"]["affine"] < how["judged"]["start"]


def test_prealign_after_a_failed_harmonizing_starts_by_itself_and_says_so(tmp_path, parameters):
    """The images lie apart: without a start elastix brings their middles together first."""
    grid = Grid(FIXED.size, FIXED.spacing_mm, tuple(np.array(FIXED.origin_mm) + 300), FIXED.direction)
    away = geometry.to_image(geometry.to_array(FIXED_IMAGE), grid)
    for name in ("of_fixed", "of_moving"):
        geometry.write_transform(sitk.AffineTransform(3), tmp_path / f"{name}.tfm")
    write_json({"failed": "no slice matches"}, tmp_path / "harmonize.json")
    harmonized = [str(tmp_path / "of_fixed.tfm"), str(tmp_path / "of_moving.tfm")]
    found = prealign_files(tmp_path, FIXED_IMAGE, away, parameters(AFFINE), harmonized)
    assert error_mm(found, geometry.affine(np.eye(3), [300.0, 300, 300])).max() < 0.25 * VOXEL_MM
    how = read_json(tmp_path / "affine.json")
    assert how["harmonizing_failed"] == "no slice matches" and "failed" not in how


def test_the_b_spline_composes_the_affine_in_and_leaves_what_is_aligned(tmp_path, parameters):
    """Two methods of one job: each ends in fixed → moving, not in what is left after the affine."""
    geometry.write_image(FIXED_IMAGE, tmp_path / "fixed.nii.gz")
    geometry.write_image(MOVING_IMAGE, tmp_path / "moving.nii.gz")
    # The start is 2 mm off along x, which the B-spline shall mend.
    start = geometry.chain(TRUTH, geometry.affine(np.eye(3), [2.0, 0, 0]))
    geometry.write_transform(start, tmp_path / "affine.tfm")
    whole = geometry.to_image(np.ones(FIXED.size, np.uint8), FIXED)
    geometry.write_image(whole, tmp_path / "mask.nii.gz")
    outputs = [str(tmp_path / method / "displacement.nii.gz") for method in ("one", "two")]
    register_pair(
        elastix,
        files_in(tmp_path, fixed_mask=str(tmp_path / "mask.nii.gz"), affine=str(tmp_path / "affine.tfm")),
        [
            Attempt("one", [parameters(BSPLINE, "one.txt")], "affine", outputs[0]),
            Attempt("two", [parameters(AFFINE, "two.txt")], "affine", outputs[1]),
        ],
        Run(seed=3, threads=1, log_folder=str(tmp_path / "log")),
    )
    for method, path in zip(("one", "two"), outputs, strict=True):
        field = displacement.read(path, FIXED)
        moved = displacement.move_points(fixed_points(), field)
        error = np.linalg.norm(moved - mapped(TRUTH, fixed_points()), axis=1)
        print(f"{method}: {error.mean():.3f} mm")
        assert error.mean() < 0.25 * VOXEL_MM
        facts = read_json(Path(path).parent / "registration.json")
        assert (facts["threads"], facts["seed"], Path(facts["parameters"][0]).stem) == (1, 3, method)
        assert facts["cpu_seconds"] > 0 and facts["peak_memory_mb"] > 50
        assert (tmp_path / "log" / method / "elastix.log").exists()


def test_a_seed_and_a_thread_give_the_same_bits_and_another_seed_does_not(parameters):
    few = parameters(AFFINE.replace("MaximumNumberOfIterations 150", "MaximumNumberOfIterations 20"))
    results = [
        np.concatenate(
            [part.ravel() for part in geometry.matrix_and_offset(register(FIXED_IMAGE, MOVING_IMAGE, few, seed=seed))]
        )
        for seed in (3, 3, 4)
    ]
    np.testing.assert_array_equal(results[0], results[1])
    assert np.abs(results[0] - results[2]).max() > 1e-6


def register(fixed, moving, *parameter_files, seed=3, log_folder=None, **options):
    with tempfile.TemporaryDirectory() as folder:
        problem, run = Problem(fixed, moving, **options), Run(seed, 1, log_folder or folder)
        return elastix.register(problem, parameter_files, run).transform


def test_the_mask_says_where_samples_are_taken(parameters):
    """A second body in the fixed image, elsewhere in the moving one, does no harm outside of the mask."""
    k = np.arange(FIXED.size[2])
    decoy = geometry.to_array(FIXED_IMAGE) + np.where(k > 22, 3.0, 0.0)
    mask = geometry.to_image(np.broadcast_to(k < 19, FIXED.size).astype(np.uint8), FIXED)
    fixed = geometry.to_image(decoy.astype(np.float32), FIXED)
    points = fixed_points()[:, 2] < 5

    def error(**options):
        return error_mm(register(fixed, MOVING_IMAGE, parameters(AFFINE), **options))[points].mean()

    masked, everywhere = error(mask=mask), error()
    print(f"{masked:.3f} mm in the mask, {everywhere:.3f} mm without it")
    assert masked < 0.5 * VOXEL_MM
    assert everywhere > 2 * masked


def test_a_list_of_parameter_files_is_run_one_after_the_other(parameters):
    """A start of its own: affine and B-spline in one method, whose result holds both, and the start."""
    start = geometry.affine(np.eye(3), [1.0, -1.0, 0.5])
    both = register(FIXED_IMAGE, MOVING_IMAGE, parameters(AFFINE), parameters(BSPLINE, "two.txt"), initial=start)
    print(f"{error_mm(both).mean():.3f} mm")
    assert error_mm(both).mean() < 0.25 * VOXEL_MM


# ---- mistakes


def noise(size=(16, 16, 16), origin_mm=(0.0, 0.0, 0.0), seed=1):
    grid = Grid(size, (2.0, 2.0, 2.0), origin_mm)
    return geometry.to_image(np.random.default_rng(seed).random(size).astype(np.float32), grid)


def test_images_that_never_overlap_are_told_in_elastix_s_own_words(tmp_path, parameters):
    geometry.write_image(noise(), tmp_path / "fixed.nii.gz")
    far = noise(origin_mm=(500.0, 0.0, 0.0), seed=2)
    said = r"elastix gave up .*samples map outside moving image buffer.*Look whether the two images"
    start = prealign_files(tmp_path, noise(), far, parameters(UNINITIALIZED))
    facts = read_json(tmp_path / "affine.json")
    assert set(facts) == {"failed"} and re.search(said, facts["failed"]) and "Traceback" not in facts["failed"]
    # What the other methods start from, then: the scanners' positions.
    np.testing.assert_array_equal(geometry.matrix_and_offset(start)[0], np.eye(3))


def test_a_wrong_parameter_file_is_told_with_its_name(tmp_path, parameters):
    wrong = parameters(AFFINE.replace("AdvancedNormalizedCorrelation", "NoSuchMetric"), "wrong.txt")
    with pytest.raises(UserError, match=r"elastix gave up with .*wrong\.txt.*NoSuchMetric"):
        register(noise(), noise(seed=2), wrong, log_folder=tmp_path / "log")


def test_an_elastix_that_dies_is_told_with_its_exit_code(parameters, monkeypatch):
    """An absurd parameter can abort the whole process: the job survives it, since the process is a child."""
    monkeypatch.setattr(elastix, "_run", lambda *arguments: os._exit(134))
    with pytest.raises(UserError, match=r"\(exit code 134\). It said: nothing"):
        register(noise(), noise(seed=2), parameters(AFFINE))


def test_an_alignment_that_leaves_the_moving_image_is_refused(tmp_path, parameters, monkeypatch):
    away = geometry.affine(np.eye(3), [500.0, 0, 0])
    monkeypatch.setattr(elastix, "register", lambda *arguments: Registered(away, Cost(1.0, 1.0, 1.0), {}))
    start = prealign_files(tmp_path, FIXED_IMAGE, MOVING_IMAGE, parameters(AFFINE))
    assert "only 0% of the fixed image lies inside" in read_json(tmp_path / "affine.json")["failed"]
    np.testing.assert_array_equal(geometry.matrix_and_offset(start)[1], np.zeros(3))


def test_the_overlap_is_the_share_of_fixed_voxels_inside_the_moving_image():
    fixed = noise((32, 16, 16))
    shift = geometry.affine(np.eye(3), [32.0, 0, 0])  # by half of its length
    assert Problem(fixed, fixed).overlap(sitk.AffineTransform(3)) == 1
    assert Problem(fixed, fixed).overlap(shift) == pytest.approx(0.5)
