"""Which tests share a worker where tests run side by side (make test): those that share a cohort that takes minutes."""

from pathlib import Path

import pytest

SHARING = ("htcondor", "real", "workflow")


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(items):
    """Group the tests of each of these folders."""
    for item in items:
        folder = item.path.relative_to(Path(__file__).parent).parts[0]
        if folder in SHARING:
            item.add_marker(pytest.mark.xdist_group(folder))
