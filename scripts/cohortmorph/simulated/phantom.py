"""A phantom subject: CT, T1 and T2 of one head as DICOM, with the true displacement between them.

The head is the MNI152 template (ICBM 2009 non-linear symmetric, from nilearn's wheel; nothing is downloaded), with a
skull and a scalp drawn around the brain. The template's millimetres, turned from RAS to LPS, are the CT's world. All
lengths are mm, all points LPS.

**Anatomy.** At the CT point x the subject has the tissue of the template point x + v(x): v is a smooth field of the
subject's own (:class:`Bumps`), so no two subjects have the same head.

**Truth.** The CT point x = (x₁, x₂, x₃) corresponds to the point y of MR image m::

    p  = x + w(x)
    y₁ = c₁ + cos α (p₁ − c₁) − sin α (p₂ − c₂)
    y₂ = c₂ + sin α (p₁ − c₁) + cos α (p₂ − c₂)
    y₃ = p₃ + s

- w, image m's own Bumps: its longest vector is about ``deformation_mm``, its through-plane part a quarter of that;
- α, ``angle_degrees``: a planted whole number, positive from left towards posterior (x towards y);
- c, ``centre_lps_mm``: the middle of the CT, which in its plane is also the middle of the MR image;
- s, ``slice_offset_mm``: a planted shift, since the worlds of two scanners have nothing to do with each other.

w itself neither turns nor shifts the head on the whole, so that α and s are what a rigid registration should find. The
value of the image at y is the anatomy at x, found by inverting the truth.

**Slices.** In the CT's world (s undone) slice n lies at z₀ + n in the CT, at z₀ + a + n in T1 and at z₀ + b + 2.2 n in
T2, with whole numbers a < b: the first T2 slice lies on slice b of the CT and on slice b − a of T1 (``start_slice``).
CT slices are 1 mm thick every 1 mm, T1 2 mm every 1 mm (they overlap), T2 2 mm every 2.2 mm (gaps), as in the fusion
course.

**Fiducials.** Eight points on the skin, where a surgeon would glue markers, moved by the truth as every point. In each
image they are found with an error: normal, independent, 0.5 mm (sd) along each axis. No image shows them.
"""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from cohortmorph import UserError
from cohortmorph.run.files import StrPath, write_json
from cohortmorph.simulated.chance import random_numbers
from cohortmorph.simulated.scanner import PROTOCOLS, write_points, write_scan
from cohortmorph.spatial import displacement
from cohortmorph.spatial.geometry import Grid, to_image, write_image

FIELD_OF_VIEW_MM = (192, 224)
SLAB_CENTRE_MM = (0.0, 17.0, 22.0)  # the middle of the brain in the plane; just above the lateral ventricles along z
ANATOMY_MM = 5.0  # how far the subjects' heads differ from the template, at most
SKULL_MM, SCALP_MM, AIR_MM = 2.0, 7.0, 12.0  # distances from the brain at which these begin
LABELS = {"CSF": 1, "GM": 2, "WM": 3}
LANDMARKS = 40
FIDUCIALS = 8
BLOCK = 2**20  # points at which a field is computed at a time, for the memory's sake
FIDUCIAL_NOISE_MM = 0.5  # sd along each axis of a fiducial's localization, in each image


