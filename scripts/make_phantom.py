"""Make one subject of the phantom cohort: CT, T1 and T2 as DICOM, with labels, points and the true displacements.

In:  nothing but the subject's id and four numbers (the head is the MNI152 template in nilearn's wheel).
Out: in one folder, for CT, T1 and T2: ``{image}/`` with DICOM slices, ``{image}_labels.nii.gz`` (1 CSF, 2 GM, 3 WM),
     ``{image}_landmarks.tsv`` and ``{image}_fiducials.tsv`` (LPS, mm; fiducials with a localization error);
     ``truth_T1_to_CT.nii.gz`` and ``truth_T2_to_CT.nii.gz`` (displacement on the grid of the CT, from the CT to the
     image, LPS, mm); ``truth.json`` (planted angles, shifts and slices).
"""

from pathlib import Path

from cohortmorph.run import logs
from cohortmorph.simulated import phantom


def main(subject: str, folder: Path, seed: int, spacing_mm: float, slab_mm: int, deformation_mm: float):
    """Write the phantom subject into `folder`; the same arguments give the same bytes."""
    phantom.write_subject(subject, folder, seed, spacing_mm, slab_mm, deformation_mm)
    logs.log.info("The phantom subject %s has CT, T1 and T2, deformed by up to %g mm.", subject, deformation_mm)


if __name__ == "__main__":
    with logs.job(snakemake.log[0], packages=["nilearn", "pydicom", "SimpleITK"]):
        main(snakemake.wildcards.subject, Path(snakemake.output.truth).parent, **snakemake.params)
