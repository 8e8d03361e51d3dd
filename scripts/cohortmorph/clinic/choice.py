"""Which series of a folder, and which of its volumes, is meant; if that is not clear, what there is to choose from."""

import re
from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np

from cohortmorph import UserError
from cohortmorph.clinic.series import ALLOWABLE, LISTED, Candidate, obstacles, summary
from cohortmorph.clinic.slices import Slice, names
from cohortmorph.clinic.stack import ORIENTATION_TOLERANCE
from cohortmorph.clinic.volumes import Volume
from cohortmorph.run.logs import log

MOST_VOLUMES = 12  # that a message lists


class Choice(NamedTuple):
    """What is meant: a candidate and, if it has several volumes, the number of one from 1, or words for it."""

    candidate: Candidate
    volume: int | None = None
    words: tuple[str, ...] = ()


class Condition(NamedTuple):
    """A column of the listing, how it is compared (``=``, ``~``, ``<``, ``>``), and with what."""

    column: str
    operator: str
    wanted: str


def pick(found: Sequence[Candidate], name: str, choice: str = "", allow: Collection[str] = ()) -> Choice:
    """Return what is meant of the candidates of a folder.

    Parameters
    ----------
    found : list of Candidate
    name : str
        For messages.
    choice : str
        Empty: the only one that can be read. A series number; a series UID, or its end; or conditions separated by
        semicolons, each a column of :func:`listing` with ``=``, ``~`` (contains), ``<`` or ``>``, or ``volume=n``, or
        ``volume~`` with words of those that the listing calls a volume by.
    allow : sequence of str
        Which of ALLOWABLE may be read.

    Raises
    ------
    UserError
        If none or several are left, with the list of what there is; if the one that is left may not be read.
    """
    conditions, volume, words = _conditions(choice, name)
    meant = [one for one in found if all(_fulfils(one, condition) for condition in conditions)]
    usable = [one for one in meant if not obstacles(one, allow)]
    if len(usable) == 1:
        _refuse_lost(usable[0], found, meant, name)
        if len(meant) > 1:
            left = sorted(obstacles(one, allow)[0].kind for one in meant if one is not usable[0])
            log.info("%s: left out %d other(s) in the folder: %s.", name, len(left), ", ".join(left))
        return Choice(usable[0], volume, words)
    if len(meant) == 1:
        raise UserError(f"{name}: the series ({summary(meant[0])}) {_told(meant[0], allow)}.")
    listed = "\n  ".join(f"{summary(one)}{_allowing(one, allow)}" for one in found)
    asked = f" for {choice!r}" if choice else ""
    count = f"{len(usable) or len(meant) or 'none'} of {len(found)} candidates"
    raise UserError(
        f"{name}: found {count}{asked}; expected one. Choose it in the column `series` of the cohort table, by number, "
        f"UID (or its end) or columns of `snakemake list_series`, such as `orientation=axial; description~t1`, or "
        f"`number=3; stack=2`. In the folder:\n  {listed}"
    )


def _refuse_lost(chosen: Candidate, found: Sequence[Candidate], meant: Sequence[Candidate], name: str) -> None:
    """Refuse a series of which slices are left out that may be its own: at an end, they would be missed by nobody.

    Those are slices that do not say where they lie, and slices of another kind that go on where the series ends.
    """
    for one in found:
        if one is not chosen and one.series.uid == chosen.series.uid and _goes_on(chosen, one):
            kind = ", ".join(one.series.kinds) or "original"
            raise UserError(
                f"{name}: the series ({summary(chosen)}) goes on with {names(one.slices)}, of another kind by "
                f"its header ({kind}), so its end may be missing. Export the series again, or without those."
            )
    for one in meant:
        if one.series.untold and chosen.series.tiles and one.series.uid == chosen.series.uid:
            (lost,) = (what for what in obstacles(one, ()) if what.kind == "mosaic")
            raise UserError(f"{name}: a volume of the series ({summary(chosen)}) {lost.text}.")
        if not one.is_placed and (one.series.uid, one.series.kinds) == (chosen.series.uid, chosen.series.kinds):
            (lost,) = (what for what in obstacles(one, ()) if what.kind == "unplaced")
            raise UserError(f"{name}: the series ({summary(chosen)}) besides {lost.text}. Export the series again.")


