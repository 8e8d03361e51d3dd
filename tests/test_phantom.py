"""The phantom: its images follow the truth that it writes beside them, and the same words give the same bytes."""

import gzip
import inspect
import json
import math
import tempfile
from pathlib import Path

import convert_image
import make_phantom
import numpy as np
import pandas as pd
import pydicom
import pytest
import SimpleITK as sitk
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cohortmorph.clinic.reader import read_series
from cohortmorph.cohort import configuration
from cohortmorph.simulated import phantom
from cohortmorph.simulated.chance import random_numbers
from cohortmorph.simulated.scanner import PROTOCOLS
from cohortmorph.spatial import displacement
from cohortmorph.spatial.geometry import Grid, read_image, to_array

SMALL = {"seed": 3, "spacing_mm": 4.0, "slab_mm": 32, "deformation_mm": 6.0}
# What the configuration allows, and what it sets by itself.
ALLOWED = configuration.schema_of("config")["properties"]["phantom"]["properties"]
SLABS_MM, DEFORMATIONS_MM = (
    [ALLOWED[name][end] for end in ("minimum", "maximum")] for name in ("slab_mm", "deformation_mm")
)
IMAGES = ["CT", "T1", "T2"]
MR = ["T1", "T2"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("phantom") / "P01"
    make_phantom.main("P01", folder, **SMALL)
    return folder


@pytest.fixture(scope="module")
def drawn():
    return phantom.draw("P01", **SMALL)


@pytest.fixture(scope="module")
def truth(folder):
    return json.loads((folder / "truth.json").read_text())


def draw(subject, **changes):
    """Draw a phantom with the configuration's defaults but for `changes`."""
    return phantom.draw(subject, **{name: allowed["default"] for name, allowed in ALLOWED.items()} | changes)


def points(folder, image, kind="landmarks"):
    return pd.read_csv(folder / f"{image}_{kind}.tsv", sep="\t")


def on_ct(folder, image, file):
    """Resample an image (or its labels) onto the CT's grid by the true displacement."""
    field = displacement.read(folder / f"truth_{image}_to_CT.nii.gz", phantom.draw("P01", **SMALL).grids["CT"])
    if file == "labels":
        return to_array(displacement.warp_labels(sitk.ReadImage(folder / f"{image}_labels.nii.gz"), field))
    return to_array(displacement.warp(sitk.Cast(read_series(folder / image)[0], sitk.sitkFloat32), field))


@pytest.mark.parametrize("image", MR)
def test_the_true_displacement_moves_the_landmarks_of_the_ct_to_those_of_the_image(folder, image):
    fixed, moving = points(folder, "CT"), points(folder, image)
    assert list(fixed.landmark) == list(moving.landmark)
    assert fixed.landmark.is_unique and len(fixed) >= 30
    field = displacement.read(folder / f"truth_{image}_to_CT.nii.gz")
    moved = displacement.move_points(fixed.iloc[:, 1:].to_numpy(), field)
    np.testing.assert_allclose(moved, moving.iloc[:, 1:].to_numpy(), atol=1e-3)


@pytest.mark.parametrize("image", MR)
def test_the_landmarks_follow_the_formula_of_the_documentation(folder, truth, image):
    """Word by word from the module's docstring, with the numbers of truth.json and nothing of the module."""
    planted = truth["images"][image]
    warp, centre = planted["warp"], planted["centre_lps_mm"]
    cos, sin = (function(math.radians(planted["angle_degrees"])) for function in (math.cos, math.sin))
    fixed, moving = (points(folder, name).iloc[:, 1:].to_numpy() for name in ("CT", image))
    for x, y in zip(fixed, moving, strict=True):
        p = list(x)
        for bump, sigma, vector in zip(warp["centres_lps_mm"], warp["sigmas_mm"], warp["amplitudes_mm"], strict=True):
            weight = math.exp(-(math.dist(x, bump) ** 2) / (2 * sigma**2))
            p = [coordinate + weight * component for coordinate, component in zip(p, vector, strict=True)]
        expected = [
            centre[0] + cos * (p[0] - centre[0]) - sin * (p[1] - centre[1]),
            centre[1] + sin * (p[0] - centre[0]) + cos * (p[1] - centre[1]),
            p[2] + planted["slice_offset_mm"],
        ]
        np.testing.assert_allclose(y, expected, atol=1e-5)


@pytest.mark.parametrize("image", MR)
def test_inverting_the_truth_brings_points_back(drawn, image):
    x = drawn.grids["CT"].points_mm()[::5, ::5, ::5]
    placement = drawn.placements[image]
    np.testing.assert_allclose(placement.to_ct(placement.from_ct(x)), x, atol=2e-6)


@pytest.mark.parametrize("image", MR)
def test_the_pictures_follow_the_truth(folder, image):
    """The image's labels, moved by the truth, lie on those of the CT; moved by the rotation alone, they do so less."""
    fixed = to_array(sitk.ReadImage(folder / "CT_labels.nii.gz"))
    moved = on_ct(folder, image, "labels")
    inside = moved > 0  # the slabs of MR are thinner than that of the CT
    agreement = np.mean(moved[inside] == fixed[inside])
    assert agreement > 0.75
    drawn = phantom.draw("P01", **SMALL)
    placement = drawn.placements[image]
    rigid = phantom.Placement(
        placement.angle_degrees,
        placement.slice_offset_mm,
        placement.centre_mm,
        phantom.Bumps(placement.warp.centres_lps_mm, placement.warp.sigmas_mm, 0 * placement.warp.amplitudes_mm),
    )
    x = drawn.grids["CT"].points_mm()
    field = phantom.to_image((rigid.from_ct(x) - x).astype(np.float32), drawn.grids["CT"])
    unwarped = to_array(displacement.warp_labels(sitk.ReadImage(folder / f"{image}_labels.nii.gz"), field))
    assert np.mean(unwarped[inside] == fixed[inside]) < agreement - 0.03


def test_t1_and_t2_are_of_opposite_contrast_and_ct_is_in_hounsfield_units(folder):
    means = {}
    for image in IMAGES:
        values, labels = (
            to_array(read_series(folder / image)[0]),
            to_array(read_image(folder / f"{image}_labels.nii.gz")),
        )
        means[image] = {name: values[labels == label].mean() for name, label in phantom.LABELS.items()}
        means[image]["air"] = values[:3, :3].mean()
    assert means["T1"]["CSF"] < means["T1"]["GM"] < means["T1"]["WM"]
    assert means["T2"]["CSF"] > means["T2"]["GM"] > means["T2"]["WM"]
    assert means["CT"]["CSF"] < means["CT"]["WM"] < means["CT"]["GM"]
    assert means["CT"]["air"] == pytest.approx(-1000, abs=1)
    t1, t2 = (on_ct(folder, image, "image") for image in MR)
    inside = np.logical_and(*(on_ct(folder, image, "labels") > 0 for image in MR))
    assert np.corrcoef(t1[inside], t2[inside])[0, 1] < -0.7


@pytest.mark.parametrize("image", IMAGES)
def test_the_series_reads_back_on_its_grid_with_its_values(folder, drawn, image):
    read, sidecar = read_series(folder / image)
    grid = drawn.grids[image]
    assert read.GetSize() == grid.size
    np.testing.assert_allclose(Grid.of(read).points_mm(), grid.points_mm(), atol=1e-4)
    values, labels = phantom.scan(drawn, image, random_numbers("scan", SMALL["seed"], "P01", image))
    np.testing.assert_array_equal(to_array(read), values)
    np.testing.assert_array_equal(to_array(sitk.ReadImage(folder / f"{image}_labels.nii.gz")), labels)
    assert sidecar["slice_thickness_mm"] == PROTOCOLS[image].thickness_mm
    assert sidecar["slice_distance_mm"] == pytest.approx(PROTOCOLS[image].distance_mm)


@pytest.mark.parametrize("image", IMAGES)
def test_gdcm_reads_the_same_series(folder, image):
    names = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder / image))
    ours, theirs = read_series(folder / image)[0], sitk.ReadImage(names)
    assert Grid.of(ours).difference_from(Grid.of(theirs)) is None
    np.testing.assert_array_equal(to_array(ours), to_array(theirs))


