"""Fused images and DICOM series: on the fixed image's grid whatever its axes, with the values stated, naming nobody."""

import json

import fuse_subject
import nibabel
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from matplotlib.image import imread
from test_dicom import DIRECTIONS, grid_of, values_of, write

from cohortmorph.clinic import export as dicom_export
from cohortmorph.clinic import reader as dicom
from cohortmorph.cohort.methods import Method
from cohortmorph.figures import fusion
from cohortmorph.run.files import read_json, write_json
from cohortmorph.spatial.geometry import Grid, to_array, to_image, write_image

SETTINGS = {
    "method": "selected",
    "kinds": ["colour", "blend", "checkerboard"],
    "opacity": 0.6,
    "checkerboard_mm": 4,
    "png": True,
    "dicom": "unlinked",
}
FRAME = "1.2.3.4.5"
# The type 1 and 2 attributes of the modules of DICOM PS3.3 that a CT or MR image of a resampled volume has; those that
# may be empty (type 2) second.
PRESENT = [
    "SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "Modality",
    "ImageType", "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "Rows", "Columns",
    "SamplesPerPixel", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "PhotometricInterpretation",
    "PixelData", "InstanceNumber", "RescaleSlope", "RescaleIntercept", "SpecificCharacterSet",
]  # fmt: skip
MAY_BE_EMPTY = [
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime",
    "ReferringPhysicianName", "StudyID", "AccessionNumber", "SeriesNumber", "PatientPosition",
    "PositionReferenceIndicator", "Manufacturer", "SliceThickness",
]  # fmt: skip
OF_MODALITY = {
    "MR": (
        ["ScanningSequence", "SequenceVariant"],
        ["ScanOptions", "MRAcquisitionType", "EchoTime", "EchoTrainLength"],
    ),
    "CT": ([], ["KVP", "AcquisitionNumber"]),
    "OT": (["ConversionType"], []),
}


def naming(**changes):
    names = {"subject": "P01", "image": "T1", "fixed": "CT", "method": "affine", "modality": "MR", "number": 1}
    return dicom_export.Naming(**(names | changes))


def export(folder, grid, values=None, **changes):
    """Write a series; return its values and what is said of it."""
    values = values_of(grid).astype(np.float32) / 7 if values is None else values
    said = dicom_export.write_series(values, grid, values_of(grid, seed=1), naming(**changes), folder)
    return values, said


def slices_of(folder):
    return [pydicom.dcmread(path) for path in sorted(folder.iterdir())]


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("modality", ["MR", "CT", "OT"])
def test_the_series_lies_on_the_fixed_grid_and_keeps_the_values(tmp_path, direction, modality):
    grid = grid_of(direction)
    values, said = export(tmp_path / "series", grid, modality=modality)
    ours, _ = dicom.read_series(tmp_path / "series", allow=["derived", "secondary-capture"])
    theirs = sitk.ReadImage(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(tmp_path / "series")))
    assert 0 < said["error_max"] <= said["slope"] / 2
    for image in (ours, theirs):
        # Readers count slices along the normal of the pictures: on a left-handed grid from the other end.
        read = Grid.of(image)
        assert read.size == grid.size
        indices = read.to_indices(grid.points_mm())
        near = np.rint(indices)
        np.testing.assert_allclose((indices - near) * read.spacing_mm, 0, atol=1e-4)
        found = to_array(image)[tuple(np.moveaxis(near.astype(int), -1, 0))]
        np.testing.assert_allclose(found, values, atol=said["error_max"] + 1e-4)
    if np.linalg.det(DIRECTIONS[direction]) > 0:
        corners = np.array([[0, 0, 0], [6, 5, 4]])
        np.testing.assert_allclose(Grid.of(theirs).to_world(corners), grid.to_world(corners), atol=1e-4)


