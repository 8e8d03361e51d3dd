"""The small phantom cohort as a hospital would give it: folders, files and tags named after the patients."""

import shutil

from test_privacy import CANARY, leaks, plant_folder

from cohortmorph.simulated import phantom

SETTINGS = """
data_folder: pacs
harmonize: {fixed: CT_1.2}
pairs: {fixed: CT_1.2, moving: [T1-ax, T2]}
networks: {matching: null, voxelmorph: null}
baselines: {matching-refined: null, bspline-1r: null, bspline-3r: null}
evaluation: {bootstrap_samples: 200}
"""

IMAGES = {"CT": "CT_1.2", "T1": "T1-ax", "T2": "T2"}  # by modality, as a hospital may call them


def hospital_project(project, made):
    """Give a project such a cohort of one subject, and hospital.yaml; the phantom is made in the folder `made`."""
    phantom.write_subject("LUNG1-001", made, seed=1, spacing_mm=4.0, slab_mm=32, deformation_mm=4.0)
    rows = ["subject\timage\tmodality\tsource\tlandmarks\tsplit"]
    for modality, image in IMAGES.items():
        folder = project.folder / "pacs" / f"{CANARY}^Jane" / modality
        shutil.copytree(made / modality, folder)
        plant_folder(folder)
        shutil.copy(made / f"{modality}_landmarks.tsv", project.folder / f"pacs/{modality}.tsv")
        rows.append(f"LUNG1-001\t{image}\t{modality}\t{CANARY}^Jane/{modality}\t{modality}.tsv\ttest")
    project.write("config/cohort.tsv", "\n".join(rows) + "\n")
    project.write("hospital.yaml", SETTINGS)
    return project


def left(project):
    """Return where words of the patient are in what a run leaves: all but the hospital's folder and the table."""
    ours = [project.folder / "pacs", project.folder / "config/cohort.tsv"]
    return [path for path in leaks(project.folder) if not any(path.is_relative_to(one) for one in ours)]
