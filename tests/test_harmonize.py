"""Planted rotations and start slices are found again, whatever the contrast, the slice geometry and the file's axes."""

import json
from dataclasses import dataclass, replace

import harmonize_subject
import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk
from scipy.ndimage import gaussian_filter, map_coordinates
from scipy.spatial.transform import Rotation

from cohortmorph import UserError
from cohortmorph.registration.harmonize import harmonize, harmonized_stack
from cohortmorph.registration.rotation import rotation_matrix
from cohortmorph.registration.stacks import Stack
from cohortmorph.registration.starts import match_starts, possible_starts, start_scores
from cohortmorph.run.files import read_json
from cohortmorph.spatial.geometry import (
    Grid,
    affine,
    chain,
    matrix_and_offset,
    read_affine,
    to_array,
    to_image,
    write_image,
)
from cohortmorph.spatial.ncc import ncc_signed

ANATOMY_MM = 3.0
SHAPE = (70, 76, 30)
MIDDLE = np.array([7.0, -12.0, 40.0])


def anatomy(seed):
    """A smooth random body in an elliptic cylinder, values in [0, 1], on voxels of ANATOMY_MM around MIDDLE."""
    rng = np.random.default_rng(seed)
    noise = gaussian_filter(rng.normal(size=SHAPE), 1.5)
    body = 0.5 + 0.18 * noise / noise.std()
    x, y, _ = np.meshgrid(*(np.linspace(-1, 1, n) for n in SHAPE), indexing="ij")
    # A bump on one side: an ellipse alone would look the same after half a turn.
    inside = (x / 0.72) ** 2 + (y / 0.82) ** 2 + 0.15 * x * y < 1
    return np.clip(body, 0.05, 1) * gaussian_filter(inside.astype(float), 0.7)


def value_at(body, points):
    """Interpolate the body at points, LPS mm, shape (..., 3)."""
    indices = (points - MIDDLE) / ANATOMY_MM + (np.array(SHAPE) - 1) / 2
    return map_coordinates(body, np.moveaxis(indices, -1, 0), order=1, mode="nearest")


def smooth_warp(rng, points, peak_mm):
    """A smooth vector field at points, without translation and rotation in the plane, z a quarter of x and y."""
    centred = points - MIDDLE
    centres = rng.uniform(-1, 1, (12, 3)) * [70, 80, 25]
    directions = rng.normal(size=(12, 3)) * [1, 1, 0.25]
    nearness = np.exp(-((centred[..., None, :] - centres) ** 2).sum(-1) / (2 * 25**2))
    vectors = nearness @ directions
    vectors = vectors - vectors.mean(axis=(0, 1, 2))
    x, y = centred[..., 0], centred[..., 1]
    turn = (x * vectors[..., 1] - y * vectors[..., 0]).sum() / (x**2 + y**2).sum()
    vectors = vectors - turn * np.stack([-y, x, 0 * x], axis=-1)
    return vectors * peak_mm / np.linalg.norm(vectors, axis=-1).max()


@dataclass
class Planted:
    """A stack to be made: pixels, slices, and where it lies. The fixed image has angle 0 and first_mm 0."""

    pixels: tuple = (40, 44)
    spacing_mm: tuple = (4.0, 4.0)
    count: int = 40
    distance_mm: float = 1.0
    thickness_mm: float = 1.0
    first_mm: float = 0.0  # of slice 0 from the fixed image's slice 0
    angle_degrees: float = 0.0
    shift_mm: tuple = (0.0, 0.0, 0.0)  # between the worlds
    invert: bool = False
    noise: float = 0.0
    warp_mm: float = 0.0


LOWEST = MIDDLE[2] - 20  # the fixed image's slice 0


def scan(planted, body, rng, plane="axial"):
    """Sample a stack; return the image and its truth, an affine transform from the fixed world to the image's."""
    extent = (np.array(planted.pixels) - 1) * planted.spacing_mm
    origin = [*(MIDDLE[:2] - extent / 2), LOWEST + planted.first_mm] + np.array(planted.shift_mm)
    grid = Grid((*planted.pixels, planted.count), (*planted.spacing_mm, planted.distance_mm), tuple(origin.tolist()))
    identity = Grid((2, 2, 2), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0))
    rotation = rotation_matrix(identity, plane, planted.angle_degrees)
    middle = MIDDLE if plane == "axial" else np.array([*MIDDLE[:2], LOWEST + 19.5])
    truth = affine(rotation, middle - rotation @ middle + planted.shift_mm)
    matrix, offset = matrix_and_offset(truth)
    points = (grid.points_mm() - offset) @ matrix  # the inverse: a rotation's transpose
    if planted.warp_mm:
        points = points + smooth_warp(rng, points, planted.warp_mm)
    depths = [-planted.thickness_mm / 4, planted.thickness_mm / 4]
    values = np.mean([value_at(body, points + [0, 0, depth]) for depth in depths], axis=0)
    if planted.invert:
        values = np.where(values > 0.02, 1.05 - values, values)
    values = values + planted.noise * rng.normal(size=values.shape)
    return to_image(values.astype(np.float32), grid), truth


