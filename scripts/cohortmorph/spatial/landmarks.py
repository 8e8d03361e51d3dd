"""Landmarks: the same anatomical points in two images, in mm, always LPS once they are read.

A file that does not say its frame is refused: RAS read as LPS mirrors two axes and still gives plausible numbers.
"""

import csv
import re
from io import StringIO
from pathlib import Path

import numpy as np
import pandas as pd

from cohortmorph import UserError
from cohortmorph.run.files import StrPath, read_json, write_table
from cohortmorph.run.logs import log
from cohortmorph.spatial.geometry import Grid

COORDINATES = ["x_mm", "y_mm", "z_mm"]
# Factors to LPS.
FRAMES = {"LPS": (1, 1, 1), "RAS": (-1, -1, 1)}
# 3D Slicer writes the frame as a word, and wrote it as a number before version 4.11.
SLICER_FRAMES = {"0": "RAS", "1": "LPS", "2": "IJK", "RAS": "RAS", "LPS": "LPS", "IJK": "IJK"}
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
        ``table.attrs["undefined"]`` counts the points without a position, which are left out.

    Raises
    ------
    UserError
        If the file is missing or malformed, does not state its frame, holds voxel indices, or repeats an id.
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
    if undefined:
        log.warning("%s: left out %d landmarks without a position: %s", path, len(undefined), ", ".join(undefined))
    _check(table, path)
    table.attrs["undefined"] = len(undefined)
    return table


def read_pair(fixed_path: StrPath, moving_path: StrPath) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Read the landmarks of two images and match them: by id if both files have ids, else row by row.

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
        only_fixed = fixed.landmark[~fixed.landmark.isin(moving.landmark)]
        only_moving = moving.landmark[~moving.landmark.isin(fixed.landmark)]
        if len(only_fixed) or len(only_moving):
            raise UserError(
                f"The landmarks of {fixed_path} and {moving_path} do not match.\n"
                f"  only in the first: {_some(only_fixed)}\n  only in the second: {_some(only_moving)}\n"
                "Give the same landmark the same id in both files, and delete those that only one image has."
            )
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


def tre_of_rounding_mm(
    fixed_lps_mm: np.ndarray, moving_lps_mm: np.ndarray, fixed_grid: Grid, moving_grid: Grid, draws: int = 20000
) -> float:
    """Return the mean TRE that a perfect registration would show, as both landmarks are rounded to voxels; 0 if not.

    Positions before rounding are drawn evenly within the steps of :func:`rounding_voxels`; scaling between the images
    is left out.
    """
    rng, error_mm = np.random.default_rng(0), 0.0
    for points_lps_mm, grid in ((fixed_lps_mm, fixed_grid), (moving_lps_mm, moving_grid)):
        offsets = rng.uniform(-0.5, 0.5, (draws, 3)) * rounding_voxels(points_lps_mm, grid)
        error_mm = offsets @ grid.steps_mm.T - error_mm
    return float(np.linalg.norm(error_mm, axis=1).mean())


def write_tsv(table: pd.DataFrame, path: StrPath) -> None:
    """Write landmarks as TSV: landmark, x_lps_mm, y_lps_mm, z_lps_mm (what :func:`read` reads)."""
    write_table(table.rename(columns={name: name.replace("_mm", "_lps_mm") for name in COORDINATES}), path)


