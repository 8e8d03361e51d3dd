"""What all classical methods share: their inputs checked, the tool in a process of its own, its cost, its failure.

A registration that fails is a result as well. Its displacement leads nowhere and its registration.json says why, so
that the rest of the cohort goes on, and the evaluation counts the failure instead of losing it.
"""

import multiprocessing
import os
import resource
import tempfile
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from cohortmorph import UserError
from cohortmorph.run import logs
from cohortmorph.run.files import read_json, write_json
from cohortmorph.spatial import displacement, geometry, intensity, labels
from cohortmorph.spatial.geometry import Grid

LEAST_OVERLAP = 0.1


@dataclass(frozen=True)
class Cost:
    """What a registration took.

    Attributes
    ----------
    seconds, cpu_seconds : float
        On the clock, and of all its cores.
    peak_memory_mb : float
        Largest resident memory of its process, libraries and images included.
    """

    seconds: float
    cpu_seconds: float
    peak_memory_mb: float


def register_pair(
    register,
    pair,
    methods,
    settings,
    fixed,
    moving,
    fixed_mask,
    affine,
    harmonized,
    fixed_intensity,
    moving_intensity,
    seed,
    threads,
    displacements,
    tool_log,
    start_displacements=(),
):
    """Register a pair with several methods of one tool; what fails is recorded as failed.

    Parameters
    ----------
    register : callable
        ``register(fixed, moving, parameters, seed, threads, initial, fixed_mask, log_folder)``, which returns
        (SimpleITK transform fixed world → moving world, :class:`Cost`, further entries of the provenance).
    pair : str
    methods : list of str
    settings : list of dict
        Of each method: ``parameters`` (paths) and ``start`` (``affine``; ``own``: from the harmonized positions; or a
        method, whose displacement is refined).
    fixed, moving, fixed_mask : path
        `fixed_mask` is "" where there is none.
    affine : path
        The shared affine transform, fixed → moving.
    harmonized : list of path
        Transforms harmonized world → image world of the fixed and the moving image, or nothing.
    fixed_intensity, moving_intensity : dict
        See :func:`cohortmorph.spatial.intensity.prepare`.
    seed, threads : int
    displacements : list of path
        Where the displacement of each method goes; its registration.json stands beside.
    tool_log : path
        Folder for what the tool itself writes, a folder a method.
    start_displacements : list of path
        ``{method}/displacement.nii.gz`` of the methods that others start from.
    """
    grid = geometry.read_grid(fixed)

    @cache
    def images():
        fixed_image = intensity.prepare(geometry.read_image(fixed), fixed_intensity, name="fixed image")
        moving_image = intensity.prepare(geometry.read_image(moving), moving_intensity, name="moving image")
        mask = labels.read(fixed_mask, grid) != 0 if fixed_mask else None
        return fixed_image, moving_image, mask

    starts = {"affine": lambda: geometry.read_affine(affine), "own": lambda: harmonizing(harmonized)}
    for start in map(Path, start_displacements):
        starts[start.parent.name] = lambda path=start: displacement.as_transform(displacement.read(path, grid))
    for method, chosen, path in zip(methods, settings, displacements, strict=True):

        def attempt(method=method, chosen=chosen):
            fixed_image, moving_image, mask = images()
            initial = starts[chosen["start"]]()
            check(fixed_image, moving_image, mask, initial)
            parameters = chosen["parameters"]
            log_folder = Path(tool_log) / method
            transform, cost, further = register(
                fixed_image, moving_image, parameters, seed, threads, initial, mask, log_folder
            )
            how = {"seed": seed, "threads": threads, "parameters": parameters, "start": chosen["start"]}
            return transform, vars(cost) | how | further

        record(pair, method, grid, path, attempt)


def arguments_of(job):
    """Return the arguments of :func:`register_pair` from the rule of a tool, ``snakemake`` in its script."""
    return dict(
        pair=job.wildcards.pair,
        fixed=job.input.fixed,
        moving=job.input.moving,
        fixed_mask=job.input.get("fixed_mask", ""),
        affine=job.input.affine,
        threads=job.threads,
        displacements=list(job.output.displacements),
        start_displacements=list(job.input.get("start_displacements", [])),
        **job.params,
    )


def harmonizing(transforms):
    """Return the transform fixed → moving that harmonizing found, from its files for both images; else the identity."""
    if not transforms:
        return sitk.AffineTransform(3)
    of_fixed, of_moving = map(geometry.read_affine, transforms)
    return geometry.chain(of_fixed.GetInverse(), of_moving)


def harmonizing_failure(transforms):
    """Return why harmonizing the subject of these transform files failed, "" if it did not or there are none."""
    return read_json(Path(transforms[0]).parent / "harmonize.json").get("failed", "") if transforms else ""


def record(pair, method, grid, path, attempt):
    """Write what an attempt gives: a displacement on `grid` and its registration.json, or that and why it failed.

    Parameters
    ----------
    pair, method : str
    grid : Grid
        Of the fixed image.
    path : path
        Of the displacement.
    attempt : callable
        Returns (SimpleITK transform fixed → moving, dict for registration.json); raises UserError where it fails.
    """
    try:
        transform, how = attempt()
        field = displacement.sample(transform, grid)
        if not np.isfinite(sitk.GetArrayViewFromImage(field)).all():
            raise UserError("the displacement has values that are not finite.")
    except UserError as error:
        logs.log.error("%s, method %s failed: %s", pair, method, error)
        displacement.write_failed(grid, path)
        write_json({"failed": str(error)}, Path(path).parent / "registration.json")
        return
    displacement.write(field, path)
    write_json(how, Path(path).parent / "registration.json")
    logs.log.info("%s: %s in %.1f s", pair, method, how["seconds"])