def subject(seed, **changes):
    """CT, T1 and T2 with the course's slice geometries and planted numbers: images, truths, start slices, angles."""
    rng = np.random.default_rng(seed)
    body = anatomy(seed)
    first_t1 = int(rng.integers(1, 4))
    first_t2 = first_t1 + int(rng.integers(1, 5))
    common = {"noise": 0.02, **changes}
    planted = {
        "CT": Planted(count=40, noise=common["noise"]),
        "T1": Planted(count=35, thickness_mm=2, first_mm=first_t1, invert=True, **common),
        "T2": Planted(count=14, thickness_mm=2, distance_mm=2.2, first_mm=first_t2, **common),
    }
    for name in ("T1", "T2"):
        shift_mm = (0.0, 0.0, float(rng.uniform(-40, 40)))
        planted[name] = replace(planted[name], angle_degrees=int(rng.integers(-7, 8)), shift_mm=shift_mm)
    scans = {name: scan(stack, body, rng) for name, stack in planted.items()}
    images = {name: image for name, (image, _) in scans.items()}
    truths = {name: truth for name, (_, truth) in scans.items()}
    starts = {"CT": first_t2, "T1": first_t2 - first_t1, "T2": 0}
    return images, truths, starts, {name: planted[name].angle_degrees for name in planted}


def chosen(found, key):
    """One key of every image in the summary."""
    return {name: values[key] for name, values in found.summary["images"].items()}


def distance_mm(transform, truth):
    """The largest distance between two transforms over a box around the body."""
    corners = MIDDLE + np.array([[x, y, z] for x in (-80, 80) for y in (-80, 80) for z in (-20, 20)])
    return max(
        np.linalg.norm(np.subtract(transform.TransformPoint(p), truth.TransformPoint(p))) for p in corners.tolist()
    )


@pytest.mark.parametrize("seed", range(50))
def test_planted_angle_and_start_slices_are_found(seed):
    """With 2 % noise, the contrast of T1 inverted, overlapping slices in T1, gaps in T2, and a smooth deformation."""
    images, truths, starts, angles = subject(seed, warp_mm=3.0)
    found = harmonize(images, "CT", range_degrees=8)
    assert chosen(found, "angle_degrees") == angles
    assert chosen(found, "start_slice") == starts
    assert found.summary["held"] == "T2"
    for name in images:
        assert distance_mm(found.transforms[name], truths[name]) < 1e-6
        middle = Grid.of(images["CT"]).centre_mm
        moved_mm = np.array(truths[name].TransformPoint(middle.tolist()))[2] - middle[2]
        assert found.summary["images"][name]["offset_mm"] == pytest.approx(moved_mm, abs=1e-6)


def test_stacks_match_slice_by_slice():
    images, _, starts, _ = subject(3)
    found = harmonize(images, "CT", range_degrees=8)
    assert found.grid.size == (40, 44, 14)
    assert found.grid.spacing_mm == (4.0, 4.0, 2.2)
    np.testing.assert_allclose(found.grid.origin_mm, Grid.of(images["CT"]).to_world([0, 0, starts["CT"]]), atol=1e-9)
    stacks = {name: harmonized_stack(images[name], found.transforms[name], found.grid) for name in images}
    assert {Grid.of(stack) for stack in stacks.values()} == {found.grid}
    inner = np.s_[10:30, 10:34]
    for name, sign in (("T1", -1), ("T2", 1)):
        for k in range(14):
            assert (
                sign * ncc_signed(to_array(stacks[name])[:, :, k][inner], to_array(stacks["CT"])[:, :, k][inner]) > 0.85
            )

    table = found.slices.set_index(["image", "held_slice"])
    for h in range(14):
        assert table.slice["T2", h] == h and table.residual_mm["T2", h] == 0
        ct = starts["CT"] + 2.2 * h
        assert table.slice["CT", h] == round(ct)
        assert table.residual_mm["CT", h] == pytest.approx(round(ct) - ct, abs=1e-6)
        assert table.position_mm["T1", h] == pytest.approx(ct)
    assert table.ncc_squared["CT"].between(0.2, 1).all()
    for values in found.summary["images"].values():
        if values["ncc_squared_before"] is not None:
            assert values["ncc_squared_after"] > values["ncc_squared_before"]
    assert found.summary["images"]["CT"]["ncc_squared_after"] is None


