"""Siemens' mosaics and United Imaging's grids: each tile where it was acquired, or refused; nothing is guessed."""

import gzip
import struct
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
from pydicom.dataset import FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    MRImageStorage,
    RLELossless,
    generate_uid,
)
from scipy.spatial.transform import Rotation

from cohortmorph import UserError
from cohortmorph.clinic.folder import read_folder
from cohortmorph.clinic.mosaic import csareader
from cohortmorph.clinic.reader import read_series
from cohortmorph.clinic.series import candidates
from cohortmorph.spatial.geometry import Grid, to_array

AXES = {  # a row, a column and their normal (LPS), as columns
    "LPS": np.eye(3),
    "RAS": np.diag([-1.0, -1, 1]),
    "sagittal": np.array([[0.0, 0, -1], [1, 0, 0], [0, -1, 0]]),
    "coronal": np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]]),
    "oblique": Rotation.from_euler("zyx", [20, -15, 35], degrees=True).as_matrix(),
}


def grid_of(axes="oblique", count=7):
    return Grid((6, 4, count), (1.5, 2.25, 3.3), (-31.25, 17.5, 42.0), tuple(AXES[axes].ravel()))


def values_of(grid, n=0):
    return np.random.default_rng(n).integers(1, 4000, grid.size).astype(np.int16)


def csa_header(**fields):
    """Return a CSA header (SV10) with fields of numbers."""
    parts = [b"SV10\4\3\2\1" + struct.pack("<2I", len(fields), 77)]
    for name, values in fields.items():
        kind, digits = (b"IS", 0) if name.startswith("Number") else (b"FD", 8)
        parts.append(struct.pack("<64si4s3i", name.encode(), len(values), kind, 4, len(values), 77))
        for value in values:
            text = f"{value:.{digits}f}".encode() + b"\0"
            parts.append(struct.pack("<4i", len(text), len(text), 77, len(text)) + text + bytes(-len(text) % 4))
    return b"".join(parts)


def picture_of(values, across, down):
    """Return the slices as tiles of one picture, from the first on in rows; the rest is 0."""
    columns, rows, count = values.shape
    picture = np.zeros((down * rows, across * columns), np.uint16)
    for k in range(count):
        top, left = k // across * rows, k % across * columns
        picture[top : top + rows, left : left + columns] = values[:, :, k].T
    return picture


def volume_file(path, grid, values, vendor="SIEMENS", syntax=ExplicitVRLittleEndian, is_reversed=False, **changes):
    """Write a volume as one picture; `changes` replace fields of the CSA header, or elements by keyword or tag.

    None leaves an element out. Reversed, the first tile is the last slice.
    """
    count, across = grid.size[2], int(np.ceil(np.sqrt(grid.size[2])))
    down = across if vendor == "SIEMENS" else int(np.ceil(count / across))
    order = list(range(count))[:: -1 if is_reversed else 1]
    picture = picture_of(values[:, :, order], across, down)
    firsts_mm = [grid.to_world([0, 0, k]) for k in order]
    # Of both the slice and the picture, the position follows from the centre of the field of view.
    step_mm = grid.axes[:, :2] * grid.spacing_mm[:2]
    centre_mm = firsts_mm[0] + step_mm @ np.array(grid.size[:2]) / 2
    corner_mm = centre_mm - step_mm @ np.array(picture.shape[::-1]) / 2
    slice_ = pydicom.Dataset()
    slice_.file_meta = FileMetaDataset()
    slice_.file_meta.TransferSyntaxUID = syntax
    slice_.SOPClassUID, slice_.SOPInstanceUID, slice_.SeriesInstanceUID = MRImageStorage, generate_uid(), "1.2.3.4"
    slice_.ImageType = ["ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC" if vendor == "SIEMENS" else "VFRAME"]
    slice_.Modality, slice_.Manufacturer, slice_.SeriesNumber, slice_.SeriesDescription = "MR", vendor, 5, "ep2d"
    slice_.AcquisitionNumber = slice_.InstanceNumber = 1
    slice_.SliceThickness, slice_.SpacingBetweenSlices = 3, f"{grid.spacing_mm[2]:.10g}"
    place_mm = corner_mm if vendor == "SIEMENS" else firsts_mm[0]
    slice_.ImagePositionPatient = [f"{one:.10g}" for one in place_mm]
    slice_.ImageOrientationPatient = [f"{one:.12g}" for one in grid.axes[:, :2].T.ravel()]
    slice_.PixelSpacing = [grid.spacing_mm[1], grid.spacing_mm[0]]
    slice_.Rows, slice_.Columns = picture.shape
    slice_.BitsAllocated, slice_.BitsStored, slice_.HighBit, slice_.PixelRepresentation = 16, 16, 15, 0
    slice_.SamplesPerPixel, slice_.PhotometricInterpretation = 1, "MONOCHROME2"
    dtype = ">u2" if syntax == ExplicitVRBigEndian else "<u2"
    slice_.PixelData = picture.astype(dtype).tobytes()
    slice_["PixelData"].VR = "OW"
    if vendor == "SIEMENS":
        fields = {
            "NumberOfImagesInMosaic": [count],
            "SliceNormalVector": grid.axes[:, 2] * (-1 if is_reversed else 1),
            # Interleaved: when a slice was acquired says nothing of its tile.
            "MosaicRefAcqTimes": [(k % 2 * count + k) * 10.0 for k in range(count)],
        }
        fields |= {name: changes.pop(name) for name in list(changes) if name in fields}
        header = csa_header(**{name: value for name, value in fields.items() if value is not None})
        slice_.private_block(0x29, "SIEMENS CSA HEADER", create=True).add_new(
            0x10, "OB", header + bytes(len(header) % 2)
        )
        slice_.private_block(0x19, "SIEMENS MR HEADER", create=True).add_new(0x0A, "US", count)
    else:
        block = slice_.private_block(0x65, "Image Private Header", create=True)
        block.add_new(0x50, "DS", str(count))
        frames = [pydicom.Dataset() for _ in firsts_mm]
        for frame, first_mm in zip(frames, firsts_mm, strict=True):
            frame.ImagePositionPatient = [f"{one:.10g}" for one in first_mm]
        block.add_new(0x51, "SQ", Sequence(frames))
    for name, value in changes.items():
        tag = int(name[1:], 16) if name.startswith("x") else name
        if value is None:
            del slice_[tag]
        elif isinstance(tag, int):
            slice_[tag].value = value
        else:
            setattr(slice_, name, value)
    path.parent.mkdir(exist_ok=True)
    if syntax == RLELossless:
        slice_.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        slice_.compress(RLELossless)
    slice_.save_as(path, enforce_file_format=True)


