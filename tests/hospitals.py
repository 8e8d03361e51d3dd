"""The small phantom cohort as a hospital would give it: folders, files and tags named after the patients."""

import shutil

from test_privacy import CANARY, leaks, plant_folder

from cohortmorph.simulated import phantom

SETTINGS = """
data_folder: pacs
voxelmorph: null
baselines: {bspline-1r: null, bspline-3r: null}
evaluation: {bootstrap_samples: 200}
"""


def hospital_project(project, made):
    """Give a project such a cohort of one subject, and hospital.yaml; the phantom is made in the folder `made`."""
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
    """Return where words of the patient are in what a run leaves: all but the hospital's folder and the table."""
    ours = [project.folder / "pacs", project.folder / "config/cohort.tsv"]
    return [path for path in leaks(project.folder) if not any(path.is_relative_to(one) for one in ours)]