@pytest.mark.parametrize("image", IMAGES)
def test_neither_names_nor_numbers_tell_the_order_of_the_slices(folder, image):
    slices = [pydicom.dcmread(path) for path in sorted((folder / image).iterdir())]
    heights = np.array([slice_.ImagePositionPatient[2] for slice_ in slices])
    numbers = np.array([slice_.InstanceNumber for slice_ in slices])
    for order in (heights, heights[np.argsort(numbers)]):
        assert np.any(np.diff(order) > 0) and np.any(np.diff(order) < 0)
    assert len({slice_.SOPInstanceUID for slice_ in slices}) == len(slices)
    assert all("hantom" in slice_.StudyDescription + slice_.SeriesDescription for slice_ in slices)


def test_the_start_slices_lie_in_one_plane(drawn):
    heights = {
        image: grid.to_world([0, 0, drawn.start_slice[image]])[2] - drawn.placements[image].slice_offset_mm
        for image, grid in drawn.grids.items()
    }
    assert heights["T1"] == pytest.approx(heights["CT"], abs=1e-6)
    assert heights["T2"] == pytest.approx(heights["CT"], abs=1e-6)
    assert drawn.start_slice["T2"] == 0 < drawn.start_slice["T1"] < drawn.start_slice["CT"]


@pytest.mark.parametrize("slab_mm", [*SLABS_MM, 32, 64])
def test_every_subject_has_slabs_within_the_ct_and_its_own_planted_numbers(slab_mm):
    plans = [draw(f"P{n:02d}", slab_mm=slab_mm) for n in range(12)]
    for drawn in plans:
        ends = {}
        for image, grid in drawn.grids.items():
            first = -drawn.start_slice[image]
            ends[image] = first, first + grid.spacing_mm[2] * (grid.size[2] - 1)
        assert ends["CT"][0] < ends["T1"][0] < ends["T2"][0] and ends["T2"][1] < ends["T1"][1] <= ends["CT"][1]
        assert drawn.grids["CT"].size == (96, 112, slab_mm)
        assert drawn.grids["T2"].size[2] < drawn.grids["T1"].size[2] < slab_mm
        assert all(0 < abs(drawn.placements[image].angle_degrees) <= 12 for image in MR)
    assert len({tuple(drawn.start_slice.values()) for drawn in plans}) > 4
    assert len({drawn.placements["T1"].angle_degrees for drawn in plans}) > 4


