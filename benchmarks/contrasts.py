"""Real cohorts of two contrasts with a known answer, which the workflow itself then registers and measures.

    python benchmarks/contrasts.py planted spine DATA FOLDER [--train 3] [--validation 1] [--test 10]
    python benchmarks/contrasts.py planted brain DATA FOLDER
    python benchmarks/contrasts.py remapped {plain,inverted,remapped} DATA FOLDER [--train 24] [--validation 4]

DATA is the folder of the real data; FOLDER gets images, tables and config.yaml, and `snakemake --configfile
FOLDER/config.yaml` does the rest. docs/centre.md has what came out.

`planted`: a T1 and a T2 of one person that lie on each other. Each seed is a subject: both images are bent alike (so
that no two subjects have the same image), then the T1 alone by the displacement that is to be found, u: fixed → moving
where the T1 is fixed. Each image is resampled once (B-spline) from the real one. Landmarks are random points of the
body, x in every T1 and x + u(x) in the T2, so that the mean TRE estimates the mean error against u over the body.

`remapped`: the hippocampi of tests/real/hippocampus.tsv, in the same pairs. Of every second subject of a split the
contrast is inverted, or sent through a random smooth function that rises and falls, one a subject: of each validation
and test pair exactly one image is. Labels stay as they are.
"""

import argparse
import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import SimpleITK as sitk
import yaml
from scipy.interpolate import PchipInterpolator
from scipy.ndimage import binary_fill_holes, gaussian_filter

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))

from cohortmorph import UserError
from cohortmorph.clinic import reader as dicom
from cohortmorph.run.files import write_table
from cohortmorph.simulated.synthetic import Field, landmark_table, random_displacement
from cohortmorph.spatial import displacement, labels, landmarks
from cohortmorph.spatial.displacement import as_transform
from cohortmorph.spatial.geometry import Grid, chain, read_image, to_array, to_image, write_image
from cohortmorph.spatial.intensity import prepare

HIPPOCAMPI = Path(__file__).parents[1] / "tests/real/hippocampus.tsv"
PREPARED = {"percentiles": [0.5, 99.5]}
MEAN_MM, ALIKE_MEAN_MM = 2.0, 1.0  # mean length over the body: of u, and of what bends both images alike
LANDMARKS = 300
JACOBIAN_MIN = 0.3
DRAWS = 100


@dataclass(frozen=True)
class Anatomy:
    """A real T1 and T2 of one person.

    Attributes
    ----------
    images, labels : dict
        {image id: path in the data folder}; the last image is the T2.
    sigma_mm, margin_mm : float
        Smoothness of the displacements; how much is cut off at the sides, so that nothing from beyond the real images
        comes in: such an edge would tell where it was moved to.
    in_plane : bool
        Whether displacements keep to the slices: through slices that are thick, or have gaps, no image can be
        interpolated that a scanner could have made.
    """

    images: Mapping[str, str]
    labels: Mapping[str, str]
    sigma_mm: float
    margin_mm: float
    in_plane: bool
    network: Mapping[str, Any]
    matching: Mapping[str, Any]
    levels: tuple[Mapping[str, float], ...]


SMALL_LEVELS = (
    {"spacing_mm": 2, "grid_mm": 16, "iterations": 60, "step_mm": 0.5},
    {"spacing_mm": 1, "grid_mm": 8, "iterations": 60, "step_mm": 0.25},
)
ANATOMIES = {
    "spine": Anatomy(
        images={"T1": "spine-t1-t2/t1/t1w.nii.gz", "T2": "spine-t1-t2/t2/t2.nii.gz"},
        labels={"T1": "spine-t1-t2/t1/t1w_seg-manual.nii.gz", "T2": "spine-t1-t2/t2/t2_seg-manual.nii.gz"},
        sigma_mm=10,
        margin_mm=5,
        in_plane=False,
        network={"spacing_mm": None, "epochs": 24},
        matching={"dimensions": 3, "spacing_mm": 1, "batch_size": 1, "displacements": {"bends_mm": [12, 20, 32]}},
        levels=SMALL_LEVELS,
    ),
    "brain": Anatomy(
        images={
            "T1": "brain-mr-dicom/Study3/26401-T1prereg-52906",
            "T1post": "brain-mr-dicom/Study3/11-T1post-18670",
            "T2": "brain-mr-dicom/Study3/37830-T2reg-78532",
        },
        labels={},
        sigma_mm=20,
        margin_mm=11,
        in_plane=True,
        network={"spacing_mm": [2, 2, 6.5], "epochs": 12},
        matching={
            "dimensions": 2,
            "spacing_mm": [1, 1, 6.5],
            "batch_size": 8,
            "displacements": {"bends_mm": [24, 40, 64]},
        },
        levels=(
            {"spacing_mm": 4, "grid_mm": 32, "iterations": 60, "step_mm": 1.0},
            {"spacing_mm": 2, "grid_mm": 16, "iterations": 60, "step_mm": 0.5},
        ),
    ),
}


