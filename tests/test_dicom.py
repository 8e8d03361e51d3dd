"""DICOM: every voxel lands where its header says, and a series that makes no even grid is refused with the numbers."""

import gzip
import json
import logging
import os
from pathlib import Path

import convert_image
import nibabel
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from pydicom.uid import generate_uid
from scipy.spatial.transform import Rotation

from cohortmorph import UserError
from cohortmorph.clinic.reader import read_series
from cohortmorph.clinic.series import ALLOWABLE
from cohortmorph.clinic.slices import ACQUISITION
from cohortmorph.simulated.scanner import PROTOCOLS, write_scan
from cohortmorph.spatial.geometry import Grid, to_array, to_image

OBLIQUE = Rotation.from_euler("zyx", [20, -15, 35], degrees=True).as_matrix()
DIRECTIONS = {
    "LPS": np.eye(3),
    "RAS": np.diag([-1.0, -1, 1]),
    "left-handed": np.diag([1.0, 1, -1]),
    "sagittal": np.array([[0.0, 0, 1], [1, 0, 0], [0, 1, 0]]),
    "oblique": OBLIQUE,
}


def grid_of(direction="oblique", spacing_mm=(1.5, 2.0, 3.3)):
    return Grid((7, 6, 5), spacing_mm, (-31.5, 12.25, 77.0), tuple(DIRECTIONS[direction].ravel()))


def values_of(grid, seed=0):
    return np.random.default_rng(seed).integers(0, 4000, grid.size).astype(np.int16)


@pytest.fixture
def series(tmp_path):
    """A folder with an oblique MR series of five slices; see `edit`."""
    grid = grid_of()
    write(values_of(grid), grid, tmp_path / "series")
    return tmp_path / "series"


def write(values, grid, folder, image="T1", name="series"):
    write_scan(values, grid, PROTOCOLS[image], folder, [name, image], np.random.default_rng(0))


def edit(folder, change):
    """Rewrite every slice after ``change(slice, n)``, n counting along the normal."""
    slices = sorted(
        (pydicom.dcmread(path) for path in folder.iterdir()),
        key=lambda slice_: np.dot(slice_.ImagePositionPatient, OBLIQUE[:, 2]),
    )
    for n, slice_ in enumerate(slices):
        change(slice_, n)
        slice_.save_as(slice_.filename)


def move(slice_, vector_mm):
    slice_.ImagePositionPatient = [f"{number:.9f}" for number in np.array(slice_.ImagePositionPatient) + vector_mm]


def refusal(folder, *words, **options):
    """Assert that `folder` is refused with all of `words`."""
    with pytest.raises(UserError) as error:
        read_series(folder, **options)
    assert str(folder) in str(error.value)
    for word in words:
        assert word in str(error.value)


def world_function(points_lps_mm):
    """A linear function of the world, which linear interpolation reproduces wherever it has values on both sides."""
    return points_lps_mm @ np.array([3.0, -2.0, 5.0]) + 700


@pytest.mark.parametrize("spacing_mm", [(1, 1, 1), (1.5, 2.0, 3.3), (0.6875, 0.6875, 6.5)])
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_every_voxel_lands_at_its_world_point(tmp_path, direction, spacing_mm):
    grid = grid_of(direction, spacing_mm)
    values = values_of(grid)
    write(values, grid, tmp_path / "series")
    image, _ = read_series(tmp_path / "series")
    indices = Grid.of(image).to_indices(grid.points_mm())
    np.testing.assert_allclose(indices, np.rint(indices), atol=1e-5)
    np.testing.assert_array_equal(to_array(image)[tuple(np.moveaxis(np.rint(indices).astype(int), -1, 0))], values)


def test_a_pixel_lies_where_the_standard_says(series):
    """The equation of DICOM PS3.3 C.7.6.2.1.1, with nothing of our own."""
    image, _ = read_series(series)
    for path in series.iterdir():
        slice_ = pydicom.dcmread(path)
        row, column = 4, 2
        cosines = np.array(slice_.ImageOrientationPatient, dtype=float)
        point = (
            np.array(slice_.ImagePositionPatient, dtype=float)
            + cosines[:3] * float(slice_.PixelSpacing[1]) * column
            + cosines[3:] * float(slice_.PixelSpacing[0]) * row
        )
        assert image[image.TransformPhysicalPointToIndex(point.tolist())] == slice_.pixel_array[row, column]


@pytest.mark.parametrize("direction", ["LPS", "RAS", "sagittal", "oblique"])
def test_simpleitk_agrees_on_an_even_series(tmp_path, direction):
    grid = grid_of(direction)
    write(values_of(grid), grid, tmp_path / "series")
    ours, _ = read_series(tmp_path / "series")
    theirs = sitk.ReadImage(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(tmp_path / "series")))
    assert Grid.of(ours).difference_from(Grid.of(theirs)) is None
    np.testing.assert_array_equal(to_array(ours), to_array(theirs))


def test_ct_is_read_in_hounsfield_units(tmp_path):
    grid = grid_of()
    values = values_of(grid) - 1000
    write(values, grid, tmp_path / "series", image="CT")
    image, sidecar = read_series(tmp_path / "series")
    assert image.GetPixelID() == sitk.sitkInt16
    np.testing.assert_array_equal(to_array(image), values)
    assert (sidecar["modality"], sidecar["rescale_intercept"], sidecar["tube_voltage_kv"]) == ("CT", -1024, 120)


def test_every_slice_is_rescaled_by_its_own_numbers(series):
    before = to_array(read_series(series)[0])

    def change(slice_, n):
        slice_.RescaleSlope, slice_.RescaleIntercept = 0.5 + n, -3.0

    edit(series, change)
    image, sidecar = read_series(series)
    assert image.GetPixelID() == sitk.sitkFloat32
    np.testing.assert_allclose(to_array(image), before * (0.5 + np.arange(5)) - 3, rtol=1e-6)
    assert "rescale_slope" not in sidecar and sidecar["rescale_intercept"] == -3