def test_the_deformation_is_as_large_as_asked_mostly_in_the_plane_and_never_folds():
    for subject in ("P01", "P02", "P03"):
        drawn = draw(subject, spacing_mm=4, deformation_mm=6)
        for image in MR:
            vectors = drawn.placements[image].warp(drawn.grids["CT"].points_mm())
            assert np.linalg.norm(vectors, axis=-1).max() == pytest.approx(6, rel=0.05)
            assert np.abs(vectors[..., 2]).max() < 2.5
            field = phantom.to_image(vectors, drawn.grids["CT"])
            assert displacement.jacobian_determinant(field).min() > 0.5


@pytest.mark.parametrize("subject", ["P01", "P02", "P03"])
def test_the_deformation_neither_turns_nor_shifts_the_head_on_the_whole(subject):
    drawn = draw(subject, spacing_mm=4, deformation_mm=6)
    x = drawn.grids["CT"].points_mm()
    arms = (x - drawn.grids["CT"].centre_mm) / (72, 84, 1)
    head = (arms[..., :2] ** 2).sum(axis=-1) < 1
    for image in MR:
        w, arm = drawn.placements[image].warp(x)[head], (x - drawn.grids["CT"].centre_mm)[head]
        assert np.abs(w.mean(axis=0)).max() < 0.1
        turn = (arm[:, 0] * w[:, 1] - arm[:, 1] * w[:, 0]).sum() / (arm[:, :2] ** 2).sum()
        assert abs(np.rad2deg(turn)) < 0.1


