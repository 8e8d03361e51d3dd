"""The pixels of slices in the image's own units: decoded, rescaled, grey, and as whole numbers where that is exact."""

import hashlib
import os
import struct
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pydicom
import SimpleITK as sitk

from cohortmorph import UserError
from cohortmorph.clinic.mosaic import tile
from cohortmorph.clinic.slices import SCALE, Slice, names

UNDEFINED_LENGTH, SEQUENCE_END = 0xFFFFFFFF, (0xFFFE, 0xE0DD)
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
    _refuse_contradictions(slices, name)
    planes: list[np.ndarray] = [np.empty(0)] * len(slices)
    for n, values in _planes(slices, name):
        planes[n] = values
    return np.stack(planes, axis=-1)


def _refuse_contradictions(slices: Sequence[Slice], name: str) -> None:
    """Refuse slices that differ in what makes values of their bits, but for slopes and intercepts of their own."""
    for keyword in SCALE:
        stated = [one.stated(keyword) for one in slices]
        wrong = [one for one, value in zip(slices, stated, strict=True) if _is_no_scale(keyword, value)]
        if wrong:
            raise UserError(
                f"{name}: {keyword} of {names(wrong)} is {wrong[0].stated(keyword):g}; expected a number"
                f"{' other than 0' if keyword == 'RescaleSlope' else ''}. Export the series again."
            )
        without = [one for one, value in zip(slices, stated, strict=True) if value is None]
        if without and set(stated) - {None, SCALE[keyword]}:
            raise UserError(
                f"{name}: {len(without)} of {len(slices)} slices have no {keyword} ({names(without)}), others have "
                "one. Export the series again."
            )
    for keyword, found in (
        ("PixelRepresentation", {one.series.signed for one in slices}),
        ("PhotometricInterpretation", {one.series.photometric for one in slices}),
    ):
        if len(found) > 1:
            raise UserError(f"{name}: its slices differ in {keyword}; expected one. Export the series again.")


def _is_no_scale(keyword: str, value: float | None) -> bool:
    return value is not None and (not np.isfinite(value) or (keyword == "RescaleSlope" and value == 0))


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
    dataset = None
    try:
        dataset = pydicom.dcmread(slice_.path, force=True)  # without a preamble, too
        if "TransferSyntaxUID" not in dataset.file_meta:
            is_implicit, is_little = dataset.original_encoding
            dataset.file_meta.TransferSyntaxUID = UNSAID[bool(is_implicit), bool(is_little)]
        _refuse_layout(dataset, slice_, name)
        stored = dataset.pixel_array
        is_enhanced = slice_.frame is not None and not slice_.series.tiles
        is_alone = is_enhanced and int(dataset.get("NumberOfFrames") or 1) == 1
        return stored[np.newaxis] if is_alone else stored, False
    except UserError:
        raise
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
        found = len(dataset.get("PixelData", b"")) if dataset is not None else 0
        raise _unreadable(slice_, found, name) from None


def refuse_cut_off(slices: Sequence[Slice], name: str) -> None:
    """Refuse slices whose files end within their pixels, without decoding any.

    That is what :func:`read_values` would say of them, but for damage within the pixels, which only decoding shows.
    """
    for path, slice_ in {slice_.path: slice_ for slice_ in slices}.items():
        with Path(path).open("rb") as file:
            dataset = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=[], force=True)
            if dataset.file_meta.get("TransferSyntaxUID") == pydicom.uid.DeflatedExplicitVRLittleEndian:
                continue  # compressed as a whole: pydicom could not have read a header that is cut off
            found = _bytes_of_pixels(file, dataset.original_encoding)
        if found is not None:
            raise _unreadable(slice_, found, name)


def _bytes_of_pixels(file: BinaryIO, encoding: tuple[bool | None, bool | None]) -> int | None:
    """Return how many bytes of pixels a file has, at whose element it stands; None if they are all there."""
    is_implicit, is_little = encoding
    order, end = "<" if is_little else ">", os.fstat(file.fileno()).st_size
    try:
        (length,) = struct.unpack(f"{order}4xI" if is_implicit else f"{order}8xI", file.read(8 if is_implicit else 12))
        start = file.tell()
        if length != UNDEFINED_LENGTH:
            return None if start + length <= end else end - start
        while True:  # the fragments of compressed pixels, up to the mark at their end
            group, element, length = struct.unpack(f"{order}HHI", file.read(8))
            if (group, element) == SEQUENCE_END:
                return None
            if file.seek(length, os.SEEK_CUR) > end:
                return end - start
    except struct.error:
        return max(end - file.tell(), 0)


def _unreadable(slice_: Slice, found: int, name: str) -> UserError:
    size = f"{slice_.series.rows} × {slice_.series.columns} pixels"
    return UserError(
        f"{name}: the pixels of {names([slice_])} cannot be read: found {found} bytes for {size} of "
        f"{slice_.series.bits_stored} bits. Was the file cut off in a copy? Export the series again."
    )


def _refuse_layout(dataset: pydicom.Dataset, slice_: Slice, name: str) -> None:
    """Refuse more pixels than the header announces, and values that do not begin at the lowest bit."""
    stored, highest = dataset.get("BitsStored"), dataset.get("HighBit")
    if None not in (stored, highest) and highest != stored - 1:
        raise UserError(
            f"{name}: {names([slice_])} stores {stored} bits up to bit {highest} (HighBit); expected {stored - 1}. "
            "Export the series again."
        )
    frames, described = int(dataset.get("NumberOfFrames") or 1), dataset.get("PerFrameFunctionalGroupsSequence")
    if described is not None and len(described) != frames:
        raise UserError(f"{name}: a file of {frames} frames describes {len(described)}. Export the series again.")
    if dataset.file_meta.TransferSyntaxUID not in (*UNSAID.values(), pydicom.uid.DeflatedExplicitVRLittleEndian):
        return
    frame = dataset.Rows * dataset.Columns * dataset.SamplesPerPixel * dataset.BitsAllocated // 8
    expected, found = frame * frames, len(dataset.get("PixelData", b""))
    # Some programs pad; what is a row or a column more was lost from the header's size.
    if found - expected >= max(2, frame // max(dataset.Rows, dataset.Columns)):
        raise UserError(
            f"{name}: the pixels of {names([slice_])} are {found} bytes; by its header expected {expected}, so one of "
            "them is damaged. Export the series again."
        )


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
