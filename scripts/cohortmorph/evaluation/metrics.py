"""How good a displacement is: one function a metric, each giving rows (metric, structure, value, unit).

The rows of all methods and pairs stack up to one tidy table, one value a row, see tables.py. A value that should exist
and does not (no landmark on the grid, nothing covered, a failed registration) is NaN, never left out. Where a metric
has no meaning for a pair at all, whichever the method (no landmark near after the affine), or needs a file that cannot
be read, there is no row.
docs/metrics.md has every definition and its source, measures.py the unit and the direction.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import SimpleITK as sitk
from numpy.typing import ArrayLike
from scipy.ndimage import minimum_filter
from scipy.stats import entropy

from cohortmorph.evaluation.measures import Row, row
from cohortmorph.spatial import displacement
from cohortmorph.spatial.geometry import Grid, matrix_and_offset, to_array
from cohortmorph.spatial.ncc import LocalNcc, ncc_signed

LOCAL_WINDOW = 9
NMI_BINS = 64


def landmark_errors_mm(fixed_lps_mm: ArrayLike, moving_lps_mm: ArrayLike, field: sitk.Image) -> np.ndarray:
    """Return x + u(x) - y for each landmark, LPS, shape (n, 3); NaN where x lies outside of the field's grid.

    Parameters
    ----------
    fixed_lps_mm, moving_lps_mm : array, shape (n, 3)
        The same landmark in the fixed (x) and in the moving image (y).
    field : SimpleITK vector image
        The displacement u.
    """
    return displacement.move_points(fixed_lps_mm, field) - np.asarray(moving_lps_mm, dtype=float)


def near_landmarks(
    fixed_lps_mm: ArrayLike, moving_lps_mm: ArrayLike, affine: sitk.Transform, near_mm: float
) -> np.ndarray:
    """Say for each landmark whether the affine transform (fixed → moving) brings it within `near_mm`.

    RegNet's TRE′ leaves out what lies beyond a network's reach. The affine alone decides, so that all methods are
    measured on the same landmarks.
    """
    moved = np.array([affine.TransformPoint(tuple(map(float, point))) for point in np.asarray(fixed_lps_mm)])
    return np.linalg.norm(moved.reshape(-1, 3) - np.asarray(moving_lps_mm), axis=1) <= near_mm


def target_registration_error(errors_mm: ArrayLike, near: ArrayLike) -> list[Row]:
    """Return the rows of the target registration error, mean ‖x + u(x) - y‖, as in RegNet's Table 2.1.

    Parameters
    ----------
    errors_mm : array, shape (n, 3)
        See :func:`landmark_errors_mm`. NaN, a landmark outside of the grid, is counted and takes no part in the rest.
    near : boolean array, shape (n,)
        The landmarks of TRE′, see :func:`near_landmarks`.

    Returns
    -------
    list of Row
        ``tre_mean, tre_sd, tre_median, tre_p95, tre_max`` and ``tre_near_mean, tre_near_sd`` in mm, for the total
        length and the absolute error along each LPS axis (structure ``total``, ``x``, ``y``, ``z``); the standard
        deviation is that of these landmarks (divided by n). ``landmarks_n, landmarks_outside, tre_near_n`` are counts.
    """
    errors_mm = np.asarray(errors_mm, dtype=float).reshape(-1, 3)
    inside = np.isfinite(errors_mm).all(axis=1)
    near_inside = inside & np.asarray(near, dtype=bool)
    statistics: dict[str, Callable[[np.ndarray], Any]] = {
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
            rows.append(row(f"tre_{name}", structure, float(value)))
        for name in ["mean", "sd"] if near_inside.any() else []:
            rows.append(row(f"tre_near_{name}", structure, float(statistics[name](length_mm[near_inside]))))
    counts = {"landmarks_n": inside, "landmarks_outside": ~inside, "tre_near_n": near_inside}
    return rows + [row(name, "total", int(chosen.sum())) for name, chosen in counts.items()]


def robustness(fixed_lps_mm: ArrayLike, moving_lps_mm: ArrayLike, errors_mm: ArrayLike) -> list[Row]:
    """Return the rows that compare each landmark's error with that before registration, ‖x - y‖.

    Parameters
    ----------
    fixed_lps_mm, moving_lps_mm : array, shape (n, 3)
        The landmarks where the scanners saw them, x and y.
    errors_mm : array, shape (n, 3)
        See :func:`landmark_errors_mm`; landmarks outside of the grid take no part.

    Returns
    -------
    list of Row
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
    return [row("landmarks_improved", "total", float(improved)), row("tre_relative", "total", float(relative))]


