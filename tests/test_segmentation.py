"""Structures from the clinic: they land on the voxels they were drawn on, and what was drawn elsewhere is refused."""

import logging
import re
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


# ---- what a structure set may hold besides

BOTH = {"A": 1, "B": 2}


def change(path, edit):
    """Write an RTSTRUCT or SEG again after `edit` changed it."""
    one = pydicom.dcmread(path)
    edit(one)
    pydicom.dcmwrite(path, one, enforce_file_format=True)


def drawn(path, grid, contours, numbers=None, frames=(FRAME,), edit=None):
    """Return the label map of an RTSTRUCT of these contours."""
    write_rtstruct(path, contours)
    if edit:
        change(path, edit)
    return to_array(read_labels(path, grid, numbers or BOTH, "P01", frames))


def in_frame(frame, roi=1):
    """Return an edit that draws one ROI in another frame of reference; a file with two frames states both."""

    def edit(one):
        one.StructureSetROISequence[roi].ReferencedFrameOfReferenceUID = frame
        if frame:
            one.ReferencedFrameOfReferenceSequence.append(item(FrameOfReferenceUID=frame))

    return edit


def test_each_structure_is_compared_by_its_own_frame_of_reference(tmp_path):
    grid, path = grid_of(), tmp_path / "plan.dcm"
    contours = {"A": [circle(grid, 2)], "B": [circle(grid, 3)]}
    with pytest.raises(UserError, match="P01, B: the structure was drawn in another frame of reference"):
        drawn(path, grid, contours, edit=in_frame("9.9"))
    # What is not wanted, or has no contour, may lie in any frame.
    assert (drawn(path, grid, contours, {"A": 1}, edit=in_frame("9.9")) == 1).any()
    assert (drawn(path, grid, contours | {"B": []}, edit=in_frame("9.9")) == 1).any()
    # Without one of its own, a structure lies in the file's, if there is one only.
    assert (drawn(path, grid, contours, edit=in_frame("")) == 2).any()

    def two_and_none(one):
        in_frame("9.9", 0)(one)
        in_frame("", 1)(one)

    with pytest.raises(UserError, match="P01, B: the structure was drawn in another"):
        drawn(path, grid, contours, {"B": 2}, edit=two_and_none)

    def none(one):
        del one.ReferencedFrameOfReferenceSequence
        del one.StructureSetROISequence[0].ReferencedFrameOfReferenceUID

    with pytest.raises(UserError, match="P01, A: the structure states no frame of reference"):
        drawn(path, grid, contours, {"A": 1}, edit=none)
    # An image of no known frame cannot hold structures of two.
    with pytest.raises(UserError, match="drawn in 2 frames of reference"):
        drawn(path, grid, contours, frames=(), edit=in_frame("9.9"))
    assert (drawn(path, grid, contours, {"A": 1}, frames=(), edit=in_frame("9.9")) == 1).any()


def shifted(contour):
    return np.roll(contour, 7, axis=0)


REPEATS = {
    "the same": lambda contour: contour,
    "from another point on": shifted,
    "the other way round": lambda contour: contour[::-1],
    "closed by its first point": lambda contour: np.vstack([contour, contour[:1]]),
    "with more points": lambda contour: np.stack([contour, (contour + np.roll(contour, -1, axis=0)) / 2], 1).reshape(
        -1, 3
    ),
    "with other digits": lambda contour: shifted(np.round(contour, 1)),
}


@pytest.mark.parametrize("how", REPEATS)
@pytest.mark.parametrize("direction", ["LPS", "oblique"])
def test_a_contour_that_stands_twice_is_drawn_once(tmp_path, caplog, how, direction):
    grid = grid_of(direction)
    outer = [circle(grid, k) for k in (1, 2, 3)]
    hole = circle(grid, 2, radius=4)
    once = drawn(tmp_path / "plan.dcm", grid, {"A": [*outer, hole]})
    caplog.clear()
    again = [REPEATS[how](contour) for contour in (outer[1], hole, hole)]
    twice = drawn(tmp_path / "plan.dcm", grid, {"A": [*outer, hole, *again]})
    np.testing.assert_array_equal(once, twice)
    assert once[24, 14, 2] == 1 and once[18, 14, 2] == 0
    assert "P01, A: 3 contours repeat another one" in caplog.text


