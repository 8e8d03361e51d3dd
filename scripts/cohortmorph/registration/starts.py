"""The start slices of stacks: which slice of each meets the held stack's first one, by squared NCC along the slices."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from cohortmorph import UserError
from cohortmorph.registration.stacks import Stack, slice_matrix

# Correcting the starts settles after two or three rounds.
ROUNDS = 10
# Scores closer than this are a tie: rounding must not choose.
TIE = 1e-9

Matrices = Mapping[tuple[str, str], np.ndarray]  # of two stacks' names: squared NCC, shape (slices, slices)


@dataclass(frozen=True)
class Match:
    """How a stack's slices agree with the held stack's.

    Attributes
    ----------
    start : int
        The slice that matches the held stack's first slice.
    ncc_squared : array, shape (held slices, slices)
    tried, scores : arrays
        Every admissible start and its score.
    """

    start: int
    ncc_squared: np.ndarray
    tried: np.ndarray
    scores: np.ndarray


def no_overlap(name: str, other: str) -> UserError:
    """Return the error of two images of which no half can overlap."""
    return UserError(
        f"{name}: it does not overlap with {other} in the slice plane at any angle. Check the images, or set "
        "`harmonize: centre: image`, which lays their middles on each other."
    )


def possible_starts(held_count: int, other_count: int, held_distance_mm: float, other_distance_mm: float) -> np.ndarray:
    """Return all slices of the other stack that its overlap with the held stack could start at (array of int).

    A start that lies before the other stack's first slice is negative.
    """
    return np.arange(-int(np.floor((held_count - 1) * held_distance_mm / other_distance_mm)), other_count)


def start_scores(
    ncc_squared: np.ndarray, held_distance_mm: float, other_distance_mm: float, starts: np.ndarray
) -> np.ndarray:
    """Score start slices by the mean squared NCC along matching slices.

    The held stack's slice h lies at the other stack's slice ``start + h · held distance / other distance``; between two
    slices the NCC is interpolated linearly.

    Parameters
    ----------
    ncc_squared : array, shape (held slices, other slices)
        NaN where two slices cannot be compared.
    held_distance_mm, other_distance_mm : float
    starts : array of float
        Slices of the other stack that match the held stack's slice 0; they may lie outside of it.

    Returns
    -------
    scores : array of float
        NaN where fewer than half of the slices match that could.
    """
    held_count, other_count = ncc_squared.shape
    ratio = held_distance_mm / other_distance_mm
    held = np.arange(held_count)
    positions = np.round(np.asarray(starts)[:, None] + held * ratio, 6)
    inside = (positions >= 0) & (positions <= other_count - 1)
    below = np.clip(np.floor(positions), 0, other_count - 1).astype(int)
    above = np.minimum(below + 1, other_count - 1)
    fraction = np.where(inside, positions - below, 0)
    # A neighbour that is not needed must not spread its NaN.
    upper = np.where(fraction > 0, ncc_squared[held, above], 0)
    matched = (1 - fraction) * ncc_squared[held, below] + fraction * upper
    comparable = inside & np.isfinite(matched)
    needed = 0.5 * min(held_count, np.floor((other_count - 1) / ratio + 1e-6) + 1)
    count = comparable.sum(axis=1)
    total = np.where(comparable, matched, 0).sum(axis=1)
    return np.divide(total, count, out=np.full(len(total), np.nan), where=count >= max(needed, 1))


def scores_of_all_starts(ncc_squared: np.ndarray, held: Stack, other: Stack) -> np.ndarray:
    """Return the score of every possible start of a stack against a held one."""
    starts = possible_starts(held.count, other.count, held.distance_mm, other.distance_mm)
    return start_scores(ncc_squared, held.distance_mm, other.distance_mm, starts)


def compare_slices(stacks: Mapping[str, Stack], fixed: str, rotations: Mapping[str, np.ndarray]) -> Matrices:
    """Return the squared NCC of all slices of every two stacks, each rotated; NaN where two share too little."""
    sampled = {name: stack.sampled(stacks[fixed], rotations[name]) for name, stack in stacks.items()}
    matrices = {}
    for a, b in combinations(stacks, 2):
        matrices[a, b] = slice_matrix(sampled[a], sampled[b], stacks[fixed])
        matrices[b, a] = matrices[a, b].T
    return matrices


def match_starts(stacks: Mapping[str, Stack], held: str, matrices: Matrices) -> dict[str, Match]:
    """Match a slice of every stack with the held stack's first one.

    First against the held stack alone; then each start is corrected until it agrees best with all other stacks
    together.

    Parameters
    ----------
    stacks : dict of name to Stack
    held : str
        The name of the held stack.
    matrices : dict of (name, name) to array
        See :func:`compare_slices`.

    Returns
    -------
    dict of name to Match

    Raises
    ------
    UserError
        If a stack does not overlap with the held one.
    """
    others = [name for name in stacks if name != held]
    matches = {held: Match(0, np.eye(stacks[held].count), np.array([0]), np.array([1.0]))}
    for name in others:
        found = _match(name, held, stacks, matrices, {held: 0})
        if found is None:
            raise no_overlap(name, held)
        matches[name] = found
    for _ in range(ROUNDS):
        starts = {name: found.start for name, found in matches.items()}
        for name in others:
            rest = {other: found.start for other, found in matches.items() if other != name}
            # Where two of the others do not overlap, the held stack alone decides.
            matches[name] = _match(name, held, stacks, matrices, rest) or matches[name]
        if starts == {name: found.start for name, found in matches.items()}:
            break
    return matches


def matching_positions(stack: Stack, match: Match, held: Stack, held_slices: np.ndarray) -> np.ndarray:
    """Return the continuous slice numbers in a stack that match these slices of the held stack."""
    return np.round(match.start + np.asarray(held_slices) * held.distance_mm / stack.distance_mm, 6)


def common_slices(stacks: Mapping[str, Stack], matches: Mapping[str, Match], held: str) -> np.ndarray:
    """Return the held stack's slices that all other stacks cover; none is a UserError."""
    slices = np.arange(stacks[held].count)
    for name, stack in stacks.items():
        positions = matching_positions(stack, matches[name], stacks[held], np.arange(stacks[held].count))
        slices = slices[(positions[slices] >= 0) & (positions[slices] <= stack.count - 1)]
    if not slices.size:
        raise UserError(
            f"No slice of {held}, which has the fewest slices, is covered by all of {', '.join(stacks)}. Leave one "
            "of them out of the cohort table, or set `harmonize: enabled: false`."
        )
    return slices


