# What the rules share: the plan (scripts/cohortmorph/cohort/plan.py), and how a rule asks it and the machine.
import sys
from functools import partial
from pathlib import Path

from snakemake.exceptions import WorkflowError

sys.path.insert(0, str(Path(workflow.basedir) / "scripts"))

from cohortmorph import UserError
from cohortmorph.cohort import configuration, plan as plans, skipped
from cohortmorph.cohort.pairs import ID, PAIR_ID
from cohortmorph.cohort.learning_plan import LearningPlan
from cohortmorph.cohort.report_plan import ReportPlan
from cohortmorph.evaluation.measures import SELECTABLE
from cohortmorph.pool import htcondor as pool
from cohortmorph.run import provenance

is_main_run = workflow.is_main_process  # and not one of its jobs
has_environments = bool(workflow.deployment_settings.deployment_method)  # each rule one of its own
# Snakemake lists a --configfile first, though it is the one that wins.
chosen_files = list(map(str, workflow.overwrite_configfiles))
config_files = [path for path in map(str, workflow.configfiles) if path not in chosen_files] + chosen_files

# What a metric of evaluation.selection needs of a pair.
needs_of_metrics = {name: measure.needs for name, measure in SELECTABLE.items()}

try:
    plan = plans.load(config, config_files, needs_of_metrics, is_main_run, has_environments)
except UserError as error:
    raise WorkflowError(str(error)) from None
config.update(plan.config)
cohort, results, learning, shown = plan.cohort, plan.results, LearningPlan(plan), ReportPlan(plan)
# The jobs of a pool get these of the environment as well.
workflow.register_envvars(skipped.VARIABLE, *configuration.variables(config))
SHARED_FILES = bool(workflow.storage_settings.shared_fs_usage)  # whether the machines of a pool see this folder


def of(function):
    """Return an input or params function: what the plan's `function` says of a job's wildcards."""
    return lambda wildcards: function(**dict(wildcards.items()))


def files(function):
    """Return the named inputs that the plan's `function` gives for a job's wildcards, without those that it lacks."""
    return unpack(lambda wildcards: {name: path for name, path in function(**dict(wildcards.items())).items() if path})


def users_files(function):
    """Return a params function: one fingerprint of the user's own files among the inputs that the plan's `function` gives.

    Snakemake only sees that an input is newer than what was made of it: no older file in its place, no voxels beside a
    header. (It does not record params that depend on `input` itself.)
    """
    return lambda wildcards: plan.fingerprint_of(function(**dict(wildcards.items())))


def needs(memory_mb, minutes, disk_mb=2000, gpus=0):
    """Return a rule's resources: for Snakemake and, under the names that its plugin reads, for HTCondor.

    Memory and time grow with each attempt.
    """

    def grown(amount):
        return lambda wildcards, attempt: amount * attempt

    asked = {
        "mem_mb": grown(memory_mb),
        "htcondor_request_mem_mb": grown(memory_mb),
        "disk_mb": disk_mb,
        "htcondor_request_disk_mb": disk_mb,
        "runtime": grown(minutes),
        "allowed_execute_duration": grown(60 * minutes),
        f"classad_{pool.FOLDER}": str(Path.cwd()),
    }
    if not SHARED_FILES:
        # HTCondor would send the Python of .venv/ itself, which is nothing without what lies around it.
        asked["job_wrapper"] = "profiles/htcondor/job.sh"
    if gpus:
        has_some = lambda wildcards: gpus if not pool.on_htcondor(workflow) or pool.has_gpus() else 0
        asked |= {"gpu": gpus, "request_gpus": has_some}
    return asked


# Of a fixed length: Snakemake compiles and compares these for every file of every job, and lists of all ids made the
# dry run of 400 subjects twice as long. What fits, but is not in the cohort, is refused where it is looked up.
wildcard_constraints:
    subject=ID,
    image=ID,
    pair=PAIR_ID,
    weight="[0-9.eE+-]+",
    network="[a-z0-9-]+",
    grid="[23]d-[a-z0-9.+-]+",
