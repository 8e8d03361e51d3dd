"""The real data: its folder is in the environment variable COHORTMORPH_DATA; without it these tests are skipped."""

import os

import pytest
from projects import Project


@pytest.fixture
def project(tmp_path):
    """A copy of the project to run Snakemake in."""
    if not os.environ.get("COHORTMORPH_DATA"):
        pytest.skip("needs the real data: set COHORTMORPH_DATA to their folder")
    return Project(tmp_path)
