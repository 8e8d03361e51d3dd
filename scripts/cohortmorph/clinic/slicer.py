"""Segmentations of 3D Slicer (.seg.nrrd): a NRRD whose header names the segments, each a value in a layer."""

import re
from collections.abc import Mapping

import numpy as np
import SimpleITK as sitk

from cohortmorph import UserError
from cohortmorph.clinic.contours import Structure, same_name, within
from cohortmorph.run.files import StrPath
from cohortmorph.spatial import volume_file
from cohortmorph.spatial.geometry import Grid, to_array, to_image


def read_segments(path: StrPath, grid: Grid, wanted: Mapping[str, str], name: str) -> tuple[list[Structure], int]:
    """Return the wanted segments of a .seg.nrrd, resampled by nearest neighbour, and how many others there are."""
    volume_file.refuse_damaged(path, f"{name}: the labels")
    try:
        image = sitk.ReadImage(str(path))
    except RuntimeError:
        raise UserError(f"{name}: the labels cannot be read as NRRD. Is the file whole? Save it again.") from None
    if image.GetDimension() != 3:
        raise UserError(f"{name}: the labels have {image.GetDimension()} dimensions; expected a 3-D segmentation.")
    # ITK turns the frames that it knows into this one, and takes the numbers of all others as they are.
    if not image.HasMetaDataKey("NRRD_space") or image.GetMetaData("NRRD_space") != "left-posterior-superior":
        raise UserError(f"{name}: the NRRD states no frame (space: LPS or RAS). Save the segmentation from 3D Slicer.")
    array, found = to_array(image), []
    layers = array[..., None] if array.ndim == 3 else array
    segments = _slicers_segments(image, layers.shape[-1], name)
    drawn_grid = Grid.of(image)
    for segment, layer, value in segments:
        if same_name(segment) in wanted:
            voxels = layers[..., layer] == value
            resampled = sitk.Resample(
                to_image(voxels.astype(np.uint8), drawn_grid),
                grid.size,
                sitk.Transform(),
                sitk.sitkNearestNeighbor,
                grid.origin_mm,
                grid.spacing_mm,
                grid.direction,
            )
            outside = ~within(drawn_grid.to_world(np.argwhere(voxels)), grid)
            found.append(Structure(segment, to_array(resampled) > 0, len(outside), int(outside.sum())))
    return found, len(segments) - len(found)


def _slicers_segments(image: sitk.Image, layers: int, name: str) -> list[tuple[str, int, int]]:
    """Return the name, layer and value of each segment; 3D Slicer before 4.11 gave each a layer of its own."""
    numbers = sorted(
        int(found[1]) for key in image.GetMetaDataKeys() if (found := re.match(r"Segment(\d+)_Name$", key))
    )
    if not numbers:
        raise UserError(f"{name}: the labels are a NRRD without segments; expected a segmentation saved by 3D Slicer.")
    segments = []
    for n in numbers:
        layer, value = (
            image.GetMetaData(key).strip() if image.HasMetaDataKey(key) else ""
            for key in (f"Segment{n}_Layer", f"Segment{n}_LabelValue")
        )
        if not layer and not value and len(numbers) == layers:
            layer, value = str(n), "1"
        if not (layer or "0").isdigit() or not value.isdigit() or int(layer or 0) >= layers:
            raise UserError(
                f"{name}: segment {n} of the NRRD has no layer and value that the file holds (Segment{n}_Layer, "
                f"Segment{n}_LabelValue; {layers} layers). Save the segmentation from 3D Slicer again."
            )
        segments.append((image.GetMetaData(f"Segment{n}_Name"), int(layer or 0), int(value)))
    return segments
