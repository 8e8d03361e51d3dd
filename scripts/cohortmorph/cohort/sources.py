"""The hospital's files, read without a trace of how they are called.

Folders from a PACS are often named after the patient, and Snakemake writes the inputs of every job into its log and its
records. So a rule that reads them gets only the cohort table and a fingerprint of the path; its job looks the path up
here, and calls the files by subject and image.
"""

import csv
import os
from pathlib import Path

from cohortmorph import UserError
from cohortmorph.cohort.layout import MADE_HERE


def is_segmentation(path: str) -> bool:
    """Say whether labels are structures drawn in the clinic (RTSTRUCT, SEG, 3D Slicer), to be converted first."""
    return str(path).lower().endswith((".dcm", ".seg.nrrd"))


def cell(table: str, subject: str, image: str, column: str) -> str:
    """Return a cell of the (checked) cohort table, "" if it is empty or the table lacks the column."""
    lines = Path(table).read_text(encoding="utf-8-sig").splitlines()
    rows = csv.DictReader(
        (line for line in lines if line.strip() and not line.startswith("#")), delimiter="\t", quoting=csv.QUOTE_NONE
    )
    for row in rows:
        if (row["subject"], row["image"]) == (subject, image):
            return row.get(column) or ""
    raise UserError(f"subject {subject}, image {image}: no such row in {table}. Start Snakemake again.")


def path_of(table: str, data_folder: str, subject: str, image: str, column: str = "source") -> str | None:
    """Return the path of a cell of the cohort table, or None if the cell is empty.

    Relative paths start at `data_folder`, whose environment variables are expanded; those that the workflow
    makes at its own folder.
    """
    typed = cell(table, subject, image, column)
    if not typed or typed.startswith(MADE_HERE):
        return typed or None
    return str(Path(os.path.expandvars(data_folder)).expanduser() / typed)
