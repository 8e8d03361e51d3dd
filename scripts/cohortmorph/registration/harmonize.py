"""One subject's stacks made comparable, as the fusion course does: rotation and slices by squared NCC.

One image is fixed (the CT). Every other image m is rotated in whole steps about the fixed image's centre, and all its
slices are compared with all fixed slices; the angle with the highest mean NCC along matching slices, over all starts,
is kept and applied to the whole stack. Then the stack with the fewest slices is held: in each other stack the start
slice, which matches the held stack's first slice, is chosen by NCC, and the rest follow by slice distance and position.
With three stacks or more, the starts are then corrected until each agrees best with all other stacks together.

The NCC is the local form of the course's formula, the mean over windows of :data:`WINDOW_MM`, of images smoothed by
:data:`SMOOTHING_MM`. The global form fails between CT and MR: bone is bright in one and dark in the other, soft tissue
is not, and squaring after the sum lets the two cancel exactly where the heads match.

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

from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd
import SimpleITK as sitk
from scipy.ndimage import gaussian_filter
from scipy.spatial.transform import Rotation

from cohortmorph import UserError
from cohortmorph.run.logs import log
from cohortmorph.spatial.geometry import PLANES, Grid, affine, to_array, to_image
from cohortmorph.spatial.ncc import local_ncc_squared_matrix

# Slices with more pixels than this are binned for the search only: 1° still moves the rim of a head by a pixel.
SEARCH_PIXELS = 128 * 128
# Columns of the tables of Harmonization.
ANGLES = ("image", "angle_degrees", "ncc_squared")
STARTS = ("image", "start_slice", "ncc_squared")
SLICES = ("image", "held_slice", "slice", "position_mm", "residual_mm", "ncc_squared")
# Larger than the deformation between the images, smaller than the distance between bone and ventricles.
WINDOW_MM = 14
# Rotated images are interpolated, those at 0° are not: after this smoothing, noise does not tell them apart.
SMOOTHING_MM = 3
# Only images without contrast or without any overlap stay below this squared NCC.
NCC_SQUARED_MIN = 0.01
# Correcting the starts settles after two or three rounds.
ROUNDS = 10
# Scores closer than this are a tie: rounding must not choose.
TIE = 1e-9


@dataclass(frozen=True)
class Stack:
    """An image read as slices parallel to the fixed image's, counted along n.

    Attributes
    ----------
    image : SimpleITK image
        Its prepared intensities, binned and smoothed in the slice plane for the search.
    grid : Grid
        Its native grid.
    axis : int
        The axis of `grid` nearest to the fixed image's slice axis.
    ascending : bool
        Whether that axis runs along n, not against it.
    middle_mm : array, shape (3,)
        The world point that the fixed image's middle meets before any shift along the slices (c' above).
    """

    image: sitk.Image
    grid: Grid
    axis: int
    ascending: bool
    middle_mm: np.ndarray

    @property
    def count(self):
        """The number of slices."""
        return self.grid.size[self.axis]

    @property
    def distance_mm(self):
        """The distance of neighbouring slices."""
        return self.grid.spacing_mm[self.axis]

    def position_mm(self, slice_number):
        """The distance of a slice from the middle of the stack, along n."""
        return (slice_number - (self.count - 1) / 2) * self.distance_mm

    def in_file(self, slice_number):
        """The slice's number in the image's own file, where the axis may run the other way."""
        return slice_number if self.ascending else self.count - 1 - slice_number


@dataclass(frozen=True)
class Harmonization:
    """What harmonizing found.

    Attributes
    ----------
    transforms : dict of name to SimpleITK AffineTransform
        Fixed world → image's world, LPS mm.
    grid : Grid
        Of the harmonized stacks: the fixed image's pixels, at the held stack's slices that all other stacks cover.
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

    transforms: dict
    grid: Grid
    angles: pd.DataFrame
    starts: pd.DataFrame
    slices: pd.DataFrame
    summary: dict


def rotation_matrix(fixed_grid, plane, angle_degrees):
    """Return R of the module's formula, shape (3, 3): right-handed about the fixed image's axis normal to `plane`."""
    world_axis = PLANES[plane]
    axis = fixed_grid.axes[:, np.argmax(np.abs(fixed_grid.axes[world_axis]))]
    return Rotation.from_rotvec(axis * np.sign(axis[world_axis]) * angle_degrees, degrees=True).as_matrix()