@pytest.mark.parametrize(("bits", "signed"), [(12, 0), (16, 0), (16, 1)])
def test_monochrome1_is_inverted_within_its_bits(series, bits, signed):
    before = to_array(read_series(series)[0]).astype(float)

    def change(slice_, _):
        slice_.PhotometricInterpretation = "MONOCHROME1"
        slice_.BitsStored, slice_.HighBit, slice_.PixelRepresentation = bits, bits - 1, signed
        slice_.RescaleSlope, slice_.RescaleIntercept = 2, 10

    edit(series, change)
    lowest, highest = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    np.testing.assert_allclose(to_array(read_series(series)[0]), 2 * (lowest + highest - before) + 10)


def test_monochrome1_does_not_change_hounsfield_units(tmp_path):
    grid = grid_of()
    write(values_of(grid) - 1000, grid, tmp_path / "series", image="CT")
    before = to_array(read_series(tmp_path / "series")[0])
    edit(tmp_path / "series", lambda slice_, _: setattr(slice_, "PhotometricInterpretation", "MONOCHROME1"))
    np.testing.assert_array_equal(to_array(read_series(tmp_path / "series")[0]), before)


def test_the_second_decoder_rescales_as_the_first(series, monkeypatch):
    def change(slice_, n):
        slice_.RescaleSlope, slice_.RescaleIntercept = 2.5, -7

    edit(series, change)
    before = to_array(read_series(series)[0])

    def no_decoder(*_):
        raise NotImplementedError

    monkeypatch.setattr(pydicom.Dataset, "pixel_array", property(no_decoder))
    np.testing.assert_allclose(to_array(read_series(series)[0]), before, rtol=1e-6)


def test_an_orientation_spelled_in_two_ways_is_one(series):
    def change(slice_, n):
        slice_.ImageOrientationPatient = [f"{number:.{6 + n % 2}f}" for number in slice_.ImageOrientationPatient]

    edit(series, change)
    assert read_series(series)[0].GetSize() == (7, 6, 5)


def test_what_is_not_an_image_is_left_out_and_never_named(series, caplog):
    (series / "Doe_Jane.pdf").write_text("not DICOM")
    (series / "DICOMDIR").write_bytes(b"")
    (series / ".snakemake_timestamp").touch()
    report = pydicom.dcmread(next(series.glob("*.dcm")))
    report.SeriesInstanceUID = generate_uid()
    report.SOPClassUID = report.file_meta.MediaStorageSOPClassUID = pydicom.uid.BasicTextSRStorage
    del report.Rows, report.PixelData
    report.save_as(series / "report.dcm")
    with caplog.at_level(logging.INFO, logger="cohortmorph"):
        assert read_series(series)[0].GetSize() == (7, 6, 5)
    assert "3 of 8 files" in caplog.text and "Doe" not in caplog.text


def test_slice_thickness_and_spacing_attributes_are_not_the_distance(series):
    def change(slice_, _):
        slice_.SliceThickness, slice_.SpacingBetweenSlices = 9, 9

    edit(series, change)
    image, sidecar = read_series(series)
    assert image.GetSpacing()[2] == pytest.approx(3.3, abs=1e-6)
    assert sidecar["slice_thickness_mm"] == 9 and sidecar["slice_distance_mm"] == pytest.approx(3.3, abs=1e-6)


def without_slice(folder, n):
    heights = {path: np.dot(pydicom.dcmread(path).ImagePositionPatient, OBLIQUE[:, 2]) for path in folder.iterdir()}
    sorted(heights, key=heights.get)[n].unlink()


def test_a_missing_slice_is_refused_with_its_place(series):
    without_slice(series, 2)
    refusal(series, "missing", "6.600 mm", "3.300 mm", "InstanceNumber")


def test_a_missing_slice_is_interpolated_if_asked_for(series, caplog):
    before = to_array(read_series(series)[0]).astype(float)
    without_slice(series, 2)
    image, sidecar = read_series(series, uneven="resample")
    assert image.GetSize() == (7, 6, 5)
    after = to_array(image)
    np.testing.assert_array_equal(after[..., [0, 1, 3, 4]], before[..., [0, 1, 3, 4]])
    np.testing.assert_allclose(after[..., 2], (before[..., 1] + before[..., 3]) / 2)
    assert sidecar["resampled"]["kernel"] == "linear"
    np.testing.assert_allclose(sidecar["resampled"]["uneven_distances_mm"], [3.3, 6.6], atol=1e-6)
    assert "6.600 mm between" in caplog.text and "every 3.300 mm" in caplog.text


def test_uneven_distances_are_refused(series):
    edit(series, lambda slice_, n: move(slice_, 1.2 * OBLIQUE[:, 2] * (n == 3)))
    refusal(series, "2.100 to 4.500 mm", "InstanceNumber")


