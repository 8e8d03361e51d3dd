"""Structures drawn in the clinic as label maps on an image's grid: RTSTRUCT, DICOM SEG and 3D Slicer's .seg.nrrd.

The configuration gives the structures their numbers; what it does not name is left out, and its name stays unsaid, as
people write names of patients there. Names are compared without regard to case and outer spaces. Where structures
overlap, the one that stands later in the configuration wins.

A voxel belongs to a contour if its centre lies inside (see :mod:`cohortmorph.clinic.contours`), and to a segment if the
segment's voxel nearest to its centre does.
"""

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import pydicom
import SimpleITK as sitk
from pydicom.dataelem import RawDataElement
from pydicom.errors import InvalidDicomError

from cohortmorph import UserError
from cohortmorph.clinic import slicer
from cohortmorph.clinic.contours import SLICE_TOLERANCE, Structure, check_gaps, rasterize, same_name, slice_of, within
from cohortmorph.run.files import StrPath
from cohortmorph.run.logs import log
from cohortmorph.spatial.geometry import Grid, to_image

UNDEFINED_LENGTH = 0xFFFFFFFF
CLOSED = ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR")


def read_labels(
    path: StrPath, grid: Grid, numbers: Mapping[str, int], name: str, frames_of_reference: Collection[str] = ()
) -> sitk.Image:
    """Read the structures of one file as a label map.

    Parameters
    ----------
    path : str or Path
        ``.seg.nrrd``, or ``.dcm``: an RTSTRUCT or a SEG.
    grid : Grid
        The image's.
    numbers : dict of str to int
        Name of a structure → its number, from 1.
    name : str
        For messages.
    frames_of_reference : sequence of str
        UIDs of the image's frame of reference; what was drawn in another one is refused. Empty: not compared.

    Returns
    -------
    SimpleITK image of int32

    Raises
    ------
    UserError
        If the file is of another kind, was drawn on another image, lies off its slices, or lacks all structures.
    """
    if not numbers:
        raise UserError(
            f"{name}: the configuration gives no structure a number. Fill `structures`, such as Brainstem: 1."
        )
    wanted = {same_name(structure): structure for structure in numbers}
    if len(wanted) < len(numbers):
        raise UserError(f"{name}: two names in `structures` differ in capitals or outer spaces only; keep one.")
    if str(path).lower().endswith(".seg.nrrd"):
        found, others = slicer.read_segments(path, grid, wanted, name)
    else:
        found, others = _read_dicom(path, grid, wanted, name, frames_of_reference)
    by_name = _merged(found)
    if not by_name:
        raise UserError(
            f"{name}: none of the structures {', '.join(wanted.values())} is among the {others} of the file. Correct "
            "their names in `structures`."
        )
    _say_what_is_missing(by_name, wanted, name)
    labels, overlapping = np.zeros(grid.size, dtype=np.int32), 0
    for key, structure in wanted.items():
        if key in by_name:
            mask = by_name[key].mask
            overlapping += int(np.count_nonzero(labels[mask]))
            labels[mask] = numbers[structure]
    taken = sum(bool(structure.mask.any()) for structure in by_name.values())
    log.info("%s: %d structures taken, %d others left out.", name, taken, others)
    if overlapping:
        log.warning("%s: structures overlap in %d voxels; the later in `structures` was taken.", name, overlapping)
    return to_image(labels, grid)


def _merged(found: list[Structure]) -> dict[str, Structure]:
    """Return the structures by name; several of one name are one."""
    by_name: dict[str, Structure] = {}
    for one in found:
        other = by_name.get(same_name(one.name))
        if other:
            one = Structure(one.name, other.mask | one.mask, other.drawn + one.drawn, other.outside + one.outside)
        by_name[same_name(one.name)] = one
    return by_name


def _say_what_is_missing(by_name: Mapping[str, Structure], wanted: Mapping[str, str], name: str) -> None:
    """Warn of structures that are absent, empty or partly outside of the image; a UserError if none is left."""
    empty = {wanted[key]: one.why_empty for key, one in by_name.items() if not one.mask.any()}
    if len(empty) == len(by_name):
        reasons = "; ".join(f"{structure} covers no voxel of the image ({why})" for structure, why in empty.items())
        raise UserError(f"{name}: {reasons}. Was it drawn on this image?")
    missing = [structure for key, structure in wanted.items() if key not in by_name]
    if missing:
        log.warning("%s: the file has no %s.", name, ", ".join(missing))
    for structure, why in empty.items():
        log.warning("%s: %s covers no voxel of the image and was left out: %s.", name, structure, why)
    for key, one in by_name.items():
        if 0 < one.outside < one.drawn:
            share = f"{one.outside} of {one.drawn}"
            log.warning("%s: %s reaches out of the image (%s of its parts lie outside).", name, wanted[key], share)


