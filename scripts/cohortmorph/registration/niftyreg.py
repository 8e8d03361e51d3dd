"""NiftyReg (reg_aladin, reg_f3d), fixed ← moving, as one SimpleITK transform, fixed world → moving world.

The programs (see :mod:`cohortmorph.run.tools`) return 0 for nonsense, so inputs are
checked before (:func:`cohortmorph.registration.pair.check`) and the output after. NiftyReg's world is RAS.
Modat et al., Comput. Methods Programs Biomed. 98:278 (2010); J. Med. Imaging 1:024003 (2014).
"""

import os
import re
import subprocess
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from cohortmorph import UserError
from cohortmorph.registration.pair import in_child, read_options, scratch, words_of
from cohortmorph.run.tools import HOW_TO_GET, niftyreg_program
from cohortmorph.spatial.geometry import Grid, affine, matrix_and_offset, to_array, to_image, write_image

NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
RAS = np.array([-1.0, -1.0, 1.0])
# The options that may stand in a parameter file, with the number of their values, all of them numbers: the programs
# themselves run on when a value is missing or an option unknown, with other settings than meant.
_BOTH = {"-ln": 1, "-lp": 1, "-maxit": 1, "-smooR": 1, "-smooF": 1, "-pad": 1}
OPTIONS = {
    "reg_aladin": _BOTH
    | dict.fromkeys(("-noSym", "-rigOnly", "-affDirect", "-nac", "-iso", "-speeeeed"), 0)
    | dict.fromkeys(("-refLowThr", "-refUpThr", "-floLowThr", "-floUpThr", "-interp", "-pv", "-pi"), 1),
    "reg_f3d": _BOTH
    | dict.fromkeys(("--nmi", "--ssd", "--ssdn", "--kld", "-rr", "-nopy", "-noConj", "-vel", "-nogce", "-noAppJL"), 0)
    | dict.fromkeys(("-sx", "-sy", "-sz", "-be", "-le", "-jl", "--rbn", "--fbn", "--lncc", "--mind", "--mindssc"), 1)
    | dict.fromkeys(("--rLwTh", "--rUpTh", "--fLwTh", "--fUpTh", "-pert", "-smoothGrad"), 1),
}
RESERVED = ("-ref", "-flo", "-aff", "-inaff", "-incpp", "-cpp", "-res", "-rmask", "-omp", "-voff", "-target", "-source")


def register(fixed, moving, parameters, seed, threads, initial, fixed_mask=None, log_folder=None):
    """Register a moving to a fixed image.

    Parameters
    ----------
    fixed, moving : SimpleITK image
        3-D, prepared intensities.
    parameters : list of path
        One file: a line of options for each program, ``reg_aladin …`` (if any) and ``reg_f3d …``, run in this order.
    seed : int
        Not used: NiftyReg draws no random numbers.
    threads : int
    initial : SimpleITK transform
        Affine start, fixed world → moving world.
    fixed_mask : SimpleITK image, optional
        On the fixed image's grid.
    log_folder : path
        Where niftyreg.log is kept.

    Returns
    -------
    transform : SimpleITK transform
        Fixed world → moving world, `initial` composed in.
    cost : cohortmorph.registration.pair.Cost
        Of the programs and of reading and writing their files.
    provenance : dict
        The programs' version.

    Raises
    ------
    UserError
        If NiftyReg is missing, a program fails, or its result is none.
    """
    (path,) = parameters
    rows = read_options(path, tuple(OPTIONS), RESERVED)
    _check_options(path, rows)
    if not niftyreg_program():
        raise UserError(f"{HOW_TO_GET['niftyreg']}.")
    Path(log_folder).mkdir(parents=True, exist_ok=True)
    log = Path(log_folder) / "niftyreg.log"
    with scratch() as folder:
        result, cost, code = in_child(
            _run, Path(folder), rows, fixed, moving, threads, initial, fixed_mask, log=str(log)
        )
        if result != "done":
            raise UserError(
                f"NiftyReg gave up with {path}: {result or f'ended by itself (exit code {code})'}. "
                f"It said: {words_of(log, ('ERROR', 'Error', 'error'))}."
            )
        transform = _read(Path(folder), rows, fixed)
    version = subprocess.run(
        [niftyreg_program(), "--version"], capture_output=True, text=True, check=False
    ).stdout.strip()
    return transform, cost, {"version": f"NiftyReg {version}"}