def test_distances_that_creep_are_refused(series):
    """Each step differs by less than the tolerance for a step, but the slices leave their even places."""
    edit(series, lambda slice_, n: move(slice_, 0.015 * n**2 * OBLIQUE[:, 2]))
    refusal(series, "expected one distance")


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize(("along_i", "along_j"), [(0, 0.33), (0, -0.33), (0.2, 0.1)])
@pytest.mark.parametrize("uneven_mm", [0, 1.2])
def test_resampled_values_lie_where_the_slices_were(tmp_path, direction, along_i, along_j, uneven_mm):
    """Tilt and uneven distances: a linear function of the world comes back within 0.01 mm of its place."""
    grid, axes = grid_of(direction), DIRECTIONS[direction]
    if np.linalg.det(axes) < 0:
        axes = axes @ np.diag([1, 1, -1])
    write(values_of(grid), grid, tmp_path / "series")
    normal = np.cross(axes[:, 0], axes[:, 1])
    for path in (tmp_path / "series").iterdir():
        slice_ = pydicom.dcmread(path)
        n = round((np.array(slice_.ImagePositionPatient) - grid.origin_mm) @ normal / 3.3)
        move(slice_, n * 3.3 * axes @ [along_i, along_j, 0] + uneven_mm * (abs(n) == 3) * normal)
        columns, rows = np.meshgrid(np.arange(7), np.arange(6))
        cosines = np.array(slice_.ImageOrientationPatient)
        points = columns[..., None] * 1.5 * cosines[:3] + rows[..., None] * 2.0 * cosines[3:]
        # Stored with a slope of 0.01, so that rounding is 0.005 of a unit, of which a mm has two at least.
        stored = np.rint(100 * world_function(points + np.array(slice_.ImagePositionPatient))).astype(np.int32)
        slice_.BitsAllocated, slice_.BitsStored, slice_.HighBit, slice_.PixelRepresentation = 32, 32, 31, 1
        slice_.PixelData, slice_.RescaleSlope, slice_.RescaleIntercept = stored.tobytes(), 0.01, 0
        slice_.save_as(path)
    image, sidecar = read_series(tmp_path / "series", uneven="resample")
    found, points = to_array(image), Grid.of(image).points_mm()
    assert np.abs(Grid.of(image).axes @ Grid.of(image).axes.T - np.eye(3)).max() < 1e-9
    assert sidecar["resampled"]["tilt_degrees"] == pytest.approx(
        np.rad2deg(np.arctan(np.hypot(along_i, along_j))), abs=0.001 if not uneven_mm else 3
    )
    inside = found > sidecar["resampled"]["outside"] + 0.02
    assert inside.mean() > 0.4
    np.testing.assert_allclose(found[inside], world_function(points)[inside], atol=0.02)


def test_tilt_keeps_every_pixel_and_fills_with_air(tmp_path):
    grid = grid_of()
    write(values_of(grid) - 1000, grid, tmp_path / "series", image="CT")
    edit(tmp_path / "series", lambda slice_, n: move(slice_, n * 2.0 * OBLIQUE[:, 1]))
    image, sidecar = read_series(tmp_path / "series")
    before, after = values_of(grid) - 1000, to_array(image)
    assert image.GetSize() == (7, 10, 5) and sidecar["resampled"]["outside"] == -1000
    for k in range(5):  # by whole pixels, so nothing is interpolated
        np.testing.assert_array_equal(after[:, k : k + 6, k], before[:, :, k])
        assert np.all(np.delete(after[:, :, k], range(k, k + 6), axis=1) == -1000)


def test_tilt_is_refused_with_its_angle_if_asked_for(series):
    edit(series, lambda slice_, n: move(slice_, n * 3.3 * np.tan(np.deg2rad(18.5)) * OBLIQUE[:, 1]))
    refusal(series, "18.5°", "tilt", tilt="refuse")


def test_tilt_and_uneven_distances_are_told_at_once(series):
    edit(series, lambda slice_, n: move(slice_, n * OBLIQUE[:, 1] + 1.2 * OBLIQUE[:, 2] * (n == 3)))
    refusal(series, "tilt", "2.100 to 4.500 mm")


def test_a_tilt_in_the_header_that_the_positions_deny_is_told(series, caplog):
    edit(series, lambda slice_, _: setattr(slice_, "GantryDetectorTilt", 12))
    assert read_series(series)[1]["resampled"] is None
    assert "tilt of 12.0°" in caplog.text and "slices 0.0°" in caplog.text


def test_copies_of_a_slice_are_dropped(series, caplog):
    before = to_array(read_series(series)[0])
    for n, path in enumerate(sorted(series.iterdir())[:2]):
        copy = pydicom.dcmread(path)
        copy.SOPInstanceUID, copy.InstanceNumber = generate_uid(), 90 + n
        copy.save_as(series / f"copy{n}.dcm")
    np.testing.assert_array_equal(to_array(read_series(series)[0]), before)
    assert "2 of 7 slices are copies" in caplog.text


def test_other_slices_at_one_position_are_refused(series):
    edit(series, lambda slice_, n: move(slice_, -3.3 * OBLIQUE[:, 2] * (n == 3)))
    refusal(series, "1 of 5 slices", "position")


def add_echo(folder):
    for n, path in enumerate(sorted(folder.iterdir())):
        slice_ = pydicom.dcmread(path)
        slice_.SOPInstanceUID, slice_.EchoTime = generate_uid(), 80
        slice_.PixelData = (slice_.pixel_array + 1).astype(np.uint16).tobytes()
        slice_.save_as(folder / f"echo{n}.dcm")


def test_of_two_volumes_one_is_chosen(series):
    before = to_array(read_series(series)[0])
    add_echo(series)
    refusal(series, "2 volumes", "volume=1 to volume=2")
    refusal(series, "2 volumes", choice="volume=3")
    for volume, echo_time_ms in ((1, 10), (2, 80)):
        image, sidecar = read_series(series, choice=f"volume={volume}")
        np.testing.assert_array_equal(to_array(image), before + volume - 1)
        assert sidecar["echo_time_ms"] == echo_time_ms


def test_a_volume_of_mixed_echoes_is_refused(series):
    add_echo(series)
    echo = next(series.glob("echo*"))
    slice_ = pydicom.dcmread(echo)
    slice_.EchoTime = 5
    slice_.save_as(echo)
    for volume in (1, 2, 3):
        refusal(series, "a volume of one slice (echo 1, echo time 5 ms", choice=f"volume={volume}")


