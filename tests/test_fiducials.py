"""Fiducials give the transform that they were made with, and the simulated errors are those of the theory."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import register_points
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from neuronavigation import main as write_neuronavigation

from cohortmorph import UserError
from cohortmorph.experiments import neuronavigation
from cohortmorph.registration import fiducials
from cohortmorph.spatial import displacement, geometry
from cohortmorph.spatial.geometry import Grid, matrix_and_offset

# Five points on a head that lie in no plane, and their first four in one.
POINTS = np.array([[70.0, 10, 20], [-65, 15, 25], [5, -90, 30], [0, 95, 15], [10, 5, 88]])
FLAT = POINTS * [1, 1, 0] + [0, 0, 40]
MIRROR = np.diag([-1.0, 1, 1])
unit_quaternions = arrays(float, 4, elements=st.floats(-1, 1)).filter(lambda q: np.linalg.norm(q) > 0.1)
shifts_mm = arrays(float, 3, elements=st.floats(-2000, 2000))
noises_mm = arrays(float, POINTS.shape, elements=st.floats(-3, 3))


def rotation(quaternion):
    """Return the rotation of a quaternion (w, x, y, z), by Rodrigues' formula for its axis and angle."""
    w, *axis = quaternion / np.linalg.norm(quaternion)
    sine = np.linalg.norm(axis)
    if sine < 1e-12:
        return np.eye(3)
    x, y, z = np.array(axis) / sine
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    angle = 2 * np.arctan2(sine, w)
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


def kabsch(fixed, moving):
    """Return (matrix, offset) of the best rigid transform by the formula of the textbooks, independent of scipy."""
    u, _, vt = np.linalg.svd((fixed - fixed.mean(0)).T @ (moving - moving.mean(0)))
    matrix = vt.T @ np.diag([1, 1, np.sign(np.linalg.det(vt.T @ u.T))]) @ u.T
    return matrix, moving.mean(0) - matrix @ fixed.mean(0)


def squared_error(matrix, offset, fixed, moving):
    return ((fixed @ matrix.T + offset - moving) ** 2).sum()


@given(unit_quaternions, shifts_mm, st.sampled_from([POINTS, POINTS[:3], FLAT]))
@settings(deadline=None, max_examples=60)
def test_rigid_finds_any_rotation_and_translation_from_fixed_to_moving(quaternion, shift_mm, fixed):
    expected = rotation(quaternion)
    moving = fixed @ expected.T + shift_mm
    transform = fiducials.fit_rigid(fixed, moving)
    matrix, offset = matrix_and_offset(transform)
    np.testing.assert_allclose(matrix, expected, atol=1e-9)
    np.testing.assert_allclose(offset, shift_mm, atol=1e-6)
    np.testing.assert_allclose(transform.TransformPoint(fixed[0]), moving[0], atol=1e-6)
    assert fiducials.fre_mm(transform, fixed, moving) < 1e-6


@given(unit_quaternions, shifts_mm, noises_mm, st.sampled_from([POINTS, FLAT]), st.sampled_from([np.eye(3), MIRROR]))
@settings(deadline=None, max_examples=80)
def test_rigid_never_mirrors_and_is_the_formula_of_the_textbooks(quaternion, shift_mm, noise_mm, fixed, mirror):
    moving = fixed @ mirror @ rotation(quaternion).T + shift_mm + noise_mm
    matrix, offset = matrix_and_offset(fiducials.fit_rigid(fixed, moving))
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(3), atol=1e-9)
    assert np.linalg.det(matrix) == pytest.approx(1, abs=1e-9)
    # Mirrored points may have two best rotations that are nearly as good: compared is what is minimized.
    assert squared_error(matrix, offset, fixed, moving) == pytest.approx(
        squared_error(*kabsch(fixed, moving), fixed, moving), rel=1e-9, abs=1e-6
    )


def test_no_rotation_nearby_fits_better():
    moving = POINTS @ rotation(np.array([0.9, 0.1, -0.3, 0.2])).T + np.random.default_rng(1).normal(size=POINTS.shape)
    matrix, offset = matrix_and_offset(fiducials.fit_rigid(POINTS, moving))
    best = squared_error(matrix, offset, POINTS, moving)
    for axis in np.eye(3):
        for angle in (-0.01, 0.01):
            turned = matrix @ rotation(np.array([1, *(angle * axis)]))
            shifted = moving.mean(0) - turned @ POINTS.mean(0)
            assert squared_error(turned, shifted, POINTS, moving) > best
        assert squared_error(matrix, offset + 0.01 * axis, POINTS, moving) > best


