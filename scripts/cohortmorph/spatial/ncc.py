"""Normalized cross-correlation (NCC) as the fusion course writes it: squared, so that inverted contrast is agreement.

``NCC(R, I) = (Σ (I - Ī)(R - R̄))² / (Σ (I - Ī)² Σ (R - R̄)²)`` lies in [0, 1] and stays as it is under I → a·I + b, also
for negative a. The course writes the means as functions of the pixel, so both readings are here: global (one mean an
image) and local (the mean of a window around each pixel).

An image without contrast agrees with nothing: zero variance gives 0 in every function here. All sums are float64.
"""

import numpy as np
from scipy.ndimage import uniform_filter

# Rounding alone leaves a constant image a standard deviation of this many times its largest value.
ROUNDING = 1e-12
# A window is flat if its variance is below this fraction of the image's: there the quotient is rounding over rounding.
FLAT_WINDOW = 1e-6


def ncc_signed(a: np.ndarray, b: np.ndarray, mask: np.ndarray | None = None) -> float:
    """Return Pearson's correlation of two images, in [-1, 1]; negative means inverted contrast.

    Parameters
    ----------
    a, b : array, any equal shape
    mask : boolean array of that shape, optional
        Where to compare.

    Returns
    -------
    float
        0 if either image is constant; NaN if the mask is empty, or if a value compared is NaN.
    """
    a, b = _same_shape(a, b)
    if mask is not None:
        mask = np.asarray(mask, dtype=bool)
        if mask.shape != a.shape:
            raise ValueError(f"a mask of shape {mask.shape} does not fit images of shape {a.shape}")
        a, b = a[mask], b[mask]
    if a.size == 0 or np.isnan(a).any() or np.isnan(b).any():
        return float("nan")
    return float(np.clip(_standardized(a.reshape(1, -1)) @ _standardized(b.reshape(1, -1)).T, -1, 1)[0, 0])


def ncc_squared(a: np.ndarray, b: np.ndarray, mask: np.ndarray | None = None) -> float:
    """Return the course's NCC of two images, in [0, 1], blind to the sign of the contrast (see :func:`ncc_signed`)."""
    return ncc_signed(a, b, mask) ** 2


def local_ncc_squared(a: np.ndarray, b: np.ndarray, window: int) -> np.ndarray:
    """Return the map of the squared NCC in a window around each pixel; see :class:`LocalNcc`."""
    return LocalNcc(a, window).squared(b)


class LocalNcc:
    """The squared NCC of one image with any number of others, in a window around each pixel.

    Parameters
    ----------
    a : array, any shape
    window : int
        Odd edge length, in pixels, of the window: a square in 2-D, a cube in 3-D. At the border it is cut off.
    """

    def __init__(self, a: np.ndarray, window: int) -> None:
        if window < 1 or window % 2 == 0:
            raise ValueError(f"window is {window}: an odd number of pixels, at least 1, has a middle")
        a = np.asarray(a, dtype=float)
        self.window = window
        # Standardizing first makes the result independent of scale and offset, and FLAT_WINDOW a fraction.
        self._a = _standardized(a.reshape(1, -1)).reshape(a.shape) * np.sqrt(a.size)
        # Means over all pixels of the box, also those beyond the border, as 0: only quotients of them are used.
        self._inside, self._a_mean = self._box_mean(np.ones(a.shape)), self._box_mean(self._a)
        self._a_variance = self._box_mean(self._a**2) / self._inside - (self._a_mean / self._inside) ** 2

    def _box_mean(self, values: np.ndarray) -> np.ndarray:
        return uniform_filter(values, self.window, mode="constant")

    def squared(self, b: np.ndarray) -> np.ndarray:
        """Return the map of the squared NCC with another image.

        Parameters
        ----------
        b : array of the same shape
            NaN where it is not known: these pixels take the mean of `b` over the rest of the window, so that they
            explain nothing of `a`. The value is the squared NCC over the pixels that are known, times the share that
            they have of a's variation in the window.

        Returns
        -------
        array of that shape
            Values in [0, 1]; 0 in windows that are flat in either image: a variance below 1e-6 of the whole image's.
        """
        a, b = _same_shape(self._a, b)
        known = np.isfinite(b)
        if not known.any():
            return np.zeros(a.shape)
        b_standardized = np.zeros(b.shape)
        b_standardized[known] = _standardized(b[known].reshape(1, -1))[0] * np.sqrt(known.sum())
        b = b_standardized
        share, a_known = self._inside, self._a_mean
        if not known.all():
            # A pixel is a whole one: what is less is rounding.
            share = np.rint(self._box_mean(known.astype(float)) * self.window**a.ndim) / self.window**a.ndim
            a_known = self._box_mean(np.where(known, a, 0))
        b_sum = self._box_mean(b)
        b_mean = np.divide(b_sum, share, out=np.zeros(a.shape), where=share > 0)
        b_variance = (self._box_mean(b * b) - b_mean * b_sum) / self._inside
        covariance = (self._box_mean(a * b) - b_mean * a_known) / self._inside
        has_contrast = (self._a_variance > FLAT_WINDOW) & (b_variance > FLAT_WINDOW)
        variances = self._a_variance * b_variance
        squared = np.divide(covariance**2, variances, out=np.zeros(a.shape), where=has_contrast)
        return np.minimum(squared, 1)