def test_two_orientations_are_listed_and_chosen_from(series):
    def change(slice_, n):
        slice_.ImageOrientationPatient = [0, 1, 0, 0, 0, -1]

    grid = grid_of("LPS")
    write(values_of(grid), grid, series.parent / "more")
    for path in series.iterdir():
        path.rename(series.parent / "more" / f"oblique_{path.name}")
    series = series.parent / "more"
    edit(series, lambda slice_, _: setattr(slice_, "SeriesInstanceUID", "1.2.3"))
    edit(series, lambda slice_, n: change(slice_, n) if "oblique" in str(slice_.filename) else None)
    refusal(series, "2 of 2 candidates", "axial", "sagittal")
    image, _ = read_series(series, choice="orientation=axial")
    np.testing.assert_array_equal(to_array(image), values_of(grid))


def test_an_orientation_that_is_none_is_refused(series):
    edit(series, lambda slice_, _: setattr(slice_, "ImageOrientationPatient", [1, 0, 0, 0.5, 0.5, 0]))
    refusal(series, "perpendicular")


def test_two_series_are_listed(series):
    grid = grid_of()
    write(values_of(grid), grid, series / "more", image="T2", name="other")
    refusal(series, "2 of 2 candidates", "number 2, uid", "number 3, uid", "5 slices of 7 × 6", "every 3.300 mm")


@pytest.mark.parametrize(
    ("keyword", "value", "words"),
    [
        ("NumberOfFrames", 3, "ImagePositionPatient"),
        ("SamplesPerPixel", 3, "colours"),
        ("ImageType", ["ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC"], "mosaic"),
        ("ImageType", ["ORIGINAL", "PRIMARY", "EPI", "VFRAME"], "of several volumes, `volume=n`"),
        ("ImageType", ["DERIVED", "PRIMARY", "MPR"], "derived"),
        ("ImageType", ["ORIGINAL", "PRIMARY", "LOCALIZER"], "localizer"),
        ("SOPClassUID", pydicom.uid.SecondaryCaptureImageStorage, "secondary capture"),
        ("BurnedInAnnotation", "YES", "burned into"),
        ("ModalityLUTSequence", [pydicom.Dataset()], "ModalityLUTSequence"),
        ("ImagePositionPatient", None, "ImagePositionPatient"),
        ("ImageOrientationPatient", None, "ImageOrientationPatient"),
        ("PixelSpacing", None, "PixelSpacing"),
    ],
)
def test_what_is_no_stack_of_slices_is_refused_with_the_reason(series, keyword, value, words):
    edit(series, lambda slice_, _: setattr(slice_, keyword, value))
    refusal(series, words)


@pytest.mark.parametrize(
    ("keyword", "value", "kind"),
    [
        ("ImageType", ["DERIVED", "PRIMARY", "MPR"], "derived"),
        ("ImageType", ["ORIGINAL", "PRIMARY", "LOCALIZER"], "localizer"),
        ("SOPClassUID", pydicom.uid.SecondaryCaptureImageStorage, "secondary-capture"),
        ("BurnedInAnnotation", "YES", "burned-in"),
    ],
)
def test_what_is_refused_can_be_allowed(series, keyword, value, kind):
    before = to_array(read_series(series)[0])
    edit(series, lambda slice_, _: setattr(slice_, keyword, value))
    refusal(series, f"allow: [{kind}]")
    np.testing.assert_array_equal(to_array(read_series(series, allow=[kind])[0]), before)


def test_slices_of_two_sizes_are_two_candidates(series):
    edit(series, lambda slice_, n: setattr(slice_, "PixelSpacing", [2.0, 1.5 + 0.1 * (n == 1)]))
    refusal(series, "2 of 2 candidates", "4 slices", "1 slices")


@pytest.mark.parametrize("kept", [0, 1, 2])
def test_too_few_slices_are_refused(series, kept):
    for path in sorted(series.iterdir())[kept:]:
        path.unlink()
    refusal(series, f"{kept} slice(s)" if kept else "no DICOM image")


def test_pixels_that_are_cut_off_are_refused(series):
    edit(series, lambda slice_, n: setattr(slice_, "PixelData", slice_.PixelData[:-20]) if n == 1 else None)
    refusal(series, "cannot be read", "InstanceNumber", "found 64 bytes for 6 × 7 pixels of 16 bits")


def _set(keyword, value, which=None):
    """Return a change of one tag (None: deleted) in one slice, or in all."""

    def change(slice_, n):
        if which is None or n == which:
            with pydicom.config.disable_value_validation():
                if value is None:
                    delattr(slice_, keyword)
                else:
                    setattr(slice_, keyword, value)

    return change


@pytest.mark.parametrize(
    ("keyword", "value", "which", "words"),
    [
        ("RescaleSlope", "0", None, "RescaleSlope of InstanceNumber"),
        ("RescaleSlope", "nan", 4, "is nan; expected a number other than 0"),
        ("RescaleIntercept", "inf", 0, "is nan; expected a number"),
        ("RescaleSlope", None, 4, "1 of 5 slices have no RescaleSlope"),
        ("RescaleIntercept", None, 0, "1 of 5 slices have no RescaleIntercept"),
        ("PixelRepresentation", 1, 4, "its slices differ in PixelRepresentation"),
        ("PhotometricInterpretation", "MONOCHROME1", 0, "its slices differ in PhotometricInterpretation"),
        ("HighBit", 11, 4, "stores 16 bits up to bit 11 (HighBit); expected 15"),
        ("BitsStored", 12, 4, "stores 12 bits up to bit 15 (HighBit); expected 11"),
        ("Rows", 5, None, "are 84 bytes; by its header expected 70"),
        ("Columns", 6, None, "are 84 bytes; by its header expected 72"),
    ],
)
def test_headers_that_contradict_one_another_or_the_pixels_are_refused(series, keyword, value, which, words):
    edit(series, _set("RescaleSlope", "2.5"))
    edit(series, _set("RescaleIntercept", "-7"))
    read_series(series)
    edit(series, _set(keyword, value, which))
    refusal(series, words)


