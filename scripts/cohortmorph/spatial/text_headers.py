"""MetaImage (.mha, .mhd) and NRRD: a header in text, and the voxels behind it or in files beside it.

What a header says of grid and type is asked of ITK; here the bytes of the voxels are found, decoded and counted, as
ITK fills what is missing with zeros.
"""

import bz2
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from isal import isal_zlib  # the format of zlib, in less than half its time

from cohortmorph import UserError

CUT = "Copy or export the file again"


@dataclass(frozen=True)
class TextHeader:
    """What a header says of where its voxels are and how they are written.

    Attributes
    ----------
    for_itk : bytes
        The header as that of a file which holds its own voxels: ITK reads it without a look at others.
    suffix : str
        By which ITK knows the format.
    files : list of str
        Names of the files with the voxels, in order; empty: they follow the header.
    start : int
        Bytes of the header.
    encoding : str
        ``raw``, ``gzip``, ``bzip2``, ``text`` or ``hex``.
    big_endian : bool
    skip_lines, skip_bytes : int
        What to leave out at the start of each file; -1 bytes: all that is too much.
    """

    for_itk: bytes
    suffix: str
    files: list[str]
    start: int
    encoding: str
    big_endian: bool
    skip_lines: int = 0
    skip_bytes: int = 0


def is_nrrd(start: bytes) -> bool:
    """Say whether a file that starts so is NRRD."""
    return start[:4] == b"NRRD"


def is_metaimage(start: bytes) -> bool:
    """Say whether a file that starts so is a MetaImage."""
    lines = start[:4096].split(b"\n")
    keys = {line.split(b"=")[0].strip() for line in lines if b"=" in line}
    return bool(keys & {b"ObjectType", b"NDims", b"DimSize"})


def read_nrrd(start: bytes, name: str) -> TextHeader:
    """Parse the header of a NRRD file that starts so (all of it, if its voxels are elsewhere)."""
    text: list[str] = []
    fields: dict[str, tuple[int, str]] = {}
    end = 0
    for line in start.split(b"\n"):
        end += len(line) + 1
        if not line.strip():
            break
        text.append(line.decode("latin-1").rstrip("\r"))
    for number, words in enumerate(text[1:], 1):
        key, colon, value = words.partition(":")
        if colon and not value.startswith("=") and not words.startswith("#"):
            fields[key.strip().lower().replace(" ", "")] = (number, value.strip())
    names = {"gz": "gzip", "bz2": "bzip2", "txt": "text", "ascii": "text"}
    encoding = fields.get("encoding", (0, ""))[1].lower()
    files: list[str] = []
    if "datafile" in fields:
        number, value = fields["datafile"]
        listed = value.split()[:1] == ["LIST"]  # names to the end of the file
        files = text[number + 1 :] if listed else _numbered(value)
        text = text[:number] + ([] if listed else text[number + 1 :])
    text = [line for line in text if not re.match(r"(line|byte) ?skip:", line.lower())]  # ITK would look behind them
    return TextHeader(
        ("\n".join(text) + "\n\n").encode("latin-1"),
        ".nrrd",
        files,
        end,
        names.get(encoding, encoding),
        fields.get("endian", (0, "little"))[1].lower() == "big",
        _whole(fields.get("lineskip", (0, "0"))[1], name),
        _whole(fields.get("byteskip", (0, "0"))[1], name),
    )


def read_metaimage(start: bytes, name: str) -> TextHeader:
    """Parse the header of a MetaImage that starts so."""
    text: list[str] = []
    fields: dict[str, str] = {}
    end = 0
    lines = start.split(b"\n")
    for line in lines:
        end += len(line) + 1
        key, _, value = line.decode("latin-1").partition("=")
        fields[key.strip()] = value.strip()
        text.append(line.decode("latin-1").rstrip("\r"))
        if key.strip() == "ElementDataFile":
            break
    else:
        raise UserError(f"{name}: the file is cut off within its header (no ElementDataFile). {CUT}.")
    where = fields["ElementDataFile"]
    if where.split()[:1] == ["LIST"]:
        files = [line.decode("latin-1").strip() for line in lines[len(text) :] if line.strip()]
    else:
        files = [] if where.upper() == "LOCAL" else _numbered(where)
    yes = {key for key, value in fields.items() if value[:1].lower() in ("t", "y", "1")}
    compressed = "gzip" if "CompressedData" in yes else "raw"
    return TextHeader(
        "\n".join([*text[:-1], "ElementDataFile = LOCAL", ""]).encode("latin-1"),
        ".mha",
        files,
        end,
        compressed if fields.get("BinaryData", "True")[:1].lower() in ("t", "y", "1") else "text",
        bool(yes & {"BinaryDataByteOrderMSB", "ElementByteOrderMSB"}),
        0,
        _whole(fields.get("HeaderSize", "0"), name),
    )


