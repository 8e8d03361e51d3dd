"""One private pool for all tests of this folder, and the small cohort to run through it."""

import os
import tempfile
from pathlib import Path

import pytest
from pools import STARTED, Pool, Run, missing, small_project


def pytest_collection_modifyitems(items):
    """Mark every test of this folder."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.pool)


@pytest.fixture(autouse=True)
def no_run_outlives_its_test():
    """End what a failed test leaves behind."""
    yield
    while STARTED:
        run = STARTED.pop()
        if run.process.poll() is None:
            run.kill()


@pytest.fixture(scope="session")
def pool(request):
    """A pool that lives as long as the tests."""
    if reason := missing():
        assert not os.environ.get("CI"), f"no pool in CI: {reason}"
        pytest.skip(f"no private HTCondor pool here: {reason}")
    # Its sockets need a short path; the unpacked packages are kept for the next time.
    with tempfile.TemporaryDirectory(prefix="pool") as folder:
        pool = Pool(request.config.cache.mkdir("htcondor") / "prefix", folder)
        code, said = pool.script("start")
        if code:
            pool.script("stop")
            assert not os.environ.get("CI"), said
            pytest.skip(f"the private HTCondor pool does not start: {said[-1000:]}")
        yield pool
        pool.script("stop")


@pytest.fixture
def project(tmp_path):
    """The small cohort, nothing done yet."""
    return small_project(tmp_path)


@pytest.fixture(scope="session")
def finished(pool, tmp_path_factory):
    """The small cohort, run to the end through the pool."""
    project = small_project(tmp_path_factory.mktemp("pool"))
    Run(project, pool, "--configfile", "small.yaml").finish(1800)
    return project
