"""How good a displacement is: one function a metric, each giving rows (metric, structure, value, unit).

The rows of all methods and pairs stack up to one tidy table, one value a row, with the columns of :data:`COLUMNS`. A
value that should exist and does not (no landmark on the grid, nothing covered, a failed registration) is NaN, never
left out. Where a metric has no meaning for a pair at all, whichever the method (no landmark near after the affine),
there is no row. docs/metrics.md has every definition and its source.
"""

import re

import numpy as np
import pandas as pd
from scipy.ndimage import minimum_filter

from cohortmorph.spatial import displacement, labels
from cohortmorph.spatial.geometry import Grid, matrix_and_offset, to_array
from cohortmorph.spatial.ncc import local_ncc_squared, ncc_signed

COLUMNS = ["pair", "split", "method", "weight", "epoch", "metric", "structure", "value", "unit"]
# Which values are better; None where neither is.
BETTER = {
    "tre_mean": "less",
    "tre_sd": "less",
    "tre_median": "less",
    "tre_p95": "less",
    "tre_max": "less",
    "tre_near_mean": "less",
    "tre_near_sd": "less",
    "tre_relative": "less",
    "landmarks_improved": "more",
    "landmarks_n": None,
    "landmarks_outside": None,
    "tre_near_n": None,
    "tre_of_rounding": None,
    "mae_mean": "less",
    "mae_sd": "less",
    "dice": "more",
    "iou": "more",
    "surface_dice": "more",
    "hd95": "less",
    "surface_distance_mean": "less",
    "ncc_squared": "more",
    # Images of opposite contrast agree at -1 as well as others at 1.
    "ncc_signed": None,
    "ncc_local": "more",
    # What quality control looks at: neither end is good by itself.
    "overlap": None,
    "contrast": None,
    "rotation": None,
    "border_displacement": None,
    # Both a small and a large change of volume may be the truth, but not the sign.
    "jacobian_min": None,
    "jacobian_mean": None,
    "jacobian_p01": None,
    "jacobian_p99": None,
    "jacobian_sd_log": "less",
    "jacobian_sd_log_learn2reg": "less",
    # Bone keeps its volume, a bladder does not: only who knows the organ can judge.
    "volume_change": None,
    "folding": "less",
    "ndv": "less",
    "inverse_consistency_mean": "less",
    "inverse_consistency_p95": "less",
    "inverse_consistency_outside": None,
    "runtime": "less",
    "cpu_time": "less",
    "peak_memory": "less",
    # What is left at the fiducials says nothing about the error elsewhere (Fitzpatrick 2009).
    "fre": None,
}
LOCAL_WINDOW = 9
# Learn2Reg's evaluation leaves out so many voxels at the edge of the grid.
LEARN2REG_RIM = 2
# What a registration.json may report, and the metric and unit that it becomes.
REPORTED = {
    "seconds": ("runtime", "s"),
    "cpu_seconds": ("cpu_time", "s"),
    "peak_memory_mb": ("peak_memory", "MB"),
    "fre_mm": ("fre", "mm"),
}


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


def robustness(fixed_lps_mm, moving_lps_mm, errors_mm):
    """Return the rows that compare each landmark's error with that before registration, ‖x - y‖.

    Parameters
    ----------
    fixed_lps_mm, moving_lps_mm : array, shape (n, 3)
        The landmarks where the scanners saw them, x and y.
    errors_mm : array, shape (n, 3)
        See :func:`landmark_errors_mm`; landmarks outside of the grid take no part.

    Returns
    -------
    list of tuple
        ``landmarks_improved``, the percentage whose error is smaller than before; ``tre_relative``, the mean of the
        quotients (error after / error before) over the landmarks that were not in place already, NaN if all were.
    """
    after_mm = np.linalg.norm(np.asarray(errors_mm, dtype=float).reshape(-1, 3), axis=1)
    before_mm = np.linalg.norm(np.asarray(fixed_lps_mm, float) - np.asarray(moving_lps_mm, float), axis=1)
    inside = np.isfinite(after_mm)
    after_mm, before_mm = after_mm[inside], before_mm[inside]
    apart = before_mm > 0
    improved = 100 * np.mean(after_mm < before_mm) if inside.any() else np.nan
    relative = np.mean(after_mm[apart] / before_mm[apart]) if apart.any() else np.nan
    return [("landmarks_improved", "total", float(improved), "%"), ("tre_relative", "total", float(relative), "1")]


