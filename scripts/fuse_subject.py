"""Lay a subject's moved images on its fixed image: fused images as NIfTI and PNG, the moved ones as DICOM.

In:  a subject's fixed image; for each moving image, the moved one of the chosen method, on the fixed grid (LPS, mm).
Out: a folder: `{image}_{kind}.nii.gz` in colours, `png/{image}_{kind}/` with one picture a slice, `dicom/{image}/` with
     the moved values in their own units, `overview.png`, and fusion.json, which says by which method and how exactly.

Where a registration failed nothing is fused, and fusion.json says so.
"""

from cohortmorph.clinic.privacy import without_identity
from cohortmorph.cohort import sources
from cohortmorph.cohort.methods import Method
from cohortmorph.evaluation.tables import best_of, read_choices
from cohortmorph.figures.fusion import Fusion, frame_of_reference_of
from cohortmorph.run import files, logs
from cohortmorph.spatial.geometry import read_image


def main(
    subject: str,
    fixed: dict,
    moving: list,
    selected: list,
    settings: dict,
    output: str,
    frame_of_reference: str = "",
    phantom: bool = False,
):
    """Fuse the images of one subject.

    Parameters
    ----------
    subject : str
    fixed : dict
        Of the fixed image its ``name`` as in the cohort table, its path ``file``, and ``intensity``, settings of
        cohortmorph.spatial.intensity.prepare.
    moving : list of dict
        See cohortmorph.figures.fusion.Fusion.write.
    selected : list of str
        Paths of the networks' selected_model.json: the method that did best on the validation pairs is taken. Empty
        where there is one method.
    settings : dict
        The configuration's ``fusion``.
    output : str
        The folder; made, or replaced as a whole.
    frame_of_reference : str
        The fixed image's FrameOfReferenceUID, for DICOM; "" for a new one.
    """
    best = best_of(read_choices(selected).values())
    method = Method.of_choice(best).id if best else next(iter(moving[0]["moved"]))
    still = read_image(fixed["file"])
    fusion = Fusion(subject, fixed["name"], still, fixed["intensity"], method, settings, frame_of_reference, phantom)
    with files.publishing_folder(output) as folder:
        files.write_json(fusion.write(moving, folder), folder / "fusion.json")


if __name__ == "__main__":
    subject, image = snakemake.wildcards.subject, snakemake.wildcards.image
    given = dict(snakemake.params)
    folder, series, options = (given.pop(key) for key in ("data_folder", "series", "dicom"))
    name = f"subject {subject}, image {image}"
    with logs.job(snakemake.log[0], packages=["pydicom", "SimpleITK"]), without_identity(name):
        frame = ""
        if given["settings"]["dicom"] == "linked":
            path = sources.path_of(snakemake.input.table, folder, subject, image)
            frame = frame_of_reference_of(path, name, series, options["allow"])
        main(
            subject=subject,
            fixed={"name": image, "file": snakemake.input.fixed, "intensity": given.pop("fixed_intensity")},
            selected=snakemake.input.get("selected", []),
            output=snakemake.output[0],
            frame_of_reference=frame,
            **given,
        )