# ---- planted displacements


def between_images(fixed_labels: sitk.Image, moving_labels: sitk.Image) -> sitk.Transform:
    """Return the shift, fixed → moving world, between one structure drawn in two images of a person who moved.

    Middles are compared slice by slice, along the third axis, so that it does not matter where the drawing ends there;
    along that axis nothing is shifted.
    """
    grid = Grid.of(fixed_labels)
    moved = sitk.Resample(moving_labels, fixed_labels, sitk.Transform(3, sitk.sitkIdentity), sitk.sitkNearestNeighbor)
    drawn = [to_array(image) > 0 for image in (fixed_labels, moved)]
    slices = [k for k in range(grid.size[2]) if all(one[:, :, k].any() for one in drawn)]
    if not slices:
        raise UserError("the structure that was drawn in both images has no slice in common.")
    middles = [np.array([[*np.argwhere(one[:, :, k]).mean(axis=0), k] for k in slices]) for one in drawn]
    shift_mm = grid.steps_mm @ (middles[1] - middles[0]).mean(axis=0)
    return sitk.TranslationTransform(3, shift_mm.tolist())


def common_grid(first: Grid, others: Mapping[str, tuple[Grid, sitk.Transform]], margin_mm: np.ndarray) -> Grid:
    """Return the part of the first grid that all cover, less a margin along each axis."""
    points_mm = first.points_mm()
    covered = np.ones(first.size, bool)
    for grid, transform in others.values():
        covered &= grid.contains(chain_points(points_mm, transform))
    if not covered.any():
        raise UserError("the images have no voxel in common.")
    low, high = np.zeros(3, int), np.array(first.size)
    box = covered
    while not box.all():
        # The face with the most that is not covered goes.
        missing = {(axis, end): (~box.take(-end, axis)).mean() for axis in range(3) for end in (0, 1)}
        axis, end = max(missing, key=lambda face: missing[face])
        low[axis], high[axis] = low[axis] + (1 - end), high[axis] - end
        box = covered[tuple(map(slice, low, high))]
    margin = np.ceil(margin_mm / np.array(first.spacing_mm)).astype(int)
    low, size = low + margin, high - low - 2 * margin
    if min(size) < 8:
        raise UserError(f"{size.tolist()} voxels are left of the images; at least 8 along each axis are needed.")
    return Grid(tuple(map(int, size)), first.spacing_mm, tuple(map(float, first.to_world(low))), first.direction)


def chain_points(points_mm: np.ndarray, transform: sitk.Transform) -> np.ndarray:
    """Map points, shape (..., 3), by a transform that is affine."""
    affine = chain(transform)
    matrix, offset = np.array(affine.GetMatrix()).reshape(3, 3), np.array(affine.GetTranslation())
    return points_mm @ matrix.T + offset


def body_of(images: Mapping[str, sitk.Image]) -> np.ndarray:
    """Return where all images show something."""
    shown = []
    for image in images.values():
        values = to_array(prepare(sitk.Cast(image, sitk.sitkFloat32), PREPARED))
        shown.append(gaussian_filter(values, [3 / step for step in image.GetSpacing()]) > 0.1)
    return binary_fill_holes(np.logical_and.reduce(shown))


