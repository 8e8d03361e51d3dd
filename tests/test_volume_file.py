"""The door for files of volumes, against nibabel's and SimpleITK's own readers, and against damage."""

import bz2
import gzip
import re
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from fuzzed import cases
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from cohortmorph import UserError
from cohortmorph.clinic.image_file import read_file
from cohortmorph.spatial import displacement, labels, volume_file
from cohortmorph.spatial.geometry import Grid, read_grid, read_image, to_array, to_image

SIZE = (6, 5, 4)
VALUES = np.arange(120).reshape(SIZE).astype(np.int16) - 30
RAS = np.array([[-2.0, 0, 0, 30], [0, -2.0, 0, 30], [0, 0, 3.0, 10], [0, 0, 0, 1]])
GRID = Grid(SIZE, (2.0, 2.0, 3.0), (-30.0, -30.0, 10.0))
SUFFIXES = (".nii", ".nii.gz", ".mha", ".mhd", ".nrrd", ".nhdr")
OBLIQUE = Rotation.from_euler("xyz", [20, -35, 50], degrees=True).as_matrix()


def nifti(path, values=VALUES, sform=RAS, qform=None, **header):
    """Write a NIfTI with this sform (code 2) and qform (code 1), or without (None), and these fields."""
    image = nib.Nifti1Image(values, RAS)
    image.header.set_xyzt_units("mm")
    image.set_qform(RAS if qform is None else qform, 0 if qform is None else 1)
    image.set_sform(sform, 0 if sform is None else 2)
    image.header["vox_offset"], image.header["magic"] = 352, b"n+1"
    for key, value in header.items():
        image.header[key] = value
    data = image.header.binaryblock + b"\0\0\0\0" + np.asarray(values).tobytes(order="F")
    Path(path).write_bytes(gzip.compress(data) if str(path).endswith(".gz") else data)
    return path


def moved(x_mm):
    affine = RAS.copy()
    affine[0, 3] += x_mm
    return affine


def values_of(path, **how):
    return to_array(volume_file.read(path, **how)[0])


def refused(path, words, **how):
    with pytest.raises(UserError, match=words):
        volume_file.read(path, **how)


# ---- the named file


def test_exactly_the_named_file_is_read(tmp_path):
    nifti(tmp_path / "a.nii.gz")
    nifti(tmp_path / "a.nii", VALUES + 500)
    for suffix in (".hdr", ".img"):
        (tmp_path / f"a{suffix}").write_bytes((tmp_path / "a.nii").read_bytes())
    np.testing.assert_array_equal(values_of(tmp_path / "a.nii.gz"), VALUES)
    np.testing.assert_array_equal(values_of(tmp_path / "a.nii"), VALUES + 500)
    assert (to_array(sitk.ReadImage(tmp_path / "a.nii.gz")) == VALUES + 500).all()  # what is kept out


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_suffix_may_be_spelled_in_capitals(suffix, tmp_path):
    sitk.WriteImage(to_image(VALUES, GRID), tmp_path / f"a{suffix}")
    shutil.move(tmp_path / f"a{suffix}", tmp_path / f"A{suffix.upper()}")
    image, _ = volume_file.read(tmp_path / f"A{suffix.upper()}")
    np.testing.assert_array_equal(to_array(image), VALUES)
    assert Grid.of(image) == GRID == read_grid(tmp_path / f"A{suffix.upper()}")


def test_compression_is_told_by_the_content(tmp_path):
    nifti(tmp_path / "a.nii")
    nifti(tmp_path / "b.nii.gz")
    (tmp_path / "a.nii").rename(tmp_path / "plain.nii.gz")
    (tmp_path / "b.nii.gz").rename(tmp_path / "packed.nii")
    raw = gzip.decompress((tmp_path / "packed.nii").read_bytes())
    (tmp_path / "parts.nii.gz").write_bytes(gzip.compress(raw[:400]) + gzip.compress(raw[400:]) + b"\0" * 512)
    for name in ("plain.nii.gz", "packed.nii", "parts.nii.gz"):
        np.testing.assert_array_equal(values_of(tmp_path / name), VALUES)