@pytest.mark.parametrize("scale", [1e-4, 1.0, 3.7, 1e6])
@pytest.mark.parametrize("offset", [-1000.0, 0.0])
def test_quantization_is_as_stated(scale, offset):
    values = np.random.default_rng(0).random((4, 5, 6)) * scale + offset
    stored, slope, intercept = dicom_export.quantize(values)
    assert stored.dtype == np.uint16
    assert np.abs(stored * slope + intercept - values).max() <= slope / 2 * (1 + 1e-6)
    assert slope <= max(2 * scale / dicom_export.LEVELS, 2.0**-13)
    for number in (slope, intercept):
        assert float(pydicom.valuerep.format_number_as_ds(number)) == number


def test_whole_numbers_survive_exactly():
    values = np.array([-1024, -3, 0, 7, 3071]).reshape(5, 1, 1)
    for others in ([], [-1030.3]):  # interpolated ones between them
        all_values = np.append(values, others).reshape(-1, 1, 1)
        stored, slope, intercept = dicom_export.quantize(all_values)
        np.testing.assert_array_equal((stored * slope + intercept)[:5], values)


@pytest.mark.parametrize("modality", OF_MODALITY)
def test_required_attributes_are_there(tmp_path, modality):
    export(tmp_path / "series", grid_of(), modality=modality)
    full, may_be_empty = OF_MODALITY[modality]
    for slice_ in slices_of(tmp_path / "series"):
        for keyword in (*PRESENT, *full):
            assert slice_.get(keyword) not in (None, ""), keyword
        for keyword in (*MAY_BE_EMPTY, *may_be_empty):
            assert keyword in slice_, keyword
        assert list(slice_.ImageType[:2]) == ["DERIVED", "SECONDARY"] and slice_.BurnedInAnnotation == "NO"
        assert slice_.SOPInstanceUID == slice_.file_meta.MediaStorageSOPInstanceUID


def test_nothing_names_anybody_but_the_subject_s_code(tmp_path):
    """Walk all elements: texts are of a short list, dates and times empty."""
    export(tmp_path / "series", grid_of())
    known = {
        "P01", "MR", "CohortMorph", "T1 moved onto CT, affine", "DERIVED", "SECONDARY", "OTHER", "RM", "NONE", "NO",
        "MONOCHROME2", "US", "ISO_IR 192",
    }  # fmt: skip
    for slice_ in slices_of(tmp_path / "series"):
        for element in slice_.iterall():
            assert not element.tag.is_private
            if element.VR in ("DA", "TM", "DT", "AS"):
                assert not element.value
            elif element.VR in ("PN", "LO", "SH", "CS", "ST", "LT", "UT", "AE", "UC"):
                texts = element.value if element.VM > 1 else [element.value]
                if element.keyword == "DerivationDescription":
                    assert str(texts[0]).startswith(
                        "T1 of the same subject, resampled once (linear) onto the grid of CT"
                    )
                else:
                    assert {str(text) for text in texts if text} <= known, element


def test_frames_of_reference_and_uids(tmp_path):
    grid = grid_of()
    export(tmp_path / "a", grid)
    export(tmp_path / "again", grid)
    export(tmp_path / "other", grid, image="T2", number=2)
    _, said = export(tmp_path / "linked", grid, frame_of_reference=FRAME)
    first, other, linked = (slices_of(tmp_path / name) for name in ("a", "other", "linked"))
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes()
    assert {one.FrameOfReferenceUID for one in linked} == {FRAME} and said["frame_of_reference"] == "the fixed image's"
    assert len({one.FrameOfReferenceUID for one in first + other} | {FRAME}) == 2
    assert len({one.StudyInstanceUID for one in first + other}) == 1
    assert not {one.SOPInstanceUID for one in first} & {one.SOPInstanceUID for one in linked}, "their headers differ"
    assert len({one.SeriesInstanceUID for one in first + other}) == 2
    assert len({one.SOPInstanceUID for one in first + other}) == 2 * grid.size[2]


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_a_fused_nifti_is_rgb_on_the_fixed_grid(tmp_path, direction):
    grid = grid_of(direction)
    rgb = np.random.default_rng(0).integers(0, 256, (*grid.size, 3)).astype(np.uint8)
    fusion.write_nifti(rgb, grid, tmp_path / "fused.nii.gz")
    image = sitk.ReadImage(str(tmp_path / "fused.nii.gz"))
    assert image.GetNumberOfComponentsPerPixel() == 3
    corners = np.array([[0, 0, 0], [6, 5, 4], [6, 0, 0], [0, 5, 0]])
    np.testing.assert_allclose(Grid.of(image).to_world(corners), grid.to_world(corners), atol=1e-4)
    np.testing.assert_array_equal(to_array(image), rgb)
    header = nibabel.load(tmp_path / "fused.nii.gz")
    assert header.header["datatype"] == 128 and header.header["intent_code"] == 0
    world = nibabel.affines.apply_affine(header.affine, corners) * [-1, -1, 1]
    np.testing.assert_allclose(world, grid.to_world(corners), atol=1e-4)


