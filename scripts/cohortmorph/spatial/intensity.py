"""Intensities of one modality made comparable before every method: clipped and scaled to [0, 1]."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import SimpleITK as sitk

from cohortmorph import UserError
from cohortmorph.run.logs import log


def limits(array: np.ndarray, settings: Mapping[str, Any], name: str = "image") -> tuple[float, float]:
    """Return the intensities (low, high), in the image's own units, that become 0 and 1.

    Parameters
    ----------
    array : array, any shape
        Intensities; values that are not finite are left out.
    settings : dict
        ``{"window": [low, high]}`` in the image's own units (HU for CT), or ``{"percentiles": [low, high]}`` in
        percent, taken over all finite voxels of the image, background included.
    name : str
        How error messages call the image.

    Raises
    ------
    UserError
        If the settings are of neither kind or not ascending, if nothing is finite, or if all voxels get one value.
    """
    kinds = {"window", "percentiles"} & set(settings)
    if len(kinds) != 1 or len(settings) != 1:
        raise UserError(
            f"{name}: found the intensity settings {dict(settings)}; expected one of `window: [low, high]` (in the "
            "image's own units) or `percentiles: [low, high]` (in percent). Correct `intensity` in the configuration."
        )
    (kind,) = kinds
    low, high = (float(bound) for bound in settings[kind])
    if not low < high or (kind == "percentiles" and not 0 <= low < high <= 100):
        raise UserError(f"{name}: found `{kind}: [{low:g}, {high:g}]`; expected a lower bound, then a higher one.")
    finite = array[np.isfinite(array)]
    if not finite.size:
        raise UserError(f"{name}: no voxel has a finite value. Check the file that it was converted from.")
    if kind == "percentiles":
        low, high = (float(bound) for bound in np.percentile(finite, [low, high]))
    clipped = np.clip([finite.min(), finite.max()], low, high)
    if not clipped[0] < clipped[1]:
        raise UserError(
            f"{name}: the intensities run from {finite.min():g} to {finite.max():g}, so that "
            f"`{kind}: {settings[kind]}` (from {low:g} to {high:g}) gives all voxels one value. Check the image, or "
            "correct `intensity` for its modality."
        )
    return low, high


def prepare(image: sitk.Image, settings: Mapping[str, Any], name: str = "image") -> sitk.Image:
    """Clip an image to its :func:`limits` and scale it to [0, 1].

    Parameters
    ----------
    image : SimpleITK image, in its own units
    settings : dict
        See :func:`limits`.
    name : str
        How error messages call the image.

    Returns
    -------
    prepared : SimpleITK image, float32, on the same grid
        Voxels that are not finite get 0.
    """
    array = sitk.GetArrayFromImage(image).astype(np.float64)
    low, high = limits(array, settings, name)
    scaled = np.nan_to_num((np.clip(array, low, high) - low) / (high - low), nan=0.0)
    prepared = sitk.GetImageFromArray(scaled.astype(np.float32))
    prepared.CopyInformation(image)
    return prepared


def prepare_or_blank(image: sitk.Image, settings: Mapping[str, Any], name: str = "image") -> sitk.Image:
    """As :func:`prepare`, but an image that it refuses becomes 0 everywhere, and the log says why.

    For the steps around a registration: one image that nobody can register does not end the evaluation of the others.
    (NaN would not do: ITK reads it from NIfTI as 0.)
    """
    try:
        return prepare(image, settings, name)
    except UserError as error:
        log.error("%s", error)
        return sitk.Cast(image, sitk.sitkFloat32) * 0