def _goes_on(chosen: Candidate, other: Candidate) -> bool:
    """Say whether one of the other's slices lies one step beyond an end of the chosen one, and is alike."""
    if not (chosen.is_placed and other.is_placed) or chosen.series.kinds == other.series.kinds:
        return False
    mine, its = chosen.slices[0], other.slices[0]
    size, its_size = ((one.series.rows, one.series.columns, one.spacing_mm) for one in (mine, its))
    if size != its_size:
        return False
    if np.abs(np.subtract(mine.cosines or (), its.cosines or ())).max() > ORIENTATION_TOLERANCE:
        return False
    normal = chosen.axes[:, 2]
    heights_mm = np.unique(np.round([one.along_mm(normal) for one in chosen.slices], 3))
    if len(heights_mm) < 2:
        return False
    step_mm = float(np.median(np.diff(heights_mm)))
    ends_mm = [heights_mm[0] - step_mm, heights_mm[-1] + step_mm]
    return any(abs(one.along_mm(normal) - end_mm) < 0.1 * step_mm for one in other.slices for end_mm in ends_mm)


def _told(candidate: Candidate, allow: Collection[str]) -> str:
    """Say all that stands against reading a candidate, and at once all that would have to be allowed."""
    reasons = obstacles(candidate, allow)
    said = " and ".join(one.text for one in reasons)
    if candidate.row["slices"] == 2 and "two-slices" not in allow:
        said += " and has two slices only"
    return said + _allowing(candidate, allow)


def _allowing(candidate: Candidate, allow: Collection[str]) -> str:
    """Say which list, as it has to stand in the configuration, takes a candidate; nothing if none or any does."""
    needed = [one.kind for one in obstacles(candidate, allow)]
    if not needed or not set(needed) <= set(ALLOWABLE):
        return ""
    needed += ["two-slices"] * (candidate.row["slices"] == 2 and "two-slices" not in allow)
    return f" (`dicom: allow: [{', '.join([*allow, *needed])}]` takes it)"


def chosen_volume(choice: Choice, name: str) -> Volume:
    """Return the volume that is meant of a candidate.

    Raises
    ------
    UserError
        If it is not clear which, or if several of its slices lie at one position.
    """
    volumes, axes = choice.candidate.volumes, choice.candidate.axes
    if len({round(one.along_mm(axes[:, 2]), 3) for one in choice.candidate.slices}) == 1 < len(choice.candidate.slices):
        _refuse_crowded(choice.candidate.slices, axes, len(choice.candidate.slices), name)
    numbers = [n for n, one in enumerate(volumes, 1) if all(_is_called(one.words, words) for words in choice.words)]
    if choice.volume is not None:
        numbers = [n for n in numbers if n == choice.volume]
    if len(numbers) != 1:
        _refuse_choice(choice, numbers, name)
    volume = volumes[numbers[0] - 1]
    lone = [one for one in volumes if len(one.slices) == 1]
    if lone and len(volumes) > 1:
        raise UserError(
            f"{name}: the headers of {names(lone[0].slices)} make a volume of one slice ({lone[0].words}) among "
            f"{len(volumes)}, which another volume may lack. Export one volume in a folder of its own."
        )
    if volume.crowded:
        _refuse_crowded(volume.crowded, axes, len(volume.slices), name)
    _refuse_repeated(volume.slices, name)
    if volume.words:
        log.info("%s: volume %d of %d: %s.", name, numbers[0], len(volumes), volume.words)
    return volume


def _is_called(words: str, wanted: str) -> bool:
    return re.search(rf"(?<![\w.]){re.escape(wanted.lower())}(?![\w.])", words.lower()) is not None


