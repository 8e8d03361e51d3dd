"""Convert one image of the cohort table to NIfTI on its native grid, with a sidecar that names nobody.

In:  the row of the cohort table, whose source is a folder with DICOM series, or a 3-D image file (NIfTI, MHA, NRRD).
Out: the image (int16 where that is exact, else float32; HU for CT; LPS, mm) and a JSON sidecar with its geometry and,
     of DICOM, its acquisition and how it was resampled, if it was.

The path of the source stays inside this script: see cohortmorph.cohort.sources.
"""

from cohortmorph.clinic.image_file import is_folder, read_file, refuse_empty
from cohortmorph.clinic.privacy import without_identity
from cohortmorph.clinic.reader import read_series
from cohortmorph.cohort import sources
from cohortmorph.run import files, logs
from cohortmorph.spatial import geometry


def main(
    source: str,
    image: str,
    sidecar: str,
    name: str | None = None,
    series: str = "",
    settings: dict | None = None,
    form: str = "",
):
    """Convert the folder or file `source` to the files `image` (.nii.gz) and `sidecar` (.json).

    Parameters
    ----------
    source, image, sidecar : str
        Paths.
    name : str, optional
        How messages call the source; its path if left out.
    series : str
        Which series of a folder, see cohortmorph.clinic.choice.pick; which volume of a file.
    settings : dict, optional
        `allow`, `tilt` and `uneven` of cohortmorph.clinic.reader.read_series.
    form : str
        Of a NIfTI file: ``sform`` or ``qform``, see cohortmorph.clinic.image_file.read_file.
    """
    source, name = str(source), str(source) if name is None else name
    if is_folder(source, name, form):
        converted, description = read_series(source, name, series, **(settings or {}))
    else:
        converted, description = read_file(source, name, series, form)
    refuse_empty(converted, name)
    geometry.write_image(converted, image)
    files.write_json(description, sidecar)
    logs.log.info("%s × %s × %s voxels of %.4g × %.4g × %.4g mm", *converted.GetSize(), *converted.GetSpacing())


if __name__ == "__main__":
    subject, image = snakemake.wildcards.subject, snakemake.wildcards.image
    name = f"subject {subject}, image {image}"
    with logs.job(snakemake.log[0], packages=["pydicom", "SimpleITK"]), without_identity(name):
        main(
            sources.path_of(snakemake.input.table, snakemake.params.data_folder, subject, image),
            snakemake.output.image,
            snakemake.output.sidecar,
            name,
            snakemake.params.series,
            snakemake.params.settings,
            snakemake.params.form,
        )
