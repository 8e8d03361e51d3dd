"""Image files that are no DICOM (NIfTI, MHA, NRRD), and what of any image no method could work with."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from cohortmorph import UserError
from cohortmorph.clinic.reader import describe_geometry
from cohortmorph.spatial import geometry, volume_file


def is_folder(source: str, name: str, form: str = "") -> bool:
    """Say whether a source is a folder of DICOM, not a file; refuse what is neither, and a folder with a `form`."""
    if not Path(source).is_dir():
        if Path(source).is_file():
            return False
        raise UserError(f"{name}: no such folder or file. Correct `source` in the cohort table.")
    if form:
        raise UserError(f"{name}: found {form!r} in the column `geometry`, but the source is a folder. Empty it.")
    return True


def read_file(source: str, name: str, series: str = "", form: str = "") -> tuple[sitk.Image, dict[str, Any]]:
    """Read an image file; as int16 where that is exact. Its free texts (NIfTI's descrip) are left behind.

    Parameters
    ----------
    source : str
        Its path.
    name : str
        How messages call it.
    series : str
        ``volume=n``, from 1, of a file with several volumes; else empty.
    form : str
        ``sform`` or ``qform``: by which a NIfTI file lies where it does; empty: they must agree.

    Returns
    -------
    image : SimpleITK image
    sidecar : dict
        Geometry and, of NIfTI, ``geometry_taken``; ``volume``, if one was chosen.
    """
    read, header = volume_file.read(source, form=form, volume=_volume(series, name), name=name)
    array, grid = geometry.to_array(read), geometry.Grid.of(read)
    _refuse_infinite(array, name)
    exact = np.all(np.abs(array) < 2**15) and np.all(array == array.astype(np.int16))
    sidecar = describe_geometry(grid)
    if header.place:
        sidecar["geometry_taken"] = header.place
    if header.volumes > 1:
        sidecar["volume"] = f"{_volume(series, name)} of {header.volumes}"
    return geometry.to_image(array.astype(np.int16) if exact else array, grid), sidecar


def _volume(series: str, name: str) -> int | None:
    """Return the number of the volume that the column `series` names, None if it is empty."""
    if not series:
        return None
    chosen = re.fullmatch(r"\s*volume\s*=\s*(\d+)\s*", series)
    if not chosen:
        raise UserError(
            f"{name}: found {series!r} in the column `series`; of a file, expected `volume=1` or another number, if it "
            "has several volumes, else nothing: all other choices are for DICOM folders."
        )
    return int(chosen[1])


def _refuse_infinite(values: np.ndarray, name: str) -> None:
    """Refuse values that are not finite."""
    infinite = np.count_nonzero(~np.isfinite(values))
    if infinite:
        raise UserError(
            f"{name}: {infinite} of {values.size} voxels are not finite numbers (NaN or infinite). "
            "Replace them, by 0 or by the value of air, before you register the image."
        )


def refuse_empty(image: sitk.Image, name: str) -> None:
    """Refuse an image that no method could register: the tools would return the identity without a word."""
    values = sitk.GetArrayViewFromImage(image)
    if min(image.GetSize()) < 2:
        raise UserError(f"{name}: found {image.GetSize()} voxels; expected a volume with several slices.")
    if values.min() == values.max():
        raise UserError(f"{name}: all voxels have the value {values.min()}; expected an image of something.")
