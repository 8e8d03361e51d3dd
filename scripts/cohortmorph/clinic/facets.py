"""What headers say that tells the volumes of one series apart: echo, time point, b-value, part of the complex signal, …

Private tags of vendors are read where the standard's are seldom filled. Numbers and codes only: no text of a header
leaves this module as it is.
"""

import hashlib
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any, Literal, NamedTuple

import numpy as np
import pydicom

Value = float | str | tuple[float, ...] | None


class Facet(NamedTuple):
    """One property of a slice by which volumes may differ.

    Attributes
    ----------
    words : str
        How a volume is called by it, with room for the value.
    role : {"kind", "value", "acquisition", "time", "moment", "rest"}
        What a difference means: see :func:`cohortmorph.clinic.volumes.split`.
    """

    words: str
    role: Literal["kind", "value", "acquisition", "time", "moment", "rest"] = "value"


# In the order in which volumes are split and numbered.
FACETS = {
    "part": Facet("{}", "kind"),
    "content": Facet("{}", "kind"),
    "stack": Facet("stack {}"),
    "echo": Facet("echo {}"),
    "echo_time_ms": Facet("echo time {} ms"),
    "inversion_time_ms": Facet("inversion time {} ms"),
    "flip_angle_degrees": Facet("flip angle {}°"),
    "tube_voltage_kv": Facet("tube voltage {} kV"),
    "thickness_mm": Facet("slices {} mm thick"),
    "kernel": Facet("reconstruction kernel {}"),
    "agent": Facet("contrast agent {}"),
    "description": Facet("description {}"),
    "frame_of_reference": Facet("frame of reference {}"),
    "b_value": Facet("b {} s/mm²"),
    "gradient": Facet("gradient {}"),
    "time_point": Facet("time point {}"),
    "cardiac_percent": Facet("cardiac phase {} %"),
    "respiratory_percent": Facet("respiratory phase {} %"),
    "acquisition": Facet("acquisition {}", "acquisition"),
    "trigger_time_ms": Facet("trigger time {} ms", "time"),
    "repetition_time_ms": Facet("repetition time {} ms", "moment"),
    "acquired_s": Facet("time {}", "time"),
    "content_s": Facet("time of content {}", "moment"),
    "exposure": Facet("exposure {}", "rest"),
    "protocol": Facet("protocol {}", "rest"),
}
TEXTS = ("kernel", "agent", "description", "frame_of_reference", "exposure", "protocol")  # only ever called by a number
PARTS = {"M": "magnitude", "P": "phase", "R": "real", "I": "imaginary"}
PARTS |= {word.upper(): word for word in PARTS.values()} | {"PHASE MAP": "phase"}
# Codes of ImageType that name a computed quantity; whatever ends in MAP or MAPPED is one as well.
MAPS = (
    *("ADC", "EADC", "EXP ADC", "FA", "FRACTIONAL ANISOTROPY", "TENSOR", "CBF", "CBV", "RCBF", "RCBV", "RELCBF"),
    *("RELCBV", "RELMTT", "MTT", "TTP", "TMAX", "KTRANS", "KEP", "PERFUSION MTT", "PERFUSION RCBF", "PERFUSION RCBV"),
    *("DIFFUSION ANISO", "FAT FRACTION", "WATER FRACTION", "FF", "R2", "R2 STAR", "T2 STAR FIT", "SUBTRACTION"),
)
CONTENTS = ("WATER", "FAT", "IN PHASE", "OUT PHASE", "OPP PHASE", "OPPOSED PHASE", "IP", "OP", "W", "F")
SHOWN = {"W": "water", "F": "fat", "IP": "in phase", "OP": "opposed phase", "OPP PHASE": "opposed phase"}

