"""Images as DICOM series, one file a slice; a resampled image on the grid of the one it was moved onto, naming nobody.

What a file says is written here from nothing: no element of a source's header is copied, but for the frame of reference
where the user lets it out. The slices are those along the grid's k axis; the frame is DICOM's, LPS in mm, as ours.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import uid
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.valuerep import format_number_as_ds

from cohortmorph import UserError
from cohortmorph.spatial.geometry import Grid

# Fewer than 16 bits hold, so that rounding the ends outwards stays inside.
LEVELS = 65000
STORAGE = {"CT": uid.CTImageStorage, "MR": uid.MRImageStorage}
# What a kind of image must say beside the geometry (DICOM PS3.3, A.3.3, A.4.3, A.8.1.3). How the moving image was
# acquired is not known of every source, and is no longer true of slices that lie elsewhere: it stays empty.
MODULES: dict[str, dict[str, Any]] = {
    "CT": {"ImageType": ["DERIVED", "SECONDARY", "AXIAL"], "KVP": None, "AcquisitionNumber": None},
    "MR": {
        "ImageType": ["DERIVED", "SECONDARY", "OTHER"],
        "ScanningSequence": "RM",
        "SequenceVariant": "NONE",
        "ScanOptions": None,
        "MRAcquisitionType": None,
        "RepetitionTime": None,
        "EchoTime": None,
        "EchoTrainLength": None,
    },
    "OT": {"ImageType": ["DERIVED", "SECONDARY"], "ConversionType": "WSD"},
}


@dataclass(frozen=True)
class Naming:
    """All that a series says of whom and what it shows.

    Attributes
    ----------
    subject : str
        The cohort's id of the subject: patient's name and id.
    image, fixed, method : str
        The moved image, the image whose grid it is on, and how it came there; ids of the cohort and of the workflow.
    modality : {"CT", "MR", "OT"}
        OT (other) becomes a secondary capture with a position.
    number : int
        Of the series in its study, from 1.
    frame_of_reference : str
        The fixed image's FrameOfReferenceUID; "" for a new one, the same for all images on the same fixed image.
    phantom : bool
        Whether the images are simulated, which the study's description then says.
    """

    subject: str
    image: str
    fixed: str
    method: str
    modality: str
    number: int
    frame_of_reference: str = ""
    phantom: bool = False


def write_series(
    values: np.ndarray, grid: Grid, fixed_values: np.ndarray, naming: Naming, folder: Path
) -> dict[str, Any]:
    """Write a moved image as single slices ``0001.dcm``, … in the order of the grid's k axis.

    The same values, grid and names give the same bytes: every UID is made of a hash of them.

    Parameters
    ----------
    values : array, indexed [i, j, k]
        The moved image in its own units, finite.
    grid : Grid
    fixed_values : array
        Of the image whose grid it is: tells studies and new frames of reference of different subjects apart.
    naming : Naming
    folder : Path
        Made; must not exist.

    Returns
    -------
    description : dict
        ``modality``, ``frame_of_reference`` ("the fixed image's" or "new"), ``slope`` and ``error_max``, the largest
        difference between a value and what a reader gets, in the image's units.

    Raises
    ------
    UserError
        If a value is not finite.
    """
    if not np.isfinite(values).all():
        raise UserError(f"{naming.image} moved onto {naming.fixed}: values that are not finite cannot be DICOM pixels.")
    stored, slope, intercept = quantize(values)
    place = _hash(np.ascontiguousarray(fixed_values), repr(grid), naming.subject)
    content = _hash(stored, f"{slope} {intercept}", place, repr(naming))
    header = {
        **_words(naming, slope),
        "SOPClassUID": STORAGE.get(naming.modality, uid.SecondaryCaptureImageStorage),
        "StudyInstanceUID": _uid("study", place),
        "SeriesInstanceUID": _uid("series", content),
        "FrameOfReferenceUID": naming.frame_of_reference or _uid("frame", place),
        "SliceThickness": decimal(grid.spacing_mm[2]),
        "SpacingBetweenSlices": decimal(grid.spacing_mm[2]),
        **_value_scale(values, slope, intercept),
        "RescaleType": "HU" if naming.modality == "CT" else "US",
    }
    normal = np.cross(grid.axes[:, 0], grid.axes[:, 1])
    files = {
        f"{k + 1:04d}.dcm": {
            "SOPInstanceUID": _uid("instance", content, str(k)),
            "InstanceNumber": k + 1,
            "SliceLocation": decimal(round(float(grid.to_world([0, 0, k]) @ normal), 6)),
        }
        for k in range(grid.size[2])
    }
    folder.mkdir(parents=True)
    write_slices(stored, grid, header, files, folder)
    return {
        "modality": naming.modality,
        "frame_of_reference": "the fixed image's" if naming.frame_of_reference else "new",
        "slope": slope,
        "error_max": float(np.abs(stored * slope + intercept - values).max()),
    }


def write_slices(
    stored: np.ndarray,
    grid: Grid,
    header: Mapping[str, Any],
    files: Mapping[str, Mapping[str, Any]],
    folder: Path,
    places: int | None = None,
) -> None:
    """Write stored values as DICOM files of one slice each.

    Parameters
    ----------
    stored : uint16 array, indexed [i, j, k]
        The columns of a picture run along i, its rows along j.
    grid : Grid
    header : mapping
        What all slices say beside their place and pixels: value by DICOM keyword, SOPClassUID among them.
    files : mapping
        In the order of k, by the file's name: what a slice says of its own, SOPInstanceUID among it.
    folder : Path
        Must exist.
    places : int, optional
        Decimals to which positions, directions and distances are rounded; as many as DICOM holds if left out.
    """
    for k, (name, own) in enumerate(files.items()):
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = header["SOPClassUID"], own["SOPInstanceUID"]
        meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
        slice_ = FileDataset(folder / name, {}, file_meta=meta, preamble=b"\0" * 128)
        for keyword, value in {**header, **own, **_place(grid, k, places), **_pixels(stored[:, :, k])}.items():
            setattr(slice_, keyword, value)
        slice_.save_as(folder / name, enforce_file_format=True)


def decimal(number: float, places: int | None = None) -> str:
    """Return a number as DICOM's decimal string, at most 16 characters, if asked rounded to so many decimal places."""
    number = float(number) + 0.0  # no negative zero
    return format_number_as_ds(number) if places is None else f"{number:.{places}f}".rstrip("0").rstrip(".")