def field_error(field: sitk.Image, true_field: sitk.Image, mask: np.ndarray | None = None) -> list[Row]:
    """Return the rows of the mean absolute error against a known displacement, RegNet's MAE.

    Parameters
    ----------
    field, true_field : SimpleITK vector image
        In mm, LPS, on the same grid.
    mask : boolean array of that shape, optional
        Where to compare; the whole grid if there is none.

    Returns
    -------
    list of Row
        ``mae_mean`` and ``mae_sd`` (divided by n) in mm over the voxels, of the length ‖u - u_true‖ (structure
        ``total``) and of the absolute error along each LPS axis (``x``, ``y``, ``z``); NaN if the mask is empty.
    """
    difference_mm = to_array(field).astype(float) - to_array(true_field)
    errors_mm = np.abs(difference_mm.reshape(-1, 3) if mask is None else difference_mm[mask])
    lengths_mm = {"total": np.linalg.norm(errors_mm, axis=1)} | {axis: errors_mm[:, n] for n, axis in enumerate("xyz")}
    rows = []
    for structure, length_mm in lengths_mm.items():
        mean, sd = (length_mm.mean(), length_mm.std()) if length_mm.size else (np.nan, np.nan)
        rows += [row("mae_mean", structure, float(mean)), row("mae_sd", structure, float(sd))]
    return rows


def shared_structures(fixed_labels: ArrayLike, moving_labels: ArrayLike) -> tuple[list[int], list[int]]:
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


def dice(fixed: ArrayLike, moved: ArrayLike) -> dict[int, float]:
    """Return the Dice coefficient 2 |A ∩ B| / (|A| + |B|) of each label.

    Parameters
    ----------
    fixed, moved : integer array, any equal shape

    Returns
    -------
    dict of int to float
        In the order of the labels. A label in one of the two maps only has 0; 0 (no structure) is not a label.
    """
    fixed, moved = np.asarray(fixed), np.asarray(moved)
    if fixed.shape != moved.shape:
        raise ValueError(f"label maps of shapes {fixed.shape} and {moved.shape} cannot be compared voxel by voxel")
    # One pass for all labels: an atlas has a hundred of them.
    numbers, labels = pd.factorize(np.concatenate([fixed.ravel(), moved.ravel()]), sort=True)
    fixed_numbers, moved_numbers = np.split(numbers, 2)
    fixed_count, moved_count, common = (
        np.bincount(chosen, minlength=len(labels))
        for chosen in (fixed_numbers, moved_numbers, fixed_numbers[fixed_numbers == moved_numbers])
    )
    overlap = 2 * common / (fixed_count + moved_count)
    return {int(label): float(value) for label, value in zip(labels, overlap, strict=True) if label != 0}


def overlap(fixed_labels: ArrayLike, moved_labels: ArrayLike, structures: Sequence[int]) -> list[Row]:
    """Return the rows of ``dice`` and ``iou`` for each structure (its number) and their unweighted ``mean``.

    A structure that only one of the maps has gets 0; one in neither map, and the mean over no structure, is NaN.
    """
    overlaps = dice(fixed_labels, moved_labels)
    dices = {label: overlaps.get(label, np.nan) for label in structures}
    # From 2 |A ∩ B| / (|A| + |B|) to |A ∩ B| / |A ∪ B|, with |A ∪ B| = |A| + |B| - |A ∩ B|.
    ious = {label: value / (2 - value) for label, value in dices.items()}
    return _with_mean("dice", dices) + _with_mean("iou", ious)


