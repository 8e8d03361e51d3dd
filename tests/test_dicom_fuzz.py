"""Whatever is thrown at the door for DICOM: what is valid is read as pydicom and SimpleITK do, damage is refused.

`COHORTMORPH_FUZZ=20 pytest tests/test_dicom_fuzz.py` tries twenty times as many cases.
"""

import struct
from dataclasses import dataclass, field

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from fuzzed import cases
from hypothesis import event, given
from hypothesis import strategies as st
from pydicom.uid import generate_uid
from scipy.spatial.transform import Rotation

from cohortmorph import UserError
from cohortmorph.clinic.reader import read_series
from cohortmorph.spatial.geometry import Grid, to_array

SYNTAXES = {
    "implicit": pydicom.uid.ImplicitVRLittleEndian,
    "explicit": pydicom.uid.ExplicitVRLittleEndian,
    "big-endian": pydicom.uid.ExplicitVRBigEndian,
    "deflated": pydicom.uid.DeflatedExplicitVRLittleEndian,
    "rle": pydicom.uid.RLELossless,
}
STORAGE = {
    "CT": pydicom.uid.CTImageStorage,
    "MR": pydicom.uid.MRImageStorage,
    "PT": pydicom.uid.PositronEmissionTomographyImageStorage,
}
ENHANCED = {"CT": pydicom.uid.EnhancedCTImageStorage, "MR": pydicom.uid.EnhancedMRImageStorage}
AXES = [np.eye(3), np.diag([-1.0, -1, 1]), np.diag([1.0, -1, -1]), np.array([[0.0, 0, 1], [1, 0, 0], [0, 1, 0]])]


@dataclass
class Made:
    """A made-up series: stored values [i, j, k], where they lie, and how they are kept."""

    modality: str
    stored: np.ndarray
    grid: Grid
    bits: int
    slopes: list
    intercepts: list
    syntax: str
    rng: np.random.Generator = field(repr=False)
    uid: str = "1.2.3.4"
    number: int = 7

    @property
    def values(self):
        """What the pixels mean."""
        return self.stored * np.array(self.slopes) + np.array(self.intercepts)