def field_error(field, true_field, mask=None):
    """Return the rows of the mean absolute error against a known displacement, RegNet's MAE.

    Parameters
    ----------
    field, true_field : SimpleITK vector image
        In mm, LPS, on the same grid.
    mask : boolean array of that shape, optional
        Where to compare; the whole grid if there is none.

    Returns
    -------
    list of tuple
        ``mae_mean`` and ``mae_sd`` (divided by n) in mm over the voxels, of the length ‖u - u_true‖ (structure
        ``total``) and of the absolute error along each LPS axis (``x``, ``y``, ``z``); NaN if the mask is empty.
    """
    difference_mm = to_array(field).astype(float) - to_array(true_field)
    errors_mm = np.abs(difference_mm.reshape(-1, 3) if mask is None else difference_mm[mask])
    lengths_mm = {"total": np.linalg.norm(errors_mm, axis=1)} | {axis: errors_mm[:, n] for n, axis in enumerate("xyz")}
    rows = []
    for structure, length_mm in lengths_mm.items():
        mean, sd = (length_mm.mean(), length_mm.std()) if length_mm.size else (np.nan, np.nan)
        rows += [("mae_mean", structure, float(mean), "mm"), ("mae_sd", structure, float(sd), "mm")]
    return rows


def shared_structures(fixed_labels, moving_labels):
    """Say which labels can be compared: those that both images of a pair have, each on its own grid.

    What only one image has is a property of the pair and not of a method; Learn2Reg leaves it out as well.

    Returns
    -------
    shared, others : list of int
        Ascending; `others` has only one of the images. 0 is no label.
    """
    fixed, moving = (
        set(pd.unique(np.asarray(values).ravel()).tolist()) - {0} for values in (fixed_labels, moving_labels)
    )
    return sorted(fixed & moving), sorted(fixed ^ moving)


def overlap(fixed_labels, moved_labels, structures):
    """Return the rows of ``dice`` and ``iou`` for each structure (its number) and their unweighted ``mean``.

    A structure that only one of the maps has gets 0; one in neither map, and the mean over no structure, is NaN.
    """
    overlaps = labels.dice(fixed_labels, moved_labels)
    dices = {label: overlaps.get(label, np.nan) for label in structures}
    # From 2 |A ∩ B| / (|A| + |B|) to |A ∩ B| / |A ∪ B|, with |A ∪ B| = |A| + |B| - |A ∩ B|.
    ious = {label: value / (2 - value) for label, value in dices.items()}
    return _with_mean("dice", dices, "1") + _with_mean("iou", ious, "1")


def surface_agreement(compared):
    """Return the rows that compare surfaces, for each structure (its number) and their unweighted ``mean``.

    Parameters
    ----------
    compared : dict of int to (hd95_mm, mean_mm, surface_dice)
        See :func:`cohortmorph.evaluation.surfaces.compare_maps`.

    Returns
    -------
    list of tuple
        ``hd95`` and ``surface_distance_mean`` in mm, ``surface_dice`` in [0, 1]. A structure that was moved out of the
        grid, or lost between its voxels, has no distance: NaN, and so has the mean, since without it the method would
        gain by losing a structure.
    """
    rows = []
    for n, (name, unit) in enumerate([("hd95", "mm"), ("surface_distance_mean", "mm"), ("surface_dice", "1")]):
        rows += _with_mean(name, {label: values[n] for label, values in compared.items()}, unit)
    return rows


