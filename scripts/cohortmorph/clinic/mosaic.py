"""Files that hold a whole volume as one picture: Siemens' mosaic (before XA) and United Imaging's grid (VFRAME).

The slices stand beside and below one another as tiles, in rows. How many they are and where they lie only private tags
tell, so what lacks these, or has some that contradict each other, is not read: nothing is guessed.

- Siemens: the CSA header has the number of slices, and the direction from one to the next, whose sign the order of
  tiles follows (`Image Numbering`); ImagePositionPatient is where the picture would begin if it were one large slice.
- United Imaging: a sequence has the position of each slice, in the order of tiles.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, sqrt
from typing import Any

import numpy as np
import pydicom
from pydicom.datadict import add_private_dict_entries

from cohortmorph.clinic.facets import number, private, vector

with warnings.catch_warnings():
    # nibabel calls its readers of whole series experimental: they are not used here.
    warnings.simplefilter("ignore", UserWarning)
    from nibabel.nicom import csareader, dicomwrappers

SIEMENS, UNITED_IMAGING = "MOSAIC", "VFRAME"  # codes of ImageType
SAME_POSITION_MM = 0.1  # what stands twice in a header may be rounded in two ways
TAGS: list[str | int] = ["SpacingBetweenSlices"]
# The CSA header of the image, in whichever block of its group.
TAGS += [0x00290000 | element for block in (0x10, 0x11, 0x12) for element in (block, block << 8 | 0x10)]
# What these are, files with implicit types of elements do not say.
UNITED_IMAGING_TAGS = {0x00651050: ("DS", "1", "Slices in volume", ""), 0x00651051: ("SQ", "1", "Frames of volume", "")}
add_private_dict_entries("Image Private Header", UNITED_IMAGING_TAGS)


class Untold(Exception):
    """Why a header does not tell where the slices of a picture lie."""


@dataclass(frozen=True)
class Tiles:
    """The slices in a picture, in the order of its tiles.

    Attributes
    ----------
    rows, columns : int
        Of one slice.
    positions_mm : list of tuple of float
        Of each slice's first pixel (LPS).
    """

    rows: int
    columns: int
    positions_mm: list[tuple[float, ...]]


def tiles_of(header: pydicom.Dataset, codes: Sequence[str]) -> Tiles:
    """Return the slices in a picture.

    Parameters
    ----------
    header : Dataset
        Of a file of one frame.
    codes : sequence of str
        Its ImageType.

    Raises
    ------
    Untold
        If the header does not say where they lie, or says two things.
    """
    if SIEMENS in codes and UNITED_IMAGING in codes:
        raise Untold("it is called both MOSAIC and VFRAME")
    return _siemens(header) if SIEMENS in codes else _united_imaging(header)


def across(count: int) -> int:
    """Return how many of `count` tiles stand side by side."""
    return ceil(sqrt(count))


def tile(picture: np.ndarray, n: int, count: int, rows: int, columns: int) -> np.ndarray:
    """Return tile `n` of `count`, shape (rows, columns), or with colours (rows, columns, 3)."""
    down, right = divmod(n, across(count))
    return picture[down * rows : (down + 1) * rows, right * columns : (right + 1) * columns]


def _siemens(header: pydicom.Dataset) -> Tiles:
    try:
        csa = csareader.get_csa_header(header)
    except Exception:  # nibabel raises many kinds on a header that is damaged
        raise Untold("its CSA header cannot be read") from None
    if csa is None:
        raise Untold("it has no CSA header (0029,1010), which anonymizers often remove")
    count = int(csareader.get_n_mosaic(csa) or 0)
    normal = csa["tags"].get("SliceNormalVector", {}).get("items", [])
    if count < 1 or vector(normal, 3) is None:
        raise Untold("its CSA header lacks NumberOfImagesInMosaic or SliceNormalVector")
    times = csa["tags"].get("MosaicRefAcqTimes", {}).get("items", [])
    others = {*(number(one) or 0 for one in private(header, "siemens_tiles")), len(times) or count} - {count}
    if others:
        raise Untold(f"its private tags say {count} slices, and {' or '.join(f'{one:g}' for one in sorted(others))}")
    distance_mm = number(header.get("SpacingBetweenSlices")) or 0.0
    if distance_mm <= 0:
        raise Untold("it has no SpacingBetweenSlices, so the distance of its slices is unknown")
    rows, columns = _size(header, count, across(count))
    wrapper = dicomwrappers.MosaicWrapper(header, csa)
    try:
        first_mm, direction = wrapper.image_position, wrapper.slice_normal
    except (AssertionError, dicomwrappers.WrapperError, ValueError):
        raise Untold(
            f"the SliceNormalVector {' '.join(f'{one:g}' for one in normal)} of its CSA header is not perpendicular to "
            "its ImageOrientationPatient"
        ) from None
    if first_mm is None or direction is None:
        raise Untold("it lacks ImagePositionPatient, ImageOrientationPatient or PixelSpacing")
    places = first_mm + np.outer(np.arange(count) * distance_mm, direction)
    return Tiles(rows, columns, [tuple(map(float, place)) for place in places])


def _united_imaging(header: pydicom.Dataset) -> Tiles:
    count = int(next((number(one) or 0 for one in private(header, "uih_tiles")), 0))
    frames: list[Any] = [one for one in private(header, "uih_frames") if isinstance(one, pydicom.Dataset)]
    if not count or not frames:
        raise Untold("it lacks the number (0065,1050) or the positions (0065,1051) of its slices")
    places = [vector(one.get("ImagePositionPatient"), 3) for one in frames]
    positions_mm = [place for place in places if place is not None]
    if not len(positions_mm) == len(frames) == count:
        raise Untold(f"its private tags say {count} slices, and have the positions of {len(positions_mm)}")
    first_mm = vector(header.get("ImagePositionPatient"), 3)
    if first_mm and np.abs(np.subtract(first_mm, positions_mm[0])).max() > SAME_POSITION_MM:
        raise Untold("its ImagePositionPatient is not that of its first slice")
    return Tiles(*_size(header, count, ceil(count / across(count))), positions_mm)


def _size(header: pydicom.Dataset, count: int, down: int) -> tuple[int, int]:
    """Return rows and columns of one of `count` slices, of which `down` stand below one another."""
    rows, columns = int(header.Rows), int(header.Columns)
    if rows % down or columns % across(count):
        raise Untold(f"{count} slices, {across(count)} × {down}, do not fit into {columns} × {rows} pixels")
    return rows // down, columns // across(count)