# Private tags: tag, the vendor whose it is, and how its value is kept where the header does not say.
PRIVATE = {
    "siemens_b": (0x0019100C, "SIEMENS", "text"),
    "siemens_gradient": (0x0019100E, "SIEMENS", "<f8"),
    "siemens_tiles": (0x0019100A, "SIEMENS", "<u2"),
    "ge_part": (0x0043102F, "GE", "<i2"),
    "ge_b": (0x00431039, "GE", "text"),
    "ge_gradient_x": (0x001910BB, "GE", "text"),
    "ge_gradient_y": (0x001910BC, "GE", "text"),
    "ge_gradient_z": (0x001910BD, "GE", "text"),
    "ge_sequence": (0x0019109C, "GE", "text"),
    "ge_polarity": (0x001910B3, "GE", "text"),
    "philips_b": (0x20011003, "PHILIPS", "<f4"),
    "philips_gradient_x": (0x200510B0, "PHILIPS", "<f4"),
    "philips_gradient_y": (0x200510B1, "PHILIPS", "<f4"),
    "philips_gradient_z": (0x200510B2, "PHILIPS", "<f4"),
    "uih_b": (0x00651009, "UIH", "<f8"),
    "uih_gradient": (0x00651037, "UIH", "<f8"),
    "uih_tiles": (0x00651050, "UIH", "text"),
    "uih_frames": (0x00651051, "UIH", "text"),
}
# What may differ from slice to slice as well: it tells volumes apart only if each of them is even by itself.
EXPOSURE = ("ExposureTime", "XRayTubeCurrent", "Exposure", "WindowCenter")
PROTOCOL = (
    *("SequenceName", "ProtocolName", "ScanOptions", "FilterType", "ReceiveCoilName", "ImageComments", "SeriesDate"),
    *("SeriesTime", "StudyInstanceUID", "ReconstructionDiameter", "PatientPosition"),
)
CREATORS = sorted({tag & 0xFFFF0000 | 0x10 for tag, _, _ in PRIVATE.values()})
TAGS: list[str | int] = [
    *("TriggerTime", "AcquisitionDate", "AcquisitionTime", "AcquisitionDateTime", "ContentDate", "ContentTime"),
    *("EchoNumbers", "ComplexImageComponent", "DiffusionBValue", "DiffusionGradientOrientation", "ConvolutionKernel"),
    "ContrastBolusAgent",
    *(*EXPOSURE, *PROTOCOL),
    *("NominalPercentageOfCardiacPhase", "NominalPercentageOfRespiratoryPhase", "TemporalPositionIndex"),
    *(tag for tag, _, _ in PRIVATE.values()),
    *CREATORS,
]
VENDORS = {"SIEMENS": ("SIEMENS",), "GE": ("GE", "GEMS"), "PHILIPS": ("PHILIPS",), "UIH": ("UIH", "UNITED", "IMAGE PR")}


def codes_of(image_type: Any) -> list[str]:
    """Return the codes of an ImageType from the third on, in capitals, with spaces for underscores."""
    return [str(code).upper().replace("_", " ").strip() for code in items(image_type)[2:]]


def map_of(image_type: Any) -> str | None:
    """Return which computed quantity an ImageType names, if it names one."""
    for code in codes_of(image_type):
        if code in MAPS or (code.endswith((" MAP", "MAPPED")) and PARTS.get(code) is None):
            return code
    return None


def part_of(image_type: Any, component: Any = None) -> str:
    """Return the part of the complex signal that an MR image shows: magnitude if nothing is said."""
    for code in (str(component or "").upper(), *codes_of(image_type)):
        if code in PARTS:
            return PARTS[code]
    return "magnitude"


def content_of(image_type: Any) -> str | None:
    """Return what an image shows, in words: a computed quantity, or water, fat and their sums (Dixon)."""
    quantity = map_of(image_type)
    if quantity:
        # Only words of ours: a code that merely ends like a map may hold anything.
        return f"{quantity.removesuffix(' MAP')} map" if quantity in MAPS else "map"
    code = next((code for code in codes_of(image_type) if code in CONTENTS), None)
    return code and SHOWN.get(code, code.lower())