def test_a_thin_shell_is_no_repetition():
    """A ring of a tenth of a voxel encloses next to no centre, and stays so."""
    grid = grid_of("LPS")
    shell = rasterize([circle(grid, 2, radius=8.0), circle(grid, 2, radius=7.9)], grid, "P01")
    assert np.count_nonzero(shell) < 15
    # Two squares with the same corners, joined in another order, are two curves.
    square = grid.to_world([[5, 5, 2], [15, 5, 2], [15, 15, 2], [5, 15, 2]])
    assert rasterize([square, square[[0, 2, 1, 3]]], grid, "P01").any()


def test_contours_that_cross_are_said(tmp_path, caplog):
    grid = grid_of()
    drawn(tmp_path / "plan.dcm", grid, {"A": [circle(grid, 2), circle(grid, 2, centre=(24, 14))]})
    assert "contours cross in 1 slices" in caplog.text
    caplog.clear()
    drawn(tmp_path / "plan.dcm", grid, {"A": [circle(grid, 2), circle(grid, 2, radius=4)]})
    drawn(tmp_path / "plan.dcm", grid, {"A": [circle(grid, 2, radius=3), circle(grid, 2, (30, 14), radius=3)]})
    assert "cross" not in caplog.text


def no_contours(one):
    one.ROIContourSequence.pop(1)


def no_sequence(one):
    del one.ROIContourSequence[1].ContourSequence


def only_points(one):
    for contour in one.ROIContourSequence[1].ContourSequence:
        contour.ContourGeometricType = "POINT"


def two_corners(one):
    for contour in one.ROIContourSequence[1].ContourSequence:
        contour.ContourData = contour.ContourData[:6]


@pytest.mark.parametrize("edit", [no_contours, no_sequence, only_points, two_corners])
def test_an_empty_structure_is_left_out_with_a_warning(tmp_path, caplog, edit):
    grid = grid_of()
    found = drawn(tmp_path / "plan.dcm", grid, {"A": [circle(grid, 2)], "B": [circle(grid, 2)]}, edit=edit)
    assert set(np.unique(found)) == {0, 1}
    assert "B covers no voxel of the image and was left out: nothing is drawn" in caplog.text
    refusal("B covers no voxel of the image .nothing is drawn", tmp_path / "plan.dcm", grid, {"B": 1}, "P01")


def test_where_a_contour_lies_is_said_rightly(tmp_path, caplog):
    grid, path = grid_of(), tmp_path / "plan.dcm"
    inside = circle(grid, 2)
    for k, centre in ((60, (18, 14)), (-1.4, (18, 14)), (5.5, (18, 14)), (2, (90, 14)), (2.5, (90, 14))):
        caplog.clear()
        found = drawn(path, grid, {"A": [inside], "B": [circle(grid, k, centre)]})
        assert set(np.unique(found)) == {0, 1}
        assert "B covers no voxel of the image and was left out: it lies outside of the image" in caplog.text
        drawn(path, grid, {"A": [inside, circle(grid, k, centre)]})
        assert "A reaches out of the image (1 of 2 of its parts lie outside)" in caplog.text
    small = circle(grid, 2, (18.5, 14.5), radius=0.2)
    drawn(path, grid, {"A": [inside], "B": [small]})
    assert "B covers no voxel of the image and was left out: it encloses no centre of a voxel" in caplog.text
    with pytest.raises(UserError, match=r"lies between the slices, up to 1\.32 mm off the nearest slice"):
        drawn(path, grid, {"A": [inside, circle(grid, 2.4)]})
    standing = grid.to_world([[10, 14, 1], [25, 14, 1], [25, 14, 4], [10, 14, 4]])
    with pytest.raises(UserError, match=r"reaches over 9\.90 mm across the slices, which are 3\.30 mm apart"):
        drawn(path, grid, {"A": [inside, standing]})


def test_contours_of_thicker_slices_leave_no_stripes(tmp_path, caplog):
    grid, path = Grid((40, 30, 12), (1.5, 2.0, 1.0), (0, 0, 0)), tmp_path / "plan.dcm"
    with pytest.raises(UserError, match=r"P01, A: it is drawn on slices 3.00 mm apart or more, while .* 1.00 mm apart"):
        drawn(path, grid, {"A": [circle(grid, k) for k in (1, 4, 7, 10)]})
    found = drawn(path, grid, {"A": [circle(grid, k) for k in (1, 2, 5, 6)]})
    assert found.any(axis=(0, 1)).nonzero()[0].tolist() == [1, 2, 5, 6]
    assert "nothing is drawn on 2 slices between its first and last" in caplog.text
    assert drawn(path, grid, {"A": [circle(grid, 1), circle(grid, 7)]}).any()  # two parts of one slice each
    mask = np.zeros(grid.size, dtype=bool)
    mask[10:20, 10:20, 1:11:3] = True
    write_seg(tmp_path / "seg.dcm", {"A": mask}, grid)
    refusal("drawn on slices 3.00 mm apart", tmp_path / "seg.dcm", grid, {"A": 1}, "P01")


