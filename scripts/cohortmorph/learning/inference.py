"""Pairs registered with networks that have learned: which library applies them, and what is written of it."""

import logging
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import SimpleITK as sitk

from cohortmorph import UserError
from cohortmorph.learning import graphs
from cohortmorph.learning.parameters import checksum
from cohortmorph.learning.registrar import SLICES_AT_ONCE, Registrar, View
from cohortmorph.registration.problem import Registered
from cohortmorph.registration.process import peak_memory_mb
from cohortmorph.run.files import StrPath, write_json
from cohortmorph.spatial import displacement

log = logging.getLogger("cohortmorph")


def registrar_of(shape: Sequence[int], settings: Mapping[str, Any], threads: int = 1) -> Registrar:
    """Return a new registrar for images of a `shape` (i, j, k), and networks of these settings, with their ``kind``."""
    if settings["kind"] in graphs.GRAPHS:
        dimensions = settings["dimensions"]
        applied = graphs.Applied(shape[:dimensions], settings, 1 if dimensions == 3 else SLICES_AT_ONCE, threads)
        return Registrar(applied, settings.get("passes", 1), settings.get("mirrored", False))
    # Loaded where it is needed: TensorFlow takes seconds.
    from cohortmorph.learning import applied_network
    from cohortmorph.learning.kinds import kind_of
    from cohortmorph.learning.networks import start_tensorflow

    start_tensorflow(seed=1, threads=threads)  # nothing is drawn
    return applied_network.registrar_of(kind_of(settings["kind"]), shape, settings)


def write_displacements(
    view: View, networks: Sequence[StrPath], settings: Mapping[str, Any], threads: int, outputs: Sequence[StrPath]
) -> None:
    """Register a pair with each of some networks; registration.json, beside each displacement, says how it was done.

    Parameters
    ----------
    view : View
    networks : list of path
        Parameters (.npz), all of one architecture.
    settings : dict
        Those of their training, with their ``kind``.
    threads : int
    outputs : list of path
        Of the displacements, in the order of `networks`.
    """
    registrar = registrar_of(view.network_grid.size, settings, threads)
    # A third of the time goes into compressing a field; meanwhile the next network can run.
    with ThreadPoolExecutor(1) as writer:
        clock = writer.submit(lambda: time.pthread_getcpuclockid(threading.get_ident())).result()
        written = None
        for path, output in zip(networks, outputs, strict=True):
            registrar.load(path)
            started, cpu_started = time.monotonic(), _cpu_time_without(clock)
            field = registrar.register(view)
            seconds, cpu_seconds = time.monotonic() - started, _cpu_time_without(clock) - cpu_started
            how: dict[str, Any] = {"seconds": seconds, "cpu_seconds": cpu_seconds, "peak_memory_mb": peak_memory_mb()}
            how |= {"threads": threads, "device": registrar.applied.device, "sha256": checksum(path)}
            if written:
                written.result()
            written = writer.submit(_write, field, how, output)
        if written:
            written.result()
    log.info("%d networks on %s", len(networks), registrar.applied.device)


def refuse_empty() -> Registered:
    """Fail, as the attempt of a registration whose view is empty: what the network would see is nothing."""
    raise UserError("an image could not be prepared for the network; its log in results/logs/prepare_input says why.")


def _cpu_time_without(clock: int) -> float:
    """Return the CPU seconds of this process but for the thread of `clock`."""
    return time.process_time() - time.clock_gettime(clock)


def _write(field: sitk.Image, how: Mapping[str, Any], output: StrPath) -> None:
    displacement.write(field, output)
    write_json(how, Path(output).parent / "registration.json")
