"""Structures drawn in the clinic as label maps on an image's grid: RTSTRUCT, DICOM SEG and 3D Slicer's .seg.nrrd.

The configuration gives the structures their numbers; what it does not name is left out, and its name stays unsaid, as
people write names of patients there. Names are compared without regard to case and outer spaces. Where structures
overlap, the one that stands later in the configuration wins.

A voxel belongs to a contour if its centre lies inside (even-odd rule: a contour within another one is a hole), and to a
segment if the segment's voxel nearest to its centre does.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import pydicom
import SimpleITK as sitk
from pydicom.errors import InvalidDicomError

from cohortmorph import UserError
from cohortmorph.run.files import StrPath
from cohortmorph.run.logs import log
from cohortmorph.spatial.geometry import Grid, to_array, to_image

SLICE_TOLERANCE = 0.2  # of the slice distance: how far a contour or a segment's slice may lie from a slice of the image


@dataclass(frozen=True)
class Structure:
    """One structure on the image's grid: its name as in the file, and where it is (bool, indexed [i, j, k])."""

    name: str
    mask: np.ndarray


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
    wanted = {_same(structure): structure for structure in numbers}
    if str(path).lower().endswith(".seg.nrrd"):
        found, others = _read_nrrd(path, grid, wanted, name)
    else:
        found, others = _read_dicom(path, grid, wanted, name, frames_of_reference)
    by_name: dict[str, np.ndarray] = {}
    for one in found:
        key = _same(one.name)
        by_name[key] = by_name[key] | one.mask if key in by_name else one.mask
    missing = [structure for key, structure in wanted.items() if key not in by_name]
    if not by_name:
        raise UserError(
            f"{name}: none of the structures {', '.join(wanted.values())} is among the {others} of the file. Correct "
            "their names in `structures`."
        )
    if missing:
        log.warning("%s: the file has no %s.", name, ", ".join(missing))
    labels, overlapping = np.zeros(grid.size, dtype=np.int32), 0
    for key, structure in wanted.items():
        if key in by_name:
            mask = by_name[key]
            if not mask.any():
                raise UserError(f"{name}: {structure} covers no voxel of the image. Was it drawn on this image?")
            overlapping += int(np.count_nonzero(labels[mask]))
            labels[mask] = numbers[structure]
    log.info("%s: %d structures taken, %d others left out.", name, len(by_name), others)
    if overlapping:
        log.warning("%s: structures overlap in %d voxels; the later in `structures` was taken.", name, overlapping)
    return to_image(labels, grid)


def _same(name: str) -> str:
    return str(name).strip().casefold()


# ---- DICOM


def _read_dicom(
    path: StrPath, grid: Grid, wanted: Mapping[str, str], name: str, frames_of_reference: Collection[str]
) -> tuple[list[Structure], int]:
    try:
        dataset = pydicom.dcmread(path)
    except InvalidDicomError:
        raise UserError(f"{name}: the labels are no DICOM file; expected an RTSTRUCT or a SEG.") from None
    if "StructureSetROISequence" in dataset:
        _refuse_other_frame(
            {str(one.FrameOfReferenceUID) for one in dataset.get("ReferencedFrameOfReferenceSequence", [])}
            | {str(one.get("ReferencedFrameOfReferenceUID")) for one in dataset.StructureSetROISequence},
            frames_of_reference,
            name,
        )
        return _read_contours(dataset, grid, wanted, name)
    if "SegmentSequence" in dataset:
        _refuse_other_frame({str(dataset.get("FrameOfReferenceUID"))}, frames_of_reference, name)
        return _read_segments(dataset, grid, wanted, name)
    raise UserError(f"{name}: the labels are DICOM, but neither an RTSTRUCT nor a SEG. Correct `labels`.")


def _refuse_other_frame(drawn_in: set[str], frames_of_reference: Collection[str], name: str) -> None:
    if frames_of_reference and not drawn_in & set(frames_of_reference):
        raise UserError(
            f"{name}: the structures were drawn in another frame of reference than the image's, so on another scan "
            "or another patient. Correct `labels`, or convert them onto this image first."
        )


