"""A run's jobs on an HTCondor pool: one run a folder, no jobs left over, and words for a job that cannot run.

Jobs carry the ClassAd attribute :data:`FOLDER`, the folder in which Snakemake works. So a run knows its own jobs, and
those of the run before it in the same folder.
"""

import fcntl
import functools
import logging
import os
import re
import socket
import threading
import time
from datetime import datetime
from pathlib import Path

from cohortmorph import UserError
from cohortmorph.cohort import sources

# Snakemake's own: what is said here stands in the run's log. It prints messages as they are, %s and all: use f-strings.
log = logging.getLogger("snakemake.logging")

FOLDER = "CohortMorphFolder"
WORKFLOW = ("Snakefile", "rules", "scripts", "config", "envs")  # what every job reads of this folder
LOCK = Path(".snakemake/cohortmorph.lock")
RUNS = Path("results/logs/htcondor")  # the profile's htcondor-jobdir
IDLE, REMOVED, HELD = 1, 3, 5  # HTCondor's JobStatus
WATCH_SECONDS = 20
# Waits between attempts to reach a schedd that is away: half an hour altogether.
PATIENCE_SECONDS = (10, 20, 60, 120, 300, 600, 600)
JOB = ("ClusterId", "Args", "Arguments", "JobStatus", "HoldReason", "HoldReasonCode")
# What a job asks for: attribute of the job, of a whole machine, in HTCondor's unit; divisor and unit for the reader.
REQUESTS = {
    "memory": ("RequestMemory", "TotalSlotMemory", 1024, "GB"),  # MB
    "disk": ("RequestDisk", "TotalSlotDisk", 1024**2, "GB"),  # KB
    "cores": ("RequestCpus", "TotalSlotCpus", 1, ""),
    "GPUs": ("RequestGPUs", "TotalSlotGPUs", 1, ""),
}
CURES = {  # by HTCondor's HoldReasonCode
    1: "Somebody held it by hand (condor_hold).",
    34: "It needed more memory than it asked for; the next attempt asks for more.",
    12: "Its files did not come back: look at the free space of this folder.",
    13: "Its files did not arrive: look whether all inputs can be read here.",
    46: "It took longer in the queue than allowed (allowed_job_duration).",
    47: "It ran longer than it asked for; the next attempt asks for more.",
}


def lock_folder(path=LOCK, patience_seconds=5):
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


def own_jobs(schedd, folder, projection=JOB):
    """Return the ads of the jobs in the queue that belong to a folder."""
    return list(schedd.query(constraint=f'{FOLDER} == "{folder}"', projection=list(projection)))


def remove_leftovers(schedd, folder, patience_seconds=300):
    """Remove the jobs of earlier runs in a folder, and wait until none of them can write any more."""
    from htcondor2 import JobAction

    left = own_jobs(schedd, folder)
    if left:
        names = ", ".join(sorted(job_name(job) for job in left))
        log.warning(f"Removing {len(left)} jobs that an earlier run left in the queue: {names}")
        schedd.act(
            JobAction.Remove, f'{FOLDER} == "{folder}" && JobStatus != {REMOVED}', reason="left by an earlier run"
        )
    until = time.monotonic() + patience_seconds
    while left:
        if time.monotonic() > until:
            raise UserError(
                f"{len(left)} jobs of an earlier run are still in the queue after {patience_seconds} s, and may still "
                "write: their machines may be out of reach. If you are sure that they are gone, give them up with\n"
                f"  condor_rm -forcex -constraint '{FOLDER} == \"{folder}\"'\nand start the same command again."
            )
        time.sleep(1)
        left = own_jobs(schedd, folder)


def job_name(job):
    """Return the rules and wildcards of a job, as `prealign (pair=P01-T1_to_P01-CT)`, from its command line."""
    # Args or Arguments: HTCondor's old and new way to write a command line down.
    targets = re.search(r"--target-jobs (.*?) --", (job.get("Args") or job.get("Arguments") or "") + " --")
    names = []
    for target in targets[1].split() if targets else []:
        rule, _, wildcards = target.strip("\"'").partition(":")
        names.append(f"{rule} ({wildcards})" if wildcards else rule)
    return " + ".join(names) or f"job {job.get('ClusterId')}"


def asked(job):
    """Return what a job asks for, in words."""
    parts = [
        f"{_amount(job[attribute], divisor, unit)} {what}"
        for what, (attribute, _, divisor, unit) in REQUESTS.items()
        if job.get(attribute)
    ]
    return ", ".join(parts)