@given(arrays(float, (3, 3), elements=st.floats(-0.3, 0.3)), unit_quaternions, shifts_mm)
@settings(deadline=None, max_examples=60)
def test_affine_finds_any_affine_transform(change, quaternion, shift_mm):
    expected = rotation(quaternion) @ (np.eye(3) + change)
    if np.linalg.det(expected) < 0.05:
        return
    matrix, offset = matrix_and_offset(fiducials.fit_affine(POINTS, POINTS @ expected.T + shift_mm))
    np.testing.assert_allclose(matrix, expected, atol=1e-9)
    np.testing.assert_allclose(offset, shift_mm, atol=1e-6)


def test_affine_is_the_least_squares_solution():
    moving = POINTS * [1.1, 0.9, 1] + np.random.default_rng(1).normal(size=POINTS.shape)
    matrix, offset = matrix_and_offset(fiducials.fit_affine(POINTS, moving))
    left = POINTS @ matrix.T + offset - moving
    # The residuals of a least-squares fit are orthogonal to all that the fit could change.
    np.testing.assert_allclose(np.c_[POINTS, np.ones(len(POINTS))].T @ left, 0, atol=1e-8)
    assert np.abs(left).max() > 0.01


@pytest.mark.parametrize(
    ("kind", "fixed", "moving", "said"),
    [
        ("rigid", POINTS[:2], POINTS[:2], "found 2 fiducials; a registration of kind `rigid` needs at least 3"),
        ("affine", POINTS[:3], POINTS[:3], "found 3 fiducials; a registration of kind `affine` needs at least 4"),
        ("rigid", POINTS[:1] * [[1], [2], [3.0]], POINTS[:3], "fixed image lie in one line"),
        ("rigid", POINTS[:3], POINTS[:1] * [[1], [2], [3.0]], "moving image lie in one line"),
        ("rigid", np.ones((4, 3)), POINTS[:4], "fixed image lie in one line"),
        ("affine", FLAT, POINTS, "fixed image lie in one plane"),
        ("affine", POINTS, FLAT, "moving image lie in one plane"),
        ("rigid", POINTS, np.where(POINTS == 88, np.nan, POINTS), "moving image have coordinates that are not finite"),
        ("affine", np.where(POINTS == 88, np.inf, POINTS), POINTS, "fixed image have coordinates that are not finite"),
        ("rigid", POINTS, POINTS[:4], r"shapes \(5, 3\) \(fixed\) and \(4, 3\) \(moving\)"),
        ("rigid", POINTS[:, :2], POINTS[:, :2], "three coordinates"),
        ("affine", POINTS, POINTS @ MIRROR, "mirrors the patient"),
    ],
)
def test_fiducials_that_do_not_determine_the_transform_are_refused_in_words(kind, fixed, moving, said):
    with pytest.raises(UserError, match=said):
        fiducials.fit(kind, fixed, moving)


@pytest.mark.parametrize("scale", [1, 0.01])
def test_fiducials_of_small_animals_are_as_good_as_those_of_patients(scale):
    for kind in fiducials.POINTS_NEEDED:
        fiducials.fit(kind, scale * POINTS, scale * POINTS)


def test_exchanged_sides_are_noticed():
    assert fiducials.is_mirrored(POINTS, POINTS @ MIRROR)
    assert not fiducials.is_mirrored(POINTS, POINTS @ rotation(np.array([0.1, 1, 0.3, 0])).T)
    # A plane that is turned over is the same as a mirrored one: only noise would tell them apart.
    uneven = np.array([[0, 0, 0.1], [0, 0, -0.2], [0, 0, 0.3], [0, 0, -0.1], [0, 0, 0.2]])
    assert not fiducials.is_mirrored(FLAT + uneven, FLAT @ MIRROR + uneven)


def test_fre_is_the_root_mean_square_of_the_distances():
    moving = POINTS.copy()
    moving[0] += [3, 0, 0]
    moving[1] += [0, 4, 0]
    assert fiducials.fre_mm(sitk.AffineTransform(3), POINTS, moving) == pytest.approx(np.sqrt((9 + 16) / 5))


