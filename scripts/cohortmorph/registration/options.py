"""Parameter files of tools that are programs: options in the words of their command line."""

from collections.abc import Sequence
from pathlib import Path

from cohortmorph import UserError
from cohortmorph.run.files import StrPath


def read_options(path: StrPath, allowed: Sequence[str] | None, reserved: Sequence[str]) -> list[list[str]]:
    """Read a tool's options from a text file; ``#`` begins a comment.

    Parameters
    ----------
    path : path
    allowed : sequence of str or None
        Words that a line may begin with (None: any).
    reserved : sequence of str
        Options that the workflow sets by itself.

    Returns
    -------
    list of list of str
        The words of each line that has any.

    Raises
    ------
    UserError
        With file and line of what it may not hold, or if it holds nothing.
    """
    rows = []
    for number, line in enumerate(Path(path).read_text().splitlines(), 1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        if allowed is not None and words[0] not in allowed:
            raise UserError(f"{path}, line {number}: begins with {words[0]}; expected {' or '.join(allowed)}.")
        taken = [word for word in words if word in reserved]
        if taken:
            raise UserError(f"{path}, line {number}: {taken[0]} is set by the workflow itself; take it out.")
        rows.append(words)
    if not rows:
        raise UserError(f"{path}: no options found; expected at least one line.")
    return rows
