"""Single slices: what their headers say of geometry and acquisition.

Of each file a few numbers and codes are kept, so that memory hardly grows with the size of a folder. Free text of the
header serves to choose a series; nothing here puts it into a message (see docs/privacy.md).
"""

import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.errors import InvalidDicomError

from cohortmorph import UserError
from cohortmorph.run.files import StrPath
from cohortmorph.run.logs import log

# The acquisition numbers that a sidecar may hold, and nothing else: DICOM keyword → name with unit.
ACQUISITION = {
    "EchoTime": "echo_time_ms",
    "RepetitionTime": "repetition_time_ms",
    "InversionTime": "inversion_time_ms",
    "FlipAngle": "flip_angle_degrees",
    "MagneticFieldStrength": "magnetic_field_strength_t",
    "KVP": "tube_voltage_kv",
    "RescaleSlope": "rescale_slope",
    "RescaleIntercept": "rescale_intercept",
}
# The same numbers where a multi-frame file keeps them: sequence and keyword.
OF_FRAMES = {
    "EchoTime": ("MREchoSequence", "EffectiveEchoTime"),
    "RepetitionTime": ("MRTimingAndRelatedParametersSequence", "RepetitionTime"),
    "FlipAngle": ("MRTimingAndRelatedParametersSequence", "FlipAngle"),
    "InversionTime": ("MRModifierSequence", "InversionTimes"),
    "KVP": ("CTXRayDetailsSequence", "KVP"),
}
# Codes that may leave a header as words; anything else that stands in their tags is "other".
MODALITIES = ("CT", "MR", "PT", "NM", "US", "CR", "DX", "MG", "XA", "RF", "OT", "SC", "SEG", "RTSTRUCT", "RTDOSE")
MANUFACTURERS = (
    *("Siemens", "GE", "Philips", "Canon", "Toshiba", "Hitachi", "Fujifilm", "United Imaging", "Shimadzu", "Elekta"),
    *("Varian", "Accuray", "ViewRay", "Bruker", "Agilent", "Hologic", "Neusoft", "Mindray", "Esaote", "CohortMorph"),
)
PHOTOMETRIC = ("MONOCHROME1", "MONOCHROME2", "RGB", "PALETTE COLOR", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")
SEQUENCES = {"SE": "spin echo", "IR": "inversion recovery", "GR": "gradient echo", "EP": "echo planar"}
OWN_FILES = (".snakemake_timestamp", ".DS_Store")
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"  # and its multi-frame kinds, below it
TAGS = [
    *("SOPClassUID", "SeriesInstanceUID", "FrameOfReferenceUID", "Modality", "Manufacturer", "SeriesNumber"),
    *("SeriesDescription", "InstanceNumber", "ImageType", "BurnedInAnnotation", "ScanningSequence", "SliceThickness"),
    *("Rows", "Columns", "NumberOfFrames", "SamplesPerPixel", "PhotometricInterpretation", "BitsAllocated"),
    *("BitsStored", "PixelRepresentation", "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"),
    *("TemporalPositionIdentifier", "AcquisitionNumber", "GantryDetectorTilt", "ModalityLUTSequence"),
    *("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence", *ACQUISITION),
]


@dataclass(frozen=True, slots=True)
class Series:
    """What the slices of a series have in common; slices share the object.

    Attributes
    ----------
    uid, frame_of_reference : str
    number : int or None
    modality, manufacturer, photometric : str
        One of the words above, or "other".
    description : str
        As in the header: free text, only to choose by.
    sequence : str
    kinds : tuple of str
        Why it may not be what was meant: ``derived``, ``localizer``, ``secondary-capture``, ``burned-in``, ``colour``,
        ``mosaic``, ``non-linear`` (a table instead of slope and intercept).
    rows, columns, bits_stored : int
    signed : bool
    thickness_mm, tilt_degrees : float or None
        As the header says.
    """

    uid: str
    frame_of_reference: str
    number: int | None
    modality: str
    manufacturer: str
    photometric: str
    description: str
    sequence: str
    kinds: tuple[str, ...]
    rows: int
    columns: int
    bits_stored: int
    signed: bool
    thickness_mm: float | None
    tilt_degrees: float | None


@dataclass(frozen=True, slots=True)
class Slice:
    """One slice; what the header lacks, or spells wrongly, is None.

    Attributes
    ----------
    path : str
    frame : int or None
        Its number, from 0, in a multi-frame file.
    series : Series
    instance : int or None
        InstanceNumber; in a multi-frame file the frame's number from 1.
    position_mm, cosines : tuple of float or None
        Position of the first pixel (LPS), and the unit vectors along a row, then down a column.
    spacing_mm : tuple of float or None
        From row to row, from column to column.
    volume : tuple of float
        What tells apart the volumes of a series: temporal position, echo time, part of the complex signal (0 magnitude,
        1 phase, 2 real, 3 imaginary).
    acquisition : tuple of float or None
        The numbers of ACQUISITION, in its order.
    """

    path: str
    frame: int | None
    series: Series
    instance: int | None
    position_mm: tuple[float, ...] | None
    cosines: tuple[float, ...] | None
    spacing_mm: tuple[float, ...] | None
    volume: tuple[float, float, float]
    acquisition: tuple[float | None, ...]

    @property
    def slope(self) -> float:
        """What stored values are multiplied with."""
        value = self.acquisition[list(ACQUISITION).index("RescaleSlope")]
        return 1.0 if value is None else value

    @property
    def intercept(self) -> float:
        """What is added then."""
        value = self.acquisition[list(ACQUISITION).index("RescaleIntercept")]
        return 0.0 if value is None else value

    def along_mm(self, normal: np.ndarray) -> float:
        """Where it lies along a normal (LPS unit vector); only of a slice with a position."""
        return float(np.dot(np.array(self.position_mm), normal))


@dataclass(frozen=True)
class Folder:
    """The slices found in a folder, and the images among its files that are cut off within their header (a count)."""

    slices: list[Slice]
    damaged: int
    others: int


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
    slices: list[Slice] = []
    damaged, others = 0, 0
    known: dict[Series, Series] = {}
    for path in _files(folder, name):
        try:
            found = read_file(path, known)
        except InvalidDicomError:
            found = []
        except Exception:  # pydicom raises many kinds on a header that is cut off
            damaged += 1
            continue
        if not found:
            # DICOMDIR, reports and presentation states are DICOM, but no images.
            others += 1
        slices += found
    if others:
        log.info("%s: %d of %d files are not DICOM images and were left out.", name, others, others + len(slices))
    return Folder(slices, damaged, others)


def read_file(path: StrPath, known: dict[Series, Series] | None = None) -> list[Slice]:
    """Return the slices of one DICOM file, none if it is no image.

    Parameters
    ----------
    path : str or Path
    known : dict, optional
        Keeps each Series once; give the same one for all files.
    """
    header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=TAGS)
    storage = header.file_meta.get("MediaStorageSOPClassUID", header.get("SOPClassUID", ""))
    if "SeriesInstanceUID" not in header or "Rows" not in header or "Columns" not in header:
        if pydicom.uid.UID(storage).name.endswith("Image Storage"):
            raise EOFError("an image without its size")
        return []
    series = _series(header)
    series = series if known is None else known.setdefault(series, series)
    if "PerFrameFunctionalGroupsSequence" not in header:
        frames = int(header.get("NumberOfFrames") or 1)
        if frames == 1:
            return [_classic_slice(str(path), header, series)]
        # Frames without a place in the world, such as those of an ultrasound.
        empty = Slice(
            path=str(path),
            frame=None,
            series=series,
            instance=None,
            position_mm=None,
            cosines=None,
            spacing_mm=None,
            volume=(0, 0, 0),
            acquisition=(None,) * len(ACQUISITION),
        )
        return [empty] * frames
    shared = header.get("SharedFunctionalGroupsSequence") or [pydicom.Dataset()]
    return [
        _frame(str(path), number, header, frame, shared[0], series)
        for number, frame in enumerate(header.PerFrameFunctionalGroupsSequence)
    ]


