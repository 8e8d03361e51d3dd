"""What the images of a cohort must be to each other, and to the methods that the configuration has."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from cohortmorph import UserError
from cohortmorph.clinic import copies
from cohortmorph.cohort.pairs import image_id
from cohortmorph.cohort.sources import in_the_list
from cohortmorph.inspection.image import Entry, Found, Seen, warnings_heard
from cohortmorph.registration import demons, niftyreg
from cohortmorph.registration.options import read_options
from cohortmorph.registration.problem import LEAST_VOXELS
from cohortmorph.spatial import landmarks


def unmatched_points(fixed: Entry, moving: Entry, seen: Mapping[str, Seen]) -> Iterator[Found]:
    """Yield why the landmarks, or fiducials, of a pair's images are not the same points."""
    for column in ("landmarks", "fiducials"):
        if all(column in seen[one.id].points for one in (fixed, moving)):
            calls = {one.files[column]: one.name for one in (fixed, moving)}
            try:
                with warnings_heard():
                    landmarks.read_pair(fixed.files[column], moving.files[column])
            except UserError as error:
                yield Found(moving.id, column, in_the_list(str(error), calls))


def unshared_labels(fixed: Entry, moving: Entry, seen: Mapping[str, Seen]) -> Iterator[Found]:
    """Yield, as a warning, that the label maps of a pair have no label in common: there is no overlap to measure."""
    have, others = seen[fixed.id].labels, seen[moving.id].labels
    if have and others and not have & others:
        text = f"shares no label with {fixed.name}, so that no overlap is measured: {_some(others)} and {_some(have)}"
        yield Found(moving.id, "labels", text)


def too_small(given: Entry, seen: Mapping[str, Seen]) -> Iterator[Found]:
    """Yield that an image has fewer voxels than the classical methods, the affine alignment among them, take."""
    grid = seen[given.id].grid
    if grid is not None and min(grid.size) < LEAST_VOXELS:
        size = " × ".join(map(str, grid.size))
        text = (
            f"the image has {size} voxels; at least {LEAST_VOXELS} along each axis are needed by the affine alignment "
            "and every method of `baselines`, all of which would fail for its pairs (docs/methods.md, smallest images)."
        )
        yield Found(given.id, "source", text)


def copied(images: Mapping[str, Entry], seen: Mapping[str, Seen]) -> Iterator[Found]:
    """Yield that a file or folder is a copy of one that another subject has."""
    of = {
        (given.subject, given.image, column): marks
        for given in images.values()
        for column, marks in seen[given.id].marks.items()
    }
    for (subject, image, column), text in copies.shared(of).items():
        yield Found(image_id(subject, image), column, text)


def wrong_parameters(tools: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yield what is wrong with the parameter files of methods.

    Parameters
    ----------
    tools : sequence of dict
        ``key`` of the configuration, ``tool`` and ``files``.
    """
    readers = {"demons": demons.read_settings, "niftyreg": niftyreg.read_parameters, "ants": _read_ants}
    for method in tools:
        for file in method["files"]:
            try:
                if not Path(file).read_text(encoding="utf-8").strip():
                    raise UserError(f"{file}: the file is empty; expected parameters of {method['tool']}.")
                readers.get(method["tool"], str)(file)
            except UserError as error:
                yield f"{method['key']}: {error}"
            except (OSError, UnicodeDecodeError) as error:
                yield f"{method['key']}: {file}: not readable as text ({type(error).__name__})."


def _read_ants(path: str) -> list[list[str]]:
    return read_options(path, None, ())


def _some(numbers: frozenset[int], most: int = 8) -> str:
    shown = sorted(numbers)
    return ", ".join(map(str, shown[:most])) + (", …" if len(shown) > most else "")
