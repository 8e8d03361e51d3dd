"""Structures from the clinic: they land on the voxels they were drawn on, and what was drawn elsewhere is refused."""

import logging
from itertools import pairwise

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from highdicom import seg
from matplotlib.path import Path as Polygon
from pydicom.uid import RTStructureSetStorage, SegmentationStorage, generate_uid
from scipy.spatial.transform import Rotation

from cohortmorph import UserError
from cohortmorph.clinic.structures import rasterize, read_labels
from cohortmorph.cohort import sources
from cohortmorph.simulated.scanner import PROTOCOLS, write_scan
from cohortmorph.spatial.geometry import Grid, to_array, to_image

AXES = {
    "LPS": np.eye(3),
    "RAS": np.diag([-1.0, -1, 1]),
    "sagittal": np.array([[0.0, 0, 1], [1, 0, 0], [0, -1, 0]]),
    "oblique": Rotation.from_euler("zyx", [20, -15, 35], degrees=True).as_matrix(),
}
FRAME = "1.2.3.4"


def grid_of(direction="oblique"):
    return Grid((40, 30, 6), (1.5, 2.0, 3.3), (-31.5, 12.25, 77.0), tuple(AXES[direction].ravel()))


def sphere(grid, centre_indices=(18.3, 14.2, 2.4), radius_mm=12.0):
    return np.linalg.norm(grid.points_mm() - grid.to_world(centre_indices), axis=-1) <= radius_mm


def circle(grid, k, centre=(18.3, 14.2), radius=8.0, count=60):
    angles = np.linspace(0, 2 * np.pi, count, endpoint=False)
    points = np.column_stack([centre[0] + radius * np.cos(angles), centre[1] + radius * np.sin(angles)])
    return grid.to_world(np.column_stack([points, np.full(count, k)]))


def dataset(storage, path):
    one = pydicom.Dataset()
    one.file_meta = pydicom.dataset.FileMetaDataset()
    one.SOPClassUID = one.file_meta.MediaStorageSOPClassUID = storage
    one.SOPInstanceUID = one.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    one.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    one.filename = str(path)
    return one


def item(**values):
    one = pydicom.Dataset()
    for keyword, value in values.items():
        setattr(one, keyword, value)
    return one


def write_rtstruct(path, contours, frame=FRAME, kind="CLOSED_PLANAR"):
    """Write {name: list of contours} as an RTSTRUCT."""
    one = dataset(RTStructureSetStorage, path)
    one.ReferencedFrameOfReferenceSequence = [item(FrameOfReferenceUID=frame)]
    one.StructureSetROISequence = [
        item(ROINumber=n, ROIName=name, ReferencedFrameOfReferenceUID=frame) for n, name in enumerate(contours, 1)
    ]
    one.ROIContourSequence = [
        item(
            ReferencedROINumber=n,
            ContourSequence=[
                item(ContourGeometricType=kind, ContourData=[f"{number:.6f}" for number in points.ravel()])
                for points in drawn
            ],
        )
        for n, drawn in enumerate(contours.values(), 1)
    ]
    pydicom.dcmwrite(path, one, enforce_file_format=True)


@pytest.mark.parametrize("direction", AXES)
def test_contours_enclose_the_voxels_that_matplotlib_says(direction):
    grid, rng = grid_of(direction), np.random.default_rng(0)
    columns, rows = np.meshgrid(np.arange(40), np.arange(30), indexing="ij")
    for _ in range(20):
        polygon = rng.uniform((-5, -5), (45, 35), (7, 2))  # it crosses itself and the border
        found = rasterize([grid.to_world(np.column_stack([polygon, np.full(7, 3)]))], grid, "P01")[:, :, 3]
        # matplotlib fills where the winding number is not zero; the number of crossings of a ray is its parity.
        pixels = np.column_stack([columns.ravel(), rows.ravel()])
        parity = np.zeros(len(pixels), dtype=bool)
        for a, b in pairwise(polygon[1:]):
            parity ^= Polygon([polygon[0], a, b]).contains_points(pixels)
        np.testing.assert_array_equal(found.ravel(), parity)


