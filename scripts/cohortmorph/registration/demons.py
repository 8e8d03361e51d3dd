"""Demons registration with SimpleITK, fixed ← moving, as one SimpleITK transform, fixed world → moving world.

Demons compare intensities: images of one modality, with equal intensities for equal tissue.
Thirion, Med. Image Anal. 2:243 (1998); Vercauteren et al., NeuroImage 45:S61 (2009).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
import yaml

from cohortmorph import UserError
from cohortmorph.registration.problem import Problem, Registered, Run
from cohortmorph.registration.process import in_child
from cohortmorph.run.files import StrPath
from cohortmorph.spatial.displacement import as_transform
from cohortmorph.spatial.geometry import Grid, to_array, to_image

VARIANTS: dict[str, Any] = {
    "demons": sitk.DemonsRegistrationFilter,
    "symmetric": sitk.FastSymmetricForcesDemonsRegistrationFilter,
    "diffeomorphic": sitk.DiffeomorphicDemonsRegistrationFilter,
}
KEYS: dict[str, Any] = {
    "variant": str,
    "iterations": list,
    "shrink_factors": list,
    "smoothing_mm": (int, float),
    "match": bool,
}


def register(problem: Problem, parameters: Sequence[StrPath], run: Run) -> Registered:
    """Run SimpleITK's demons; see :class:`cohortmorph.registration.problem.Tool`.

    The one parameter file is that of :func:`read_settings`. No random numbers are drawn. Demons push at every voxel, so
    that the mask is not used, which the provenance says.
    """
    (path,) = parameters
    settings = read_settings(path)
    values, cost, code = in_child(_run, settings, problem, run.threads)
    if values is None:
        raise UserError(f"SimpleITK's demons ended by themselves with {path} (exit code {code}).")
    field = to_image(values, Grid.of(problem.fixed))
    transform = sitk.CompositeTransform([problem.start, as_transform(field)])  # applies its last transform first
    return Registered(transform, cost, {"version": f"SimpleITK {sitk.Version.VersionString()}", "mask_used": False})


def read_settings(path: StrPath) -> dict[str, Any]:
    """Read a parameter file of demons, a YAML file.

    Returns
    -------
    dict
        ``variant`` (of :data:`VARIANTS`), ``iterations`` and ``shrink_factors`` (a number a level), ``smoothing_mm``
        (of the displacement, standard deviation), ``match`` (whether the histogram of the moving image is fitted to
        the fixed one's).

    Raises
    ------
    UserError
        With all that is wrong in it.
    """
    try:
        settings = yaml.safe_load(Path(path).read_text())
    except yaml.YAMLError as error:
        raise UserError(f"{path}: not readable as YAML: {' '.join(str(error).split())}.") from None
    if not isinstance(settings, dict):
        raise UserError(f"{path}: expected the keys {', '.join(KEYS)}, each with a value.")
    wrong = [f"unknown key {key}" for key in settings if key not in KEYS]
    wrong += [f"{key} is missing" for key in KEYS if key not in settings]
    wrong += [
        f"{key}: found {settings[key]!r}"
        for key, kind in KEYS.items()
        if key in settings and not isinstance(settings[key], kind)
    ]
    if not wrong and settings["variant"] not in VARIANTS:
        wrong.append(f"variant: found {settings['variant']}; expected one of {', '.join(VARIANTS)}")
    if not wrong and not all(isinstance(n, int) and n > 0 for n in settings["iterations"] + settings["shrink_factors"]):
        wrong.append("iterations and shrink_factors: expected whole numbers from 1")
    if not wrong and len(settings["iterations"]) != len(settings["shrink_factors"]):
        wrong.append("iterations and shrink_factors: expected a number for each level in both")
    if wrong:
        raise UserError(f"{path}: {'; '.join(wrong)}.")
    return settings


def _run(settings: dict[str, Any], problem: Problem, threads: int) -> np.ndarray:
    """Return the displacement that is left after the start, in mm, LPS, shape (*size, 3)."""
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(threads)
    fixed, moving = problem.fixed, problem.moving
    grid = Grid.of(fixed)
    # In a frame of its own, without direction cosines, which not all of ITK's filters heed: u is turned back below.
    plain = Grid(grid.size, grid.spacing_mm, (0.0, 0.0, 0.0))
    aligned = sitk.Resample(moving, fixed, problem.start, sitk.sitkLinear, float(to_array(moving).min()))
    images = [to_image(to_array(image), plain) for image in (fixed, aligned)]
    if settings["match"]:
        images[1] = sitk.HistogramMatching(images[1], images[0], 256, 7, True)
    field: Any = None
    for iterations, factor in zip(settings["iterations"], settings["shrink_factors"], strict=True):
        level = [_shrunk(image, factor) for image in images]
        if field is not None:
            field = sitk.Resample(field, level[0], sitk.Transform(), sitk.sitkLinear)
        demons = VARIANTS[settings["variant"]]()
        demons.SetNumberOfIterations(iterations)
        demons.SetSmoothDisplacementField(True)
        # The filter counts in voxels, which are not cubes.
        demons.SetStandardDeviations([settings["smoothing_mm"] / step for step in level[0].GetSpacing()])
        field = demons.Execute(*level, field) if field is not None else demons.Execute(*level)
    field = sitk.Resample(field, images[0], sitk.Transform(), sitk.sitkLinear)
    return (to_array(field) @ grid.axes.T).astype(np.float32)


def _shrunk(image: sitk.Image, factor: int) -> sitk.Image:
    """Return the image smoothed and with voxels `factor` times as wide, where an axis stays at least 8 voxels long."""
    factors = [max(1, min(factor, n // 8)) for n in image.GetSize()]
    if max(factors) == 1:
        return image
    sigmas_mm = [0.5 * f * step if f > 1 else 1e-3 * step for f, step in zip(factors, image.GetSpacing(), strict=True)]
    smooth = sitk.DiscreteGaussian(image, [sigma**2 for sigma in sigmas_mm], 32, 0.01, True)
    return sitk.Shrink(smooth, factors)
