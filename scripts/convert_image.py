"""Convert one image of the cohort table to NIfTI on its native grid, with a sidecar that names nobody.

In:  the row of the cohort table, whose source is a folder with DICOM series, or a 3-D image file (NIfTI, MHA, NRRD).
Out: the image (int16 where that is exact, else float32; HU for CT; LPS, mm) and a JSON sidecar with its geometry and,
     of DICOM, its acquisition and how it was resampled, if it was.

The path of the source stays inside this script: see cohortmorph.cohort.sources.
"""

from pathlib import Path

import nibabel
import numpy as np
import SimpleITK as sitk

from cohortmorph import UserError
from cohortmorph.clinic.privacy import without_identity
from cohortmorph.clinic.reader import describe_geometry, read_series
from cohortmorph.cohort import sources
from cohortmorph.run import files, logs
from cohortmorph.spatial import geometry


def main(
    source: str, image: str, sidecar: str, name: str | None = None, series: str = "", settings: dict | None = None
):
    """Convert the folder or file `source` to the files `image` (.nii.gz) and `sidecar` (.json).

    Parameters
    ----------
    source, image, sidecar : str
        Paths.
    name : str, optional
        How messages call the source; its path if left out.
    series : str
        Which series of a folder, see cohortmorph.clinic.series.pick.
    settings : dict, optional
        `allow`, `tilt` and `uneven` of cohortmorph.clinic.reader.read_series.
    """
    source, name = str(source), str(source) if name is None else name
    if Path(source).is_dir():
        converted, description = read_series(source, name, series, **(settings or {}))
    elif Path(source).is_file():
        converted, description = read_file(source, name)
    else:
        raise UserError(f"{name}: no such folder or file. Correct `source` in the cohort table.")
    refuse_empty(converted, name)
    geometry.write_image(converted, image)
    files.write_json(description, sidecar)
    logs.log.info("%s × %s × %s voxels of %.4g × %.4g × %.4g mm", *converted.GetSize(), *converted.GetSpacing())


def read_file(source: str, name: str) -> tuple[sitk.Image, dict]:
    """Read an image file; as int16 where that is exact. Its free texts (NIfTI's descrip) are left behind."""
    try:
        read = geometry.read_image(source)
    except UserError as error:
        raise UserError(str(error).replace(source, name)) from None
    array, grid = geometry.to_array(read), geometry.Grid.of(read)
    if source.endswith((".nii", ".nii.gz")):
        # ITK's reader of NIfTI turns NaN and infinity into 0 without a word; nibabel shows them.
        refuse_infinite(np.asanyarray(nibabel.load(source).dataobj), name)
    refuse_infinite(array, name)
    exact = np.all(np.abs(array) < 2**15) and np.all(array == array.astype(np.int16))
    return geometry.to_image(array.astype(np.int16) if exact else array, grid), describe_geometry(grid)


def refuse_infinite(values: np.ndarray, name: str) -> None:
    """Refuse values that are not finite."""
    infinite = np.count_nonzero(~np.isfinite(values))
    if infinite:
        raise UserError(
            f"{name}: {infinite} of {values.size} voxels are not finite numbers (NaN or infinite). "
            "Replace them, by 0 or by the value of air, before you register the image."
        )


def refuse_empty(image: sitk.Image, name: str) -> None:
    """Refuse an image that no method could register: the tools would return the identity without a word."""
    values = sitk.GetArrayViewFromImage(image)
    if min(image.GetSize()) < 2:
        raise UserError(f"{name}: found {image.GetSize()} voxels; expected a volume with several slices.")
    if values.min() == values.max():
        raise UserError(f"{name}: all voxels have the value {values.min()}; expected an image of something.")


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
        )