def delete(*path):
    """Return an edit that deletes an attribute, the last of a path of keywords."""

    def edit(one):
        for keyword in path[:-1]:
            one = one[keyword].value[0]
        del one[path[-1]]

    return edit


CONTOUR = ("ROIContourSequence", "ContourSequence")


@pytest.mark.parametrize(
    "path",
    [
        ("ROIContourSequence",),
        ("StructureSetROISequence", "ROINumber"),
        ("ROIContourSequence", "ReferencedROINumber"),
        (*CONTOUR, "ContourGeometricType"),
        (*CONTOUR, "ContourData"),
    ],
)
def test_what_a_structure_set_lacks_is_named(tmp_path, path):
    grid = grid_of()
    with pytest.raises(UserError, match=f"has no {path[-1]}, which the standard demands"):
        drawn(tmp_path / "plan.dcm", grid, {"A": [circle(grid, 2)], "B": [circle(grid, 3)]}, edit=delete(*path))


def test_damage_of_a_structure_set_is_a_sentence(tmp_path):
    grid, path = grid_of(), tmp_path / "plan.dcm"
    contours = {"A": [circle(grid, 2)], "B": [circle(grid, 3)]}

    def first(one):
        return one.ROIContourSequence[0].ContourSequence[0]

    def twice(one):
        one.StructureSetROISequence[1].ROINumber = 1

    def promise(one):
        first(one).NumberOfContourPoints = 61

    def cut(one):
        first(one).ContourData = first(one).ContourData[:-1]

    for edit, words in ((twice, "two ROIs .* number 1"), (promise, "180 coord.* 61 points"), (cut, "179 coord")):
        with pytest.raises(UserError, match=words):
            drawn(path, grid, contours, edit=edit)
    # An unnamed structure is none that is wanted; two items of contours of one structure are both its own.
    assert (drawn(path, grid, contours, edit=delete("StructureSetROISequence", "ROIName")) == 2).any()

    def both(one):
        one.ROIContourSequence[1].ReferencedROINumber = 1

    assert drawn(path, grid, contours, edit=both).any(axis=(0, 1)).tolist() == [False, False, True, True, False, False]
    refusal("differ in capitals", path, grid, {"A": 1, "a ": 2}, "P01")


@pytest.mark.parametrize("undefined_length", [False, True])
@pytest.mark.parametrize("kind", ["RTSTRUCT", "SEG"])
def test_a_file_that_is_cut_off_is_refused_wherever_it_ends(tmp_path, kind, undefined_length):
    grid, path = Grid((12, 10, 6), (1.5, 2.0, 3.3), (0, 0, 0)), tmp_path / "labels.dcm"
    if kind == "SEG":
        write_seg(path, {"A": sphere(grid, (6, 5, 3), 8.0)}, grid)
    else:
        write_rtstruct(path, {name: [circle(grid, k, (6, 5), 4, 8) for k in (1, 2, 3)] for name in "AB"})

    def edit(one):
        for element in one:
            if element.VR == "SQ":
                element.is_undefined_length = undefined_length
                for part in element.value:
                    part.is_undefined_length_sequence_item = undefined_length
                    edit(part)

    change(path, edit)
    whole = path.read_bytes()
    assert to_array(read_labels(path, grid, {"A": 1}, "P01", (FRAME,))).any()
    items = [found.start() for found in re.finditer(b"\xfe\xff\x00\xe0", whole)]  # cut there, all before is well formed
    for end in [*items, *range(0, len(whole), 23)]:
        path.write_bytes(whole[:end])
        with pytest.raises(UserError, match="P01"):
            read_labels(path, grid, {"A": 1}, "P01", (FRAME,))