# ---- whole


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_file_that_is_not_whole_is_refused(suffix, compressed, tmp_path):
    path = tmp_path / f"a{suffix}"
    sitk.WriteImage(to_image(VALUES, GRID), path, compressed)
    np.testing.assert_array_equal(values_of(path), VALUES)
    (voxels,) = [file for file in tmp_path.iterdir() if file != path] or [path]
    whole = voxels.read_bytes()
    for length in (0, 3, len(whole) // 4, len(whole) // 2, len(whole) - 1):
        voxels.write_bytes(whole[:length])
        refused(path, r"a\.\S+: (the file is|the compressed|not readable|the NIfTI header)")
    voxels.write_bytes(whole + b"\x01" * 40)
    refused(path, "damaged")
    if voxels != path:
        voxels.unlink()
        refused(path, "is not there")
    path.unlink()
    refused(path, "not readable as a file")


def test_a_label_map_and_a_mask_that_were_cut_off_are_refused_as_an_image_is(tmp_path):
    path = tmp_path / "l.nii.gz"
    nifti(path, np.zeros((32, 32, 24), np.uint8))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(UserError, match="cut off"):
        labels.read(path)
    with pytest.raises(UserError, match="cut off"):
        read_image(path)
    displacement.write_failed(GRID, tmp_path / "u.nii.gz")
    (tmp_path / "u.nii.gz").write_bytes((tmp_path / "u.nii.gz").read_bytes()[:-9])
    with pytest.raises(UserError, match="cut off"):
        displacement.read(tmp_path / "u.nii.gz", GRID)


def test_what_is_no_image_is_told_so(tmp_path):
    for name, content in (("a.nii.gz", b"<html>not found</html>"), ("b.nrrd", b"DICM" * 90), ("c.mha", b"NDims = 3\n")):
        (tmp_path / name).write_bytes(content)
        refused(tmp_path / name, "not readable as an image|cut off within its header")


# ---- one value a voxel, one volume


@pytest.mark.parametrize("components", [2, 3, 4])
@pytest.mark.parametrize("suffix", [".nii.gz", ".mha", ".nrrd"])
def test_several_values_a_voxel_are_refused(components, suffix, tmp_path):
    image = to_image(np.stack([VALUES] * components, axis=-1), GRID)
    sitk.WriteImage(image, tmp_path / f"a{suffix}")
    refused(tmp_path / f"a{suffix}", f"found {components} values at each voxel")
    volume_file.refuse_damaged(tmp_path / f"a{suffix}")


@pytest.mark.parametrize(("code", "bits", "words"), [(128, 24, "RGB"), (2304, 32, "RGB"), (32, 64, "complex64")])
def test_colours_and_complex_numbers_of_nifti_are_refused_in_words(code, bits, words, tmp_path):
    nifti(tmp_path / "a.nii", np.zeros((6, 5, 4, bits // 8), np.uint8), datatype=code, bitpix=bits)
    refused(tmp_path / "a.nii", words)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".mha", ".mhd", ".nrrd", ".nhdr"])
def test_one_volume_is_taken_in_every_format(suffix, tmp_path):
    sitk.WriteImage(sitk.JoinSeries([to_image(VALUES, GRID)]), tmp_path / f"a{suffix}")
    image, _ = volume_file.read(tmp_path / f"a{suffix}")
    np.testing.assert_array_equal(to_array(image), VALUES)
    assert Grid.of(image) == GRID


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".mha", ".mhd", ".nrrd", ".nhdr"])
def test_a_volume_is_chosen(suffix, tmp_path):
    path = str(tmp_path / f"a{suffix}")
    sitk.WriteImage(sitk.JoinSeries([to_image(VALUES + n, GRID) for n in (0, 100, 200)]), path)
    refused(path, r"found 4 dimensions, 3 volumes.*volume=3")
    for n in (1, 2, 3):
        image, sidecar = read_file(path, "A", series=f"volume={n}")
        np.testing.assert_array_equal(to_array(image), VALUES + 100 * (n - 1))
        assert Grid.of(image) == GRID and sidecar["volume"] == f"{n} of 3"
    for wrong, words in (("volume=4", "the file has 3"), ("volume=0", "the file has 3"), ("3", "expected `volume=1`")):
        with pytest.raises(UserError, match=words):
            read_file(path, "A", series=wrong)


