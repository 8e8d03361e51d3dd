"""How far a training has come: enough to go on after an eviction as if nothing had happened.

A checkpoint is one .npz of plain arrays beside the outputs. The workflow does not declare it, since Snakemake deletes
what it declares before a rule runs again. What a training draws follows from seed and epoch, so the epoch is all that
remains of its random state.
"""

import hashlib
import json
import logging
import time
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cohortmorph.run.files import StrPath, publishing

log = logging.getLogger("cohortmorph")


def fingerprint(facts: Any, files: Iterable[StrPath]) -> str:
    """Return a sha256 (hexadecimal) of `facts` (anything that JSON can write) and of the contents of `files`."""
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    for path in files:
        with Path(path).open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


class Checkpoint:
    """The state of one training after some epoch: variables, history and the files of the epochs kept so far.

    Parameters
    ----------
    path : path
        The file, .npz.
    fingerprint : str
        Of everything that decides the training's result; a checkpoint with another one is not used.
    every_seconds : float
        The least time between two writings of the file; where writing is slow, 50 times what it takes.
    """

    def __init__(self, path: StrPath, fingerprint: str, every_seconds: float = 10) -> None:
        self.path, self.fingerprint, self.every_seconds = Path(path), fingerprint, every_seconds
        self.written = time.monotonic()
        self.first_epoch = 1

    def restore(self, variables: Sequence[Any], kept_paths: Mapping[int, StrPath]) -> list[list[float]]:
        """Put the saved state back, if there is one of this very training.

        Parameters
        ----------
        variables : list of tf.Variable
            Of network and optimizer; they are assigned.
        kept_paths : dict
            {epoch: path}: files of earlier epochs are written again.

        Returns
        -------
        rows : list of lists
            The history so far; empty if training begins at the beginning.
        """
        state = self._read()
        if state is None:
            return []
        for number, variable in enumerate(variables):
            variable.assign(state[f"variable-{number:04d}"])
        for epoch, path in kept_paths.items():
            if f"kept-{epoch}" in state:
                with publishing(path) as partial:
                    partial.write_bytes(state[f"kept-{epoch}"].tobytes())
        rows = [[int(row[0]), *row[1:]] for row in state["history"].tolist()]
        self.first_epoch = len(rows) + 1
        log.info("Going on after epoch %d, from %s", len(rows), self.path)
        return rows

    def save(
        self,
        variables: Sequence[Any],
        rows: Sequence[Sequence[float]],
        kept_paths: Mapping[int, StrPath],
        last: bool = False,
    ) -> None:
        """Write the state after the epoch of the last row, unless the file is too young."""
        if not last and time.monotonic() - self.written < self.every_seconds:
            return
        started = time.monotonic()
        state = {f"variable-{number:04d}": variable.numpy() for number, variable in enumerate(variables)}
        for epoch, path in kept_paths.items():
            if epoch <= rows[-1][0]:
                state[f"kept-{epoch}"] = np.fromfile(path, np.uint8)
        with publishing(self.path) as partial:
            np.savez(partial, fingerprint=self.fingerprint, history=np.array(rows, np.float64), **state)
        self.written = time.monotonic()
        self.every_seconds = max(self.every_seconds, 50 * (self.written - started))

    def _read(self) -> dict[str, np.ndarray] | None:
        """Return the arrays of the file, or None where there is none that fits."""
        if not self.path.exists():
            return None
        try:
            with np.load(self.path, allow_pickle=False) as file:
                if str(file["fingerprint"]) != self.fingerprint:
                    log.info("%s is of a training with other settings, inputs or code: training anew.", self.path)
                    return None
                return dict(file)
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            log.warning("%s cannot be read (%s): training anew.", self.path, error)
            return None
