"""Landmarks: the same anatomical points in two images, in mm, always LPS once they are read.

A file that does not say its frame is refused: RAS read as LPS mirrors two axes and still gives plausible numbers.
"""

import csv
import json
import re
from io import StringIO
from pathlib import Path

import numpy as np
import pandas as pd

from cohortmorph import UserError
from cohortmorph.run.files import StrPath, write_table
from cohortmorph.run.logs import log
from cohortmorph.spatial.geometry import Grid

COORDINATES = ["x_mm", "y_mm", "z_mm"]
# Factors to LPS.
FRAMES = {"LPS": (1, 1, 1), "RAS": (-1, -1, 1)}
# 3D Slicer writes the frame as a word, and wrote it as a number before version 4.11.
SLICER_FRAMES = {"0": "RAS", "1": "LPS", "2": "IJK", "RAS": "RAS", "LPS": "LPS", "IJK": "IJK"}
# 3D Slicer's words for the status of a position, in the order of their numbers in .fcsv; only a defined one counts.
STATUSES = ["undefined", "preview", "defined", "missing"]
SHOWN = 5


def read(path: StrPath) -> pd.DataFrame:
    """Read landmarks.

    Formats, by suffix: elastix/transformix ``.txt`` whose first line is ``point`` (LPS); ``.csv`` and ``.tsv`` with the
    columns ``x_lps_mm, y_lps_mm, z_lps_mm`` or ``x_ras_mm, y_ras_mm, z_ras_mm``, and optionally ``landmark``;
    3D Slicer's ``.fcsv`` and ``.mrk.json``.

    Returns
    -------
    table : pandas.DataFrame
        A row a landmark: ``landmark`` (str; empty in every row if the file gives no ids), ``x_mm, y_mm, z_mm`` (LPS).
        ``table.attrs["undefined"]`` names the points without a position, which are left out.

    Raises
    ------
    UserError
        If the file is missing or malformed, does not state its frame, holds voxel indices, repeats an id, or has a row
        of more or fewer values than its header names.
    """
    path = Path(path)
    readers = {".txt": _read_elastix, ".csv": _read_csv, ".tsv": _read_csv, ".fcsv": _read_fcsv, ".json": _read_markups}
    if path.suffix not in readers:
        raise UserError(
            f"{path}: landmarks with the suffix {path.suffix!r} are not known; expected one of {', '.join(readers)}."
        )
    if not path.is_file():
        raise UserError(f"{path}: this landmark file does not exist.")
    try:
        table, undefined = readers[path.suffix](path)
    except UnicodeDecodeError:
        raise UserError(f"{path}: not a text file in UTF-8; save the landmarks as UTF-8 text.") from None
    except OSError as error:
        raise UserError(f"{path}: this landmark file cannot be read: {error.strerror}.") from None
    if undefined:
        log.warning("%s: left out %d landmarks without a position: %s", path, len(undefined), ", ".join(undefined))
    _check(table, path)
    table.attrs["undefined"] = undefined
    return table