def _read_contours(
    dataset: pydicom.Dataset, grid: Grid, wanted: Mapping[str, str], name: str
) -> tuple[list[Structure], int]:
    """Return the wanted structures of an RTSTRUCT, and how many others there are."""
    called = {one.ROINumber: one.ROIName for one in dataset.StructureSetROISequence}
    drawn = {one.ReferencedROINumber: one.get("ContourSequence") or [] for one in dataset.get("ROIContourSequence", [])}
    found = []
    for number, roi in called.items():
        if _same(roi) in wanted:
            points = []
            for contour in drawn.get(number, []):
                if contour.ContourGeometricType in ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR"):
                    points.append(np.array(contour.ContourData, dtype=float).reshape(-1, 3))
                else:
                    log.warning("%s: a contour of %s is no closed curve and was left out.", name, wanted[_same(roi)])
            found.append(Structure(roi, rasterize(points, grid, f"{name}, {wanted[_same(roi)]}")))
    return found, len(called) - len(found)


def rasterize(contours_lps_mm: Iterable[np.ndarray], grid: Grid, name: str) -> np.ndarray:
    """Return where closed planar contours enclose the centres of voxels.

    Parameters
    ----------
    contours_lps_mm : list of array, shape (n, 3)
    grid : Grid
    name : str
        For messages.

    Returns
    -------
    mask : bool array, indexed [i, j, k]
    """
    mask = np.zeros(grid.size, dtype=bool)
    for contour in contours_lps_mm:
        indices = grid.to_indices(contour)
        k = int(np.rint(indices[:, 2].mean()))
        off = np.abs(indices[:, 2] - k).max()
        if off > SLICE_TOLERANCE:
            raise UserError(
                f"{name}: a contour lies up to {off * grid.spacing_mm[2]:.2f} mm off the nearest slice; slices are "
                f"{grid.spacing_mm[2]:.2f} mm apart. Was it drawn on another series, or in another direction?"
            )
        if 0 <= k < grid.size[2] and len(indices) > 2:
            mask[:, :, k] ^= _inside(indices[:, :2], grid.size[:2])
    return mask