def _files(folder: StrPath, name: str) -> list[Path]:
    """Return the files of a folder, sorted; links that lead out of it are refused."""
    root, outside = Path(folder).resolve(), 0
    paths: list[Path] = []
    for place, folders, files in os.walk(root):
        for entry in [*folders, *files]:
            path = Path(place, entry)
            if path.is_symlink() and not path.resolve().is_relative_to(root):
                outside += 1
        # Snakemake's and macOS's own. Other hidden files are read: one of them may be a slice.
        paths += [Path(place, file) for file in files if file not in OWN_FILES and not file.startswith("._")]
    if outside:
        raise UserError(
            f"{name}: {outside} entries of the folder are links that lead out of it, perhaps to another patient; "
            "expected the files themselves. Copy them into the folder."
        )
    return sorted(path for path in paths if path.is_file())


def _series(header: pydicom.Dataset) -> Series:
    types = [str(part).upper() for part in _list(header.get("ImageType"))]
    storage = str(header.get("SOPClassUID", ""))
    kinds = {
        "derived": types[:1] == ["DERIVED"],
        "localizer": bool({"LOCALIZER", "SCOUT"} & set(types)),
        "secondary-capture": storage == SECONDARY_CAPTURE or storage.startswith(SECONDARY_CAPTURE + "."),
        "burned-in": str(header.get("BurnedInAnnotation", "")).upper() == "YES",
        "colour": _number(header.get("SamplesPerPixel")) not in (None, 1.0)
        or header.get("PhotometricInterpretation") == "PALETTE COLOR",
        "mosaic": "MOSAIC" in types,
        "non-linear": "ModalityLUTSequence" in header,
    }
    sequence = [str(code) for code in _list(header.get("ScanningSequence"))]
    return Series(
        uid=str(header.SeriesInstanceUID),
        frame_of_reference=str(header.get("FrameOfReferenceUID", "")),
        number=_whole(header.get("SeriesNumber")),
        modality=_word(header.get("Modality"), MODALITIES),
        manufacturer=next((name for name in MANUFACTURERS if _begins(header.get("Manufacturer"), name)), "other"),
        photometric=_word(header.get("PhotometricInterpretation"), PHOTOMETRIC),
        description=str(header.get("SeriesDescription", "")),
        sequence=", ".join(SEQUENCES[code] for code in sequence if code in SEQUENCES),
        kinds=tuple(kind for kind, is_so in kinds.items() if is_so),
        rows=int(header.Rows),
        columns=int(header.Columns),
        bits_stored=_whole(header.get("BitsStored")) or 0,
        signed=header.get("PixelRepresentation") == 1,
        thickness_mm=_number(header.get("SliceThickness")),
        tilt_degrees=_number(header.get("GantryDetectorTilt")),
    )