def test_kinds_show_what_they_promise():
    fixed, moved = np.full((8, 8, 1), 0.5), np.zeros((8, 8, 1))
    # Where the moved image is dark, colours leave the fixed one as it is; mixing darkens it.
    assert (fusion.colour(fixed, moved, 0.6) == 128).all()
    assert (fusion.blend(fixed, moved, 0.6) == 51).all()
    tinted = fusion.colour(fixed, moved + 0.7, 0.6)[0, 0, 0]
    assert tinted[0] > tinted[1] > tinted[2]
    board = fusion.in_squares(fixed, moved, Grid((8, 8, 1), (1.0, 2.0, 5.0), (0, 0, 0)), 4)[:, :, 0, 0]
    assert (board[:4, :2] == 128).all() and (board[4:, :2] == 0).all() and (board[:4, 2:4] == 0).all()


def test_pictures_show_every_slice_with_square_pixels_and_its_place():
    grid = Grid((10, 6, 4), (1.0, 2.0, 3.0), (-5.0, -6.0, 30.0))
    rgb = np.zeros((*grid.size, 3), np.uint8)
    rgb[0, 0, 3] = 255  # the right anterior corner of the highest slice
    named = list(fusion.slices(rgb, grid))
    assert [name for name, _ in named] == [f"slice-00{n}_S+{27 + 3 * n}.0mm" for n in (1, 2, 3, 4)]
    assert all(picture.shape == (12, 10, 3) for _, picture in named)
    assert named[3][1][0, 0].min() == 255 and named[2][1].max() == 0 and named[3][1][-1, -1].max() == 0


def test_pictures_are_of_the_slices_along_the_third_axis():
    grid = grid_of("sagittal")
    rgb = np.zeros((*grid.size, 3), np.uint8)
    rgb[:, :, 4] = 255
    named = list(fusion.slices(rgb, grid))
    assert [name[:11] for name, _ in named] == [f"slice-00{n}_L" for n in (1, 2, 3, 4, 5)]
    assert [int(picture.min()) for _, picture in named] == [0, 0, 0, 0, 255]


@pytest.fixture
def subject(tmp_path):
    """The arguments of a subject with a T1 and a T2 moved by two methods, whose T2 failed with the second."""
    grid = grid_of()
    write_image(to_image(values_of(grid), grid), tmp_path / "CT.nii.gz")
    write_json({"modality": "MR"}, tmp_path / "MR.json")
    # Of the two networks the second did better on the validation pairs.
    methods = {"a": "voxelmorph_weight-1_epoch-5", "b": "voxelmorph-diff_weight-2_epoch-5"}
    for (letter, method), value in zip(methods.items(), (1.6, 1.5), strict=True):
        of = Method.of(method)
        choice = {"network": of.name, "weight": of.weight, "epoch": of.epoch, "metric": "tre_mean", "value": value}
        write_json(choice | {"folding_percent": 0.1, "admissible": True}, tmp_path / f"selected_{letter}.json")
    percentiles, moving, seed = {"percentiles": [0, 100]}, [], 0
    for image in ("T1", "T2"):
        files = {"moved": {}, "registration": {}}
        for letter, method in methods.items():
            seed += 1
            for kind, suffix in (("moved", "nii.gz"), ("registration", "json")):
                files[kind][method] = str(tmp_path / f"{image}_{letter}.{suffix}")
            write_image(to_image(values_of(grid, seed), grid), files["moved"][method])
            write_json(
                {"failed": "no overlap"} if (image, letter) == ("T2", "b") else {}, files["registration"][method]
            )
        moving.append(
            {"name": image, "modality": image, "intensity": percentiles, "sidecar": str(tmp_path / "MR.json")} | files
        )
    return dict(
        subject="P01", fixed={"name": "CT", "file": str(tmp_path / "CT.nii.gz"), "intensity": percentiles},
        moving=moving, selected=[str(tmp_path / f"selected_{letter}.json") for letter in methods], settings=SETTINGS,
        output=str(tmp_path / "fused"), frame_of_reference=FRAME,
    )  # fmt: skip