def private(header: pydicom.Dataset, name: str) -> list[Any]:
    """Return the values of one of PRIVATE; nothing if the block is another vendor's."""
    tag, vendor, kept = PRIVATE[name]
    if tag not in header:
        return []
    owners = (header.get("Manufacturer", ""), getattr(header.get(tag & 0xFFFF0000 | 0x10), "value", ""))
    if not any(str(owner).upper().startswith(VENDORS[vendor]) for owner in owners):
        return []
    value = header[tag].value
    if not isinstance(value, bytes):
        return items(value)
    if kept == "text":
        return value.decode("latin-1").strip("\0 ").split("\\")
    width = np.dtype(kept).itemsize
    return np.frombuffer(value[: len(value) // width * width], kept).tolist()


def is_reversed(header: pydicom.Dataset) -> bool:
    """Whether GE's epi_pepolar says, or does not deny, that some of its volumes have their rows upside down."""
    if not any("epi_pepolar" in str(value).lower() for value in private(header, "ge_sequence")):
        return False
    return [number(value) for value in private(header, "ge_polarity")] != [0.0]


def of_slice(header: pydicom.Dataset) -> tuple[Value, ...]:
    """Return the facets of a file of one slice, in the order of FACETS."""
    component = {1.0: "P", 2.0: "R", 3.0: "I"}.get(number(next(iter(private(header, "ge_part")), None)) or 0.0)
    b_value, gradient = _diffusion(header)
    found: dict[str, Value] = {
        "part": part_of(header.get("ImageType"), header.get("ComplexImageComponent") or component),
        "content": content_of(header.get("ImageType")),
        "echo": number(header.get("EchoNumbers")),
        "echo_time_ms": number(header.get("EchoTime")),
        "inversion_time_ms": number(header.get("InversionTime")),
        "flip_angle_degrees": number(header.get("FlipAngle")),
        "tube_voltage_kv": number(header.get("KVP")),
        "thickness_mm": number(header.get("SliceThickness")),
        "kernel": str(header.get("ConvolutionKernel") or "") or None,
        "agent": str(header.get("ContrastBolusAgent") or "") or None,
        "description": str(header.get("SeriesDescription") or "") or None,
        "frame_of_reference": str(header.get("FrameOfReferenceUID") or "") or None,
        "b_value": b_value,
        "gradient": gradient,
        "time_point": number(header.get("TemporalPositionIdentifier") or header.get("TemporalPositionIndex")),
        "cardiac_percent": number(header.get("NominalPercentageOfCardiacPhase")),
        "respiratory_percent": number(header.get("NominalPercentageOfRespiratoryPhase")),
        "acquisition": number(header.get("AcquisitionNumber")),
        "trigger_time_ms": number(header.get("TriggerTime")),
        "repetition_time_ms": number(header.get("RepetitionTime")),
        "acquired_s": _seconds(header, "Acquisition"),
        "content_s": _seconds(header, "Content"),
        "exposure": _joined(header, EXPOSURE),
        "protocol": _joined(header, PROTOCOL),
    }
    return tuple(_rounded(found.get(name)) for name in FACETS)


def of_frame(header: pydicom.Dataset, groups: Iterable[pydicom.Dataset], numbers: dict[str, Any]) -> tuple[Value, ...]:
    """Return the facets of a frame of an enhanced file.

    Parameters
    ----------
    header : Dataset
        Of the file.
    groups : iterable of Dataset
        The frame's functional groups, its own before those that all frames share.
    numbers : dict
        Its acquisition numbers, by the names of FACETS.
    """
    groups = list(groups)

    def of(sequence: str) -> pydicom.Dataset:
        return next((owner[sequence][0] for owner in groups if owner.get(sequence)), pydicom.Dataset())

    content, diffusion, types = of("FrameContentSequence"), of("MRDiffusionSequence"), of("MRImageFrameTypeSequence")
    heart, breath = of("CardiacSynchronizationSequence"), of("RespiratorySynchronizationSequence")
    image_type = types.get("FrameType") or header.get("ImageType")
    direction = (diffusion.get("DiffusionGradientDirectionSequence") or [pydicom.Dataset()])[0]
    found: dict[str, Value] = numbers | {
        "part": part_of(image_type, types.get("ComplexImageComponent") or header.get("ComplexImageComponent")),
        "content": content_of(image_type),
        "stack": number(content.get("StackID")),
        "thickness_mm": number(of("PixelMeasuresSequence").get("SliceThickness")),
        "b_value": number(diffusion.get("DiffusionBValue")),
        "gradient": vector(direction.get("DiffusionGradientOrientation"), 3),
        "time_point": number(content.get("TemporalPositionIndex")),
        "cardiac_percent": number(heart.get("NominalPercentageOfCardiacPhase")),
        "respiratory_percent": number(breath.get("NominalPercentageOfRespiratoryPhase")),
        "acquisition": number(content.get("FrameAcquisitionNumber")),
        "trigger_time_ms": number(heart.get("NominalCardiacTriggerDelayTime")),
        "acquired_s": _instant(content.get("FrameAcquisitionDateTime")),
        "content_s": _instant(content.get("FrameReferenceDateTime")),
    }
    return tuple(_rounded(found.get(name)) for name in FACETS)


def _diffusion(header: pydicom.Dataset) -> tuple[float | None, tuple[float, ...] | None]:
    """Return b-value (s/mm²) and direction of a slice's diffusion weighting."""

    def first(*names: str) -> float | None:
        return next((number(values[0]) for name in names if (values := private(header, name))), None)

    b_value = number(header.get("DiffusionBValue"))
    if b_value is None:
        b_value = first("siemens_b", "philips_b", "uih_b", "ge_b")
        # GE adds 10⁹ to some.
        b_value = b_value if b_value is None or b_value < 1e5 else b_value % 1e5
    directions = [header.get("DiffusionGradientOrientation"), private(header, "siemens_gradient")]
    directions += [private(header, "uih_gradient")]
    directions += [[first(f"{vendor}_gradient_{axis}") for axis in "xyz"] for vendor in ("philips", "ge")]
    return b_value, next((found for one in directions if (found := vector(one, 3))), None)


def _joined(header: pydicom.Dataset, keywords: Iterable[str]) -> str | None:
    """Return a digest of several elements, which are compared and never shown; None if there are none."""
    found = [str(header.get(keyword) or "") for keyword in keywords]
    return hashlib.sha256("\0".join(found).encode()).hexdigest()[:16] if any(found) else None


def _seconds(header: pydicom.Dataset, what: str) -> float | None:
    """Return when something happened, in seconds, from a date and a time."""
    instant = _instant(header.get(f"{what}DateTime"))
    if instant is not None:
        return instant
    time = str(header.get(f"{what}Time") or "").strip()
    return _instant(str(header.get(f"{what}Date") or "").strip().ljust(8, "0")[:8] + time) if time else None


def _instant(text: Any) -> float | None:
    """Return DICOM's YYYYMMDDHHMMSS.FFFFFF in seconds that grow with time (months of 31 days are good enough)."""
    digits = str(text or "").strip()
    with suppress(ValueError):
        year, month, day = int(digits[:4]), int(digits[4:6]), int(digits[6:8])
        clock = digits[8:].split("+")[0].split("-")[0]
        hour, minute, second = int(clock[:2]), int(clock[2:4] or 0), float(clock[4:] or 0)
        return (((year * 12 + month) * 31 + day) * 24 + hour) * 3600.0 + minute * 60 + second
    return None


def _rounded(value: Value) -> Value:
    """Numbers in headers have digits that mean nothing."""
    if isinstance(value, float):
        return round(value, 3)
    return tuple(round(one, 3) + 0.0 for one in value) if isinstance(value, tuple) else value


def items(value: Any) -> list[Any]:
    """Return the values of an element as a list, whatever their number."""
    return [] if value is None else [value] if isinstance(value, str | int | float) else list(value)


def number(value: Any) -> float | None:
    """Return a finite number, or None if an element holds none."""
    with suppress(TypeError, ValueError):
        found = float(value)
        return found if np.isfinite(found) else None
    return None


def vector(values: Any, count: int) -> tuple[float, ...] | None:
    """Return `count` finite numbers, or None if an element holds others."""
    found: Sequence[float | None] = [number(value) for value in items(values)]
    numbers = tuple(one for one in found if one is not None)
    return numbers if len(numbers) == len(found) == count else None
