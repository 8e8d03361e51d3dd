"""A DICOM series read as one image on one even grid, or refused with the numbers that show why.

The modules behind it: `folder` finds files, `slices`, `facets` and `mosaic` read headers, `pixels` values, `series`
says which series there are, `volumes` splits them, `choice` says which is meant, `stack` makes a grid of its slices.
Messages and sidecars hold nothing from the headers that could name a patient.
"""

from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any

import SimpleITK as sitk

from cohortmorph import UserError
from cohortmorph.clinic.choice import Choice, chosen_volume, pick
from cohortmorph.clinic.folder import Folder, read_folder
from cohortmorph.clinic.pixels import refuse_cut_off
from cohortmorph.clinic.series import candidates, common
from cohortmorph.clinic.slices import ACQUISITION, Slice
from cohortmorph.clinic.stack import arrange, grid_of, read_stack
from cohortmorph.run.files import StrPath
from cohortmorph.spatial.geometry import Grid, to_image


def read_series(
    folder: StrPath,
    name: str | None = None,
    choice: str = "",
    allow: Collection[str] = (),
    tilt: str = "resample",
    uneven: str = "refuse",
) -> tuple[sitk.Image, dict[str, Any]]:
    """Read one series of images in `folder` (and its subfolders).

    Parameters
    ----------
    folder : str or Path
    name : str, optional
        How messages call the series; the folder's path if left out.
    choice : str
        Which series, see :func:`cohortmorph.clinic.choice.pick`; empty if there is one only.
    allow : sequence of str
        What may be read though it is no plain series: see :data:`cohortmorph.clinic.series.ALLOWABLE`.
    tilt, uneven : {"resample", "refuse"}
        What to do with a tilted gantry, and with slice distances that differ; see cohortmorph.clinic.stack.

    Returns
    -------
    image : SimpleITK image
        int16 where that is exact, else float32; rescaled (HU for CT); k runs along the normal of the slices.
    sidecar : dict
        Geometry and acquisition, without identity; see :func:`describe`. Besides ``volume``, in words, where the series
        has several, or shows another thing than the magnitude.

    Raises
    ------
    UserError
        If it is not clear which series is meant, or its slices make no even grid without loss.
    """
    name = str(folder) if name is None else name
    chosen = choose(folder, name, choice, allow)
    volume = chosen_volume(chosen, name)
    stack = arrange(volume.slices, name, allow)
    array, grid, resampled = read_stack(stack, name, tilt, uneven)
    sidecar = describe(stack.slices, grid, resampled)
    return to_image(array, grid), sidecar | ({"volume": volume.words} if volume.words else {})


def read_geometry(
    folder: StrPath,
    name: str,
    choice: str = "",
    allow: Collection[str] = (),
    tilt: str = "resample",
    uneven: str = "refuse",
) -> tuple[Grid, set[str]]:
    """Return the grid on which :func:`read_series` reads a series, and its frames of reference (UIDs).

    What that refuses is refused, but for what only decoding its pixels shows: all headers are read, and files that end
    too early are found.
    """
    chosen = choose(folder, name, choice, allow)
    volume = chosen_volume(chosen, name)
    grid = grid_of(arrange(volume.slices, name, allow), name, tilt, uneven)
    refuse_cut_off(volume.slices, name)
    return grid, frames_of_reference(chosen)


def frames_of_reference(chosen: Choice) -> set[str]:
    """Return the UIDs of the frames of reference that a series states."""
    return {slice_.series.frame_of_reference for slice_ in chosen.candidate.slices} - {""}


def choose(folder: StrPath, name: str, choice: str = "", allow: Collection[str] = ()) -> Choice:
    """Return what is meant of a folder, see :func:`read_series`."""
    found = read_folder(folder, name)
    _refuse_broken(found, name)
    if not found.slices:
        archives = f", {found.archives} of them archives, which are not opened" if found.archives else ""
        raise UserError(
            f"{name}: found no DICOM image among {found.others} files{archives}; expected the slices of a series."
        )
    return pick(candidates(found.slices, name), name, choice, allow)


def _refuse_broken(found: Folder, name: str) -> None:
    """Refuse a folder in which a slice may be missing without a trace."""
    if found.damaged:
        broken = " and ".join(f"{count} file(s) are {how}" for how, count in found.damaged.items())
        raise UserError(
            f"{name}: {broken}, so a slice may be missing without a trace. Export the series again, and remove what is "
            "none of its files."
        )
    if found.packed:
        packed = " and ".join(f"{count} DICOM file(s) are compressed by {how}" for how, count in found.packed.items())
        raise UserError(f"{name}: {packed}; expected them as they were exported. Decompress them.")


def describe(slices: Sequence[Slice], grid: Grid, resampled: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return the sidecar of a series: an allow-list of its geometry and acquisition.

    Parameters
    ----------
    slices : list of Slice
    grid : Grid
    resampled : dict, optional
        How the grid was made (:func:`cohortmorph.clinic.stack.read_stack`).

    Returns
    -------
    sidecar : dict
        ``modality``, the geometry (:func:`describe_geometry`), ``slice_thickness_mm``, ``manufacturer``, ``resampled``
        (null if the voxels are those of the scanner) and what all slices agree on of ACQUISITION.
    """
    series = slices[0].series
    thickness_mm = Counter(one.series.thickness_mm for one in slices)
    sidecar: dict[str, Any] = {"modality": series.modality, **describe_geometry(grid)}
    sidecar["slice_thickness_mm"] = series.thickness_mm if len(thickness_mm) == 1 else None
    sidecar["manufacturer"] = series.manufacturer
    sidecar["resampled"] = resampled or None
    acquisition = {name: common(slices, keyword) for keyword, name in ACQUISITION.items()}
    return sidecar | {name: value for name, value in acquisition.items() if value is not None}


def describe_geometry(grid: Grid) -> dict[str, Any]:
    """Return a grid's geometry for a sidecar; directions are unit vectors (LPS) along i, j and k."""
    return {
        "size": list(grid.size),
        "spacing_mm": list(grid.spacing_mm),
        "origin_lps_mm": list(grid.origin_mm),
        "direction_lps": grid.axes.T.tolist(),
        "slice_distance_mm": grid.spacing_mm[2],
    }