def test_tables_hold_every_candidate_and_their_best_is_chosen():
    images, _, starts, angles = subject(4)
    found = harmonize(images, "CT", range_degrees=8)
    for name in ("T1", "T2"):
        rows = found.angles[found.angles.image == name]
        assert rows.angle_degrees.tolist() == list(range(-8, 9))
        assert rows.angle_degrees[rows.ncc_squared.idxmax()] == angles[name]
    for name in ("CT", "T1"):
        rows = found.starts[found.starts.image == name]
        assert rows.start_slice[rows.ncc_squared.idxmax()] == starts[name]
    assert set(found.starts.image) == {"CT", "T1"}


def permuted(image, order, flips):
    """The same image in the world, with its file's axes in another order and direction."""
    return sitk.Flip(sitk.PermuteAxes(image, order), flips)


STORAGES = {
    "RAS": ([0, 1, 2], [True, True, False]),
    "slices from above": ([0, 1, 2], [False, False, True]),
    "LAI": ([0, 1, 2], [False, True, True]),
    "columns first": ([1, 0, 2], [False, True, False]),
}


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("stored", [["T1"], ["CT"], ["T2"], ["CT", "T1", "T2"]], ids="+".join)
def test_axes_of_the_files_change_nothing(storage, stored):
    images, truths, starts, angles = subject(5)
    order, flips = STORAGES[storage]
    for name in stored:
        images[name] = permuted(images[name], order, flips)
    found = harmonize(images, "CT", range_degrees=8)
    assert chosen(found, "angle_degrees") == angles
    for name in images:
        assert distance_mm(found.transforms[name], truths[name]) < 1e-6
        turned = name in stored and flips[2]
        expected = images[name].GetSize()[2] - 1 - starts[name] if turned else starts[name]
        assert found.summary["images"][name]["start_slice"] == expected


def test_slices_along_another_axis_of_the_file():
    images, truths, starts, angles = subject(6)
    images["T1"] = permuted(images["T1"], [2, 0, 1], [False, True, False])
    assert images["T1"].GetSize()[0] == 35
    found = harmonize(images, "CT", range_degrees=8)
    assert chosen(found, "angle_degrees") == angles
    assert chosen(found, "start_slice") == starts
    assert distance_mm(found.transforms["T1"], truths["T1"]) < 1e-6


def test_oblique_world():
    """All images turned in the world: the same angles about the turned slice normal."""
    images, truths, starts, angles = subject(7)
    turn = Rotation.from_rotvec([0.3, -0.4, 0.2]).as_matrix()
    for image in images.values():
        image.SetDirection((turn @ np.array(image.GetDirection()).reshape(3, 3)).ravel().tolist())
        image.SetOrigin((turn @ np.array(image.GetOrigin())).tolist())
    found = harmonize(images, "CT", range_degrees=8)
    assert chosen(found, "angle_degrees") == angles
    assert chosen(found, "start_slice") == starts
    world, straight = affine(turn, np.zeros(3)), affine(turn.T, np.zeros(3))
    for name in images:
        assert distance_mm(chain(world, found.transforms[name], straight), truths[name]) < 1e-6


def test_pixels_of_different_size():
    rng, body = np.random.default_rng(8), anatomy(8)
    fixed, _ = scan(Planted(pixels=(54, 36), spacing_mm=(3.0, 5.0), noise=0.02), body, rng)
    moving, truth = scan(
        Planted(pixels=(80, 60), spacing_mm=(2.5, 3.2), count=28, first_mm=6, angle_degrees=-5, noise=0.02), body, rng
    )
    found = harmonize({"CT": fixed, "MR": moving}, "CT", range_degrees=8)
    assert found.summary["images"]["MR"]["angle_degrees"] == -5
    assert distance_mm(found.transforms["MR"], truth) < 1e-6


