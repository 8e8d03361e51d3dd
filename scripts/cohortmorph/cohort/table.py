"""Reading tables (TSV): the cohort table, an image a row, and the pairs table. All mistakes with their lines."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from cohortmorph.cohort.configuration import explained, listed, nearest, schema_of, validator_of
from cohortmorph.cohort.pairs import Image, image_id
from cohortmorph.cohort.problems import KeyPath, Problems

PATH_COLUMNS = ("source", "labels", "landmarks", "mask", "fiducials")


@dataclass(frozen=True)
class Row:
    """A row of a table: its cells by column ("" where there are none or they break the schema), and its line."""

    cells: dict[str, str]
    line: int

    def __getitem__(self, column: str) -> str:
        return self.cells[column]


@dataclass(frozen=True)
class Rows:
    """The rows of a table, and the line of its header."""

    rows: list[Row]
    header_line: int


def read_rows(path: str, kind: str, key: KeyPath, problems: Problems) -> Rows | None:
    """Read a table; what is wrong with it is noted, and cells that break the schema are emptied.

    Parameters
    ----------
    path : str
    kind : str
        Name of its schema: ``cohort`` or ``pairs``.
    key : key path
        Of the configuration that names the table.
    problems : Problems

    Returns
    -------
    Rows, or None if there are none to work with
    """
    schema = schema_of(kind)
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError:
        problems.in_config(key, f"found {path!r}, which is no file; expected the path of a TSV table")
        return None
    except (OSError, UnicodeDecodeError) as error:
        problems.in_config(key, f"{path!r} is not readable ({error}); save it as text in UTF-8 with tabs")
        return None
    numbered = [(n, line) for n, line in enumerate(lines, 1) if line.strip() and not line.startswith("#")]
    if not numbered:
        problems.in_file(path, 1, f"no rows; expected the columns {listed(schema['properties'])}")
        return None
    (header_line, header_text), *rows = numbered
    header = header_text.rstrip("\t").split("\t")
    for text in _header_problems(header, header_text, schema):
        problems.in_file(path, header_line, text)
    if not set(schema["required"]) <= set(header) or len(set(header)) < len(header):
        return None
    if not rows:
        problems.in_file(path, header_line, "no rows below the column names")
        return None
    return Rows([_row(path, line, text, header, kind, problems) for line, text in rows], header_line)


def _row(path: str, line: int, text: str, header: list[str], kind: str, problems: Problems) -> Row:
    columns = list(schema_of(kind)["properties"])
    typed = text.split("\t")
    while len(typed) > len(header) and not typed[-1]:
        typed.pop()
    cells = dict.fromkeys(columns, "") | dict(zip(header, typed, strict=False))
    found: list[tuple[KeyPath, str]]
    if len(typed) == len(header):
        found = [problem for error in validator_of(kind).iter_errors(cells) for problem in explained(error, cells)]
    else:
        count = "1 cell" if len(typed) == 1 else f"{len(typed)} cells"
        found = [((), f"found {count}; expected {len(header)}, separated by single tabs, empty cells too")]
        cells = dict.fromkeys(columns, "") | {"subject": cells.get("subject", "")}
    subject = [f"subject {cells['subject']}"] if cells.get("subject") else []
    for column, said in found:
        where = ", ".join([*subject, *(f"column {name}" for name in column)])
        problems.in_file(path, line, f"{where}: {said}" if where else said)
    # Cells that break the schema are emptied; paths stay, as whether there are landmarks decides other checks.
    bad = {key[0] for key, _ in found if key} - set(PATH_COLUMNS)
    return Row({column: "" if column in bad else cells[column] for column in columns}, line)


def _header_problems(header: list[str], text: str, schema: dict[str, Any]) -> Iterator[str]:
    """Yield what is wrong with a table's column names."""
    known, required = list(schema["properties"]), schema["required"]
    for separator, name in ((",", "commas"), (";", "semicolons"), (" ", "spaces")):
        if len(header) == 1 and separator in text.strip():
            yield f"the columns are separated by {name}; expected tabs: save the table as tab-delimited text (TSV)"
            return
    for column, count in Counter(header).items():
        if count > 1:
            yield f"column {column!r} stands {count} times"
        if column not in known:
            yield f"unknown column {column!r}{nearest(column, known)}; known: {listed(known)}"
    for column in required:
        if column not in header:
            yield f"missing column {column!r}: {schema['properties'][column]['description']}"


