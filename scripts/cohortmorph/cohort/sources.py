"""The hospital's files, read without a trace of how they are called.

Folders from a PACS are often named after the patient, and Snakemake writes the inputs of every job into its log and its
records. So a rule that reads them gets only the cohort table and a fingerprint of the path; its job looks the path up
here, and calls the files by subject and image.
"""

import csv
import os
import re
from collections.abc import Mapping
from pathlib import Path

from cohortmorph import UserError
from cohortmorph.cohort.layout import MADE_HERE


def is_segmentation(path: str) -> bool:
    """Say whether labels are structures drawn in the clinic (RTSTRUCT, SEG, 3D Slicer), to be converted first."""
    return str(path).lower().endswith((".dcm", ".seg.nrrd"))


def rows_of(table: str) -> dict[tuple[str, str], dict[str, str]]:
    """Return the rows of the (checked) cohort table by subject and image; ``line`` is the number of each one's line."""
    numbered = enumerate(Path(table).read_text(encoding="utf-8-sig").splitlines(), 1)
    lines = [(n, line) for n, line in numbered if line.strip() and not line.startswith("#")]
    rows = csv.DictReader((line for _, line in lines), delimiter="\t", quoting=csv.QUOTE_NONE)
    return {(row["subject"], row["image"]): row | {"line": str(n)} for row, (n, _) in zip(rows, lines[1:], strict=True)}


def cell(table: str, subject: str, image: str, column: str) -> str:
    """Return a cell of the (checked) cohort table, "" if it is empty or the table lacks the column."""
    row = rows_of(table).get((subject, image))
    if row is None:
        raise UserError(f"subject {subject}, image {image}: no such row in {table}. Start Snakemake again.")
    return row.get(column) or ""


def path_of(table: str, data_folder: str, subject: str, image: str, column: str = "source") -> str | None:
    """Return the path of a cell of the cohort table, or None if the cell is empty.

    Relative paths start at `data_folder`, whose environment variables are expanded; those that the workflow
    makes at its own folder.
    """
    return expanded(cell(table, subject, image, column), data_folder) or None


def expanded(typed: str, data_folder: str) -> str:
    """Return the path that a cell of the cohort table means, see :func:`path_of`; "" if it is empty."""
    if not typed or typed.startswith(MADE_HERE):
        return typed
    return str(Path(os.path.expandvars(data_folder)).expanduser() / typed)


def without_paths(text: str, calls: Mapping[str, str]) -> str:
    """Return a message that calls files by what they are: hospitals name folders after patients.

    Parameters
    ----------
    text : str
    calls : dict of path to str
        What stands in the place of each.
    """
    for path, name in calls.items():
        text = re.sub(rf"(?<![\w/.-]){re.escape(path)}(?![\w/-])", name, text)
    return text


def in_the_list(text: str, calls: Mapping[str, str]) -> str:
    """Return a reader's message, :func:`without_paths`, as it stands in a list, or a log, that says the place first."""
    text = without_paths(text, calls)
    for name in calls.values():
        text = text.removeprefix(f"{name}: ")
    return text.replace("\n", "\n  ")