class SurfaceAgreement(NamedTuple):
    """How well two surfaces of one structure agree.

    Attributes
    ----------
    hd95_mm : float
        The larger of the two 95th percentiles (by area) of the distances from one surface to the other.
    mean_mm : float
        The mean distance (by area) over both surfaces.
    surface_dice : float
        The share of both areas that lies within the tolerance of the other surface.
    """

    hd95_mm: float
    mean_mm: float
    surface_dice: float


def surface_agreement(compared: Mapping[int, SurfaceAgreement]) -> list[Row]:
    """Return the rows that compare surfaces, for each structure (its number) and their unweighted ``mean``.

    Parameters
    ----------
    compared : dict of int to SurfaceAgreement
        See :func:`cohortmorph.evaluation.surfaces.compare_maps`.

    Returns
    -------
    list of Row
        ``hd95`` and ``surface_distance_mean`` in mm, ``surface_dice`` in [0, 1]. A structure that was moved out of the
        grid, or lost between its voxels, has no distance: NaN, and so has the mean, since without it the method would
        gain by losing a structure.
    """
    return [
        *_with_mean("hd95", {label: of.hd95_mm for label, of in compared.items()}),
        *_with_mean("surface_distance_mean", {label: of.mean_mm for label, of in compared.items()}),
        *_with_mean("surface_dice", {label: of.surface_dice for label, of in compared.items()}),
    ]


def _with_mean(name: str, values: Mapping[int, float]) -> list[Row]:
    """Return a row for each structure and one of their mean; NaN in any of them is NaN in the mean."""
    mean = float(np.mean(list(values.values()))) if values else np.nan
    return [row(name, str(label), value) for label, value in values.items()] + [row(name, "mean", mean)]


def similarity(
    fixed: np.ndarray, moved: np.ndarray, mask: np.ndarray | None = None, windows: LocalNcc | None = None
) -> list[Row]:
    """Return the rows of how alike two images look: NCC over all voxels and in local windows, and NMI.

    All methods of a pair are compared over the same voxels, those of the mask. Where the moving image does not reach,
    nothing is known of it: these voxels explain nothing of the fixed image, but what they hide of it counts. Left out,
    they would make a method look better that moves out of view what does not match.

    Parameters
    ----------
    fixed, moved : array, shape (i, j, k)
        Prepared intensities (0 to 1); NaN in `moved` where the moving image does not reach.
    mask : boolean array of that shape, optional
        Where to compare; the middle of a local window (9 voxels wide, cut off at the border) must lie in it.
    windows : LocalNcc, optional
        Those of `fixed`, if they are known already: most of the time goes into them.

    Returns
    -------
    list of Row
        ``ncc_squared, ncc_signed, ncc_local, nmi``; without any voxel to compare NaN. For comparing pairs and not
        methods ``ncc_local_covered``, over the windows that are covered as a whole, and ``nmi_covered``, over the
        voxels that are covered; without any NaN.
    """
    wanted = np.ones(fixed.shape, dtype=bool) if mask is None else mask
    covered = wanted & np.isfinite(moved)
    # The mean explains nothing. Squared, this is the NCC over what is covered, times its share of fixed's variation.
    mean = np.mean(moved, where=covered, dtype=float) if covered.any() else 0
    # Squaring the signed one saves a second pass over the voxels; it is the definition of the squared one.
    signed = ncc_signed(fixed, np.where(covered, moved, mean), wanted)
    local = (windows or LocalNcc(fixed, LOCAL_WINDOW)).squared(moved)
    whole = minimum_filter(np.isfinite(moved), LOCAL_WINDOW, mode="constant", cval=True) & wanted
    return [
        row("ncc_squared", "image", signed**2),
        row("ncc_signed", "image", signed),
        row("ncc_local", "image", float(local[wanted].mean()) if wanted.any() else np.nan),
        row("ncc_local_covered", "image", float(local[whole].mean()) if whole.any() else np.nan),
        row("nmi", "image", normalized_mutual_information(fixed[wanted], moved[wanted])),
        row("nmi_covered", "image", normalized_mutual_information(fixed[covered], moved[covered])),
    ]