# ---- DICOM


def _read_dicom(
    path: StrPath, grid: Grid, wanted: Mapping[str, str], name: str, frames_of_reference: Collection[str]
) -> tuple[list[Structure], int]:
    with _of_the_standard(name):
        try:
            dataset = pydicom.dcmread(path)
        except InvalidDicomError:
            raise UserError(
                f"{name}: the labels are no DICOM file (or compressed, or without its preamble); expected an RTSTRUCT "
                "or a SEG."
            ) from None
        _refuse_cut_off(dataset, name)
        if not frames_of_reference:
            log.info("%s: the image states no frame of reference, so that of the structures was not compared.", name)
        if "StructureSetROISequence" in dataset:
            return _read_contours(dataset, grid, wanted, name, frames_of_reference)
        if "SegmentSequence" in dataset:
            drawn_in = {str(dataset.get("FrameOfReferenceUID") or "")} - {""}
            _refuse_other_frame(drawn_in, frames_of_reference, f"{name}: the segmentation")
            return _read_segments(dataset, grid, wanted, name)
    raise UserError(f"{name}: the labels are DICOM, but neither an RTSTRUCT nor a SEG. Correct `labels`.")


@contextmanager
def _of_the_standard(name: str) -> Iterator[None]:
    """Turn what pydicom raises on a damaged file into a sentence; it raises many kinds, whose texts quote the file."""
    try:
        yield
    except (UserError, MemoryError):
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno:
            raise
        raise UserError(
            f"{name}: the labels' DICOM file is damaged, or not as the standard says ({type(error).__name__}). Export "
            "it again."
        ) from None


def _refuse_cut_off(dataset: pydicom.Dataset, name: str) -> None:
    """Refuse a file whose end is missing: pydicom reads what there is, such as half of the contours."""
    for tag in tuple(dataset.keys()):  # the values of a Dataset are parsed, and so have no length
        one = dataset.get_item(tag)
        if not isinstance(one, RawDataElement) or one.length == UNDEFINED_LENGTH:
            continue
        if len(one.value or b"") < one.length:
            raise UserError(f"{name}: the labels' DICOM file is cut off. Was a copy broken off? Export it again.")


def _needed(dataset: pydicom.Dataset, keyword: str, where: str) -> Any:
    """Return an attribute that the standard demands; a UserError if it is missing or empty."""
    value = dataset.get(keyword)
    if value is None or value == "" or (isinstance(value, pydicom.Sequence) and not len(value)):
        raise UserError(f"{where} has no {keyword}, which the standard demands. Is the file whole? Export it again.")
    return value


def _refuse_other_frame(drawn_in: set[str], frames_of_reference: Collection[str], what: str) -> None:
    if not frames_of_reference:
        return
    if not drawn_in:
        raise UserError(
            f"{what} states no frame of reference, so that nothing says that it was drawn on this image. Export it "
            "again, or save it as a label map on the image's grid."
        )
    if not drawn_in <= set(frames_of_reference):
        raise UserError(
            f"{what} was drawn in another frame of reference than the image's, so on another scan or another patient. "
            "Correct `labels`, or convert it onto this image first."
        )


def _read_contours(
    dataset: pydicom.Dataset, grid: Grid, wanted: Mapping[str, str], name: str, frames_of_reference: Collection[str]
) -> tuple[list[Structure], int]:
    """Return the wanted structures of an RTSTRUCT, and how many others there are."""
    rois: dict[int, pydicom.Dataset] = {}
    for roi in _needed(dataset, "StructureSetROISequence", f"{name}: the RTSTRUCT"):
        number = int(_needed(roi, "ROINumber", f"{name}: an ROI of the RTSTRUCT"))
        if number in rois:
            raise UserError(f"{name}: two ROIs of the RTSTRUCT have the number {number}. Export it again.")
        rois[number] = roi
    contours: dict[int, list[pydicom.Dataset]] = {}
    for one in _needed(dataset, "ROIContourSequence", f"{name}: the RTSTRUCT"):
        number = int(_needed(one, "ReferencedROINumber", f"{name}: an item of the RTSTRUCT's contours"))
        contours.setdefault(number, []).extend(one.get("ContourSequence") or [])
    stated = {
        str(one.get("FrameOfReferenceUID") or "") for one in dataset.get("ReferencedFrameOfReferenceSequence", [])
    }
    found, frames = [], set()
    for number, roi in rois.items():
        key = same_name(roi.get("ROIName") or "")
        if key not in wanted:
            continue
        what = f"{name}, {wanted[key]}"
        own = str(roi.get("ReferencedFrameOfReferenceUID") or "")
        drawn_in = {own} if own else stated - {""}
        curves = _closed_curves(contours.get(number, []), what)
        if curves:  # an ROI without a contour lies in no frame
            _refuse_other_frame(drawn_in, frames_of_reference, f"{what}: the structure")
            frames |= drawn_in
        mask = rasterize(curves, grid, what)
        outside = sum(slice_of(curve, grid, what) is None for curve in curves)
        found.append(Structure(str(roi.ROIName), mask, len(curves), outside))
    if not frames_of_reference and len(frames) > 1:
        raise UserError(
            f"{name}: the structures were drawn in {len(frames)} frames of reference, so on several scans, and the "
            "image states none. Give the DICOM series as `source`, or name those of this image only in `structures`."
        )
    return found, len(rois) - len(found)


