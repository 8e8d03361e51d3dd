"""Point-based registration: the transform that carries fiducials onto their partners, and how far to trust it.

All points are LPS mm, all transforms map points of the fixed world to points of the moving world. The words are those
of image-guided surgery (Fitzpatrick, West and Maurer, IEEE Trans. Med. Imaging 17:694, 1998):

- FLE, fiducial localization error: how far a fiducial is found from its true place. FLE² stands for the expected
  squared distance, 3σ² for a standard deviation of σ mm along each axis; where it is localized in both images, for the
  sum of both;
- FRE, fiducial registration error: how far the registered fiducials lie from their partners. Here always the root mean
  square of the distances;
- TRE, target registration error: how far a point that took no part lies from its partner. FRE does not tell it.
"""

import time

import numpy as np
import SimpleITK as sitk
from scipy.spatial.transform import Rotation

from cohortmorph import UserError
from cohortmorph.cohort.sources import without_paths
from cohortmorph.registration.problem import Registered
from cohortmorph.registration.process import Cost
from cohortmorph.run.files import StrPath
from cohortmorph.run.logs import log
from cohortmorph.spatial import geometry, landmarks

# A set is flat along a direction in which it extends (root mean square) less than this share of its longest extent.
FLAT = 0.01
POINTS_NEEDED = {"rigid": 3, "affine": 4}
SHAPES = {"rigid": "one line", "affine": "one plane"}  # sets that leave the transform open


def register(model: str, fixed_fiducials: StrPath, moving_fiducials: StrPath) -> Registered:
    """Register two images by the fiducials in their files.

    Parameters
    ----------
    model : str
        As :func:`fit`'s.
    fixed_fiducials, moving_fiducials : path
        In any format of landmarks, matched by id, else row by row; "" where the cohort table names none.

    Returns
    -------
    Registered
        The cost is the fit's alone; the provenance has the fiducial registration error (mm) and their number.

    Raises
    ------
    UserError
        If there are no fiducials, or they do not determine the transform.
    """
    lacking = [name for name, path in {"fixed": fixed_fiducials, "moving": moving_fiducials}.items() if not path]
    if lacking:
        raise UserError(
            f"the {' and the '.join(lacking)} image has no fiducials. Name a file with them in the column `fiducials` "
            "of the cohort table, or take this method out of the configuration."
        )
    try:
        fixed, moving = map(landmarks.points_lps_mm, landmarks.read_pair(fixed_fiducials, moving_fiducials))
    except UserError as error:
        calls = {
            str(fixed_fiducials): "the fixed image's fiducials",
            str(moving_fiducials): "the moving image's fiducials",
        }
        raise UserError(without_paths(str(error), calls)) from None
    started, cpu_started = time.perf_counter(), time.process_time()
    transform = fit(model, fixed, moving)
    cost = Cost(time.perf_counter() - started, time.process_time() - cpu_started)
    if is_mirrored(fixed, moving):
        log.warning(
            "%s and %s fit better mirrored: check left and right, and the frame of both files.",
            fixed_fiducials,
            moving_fiducials,
        )
    how = {"threads": 1, "fre_mm": fre_mm(transform, fixed, moving), "fiducials": len(fixed)}
    return Registered(transform, cost, how)


def fit(model: str, fixed_lps_mm: np.ndarray, moving_lps_mm: np.ndarray) -> sitk.AffineTransform:
    """Fit a transform to fiducials by least squares.

    Parameters
    ----------
    model : str
        ``"rigid"`` (:func:`fit_rigid`) or ``"affine"`` (:func:`fit_affine`).
    fixed_lps_mm, moving_lps_mm : array, shape (n, 3)
        Row i of both is the same fiducial.

    Returns
    -------
    fixed_to_moving : SimpleITK.AffineTransform

    Raises
    ------
    UserError
        If the fiducials do not determine the transform.
    """
    return {"rigid": fit_rigid, "affine": fit_affine}[model](fixed_lps_mm, moving_lps_mm)