def read(folder, choice="", **options):
    image, sidecar = read_series(folder, "P01", choice, **options)
    return to_array(image), Grid.of(image), sidecar


def refusal(folder, choice="", **options):
    with pytest.raises(UserError) as error:
        read(folder, choice, **options)
    return str(error.value)


def expect(folder, grid, values, choice=""):
    found, its_grid, sidecar = read(folder, choice)
    np.testing.assert_array_equal(found, values)
    assert its_grid.size == grid.size
    for corner in np.ndindex(2, 2, 2):
        index = np.array(corner) * (np.array(grid.size) - 1)
        np.testing.assert_allclose(its_grid.to_world(index), grid.to_world(index), atol=1e-6)
    assert sidecar["slice_distance_mm"] == pytest.approx(grid.spacing_mm[2], abs=1e-6)


@pytest.mark.parametrize("count", [3, 4, 7, 20])
@pytest.mark.parametrize("is_reversed", [False, True])
@pytest.mark.parametrize("vendor", ["SIEMENS", "UIH"])
def test_every_number_of_tiles_is_read_in_its_order(tmp_path, vendor, is_reversed, count):
    grid = grid_of(count=count)
    volume_file(tmp_path / "in/1.dcm", grid, values_of(grid), vendor, is_reversed=is_reversed)
    expect(tmp_path / "in", grid, values_of(grid))


@pytest.mark.parametrize("axes", AXES)
@pytest.mark.parametrize("is_reversed", [False, True])
@pytest.mark.parametrize("vendor", ["SIEMENS", "UIH"])
def test_every_orientation_is_read(tmp_path, vendor, is_reversed, axes):
    grid = grid_of(axes)
    volume_file(tmp_path / "in/1.dcm", grid, values_of(grid), vendor, is_reversed=is_reversed)
    expect(tmp_path / "in", grid, values_of(grid))


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian, RLELossless])
@pytest.mark.parametrize("vendor", ["SIEMENS", "UIH"])
def test_transfer_syntaxes_agree(tmp_path, vendor, syntax):
    grid = grid_of()
    volume_file(tmp_path / "in/1.dcm", grid, values_of(grid), vendor, syntax)
    expect(tmp_path / "in", grid, values_of(grid))


def test_values_are_rescaled(tmp_path):
    grid = grid_of()
    volume_file(tmp_path / "in/1.dcm", grid, values_of(grid), RescaleSlope=2, RescaleIntercept=-100)
    expect(tmp_path / "in", grid, values_of(grid) * 2 - 100)


@pytest.mark.parametrize("vendor", ["SIEMENS", "UIH"])
def test_each_file_is_a_volume_to_choose(tmp_path, vendor):
    grid = grid_of()
    for n in (2, 1, 3):
        volume_file(tmp_path / f"in/{5 - n}.dcm", grid, values_of(grid, n), vendor, AcquisitionNumber=n)
    said = refusal(tmp_path / "in")
    assert "found 3 volumes in one series" in said and "volume=2: acquisition 2, magnitude, 7 slices" in said
    for n in (1, 2, 3):
        expect(tmp_path / "in", grid, values_of(grid, n), f"volume={n}")
        expect(tmp_path / "in", grid, values_of(grid, n), f"volume~acquisition {n}")
    (only,) = candidates(read_folder(tmp_path / "in", "P01").slices)
    expected = {"kind": "original", "slices": 7, "volumes": 3, "rows": 4, "columns": 6, "distance_mm": "3.300"}
    assert {key: only.row[key] for key in expected} == expected