# ---- values


@pytest.mark.parametrize(
    ("slope", "intercept", "expected"),
    [
        (0, -1024, VALUES),
        (np.nan, 5, VALUES),
        (1, 0, VALUES),
        (2, -1024, VALUES * 2.0 - 1024),
        (0.5, 0, VALUES * 0.5),
        (-1, 3, 3.0 - VALUES),
    ],
)
def test_scale_factors_are_those_of_the_standard(slope, intercept, expected, tmp_path):
    nifti(tmp_path / "a.nii", scl_slope=slope, scl_inter=intercept)
    np.testing.assert_array_equal(values_of(tmp_path / "a.nii"), expected)


@pytest.mark.parametrize(("slope", "intercept"), [(2, np.nan), (np.inf, 0), (-np.inf, 0), (1, np.inf)])
def test_scale_factors_that_are_no_numbers_are_refused(slope, intercept, tmp_path):
    refused(nifti(tmp_path / "a.nii", scl_slope=slope, scl_inter=intercept), "scale factors")


@pytest.mark.parametrize("name", ["A.NII.GZ", "a.nii", "A.Nii", "a.nii.gz"])
@pytest.mark.parametrize("value", [np.nan, -np.inf])
def test_values_that_are_not_finite_are_refused_whatever_the_suffix(name, value, tmp_path):
    values = VALUES.astype(np.float32)
    values[1, 2, 3] = value
    nifti(tmp_path / "x.nii", values, datatype=16, bitpix=32)
    shutil.move(tmp_path / "x.nii", tmp_path / name)
    with pytest.raises(UserError, match="P1: 1 of 120 voxels are not finite"):
        read_file(str(tmp_path / name), "P1")


# ---- one place


@pytest.mark.parametrize(("form", "x_mm"), [("sform", 20.0), ("qform", 0.0)])
def test_forms_that_disagree_are_refused_with_the_distance(form, x_mm, tmp_path):
    """The lower half is what is right by hand: RAS x grows by 20 mm, so LPS x falls by as much."""
    path = nifti(tmp_path / "a.nii.gz", sform=moved(20), qform=RAS)
    refused(path, r"sform and qform put a corner of the image up to 20\.00 mm apart.*column `geometry`")
    image, sidecar = read_file(str(path), "A", form=form)
    assert image.GetOrigin() == pytest.approx((-30 - x_mm, -30, 10))
    assert sidecar["geometry_taken"] == f"{form}, as the cohort table says"
    np.testing.assert_array_equal(to_array(image), VALUES)
    with pytest.raises(UserError, match="A: sform and qform"):
        read_file(str(path), "A")


def test_a_chosen_qform_holds_though_itk_prefers_a_sform_of_code_1(tmp_path):
    path = nifti(tmp_path / "a.nii", sform=moved(20), qform=RAS, sform_code=1)
    assert sitk.ReadImage(path).GetOrigin() == pytest.approx((-50, -30, 10))
    assert volume_file.read(path, form="qform")[0].GetOrigin() == pytest.approx((-30, -30, 10))


@pytest.mark.parametrize(("apart_mm", "fine"), [(0.0, True), (0.15, True), (0.25, False), (1.0, False)])
def test_forms_may_differ_by_a_tenth_of_a_voxel(apart_mm, fine, tmp_path):
    path = nifti(tmp_path / "a.nii", sform=moved(apart_mm), qform=RAS)
    if fine:
        assert volume_file.read(path)[1].place == "sform and qform agree"
    else:
        refused(path, f"{apart_mm:.2f} mm apart")


def test_mirrored_and_turned_forms_are_refused(tmp_path):
    mirrored = RAS @ np.diag([-1, 1, 1, 1])
    refused(nifti(tmp_path / "a.nii", sform=RAS, qform=mirrored), "20.00 mm apart")
    turned = RAS.copy()
    turned[:3, :3] = OBLIQUE @ RAS[:3, :3]
    refused(nifti(tmp_path / "b.nii", sform=turned, qform=RAS), "mm apart")


