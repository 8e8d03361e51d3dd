"""How good a displacement is: one function a metric, each giving rows (metric, structure, value, unit).

The rows of all methods and pairs stack up to one tidy table, one value a row, with the columns of :data:`COLUMNS`. A
value that should exist and does not (no landmark on the grid, nothing covered) is NaN, never left out. Where a metric
has no meaning for a pair at all, whichever the method (no landmark near after the affine), there is no row.
"""

import re

import numpy as np
import pandas as pd
from scipy.ndimage import minimum_filter

from cohortmorph import displacement, labels
from cohortmorph.ncc import local_ncc_squared, ncc_signed

COLUMNS = ["pair", "split", "method", "weight", "epoch", "metric", "structure", "value", "unit"]
LOCAL_WINDOW = 9


def parse_method(method):
    """Split a method's id into (method, weight, epoch): the learned ones carry both, all others neither.

    Examples
    --------
    >>> parse_method("voxelmorph_weight-0.5_epoch-200")
    ('voxelmorph', '0.5', 200)
    >>> parse_method("bspline-3r")
    ('bspline-3r', '', None)
    """
    learned = re.fullmatch(r"(voxelmorph)_weight-(.+)_epoch-(\d+)", method)
    return (learned[1], learned[2], int(learned[3])) if learned else (method, "", None)


def table_of(rows, pair, split, method):
    """Return one method's rows (metric, structure, value, unit) as a tidy table with :data:`COLUMNS`.

    Parameters
    ----------
    rows : list of tuple
    pair, split : str
    method : str
        The id, as in file names; see :func:`parse_method`.
    """
    table = pd.DataFrame(rows, columns=["metric", "structure", "value", "unit"])
    name, weight, epoch = parse_method(method)
    table = table.assign(pair=pair, split=split, method=name, weight=weight, epoch=epoch)
    return table.astype({"epoch": "Int64", "value": float})[COLUMNS]


def read_table(path):
    """Read a tidy table; weight stays the text that the user typed, epoch and value may be missing."""
    types = {name: str for name in COLUMNS} | {"epoch": "Int64", "value": float}
    missing = {"epoch": [""], "value": [""]}
    return pd.read_csv(path, sep="\t", dtype=types, keep_default_na=False, na_values=missing)[COLUMNS]


def landmark_errors_mm(fixed_lps_mm, moving_lps_mm, field):
    """Return x + u(x) - y for each landmark, LPS, shape (n, 3); NaN where x lies outside of the field's grid.

    Parameters
    ----------
    fixed_lps_mm, moving_lps_mm : array, shape (n, 3)
        The same landmark in the fixed (x) and in the moving image (y).
    field : SimpleITK vector image
        The displacement u.
    """
    return displacement.move_points(fixed_lps_mm, field) - np.asarray(moving_lps_mm, dtype=float)


def near_landmarks(fixed_lps_mm, moving_lps_mm, affine, near_mm):
    """Say for each landmark whether the affine transform (fixed → moving) brings it within `near_mm`.

    RegNet's TRE′ leaves out what lies beyond a network's reach. The affine alone decides, so that all methods are
    measured on the same landmarks.
    """
    moved = np.array([affine.TransformPoint(tuple(map(float, point))) for point in np.asarray(fixed_lps_mm)])
    return np.linalg.norm(moved.reshape(-1, 3) - np.asarray(moving_lps_mm), axis=1) <= near_mm