def fit_rigid(fixed_lps_mm: np.ndarray, moving_lps_mm: np.ndarray) -> sitk.AffineTransform:
    """Fit rotation and translation (orthogonal Procrustes, Kabsch): the least sum of squared distances.

    The determinant is always +1, for points in one plane and for mirrored points as well: no patient is mirrored.

    Parameters
    ----------
    fixed_lps_mm, moving_lps_mm : array, shape (n, 3), n ≥ 3
        Row i of both is the same fiducial.

    Returns
    -------
    fixed_to_moving : SimpleITK.AffineTransform

    Raises
    ------
    UserError
        If there are fewer than three points, if they lie on one line, or if they are not finite.
    """
    fixed, moving = _checked("rigid", fixed_lps_mm, moving_lps_mm)
    rotation, _ = Rotation.align_vectors(moving - moving.mean(axis=0), fixed - fixed.mean(axis=0))
    matrix = rotation.as_matrix()
    return geometry.affine(matrix, moving.mean(axis=0) - matrix @ fixed.mean(axis=0))


def fit_affine(fixed_lps_mm: np.ndarray, moving_lps_mm: np.ndarray) -> sitk.AffineTransform:
    """Fit an affine transform: the least sum of squared distances.

    Parameters
    ----------
    fixed_lps_mm, moving_lps_mm : array, shape (n, 3), n ≥ 4
        Row i of both is the same fiducial.

    Returns
    -------
    fixed_to_moving : SimpleITK.AffineTransform

    Raises
    ------
    UserError
        If there are fewer than four points, if they lie in one plane, if they are not finite, or if the best transform
        mirrors.
    """
    fixed, moving = _checked("affine", fixed_lps_mm, moving_lps_mm)
    # About the centroids, for the digits' sake: a scanner's origin may be a metre away.
    matrix = np.linalg.lstsq(fixed - fixed.mean(axis=0), moving - moving.mean(axis=0), rcond=None)[0].T
    if np.linalg.det(matrix) <= 0:
        raise UserError(
            "the affine transform that fits the fiducials best mirrors the patient. Check that the same id means the "
            "same point in both files (left and right), and that the frame of both files is the one that they state."
        )
    return geometry.affine(matrix, moving.mean(axis=0) - matrix @ fixed.mean(axis=0))


def is_mirrored(fixed_lps_mm: np.ndarray, moving_lps_mm: np.ndarray) -> bool:
    """Say whether fiducials that lie not in one plane fit better once mirrored: then left and right are exchanged."""
    fixed, moving = (points - points.mean(axis=0) for points in (np.asarray(fixed_lps_mm), np.asarray(moving_lps_mm)))
    return not (_is_flat(fixed, 2) or _is_flat(moving, 2)) and bool(np.linalg.det(fixed.T @ moving) < 0)


def fre_mm(fixed_to_moving: sitk.Transform, fixed_lps_mm: np.ndarray, moving_lps_mm: np.ndarray) -> float:
    """Return the fiducial registration error: the root mean square of the distances that the transform leaves.

    Parameters
    ----------
    fixed_to_moving : SimpleITK transform
    fixed_lps_mm, moving_lps_mm : array, shape (n, 3)

    Returns
    -------
    float
        FRE in mm; FRE² = Σᵢ ‖T(xᵢ) − yᵢ‖² / n.
    """
    matrix, offset_mm = geometry.matrix_and_offset(fixed_to_moving)
    left_mm = np.asarray(fixed_lps_mm) @ matrix.T + offset_mm - np.asarray(moving_lps_mm)
    return float(np.sqrt((left_mm**2).sum(axis=1).mean()))