def smooth(anatomy: Anatomy, grid: Grid, body: np.ndarray, mean_mm: float, rng: np.random.Generator) -> sitk.Image:
    """Draw a smooth displacement of a mean length over the body, mm, LPS, on `grid`, of which `body` is the middle."""
    # Drawn where it takes the least time: what is smooth has no more in it.
    coarse = grid.respaced(np.maximum(grid.spacing_mm, anatomy.sigma_mm / 5))
    field = random_displacement(Field(anatomy.sigma_mm, 100, 8), coarse, rng)
    values = to_array(displacement.sample(as_transform(field), grid))
    if anatomy.in_plane:
        normal = grid.axes[:, 2]
        values = values - (values @ normal)[..., None] * normal
    before = [(n - m) // 2 for n, m in zip(grid.size, body.shape, strict=True)]
    inner = tuple(slice(b, b + m) for b, m in zip(before, body.shape, strict=True))
    return to_image(values * mean_mm / np.linalg.norm(values[inner][body], axis=-1).mean(), grid)


class Planted:
    """The subjects that are made of one person's images.

    Attributes
    ----------
    images, labels : dict
        {image id: SimpleITK image}; the first is the frame, the last (the T2) is what `u` leads to.
    to_image : dict
        Transforms, frame → image world, of the real images.
    grid : Grid
        Of all that is made.
    """

    def __init__(self, anatomy: Anatomy, images: Mapping[str, sitk.Image], maps: Mapping[str, sitk.Image]):
        self.anatomy, self.images, self.labels = anatomy, images, maps
        first, *_, self.moving = images
        self.to_image = dict.fromkeys(images, sitk.Transform(3, sitk.sitkIdentity))
        if first in maps and self.moving in maps:
            self.to_image[self.moving] = between_images(maps[first], maps[self.moving])
        margin_mm = np.full(3, float(anatomy.margin_mm)) * ([1, 1, 0] if anatomy.in_plane else [1, 1, 1])
        grids = {name: (Grid.of(image), self.to_image[name]) for name, image in images.items()}
        self.grid = common_grid(Grid.of(images[first]), grids, margin_mm)
        # What is drawn goes on beyond, so that it ends nowhere within reach.
        pad = np.ceil(anatomy.margin_mm / np.array(self.grid.spacing_mm)).astype(int)
        self.drawn_on = self.grid.resized(np.array(self.grid.size) + 2 * pad)
        self.body = body_of({name: self._resample(image, self.to_image[name]) for name, image in images.items()})

    def _resample(self, image, transform, how=sitk.sitkBSpline):
        frame = to_image(np.zeros(self.grid.size, np.uint8), self.grid)
        return sitk.Resample(image, frame, transform, how, 0.0, image.GetPixelID())

    def make(self, rng: np.random.Generator) -> dict[str, Any]:
        """Make a subject.

        Returns
        -------
        dict
            ``images`` (int16), ``labels``, ``paths`` (grid → real image, by image id), ``truth`` (T1 → T2, mm, LPS, on
            the grid), ``t1_mm``, ``t2_mm`` (landmarks, LPS, shape (300, 3)), ``body_mm`` (mean ‖u‖ over the body),
            ``jacobian_min``, ``refused`` (how many draws folded, or led out of the real images).
        """
        drawn = self._draw(rng)
        truth, paths = drawn["truth"], drawn["paths"]
        made = {name: self._picture(image, paths[name]) for name, image in self.images.items()}
        voxels, moved = self._points(made, truth)
        chosen = rng.choice(len(voxels), min(LANDMARKS, len(voxels)), replace=False)
        t1_mm = self.grid.to_world(voxels[chosen])
        return {
            "images": made,
            "labels": {
                name: self._resample(image, paths[name], sitk.sitkNearestNeighbor)
                for name, image in self.labels.items()
            },
            "t1_mm": t1_mm,
            "t2_mm": moved[chosen],
            "body_mm": float(np.linalg.norm(to_array(truth)[self.body], axis=-1).mean()),
            **drawn,
        }

    def _draw(self, rng):
        """Return ``truth``, ``paths`` (grid → real image, by image id), ``jacobian_min`` and ``refused``."""
        for refused in range(DRAWS):
            alike = smooth(self.anatomy, self.drawn_on, self.body, ALIKE_MEAN_MM, rng)
            sought = smooth(self.anatomy, self.drawn_on, self.body, MEAN_MM, rng)
            jacobian_min = min(float(displacement.jacobian_determinant(field).min()) for field in (alike, sought))
            if jacobian_min < JACOBIAN_MIN:
                continue
            # A composite applies its last transform first: a point of the T1 goes to the T2, and on to the real one.
            to_frame = {name: [as_transform(alike), as_transform(sought)] for name in self.images}
            to_frame[self.moving] = [as_transform(alike)]
            paths = {name: sitk.CompositeTransform([self.to_image[name], *of]) for name, of in to_frame.items()}
            if all(self._covered(name, path) for name, path in paths.items()):
                truth = displacement.sample(as_transform(sought), self.grid)
                return {"truth": truth, "paths": paths, "jacobian_min": jacobian_min, "refused": refused}
        raise UserError(f"{DRAWS} displacements folded or led out of the images; a larger margin is needed.")

    def _covered(self, name, path):
        """Say whether every voxel of the grid comes from within the real image."""
        ones = to_image(np.ones(self.images[name].GetSize(), np.uint8), Grid.of(self.images[name]))
        return to_array(self._resample(ones, path, sitk.sitkNearestNeighbor)).all()

    def _picture(self, image, path):
        values = to_array(self._resample(sitk.Cast(image, sitk.sitkFloat32), path))
        real = to_array(image)
        return to_image(np.clip(np.rint(values), real.min(), real.max()).astype(np.int16), self.grid)

    def _points(self, made, truth):
        """Return the voxels of the T1 from which landmarks may be drawn, and where in the T2 they are, mm, LPS."""
        body = body_of({name: image for name, image in made.items() if name != self.moving})
        voxels = np.argwhere(body)
        moved = self.grid.to_world(voxels) + to_array(truth)[tuple(voxels.T)]
        inside = self.grid.contains(moved)
        return voxels[inside], moved[inside]


def planted(arguments: argparse.Namespace) -> None:
    """Make the cohort of one anatomy, and print what was planted."""
    anatomy, folder = ANATOMIES[arguments.anatomy], arguments.folder
    images = {name: read(arguments.data / path) for name, path in anatomy.images.items()}
    maps = {name: labels.read(arguments.data / path) for name, path in anatomy.labels.items()}
    person = Planted(anatomy, images, maps)
    shift_mm = np.round(person.to_image[person.moving].TransformPoint((0.0, 0.0, 0.0)), 2)
    print(f"{arguments.anatomy}: {person.grid.size} voxels of {np.round(person.grid.spacing_mm, 3)} mm")
    print(f"between the real T1 and T2: {shift_mm} mm (LPS), taken out")
    rows, pairs, known = [], [], []
    splits = [split for split in ("train", "validation", "test") for _ in range(getattr(arguments, split))]
    for seed, split in enumerate(splits):
        subject = f"S{seed:02d}"
        made = person.make(np.random.default_rng(seed))
        for name, image in made["images"].items():
            file = folder / "images" / f"{subject}_{name}.nii.gz"
            write_image(image, file)
            row = {"subject": subject, "image": name, "modality": name[:2], "source": file.relative_to(folder)}
            points = file.with_name(f"{subject}_{name}_landmarks.tsv")
            landmarks.write_tsv(landmark_table(made["t2_mm" if name == person.moving else "t1_mm"]), points)
            row["landmarks"] = points.relative_to(folder)
            if name in made["labels"]:
                of = file.with_name(f"{subject}_{name}_labels.nii.gz")
                write_image(sitk.Cast(made["labels"][name], sitk.sitkUInt8), of)
                row["labels"] = of.relative_to(folder)
            rows.append(row | {"split": split})
            if name != person.moving:
                ways = [(name, person.moving), (person.moving, name)]
                pairs += [(subject, fixed, subject, moving) for fixed, moving in ways]
        displacement.write(made["truth"], folder / "images" / f"{subject}_truth_{person.moving}_to_T1.nii.gz")
        at_landmarks_mm = np.linalg.norm(made["t2_mm"] - made["t1_mm"], axis=1).mean()
        known.append((subject, split, at_landmarks_mm, made["body_mm"], made["jacobian_min"], made["refused"]))
        print(*known[-1][:2], *np.round(known[-1][2:], 3), flush=True)
    columns = ["subject", "split", "at_landmarks_mm", "over_body_mm", "jacobian_min", "refused"]
    write_table(pd.DataFrame(known, columns=columns), folder / "planted.tsv")
    write_table(
        pd.DataFrame(pairs, columns=["fixed_subject", "fixed_image", "moving_subject", "moving_image"]),
        folder / "pairs.tsv",
    )
    write_config(folder, rows, {"design": "table", "table": str(folder / "pairs.tsv")}, "tre", anatomy)


def read(path: Path) -> sitk.Image:
    """Read an image: a folder of one DICOM series, or a file."""
    return dicom.read_series(path)[0] if path.is_dir() else read_image(path)


# ---- remapped contrasts


def inverted(values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return values in [0, 1] with dark and bright exchanged."""
    return 1 - values


def remapped(values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return values in [0, 1] through a random smooth function of [0, 1] that rises and falls by at least .4.

    It does neither by more than .75 within a third of the range: what is steeper shows little but the noise.
    """
    while True:
        heights = rng.uniform(0, 1, 4)
        heights = (heights - heights.min()) / np.ptp(heights)
        steps = np.diff(heights)
        if 0.4 <= steps.max() <= 0.75 and -0.75 <= steps.min() <= -0.4:
            return PchipInterpolator(np.linspace(0, 1, 4), heights)(values)


CONTRASTS = {"plain": None, "inverted": inverted, "remapped": remapped}


def subjects_of(table: pd.DataFrame) -> Iterator[tuple[int, pd.Series, bool]]:
    """Yield number, row and whether its contrast is changed: of every second subject of a split, from its second on."""
    for number, (_, row) in enumerate(table.iterrows()):
        place = int((table["split"].iloc[:number] == row["split"]).sum())
        yield number, row, place % 2 == 1


def remap(arguments: argparse.Namespace) -> None:
    """Make the cohort of hippocampi in one contrast."""
    folder, change = arguments.folder, CONTRASTS[arguments.contrast]
    table = pd.read_csv(HIPPOCAMPI, sep="\t", comment="#", dtype=str, keep_default_na=False)
    place = table.groupby("split").cumcount()
    most = {split: getattr(arguments, split) for split in ("train", "validation", "test")}
    table = table[[most[split] is None or n < most[split] for split, n in zip(table["split"], place, strict=True)]]
    rows = []
    for number, row, changed in subjects_of(table):
        row = dict(row)
        source, drawn = (folder / "images" / Path(row[column]).name for column in ("source", "labels"))
        drawn = drawn.with_name(drawn.name.replace(".nii.gz", "_labels.nii.gz"))
        drawn.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(arguments.data / row["labels"], drawn)
        if change and changed:
            image = read_image(arguments.data / row["source"])
            values = change(to_array(prepare(image, PREPARED)), np.random.default_rng(number))
            write_image(to_image(np.rint(1000 * values).astype(np.int16), Grid.of(image)), source)
            row["modality"] = arguments.contrast
        else:
            shutil.copyfile(arguments.data / row["source"], source)
        rows.append(row | {"source": source.relative_to(folder), "labels": drawn.relative_to(folder)})
    pairs = {"design": "between-subjects", "image": "MR", "reference": rows[0]["subject"], "moving_per_fixed": 1}
    write_config(folder, rows, pairs, "dice", None)
    print(f"{len(rows)} subjects, {sum(row['modality'] != 'MR' for row in rows)} of them {arguments.contrast}")


# ---- the configuration

BASELINES = {
    "bspline-1r": None,
    "bspline-3r": {"tool": "elastix", "parameters": "config/elastix/bspline-3r-mutual-information.txt"},
    "niftyreg": {"tool": "niftyreg", "parameters": "config/niftyreg/f3d.txt", "missing": "skip"},
    "ants": {"tool": "ants", "parameters": "config/ants/syn-mutual-information.txt"},
}
SIMILARITIES = {"ncc": {"name": "ncc-squared", "window": 5}, "mind": {"name": "mind"}, "nmi": {"name": "nmi"}}
WEIGHTS = {"ncc": 10, "mind": 1, "nmi": 3}  # λ of instance optimization: those of config/instance/
# docs/hippocampus.md, without labels, shortened to about five minutes on two cores, one network on each.
NETWORK = {
    "kind": "voxelmorph",
    "dimensions": 3,
    "weights": ["1"],
    "epochs": 24,
    "steps_per_epoch": 50,
    "batch_size": 1,
    "learning_rate_schedule": "cosine",
    "flips": False,
    "int_steps": 7,
    "regularization": {"folding_weight": 100},
    "field_downsampling": 2,
    "encoder": [16, 32, 32],
    "decoder": [32, 32, 32, 32, 16, 16],
    "threads": 1,
}
# As config/config.yaml has it, on these images.
MATCHING = {
    "kind": "matching",
    "weights": ["0"],
    "epochs": 40,
    "steps_per_epoch": 15,
    "kept_epochs": [20, 40],
    "learning_rate_schedule": "cosine",
    "threads": 2,
}
OF_HIPPOCAMPI = {
    "dimensions": 3,
    "spacing_mm": 1,
    "batch_size": 2,
    "displacements": {"length_mm": 2, "bends_mm": [10, 16, 32]},
    "painting": {"grey_values": 4, "ends": "anywhere"},
}


def write_config(
    folder: Path, rows: list[dict[str, Any]], pairs: Mapping[str, Any], metric: str, anatomy: Anatomy | None
) -> None:
    """Write cohort.tsv, config.yaml and the parameter files of instance optimization to a made folder."""
    table = pd.DataFrame(rows).fillna("")
    write_table(table, folder / "cohort.tsv")
    baselines: dict[str, Any] = dict(BASELINES)
    levels = [dict(level) for level in (anatomy.levels if anatomy else SMALL_LEVELS)]
    matching: dict[str, Any] = MATCHING | dict(anatomy.matching if anatomy else OF_HIPPOCAMPI)
    for name, similarity in SIMILARITIES.items():
        settings = {"dimensions": 3, "similarity": similarity, "weight": WEIGHTS[name], "folding_weight": 100}
        path = write_settings(settings | {"levels": levels}, folder / f"instance-{name}.yaml")
        baselines[path.stem] = {"tool": "instance", "parameters": str(path)}
    # As config/instance/mind-from-network.yaml, at the spacings of these images.
    settings = {"dimensions": matching["dimensions"], "similarity": SIMILARITIES["mind"], "weight": 3}
    settings |= {"penalized": "change", "levels": [levels[-1] | {"iterations": 40, "step_mm": 0.1}]}
    baselines["matching-refined"] = {
        "tool": "instance",
        "parameters": str(write_settings(settings, folder / "mind-from-network.yaml")),
        "start": f"matching_weight-0_epoch-{matching['epochs']}",
    }
    network: dict[str, Any] = {**NETWORK, **(anatomy.network if anatomy else {})}
    network["kept_epochs"] = [network["epochs"] // 2, network["epochs"]]
    config = {
        "cohort": str(folder / "cohort.tsv"),
        "data_folder": str(folder),
        "phantom": None,
        "harmonize": {"enabled": False},
        "pairs": dict(pairs),
        "intensity": {name: PREPARED for name in dict.fromkeys(table["modality"])},
        "prealign": {"parameters": "config/elastix/affine-mutual-information.txt"},
        "baselines": baselines,
        "networks": {
            "voxelmorph": None,
            "matching": matching,
            "voxelmorph-ncc": network | {"similarity": SIMILARITIES["ncc"]},
            "voxelmorph-mind": network | {"similarity": SIMILARITIES["mind"]},
        },
        "evaluation": {"selection": {"metric": metric}},
        "fusion": None,
    }
    # Without anchors: a person is to read it and change it.
    dumper = type("Plain", (yaml.SafeDumper,), {"ignore_aliases": lambda *_: True})
    (folder / "config.yaml").write_text(yaml.dump(config, Dumper=dumper, sort_keys=False))


def write_settings(settings: Mapping[str, Any], path: Path) -> Path:
    """Write a parameter file of instance optimization, and return its path."""
    path.write_text(yaml.safe_dump(dict(settings), sort_keys=False))
    return path


def main() -> None:
    """Make what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("planted")
    command.add_argument("anatomy", choices=ANATOMIES)
    for split, number in {"train": 3, "validation": 1, "test": 10}.items():
        command.add_argument(f"--{split}", type=int, default=number)
    command.set_defaults(run=planted)
    command = commands.add_parser("remapped")
    command.add_argument("contrast", choices=CONTRASTS)
    for split in ("train", "validation", "test"):
        command.add_argument(f"--{split}", type=int, help="so many subjects of this split; all if it is not given")
    command.set_defaults(run=remap)
    for command in commands.choices.values():
        command.add_argument("data", type=lambda text: Path(os.path.expandvars(text)))
        command.add_argument("folder", type=lambda text: Path(text).resolve())
    arguments = parser.parse_args()
    try:
        arguments.folder.mkdir(parents=True, exist_ok=True)
        arguments.run(arguments)
    except UserError as problem:
        sys.exit(str(problem))


if __name__ == "__main__":
    main()