@pytest.mark.parametrize("direction", AXES)
def test_structures_become_labels_by_name(tmp_path, direction, caplog):
    grid = grid_of(direction)
    outer, inner = [circle(grid, k) for k in (1, 2, 3)], [circle(grid, k, radius=4) for k in (1, 2, 3)]
    ring = [contour for pair in zip(outer, inner, strict=True) for contour in pair]
    other = [circle(grid, 2, centre=(34, 14), radius=3)]
    write_rtstruct(tmp_path / "plan.dcm", {" PTV ": ring, "Brainstem": inner, "Doe^Jane": outer, "Lens L": other})
    numbers = {"ptv": 1, "brainstem": 5, "lens l": 2}
    with caplog.at_level(logging.INFO, logger="cohortmorph"):
        labels = read_labels(tmp_path / "plan.dcm", grid, numbers, "P01", (FRAME,))
    assert grid.difference_from(Grid.of(labels)) is None
    found = to_array(labels)
    distance = np.hypot(*(np.indices((40, 30)).astype(float) - np.array([18.3, 14.2])[:, None, None]))
    for k in (1, 2, 3):
        clear = (np.abs(distance - 8) > 0.05) & (np.abs(distance - 4) > 0.05)
        np.testing.assert_array_equal((found[..., k] == 5)[clear], (distance < 4)[clear])
        np.testing.assert_array_equal((found[..., k] == 1)[clear], ((distance < 8) & (distance > 4))[clear])
    assert not found[..., [0, 4, 5]].any() and (found == 2).any()
    assert "3 structures taken, 1 others" in caplog.text and "Doe" not in caplog.text


def test_a_hole_by_a_keyhole_is_a_hole():
    grid = grid_of()
    outer, inner = circle(grid, 2), circle(grid, 2, radius=4)[::-1]
    keyhole = np.vstack([outer, outer[:1], inner[-1:], inner])
    np.testing.assert_array_equal(
        rasterize([keyhole], grid, "P01")[18, 14], rasterize([outer, inner], grid, "P01")[18, 14]
    )
    assert not rasterize([keyhole], grid, "P01")[18, 14, 2] and rasterize([keyhole], grid, "P01")[24, 14, 2]


def test_the_later_structure_wins_an_overlap(tmp_path, caplog):
    grid = grid_of()
    write_rtstruct(tmp_path / "plan.dcm", {"A": [circle(grid, 2)], "B": [circle(grid, 2, radius=4)]})
    assert to_array(read_labels(tmp_path / "plan.dcm", grid, {"A": 1, "B": 2}, "P01"))[18, 14, 2] == 2
    assert "overlap in" in caplog.text
    assert to_array(read_labels(tmp_path / "plan.dcm", grid, {"B": 2, "A": 1}, "P01"))[18, 14, 2] == 1


def refusal(words, *arguments):
    with pytest.raises(UserError, match=words) as error:
        read_labels(*arguments)
    assert "Doe" not in str(error.value)


def test_what_was_not_drawn_on_the_image_is_refused(tmp_path):
    grid, path = grid_of(), tmp_path / "plan.dcm"
    write_rtstruct(path, {"A": [circle(grid, 2)], "Doe": []}, frame="9.9.9")
    refusal("another frame of reference", path, grid, {"A": 1}, "P01", (FRAME,))
    assert to_array(read_labels(path, grid, {"A": 1}, "P01")).any()
    refusal("none of the structures B is among the 2", path, grid, {"B": 1}, "P01")
    refusal("gives no structure a number", path, grid, {}, "P01")
    write_rtstruct(path, {"A": [circle(grid, 2.4)]})
    refusal("1.32 mm off the nearest slice; slices are 3.30 mm", path, grid, {"A": 1}, "P01")
    write_rtstruct(path, {"A": [circle(grid, 60)]})
    refusal("covers no voxel", path, grid, {"A": 1}, "P01")
    write_rtstruct(path, {"A": [circle(grid, 2)]}, kind="POINT")
    refusal("covers no voxel", path, grid, {"A": 1}, "P01")
    path.write_text("Doe")
    refusal("no DICOM file", path, grid, {"A": 1}, "P01")
    pydicom.dcmwrite(path, dataset(pydicom.uid.MRImageStorage, path), enforce_file_format=True)
    refusal("neither an RTSTRUCT nor a SEG", path, grid, {"A": 1}, "P01")


