"""One subject's stacks made comparable, as the fusion course does: rotation and slices by squared NCC.

One image is fixed (the CT). Every other image m is rotated in whole steps about the fixed image's centre, and all its
slices are compared with all fixed slices; the angle with the highest mean NCC along matching slices, over all starts,
is kept and applied to the whole stack. Then the stack with the fewest slices is held: in each other stack the start
slice, which matches the held stack's first slice, is chosen by NCC, and the rest follow by slice distance and position.
With three stacks or more, the starts are then corrected until each agrees best with all other stacks together.

The NCC is the local form of the course's formula, the mean over windows of 14 mm, of images smoothed by 3 mm (see
:mod:`cohortmorph.registration.stacks`). The global form fails between CT and MR: bone is bright in one and dark in the
other, soft tissue is not, and squaring after the sum lets the two cancel exactly where the heads match.

The world transform, fixed point x ↦ point y of image m (LPS, mm), is rigid:

    y = c' + R (x - c + t n)

with c the middle of the fixed image; n the unit vector along its slice axis (its axis k); R the rotation by
`angle_degrees`, right-handed about the fixed image's axis nearest to z (plane axial), y (coronal) or x (sagittal); t
the shift in mm that makes the start slices meet. All axes are seen as pointing to superior, posterior or left,
whichever way a file stores them: of axial slices the first is the lowest. With centre `image`, c' is the middle of
image m: the course works on pixel arrays, and scanners share no origin. With centre `world`, c' is c (moved along n
only), so that positions in the world are kept.

Directions are the world's, whatever the axes of the files: image m is always sampled on planes parallel to the fixed
slices, at its own slice distance. Where its slices are parallel to the fixed ones, these planes are its slices.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import SimpleITK as sitk

from cohortmorph import UserError
from cohortmorph.registration.harmonized import SUMMARY
from cohortmorph.registration.rotation import Found, find_angle, rotation_matrix
from cohortmorph.registration.stacks import Stack, agreement, normal_of, parallel_grid, resampled
from cohortmorph.registration.starts import Match, common_slices, compare_slices, match_starts, matching_positions
from cohortmorph.run.files import StrPath, write_json, write_table
from cohortmorph.spatial.geometry import Grid, affine, to_array, write_image, write_transform

# Columns of the tables of Harmonization.
ANGLES = ("image", "angle_degrees", "ncc_squared")
STARTS = ("image", "start_slice", "ncc_squared")
SLICES = ("image", "held_slice", "slice", "position_mm", "residual_mm", "ncc_squared")


@dataclass(frozen=True)
class Harmonization:
    """What harmonizing found.

    Attributes
    ----------
    transforms : dict of name to SimpleITK AffineTransform
        Fixed world → image's world, LPS mm.
    grid : Grid or None
        Of the harmonized stacks: the fixed image's pixels, at the held stack's slices that all other stacks cover. None
        if the images are left as they are.
    angles : DataFrame (image, angle_degrees, ncc_squared)
        For each angle tried, the best over all starts.
    starts : DataFrame (image, start_slice, ncc_squared)
        For each start tried at the chosen angle, the mean score with all other stacks; slices are numbered as in the
        image's own file, and a start outside of it lies before the stack's first slice or behind its last.
    slices : DataFrame (image, held_slice, slice, position_mm, residual_mm, ncc_squared)
        For each slice of `grid`, the nearest slice of every image; `position_mm` along n, from the fixed image's
        first slice; `residual_mm` from there to the nearest slice; NCC of that slice with the held slice.
    summary : dict
        Fixed and held image, number of slices, and for every image: `angle_degrees`, `start_slice`, `offset_mm` (how
        far the fixed image's middle moves along the slice axis), and the mean squared NCC with the fixed image over the
        slices of `grid`, `ncc_squared_before` (by the worlds as they are) and `ncc_squared_after`; None for the fixed
        image, and where nothing overlaps.
    """

    transforms: dict[str, sitk.AffineTransform]
    grid: Grid | None
    angles: pd.DataFrame
    starts: pd.DataFrame
    slices: pd.DataFrame
    summary: dict[str, Any]

    def write(self, images: Mapping[str, sitk.Image], facts: Mapping[str, Any], folder: StrPath) -> None:
        """Write it to a folder.

        Parameters
        ----------
        images : dict of name to SimpleITK image
            In their own units, each on its native grid.
        facts : dict
            Further entries of the summary.
        folder : path
            Gets ``{name}.tfm`` (fixed world → image's world, LPS mm) and ``{name}.nii.gz`` (the harmonized stack) of
            each image, ``angles.tsv``, ``starts.tsv``, ``slices.tsv`` and ``harmonize.json``.
        """
        folder = Path(folder)
        for name, image in images.items():
            write_transform(self.transforms[name], folder / f"{name}.tfm")
            write_image(harmonized_stack(image, self.transforms[name], self.grid), folder / f"{name}.nii.gz")
        for table in ("angles", "starts", "slices"):
            write_table(getattr(self, table), folder / f"{table}.tsv")
        write_json({**facts, **self.summary}, folder / SUMMARY)


def harmonize(
    images: Mapping[str, sitk.Image],
    fixed: str,
    plane: str = "axial",
    range_degrees: float = 30,
    step_degrees: float = 1,
    centre: str = "image",
    refine_degrees: float | None = None,
) -> Harmonization:
    """Find each image's rotation and start slice (see the module's description).

    Parameters
    ----------
    images : dict of name to SimpleITK image
        Prepared intensities (finite, about [0, 1]), each on its native grid.
    fixed : str
        The name of the fixed image.
    plane : {"axial", "coronal", "sagittal"}
        The plane to rotate in.
    range_degrees, step_degrees : float
        The angles tried are the multiples of the step in ± the range.
    centre : {"image", "world"}
        Whether the images' middles correspond in the slice plane, or their world positions.
    refine_degrees : float, optional
        The distance of the angles that are tried in a second search, one step to both sides of the best angle. The
        table of angles keeps the first search, as the second one is judged on other pixels.

    Returns
    -------
    Harmonization

    Raises
    ------
    UserError
        If the fixed image is missing, two images do not overlap, or nothing in them agrees.
    """
    if fixed not in images:
        raise UserError(
            f"The image {fixed!r}, which is to stay fixed, is missing: found {', '.join(images)}. Add it to the cohort "
            "table, or name another image in `harmonize: fixed`."
        )
    fixed_grid = Grid.of(images[fixed])
    stacks = {name: Stack.of(image, fixed_grid, centre) for name, image in images.items()}
    turned = {
        name: find_angle(stacks, name, fixed, plane, range_degrees, step_degrees, refine_degrees)
        for name in stacks
        if name != fixed
    }
    angle_degrees = {fixed: 0.0} | {name: found.angle_degrees for name, found in turned.items()}
    rotations = {name: rotation_matrix(fixed_grid, plane, angle) for name, angle in angle_degrees.items()}
    # At equal numbers of slices the fixed image is held, then the first one named.
    held = min(stacks, key=lambda name: (stacks[name].count, name != fixed))
    matches = match_starts(stacks, held, compare_slices(stacks, fixed, rotations))
    return _aligned(stacks, fixed, held, turned, rotations, matches)


def untouched(images: Iterable[str], fixed: str) -> Harmonization:
    """Return the Harmonization of images that are left as they are: identities, empty tables, and no common grid."""
    names = list(images)
    identity = affine(np.eye(3), np.zeros(3))
    nothing = {
        "angle_degrees": 0.0,
        "start_slice": None,
        "offset_mm": 0.0,
        "ncc_squared_before": None,
        "ncc_squared_after": None,
    }
    angles, starts, slices = (pd.DataFrame(columns=columns) for columns in (ANGLES, STARTS, SLICES))
    return Harmonization(
        dict.fromkeys(names, identity),
        None,
        angles,
        starts,
        slices,
        {"fixed": fixed, "held": None, "slices": None, "images": dict.fromkeys(names, nothing)},
    )


def harmonized_stack(image: sitk.Image, transform: sitk.Transform, grid: Grid | None) -> sitk.Image:
    """Resample an image, once and linearly, onto the grid of the harmonized stacks; outside it gets its minimum.

    Without a grid (:func:`untouched`), the image comes back as it is.
    """
    if grid is None:
        return image
    return resampled(image, transform, grid, outside=float(to_array(image).min()))


def _aligned(
    stacks: Mapping[str, Stack],
    fixed: str,
    held: str,
    turned: Mapping[str, Found],
    rotations: Mapping[str, np.ndarray],
    matches: Mapping[str, Match],
) -> Harmonization:
    """Lay stacks of known rotations and start slices on each other."""
    frame, held_stack = stacks[fixed], stacks[held]
    # Where the held stack's first slice lies, from the fixed image's middle: there all start slices meet.
    meeting_mm = frame.position_mm(matches[fixed].start)
    transforms = {
        name: stack.fixed_to_own(frame, rotations[name], stack.position_mm(matches[name].start) - meeting_mm)
        for name, stack in stacks.items()
    }
    common = common_slices(stacks, matches, held)
    first_mm = meeting_mm + common[0] * held_stack.distance_mm
    grid, search_grid = (
        parallel_grid(of, first_mm, len(common), held_stack.distance_mm) for of in (frame.grid, Grid.of(frame.image))
    )
    worlds_as_they_are = dict.fromkeys(stacks, affine(np.eye(3), np.zeros(3)))
    before = agreement(stacks, fixed, worlds_as_they_are, search_grid)
    after = agreement(stacks, fixed, transforms, search_grid)
    middle_mm, normal = frame.grid.centre_mm, normal_of(frame.grid)
    summary = {
        name: {
            "angle_degrees": turned[name].angle_degrees if name in turned else 0.0,
            "start_slice": stack.in_file(matches[name].start),
            "offset_mm": float((np.array(transforms[name].TransformPoint(tuple(middle_mm))) - middle_mm) @ normal),
            "ncc_squared_before": before[name],
            "ncc_squared_after": after[name],
        }
        for name, stack in stacks.items()
    }
    return Harmonization(
        transforms,
        grid,
        _angles_table(turned),
        _starts_table(stacks, matches, held),
        _slices_table(stacks, matches, held, common, first_mm - frame.position_mm(0)),
        {"fixed": fixed, "held": held, "slices": len(common), "images": summary},
    )


def _angles_table(turned: Mapping[str, Found]) -> pd.DataFrame:
    """Return the table `angles` of Harmonization."""
    rows = [
        (name, *row)
        for name, found in turned.items()
        for row in sorted(zip(found.tried_degrees, found.ncc_squared, strict=True))
    ]
    return pd.DataFrame(rows, columns=ANGLES)


def _starts_table(stacks: Mapping[str, Stack], matches: Mapping[str, Match], held: str) -> pd.DataFrame:
    """Return the table `starts` of Harmonization."""
    rows = [
        (name, stacks[name].in_file(int(start)), score)
        for name, match in matches.items()
        if name != held
        for start, score in zip(match.tried, match.scores, strict=True)
    ]
    return pd.DataFrame(rows, columns=STARTS)


def _slices_table(
    stacks: Mapping[str, Stack], matches: Mapping[str, Match], held: str, common: np.ndarray, first_mm: float
) -> pd.DataFrame:
    """Return the table `slices` of Harmonization; `first_mm` is the position of the first common slice."""
    rows = []
    for name, stack in stacks.items():
        positions = matching_positions(stack, matches[name], stacks[held], common)
        for number, position in zip(common, positions, strict=True):
            nearest = int(np.floor(position + 0.5))
            rows.append(
                {
                    "image": name,
                    "held_slice": stacks[held].in_file(int(number)),
                    "slice": stack.in_file(nearest),
                    "position_mm": first_mm + (number - common[0]) * stacks[held].distance_mm,
                    "residual_mm": (nearest - position) * stack.distance_mm,
                    "ncc_squared": matches[name].ncc_squared[number, nearest],
                }
            )
    return pd.DataFrame(rows, columns=SLICES)