def test_many_pixels_are_binned():
    rng, body = np.random.default_rng(9), anatomy(9)
    fixed, _ = scan(Planted(pixels=(402, 438), spacing_mm=(0.4, 0.4), count=8, distance_mm=3.0), body, rng)
    moving, truth = scan(
        Planted(pixels=(322, 351), spacing_mm=(0.5, 0.5), count=6, distance_mm=3.0, first_mm=3, angle_degrees=7),
        body,
        rng,
    )
    found = harmonize({"CT": fixed, "MR": moving}, "CT", range_degrees=9)
    assert distance_mm(found.transforms["MR"], truth) < 1e-6
    assert found.grid.size == (402, 438, 6)


def test_a_stack_that_begins_before_the_fixed_one():
    rng, body = np.random.default_rng(10), anatomy(10)
    fixed, _ = scan(Planted(count=24, noise=0.02), body, rng)
    moving, truth = scan(Planted(count=20, first_mm=-6, angle_degrees=3, noise=0.02, invert=True), body, rng)
    found = harmonize({"CT": fixed, "MR": moving}, "CT", range_degrees=6)
    assert found.summary["images"]["CT"]["start_slice"] == -6
    assert distance_mm(found.transforms["MR"], truth) < 1e-6
    assert found.summary["slices"] == 14
    assert found.slices.held_slice[found.slices.image == "CT"].tolist() == list(range(6, 20))
    np.testing.assert_allclose(found.grid.origin_mm, fixed.GetOrigin(), atol=1e-9)


def test_the_fixed_image_may_have_the_fewest_slices():
    rng, body = np.random.default_rng(11), anatomy(11)
    fixed, _ = scan(Planted(count=12, distance_mm=2.0), body, rng)
    moving, truth = scan(Planted(count=40, first_mm=-5, angle_degrees=-5), body, rng)
    found = harmonize({"CT": fixed, "MR": moving}, "CT", range_degrees=6)
    assert found.summary["held"] == "CT"
    assert chosen(found, "start_slice") == {"CT": 0, "MR": 5}
    assert distance_mm(found.transforms["MR"], truth) < 1e-6


@pytest.mark.parametrize("centre", ["world", "image"])
def test_centre_says_what_corresponds_in_the_plane(centre):
    """The moving image's pixels lie to one side, in one world with the fixed image's."""
    rng, body = np.random.default_rng(12), anatomy(12)
    fixed, _ = scan(Planted(count=20), body, rng)
    moving, truth = scan(Planted(count=16, first_mm=2, angle_degrees=4), body, rng)
    moving = moving[5:, :-3, :]
    found = harmonize({"CT": fixed, "MR": moving}, "CT", range_degrees=6, centre=centre)
    if centre == "world":
        assert distance_mm(found.transforms["MR"], truth) < 1e-6
    else:
        moved = found.transforms["MR"].TransformPoint(Grid.of(fixed).centre_mm.tolist())
        np.testing.assert_allclose(moved[:2], Grid.of(moving).centre_mm[:2], atol=1e-9)


@pytest.mark.parametrize("plane", ["coronal", "sagittal"])
def test_rotation_out_of_the_slice_plane(plane):
    rng, body = np.random.default_rng(13), anatomy(13)
    fixed, _ = scan(Planted(count=40, noise=0.01), body, rng)
    moving, truth = scan(Planted(count=30, first_mm=5, angle_degrees=-6, noise=0.01, invert=True), body, rng, plane)
    found = harmonize({"CT": fixed, "MR": moving}, "CT", plane=plane, range_degrees=8)
    assert found.summary["images"]["MR"]["angle_degrees"] == -6
    np.testing.assert_allclose(matrix_and_offset(found.transforms["MR"])[0], matrix_and_offset(truth)[0], atol=1e-9)
    assert distance_mm(found.transforms["MR"], truth) < 1.1


@pytest.mark.parametrize(("plane", "turned"), [("axial", [-1, 0, 0]), ("coronal", [0, 1, 0]), ("sagittal", [0, 0, 1])])
@pytest.mark.parametrize(
    "direction", [(1, 0, 0, 0, 1, 0, 0, 0, 1), (-1, 0, 0, 0, -1, 0, 0, 0, -1), (0, 1, 0, 0, 0, -1, 1, 0, 0)]
)
def test_angles_are_right_handed_about_superior_posterior_left(plane, turned, direction):
    """A quarter turn takes y to -x about z, leaves y about y, takes y to z about x, however the file is stored."""
    grid = Grid((4, 4, 4), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), direction)
    np.testing.assert_allclose(rotation_matrix(grid, plane, 90) @ [0, 1, 0], turned, atol=1e-12)


