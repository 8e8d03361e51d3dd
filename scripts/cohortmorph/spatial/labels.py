"""Label maps: a whole number at each voxel, 0 where there is no structure."""

import numpy as np
import pandas as pd
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


def dice(fixed, moved):
    """Return the Dice coefficient 2 |A ∩ B| / (|A| + |B|) of each label.

    Parameters
    ----------
    fixed, moved : integer array, any equal shape

    Returns
    -------
    dict of int to float
        In the order of the labels. A label in one of the two maps only has 0; 0 (no structure) is not a label.
    """
    fixed, moved = np.asarray(fixed), np.asarray(moved)
    if fixed.shape != moved.shape:
        raise ValueError(f"label maps of shapes {fixed.shape} and {moved.shape} cannot be compared voxel by voxel")
    # One pass for all labels: an atlas has a hundred of them.
    numbers, labels = pd.factorize(np.concatenate([fixed.ravel(), moved.ravel()]), sort=True)
    fixed_numbers, moved_numbers = np.split(numbers, 2)
    fixed_count, moved_count, common = (
        np.bincount(chosen, minlength=len(labels))
        for chosen in (fixed_numbers, moved_numbers, fixed_numbers[fixed_numbers == moved_numbers])
    )
    overlap = 2 * common / (fixed_count + moved_count)
    return {int(label): float(value) for label, value in zip(labels, overlap, strict=True) if label != 0}
