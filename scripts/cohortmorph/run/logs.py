"""What every job says of itself: one log file, the same lines on stderr, and errors a physicist can act on."""

import logging
import platform
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

from cohortmorph import UserError
from cohortmorph.run.files import StrPath

log = logging.getLogger("cohortmorph")


@contextmanager
def job(path: StrPath, packages: Sequence[str] = ()) -> Iterator[logging.Logger]:
    """Log to `path` and to stderr while the block runs.

    A :class:`~cohortmorph.UserError` ends the process with its message alone; any other error leaves its traceback
    in the log.

    Parameters
    ----------
    path : str or Path
        The rule's log file.
    packages : sequence of str
        Distributions whose versions stand in the first line.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handlers: list[logging.Handler] = [logging.FileHandler(path, mode="w"), logging.StreamHandler(sys.stderr)]
    for handler in handlers:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s", "%H:%M:%S"))
        log.addHandler(handler)
    log.setLevel(logging.INFO)
    named = ", ".join(f"{package} {version(package)}" for package in packages)
    log.info("Python %s%s", platform.python_version(), f", {named}" if named else "")
    try:
        yield log
    except UserError as error:
        log.error("%s", error)
        sys.exit(1)
    except BaseException:
        log.exception("This is a fault of the workflow, not of your data:")
        raise
    finally:
        for handler in handlers:
            log.removeHandler(handler)
            handler.close()
