"""What lies at the user's paths when a run starts: by what a change shows, and by what two of them are one file.

A result is made again when what it rests on has changed. So all there is at a path is looked at, at every start: every
file of every subfolder, the voxels beside a header. Only small files are read.
"""

import hashlib
import os
import re
import stat
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

# Snakemake's and macOS's own: they come and go while nobody changes anything.
_OF_THE_SYSTEM = (".snakemake_timestamp", ".DS_Store", "Icon\r")
THREADS = 16  # they wait for a file server, not for a processor
PATIENCE_S = 0.1
SMALL_BYTES = 2**16
HEADER_BYTES, BLOCK_BYTES = 2**20, 2**12
# MetaImage, then NRRD; where there are several files, their names follow a LIST, or are numbered by a pattern.
DETACHED = re.compile(rb"^(?:ElementDataFile[ \t]*=|data ?file[ \t]*:(?!=))[ \t]*([^\r\n]*)", re.I | re.M)

Identity = tuple[int, int]  # device and number of a file or folder: the same however its path is spelled


@dataclass(frozen=True)
class Found:
    """What lies at a path.

    Attributes
    ----------
    fingerprint : str
        A short hash that changes with whatever lies there, and says nothing of it.
    identity : Identity or None
        None if there is nothing.
    real_path : str
        Without links.
    is_folder : bool
    parts : frozenset of Identity
        The files that others may share: in a folder those with a second name somewhere (hard links), beside a header
        those with its voxels.
    """

    fingerprint: str
    identity: Identity | None
    real_path: str
    is_folder: bool
    parts: frozenset[Identity]


class OnDisk(dict[str, Found]):
    """What lies at paths, by path: each is looked at once, before anything is read.

    So a file that changes while a run goes on is another one at the next start, whoever read it when.
    """

    def __missing__(self, path: str) -> Found:
        return self.setdefault(path, look(path))

    def look_at(self, paths: Iterable[str]) -> None:
        """Look at all of these paths: one by one, and side by side once that waits longer than it works.

        Threads that wait for a file server gain; on a disk in memory they are in each other's way, and take twice as
        long.
        """
        new = [path for path in dict.fromkeys(paths) if path not in self]
        started_s, worked_s = time.perf_counter(), time.thread_time()
        while new and time.perf_counter() - started_s < 2 * (time.thread_time() - worked_s) + PATIENCE_S:
            path = new.pop()
            self[path] = look(path)
        with ThreadPoolExecutor(THREADS) as pool:
            self.update(zip(new, pool.map(look, new), strict=True))

    def fingerprint(self, named: Iterable[tuple[str, str]]) -> str:
        """Return one fingerprint of several (role, path), "" of none; it changes if two exchange their roles, too."""
        found = [f"{role} {self[path].fingerprint}" for role, path in named]
        return _hash(found) if found else ""


def is_of_the_system(name: str) -> bool:
    """Say whether a file of this name is an operating system's, or Snakemake's, and never a slice."""
    return name in _OF_THE_SYSTEM or name.startswith("._")


def look(path: str) -> Found:
    """Look at a file or folder, see :class:`Found`."""
    # By its name (its suffix says how it is read), not its path: a project that was moved has the same parameter files.
    name, real_path = Path(path).name, os.path.realpath(path)
    try:
        top = Path(real_path).stat()
    except OSError:
        return Found(_hash([name, "missing"]), None, real_path, False, frozenset())
    parts: set[Identity] = set()
    is_folder = stat.S_ISDIR(top.st_mode)
    if is_folder:
        states = sorted(_states(real_path, "", parts))
    else:
        states = [_content_or_state(real_path, top), *(_state_of(path, parts) for path in _beside(real_path))]
    fingerprint = _hash([name, *states])
    return Found(fingerprint, (top.st_dev, top.st_ino), real_path, is_folder, frozenset(parts))


def _hash(words: Iterable[str]) -> str:
    return hashlib.sha256("\0".join(words).encode(errors="surrogateescape")).hexdigest()[:16]


def _state(name: str, status: os.stat_result) -> str:
    """Return a line that changes with a file, even if its size stays and its time of writing is put back."""
    return f"{name}\0{status.st_size}\0{status.st_mtime_ns}\0{status.st_ctime_ns}"


def _content_or_state(path: str, status: os.stat_result) -> str:
    """Return the hash of a small file, so that a copy of it is no change, else its state."""
    if status.st_size > SMALL_BYTES or not stat.S_ISREG(status.st_mode):
        return _state("", status)
    try:
        return hashlib.sha256(Path(path).read_bytes()).hexdigest()
    except OSError:
        return _state("", status)


def _state_of(path: str, parts: set[Identity]) -> str:
    """Return the state of what a link or a header leads to; add it to `parts`."""
    try:
        status = Path(path).stat()
    except (OSError, ValueError):  # nothing there, or no name that a file could have
        return f"{path}\0missing"
    parts.add((status.st_dev, status.st_ino))
    return _state(path, status)


def _states(folder: str, below: str, parts: set[Identity]) -> Iterator[str]:
    """Yield the state of each file in a folder and its subfolders; add to `parts` those with other names."""
    try:
        entries = os.scandir(folder)
    except OSError as error:
        yield f"{below}\0{error.errno}"
        return
    with entries:
        for entry in entries:
            name = below + entry.name
            if is_of_the_system(entry.name):
                continue
            if entry.is_symlink():
                yield _state_of(entry.path, parts)
            elif entry.is_dir():
                yield from _states(entry.path, f"{name}/", parts)
            else:
                status = entry.stat()
                if status.st_nlink > 1:
                    parts.add((status.st_dev, status.st_ino))
                yield _state(name, status)


def _beside(path: str) -> list[str]:
    """Return the files that a header says its voxels are in."""
    if not path.lower().endswith((".mhd", ".mha", ".nhdr", ".nrrd")):
        return []
    start = _header(path)
    named = DETACHED.search(start)
    value = os.fsdecode(named[1]).strip() if named else ""
    if named and value.split()[:1] == ["LIST"]:
        names = [os.fsdecode(line).strip() for line in start[named.end() :].splitlines()]
    elif numbered := re.fullmatch(r"([^%]*%0?\d*d[^%\s]*)\s+(\d+)\s+(\d+)\s+(\d+)(\s+\d+)?", value):
        first, last, step = (int(number) for number in numbered.groups()[1:4])
        names = [numbered[1] % number for number in range(first, last + 1, max(step, 1))]
    else:
        names = [] if value.upper() == "LOCAL" else [value]
    return [str(Path(path).parent / name) for name in names if name]


def _header(path: str) -> bytes:
    """Return a file as far as it may name others."""
    start = b""
    try:
        with Path(path).open("rb") as file:
            while len(start) < HEADER_BYTES and (block := file.read(BLOCK_BYTES)):
                start += block
                named = DETACHED.search(start)
                ends = named.end() < len(start) if named else re.search(rb"\n\r?\n", start)
                if ends and not (named and named[1].startswith(b"LIST")):
                    break
    except OSError:
        return b""
    return start