@dataclass(frozen=True)
class Bumps:
    """A smooth vector field: a sum of Gaussian bumps, known exactly at every point.

    Attributes
    ----------
    centres_lps_mm : array, shape (n, 3)
    sigmas_mm : array, shape (n,)
    amplitudes_mm : array, shape (n, 3)
    """

    centres_lps_mm: np.ndarray
    sigmas_mm: np.ndarray
    amplitudes_mm: np.ndarray

    @classmethod
    def random(
        cls,
        rng: np.random.Generator,
        grid: Grid,
        number: int,
        sigmas_mm: tuple[float, float],
        peak_mm: float,
        through_plane: float,
    ) -> "Bumps":
        """Draw a field over `grid` that neither turns (about z) nor shifts the head on the whole.

        Its longest vector is `peak_mm`; before that, z is scaled by `through_plane`.
        """
        extent_mm = (np.array(grid.size) - 1) * np.array(grid.spacing_mm)
        # The outer part of the grid is air: bumps there would be lost.
        centres = grid.centre_mm + rng.uniform(-0.35, 0.35, (number, 3)) * extent_mm
        # Vectors of one length in random directions: no single bump takes the peak for itself.
        directions = rng.normal(size=(number, 3))
        amplitudes = directions / np.linalg.norm(directions, axis=1, keepdims=True) * (1, 1, through_plane)
        bumps = cls(centres, rng.uniform(*sigmas_mm, number), amplitudes)

        points = grid.respaced(8).points_mm().reshape(-1, 3)
        arms = points - grid.centre_mm
        head = (arms[:, :2] ** 2 / (0.375 * extent_mm[:2]) ** 2).sum(axis=1) < 1
        turn = np.stack([-arms[:, 1], arms[:, 0], np.zeros(len(arms))], axis=1)
        motions = [np.broadcast_to(unit, points.shape) for unit in np.eye(3)] + [turn]
        # Each row, times the amplitudes, is how much of that rigid motion the field has over the head.
        rigid = np.stack([(bumps.heights(points[head]).T @ motion[head]).ravel() for motion in motions])
        amplitudes = amplitudes - (np.linalg.pinv(rigid) @ rigid @ amplitudes.ravel()).reshape(-1, 3)
        longest_mm = np.linalg.norm(bumps.heights(points) @ amplitudes, axis=1).max()
        return cls(centres, bumps.sigmas_mm, amplitudes * peak_mm / longest_mm)

    def heights(self, points_lps_mm: np.ndarray) -> np.ndarray:
        """Return the value of every bump at points, shape (n points, 3) → (n points, n bumps)."""
        # About a near origin, for the digits' sake.
        points, centres = points_lps_mm - SLAB_CENTRE_MM, self.centres_lps_mm - SLAB_CENTRE_MM
        squared = (points**2).sum(axis=1)[:, None] - 2 * points @ centres.T + (centres**2).sum(axis=1)
        return np.exp(squared / (-2 * self.sigmas_mm**2))

    def __call__(self, points_lps_mm: np.ndarray) -> np.ndarray:
        """Return the vectors (mm) at points, both of shape (..., 3)."""
        points = points_lps_mm.reshape(-1, 3)
        starts = range(0, max(len(points), 1), BLOCK)
        vectors = [self.heights(points[start : start + BLOCK]) @ self.amplitudes_mm for start in starts]
        return np.concatenate(vectors).reshape(points_lps_mm.shape)

    def numbers(self) -> dict[str, Any]:
        """Return the field's numbers for a JSON file."""
        return {name: np.round(getattr(self, name), 9).tolist() for name in self.__dataclass_fields__}


@dataclass(frozen=True)
class Placement:
    """The truth of one image: where each point of the CT's world lies in the world of the image (see the module)."""

    angle_degrees: int
    slice_offset_mm: float
    centre_mm: np.ndarray
    warp: Bumps

    @property
    def rotation(self) -> np.ndarray:
        """The planted rotation about z, shape (3, 3)."""
        angle = np.deg2rad(self.angle_degrees)
        return np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])

    @property
    def shift_mm(self) -> np.ndarray:
        """The planted shift along z, shape (3,)."""
        return np.array([0, 0, self.slice_offset_mm])

    def from_ct(self, points_lps_mm: np.ndarray) -> np.ndarray:
        """Map points of the CT's world to points of the image's world, shape (..., 3)."""
        warped = points_lps_mm + self.warp(points_lps_mm)
        return (warped - self.centre_mm) @ self.rotation.T + self.centre_mm + self.shift_mm

    def to_ct(self, points_lps_mm: np.ndarray, accuracy_mm: float = 1e-6) -> np.ndarray:
        """Map points of the image's world to points of the CT's world, by fixed-point iteration of x = p − w(x)."""
        warped = (points_lps_mm - self.shift_mm - self.centre_mm) @ self.rotation + self.centre_mm
        points = warped
        for _ in range(1000):  # few, but for the largest deformations
            before, points = points, warped - self.warp(points)
            if np.abs(points - before).max() < accuracy_mm:
                return points
        raise UserError("phantom: the deformation is too large to be inverted. Make `deformation_mm` smaller.")


