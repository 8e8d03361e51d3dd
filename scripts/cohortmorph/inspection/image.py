"""One image of the cohort table, and all that is given for it, opened by the readers of the jobs."""

import logging
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cohortmorph import UserError
from cohortmorph.clinic import copies
from cohortmorph.clinic.image_file import is_folder, read_file, refuse_empty
from cohortmorph.clinic.privacy import without_identity
from cohortmorph.clinic.reader import read_geometry
from cohortmorph.clinic.structures import read_labels
from cohortmorph.cohort.layout import MADE_HERE
from cohortmorph.cohort.pairs import OF_ONE_SUBJECT, image_id
from cohortmorph.cohort.sources import in_the_list, is_segmentation
from cohortmorph.registration.problem import refuse_small_mask
from cohortmorph.run.logs import log
from cohortmorph.spatial import labels, landmarks
from cohortmorph.spatial.geometry import Grid, to_array

COLUMNS = ("source", "labels", "mask", "landmarks", "fiducials")  # that name files


class Found(NamedTuple):
    """What was found in a column of an image's row, in the reader's words."""

    image: str
    column: str
    text: str


@dataclass(frozen=True)
class Entry:
    """An image of the cohort table.

    Attributes
    ----------
    subject, image : str
    files : dict of column to path
        ``source``, ``labels``, ``landmarks``, ``mask``, ``fiducials``, as far as there are any.
    series, geometry : str
        Cells of the table.
    """

    subject: str
    image: str
    files: Mapping[str, str]
    series: str = ""
    geometry: str = ""

    @property
    def id(self) -> str:
        """Its id in the workflow."""
        return image_id(self.subject, self.image)

    @property
    def name(self) -> str:
        """How messages call it."""
        return f"subject {self.subject}, image {self.image}"

    @property
    def is_here(self) -> bool:
        """Whether its source is there: what the workflow makes itself may not have been made."""
        return not self.files["source"].startswith(MADE_HERE) or Path(self.files["source"]).exists()


@dataclass
class Seen:
    """What an image turned out to be.

    Attributes
    ----------
    grid : Grid or None
        None if it cannot be read.
    labels : set of int
        Of its label map, without 0.
    points : set of str
        Columns whose points can be read.
    marks : dict of column to list of Mark
        What only a copy has as well, of each file that belongs to one subject.
    problems, warnings : list of Found
    """

    grid: Grid | None = None
    labels: frozenset[int] = frozenset()
    points: set[str] = field(default_factory=set)
    marks: dict[str, list[copies.Mark]] = field(default_factory=dict)
    problems: list[Found] = field(default_factory=list)
    warnings: list[Found] = field(default_factory=list)


def look(given: Entry, dicom: Mapping[str, Any], structures: Mapping[str, int]) -> Seen:
    """Open an image's source and all that is given for it.

    Parameters
    ----------
    given : Entry
    dicom : dict
        ``allow``, ``tilt`` and ``uneven`` of :func:`cohortmorph.clinic.reader.read_series`.
    structures : dict of str to int
        As :func:`cohortmorph.clinic.structures.read_labels` takes them.
    """
    seen = Seen()
    frames: Collection[str] = ()

    def source(path: str) -> None:
        nonlocal frames
        if is_folder(path, given.name, given.geometry):
            seen.grid, frames = read_geometry(path, given.name, given.series, **dicom)
        else:
            image, _ = read_file(path, given.name, given.series, given.geometry)
            refuse_empty(image, given.name)
            seen.grid = Grid.of(image)

    def label_map(path: str) -> None:
        if is_segmentation(path):
            assert seen.grid is not None
            found = read_labels(path, seen.grid, structures, given.name, tuple(frames))
        else:
            found = labels.read(path, seen.grid)
        seen.labels = frozenset(np.unique(to_array(found)).tolist()) - {0}
        if not seen.labels:
            log.warning("%s: the label map is empty: every voxel is 0", path)

    def mask(path: str) -> None:
        refuse_small_mask(labels.read(path, seen.grid), "the mask")

    def points(column: str) -> Callable[[str], None]:
        def of_column(path: str) -> None:
            found = landmarks.points_lps_mm(landmarks.read(path))
            seen.points.add(column)
            outside = 0 if seen.grid is None else np.count_nonzero(~seen.grid.contains(found))
            if outside:
                log.warning("%s: %d of %d points lie outside of the image", path, outside, len(found))

        return of_column

    readers = (source, label_map, mask, points("landmarks"), points("fiducials"))
    for column, opened in zip(COLUMNS, readers, strict=True):
        path = given.files.get(column)
        # Without the image's grid, a label map or mask is looked at by itself; structures cannot be.
        if path and not (seen.grid is None and column == "labels" and is_segmentation(path)):
            _open(given, column, opened, seen)
    own = {column: path for column, path in given.files.items() if not path.startswith(MADE_HERE)}
    seen.marks = {column: copies.marks(path) for column, path in own.items() if column in OF_ONE_SUBJECT}
    return seen


def _open(given: Entry, column: str, opened: Callable[[str], None], seen: Seen) -> None:
    """Open a file, and note what its reader says."""
    path = given.files[column]
    calls = {path: given.name} if column != "source" else {given.name: given.name}  # of which no reader says the path
    with warnings_heard() as heard:
        try:
            with without_identity(given.name):
                opened(path)
        except UserError as error:
            seen.problems.append(Found(given.id, column, in_the_list(str(error), calls)))
        except RuntimeError as error:  # of without_identity
            text = f"a fault of the workflow, not of your data: {in_the_list(str(error), calls)}"
            seen.problems.append(Found(given.id, column, text))
    seen.warnings += [Found(given.id, column, in_the_list(text, calls)) for text in heard]


@contextmanager
def warnings_heard() -> Iterator[list[str]]:
    """Collect what is logged as a warning while the block runs, in place of logging it."""
    heard: list[str] = []

    class Ear(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            heard.append(record.getMessage())

    handlers, propagates = log.handlers[:], log.propagate
    log.handlers, log.propagate = [Ear(logging.WARNING)], False
    try:
        yield heard
    finally:
        log.handlers, log.propagate = handlers, propagates
