"""The executor plugin, changed where a long run of a cohort needs it otherwise, and refused where it cannot be.

The plugin has no hooks for what is done here, so members of its executor are replaced that it promises nobody. That is
sound for the one version that was read and tested: another one is refused before the first job.
"""

import logging
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from cohortmorph import UserError
from cohortmorph.cohort import sources
from cohortmorph.cohort.pairs import Image
from cohortmorph.pool.queue import withdraw

log = logging.getLogger("snakemake.logging")

PLUGIN, TESTED = "snakemake-executor-plugin-htcondor", "0.3.0"
# What is read or replaced of its executor.
MEMBERS = (
    *("jobDir", "_unified_log_file", "run_job", "report_job_error"),
    *(
        "_format_htcondor_environment",
        "_add_file_if_transferable",
        "_get_files_for_transfer",
        "_prepare_config_files_for_transfer",
    ),
)
WORKFLOW = ("Snakefile", "rules", "scripts", "config", "envs")  # what every job reads of this folder
# Waits between attempts to reach a schedd that is away: half an hour altogether.
PATIENCE_SECONDS = (10, 20, 60, 120, 300, 600, 600)


class Executor:
    """The plugin's executor with other ways to submit, to tell errors, to send files and to name its folder.

    Parameters
    ----------
    workflow : snakemake.workflow.Workflow
        Whose jobs go to HTCondor, after its executor was made and before its first job.

    Raises
    ------
    UserError
        If the plugin is of another version, or lacks a member that would be replaced.
    """

    def __init__(self, workflow: Any) -> None:
        self.plugin = tested_executor(workflow)
        self.plugin.run_job = patiently(self.plugin.run_job, withdraw)
        self.plugin.report_job_error = telling(self.plugin.report_job_error)
        self.plugin._format_htcondor_environment = environment

    def use_folder(self, folder: Path) -> None:
        """Keep the event log and the output of jobs in a folder, which is made.

        The plugin dies or hangs of an event log that exists when it starts: each run needs a folder of its own.
        """
        folder.mkdir(parents=True)
        self.plugin.jobDir = str(folder)
        self.plugin._unified_log_file = str(folder / "snakemake-rules.log")

    def send_files(self) -> None:
        """Send the workflow's and the chosen configuration files along, and bring log and benchmark back.

        For machines that share no files with this one.
        """
        plugin = self.plugin
        add, get_files = plugin._add_file_if_transferable, plugin._get_files_for_transfer

        def add_other(path: Any, *arguments: Any, **options: Any) -> bool:
            # The plugin lists a script by its path from the rule file, which is no path from here.
            known = str(path or "").split("/")[0] in ("..", *WORKFLOW)
            return False if known else add(path, *arguments, **options)

        def get_files_of_workflow(job: Any) -> tuple[list[str], list[str], list[str]]:
            sent, returned, remaps = get_files(job)
            for member in job.jobs if job.is_group() else [job]:
                for path in filter(None, [*member.log, member.benchmark]):
                    returned.append(str(path))
                    remaps.append(f"{path} = {Path.cwd() / path}")
            return [*sent, *WORKFLOW], returned, remaps

        def get_config_files(job_args: str, shared_prefixes: Sequence[str]) -> tuple[str, list[str]]:
            # The plugin's own would name config/config.yaml last, where it wins over every --configfile.
            chosen = [os.path.relpath(path) for path in plugin.workflow.overwrite_configfiles]
            return job_args, [path for path in chosen if path.split("/")[0] not in WORKFLOW]

        plugin._add_file_if_transferable, plugin._get_files_for_transfer = add_other, get_files_of_workflow
        plugin._prepare_config_files_for_transfer = get_config_files


def tested_executor(workflow: Any) -> Any:
    """Return the plugin's executor, or say which version of the plugin to install."""
    found, executor = version(PLUGIN), getattr(workflow.scheduler, "_executor", None)
    lacking = [member for member in MEMBERS if not hasattr(executor, member)]
    if found != TESTED or lacking:
        what = f", whose executor has no {', '.join(lacking)}" if lacking else ""
        raise UserError(
            f"found {PLUGIN} {found} with Snakemake {version('snakemake')}{what}; expected version {TESTED} of the "
            "plugin, the only one with which the changes that are made to it here were tested. Install it: "
            f"`pip install {PLUGIN}=={TESTED}`, or all that is locked by `uv sync`."
        )
    return executor


def environment(variables: Mapping[str, str]) -> str:
    """Return variables in HTCondor's new syntax: all in double quotes, each value in single ones, both doubled inside.

    The plugin leaves the outer quotes away; HTCondor then takes two variables for one, and quotes as part of a value.
    """
    parts = [f"{name}='{value.replace(chr(39), 2 * chr(39))}'" for name, value in variables.items()]
    return '"' + " ".join(parts).replace('"', '""') + '"'


def patiently(
    submit: Callable[[Any], Any], withdraw: Callable[[Any], None], waits_seconds: Iterable[float] = PATIENCE_SECONDS
) -> Callable[[Any], Any]:
    """Return `submit(job)`, tried again while HTCondor is away: the plugin would end the whole run.

    `withdraw(job)` comes before every further attempt: the answer alone may have been lost, and one job is enough.
    """

    def submit_patiently(job: Any) -> Any:
        for wait_seconds in waits_seconds:
            try:
                return submit(job)
            except Exception as error:
                log.warning(f"HTCondor takes no job ({error}); the next attempt is in {wait_seconds} s.")
                time.sleep(wait_seconds)
                try:
                    withdraw(job)
                except Exception as still_away:
                    log.warning(f"HTCondor's queue does not answer: {still_away}")
        return submit(job)

    return submit_patiently


def telling(report_error: Callable[..., Any]) -> Callable[..., Any]:
    """Return `report_error`, which also says HTCondor's reason: Snakemake (9.27) drops it for jobs packed together."""

    def report_and_tell(job_info: Any, msg: str | None = None, **details: Any) -> Any:
        if msg and job_info.job.is_group():
            log.warning(msg)
        return report_error(job_info, msg=msg, **details)

    return report_and_tell


def outside(images: Iterable[Image], config_files: Iterable[str | os.PathLike[str]] = ()) -> str:
    """Say which files cannot be sent with a job, as they lie outside of this folder, or return "".

    Parameters
    ----------
    images : iterable of Image
        The cohort's. Sources and structures from the clinic are no matter: they are converted here.
    config_files : sequence of path
        Those of --configfile.
    """
    found = [f"  --configfile {path}" for path in config_files if os.path.relpath(path).startswith("..")]
    found += [
        f"  subject {image.subject}, image {image.name}, column {column}: {getattr(image, column)}"
        for image in images
        for column in ("labels", "landmarks", "mask", "fiducials")
        if not sources.is_segmentation(getattr(image, column))
        and (Path(getattr(image, column)).is_absolute() or ".." in Path(getattr(image, column)).parts)
    ]
    if not found:
        return ""
    return "\n".join(
        [
            f"{len(found)} files lie outside of {Path.cwd()}. Without a shared file system they go along with jobs, by "
            "their path from here: copy or link them to this folder, and give their new paths.",
            *found,
        ]
    )
