"""Which series stand in a folder, and which of them is meant.

A candidate is a set of slices of one series with one size, pixel spacing, orientation and kind: a localizer with slices
in three directions counts as three. The table that lists them is also how a row of the cohort table chooses: each
of its columns is a filter (see :func:`pick`).
"""

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from cohortmorph import UserError
from cohortmorph.clinic.slices import ACQUISITION, Series, Slice, names
from cohortmorph.clinic.stack import ORIENTATION_TOLERANCE, Stack, orientation, volumes
from cohortmorph.run.logs import log

ORIENTATIONS = ("sagittal", "coronal", "axial")  # by the normal's largest component, in LPS
UID_DIGITS = 8
# What a candidate may be called for and still be read, if `dicom: allow` says so; what can never be read is left out.
ALLOWABLE = ("derived", "localizer", "secondary-capture", "burned-in", "colour", "two-slices")
REASONS = {
    "derived": "is derived (computed from other images, ImageType DERIVED)",
    "localizer": "is a localizer",
    "secondary-capture": "is a secondary capture (a screenshot or a scan of paper)",
    "burned-in": "says that annotations, perhaps a name, are burned into its pixels (BurnedInAnnotation YES)",
    "colour": "has colours, not one grey value a pixel",
    "mosaic": "is a mosaic: several slices in one picture, whose places only the vendor's private tags tell",
    "non-linear": "maps its stored values by a table (ModalityLUTSequence), not by slope and intercept",
}
# Words of a series description that are shown; anything else may be a name, and is shown as "…".
WORDS = frozenset(Path(__file__).with_name("imaging_words.txt").read_text().split())
LISTED = (
    *("number", "uid", "modality", "kind", "description", "sequence", "orientation", "slices", "volumes", "rows"),
    *("columns", "pixel_mm", "thickness_mm", "distance_mm", "tilt_degrees", "echo_time_ms", "repetition_time_ms"),
    "note",
)


@dataclass(frozen=True)
class Candidate:
    """Slices that could make one image; see the module's description."""

    slices: list[Slice]

    @property
    def series(self) -> Series:
        """What its slices have in common."""
        return self.slices[0].series

    @property
    def is_placed(self) -> bool:
        """Whether every slice says where it lies."""
        return all(slice_.position_mm and slice_.cosines and slice_.spacing_mm for slice_ in self.slices)

    def row(self) -> dict[str, Any]:
        """Return what the listing says of it, by LISTED: numbers, codes and known words only."""
        series = self.series
        row = dict.fromkeys(LISTED) | {
            "number": series.number,
            "uid": f"…{series.uid[-UID_DIGITS:]}",
            "modality": series.modality,
            "kind": ", ".join(series.kinds) or "original",
            "description": known_words(series.description),
            "sequence": series.sequence,
            "slices": len(self.slices),
            "volumes": 1,
            "rows": series.rows,
            "columns": series.columns,
            "thickness_mm": series.thickness_mm,
        }
        for keyword in ("EchoTime", "RepetitionTime"):
            row[ACQUISITION[keyword]] = common(self.slices, keyword)
        if not self.is_placed:
            return row | {"note": "no position in the patient"}
        try:
            axes = orientation(self.slices, "")
        except UserError:
            return row | {"note": "orientation of no right angles"}
        places = volumes(sorted(self.slices, key=lambda one: one.along_mm(axes[:, 2])), axes[:, 2])
        first = [place[0] for place in places]
        steps_mm = (np.array([one.position_mm for one in first]) - first[0].position_mm) @ axes
        counts = {len(place) for place in places}
        row |= {
            "orientation": ORIENTATIONS[int(np.abs(axes[:, 2]).argmax())],
            "slices": len(places),
            "volumes": max(counts),
            "pixel_mm": " × ".join(f"{one:g}" for one in self.slices[0].spacing_mm or ()),
        }
        if len(places) < 2:
            return row | {"note": "one position only"}
        stack = Stack(first, axes, steps_mm[:, 2], steps_mm[:, :2])
        low, high = stack.steps_mm.min(), stack.steps_mm.max()
        row["distance_mm"] = f"{np.median(stack.steps_mm):.3f}" if stack.is_even else f"{low:.3f} to {high:.3f}"
        row["tilt_degrees"] = round(stack.tilt_degrees, 2) if stack.is_tilted else 0.0
        notes = [] if stack.is_even else ["uneven distances"]
        notes += ["tilted"] if stack.is_tilted else []
        notes += ["positions of several slices" if len(counts) > 1 else "several volumes"] if max(counts) > 1 else []
        return row | {"note": ", ".join(notes)}


