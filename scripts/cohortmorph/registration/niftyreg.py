"""NiftyReg (reg_aladin, reg_f3d), fixed ← moving, as one SimpleITK transform, fixed world → moving world.

The programs (see :mod:`cohortmorph.run.tools`) return 0 for nonsense, so inputs are checked before
(:meth:`cohortmorph.registration.problem.Problem.check`) and the output after. NiftyReg's world is RAS.
Modat et al., Comput. Methods Programs Biomed. 98:278 (2010); J. Med. Imaging 1:024003 (2014).
"""

import itertools
import os
import re
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from cohortmorph import UserError
from cohortmorph.registration.options import read_options
from cohortmorph.registration.problem import Problem, Registered, Run
from cohortmorph.registration.process import in_child, scratch, words_of
from cohortmorph.run.files import StrPath
from cohortmorph.run.tools import HOW_TO_GET, niftyreg_program, openmp_for_niftyreg
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
LEVELS = 3  # of reg_f3d's pyramid, unless -ln says otherwise
TABLE_VOXELS, WIDER = 5, 1e-3  # see off_the_table
RESERVED = ("-ref", "-flo", "-aff", "-inaff", "-incpp", "-cpp", "-res", "-rmask", "-omp", "-voff", "-target", "-source")


def register(problem: Problem, parameters: Sequence[StrPath], run: Run) -> Registered:
    """Run NiftyReg's programs; see :class:`cohortmorph.registration.problem.Tool`.

    The one parameter file has a line of options for each program, ``reg_aladin …`` (if any) and ``reg_f3d …``, run in
    this order. No random numbers are drawn. The cost is that of the programs and of reading and writing their files.
    """
    (path,) = parameters
    rows = read_parameters(path)
    rows = [off_the_table(row, problem.fixed.GetSpacing()[0], problem.moving.GetSpacing()[0]) for row in rows]
    if not niftyreg_program():
        raise UserError(f"{HOW_TO_GET['niftyreg']}.")
    log = Path(run.log_folder) / "niftyreg.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with scratch() as folder:
        # Threads that wait must not spin: two of them on a shared machine took six times as long.
        environment = os.environ | {"OMP_WAIT_POLICY": "passive", "OMP_NUM_THREADS": str(run.threads)}
        environment |= openmp_for_niftyreg(Path(folder))
        result, cost, code = in_child(_run, Path(folder), rows, problem, run.threads, environment, log=log)
        if result != "done":
            raise UserError(
                f"NiftyReg gave up with {path}: {result or f'ended by itself (exit code {code})'}. "
                f"It said: {words_of(log, ('ERROR', 'Error', 'error'))}."
            )
        transform = _read(Path(folder), rows, problem.fixed)
        version = subprocess.run(
            [niftyreg_program(), "--version"], env=environment, capture_output=True, text=True, check=False
        ).stdout.strip()
    return Registered(transform, cost, {"version": f"NiftyReg {version}", "options": [" ".join(row) for row in rows]})


def read_parameters(path: StrPath) -> list[list[str]]:
    """Read a parameter file; what the programs would ignore in silence is a UserError."""
    rows = read_options(path, tuple(OPTIONS), RESERVED)
    _check_options(path, rows)
    return rows


def off_the_table(row: list[str], fixed_spacing_mm: float, moving_spacing_mm: float) -> list[str]:
    """Return the words of a program's row so that no control points of `reg_f3d` lie exactly 5 voxels apart along x.

    At that distance `reg_f3d` takes the splines' coefficients from a table for 5 voxels along every axis, and asks
    three times for the distance along x, never for y and z (``_reg_localTrans.cpp``; 1.5.58, and still so years later):
    with another distance there, or where a level of the pyramid does not halve every axis, an image moves by
    centimetres on itself, and the program ends as if all were well. A grid a thousandth wider is never taken for the
    table's.

    Parameters
    ----------
    row : list of str
        The program and its options.
    fixed_spacing_mm, moving_spacing_mm : float
        Of both images along their first axes: with ``-vel`` there is a grid for the way back as well.
    """
    program, *words = row
    if program != "reg_f3d":
        return row
    values = dict(itertools.pairwise(words))  # the value of an option is the word that follows
    asked = float(values.get("-sx", -TABLE_VOXELS))  # above 0: mm, below: voxels of the fixed image, as without -sx
    levels = int(float(values.get("-ln", LEVELS)))
    performed = min(levels, int(float(values.get("-lp", levels))))
    # A level halves the grid, and the images along those axes only that are long enough: any of these may come up.
    factors = 2.0 ** np.arange(performed - levels, max(performed, 1))
    wider = asked
    while True:
        apart_mm = wider if wider > 0 else -wider * fixed_spacing_mm
        voxels = np.outer(factors, apart_mm / np.array([fixed_spacing_mm, moving_spacing_mm]))
        if not np.isclose(voxels, TABLE_VOXELS, rtol=WIDER / 2).any():
            break
        wider *= 1 + WIDER
    if wider == asked:
        return row
    said = ["-sx", f"{wider:.7g}"]
    if "-sx" not in words:
        return [*row, *said]
    place = len(words) - 1 - words[::-1].index("-sx")
    return [program, *words[:place], *said, *words[place + 2 :]]


def _check_options(path: StrPath, rows: list[list[str]]) -> None:
    """Refuse options that a program does not know, or whose value is missing or no number."""
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


def _run(folder: Path, rows: list[list[str]], problem: Problem, threads: int, environment: Mapping[str, str]) -> str:
    """Run the programs in a folder; return "done", or what went wrong."""
    write_image(problem.fixed, folder / "fixed.nii")
    write_image(problem.moving, folder / "moving.nii")
    if problem.mask is not None:
        write_image(sitk.Cast(problem.mask, sitk.sitkUInt8), folder / "mask.nii")
    write_affine(problem.start, folder / "affine.txt")
    for program, *options in rows:
        command = [niftyreg_program(program), "-ref", "fixed.nii", "-flo", "moving.nii", "-omp", str(threads), *options]
        command += ["-rmask", "mask.nii"] if problem.mask is not None else []
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


def _read(folder: Path, rows: list[list[str]], fixed: sitk.Image) -> sitk.Transform:
    """Read what the last program found."""
    if rows[-1][0] == "reg_aladin":
        return read_affine(folder / "affine.txt")
    field_ras = sitk.ReadImage(str(folder / "displacement.nii"))
    values = to_array(field_ras).reshape(*fixed.GetSize(), 3) * RAS
    if not np.isfinite(values).all():
        raise UserError("NiftyReg's displacement has values that are not finite: do the images overlap?")
    return sitk.DisplacementFieldTransform(to_image(values.astype(np.float64), Grid.of(fixed)))


def write_affine(transform: sitk.Transform, path: StrPath) -> None:
    """Write an affine transform (LPS) as NiftyReg reads it: a 4 × 4 matrix, RAS, Affine · reference = floating."""
    matrix, offset = matrix_and_offset(transform)
    whole = np.eye(4)
    whole[:3, :3], whole[:3, 3] = matrix * np.outer(RAS, RAS), offset * RAS
    np.savetxt(path, whole, fmt="%.17g")


def read_affine(path: StrPath) -> sitk.AffineTransform:
    """Read NiftyReg's affine matrix (RAS) as a transform in LPS."""
    whole = np.loadtxt(path)
    if whole.shape != (4, 4) or not np.isfinite(whole).all():
        raise UserError("NiftyReg's affine matrix is not finite: do the images overlap?")
    return affine(whole[:3, :3] * np.outer(RAS, RAS), whole[:3, 3] * RAS)
