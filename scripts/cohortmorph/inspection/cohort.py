"""All files of a cohort, opened side by side, and all that is wrong with them in one list."""

import multiprocessing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from typing import Any

import SimpleITK as sitk
from tqdm import tqdm

from cohortmorph import UserError
from cohortmorph.cohort import sources
from cohortmorph.cohort.pairs import image_id
from cohortmorph.inspection import together
from cohortmorph.inspection.image import COLUMNS, Entry, Found, Seen, look
from cohortmorph.run.logs import log

LINES = 10  # of progress in a log that is no terminal


def given_in(table: str, data_folder: str) -> dict[str, Entry]:
    """Return the images of the (checked) cohort table, by id; those that the workflow has still to make are left out.

    Parameters
    ----------
    table, data_folder : str
        The table, and where its relative paths start.
    """
    found = {}
    for (subject, image), row in sources.rows_of(table).items():
        files = {column: sources.expanded(row.get(column) or "", data_folder) for column in COLUMNS}
        given = Entry(
            subject,
            image,
            {column: path for column, path in files.items() if path},
            row.get("series") or "",
            row.get("geometry") or "",
        )
        if given.is_here:
            found[given.id] = given
    return found


def look_at_all(
    images: Mapping[str, Entry], dicom: Mapping[str, Any], structures: Mapping[str, int], workers: int, shows_bar: bool
) -> dict[str, Seen]:
    """Open everything that is given for images, several images at once.

    Parameters
    ----------
    images : dict of id to Entry
    dicom, structures : dict
        See :func:`cohortmorph.inspection.image.look`.
    workers : int
        How many processes.
    shows_bar : bool
        Whether there is a terminal for a progress bar; else the log has a line now and then.
    """
    seen = {}
    found = _side_by_side(partial(look, dicom=dicom, structures=structures), list(images.values()), workers)
    for n, (given, one) in enumerate(tqdm(found, total=len(images), unit="image", disable=not shows_bar), 1):
        seen[given.id] = one
        if not shows_bar and n % max(1, len(images) // LINES) == 0:
            log.info("%d of %d images looked at", n, len(images))
    return {id: seen[id] for id in images}


def _side_by_side(
    function: Callable[[Entry], Seen], items: Sequence[Entry], workers: int
) -> Iterator[tuple[Entry, Seen]]:
    """Yield (item, result) as they are done."""
    if min(workers, len(items)) < 2:
        yield from ((item, function(item)) for item in items)
        return
    try:
        with ProcessPoolExecutor(workers, multiprocessing.get_context("fork"), _one_thread) as pool:
            waiting = {pool.submit(function, item): item for item in items}
            for done in as_completed(waiting):
                yield waiting[done], done.result()
    except BrokenProcessPool:
        raise UserError(
            "A process ended by itself while it looked at the files. Was there too little memory? Look with fewer at "
            "once: `snakemake --cores 1 check_cohort`."
        ) from None


def _one_thread() -> None:
    """Processes are as many as there are cores."""
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)


def relations(
    images: Mapping[str, Entry], seen: Mapping[str, Seen], pairs: Iterable[Sequence[str]]
) -> tuple[list[Found], list[Found]]:
    """Return (problems, warnings) of images that do not fit each other or the methods.

    Parameters
    ----------
    images, seen : dict of id to Entry and to Seen
    pairs : iterable of (fixed id, moving id)
    """
    problems: list[Found] = []
    warnings: list[Found] = []
    known = [(images[fixed], images[moving]) for fixed, moving in pairs if fixed in images and moving in images]
    for given in {one.id: one for pair in known for one in pair}.values():
        problems += together.too_small(given, seen)
    for pair in known:
        problems += together.unmatched_points(*pair, seen)
        warnings += together.unshared_labels(*pair, seen)
    problems += together.copied(images, seen)
    return problems, warnings


def told(found: Iterable[Found], table: str) -> list[str]:
    """Return what was found as lines, each once, in the table's order, with the line of its image."""
    rows = sources.rows_of(table)
    places = {image_id(*key): (int(row["line"]), key) for key, row in rows.items()}
    lines = []
    for one in sorted(dict.fromkeys(found), key=lambda one: places[one.image][0]):
        number, (subject, image) = places[one.image]
        lines.append(f"{table} line {number}, subject {subject}, image {image}, column {one.column}: {one.text}")
    return lines