@dataclass(frozen=True)
class Phantom:
    """All that is drawn for a subject.

    Attributes
    ----------
    anatomy : Bumps
        From the CT's world to the template.
    grids, placements : dict of image → Grid, Placement
    start_slice : dict of image → int
        Which slice lies in the plane of the first T2 slice.
    """

    anatomy: Bumps
    grids: dict[str, Grid]
    placements: dict[str, Placement]
    start_slice: dict[str, int]


def draw(subject: str, seed: int, spacing_mm: float, slab_mm: int, deformation_mm: float) -> Phantom:
    """Draw what makes a subject: the same words and numbers always give the same.

    The schema of the configuration, section ``phantom``, says which numbers there may be; nothing here checks again.

    Parameters
    ----------
    subject : str
        The subject's id.
    seed : int
    spacing_mm : float
        Size of the square pixels; they cover 192 × 224 mm.
    slab_mm : int
        Thickness of the CT's slab; those of T1 and T2 are a few mm thinner.
    deformation_mm : float
        About the longest vector of the fields between the CT and each MR image.
    """
    rng = random_numbers("plan", seed, subject)
    slices = {"CT": slab_mm, "T1": slab_mm - int(rng.integers(4, 7))}
    first = {"CT": 0, "T1": int(rng.integers(1, 4))}
    first["T2"] = first["T1"] + int(rng.integers(1, 7))
    # T2 ends at least one mm before T1 does, which ends at or before the end of the CT.
    slices["T2"] = int((first["T1"] + slices["T1"] - 2 - first["T2"]) / PROTOCOLS["T2"].distance_mm) + 1

    size = tuple(round(length / spacing_mm) for length in FIELD_OF_VIEW_MM)
    corner = np.array(SLAB_CENTRE_MM) - np.array([*(np.array(size) - 1) * spacing_mm, slices["CT"] - 1]) / 2
    slice_offset_mm = {"CT": 0.0, **{image: int(rng.integers(-600, 601)) / 10 for image in ("T1", "T2")}}
    grids = {}
    for image, protocol in PROTOCOLS.items():
        origin = corner + [0, 0, first[image] + slice_offset_mm[image]]
        # A tenth of a micrometre: what DICOM's decimal strings hold without loss.
        origin_mm = tuple(map(float, origin.round(4)))
        spacing = (float(spacing_mm), float(spacing_mm), protocol.distance_mm)
        grids[image] = Grid((*size, slices[image]), spacing, origin_mm)

    region = Grid((193, 225, slices["CT"]), (1, 1, 1), tuple(corner.round(4)))
    placements = {}
    for image in PROTOCOLS:
        angle_degrees = 0 if image == "CT" else int(rng.integers(2, 13) * rng.choice([-1, 1]))
        peak_mm = 0.0 if image == "CT" else deformation_mm
        warp = Bumps.random(rng, region, 40, (13, 19), peak_mm, through_plane=0.25)
        placements[image] = Placement(angle_degrees, slice_offset_mm[image], np.array(SLAB_CENTRE_MM), warp)
    anatomy = Bumps.random(rng, region, 12, (30, 40), ANATOMY_MM, through_plane=1)
    start_slice = {image: first["T2"] - first[image] for image in PROTOCOLS}
    return Phantom(anatomy, grids, placements, start_slice)


