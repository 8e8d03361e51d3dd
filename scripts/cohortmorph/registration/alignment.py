"""The affine alignment of a pair, by elastix, from which the other methods start."""

from dataclasses import replace
from typing import Any, NamedTuple

import SimpleITK as sitk

from cohortmorph import UserError
from cohortmorph.registration import elastix, harmonized
from cohortmorph.registration.judge import judge
from cohortmorph.registration.pairwise import PairFiles
from cohortmorph.registration.problem import LEAST_OVERLAP, Problem, Run
from cohortmorph.run import logs
from cohortmorph.run.files import StrPath
from cohortmorph.spatial import geometry


class Aligned(NamedTuple):
    """What the alignment gave.

    Attributes
    ----------
    transform : SimpleITK affine transform
        Fixed world → moving world, LPS mm, harmonizing composed in; its start where the alignment failed, and where it
        was judged to be no better.
    how : dict
        For the JSON file: cost, seed, threads, overlap …, how it was ``judged`` and whether for that the start was
        kept (``start_kept``), or why it ``failed``; with why harmonizing had.
    """

    transform: sitk.Transform
    how: dict[str, Any]


def align(files: PairFiles, parameters: StrPath, run: Run, keep: str = "better") -> Aligned:
    """Align the moving to the fixed image from where harmonizing has put them.

    Parameters
    ----------
    files : PairFiles
    parameters : path
        elastix parameter file of an affine transform.
    run : Run
    keep : {"better", "always"}
        Whether an affine is kept that is worse than its start: the positions after harmonizing, else the scanner's,
        even where elastix itself began with the images' middles on each other.
    """
    not_harmonized = harmonized.failure(files.harmonized)
    start = files.start("own")
    # Without harmonizing, elastix brings the images' middles together first: they need not overlap.
    initial = start if files.harmonized and not not_harmonized else None
    how: dict[str, Any] = {"threads": run.threads, "seed": run.seed, "parameters": parameters}
    try:
        problem = replace(files.images, initial=initial)
        problem.check()
        found = elastix.register(problem, [parameters], run)
        transform: sitk.Transform = geometry.affine(*geometry.matrix_and_offset(found.transform))
        overlap = _checked_overlap(problem, transform)
        logs.log.info(
            "%s: aligned in %.1f s; %.0f %% of the fixed image is covered",
            files.pair,
            found.cost.seconds,
            100 * overlap,
        )
        how |= found.cost.entries() | found.provenance
        if keep == "better":
            start_kept, judged = judge(problem, start, transform)
            logs.log.info("%s: %s", files.pair, judged["why"])
            if start_kept:
                transform, overlap = start, problem.overlap(start)
            how |= {"start_kept": start_kept, "judged": judged}
        how["overlap"] = overlap
    except UserError as error:
        # The other methods start from where harmonizing, or the scanner, has put the images; each says how that went.
        logs.log.error("%s: the affine alignment failed: %s", files.pair, error)
        transform, how = start, {"failed": str(error)}
    if not_harmonized:
        how["harmonizing_failed"] = not_harmonized
    return Aligned(transform, how)


def _checked_overlap(problem: Problem, transform: sitk.Transform) -> float:
    """Return the overlap after the alignment; too little is a UserError."""
    overlap = problem.overlap(transform)
    if overlap < LEAST_OVERLAP:
        raise UserError(
            f"after the affine alignment only {overlap:.0%} of the fixed image lies inside the moving image. "
            "Look at both images: do they show the same region? A mask of the fixed image, or another start "
            "(AutomaticTransformInitializationMethod in the parameter file), may help."
        )
    return overlap
