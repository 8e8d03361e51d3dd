"""The volumes of a series: told apart by what their headers say, never by the order of InstanceNumber.

See :func:`split` for the rules, and :data:`cohortmorph.clinic.facets.FACETS` for what is looked at.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cohortmorph.clinic.facets import FACETS, TEXTS, Value
from cohortmorph.clinic.pixels import read_digests
from cohortmorph.clinic.slices import Slice
from cohortmorph.run.logs import log

SAME_POSITION_MM = 0.001
PASS_THICKNESS = 0.9  # of the thickness: slices of two passes that fill each other's gaps lie at least so far apart

Marks = tuple[tuple[str, Any], ...]  # what a volume was split by: facet and value, or rank in time
Members = list[int]


@dataclass(frozen=True)
class Volume:
    """Slices of one volume, in order of position.

    Attributes
    ----------
    slices : list of Slice
    words : str
        What tells it from the others, such as "echo 2, phase"; empty if there is but one.
    crowded : list of Slice
        Slices at one position that differ, though nothing in their headers tells them apart; empty if all is well.
    """

    slices: list[Slice]
    words: str
    crowded: list[Slice]


@dataclass(frozen=True)
class _Line:
    """Slices in order of position, the place of each (equal numbers: the same position), and where places lie."""

    slices: list[Slice]
    places: list[int]
    along_mm: np.ndarray

    def value(self, n: int, facet: str) -> Value:
        return self.slices[n].facets[_COLUMNS[facet]]

    def is_crowded(self, members: Members) -> bool:
        return len({self.places[n] for n in members}) < len(members)


_COLUMNS = {name: n for n, name in enumerate(FACETS)}


def split(slices: Sequence[Slice], normal: np.ndarray, name: str) -> list[Volume]:
    """Split the slices of one series, size and orientation into volumes.

    A property splits slices if the groups that it makes lie among each other along the normal. Groups that follow one
    another (a CT that steps through the patient counts each step as an acquisition) are one volume. Besides:

    - part of the complex signal and computed quantity always split;
    - slices of MR acquired in several passes that fill each other's gaps are one volume: no slice overlaps another;
    - where slices share a position and nothing but times differs, the first in time at each position makes the first
      volume; but only if every position has as many slices;
    - slices with the same properties and pixels are copies, of which one is kept.

    Parameters
    ----------
    slices : list of Slice
        With positions.
    normal : array
        LPS unit vector.
    name : str
        For messages.

    Returns
    -------
    volumes : list of Volume
        Sorted by what tells them apart, in the order of FACETS.
    """
    order = sorted(range(len(slices)), key=lambda n: slices[n].along_mm(normal))
    ordered = [slices[n] for n in order]
    along_mm = np.array([one.along_mm(normal) for one in ordered])
    places = np.concatenate([[0], np.cumsum(np.diff(along_mm) >= SAME_POSITION_MM)]).astype(int).tolist()
    line = _Line(ordered, places, along_mm)
    parts: list[tuple[Marks, Members]] = [((), list(range(len(ordered))))]
    copies = None
    for facet, (_, role) in FACETS.items():
        if role == "time" and copies is None:
            # Copies may have been sent at other times.
            copies, parts = _without_copies(line, parts, name)
        parts = [part for marks, members in parts for part in _parted(line, marks, members, facet, role)]
    if copies:
        log.warning("%s: %d of %d slices are copies of another one and were dropped.", name, copies, len(slices))
    parts.sort(key=lambda part: [_sortable(dict(part[0]).get(facet)) for facet in FACETS])
    words = _words([marks for marks, _ in parts], line, [members for _, members in parts])
    return [
        Volume([ordered[n] for n in members], said, _crowded(line, members))
        for (_, members), said in zip(parts, words, strict=True)
    ]


def _parted(line: _Line, marks: Marks, members: Members, facet: str, role: str) -> list[tuple[Marks, Members]]:
    """Split the members by one facet, if it tells volumes apart."""
    groups: dict[Any, Members] = defaultdict(list)
    for n in members:
        groups[line.value(n, facet)].append(n)
    if len(groups) > 1:
        if role in ("time", "moment") and line.is_crowded(members):
            found = _in_time(line, members, facet, groups)
        else:
            found = groups if _tells(line, members, groups, role) else {}
        if found:
            return [((*marks, (facet, value)), group) for value, group in found.items()]
    return [(marks, members)]


def _tells(line: _Line, members: Members, groups: dict[Any, Members], role: str) -> bool:
    """Say whether groups are volumes, and not the slices of one that follow one another or fill each other's gaps."""
    if role == "kind":
        return True
    if role == "rest":
        are_even = all(_is_even(line, group) and not line.is_crowded(group) for group in groups.values())
        return are_even and _interleave(line, list(groups.values())) and not _are_passes(line, members)
    if line.is_crowded(members):
        return _interleave(line, list(groups.values()))
    # A single slice whose header differs makes no volume where every position is taken once.
    is_time = role in ("time", "moment")
    large = [group for group in groups.values() if len(group) >= (3 if is_time else 2)]
    if role == "moment" and not all(_is_even(line, group) for group in groups.values()):
        # Slices that are reconstructed side by side may share a second.
        return False
    return _interleave(line, large) and not ((is_time or role == "acquisition") and _are_passes(line, members))


def _interleave(line: _Line, groups: Sequence[Members]) -> bool:
    """Say whether two of the groups share a stretch along the normal."""
    ends = sorted((line.places[group[0]], line.places[group[-1]]) for group in groups)
    furthest = np.maximum.accumulate([last for _, last in ends])
    return any(first <= last for (first, _), last in zip(ends[1:], furthest[:-1], strict=True))