def test_the_predictions_are_the_formulas_by_hand():
    # Ends of a cross in the plane z = 0: the principal axes are x, y, z, and f² is 10 / 2, 40 / 2 and their sum.
    cross = np.array([[0, 10**0.5, 0], [0, -(10**0.5), 0], [40**0.5, 0, 0], [-(40**0.5), 0, 0]])
    r = np.array([1.0, 2, 3])
    by_hand = 3 / 4 * (1 + ((4 + 9) / 5 + (1 + 9) / 20 + (1 + 4) / 25) / 3)
    turn, shift = rotation(np.array([0.8, 0.2, -0.5, 0.3])), np.array([100, -1000, 7])
    found = fiducials.expected_tre_squared_mm2(turn @ r + shift, cross @ turn.T + shift, 3.0)
    assert found == pytest.approx(by_hand)
    both = fiducials.expected_tre_squared_mm2(np.array([r, 0 * r]), np.array([cross, cross]), 3.0)
    np.testing.assert_allclose(both, [by_hand, 3 / 4])
    assert fiducials.expected_fre_squared_mm2(8, 12.0) == pytest.approx(9)


# Neuronavigation -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def simulated():
    """Return 2000 simulated patients with six fiducials, dropped down to three."""
    return neuronavigation.drop_worst(6, 1.0, 2000, np.random.default_rng(5))


def test_fiducials_lie_on_the_upper_half_of_the_head_and_apart():
    points = neuronavigation.on_the_head(500, 6, np.random.default_rng(1))
    np.testing.assert_allclose(((points / neuronavigation.HEAD_MM) ** 2).sum(axis=2), 1)
    assert points[..., 2].min() >= 0
    apart_mm = np.linalg.norm(points[:, :, None] - points[:, None], axis=3) + 1e9 * np.eye(6)
    assert np.median(apart_mm.min(axis=(1, 2))) > 50
    assert len(np.unique(points[:, 0, 0])) == 500


def test_registering_many_draws_is_registering_each():
    rng = np.random.default_rng(2)
    fixed = neuronavigation.on_the_head(20, 5, rng)
    moving = fixed @ rotation(np.array([0.4, 1, -0.5, 0.2])).T + [3, -200, 50] + rng.normal(scale=4, size=fixed.shape)
    moving[:5] = (fixed @ MIRROR)[:5] + rng.normal(size=(5, 5, 3))
    rotations, offsets_mm = neuronavigation.fit_rigid_draws(fixed, moving)
    for n in range(20):
        matrix, offset_mm = matrix_and_offset(fiducials.fit_rigid(fixed[n], moving[n]))
        np.testing.assert_allclose(rotations[n], matrix, atol=1e-6)
        np.testing.assert_allclose(offsets_mm[n], offset_mm, atol=1e-4)


@pytest.mark.parametrize(("number", "sigma_mm"), [(4, 0.5), (4, 2.0), (8, 1.0), (12, 2.0)])
def test_without_dropping_the_means_are_within_two_percent_of_fitzpatrick_s_predictions(number, sigma_mm):
    # So many draws that two percent are about four standard errors.
    drawn = neuronavigation.drop_worst(number, sigma_mm, 40_000, np.random.default_rng(11), fewest=number)
    summary = neuronavigation.summarize(drawn, number, sigma_mm)
    assert len(summary) == len(neuronavigation.TARGETS_LPS_MM)
    for error in ("fre", "tre"):
        assert summary[f"{error}_standard_error_percent"].max() < 0.6
        assert summary[f"{error}_deviation_percent"].abs().max() < 2
        ratio = summary[f"{error}_mean_squared_mm2"] / summary[f"{error}_predicted_squared_mm2"]
        np.testing.assert_allclose(100 * (ratio - 1), summary[f"{error}_deviation_percent"])
    assert summary.correlation_fre_tre.abs().max() < 0.03


def test_dropping_the_worst_always_lowers_fre_and_on_average_raises_tre(simulated):
    summary = neuronavigation.summarize(simulated, 6, 1.0)
    assert list(summary.dropped.unique()) == [0, 1, 2, 3]
    assert list(summary.registered) == [6 - dropped for dropped in summary.dropped]
    assert (summary[summary.dropped > 0].fre_fell_percent == 100).all()  # in each single draw: it cannot do else
    assert summary[summary.dropped > 0].tre_rose_percent.between(55, 80).all()
    for _, target in summary.groupby("target"):
        assert (np.diff(target.fre_mean_squared_mm2) < 0).all()
        assert (np.diff(target.tre_mean_squared_mm2) > 0).all()
    assert summary.correlation_fre_tre.abs().max() < 0.15