class Choice(NamedTuple):
    """What is meant: a candidate and, if it has several volumes, the number of one from 1."""

    candidate: Candidate
    volume: int | None = None


class Obstacle(NamedTuple):
    """Why a candidate may not be read: one of :data:`REASONS` or ``unplaced``, and the same in words."""

    kind: str
    text: str


class Condition(NamedTuple):
    """A column of the listing, how it is compared (``=``, ``~``, ``<``, ``>``), and with what."""

    column: str
    operator: str
    wanted: str


def candidates(slices: Iterable[Slice]) -> list[Candidate]:
    """Group slices by series, size, pixel spacing, kind and (within a tolerance) orientation."""
    groups: dict[tuple, list[tuple[tuple[float, ...] | None, list[Slice]]]] = {}
    for slice_ in slices:
        same = (
            slice_.series.uid,
            slice_.series.rows,
            slice_.series.columns,
            slice_.series.kinds,
            _rounded(slice_.spacing_mm),
        )
        for cosines, members in groups.setdefault(same, []):
            if cosines is slice_.cosines or (cosines and slice_.cosines and _alike(cosines, slice_.cosines)):
                members.append(slice_)
                break
        else:
            groups[same].append((slice_.cosines, [slice_]))
    found = [Candidate(members) for kinds in groups.values() for _, members in kinds]
    return sorted(found, key=lambda one: (one.series.number or 0, one.series.uid, -len(one.slices)))


def _rounded(spacing_mm: tuple[float, ...] | None) -> tuple[float, ...] | None:
    return spacing_mm and tuple(round(number, 4) for number in spacing_mm)


def _alike(cosines: Sequence[float], others: Sequence[float]) -> bool:
    return max(abs(one - other) for one, other in zip(cosines, others, strict=True)) <= ORIENTATION_TOLERANCE


def listing(found: Iterable[Candidate]) -> pd.DataFrame:
    """Return the table of candidates, a DataFrame with LISTED."""
    return pd.DataFrame([one.row() for one in found], columns=LISTED)


def known_words(text: str) -> str:
    """Return the words of a description that belong to imaging, and short numbers; the rest becomes "…".

    >>> known_words("T1_SE AX 3mm post, Doe Jane 19410203")
    'T1 SE AX 3mm post …'
    """
    shown: list[str] = []
    for word in re.split(r"[^A-Za-z0-9.]+", text):
        is_known = word.lower() in WORDS or re.fullmatch(r"\d{1,2}(\.\d{1,2})?(mm|d|min|s)?", word.lower())
        if word and (is_known or shown[-1:] != ["…"]):
            shown.append(word if is_known else "…")
    return " ".join(shown)


def common(slices: Iterable[Slice], keyword: str) -> float | None:
    """Return the number of ACQUISITION that all slices share, or None."""
    n = list(ACQUISITION).index(keyword)
    values = {slice_.acquisition[n] for slice_ in slices}
    return values.pop() if len(values) == 1 else None


def pick(found: Sequence[Candidate], name: str, choice: str = "", allow: Collection[str] = ()) -> Choice:
    """Return what is meant of the candidates of a folder.

    Parameters
    ----------
    found : list of Candidate
    name : str
        For messages.
    choice : str
        Empty: the only one that can be read. A series number; a series UID, or its end; or conditions separated by
        semicolons, each a column of :func:`listing` with ``=``, ``~`` (contains), ``<`` or ``>``, or ``volume=n``.
    allow : sequence of str
        Which of ALLOWABLE may be read.

    Raises
    ------
    UserError
        If none or several are left, with the list of what there is; if the one that is left may not be read.
    """
    conditions, volume = _conditions(choice, name)
    meant = [one for one in found if all(_fulfils(one, condition) for condition in conditions)]
    usable = [one for one in meant if not obstacles(one, allow)]
    if len(usable) == 1:
        if len(meant) > 1:
            left = sorted(obstacles(one, allow)[0].kind for one in meant if one is not usable[0])
            log.info("%s: left out %d other(s) in the folder: %s.", name, len(left), ", ".join(left))
        return Choice(usable[0], volume)
    if len(meant) == 1:
        reasons = obstacles(meant[0], allow)
        raise UserError(f"{name}: the series ({summary(meant[0])}) {' and '.join(one.text for one in reasons)}.")
    listed = "\n  ".join(summary(one) for one in found)
    asked = f" for {choice!r}" if choice else ""
    count = f"{len(usable) or len(meant) or 'none'} of {len(found)} candidates"
    raise UserError(
        f"{name}: found {count}{asked}; expected one. Choose it in the column `series` of the cohort table, by number, "
        f"UID (or its end) or columns of `snakemake list_series`, such as `orientation=axial; description~t1`. "
        f"In the folder:\n  {listed}"
    )


