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
        ("p.txt", elastix(points=POINTS[:, :2]), "line 3 has 2 values; expected three numbers"),
        ("p.txt", elastix(points=[[1, 2, "nan"], [1, 2, 3]]), "point 1: expected three finite numbers"),
        ("p.txt", elastix(count="0", points=[]), "no landmark"),
        ("p.csv", "x,y,z\n1,2,3\n", "must state the frame"),
        ("p.csv", "x_mm,y_mm,z_mm\n1,2,3\n", "must state the frame"),
        ("p.csv", table_text("lps", POINTS, "\t"), "must state the frame"),
        ("p.csv", "x_lps_mm,y_ras_mm,z_lps_mm\n1,2,3\n", "must state the frame"),
        ("p.csv", ",".join(f"{a}_{f}_mm" for f in ("lps", "ras") for a in "xyz") + "\n1,2,3,4,5,6\n", "must state"),
        ("p.csv", "", "not readable as a table"),
        ("p.csv", "x_lps_mm,y_lps_mm,z_lps_mm\n1,2,3\n4,,6\n", "point 2"),
        ("p.csv", table_text("lps", POINTS, ",", ("a", "a")), "landmark a stands there more than once"),
        ("p.csv", table_text("lps", POINTS, ",", ("a", "")), "point 2 has no id"),
        ("p.fcsv", fcsv("IJK"), "voxel indices"),
        ("p.fcsv", fcsv("2"), "voxel indices"),
        ("p.fcsv", fcsv("LPS").replace("# CoordinateSystem = LPS\n", ""), "the frame is None"),
        ("p.fcsv", fcsv("LPS").replace(FCSV_COLUMNS + "\n", ""), "columns"),
        ("p.fcsv", fcsv("LPS") + "\n2,1,2", "line 6 has 3 values, but the header (line 3) names 14 columns"),
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


def test_brackets_without_end_are_no_markups(tmp_path):
    with pytest.raises(UserError, match="not a markups file"):
        landmarks.read(write(tmp_path, "a.mrk.json", "[" * 100_000))


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


def test_only_the_moving_landmarks_count_as_rounded():
    """Rounded truth against truth, without any of the function's own numbers."""
    true = np.random.default_rng(5).uniform(3, 36, (4000, 3))
    measured_mm = np.linalg.norm(OBLIQUE.to_world(np.round(true)) - OBLIQUE.to_world(true), axis=1).mean()
    assert landmarks.tre_of_rounding_mm(placed([1, 1, 1]), OBLIQUE) == pytest.approx(measured_mm, rel=0.03)
    # Rounded along z only: |z| of an even distribution over 3 mm.
    assert landmarks.tre_of_rounding_mm(placed([0, 0, 1]), OBLIQUE) == pytest.approx(3 / 4, rel=0.02)
    assert landmarks.tre_of_rounding_mm(placed([0, 0, 0]), OBLIQUE) == 0


# ---- rows that are not what the header says


def table_of(header, *rows):
    return "\n".join([header, *rows]) + "\n"


XYZ = "x_lps_mm,y_lps_mm,z_lps_mm"