def _match(
    name: str, held: str, stacks: Mapping[str, Stack], matrices: Matrices, reference_starts: Mapping[str, int]
) -> Match | None:
    """Find the start of a stack by its mean score with stacks whose starts are known; None without overlap."""
    stack, held_stack = stacks[name], stacks[held]
    tried = possible_starts(held_stack.count, stack.count, held_stack.distance_mm, stack.distance_mm)
    scores_with = []
    for reference, start in reference_starts.items():
        distance_mm = stacks[reference].distance_mm
        # The reference's slice `start` meets the slice tried, so its slice 0 meets an earlier one.
        meeting_first = tried - start * distance_mm / stack.distance_mm
        scores_with.append(start_scores(matrices[reference, name], distance_mm, stack.distance_mm, meeting_first))
    scores = np.mean(scores_with, axis=0)
    admissible = np.isfinite(scores)
    if not admissible.any():
        return None
    tried, scores = tried[admissible], scores[admissible]
    # At a tie, the start that brings the middles together.
    middle = (stack.count - 1) / 2 - (held_stack.count - 1) / 2 * held_stack.distance_mm / stack.distance_mm
    tied = tried[scores >= scores.max() - TIE]
    return Match(int(tied[np.argmin(np.abs(tied - middle))]), matrices[held, name], tried, scores)