def _inside(polygon: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """Return which pixels of a slice have their centre inside a polygon of indices (i, j), by the even-odd rule."""
    crossings = np.zeros((size[0] + 1, size[1]), dtype=bool)
    for (i0, j0), (i1, j1) in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
        # An edge is crossed by the lines of pixels from its lower end on up to, but without, its upper end.
        low, high = sorted((j0, j1))
        lines = np.arange(max(int(np.ceil(low)), 0), min(int(np.ceil(high)), size[1]))
        if lines.size:
            at = i0 + (lines - j0) * (i1 - i0) / (j1 - j0)
            np.logical_xor.at(crossings, (np.clip(np.ceil(at), 0, size[0]).astype(int), lines), True)
    return np.logical_xor.accumulate(crossings, axis=0)[:-1]


def _read_segments(
    dataset: pydicom.Dataset, grid: Grid, wanted: Mapping[str, str], name: str
) -> tuple[list[Structure], int]:
    """Return the wanted segments of a SEG (binary, fractional from one half on, or label map), and how many others."""
    called = {int(one.SegmentNumber): one.SegmentLabel for one in dataset.SegmentSequence}
    # Frame by frame: highdicom (0.28) makes a volume of the frames that there are, so that a segment on slices 2 and 5
    # alone, in a file without SpacingBetweenSlices, becomes one of slices three times as far apart.
    kind = dataset.get("SegmentationType", "BINARY")
    frames = dataset.pixel_array.reshape(-1, dataset.Rows, dataset.Columns)
    half = 0.5 * float(dataset.get("MaximumFractionalValue", 1)) if kind == "FRACTIONAL" else 0.5
    masks = {number: np.zeros(grid.size, dtype=bool) for number, label in called.items() if _same(label) in wanted}
    shared = dataset.SharedFunctionalGroupsSequence[0]
    for frame, groups in zip(frames, dataset.PerFrameFunctionalGroupsSequence, strict=True):
        plane = _plane(groups, shared)
        if kind == "LABELMAP":
            here = {number: frame == number for number in masks}
        else:
            (identity,) = groups.get("SegmentIdentificationSequence") or shared.SegmentIdentificationSequence
            here = {int(identity.ReferencedSegmentNumber): frame >= half}
        for number, values in here.items():
            if number in masks and values.any():
                _place(values.T, plane, masks[number], grid, name)
    return [Structure(called[number], mask) for number, mask in masks.items()], len(called) - len(masks)


def _plane(groups: pydicom.Dataset, shared: pydicom.Dataset) -> Grid:
    """Return a frame as a Grid of one slice."""

    def group(sequence: str) -> pydicom.Dataset:
        return (groups.get(sequence) or shared.get(sequence))[0]

    cosines = np.array(group("PlaneOrientationSequence").ImageOrientationPatient, dtype=float)
    row_mm, column_mm = map(float, group("PixelMeasuresSequence").PixelSpacing)
    position = tuple(map(float, group("PlanePositionSequence").ImagePositionPatient))
    axes = np.column_stack([cosines[:3], cosines[3:], np.cross(cosines[:3], cosines[3:])])
    return Grid((1, 1, 1), (column_mm, row_mm, 1.0), position, tuple(axes.ravel()))


def _place(values: np.ndarray, plane: Grid, mask: np.ndarray, grid: Grid, name: str) -> None:
    """Set the voxels of `mask` whose nearest pixel of a plane, values indexed [i, j], is set."""
    normal = plane.axes[:, 2]
    axis = int(np.abs(normal @ grid.axes).argmax())
    if abs(normal @ grid.axes[:, axis]) < 1 - 1e-4:
        raise UserError(
            f"{name}: the segmentation's slices are not parallel to the image's. Resample it onto the image."
        )
    corners = plane.to_world([[0, 0, 0], [values.shape[0] - 1, values.shape[1] - 1, 0]])
    place = grid.to_indices(corners)[:, axis].mean()
    n, step_mm = int(np.rint(place)), grid.spacing_mm[axis]
    if abs(place - n) > SLICE_TOLERANCE:
        raise UserError(
            f"{name}: a slice of the segmentation lies {abs(place - n) * step_mm:.2f} mm off the image's nearest one; "
            f"slices are {step_mm:.2f} mm apart. Was it drawn on another series?"
        )
    if not 0 <= n < grid.size[axis]:
        return
    choose = [slice(None)] * 3
    choose[axis] = slice(n, n + 1)
    ranges = [np.array([n]) if a == axis else np.arange(grid.size[a]) for a in range(3)]
    points = grid.to_world(np.stack(np.meshgrid(*ranges, indexing="ij"), axis=-1))
    pixels = np.floor(plane.to_indices(points)[..., :2] + 0.5).astype(int)
    inside = np.all((pixels >= 0) & (pixels < values.shape), axis=-1)
    i, j = np.clip(pixels[..., 0], 0, values.shape[0] - 1), np.clip(pixels[..., 1], 0, values.shape[1] - 1)
    mask[tuple(choose)] |= inside & values[i, j]


# ---- 3D Slicer


def _read_nrrd(path: StrPath, grid: Grid, wanted: Mapping[str, str], name: str) -> tuple[list[Structure], int]:
    """Return the wanted segments of a .seg.nrrd, resampled by nearest neighbour, and how many others there are."""
    try:
        image = sitk.ReadImage(str(path))
    except RuntimeError:
        raise UserError(f"{name}: the labels cannot be read as NRRD.") from None
    segments: list[tuple[str, int, int]] = []  # name, layer, value
    while image.HasMetaDataKey(f"Segment{len(segments)}_Name"):
        head = f"Segment{len(segments)}_"
        layer = int(image.GetMetaData(head + "Layer")) if image.HasMetaDataKey(head + "Layer") else 0
        segments.append((image.GetMetaData(head + "Name"), layer, int(image.GetMetaData(head + "LabelValue"))))
    if not segments:
        raise UserError(f"{name}: the labels are a NRRD without segments; expected a segmentation saved by 3D Slicer.")
    array, found = to_array(image), []
    layers = array[..., None] if array.ndim == 3 else array
    for segment, layer, value in segments:
        if _same(segment) in wanted:
            drawn = to_image((layers[..., layer] == value).astype(np.uint8), Grid.of(image))
            resampled = sitk.Resample(
                drawn,
                grid.size,
                sitk.Transform(),
                sitk.sitkNearestNeighbor,
                grid.origin_mm,
                grid.spacing_mm,
                grid.direction,
            )
            found.append(Structure(segment, to_array(resampled) > 0))
    return found, len(segments) - len(found)
