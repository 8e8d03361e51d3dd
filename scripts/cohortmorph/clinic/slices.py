"""Single slices: what their headers say of geometry and acquisition.

Of each file a few numbers and codes are kept, so that memory hardly grows with the size of a folder. Free text of the
header serves to choose a series; nothing here puts it into a message (see docs/privacy.md).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pydicom

from cohortmorph.clinic import facets, mosaic
from cohortmorph.clinic.facets import Value, items, number, vector
from cohortmorph.run.files import StrPath

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
SCALE = {"RescaleSlope": 1.0, "RescaleIntercept": 0.0}  # and what they are where nothing is said
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
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"  # and its multi-frame kinds, below it
SEGMENTATIONS = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")
NO_UID = "none"
RT_DOSE = "1.2.840.10008.5.1.4.1.1.481.2"
TAGS: list[Any] = [
    *(
        "SOPClassUID",
        "SeriesInstanceUID",
        "StudyInstanceUID",
        "FrameOfReferenceUID",
        "Modality",
        "Manufacturer",
        "SeriesNumber",
    ),
    *("SeriesDescription", "InstanceNumber", "ImageType", "BurnedInAnnotation", "ScanningSequence", "SliceThickness"),
    *("Rows", "Columns", "NumberOfFrames", "SamplesPerPixel", "PhotometricInterpretation", "BitsAllocated"),
    *("BitsStored", "PixelRepresentation", "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"),
    *("TemporalPositionIdentifier", "AcquisitionNumber", "GantryDetectorTilt", "ModalityLUTSequence"),
    *("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence", *ACQUISITION, *facets.TAGS),
    *mosaic.TAGS,
]


@dataclass(frozen=True, slots=True)
class Series:
    """What the slices of a series have in common; slices share the object.

    Attributes
    ----------
    uid, frame_of_reference : str
        Where the header has no SeriesInstanceUID, all without one that share number, modality, description, study and
        frame of reference are one series: its uid begins with NO_UID.
    number : int or None
    modality, manufacturer, photometric : str
        One of the words above, or "other".
    description : str
        As in the header: free text, only to choose by.
    sequence : str
    kinds : tuple of str
        Why it may not be what was meant: ``derived``, ``localizer``, ``secondary-capture``, ``burned-in``, ``colour``,
        ``phase`` (or the imaginary part), and what can never be read: ``mosaic`` (a picture of
        several slices whose places are untold), ``non-linear`` (a table instead of
        slope and intercept), ``segmentation``, ``dose``, ``reversed`` (rows upside down).
    rows, columns, bits_stored : int
    signed : bool
    thickness_mm, tilt_degrees : float or None
        As the header says.
    tiles : int
        How many slices stand in one picture, each of these rows and columns; 0 if every picture is a slice.
    untold : str
        What a ``mosaic`` lacks to be read, in words.
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
    tiles: int = 0
    untold: str = ""