def _with_mean(name, values, unit):
    """Return a row for each structure and one of their mean; NaN in any of them is NaN in the mean."""
    mean = float(np.mean(list(values.values()))) if values else np.nan
    return [(name, str(label), value, unit) for label, value in values.items()] + [(name, "mean", mean, unit)]


def similarity(fixed, moved, mask=None):
    """Return the rows of normalized cross-correlation: squared and signed over all voxels, squared in local windows.

    Parameters
    ----------
    fixed, moved : array, shape (i, j, k)
        NaN in `moved` where the moving image does not reach: these voxels take no part. Nor do local windows (9 voxels
        wide, cut off at the border of the grid) that touch one; without any whole window ``ncc_local`` is NaN.
    mask : boolean array of that shape, optional
        Where to compare; the middle of a local window must lie in it.
    """
    covered = np.isfinite(moved) & np.isfinite(fixed)
    compared = covered if mask is None else covered & mask
    # Squaring the signed one saves a second pass over the voxels; it is the definition of the squared one.
    signed = ncc_signed(fixed, moved, compared)
    rows = [("ncc_squared", "image", signed**2, "1"), ("ncc_signed", "image", signed, "1")]
    whole = minimum_filter(covered, LOCAL_WINDOW, mode="constant", cval=True) & compared
    mean_local = np.nan
    if whole.any():
        # What is filled in lies in no window that counts; the mean keeps the images' scale.
        filled = [np.where(covered, image, np.mean(image, where=covered)) for image in (fixed, moved)]
        mean_local = float(local_ncc_squared(*filled, LOCAL_WINDOW)[whole].mean())
    return [*rows, ("ncc_local", "image", mean_local, "1")]


def coverage(fixed, moving, moved, mask=None):
    """Return the rows of how much there is to compare: ``overlap``, in %, and ``contrast`` of the images.

    Parameters
    ----------
    fixed, moving : array
        Prepared intensities (0 to 1), each on its own grid.
    moved, mask
        As in :func:`similarity`.

    Returns
    -------
    list of tuple
        ``overlap`` is the share of the mask that the moving image covers. ``contrast`` is the standard deviation of
        ``fixed`` over the mask, of ``moving`` as a whole, and of ``moved`` over what it covers of the mask: 0 for an
        image that shows nothing, NaN where there are no voxels.
    """
    wanted = np.isfinite(fixed) if mask is None else np.isfinite(fixed) & mask
    covered = wanted & np.isfinite(moved)
    share = 100 * covered.sum() / wanted.sum() if wanted.any() else np.nan
    parts = {"fixed": fixed[wanted], "moving": moving, "moved": moved[covered]}
    contrasts = {name: float(part.std(dtype=float)) if part.size else np.nan for name, part in parts.items()}
    rows = [("contrast", name, value, "1") for name, value in contrasts.items()]
    return [("overlap", "image", float(share), "%"), *rows]


