"""A cohort full of a patient's name: HTCondor's queue, history and logs hold none of it."""

import json
import re

import pytest
from hospitals import hospital_project, left
from pools import Run
from test_privacy import BIRTH_DATE, CANARY, UID_ROOT


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_jobs_name_nobody(pool, project, tmp_path_factory):
    hospital = hospital_project(project, tmp_path_factory.mktemp("phantom"))
    run = Run(hospital, pool, "results/images/LUNG1-001/T1-ax.nii.gz", "--configfile", "hospital.yaml")
    said = run.finish()
    jobs = pool.history(hospital.folder)
    assert [job["JobBatchName"].split("-")[0] for job in jobs] == ["convert_image"]
    assert not re.search(f"{CANARY}|{BIRTH_DATE}|{UID_ROOT}", said + json.dumps(jobs), re.I)
    assert (hospital.folder / "results/logs/htcondor").is_dir() and left(hospital) == []