def test_a_volume_whose_places_are_untold_shifts_no_number(tmp_path):
    grid = grid_of()
    for n in (1, 2, 3):
        changes = {"x00291010": None} if n == 1 else {}
        volume_file(tmp_path / f"in/{n}.dcm", grid, values_of(grid, n), AcquisitionNumber=n, **changes)
    assert "a volume of the series" in refusal(tmp_path / "in", "volume=1")


UNTOLD = {
    "no CSA header": ("SIEMENS", {"x00291010": None}, "no CSA header"),
    "CSA header of nobody": ("SIEMENS", {"x00290010": None}, "no CSA header"),
    "CSA header cut off": ("SIEMENS", {"x00291010": csa_header(NumberOfImagesInMosaic=[7])[:90]}, "cannot be read"),
    "no number": ("SIEMENS", {"NumberOfImagesInMosaic": None}, "lacks NumberOfImagesInMosaic"),
    "no normal": ("SIEMENS", {"SliceNormalVector": None}, "or SliceNormalVector"),
    "two numbers": ("SIEMENS", {"x0019100A": 8}, "say 7 slices, and 8"),
    "number of times": ("SIEMENS", {"MosaicRefAcqTimes": [1.0] * 6}, "say 7 slices, and 6"),
    "another normal": ("SIEMENS", {"SliceNormalVector": [0.6, 0, 0.8]}, "SliceNormalVector 0.6 0 0.8"),
    "no distance": ("SIEMENS", {"SpacingBetweenSlices": None}, "no SpacingBetweenSlices"),
    "distance of 0": ("SIEMENS", {"SpacingBetweenSlices": 0}, "no SpacingBetweenSlices"),
    "tiles that do not fit": ("SIEMENS", {"Rows": 13}, "7 slices, 3 × 3, do not fit into 18 × 13 pixels"),
    "no number of frames": ("UIH", {"x00651050": None}, "lacks the number"),
    "no frames": ("UIH", {"x00651051": None}, "or the positions"),
    "more frames": ("UIH", {"x00651050": "8"}, "say 8 slices, and have the positions of 7"),
    "a frame without a position": ("UIH", {"x00651051": Sequence([pydicom.Dataset()] * 7)}, "have the positions of 0"),
    "two positions": ("UIH", {"ImagePositionPatient": [0, 0, 0]}, "not that of its first slice"),
    "frames that do not fit": ("UIH", {"Columns": 17}, "7 slices, 3 × 3, do not fit into 17 × 12 pixels"),
    "two vendors": ("UIH", {"ImageType": ["ORIGINAL", "PRIMARY", "M", "MOSAIC", "VFRAME"]}, "both MOSAIC and VFRAME"),
}


@pytest.mark.parametrize("case", UNTOLD)
def test_nothing_is_guessed(tmp_path, case):
    vendor, changes, words = UNTOLD[case]
    grid = grid_of()
    volume_file(tmp_path / "in/1.dcm", grid, values_of(grid), vendor, **changes)
    said = refusal(tmp_path / "in", allow=["derived"])
    assert words in said and "is a mosaic" in said and "export it again" in said


def test_a_mosaic_without_the_second_count_is_read(tmp_path):
    grid = grid_of()
    volume_file(tmp_path / "in/1.dcm", grid, values_of(grid), x0019100A=None, MosaicRefAcqTimes=None)
    expect(tmp_path / "in", grid, values_of(grid))


REAL = Path(nibabel.__file__).parent / "nicom/tests/data"


@pytest.mark.parametrize(("name", "n", "b_value"), [("siemens_dwi_0", 1, "b 0"), ("siemens_dwi_1000", 2, "b 1000")])
def test_a_real_mosaic_lies_where_its_protocol_says(tmp_path, name, n, b_value):
    for one in ("siemens_dwi_0", "siemens_dwi_1000"):
        (tmp_path / f"{one}.dcm").write_bytes(gzip.decompress((REAL / f"{one}.dcm.gz").read_bytes()))
    values, grid, sidecar = read(tmp_path, f"volume={n}")
    assert sidecar["volume"].startswith(f"{b_value} s/mm²") and grid.size == (128, 128, 48)
    header = pydicom.dcmread(tmp_path / f"{name}.dcm")
    # Another witness than the CSA header of the image: the centre of every slice, as it was planned.
    protocol = csareader.get_csa_header(header, "series")["tags"]["MrPhoenixProtocol"]["items"][0]
    for k in range(48):
        planned = [
            float(line.split("=")[1])
            for axis in ("dCor", "dTra")
            for line in protocol.splitlines()
            if line.startswith(f"sSliceArray.asSlice[{k}].sPosition.{axis} ")
        ]
        # Siemens' centre is the corner of the four voxels in the middle, as voxels are counted from 0.
        np.testing.assert_allclose(grid.to_world([64, 64, k]), [0.0, *planned], atol=1e-3)
    picture = header.pixel_array
    np.testing.assert_array_equal(values[:, :, 47], picture[6 * 128 : 7 * 128, 5 * 128 : 6 * 128].T)