def test_a_quaternion_that_lost_its_digits_is_no_contradiction(tmp_path):
    """About half a turn the quaternion's first part is what 32 bits leave of 1 - b² - c² - d²: it is off by 3e-4."""
    for angle in (180 - 0.03, 180 - 0.015, 180.0):
        affine = np.eye(4)
        affine[:3, :3] = Rotation.from_euler("z", angle, degrees=True).as_matrix() * 0.7
        path = nifti(tmp_path / "a.nii", np.zeros((400, 400, 2), np.uint8), sform=affine, qform=affine)
        assert volume_file.read(path)[1].place == "sform and qform agree"


def test_a_sform_that_contradicts_the_voxel_sizes(tmp_path):
    wide = RAS @ np.diag([1.5, 1, 1, 1])
    path = nifti(tmp_path / "a.nii", sform=wide)
    refused(path, r"3 × 2 × 3 mm by the sform, 2 × 2 × 3 mm by pixdim; a corner would lie up to 5\.00 mm")
    image, header = volume_file.read(path, form="sform")
    assert image.GetSpacing() == (3.0, 2.0, 3.0) and header.place == "sform, as the cohort table says"
    refused(path, "has no qform", form="qform")
    both = nifti(tmp_path / "b.nii", sform=wide, qform=RAS)
    refused(both, r"5\.00 mm apart")
    assert volume_file.read(both, form="qform")[0].GetSpacing() == (2.0, 2.0, 3.0)


@pytest.mark.parametrize("pixdim", [[1, -2, 2, 3], [1, 2, 2, 0], [1, np.nan, 2, 3], [1, -2, -2, -3]])
def test_voxel_sizes_that_are_none_are_refused(pixdim, tmp_path):
    path = nifti(tmp_path / "a.nii", sform=RAS, pixdim=[*pixdim, 0, 0, 0, 0])
    refused(path, "pixdim")
    assert volume_file.read(path, form="sform")[0].GetSpacing() == (2.0, 2.0, 3.0)
    path = nifti(tmp_path / "b.nii", sform=None, qform=RAS, pixdim=[*pixdim, 0, 0, 0, 0])
    refused(path, "pixdim|qform is none")


def test_qfac_0_is_1(tmp_path):
    path = nifti(tmp_path / "a.nii", sform=None, qform=RAS @ np.diag([-1, 1, 1, 1]))
    right = volume_file.read(path)[0].GetDirection()
    raw = bytearray(Path(path).read_bytes())
    header = nib.Nifti1Header(bytes(raw[:348]), check=False)
    header["pixdim"][0] = 0
    (tmp_path / "b.nii").write_bytes(header.binaryblock + bytes(raw[348:]))
    found = volume_file.read(tmp_path / "b.nii")[0].GetDirection()
    assert found == sitk.ReadImage(tmp_path / "b.nii").GetDirection() and right is not None


def test_sheared_axes_are_refused(tmp_path):
    shear = RAS.copy()
    shear[1, 2] = 0.8  # 4 slices: 2.4 mm along y at the last one
    path = nifti(tmp_path / "a.nii", sform=shear, pixdim=[1, *np.linalg.norm(shear[:3, :3], axis=0), 0, 0, 0, 0])
    refused(path, r"the sform's axes are not at right angles: a corner lies \d\.\d\d mm off")
    refused(path, "right angles", form="sform")
    axes = np.eye(3)
    axes[1, 2] = 0.3
    image = to_image(VALUES, GRID)
    image.SetDirection((axes / np.linalg.norm(axes, axis=0)).ravel().tolist())
    for suffix in (".mha", ".nrrd"):
        sitk.WriteImage(image, tmp_path / f"b{suffix}")
        refused(tmp_path / f"b{suffix}", "not at right angles")


@pytest.mark.parametrize(
    ("key", "damaged", "said"),
    [
        ("TransformMatrix", "0 0 0 0 1 0 0 0 1", "which are no directions"),
        ("TransformMatrix", "1e300 0 0 0 1 0 0 0 1", "not at right angles"),
        ("ElementDataFile", "a\0.raw", "the voxels that its header names is not there"),
    ],
)
def test_a_damaged_header_of_a_metaimage_is_refused_in_words(key, damaged, said, tmp_path):
    sitk.WriteImage(to_image(VALUES, GRID), tmp_path / "a.mhd")
    text = re.sub(f"{key} = .*", lambda _: f"{key} = {damaged}", (tmp_path / "a.mhd").read_text())
    (tmp_path / "a.mhd").write_text(text)
    refused(tmp_path / "a.mhd", said)


