"""Whatever of a user's a result rests on: if its content changes, the result is made again, however the file looks."""

import os
import re

import pytest

pytestmark = pytest.mark.workflow

SETTINGS = """
data_folder: data
phantom: null
harmonize: {enabled: false}
pairs: {design: within-subject, fixed: A, moving: [B]}
networks: {matching: null, voxelmorph: null}
baselines: {matching-refined: null, niftyreg: null, bspline-1r: null, points: {tool: points, model: rigid}}
"""
# What is changed of which subject, and what must be made again for that alone.
CHANGES = {
    "T1": ("T1A/DICOM/S1/IM1", "convert_image"),
    "T2": ("T2A.raw", "prealign"),
    "T3": ("T3B_fiducials.csv", "register_points"),
    "T4": ("T4B_landmarks.csv", "measure_pair"),
    "T5": ("T5B_labels.nii.gz", "warp_pair"),
    "T6": ("T6A_labels.dcm", "convert_labels"),
}


def made_up(project):
    """Give the project a cohort whose files hold nothing that could be read."""
    data = project.folder / "data"
    rows = ["subject\timage\tmodality\tsource\tlabels\tlandmarks\tmask\tfiducials\tsplit"]
    for subject in CHANGES:
        for image in "AB":
            name = f"{subject}{image}"
            labels = f"{name}_labels.{'dcm' if subject == 'T6' else 'nii.gz'}"
            cells = [name, labels, f"{name}_landmarks.csv", f"{name}_mask.mhd", f"{name}_fiducials.csv"]
            (data / name / "DICOM/S1").mkdir(parents=True)
            for file in (*cells[1:], f"{name}/DICOM/S1/IM1", f"{name}.raw"):
                (data / file).write_text(f"content of {file}")
            (data / cells[3]).write_text(f"ElementDataFile = {name}.raw\n")
            rows.append("\t".join([subject, image, "CT", *cells, "test"]))
    project.write("config/cohort.tsv", "\n".join(rows) + "\n")
    project.write("my.yaml", SETTINGS)


def reruns(said):
    """Return (rule, subject) of the jobs of a dry run that are done because of what they are given."""
    blocks = re.findall(r"^rule (\w+):\n((?:    .*\n)+)", said, re.M)
    changed = [(rule, re.search(r"wildcards:.*?(T\d)", text)) for rule, text in blocks if "Params have changed" in text]
    return {(rule, subject[1]) for rule, subject in changed if subject}


def test_every_result_whose_files_changed_is_made_again(project):
    """The files are as old and as large as before, some of them where Snakemake does not look."""
    made_up(project)
    arguments = ("--configfile", "my.yaml")
    code, said = project.snakemake(*arguments, "--summary")
    assert code == 0, said
    for line in said.partition("output_file\t")[2].splitlines()[1:]:
        output = project.folder / line.split("\t")[0]
        is_folder = "." not in output.name
        (output if is_folder else output.parent).mkdir(parents=True, exist_ok=True)
        (output / "file" if is_folder else output).touch()
    code, said = project.snakemake(*arguments, "--touch", "--forceall", "--quiet")
    assert code == 0, said
    assert project.planned(*arguments) == {}
    for file, _ in CHANGES.values():
        path = project.folder / "data" / file
        before = path.stat()
        with path.open("r+b") as opened:
            opened.write(b"CONTENT")
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    code, said = project.snakemake(*arguments, "--dry-run")
    assert code == 0, said
    assert {(rule, subject) for subject, (_, rule) in CHANGES.items()} <= reruns(said)
    # Nobody rests on another subject's files.
    assert all(rule != "convert_image" or subject == "T1" for rule, subject in reruns(said))
    # What is the same after all can be said to be.
    code, said = project.snakemake(*arguments, "--touch", "--quiet")
    assert code == 0 and project.planned(*arguments) == {}, said
