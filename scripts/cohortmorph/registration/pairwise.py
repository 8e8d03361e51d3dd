"""A pair registered with every method of one tool: its files read once, each method started where it is to start."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import SimpleITK as sitk

from cohortmorph import UserError
from cohortmorph.cohort.sources import without_paths
from cohortmorph.registration import harmonized
from cohortmorph.registration.problem import Problem, Registered, Run, Tool
from cohortmorph.registration.record import record
from cohortmorph.run.files import StrPath
from cohortmorph.spatial import displacement, geometry, intensity, labels
from cohortmorph.spatial.geometry import Grid


@dataclass(frozen=True)
class PairFiles:
    """What is known of a pair before it is registered.

    Attributes
    ----------
    pair : str
        Its id.
    fixed, moving : path
        The images.
    fixed_intensity, moving_intensity : dict
        See :func:`cohortmorph.spatial.intensity.prepare`.
    fixed_mask : path
        "" where there is none.
    affine : path
        The affine transform that all methods share, fixed → moving; "" before there is one.
    harmonized : sequence of path
        Transforms harmonized world → image world of the fixed and the moving image, or nothing.
    displacements : dict of str to path
        Of the methods that others start from.
    """

    pair: str
    fixed: StrPath
    moving: StrPath
    fixed_intensity: Mapping[str, Any]
    moving_intensity: Mapping[str, Any]
    fixed_mask: StrPath = ""
    affine: StrPath = ""
    harmonized: Sequence[StrPath] = ()
    displacements: Mapping[str, StrPath] = field(default_factory=dict)

    @classmethod
    def of(cls, job: Any) -> "PairFiles":
        """Return the files of a rule's job, ``snakemake`` in its script."""
        return cls(
            pair=job.wildcards.pair,
            fixed=job.input.fixed,
            moving=job.input.moving,
            fixed_intensity=job.params.intensities[0],
            moving_intensity=job.params.intensities[1],
            fixed_mask=job.input.get("fixed_mask", ""),
            affine=job.input.get("affine", ""),
            harmonized=list(job.params.harmonized),
            displacements={Path(path).parent.name: path for path in job.input.get("start_displacements", [])},
        )

    @cached_property
    def grid(self) -> Grid:
        """The fixed image's grid."""
        return geometry.read_grid(self.fixed)

    @cached_property
    def images(self) -> Problem:
        """The problem without a start: images of prepared intensities, and the mask.

        Raises
        ------
        UserError
            If an image cannot be read or prepared, or the mask is not on the fixed image's grid.
        """
        fixed = intensity.prepare(geometry.read_image(self.fixed), self.fixed_intensity, name="fixed image")
        moving = intensity.prepare(geometry.read_image(self.moving), self.moving_intensity, name="moving image")
        return Problem(fixed, moving, self._mask)

    @property
    def _mask(self) -> sitk.Image | None:
        """The fixed image's mask, whose file messages do not name."""
        try:
            return labels.read(self.fixed_mask, self.grid) != 0 if self.fixed_mask else None
        except UserError as error:
            raise UserError(without_paths(str(error), {str(self.fixed_mask): "the fixed image's mask"})) from None

    def start(self, name: str) -> sitk.Transform:
        """Return the transform fixed → moving to start from.

        Parameters
        ----------
        name : str
            ``affine``; ``own``: the positions after harmonizing, else the scanner's; or a method's id.
        """
        if name == "affine":
            return geometry.read_affine(self.affine)
        if name == "own":
            return harmonized.fixed_to_moving(self.harmonized)
        return displacement.as_transform(displacement.read(self.displacements[name], self.grid))


@dataclass(frozen=True)
class Attempt:
    """A method to register a pair with.

    Attributes
    ----------
    method : str
        Its id.
    parameters : list of path
        Its parameter files.
    start : str
        See :meth:`PairFiles.start`.
    displacement : path
        To be written, with its registration.json beside.
    """

    method: str
    parameters: list[StrPath]
    start: str
    displacement: StrPath


def register_pair(tool: Tool, files: PairFiles, attempts: Sequence[Attempt], run: Run) -> None:
    """Register a pair with several methods of one tool; what fails is recorded as failed.

    Parameters
    ----------
    tool : Tool
    files : PairFiles
    attempts : sequence of Attempt
    run : Run
        Each method logs into a folder of its own in that of the run.
    """
    for attempt in attempts:

        def registered(attempt: Attempt = attempt) -> Registered:
            problem = replace(files.images, initial=files.start(attempt.start))
            problem.check()
            own = replace(run, log_folder=Path(run.log_folder) / attempt.method)
            found = tool.register(problem, attempt.parameters, own)
            how = {"seed": run.seed, "threads": run.threads, "parameters": attempt.parameters, "start": attempt.start}
            return found._replace(provenance=how | found.provenance)

        record(files.pair, attempt.method, files.grid, attempt.displacement, registered)