def _read_elastix(path):
    """Read the text points of elastix and transformix: a word, a count, one point a line."""
    lines = [line.split() for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    kind = lines[0][0].lower() if lines else "nothing"
    if kind == "index":
        raise UserError(
            f"{path}: the landmarks are voxel indices (first line `index`); expected positions in mm. Turn them "
            "into LPS positions with the image's origin, spacing and direction, and write `point` in the first line."
        )
    if kind != "point":
        raise UserError(
            f"{path}: the first line begins with {kind!r}; expected `point`, then the number of points, then x y z "
            "(mm, LPS) line by line. For other frames use a .tsv with columns such as x_ras_mm."
        )
    count, rows = lines[1] if len(lines) > 1 else ["nothing"], lines[2:]
    if count != [str(len(rows))]:
        raise UserError(f"{path}: the second line promises {' '.join(count)} points, but {len(rows)} lines follow.")
    wrong = [number for number, row in enumerate(rows, start=1) if len(row) != 3]
    if wrong:
        raise UserError(f"{path}: point {_some(wrong)}: expected three numbers x y z (mm, LPS).")
    return _table([""] * len(rows), rows, "LPS", path), []


def _read_csv(path):
    """Read a table whose column names state the frame."""
    separator = "\t" if path.suffix == ".tsv" else ","
    try:
        raw = pd.read_csv(path, sep=separator, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except (pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise UserError(f"{path}: not readable as a table ({str(error).strip()}).") from None
    stated = [frame for frame in FRAMES if {f"{axis}_{frame.lower()}_mm" for axis in "xyz"} <= set(raw.columns)]
    if len(stated) != 1:
        raise UserError(
            f"{path}: the columns are {', '.join(raw.columns)}. The frame must be stated by them, once: "
            "x_lps_mm, y_lps_mm, z_lps_mm (DICOM, ITK, elastix) or x_ras_mm, y_ras_mm, z_ras_mm (3D Slicer's display, "
            "FreeSurfer, nibabel); a .tsv is separated by tabs, a .csv by commas."
        )
    positions = raw[[f"{axis}_{stated[0].lower()}_mm" for axis in "xyz"]].to_numpy()
    ids = raw["landmark"].str.strip() if "landmark" in raw else [""] * len(raw)
    return _table(ids, positions, stated[0], path), []


def _read_fcsv(path):
    """Read a point list of 3D Slicer before Markups JSON."""
    lines = path.read_text(encoding="utf-8-sig").splitlines()
    header = dict(re.findall(r"^#\s*(\w+)\s*=\s*(.+?)\s*$", "\n".join(lines), flags=re.MULTILINE))
    frame = _slicer_frame(header.get("CoordinateSystem"), "header line `# CoordinateSystem = LPS`", path)
    columns = [name.strip() for name in header.get("columns", "").split(",")]
    if not {"x", "y", "z", "label"} <= set(columns):
        raise UserError(f"{path}: expected a header line `# columns = id,x,y,z,…,label,…` as 3D Slicer writes it.")
    rows = [row for row in csv.reader(StringIO("\n".join(lines))) if row and not row[0].startswith("#")]
    short = [number for number, row in enumerate(rows, start=1) if len(row) <= max(map(columns.index, ("z", "label")))]
    if short:
        raise UserError(f"{path}: point {_some(short)} has fewer values than the header names columns.")
    points = [dict(zip(columns, row, strict=False)) for row in rows]
    # Slicer 5 appends the position's status without naming the column; 0 is undefined.
    defined = [len(row) <= len(columns) or row[len(columns)] != "0" for row in rows]
    undefined = [point["label"] for point, is_defined in zip(points, defined, strict=True) if not is_defined]
    points = [point for point, is_defined in zip(points, defined, strict=True) if is_defined]
    positions = [[point[axis] for axis in "xyz"] for point in points]
    return _table([point["label"].strip() for point in points], positions, frame, path), undefined


def _read_markups(path):
    """Read a point list of 3D Slicer (Markups JSON); each list in the file states its own frame."""
    try:
        lists = [(markup["type"], markup.get("controlPoints", []), markup) for markup in read_json(path)["markups"]]
    except (ValueError, KeyError, TypeError, AttributeError):
        raise UserError(f"{path}: not a markups file of 3D Slicer (.mrk.json).") from None
    types = {kind for kind, _, _ in lists}
    if types != {"Fiducial"}:
        raise UserError(
            f"{path}: holds markups of type {', '.join(sorted(types)) or 'none'}; "
            "expected only a point list (Fiducial)."
        )
    tables, undefined = [], []
    for _, points, markup in lists:
        frame = _slicer_frame(markup.get("coordinateSystem"), '`"coordinateSystem": "LPS"` in each list', path)
        units = markup.get("coordinateUnits", "mm")
        if units not in ("mm", ["mm"] * 3):
            raise UserError(f"{path}: the coordinates are in {units}; expected mm.")
        defined = {True: [], False: []}
        for point in points:
            name = str(point.get("label") or point.get("id") or "").strip()
            has_position = point.get("positionStatus", "defined") == "defined" and point.get("position") is not None
            defined[has_position].append((name, point.get("position")))
        wrong = [name for name, position in defined[True] if np.shape(position) != (3,)]
        if wrong:
            raise UserError(f"{path}: landmark {_some(wrong)}: expected a position of three numbers.")
        names, positions = zip(*defined[True], strict=True) if defined[True] else ((), ())
        tables.append(_table(names, positions, frame, path))
        undefined += [name for name, _ in defined[False]]
    return pd.concat(tables, ignore_index=True), undefined


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
        found = ", ".join(str(value) for value in positions[wrong[0]])
        raise UserError(f"{path}: point {_some(wrong + 1)}: expected three finite numbers (mm), found ({found}).")
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


def _has_ids(table):
    return (table.landmark != "").all()


def _count(table):
    left_out = table.attrs["undefined"]
    return f"{len(table)} landmarks" + (f" and {left_out} without a position" if left_out else "")


def _some(names):
    """List the first few names, and say how many more there are."""
    names = [str(name) for name in names]
    rest = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + rest if names else "none"
