"""The door for files of volumes (NIfTI, MetaImage, NRRD): exactly the named file, whole, one value a voxel, one place.

The bytes are read here, once, and proved to be as many as the header announces; checksums of compressed data are
compared. ITK gets to see the header alone, and says which grid it means: its readers take a file of a similar name for
the named one, fill what is missing with zeros, and mix several values at a voxel into one.
"""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from isal import isal_zlib

from cohortmorph import UserError
from cohortmorph.run.files import StrPath
from cohortmorph.spatial import nifti, text_headers
from cohortmorph.spatial.nifti import at_right_angles, corners_apart_mm
from cohortmorph.spatial.text_headers import CUT

OURS = (".nii", ".nii.gz", ".mha", ".mhd", ".nrrd", ".nhdr", ".hdr", ".img")  # the last two: what is never read
GZIP = b"\x1f\x8b"
HEADER_BYTES = 2**20  # enough for every header: segmentations and diffusion images have long ones
_NAMES = ("Int8", "UInt8", "Int16", "UInt16", "Int32", "UInt32", "Int64", "UInt64", "Float32", "Float64")
DTYPES = {getattr(sitk, f"sitk{kind}{name}"): np.dtype(name.lower()) for kind in ("", "Vector") for name in _NAMES}


@dataclass(frozen=True)
class Header:
    """What a file says of its volume.

    Attributes
    ----------
    size : tuple of int
        Voxels along i, j, k.
    spacing_mm, origin_mm, direction : tuple of float
        As :class:`cohortmorph.spatial.geometry.Grid` has them, LPS.
    volumes, components : int
        How many volumes there are, and values at each voxel.
    place : str
        Of NIfTI: by what it is known where the volume lies, in words; else "".
    stored : Layout or TextHeader
        Where the voxels are; None: of another format, which ITK reads.
    dtype : dtype
        Of the values as stored.
    slope, intercept : float
        The scale factors of the values; 1 and 0 if there are none.
    """

    size: tuple[int, ...]
    spacing_mm: tuple[float, ...]
    origin_mm: tuple[float, ...]
    direction: tuple[float, ...]
    volumes: int
    components: int
    place: str
    stored: nifti.Layout | text_headers.TextHeader | None
    dtype: np.dtype
    slope: float = 1.0
    intercept: float = 0.0


def read(
    path: StrPath,
    pixel_type: int | None = sitk.sitkFloat32,
    form: str = "",
    volume: int | None = None,
    name: str | None = None,
    components: int = 1,
) -> tuple[sitk.Image, Header]:
    """Read a volume.

    Parameters
    ----------
    path : str or Path
    pixel_type : SimpleITK pixel type, optional
        Of a component; None: as stored, in 64 bits if there are scale factors.
    form : str
        ``sform`` or ``qform``: which of a NIfTI file's places holds; "": they must agree.
    volume : int, optional
        Which volume, from 1, of a file with several.
    name : str, optional
        How messages call the file; its path if left out.
    components : int
        How many values there are at each voxel.

    Returns
    -------
    image : SimpleITK image
    header : Header

    Raises
    ------
    UserError
        If the file is damaged, ambiguous or holds something else.
    """
    name = str(path) if name is None else name
    if not _is_ours(path):
        return _read_with_itk(path, pixel_type, form, volume, name, components)
    data = _bytes(path, name)
    header = describe(data[:HEADER_BYTES], form, name)
    _refuse_others(header, volume, components, name)
    flat = _values(header, Path(path), data, name)
    values = _arranged(flat, header, volume)
    if (header.slope, header.intercept) != (1, 0):
        values = values.astype(np.float64) * header.slope + header.intercept
    if values.dtype.itemsize == 8 or not values.dtype.isnative:
        values = values.astype(values.dtype.newbyteorder("=") if pixel_type is None else DTYPES[pixel_type])
    image = sitk.GetImageFromArray(np.ascontiguousarray(values), isVector=components > 1)
    if pixel_type is not None and DTYPES[image.GetPixelID()] != DTYPES[pixel_type]:
        image = sitk.Cast(image, pixel_type)  # on all processors, and no copy more than in numpy
    image.SetSpacing(header.spacing_mm)
    image.SetOrigin(header.origin_mm)
    image.SetDirection(header.direction)
    return image, header


def read_header(path: StrPath, form: str = "", name: str | None = None) -> Header:
    """Read what a file says of its volume, without the voxels."""
    name = str(path) if name is None else name
    if not _is_ours(path):
        return _read_with_itk(path, None, form, None, name, None)[1]
    return describe(_bytes(path, name, HEADER_BYTES), form, name)


