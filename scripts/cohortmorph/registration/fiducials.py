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

import numpy as np
from scipy.spatial.transform import Rotation

from cohortmorph import UserError
from cohortmorph.spatial import geometry

# A set is flat along a direction in which it extends (root mean square) less than this share of its longest extent.
FLAT = 0.01
POINTS_NEEDED = {"rigid": 3, "affine": 4}
SHAPES = {"rigid": "one line", "affine": "one plane"}  # sets that leave the transform open


def fit(kind, fixed_lps_mm, moving_lps_mm):
    """Fit the transform of a kind to fiducials by least squares.

    Parameters
    ----------
    kind : str
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
    return {"rigid": fit_rigid, "affine": fit_affine}[kind](fixed_lps_mm, moving_lps_mm)


def fit_rigid(fixed_lps_mm, moving_lps_mm):
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


def fit_affine(fixed_lps_mm, moving_lps_mm):
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


def is_mirrored(fixed_lps_mm, moving_lps_mm):
    """Say whether fiducials that lie not in one plane fit better once mirrored: then left and right are exchanged."""
    fixed, moving = (points - points.mean(axis=0) for points in (np.asarray(fixed_lps_mm), np.asarray(moving_lps_mm)))
    return not (_is_flat(fixed, 2) or _is_flat(moving, 2)) and bool(np.linalg.det(fixed.T @ moving) < 0)


def fre_mm(fixed_to_moving, fixed_lps_mm, moving_lps_mm):
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


def expected_fre_squared_mm2(fiducials, fle_squared_mm2):
    """Predict the mean of FRE² over registrations: ⟨FRE²⟩ = (1 − 2/N) ⟨FLE²⟩.

    Parameters
    ----------
    fiducials : int or array
        Their number N, at least 3. Neither their places nor the target matter.
    fle_squared_mm2 : float
        Expected squared localization error, 3σ².

    Returns
    -------
    float or array
        mm², of a rigid registration with independent errors that are alike along all axes and at all fiducials.

    Notes
    -----
    Sibson, J. R. Statist. Soc. B 41:217 (1979), in the form of Fitzpatrick, West and Maurer 1998: to first order in
    FLE / extent of the configuration.
    """
    return (1 - 2 / np.asarray(fiducials)) * fle_squared_mm2


def expected_tre_squared_mm2(targets_lps_mm, fiducials_lps_mm, fle_squared_mm2):
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


def _checked(kind, fixed_lps_mm, moving_lps_mm):
    """Return both sets as float arrays; a set that does not determine the transform is a UserError."""
    fixed, moving = np.asarray(fixed_lps_mm, dtype=float), np.asarray(moving_lps_mm, dtype=float)
    if fixed.shape != moving.shape or fixed.ndim != 2 or fixed.shape[1] != 3:
        raise UserError(
            f"found fiducials of shapes {fixed.shape} (fixed) and {moving.shape} (moving); expected the same points in "
            "both images, each with three coordinates (mm)."
        )
    if len(fixed) < POINTS_NEEDED[kind]:
        raise UserError(
            f"found {len(fixed)} fiducials; a registration of kind `{kind}` needs at least {POINTS_NEEDED[kind]}."
        )
    for name, points in {"fixed": fixed, "moving": moving}.items():
        if not np.isfinite(points).all():
            raise UserError(f"fiducials of the {name} image have coordinates that are not finite numbers (mm).")
        if _is_flat(points, POINTS_NEEDED[kind] - 2):
            raise UserError(
                f"the {len(points)} fiducials of the {name} image lie in {SHAPES[kind]} (within {FLAT:.0%} of their "
                f"extent), which leaves a registration of kind `{kind}` open. Add fiducials away from it"
                + (", or use the kind `rigid`." if kind == "affine" else ".")
            )
    return fixed, moving


def _is_flat(points, dimension):
    """Say whether points extend along at most `dimension` directions (1: a line, 2: a plane)."""
    extents = np.linalg.svd(points - points.mean(axis=0), compute_uv=False)
    return len(extents) <= dimension or bool(extents[dimension] <= FLAT * extents[0])