@lru_cache(maxsize=1)
def template() -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Load the head: arrays indexed as the template (RAS, 1 mm), and the RAS position of the first voxel.

    Returns
    -------
    tissues : dict of float32 arrays
        ``gm`` and ``wm``, fractions in [0, 1] inside the brain and 0 outside; ``brain``, 1 inside; ``distance_mm`` from
        the brain, 0 inside.
    origin_ras_mm : array, shape (3,)
    """
    # nilearn takes seconds to import, so only who makes a phantom pays for it.
    from nilearn import datasets

    reference = datasets.load_mni152_template(resolution=1)
    brain = ndimage.binary_fill_holes(datasets.load_mni152_brain_mask(resolution=1).get_fdata() > 0)
    gm = datasets.load_mni152_gm_template(resolution=1).get_fdata(dtype=np.float32) * brain
    wm = datasets.load_mni152_wm_template(resolution=1).get_fdata(dtype=np.float32) * brain
    distance_mm = ndimage.distance_transform_edt(~brain).astype(np.float32)
    tissues = {"gm": gm, "wm": wm, "brain": brain.astype(np.float32), "distance_mm": distance_mm}
    return tissues, reference.affine[:3, 3]


def contrast(tissues: dict[str, np.ndarray], intensities: dict[str, float]) -> np.ndarray:
    """Paint the template's head with the `intensities` of its tissues; float32, indexed as the template."""
    layers = [tissues["distance_mm"] > limit for limit in (AIR_MM, SCALP_MM, SKULL_MM)]
    # Between the brain and the skull is CSF.
    outside = np.select(layers, [intensities[name] for name in ("air", "scalp", "bone")], intensities["CSF"])
    csf = 1 - tissues["gm"] - tissues["wm"]
    inside = csf * intensities["CSF"] + tissues["gm"] * intensities["GM"] + tissues["wm"] * intensities["WM"]
    return np.where(tissues["brain"] > 0, inside, outside).astype(np.float32)


