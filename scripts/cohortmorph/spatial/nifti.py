"""NIfTI headers: what voxels a file holds, and the one place in the world that it gives them.

A NIfTI file may say twice where it lies (sform and qform) and three times how large its voxels are (pixdim as well),
and programs differ in whom they believe: nibabel, FSL and FreeSurfer the sform, ITK the qform unless the sform's code
is 1. So a file that contradicts itself is refused, unless the user says which form is meant.
"""

from dataclasses import dataclass
from io import BytesIO
from itertools import product
from typing import Any

import nibabel
import numpy as np
from nibabel.spatialimages import HeaderDataError

from cohortmorph import UserError

FORMS = ("sform", "qform")
# How far the corners of one volume may lie apart by what its file says in two ways, in its smallest spacing. Real
# files differ by some hundredths, as programs round, and make axes orthogonal, in their own ways.
TOLERANCE = 0.1
CHOOSE = (
    "Say which one holds in the column `geometry` of the cohort table (sform or qform), after a look at the landmarks "
    "or labels in a viewer, or correct the header"
)


@dataclass(frozen=True)
class Layout:
    """What a NIfTI header says of the voxels behind it.

    Attributes
    ----------
    size : tuple of int
        Voxels along i, j, k.
    volumes, components : int
        How many volumes there are (dim[4]), and values at each voxel (dim[5]).
    dtype : dtype
        As stored, byte order included.
    offset : int
        Bytes before the first voxel.
    slope, intercept : float
        Of the values; 1 and 0 if none are meant.
    """

    size: tuple[int, ...]
    volumes: int
    components: int
    dtype: np.dtype
    offset: int
    slope: float
    intercept: float


def is_nifti(start: bytes) -> bool:
    """Say whether a file that starts so has a header of NIfTI-1 or -2."""
    return start[344:348] in (b"n+1\0", b"ni1\0") or _is_second(start)


def _is_second(start: bytes) -> bool:
    return start[4:12] in (b"n+2\0\r\n\x1a\n", b"ni2\0\r\n\x1a\n")


def read_header(start: bytes, name: str) -> Any:
    """Return nibabel's header of a file that starts so; one that cannot be is a UserError."""
    kind = nibabel.Nifti2Header if _is_second(start) else nibabel.Nifti1Header
    try:
        header = kind.from_fileobj(BytesIO(start), check=False)
    except (HeaderDataError, ValueError, OSError):
        raise UserError(f"{name}: the file is cut off within its header. Copy or export it again.") from None
    if bytes(header["magic"])[:2] == b"ni":
        raise UserError(
            f"{name}: found a header whose voxels are in another file (.img); expected one file: convert it."
        )
    least = header.single_vox_offset
    rank, offset = int(header["dim"][0]), float(header["vox_offset"])
    sound = header["sizeof_hdr"] == kind.sizeof_hdr and 1 <= rank <= 7 and (header["dim"][1 : rank + 1] > 0).all()
    if not sound or offset != int(offset) or offset < least:
        found = f"size {header['sizeof_hdr']}, dimensions {header['dim'].tolist()}, voxels from byte {offset:g} on"
        raise UserError(f"{name}: the NIfTI header is damaged ({found}). Copy or export the file again.")
    return header


def layout(header: Any, name: str) -> Layout:
    """Return what voxels the header announces; types that are no plain numbers are a UserError."""
    rank = int(header["dim"][0])
    sizes = [int(n) for n in header["dim"][1 : rank + 1]] + [1] * (7 - rank)
    code = int(header["datatype"])
    try:
        dtype = header.get_data_dtype()
    except (HeaderDataError, KeyError):
        raise UserError(f"{name}: found the datatype {code}, which NIfTI has not. Copy or export it again.") from None
    if dtype.fields:
        raise UserError(f"{name}: found colours (RGB); expected one value at each voxel. Convert it to grey values.")
    if dtype.kind not in "iuf" or dtype.itemsize > 8:
        raise UserError(f"{name}: found voxels of type {dtype}; expected whole or real numbers of up to 64 bits.")
    if int(header["bitpix"]) != 8 * dtype.itemsize:
        found = f"datatype {code}, but {int(header['bitpix'])} bits a voxel"
        raise UserError(f"{name}: the NIfTI header is damaged ({found}). Copy or export the file again.")
    try:
        if np.isinf(header["scl_slope"]):
            raise HeaderDataError
        slope, intercept = header.get_slope_inter()  # as the standard says: none if the slope is 0
    except HeaderDataError:
        found = f"slope {header['scl_slope']}, intercept {header['scl_inter']}"
        raise UserError(f"{name}: the scale factors are no numbers ({found}). Export the file again.") from None
    slope, intercept = (1.0, 0.0) if slope is None else (float(slope), float(intercept))
    volumes, components = sizes[3], int(np.prod(sizes[4:]))
    return Layout(tuple(sizes[:3]), volumes, components, dtype, int(header["vox_offset"]), slope, intercept)