def _check_options(path, rows):
    for program, *words in rows:
        waiting = list(words)
        while waiting:
            option = waiting.pop(0)
            if option not in OPTIONS[program]:
                raise UserError(f"{path}: found {option} for {program}; known: {', '.join(OPTIONS[program])}.")
            wanted = OPTIONS[program][option]
            values, waiting = waiting[:wanted], waiting[wanted:]
            if len(values) < wanted or not all(NUMBER.fullmatch(value) for value in values):
                found = " ".join(values) or "nothing"
                raise UserError(f"{path}: {option} of {program} is followed by {found}; expected a number.")


def _run(folder, rows, fixed, moving, threads, initial, fixed_mask):
    write_image(fixed, folder / "fixed.nii")
    write_image(moving, folder / "moving.nii")
    if fixed_mask is not None:
        write_image(sitk.Cast(fixed_mask, sitk.sitkUInt8), folder / "mask.nii")
    write_affine(initial, folder / "affine.txt")
    # Threads that wait must not spin: two of them on a shared machine took six times as long.
    environment = os.environ | {"OMP_WAIT_POLICY": "passive", "OMP_NUM_THREADS": str(threads)}
    for program, *options in rows:
        command = [niftyreg_program(program), "-ref", "fixed.nii", "-flo", "moving.nii", "-omp", str(threads), *options]
        command += ["-rmask", "mask.nii"] if fixed_mask is not None else []
        if program == "reg_aladin":
            command += ["-inaff", "affine.txt", "-aff", "aligned.txt", "-res", "aligned.nii"]
        else:
            command += ["-aff", "affine.txt", "-cpp", "grid.nii", "-res", "moved.nii"]
        code = subprocess.run(command, cwd=folder, env=environment, check=False).returncode
        output = folder / ("aligned.txt" if program == "reg_aladin" else "grid.nii")
        if code or not output.exists():
            return f"{program} ended with exit code {code}{'' if output.exists() else ' and without a result'}"
        if program == "reg_aladin":
            output.replace(folder / "affine.txt")
    if rows[-1][0] == "reg_f3d":
        command = [niftyreg_program("reg_transform"), "-ref", "fixed.nii", "-disp", "grid.nii", "displacement.nii"]
        code = subprocess.run(command, cwd=folder, env=environment, check=False).returncode
        if code or not (folder / "displacement.nii").exists():
            return f"reg_transform ended with exit code {code}"
    return "done"


def _read(folder, rows, fixed):
    if rows[-1][0] == "reg_aladin":
        return read_affine(folder / "affine.txt")
    field_ras = sitk.ReadImage(str(folder / "displacement.nii"))
    values = to_array(field_ras).reshape(*fixed.GetSize(), 3) * RAS
    if not np.isfinite(values).all():
        raise UserError("NiftyReg's displacement has values that are not finite: do the images overlap?")
    return sitk.DisplacementFieldTransform(to_image(values.astype(np.float64), Grid.of(fixed)))


def write_affine(transform, path):
    """Write an affine transform (LPS) as NiftyReg reads it: a 4 × 4 matrix, RAS, Affine · reference = floating."""
    matrix, offset = matrix_and_offset(transform)
    whole = np.eye(4)
    whole[:3, :3], whole[:3, 3] = matrix * np.outer(RAS, RAS), offset * RAS
    np.savetxt(path, whole, fmt="%.17g")


def read_affine(path):
    """Read NiftyReg's affine matrix (RAS) as a transform in LPS."""
    whole = np.loadtxt(path)
    if whole.shape != (4, 4) or not np.isfinite(whole).all():
        raise UserError("NiftyReg's affine matrix is not finite: do the images overlap?")
    return affine(whole[:3, :3] * np.outer(RAS, RAS), whole[:3, 3] * RAS)