def test_the_fiducial_that_is_dropped_has_the_largest_residual():
    """One draw, step by step with the single registration."""
    rng = np.random.default_rng(7)
    fixed = neuronavigation.on_the_head(1, 6, rng)
    moving = fixed + rng.normal(scale=1.0, size=fixed.shape)
    table = neuronavigation.drop_worst(6, 1.0, 1, np.random.default_rng(7))
    fixed, moving = fixed[0], moving[0]
    for dropped in range(4):
        transform = fiducials.fit_rigid(fixed, moving)
        row = table[(table.dropped == dropped) & (table.target == "deep")].iloc[0]
        assert row.fre_mm == pytest.approx(fiducials.fre_mm(transform, fixed, moving), abs=1e-6)
        target = neuronavigation.TARGETS_LPS_MM["deep"]
        assert row.tre_mm == pytest.approx(
            np.linalg.norm(np.array(transform.TransformPoint(target)) - target), abs=1e-6
        )
        residuals = [
            np.linalg.norm(np.array(transform.TransformPoint(x)) - y) for x, y in zip(fixed, moving, strict=True)
        ]
        fixed, moving = (np.delete(points, np.argmax(residuals), axis=0) for points in (fixed, moving))


def test_the_script_writes_the_same_table_and_pictures_for_the_same_seed(tmp_path, monkeypatch):
    monkeypatch.setattr(neuronavigation, "FIDUCIALS", (4, 5))
    monkeypatch.setattr(neuronavigation, "SHOWN_FIDUCIALS", (5,))
    for folder, seed in {"one": 1, "again": 1, "other": 2}.items():
        pictures = [tmp_path / folder / name for name in ("n.png", "n.svg")]
        write_neuronavigation(200, seed, tmp_path / folder / "n.tsv", pictures)
    for name in ("n.tsv", "n.png", "n.svg"):
        one, again, other = ((tmp_path / folder / name).read_bytes() for folder in ("one", "again", "other"))
        assert one == again != other
    table = pd.read_csv(tmp_path / "one" / "n.tsv", sep="\t")
    keys = ["sigma_mm", "fiducials", "dropped", "target"]
    assert not table.duplicated(keys).any()
    assert len(table) == len(neuronavigation.SIGMAS_MM) * (2 + 3) * len(neuronavigation.TARGETS_LPS_MM)


def test_the_figure_shows_every_simulated_and_predicted_value():
    summary = pd.concat(
        neuronavigation.summarize(neuronavigation.drop_worst(n, 1.0, 100, np.random.default_rng(1)), n, 1.0)
        for n in (5, 8)
    )
    shown = {n: neuronavigation.drop_worst(n, 1.0, 100, np.random.default_rng(1)) for n in (5, 8)}
    figure = neuronavigation.figure(summary, shown)
    panels = figure.axes
    assert [axes.get_xlabel() for axes in panels] == ["fiducials dropped, the worst first"] * 2 + ["FRE (mm)"] * 2
    for axes, number in zip(panels[:2], shown, strict=True):
        rows = summary[(summary.fiducials == number) & (summary.target == "deep")]
        for line, column in zip(axes.lines, ["fre_mean", "fre_predicted", "tre_mean", "tre_predicted"], strict=True):
            np.testing.assert_allclose(line.get_ydata(), np.sqrt(rows[f"{column}_squared_mm2"]))
            assert axes.get_ylim()[0] == 0 and axes.get_ylim()[1] > max(line.get_ydata())
            assert (line.get_linestyle() == "--") == ("predicted" in column)
    for axes, (_, simulated) in zip(panels[2:], shown.items(), strict=True):
        drawn = simulated[(simulated.dropped == 0) & (simulated.target == "deep")]
        np.testing.assert_allclose(axes.collections[0].get_offsets(), drawn[["fre_mm", "tre_mm"]])
        assert axes.get_xlim()[0] == 0 and axes.get_xlim()[1] > drawn.fre_mm.max()


# A pair ---------------------------------------------------------------------------------------------------------------


def write_points(path, points):
    rows = ["\t".join([f"F{n}", *map(repr, map(float, point))]) for n, point in enumerate(points)]
    path.write_text("\n".join(["landmark\tx_lps_mm\ty_lps_mm\tz_lps_mm", *rows]) + "\n")
    return str(path)


