"""A DICOM series read as one image on one even grid, or refused with the numbers that show why.

The rooms behind it: dicom_slices reads headers and pixels, dicom_series says which series there are and which is meant,
dicom_stack makes a grid of its slices. Messages and sidecars hold nothing from the headers that could name a patient.
"""

from collections import Counter

from cohortmorph import UserError
from cohortmorph.clinic.series import candidates, common, pick
from cohortmorph.clinic.slices import ACQUISITION, read_folder
from cohortmorph.clinic.stack import arrange, read_stack
from cohortmorph.spatial.geometry import to_image


def read_series(folder, name=None, choice="", allow=(), tilt="resample", uneven="refuse"):
    """Read one series of images in `folder` (and its subfolders).

    Parameters
    ----------
    folder : str or Path
    name : str, optional
        How messages call the series; the folder's path if left out.
    choice : str
        Which series, see :func:`cohortmorph.clinic.series.pick`; empty if there is one only.
    allow : sequence of str
        What may be read though it is no plain series: see :data:`cohortmorph.clinic.series.ALLOWABLE`.
    tilt, uneven : {"resample", "refuse"}
        What to do with a tilted gantry, and with slice distances that differ; see cohortmorph.clinic.stack.

    Returns
    -------
    image : SimpleITK image
        int16 where that is exact, else float32; rescaled (HU for CT); k runs along the normal of the slices.
    sidecar : dict
        Geometry and acquisition, without identity; see :func:`describe`.

    Raises
    ------
    UserError
        If it is not clear which series is meant, or its slices make no even grid without loss.
    """
    name = str(folder) if name is None else name
    chosen, volume = choose(folder, name, choice, allow)
    stack = arrange(chosen.slices, name, volume, allow)
    array, grid, resampled = read_stack(stack, name, tilt, uneven)
    return to_image(array, grid), describe(stack.slices, grid, resampled)


def choose(folder, name, choice="", allow=()):
    """Return the candidate of a folder that is meant, and the number of its volume (or None)."""
    found = read_folder(folder, name)
    if found.damaged:
        raise UserError(
            f"{name}: {found.damaged} image file(s) are cut off within their header, so a slice may be missing without "
            "a trace. Export the series again."
        )
    if not found.slices:
        raise UserError(f"{name}: found no DICOM image among {found.others} files; expected the slices of a series.")
    return pick(candidates(found.slices), name, choice, allow)


def describe(slices, grid, resampled=None):
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
    sidecar = {"modality": series.modality, **describe_geometry(grid)}
    sidecar["slice_thickness_mm"] = series.thickness_mm if len(thickness_mm) == 1 else None
    sidecar["manufacturer"] = series.manufacturer
    sidecar["resampled"] = resampled or None
    acquisition = {name: common(slices, keyword) for keyword, name in ACQUISITION.items()}
    return sidecar | {name: value for name, value in acquisition.items() if value is not None}


def describe_geometry(grid):
    """Return a grid's geometry for a sidecar; directions are unit vectors (LPS) along i, j and k."""
    return {
        "size": list(grid.size),
        "spacing_mm": list(grid.spacing_mm),
        "origin_lps_mm": list(grid.origin_mm),
        "direction_lps": grid.axes.T.tolist(),
        "slice_distance_mm": grid.spacing_mm[2],
    }
