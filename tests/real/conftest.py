"""The real data: its folder is in the environment variable COHORTMORPH_DATA; without it these tests are skipped."""

import importlib.util
import os
from pathlib import Path

import pytest

_workflow = Path(__file__).parents[1] / "workflow" / "conftest.py"
_specification = importlib.util.spec_from_file_location("workflow_conftest", _workflow)
_module = importlib.util.module_from_spec(_specification)
_specification.loader.exec_module(_module)


@pytest.fixture
def project(tmp_path):
    """A copy of the project to run Snakemake in."""
    if not os.environ.get("COHORTMORPH_DATA"):
        pytest.skip("needs the real data: set COHORTMORPH_DATA to their folder")
    return _module.Project(tmp_path)