def placed(header: Any, form: str, name: str) -> tuple[bytes, str]:
    """Decide where the volume lies.

    Parameters
    ----------
    header : nibabel header
    form : str
        ``sform`` or ``qform``: the one to believe; "": the file must not contradict itself.
    name : str
        How messages call the file.

    Returns
    -------
    header : bytes
        A header of one 3-D volume with this place, for ITK to read.
    taken : str
        In words.

    Raises
    ------
    UserError
        If the file gives no place, or several, or one that no grid at right angles has.
    """
    single = header.copy()
    rank = int(header["dim"][0])
    single["dim"] = [3, *header["dim"][1:4], 1, 1, 1, 1]
    single["dim"][rank + 1 : 4] = 1
    single["pixdim"][0] = -1 if header["pixdim"][0] < 0 else 1  # as the standard says: 0 is 1
    single["vox_offset"] = header.single_vox_offset
    given = {one: _affine(single, one, name) for one in FORMS if header[f"{one}_code"] > 0 and form in ("", one)}
    if not given:
        wanted = form or "sform or qform"
        raise UserError(
            f"{name}: the header has no {wanted} (codes: sform {int(header['sform_code'])}, qform "
            f"{int(header['qform_code'])}), so it is not known where the image lies, nor which side is left; programs "
            "guess differently. Convert the original images again, or set the header's orientation."
        )
    if form == "sform":
        single["qform_code"] = 0
        single["pixdim"][1:4] = np.linalg.norm(given[form][:3, :3], axis=0)
    elif form == "qform":
        single["sform_code"] = 0
    _refuse_contradiction(header, given, form, name)
    taken = f"{form}, as the cohort table says" if form else " and ".join(given) + (" agree" if len(given) > 1 else "")
    return single.binaryblock + b"\0\0\0\0", taken


def _affine(header: Any, form: str, name: str) -> np.ndarray:
    """Return the affine (voxels → RAS mm) of one form, shape (4, 4)."""
    try:
        affine = header.get_sform() if form == "sform" else header.get_qform()
    except (HeaderDataError, ValueError):
        sizes = ", ".join(f"{step:g}" for step in header["pixdim"][1:4])
        raise UserError(
            f"{name}: the qform is none: its quaternion is no rotation, or a voxel size (pixdim {sizes} mm) is "
            f"negative. {CHOOSE}."
        ) from None
    if not np.isfinite(affine).all() or not (np.linalg.norm(affine[:3, :3], axis=0) > 0).all():
        raise UserError(f"{name}: the {form} is none: its numbers are {affine[:3].ravel().tolist()}. {CHOOSE}.")
    return affine


def _refuse_contradiction(header: Any, given: dict[str, np.ndarray], form: str, name: str) -> None:
    """Refuse forms that lie apart, a sform that contradicts pixdim, and sheared axes."""
    size = [*header["dim"][1 : min(int(header["dim"][0]), 3) + 1], 1, 1][:3]
    pixdim = np.array(header["pixdim"][1:4], float)
    first = next(iter(given.values()))
    rounding_mm = TOLERANCE * np.linalg.norm(first[:3, :3], axis=0).min()
    if not form and len(given) == 2:
        apart_mm = corners_apart_mm(size, *given.values())
        if not apart_mm <= rounding_mm + _quaternion_rounding_mm(header, size):
            codes = ", ".join(f"{one} code {int(header[f'{one}_code'])}" for one in FORMS)
            raise UserError(
                f"{name}: sform and qform put a corner of the image up to {apart_mm:.2f} mm apart ({codes}). {CHOOSE}."
            )
    if "sform" in given:
        sform = given["sform"]
        steps_mm = np.linalg.norm(sform[:3, :3], axis=0)
        told = sform.copy()
        told[:3, :3] *= np.abs(pixdim) / steps_mm
        apart_mm = corners_apart_mm(size, sform, told)
        if not form and (not apart_mm <= rounding_mm or (pixdim < 0).any()):
            found = f"{_by(steps_mm)} mm by the sform, {_by(pixdim)} mm by pixdim"
            raise UserError(
                f"{name}: the voxels are {found}; a corner would lie up to {apart_mm:.2f} mm elsewhere. {CHOOSE}."
            )
        apart_mm = corners_apart_mm(size, sform, at_right_angles(sform))
        if not apart_mm <= rounding_mm:
            raise UserError(sheared(name, apart_mm, "the sform's axes"))
    if "qform" in given and not (pixdim[: int(header["dim"][0])] > 0).all():
        raise UserError(f"{name}: voxels of {_by(pixdim)} mm (pixdim); expected sizes above 0. {CHOOSE}.")


def _quaternion_rounding_mm(header: Any, size: list[int]) -> float:
    """Return how far the corners may move as the quaternion is stored in 32 bits: its first part is what they leave."""
    squares = 1 - float((np.array([header[f"quatern_{n}"] for n in "bcd"], float) ** 2).sum())
    lost = 1.2e-7 / max(np.sqrt(abs(squares)), 3e-4) if header["sizeof_hdr"] == 348 else 0.0
    return 2 * lost * float(np.linalg.norm(np.array(size) * np.array(header["pixdim"][1:4], float)))


def corners_apart_mm(size: Any, one: np.ndarray, other: np.ndarray) -> float:
    """Return the largest distance, over the corners of `size` voxels, between where two affines (4, 4) put them."""
    corners = np.array([[*corner, 1] for corner in product(*((0, n - 1) for n in size))])
    return float(np.linalg.norm(corners @ (one - other).T[:, :3], axis=1).max())


def at_right_angles(affine: np.ndarray) -> np.ndarray:
    """Return the nearest affine whose axes are at right angles, with the same steps along them."""
    steps = np.linalg.norm(affine[:3, :3], axis=0)
    left, _, right = np.linalg.svd(affine[:3, :3] / steps)
    straight = affine.copy()
    straight[:3, :3] = left @ right * steps
    return straight


def sheared(name: str, apart_mm: float, what: str) -> str:
    """Return the message about axes that are not at right angles."""
    return (
        f"{name}: {what} are not at right angles: a corner lies {apart_mm:.2f} mm off an upright grid. Resample the "
        "image onto one, or convert the original DICOM series, whose tilt is then resampled."
    )


def _by(sizes: Any) -> str:
    return " × ".join(f"{size:g}" for size in sizes)