def test_a_scale_that_only_some_slices_state_is_fine_where_it_changes_nothing(series):
    before = to_array(read_series(series)[0])
    edit(series, _set("RescaleSlope", "1", 2))
    edit(series, _set("RescaleIntercept", "0", 3))
    np.testing.assert_array_equal(to_array(read_series(series)[0]), before)


@pytest.mark.parametrize("which", [0, 2, 4])
def test_one_slice_beside_the_others_is_no_tilt(series, which):
    edit(series, lambda slice_, n: move(slice_, OBLIQUE[:, 0] * 4 * (n == which)))
    refusal(series, "mm beside the line through the first and the last one")


@pytest.mark.parametrize(
    ("keyword", "value", "kind"),
    [
        ("ImageType", ["DERIVED", "PRIMARY"], "derived"),
        ("ImageType", ["ORIGINAL", "PRIMARY", "LOCALIZER"], "localizer"),
        ("BurnedInAnnotation", "YES", "burned-in"),
    ],
)
def test_a_last_slice_of_another_kind_is_not_left_out(series, keyword, value, kind):
    edit(series, _set(keyword, value, 4))
    refusal(series, f"of another kind by its header ({kind}), so its end may be missing")
    for path in series.iterdir():  # as a series of its own it is something else
        slice_ = pydicom.dcmread(path)
        if slice_.get(keyword) == value:
            slice_.SeriesInstanceUID = "1.2.3"
            slice_.save_as(path)
    assert read_series(series)[0].GetSize()[2] == 4


def test_files_cut_off_within_their_header_are_refused(series):
    path = sorted(series.iterdir())[0]
    path.write_bytes(path.read_bytes()[:700])
    refusal(series, "1 file(s) are cut off within their header")


LOST = {  # how the last two slices are broken, and what the message calls it
    "empty": (lambda raw: b"", "2 file(s) are empty or filled with zeros"),
    "zeroed": (lambda raw: bytes(len(raw)), "2 file(s) are empty or filled with zeros"),
    "cut within the preamble": (lambda raw: raw[:100], "2 file(s) are empty"),
    "cut before DICM is whole": (lambda raw: raw[:130], "2 file(s) are"),
    "cut within the class": (lambda raw: raw[: raw.index(b"1.2.840.10008") + 9], "2 file(s) are cut off"),
    "cut before the size": (lambda raw: raw[: raw.index(b"\x28\0\x10\0")], "2 file(s) are cut off"),
    "cut before the spacing": (lambda raw: raw[: raw.index(b"\x28\0\x30\0")], "2 file(s) are cut off"),
    "cut before the pixels": (lambda raw: raw[: raw.index(b"\xe0\x7f\x10\0")], "2 file(s) are cut off"),
    "first block zeroed": (lambda raw: bytes(512) + raw[512:], "2 file(s) are empty or filled with zeros"),
    "something else": (lambda raw: b"<html>404 Not Found</html>", "2 file(s) are no DICOM"),
}


@pytest.mark.parametrize("suffix", [".dcm", ""])
@pytest.mark.parametrize("lost", LOST)
def test_slices_lost_at_an_end_are_missed(series, lost, suffix):
    heights = {path: np.dot(pydicom.dcmread(path).ImagePositionPatient, OBLIQUE[:, 2]) for path in series.iterdir()}
    spoil, words = LOST[lost]
    for path in sorted(heights, key=heights.get)[-2:]:
        path.write_bytes(spoil(path.read_bytes()))
    for path in list(series.iterdir()):
        path.rename(path.with_suffix(suffix))
    if (lost, suffix) != ("something else", ""):  # a text of any name may lie among slices that have no suffix
        refusal(series, words, "a slice may be missing without a trace")


def test_a_file_cut_anywhere_is_refused(series):
    path = sorted(series.iterdir())[0]
    raw = path.read_bytes()
    for length in range(0, len(raw), 7):
        path.write_bytes(raw[:length])
        with pytest.raises(UserError):
            read_series(series)


@pytest.mark.parametrize("syntax", ["Implicit", "Explicit"])
@pytest.mark.parametrize("has_meta", [True, False])
def test_files_without_a_preamble_are_read(series, syntax, has_meta):
    before = to_array(read_series(series)[0])
    for path in series.iterdir():
        slice_ = pydicom.dcmread(path)
        if has_meta:
            path.write_bytes(path.read_bytes()[132:])
        else:
            bare = pydicom.Dataset(slice_)
            pydicom.dcmwrite(path, bare, implicit_vr=syntax == "Implicit", little_endian=True)
            assert path.read_bytes()[:2] == b"\x08\0"
    np.testing.assert_array_equal(to_array(read_series(series)[0]), before)


def test_slices_that_are_compressed_as_files_are_said_to_be(series):
    for n, path in enumerate(sorted(series.iterdir())):
        if n in (0, 4):
            path.with_name(path.name + ".gz").write_bytes(gzip.compress(path.read_bytes()))
            path.unlink()
    refusal(series, "2 DICOM file(s) are compressed by gzip", "Decompress")
    for path in series.glob("*.dcm"):
        path.unlink()
    refusal(series, "2 DICOM file(s) are compressed by gzip", "Decompress")


def test_other_compressed_files_among_the_slices_are_left_out(series):
    (series / "series.nii.gz").write_bytes(gzip.compress(bytes(500)))
    (series / "notes.txt").write_bytes(b"")
    assert read_series(series)[0].GetSize() == (7, 6, 5)