def _is_even(line: _Line, group: Members) -> bool:
    """Say whether slices lie at one distance, in whole places."""
    return len(group) > 2 and len(set(np.diff([line.places[n] for n in group]).tolist())) == 1


def _are_passes(line: _Line, members: Members) -> bool:
    """Say whether no slice of an MR overlaps its neighbour, so that passes may have filled each other's gaps."""
    series = line.slices[members[0]].series
    step_mm = float(np.median(np.diff(line.along_mm[members])))
    return series.modality == "MR" and step_mm >= PASS_THICKNESS * (series.thickness_mm or np.inf)


def _in_time(line: _Line, members: Members, facet: str, groups: dict[Any, Members]) -> dict[Any, Members]:
    """Group slices that share positions by a time; nothing if it does not tell them apart."""
    ranked = _ranked(line, members, facet)
    if ranked and sorted(ranked.values()) != sorted(groups.values()):
        return ranked
    return groups if all(len(group) > 1 and not line.is_crowded(group) for group in groups.values()) else {}


def _ranked(line: _Line, members: Members, facet: str) -> dict[Any, Members]:
    """Group the first in time of every position, the second, …; nothing if positions have not as many, or times tie."""
    places: dict[int, Members] = defaultdict(list)
    for n in members:
        places[line.places[n]].append(n)
    counts = {len(place) for place in places.values()}
    times = [[line.value(n, facet) for n in place] for place in places.values()]
    if len(counts) > 1 or any(None in values or len(set(values)) < len(values) for values in times):
        return {}
    ranked = [sorted(place, key=lambda n: _sortable(line.value(n, facet))) for place in places.values()]
    return {("rank", float(rank + 1)): [place[rank] for place in ranked] for rank in range(counts.pop())}


def _without_copies(
    line: _Line, parts: list[tuple[Marks, Members]], name: str
) -> tuple[int, list[tuple[Marks, Members]]]:
    """Drop slices with the place and pixels of one before; return how many, and what is left."""
    counts = [Counter(line.places[n] for n in members) for _, members in parts]
    doubted = [
        n for (_, members), count in zip(parts, counts, strict=True) for n in members if count[line.places[n]] > 1
    ]
    if not doubted:
        return 0, parts
    digests = dict(zip(doubted, read_digests([line.slices[n] for n in doubted], name), strict=True))
    dropped, left = 0, []
    for marks, members in parts:
        kept: dict[Any, int] = {}
        for n in members:
            kept.setdefault((line.places[n], digests[n]) if n in digests else n, n)
        dropped += len(members) - len(kept)
        left.append((marks, sorted(kept.values())))
    return dropped, left


def _crowded(line: _Line, members: Members) -> list[Slice]:
    """Return the slices at the first position that has several; all the others of such positions after them."""
    count = Counter(line.places[n] for n in members)
    return [line.slices[n] for n in members if count[line.places[n]] > 1]


def _sortable(value: Any) -> tuple[Any, ...]:
    """Order values that may be missing, numbers, texts or tuples; magnitude comes before phase by its letter."""
    if value is None:
        return (0, 0.0, "")
    if isinstance(value, tuple):
        return (2, 0.0, "", *(one if isinstance(one, float) else 0.0 for one in value))
    return (1, value, "") if isinstance(value, float) else (3, 0.0, value)


def _words(marks: Sequence[Marks], line: _Line, members: Sequence[Members]) -> list[str]:
    """Say of each volume what tells it from the others."""
    if len(marks) < 2:
        return [_lone(line, members[0])]
    said = [[_word(dict(one), facet, marks) for facet in FACETS if facet in dict(one)] for one in marks]
    for parts, group in zip(said, members, strict=True):
        # The part of the signal stands last, as people say it: echo 2, phase.
        parts[:] = [word for word in parts if word not in PART_WORDS]
        if line.slices[group[0]].series.modality == "MR":
            parts.append(str(line.value(group[0], "part")))
    return [", ".join(filter(None, parts)) for parts in said]


PART_WORDS = ("magnitude", "phase", "real", "imaginary")


def _lone(line: _Line, members: Members) -> str:
    """Say what the only volume of a series shows, if that is no plain image."""
    part, content = line.value(members[0], "part"), line.value(members[0], "content")
    return ", ".join(str(one) for one in (content, part if part != "magnitude" else None) if one)


def _word(marks: dict[str, Any], facet: str, all_marks: Sequence[Marks]) -> str:
    """Say what a volume is by one facet."""
    value = marks[facet]
    words = FACETS[facet].words
    values = sorted({dict(one)[facet] for one in all_marks if facet in dict(one)}, key=_sortable)
    rank = values.index(value) + 1
    if value is None:
        return "" if facet in ("part", "content") else f"no {words.split(' {}')[0]}"
    if facet == "echo_time_ms":
        said = words.format(f"{value:g}")
        return said if any("echo" in dict(one) for one in all_marks) else f"echo {rank}, {said}"
    if facet in (*TEXTS, "acquired_s", "content_s") or (isinstance(value, tuple) and value[0] == "rank"):
        # Texts and clocks of a header stay in it.
        return words.removesuffix(" ms").format(int(value[1]) if isinstance(value, tuple) else rank)
    if isinstance(value, tuple):
        return words.format(" ".join(f"{one:g}" for one in value))
    return words.format(f"{value:g}" if isinstance(value, float) else value)
