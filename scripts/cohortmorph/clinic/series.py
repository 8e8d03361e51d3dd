"""Which series stand in a folder.

A candidate is a set of slices of one series with one size, pixel spacing, orientation and kind: a localizer with slices
in three directions counts as three. The table that lists them is also how a row of the cohort table chooses: each
of its columns is a filter (see :func:`cohortmorph.clinic.choice.pick`).
"""

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from cohortmorph import UserError
from cohortmorph.clinic.slices import ACQUISITION, NO_UID, Series, Slice, names
from cohortmorph.clinic.stack import ORIENTATION_TOLERANCE, arrange, orientation
from cohortmorph.clinic.volumes import SAME_POSITION_MM, Volume, split

ORIENTATIONS = ("sagittal", "coronal", "axial")  # by the normal's largest component, in LPS
UID_DIGITS = 8
# What a candidate may be called for and still be read, if `dicom: allow` says so; what can never be read is left out.
ALLOWABLE = ("derived", "localizer", "secondary-capture", "burned-in", "colour", "phase", "two-slices")
REASONS = {
    "derived": "is derived (computed from other images, by its ImageType)",
    "localizer": "is a localizer",
    "secondary-capture": "is a secondary capture (a screenshot or a scan of paper)",
    "burned-in": "says that annotations, perhaps a name, are burned into its pixels (BurnedInAnnotation YES)",
    "colour": "has colours, not one grey value a pixel",
    "mosaic": "is a mosaic: several slices in one picture, whose places only the vendor's private tags tell",
    "phase": "shows the phase (or the imaginary part) of the signal, not its magnitude",
    "reversed": "has volumes whose rows are upside down (GE's epi_pepolar, by its private tags)",
    "segmentation": "is a segmentation, not an image",
    "dose": "is a dose distribution, not an image",
    "non-linear": "maps its stored values by a table (ModalityLUTSequence), not by slope and intercept",
}
AS_SOURCE = "give the NIfTI as `source` (of several volumes, `volume=n` in the column `series` takes one)"
# What to do about those that can never be read.
WAYS_OUT = {
    # Without the tags dcm2niix takes every tile for a slice, and the first for the lowest.
    "mosaic": "; export it again with these tags, as single slices, or enhanced. dcm2niix guesses what is missing: if "
    f"you convert it, compare the result with the scanner's view before you {AS_SOURCE}",
    "reversed": f"; convert it with dcm2niix, and {AS_SOURCE}",
    "segmentation": "; name it in the column `labels`, and the image in `source`",
    "dose": "; name the image in `source`",
    "non-linear": "; export it with a linear scale",
}
GAP = 10  # slice distances: what lies further apart is another stack, not one with slices missing
MOST_VOLUMES = 12  # that a message lists
# Words of a series description that are shown; anything else may be a name, and is shown as "…".
WORDS = frozenset(Path(__file__).with_name("imaging_words.txt").read_text().split())
LISTED = (
    *("number", "uid", "modality", "kind", "description", "sequence", "orientation", "stack", "slices", "volumes"),
    *(
        "rows",
        "columns",
        "pixel_mm",
        "thickness_mm",
        "distance_mm",
        "tilt_degrees",
        "echo_time_ms",
        "repetition_time_ms",
    ),
    *("normal", "note", "which_volume"),
)


