"""Label maps: a whole number at each voxel, 0 where there is no structure."""

import numpy as np
import SimpleITK as sitk

from cohortmorph import UserError
from cohortmorph.run.files import StrPath
from cohortmorph.spatial.geometry import Grid, read_image, to_array, to_image


def read(path: StrPath, grid: Grid | None = None) -> sitk.Image:
    """Read a label map.

    Parameters
    ----------
    path : str or Path
    grid : Grid, optional
        The grid of the image that the labels belong to.

    Returns
    -------
    SimpleITK image of int32

    Raises
    ------
    UserError
        If a value is not a whole number from 0, or if the map does not lie on `grid`.
    """
    image = read_image(path, sitk.sitkFloat64)
    values = to_array(image)
    wrong = values[~((values >= 0) & (values == np.round(values)) & (values <= np.iinfo(np.int32).max))]
    if wrong.size:
        raise UserError(
            f"{path}: {wrong.size} voxels are not labels (the first is {wrong[0]:g}); expected whole numbers from 0. "
            "Was the map resampled with linear interpolation? Resample it with nearest neighbours, or threshold it."
        )
    difference = grid and grid.difference_from(Grid.of(image))
    if difference:
        raise UserError(
            f"{path}: the labels do not lie on their image's grid: {difference}. Resample them onto the image."
        )
    return to_image(values.astype(np.int32), Grid.of(image))