def _whole(text: str, name: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise UserError(f"{name}: the header is damaged ({text!r} is no whole number). {CUT}.") from None


def _numbered(value: str) -> list[str]:
    """Return the file, or all files of a pattern such as ``slice%03d.raw 1 20 1``."""
    numbered = re.fullmatch(r"(.*%\S*)\s+(\d+)\s+(\d+)\s+(\d+)(\s+\d+)?", value)
    if not numbered:
        return [value]
    first, last, step = (int(number) for number in numbered.groups()[1:4])
    return [numbered[1] % number for number in range(first, last + 1, max(step, 1))]


def voxels(header: TextHeader, path: Path, data: bytes, dtype: np.dtype, count: int, name: str) -> np.ndarray:
    """Return `count` values of `dtype`, in the file's order; more or fewer are a UserError.

    Parameters
    ----------
    header : TextHeader
    path : Path
        Of the file with the header: others are named from its folder.
    data : bytes
        All of that file.
    dtype : dtype
        Of native byte order.
    count : int
    name : str
        How messages call the file.
    """
    parts = [memoryview(data)[header.start :]] if not header.files else _read(path.parent, header.files, name)
    wanted = count * dtype.itemsize
    found = [_decoded(header, part, wanted // max(len(parts), 1), name) for part in parts]
    if header.encoding == "text":
        tokens = b" ".join(bytes(part) for part in found).replace(b",", b" ").split()
        refuse_length(len(tokens), count, "values", name)
        try:
            return np.array(tokens).astype(dtype)
        except ValueError:
            raise UserError(f"{name}: the voxels are no numbers. {CUT}.") from None
    whole = found[0] if len(found) == 1 else b"".join(bytes(part) for part in found)
    refuse_length(len(whole), wanted, "bytes of voxels", name)
    return np.frombuffer(whole, dtype.newbyteorder(">" if header.big_endian else "<")).astype(dtype, copy=False)


def _read(folder: Path, files: Sequence[str], name: str) -> list[memoryview]:
    parts = []
    for file in files:
        try:
            parts.append(memoryview((folder / file).read_bytes()))
        except (OSError, ValueError):  # a name may have any bytes
            raise UserError(
                f"{name}: the file with the voxels that its header names is not there or not readable. Put both "
                "into one folder, under the names that they were saved with."
            ) from None
    return parts


def _decoded(header: TextHeader, data: memoryview, wanted: int, name: str) -> memoryview:
    """Return the bytes of the voxels, or their text."""
    for _ in range(header.skip_lines):
        data = data[bytes(data).find(b"\n") + 1 :]
    if header.encoding == "gzip":
        data = memoryview(inflate(data, name))
    elif header.encoding == "bzip2":
        try:
            data = memoryview(bz2.decompress(data))
        except (OSError, ValueError):
            raise UserError(f"{name}: the compressed voxels are cut off or damaged. {CUT}.") from None
    elif header.encoding == "hex":
        try:
            data = memoryview(bytes.fromhex(bytes(data).decode("ascii")))
        except ValueError:
            raise UserError(f"{name}: the voxels are no hexadecimal digits. {CUT}.") from None
    elif header.encoding not in ("raw", "text"):
        raise UserError(f"{name}: found the encoding {header.encoding!r}; expected raw, gzip, bzip2, text or hex.")
    if header.skip_bytes < 0:
        return data[max(len(data) - wanted, 0) :]
    return data[header.skip_bytes :]


def inflate(data: bytes | memoryview, name: str) -> bytes:
    """Decompress gzip or zlib, proved by their own checksums; what is cut off or damaged is a UserError."""
    parts = []
    try:
        while len(data):
            stream = isal_zlib.decompressobj(47)
            parts.append(stream.decompress(data))
            if not stream.eof:
                raise UserError(f"{name}: the file is cut off: its compressed data end too early. {CUT}.")
            data = stream.unused_data
            if not data.strip(b"\0"):  # tapes and some copies pad with zeros
                break
    except isal_zlib.error:  # type: ignore[misc] # its stubs take the class for a value
        raise UserError(f"{name}: the compressed data are damaged. {CUT}.") from None
    return parts[0] if len(parts) == 1 else b"".join(parts)


def refuse_length(found: int, expected: int, what: str, name: str) -> None:
    """Refuse a file that holds less or more than its header says."""
    if found < expected:
        raise UserError(f"{name}: the file is cut off: {found} {what}; its header announces {expected}. {CUT}.")
    if found > expected:
        raise UserError(
            f"{name}: found {found} {what}, but its header announces {expected}: one of them is damaged. {CUT}."
        )