@pytest.mark.parametrize(
    ("name", "text", "line", "has", "named"),
    [
        ("p.csv", table_of(XYZ, "1,2,3", "4,5,6,7"), 3, 4, 3),
        ("p.csv", table_of(XYZ, "1,2,3,0", "4,5,6,0"), 2, 4, 3),  # a column without a name
        ("p.csv", table_of(f"landmark,{XYZ}", "1,2,3", "4,5,6"), 2, 3, 4),  # an id without values
        ("p.csv", table_of(XYZ, "10,5,20,0,3,1"), 2, 6, 3),  # decimal commas
        ("p.csv", table_of(XYZ, "10,5,20,3"), 2, 4, 3),
        ("p.csv", table_of(XYZ, "1,2,3,", "4,5,6,"), 2, 4, 3),  # a separator at the end
        ("p.csv", table_of(f"{XYZ},", "1,2,3,", "4,5,6"), 3, 3, 4),
        ("p.csv", "\ufeff" + table_of(XYZ, "", "1,2,3,4").replace("\n", "\r\n"), 3, 4, 3),
        ("p.csv", table_of("# by hand", XYZ, "# one, two", "1,2,3,4"), 4, 4, 3),
        ("p.csv", table_of(f"landmark,{XYZ}", "left, upper,1,2,3"), 2, 5, 4),  # a name with a comma
        ("p.csv", table_of(f"landmark,{XYZ}", "#1,1,2,3", "#2,1,2"), 3, 3, 4),
        ("p.csv", table_of(f"{XYZ},note", '1,2,3,"a\nb"', "4,5,6"), 4, 3, 4),
        ("p.tsv", table_of(XYZ.replace(",", "\t"), "1\t2\t3\t4"), 2, 4, 3),
        ("p.tsv", table_of(XYZ.replace(",", "\t"), "1 2 3"), 2, 1, 3),
        ("p.fcsv", fcsv("LPS", tail=",2"), 4, 15, 14),
        ("p.fcsv", fcsv("LPS", tail=",2,0,1"), 4, 17, 14),
        ("p.fcsv", fcsv("LPS", tail=",,"), 4, 16, 14),  # two decimal commas and no status
        ("p.fcsv", fcsv("LPS", tail=",5,0"), 4, 16, 14),
        ("p.fcsv", fcsv("LPS", tail=",2,7"), 4, 16, 14),
        ("p.fcsv", fcsv("LPS").replace("98.883", "98,883"), 5, 15, 14),
        ("p.fcsv", fcsv("LPS", tail=",2,0").replace("-36.351,-36.974", "-36,351,-36,974"), 4, 18, 14),
    ],
)
def test_a_row_of_another_number_of_values_is_refused_with_its_line(tmp_path, name, text, line, has, named):
    with pytest.raises(UserError) as error:
        landmarks.read(write(tmp_path, name, text))
    found = str(error.value)
    assert f"line {line} has {has} values" in found and f"names {named} columns" in found


def test_four_numbers_in_a_line_of_elastix_are_refused(tmp_path):
    with pytest.raises(UserError, match="line 5 has 4 values; expected three numbers"):
        landmarks.read(write(tmp_path, "p.txt", "point\n2\n\n1 2 3\n1 2 3 4\n"))


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("p.csv", table_of(XYZ, '"10,5","20,1","3,0"'), "decimals with a point), found (10,5; 20,1; 3,0)"),
        ("p.tsv", table_of(XYZ.replace(",", "\t"), "10,5\t20,1\t3,0"), "found (10,5; 20,1; 3,0)"),
        ("p.txt", elastix(count="1", points=[["10,5", "20,1", "3,0"]]), "found (10,5; 20,1; 3,0)"),
        ("p.csv", table_of(XYZ.replace(",", ";"), "10,5;20,1;3,0"), "a .csv by commas"),
        ("p.csv", table_of(XYZ, "1,2,inf"), "three finite numbers"),
        ("p.csv", table_of(XYZ, "1,2,1e999"), "three finite numbers"),
        ("p.csv", table_of(XYZ, ",,", "1,2,3"), "point 1"),  # a gap would shift the rows that follow
        ("p.csv", table_of(f"{XYZ},x_lps_mm", "1,2,3,4"), "names x_lps_mm more than once"),
        ("p.csv", table_of(f"{XYZ},note", '1,2,3,"a', "4,5,6,b"), "not readable as a table's"),
        ("p.csv", table_of(f"landmark,{XYZ}", "a,1,2,3", "#b,4,5,6"), "line 3 begins with #"),
        ("p.csv", table_of(f"# {XYZ}", "1,2,3", "4,5,6"), "the columns are 1, 2, 3 (line 2)"),
        ("p.csv", "\n\n", "it is empty"),
        ("p.txt", "Point\t0\t; InputIndex = [ 1 2 3 ]\t; InputPoint = [ 1 2 3 ]\n", "`point` alone"),
        ("p.txt", "point 1\n1 2 3\n", "`point` alone"),
        ("p.mrk.json", markups(points=[[1, 2, True]]), "position of three numbers"),
        ("p.mrk.json", markups(points=[[1, [2], 3]]), "position of three numbers"),
        ("p.mrk.json", markups(points=[[1, 2, None]]), "position of three numbers"),
        ("p.mrk.json", markups(points=[[1, 2, float("nan")]]), "three finite numbers"),
        ("p.mrk.json", markups(coordinateUnits="cm"), "in cm; expected mm"),
        ("p.mrk.json", markups(coordinateUnits=["mm", "mm", "um"]), "expected mm"),
        ("p.mrk.json", markups(coordinateUnits=None), "in None; expected mm"),
        ("p.mrk.json", markups(controlPoints=[{"position": [1, 2, 3], "positionStatus": "placed"}]), "'placed'"),
        ("p.mrk.json", markups(controlPoints=["a"]), "not a markups file"),
        ("p.mrk.json", markups(controlPoints=None), "no landmark"),
        ("p.mrk.json", {"markups": markups()["markups"] + markups(kind="Plane")["markups"]}, "type Fiducial, Plane"),
        ("p.mrk.json", markups(kind="ClosedCurve"), "type ClosedCurve"),
        ("p.mrk.json", {"markups": markups()["markups"] * 2}, "landmark a, b stands there more than once"),
    ],
)
def test_other_ways_to_be_wrong_are_refused(tmp_path, name, text, said):
    path = write(tmp_path, name, text)
    with pytest.raises(UserError) as error:
        landmarks.read(path)
    assert said in str(error.value) and str(path) in str(error.value)


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("start", ["", "\ufeff", "\ufeff# drawn by hand, twice\n"])
@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("p.csv", table_of(f"landmark,{XYZ},note", "a,1.5,2,-3,", "", '# "c, d', 'b,4,5,6,"left, upper"')),
        ("p.csv", table_of(f"landmark, {XYZ.replace(',', ', ')}", "a, 1.5, 2, -3", " b ,4, 5,6")),
        ("p.csv", table_of(f"{XYZ},landmark,", '1.5,"2",-3,a,', "4,5,6,b,")),
        ("p.tsv", table_of(f"landmark,{XYZ}".replace(",", "\t"), "a\t1.5\t2\t-3", "", "b\t4\t5\t6")),
    ],
)
def test_comments_blank_lines_quotes_and_line_ends_are_read(tmp_path, name, text, start, ending):
    (tmp_path / name).write_bytes((start + text).replace("\n", ending).encode())
    table = landmarks.read(tmp_path / name)
    assert list(table.landmark) == ["a", "b"]
    np.testing.assert_array_equal(landmarks.points_lps_mm(table), [[1.5, 2, -3], [4, 5, 6]])