@st.composite
def series(draw, modalities=("CT", "MR", "PT"), syntaxes=tuple(SYNTAXES)):
    """Draw a valid series."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    size = (draw(st.integers(1, 8)), draw(st.integers(1, 7)), draw(st.integers(3, 7)))
    bits, signed = draw(st.sampled_from([8, 12, 16])), draw(st.booleans())
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1)) if signed else (0, 2**bits)
    kind = np.dtype(f"{'i' if signed else 'u'}{1 if bits == 8 else 2}")
    stored = rng.integers(low, high, size).astype(kind)
    axes = AXES[draw(st.integers(0, 3))]
    if draw(st.booleans()):
        axes = Rotation.from_euler("zyx", rng.uniform(-40, 40, 3), degrees=True).as_matrix() @ axes
    # What files can say: 16 characters a number.
    axes = np.round(axes, 9)
    spacing_mm = np.round([*rng.uniform(0.3, 4, 2), rng.uniform(0.5, 7)], 4)
    grid = Grid(size, tuple(spacing_mm), tuple(np.round(rng.normal(0, 200, 3), 3)), tuple(axes.ravel()))
    scaled = draw(st.sampled_from(["none", "whole", "one", "each"]))
    slopes, intercepts = np.ones(size[2]), np.zeros(size[2])
    if scaled == "whole":
        slopes, intercepts = slopes * rng.integers(1, 4), intercepts - rng.integers(0, 2000)
    if scaled in ("one", "each"):
        count = size[2] if scaled == "each" else 1
        slopes = slopes * np.round(rng.uniform(0.01, 5, count), 6)
        intercepts = intercepts + np.round(rng.normal(0, 500, count), 4)
    return Made(
        draw(st.sampled_from(modalities)), stored, grid, bits, slopes.tolist(), intercepts.tolist(),
        draw(st.sampled_from(syntaxes)), rng,
    )  # fmt: skip


def header(made, storage):
    """Return a data set with what all slices of a series share."""
    data = pydicom.Dataset()
    data.file_meta = pydicom.dataset.FileMetaDataset()
    data.file_meta.TransferSyntaxUID = SYNTAXES[made.syntax]
    data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = storage
    data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    data.StudyInstanceUID, data.SeriesInstanceUID, data.FrameOfReferenceUID = "1.2.3", made.uid, "1.2.5"
    data.Modality, data.Manufacturer, data.SeriesNumber = made.modality, "CohortMorph", made.number
    data.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.Columns, data.Rows = made.grid.size[:2]
    data.BitsAllocated = 8 if made.bits == 8 else 16
    data.BitsStored, data.HighBit = made.bits, made.bits - 1
    data.PixelRepresentation = int(made.stored.dtype.kind == "i")
    return data


def finish(data, pixels, path, bare=False):
    """Write a data set with pixels [frame,] row, column to a file."""
    syntax = data.file_meta.TransferSyntaxUID
    is_big = syntax == SYNTAXES["big-endian"]
    raw = np.ascontiguousarray(pixels.astype(pixels.dtype.newbyteorder(">" if is_big else "<"))).tobytes()
    data.PixelData = raw + b"\0" * (len(raw) % 2)
    data["PixelData"].VR = "OB" if pixels.dtype.itemsize == 1 and "Implicit" not in syntax.name else "OW"
    if syntax == SYNTAXES["rle"]:
        data.file_meta.TransferSyntaxUID = SYNTAXES["explicit"]
        data.compress(syntax, generate_instance_uid=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    is_implicit = syntax == SYNTAXES["implicit"]
    pydicom.dcmwrite(path, data, implicit_vr=is_implicit, little_endian=not is_big, enforce_file_format=True)
    if bare:
        path.write_bytes(path.read_bytes()[132:])


def numbers(values):
    return [f"{value:.9f}".rstrip("0")[:16] for value in values]


def position(made, k):
    return numbers(made.grid.to_world(np.array([[0, 0, k]]))[0])


def orientation(made):
    return numbers(made.grid.axes[:, :2].T.ravel())


def spacing(made):
    return numbers(made.grid.spacing_mm[1::-1])


def write(made, folder):
    """Write a series, a file a slice, under names and in subfolders that say nothing; return the paths by position."""
    rng, depth = made.rng, made.rng.integers(0, 3)
    names = rng.permutation(len(made.slopes))
    suffix, bare = rng.choice([".dcm", "", ".IMA"]), rng.random() < 0.2 and made.syntax != "deflated"
    has_scale = made.slopes != [1] * len(made.slopes) or any(made.intercepts) or rng.random() < 0.5
    paths = []
    for k, name in enumerate(names):
        data = header(made, STORAGE[made.modality])
        data.InstanceNumber = int(names[k]) + 1
        data.ImagePositionPatient, data.ImageOrientationPatient = position(made, k), orientation(made)
        data.PixelSpacing = spacing(made)
        if has_scale:
            data.RescaleSlope, data.RescaleIntercept = numbers([made.slopes[k], made.intercepts[k]])
        path = folder.joinpath(*[f"s{rng.integers(2)}"] * depth, f"{name:02d}{suffix}")
        finish(data, made.stored[:, :, k].T, path, bare)
        paths.append(path)
    return paths


def write_enhanced(made, path, order=None):
    """Write a series, or the slices in `order`, as one file of frames in any order."""
    data = header(made, ENHANCED[made.modality])
    order = made.rng.permutation(len(made.slopes)) if order is None else order
    data.NumberOfFrames, data.InstanceNumber = len(order), 1
    in_shared, scale_shared = made.rng.random() < 0.5, len({*made.slopes}) == len({*made.intercepts}) == 1
    common = {
        "PlaneOrientationSequence": {"ImageOrientationPatient": orientation(made)},
        "PixelMeasuresSequence": {"PixelSpacing": spacing(made)},
    }
    frames = []
    for k in order:
        scale = dict(
            zip(("RescaleSlope", "RescaleIntercept"), numbers([made.slopes[k], made.intercepts[k]]), strict=True)
        )
        frames.append({
            "PlanePositionSequence": {"ImagePositionPatient": position(made, k)},
            **({} if in_shared and scale_shared else {"PixelValueTransformationSequence": scale}),
            **({} if in_shared else common),
        })  # fmt: skip
    shared = common | ({"PixelValueTransformationSequence": scale} if scale_shared else {})
    data.SharedFunctionalGroupsSequence = [groups(shared if in_shared else {})]
    data.PerFrameFunctionalGroupsSequence = [groups(frame) for frame in frames]
    finish(data, np.stack([made.stored[:, :, k].T for k in order]), path)
    return path


def groups(of):
    """Return {sequence: {keyword: value}} as functional groups."""
    data = pydicom.Dataset()
    for sequence, values in of.items():
        item = pydicom.Dataset()
        for keyword, value in values.items():
            setattr(item, keyword, value)
        setattr(data, sequence, [item])
    return data


def by_pydicom(paths):
    """Return values [i, j, k] in the order of paths, read one by one with pydicom and scaled in 64 bits."""
    planes = []
    for path in paths:
        data = pydicom.dcmread(path, force=True)
        planes.append(data.pixel_array.T * float(data.get("RescaleSlope", 1)) + float(data.get("RescaleIntercept", 0)))
    return np.stack(planes, axis=-1)


def assert_is(image, values, grid):
    """Assert values (float32 or exact int16) and the world position of all corners."""
    assert image.GetPixelID() in (sitk.sitkInt16, sitk.sitkFloat32)
    np.testing.assert_array_equal(to_array(image), values.astype(to_array(image).dtype))
    np.testing.assert_allclose(to_array(image), values, rtol=1e-6)
    found = Grid.of(image)
    assert found.size == grid.size
    corners = np.stack(np.meshgrid(*[[0, n - 1] for n in grid.size]), -1).reshape(-1, 3)
    np.testing.assert_allclose(found.to_world(corners), grid.to_world(corners), atol=1e-4)


@given(series())
@cases(60)
def test_valid_series_are_what_pydicom_and_simpleitk_agree_on(tmp_path_factory, made):
    folder = tmp_path_factory.mktemp("fuzz") / "series"
    paths = write(made, folder)
    image, _ = read_series(folder, "P1 CT")
    assert_is(image, made.values, made.grid)
    np.testing.assert_array_equal(to_array(image), by_pydicom(paths).astype(to_array(image).dtype))
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames([str(path) for path in paths])
    reader.SetOutputPixelType(sitk.sitkFloat64)
    # It cannot decode small pictures by RLE, nor files without a preamble.
    if made.syntax != "rle" and min(made.grid.size[:2]) > 1 and paths[0].read_bytes()[128:132] == b"DICM":
        theirs = reader.Execute()
        # Of MR and PT GDCM leaves slope and intercept aside.
        if made.modality == "CT":
            np.testing.assert_allclose(to_array(theirs), to_array(image), rtol=1e-5, atol=1e-3)
        corner = np.array([made.grid.size]) - 1
        np.testing.assert_allclose(Grid.of(theirs).to_world(corner), made.grid.to_world(corner), atol=1e-3)


@given(series(modalities=("CT", "MR")))
@cases(20)
def test_valid_enhanced_files_are_what_was_written(tmp_path_factory, made):
    folder = tmp_path_factory.mktemp("fuzz")
    order, count = made.rng.permutation(len(made.slopes)), int(made.rng.choice([1, 1, 2, len(made.slopes)]))
    for n, part in enumerate(np.array_split(order, count)):
        write_enhanced(made, folder / f"{n}.dcm", part)
    assert_is(read_series(folder, "P1 CT")[0], made.values, made.grid)


@given(series(), series())
@cases(15)
def test_one_of_two_series_is_chosen_by_number_beside_a_localizer(tmp_path_factory, made, other):
    folder = tmp_path_factory.mktemp("fuzz")
    other.uid, other.number = "1.2.3.4.5", 8
    write(made, folder / "a")
    write(other, folder / "b")
    data = pydicom.dcmread(next(path for path in (folder / "b").rglob("*") if path.is_file()), force=True)
    localizer = header(other, STORAGE[other.modality])
    localizer.SeriesInstanceUID, localizer.SeriesNumber, localizer.ImageType = (
        "1.9",
        1,
        ["ORIGINAL", "PRIMARY", "LOCALIZER"],
    )
    for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"):
        setattr(localizer, keyword, data[keyword].value)
    finish(localizer, other.stored[:, :, 0].T, folder / "localizer")
    with pytest.raises(UserError, match="2 of 3 candidates"):
        read_series(folder, "P1 CT")
    for one in (made, other):
        assert_is(read_series(folder, "P1 CT", str(one.number))[0], one.values, one.grid)


# ---- damage

# Whose value in one file, or one frame, may be any number: nothing repeats it (docs/dicom.md).
SAID_ONCE = ("RescaleSlope", "RescaleIntercept")
# Whose value in an enhanced file stands for all frames.
SAID_FOR_ALL = ("PixelSpacing", "ImageOrientationPatient", "PixelRepresentation", "PhotometricInterpretation")


def assert_refused_or_the_same(folder, whole, how):
    """Read a damaged series: nothing may have changed without a word."""
    try:
        image, sidecar = read_series(folder, "P1 CT")
    except UserError as error:
        assert "P1 CT" in str(error) and str(folder) not in str(error)
        event(f"{how}: refused")
        return
    before, found = Grid.of(whole), Grid.of(image)
    if sidecar["resampled"]:  # and said so, in the log too: a slice moved by less than a pixel
        assert how.startswith(("flip", "zero", "ImagePositionPatient"))
        assert np.abs(np.subtract(found.size, before.size)).max() <= 1
        event(f"{how}: resampled, as the sidecar says")
        return
    event(f"{how}: no change")
    np.testing.assert_array_equal(to_array(image), to_array(whole))
    corners = np.stack(np.meshgrid(*[[0, n - 1] for n in before.size]), -1).reshape(-1, 3)
    moved_mm = (found.to_world(corners) - before.to_world(corners)) @ before.axes
    assert (np.abs(moved_mm).max(axis=0) <= np.multiply(before.spacing_mm, (0.11, 0.11, 0.03)) + 1e-3).all()


def value_bytes(raw, keywords):
    """Return the places of the bytes of some tags and their values, and of what follows within 32 bytes or so."""
    places = set()
    for keyword in keywords:
        tag = pydicom.datadict.tag_for_keyword(keyword)
        for kept in ("<HH", ">HH"):
            pattern, at = struct.pack(kept, tag >> 16, tag & 0xFFFF), -1
            while (at := raw.find(pattern, at + 1)) >= 0:
                places |= set(range(at, at + (104 if keyword == "ImageOrientationPatient" else 40)))
    return places


def spoil(raw, how, rng, untouched):
    """Return the bytes of a file cut off, or its header with a bit flipped or a block zeroed."""
    end = raw.rindex(b"\xe0\x7f\x10\0") if b"\xe0\x7f\x10\0" in raw else raw.rindex(b"\x7f\xe0\0\x10")
    places = [n for n in range(132 if raw[128:132] == b"DICM" else 0, end) if n not in untouched]
    if how == "cut":
        return raw[: int(rng.integers(len(raw)))]
    at = int(rng.choice(places))
    if how == "flip":
        return raw[:at] + bytes([raw[at] ^ (1 << int(rng.integers(8)))]) + raw[at + 1 :]
    block = bytearray(raw)
    for n in places[places.index(at) : places.index(at) + int(rng.choice([4, 16, 64]))]:
        block[n] = 0
    return bytes(block)


# A deflated file has no checksum, and a bit flipped in it may become any other file: only what is cut is seen for sure.
PLAIN = ("implicit", "explicit", "big-endian", "rle")


@given(series(syntaxes=PLAIN), st.sampled_from(["cut", "flip", "flip", "zero"]))
@cases(80)
def test_damage_of_a_file_is_refused_or_changes_nothing(tmp_path_factory, made, how):
    folder = tmp_path_factory.mktemp("fuzz") / "series"
    paths = write(made, folder)
    whole, _ = read_series(folder, "P1 CT")
    path = paths[made.rng.choice([0, len(paths) - 1, made.rng.integers(len(paths))])]
    raw = path.read_bytes()
    path.write_bytes(spoil(raw, how, made.rng, value_bytes(raw, SAID_ONCE)))
    assert_refused_or_the_same(folder, whole, how)


@given(series(syntaxes=("deflated",)))
@cases(10)
def test_a_deflated_file_that_is_cut_off_is_refused(tmp_path_factory, made):
    folder = tmp_path_factory.mktemp("fuzz") / "series"
    path = write(made, folder)[0]
    whole, _ = read_series(folder, "P1 CT")
    path.write_bytes(spoil(path.read_bytes() + b"\xe0\x7f\x10\0", "cut", made.rng, ())[:-4])
    assert_refused_or_the_same(folder, whole, "cut")


@given(series(modalities=("CT", "MR"), syntaxes=PLAIN), st.sampled_from(["cut", "flip", "flip", "zero"]))
@cases(40)
def test_damage_of_an_enhanced_file_is_refused_or_changes_nothing(tmp_path_factory, made, how):
    folder = tmp_path_factory.mktemp("fuzz") / "series"
    path = write_enhanced(made, folder / "a.dcm")
    whole, _ = read_series(folder, "P1 CT")
    raw = path.read_bytes()
    path.write_bytes(spoil(raw, how, made.rng, value_bytes(raw, SAID_ONCE + SAID_FOR_ALL)))
    assert_refused_or_the_same(folder, whole, how)


def moved(data, rng):
    vector_mm = rng.normal(0, 1, 3) * rng.choice([0.1, 1, 30])
    return numbers(np.array(data.ImagePositionPatient, float) + vector_mm)


def turned(data, rng):
    turn = Rotation.from_rotvec(rng.normal(0, 1, 3) * rng.choice([0.01, 0.3])).as_matrix()
    return numbers((turn @ np.array(data.ImageOrientationPatient, float).reshape(2, 3).T).T.ravel())


def exchanged(cosines):
    return [*cosines[3:], *cosines[:3]]


# What is changed in the header of one file; None deletes the tag.
CHANGES = {
    "ImagePositionPatient": (moved, None),
    "ImageOrientationPatient": (turned, lambda data, _: exchanged(data.ImageOrientationPatient), None),
    "PixelSpacing": (lambda data, rng: numbers(np.array(data.PixelSpacing, float) * rng.uniform(0.5, 0.99)), None),
    "Rows": (lambda data, _: data.Rows + 1, lambda data, _: max(data.Rows - 1, 1), lambda data, _: data.Columns, None),
    "Columns": (lambda data, rng: data.Columns + 1, lambda data, rng: max(data.Columns - 1, 1), None),
    "BitsAllocated": (8, 16, 32, None),
    "BitsStored": (8, 11, 12, 16, 1, None),
    "HighBit": (7, 11, 15),
    "PixelRepresentation": (0, 1, None),
    "SamplesPerPixel": (1, 3, None),
    "PhotometricInterpretation": ("MONOCHROME1", "RGB", "PALETTE COLOR", None),
    "RescaleSlope": ("0", "nan", ["1", "2"], None),
    "RescaleIntercept": ("nan", "inf", ["1", "2"], None),
    "SeriesInstanceUID": ("1.2.99", None),
    "StudyInstanceUID": ("1.2.99", None),
    "FrameOfReferenceUID": ("1.2.99", None),
    "SOPInstanceUID": ("1.2.99", None),
    "SOPClassUID": ("1.2.840.10008.5.1.4.1.1.7", "1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.481.2", None),
    "InstanceNumber": (1, 999, None),
    "SeriesNumber": (8, None),
    "Modality": ("CT", "MR", "OT", None),
    "ImageType": (["DERIVED", ""], *(["ORIGINAL", "", one] for one in ("LOCALIZER", "P", "MOSAIC")), None),
    "NumberOfFrames": (1, 2, 0),
    "BurnedInAnnotation": ("YES", "NO"),
    "SliceThickness": (0.1, 99),
    "SpacingBetweenSlices": (0.1, 99),
    "GantryDetectorTilt": (15,),
    "EchoTime": (1, 99),
    "AcquisitionNumber": (2,),
    "TemporalPositionIdentifier": (3,),
    "TriggerTime": (40,),
    "AcquisitionTime": ("101010",),
    "ContentTime": ("101010",),
    "PatientPosition": ("FFP",),
}  # fmt: skip


@given(series(), st.sampled_from(sorted(CHANGES)), st.integers(0, 9))
@cases(120)
def test_a_changed_tag_is_refused_or_changes_nothing(tmp_path_factory, made, keyword, n):
    """In one file; or in all, where the pixels or another tag contradict it."""
    folder = tmp_path_factory.mktemp("fuzz") / "series"
    made.syntax = "explicit" if made.syntax == "rle" else made.syntax
    paths = write(made, folder)
    whole, _ = read_series(folder, "P1 CT")
    change = CHANGES[keyword][n % len(CHANGES[keyword])]
    in_all = keyword in ("Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "SamplesPerPixel") and n % 3 == 0
    if in_all and keyword in ("Rows", "Columns") and min(made.grid.size[:2]) == 1:
        in_all = False
    chosen = paths if in_all else [paths[made.rng.choice([0, len(paths) - 1, made.rng.integers(len(paths))])]]
    for path in chosen:
        data = pydicom.dcmread(path, force=True)
        is_bare, value = path.read_bytes()[128:132] != b"DICM", change(data, made.rng) if callable(change) else change
        if value is None and keyword not in data:
            return
        with pydicom.config.disable_value_validation():
            if value is None:
                delattr(data, keyword)
            else:
                setattr(data, keyword, value)
            data.save_as(path, enforce_file_format=not is_bare)
    assert_refused_or_the_same(folder, whole, f"{keyword}{' in all' if in_all else ''}")


@given(
    series(), st.sampled_from(["swap names", "copy", "other copy", "lose one within", "add a text", "empty", "link"])
)
@cases(30)
def test_what_happens_to_whole_files_is_refused_or_changes_nothing(tmp_path_factory, made, how):
    """All but one: a slice lost at an end, of which no header has a word."""
    folder = tmp_path_factory.mktemp("fuzz") / "series"
    paths = write(made, folder)
    whole, _ = read_series(folder, "P1 CT")
    one, other = (paths[n] for n in made.rng.choice(len(paths), 2, replace=False))
    if how == "swap names":
        raw = one.read_bytes()
        one.write_bytes(other.read_bytes())
        other.write_bytes(raw)
    elif how == "copy":
        folder.joinpath("again", one.name).parent.mkdir()
        folder.joinpath("again", one.name).write_bytes(one.read_bytes())
    elif how == "other copy":
        data = pydicom.dcmread(one, force=True)
        data.SOPInstanceUID, data.AcquisitionTime = generate_uid(), "101112"
        data.save_as(
            folder / "again.dcm", enforce_file_format=data.file_meta.get("MediaStorageSOPClassUID") is not None
        )
    elif how == "lose one within":
        paths[len(paths) // 2].unlink()
    elif how == "add a text":
        (folder / "notes.txt").write_text("nothing of ours")
    elif how == "empty":
        one.write_bytes(b"")
    else:
        (folder / "link").symlink_to(one)
    assert_refused_or_the_same(folder, whole, how)