def read_pair(fixed_path: StrPath, moving_path: StrPath) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Read the landmarks of two images and match them: by id if both files have ids, else row by row.

    What one file names as a landmark without a position is left out of the other too, if it goes by its id.

    Returns
    -------
    fixed, moving : pandas.DataFrame
        As :func:`read` gives them, of equal length; row n of both is the same landmark, in the order of the fixed file.

    Raises
    ------
    UserError
        If the files do not hold the same landmarks.
    """
    fixed, moving = read(fixed_path), read(moving_path)
    if _has_ids(fixed) and _has_ids(moving):
        fixed, moving = (
            _without(table, [name for name in other.attrs["undefined"] if name not in set(other.landmark)], path)
            for table, other, path in ((fixed, moving, fixed_path), (moving, fixed, moving_path))
        )
        only_fixed = fixed.landmark[~fixed.landmark.isin(moving.landmark)]
        only_moving = moving.landmark[~moving.landmark.isin(fixed.landmark)]
        if len(only_fixed) or len(only_moving):
            raise UserError(
                f"The landmarks of {fixed_path} and {moving_path} do not match.\n"
                f"  only in the first: {_some(only_fixed)}\n  only in the second: {_some(only_moving)}\n"
                "Give the same landmark the same id in both files, and delete those that only one image has."
            )
        if fixed.empty:
            raise UserError(f"{fixed_path} and {moving_path} share no landmark that has a position in both.")
        return fixed, moving.set_index("landmark").loc[fixed.landmark].reset_index()
    if fixed.attrs["undefined"] or moving.attrs["undefined"] or len(fixed) != len(moving):
        raise UserError(
            f"{fixed_path} has {_count(fixed)}, {moving_path} has {_count(moving)}. At least one file gives no ids, "
            "so row n of one must be row n of the other: give both the same complete rows, or a column `landmark` each."
        )
    ids = next((table.landmark for table in (fixed, moving) if _has_ids(table)), pd.Series(range(1, len(fixed) + 1)))
    return fixed.assign(landmark=ids.astype(str)), moving.assign(landmark=ids.astype(str))


def points_lps_mm(table: pd.DataFrame) -> np.ndarray:
    """Return the positions of a table of :func:`read` as an array, shape (n, 3), LPS mm."""
    return table[COORDINATES].to_numpy(dtype=float)


def rounding_voxels(points_lps_mm: np.ndarray, grid: Grid) -> np.ndarray:
    """Return the steps, in voxels along i, j, k, that positions were rounded to: 1, 0.5 or 0.

    Viewers put a landmark in the middle of a voxel, or on a slice. A few positions lie there by chance; ten do not.
    """
    indices = grid.to_indices(points_lps_mm)
    steps = np.zeros(3)
    for step in (0.5, 1.0):
        off = np.abs(indices / step - np.round(indices / step)) * step
        steps[(off < 0.01).all(axis=0) & (len(indices) >= 10)] = step
    return steps


def tre_of_rounding_mm(moving_lps_mm: np.ndarray, moving_grid: Grid, draws: int = 20000) -> float:
    """Return the mean TRE that rounding of the moving landmarks explains at most; 0 if they lie on no voxels or slices.

    A fixed landmark in the middle of a voxel may be the very point that was chosen; its counterpart in the moving image
    was then looked for, and what lies on voxels there was rounded, unless the truth happens to lie so: a bound, which
    a registration may stay below. Positions before rounding are drawn evenly within :func:`rounding_voxels`.
    """
    offsets = np.random.default_rng(0).uniform(-0.5, 0.5, (draws, 3)) * rounding_voxels(moving_lps_mm, moving_grid)
    return float(np.linalg.norm(offsets @ moving_grid.steps_mm.T, axis=1).mean())


def write_tsv(table: pd.DataFrame, path: StrPath) -> None:
    """Write landmarks as TSV: landmark, x_lps_mm, y_lps_mm, z_lps_mm (what :func:`read` reads)."""
    write_table(table.rename(columns={name: name.replace("_mm", "_lps_mm") for name in COORDINATES}), path)


def _read_elastix(path):
    """Read the text points of elastix and transformix: a word, a count, one point a line."""
    text = path.read_text(encoding="utf-8-sig")
    numbered = [(n, line.split()) for n, line in enumerate(text.splitlines(), start=1) if line.strip()]
    kind = numbered[0][1][0].lower() if numbered else "nothing"
    if kind == "index":
        raise UserError(
            f"{path}: the landmarks are voxel indices (first line `index`); expected positions in mm. Turn them "
            "into LPS positions with the image's origin, spacing and direction, and write `point` in the first line."
        )
    if kind != "point" or len(numbered[0][1]) > 1:
        raise UserError(
            f"{path}: the first line begins with {kind!r}; expected `point` alone, then the number of points, then "
            "x y z (mm, LPS) line by line. For other frames use a .tsv with columns such as x_ras_mm."
        )
    count, rows = numbered[1][1] if len(numbered) > 1 else ["nothing"], numbered[2:]
    if count != [str(len(rows))]:
        raise UserError(f"{path}: the second line promises {' '.join(count)} points, but {len(rows)} lines follow.")
    for line, row in rows:
        if len(row) != 3:
            raise UserError(f"{path}: line {line} has {len(row)} values; expected three numbers x y z (mm, LPS).")
    return _table([""] * len(rows), [row for _, row in rows], "LPS", path), []


def _read_csv(path):
    """Read a table whose column names state the frame."""
    rows = _rows(path.read_text(encoding="utf-8-sig"), "\t" if path.suffix == ".tsv" else ",", path)
    header_line, header = next((row for row in rows if not _is_comment(row)), (0, []))
    if not header:
        raise UserError(f"{path}: not readable as a table (it is empty).")
    stated = [frame for frame in FRAMES if {f"{axis}_{frame.lower()}_mm" for axis in "xyz"} <= set(header)]
    if len(stated) != 1:
        raise UserError(
            f"{path}: the columns are {', '.join(header)} (line {header_line}). They must state the frame, once: "
            "x_lps_mm, y_lps_mm, z_lps_mm (DICOM, ITK, elastix) or x_ras_mm, y_ras_mm, z_ras_mm (3D Slicer's display, "
            "FreeSurfer, nibabel); a .tsv is separated by tabs, a .csv by commas."
        )
    places = [f"{axis}_{stated[0].lower()}_mm" for axis in "xyz"]
    repeated = [name for name in ("landmark", *places) if header.count(name) > 1]
    if repeated:
        raise UserError(f"{path}: the header (line {header_line}) names {_some(repeated)} more than once.")
    rows = _without_comments([row for row in rows if row[0] > header_line], len(header), path)
    for line, row in rows:
        if len(row) != len(header):
            raise _wrong_count(path, line, row, header_line, header)
    points = [dict(zip(header, row, strict=True)) for _, row in rows]
    positions = [[point[place] for place in places] for point in points]
    return _table([point.get("landmark", "") for point in points], positions, stated[0], path), []


def _read_fcsv(path):
    """Read a point list of 3D Slicer before Markups JSON."""
    text = path.read_text(encoding="utf-8-sig")
    lines = text.splitlines()
    header = dict(re.findall(r"^#\s*(\w+)\s*=\s*(.+?)\s*$", text, flags=re.MULTILINE))
    frame = _slicer_frame(header.get("CoordinateSystem"), "header line `# CoordinateSystem = LPS`", path)
    columns = [name.strip() for name in header.get("columns", "").split(",")]
    if not {"x", "y", "z", "label"} <= set(columns):
        raise UserError(f"{path}: expected a header line `# columns = id,x,y,z,…,label,…` as 3D Slicer writes it.")
    header_line = next((n for n, line in enumerate(lines, start=1) if re.match(r"#\s*columns\s*=", line)), 0)
    # 3D Slicer takes every line that begins with # as a comment.
    text = "\n".join("" if line.startswith("#") else line for line in lines)
    names, positions, undefined = [], [], []
    for line, row in _rows(text, ",", path):
        # Slicer 5 appends two columns without a name: the number of the position's status, and 0 or 1.
        status, *flag = row[len(columns) :] or ["2", "0"]
        if len(row) < len(columns) or len(flag) != 1 or status not in ("0", "1", "2", "3") or flag[0] not in ("0", "1"):
            raise _wrong_count(path, line, row, header_line, columns)
        point = dict(zip(columns, row, strict=False))
        if STATUSES[int(status)] == "defined":
            names.append(point["label"])
            positions.append([point[axis] for axis in "xyz"])
        else:
            undefined.append(point["label"])
    return _table(names, positions, frame, path), undefined


def _read_markups(path):
    """Read a point list of 3D Slicer (Markups JSON); each list in the file states its own frame."""
    try:
        lists = json.loads(path.read_text(encoding="utf-8-sig"))["markups"]
        types = {str(markup["type"]) for markup in lists}
        points = [[dict(point) for point in markup.get("controlPoints") or []] for markup in lists]
    except UnicodeDecodeError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise UserError(f"{path}: not a markups file of 3D Slicer (.mrk.json).") from None
    if types != {"Fiducial"}:
        raise UserError(
            f"{path}: holds markups of type {', '.join(sorted(types)) or 'none'}; "
            "expected only a point list (Fiducial)."
        )
    tables, undefined = [], []
    for markup, its_points in zip(lists, points, strict=True):
        frame = _slicer_frame(markup.get("coordinateSystem"), '`"coordinateSystem": "LPS"` in each list', path)
        units = markup.get("coordinateUnits", "mm")
        if units not in ("mm", ["mm"] * 3):
            raise UserError(f"{path}: the coordinates are in {units}; expected mm.")
        names, positions = [], []
        for point in its_points:
            name = str(point.get("label") or point.get("id") or "").strip()
            status, position = point.get("positionStatus", "defined"), point.get("position")
            if status not in STATUSES:
                raise UserError(f"{path}: landmark {name}: its positionStatus is {status!r}; expected {STATUSES}.")
            if status != "defined" or position is None:
                undefined.append(name)
            elif _is_position(position):
                names.append(name)
                positions.append(position)
            else:
                raise UserError(f"{path}: landmark {name}: expected a position of three numbers.")
        tables.append(_table(names, positions, frame, path))
    return pd.concat(tables, ignore_index=True), undefined


def _is_position(position):
    """Say whether a value of JSON is a list of three numbers (or their text; true and false count as none)."""
    is_list = isinstance(position, list) and len(position) == 3
    return is_list and all(isinstance(value, int | float | str) and not isinstance(value, bool) for value in position)


def _rows(text, separator, path):
    """Return (number of its line, values without outer spaces) of each line that is not empty."""
    reader = csv.reader(StringIO(text), delimiter=separator, strict=True)
    try:
        rows = [(reader.line_num, [value.strip() for value in row]) for row in reader]
    except csv.Error as error:
        raise UserError(f"{path}: line {reader.line_num} is not readable as a table's ({error}).") from None
    return [(line, row) for line, row in rows if row not in ([], [""])]


def _is_comment(row):
    return row[1][0].startswith("#")


def _without_comments(rows, width, path):
    """Return the rows that are no comments; # may also begin the ids of all landmarks."""
    marked = [row for row in rows if _is_comment(row)]
    if len(marked) == len(rows):
        return rows
    unclear = [line for line, row in marked if len(row) == width]
    if unclear:
        raise UserError(
            f"{path}: line {_some(unclear)} begins with # and has all values of a landmark; other lines have no #. "
            "Delete the line if it is no landmark, else the #."
        )
    return [row for row in rows if not _is_comment(row)]


