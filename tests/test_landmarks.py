"""Landmarks in every format arrive in LPS mm, and what cannot be trusted is refused."""

import json
import logging

import numpy as np
import pandas as pd
import pytest

from cohortmorph import UserError
from cohortmorph.spatial import landmarks
from cohortmorph.spatial.geometry import Grid

POINTS = np.array([[-36.351, -36.974, -1204.5], [98.883, -26.046, -1324.5]])
RAS = POINTS * [-1, -1, 1]
FCSV_COLUMNS = "# columns = id,x,y,z,ow,ox,oy,oz,vis,sel,lock,label,desc,associatedNodeID"


def elastix(kind="point", count="2", points=POINTS):
    return "\n".join([kind, count, *(" ".join(map(str, point)) for point in points)]) + "\n"


def table_text(frame, points, separator, ids=("a", "b")):
    header = separator.join(["landmark", *(f"{axis}_{frame}_mm" for axis in "xyz")])
    return "\n".join([header, *(separator.join([name, *map(str, p)]) for name, p in zip(ids, points, strict=True))])


def fcsv(system, points=POINTS, tail=""):
    rows = [f"{n},{x},{y},{z},0,0,0,1,1,1,0,{'ab'[n]},,{tail}" for n, (x, y, z) in enumerate(points)]
    return "\n".join(["# Markups fiducial file version = 4.11", f"# CoordinateSystem = {system}", FCSV_COLUMNS, *rows])


def markups(system="LPS", points=POINTS, kind="Fiducial", **more):
    points = [
        {"id": str(n), "label": "ab"[n], "position": list(p), "positionStatus": "defined"} for n, p in enumerate(points)
    ]
    return {"markups": [{"type": kind, "coordinateSystem": system, "controlPoints": points} | more]}


def write(folder, name, text):
    (folder / name).write_text(text if isinstance(text, str) else json.dumps(text))
    return folder / name


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("p.txt", elastix()),
        ("p.tsv", table_text("lps", POINTS, "\t")),
        ("p.csv", table_text("lps", POINTS, ",")),
        ("p.csv", table_text("ras", RAS, ",")),
        ("p.csv", "\ufeff" + table_text("ras", RAS, ",")),
        ("p.fcsv", fcsv("LPS")),
        ("p.fcsv", fcsv("1")),
        ("p.fcsv", fcsv("RAS", RAS)),
        ("p.fcsv", fcsv("0", RAS)),
        ("p.fcsv", fcsv("LPS", tail=",2,0")),
        ("p.mrk.json", markups("LPS")),
        ("p.mrk.json", markups("RAS", RAS)),
        ("p.mrk.json", markups("LPS", coordinateUnits="mm")),
    ],
)
def test_every_format_arrives_in_lps(tmp_path, name, text):
    table = landmarks.read(write(tmp_path, name, text))
    np.testing.assert_allclose(landmarks.points_lps_mm(table), POINTS)
    assert list(table.columns) == ["landmark", "x_mm", "y_mm", "z_mm"]
    assert list(table.landmark) == (["", ""] if name.endswith(".txt") else ["a", "b"])


