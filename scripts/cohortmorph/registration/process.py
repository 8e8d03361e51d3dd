"""A tool in a process of its own: its cost, its files, its last words."""

import multiprocessing
import os
import resource
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

from cohortmorph.run.files import StrPath


@dataclass(frozen=True)
class Cost:
    """What a registration took.

    Attributes
    ----------
    seconds, cpu_seconds : float
        On the clock, and of all its cores.
    peak_memory_mb : float or None
        Largest resident memory of its process, libraries and images included; None if it had no process to measure.
    """

    seconds: float
    cpu_seconds: float
    peak_memory_mb: float | None = None

    def entries(self) -> dict[str, float]:
        """Return what is known of it, as registration.json has it."""
        return {name: value for name, value in vars(self).items() if value is not None}


class Ended(NamedTuple):
    """How a process ended.

    Attributes
    ----------
    result
        What its function returned, or None if the process ended without (see `exit_code`).
    cost : Cost
        Zero where there is no result.
    exit_code : int or None
        Not 0 if it died; negative: of this signal.
    """

    result: Any
    cost: Cost
    exit_code: int | None


def in_child(function: Callable[..., Any], *arguments: Any, log: StrPath | None = None) -> Ended:
    """Run `function` in a forked process of its own, and measure it.

    A process of its own, because the tools keep random state, print to the terminal, and sometimes end the process that
    they run in. Forked, so that a library that is loaded here is not loaded again there.

    Parameters
    ----------
    function : callable
        Returns something that can be pickled.
    *arguments
    log : path, optional
        File that takes what the process prints.
    """
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=_work, args=(function, arguments, log, receiver, sender))
    child.start()
    sender.close()
    try:
        result, cost = receiver.recv()
    except EOFError:
        result, cost = None, Cost(0.0, 0.0)
    child.join()
    return Ended(result, cost, child.exitcode)


def _work(
    function: Callable[..., Any], arguments: tuple, log: StrPath | None, receiver: Connection, sender: Connection
) -> None:
    receiver.close()
    if log is not None:
        file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, 1)
        os.dup2(file, 2)
    before, started = os.times(), time.monotonic()
    result = function(*arguments)
    seconds, after = time.monotonic() - started, os.times()
    # A tool may have been a process below this one.
    cpu_seconds = sum(after[:4]) - sum(before[:4])
    sender.send((result, Cost(seconds, cpu_seconds, peak_memory_mb())))


def peak_memory_mb() -> float:
    """Return the largest resident memory that this process, or one below it, has had so far, in MB."""
    of = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return max(resource.getrusage(who).ru_maxrss for who in of) / 1024


def words_of(log: StrPath, marks: Sequence[str], lines: int = 4) -> str:
    """Return the telling lines at the end of a tool's log, to be quoted: those with one of `marks`, else the last."""
    text = Path(log).read_text(errors="replace") if Path(log).exists() else ""
    found = [line.strip() for line in text.splitlines() if line.strip()]
    marked = [line for line in found if any(mark in line for mark in marks)]
    return " | ".join((marked or found)[-lines:]) or "nothing"


def scratch() -> tempfile.TemporaryDirectory[str]:
    """Return a temporary folder for a tool's files, as a context manager."""
    return tempfile.TemporaryDirectory(prefix="register-")
