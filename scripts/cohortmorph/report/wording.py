"""Numbers, pairs and intervals in words, written alike wherever the report names them."""

import numpy as np

from cohortmorph.cohort.pairs import subjects_of

DECIMALS = {"mm": 2, "% of voxels": 3, "s": 1, "": 3}


def write_text(measure, value):
    """Write a value of a measure with its unit; a missing one is a dash."""
    return f"{digits(measure, value)} {measure.unit}".rstrip() if np.isfinite(value) else "–"


def digits(measure, value):
    """Write a value of a measure without its unit; a missing one is a dash."""
    return f"{value:.{DECIMALS[measure.unit]}f}" if np.isfinite(value) else "–"


def interval(measure, row):
    """Write the 95 % interval of a row of the summary; one pair has none."""
    if not np.isfinite(row.ci_low):
        return "no interval from a single subject"
    return f"95 % interval {digits(measure, row.ci_low)} to {digits(measure, row.ci_high)}"


def count(number, noun):
    """Write a number with its noun, in the plural where it needs one."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def pairs_in_words(pairs):
    """Write how many pairs of how many subjects."""
    pairs = set(pairs)
    return f"{count(len(pairs), 'pair')} of {count(len(subjects_of(pairs)), 'subject')}"