def test_each_list_of_a_markups_file_has_its_own_frame(tmp_path):
    first, second = markups("LPS", POINTS[:1]), markups("RAS", RAS)
    second["markups"][0]["controlPoints"] = second["markups"][0]["controlPoints"][1:]
    both = {"markups": first["markups"] + second["markups"]}
    np.testing.assert_allclose(landmarks.points_lps_mm(landmarks.read(write(tmp_path, "p.mrk.json", both))), POINTS)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("p.txt", elastix("index"), "voxel indices"),
        ("p.txt", elastix("2", "1 2 3"), "expected `point`"),
        ("p.txt", "", "expected `point`"),
        ("p.txt", elastix(count="3"), "promises 3 points, but 2"),
        ("p.txt", elastix(points=POINTS[:, :2]), "three numbers"),
        ("p.txt", elastix(points=[[1, 2, "nan"], [1, 2, 3]]), "point 1: expected three finite numbers"),
        ("p.txt", elastix(count="0", points=[]), "no landmark"),
        ("p.csv", "x,y,z\n1,2,3\n", "frame must be stated"),
        ("p.csv", "x_mm,y_mm,z_mm\n1,2,3\n", "frame must be stated"),
        ("p.csv", table_text("lps", POINTS, "\t"), "frame must be stated"),
        ("p.csv", "x_lps_mm,y_ras_mm,z_lps_mm\n1,2,3\n", "frame must be stated"),
        ("p.csv", ",".join(f"{a}_{f}_mm" for f in ("lps", "ras") for a in "xyz") + "\n1,2,3,4,5,6\n", "stated"),
        ("p.csv", "", "not readable as a table"),
        ("p.csv", "x_lps_mm,y_lps_mm,z_lps_mm\n1,2,3\n4,,6\n", "point 2"),
        ("p.csv", table_text("lps", POINTS, ",", ("a", "a")), "landmark a stands there more than once"),
        ("p.csv", table_text("lps", POINTS, ",", ("a", "")), "point 2 has no id"),
        ("p.fcsv", fcsv("IJK"), "voxel indices"),
        ("p.fcsv", fcsv("2"), "voxel indices"),
        ("p.fcsv", fcsv("LPS").replace("# CoordinateSystem = LPS\n", ""), "the frame is None"),
        ("p.fcsv", fcsv("LPS").replace(FCSV_COLUMNS + "\n", ""), "columns"),
        ("p.fcsv", fcsv("LPS") + "\n2,1,2", "point 3 has fewer values"),
        ("p.mrk.json", markups("IJK"), "voxel indices"),
        ("p.mrk.json", markups(None), "the frame is None"),
        ("p.mrk.json", markups(kind="ROI"), "type ROI"),
        ("p.mrk.json", markups(coordinateUnits="um"), "in um; expected mm"),
        ("p.mrk.json", markups(points=POINTS[:, :2]), "position of three numbers"),
        ("p.json", "[1, 2]", "not a markups file"),
        ("p.json", "{", "not a markups file"),
        ("p.vtk", "", "suffix '.vtk'"),
    ],
)
def test_what_cannot_be_trusted_is_refused_by_name(tmp_path, name, text, said):
    path = write(tmp_path, name, text)
    with pytest.raises(UserError) as error:
        landmarks.read(path)
    assert said in str(error.value) and str(path) in str(error.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        landmarks.read(tmp_path / "none.tsv")


@pytest.mark.parametrize("kind", ["mrk.json", "fcsv"])
def test_points_without_a_position_are_left_out_and_said(tmp_path, caplog, kind):
    if kind == "mrk.json":
        content = markups()
        content["markups"][0]["controlPoints"][0] |= {"positionStatus": "undefined", "position": [0, 0, 0]}
    else:
        lines = fcsv("LPS", tail=",2,0").splitlines()
        content = "\n".join([*lines[:3], lines[3].removesuffix(",2,0") + ",0,0", lines[4]])
    with caplog.at_level(logging.WARNING, logger="cohortmorph"):
        table = landmarks.read(write(tmp_path, f"p.{kind}", content))
    assert list(table.landmark) == ["b"]
    assert "1 landmarks without a position: a" in caplog.text


def test_pairs_match_by_id_in_any_order(tmp_path):
    fixed = write(tmp_path, "f.tsv", table_text("lps", POINTS, "\t"))
    moving = write(tmp_path, "m.csv", table_text("ras", RAS[::-1], ",", ("b", "a")))
    fixed, moving = landmarks.read_pair(fixed, moving)
    assert list(fixed.landmark) == list(moving.landmark) == ["a", "b"]
    np.testing.assert_allclose(landmarks.points_lps_mm(moving), POINTS)


def test_pairs_without_ids_match_by_row(tmp_path):
    fixed = write(tmp_path, "f.txt", elastix())
    moving = write(tmp_path, "m.txt", elastix(points=POINTS + 1))
    fixed, moving = landmarks.read_pair(fixed, moving)
    assert list(fixed.landmark) == list(moving.landmark) == ["1", "2"]
    np.testing.assert_allclose(landmarks.points_lps_mm(moving) - landmarks.points_lps_mm(fixed), 1)


def test_pairs_where_one_file_has_ids_take_them(tmp_path):
    fixed, moving = landmarks.read_pair(write(tmp_path, "f.txt", elastix()), write(tmp_path, "m.fcsv", fcsv("LPS")))
    assert list(fixed.landmark) == list(moving.landmark) == ["a", "b"]


def test_pairs_with_other_ids_or_counts_are_refused(tmp_path):
    fixed = write(tmp_path, "f.tsv", table_text("lps", POINTS, "\t"))
    moving = write(tmp_path, "m.tsv", table_text("lps", POINTS, "\t", ("a", "c")))
    with pytest.raises(UserError, match=r"only in the first: b\n  only in the second: c"):
        landmarks.read_pair(fixed, moving)
    three = write(tmp_path, "m.txt", elastix(count="3", points=[*POINTS, POINTS[0]]))
    with pytest.raises(UserError, match=r"2 landmarks, .* has 3 landmarks"):
        landmarks.read_pair(fixed, three)


def test_rows_do_not_match_once_an_undefined_point_was_left_out(tmp_path):
    content = markups()
    content["markups"][0]["controlPoints"][0] |= {"positionStatus": "undefined"}
    fixed, moving = (
        write(tmp_path, "f.mrk.json", content),
        write(tmp_path, "m.txt", elastix(count="1", points=POINTS[1:])),
    )
    with pytest.raises(UserError, match="1 landmarks and 1 without a position"):
        landmarks.read_pair(fixed, moving)


def test_what_is_written_is_read(tmp_path):
    table = pd.DataFrame(POINTS, columns=landmarks.COORDINATES)
    table.insert(0, "landmark", ["007", "NA"])
    landmarks.write_tsv(table, tmp_path / "p.tsv")
    assert (tmp_path / "p.tsv").read_text().startswith("landmark\tx_lps_mm\ty_lps_mm\tz_lps_mm\n")
    pd.testing.assert_frame_equal(landmarks.read(tmp_path / "p.tsv"), table, check_exact=False, atol=1e-5)


# ---- rounded positions

OBLIQUE = Grid((60, 60, 40), (1.5, 1.5, 3.0), (10.0, -40.0, 900.0), (0.8, -0.6, 0, 0.6, 0.8, 0, 0, 0, 1))


def placed(steps, count=12, seed=1):
    """Landmarks of an oblique image, rounded to steps in voxels along its axes (0: not at all)."""
    indices = np.random.default_rng(seed).uniform(3, 36, (count, 3))
    steps = np.array(steps, dtype=float)
    rounded = np.where(steps > 0, np.round(indices / np.maximum(steps, 1e-9)) * steps, indices)
    return OBLIQUE.to_world(rounded)


def test_positions_on_voxels_half_voxels_and_slices_are_seen():
    assert landmarks.rounding_voxels(placed([1, 0.5, 0]), OBLIQUE).tolist() == [1, 0.5, 0]
    assert landmarks.rounding_voxels(placed([0, 0, 1]), OBLIQUE).tolist() == [0, 0, 1]
    # So few may lie there by chance.
    assert landmarks.rounding_voxels(placed([1, 1, 1], count=9), OBLIQUE).tolist() == [0, 0, 0]


def test_a_perfect_registration_of_rounded_landmarks_has_this_tre():
    """Rounded truth against rounded truth, a rigid motion apart, without any of the function's own numbers."""
    true = np.random.default_rng(5).uniform(3, 36, (4000, 3))
    other = Grid((60, 60, 40), (1.5, 1.5, 3.0), (0.0, 0.0, 0.0))
    shift = np.random.default_rng(6).uniform(0, 1, (4000, 3))  # where the moving voxels lie is not where the fixed are
    fixed = OBLIQUE.to_world(np.round(true))
    moving = OBLIQUE.to_world(np.round(true + shift) - shift)
    measured_mm = np.linalg.norm(fixed - moving, axis=1).mean()
    points = OBLIQUE.to_world(np.round(true)), OBLIQUE.to_world(np.round(true + 3))
    assert landmarks.tre_of_rounding_mm(*points, OBLIQUE, OBLIQUE) == pytest.approx(measured_mm, rel=0.03)
    # Only one side rounded, along z: |z| of an even distribution over 3 mm.
    one = landmarks.tre_of_rounding_mm(placed([0, 0, 1]), placed([0, 0, 0]), OBLIQUE, other)
    assert one == pytest.approx(3 / 4, rel=0.02)
    assert landmarks.tre_of_rounding_mm(placed([0, 0, 0]), placed([0, 0, 0]), OBLIQUE, OBLIQUE) == 0