def _refuse_choice(choice: Choice, numbers: Sequence[int], name: str) -> None:
    volumes = choice.candidate.volumes
    if len(volumes) == 1:
        asked = f"number {choice.volume}" if choice.volume else f"one called {' and '.join(choice.words)}"
        raise UserError(f"{name}: found one volume; expected {asked}. Correct `series`.")
    shown = [(n, volumes[n - 1]) for n in (numbers or range(1, len(volumes) + 1))]
    lines = [f"volume={n}: {one.words or 'unknown'}, {len(one.slices)} slices" for n, one in shown[:MOST_VOLUMES]]
    lines += [f"and {len(shown) - MOST_VOLUMES} more, see `snakemake list_series`"] * (len(shown) > MOST_VOLUMES)
    listed = "\n  ".join(lines)
    wanted = " and ".join([*([f"number {choice.volume}"] if choice.volume else []), *choice.words])
    meant = f"{len(numbers) or 'none'} of {len(volumes)} volumes for {wanted}" if wanted else f"{len(volumes)} volumes"
    raise UserError(
        f"{name}: found {meant} in one series; expected one. Choose it in the column `series`, volume=1 to "
        f"volume={len(volumes)}, or by its words, such as `volume~{volumes[-1].words.split(', ')[0]}`:\n  {listed}"
    )


def _refuse_crowded(crowded: Sequence[Slice], axes: np.ndarray, count: int, name: str) -> None:
    heights_mm = [one.along_mm(axes[:, 2]) for one in crowded]
    first = [one for one, height_mm in zip(crowded, heights_mm, strict=True) if height_mm - heights_mm[0] < 0.001]
    same = len(crowded) - len({round(height_mm, 2) for height_mm in heights_mm})
    raise UserError(
        f"{name}: {same} of {count} slices lie at the position of another but differ from it, first at "
        f"{heights_mm[0]:.3f} mm along the normal ({names(first)}), and nothing in their headers makes volumes of "
        "them; expected each position once. Export one volume in a folder of its own."
    )


def _refuse_repeated(slices: Sequence[Slice], name: str) -> None:
    """Refuse slices, in order of position, that are numbered as several volumes which lie among each other."""
    numbered: dict[int | None, list[int]] = {}
    for n, one in enumerate(slices):
        numbered.setdefault(one.instance if one.frame is None else None, []).append(n)
    times = {len(places) for places in numbered.values()}
    if len(numbered) < 3 or None in numbered or len(times) > 1 or times == {1}:
        return
    firsts, lasts = ([places[end] for places in numbered.values()] for end in (0, -1))
    if max(firsts) > min(lasts):
        raise UserError(
            f"{name}: each InstanceNumber stands there {times.pop()} times, at several positions: these are slices of "
            "several volumes, and nothing else in their headers tells them apart. Export one volume in a folder of its "
            "own."
        )


def _conditions(choice: str, name: str) -> tuple[list[Condition], int | None, tuple[str, ...]]:
    """Return the conditions of a choice, and the number and the words of the volume that it names."""
    choice = choice.strip()
    if not choice:
        return [], None, ()
    if re.fullmatch(r"\d{1,6}", choice):
        return [Condition("number", "=", choice)], None, ()
    if re.fullmatch(r"[\d.]+", choice):
        return [Condition("uid", "=", choice)], None, ()
    conditions, volume, words = [], None, []
    for part in choice.split(";"):
        match = re.fullmatch(r"\s*([a-z_]+)\s*([=~<>])\s*(.+?)\s*", part)
        if not match or match[1] not in (*LISTED, "volume"):
            raise UserError(
                f"{name}: {part.strip()!r} in the column `series` is no condition; expected a number, a UID, or a "
                f"column with =, ~, < or >, such as `orientation=axial`. Columns: volume, {', '.join(LISTED)}."
            )
        if match[1] != "volume":
            conditions.append(Condition(*match.groups()))
        elif match[2] == "~":
            words += [word.strip() for word in match[3].split(",")]
        elif match[2] == "=" and re.fullmatch(r"[1-9]\d*", match[3]):
            volume = int(match[3])
        else:
            raise UserError(f"{name}: volume {match[3]!r} in the column `series`; expected a number from 1.")
    return conditions, volume, tuple(words)


def _fulfils(candidate: Candidate, condition: Condition) -> bool:
    """Say whether a candidate fulfils one condition; descriptions are compared with the true one."""
    column, operator, wanted = condition
    if column == "uid":
        return candidate.series.uid.endswith(wanted.lstrip("…"))
    value = candidate.series.description if column == "description" else candidate.row[column]
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
