"""One run a folder: a lock that dies with its process."""

import fcntl
import os
import socket
import time
from pathlib import Path

from cohortmorph import UserError

LOCK = Path(".snakemake/cohortmorph.lock")


def lock_folder(path: Path = LOCK, patience_seconds: float = 5) -> None:
    """Take the folder for this process as long as it lives, or say who has it.

    The kernel frees the lock when the process ends, however it ends: a stale one cannot exist.

    Raises
    ------
    UserError
        Another process has the folder: its host and number are named.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # A bare descriptor: nothing closes it, and no program that Snakemake starts inherits it.
    lock = os.open(path, os.O_RDWR | os.O_CREAT)
    until = time.monotonic() + patience_seconds
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if time.monotonic() > until:
                raise UserError(
                    f"another Snakemake is at work in {Path.cwd()}: process {path.read_text().strip() or 'unknown'}. "
                    "Wait until it is done, or end it there with `kill`; then start the same command again. Nothing "
                    "has been changed."
                ) from None
            time.sleep(0.2)
    os.ftruncate(lock, 0)
    os.write(lock, f"{os.getpid()} on {socket.gethostname()}\n".encode())