def test_an_archive_is_named_where_there_is_nothing_else(tmp_path):
    (tmp_path / "export").write_bytes(b"PK\x03\x04" + bytes(200))
    refusal(tmp_path, "found no DICOM image among 1 files, 1 of them archives")


def test_slices_without_a_series_uid_are_one_series(series):
    before = to_array(read_series(series)[0])
    edit(series, lambda slice_, _: delattr(slice_, "SeriesInstanceUID"))
    np.testing.assert_array_equal(to_array(read_series(series)[0]), before)
    grid = grid_of()
    write(values_of(grid, 1), grid, series / "more", image="T2", name="other")
    edit(series / "more", lambda slice_, _: delattr(slice_, "SeriesInstanceUID"))
    refusal(series, "2 of 2 candidates", "uid none")
    np.testing.assert_array_equal(to_array(read_series(series, choice="number=3")[0]), values_of(grid, 1))


@pytest.mark.parametrize("keyword", ["ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"])
def test_slices_of_a_series_that_say_no_place_are_not_left_out(series, keyword):
    edit(series, lambda slice_, n: delattr(slice_, keyword) if n == 4 else None)
    refusal(series, f"slices without {keyword}, so their place in the patient is unknown")


def test_all_that_must_be_allowed_is_told_at_once(series):
    def change(slice_, _):
        slice_.ImageType, slice_.BurnedInAnnotation = ["DERIVED", "SECONDARY", "P"], "YES"
        slice_.SOPClassUID = pydicom.uid.SecondaryCaptureImageStorage

    edit(series, change)
    words = ["burned-in", "derived", "phase", "secondary-capture"]
    refusal(series, f"`dicom: allow: [{', '.join(words)}]` takes it")
    # What is allowed already stays in the list.
    refusal(series, "`dicom: allow: [phase, burned-in, derived, secondary-capture]` takes it", allow=["phase"])
    assert read_series(series, allow=words)[0].GetSize() == (7, 6, 5)
    for path in sorted(series.iterdir())[2:]:
        path.unlink()
    refusal(series, f"`dicom: allow: [{', '.join(words)}, two-slices]` takes it")


@pytest.mark.parametrize(
    ("storage", "words"),
    [
        (pydicom.uid.SegmentationStorage, "is a segmentation, not an image; name it in the column `labels`"),
        (pydicom.uid.RTDoseStorage, "is a dose distribution"),
    ],
)
def test_what_is_no_image_is_refused_whatever_is_allowed(series, storage, words):
    def change(slice_, _):
        slice_.SOPClassUID, slice_.ImageType = storage, ["DERIVED", "PRIMARY"]

    edit(series, change)
    refusal(series, words, allow=ALLOWABLE)


def test_links_out_of_the_folder_are_refused(series):
    outside = series.parent / "Doe_Jane.dcm"
    next(series.iterdir()).rename(outside)
    (series / "link.dcm").symlink_to(outside)
    with pytest.raises(UserError, match="1 entries of the folder are links that lead out") as error:
        read_series(series, name="P01")
    assert "Doe" not in str(error.value)


@pytest.mark.parametrize("syntax", ["ExplicitVRBigEndian", "ImplicitVRLittleEndian", "DeflatedExplicitVRLittleEndian"])
def test_uncompressed_transfer_syntaxes_agree(series, syntax):
    before = to_array(read_series(series)[0])
    for path in series.iterdir():
        slice_ = pydicom.dcmread(path)
        if syntax == "ExplicitVRBigEndian":
            slice_["PixelData"].value = slice_.pixel_array.astype(">u2").tobytes()
        slice_.file_meta.TransferSyntaxUID = getattr(pydicom.uid, syntax)
        new = pydicom.Dataset(slice_)
        new.file_meta = slice_.file_meta
        is_little = syntax != "ExplicitVRBigEndian"
        pydicom.dcmwrite(path, new, implicit_vr="Implicit" in syntax, little_endian=is_little, enforce_file_format=True)
    assert pydicom.dcmread(path).file_meta.TransferSyntaxUID == getattr(pydicom.uid, syntax)
    np.testing.assert_array_equal(to_array(read_series(series)[0]), before)


def test_rle_agrees(series):
    before = to_array(read_series(series)[0])
    for path in series.iterdir():
        slice_ = pydicom.dcmread(path)
        slice_.compress(pydicom.uid.RLELossless)
        slice_.save_as(path)
    np.testing.assert_array_equal(to_array(read_series(series)[0]), before)


def test_a_codec_that_is_missing_is_named(series):
    def change(slice_, _):
        slice_.compress(pydicom.uid.RLELossless)
        slice_.file_meta.TransferSyntaxUID = pydicom.uid.MPEG2MPML

    edit(series, change)
    refusal(series, "MPEG2", "no decoder")


def test_bits_beyond_those_stored_are_ignored(series):
    """Old scanners drew overlays into the four bits above a 12-bit image."""
    before = to_array(read_series(series)[0])

    def change(slice_, _):
        slice_.BitsStored, slice_.HighBit = 12, 11
        slice_.PixelData = (slice_.pixel_array | 0x5000).astype(np.uint16).tobytes()

    edit(series, change)
    np.testing.assert_array_equal(to_array(read_series(series)[0]), before)