def motion(field, affine):
    """Return the rows ``rotation`` (degrees), of the whole displacement, and ``border_displacement`` (mm).

    Parameters
    ----------
    field : SimpleITK vector image
        The displacement u.
    affine : SimpleITK transform
        Fixed → moving, the affine that the methods start from.

    Returns
    -------
    list of tuple
        ``rotation`` is the angle of the rotation in the affine map that fits x ↦ x + u(x) best (polar decomposition;
        a reflection counts as 180°). ``border_displacement`` is the 95th percentile, over the outermost voxels of the
        grid along each axis of at least three, of the distance between x + u(x) and the affine's own target.
    """
    grid, displacement_mm = Grid.of(field), to_array(field)
    border = np.zeros(grid.size, dtype=bool)
    for axis in range(3):
        if grid.size[axis] >= 3:
            np.moveaxis(border, axis, 0)[[0, -1]] = True
    some = np.meshgrid(*(np.arange(0, n, max(1, n // 32)) for n in grid.size), indexing="ij")
    indices = {"some": np.stack(some, axis=-1).reshape(-1, 3), "border": np.argwhere(border)}
    points = {name: grid.to_world(places) for name, places in indices.items()}
    targets = {name: points[name] + displacement_mm[tuple(places.T)] for name, places in indices.items()}
    before, after = (values["some"] - values["some"].mean(axis=0) for values in (points, targets))
    matrix = np.linalg.lstsq(before, after, rcond=None)[0].T
    # Along an axis of one voxel nothing can be fitted: what lies along it stays.
    for axis in np.flatnonzero(np.array(grid.size) == 1):
        matrix += np.outer(grid.axes[:, axis], grid.axes[:, axis])
    left, _, right = np.linalg.svd(matrix)
    turn = left @ right
    cosine = -1 if np.linalg.det(turn) < 0 else np.clip((np.trace(turn) - 1) / 2, -1, 1)
    matrix, offset_mm = matrix_and_offset(affine)
    beyond_mm = np.linalg.norm(targets["border"] - (points["border"] @ matrix.T + offset_mm), axis=-1)
    return [
        ("rotation", "image", float(np.degrees(np.arccos(cosine))), "degrees"),
        ("border_displacement", "image", float(np.percentile(beyond_mm, 95)) if beyond_mm.size else np.nan, "mm"),
    ]


def regularity(determinant, mask=None):
    """Return the rows of the Jacobian's determinant: how strongly space is deformed, and whether it folds.

    Parameters
    ----------
    determinant : array
        See :func:`cohortmorph.spatial.displacement.jacobian_determinant`.
    mask : boolean array of that shape, optional
        Where to look; the whole grid if there is none.

    Returns
    -------
    list of tuple
        ``jacobian_min``, ``jacobian_mean``, ``jacobian_p01``, ``jacobian_p99`` (percentiles); ``jacobian_sd_log``, the
        standard deviation of the logarithm of the positive determinants;
        ``jacobian_sd_log_learn2reg``, the same of all determinants + 3, clipped to 1e-9 … 1e9, without the two outer
        voxels of the grid (except along axes of no more than four), which is what Learn2Reg prints as SDlogJ: far
        smaller, and blind to folding; ``folding``, the percentage of voxels whose determinant is zero or negative.
        Central differences can miss a folding between neighbours: 0 % is no proof, see :func:`folded_volume`.
    """
    determinant = np.asarray(determinant)
    values = determinant.ravel() if mask is None else determinant[mask]
    minimum, sd_log, folding, mean, low, high = [np.nan] * 6
    if values.size:
        positive = values[values > 0].astype(float)
        sd_log = np.log(positive).std() if positive.size else np.nan
        minimum, folding = values.min(), 100 * (1 - positive.size / values.size)
        mean, (low, high) = values.mean(dtype=float), np.percentile(values, [1, 99])
    inner = tuple(
        slice(LEARN2REG_RIM, -LEARN2REG_RIM) if length > 2 * LEARN2REG_RIM else slice(None)
        for length in determinant.shape
    )
    inner_values = determinant[inner] if mask is None else determinant[inner][mask[inner]]
    raised = np.clip(inner_values.astype(float) + 3, 1e-9, 1e9)
    sd_log_learn2reg = np.log(raised).std() if raised.size else np.nan
    return [
        ("jacobian_min", "image", float(minimum), "1"),
        ("jacobian_mean", "image", float(mean), "1"),
        ("jacobian_p01", "image", float(low), "1"),
        ("jacobian_p99", "image", float(high), "1"),
        ("jacobian_sd_log", "image", float(sd_log), "1"),
        ("jacobian_sd_log_learn2reg", "image", float(sd_log_learn2reg), "1"),
        ("folding", "image", float(folding), "%"),
    ]


def volume_changes(determinant, fixed_labels):
    """Return a row ``volume_change`` for each structure of the fixed image, in %: mean det J over it, less 1.

    Parameters
    ----------
    determinant : array
        See :func:`cohortmorph.spatial.displacement.jacobian_determinant`: the local ratio of volumes, moving to fixed.
    fixed_labels : integer array of that shape

    Returns
    -------
    list of tuple
        Positive: the displacement says that the structure is larger in the moving image. Its structure is the label's
        number; there is no mean, as one organ's growth is not another's shrinking.
    """
    numbers, index = np.unique(np.asarray(fixed_labels).ravel(), return_inverse=True)
    sums = np.bincount(index, weights=np.asarray(determinant, dtype=float).ravel())
    changes = 100 * (sums / np.bincount(index) - 1)
    return [
        ("volume_change", str(int(label)), float(change), "%")
        for label, change in zip(numbers, changes, strict=True)
        if label > 0
    ]


def folded_volume(inverted, mask=None):
    """Return the row of the non-diffeomorphic volume, ``ndv``: what is turned inside out, in % of the volume measured.

    Parameters
    ----------
    inverted : array
        See :func:`cohortmorph.spatial.displacement.non_diffeomorphic_volume`.
    mask : boolean array of the image's shape, optional
        Where to look: the cubes with all eight corners in it. The whole grid if there is none.
    """
    values = inverted
    if mask is not None:
        whole = mask
        for axis, (voxels, cubes) in enumerate(zip(mask.shape, inverted.shape, strict=True)):
            if voxels > cubes:
                whole = whole.take(range(cubes), axis) & whole.take(range(1, voxels), axis)
        values = inverted[whole]
    return [("ndv", "image", 100 * float(values.mean(dtype=float)) if values.size else np.nan, "%")]


def inverse_consistency(errors_mm, mask=None):
    """Return the rows of how far the way there and back ends from its start, over the fixed image's voxels.

    Parameters
    ----------
    errors_mm : array
        See :func:`cohortmorph.spatial.displacement.inverse_error_mm`; NaN where the way back is not known.
    mask : boolean array of that shape, optional
        Where to look; the whole grid if there is none.

    Returns
    -------
    list of tuple
        ``inverse_consistency_mean`` and ``inverse_consistency_p95`` in mm over the voxels that stay on the reverse
        grid (NaN if none does); ``inverse_consistency_outside``, the percentage that leaves it.
    """
    errors_mm = errors_mm.ravel() if mask is None else errors_mm[mask]
    inside_mm = errors_mm[np.isfinite(errors_mm)].astype(float)
    mean, p95 = (inside_mm.mean(), np.percentile(inside_mm, 95)) if inside_mm.size else (np.nan, np.nan)
    outside = 100 * (1 - inside_mm.size / errors_mm.size) if errors_mm.size else np.nan
    return [
        ("inverse_consistency_mean", "image", float(mean), "mm"),
        ("inverse_consistency_p95", "image", float(p95), "mm"),
        ("inverse_consistency_outside", "image", float(outside), "%"),
    ]


def runtime(registration):
    """Return the rows of what a method reports of itself, from the content of its registration.json.

    ``runtime`` (s, from ``seconds``) always; where they are given, ``cpu_time`` (s, from ``cpu_seconds``),
    ``peak_memory`` (MB, from ``peak_memory_mb``) and ``fre`` (mm, from ``fre_mm``). Null becomes NaN.
    """
    values = {key: registration[key] for key in REPORTED if key == "seconds" or key in registration}
    return [
        (REPORTED[key][0], "image", np.nan if value is None else float(value), REPORTED[key][1])
        for key, value in values.items()
    ]


def of_failed(registration, others):
    """Return the rows of a registration that failed: those of the pair's other methods, each NaN.

    Parameters
    ----------
    registration : dict
        The content of its registration.json: what only such a method reports counts as well, whatever its value.
    others : list of list of tuple
        The rows of each method that succeeded. What a few methods alone report of themselves (``fre``) is no failure of
        the others, and is left out.
    """
    own = [(metric, "image", unit) for metric, _, _, unit in runtime({"seconds": None} | registration)]
    foreign = {"fre"} - {metric for metric, _, _ in own}
    keys = [(metric, of, unit) for rows in others for metric, of, _, unit in rows if metric not in foreign]
    return [(metric, structure, np.nan, unit) for metric, structure, unit in dict.fromkeys([*keys, *own])]