def _wrong_count(path, line, row, header_line, header):
    return UserError(
        f"{path}: line {line} has {len(row)} values, but the header (line {header_line}) names {len(header)} columns. "
        "Name every column, write decimals with a point (10.5), and put quotes around a text with a separator in it."
    )


def _slicer_frame(stated, where, path):
    """Return RAS or LPS; a missing frame, or voxel indices, is a UserError."""
    frame = SLICER_FRAMES.get(str(stated).strip().upper())
    if frame == "IJK":
        raise UserError(f"{path}: the landmarks are voxel indices (IJK); save them from 3D Slicer in LPS or RAS (mm).")
    if frame is None:
        raise UserError(f"{path}: the frame is {stated!r}; expected the {where} (or RAS).")
    return frame


def _table(ids, positions, frame, path):
    """Return the table of :func:`read`, in LPS, from positions (numbers or their text) in `frame`."""
    positions = np.array(positions, dtype=object).reshape(-1, 3)
    numbers = pd.DataFrame(positions, columns=COORDINATES).apply(pd.to_numeric, errors="coerce").astype(float)
    wrong = np.flatnonzero(~np.isfinite(numbers.to_numpy()).all(axis=1))
    if len(wrong):
        found = "; ".join(str(value) for value in positions[wrong[0]])
        raise UserError(
            f"{path}: point {_some(wrong + 1)}: expected three finite numbers (mm, decimals with a point), "
            f"found ({found})."
        )
    table = numbers * FRAMES[frame]
    table.insert(0, "landmark", [str(name) for name in ids])
    return table


def _check(table, path):
    """Raise a UserError if there is no landmark, or if ids are incomplete or repeated."""
    if table.empty:
        raise UserError(f"{path}: holds no landmark with a position.")
    if (table.landmark == "").any() and (table.landmark != "").any():
        raise UserError(f"{path}: point {_some(np.flatnonzero(table.landmark == '') + 1)} has no id, others have one.")
    repeated = table.landmark[table.landmark.duplicated() & (table.landmark != "")].unique()
    if len(repeated):
        raise UserError(f"{path}: landmark {_some(repeated)} stands there more than once; each id must be unique.")


def _without(table, names, path):
    """Return a table without the landmarks that have no position in the other image."""
    left_out = table.landmark.isin(names)
    if left_out.any():
        log.warning("%s: left out %s, without a position in the other image", path, _some(table.landmark[left_out]))
    return table[~left_out].reset_index(drop=True)


def _has_ids(table):
    return (table.landmark != "").all()


def _count(table):
    left_out = len(table.attrs["undefined"])
    return f"{len(table)} landmarks" + (f" and {left_out} without a position" if left_out else "")


def _some(names):
    """List the first few names, and say how many more there are."""
    names = [str(name) for name in names]
    rest = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + rest if names else "none"