@pytest.mark.parametrize("in_shared", [True, False])
def test_an_enhanced_file_is_read_as_its_slices(series, in_shared):
    """Eight frames in one file, in an order of their own, each with its own slope."""
    image, sidecar = read_series(series)
    before = to_array(image)
    slices = [pydicom.dcmread(path) for path in sorted(series.iterdir())]
    heights = [np.dot(slice_.ImagePositionPatient, OBLIQUE[:, 2]) for slice_ in slices]
    enhanced = pydicom.Dataset(slices[0])
    enhanced.file_meta = slices[0].file_meta
    enhanced.SOPClassUID = enhanced.file_meta.MediaStorageSOPClassUID = pydicom.uid.EnhancedMRImageStorage
    enhanced.NumberOfFrames = len(slices)
    enhanced.PixelData = b"".join(slice_.PixelData for slice_ in slices)
    common = {
        "PlaneOrientationSequence": {"ImageOrientationPatient": slices[0].ImageOrientationPatient},
        "PixelMeasuresSequence": {"PixelSpacing": slices[0].PixelSpacing},
        "MREchoSequence": {"EffectiveEchoTime": 12.5},
    }
    frames = [
        {
            "PlanePositionSequence": {"ImagePositionPatient": slice_.ImagePositionPatient},
            "PixelValueTransformationSequence": {"RescaleSlope": 1 + n, "RescaleIntercept": -n},
            **({} if in_shared else common),
        }
        for n, slice_ in enumerate(slices)
    ]
    enhanced.SharedFunctionalGroupsSequence = [functional_groups(common if in_shared else {})]
    enhanced.PerFrameFunctionalGroupsSequence = [functional_groups(frame) for frame in frames]
    for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "EchoTime"):
        delattr(enhanced, keyword)
    for path in series.iterdir():
        path.unlink()
    pydicom.dcmwrite(series / "enhanced.dcm", enhanced, enforce_file_format=True)
    image, found = read_series(series)
    file_order = np.argsort(heights)
    np.testing.assert_array_equal(to_array(image), before * (1 + file_order) - file_order)
    assert found["echo_time_ms"] == 12.5 and found["origin_lps_mm"] == sidecar["origin_lps_mm"]


def functional_groups(groups):
    """Return a Dataset of sequences of one item from {sequence: {keyword: value}}."""
    dataset = pydicom.Dataset()
    for sequence, values in groups.items():
        item = pydicom.Dataset()
        for keyword, value in values.items():
            setattr(item, keyword, value)
        setattr(dataset, sequence, [item])
    return dataset


def test_the_sidecar_holds_its_allow_list_and_no_identity(series, tmp_path):
    def change(slice_, _):
        for element in slice_:
            if element.VR in ("LO", "PN", "SH", "LT", "ST"):
                element.value = "SECRET"
        slice_.PatientComments = slice_.InstitutionName = slice_.ProtocolName = slice_.StationName = "SECRET"
        slice_.PatientBirthDate = "19331122"

    edit(series, change)
    convert_image.main(str(series), tmp_path / "image.nii.gz", tmp_path / "image.json")
    text = (tmp_path / "image.json").read_text()
    assert "SECRET" not in text and "19331122" not in text and "2000" not in text
    geometry = {"size", "spacing_mm", "origin_lps_mm", "direction_lps", "slice_distance_mm", "slice_thickness_mm"}
    assert set(json.loads(text)) <= geometry | {"modality", "manufacturer", "resampled"} | set(ACQUISITION.values())
    assert json.loads(text)["echo_time_ms"] == 10
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(tmp_path / "image.nii.gz"))
    reader.ReadImageInformation()
    assert reader.GetMetaData("descrip") == ""


@pytest.mark.parametrize(
    ("values", "pixel_id"), [(7, sitk.sitkInt16), (7.25, sitk.sitkFloat32), (40000, sitk.sitkFloat32)]
)
def test_a_file_is_converted_on_its_grid_and_loses_its_free_text(tmp_path, values, pixel_id):
    grid = grid_of()
    array = values_of(grid).astype(np.float32)
    array[0, 0, 0] = values
    source = to_image(array, grid)
    source.SetMetaData("descrip", "SECRET")
    sitk.WriteImage(source, tmp_path / "source.nii.gz")
    convert_image.main(str(tmp_path / "source.nii.gz"), tmp_path / "image.nii.gz", tmp_path / "image.json")
    image = sitk.ReadImage(tmp_path / "image.nii.gz")
    assert image.GetPixelID() == pixel_id and image.GetMetaData("descrip") == ""
    assert grid.difference_from(Grid.of(image)) is None
    np.testing.assert_array_equal(to_array(image), array)
    assert json.loads((tmp_path / "image.json").read_text())["size"] == [7, 6, 5]