def test_a_subject_is_fused_by_the_best_of_the_selected_networks_and_a_failure_is_told(subject, tmp_path):
    fuse_subject.main(**subject)
    folder = tmp_path / "fused"
    said = read_json(folder / "fusion.json")
    assert said["method"] == "voxelmorph-diff_weight-2_epoch-5" and said["images"]["T2"] == {"failed": "no overlap"}
    for kind in SETTINGS["kinds"]:
        assert (folder / f"T1_{kind}.nii.gz").is_file() and not (folder / f"T2_{kind}.nii.gz").exists()
        pictures = sorted((folder / "png" / f"T1_{kind}").iterdir())
        assert len(pictures) == 5 and imread(pictures[0]).ndim == 3
    assert not (folder / "dicom/T2").exists()
    image, _ = dicom.read_series(folder / "dicom/T1", allow=["derived"])
    np.testing.assert_array_equal(to_array(image), values_of(grid_of(), seed=2))
    assert {one.FrameOfReferenceUID for one in slices_of(folder / "dicom/T1")} == {FRAME}


def test_a_network_that_folds_too_much_is_not_fused_however_good_it_is(subject, tmp_path):
    choice = read_json(subject["selected"][1])
    write_json(choice | {"folding_percent": 0.9, "admissible": False}, subject["selected"][1])
    fuse_subject.main(**subject)
    assert read_json(tmp_path / "fused/fusion.json")["method"] == "voxelmorph_weight-1_epoch-5"


def test_without_a_choice_the_one_method_is_taken(subject, tmp_path):
    one = "voxelmorph_weight-1_epoch-5"
    for image in subject["moving"]:
        for kind in ("moved", "registration"):
            image[kind] = {one: image[kind][one]}
    fuse_subject.main(**subject | {"selected": []})
    assert read_json(tmp_path / "fused/fusion.json")["method"] == one
    for number, seed in ((1, 1), (2, 3)):
        image, _ = dicom.read_series(tmp_path / f"fused/dicom/T{number}", allow=["derived"])
        np.testing.assert_array_equal(to_array(image), values_of(grid_of(), seed))


def test_an_older_folder_is_replaced_and_what_is_switched_off_is_not_written(subject, tmp_path):
    fuse_subject.main(**subject)
    fuse_subject.main(**subject | {"settings": SETTINGS | {"kinds": ["blend"], "png": False, "dicom": "none"}})
    assert {path.name for path in (tmp_path / "fused").iterdir()} == {"T1_blend.nii.gz", "fusion.json", "overview.png"}
    assert json.loads((tmp_path / "fused/fusion.json").read_text())["dicom"] == "none"


def test_the_frame_of_reference_is_that_of_the_fixed_series(tmp_path):
    write(values_of(grid_of()), grid_of(), tmp_path / "CT", image="CT")
    known = pydicom.dcmread(next((tmp_path / "CT").iterdir())).FrameOfReferenceUID
    assert fusion.frame_of_reference_of(str(tmp_path / "CT"), "CT", "", []) == known
    (tmp_path / "image.nii.gz").touch()
    assert fusion.frame_of_reference_of(str(tmp_path / "image.nii.gz"), "CT", "", []) == ""


def test_modalities():
    of = fusion.dicom_modality
    assert [of("T1", "MR"), of("T1", None), of("CT", None), of("CT", "PT"), of("PET", None)] == [
        *("MR", "MR", "CT", "OT", "OT")
    ]