def write_seg(path, masks, grid, kind="BINARY", frame=FRAME, cropped=True):
    """Write {name: mask} as a SEG of frames that are not empty, the last slice first."""
    one = dataset(SegmentationStorage, path)
    one.SegmentationType, one.FrameOfReferenceUID = kind, frame
    one.Rows, one.Columns, one.SamplesPerPixel = grid.size[1], grid.size[0], 1
    one.PhotometricInterpretation, one.PixelRepresentation = "MONOCHROME2", 0
    one.SegmentSequence = [item(SegmentNumber=n, SegmentLabel=name) for n, name in enumerate(masks, 1)]
    cosines = [f"{number:.9f}" for number in grid.axes[:, :2].T.ravel()]
    one.SharedFunctionalGroupsSequence = [
        item(
            PlaneOrientationSequence=[item(ImageOrientationPatient=cosines)],
            PixelMeasuresSequence=[item(PixelSpacing=[grid.spacing_mm[1], grid.spacing_mm[0]])],
        )
    ]
    frames, groups = [], []
    for k in reversed(range(grid.size[2])):
        position = [f"{number:.9f}" for number in grid.to_world([0, 0, k])]
        place = {"PlanePositionSequence": [item(ImagePositionPatient=position)]}
        if kind == "LABELMAP":
            values = np.zeros(grid.size[:2], dtype=np.uint8)
            for n, mask in enumerate(masks.values(), 1):
                values[mask[:, :, k]] = n
            frames.append(values.T)
            groups.append(item(**place))
            continue
        for n, mask in enumerate(masks.values(), 1):
            if mask[:, :, k].any() or not cropped:
                frames.append(mask[:, :, k].T)
                groups.append(item(SegmentIdentificationSequence=[item(ReferencedSegmentNumber=n)], **place))
    frames = np.array(frames)
    one.NumberOfFrames, one.PerFrameFunctionalGroupsSequence = len(frames), groups
    one.BitsAllocated = one.BitsStored = 1 if kind == "BINARY" else 8
    one.HighBit = one.BitsStored - 1
    if kind == "BINARY":
        packed = np.packbits(frames.ravel(), bitorder="little").tobytes()
        one.PixelData = packed + b"\0" * (len(packed) % 2)
    else:
        one.MaximumFractionalValue = 200
        one.PixelData = (frames.astype(np.uint8) * (1 if kind == "LABELMAP" else 120)).tobytes()
    pydicom.dcmwrite(path, one, enforce_file_format=True)


@pytest.mark.parametrize("kind", ["BINARY", "FRACTIONAL", "LABELMAP"])
@pytest.mark.parametrize("direction", AXES)
def test_segments_land_on_their_voxels(tmp_path, direction, kind):
    grid = grid_of(direction)
    one, other = sphere(grid), sphere(grid, (33, 8, 3), 4.0)
    write_seg(tmp_path / "seg.dcm", {"Tumour": one, "Doe": sphere(grid, (5, 5, 1), 3), "Node": other}, grid, kind)
    labels = to_array(read_labels(tmp_path / "seg.dcm", grid, {"node": 7, "tumour": 3}, "P01", (FRAME,)))
    np.testing.assert_array_equal(labels, np.where(one, 3, np.where(other, 7, 0)))


def test_segments_land_on_an_image_stored_in_another_order(tmp_path):
    """The SEG runs against the image's slices and is cropped."""
    grid = grid_of()
    mask = sphere(grid)
    flipped = Grid(grid.size, grid.spacing_mm, tuple(grid.to_world([0, 0, 5])), tuple((grid.axes * [1, 1, -1]).ravel()))
    write_seg(tmp_path / "seg.dcm", {"A": mask}, grid)
    found = to_array(read_labels(tmp_path / "seg.dcm", flipped, {"A": 1}, "P01"))
    np.testing.assert_array_equal(found[:, :, ::-1] == 1, mask)


def test_segments_off_the_slices_are_refused(tmp_path):
    grid, path = grid_of(), tmp_path / "seg.dcm"
    write_seg(path, {"A": sphere(grid)}, grid)
    off = Grid(grid.size, grid.spacing_mm, tuple(grid.to_world([0, 0, 0.4])), grid.direction)
    refusal("lies 1.32 mm off", path, off, {"A": 1}, "P01")
    turned = Grid(grid.size, grid.spacing_mm, grid.origin_mm, tuple(AXES["LPS"].ravel()))
    refusal("not parallel", path, turned, {"A": 1}, "P01")
    refusal("another frame of reference", path, grid, {"A": 1}, "P01", ("5.5",))


