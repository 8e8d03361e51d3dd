"""A whole run over a cohort whose DICOM is full of a patient's name: nothing that the run leaves holds it."""

import re
import shutil

import pydicom
import pytest
from test_privacy import BIRTH_DATE, CANARY, UID_ROOT, leaks, plant_folder

from cohortmorph import phantom

pytestmark = [pytest.mark.workflow, pytest.mark.filterwarnings("ignore::UserWarning")]
SETTINGS = """
data_folder: pacs
voxelmorph: null
baselines: {bspline-1r: null, bspline-3r: null}
evaluation: {bootstrap_samples: 200}
"""


@pytest.fixture
def hospital(project, tmp_path_factory):
    """The small cohort as a hospital would give it: folders, files and tags named after the patients."""
    made = tmp_path_factory.mktemp("phantom")
    phantom.write_subject("P01", made, seed=1, spacing_mm=4.0, slab_mm=32, deformation_mm=4.0)
    rows = ["subject\timage\tmodality\tsource\tlandmarks\tsplit"]
    for image in ("CT", "T1", "T2"):
        folder = project.folder / "pacs" / f"{CANARY}^Jane" / image
        shutil.copytree(made / image, folder)
        plant_folder(folder)
        shutil.copy(made / f"{image}_landmarks.tsv", project.folder / f"pacs/{image}.tsv")
        rows.append(f"P01\t{image}\t{image}\t{CANARY}^Jane/{image}\t{image}.tsv\ttest")
    project.write("config/cohort.tsv", "\n".join(rows) + "\n")
    project.write("hospital.yaml", SETTINGS)
    return project


def left(project):
    """What a run leaves: everything but the hospital's folder and the table that the user wrote."""
    ours = [project.folder / "pacs", project.folder / "config/cohort.tsv"]
    return [path for path in leaks(project.folder) if not any(path.is_relative_to(one) for one in ours)]


def test_a_run_leaves_no_identity(hospital):
    folder = hospital.folder / "pacs" / f"{CANARY}^Jane" / "T1"
    for path in folder.iterdir():
        if "pdf" not in path.name:
            slice_ = pydicom.dcmread(path)
            slice_.BurnedInAnnotation = "YES"
            slice_.save_as(path)
    arguments = ("--configfile", "hospital.yaml")
    code, failed = hospital.snakemake(*arguments)
    assert code != 0 and "burned into its pixels" in failed and "subject P01, image T1" in failed
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
    arguments = ("results/images/P01/CT.nii.gz", "--configfile", "hospital.yaml")
    code, said = hospital.snakemake(*arguments)
    assert code == 0, said
    assert hospital.planned(*arguments) == {}
    (hospital.folder / "pacs" / f"{CANARY}^Jane" / "CT" / "new.txt").touch()
    assert hospital.planned(*arguments) == {"convert_image": 1}