def quantize(values: np.ndarray) -> tuple[np.ndarray, float, float]:
    """Return values as 16 bits without a sign: (stored, slope, intercept), value ≈ stored · slope + intercept.

    The slope is the smallest power of two that the range allows, at most 1 for ranges up to 65000, so that whole
    numbers survive exactly; the error is at most half the slope.
    """
    low, high = float(values.min()), float(values.max())
    extent = max(high - low, 2.0**-14 * LEVELS)
    slope = _written(2.0 ** np.ceil(np.log2(extent / LEVELS)))
    intercept = _written(np.floor(low / slope) * slope)
    return np.rint((values.astype(np.float64) - intercept) / slope).astype(np.uint16), slope, intercept


def _written(number: float) -> float:
    """Return a number as a reader finds it."""
    return float(decimal(number))


def _hash(*parts: np.ndarray | str) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.tobytes() if isinstance(part, np.ndarray) else part.encode() + b"\0")
    return digest.hexdigest()


def _uid(*sources: str) -> uid.UID:
    return uid.generate_uid(entropy_srcs=["cohortmorph", *sources])


def _words(naming: Naming, slope: float) -> dict[str, Any]:
    """Return what a header says of patient, study, equipment and how the image was made; dates and times are empty."""
    empty = (
        *("PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID", "AccessionNumber"),
        *("ReferringPhysicianName", "PatientPosition", "PositionReferenceIndicator"),
    )
    return {
        **dict.fromkeys(empty, ""),
        "SpecificCharacterSet": "ISO_IR 192",
        "PatientName": naming.subject,
        "PatientID": naming.subject,
        "Modality": naming.modality,
        "SeriesNumber": naming.number,
        "Manufacturer": "CohortMorph",
        "StudyDescription": "Digital phantom, not a patient" if naming.phantom else "CohortMorph",
        "SeriesDescription": f"{naming.image} moved onto {naming.fixed}, {naming.method}"[:64],
        **MODULES[naming.modality],
        "BurnedInAnnotation": "NO",
        "DerivationDescription": (
            f"{naming.image} of the same subject, resampled once (linear) onto the grid of {naming.fixed} through the "
            f"displacement of the registration method {naming.method}; values rounded to {slope:g}; outside of the "
            "moving image its lowest value. Not for diagnosis."
        ),
    }


def _value_scale(values: np.ndarray, slope: float, intercept: float) -> dict[str, str]:
    """Return what stored values mean, and the window of values that viewers show first."""
    low, high = np.percentile(values, [0.5, 99.5])
    return {
        "RescaleSlope": decimal(slope),
        "RescaleIntercept": decimal(intercept),
        "WindowCenter": decimal((low + high) / 2),
        "WindowWidth": decimal(max(high - low, slope)),
    }


def _place(grid: Grid, k: int, places: int | None) -> dict[str, list[str]]:
    """Return where slice k of a grid lies."""

    def decimals(numbers: np.ndarray) -> list[str]:
        return [decimal(number, places) for number in numbers]

    return {
        "ImagePositionPatient": decimals(grid.to_world([0, 0, k])),
        "ImageOrientationPatient": decimals(grid.axes[:, :2].T.ravel()),
        # DICOM names the distance from row to row first.
        "PixelSpacing": decimals(np.array(grid.spacing_mm)[[1, 0]]),
    }


def _pixels(stored: np.ndarray) -> dict[str, Any]:
    """Return the stored values of a slice, indexed [i, j], and their form."""
    return {
        "Rows": stored.shape[1],
        "Columns": stored.shape[0],
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "BitsAllocated": 16,
        "BitsStored": 16,
        "HighBit": 15,
        "PixelRepresentation": 0,
        "PixelData": stored.T.astype("<u2").tobytes(),
    }
