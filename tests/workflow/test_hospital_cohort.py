"""A whole run over a cohort whose DICOM is full of a patient's name: nothing that the run leaves holds it."""

import re

import pydicom
import pytest
from hospitals import SETTINGS, hospital_project, left
from test_privacy import BIRTH_DATE, CANARY, UID_ROOT

pytestmark = [pytest.mark.workflow, pytest.mark.filterwarnings("ignore::UserWarning")]


@pytest.fixture
def hospital(project, tmp_path_factory):
    """The cohort of a hospital."""
    return hospital_project(project, tmp_path_factory.mktemp("phantom"))


def test_a_run_leaves_no_identity(hospital):
    folder = hospital.folder / "pacs" / f"{CANARY}^Jane" / "T1"
    for path in folder.iterdir():
        if "pdf" not in path.name:
            slice_ = pydicom.dcmread(path)
            slice_.BurnedInAnnotation = "YES"
            slice_.save_as(path)
    arguments = ("--configfile", "hospital.yaml")
    code, failed = hospital.snakemake(*arguments)
    assert code != 0 and "burned into its pixels" in failed and "subject LUNG1-001, image T1-ax" in failed
    assert left(hospital) == []
    code, listed = hospital.snakemake("list_series", *arguments)
    assert code == 0, listed
    hospital.write("hospital.yaml", SETTINGS + "dicom: {allow: [burned-in]}\n")
    code, said = hospital.snakemake(*arguments)
    assert code == 0, said[-4000:]
    assert (hospital.folder / "results/report.html").is_file() and (hospital.folder / ".snakemake/log").is_dir()
    assert left(hospital) == []
    assert not re.search(f"{CANARY}|{BIRTH_DATE}|{UID_ROOT}", failed + listed + said, re.I)


def test_a_changed_source_is_converted_again(hospital):
    arguments = ("results/images/LUNG1-001/CT_1.2.nii.gz", "--configfile", "hospital.yaml")
    code, said = hospital.snakemake(*arguments)
    assert code == 0, said
    assert hospital.planned(*arguments) == {}
    (hospital.folder / "pacs" / f"{CANARY}^Jane" / "CT" / "new.txt").touch()
    assert hospital.planned(*arguments) == {"convert_image": 1}


def test_ids_that_look_like_files_are_told_from_them(project):
    """An image may be called as what a rule makes of another: every file still has one rule."""
    names = ["CT", "CT_label", "CT.nii.gz", "T1.json", "CT-1_labels.json"]
    rows = ["subject\timage\tmodality\tsource\tlabels\tlandmarks\tsplit"]
    for subject, split in {"to_x": "train", "a.json": "validation", "a.html": "test", "a": "test"}.items():
        for name in names:
            files = [f"{subject}-{name}.{suffix}" for suffix in ("nii", "dcm", "csv")]
            rows.append("\t".join([subject, name, "CT", *files, split]))
            for file in files:
                project.write(file, "")
    project.write("config/cohort.tsv", "\n".join(rows) + "\n")
    moving = ", ".join(names[1:])
    project.write("ids.yaml", f"pairs: {{moving: [{moving}]}}\nstructures: {{Brainstem: 1}}\nphantom: null\n")
    planned = project.planned("--configfile", "ids.yaml")
    assert planned["convert_image"] == 4 * len(names) and planned["convert_labels"] == 3 * len(names)
    assert planned["measure_pair"] == planned["plot_pair"] == 3 * (len(names) - 1)