def test_landmarks_lie_on_voxels_of_the_brain_apart_from_each_other_and_inside_every_image(folder, drawn):
    fixed = points(folder, "CT").iloc[:, 1:].to_numpy()
    indices = drawn.grids["CT"].to_indices(fixed)
    np.testing.assert_allclose(indices, np.rint(indices), atol=1e-6)
    labels = to_array(sitk.ReadImage(folder / "CT_labels.nii.gz"))
    assert (labels[tuple(np.rint(indices).astype(int).T)] > 0).all()
    apart = np.linalg.norm(fixed[:, None] - fixed, axis=-1) + 1e9 * np.eye(len(fixed))
    assert apart.min() > 8
    for image, grid in drawn.grids.items():
        assert grid.contains(points(folder, image).iloc[:, 1:].to_numpy()).all()


def test_fiducials_lie_on_the_skin_apart_from_each_other_and_inside_every_image(folder, drawn):
    exact = phantom.fiducials(drawn)
    fixed = exact["CT"]
    assert len(fixed) == 8
    apart = np.linalg.norm(fixed[:, None] - fixed, axis=-1) + 1e9 * np.eye(len(fixed))
    assert apart.min() > 50
    for image, grid in drawn.grids.items():
        assert grid.contains(exact[image]).all() and grid.contains(points(folder, image, "fiducials").iloc[:, 1:]).all()
    # The CT, 5 mm from the skin to either side along the line from the middle: scalp and air.
    ct = read_series(folder / "CT")[0]
    outward = (fixed - drawn.grids["CT"].centre_mm) * [1, 1, 0]
    outward /= np.linalg.norm(outward, axis=1, keepdims=True)
    values = {
        side: np.array([ct.EvaluateAtPhysicalPoint(tuple(x), sitk.sitkNearestNeighbor) for x in fixed + side * outward])
        for side in (-5, 5)
    }
    assert (values[-5] > 0).all() and (values[5] < -900).all()


@pytest.mark.parametrize("slab_mm", SLABS_MM)
@pytest.mark.parametrize("deformation_mm", DEFORMATIONS_MM)
def test_every_phantom_that_can_be_asked_for_has_room_for_its_fiducials(slab_mm, deformation_mm):
    for subject in ("P01", "P02", "P03"):
        exact = phantom.fiducials(draw(subject, slab_mm=slab_mm, deformation_mm=deformation_mm))
        apart = np.linalg.norm(exact["CT"][:, None] - exact["CT"], axis=-1) + 1e9 * np.eye(8)
        assert apart.min() > 40


@settings(max_examples=4, deadline=None)
@given(
    seed=st.integers(ALLOWED["seed"]["minimum"], ALLOWED["seed"]["maximum"]),
    spacing_mm=st.floats(7, ALLOWED["spacing_mm"]["maximum"]),  # coarse, for the time's sake
    slab_mm=st.integers(*SLABS_MM),
    deformation_mm=st.floats(*DEFORMATIONS_MM),
)
@example(seed=1, spacing_mm=8, slab_mm=SLABS_MM[0], deformation_mm=DEFORMATIONS_MM[1])
@example(seed=1, spacing_mm=8, slab_mm=SLABS_MM[1], deformation_mm=DEFORMATIONS_MM[0])
def test_every_phantom_that_can_be_asked_for_is_made(seed, spacing_mm, slab_mm, deformation_mm):
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        make_phantom.main("P01", folder, seed, spacing_mm, slab_mm, deformation_mm)
        drawn = phantom.draw("P01", seed, spacing_mm, slab_mm, deformation_mm)
        assert drawn.grids["CT"].size[2] == slab_mm
        for image, grid in drawn.grids.items():
            assert Grid.of(read_series(folder / image)[0]).difference_from(grid) is None
            assert len(points(folder, image)) == phantom.LANDMARKS
            assert len(points(folder, image, "fiducials")) == phantom.FIDUCIALS
        vectors = to_array(sitk.ReadImage(folder / "truth_T1_to_CT.nii.gz"))
        assert np.isfinite(vectors).all()