@pytest.fixture
def pair(tmp_path):
    """Return the arguments of the script for a pair on an oblique grid whose truth is a rigid transform."""
    tilt = rotation(np.array([0.95, 0.1, 0.2, -0.1]))
    grid = Grid((9, 8, 7), (20.0, 25.0, 15.0), (-80.0, -90.0, 10.0), tuple(tilt.ravel()))
    geometry.write_image(geometry.to_image(np.zeros(grid.size, dtype=np.float32), grid), tmp_path / "fixed.nii.gz")
    turn, shift = rotation(np.array([0.98, 0, 0.05, 0.1])), np.array([12.0, -30, 400])
    return {
        "pair": "P01-T1_to_P01-CT",
        "methods": [
            {"method": name, "model": model, "displacement": str(tmp_path / name / "displacement.nii.gz")}
            for name, model in (("points", "rigid"), ("points-affine", "affine"))
        ],
        "fixed": str(tmp_path / "fixed.nii.gz"),
        "fixed_fiducials": write_points(tmp_path / "f.tsv", POINTS),
        "moving_fiducials": write_points(tmp_path / "m.tsv", POINTS @ turn.T + shift),
    }, (turn, shift)


def test_the_displacement_of_each_method_is_the_truth_on_the_fixed_grid(pair):
    arguments, (turn, shift) = pair
    register_points.main(**arguments)
    grid = geometry.read_grid(arguments["fixed"])
    x = grid.points_mm()
    for path in [method["displacement"] for method in arguments["methods"]]:
        u = geometry.to_array(displacement.read(path, grid))
        np.testing.assert_allclose(u, x @ turn.T + shift - x, atol=1e-3)
        how = json.loads((Path(path).parent / "registration.json").read_text())
        assert set(how) == {"seconds", "cpu_seconds", "threads", "fre_mm", "fiducials"}
        assert (how["threads"], how["fiducials"]) == (1, 5) and how["fre_mm"] < 1e-3 and how["seconds"] > 0


def test_the_kind_decides_and_fre_is_in_registration_json(pair, tmp_path):
    arguments, _ = pair
    stretched = POINTS * [1.2, 1, 1]
    arguments["moving_fiducials"] = write_points(tmp_path / "m.tsv", stretched)
    register_points.main(**arguments)
    rigid, affine = (
        json.loads((tmp_path / name / "registration.json").read_text()) for name in ("points", "points-affine")
    )
    matrix, offset = kabsch(POINTS, stretched)
    assert rigid["fre_mm"] == pytest.approx(np.sqrt(squared_error(matrix, offset, POINTS, stretched) / 5), rel=1e-4)
    assert rigid["fre_mm"] > 3 and affine["fre_mm"] < 1e-3


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"fixed_fiducials": ""}, "the fixed image has no fiducials"),
        ({"fixed_fiducials": "", "moving_fiducials": []}, "the fixed and the moving image has no fiducials"),
        ({"fixed_fiducials": "none.tsv"}, "the fixed image's fiducials: this landmark file does not exist"),
    ],
)
def test_a_pair_without_fiducials_is_recorded_as_a_failure(pair, tmp_path, changes, said, caplog):
    arguments, _ = pair
    register_points.main(**arguments | changes)
    for method in ("points", "points-affine"):
        facts = json.loads((tmp_path / method / "registration.json").read_text())
        assert set(facts) == {"failed"} and said in facts["failed"]
        assert displacement.read_unless_failed(tmp_path / method / "displacement.nii.gz") is None
        assert f"P01-T1_to_P01-CT, method {method} failed" in caplog.text


def test_too_few_fiducials_for_the_affine_method_fail_it_alone(pair, tmp_path):
    arguments, _ = pair
    for role in ("fixed", "moving"):
        arguments[f"{role}_fiducials"] = write_points(tmp_path / f"{role}.tsv", POINTS[:3])
    register_points.main(**arguments)
    rigid, affine = (
        json.loads((tmp_path / name / "registration.json").read_text()) for name in ("points", "points-affine")
    )
    assert "found 3 fiducials" in affine["failed"] and rigid["fiducials"] == 3


def test_mirrored_fiducials_are_said_in_the_log(pair, tmp_path, caplog):
    arguments, _ = pair
    arguments["methods"] = arguments["methods"][:1]
    register_points.main(**arguments)
    assert "mirrored" not in caplog.text
    arguments["moving_fiducials"] = write_points(tmp_path / "m.tsv", POINTS @ MIRROR)
    register_points.main(**arguments)
    assert "fit better mirrored" in caplog.text