# ---- the cohort table


@dataclass
class CohortTable:
    """The images of the cohort table, by id and in its order; rows that cannot be told apart are left out.

    Attributes
    ----------
    path : str
    images : dict of str to Image
    lines : dict of str to int
        The line of each image.
    header_line : int
    splits_are_sound : bool
        Whether every subject has one split.
    unclear_subjects : set of str
        Those with a row whose image is not known: that they lack an image cannot be said.
    """

    path: str
    images: dict[str, Image]
    lines: dict[str, int]
    header_line: int
    splits_are_sound: bool
    problems: Problems
    unclear_subjects: set[str] = field(default_factory=set)

    def in_row(self, image: Image, column: str, text: str) -> None:
        """Note a problem in a cell."""
        self.problems.in_file(self.path, self.lines[image.id], f"subject {image.subject}, column {column}: {text}")

    def in_header(self, text: str) -> None:
        """Note a problem with the table as a whole."""
        self.problems.in_file(self.path, self.header_line, text)

    def change(self, image: Image, **changes: str) -> None:
        """Put other values into the cells of an image."""
        self.images[image.id] = replace(self.images[image.id], **changes)

    @property
    def subjects(self) -> list[str]:
        """Subject ids in the table's order."""
        return list(dict.fromkeys(image.subject for image in self.images.values()))

    @property
    def names(self) -> list[str]:
        """Names of images (`CT`, `T1`, …) in the table's order, each once."""
        return list(dict.fromkeys(image.name for image in self.images.values()))

    def by_subject(self) -> dict[str, list[Image]]:
        """Return the images of each subject, in the table's order."""
        found: dict[str, list[Image]] = {}
        for image in self.images.values():
            found.setdefault(image.subject, []).append(image)
        return found

    def named(self, name: str) -> list[Image]:
        """Return all subjects' images of this name, in the table's order."""
        return [image for image in self.images.values() if image.name == name]


def read_images(path: str, intensity: Any, problems: Problems) -> CohortTable | None:
    """Read the cohort table and check its ids, splits and modalities; None if it cannot be worked with.

    Parameters
    ----------
    path : str
    intensity : dict
        The configuration's `intensity`: the modalities.
    problems : Problems
    """
    read = read_rows(path, "cohort", ("cohort",), problems)
    if read is None:
        return None
    table = CohortTable(path, {}, {}, read.header_line, True, problems)
    # An empty id or split was noted before: what would follow from it only, such as a missing image, is not noted.
    table.splits_are_sound = all(row["subject"] and row["image"] and row["split"] for row in read.rows)
    table.unclear_subjects = {row["subject"] for row in read.rows if not row["image"]}
    first_of_subject: dict[str, Row] = {}
    for row in read.rows:
        if not row["subject"] or not row["image"]:
            continue
        where = f"subject {row['subject']}, column"
        name = image_id(row["subject"], row["image"])
        first = first_of_subject.setdefault(row["subject"], row)
        if row["split"] and first["split"] and row["split"] != first["split"]:
            table.splits_are_sound = False
            problems.in_file(
                path,
                row.line,
                f"{where} split: found {row['split']!r}, but line {first.line} says {first['split']!r}; a subject "
                "belongs to one split, or a network is judged by a patient that it has learned from",
            )
        if name in table.images:
            text = f"{where} image: found {row['image']!r}, but {name} stands already in line {table.lines[name]}"
            problems.in_file(path, row.line, text)
            continue
        image = Image(row["subject"], row["image"], **{k: v for k, v in row.cells.items() if k not in _IDS})
        table.images[name], table.lines[name] = image, row.line
        if isinstance(intensity, dict) and image.modality not in (*intensity, ""):
            text = f"found {image.modality!r}, which intensity in the configuration has not; it has {listed(intensity)}"
            table.in_row(image, "modality", text + nearest(image.modality, intensity))
    return table


_IDS = ("subject", "image")