def test_a_file_without_a_place_is_refused(tmp_path):
    refused(nifti(tmp_path / "a.nii", sform=None), "no sform or qform .*which side is left")


def test_the_column_geometry_is_for_nifti(tmp_path):
    sitk.WriteImage(to_image(VALUES, GRID), tmp_path / "a.mha")
    refused(tmp_path / "a.mha", "only NIfTI", form="sform")


def test_another_format_that_itk_reads_is_read_by_it(tmp_path):
    """As CONTRIBUTING.md says: a suffix more is all that it takes."""
    sitk.WriteImage(to_image(VALUES, GRID), tmp_path / "a.gipl")
    np.testing.assert_array_equal(values_of(tmp_path / "a.gipl"), VALUES)
    assert read_grid(tmp_path / "a.gipl").size == SIZE
    whole = (tmp_path / "a.gipl").read_bytes()
    (tmp_path / "a.gipl").write_bytes(whole[:100])
    refused(tmp_path / "a.gipl", "not readable as an image")


# ---- text headers


def nrrd(path, body, *lines, detached=""):
    head = ["NRRD0004", "type: short", "dimension: 3", "space: right-anterior-superior", "sizes: 6 5 4",
            "space directions: (-2,0,0) (0,-2,0) (0,0,3)", "space origin: (30,30,10)", *lines]  # fmt: skip
    path.write_bytes(
        "\n".join([*head, *([detached] if detached else []), "", ""]).encode() + (b"" if detached else body)
    )
    return path


RAW = VALUES.tobytes(order="F")
TEXT = " ".join(map(str, VALUES.ravel(order="F"))).encode()


@pytest.mark.parametrize(
    ("body", "lines"),
    [
        (RAW, ["encoding: raw", "endian: little"]),
        (VALUES.astype(">i2").tobytes(order="F"), ["encoding: raw", "endian: big"]),
        (gzip.compress(RAW), ["encoding: gz", "endian: little"]),
        (bz2.compress(RAW), ["encoding: bzip2", "endian: little"]),
        (TEXT, ["encoding: ascii"]),
        (RAW.hex().encode(), ["encoding: hex", "endian: little"]),
        (b"junk" + RAW, ["encoding: raw", "endian: little", "byte skip: 4"]),
        (b"junk" + RAW, ["encoding: raw", "endian: little", "byte skip: -1"]),
        (b"a line\n" + RAW, ["encoding: raw", "endian: little", "line skip: 1"]),
    ],
)
def test_every_encoding_of_nrrd_gives_what_itk_gives_and_is_counted(body, lines, tmp_path):
    for path in (
        nrrd(tmp_path / "a.nrrd", body, *lines),
        nrrd(tmp_path / "b.nhdr", body, *lines, detached="data file: ./b.data"),
    ):
        (tmp_path / "b.data").write_bytes(body)
        image, _ = volume_file.read(path)
        np.testing.assert_array_equal(to_array(image), VALUES)
        assert Grid.of(image) == GRID
        if "hex" not in lines[0] and "bzip2" not in lines[0]:
            np.testing.assert_array_equal(to_array(sitk.ReadImage(path)), VALUES)
    nrrd(tmp_path / "a.nrrd", body[: len(body) - 9], *lines)
    refused(tmp_path / "a.nrrd", "cut off|hexadecimal|damaged")


@pytest.mark.parametrize("line", ["data file: s%02d.raw 1 4 1", "data file: LIST\ns01.raw\ns02.raw\ns03.raw\ns04.raw"])
def test_voxels_in_a_file_a_slice_are_all_there_or_refused(line, tmp_path):
    for k in range(4):
        (tmp_path / f"s{k + 1:02d}.raw").write_bytes(VALUES[:, :, k].tobytes(order="F"))
    path = tmp_path / "a.nhdr"
    nrrd(path, b"", "encoding: raw", "endian: little", detached=line)
    if "LIST" in line:
        path.write_text(path.read_text().rstrip("\n") + "\n")
    np.testing.assert_array_equal(values_of(path), VALUES)
    sitk.WriteImage(to_image(VALUES, GRID), tmp_path / "b.mhd")
    text = (tmp_path / "b.mhd").read_text().rsplit("ElementDataFile", 1)[0]
    where = line.split(": ", 1)[1]
    (tmp_path / "b.mhd").write_text(f"{text}ElementDataFile = {where}\n")
    np.testing.assert_array_equal(values_of(tmp_path / "b.mhd"), VALUES)
    (tmp_path / "s03.raw").write_bytes(b"\0" * 10)
    for name in (path, tmp_path / "b.mhd"):
        refused(name, "cut off")


