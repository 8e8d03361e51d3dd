"""ANTs' antsRegistration, fixed ← moving, as one SimpleITK transform, fixed world → moving world.

From the Python package antspyx, or the program antsRegistration on PATH; both take the same options. Reproducible with
one thread and a given seed only, so it gets one thread. Avants et al., Med. Image Anal. 12:26 (2008).
"""

import os
import subprocess
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import SimpleITK as sitk

from cohortmorph import UserError
from cohortmorph.registration.options import read_options
from cohortmorph.registration.problem import Problem, Registered, Run
from cohortmorph.registration.process import in_child, scratch, words_of
from cohortmorph.run.files import StrPath
from cohortmorph.run.tools import HOW_TO_GET, ants_program
from cohortmorph.spatial.geometry import write_image, write_transform

RESERVED = (
    *("-d", "--dimensionality", "-o", "--output", "-r", "--initial-moving-transform"),
    *("-q", "--initial-fixed-transform", "-x", "--masks", "-a", "--write-composite-transform"),
    *("--random-seed", "--float", "-v", "--verbose", "-k"),
)


def register(problem: Problem, parameters: Sequence[StrPath], run: Run) -> Registered:
    """Run antsRegistration; see :class:`cohortmorph.registration.problem.Tool`.

    The one parameter file has its options, in which FIXED and MOVING stand for the images. However many threads the job
    has, it runs on one, and says so: with more, the result differs from run to run, by 1 to 2 mm. The cost is that of
    the registration and of reading and writing its files.
    """
    (path,) = parameters
    options = [word for row in read_options(path, None, RESERVED) for word in row]
    found = ants_program()
    if not found:
        raise UserError(f"{HOW_TO_GET['ants']}.")
    log = Path(run.log_folder) / "ants.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with scratch() as name:
        folder = Path(name)
        result, cost, code = in_child(_run, folder, found, options, problem, run.seed, log=log)
        composite = folder / "Composite.h5"
        if result != "done" or not composite.exists():
            said = words_of(log, ("ERROR", "Error", "error", "Exception", "xception"))
            raise UserError(f"ANTs gave up with {path} (exit code {code}). It said: {said}.")
        transform = sitk.ReadTransform(str(composite))
    return Registered(transform, cost, {"version": _version(found), "threads": 1})


def _run(folder: Path, found: str, options: list[str], problem: Problem, seed: int) -> str:
    """Run antsRegistration in a folder; return "done"."""
    write_image(problem.fixed, folder / "fixed.nii")
    write_image(problem.moving, folder / "moving.nii")
    write_transform(problem.start, folder / "initial.tfm")
    names = {"FIXED": str(folder / "fixed.nii"), "MOVING": str(folder / "moving.nii")}
    for name, file in names.items():
        options = [option.replace(name, file) for option in options]
    arguments = ["--dimensionality", "3", "--output", f"{folder}/", "--write-composite-transform", "1"]
    arguments += ["--initial-moving-transform", str(folder / "initial.tfm"), "--random-seed", str(seed), *options]
    if problem.mask is not None:
        write_image(sitk.Cast(problem.mask, sitk.sitkUInt8), folder / "mask.nii")
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


def _version(found: str) -> str:
    """Return the version of what was found."""
    if found == "antspyx":
        return f"antspyx {version('antspyx')}"
    said = subprocess.run([found, "--version"], capture_output=True, text=True, check=False).stdout
    return said.strip().splitlines()[0] if said.strip() else "ANTs"