def _closed_curves(contours: list[pydicom.Dataset], what: str) -> list[np.ndarray]:
    """Return the points (LPS, mm) of an ROI's closed contours, each of shape (n, 3), n at least 3."""
    curves, others = [], 0
    for contour in contours:
        kind = _needed(contour, "ContourGeometricType", f"{what}: a contour")
        if kind not in CLOSED:
            others += 1
            continue
        data = np.array(_needed(contour, "ContourData", f"{what}: a contour"), dtype=float)
        promised = int(contour.get("NumberOfContourPoints") or data.size // 3)
        if data.size != 3 * promised or not np.isfinite(data).all():
            raise UserError(
                f"{what}: a contour has {data.size} coordinates; expected 3 finite ones for each of its {promised} "
                "points. Is the file whole? Export it again."
            )
        if promised < 3:
            others += 1
        else:
            curves.append(data.reshape(-1, 3))
    if others:
        log.warning("%s: %d contours are no closed curves (but points or lines) and were left out.", what, others)
    return curves


def _read_segments(
    dataset: pydicom.Dataset, grid: Grid, wanted: Mapping[str, str], name: str
) -> tuple[list[Structure], int]:
    """Return the wanted segments of a SEG (binary, fractional from one half on, or label map), and how many others."""
    where = f"{name}: the SEG"
    called: dict[int, str] = {}
    for one in _needed(dataset, "SegmentSequence", where):
        number = int(_needed(one, "SegmentNumber", f"{name}: a segment of the SEG"))
        if number in called:
            raise UserError(f"{name}: two segments of the SEG have the number {number}. Export it again.")
        called[number] = str(one.get("SegmentLabel") or "")
    masks = {number: np.zeros(grid.size, dtype=bool) for number, label in called.items() if same_name(label) in wanted}
    places: dict[int, list[tuple[int, int | None]]] = {number: [] for number in masks}
    for here, plane in _frames(dataset, list(masks), where):
        for number, values in here.items():
            if number in masks and values.any():
                places[number].append(_place(values.T, plane, masks[number], grid, name))
    found = []
    for number, mask in masks.items():
        inside = {place for place in places[number] if place[1] is not None}
        for axis in {axis for axis, _ in inside}:
            slices = {n for along, n in inside if along == axis and n is not None}
            check_gaps(slices, grid.spacing_mm[axis], f"{name}, {wanted[same_name(called[number])]}")
        outside = sum(n is None for _, n in places[number])
        found.append(Structure(called[number], mask, len(places[number]), outside))
    return found, len(called) - len(masks)


def _frames(dataset: pydicom.Dataset, numbers: list[int], where: str) -> Iterator[tuple[dict[int, np.ndarray], Grid]]:
    """Yield, frame by frame, where segments are (bool, indexed [row, column], by number), and the frame's plane."""
    # Frame by frame: highdicom (0.28) makes a volume of the frames that there are, so that a segment on slices 2 and 5
    # alone, in a file without SpacingBetweenSlices, becomes one of slices three times as far apart.
    kind = _needed(dataset, "SegmentationType", where)
    if kind not in ("BINARY", "FRACTIONAL", "LABELMAP"):
        raise UserError(f"{where} is of the type {kind}; expected BINARY, FRACTIONAL or LABELMAP.")
    half = 0.5 * float(_needed(dataset, "MaximumFractionalValue", where)) if kind == "FRACTIONAL" else 0.5
    every_group = _needed(dataset, "PerFrameFunctionalGroupsSequence", where)
    shared = (dataset.get("SharedFunctionalGroupsSequence") or [pydicom.Dataset()])[0]
    _needed(dataset, "PixelData", where)
    frames = dataset.pixel_array.reshape(
        -1, int(_needed(dataset, "Rows", where)), int(_needed(dataset, "Columns", where))
    )
    if len(frames) != len(every_group):
        raise UserError(f"{where} has {len(frames)} frames, but the places of {len(every_group)}. Export it again.")
    for frame, groups in zip(frames, every_group, strict=True):
        plane = _plane(groups, shared, where)
        if kind == "LABELMAP":
            yield {number: frame == number for number in numbers}, plane
        else:
            identity = _group("SegmentIdentificationSequence", groups, shared, where)
            number = int(_needed(identity, "ReferencedSegmentNumber", f"{where}'s frame"))
            yield {number: frame >= half}, plane


def _group(sequence: str, groups: pydicom.Dataset, shared: pydicom.Dataset, where: str) -> pydicom.Dataset:
    """Return a functional group of a frame, or that of all frames."""
    return _needed(groups if groups.get(sequence) else shared, sequence, f"{where}'s frame")[0]


def _plane(groups: pydicom.Dataset, shared: pydicom.Dataset, where: str) -> Grid:
    """Return a frame as a Grid of one slice."""

    def value(sequence: str, keyword: str, count: int) -> np.ndarray:
        group = _group(sequence, groups, shared, where)
        numbers = np.array(_needed(group, keyword, f"{where}'s frame"), dtype=float)
        if numbers.shape != (count,) or not np.isfinite(numbers).all():
            raise UserError(f"{where}'s frame has no {count} numbers as its {keyword}. Export it again.")
        return numbers

    cosines = value("PlaneOrientationSequence", "ImageOrientationPatient", 6)
    row_mm, column_mm = map(float, value("PixelMeasuresSequence", "PixelSpacing", 2))
    position = tuple(map(float, value("PlanePositionSequence", "ImagePositionPatient", 3)))
    axes = np.column_stack([cosines[:3], cosines[3:], np.cross(cosines[:3], cosines[3:])])
    return Grid((1, 1, 1), (column_mm, row_mm, 1.0), position, tuple(axes.ravel()))


def _place(values: np.ndarray, plane: Grid, mask: np.ndarray, grid: Grid, name: str) -> tuple[int, int | None]:
    """Set the voxels of `mask` whose nearest pixel of a plane, values indexed [i, j], is set.

    Returns the axis that the plane lies across, and which slice along it that is; None if it is outside of the image.
    """
    normal = plane.axes[:, 2]
    axis = int(np.abs(normal @ grid.axes).argmax())
    if abs(normal @ grid.axes[:, axis]) < 1 - 1e-4:
        raise UserError(
            f"{name}: the segmentation's slices are not parallel to the image's. Resample it onto the image."
        )
    corners = plane.to_world([[0, 0, 0], [values.shape[0] - 1, values.shape[1] - 1, 0]])
    place = grid.to_indices(corners)[:, axis].mean()
    if not -SLICE_TOLERANCE <= place <= grid.size[axis] - 1 + SLICE_TOLERANCE:
        return axis, None
    n, step_mm = int(np.rint(place)), grid.spacing_mm[axis]
    if abs(place - n) > SLICE_TOLERANCE:
        raise UserError(
            f"{name}: a slice of the segmentation lies {abs(place - n) * step_mm:.2f} mm off the image's nearest one; "
            f"slices are {step_mm:.2f} mm apart. Was it drawn on another series?"
        )
    choose = [slice(None)] * 3
    choose[axis] = slice(n, n + 1)
    ranges = [np.array([n]) if a == axis else np.arange(grid.size[a]) for a in range(3)]
    points = grid.to_world(np.stack(np.meshgrid(*ranges, indexing="ij"), axis=-1))
    pixels = np.floor(plane.to_indices(points)[..., :2] + 0.5).astype(int)
    inside = np.all((pixels >= 0) & (pixels < values.shape), axis=-1)
    i, j = np.clip(pixels[..., 0], 0, values.shape[0] - 1), np.clip(pixels[..., 1], 0, values.shape[1] - 1)
    covered = inside & values[i, j]
    mask[tuple(choose)] |= covered
    if covered.any():
        return axis, n
    # What is drawn may lie beside the image, on one of its slices.
    drawn = plane.to_world(np.column_stack([np.argwhere(values), np.zeros(np.count_nonzero(values))]))
    return axis, n if within(drawn, grid).any() else None
