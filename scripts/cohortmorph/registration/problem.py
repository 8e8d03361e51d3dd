"""What a classical tool gets and gives: a problem, how to run, and a transform, fixed world → moving world (mm, LPS).

A tool is a module of this house with a function ``register``, see :class:`Tool`.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import SimpleITK as sitk

from cohortmorph import UserError
from cohortmorph.registration.process import Cost
from cohortmorph.run.files import StrPath
from cohortmorph.spatial.geometry import Grid, to_array

LEAST_OVERLAP = 0.1
LEAST_VOXELS = 8  # along each axis
# Of a mask: an affine transform alone has twelve numbers to be found.
LEAST_MASK_VOXELS = 100
SOME_POINTS = 4096  # of a mask, are looked at


@dataclass(frozen=True)
class Problem:
    """Two images to be registered, and where to start.

    Attributes
    ----------
    fixed, moving : SimpleITK image
        3-D, prepared intensities (see :mod:`cohortmorph.spatial.intensity`), each on its own grid.
    mask : SimpleITK image or None
        On the fixed image's grid: where it is not 0, the fixed image counts.
    initial : SimpleITK transform or None
        Start, fixed world → moving world; None leaves it to a tool that can to bring the images' middles together.
    """

    fixed: sitk.Image
    moving: sitk.Image
    mask: sitk.Image | None = None
    initial: sitk.Transform | None = None

    @property
    def start(self) -> sitk.Transform:
        """The start of a tool that needs one: `initial`, else the identity, the scanners' positions."""
        return sitk.AffineTransform(3) if self.initial is None else self.initial

    def check(self) -> None:
        """Refuse what tools accept in silence: constant, tiny or not finite images, bad masks, starts without overlap.

        Raises
        ------
        UserError
            Also if less than 10 % of the fixed image comes to lie in the moving one at the start.
        """
        for name, image in (("fixed", self.fixed), ("moving", self.moving)):
            _check_image(name, image)
        if self.mask is not None:
            difference = Grid.of(self.fixed).difference_from(Grid.of(self.mask))
            if difference:
                raise UserError(f"the fixed image's mask is not on the image's grid: {difference}.")
            self._check_mask(self.mask)
        overlap = 1.0 if self.initial is None else self.overlap(self.initial)
        if overlap < LEAST_OVERLAP:
            raise UserError(
                f"at the start only {overlap:.0%} of the fixed image lies inside the moving image. Look at both "
                "images: do they show the same region? Look at the affine alignment that the method starts from."
            )

    def _check_mask(self, mask: sitk.Image) -> None:
        """Refuse a mask that is too small, or of a place where the moving image is not."""
        refuse_small_mask(mask, "the fixed image's mask")
        if self.initial is None:
            return
        indices = np.argwhere(to_array(mask) != 0)
        some = Grid.of(mask).to_world(indices[:: max(1, len(indices) // SOME_POINTS)])
        moved = np.array([self.initial.TransformPoint(tuple(point)) for point in some])
        covered = Grid.of(self.moving).contains(moved).mean()
        if covered < LEAST_OVERLAP:
            raise UserError(
                f"at the start only {covered:.0%} of the fixed image's mask lies inside the moving image. Give a mask "
                "of what both images show, or none. Look at the affine alignment that the method starts from."
            )

    def overlap(self, fixed_to_moving: sitk.Transform) -> float:
        """Return the share of fixed voxels (of about 16 along each axis) that lie in the moving image, in [0, 1]."""
        grid = Grid.of(self.fixed)
        steps = tuple(max(1, n // 16) for n in grid.size)
        points = grid.points_mm()[:: steps[0], :: steps[1], :: steps[2]].reshape(-1, 3)
        moved = np.array([fixed_to_moving.TransformPoint(tuple(point)) for point in points])
        return float(Grid.of(self.moving).contains(moved).mean())


@dataclass(frozen=True)
class Run:
    """How a tool is to run.

    Attributes
    ----------
    seed : int
        Of whatever the tool draws.
    threads : int
    log_folder : path
        For what the tool itself writes; made by the tool that writes.
    """

    seed: int
    threads: int
    log_folder: StrPath

    @classmethod
    def of(cls, job: Any) -> "Run":
        """Return how a rule's job (``snakemake`` in its script) runs: beside its log is a folder of the same name."""
        return cls(job.params.seed, job.threads, os.fspath(job.log[0]).removesuffix(".log"))


class Registered(NamedTuple):
    """What a registration gave.

    Attributes
    ----------
    transform : SimpleITK transform
        Fixed world → moving world, the start composed in.
    cost : Cost
    provenance : dict
        Further entries of registration.json, the tool's version first.
    """

    transform: sitk.Transform
    cost: Cost
    provenance: dict[str, Any]


class Tool(Protocol):
    """A registration tool: a module with this function."""

    def register(self, problem: Problem, parameters: Sequence[StrPath], run: Run) -> Registered:
        """Register the moving to the fixed image.

        Parameters
        ----------
        problem : Problem
            Checked.
        parameters : sequence of path
            The method's parameter files in the tool's own format: one, but for elastix.
        run : Run

        Returns
        -------
        Registered
            The same bits for the same problem, parameters, seed and threads.

        Raises
        ------
        UserError
            If the tool is missing, its parameters are wrong, or it gave up: in its own words, with the file's name.
        """


def refuse_small_mask(mask: sitk.Image, name: str) -> None:
    """Refuse a mask of no or too few voxels, or of a single slice; `name` says whose it is."""
    inside = to_array(mask) != 0
    count = np.count_nonzero(inside)
    if not count:
        raise UserError(f"{name} is empty: give a mask with voxels, or none.")
    if count < LEAST_MASK_VOXELS:
        raise UserError(
            f"{name} has {count} voxels; at least {LEAST_MASK_VOXELS} are needed to register by. Give a wider mask, "
            "or none."
        )
    thick = inside[1:] & inside[:-1]
    thick = thick[:, 1:] & thick[:, :-1]
    if not (thick[..., 1:] & thick[..., :-1]).any():
        raise UserError(
            f"{name} is nowhere two voxels thick along every axis: beside a single slice is nothing to tell how far "
            "the moving image is off. Give a thicker mask, or none."
        )


def _check_image(name: str, image: sitk.Image) -> None:
    """Refuse an image that nothing can register."""
    if image.GetDimension() != 3:
        raise UserError(f"the {name} image has {image.GetDimension()} dimensions; expected 3.")
    values = sitk.GetArrayViewFromImage(image)
    if min(image.GetSize()) < LEAST_VOXELS:
        size = " × ".join(map(str, image.GetSize()))
        raise UserError(f"the {name} image has {size} voxels; at least {LEAST_VOXELS} along each axis are needed.")
    if not np.isfinite(values).all() or values.min() == values.max():
        raise UserError(f"the {name} image is constant or not finite: there is nothing to register.")