def obstacles(candidate: Candidate, allow: Collection[str]) -> list[Obstacle]:
    """Return why a candidate may not be read; nothing if it may."""
    kinds = [kind for kind in candidate.series.kinds if kind not in allow]
    found = []
    for kind in kinds:
        advice = f" (`dicom: allow: [{kind}]` takes it)" if kind in ALLOWABLE else "; convert it with dcm2niix instead"
        found.append(Obstacle(kind, REASONS[kind] + advice))
    if not candidate.is_placed:
        without = [one for one in candidate.slices if not (one.position_mm and one.cosines and one.spacing_mm)]
        found.append(
            Obstacle(
                "unplaced",
                f"has {len(without)} of {len(candidate.slices)} slices without {_lacking(without)}, so their place in "
                f"the patient is unknown ({names(without)})",
            )
        )
    return found


def _lacking(slices: Iterable[Slice]) -> str:
    """Name the tags that say where a slice lies and are missing."""
    keywords = {
        "ImagePositionPatient": "position_mm",
        "ImageOrientationPatient": "cosines",
        "PixelSpacing": "spacing_mm",
    }
    return ", ".join(tag for tag, kept in keywords.items() if any(getattr(one, kept) is None for one in slices))


def summary(candidate: Candidate) -> str:
    """Say in one line what a candidate is, without identity."""
    row = candidate.row()
    parts = [
        f"number {row['number']}, uid {row['uid']}, {row['modality']}, {row['kind']}",
        f"{row['slices']} slices of {row['columns']} × {row['rows']}",
        row["volumes"] > 1 and f"{row['volumes']} volumes",
        row["orientation"],
        row["distance_mm"] and f"every {row['distance_mm']} mm",
        row["description"] and f"description {row['description']}",
        row["note"],
    ]
    return ", ".join(part for part in parts if part)


def _conditions(choice: str, name: str) -> tuple[list[Condition], int | None]:
    """Return the conditions of a choice, and the volume that it names."""
    choice = choice.strip()
    if not choice:
        return [], None
    if re.fullmatch(r"\d{1,6}", choice):
        return [Condition("number", "=", choice)], None
    if re.fullmatch(r"[\d.]+", choice):
        return [Condition("uid", "=", choice)], None
    conditions, volume = [], None
    for part in choice.split(";"):
        match = re.fullmatch(r"\s*([a-z_]+)\s*([=~<>])\s*(.+?)\s*", part)
        if not match or match[1] not in (*LISTED, "volume"):
            raise UserError(
                f"{name}: {part.strip()!r} in the column `series` is no condition; expected a number, a UID, or a "
                f"column with =, ~, < or >, such as `orientation=axial`. Columns: volume, {', '.join(LISTED)}."
            )
        if match[1] == "volume":
            if not re.fullmatch(r"[1-9]\d*", match[3]):
                raise UserError(f"{name}: volume {match[3]!r} in the column `series`; expected a number from 1.")
            volume = int(match[3])
        else:
            conditions.append(Condition(*match.groups()))
    return conditions, volume


def _fulfils(candidate: Candidate, condition: Condition) -> bool:
    """Say whether a candidate fulfils one condition; descriptions are compared with the true one."""
    column, operator, wanted = condition
    if column == "uid":
        return candidate.series.uid.endswith(wanted.lstrip("…"))
    value = candidate.series.description if column == "description" else candidate.row()[column]
    if value is None:
        return False
    if operator == "~":
        return wanted.lower() in str(value).lower()
    try:
        number, limit = float(value), float(wanted)
    except ValueError:
        return operator == "=" and str(value).lower() == wanted.lower()
    # Numbers in headers have digits that nobody types.
    return {"=": abs(number - limit) <= 1e-3 * max(1, abs(limit)), "<": number < limit, ">": number > limit}[operator]