@dataclass(frozen=True)
class Candidate:
    """Slices that could make one image; see the module's description.

    Attributes
    ----------
    slices : list of Slice
    name : str
        For messages.
    stack : int or None
        Its number where a series has several stacks of slices in orientations of their own.
    """

    slices: list[Slice]
    name: str = ""
    stack: int | None = None

    @property
    def series(self) -> Series:
        """What its slices have in common."""
        return self.slices[0].series

    @property
    def is_placed(self) -> bool:
        """Whether every slice says where it lies."""
        return all(slice_.position_mm and slice_.cosines and slice_.spacing_mm for slice_ in self.slices)

    @cached_property
    def axes(self) -> np.ndarray:
        """The directions of its slices, see :func:`cohortmorph.clinic.stack.orientation`."""
        return orientation(self.slices, self.name)

    @cached_property
    def volumes(self) -> list[Volume]:
        """The volumes of its slices."""
        return split(self.slices, self.axes[:, 2], self.name)

    @cached_property
    def row(self) -> dict[str, Any]:
        """What the listing says of it, by LISTED: numbers, codes and known words only."""
        series = self.series
        row = dict.fromkeys(LISTED) | {
            "number": series.number,
            "uid": "none" if series.uid.startswith(NO_UID) else f"…{series.uid[-UID_DIGITS:]}",
            "modality": series.modality,
            "kind": ", ".join(series.kinds) or "original",
            "description": known_words(series.description),
            "sequence": series.sequence,
            "stack": self.stack,
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
            normal = self.axes[:, 2]
        except UserError:
            return row | {"note": "orientation of no right angles"}
        row |= {
            "orientation": ORIENTATIONS[int(np.abs(normal).argmax())],
            "normal": " ".join(f"{one:.3f}" for one in normal + 0.0),
            "pixel_mm": " × ".join(f"{one:g}" for one in self.slices[0].spacing_mm or ()),
        }
        try:
            return row | self._of_volumes()
        except UserError:
            return row | {"note": "pixels that cannot be read"}

    def _of_volumes(self) -> dict[str, Any]:
        """Return what the listing says of its volumes, and of the geometry of the first."""
        volumes = self.volumes
        places = [len({one.along_mm(self.axes[:, 2]) for one in volume.slices}) for volume in volumes]
        said = [f"{n}: {one.words}" for n, one in enumerate(volumes, 1) if one.words]
        if len(set(places)) > 1:
            said = [f"{one} ({count} slices)" for one, count in zip(said, places, strict=True)]
        row: dict[str, Any] = {"slices": max(places), "volumes": len(volumes), "which_volume": "; ".join(said) or None}
        crowded = any(one.crowded for one in volumes)
        notes = ["several volumes"] if len(volumes) > 1 else []
        notes += ["positions of several slices"] if crowded else []
        if crowded or places[0] < 2:
            return row | {"note": ", ".join(notes or ["one position only"])}
        stack = arrange(volumes[0].slices, self.name, ALLOWABLE)
        low, high = stack.steps_mm.min(), stack.steps_mm.max()
        row["distance_mm"] = f"{np.median(stack.steps_mm):.3f}" if stack.is_even else f"{low:.3f} to {high:.3f}"
        row["tilt_degrees"] = round(stack.tilt_degrees, 2) if stack.is_tilted else 0.0
        notes = [*(() if stack.is_even else ("uneven distances",)), *(("tilted",) if stack.is_tilted else ()), *notes]
        return row | {"note": ", ".join(notes)}


class Obstacle(NamedTuple):
    """Why a candidate may not be read: one of :data:`REASONS` or ``unplaced``, and the same in words."""

    kind: str
    text: str


def candidates(slices: Iterable[Slice], name: str = "") -> list[Candidate]:
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
    found: list[Candidate] = []
    for kinds in groups.values():
        stacks = [run for _, members in kinds for run in _runs(members)]
        if len(stacks) == 1:
            found.append(Candidate(stacks[0], name))
        else:
            stacks.sort(key=_centre, reverse=True)
            found += [Candidate(members, name, n) for n, members in enumerate(stacks, 1)]
    return sorted(found, key=lambda one: (one.series.number or 0, one.series.uid, one.stack or 0, -len(one.slices)))


def _runs(slices: list[Slice]) -> list[list[Slice]]:
    """Split parallel slices into stacks that lie beside the line of one another, or far apart, each even in itself.

    What cannot be split so stays one, to be refused with its distances; a tilted stack follows one line.
    """
    if not all(one.position_mm and one.cosines and one.spacing_mm for one in slices):
        return [slices]
    try:
        axes = orientation(slices, "")
    except UserError:
        return [slices]
    places_mm = np.array([one.position_mm for one in slices], dtype=float) @ axes
    columns = _columns(places_mm, max(*(slices[0].spacing_mm or ()), 1.0))
    if len(columns) > 1:
        return [[slices[n] for n in column] for column in columns]
    order = np.argsort(places_mm[:, 2], kind="stable")
    steps_mm = np.diff(places_mm[order], axis=0)
    is_step = steps_mm[:, 2] > SAME_POSITION_MM
    if is_step.sum() < 3:
        return [slices]
    usual_mm = np.median(steps_mm[is_step], axis=0)
    beside_mm = np.abs(steps_mm[:, :2] - np.outer(steps_mm[:, 2] / usual_mm[2], usual_mm[:2])).max(axis=1)
    is_break = (beside_mm > max(*(slices[0].spacing_mm or ()), 1.0)) | (steps_mm[:, 2] > GAP * usual_mm[2])
    breaks = np.flatnonzero(is_break) + 1
    runs = np.split(order, breaks)
    heights_mm = [np.unique(places_mm[run, 2].round(3)) for run in runs]
    if len(runs) == 1 or any(
        len(one) < 2 or np.abs(np.diff(one) - usual_mm[2]).max() > 0.01 * usual_mm[2] for one in heights_mm
    ):
        return [slices]
    if np.abs(steps_mm[breaks - 1, 2] - usual_mm[2]).max() <= 0.01 * usual_mm[2]:
        return [slices]  # even as a whole: its slices are moved in their planes
    return [[slices[n] for n in sorted(run)] for run in runs]


def _columns(places_mm: np.ndarray, apart_mm: float) -> list[list[int]]:
    """Group slices that lie above one another; all in one group if the groups are not stacks, or follow one another."""
    _, which = np.unique(np.rint((places_mm - places_mm[0])[:, :2] / apart_mm), axis=0, return_inverse=True)
    which = which.ravel()
    columns = [np.flatnonzero(which == n).tolist() for n in range(which.max() + 1)]
    if len(columns) > len(places_mm) // 3:
        return [list(range(len(places_mm)))]
    heights_mm = [np.unique(places_mm[column, 2].round(3)) for column in columns]
    ends = sorted((one[0], one[-1]) for one in heights_mm)
    if all(len(one) > 2 and np.ptp(np.diff(one)) < 0.02 * np.diff(one)[0] for one in heights_mm) and any(
        low <= last for (_, last), (low, _) in pairwise(ends)
    ):
        return columns
    return [list(range(len(places_mm)))]


def _centre(slices: Sequence[Slice]) -> tuple[float, ...]:
    """Return where slices lie on average, the height first; the orientation where that is the same."""
    placed = [one for one in slices if one.position_mm]
    if not placed:
        return (-np.inf,)
    x, y, z = np.array([one.position_mm for one in placed], dtype=float).mean(axis=0).round(3)
    return (float(z), float(y), float(x), *(slices[0].cosines or ()))


def _where(slices: Sequence[Slice]) -> str:
    """Say where slices lie, so that stacks of one angle can be told apart."""
    z, y, x, *_ = [*_centre(slices), *(0.0, 0.0)]
    return f"first pixels around ({x:.0f}, {y:.0f}, {z:.0f}) mm LPS" if np.isfinite(z) else "without a place"


def _rounded(spacing_mm: tuple[float, ...] | None) -> tuple[float, ...] | None:
    return spacing_mm and tuple(round(number, 4) for number in spacing_mm)


def _alike(cosines: Sequence[float], others: Sequence[float]) -> bool:
    return max(abs(one - other) for one, other in zip(cosines, others, strict=True)) <= ORIENTATION_TOLERANCE


def listing(found: Iterable[Candidate]) -> pd.DataFrame:
    """Return the table of candidates, a DataFrame with LISTED."""
    return pd.DataFrame([one.row for one in found], columns=LISTED)


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


def obstacles(candidate: Candidate, allow: Collection[str]) -> list[Obstacle]:
    """Return why a candidate may not be read; nothing if it may."""
    kinds = [kind for kind in candidate.series.kinds if kind not in allow]
    details = {"mosaic": f" ({candidate.series.untold})"} if candidate.series.untold else {}
    found = [Obstacle(kind, REASONS[kind] + details.get(kind, "") + WAYS_OUT.get(kind, "")) for kind in kinds]
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
    row = candidate.row
    which = str(row["which_volume"] or "").split("; ")
    which = [*which[:MOST_VOLUMES], "…"] if len(which) > MOST_VOLUMES else which
    parts = [
        f"number {row['number']}, uid {row['uid']}, {row['modality']}, {row['kind']}",
        f"{row['slices']} slices of {row['columns']} × {row['rows']}",
        (row["volumes"] > 1 and f"{row['volumes']} volumes ({'; '.join(which)})") or row["which_volume"],
        row["orientation"],
        row["stack"] and f"stack {row['stack']} with normal {row['normal']}, {_where(candidate.slices)}",
        row["distance_mm"] and f"every {row['distance_mm']} mm",
        row["description"] and f"description {row['description']}",
        row["note"],
    ]
    return ", ".join(part for part in parts if part)
