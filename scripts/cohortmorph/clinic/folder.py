"""What stands in a folder: slices, files that are no images, and files that are, or may have been, broken slices.

A slice that is lost at either end of a series leaves no gap, so whatever may have been one stops the reading.
"""

import bz2
import gzip
import lzma
import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pydicom
from pydicom.errors import InvalidDicomError
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian

from cohortmorph import UserError
from cohortmorph.clinic.slices import TAGS, Slice, slices_of
from cohortmorph.cohort.on_disk import is_of_the_system
from cohortmorph.run.files import StrPath
from cohortmorph.run.logs import log

PREAMBLE = 128  # bytes before "DICM"
PIXEL_DATA = (b"\xe0\x7f", b"\x7f\xe0")  # the group of PixelData, in either order of bytes
PACKED = {b"\x1f\x8b": ("gzip", gzip.open), b"BZh": ("bzip2", bz2.open), b"\xfd7zXZ\0": ("xz", lzma.open)}
ARCHIVES = (b"PK\x03\x04", b"7z\xbc\xaf\x27\x1c", b"Rar!")
SUFFIXES = (".dcm", ".dic", ".dicom", ".ima", ".img")
EMPTY, CUT, ALIEN = (
    "empty or filled with zeros",
    "cut off within their header",
    "no DICOM, though they are called like it",
)


@dataclass
class Folder:
    """What stands in a folder.

    Attributes
    ----------
    slices : list of Slice
    damaged : Counter
        How many files that may have been slices are broken, by how.
    packed : Counter
        How many slices are compressed as whole files, by the program's name.
    archives, others : int
        Archives, and all files that are no images.
    """

    slices: list[Slice] = field(default_factory=list)
    damaged: Counter[str] = field(default_factory=Counter)
    packed: Counter[str] = field(default_factory=Counter)
    archives: int = 0
    others: int = 0


def read_folder(folder: StrPath, name: str) -> Folder:
    """Read the headers of all images in `folder` and its subfolders.

    Parameters
    ----------
    folder : str or Path
    name : str
        How messages call the folder: paths are often made of the patient's name.

    Returns
    -------
    Folder
    """
    found = Folder()
    known: dict[Any, Any] = {}
    alien: list[Path] = []
    for path in _files(folder, name):
        try:
            slices = read_file(path, known)
        except InvalidDicomError:
            alien.append(path)
            continue
        except OSError as error:
            if error.errno is not None:
                raise
            found.damaged[CUT] += 1
            continue
        except Exception:  # pydicom raises many kinds on a header that is cut off
            found.damaged[CUT] += 1
            continue
        # DICOMDIR, reports and presentation states are DICOM, but no images.
        found.others += not slices
        found.slices += slices
    suffixes = {_suffix(Path(one.path)) for one in found.slices} | set(SUFFIXES)
    for path in alien:
        _count_alien(found, path, suffixes)
    if found.others:
        log.info(
            "%s: %d of %d files are not DICOM images and were left out.",
            name,
            found.others,
            found.others + len({one.path for one in found.slices}),
        )
    return found


def read_file(path: StrPath, known: dict[Any, Any] | None = None) -> list[Slice]:
    """Return the slices of one DICOM file, none if it is no image.

    Parameters
    ----------
    path : str or Path
    known : dict, optional
        See :func:`cohortmorph.clinic.slices.slices_of`; give the same one for all files.

    Raises
    ------
    InvalidDicomError
        If it is no DICOM file.
    Exception
        pydicom's, or EOFError, if its header is cut off.
    """
    with Path(path).open("rb") as file:
        start = file.read(PREAMBLE + 4)
        file.seek(0)
        header = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=TAGS, force=_is_bare(start))
        syntax = header.file_meta.get("TransferSyntaxUID")
        ends_in_pixels = syntax == DeflatedExplicitVRLittleEndian or file.read(2) in PIXEL_DATA
    storage = UID(header.file_meta.get("MediaStorageSOPClassUID", header.get("SOPClassUID", "")))
    if "Rows" not in header or "Columns" not in header:
        # What has no class of its own, or half of one, was cut off before it.
        is_unknown = storage.name == storage and "SOPClassUID" not in header
        if is_unknown or storage.name.endswith("Image Storage"):
            raise EOFError("an image without its size")
        return []
    if not ends_in_pixels:
        raise EOFError("an image without pixels")
    return slices_of(header, path, known)


def _suffix(path: Path) -> str:
    """Return a name's suffix in small letters; the last part of a UID is none."""
    suffix = path.suffix.lower()
    return "" if suffix[1:].isdigit() else suffix


def _count_alien(found: Folder, path: Path, suffixes: set[str]) -> None:
    """Count a file that is no DICOM: broken, compressed, or something else."""
    with path.open("rb") as file:
        start = file.read(PREAMBLE)
    is_called_like_a_slice = _suffix(path) in suffixes
    for magic, (program, opened) in PACKED.items():
        if start.startswith(magic) and _is_packed_slice(path, opened):
            found.packed[program] += 1
            return
    if start.startswith(ARCHIVES):
        found.archives += 1
    elif not start.strip(b"\0") and (is_called_like_a_slice or not _suffix(path)) and path.name.upper() != "DICOMDIR":
        found.damaged[EMPTY] += 1
        return
    elif is_called_like_a_slice and _suffix(path):
        found.damaged[ALIEN] += 1
        return
    found.others += 1


def _is_packed_slice(path: Path, opened: Any) -> bool:
    """Say whether a compressed file holds DICOM; one that cannot be unpacked may."""
    try:
        with opened(path, "rb") as file:
            start = file.read(PREAMBLE + 4)
    except (OSError, EOFError, lzma.LZMAError):
        return not path.name.lower().endswith((".nii.gz", ".tar.gz", ".tgz"))
    return start[PREAMBLE:] == b"DICM" or _is_bare(start)


def _is_bare(start: bytes) -> bool:
    """Say whether a file may be DICOM without a preamble: a low group of tags, in one of the two orders of bytes."""
    return start[PREAMBLE:] != b"DICM" and start[:2] in (b"\x02\0", b"\x08\0", b"\0\x08") and any(start[4:8])


def _files(folder: StrPath, name: str) -> list[Path]:
    """Return the files of a folder, sorted; links that lead out of it are refused."""
    root, outside = Path(folder).resolve(), 0
    paths: list[Path] = []
    for place, folders, files in os.walk(root):
        for entry in [*folders, *files]:
            path = Path(place, entry)
            if path.is_symlink() and not path.resolve().is_relative_to(root):
                outside += 1
        # Other hidden files are read: one of them may be a slice.
        paths += [Path(place, file) for file in files if not is_of_the_system(file)]
    if outside:
        raise UserError(
            f"{name}: {outside} entries of the folder are links that lead out of it, perhaps to another patient; "
            "expected the files themselves. Copy them into the folder."
        )
    return sorted(path for path in paths if path.is_file())