def unmatchable(job, machines):
    """Say why no machine of the pool can ever run a job, or return "".

    Parameters
    ----------
    job : mapping
        With the attributes of :data:`REQUESTS`.
    machines : list of mappings
        The pool's slots with their totals.
    """
    reasons = []
    for what, (attribute, total, divisor, unit) in REQUESTS.items():
        wanted, most = job.get(attribute) or 0, max((machine.get(total) or 0 for machine in machines), default=0)
        if wanted > most:
            best = f"has more than {_amount(most, divisor, unit)}" if most else "has any"
            reasons.append(f"asked for {_amount(wanted, divisor, unit)} {what}; no slot of the pool {best}")
    if not reasons and not any(_fits(job, machine) for machine in machines):
        reasons.append(f"asked for {asked(job)}; no slot of the pool has all of it together")
    return "; ".join(reasons)


def _fits(job, machine):
    return all((job.get(wanted) or 0) <= (machine.get(total) or 0) for wanted, total, *_ in REQUESTS.values())


def _amount(value, divisor, unit):
    if unit == "GB" and value < divisor:
        return f"{1024 * value / divisor:.3g} MB"
    return f"{value / divisor:.3g} {unit}".strip()


def machines(collector):
    """Return the totals of the pool's slots."""
    from htcondor2 import AdType

    return list(collector.query(AdType.Startd, projection=[total for _, total, *_ in REQUESTS.values()]))


def on_htcondor(workflow):
    """Say whether this run sends its jobs to HTCondor (a dry run does not)."""
    return getattr(workflow.executor_plugin, "name", None) == "htcondor"


@functools.cache
def has_gpus():
    """Say whether any machine of the pool has a GPU; if not, warn."""
    from htcondor2 import Collector

    found = any(machine.get("TotalSlotGPUs") for machine in machines(Collector()))
    if not found:
        log.warning("voxelmorph.gpu is true, but no machine of the pool has a GPU: training runs on CPUs.")
    return found


class Watch(threading.Thread):
    """Looks at the run's jobs in the queue, and says in the run's log which one cannot run and why.

    A held job is removed as well: Snakemake has counted it as failed, and released later it would write the files of
    its successor.
    """

    def __init__(self, folder):
        super().__init__(daemon=True, name="cohortmorph-pool")
        self.folder = folder
        self.told = set()

    def run(self):
        while True:
            time.sleep(WATCH_SECONDS)
            try:
                self.look()
            except Exception as error:  # the queue may be away for a while; the watch goes on
                self.tell(("error", str(error)), f"HTCondor's queue does not answer: {error}")

    def look(self):
        """Look once."""
        from htcondor2 import Collector, JobAction, Schedd

        schedd = Schedd()
        attributes = [*JOB, *(attribute for attribute, *_ in REQUESTS.values())]
        jobs = own_jobs(schedd, self.folder, attributes)
        for job in jobs:
            if job["JobStatus"] == HELD:
                cure = CURES.get(job.get("HoldReasonCode"), "")
                self.tell(
                    ("held", job["ClusterId"]),
                    f"HTCondor held {job_name(job)}, cluster {job['ClusterId']}, which asked for {asked(job)}: "
                    f"{job.get('HoldReason') or 'no reason given'}. {cure} It is removed from the queue.",
                )
                schedd.act(JobAction.Remove, [f"{job['ClusterId']}.0"], reason="held")
        idle = [job for job in jobs if job["JobStatus"] == IDLE and job["ClusterId"] not in self.told]
        if idle:
            pool = machines(Collector())
            for job in idle:
                reason = unmatchable(job, pool)
                if reason:
                    self.tell(
                        job["ClusterId"],
                        f"No machine can run {job_name(job)}, cluster {job['ClusterId']}: it {reason}. It waits until "
                        "one comes. Ask for less in the rule's `needs(...)` or with --set-resources, or see "
                        f"`condor_q -better-analyze {job['ClusterId']}`.",
                    )

    def tell(self, key, message):
        """Say a message once."""
        if key not in self.told:
            self.told.add(key)
            log.warning(message)


def _remove_leftovers_if_possible(folder):
    """Before a run on this machine alone, in a folder that was at work on a pool before."""
    try:
        from htcondor2 import Schedd

        remove_leftovers(Schedd(), folder)
    except UserError:
        raise
    except Exception as error:
        log.warning(
            f"An earlier run in this folder used HTCondor, whose queue does not answer here ({error}): if it was "
            f"killed, look with `condor_q -constraint '{FOLDER} == \"{folder}\"'` whether jobs of it still write."
        )