def check(fixed, moving, fixed_mask, initial, least_voxels=8):
    """Refuse what the tools accept in silence: constant, tiny or not finite images, bad masks, a start without overlap.

    Parameters
    ----------
    fixed, moving : SimpleITK image
    fixed_mask : SimpleITK image or None
    initial : SimpleITK transform or None
        Fixed world → moving world; of the fixed image, at least 10 % must come to lie in the moving one.
    least_voxels : int
        Along each axis.

    Raises
    ------
    UserError
    """
    for name, image in (("fixed", fixed), ("moving", moving)):
        if image.GetDimension() != 3:
            raise UserError(f"the {name} image has {image.GetDimension()} dimensions; expected 3.")
        values = sitk.GetArrayViewFromImage(image)
        if min(image.GetSize()) < least_voxels:
            size = " × ".join(map(str, image.GetSize()))
            raise UserError(f"the {name} image has {size} voxels; at least {least_voxels} along each axis are needed.")
        if not np.isfinite(values).all() or values.min() == values.max():
            raise UserError(f"the {name} image is constant or not finite: there is nothing to register.")
    if fixed_mask is not None:
        difference = Grid.of(fixed).difference_from(Grid.of(fixed_mask))
        if difference:
            raise UserError(f"the fixed image's mask is not on the image's grid: {difference}.")
        if not sitk.GetArrayViewFromImage(fixed_mask).any():
            raise UserError("the fixed image's mask is empty: give a mask with voxels, or none.")
    overlap = 1.0 if initial is None else overlap_fraction(initial, fixed, moving)
    if overlap < LEAST_OVERLAP:
        raise UserError(
            f"at the start only {overlap:.0%} of the fixed image lies inside the moving image. Look at both images: do "
            "they show the same region? Look at the affine alignment that the method starts from."
        )


def overlap_fraction(transform, fixed, moving):
    """Return the share of fixed voxels (of about 16 along each axis) that the transform maps into the moving image."""
    grid = Grid.of(fixed)
    steps = tuple(max(1, n // 16) for n in grid.size)
    points = grid.points_mm()[:: steps[0], :: steps[1], :: steps[2]].reshape(-1, 3)
    moved = np.array([transform.TransformPoint(tuple(point)) for point in points])
    return float(Grid.of(moving).contains(moved).mean())


def in_child(function, *arguments, log=None):
    """Run `function` in a forked process of its own, and measure it.

    A process of its own, because the tools keep random state, print to the terminal, and sometimes end the process that
    they run in. Forked, so that a library that is loaded here is not loaded again there.

    Parameters
    ----------
    function : callable
    *arguments
    log : path, optional
        File that takes what the process prints.

    Returns
    -------
    result
        What `function` returned (must be picklable), or None if the process ended without (see `exit_code`).
    cost : Cost
    exit_code : int
        Not 0 if it died; negative: of this signal.
    """
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=_work, args=(function, arguments, log, receiver, sender))
    child.start()
    sender.close()
    try:
        result, cost = receiver.recv()
    except EOFError:
        result, cost = None, None
    child.join()
    return result, cost, child.exitcode


def _work(function, arguments, log, receiver, sender):
    receiver.close()
    if log is not None:
        file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, 1)
        os.dup2(file, 2)
    before, started = os.times(), time.monotonic()
    result = function(*arguments)
    seconds, after = time.monotonic() - started, os.times()
    # A tool may have been a process below this one.
    cpu_seconds = sum(after[:4]) - sum(before[:4])
    sender.send((result, Cost(seconds, cpu_seconds, peak_memory_mb())))


def peak_memory_mb():
    """Return the largest resident memory that this process, or one below it, has had so far, in MB."""
    of = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return max(resource.getrusage(who).ru_maxrss for who in of) / 1024


def words_of(log, marks, lines=4):
    """Return the telling lines at the end of a tool's log, to be quoted: those with one of `marks`, else the last."""
    text = Path(log).read_text(errors="replace") if Path(log).exists() else ""
    found = [line.strip() for line in text.splitlines() if line.strip()]
    marked = [line for line in found if any(mark in line for mark in marks)]
    return " | ".join((marked or found)[-lines:]) or "nothing"


def read_options(path, allowed, reserved):
    """Read a tool's options from a text file in the words of its command line; ``#`` begins a comment.

    Parameters
    ----------
    path : path
    allowed : sequence of str or None
        Words that a line may begin with (None: any).
    reserved : sequence of str
        Options that the workflow sets by itself.

    Returns
    -------
    list of list of str
        The words of each line that has any.

    Raises
    ------
    UserError
    """
    rows = []
    for number, line in enumerate(Path(path).read_text().splitlines(), 1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        if allowed is not None and words[0] not in allowed:
            raise UserError(f"{path}, line {number}: begins with {words[0]}; expected {' or '.join(allowed)}.")
        taken = [word for word in words if word in reserved]
        if taken:
            raise UserError(f"{path}, line {number}: {taken[0]} is set by the workflow itself; take it out.")
        rows.append(words)
    if not rows:
        raise UserError(f"{path}: no options found; expected at least one line.")
    return rows


def scratch():
    """Return a temporary folder for a tool's files, as a context manager."""
    return tempfile.TemporaryDirectory(prefix="register-")
