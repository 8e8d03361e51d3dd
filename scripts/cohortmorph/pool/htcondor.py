"""Before the first job: one run in this folder, none of an earlier run's jobs, and a pool that is asked with care.

What the rules need of this room is here: :func:`begin`, :func:`on_htcondor`, ``has_gpus`` and ``FOLDER``.
"""

import socket
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Any

from cohortmorph import UserError
from cohortmorph.cohort.pairs import Image
from cohortmorph.pool.executor import Executor, outside
from cohortmorph.pool.lock import lock_folder
from cohortmorph.pool.queue import FOLDER, Watch, has_gpus, remove_leftovers, remove_leftovers_if_possible

__all__ = ["FOLDER", "begin", "has_gpus", "on_htcondor"]

RUNS = Path("results/logs/htcondor")  # the profile's htcondor-jobdir


def on_htcondor(workflow: Any) -> bool:
    """Say whether this run sends its jobs to HTCondor (a dry run does not)."""
    return getattr(workflow.executor_plugin, "name", None) == "htcondor"


def begin(workflow: Any, images: Iterable[Image]) -> None:
    """Make a run safe, before its first job: one run in this folder, none of its earlier jobs, a fresh event log.

    Parameters
    ----------
    workflow : snakemake.workflow.Workflow
    images : iterable of Image
        See :class:`cohortmorph.cohort.cohort.Cohort`.

    Raises
    ------
    UserError
        If another run has the folder, the queue does not answer, a file cannot be sent, or the plugin is not the one
        that was tested.
    """
    lock_folder()
    folder = str(Path.cwd())
    if not on_htcondor(workflow):
        if RUNS.exists():
            remove_leftovers_if_possible(folder)
        return
    from htcondor2 import Schedd

    executor = Executor(workflow)
    try:
        schedd = Schedd()
    except Exception as error:
        raise UserError(
            f"HTCondor's queue does not answer on {socket.gethostname()}: {error}. Start Snakemake "
            "where `condor_q` works."
        ) from None
    remove_leftovers(schedd, folder)
    if not workflow.storage_settings.shared_fs_usage:
        if problem := outside(images, workflow.overwrite_configfiles):
            raise UserError(problem)
        executor.send_files()
    executor.use_folder(Path(executor.plugin.jobDir) / datetime.now().strftime("%Y-%m-%d_%H-%M-%S"))
    Watch(folder).start()