def possible_starts(held_count, other_count, held_distance_mm, other_distance_mm):
    """Return all slices of the other stack that its overlap with the held stack could start at (array of int).

    A start that lies before the other stack's first slice is negative.
    """
    return np.arange(-int(np.floor((held_count - 1) * held_distance_mm / other_distance_mm)), other_count)


def start_scores(ncc_squared, held_distance_mm, other_distance_mm, starts):
    """Score start slices by the mean squared NCC along matching slices.

    The held stack's slice h lies at the other stack's slice ``start + h · held distance / other distance``; between two
    slices the NCC is interpolated linearly.

    Parameters
    ----------
    ncc_squared : array, shape (held slices, other slices)
        NaN where two slices cannot be compared.
    held_distance_mm, other_distance_mm : float
    starts : array of float
        Slices of the other stack that match the held stack's slice 0; they may lie outside of it.

    Returns
    -------
    scores : array of float
        NaN where fewer than half of the slices match that could.
    """
    held_count, other_count = ncc_squared.shape
    ratio = held_distance_mm / other_distance_mm
    held = np.arange(held_count)
    positions = np.round(np.asarray(starts)[:, None] + held * ratio, 6)
    inside = (positions >= 0) & (positions <= other_count - 1)
    below = np.clip(np.floor(positions), 0, other_count - 1).astype(int)
    above = np.minimum(below + 1, other_count - 1)
    fraction = np.where(inside, positions - below, 0)
    # A neighbour that is not needed must not spread its NaN.
    upper = np.where(fraction > 0, ncc_squared[held, above], 0)
    matched = (1 - fraction) * ncc_squared[held, below] + fraction * upper
    comparable = inside & np.isfinite(matched)
    needed = 0.5 * min(held_count, np.floor((other_count - 1) / ratio + 1e-6) + 1)
    count = comparable.sum(axis=1)
    total = np.where(comparable, matched, 0).sum(axis=1)
    return np.divide(total, count, out=np.full(len(total), np.nan), where=count >= max(needed, 1))


def harmonize(images, fixed, plane="axial", range_degrees=30, step_degrees=1, centre="image", refine_degrees=None):
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
    stacks = {name: _stack(image, fixed_grid, centre) for name, image in images.items()}
    steps = int(np.floor(range_degrees / step_degrees + 1e-6))
    # Nearest to zero first: at a tie the first wins.
    angles = sorted(
        (np.arange(-steps, steps + 1) * float(step_degrees)).tolist(), key=lambda angle: (abs(angle), angle)
    )

    others = [name for name in stacks if name != fixed]
    angle_scores = {name: _angle_scores(stacks, name, fixed, plane, angles) for name in others}
    angle_degrees = {fixed: 0.0} | {name: _best_angle(name, fixed, angles, angle_scores[name]) for name in others}
    if refine_degrees:
        for name in others:
            near = _nearby(angle_degrees[name], step_degrees, refine_degrees)
            angle_degrees[name] = _best_angle(name, fixed, near, _angle_scores(stacks, name, fixed, plane, near), True)
    rotations = {name: rotation_matrix(fixed_grid, plane, angle) for name, angle in angle_degrees.items()}

    # At equal numbers of slices the fixed image is held, then the first one named.
    held = min(stacks, key=lambda name: (stacks[name].count, name != fixed))
    matches = _matches(stacks, fixed, held, rotations)
    # Where the held stack's first slice lies, from the fixed image's middle: there all start slices meet.
    meeting_mm = stacks[fixed].position_mm(matches[fixed].start)
    transforms = {
        name: _transform(
            stack, stacks[fixed], rotations[name], shift_mm=stack.position_mm(matches[name].start) - meeting_mm
        )
        for name, stack in stacks.items()
    }
    common = _common_slices(stacks, matches, held)
    first_mm = meeting_mm + common[0] * stacks[held].distance_mm
    grid = _parallel_grid(fixed_grid, first_mm, len(common), stacks[held].distance_mm)
    worlds_as_they_are = dict.fromkeys(stacks, affine(np.eye(3), np.zeros(3)))
    search_grid = _parallel_grid(Grid.of(stacks[fixed].image), first_mm, len(common), stacks[held].distance_mm)
    before = _agreement(stacks, fixed, worlds_as_they_are, search_grid)
    after = _agreement(stacks, fixed, transforms, search_grid)
    middle_mm, normal = fixed_grid.centre_mm, _normal(fixed_grid)
    summary = {
        name: {
            "angle_degrees": angle_degrees[name],
            "start_slice": stacks[name].in_file(matches[name].start),
            "offset_mm": float((np.array(transforms[name].TransformPoint(tuple(middle_mm))) - middle_mm) @ normal),
            "ncc_squared_before": before[name],
            "ncc_squared_after": after[name],
        }
        for name in stacks
    }
    return Harmonization(
        transforms,
        grid,
        _angles_table(angles, angle_scores),
        _starts_table(stacks, matches, held),
        _slices_table(stacks, matches, held, common, first_mm - stacks[fixed].position_mm(0)),
        {"fixed": fixed, "held": held, "slices": len(common), "images": summary},
    )