def test_ids_may_all_begin_with_the_sign_of_comments(tmp_path):
    path = write(tmp_path, "p.csv", table_of(f"landmark,{XYZ}", "#1,1,2,3", "#2,4,5,6"))
    assert list(landmarks.read(path).landmark) == ["#1", "#2"]


# ---- what 3D Slicer says of a position


@pytest.mark.parametrize(("number", "word"), list(enumerate(["undefined", "preview", "defined", "missing"])))
def test_only_a_defined_position_is_one(tmp_path, number, word):
    content = markups()
    content["markups"][0]["controlPoints"][0]["positionStatus"] = word
    lines = fcsv("LPS", tail=",2,0").splitlines()
    lines[3] = lines[3].removesuffix(",2,0") + f",{number},0"
    for path in (write(tmp_path, "p.mrk.json", content), write(tmp_path, "p.fcsv", "\n".join(lines))):
        assert list(landmarks.read(path).landmark) == (["a", "b"] if word == "defined" else ["b"])


def test_hidden_unselected_and_locked_points_count(tmp_path):
    content = markups()
    content["markups"][0]["controlPoints"][0] |= {"visibility": False, "selected": False, "locked": True}
    hidden = fcsv("LPS").replace(",1,1,0,a", ",0,0,1,a")
    assert hidden != fcsv("LPS")
    for path in (write(tmp_path, "p.mrk.json", content), write(tmp_path, "p.fcsv", hidden)):
        np.testing.assert_array_equal(landmarks.points_lps_mm(landmarks.read(path)), POINTS)


def test_a_landmark_marked_missing_in_one_image_is_left_out_of_both(tmp_path, caplog):
    content = markups()
    content["markups"][0]["controlPoints"][0]["positionStatus"] = "missing"
    marked = write(tmp_path, "m.mrk.json", content)
    whole = write(tmp_path, "f.tsv", table_text("lps", POINTS + 1, "\t"))
    for paths in ((whole, marked), (marked, whole)):
        caplog.clear()
        fixed, moving = landmarks.read_pair(*paths)
        assert list(fixed.landmark) == list(moving.landmark) == ["b"]
        np.testing.assert_allclose(np.abs(landmarks.points_lps_mm(fixed) - landmarks.points_lps_mm(moving)), 1)
        assert f"{whole}: left out a, without a position in the other image" in caplog.text
    other = markups()
    other["markups"][0]["controlPoints"][1]["positionStatus"] = "undefined"
    with pytest.raises(UserError, match="share no landmark"):
        landmarks.read_pair(marked, write(tmp_path, "o.mrk.json", other))