def patiently(submit, withdraw, waits_seconds=PATIENCE_SECONDS):
    """Return `submit(job)`, tried again while HTCondor is away: the plugin would end the whole run.

    `withdraw(job)` comes before every further attempt: the answer alone may have been lost, and one job is enough.
    """

    def submit_patiently(job):
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


def telling(report_error):
    """Return `report_error`, which also says HTCondor's reason: Snakemake (9.27) drops it for jobs packed together."""

    def report_and_tell(job_info, msg=None, **details):
        if msg and job_info.job.is_group():
            log.warning(msg)
        return report_error(job_info, msg=msg, **details)

    return report_and_tell


def send_files(executor):
    """Have the plugin send the workflow's and the chosen configuration files along, and bring log and benchmark back.

    For machines that share no files with this one.

    Parameters
    ----------
    executor : snakemake_executor_plugin_htcondor.Executor
    """
    add, get_files = executor._add_file_if_transferable, executor._get_files_for_transfer

    def add_other(path, *arguments, **options):
        # The plugin (0.3.0) lists a script by its path from the rule file, which is no path from here.
        known = str(path or "").split("/")[0] in ("..", *WORKFLOW)
        return False if known else add(path, *arguments, **options)

    def get_files_of_workflow(job):
        sent, returned, remaps = get_files(job)
        for member in job.jobs if job.is_group() else [job]:
            for path in filter(None, [*member.log, member.benchmark]):
                returned.append(str(path))
                remaps.append(f"{path} = {Path.cwd() / path}")
        return [*sent, *WORKFLOW], returned, remaps

    def get_config_files(job_args, shared_prefixes):
        # The plugin's own would name config/config.yaml last, where it wins over every --configfile.
        chosen = [os.path.relpath(path) for path in executor.workflow.overwrite_configfiles]
        return job_args, [path for path in chosen if path.split("/")[0] not in WORKFLOW]

    executor._add_file_if_transferable, executor._get_files_for_transfer = add_other, get_files_of_workflow
    executor._prepare_config_files_for_transfer = get_config_files


def outside(images, config_files=()):
    """Say which files cannot be sent with a job, as they lie outside of this folder, or return "".

    Parameters
    ----------
    images : DataFrame
        See :class:`cohortmorph.cohort.cohort.Cohort`. Sources and structures from the clinic are no matter: they
        are converted here.
    config_files : sequence of path
        Those of --configfile.
    """
    found = [f"  --configfile {path}" for path in config_files if os.path.relpath(path).startswith("..")]
    found += [
        f"  subject {row.subject}, image {row.image}, column {column}: {getattr(row, column)}"
        for row in images.itertuples()
        for column in ("labels", "landmarks", "mask", "fiducials")
        if not sources.is_segmentation(getattr(row, column))
        and (Path(getattr(row, column)).is_absolute() or ".." in Path(getattr(row, column)).parts)
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


def withdraw(job):
    """Remove what the queue holds of a job that Snakemake is about to submit."""
    from htcondor2 import JobAction, Schedd

    named = f'{FOLDER} == "{Path.cwd()}" && JobBatchName == "{job.name}-{job.jobid}"'
    Schedd().act(JobAction.Remove, named, reason="submitted again")


def begin(workflow, images):
    """Make a run safe, before its first job: one run in this folder, none of its earlier jobs, a fresh event log.

    Parameters
    ----------
    workflow : snakemake.workflow.Workflow
    images : DataFrame
        See :class:`cohortmorph.cohort.cohort.Cohort`.
    """
    lock_folder()
    folder = str(Path.cwd())
    if not on_htcondor(workflow):
        if RUNS.exists():
            _remove_leftovers_if_possible(folder)
        return
    from htcondor2 import Schedd

    try:
        schedd = Schedd()
    except Exception as error:
        raise UserError(
            f"HTCondor's queue does not answer on {socket.gethostname()}: {error}. Start Snakemake "
            "where `condor_q` works."
        ) from None
    remove_leftovers(schedd, folder)
    executor = workflow.scheduler._executor
    if not workflow.storage_settings.shared_fs_usage:
        if problem := outside(images, workflow.overwrite_configfiles):
            raise UserError(problem)
        send_files(executor)
    # The plugin (0.3.0) dies or hangs of an event log that exists when it starts: each run gets a folder of its own.
    executor.jobDir = str(Path(executor.jobDir) / datetime.now().strftime("%Y-%m-%d_%H-%M-%S"))
    Path(executor.jobDir).mkdir(parents=True)
    executor.run_job = patiently(executor.run_job, withdraw)
    executor.report_job_error = telling(executor.report_job_error)
    executor._unified_log_file = str(Path(executor.jobDir) / "snakemake-rules.log")
    Watch(folder).start()
