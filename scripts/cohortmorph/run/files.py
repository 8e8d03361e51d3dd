"""Files that are either complete or absent: written beside their place, then renamed."""

import errno
import glob
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cohortmorph import UserError

if TYPE_CHECKING:  # not loaded: every job reads this module, few write tables
    import pandas as pd

StrPath = str | os.PathLike[str]
LAST_LINE_BYTES = 4096  # at most, of the last line of a text whose end is looked at
NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@contextmanager
def publishing(path: StrPath) -> Iterator[Path]:
    """Yield a path beside `path` to write to; it takes the place of `path` only if the block ends well.

    The name keeps all suffixes of `path`, since readers and writers choose the format by them.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> with publishing(folder / "table.tsv") as partial:
    ...     _ = partial.write_text("a\\tb\\n")
    >>> [file.name for file in folder.iterdir()]
    ['table.tsv']
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # A folder of its own on the same file system: the name stays as it is, and the rename is atomic. What a killed
    # writer of this file left behind goes first: nobody else writes it now, Snakemake sees to that.
    prefix = f".partial-{path.name}-"
    for left in path.parent.glob(f"{glob.escape(prefix)}*"):
        shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=prefix) as folder:
        partial = Path(folder) / path.name
        try:
            yield partial
            partial.replace(path)
        except (OSError, RuntimeError) as error:  # ITK's is a RuntimeError with the system's words
            if getattr(error, "errno", None) in NO_ROOM or any(os.strerror(code) in str(error) for code in NO_ROOM):
                raise _not_whole(path) from error
            raise


def prove_written(partial: StrPath, read: Callable[[StrPath], None]) -> None:
    """Read back what was written to a path of :func:`publishing` by a library that does not say when it fails."""
    try:
        read(partial)
    except UserError as error:
        raise _not_whole(partial) from error


def _not_whole(path: StrPath) -> UserError:
    return UserError(
        f"{Path(path).name}: could not be written whole. Is the disk full, or a quota used up? Make room, then start "
        "Snakemake again; nothing half-written was left behind."
    )


def refuse_cut_text(path: StrPath, last: str = "") -> None:
    """Refuse a text of the workflow's own that does not end with the end of a line, as all of them do.

    Parameters
    ----------
    path : str or Path
    last : str
        How the last line begins, if that is known.
    """
    with Path(path).open("rb") as file:
        file.seek(-min(1 if not last else LAST_LINE_BYTES, os.fstat(file.fileno()).st_size), os.SEEK_END)
        end = file.read()
    if not end.endswith(b"\n") or not end[:-1].rpartition(b"\n")[2].startswith(last.encode()):
        raise UserError(f"{path}: the file is cut off. Delete it, and start Snakemake again: it is made anew.")


@contextmanager
def publishing_folder(path: StrPath) -> Iterator[Path]:
    """Yield a folder beside `path` to fill; it takes the place of `path`, and of all in it, if the block ends well."""
    with publishing(path) as partial:
        partial.mkdir()
        yield partial
        if Path(path).is_dir():
            shutil.rmtree(path)


def write_json(content: Any, path: StrPath) -> None:
    """Write `content` (dicts, lists, numbers, strings; no NaN) as indented JSON to `path`."""
    with publishing(path) as partial:
        partial.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n")


def read_json(path: StrPath) -> Any:
    """Read the JSON file at `path`."""
    try:
        return json.loads(Path(path).read_text())
    except ValueError as error:
        raise UserError(
            f"{path}: not readable as JSON ({error}): cut off or damaged. Make or export it again."
        ) from None


def read_table(path: StrPath, **how: Any) -> "pd.DataFrame":
    """Read a table that :func:`write_table` wrote, as pandas does with `how`; one that is cut off is a UserError."""
    import pandas as pd

    refuse_cut_text(path)
    try:
        return pd.read_csv(path, sep="\t", **how)
    except ValueError as error:  # pandas' own among them
        raise UserError(f"{path}: not readable as a table ({error}). Delete it, and start Snakemake again.") from None


def write_table(table: "pd.DataFrame", path: StrPath) -> None:
    """Write a pandas table as TSV without its index; floats keep nine significant digits."""
    with publishing(path) as partial:
        table.to_csv(partial, sep="\t", index=False, float_format="%.9g")