def untouched(images, fixed):
    """Return the Harmonization of images that are left as they are: identities, empty tables, and no common grid."""
    identity = affine(np.eye(3), np.zeros(3))
    nothing = {
        "angle_degrees": 0.0,
        "start_slice": None,
        "offset_mm": 0.0,
        "ncc_squared_before": None,
        "ncc_squared_after": None,
    }
    return Harmonization(
        dict.fromkeys(images, identity),
        None,
        *(pd.DataFrame(columns=columns) for columns in (ANGLES, STARTS, SLICES)),
        {"fixed": fixed, "held": None, "slices": None, "images": dict.fromkeys(images, nothing)},
    )


def harmonized_stack(image, transform, grid):
    """Resample an image, once and linearly, onto the grid of the harmonized stacks; outside it gets its minimum.

    Without a grid (:func:`untouched`), the image comes back as it is.
    """
    if grid is None:
        return image
    return _resampled(image, transform, grid, outside=float(to_array(image).min()))


@dataclass(frozen=True)
class _Match:
    """How a stack's slices agree with the held stack's.

    Attributes
    ----------
    start : int
        The slice that matches the held stack's first slice.
    ncc_squared : array, shape (held slices, slices)
    tried, scores : arrays
        Every admissible start and its score.
    """

    start: int
    ncc_squared: np.ndarray
    tried: np.ndarray
    scores: np.ndarray


def _normal(grid):
    """The unit vector along a grid's slice axis k, towards superior, posterior or left, whichever it is nearest to."""
    axis = grid.axes[:, 2]
    return axis * np.sign(axis[np.argmax(np.abs(axis))])


def _stack(image, fixed_grid, centre):
    """Read an image as a stack parallel to the fixed image's slices."""
    grid, normal = Grid.of(image), _normal(fixed_grid)
    along = normal @ grid.axes
    axis = int(np.argmax(np.abs(along)))
    middle_mm = grid.centre_mm
    if centre == "world":
        middle_mm = fixed_grid.centre_mm + normal * ((middle_mm - fixed_grid.centre_mm) @ normal)
    return Stack(_prepared(image, axis), grid, axis, bool(along[axis] > 0), middle_mm)


def _prepared(image, slice_axis):
    """Bin blocks of pixels in the slice plane until few enough are left for the search, and smooth them."""
    in_plane = [axis for axis in range(3) if axis != slice_axis]
    spacing_mm, extent_mm = np.array(image.GetSpacing()), np.array(image.GetSize()) * image.GetSpacing()
    target_mm = np.sqrt(np.prod(extent_mm[in_plane]) / SEARCH_PIXELS)
    factors = [1, 1, 1]
    for axis in in_plane:
        factors[axis] = int(np.clip(np.round(target_mm / spacing_mm[axis]), 1, image.GetSize()[axis]))
    binned = sitk.BinShrink(image, factors) if max(factors) > 1 else image
    sigmas = SMOOTHING_MM / np.array(binned.GetSpacing())
    sigmas[slice_axis] = 0
    return to_image(gaussian_filter(to_array(binned).astype(np.float32), sigmas), Grid.of(binned))


def _parallel_grid(fixed_grid, first_mm, count, distance_mm):
    """The grid of slices along n with the fixed image's pixels, the first one `first_mm` from the fixed middle."""
    normal = _normal(fixed_grid)
    middle_corner_mm = fixed_grid.to_world((0, 0, (fixed_grid.size[2] - 1) / 2))
    return Grid(
        (*fixed_grid.size[:2], count),
        (*fixed_grid.spacing_mm[:2], distance_mm),
        tuple((middle_corner_mm + first_mm * normal).tolist()),
        tuple(np.column_stack([fixed_grid.axes[:, :2], normal]).ravel().tolist()),
    )


def _resampled(image, transform, grid, outside=np.nan):
    """Resample an image linearly onto a grid, as float32."""
    return sitk.Resample(
        image,
        grid.size,
        transform,
        sitk.sitkLinear,
        grid.origin_mm,
        grid.spacing_mm,
        grid.direction,
        outside,
        sitk.sitkFloat32,
    )


