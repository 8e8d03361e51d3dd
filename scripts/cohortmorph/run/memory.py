"""How much memory a job may still take: what does not fit is refused in words, before hours of work end in SIGKILL."""

import os
import re
from collections.abc import Mapping
from pathlib import Path

from cohortmorph import UserError
from cohortmorph.run.files import StrPath

MEMORY_OF_V1 = ("memory.limit_in_bytes", "memory.usage_in_bytes")


def left_mb(root: StrPath = "/", environment: Mapping[str, str] = os.environ) -> tuple[float, str]:
    """Return how much memory this process may still take, and what sets the limit.

    The least of three: the machine's available memory (Linux, ``MemAvailable``), what this process's control groups
    (v2 or v1: containers, Slurm, HTCondor) leave, caches counted as free, and the memory of the HTCondor slot.

    Parameters
    ----------
    root : path
        Where ``proc`` and ``sys`` are.
    environment : mapping

    Returns
    -------
    megabytes : float
        Infinite where nothing is known.
    source : str
        Of the limit, to be told.
    """
    proc = Path(root) / "proc"
    limits = [(_field(proc / "meminfo", "MemAvailable:", scale=1024), "the machine has free")]
    limits += [(room, "its control group (container or batch system) leaves it") for room in _control_groups(root)]
    slot_mb = _field(environment.get("_CONDOR_MACHINE_AD", ""), "Memory =", scale=2**20)
    limits.append((slot_mb - _field(proc / "self/status", "VmRSS:", 1024, missing=0), "its HTCondor slot leaves it"))
    room, source = min(limits)
    return room / 2**20, source


def check(parts_mb: Mapping[str, float], remedy: str, left: tuple[float, str] | None = None) -> None:
    """Refuse work that does not fit into memory.

    Parameters
    ----------
    parts_mb : dict of str to float
        What takes memory, in MB, in words.
    remedy : str
        What the user can do.
    left : (float, str), optional
        See :func:`left_mb`.

    Raises
    ------
    UserError
    """
    megabytes, source = left or left_mb()
    needed = sum(parts_mb.values())
    if needed > megabytes:
        told = ", ".join(f"{name} {size:,.0f} MB" for name, size in parts_mb.items())
        raise UserError(
            f"not enough memory: about {needed:,.0f} MB are needed ({told}), and {source} {megabytes:,.0f} MB. {remedy}"
        )


def _field(path: StrPath, name: str, scale: int = 1, missing: float = float("inf")) -> float:
    """Return the number behind `name` at the beginning of a line of a file, times `scale`; bytes."""
    try:
        found = re.search(rf"^{re.escape(name)}\s*(\d+)", Path(path).read_text(), re.M)
    except OSError:
        return missing
    return int(found[1]) * scale if found else missing


def _control_groups(root: StrPath) -> list[float]:
    """Return the bytes that each limited control group of this process, and each above it, has left."""
    try:
        lines = (Path(root) / "proc/self/cgroup").read_text().split()
    except OSError:
        return []
    left = []
    for line in lines:
        _, controllers, group = line.split(":", 2)
        if controllers not in ("", "memory"):
            continue
        mount = Path(root) / "sys/fs/cgroup" / controllers
        limit, used = ("memory.max", "memory.current") if not controllers else MEMORY_OF_V1
        folder = mount / group.lstrip("/")
        for place in [folder, *folder.parents[: len(folder.parts) - len(mount.parts)]]:
            # Version 1 writes a number without meaning, larger than any memory, where there is no limit.
            caches = _field(place / "memory.stat", "inactive_file", missing=0)
            left.append(_field(place / limit, "") - _field(place / used, "", missing=0) + caches)
    return left
