"""Equal content under two subjects: copies of a file or folder, one DICOM series in two folders.

Files are read for it, so `check_cohort` does it, and no start; one file under two names is found at every start, see
cohortmorph.cohort.same_file. Not found are images that were resampled, cut or changed in their values.
"""

import gzip
import hashlib
import os
import zlib
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import SimpleITK as sitk

from cohortmorph import UserError
from cohortmorph.clinic.folder import read_file
from cohortmorph.clinic.pixels import read_values
from cohortmorph.clinic.privacy import without_identity
from cohortmorph.cohort.on_disk import is_of_the_system
from cohortmorph.spatial import volume_file

Place = tuple[str, str, str]  # subject, image, column
Mark = tuple[str, int]  # in words what two copies share, and a number that only they have

SERIES, INSTANCE = "a DICOM series (SeriesInstanceUID)", "DICOM files (SOPInstanceUID)"
PIXELS, VOXELS, BYTES = "equal pixels of a slice", "equal voxels", "equal content"
IMAGES = (".nii", ".nii.gz", ".mha", ".mhd", ".nrrd", ".nhdr")


def shared(marks_of: Mapping[Place, Iterable[Mark]]) -> dict[Place, str]:
    """Say of each file and folder what it shares with one of another subject.

    Parameters
    ----------
    marks_of : mapping of (subject, image, column) to what :func:`marks` returned of it
        In the order of the cohort table; without what the workflow makes itself.

    Returns
    -------
    dict of (subject, image, column) to str
        The sentence has no path in it.
    """
    first: dict[tuple[str, Mark], Place] = {}
    found: dict[Place, str] = {}
    for place, own in marks_of.items():
        subject, _, column = place
        for mark in own:
            other = first.setdefault((column, mark), place)
            if other[0] != subject and place not in found:
                found[place] = (
                    f"found {mark[0]} in common with subject {other[0]}, image {other[1]}; expected another patient's. "
                    "Take the copy out, or give both rows one subject."
                )
    return found


def marks(path: str) -> list[Mark]:
    """Return what only a copy of this file or folder has as well, the surest first; of what cannot be read nothing."""
    with without_identity("a file of the cohort"):
        try:
            if Path(path).is_dir():
                return _of_folder(path)
            return [_of_image(path)] if path.lower().endswith(IMAGES) else _of_file(path)
        except Exception:  # who reads it for its own sake says what is wrong
            return []


class _Constant(Exception):
    """One value everywhere: no sign of a copy."""


def _mark(what: str, content: str | bytes, *more: str | bytes) -> Mark:
    digest = hashlib.blake2b(digest_size=8)
    for one in (content, *more):
        digest.update(one.encode() if isinstance(one, str) else one)
    return what, int.from_bytes(digest.digest(), "big")


def _of_values(what: str, values: np.ndarray) -> Mark:
    if values.size == 0 or values.min() == values.max():
        raise _Constant
    return _mark(what, f"{values.shape} {values.dtype}", np.ascontiguousarray(values).tobytes())


def _of_image(path: str) -> Mark:
    """Return the mark of the voxels, whatever the format, or of the whole file if it is no single volume."""
    try:
        image, _ = volume_file.read(path, None)
    except UserError:
        return _of_content(path)
    return _of_values(VOXELS, sitk.GetArrayViewFromImage(image))


def _of_content(path: str) -> Mark:
    content = Path(path).read_bytes()
    with suppress(OSError, EOFError, zlib.error):  # not compressed, or not whole
        content = gzip.decompress(content)
    return _mark(BYTES, b" ".join(content.split()))


def _of_file(path: str) -> list[Mark]:
    """Return the marks of points, or of structures in DICOM."""
    header = _header(path) if path.lower().endswith(".dcm") else None
    uid = header.get("SOPInstanceUID") if header else None
    return [*([_mark(INSTANCE, uid)] if uid else []), _of_content(path)]


def _header(path: str) -> Any:
    """Return the few tags of a DICOM file, None if it is none."""
    tags = ["SOPInstanceUID", "SeriesInstanceUID", "InstanceNumber", "Rows"]
    try:
        return pydicom.dcmread(path, stop_before_pixels=True, specific_tags=tags, force=True)
    except Exception:  # pydicom raises many kinds on what is no DICOM
        return None


def _of_folder(folder: str) -> list[Mark]:
    """Return the marks of all images in a folder and its subfolders, and of one slice of each series.

    An export with new UIDs keeps the pixels.
    """
    found: set[Mark] = set()
    slices: dict[str, list[tuple[int, str]]] = {}
    for place, _, names in os.walk(folder):
        for path in (str(Path(place, name)) for name in sorted(names) if not is_of_the_system(name)):
            header = _header(path)
            if header is None or "Rows" not in header:
                continue
            uids = {INSTANCE: header.get("SOPInstanceUID"), SERIES: header.get("SeriesInstanceUID")}
            found |= {_mark(what, uid) for what, uid in uids.items() if uid}
            number = header.get("InstanceNumber")
            slices.setdefault(str(uids[SERIES] or ""), []).append((int(number or 0), path))
    for series in slices.values():
        _, path = sorted(series)[len(series) // 2]
        try:
            of_file = read_file(path)
            found.add(_of_values(PIXELS, read_values(of_file[len(of_file) // 2 :][:1], "a slice")))
        except Exception:  # a broken slice is told by who reads the whole series
            continue
    return sorted(found, key=lambda mark: (mark[0] != INSTANCE, mark))
