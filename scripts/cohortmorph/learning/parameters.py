"""What a network has learned, on disk: plain arrays (.npz), in the order of its layers."""

import hashlib
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from cohortmorph import UserError
from cohortmorph.run.files import StrPath, publishing


def write(arrays: Iterable[np.ndarray], path: StrPath) -> None:
    """Write arrays in their order."""
    with publishing(path) as partial:
        named: dict[str, Any] = {f"{number:03d}": array for number, array in enumerate(arrays)}
        np.savez_compressed(partial, **named)


def read(path: StrPath) -> list[np.ndarray]:
    """Return the arrays that :func:`write` wrote, in their order; a UserError for a file that is damaged."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return [file[name] for name in sorted(file.files)]
    except (BadZipFile, zlib.error, EOFError, ValueError):  # zip has checksums
        raise UserError(
            f"{path}: the network is cut off, damaged, or holds other than plain arrays. Delete it, and start "
            "Snakemake again."
        ) from None


def checksum(path: StrPath) -> str:
    """Return the sha256 of a file of parameters, as hexadecimal digits: which network it was."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
