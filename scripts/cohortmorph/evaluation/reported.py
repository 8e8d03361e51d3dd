"""What a registration reports of itself in registration.json: what it took, and why it failed. Tables only."""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cohortmorph.cohort.methods import Method
from cohortmorph.evaluation.measures import REPORTED, RUNTIME, Row, row
from cohortmorph.evaluation.tables import FAILURES_COLUMNS
from cohortmorph.run.files import StrPath, read_json


def rows_of(registration: Mapping[str, Any]) -> list[Row]:
    """Return the rows of what a method reports of itself, from the content of its registration.json.

    ``runtime`` (s, from ``seconds``) always; where they are given, ``cpu_time`` (s, from ``cpu_seconds``),
    ``peak_memory`` (MB, from ``peak_memory_mb``), ``fre`` (mm, from ``fre_mm``) and ``start_kept`` (1 for true, 0 for
    false). Null becomes NaN.
    """
    values = {
        measure.metric: registration[measure.reported_as]
        for measure in REPORTED
        if measure is RUNTIME or measure.reported_as in registration
    }
    return [row(metric, "image", np.nan if value is None else float(value)) for metric, value in values.items()]


def rows_of_failed(registration: Mapping[str, Any], others: Sequence[Sequence[Row]]) -> list[Row]:
    """Return the rows of a registration that failed: those of the pair's other methods, each NaN.

    Parameters
    ----------
    registration : dict
        The content of its registration.json: what only such a method reports counts as well, whatever its value.
    others : list of list of Row
        The rows of each method that succeeded. What a few methods alone report of themselves (``fre``, ``start_kept``)
        is no failure of the others, and is left out.
    """
    own = rows_of({"seconds": None} | dict(registration))
    foreign = {measure.metric for measure in REPORTED if not measure.cost} - {one.metric for one in own}
    rows = [one for of_method in others for one in of_method if one.metric not in foreign]
    return [row(metric, structure, np.nan) for metric, structure in dict.fromkeys(one.key for one in [*rows, *own])]


def failures(registrations: Iterable[StrPath], splits: Mapping[str, str]) -> pd.DataFrame:
    """Return the table of failed registrations, one a row.

    Parameters
    ----------
    registrations : iterable of path
        ``{pair}/{method}/registration.json``; a failed one holds ``failed``, the reason in words.
    splits : dict of pair to split

    Returns
    -------
    DataFrame
        With :data:`cohortmorph.evaluation.tables.FAILURES_COLUMNS`.
    """
    rows = []
    for path in map(Path, registrations):
        why = read_json(path).get("failed")
        if why:
            method, pair = Method.of(path.parent.name), path.parent.parent.name
            rows.append((pair, splits.get(pair, ""), method.name, method.weight, method.epoch, in_one_line(why)))
    return pd.DataFrame(rows, columns=FAILURES_COLUMNS).astype({"epoch": "Int64"})


def failures_in_training(alignments: Iterable[StrPath]) -> pd.DataFrame:
    """Return the same table for what training leaves out (the affine failed) or takes as it is (harmonizing failed).

    Parameters
    ----------
    alignments : iterable of path
        ``{pair}/affine.json``.
    """
    rows = []
    for path in map(Path, alignments):
        how = read_json(path)
        for method, key in (("harmonized", "harmonizing_failed"), ("affine", "failed")):
            if key in how:
                rows.append((path.parent.name, "train", method, "", None, in_one_line(how[key])))
    return pd.DataFrame(rows, columns=FAILURES_COLUMNS).astype({"epoch": "Int64"})


def in_one_line(why: Any) -> str:
    """Return a reason as one line without folders, whose names may name people."""
    return re.sub(r"(?<![\w.])~?/(?:[^\s/'\"]+/)+", "", " ".join(str(why).split()))
