"""A run's jobs in HTCondor's queue: those an earlier run left, words for one that cannot run, the watch of them all.

Jobs carry the ClassAd attribute :data:`FOLDER`, the folder in which Snakemake works. So a run knows its own jobs, and
those of the run before it in the same folder.
"""

import functools
import logging
import re
import threading
import time
from collections.abc import Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cohortmorph import UserError

# Snakemake's own: what is said here stands in the run's log. It prints messages as they are, %s and all: use f-strings.
log = logging.getLogger("snakemake.logging")

FOLDER = "CohortMorphFolder"
IDLE, REMOVED, HELD = 1, 3, 5  # HTCondor's JobStatus
WATCH_SECONDS = 20
JOB = ("ClusterId", "Args", "Arguments", "JobStatus", "HoldReason", "HoldReasonCode")
# What a job asks for: attribute of the job, of a whole machine, in HTCondor's unit; divisor and unit for the reader.
REQUESTS: dict[str, tuple[str, str, int, str]] = {
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


def own_jobs(schedd: Any, folder: str, projection: Iterable[str] = JOB) -> list[Mapping[str, Any]]:
    """Return the ads of the jobs in the queue that belong to a folder."""
    return list(schedd.query(constraint=f'{FOLDER} == "{folder}"', projection=list(projection)))


def remove_leftovers(schedd: Any, folder: str, patience_seconds: float = 300) -> None:
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


def remove_leftovers_if_possible(folder: str) -> None:
    """Remove them before a run on this machine alone; where the queue does not answer, say how to look."""
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


def withdraw(job: Any) -> None:
    """Remove what the queue holds of a job that Snakemake is about to submit."""
    from htcondor2 import JobAction, Schedd

    named = f'{FOLDER} == "{Path.cwd()}" && JobBatchName == "{job.name}-{job.jobid}"'
    Schedd().act(JobAction.Remove, named, reason="submitted again")


def job_name(job: Mapping[str, Any]) -> str:
    """Return the rules and wildcards of a job, as `prealign (pair=P01-T1_to_P01-CT)`, from its command line."""
    # Args or Arguments: HTCondor's old and new way to write a command line down.
    targets = re.search(r"--target-jobs (.*?) --", (job.get("Args") or job.get("Arguments") or "") + " --")
    names = []
    for target in targets[1].split() if targets else []:
        rule, _, wildcards = target.strip("\"'").partition(":")
        names.append(f"{rule} ({wildcards})" if wildcards else rule)
    return " + ".join(names) or f"job {job.get('ClusterId')}"


def asked(job: Mapping[str, Any]) -> str:
    """Return what a job asks for, in words."""
    parts = [
        f"{_amount(job[attribute], divisor, unit)} {what}"
        for what, (attribute, _, divisor, unit) in REQUESTS.items()
        if job.get(attribute)
    ]
    return ", ".join(parts)


def unmatchable(job: Mapping[str, Any], machines: Sequence[Mapping[str, Any]]) -> str:
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


def _fits(job: Mapping[str, Any], machine: Mapping[str, Any]) -> bool:
    return all((job.get(wanted) or 0) <= (machine.get(total) or 0) for wanted, total, *_ in REQUESTS.values())


def _amount(value: float, divisor: int, unit: str) -> str:
    if unit == "GB" and value < divisor:
        return f"{1024 * value / divisor:.3g} MB"
    return f"{value / divisor:.3g} {unit}".strip()


def machines(collector: Any) -> list[Mapping[str, Any]]:
    """Return the totals of the pool's slots."""
    from htcondor2 import AdType

    return list(collector.query(AdType.Startd, projection=[total for _, total, *_ in REQUESTS.values()]))


@functools.cache
def has_gpus() -> bool:
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

    def __init__(self, folder: str) -> None:
        super().__init__(daemon=True, name="cohortmorph-pool")
        self.folder = folder
        self.told: set[Hashable] = set()

    def run(self) -> None:
        """Look again and again."""
        while True:
            time.sleep(WATCH_SECONDS)
            try:
                self.look()
            except Exception as error:  # the queue may be away for a while; the watch goes on
                self.tell(("error", str(error)), f"HTCondor's queue does not answer: {error}")

    def look(self) -> None:
        """Look once."""
        from htcondor2 import Collector, JobAction, Schedd

        schedd = Schedd()
        attributes = [*JOB, *(attribute for attribute, *_ in REQUESTS.values())]
        jobs = own_jobs(schedd, self.folder, attributes)
        for job in jobs:
            if job["JobStatus"] == HELD:
                cure = CURES.get(job.get("HoldReasonCode") or 0, "")
                self.tell(
                    ("held", job["ClusterId"]),
                    f"HTCondor held {job_name(job)}, cluster {job['ClusterId']}, which asked for {asked(job)}: "
                    f"{job.get('HoldReason') or 'no reason given'}. {cure} It is removed from the queue.",
                )
                schedd.act(JobAction.Remove, [f"{job['ClusterId']}.0"], reason="held")
        idle = [job for job in jobs if job["JobStatus"] == IDLE and job["ClusterId"] not in self.told]
        if idle:
            found = machines(Collector())
            for job in idle:
                reason = unmatchable(job, found)
                if reason:
                    self.tell(
                        job["ClusterId"],
                        f"No machine can run {job_name(job)}, cluster {job['ClusterId']}: it {reason}. It waits until "
                        "one comes. Ask for less in the rule's `needs(...)` or with --set-resources, or see "
                        f"`condor_q -better-analyze {job['ClusterId']}`.",
                    )

    def tell(self, key: Hashable, message: str) -> None:
        """Say a message once."""
        if key not in self.told:
            self.told.add(key)
            log.warning(message)