@dataclass(frozen=True, slots=True)
class Slice:
    """One slice; what the header lacks, or spells wrongly, is None.

    Attributes
    ----------
    path : str
    frame : int or None
        Its number, from 0, in a multi-frame file or among the tiles of a picture.
    series : Series
    instance : int or None
        InstanceNumber; in a multi-frame file the frame's number from 1.
    position_mm, cosines : tuple of float or None
        Position of the first pixel (LPS), and the unit vectors along a row, then down a column.
    spacing_mm : tuple of float or None
        From row to row, from column to column.
    facets : tuple
        What may tell apart the volumes of a series, in the order of :data:`cohortmorph.clinic.facets.FACETS`.
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
    facets: tuple[Value, ...]
    acquisition: tuple[float | None, ...]

    @property
    def slope(self) -> float:
        """What stored values are multiplied with."""
        return self._scale("RescaleSlope")

    @property
    def intercept(self) -> float:
        """What is added then."""
        return self._scale("RescaleIntercept")

    def stated(self, keyword: str) -> float | None:
        """One of the numbers of ACQUISITION; of a scale NaN if it is no number."""
        return self.acquisition[list(ACQUISITION).index(keyword)]

    def _scale(self, keyword: str) -> float:
        value = self.stated(keyword)
        return SCALE[keyword] if value is None else value

    def along_mm(self, normal: np.ndarray) -> float:
        """Where it lies along a normal (LPS unit vector); only of a slice with a position."""
        return float(np.dot(np.array(self.position_mm), normal))


def slices_of(header: pydicom.Dataset, path: StrPath, known: dict[Any, Any] | None = None) -> list[Slice]:
    """Return the slices of one DICOM image.

    Parameters
    ----------
    header : Dataset
        Of an image: it has Rows and Columns.
    path : str or Path
    known : dict, optional
        Keeps each Series, and each set of facets, once; give the same one for all files.
    """
    known = {} if known is None else known
    series = _once(known, _series(header))
    if "PerFrameFunctionalGroupsSequence" not in header:
        frames = int(header.get("NumberOfFrames") or 1)
        if frames == 1:
            return _tiled(_classic_slice(str(path), header, series, known), header, known)
        # Frames without a place in the world, such as those of an ultrasound.
        empty = Slice(
            path=str(path),
            frame=None,
            series=_of_kinds(series, [header.get("ImageType")], None, known),
            instance=None,
            position_mm=None,
            cosines=None,
            spacing_mm=None,
            facets=(None,) * len(facets.FACETS),
            acquisition=(None,) * len(ACQUISITION),
        )
        return [empty] * frames
    shared = header.get("SharedFunctionalGroupsSequence") or [pydicom.Dataset()]
    return [
        _frame(str(path), n, header, (frame, shared[0]), series, known)
        for n, frame in enumerate(header.PerFrameFunctionalGroupsSequence)
    ]


def _once(known: dict[Any, Any], one: Any) -> Any:
    return known.setdefault(one, one)


def _codes(image_type: Any) -> list[str]:
    return [str(code).upper() for code in items(image_type)]


def _kinds(image_type: Any, part: Value) -> set[str]:
    """Return what an ImageType, and the part of the complex signal, say against reading an image as what it is."""
    types = _codes(image_type)
    kinds = {
        "derived": types[:1] == ["DERIVED"] or facets.map_of(image_type) is not None,
        "localizer": bool({"LOCALIZER", "SCOUT"} & set(types)),
        "mosaic": bool({mosaic.SIEMENS, mosaic.UNITED_IMAGING} & set(types)),
        "phase": part in ("phase", "imaginary"),
    }
    return {kind for kind, is_so in kinds.items() if is_so}


def _series(header: pydicom.Dataset) -> Series:
    storage = str(header.get("SOPClassUID", ""))
    kinds = {
        "secondary-capture": storage == SECONDARY_CAPTURE or storage.startswith(SECONDARY_CAPTURE + "."),
        "burned-in": str(header.get("BurnedInAnnotation", "")).upper() == "YES",
        "colour": number(header.get("SamplesPerPixel")) not in (None, 1.0)
        or header.get("PhotometricInterpretation") == "PALETTE COLOR",
        "non-linear": "ModalityLUTSequence" in header,
        "segmentation": storage in SEGMENTATIONS,
        "dose": storage == RT_DOSE,
        "reversed": facets.is_reversed(header),
    }
    sequence = [str(code) for code in items(header.get("ScanningSequence"))]
    shared_by = ("SeriesNumber", "Modality", "SeriesDescription", "StudyInstanceUID", "FrameOfReferenceUID")
    return Series(
        uid=str(header.get("SeriesInstanceUID") or "")
        or " ".join([NO_UID, *(str(header.get(keyword, "")) for keyword in shared_by)]),
        frame_of_reference=str(header.get("FrameOfReferenceUID", "")),
        number=_whole(header.get("SeriesNumber")),
        modality=_word(header.get("Modality"), MODALITIES),
        manufacturer=next((name for name in MANUFACTURERS if _begins(header.get("Manufacturer"), name)), "other"),
        photometric=_word(header.get("PhotometricInterpretation"), PHOTOMETRIC),
        description=str(header.get("SeriesDescription", "")),
        sequence=", ".join(SEQUENCES[code] for code in sequence if code in SEQUENCES),
        kinds=tuple(sorted(kind for kind, is_so in kinds.items() if is_so)),
        rows=int(header.Rows),
        columns=int(header.Columns),
        bits_stored=_whole(header.get("BitsStored")) or 0,
        signed=header.get("PixelRepresentation") == 1,
        thickness_mm=number(header.get("SliceThickness")),
        tilt_degrees=number(header.get("GantryDetectorTilt")),
    )


def _classic_slice(path: str, header: pydicom.Dataset, series: Series, known: dict[Any, Any]) -> Slice:
    found = facets.of_slice(header)
    return Slice(
        path=path,
        frame=None,
        series=_of_kinds(series, [header.get("ImageType")], found[0], known),
        instance=_whole(header.get("InstanceNumber")),
        position_mm=vector(header.get("ImagePositionPatient"), 3),
        cosines=vector(header.get("ImageOrientationPatient"), 6),
        spacing_mm=vector(header.get("PixelSpacing"), 2),
        facets=_once(known, found),
        acquisition=_once(known, tuple(_acquired(keyword, header.get(keyword)) for keyword in ACQUISITION)),
    )


def _acquired(keyword: str, value: Any) -> float | None:
    """Return an acquisition number; NaN for a scale that is stated but is no number, which must not pass as none."""
    found = number(value)
    return np.nan if found is None and value and keyword in SCALE else found


def _tiled(picture: Slice, header: pydicom.Dataset, known: dict[Any, Any]) -> list[Slice]:
    """Return the slices of a picture that may hold several."""
    series = picture.series
    if "mosaic" not in series.kinds:
        return [picture]
    try:
        tiles = mosaic.tiles_of(header, _codes(header.get("ImageType")))
    except mosaic.Untold as reason:
        return [replace(picture, series=_once(known, replace(series, untold=str(reason))))]
    count, kinds = len(tiles.positions_mm), tuple(kind for kind in series.kinds if kind != "mosaic")
    series = _once(known, replace(series, kinds=kinds, rows=tiles.rows, columns=tiles.columns, tiles=count))
    return [
        replace(picture, frame=n, series=series, position_mm=position_mm)
        for n, position_mm in enumerate(tiles.positions_mm)
    ]


def _frame(
    path: str,
    n: int,
    header: pydicom.Dataset,
    groups: tuple[pydicom.Dataset, pydicom.Dataset],
    series: Series,
    known: dict[Any, Any],
) -> Slice:
    """One frame of an enhanced CT or MR: each group of attributes stands with the frame or with all frames."""

    def group(sequence: str) -> pydicom.Dataset:
        return next((owner[sequence][0] for owner in groups if owner.get(sequence)), pydicom.Dataset())

    def acquired(keyword: str) -> float | None:
        sequence, inner = OF_FRAMES.get(keyword, ("PixelValueTransformationSequence", keyword))
        value = group(sequence).get(inner)
        return _acquired(keyword, header.get(keyword) if value is None else value)

    numbers = tuple(acquired(keyword) for keyword in ACQUISITION)
    found = facets.of_frame(header, groups, dict(zip(ACQUISITION.values(), numbers, strict=True)))
    types = [group(f"{kind}ImageFrameTypeSequence").get("FrameType") for kind in ("MR", "CT", "PET")]
    types.append(header.get("ImageType"))
    return Slice(
        path=path,
        frame=n,
        series=_of_kinds(series, types, found[0], known),
        instance=n + 1,
        position_mm=vector(group("PlanePositionSequence").get("ImagePositionPatient"), 3),
        cosines=vector(group("PlaneOrientationSequence").get("ImageOrientationPatient"), 6),
        spacing_mm=vector(group("PixelMeasuresSequence").get("PixelSpacing"), 2),
        facets=_once(known, found),
        acquisition=_once(known, numbers),
    )


def _of_kinds(series: Series, image_types: Iterable[Any], part: Value, known: dict[Any, Any]) -> Series:
    """Return a series whose kinds are besides those of one of its slices; `part` is the first of its facets."""
    kinds = set().union(*(_kinds(one, part) for one in image_types))
    return _once(known, replace(series, kinds=tuple(sorted({*series.kinds, *kinds})))) if kinds else series


def _whole(value: Any) -> int | None:
    found = number(value)
    return None if found is None else int(found)


def _word(value: Any, known: Iterable[str]) -> str:
    return next((word for word in known if str(value).upper() == word), "other")


def _begins(value: Any, name: str) -> bool:
    return str(value or "").upper().startswith(name.upper())


def names(slices: Sequence[Slice]) -> str:
    """Name up to three slices without identity: by InstanceNumber."""
    numbers = ", ".join("unknown" if slice_.instance is None else str(slice_.instance) for slice_ in slices[:3])
    return f"InstanceNumber {numbers}{' …' if len(slices) > 3 else ''}"