def test_a_metaimage_in_text_or_of_the_other_byte_order(tmp_path):
    sitk.WriteImage(to_image(VALUES, GRID), tmp_path / "a.mha")
    head = (tmp_path / "a.mha").read_bytes().split(b"LOCAL\n")[0] + b"LOCAL\n"
    (tmp_path / "b.mha").write_bytes(head.replace(b"BinaryData = True", b"BinaryData = False") + TEXT)
    big = head.replace(b"ByteOrderMSB = False", b"ByteOrderMSB = True")
    (tmp_path / "c.mha").write_bytes(big + VALUES.astype(">i2").tobytes(order="F"))
    for name in ("b.mha", "c.mha"):
        np.testing.assert_array_equal(values_of(tmp_path / name), VALUES)
    np.testing.assert_array_equal(to_array(sitk.ReadImage(tmp_path / "c.mha")), VALUES)


# ---- whatever is thrown at it

KINDS = ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float32", "float64")


@st.composite
def images(draw):
    """Draw a valid image: values [i, j, k], grid, and a generator for the rest."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    size = tuple(draw(st.integers(1, 7)) for _ in range(3))
    kind = np.dtype(draw(st.sampled_from(KINDS)))
    values = rng.normal(0, 1000, size)
    if kind.kind != "f":
        values = np.clip(np.rint(values), np.iinfo(kind).min // 2, np.iinfo(kind).max // 2)
    axes = OBLIQUE if draw(st.booleans()) else np.eye(3)
    axes = axes[:, rng.permutation(3)] * rng.choice([-1, 1], 3)
    grid = Grid(size, tuple(rng.uniform(0.2, 6, 3)), tuple(rng.normal(0, 300, 3)), tuple(axes.ravel()))
    return values.astype(kind), grid, rng


def save_nifti(values, grid, rng, path):
    """Save with nibabel, in either byte order, scaled or not, with a sform, a qform or both."""
    affine = np.eye(4)
    affine[:3] = np.column_stack([grid.steps_mm, grid.origin_mm])
    affine = np.diag([-1, -1, 1, 1]) @ affine
    image = nib.Nifti1Image(values, affine, nib.Nifti1Header(endianness=rng.choice(["<", ">"])))
    image.set_data_dtype(values.dtype)
    forms = rng.choice([[1, 0], [0, 1], [1, 1]])
    image.set_sform(affine, int(rng.integers(1, 5) * forms[0]))
    image.set_qform(affine, int(rng.integers(1, 5) * forms[1]))
    if rng.random() < 0.4 and values.dtype.itemsize < 8:
        image.header.set_slope_inter(float(rng.uniform(0.1, 3)), float(rng.normal(0, 50)))
    nib.save(image, path)


@given(images(), st.sampled_from(SUFFIXES), st.booleans())
@cases(150)
def test_valid_images_are_what_nibabel_and_simpleitk_agree_on(tmp_path_factory, image, suffix, compressed):
    values, grid, rng = image
    path = tmp_path_factory.mktemp("fuzz") / f"a{suffix}"
    if suffix.startswith(".nii"):
        save_nifti(values, grid, rng, path)
    else:
        sitk.WriteImage(to_image(values, grid), path, compressed)
    found, header = volume_file.read(path, sitk.sitkFloat64)
    if suffix.startswith(".nii"):
        theirs = nib.load(path)
        np.testing.assert_array_equal(to_array(found), theirs.get_fdata())
        ras = theirs.affine @ [*(np.array(grid.size) - 1), 1]
        np.testing.assert_allclose(Grid.of(found).to_world(np.array(grid.size) - 1), ras[:3] * [-1, -1, 1], atol=2e-3)
    # ITK scales in 32 bits.
    for pixels in (sitk.sitkFloat32, *([] if header.slope != 1 else [sitk.sitkFloat64])):
        found, itk = volume_file.read(path, pixels)[0], sitk.ReadImage(path, pixels)
        np.testing.assert_array_equal(to_array(found), to_array(itk))
        assert Grid.of(found) == Grid.of(itk) == read_grid(path)


def damaged(data, rng, how):
    """Return the bytes cut off, with a bit flipped, with a block zeroed, or longer."""
    data = bytearray(data)
    at = int(rng.integers(len(data)))
    if how == "cut":
        return bytes(data[:at])
    if how == "flip":
        data[at] ^= 1 << int(rng.integers(8))
    if how == "zero":
        data[at : at + 64] = bytes(len(data[at : at + 64]))
    return bytes(data) + (b"\x07" * 16 if how == "longer" else b"")


@given(images(), st.sampled_from(SUFFIXES), st.sampled_from(["cut", "flip", "zero", "longer"]))
@cases(300)
def test_damage_of_what_is_compressed_is_refused_or_changes_nothing(tmp_path_factory, image, suffix, how):
    """Of .mha, .mhd and NRRD the voxels are compressed, of NIfTI (.nii.gz) all of it."""
    values, grid, rng = image
    path = tmp_path_factory.mktemp("fuzz") / f"a{suffix if suffix != '.nii' else '.nii.gz'}"
    if suffix.startswith(".nii"):
        save_nifti(values, grid, rng, path)
    else:
        sitk.WriteImage(to_image(values, grid), path, True)
    whole, _ = volume_file.read(path, sitk.sitkFloat64)
    (file,) = [other for other in path.parent.iterdir() if other != path] or [path]
    data, start = file.read_bytes(), 0
    if suffix in (".mha", ".nrrd"):
        start = data.index(b"LOCAL\n") + 6 if suffix == ".mha" else data.index(b"\n\n") + 2
    file.write_bytes(data[:start] + damaged(data[start:], rng, how))
    try:
        found, _ = volume_file.read(path, sitk.sitkFloat64)
    except UserError:
        return
    np.testing.assert_array_equal(to_array(found), to_array(whole))
    assert Grid.of(found) == Grid.of(whole)


# What stands once in a header and may be anything cannot be proved: names, scale factors, units, intents.
SAID_TWICE = {"sizeof_hdr", "dim", "datatype", "bitpix", "pixdim", "vox_offset", "magic", "srow_x", "srow_y", "srow_z"}


@given(images(), st.integers(0, 2**32))
@cases(300)
def test_a_bit_of_a_nifti_header_is_refused_or_moves_nothing(tmp_path_factory, image, seed):
    """Of a file that is not compressed, with both forms: all that says how many voxels there are, and where."""
    values, grid, _ = image
    grid = Grid(tuple(n + 1 for n in grid.size), grid.spacing_mm, grid.origin_mm, grid.direction)
    values = np.resize(values, grid.size)
    path = tmp_path_factory.mktemp("fuzz") / "a.nii"
    sitk.WriteImage(to_image(values, grid), path)
    whole, _ = volume_file.read(path, sitk.sitkFloat64)
    data, rng = bytearray(path.read_bytes()), np.random.default_rng(seed)
    dtype = nib.Nifti1Header.template_dtype
    field = str(rng.choice(sorted(SAID_TWICE)))
    data[dtype.fields[field][1] + int(rng.integers(dtype[field].itemsize))] ^= 1 << int(rng.integers(8))
    path.write_bytes(data)
    try:
        found, _ = volume_file.read(path, sitk.sitkFloat64)
    except UserError:
        return
    corners = [[0, 0, 0], np.array(grid.size) - 1]
    moved_mm = np.linalg.norm(Grid.of(found).to_world(corners) - Grid.of(whole).to_world(corners), axis=1).max()
    assert Grid.of(found).size == grid.size and moved_mm <= 0.1 * min(grid.spacing_mm) + 5e-3
    if values.dtype.itemsize < 8 or values.min() >= 0:  # one bit makes int64 of uint64
        np.testing.assert_array_equal(to_array(found), to_array(whole))