def test_empty_and_distant_segments_are_left_out_with_a_warning(tmp_path, caplog):
    grid, path = grid_of(), tmp_path / "seg.dcm"
    empty = np.zeros(grid.size, dtype=bool)
    for cropped in (True, False):
        write_seg(path, {"A": sphere(grid), "B": empty}, grid, cropped=cropped)
        np.testing.assert_array_equal(to_array(read_labels(path, grid, BOTH, "P01")) == 1, sphere(grid))
        assert "B covers no voxel of the image and was left out: nothing is drawn" in caplog.text
    refusal("B covers no voxel", path, grid, {"B": 1}, "P01")
    # The image is the left half, or the lower slices, of what the segmentation was drawn on.
    there = np.zeros(grid.size, dtype=bool)
    there[30:38, 5:9, 4:6] = True
    write_seg(path, {"A": sphere(grid), "B": there}, grid)
    for size in ((20, 30, 6), (40, 30, 4)):
        caplog.clear()
        part = Grid(size, grid.spacing_mm, grid.origin_mm, grid.direction)
        assert set(np.unique(to_array(read_labels(path, part, BOTH, "P01")))) == {0, 1}
        assert "B covers no voxel of the image and was left out: it lies outside of the image" in caplog.text


FRAME_OF = ("PerFrameFunctionalGroupsSequence",)


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (delete("SegmentationType"), "has no SegmentationType"),
        (delete("PixelData"), "has no PixelData"),
        (delete("Rows"), "has no Rows|damaged"),
        (delete("PerFrameFunctionalGroupsSequence"), "has no PerFrameFunctionalGroupsSequence"),
        (delete("SharedFunctionalGroupsSequence"), "has no PlaneOrientationSequence"),
        (delete(*FRAME_OF, "PlanePositionSequence"), "has no PlanePositionSequence"),
        (delete(*FRAME_OF, "PlanePositionSequence", "ImagePositionPatient"), "has no ImagePositionPatient"),
        (delete(*FRAME_OF, "SegmentIdentificationSequence"), "has no SegmentIdentificationSequence"),
        (delete("SharedFunctionalGroupsSequence", "PixelMeasuresSequence", "PixelSpacing"), "has no PixelSpacing"),
        (delete("SegmentSequence", "SegmentNumber"), "has no SegmentNumber"),
        (delete("FrameOfReferenceUID"), "states no frame of reference"),
        (delete("MaximumFractionalValue"), "has no MaximumFractionalValue"),
        (lambda one: one.PerFrameFunctionalGroupsSequence.pop(), "frames, but the places of"),
        (lambda one: setattr(one, "SegmentationType", "PROBABILITY"), "of the type PROBABILITY"),
        (lambda one: setattr(one.SegmentSequence[1], "SegmentNumber", 1), "two segments .* number 1"),
        (lambda one: setattr(one, "PixelData", one.PixelData[:-200]), "damaged"),
    ],
)
def test_what_a_segmentation_lacks_is_named(tmp_path, edit, words):
    grid, path = grid_of(), tmp_path / "seg.dcm"
    write_seg(path, {"A": sphere(grid), "B": sphere(grid, (30, 8, 3), 4.0)}, grid, "FRACTIONAL")
    change(path, edit)
    refusal(words, path, grid, {"A": 1}, "P01", (FRAME,))


def test_a_fractional_segment_counts_from_one_half_on(tmp_path):
    grid, path = grid_of(), tmp_path / "seg.dcm"
    write_seg(path, {"A": sphere(grid)}, grid, "FRACTIONAL")  # 120 of 200
    change(path, lambda one: setattr(one, "MaximumFractionalValue", 240))
    np.testing.assert_array_equal(to_array(read_labels(path, grid, {"A": 1}, "P01")) == 1, sphere(grid))
    change(path, lambda one: setattr(one, "MaximumFractionalValue", 241))
    refusal("A covers no voxel of the image .nothing is drawn", path, grid, {"A": 1}, "P01")


# ---- 3D Slicer


def header_of(path, *replacements):
    """Replace texts of a NRRD's header."""
    head, mark, body = path.read_bytes().partition(b"\n\n")
    for old, new in replacements:
        assert old in head
        head = head.replace(old, new)
    path.write_bytes(head + mark + body)


def test_slicers_older_segmentations_have_a_layer_each(tmp_path):
    grid, path = grid_of(), tmp_path / "a.seg.nrrd"
    one, other = sphere(grid), sphere(grid, (33, 8, 3), 4.0)
    write_slicer(path, [one.astype(np.uint8), other.astype(np.uint8)], [("A", 0, 1), ("B", 1, 1)], grid)
    header_of(
        path, *((f"Segment{n}_{key}".encode(), f"Was{n}{key}".encode()) for n in (0, 1) for key in ("Layer", "Lab"))
    )
    labels = to_array(read_labels(path, grid, BOTH, "P01"))
    np.testing.assert_array_equal(labels, np.where(other, 2, one))