def write_slicer(path, layers, segments, grid):
    """Write layers as 3D Slicer does: one image of several components, and a name, layer and value for each segment."""
    image = to_image(np.stack(layers, axis=-1) if len(layers) > 1 else layers[0], grid)
    for n, (name, layer, value) in enumerate(segments):
        for key, text in (("Name", name), ("Layer", layer), ("LabelValue", value)):
            image.SetMetaData(f"Segment{n}_{key}", str(text))
    sitk.WriteImage(image, str(path), useCompression=True)


@pytest.mark.parametrize("direction", AXES)
def test_slicers_overlapping_layers_are_read(tmp_path, direction):
    grid = grid_of(direction)
    one, other = sphere(grid).astype(np.uint8), sphere(grid, (20, 14, 3), 5.0).astype(np.uint8)
    third = sphere(grid, (35, 25, 4), 4.0)
    write_slicer(
        tmp_path / "a.seg.nrrd",
        [np.where(third, 4, one).astype(np.uint8), other],
        [("Organ", 0, 1), ("Doe", 1, 9), ("Lesion", 1, 1), ("Node", 0, 4)],
        grid,
    )
    labels = to_array(read_labels(tmp_path / "a.seg.nrrd", grid, {"organ": 1, "lesion": 2, "node": 3}, "P01"))
    np.testing.assert_array_equal(labels, np.where(third, 3, np.where(other, 2, one)))


def test_slicers_cropped_segmentation_is_put_into_its_place(tmp_path):
    grid = grid_of()
    mask = sphere(grid, radius_mm=6.0)
    cropped = Grid((20, 20, 5), grid.spacing_mm, tuple(grid.to_world([9, 5, 0])), grid.direction)
    write_slicer(tmp_path / "a.seg.nrrd", [mask[9:29, 5:25, :5].astype(np.uint8)], [("A", 0, 1)], cropped)
    np.testing.assert_array_equal(to_array(read_labels(tmp_path / "a.seg.nrrd", grid, {"A": 1}, "P01")) == 1, mask)


def test_a_nrrd_without_segments_is_refused(tmp_path):
    sitk.WriteImage(to_image(sphere(grid_of()).astype(np.uint8), grid_of()), str(tmp_path / "a.seg.nrrd"))
    refusal("without segments", tmp_path / "a.seg.nrrd", grid_of(), {"A": 1}, "P01")


@pytest.mark.parametrize(
    ("path", "is_one"), [("a.seg.nrrd", True), ("a.dcm", True), ("a.nrrd", False), ("a.nii.gz", False), ("", False)]
)
def test_structures_are_told_from_label_maps_by_their_ending(path, is_one):
    assert sources.is_segmentation(path) == is_one


def test_highdicom_writes_what_is_read(tmp_path):
    """A SEG of another hand: highdicom crops it, sorts its frames and packs its bits in its own way."""
    grid = Grid((40, 30, 6), (1.5, 2.0, 3.3), (-31.5, 12.25, 77.0))
    values = np.random.default_rng(0).integers(0, 4000, grid.size).astype(np.int16)
    folder = tmp_path / "series"
    write_scan(values, grid, PROTOCOLS["T1"], folder, ["s", "T1"], np.random.default_rng(0))
    slices = sorted((pydicom.dcmread(path) for path in folder.iterdir()), key=lambda one: one.ImagePositionPatient[2])
    masks = np.stack([sphere(grid), sphere(grid, (30, 20, 3), 6.0)], axis=-1)
    codes = pydicom.sr.codedict.codes
    descriptions = [
        seg.SegmentDescription(n, name, codes.SCT.Tissue, codes.SCT.Organ, seg.SegmentAlgorithmTypeValues.MANUAL)
        for n, name in enumerate(("Tumour", "Node"), 1)
    ]
    written = seg.Segmentation(
        slices,
        np.moveaxis(masks, [0, 1, 2], [2, 1, 0]).astype(np.uint8),
        seg.SegmentationTypeValues.BINARY,
        descriptions,
        *(generate_uid(), 1, generate_uid(), 1, "maker", "model", "1", "serial"),
    )
    written.save_as(tmp_path / "seg.dcm")
    found = read_labels(tmp_path / "seg.dcm", grid, {"Tumour": 1, "Node": 2}, "P01", (slices[0].FrameOfReferenceUID,))
    np.testing.assert_array_equal(to_array(found), np.where(masks[..., 1], 2, np.where(masks[..., 0], 1, 0)))