def expected_fre_squared_mm2(fiducials: int | np.ndarray, fle_squared_mm2: float) -> np.ndarray:
    """Predict the mean of FRE² over registrations: ⟨FRE²⟩ = (1 − 2/N) ⟨FLE²⟩.

    Parameters
    ----------
    fiducials : int or array
        Their number N, at least 3. Neither their places nor the target matter.
    fle_squared_mm2 : float
        Expected squared localization error, 3σ².

    Returns
    -------
    array (of an int: a number)
        mm², of a rigid registration with independent errors that are alike along all axes and at all fiducials.

    Notes
    -----
    Sibson, J. R. Statist. Soc. B 41:217 (1979), in the form of Fitzpatrick, West and Maurer 1998: to first order in
    FLE / extent of the configuration.
    """
    return (1 - 2 / np.asarray(fiducials)) * fle_squared_mm2


def expected_tre_squared_mm2(
    targets_lps_mm: np.ndarray, fiducials_lps_mm: np.ndarray, fle_squared_mm2: float
) -> np.ndarray:
    """Predict the mean of TRE² over registrations: ⟨TRE²(r)⟩ = ⟨FLE²⟩ / N · (1 + ⅓ Σₖ dₖ² / fₖ²).

    Parameters
    ----------
    targets_lps_mm : array, shape (..., 3)
        The targets r, one for each configuration (or one for all).
    fiducials_lps_mm : array, shape (..., n, 3)
        Configurations of fiducials, none of them on one line.
    fle_squared_mm2 : float
        Expected squared localization error, 3σ².

    Returns
    -------
    array, shape (...)
        mm². dₖ is the distance of the target from principal axis k of the fiducials, fₖ the root mean square of the
        fiducials' own distances from it.

    Notes
    -----
    Fitzpatrick, West and Maurer 1998 (its main result); conditions as for :func:`expected_fre_squared_mm2`.
    """
    fiducials = np.asarray(fiducials_lps_mm, dtype=float)
    centroid = fiducials.mean(axis=-2, keepdims=True)
    arms = fiducials - centroid
    count = fiducials.shape[-2]
    mean_squares, axes = np.linalg.eigh(np.swapaxes(arms, -1, -2) @ arms / count)
    target = np.einsum("...ik,...i->...k", axes, np.asarray(targets_lps_mm, dtype=float) - centroid[..., 0, :])
    d_squared = (target**2).sum(axis=-1, keepdims=True) - target**2
    f_squared = mean_squares.sum(axis=-1, keepdims=True) - mean_squares
    return fle_squared_mm2 / count * (1 + (d_squared / f_squared).sum(axis=-1) / 3)


def _checked(model: str, fixed_lps_mm: np.ndarray, moving_lps_mm: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return both sets as float arrays; a set that does not determine the transform is a UserError."""
    fixed, moving = np.asarray(fixed_lps_mm, dtype=float), np.asarray(moving_lps_mm, dtype=float)
    if fixed.shape != moving.shape or fixed.ndim != 2 or fixed.shape[1] != 3:
        raise UserError(
            f"found fiducials of shapes {fixed.shape} (fixed) and {moving.shape} (moving); expected the same points in "
            "both images, each with three coordinates (mm)."
        )
    if len(fixed) < POINTS_NEEDED[model]:
        raise UserError(
            f"found {len(fixed)} fiducials; a registration of kind `{model}` needs at least {POINTS_NEEDED[model]}."
        )
    for name, points in {"fixed": fixed, "moving": moving}.items():
        if not np.isfinite(points).all():
            raise UserError(f"fiducials of the {name} image have coordinates that are not finite numbers (mm).")
        if _is_flat(points, POINTS_NEEDED[model] - 2):
            raise UserError(
                f"the {len(points)} fiducials of the {name} image lie in {SHAPES[model]} (within {FLAT:.0%} of their "
                f"extent), which leaves a registration of kind `{model}` open. Add fiducials away from it"
                + (", or use the kind `rigid`." if model == "affine" else ".")
            )
    return fixed, moving


def _is_flat(points: np.ndarray, dimension: int) -> bool:
    """Say whether points extend along at most `dimension` directions (1: a line, 2: a plane)."""
    extents = np.linalg.svd(points - points.mean(axis=0), compute_uv=False)
    return len(extents) <= dimension or bool(extents[dimension] <= FLAT * extents[0])
