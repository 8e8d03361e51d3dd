"""Which version of the workflow runs."""

import subprocess
from os import PathLike


def commit(folder: str | PathLike[str]) -> str:
    """Return the git commit of a folder, marked if anything in it was changed since; "" outside of a repository."""
    command = ["git", "-C", str(folder), "describe", "--always", "--dirty"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""