def normalized_mutual_information(fixed: np.ndarray, moved: np.ndarray) -> float:
    """Return Studholme's normalized mutual information, (H(F) + H(M)) / H(F, M), 1 (independent) to 2.

    Parameters
    ----------
    fixed, moved : array, shape (n,)
        Prepared intensities (0 to 1), in 64 bins each; NaN in `moved` where it is not known. There its intensities are
        taken to be spread as where they are known, and independent of the fixed ones.

    Returns
    -------
    float
        1 where one of them is constant, or `moved` nowhere known; NaN without any voxel.
    """
    if not fixed.size:
        return np.nan
    known = np.isfinite(moved)
    if not known.any():
        return 1.0
    bins = [np.clip((image * NMI_BINS).astype(int), 0, NMI_BINS - 1) for image in (fixed, np.where(known, moved, 0))]
    both = bins[0][known] * NMI_BINS + bins[1][known]
    joint = np.bincount(both, minlength=NMI_BINS**2).reshape(NMI_BINS, NMI_BINS) / fixed.size
    unknown = np.bincount(bins[0][~known], minlength=NMI_BINS) / fixed.size
    joint += np.outer(unknown, joint.sum(axis=0) / joint.sum())
    of_both = entropy(joint, axis=None)
    # One value in each image: nothing is told of the other.
    return float((entropy(joint.sum(axis=1)) + entropy(joint.sum(axis=0))) / of_both) if of_both > 0 else 1.0


def coverage(fixed: np.ndarray, moving: np.ndarray, moved: np.ndarray, mask: np.ndarray | None = None) -> list[Row]:
    """Return the rows of how much there is to compare: ``overlap``, in %, and ``contrast`` of the images.

    Parameters
    ----------
    fixed, moving : array
        Prepared intensities (0 to 1), each on its own grid.
    moved, mask
        As in :func:`similarity`.

    Returns
    -------
    list of Row
        ``overlap`` is the share of the mask that the moving image covers. ``contrast`` is the standard deviation of
        ``fixed`` over the mask, of ``moving`` as a whole, and of ``moved`` over what it covers of the mask: 0 for an
        image that shows nothing, NaN where there are no voxels.
    """
    wanted = np.isfinite(fixed) if mask is None else np.isfinite(fixed) & mask
    covered = wanted & np.isfinite(moved)
    share = 100 * covered.sum() / wanted.sum() if wanted.any() else np.nan
    parts = {"fixed": fixed[wanted], "moving": moving, "moved": moved[covered]}
    contrasts = {name: float(part.std(dtype=float)) if part.size else np.nan for name, part in parts.items()}
    rows = [row("contrast", name, value) for name, value in contrasts.items()]
    return [row("overlap", "image", float(share)), *rows]


def motion(field: sitk.Image, affine: sitk.Transform) -> list[Row]:
    """Return the rows ``rotation`` (degrees), of the whole displacement, and ``border_displacement`` (mm).

    Parameters
    ----------
    field : SimpleITK vector image
        The displacement u.
    affine : SimpleITK transform
        Fixed → moving, the affine that the methods start from.

    Returns
    -------
    list of Row
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
        row("rotation", "image", float(np.degrees(np.arccos(cosine)))),
        row("border_displacement", "image", float(np.percentile(beyond_mm, 95)) if beyond_mm.size else np.nan),
    ]
