"""Projects to run Snakemake in."""

import pytest
from projects import SMALL, SUBJECTS, Project, table_of


@pytest.fixture
def project(tmp_path):
    """A fresh copy of the project."""
    return Project(tmp_path)


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """The small phantom cohort, run to the end, once for all tests that look at it."""
    project = Project(tmp_path_factory.mktemp("phantom"))
    project.write("config/cohort.tsv", table_of(SUBJECTS))
    project.write("small.yaml", SMALL)
    code, said = project.snakemake("--configfile", "small.yaml")
    assert code == 0, said[-6000:]
    return project
