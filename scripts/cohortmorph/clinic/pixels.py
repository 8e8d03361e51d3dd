"""The pixels of slices in the image's own units: decoded, rescaled, grey, and as whole numbers where that is exact."""

import hashlib
from collections.abc import Iterator, Sequence
from itertools import groupby

import numpy as np
import pydicom
import SimpleITK as sitk

from cohortmorph import UserError
from cohortmorph.clinic.mosaic import tile
from cohortmorph.clinic.slices import Slice, names

# How a file is written that does not say it: (without types of elements, low byte first).
UNSAID = {
    (True, True): pydicom.uid.ImplicitVRLittleEndian,
    (False, True): pydicom.uid.ExplicitVRLittleEndian,
    (False, False): pydicom.uid.ExplicitVRBigEndian,
}


def read_values(slices: Sequence[Slice], name: str) -> np.ndarray:
    """Read the values of slices: rescaled (HU for CT), and inverted where low values are shown bright.

    MONOCHROME1 is inverted within the range of its bits, except in CT, whose rescaled values are Hounsfield units
    however they are shown. Colours become grey by their luminance (ITU-R BT.601).

    Parameters
    ----------
    slices : list of Slice
    name : str
        For messages.

    Returns
    -------
    array, shape (columns, rows, slices)
        Indexed [i, j, k]; int16 if that is exact for all, else float32.
    """
    planes: list[np.ndarray] = [np.empty(0)] * len(slices)
    for n, values in _planes(slices, name):
        planes[n] = values
    return np.stack(planes, axis=-1)


def read_digests(slices: Sequence[Slice], name: str) -> list[bytes]:
    """Return a digest of each slice's values, equal only if the values are; every file is decoded once.

    Parameters
    ----------
    slices : list of Slice
    name : str
        For messages.
    """
    digests = [b""] * len(slices)
    for n, values in _planes(slices, name):
        digests[n] = hashlib.sha256(str(values.dtype).encode() + np.ascontiguousarray(values).tobytes()).digest()
    return digests


def _planes(slices: Sequence[Slice], name: str) -> Iterator[tuple[int, np.ndarray]]:
    """Yield each slice's number and values, file by file."""
    in_file_order = sorted(range(len(slices)), key=lambda n: slices[n].path)
    for _, group in groupby(in_file_order, key=lambda n: slices[n].path):
        numbers = list(group)
        stored, is_rescaled = _decoded(slices[numbers[0]], name)
        for n in numbers:
            yield n, _compact(_own_units(_plane(stored, slices[n]), slices[n], is_rescaled))


def _plane(stored: np.ndarray, slice_: Slice) -> np.ndarray:
    """Return a slice's pixels among those of its file."""
    series = slice_.series
    if slice_.frame is None:
        return stored
    if series.tiles:
        return tile(stored, slice_.frame, series.tiles, series.rows, series.columns)
    return stored[slice_.frame]


def _decoded(slice_: Slice, name: str) -> tuple[np.ndarray, bool]:
    """Return the stored pixels of a file (of all frames), and whether they have been rescaled already."""
    series, dataset = slice_.series, None
    try:
        dataset = pydicom.dcmread(slice_.path, force=True)  # without a preamble, too
        if "TransferSyntaxUID" not in dataset.file_meta:
            is_implicit, is_little = dataset.original_encoding
            dataset.file_meta.TransferSyntaxUID = UNSAID[bool(is_implicit), bool(is_little)]
        return dataset.pixel_array, False
    except (NotImplementedError, RuntimeError):
        # pydicom lacks a decoder for this compression: GDCM, inside SimpleITK, has more, and rescales by itself.
        values = None if dataset is None or slice_.frame is not None else _decoded_by_gdcm(slice_.path)
        if values is None:
            compression = pydicom.uid.UID(dataset.file_meta.TransferSyntaxUID).name if dataset else "unknown"
            raise UserError(
                f"{name}: the pixels of {names([slice_])} are compressed as {compression}, for which no decoder is "
                "installed. Install one (python-gdcm), or decompress the series first (gdcmconv --raw)."
            ) from None
        return values, True
    except Exception:
        size = f"{series.rows} × {series.columns} pixels"
        found = len(dataset.get("PixelData", b"")) if dataset is not None else 0
        raise UserError(
            f"{name}: the pixels of {names([slice_])} cannot be read: found {found} bytes for {size} of "
            f"{series.bits_stored} bits. Was the file cut off in a copy? Export the series again."
        ) from None


def _decoded_by_gdcm(path: str) -> np.ndarray | None:
    """Decode and rescale a file of one slice by SimpleITK, float64, shape (rows, columns); None if it cannot."""
    try:
        return sitk.GetArrayFromImage(sitk.ReadImage(str(path), sitk.sitkFloat64))[0]
    except RuntimeError:
        return None


def _own_units(plane: np.ndarray, slice_: Slice, is_rescaled: bool) -> np.ndarray:
    """Return a plane in the image's own units, indexed [i, j]."""
    series = slice_.series
    if plane.ndim == 3:
        plane = plane @ np.array([0.299, 0.587, 0.114])
    whole = np.issubdtype(plane.dtype, np.integer) and slice_.slope.is_integer() and slice_.intercept.is_integer()
    number = np.int64 if whole else np.float64
    values = plane.T
    if not is_rescaled and (slice_.slope, slice_.intercept) != (1, 0):
        values = values * number(slice_.slope) + number(slice_.intercept)
    if series.photometric == "MONOCHROME1" and series.modality != "CT":
        # Lowest plus highest stored value: two's complement runs from −2^(n−1) to 2^(n−1) − 1.
        ends = -1 if series.signed else 2**series.bits_stored - 1
        values = (ends * slice_.slope + 2 * slice_.intercept) - values.astype(np.float64)
    return values


def _compact(values: np.ndarray) -> np.ndarray:
    """Return values as int16 if that is exact, else as float32."""
    limits = np.iinfo(np.int16)
    if values.min() >= limits.min and values.max() <= limits.max:
        whole = values.astype(np.int16)
        if np.array_equal(whole, values):
            return whole
    return values.astype(np.float32)