def refuse_damaged(path: StrPath, name: str | None = None) -> None:
    """Refuse a file that is not whole, whatever number of values it has at each voxel."""
    name = str(path) if name is None else name
    if not _is_ours(path):
        _read_with_itk(path, None, "", None, name, None)
        return
    data = _bytes(path, name)
    _values(describe(data[:HEADER_BYTES], "", name), Path(path), data, name)


def describe(start: bytes, form: str, name: str) -> Header:
    """Return what a file that starts so says of its volume."""
    if nifti.is_nifti(start):
        header = nifti.read_header(start, name)
        layout = nifti.layout(header, name)
        for_itk, place = nifti.placed(header, form, name)
        said = _asked_of_itk(for_itk, ".nii", name)
        spacing_mm, origin_mm, direction = said.GetSpacing(), said.GetOrigin(), said.GetDirection()
        return Header(
            layout.size, spacing_mm, origin_mm, direction, layout.volumes, layout.components, place, layout,
            layout.dtype, layout.slope, layout.intercept,
        )  # fmt: skip
    if text_headers.is_nrrd(start):
        text = text_headers.read_nrrd(start, name)
    elif text_headers.is_metaimage(start):
        text = text_headers.read_metaimage(start, name)
    else:
        raise UserError(
            f"{name}: not readable as an image (NIfTI, MHA, NRRD): it begins as none of them. {CUT}, or convert it."
        )
    said = _asked_of_itk(text.for_itk, text.suffix, name)
    return _described(said, text, form, name)


def _described(said: sitk.ImageFileReader, stored: text_headers.TextHeader | None, form: str, name: str) -> Header:
    """Return ITK's reading of a header; None: it reads the voxels as well."""
    if form:
        raise UserError(f"{name}: found {form!r} in the column `geometry`, but only NIfTI has such a form. Empty it.")
    dtype = DTYPES.get(said.GetPixelID())
    if dtype is None:
        found = sitk.GetPixelIDValueAsString(said.GetPixelID())
        raise UserError(f"{name}: found voxels of type {found}; expected whole or real numbers of up to 64 bits.")
    size, spacing_mm, origin_mm, direction = _three(said, name)
    volumes = int(np.prod(said.GetSize()[3:]))
    return Header(size, spacing_mm, origin_mm, direction, volumes, said.GetNumberOfComponents(), "", stored, dtype)


def _is_ours(path: StrPath) -> bool:
    return str(path).lower().endswith(OURS)


def _read_with_itk(
    path: StrPath, pixel_type: int | None, form: str, volume: int | None, name: str, components: int | None
) -> tuple[sitk.Image, Header]:
    """Read a file of another format as far as ITK does: whether it is whole is for ITK to say."""
    reader = sitk.ImageFileReader()
    with tempfile.TemporaryDirectory() as folder:
        alone = Path(folder, f"volume{Path(path).suffix.lower()}")
        alone.symlink_to(Path(path).absolute())
        reader.SetFileName(str(alone))
        try:
            reader.ReadImageInformation()
            header = _described(reader, None, form, name)
            if components is not None:
                _refuse_others(header, volume, components, name)
            image = reader.Execute()
        except RuntimeError as error:
            said = str(error).strip().splitlines()[-1].replace(folder, "")
            raise UserError(f"{name}: not readable as an image: {said} {CUT}.") from None
    if components is not None and image.GetDimension() == 4:
        image = image[:, :, :, (volume or 1) - 1]
    return image if pixel_type is None else sitk.Cast(image, pixel_type), header


def _bytes(path: StrPath, name: str, most: int = -1) -> bytes:
    """Read the file, or (about) the first `most` bytes of what it holds; decompressed, if it is as a whole."""
    try:
        with Path(path).open("rb") as file:
            data = file.read(most)
    except OSError as error:
        raise UserError(f"{name}: not readable as a file: {error.strerror}. Correct its path or rights.") from None
    if not data:
        raise UserError(f"{name}: the file is empty (0 bytes). {CUT}.")
    if data[:2] != GZIP:
        return data
    if most < 0:
        return text_headers.inflate(data, name)
    try:
        return isal_zlib.decompressobj(31).decompress(data, most)
    except isal_zlib.error:  # type: ignore[misc] # its stubs take the class for a value
        raise UserError(f"{name}: the compressed data are damaged. {CUT}.") from None