def test_start_scores_agree_with_a_direct_loop():
    matrix = np.random.default_rng(14).random((5, 12))
    matrix[2, 4] = np.nan
    starts = possible_starts(5, 12, 2.2, 1.0)
    assert starts.tolist() == list(range(-8, 12))
    scores = start_scores(matrix, 2.2, 1.0, starts)
    for start, score in zip(starts, scores, strict=True):
        values = []
        for h in range(5):
            position = start + 2.2 * h
            if 0 <= position <= 11:
                below = int(np.floor(position + 1e-9))
                fraction = max(position - below, 0) if position - below > 1e-9 else 0
                value = (1 - fraction) * matrix[h, below] + (fraction * matrix[h, below + 1] if fraction else 0)
                values += [] if np.isnan(value) else [value]
        if len(values) >= 2.5:
            assert score == pytest.approx(np.mean(values), abs=1e-9)
        else:
            assert np.isnan(score)
    assert np.isnan(scores).any() and np.isfinite(scores).sum() > 8


def test_starts_agree_with_all_other_stacks():
    """The held stack alone prefers A's slice 2 a little; B, whose start is plain, tells that it is 1."""
    grids = {
        name: Grid((9, 9, n), (1.0, 1.0, d), (0, 0, 0)) for name, n, d in (("H", 4, 2.0), ("A", 8, 1.0), ("B", 9, 1.0))
    }
    stacks = {name: Stack(None, grid, 2, True, grid.centre_mm) for name, grid in grids.items()}
    held_a, held_b, a_b = np.zeros((4, 8)), np.zeros((4, 9)), np.zeros((8, 9))
    for h in range(4):
        held_a[h, [1 + 2 * h, min(2 + 2 * h, 7)]] = 0.45, 0.5 if h < 3 else 0.45
        held_b[h, 2 + 2 * h] = 1
    a_b[np.arange(8), np.arange(8) + 1] = 0.9
    matrices = {("H", "A"): held_a, ("H", "B"): held_b, ("A", "B"): a_b}
    matrices |= {(b, a): matrix.T for (a, b), matrix in matrices.items()}
    alone = start_scores(held_a, 2.0, 1.0, [1, 2])
    assert alone[0] < alone[1]
    without_b = match_starts({name: stacks[name] for name in "HA"}, "H", matrices)
    assert without_b["A"].start == 2
    found = match_starts(stacks, "H", matrices)
    assert {name: match.start for name, match in found.items()} == {"H": 0, "A": 1, "B": 2}


def test_without_a_preference_nothing_is_rotated():
    """A body that is the same in all directions and in all slices: every angle and start is a tie."""
    grid = Grid((31, 31, 8), (4.0, 4.0, 3.0), (0.0, 0.0, 0.0))
    radius = np.linalg.norm((grid.points_mm() - grid.centre_mm)[..., :2], axis=-1)
    image = to_image(np.exp(-((radius / 30) ** 2)).astype(np.float32), grid)
    found = harmonize({"CT": image, "MR": image}, "CT", range_degrees=5)
    assert found.summary["images"]["MR"]["angle_degrees"] == 0
    assert found.summary["images"]["MR"]["start_slice"] == 0


@pytest.mark.parametrize("planted_degrees", [2.3, -1.6])
def test_a_second_search_finds_parts_of_a_degree(planted_degrees):
    body, rng = anatomy(5), np.random.default_rng(5)
    fixed = scan(Planted(count=20), body, rng)[0]
    turned, _ = scan(Planted(count=20, angle_degrees=planted_degrees, invert=True, noise=0.01), body, rng)
    images = {"CT": fixed, "T1": turned}
    coarse = harmonize(images, "CT", range_degrees=4)
    fine = harmonize(images, "CT", range_degrees=4, refine_degrees=0.1)
    assert chosen(coarse, "angle_degrees")["T1"] == round(planted_degrees)
    assert chosen(fine, "angle_degrees")["T1"] == pytest.approx(planted_degrees, abs=0.15)
    pd.testing.assert_frame_equal(coarse.angles, fine.angles)


def test_best_angle_at_the_edge_is_warned_of(caplog):
    rng, body = np.random.default_rng(15), anatomy(15)
    fixed, _ = scan(Planted(count=12), body, rng)
    moving, _ = scan(Planted(count=12, angle_degrees=7), body, rng)
    harmonize({"CT": fixed, "MR": moving}, "CT", range_degrees=5)
    assert "MR: the best angle, 5°, is at the edge" in caplog.text
    caplog.clear()
    harmonize({"CT": fixed, "MR": moving}, "CT", range_degrees=8)
    assert not caplog.text


