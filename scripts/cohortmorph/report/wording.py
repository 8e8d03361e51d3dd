"""Numbers, pairs and intervals in words, written alike wherever the report names them."""

from collections.abc import Iterable

import numpy as np
import pandas as pd

from cohortmorph.cohort.pairs import subjects_of
from cohortmorph.evaluation.measures import Measure


def write_text(measure: Measure, value: float) -> str:
    """Write a value of a measure with its unit; a missing one is a dash."""
    return f"{digits(measure, value)} {measure.reader_unit}".rstrip() if np.isfinite(value) else "–"


def digits(measure: Measure, value: float, sign: str = "") -> str:
    """Write a value of a measure without its unit, with `sign` "+" always signed; a missing one is a dash."""
    return f"{value:{sign}.{measure.decimals}f}" if np.isfinite(value) else "–"


def interval(measure: Measure, row: pd.Series) -> str:
    """Write the 95 % interval of a row of the summary; one pair has none."""
    if not np.isfinite(row.ci_low):
        return "no interval from a single subject"
    return f"95 % interval {digits(measure, row.ci_low)} to {digits(measure, row.ci_high)}"


def count(number: int, noun: str) -> str:
    """Write a number with its noun, in the plural where it needs one."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def pairs_in_words(pairs: Iterable[str]) -> str:
    """Write how many pairs of how many subjects."""
    pairs = set(pairs)
    return f"{count(len(pairs), 'pair')} of {count(len(subjects_of(pairs)), 'subject')}"