def scan(drawn: Phantom, image: str, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Take one image of a subject.

    Parameters
    ----------
    drawn : Phantom
    image : str
        CT, T1 or T2.
    rng : numpy Generator
        For the bias field and the noise.

    Returns
    -------
    values : int16 array, indexed [i, j, k] on ``drawn.grids[image]``
        HU for CT, arbitrary units for MR.
    labels : uint8 array
        See LABELS; the tissue that fills most of the voxel, 0 outside of the brain.
    """
    tissues, origin_ras_mm = template()
    protocol, grid, placement = PROTOCOLS[image], drawn.grids[image], drawn.placements[image]
    maps = [contrast(tissues, protocol.intensities), tissues["brain"], tissues["gm"], tissues["wm"]]
    samples = round(protocol.thickness_mm)
    depths_mm = (np.arange(samples) - (samples - 1) / 2) * protocol.thickness_mm / samples
    values, labels = np.zeros(grid.size), np.zeros(grid.size, dtype=np.uint8)
    plane = grid.points_mm()
    for k in range(grid.size[2]):  # slice by slice, for the memory's sake
        means = np.zeros((len(maps), *grid.size[:2]))
        for depth_mm in depths_mm:
            points = placement.to_ct(plane[:, :, k] + [0, 0, depth_mm])
            head_ras_mm = (points + drawn.anatomy(points)) * [-1, -1, 1]
            indices = np.moveaxis(head_ras_mm - origin_ras_mm, -1, 0)
            for mean, map_ in zip(means, maps, strict=True):
                mean += ndimage.map_coordinates(map_, indices, order=1, mode="nearest") / samples
        values[:, :, k], (brain, gm, wm) = means[0], means[1:]
        labels[:, :, k] = np.where(brain > 0.5, 1 + np.argmax([brain - gm - wm, gm, wm], axis=0), 0)
    if protocol.bias:
        # Coils of an MR scanner see near tissue brighter: a smooth factor around one.
        coils = Bumps.random(rng, grid, 4, (60, 90), 1, through_plane=1)
        values *= np.exp(protocol.bias * coils(plane)[..., 0])
    values += rng.normal(scale=protocol.noise, size=values.shape)
    lowest = -1024 if protocol.modality == "CT" else 0
    return np.clip(np.rint(values), lowest, 4095).astype(np.int16), labels


def landmarks(drawn: Phantom, labels: np.ndarray, number: int = LANDMARKS) -> dict[str, np.ndarray]:
    """Choose landmarks on edges between tissues, well spread, and map them to every image by the truth.

    Parameters
    ----------
    drawn : Phantom
    labels : array, indexed [i, j, k]
        The CT's labels.
    number : int

    Returns
    -------
    points : dict of image → array, shape (number, 3), LPS mm
        Those of the CT are voxel centres; all lie at least 3 mm inside of every image's grid.
    """
    candidates = drawn.grids["CT"].points_mm()[labels > 0]
    smooth = [ndimage.gaussian_filter((labels == label).astype(float), 1) for label in LABELS.values()]
    edges = np.sqrt(sum(ndimage.gaussian_gradient_magnitude(part, 1) ** 2 for part in smooth))[labels > 0]
    usable = seen_in_every_image(drawn, candidates)
    candidates = candidates[usable][np.argsort(-edges[usable], kind="stable")]
    chosen: list[np.ndarray] = []
    distance_mm = 40.0
    while len(chosen) < number:  # the widest spread that still has room for all
        chosen, rest = [], candidates
        while len(rest) and len(chosen) < number:
            chosen.append(rest[0])
            rest = rest[np.linalg.norm(rest - rest[0], axis=1) >= distance_mm]
        distance_mm *= 0.9
        if distance_mm < 1:
            raise UserError(f"phantom: found room for {len(chosen)} of {number} landmarks. Make `slab_mm` larger.")
    return {image: placement.from_ct(np.array(chosen)) for image, placement in drawn.placements.items()}


def fiducials(drawn: Phantom, number: int = FIDUCIALS) -> dict[str, np.ndarray]:
    """Choose fiducials on the skin, as far from each other as the scanned slab allows, and map them by the truth.

    Parameters
    ----------
    drawn : Phantom
    number : int

    Returns
    -------
    points : dict of image → array, shape (number, 3), LPS mm
        Their true places; all lie at least 3 mm inside of every image's grid.

    Raises
    ------
    UserError
        If the images show too little of the skin.
    """
    tissues, origin_ras_mm = template()
    grid = drawn.grids["CT"]
    angles = np.deg2rad(np.arange(0, 360, 5))
    depths_mm = np.arange(3, grid.size[2] - 3, 2) * grid.spacing_mm[2] + grid.origin_mm[2]
    radii_mm = np.arange(20.0, 130.0)
    # Rays from the middle of each slice: shape (heights, angles, radii, 3).
    rays = np.empty((len(depths_mm), len(angles), len(radii_mm), 3))
    rays[..., 0] = SLAB_CENTRE_MM[0] + np.cos(angles)[:, None] * radii_mm
    rays[..., 1] = SLAB_CENTRE_MM[1] + np.sin(angles)[:, None] * radii_mm
    rays[..., 2] = depths_mm[:, None, None]
    indices = np.moveaxis((rays + drawn.anatomy(rays)) * [-1, -1, 1] - origin_ras_mm, -1, 0)
    outside_mm = ndimage.map_coordinates(tissues["distance_mm"], indices, order=1, mode="nearest") - AIR_MM
    # The skin is crossed between the outermost point that lies in the head and the next one.
    last = outside_mm.shape[2] - 1 - np.argmax(outside_mm[..., ::-1] <= 0, axis=2)
    height, angle = np.nonzero((outside_mm <= 0).any(axis=2) & (last < len(radii_mm) - 1))
    inner = last[height, angle]
    before, after = outside_mm[height, angle, inner], outside_mm[height, angle, inner + 1]
    share = (before / (before - after))[:, None]
    skin = (1 - share) * rays[height, angle, inner] + share * rays[height, angle, inner + 1]
    skin = skin[seen_in_every_image(drawn, skin)]
    if len(skin) < number:
        raise UserError(
            f"phantom: found room for {len(skin)} of {number} fiducials. Make `slab_mm` larger or `deformation_mm` "
            "smaller."
        )
    chosen = skin[:1]
    while len(chosen) < number:  # each as far as possible from those before
        nearest_mm = np.linalg.norm(skin[:, None] - chosen, axis=2).min(axis=1)
        chosen = np.vstack([chosen, skin[np.argmax(nearest_mm)]])
    return {image: placement.from_ct(chosen) for image, placement in drawn.placements.items()}


def seen_in_every_image(drawn: Phantom, ct_points_lps_mm: np.ndarray, margin_mm: float = 3) -> np.ndarray:
    """Say for each point of the CT's world, shape (n, 3), whether it lies `margin_mm` inside of every image's grid."""
    seen = np.ones(len(ct_points_lps_mm), dtype=bool)
    for image, grid in drawn.grids.items():
        indices = grid.to_indices(drawn.placements[image].from_ct(ct_points_lps_mm))
        margin = margin_mm / np.array(grid.spacing_mm)
        seen &= np.all((indices >= margin) & (indices <= np.array(grid.size) - 1 - margin), axis=1)
    return seen


def write_subject(
    subject: str, folder: StrPath, seed: int, spacing_mm: float, slab_mm: int, deformation_mm: float
) -> None:
    """Write a phantom subject: per image a folder of DICOM, its labels, landmarks and fiducials; and the truth.

    Parameters
    ----------
    subject : str
        The subject's id; the phantom's patient is named ``PHANTOM^{subject}``.
    folder : str or Path
        Gets ``{image}/``, ``{image}_labels.nii.gz``, ``{image}_landmarks.tsv``, ``{image}_fiducials.tsv`` for CT, T1
        and T2, ``truth_{image}_to_CT.nii.gz`` (displacement, CT to image, on the CT's grid) for T1 and T2, and
        ``truth.json``.
    seed, spacing_mm, slab_mm, deformation_mm
        See :func:`draw`.
    """
    folder = Path(folder)
    drawn = draw(subject, seed, spacing_mm, slab_mm, deformation_mm)
    name = [subject, *map(str, (seed, float(spacing_mm), slab_mm, float(deformation_mm)))]
    true_fiducials = fiducials(drawn)
    for image, protocol in PROTOCOLS.items():
        rng = random_numbers("scan", seed, subject, image)
        values, labels = scan(drawn, image, rng)
        if image == "CT":
            points = landmarks(drawn, labels)
        write_scan(values, drawn.grids[image], protocol, folder / image, [*name, image], rng, f"PHANTOM^{subject}")
        write_image(to_image(labels, drawn.grids[image]), folder / f"{image}_labels.nii.gz")
        write_points(points[image], "L", folder / f"{image}_landmarks.tsv")
        # A stream of its own: the images are the same with and without fiducials.
        error_mm = random_numbers("fiducials", seed, subject, image).normal(0, FIDUCIAL_NOISE_MM, (FIDUCIALS, 3))
        write_points(true_fiducials[image] + error_mm, "F", folder / f"{image}_fiducials.tsv")
    ct_points = drawn.grids["CT"].points_mm()
    for image in ("T1", "T2"):
        truth = (drawn.placements[image].from_ct(ct_points) - ct_points).astype(np.float32)
        displacement.write(to_image(truth, drawn.grids["CT"]), folder / f"truth_{image}_to_CT.nii.gz")
    write_json({"subject": subject, "seed": seed, **numbers(drawn)}, folder / "truth.json")


def numbers(drawn: Phantom) -> dict[str, Any]:
    """Return the planted numbers of a phantom for a JSON file; the module says what they mean."""
    images = {
        image: {
            "angle_degrees": placement.angle_degrees,
            "slice_offset_mm": placement.slice_offset_mm,
            "centre_lps_mm": placement.centre_mm.tolist(),
            "warp": placement.warp.numbers(),
        }
        for image, placement in drawn.placements.items()
        if image != "CT"
    }
    return {"start_slice": drawn.start_slice, "images": images}