def test_what_cannot_be_harmonized_is_refused():
    rng, body = np.random.default_rng(16), anatomy(16)
    fixed, _ = scan(Planted(count=12), body, rng)
    with pytest.raises(UserError, match=r"'CT', which is to stay fixed, is missing: found T1, T2"):
        harmonize({"T1": fixed, "T2": fixed}, "CT")
    with pytest.raises(UserError, match=r"MR: no angle makes it agree with CT: .* 0\.0000"):
        harmonize({"CT": fixed, "MR": fixed * 0 + 1}, "CT", range_degrees=3)
    beside = sitk.Image(fixed)
    beside.SetOrigin((1000.0, 0.0, 0.0))
    with pytest.raises(UserError, match="MR: it does not overlap with CT"):
        harmonize({"CT": fixed, "MR": beside}, "CT", range_degrees=3, centre="world")


def write_subject(tmp_path, enabled):
    """Run the rule's script on a subject; returns its images and the folder with its outputs."""
    images, truths, starts, angles = subject(17)
    for name, image in images.items():
        write_image(image * 200 - 50, tmp_path / f"{name}.nii.gz")
    out = tmp_path / "out"
    harmonize_subject.main(
        subject="P07",
        images={name: str(tmp_path / f"{name}.nii.gz") for name in images},
        intensities={name: {"percentiles": [0.5, 99.5]} for name in images} | {"CT": {"window": [-50, 160]}},
        settings={
            "enabled": enabled, "fixed": "CT", "plane": "axial",
            "range_degrees": 8, "step_degrees": 1, "centre": "image",
        },
        output=str(out),
    )  # fmt: skip
    return images, truths, starts, angles, out


def test_script_writes_everything(tmp_path):
    images, truths, starts, angles, out = write_subject(tmp_path, enabled=True)
    summary = json.loads((out / "harmonize.json").read_text())
    assert {name: summary["images"][name]["start_slice"] for name in images} == starts
    assert {name: summary["images"][name]["angle_degrees"] for name in images} == angles
    assert (summary["subject"], summary["held"], summary["enabled"]) == ("P07", "T2", True)
    for name in images:
        assert distance_mm(read_affine(out / f"{name}.tfm"), truths[name]) < 1e-4
    stacks = {name: sitk.ReadImage(str(out / f"{name}.nii.gz")) for name in images}
    assert {stack.GetSize() for stack in stacks.values()} == {(40, 44, 14)}
    assert to_array(stacks["CT"]).max() > 100  # its own units, not the prepared ones
    assert pd.read_csv(out / "angles.tsv", sep="\t").shape == (34, 3)
    assert pd.read_csv(out / "slices.tsv", sep="\t").shape == (42, 6)
    assert list(pd.read_csv(out / "starts.tsv", sep="\t")) == ["image", "start_slice", "ncc_squared"]


def test_script_leaves_everything_if_harmonizing_is_off(tmp_path):
    images, *_, out = write_subject(tmp_path, enabled=False)
    for name in images:
        matrix, offset = matrix_and_offset(read_affine(out / f"{name}.tfm"))
        assert np.array_equal(matrix, np.eye(3)) and not offset.any()
        before, after = (sitk.ReadImage(str(folder / f"{name}.nii.gz")) for folder in (tmp_path, out))
        assert np.array_equal(to_array(before), to_array(after))
        assert Grid.of(before).difference_from(Grid.of(after)) is None
    assert (out / "angles.tsv").read_text() == "image\tangle_degrees\tncc_squared\n"
    assert json.loads((out / "harmonize.json").read_text())["enabled"] is False


def test_script_names_the_subject_of_an_error_and_goes_on(tmp_path, caplog):
    images, *_ = subject(18)
    write_image(images["T1"], tmp_path / "T1.nii.gz")
    settings, out = {"enabled": True, "fixed": "CT"}, tmp_path / "out"
    harmonize_subject.main("P08", {"T1": tmp_path / "T1.nii.gz"}, {"T1": {"window": [0, 1]}}, settings, out)
    assert "subject P08: harmonizing failed: The image 'CT'" in caplog.text
    assert read_json(out / "harmonize.json")["failed"].startswith("The image 'CT'")
    assert read_affine(out / "T1.tfm").TransformPoint((1.0, 2.0, 3.0)) == (1.0, 2.0, 3.0)