def _classic_slice(path: str, header: pydicom.Dataset, series: Series) -> Slice:
    numbers = tuple(_number(header.get(keyword)) for keyword in ACQUISITION)
    moment = _number(header.get("TemporalPositionIdentifier")) or _number(header.get("AcquisitionNumber")) or 0.0
    return Slice(
        path=path,
        frame=None,
        series=series,
        instance=_whole(header.get("InstanceNumber")),
        position_mm=_numbers(header.get("ImagePositionPatient"), 3),
        cosines=_numbers(header.get("ImageOrientationPatient"), 6),
        spacing_mm=_numbers(header.get("PixelSpacing"), 2),
        volume=(moment, numbers[0] or 0.0, _part(_list(header.get("ImageType")))),
        acquisition=numbers,
    )


def _frame(
    path: str,
    number: int,
    header: pydicom.Dataset,
    frame: pydicom.Dataset,
    shared: pydicom.Dataset,
    series: Series,
) -> Slice:
    """One frame of an enhanced CT or MR: each group of attributes stands with the frame or with all frames."""

    def group(sequence: str) -> pydicom.Dataset:
        return next((owner[sequence][0] for owner in (frame, shared) if owner.get(sequence)), pydicom.Dataset())

    def acquired(keyword: str) -> float | None:
        sequence, inner = OF_FRAMES.get(keyword, ("PixelValueTransformationSequence", keyword))
        value = group(sequence).get(inner)
        return _number(header.get(keyword) if value is None else value)

    content, numbers = group("FrameContentSequence"), tuple(acquired(keyword) for keyword in ACQUISITION)
    types = group("MRImageFrameTypeSequence").get("FrameType") or header.get("ImageType")
    return Slice(
        path=path,
        frame=number,
        series=series,
        instance=number + 1,
        position_mm=_numbers(group("PlanePositionSequence").get("ImagePositionPatient"), 3),
        cosines=_numbers(group("PlaneOrientationSequence").get("ImageOrientationPatient"), 6),
        spacing_mm=_numbers(group("PixelMeasuresSequence").get("PixelSpacing"), 2),
        volume=(_number(content.get("TemporalPositionIndex")) or 0.0, numbers[0] or 0.0, _part(_list(types))),
        acquisition=numbers,
    )


def _part(image_type: Sequence[Any]) -> float:
    """The part of the complex signal that an MR image shows."""
    codes = {"M": 0.0, "P": 1.0, "PHASE": 1.0, "R": 2.0, "REAL": 2.0, "I": 3.0, "IMAGINARY": 3.0}
    return next((codes[str(code).upper()] for code in image_type[2:] if str(code).upper() in codes), 0.0)


def _list(value: Any) -> list[Any]:
    return [] if value is None else [value] if isinstance(value, str) else list(value)


def _number(value: Any) -> float | None:
    with suppress(TypeError, ValueError):
        number = float(value)
        return number if np.isfinite(number) else None
    return None


def _whole(value: Any) -> int | None:
    number = _number(value)
    return None if number is None else int(number)


def _numbers(values: Any, count: int) -> tuple[float, ...] | None:
    found = [_number(value) for value in _list(values)]
    numbers = tuple(number for number in found if number is not None)
    return numbers if len(numbers) == len(found) == count else None


def _word(value: Any, known: Iterable[str]) -> str:
    return next((word for word in known if str(value).upper() == word), "other")


def _begins(value: Any, name: str) -> bool:
    return str(value or "").upper().startswith(name.upper())


def names(slices: Sequence[Slice]) -> str:
    """Name up to three slices without identity: by InstanceNumber."""
    numbers = ", ".join("unknown" if slice_.instance is None else str(slice_.instance) for slice_ in slices[:3])
    return f"InstanceNumber {numbers}{' …' if len(slices) > 3 else ''}"
