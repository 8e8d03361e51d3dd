"""Image files that are no DICOM (NIfTI, MHA, NRRD), and what of any image no method could work with."""

from typing import Any, cast

import nibabel
import numpy as np
import SimpleITK as sitk

from cohortmorph import UserError
from cohortmorph.clinic.reader import describe_geometry
from cohortmorph.spatial import geometry


def read_file(source: str, name: str) -> tuple[sitk.Image, dict[str, Any]]:
    """Read an image file; as int16 where that is exact. Its free texts (NIfTI's descrip) are left behind."""
    try:
        read = geometry.read_image(source)
    except UserError as error:
        raise UserError(str(error).replace(source, name)) from None
    array, grid = geometry.to_array(read), geometry.Grid.of(read)
    if source.endswith((".nii", ".nii.gz")):
        # ITK's reader of NIfTI turns NaN and infinity into 0 without a word; nibabel shows them.
        _refuse_infinite(np.asanyarray(cast(nibabel.Nifti1Image, nibabel.load(source)).dataobj), name)
    _refuse_infinite(array, name)
    exact = np.all(np.abs(array) < 2**15) and np.all(array == array.astype(np.int16))
    return geometry.to_image(array.astype(np.int16) if exact else array, grid), describe_geometry(grid)


def _refuse_infinite(values: np.ndarray, name: str) -> None:
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
