"""ANTs' antsRegistration, fixed ← moving, as one SimpleITK transform, fixed world → moving world.

From the Python package antspyx, or the program antsRegistration on PATH; both take the same options. Reproducible with
one thread and a given seed only, so it gets one thread. Avants et al., Med. Image Anal. 12:26 (2008).
"""

import os
import subprocess
from importlib.metadata import version
from pathlib import Path

import SimpleITK as sitk

from cohortmorph import UserError
from cohortmorph.registration.pair import in_child, read_options, scratch, words_of
from cohortmorph.run.tools import HOW_TO_GET, ants_program
from cohortmorph.spatial.geometry import write_image, write_transform

RESERVED = (
    *(
        "-d",
        "--dimensionality",
        "-o",
        "--output",
        "-r",
        "--initial-moving-transform",
        "-q",
        "--initial-fixed-transform",
    ),
    *("-x", "--masks", "-a", "--write-composite-transform", "--random-seed", "--float", "-v", "--verbose", "-k"),
)


def register(fixed, moving, parameters, seed, threads, initial, fixed_mask=None, log_folder=None):
    """Register a moving to a fixed image.

    Parameters
    ----------
    fixed, moving : SimpleITK image
        3-D, prepared intensities.
    parameters : list of path
        One file with antsRegistration's options, in which FIXED and MOVING stand for the images.
    seed : int
    threads : int
        Not used: with more than one thread the result differs from run to run (by 1 to 2 mm).
    initial : SimpleITK transform
        Affine start, fixed world → moving world.
    fixed_mask : SimpleITK image, optional
        On the fixed image's grid.
    log_folder : path
        Where ants.log is kept.

    Returns
    -------
    transform : SimpleITK transform
        Fixed world → moving world, `initial` composed in.
    cost : cohortmorph.registration.pair.Cost
        Of the registration and of reading and writing its files.
    provenance : dict
        The version, and that it ran on one thread.

    Raises
    ------
    UserError
        If ANTs is missing or fails.
    """
    (path,) = parameters
    options = [word for row in read_options(path, None, RESERVED) for word in row]
    found = ants_program()
    if not found:
        raise UserError(f"{HOW_TO_GET['ants']}.")
    Path(log_folder).mkdir(parents=True, exist_ok=True)
    log = Path(log_folder) / "ants.log"
    with scratch() as folder:
        folder = Path(folder)
        result, cost, code = in_child(
            _run, folder, found, options, fixed, moving, seed, initial, fixed_mask, log=str(log)
        )
        composite = folder / "Composite.h5"
        if result != "done" or not composite.exists():
            said = words_of(log, ("ERROR", "Error", "error", "Exception", "xception"))
            raise UserError(f"ANTs gave up with {path} (exit code {code}). It said: {said}.")
        transform = sitk.ReadTransform(str(composite))
    return transform, cost, {"version": _version(found), "threads": 1}


def _run(folder, found, options, fixed, moving, seed, initial, fixed_mask):
    write_image(fixed, folder / "fixed.nii")
    write_image(moving, folder / "moving.nii")
    write_transform(initial, folder / "initial.tfm")
    names = {"FIXED": str(folder / "fixed.nii"), "MOVING": str(folder / "moving.nii")}
    for name, file in names.items():
        options = [option.replace(name, file) for option in options]
    arguments = ["--dimensionality", "3", "--output", f"{folder}/", "--write-composite-transform", "1"]
    arguments += ["--initial-moving-transform", str(folder / "initial.tfm"), "--random-seed", str(seed), *options]
    if fixed_mask is not None:
        write_image(sitk.Cast(fixed_mask, sitk.sitkUInt8), folder / "mask.nii")
        arguments += ["--masks", f"[{folder / 'mask.nii'},NULL]"]
    arguments += ["--float", "1", "--verbose", "1"]
    # Read when the library is loaded, which must therefore not have happened in the parent.
    os.environ |= {"ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS": "1", "ANTS_RANDOM_SEED": str(seed)}
    if found == "antspyx":
        import ants

        ants.registration(arguments, None)
    else:
        subprocess.run([found, *arguments], check=True)
    return "done"


def _version(found):
    if found == "antspyx":
        return f"antspyx {version('antspyx')}"
    said = subprocess.run([found, "--version"], capture_output=True, text=True, check=False).stdout
    return said.strip().splitlines()[0] if said.strip() else "ANTs"
