"""A resampled image as a DICOM series on the grid of the image it was moved onto, one file a slice, naming nobody.

What a file says is written here from nothing: no element of a source's header is copied, but for the frame of reference
where the user lets it out. The slices are those along the grid's k axis; the frame is DICOM's, LPS in mm, as ours.
"""

import hashlib
from dataclasses import dataclass

import numpy as np
from pydicom import uid
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.valuerep import format_number_as_ds

from cohortmorph import UserError

# Fewer than 16 bits hold, so that rounding the ends outwards stays inside.
LEVELS = 65000
STORAGE = {"CT": uid.CTImageStorage, "MR": uid.MRImageStorage}
# What a kind of image must say beside the geometry (DICOM PS3.3, A.3.3, A.4.3, A.8.1.3). How the moving image was
# acquired is not known of every source, and is no longer true of slices that lie elsewhere: it stays empty.
MODULES = {
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
    phantom: bool
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


def write_series(values, grid, fixed_values, naming, folder):
    """Write a series of single slices ``0001.dcm``, … in the order of the grid's k axis.

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
    window = np.percentile(values, [0.5, 99.5])
    folder.mkdir(parents=True)
    for k in range(grid.size[2]):
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID = STORAGE.get(naming.modality, uid.SecondaryCaptureImageStorage)
        meta.MediaStorageSOPInstanceUID = _uid("instance", content, str(k))
        meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
        file = folder / f"{k + 1:04d}.dcm"
        slice_ = FileDataset(file, {}, file_meta=meta, preamble=b"\0" * 128)
        slice_.SOPClassUID, slice_.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
        slice_.StudyInstanceUID, slice_.SeriesInstanceUID = _uid("study", place), _uid("series", content)
        slice_.FrameOfReferenceUID = naming.frame_of_reference or _uid("frame", place)
        _describe(slice_, naming, slope)
        slice_.InstanceNumber = k + 1
        _place(slice_, grid, k)
        _fill(slice_, stored[:, :, k], slope, intercept, window)
        slice_.save_as(file, enforce_file_format=True)
    return {
        "modality": naming.modality,
        "frame_of_reference": "the fixed image's" if naming.frame_of_reference else "new",
        "slope": slope,
        "error_max": float(np.abs(stored * slope + intercept - values).max()),
    }


def quantize(values):
    """Return values as 16 bits without a sign: (stored, slope, intercept), value ≈ stored · slope + intercept.

    The slope is the smallest power of two that the range allows, at most 1 for ranges up to 65000, so that whole
    numbers survive exactly; the error is at most half the slope.
    """
    low, high = float(values.min()), float(values.max())
    extent = max(high - low, 2.0**-14 * LEVELS)
    slope = _written(2.0 ** np.ceil(np.log2(extent / LEVELS)))
    intercept = _written(np.floor(low / slope) * slope)
    return np.rint((values.astype(np.float64) - intercept) / slope).astype(np.uint16), slope, intercept


def _written(number):
    """Return a number as a reader finds it: DICOM's decimal strings have 16 characters."""
    return float(_decimal(number))


def _decimal(number):
    # + 0.0: no negative zero
    return format_number_as_ds(float(number) + 0.0)


def _hash(*parts):
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.tobytes() if isinstance(part, np.ndarray) else part.encode() + b"\0")
    return digest.hexdigest()


def _uid(*sources):
    return uid.generate_uid(entropy_srcs=["cohortmorph", *sources])


def _describe(slice_, naming, slope):
    """Fill in patient, study, series, equipment and how the image was made; dates and times stay empty."""
    slice_.SpecificCharacterSet = "ISO_IR 192"
    slice_.PatientName = slice_.PatientID = naming.subject
    for empty in (
        *("PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID", "AccessionNumber"),
        *("ReferringPhysicianName", "PatientPosition", "PositionReferenceIndicator"),
    ):
        setattr(slice_, empty, "")
    slice_.Modality, slice_.SeriesNumber, slice_.Manufacturer = naming.modality, naming.number, "CohortMorph"
    slice_.StudyDescription = "Digital phantom, not a patient" if naming.phantom else "CohortMorph"
    slice_.SeriesDescription = f"{naming.image} moved onto {naming.fixed}, {naming.method}"[:64]
    for keyword, value in MODULES[naming.modality].items():
        setattr(slice_, keyword, value)
    slice_.BurnedInAnnotation = "NO"
    slice_.DerivationDescription = (
        f"{naming.image} of the same subject, resampled once (linear) onto the grid of {naming.fixed} through the "
        f"displacement of the registration method {naming.method}; values rounded to {slope:g}; outside of the moving "
        "image its lowest value. Not for diagnosis."
    )


def _place(slice_, grid, k):
    """Fill in where slice k of `grid` lies: the columns of a picture run along i, its rows along j."""
    position_mm = grid.to_world([0, 0, k])
    slice_.ImagePositionPatient = [_decimal(number) for number in position_mm]
    slice_.ImageOrientationPatient = [_decimal(number) for number in (*grid.axes[:, 0], *grid.axes[:, 1])]
    # DICOM names the distance from row to row first.
    slice_.PixelSpacing = [_decimal(grid.spacing_mm[1]), _decimal(grid.spacing_mm[0])]
    slice_.SliceThickness = slice_.SpacingBetweenSlices = _decimal(grid.spacing_mm[2])
    normal = np.cross(grid.axes[:, 0], grid.axes[:, 1])
    slice_.SliceLocation = _decimal(round(float(position_mm @ normal), 6))


def _fill(slice_, pixels, slope, intercept, window):
    """Fill in the stored values of one slice, indexed [i, j], and the `window` of values that viewers show first."""
    slice_.Rows, slice_.Columns = pixels.shape[1], pixels.shape[0]
    slice_.SamplesPerPixel, slice_.PhotometricInterpretation = 1, "MONOCHROME2"
    slice_.BitsAllocated, slice_.BitsStored, slice_.HighBit, slice_.PixelRepresentation = 16, 16, 15, 0
    slice_.RescaleSlope, slice_.RescaleIntercept = _decimal(slope), _decimal(intercept)
    slice_.RescaleType = "HU" if slice_.Modality == "CT" else "US"
    low, high = window
    slice_.WindowCenter, slice_.WindowWidth = _decimal((low + high) / 2), _decimal(max(high - low, slope))
    slice_.PixelData = np.ascontiguousarray(pixels.T).astype("<u2").tobytes()