def target_registration_error(errors_mm, near):
    """Return the rows of the target registration error, mean ‖x + u(x) - y‖, as in RegNet's Table 2.1.

    Parameters
    ----------
    errors_mm : array, shape (n, 3)
        See :func:`landmark_errors_mm`. NaN, a landmark outside of the grid, is counted and takes no part in the rest.
    near : boolean array, shape (n,)
        The landmarks of TRE′, see :func:`near_landmarks`.

    Returns
    -------
    list of tuple
        ``tre_mean, tre_sd, tre_median, tre_p95, tre_max`` and ``tre_near_mean, tre_near_sd`` in mm, for the total
        length and the absolute error along each LPS axis (structure ``total``, ``x``, ``y``, ``z``); the standard
        deviation is that of these landmarks (divided by n). ``landmarks_n, landmarks_outside, tre_near_n`` are counts.
    """
    errors_mm = np.asarray(errors_mm, dtype=float).reshape(-1, 3)
    inside = np.isfinite(errors_mm).all(axis=1)
    near_inside = inside & np.asarray(near, dtype=bool)
    statistics = {
        "mean": np.mean,
        "sd": np.std,
        "median": np.median,
        "p95": lambda lengths_mm: np.percentile(lengths_mm, 95),
        "max": np.max,
    }
    lengths_mm = {"total": np.linalg.norm(errors_mm, axis=1)}
    lengths_mm |= {axis: np.abs(errors_mm[:, n]) for n, axis in enumerate("xyz")}
    rows = []
    for structure, length_mm in lengths_mm.items():
        for name, statistic in statistics.items():
            value = statistic(length_mm[inside]) if inside.any() else np.nan
            rows.append((f"tre_{name}", structure, float(value), "mm"))
        for name in ["mean", "sd"] if near_inside.any() else []:
            rows.append((f"tre_near_{name}", structure, float(statistics[name](length_mm[near_inside])), "mm"))
    counts = {"landmarks_n": inside, "landmarks_outside": ~inside, "tre_near_n": near_inside}
    return rows + [(name, "total", int(chosen.sum()), "count") for name, chosen in counts.items()]


def dice(fixed_labels, moved_labels):
    """Return the rows of the Dice coefficient: each label (structure: its number) and their unweighted ``mean``.

    The mean is NaN if neither map has a label.
    """
    overlaps = labels.dice(fixed_labels, moved_labels)
    mean = float(np.mean(list(overlaps.values()))) if overlaps else np.nan
    return [("dice", str(label), value, "1") for label, value in overlaps.items()] + [("dice", "mean", mean, "1")]


def similarity(fixed, moved, mask=None):
    """Return the rows of normalized cross-correlation: squared and signed over all voxels, squared in local windows.

    Parameters
    ----------
    fixed, moved : array, shape (i, j, k)
        NaN in `moved` where the moving image does not reach: these voxels take no part. Nor do local windows (9 voxels
        wide, cut off at the border of the grid) that touch one; without any whole window there is no ``ncc_local``.
    mask : boolean array of that shape, optional
        Where to compare; the middle of a local window must lie in it.
    """
    covered = np.isfinite(moved) & np.isfinite(fixed)
    compared = covered if mask is None else covered & mask
    # Squaring the signed one saves a second pass over the voxels; it is the definition of the squared one.
    signed = ncc_signed(fixed, moved, compared)
    rows = [("ncc_squared", "image", signed**2, "1"), ("ncc_signed", "image", signed, "1")]
    whole = minimum_filter(covered, LOCAL_WINDOW, mode="constant", cval=True) & compared
    if whole.any():
        # What is filled in lies in no window that counts; the mean keeps the images' scale.
        filled = [np.where(covered, image, np.mean(image, where=covered)) for image in (fixed, moved)]
        local = local_ncc_squared(*filled, LOCAL_WINDOW)
        rows.append(("ncc_local", "image", float(local[whole].mean()), "1"))
    return rows


def regularity(determinant, mask=None):
    """Return the rows of the Jacobian's determinant: how strongly space is deformed, and whether it folds.

    Parameters
    ----------
    determinant : array
        See :func:`cohortmorph.displacement.jacobian_determinant`.
    mask : boolean array of that shape, optional
        Where to look; the whole grid if there is none.

    Returns
    -------
    list of tuple
        ``jacobian_min``; ``jacobian_sd_log``, the standard deviation of the logarithm of the positive determinants;
        ``folding``, the percentage of voxels whose determinant is zero or negative. Central differences can miss a
        folding between neighbours: 0 % is no proof.
    """
    values = determinant.ravel() if mask is None else determinant[mask]
    if values.size == 0:
        minimum, sd_log, folding = np.nan, np.nan, np.nan
    else:
        positive = values[values > 0].astype(float)
        sd_log = np.log(positive).std() if positive.size else np.nan
        minimum, folding = values.min(), 100 * (1 - positive.size / values.size)
    return [
        ("jacobian_min", "image", float(minimum), "1"),
        ("jacobian_sd_log", "image", float(sd_log), "1"),
        ("folding", "image", float(folding), "%"),
    ]


def runtime(registration):
    """Return the row of a method's duration, from the content of its registration.json."""
    return [("runtime", "image", float(registration["seconds"]), "s")]