def _transform(stack, frame, rotation, shift_mm):
    """The module's formula: fixed world → image's world."""
    offset_mm = stack.middle_mm - rotation @ (frame.middle_mm - shift_mm * _normal(frame.grid))
    return affine(rotation, offset_mm)


def _sampled(stack, frame, rotation):
    """Sample a stack at its own slices on the fixed image's pixels, rotated, the middles of both meeting.

    Returns
    -------
    array, shape (slices, rows, columns)
        NaN where the stack has no value.
    """
    grid = _parallel_grid(Grid.of(frame.image), stack.position_mm(0), stack.count, stack.distance_mm)
    return sitk.GetArrayFromImage(_resampled(stack.image, _transform(stack, frame, rotation, shift_mm=0), grid))


def _slice_matrix(a, b, frame):
    """Return the local squared NCC of all slices of two stacks; NaN for slices mostly outside of their image."""
    window = max(round(WINDOW_MM / np.mean(frame.image.GetSpacing()[:2])), 5)
    matrix, windows = local_ncc_squared_matrix(a, b, window)
    return np.where(windows >= 0.5 * windows.max(), matrix, np.nan)


def _all_start_scores(matrix, held, other):
    """Return all possible starts of a stack against a held one, and their scores."""
    starts = possible_starts(held.count, other.count, held.distance_mm, other.distance_mm)
    return starts, start_scores(matrix, held.distance_mm, other.distance_mm, starts)


def _angle_scores(stacks, name, fixed, plane, angles_degrees):
    """Return the best score over all starts for each angle, as an array."""
    stack, frame = stacks[name], stacks[fixed]
    fixed_slices = _sampled(frame, frame, np.eye(3))
    rotations = [rotation_matrix(frame.grid, plane, angle) for angle in angles_degrees]
    common = True
    if np.allclose(rotations[-1] @ _normal(frame.grid), _normal(frame.grid)):
        # Every angle is judged on the same pixels: else background at the corners, which comes and goes with the angle,
        # would choose. A rotation out of the slice plane leaves too few of them, so there each angle has its own.
        common = np.all([np.isfinite(_sampled(stack, frame, rotation)) for rotation in rotations], axis=0)
    scores = np.empty(len(rotations))
    for n, rotation in enumerate(rotations):
        slices = np.where(common, _sampled(stack, frame, rotation), np.nan)
        # The stack with fewer slices moves along the other.
        if stack.count < frame.count:
            along = _all_start_scores(_slice_matrix(slices, fixed_slices, frame), stack, frame)[1]
        else:
            along = _all_start_scores(_slice_matrix(fixed_slices, slices, frame), frame, stack)[1]
        scores[n] = np.nanmax(along, initial=-1)
    if scores.max() < 0:
        raise _no_overlap(name, fixed)
    return scores


def _nearby(angle_degrees, step_degrees, refine_degrees):
    """Return the angles of the second search, the nearest to the best one first."""
    steps = int(np.ceil(step_degrees / refine_degrees - 1e-6)) - 1
    around = sorted(range(-steps, steps + 1), key=lambda step: (abs(step), step))
    return [round(angle_degrees + step * refine_degrees, 6) for step in around]


def _best_angle(name, fixed, angles_degrees, scores, is_refined=False):
    """Return the angle with the highest score; the first one at a tie."""
    best = int(np.flatnonzero(scores >= scores.max() - TIE)[0])
    if scores[best] < NCC_SQUARED_MIN:
        raise UserError(
            f"{name}: no angle makes it agree with {fixed}: the best squared NCC is {scores[best]:.4f} at "
            f"{angles_degrees[best]:g}°, expected at least {NCC_SQUARED_MIN}. Check that both show the same body part "
            "and that `intensity` leaves contrast in both, or set `harmonize: enabled: false`."
        )
    if not is_refined and abs(angles_degrees[best]) == max(map(abs, angles_degrees)):
        log.warning(
            "%s: the best angle, %g°, is at the edge of the range, so the true one may lie beyond: widen "
            "`harmonize: range_degrees`.",
            name,
            angles_degrees[best],
        )
    return angles_degrees[best]