def test_only_the_configuration_says_what_is_allowed_and_what_is_usual():
    for function in (make_phantom.main, phantom.write_subject, phantom.draw):
        parameters = inspect.signature(function).parameters
        assert set(parameters) - {"subject", "folder"} == set(ALLOWED)
        assert all(one.default is inspect.Parameter.empty for one in parameters.values())


def test_each_image_has_its_own_localization_error_of_half_a_millimetre_about_the_true_places(folder, drawn):
    exact = phantom.fiducials(drawn)
    errors_mm = []
    for image in IMAGES:
        found = points(folder, image, "fiducials")
        assert list(found.landmark) == [f"F{number:02d}" for number in range(1, 9)]
        np.testing.assert_allclose(exact[image], drawn.placements[image].from_ct(exact["CT"]), atol=1e-9)
        errors_mm.append(found.iloc[:, 1:].to_numpy() - exact[image])
    assert np.std(errors_mm) == pytest.approx(0.5, abs=0.13)  # three standard errors of 72 numbers
    assert np.abs(np.mean(errors_mm)) < 0.18
    assert np.abs(np.corrcoef(np.reshape(errors_mm, (3, -1)))[np.triu_indices(3, 1)]).max() < 0.7


def test_the_same_subject_and_seed_give_the_same_bytes_and_another_seed_does_not(folder, tmp_path):
    make_phantom.main("P01", tmp_path / "again", **SMALL)
    make_phantom.main("P01", tmp_path / "again", **SMALL)  # over its own files
    files = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    assert files == sorted(
        path.relative_to(tmp_path / "again") for path in (tmp_path / "again").rglob("*") if path.is_file()
    )
    for file in files:
        assert (folder / file).read_bytes() == (tmp_path / "again" / file).read_bytes(), file
    assert phantom.numbers(draw("P01", seed=4)) != phantom.numbers(draw("P01", seed=3))


@pytest.mark.parametrize("image", IMAGES)
def test_no_conversion_carries_the_patient(folder, tmp_path, image):
    slice_ = pydicom.dcmread(next((folder / image).iterdir()))
    assert (slice_.PatientName, slice_.PatientID) == ("PHANTOM^P01", "P01")
    convert_image.main(str(folder / image), tmp_path / "image.nii.gz", tmp_path / "image.json")
    for content in (gzip.decompress((tmp_path / "image.nii.gz").read_bytes()), (tmp_path / "image.json").read_bytes()):
        assert b"PHANTOM" not in content and b"P01" not in content
        assert slice_.SeriesInstanceUID.encode() not in content and slice_.StudyDate.encode() not in content


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[("slab_mm", value) for value in (SLABS_MM[0] - 1, SLABS_MM[1] + 1, 30.5)],
        *[("spacing_mm", value) for value in (0, 8.5)],
        *[("deformation_mm", value) for value in (-1, DEFORMATIONS_MM[1] + 0.5)],
    ],
)
def test_impossible_phantoms_are_refused(name, value):
    wrong = configuration.validator_of("config").iter_errors({"phantom": {name: value}})
    assert ("phantom", name) in [tuple(error.absolute_path) for error in wrong]