@pytest.mark.parametrize(
    ("replacement", "words"),
    [
        ((b"Segment1_LabelValue:=4", b"Segment1_LabelValue:=x"), "segment 1 of the NRRD has no layer and value"),
        ((b"Segment1_LabelValue:=4", b"Segment1_Other:=4"), "segment 1 of the NRRD has no layer and value"),
        ((b"Segment1_Layer:=0", b"Segment1_Layer:=3"), "segment 1 of the NRRD has no layer and value"),
        ((b"space: left-posterior-superior", b"space: scanner-xyz"), "states no frame"),
        ((b"space: left-posterior-superior", b"space dimension: 3"), "states no frame"),
        ((b"encoding: gzip", b"encoding: bzip3"), "not readable|bzip3"),
    ],
)
def test_what_a_slicer_segmentation_lacks_is_named(tmp_path, replacement, words):
    grid, path = grid_of(), tmp_path / "a.seg.nrrd"
    write_slicer(path, [sphere(grid).astype(np.uint8)], [("A", 0, 1), ("B", 0, 4)], grid)
    header_of(path, replacement)
    refusal(words, path, grid, BOTH, "P01")


def test_slicers_segments_keep_their_numbers_where_one_was_deleted(tmp_path, caplog):
    grid, path = grid_of(), tmp_path / "a.seg.nrrd"
    write_slicer(path, [sphere(grid).astype(np.uint8)], [("C", 0, 9), ("A", 0, 1), ("B", 0, 4)], grid)
    header_of(path, (b"Segment0_Name", b"Was0"))
    np.testing.assert_array_equal(to_array(read_labels(path, grid, BOTH, "P01")), sphere(grid))
    assert "B covers no voxel of the image and was left out: nothing is drawn" in caplog.text


def test_a_slicer_segmentation_that_is_cut_off_is_refused(tmp_path):
    grid, path = grid_of(), tmp_path / "a.seg.nrrd"
    write_slicer(path, [sphere(grid).astype(np.uint8)], [("A", 0, 1)], grid)
    whole = path.read_bytes()
    for end in (*range(0, len(whole), 29), *range(len(whole) - 9, len(whole))):
        path.write_bytes(whole[:end])
        refusal("P01", path, grid, {"A": 1}, "P01")
    for n in range(whole.index(b"\n\n") + 12, len(whole), 13):
        path.write_bytes(whole[:n] + bytes([whole[n] ^ 16]) + whole[n + 1 :])
        refusal("P01: the labels", path, grid, {"A": 1}, "P01")


def test_a_slicer_segmentation_that_is_not_compressed_is_counted(tmp_path):
    grid, path = grid_of(), tmp_path / "a.seg.nrrd"
    write_slicer(path, [sphere(grid).astype(np.uint8)], [("A", 0, 1)], grid)
    image = sitk.ReadImage(path)
    sitk.WriteImage(image, path, useCompression=False)
    np.testing.assert_array_equal(to_array(read_labels(path, grid, {"A": 1}, "P01")), sphere(grid))
    path.write_bytes(path.read_bytes()[:-200])
    refusal("the labels: the file is cut off", path, grid, {"A": 1}, "P01")


def test_slicers_frame_ras_is_turned(tmp_path):
    grid, path = grid_of("LPS"), tmp_path / "a.seg.nrrd"
    write_slicer(path, [sphere(grid).astype(np.uint8)], [("A", 0, 1)], grid)
    x, y, z = grid.origin_mm
    origin = f"space origin: ({x},{y},{z})".encode()
    header_of(path, (b"left-posterior-superior", b"right-anterior-superior"))
    head = path.read_bytes().partition(b"\n\n")[0].decode()
    stated = next(line for line in head.splitlines() if line.startswith("space origin"))
    turned = f"space origin: ({-x},{-y},{z})".encode()
    header_of(path, (stated.encode(), turned), (b"(1.5,0,0) (0,2,0)", b"(-1.5,0,0) (0,-2,0)"))
    assert origin != turned
    np.testing.assert_array_equal(to_array(read_labels(path, grid, {"A": 1}, "P01")) == 1, sphere(grid))