@pytest.mark.parametrize("format_", ["nii.gz", "mha"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_are_counted_and_refused(tmp_path, format_, value):
    array = values_of(grid_of()).astype(np.float32)
    array[1, 2, 3] = value
    sitk.WriteImage(to_image(array, grid_of()), tmp_path / f"source.{format_}")
    refuse_conversion(tmp_path, f"source.{format_}", "1 of 210 voxels are not finite")


@pytest.mark.parametrize(
    ("size", "words"), [((7, 6, 5), "all voxels have the value 3"), ((7, 6, 1), "expected a volume")]
)
def test_images_that_no_method_could_register_are_refused(tmp_path, size, words):
    sitk.WriteImage(
        to_image(np.full(size, 3, dtype=np.int16), Grid(size, (1, 1, 1), (0, 0, 0))), tmp_path / "source.mha"
    )
    refuse_conversion(tmp_path, "source.mha", words)


def refuse_conversion(folder, name, words):
    """Assert that the file is refused with `words`, and nothing written."""
    with pytest.raises(UserError, match=words):
        convert_image.main(str(folder / name), folder / "image.nii.gz", folder / "image.json")
    assert not (folder / "image.nii.gz").exists() and not (folder / "image.json").exists()


def test_a_source_that_is_not_there_is_named(tmp_path):
    with pytest.raises(UserError, match="nowhere: no such folder or file"):
        convert_image.main(str(tmp_path / "nowhere"), tmp_path / "image.nii.gz", tmp_path / "image.json")


def real(folder):
    if "COHORTMORPH_DATA" not in os.environ:
        pytest.skip("COHORTMORPH_DATA, the folder of real data, is not set")
    return Path(os.environ["COHORTMORPH_DATA"]) / folder


AGREEING = {
    "ge/anatomical/001": {},
    "ge/anatomical/001_implicit": {},
    "siemens/anatomical/001": {},
    "generic/anatomical/001": {},
    "generic/anatomical/002_non_isotropic": {},
    **{f"generic/{name}/001": {} for name in ("compressed", "compressed_j2k", "compressed_jpeg", "compressed_jpegls")},
    "generic/compressed_rle/001": {},
    "philips_enhanced/anatomical/001": {},
    "philips_enhanced/anatomical/001_implicit": {},
    "generic/rgb/001": {"allow": ["derived", "secondary-capture", "colour"]},
    "failing/slicecount/001": {"allow": ["two-slices"]},
}
VOLUMES = [(name, n) for name in ("philips_enhanced/fmri/001", "philips_enhanced/fmri/001_implicit") for n in range(4)]


def agree(image, expected_path, volume=0):
    """Assert that each voxel of the expected file lies within 1e-3 mm of one of ours and has its value."""
    expected = nibabel.load(expected_path)
    values = np.asarray(expected.dataobj)
    if values.dtype.names:
        values = values["R"] * 0.299 + values["G"] * 0.587 + values["B"] * 0.114
    values = values[..., volume] if values.ndim == 4 else values
    indices = np.stack(np.meshgrid(*map(np.arange, values.shape), indexing="ij"), axis=-1)
    points_ras_mm = indices @ expected.affine[:3, :3].T + expected.affine[:3, 3]
    grid = Grid.of(image)
    ours = np.rint(grid.to_indices(points_ras_mm * [-1, -1, 1])).astype(int)
    assert values.size == np.prod(grid.size)
    np.testing.assert_allclose(grid.to_world(ours), points_ras_mm * [-1, -1, 1], atol=1e-3)
    np.testing.assert_allclose(to_array(image)[tuple(np.moveaxis(ours, -1, 0))], values, rtol=1e-6, atol=1e-5)


@pytest.mark.real
@pytest.mark.parametrize("name", AGREEING)
def test_vendors_series_agree_with_the_expected_files_in_world_space(name):
    folder = real("dicom-geometry") / name
    agree(read_series(folder, **AGREEING[name])[0], f"{folder}_ground_truth.nii.gz")


@pytest.mark.real
@pytest.mark.parametrize(("name", "n"), VOLUMES)
def test_each_volume_of_a_time_series_agrees(name, n):
    folder = real("dicom-geometry") / name
    agree(read_series(folder, choice=f"volume={n + 1}")[0], f"{folder}_ground_truth.nii.gz", n)


REFUSED = {
    "dicom-geometry/failing/gantrytilting/001": ("tilt of 14.0°", {"tilt": "refuse"}),
    "dicom-geometry/failing/notavolume/001": ("3 of 4 slices", {}),
    "dicom-geometry/failing/slicecount/001": ("2 slice(s)", {}),
    "dicom-geometry/failing/sliceincrement/001": ("10.000 mm", {}),
    "dicom-geometry/failing/sliceincrement/002": ("tilt of 15.5°", {}),
    "dicom-geometry/failing/sliceorientation/001": ("2 of 2 candidates", {}),
    "dicom-geometry/generic/rgb/001": ("colours", {}),
    "dicom-geometry/ge/anatomical/001_single_slice": ("1 slice(s)", {}),
    "dicom-geometry/philips_enhanced/fmri/001": ("4 volumes", {}),
    "dicom-geometry/siemens/fmri/001": ("mosaic", {}),
    "head-ct-dicom/GE": ("from 1.081 to 6.999 mm", {}),
    "brain-mr-dicom/Study3/11_HCropVolume": ("derived", {}),
}


@pytest.mark.real
@pytest.mark.parametrize("name", REFUSED)
def test_real_series_that_make_no_even_grid_are_refused(name):
    words, options = REFUSED[name]
    refusal(real(name), words, **options)


RESAMPLED = {  # size, slice distance, tilt
    "dicom-geometry/failing/gantrytilting/001": ((512, 521, 4), 4.8515, 14.0),
    "dicom-geometry/failing/sliceincrement/001": ((512, 512, 5), 5.0, None),
    "dicom-geometry/failing/sliceincrement/002": ((512, 514, 5), 0.7497, 15.5),
    "head-ct-dicom/GE": ((512, 611, 37), 4.0019, 18.5),
}


@pytest.mark.real
@pytest.mark.parametrize("name", RESAMPLED)
def test_real_series_are_resampled_if_asked_for(name):
    size, distance_mm, tilt_degrees = RESAMPLED[name]
    image, sidecar = read_series(real(name), uneven="resample")
    assert image.GetSize() == size
    assert image.GetSpacing()[2] == pytest.approx(distance_mm, abs=1e-4)
    assert sidecar["resampled"].get("tilt_degrees") == pytest.approx(tilt_degrees, abs=0.01)


@pytest.mark.real
def test_the_images_of_one_real_study_share_a_grid():
    study = real("brain-mr-dicom") / "Study3"
    images = [read_series(folder)[0] for folder in sorted(study.iterdir()) if folder.name != "11_HCropVolume"]
    assert len(images) == 4
    assert all(Grid.of(images[0]).difference_from(Grid.of(image)) is None for image in images)
    np.testing.assert_allclose(images[0].GetSpacing(), (0.6875, 0.6875, 6.5), atol=1e-4)
