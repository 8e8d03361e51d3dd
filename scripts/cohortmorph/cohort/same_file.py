"""One file under two subjects, however it is spelled: it would carry an image, or its truth, to another patient.

At every start: by its path, by what lies there (links, also hard ones; letters that a file system does not tell apart),
and by the folder around it. Copies are found by what is in them: cohortmorph.clinic.copies.
"""

import os
from collections.abc import Hashable, Iterator, Mapping
from functools import cache
from pathlib import Path

from cohortmorph.cohort.layout import MADE_HERE
from cohortmorph.cohort.on_disk import Identity, OnDisk
from cohortmorph.cohort.pairs import OF_ONE_SUBJECT, Image
from cohortmorph.cohort.table import CohortTable

SAME = "the same (by a link, or spelled in another way) as"


def check_same_files(table: CohortTable, typed: Mapping[str, Image], on_disk: OnDisk | None) -> None:
    """Note files and folders that stand under two subjects.

    Parameters
    ----------
    table : CohortTable
        With expanded paths.
    typed : dict of id to Image
        The same images with their paths as they were typed.
    on_disk : OnDisk or None
        What lies at the paths; None where files are not looked at.
    """

    def tell(image: Image, column: str, how: str, other: Image) -> None:
        found, known = getattr(typed[image.id], column), getattr(typed[other.id], column)
        same = "" if found == known else f"{how} {known!r}, "
        text = f"found {found!r}, {same}which line {table.lines[other.id]} gives to subject {other.subject}"
        table.in_row(image, column, text)

    for column in OF_ONE_SUBJECT:
        first: dict[Hashable, Image] = {}
        for image in table.images.values():
            for name, how in _names(getattr(image, column), on_disk):
                other = first.setdefault(name, image)
                if other.subject != image.subject:
                    tell(image, column, how, other)
                    break
    if on_disk is not None:
        for image, other in _within_another(table, on_disk):
            tell(image, "source", "a folder within", other)


def _names(path: str, on_disk: OnDisk | None) -> Iterator[tuple[Hashable, str]]:
    """Yield what a path may be known by, and how two that share it are the same."""
    if not path:
        return
    yield path, SAME
    if on_disk is None:
        return
    if path.startswith(MADE_HERE):
        yield os.path.realpath(path), SAME
        return
    found = on_disk[path]
    yield found.real_path, SAME
    if found.identity is not None:
        yield found.identity, SAME
    for part in found.parts:
        yield part, "which shares files (links, or voxels beside a header) with"


def _within_another(table: CohortTable, on_disk: OnDisk) -> Iterator[tuple[Image, Image]]:
    """Yield each image whose folder lies within that of another subject's image, with that image."""

    @cache
    def identity(folder: Path) -> Identity | None:
        try:
            status = folder.stat()
        except OSError:
            return None
        return status.st_dev, status.st_ino

    images = [image for image in table.images.values() if image.source and not image.source.startswith(MADE_HERE)]
    folders = {on_disk[image.source].identity: image for image in images if on_disk[image.source].is_folder}
    for image in folders.values():
        for around in Path(on_disk[image.source].real_path).parents:
            other = folders.get(identity(around))
            if other is not None and other.subject != image.subject:
                yield image, other
                break