def _asked_of_itk(header: bytes, suffix: str, name: str) -> sitk.ImageFileReader:
    """Return ITK's reading of a header: in a folder of its own, so that it finds no file beside it."""
    reader = sitk.ImageFileReader()
    with tempfile.TemporaryDirectory() as folder:
        alone = Path(folder, f"header{suffix}")
        alone.write_bytes(header)
        reader.SetFileName(str(alone))
        try:
            reader.ReadImageInformation()
        except RuntimeError as error:
            said = str(error).strip().splitlines()[-1].replace(folder, "")
            raise UserError(f"{name}: not readable as an image (NIfTI, MHA, NRRD): {said} {CUT}.") from None
    return reader


def _three(said: sitk.ImageFileReader, name: str) -> tuple[Any, ...]:
    """Return size, spacing, origin and direction of the first three axes, which must be at right angles."""
    n = said.GetDimension()
    if n < 3:
        raise UserError(f"{name}: found {n} dimensions; expected one value at each voxel of a 3-D grid.")
    matrix = np.array(said.GetDirection()).reshape(n, n)
    if np.abs(matrix[:3, 3:]).max(initial=0) > 1e-6 or np.abs(matrix[3:, :3]).max(initial=0) > 1e-6:
        raise UserError(f"{name}: found {n} dimensions whose axes are mixed; expected a 3-D grid, one file a volume.")
    size, spacing_mm, origin_mm = said.GetSize()[:3], said.GetSpacing()[:3], said.GetOrigin()[:3]
    if not (np.isfinite(matrix).all() and np.isfinite([*spacing_mm, *origin_mm]).all() and min(spacing_mm) > 0):
        raise UserError(f"{name}: voxels of {spacing_mm} mm at {origin_mm} mm; expected sizes above 0. Correct it.")
    affine = np.eye(4)
    affine[:3, :3] = matrix[:3, :3] * spacing_mm
    try:
        apart_mm = corners_apart_mm(size, affine, at_right_angles(affine))
    except np.linalg.LinAlgError:
        raise UserError(f"{name}: found axes {matrix[:3, :3].tolist()}, which are no directions. Correct it.") from None
    if not apart_mm <= nifti.TOLERANCE * min(spacing_mm):
        raise UserError(nifti.sheared(name, apart_mm, "the axes"))
    return size, spacing_mm, origin_mm, tuple(matrix[:3, :3].ravel().tolist())


def _refuse_others(header: Header, volume: int | None, components: int, name: str) -> None:
    """Refuse what is not one volume with so many values at each voxel."""
    if header.components != components:
        expected = "one value" if components == 1 else f"{components} values"
        raise UserError(
            f"{name}: found {header.components} values at each voxel (colours, a vector, layers, echoes); expected "
            f"{expected}. Split it into one file each, and name the one that is meant."
        )
    if header.volumes > 1 and volume is None:
        raise UserError(
            f"{name}: found 4 dimensions, {header.volumes} volumes; expected one. Choose it by `volume=1` to "
            f"`volume={header.volumes}` in the column `series` of an image, or split the file into one a volume."
        )
    if volume is not None and not 1 <= volume <= header.volumes:
        raise UserError(f"{name}: found `volume={volume}` in the column `series`, but the file has {header.volumes}.")


def _values(header: Header, path: Path, data: bytes, name: str) -> np.ndarray:
    """Return all values as stored, in the file's order."""
    count = int(np.prod(header.size)) * header.volumes * header.components
    if isinstance(header.stored, text_headers.TextHeader):
        return text_headers.voxels(header.stored, path, data, header.dtype, count, name)
    assert header.stored is not None
    found = max(len(data) - header.stored.offset, 0)
    text_headers.refuse_length(found, count * header.dtype.itemsize, "bytes of voxels", name)
    return np.frombuffer(data, header.dtype, count, header.stored.offset)


def _arranged(values: np.ndarray, header: Header, volume: int | None) -> np.ndarray:
    """Return the values of one volume as SimpleITK's arrays have them: [k, j, i] (and components last)."""
    shape = header.size[::-1]
    if header.components > 1 and isinstance(header.stored, nifti.Layout):  # components are the slowest axis
        return np.moveaxis(values.reshape(header.components, *shape), 0, -1)
    if header.components > 1:
        return values.reshape(*shape, header.components)
    return values.reshape(header.volumes, *shape)[(volume or 1) - 1]