def _matches(stacks, fixed, held, rotations):
    """Match the start slice of every stack, rotated, with the held stack's first slice; a dict of name to _Match."""
    sampled = {name: _sampled(stack, stacks[fixed], rotations[name]) for name, stack in stacks.items()}
    matrices = {}
    for a, b in combinations(stacks, 2):
        matrices[a, b] = _slice_matrix(sampled[a], sampled[b], stacks[fixed])
        matrices[b, a] = matrices[a, b].T

    others = [name for name in stacks if name != held]
    matches = {held: _Match(0, np.eye(stacks[held].count), np.array([0]), np.array([1.0]))}
    for name in others:
        found = _match(name, held, stacks, matrices, {held: 0})
        if found is None:
            raise _no_overlap(name, held)
        matches[name] = found
    for _ in range(ROUNDS):
        starts = {name: found.start for name, found in matches.items()}
        for name in others:
            rest = {other: found.start for other, found in matches.items() if other != name}
            # Where two of the others do not overlap, the held stack alone decides.
            matches[name] = _match(name, held, stacks, matrices, rest) or matches[name]
        if starts == {name: found.start for name, found in matches.items()}:
            break
    return matches


def _match(name, held, stacks, matrices, reference_starts):
    """Find the start of a stack by its mean score with stacks whose starts are known; None without overlap."""
    stack, held_stack = stacks[name], stacks[held]
    tried = possible_starts(held_stack.count, stack.count, held_stack.distance_mm, stack.distance_mm)
    scores = []
    for reference, start in reference_starts.items():
        distance_mm = stacks[reference].distance_mm
        # The reference's slice `start` meets the slice tried, so its slice 0 meets an earlier one.
        meeting_first = tried - start * distance_mm / stack.distance_mm
        scores.append(start_scores(matrices[reference, name], distance_mm, stack.distance_mm, meeting_first))
    scores = np.mean(scores, axis=0)
    admissible = np.isfinite(scores)
    if not admissible.any():
        return None
    tried, scores = tried[admissible], scores[admissible]
    # At a tie, the start that brings the middles together.
    middle = (stack.count - 1) / 2 - (held_stack.count - 1) / 2 * held_stack.distance_mm / stack.distance_mm
    tied = tried[scores >= scores.max() - TIE]
    return _Match(int(tied[np.argmin(np.abs(tied - middle))]), matrices[held, name], tried, scores)


def _no_overlap(name, other):
    """The error of two images of which no half can overlap."""
    return UserError(
        f"{name}: it does not overlap with {other} in the slice plane at any angle. Check the images, or set "
        "`harmonize: centre: image`, which lays their middles on each other."
    )


def _positions(stack, match, held_stack, held_slices):
    """The continuous slice numbers in a stack that match the held stack's slices."""
    return np.round(match.start + np.asarray(held_slices) * held_stack.distance_mm / stack.distance_mm, 6)


def _common_slices(stacks, matches, held):
    """Return the held stack's slices that all other stacks cover."""
    slices = np.arange(stacks[held].count)
    for name, stack in stacks.items():
        positions = _positions(stack, matches[name], stacks[held], np.arange(stacks[held].count))
        slices = slices[(positions[slices] >= 0) & (positions[slices] <= stack.count - 1)]
    if not slices.size:
        raise UserError(
            f"No slice of {held}, which has the fewest slices, is covered by all of {', '.join(stacks)}. Leave one "
            "of them out of the cohort table, or set `harmonize: enabled: false`."
        )
    return slices


def _agreement(stacks, fixed, transforms, grid):
    """Return each image's mean squared NCC with the fixed one over the slices of `grid`; None without overlap."""
    slices = {name: sitk.GetArrayFromImage(_resampled(stacks[name].image, transforms[name], grid)) for name in stacks}
    agreement = {fixed: None}
    for name in stacks.keys() - {fixed}:
        along = np.diagonal(_slice_matrix(slices[fixed], slices[name], stacks[fixed]))
        agreement[name] = float(np.nanmean(along)) if np.isfinite(along).any() else None
    return agreement


def _angles_table(angles_degrees, scores):
    """The table `angles` of Harmonization."""
    rows = [(name, *row) for name in scores for row in sorted(zip(angles_degrees, scores[name], strict=True))]
    return pd.DataFrame(rows, columns=ANGLES)


def _starts_table(stacks, matches, held):
    """The table `starts` of Harmonization."""
    rows = [
        (name, stacks[name].in_file(int(start)), score)
        for name, match in matches.items()
        if name != held
        for start, score in zip(match.tried, match.scores, strict=True)
    ]
    return pd.DataFrame(rows, columns=STARTS)


def _slices_table(stacks, matches, held, common, first_mm):
    """The table `slices` of Harmonization; `first_mm` is the position of the first common slice."""
    rows = []
    for name, stack in stacks.items():
        for number, position in zip(common, _positions(stack, matches[name], stacks[held], common), strict=True):
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