def local_ncc_squared_matrix(a: np.ndarray, b: np.ndarray, window: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the local squared NCC of every slice of one stack with every slice of another.

    Each value is the mean over windows laid side by side, so that all pairs cost one matrix product a window.

    Parameters
    ----------
    a : array, shape (m, rows, columns)
    b : array, shape (n, rows, columns)
        NaN where a slice has no value: two slices are compared in the windows in which both have values everywhere.
    window : int
        Edge length, in pixels, of the square windows. Rows and columns beyond a multiple of it are left out.

    Returns
    -------
    mean : array, shape (m, n)
        In [0, 1]; NaN where two slices share no window. Windows that are flat in either slice, as in
        :func:`local_ncc_squared`, count as 0.
    windows : int array, shape (m, n)
        How many windows were compared.
    """
    a_windows, a_covered = _standardized_windows(np.asarray(a, dtype=float), window)
    b_windows, b_covered = _standardized_windows(np.asarray(b, dtype=float), window)
    total = np.zeros((len(a), len(b)))
    for a_window, b_window in zip(a_windows, b_windows, strict=True):
        total += np.minimum((a_window @ b_window.T) ** 2, 1)
    compared = a_covered.T.astype(int) @ b_covered.astype(int)
    return np.divide(total, compared, out=np.full(total.shape, np.nan), where=compared > 0), compared


def _same_shape(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return both images as float64; different shapes are a ValueError."""
    a, b = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    if a.shape != b.shape:
        raise ValueError(f"images of shapes {a.shape} and {b.shape} cannot be compared pixel by pixel")
    return a, b


def _standardized(rows: np.ndarray) -> np.ndarray:
    """Return each row with zero mean and Euclidean norm one; constant rows become zero."""
    centred = rows - rows.mean(axis=1, keepdims=True)
    norm = np.linalg.norm(centred, axis=1, keepdims=True)
    rounding = ROUNDING * np.sqrt(rows.shape[1]) * np.abs(rows).max(axis=1, keepdims=True, initial=0)
    return np.divide(centred, norm, out=np.zeros(rows.shape), where=norm > rounding)


def _standardized_windows(stack: np.ndarray, window: int) -> tuple[np.ndarray, np.ndarray]:
    """Cut slices into windows side by side and standardize each.

    Returns
    -------
    values : array, shape (windows, slices, window²)
        Zero in windows that are flat or not covered.
    covered : boolean array, shape (windows, slices)
    """
    count, *size = stack.shape
    rows, columns = (length // window for length in size)
    # What is left over is cut off on both sides.
    top, left = ((length % window) // 2 for length in size)
    cut = stack[:, top : top + rows * window, left : left + columns * window]
    values = cut.reshape(count, rows, window, columns, window).transpose(1, 3, 0, 2, 4).reshape(-1, count, window**2)
    covered = np.isfinite(values).all(axis=2)
    variance = np.var(values[covered]) if covered.any() else 0
    values = np.where(covered[..., None], values, 0)
    centred = values - values.mean(axis=2, keepdims=True)
    variation = (centred**2).sum(axis=2, keepdims=True)
    has_contrast = variation > FLAT_WINDOW * window**2 * variance
    return np.divide(centred, np.sqrt(variation), out=np.zeros(values.shape), where=has_contrast), covered
