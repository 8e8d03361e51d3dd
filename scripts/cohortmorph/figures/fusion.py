"""The fused image: a moved image laid on the fixed one, on the fixed image's grid, in colours; all of a subject's.

Arrays are indexed [i, j, k], images prepared to [0, 1] (see cohortmorph.spatial.intensity); fused ones
have red, green and blue last, uint8. Where the moving image has no values it counts as its lowest.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import nibabel
import numpy as np
import SimpleITK as sitk
from matplotlib.image import imsave
from pydicom.uid import UID
from scipy import ndimage

from cohortmorph.clinic import reader
from cohortmorph.clinic.export import STORAGE, Naming, write_series
from cohortmorph.figures import pictures
from cohortmorph.figures.pictures import LETTERS, Cut, cut, in_odd_squares, oriented, plane_across
from cohortmorph.figures.style import save
from cohortmorph.run.files import StrPath, publishing, read_json
from cohortmorph.run.logs import log
from cohortmorph.spatial import intensity
from cohortmorph.spatial.geometry import Grid, read_image, to_array, to_image

COLOURS = "inferno"  # perceptually uniform, and black where the moved image is: the fixed one shines through
RGB24 = np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])


def colour(fixed: np.ndarray, moved: np.ndarray, opacity: float) -> np.ndarray:
    """Lay the moved image in colours on the fixed one in grey; it covers the more, the brighter it is.

    Parameters
    ----------
    fixed, moved : arrays in [0, 1], one shape
    opacity : float
        How much of the fixed image the brightest voxel of the moved one hides, 0 to 1.
    """
    covering = opacity * moved[..., None]
    tint = matplotlib.colormaps[COLOURS](moved)[..., :3]
    return _bytes((1 - covering) * fixed[..., None] + covering * tint)


def blend(fixed: np.ndarray, moved: np.ndarray, opacity: float) -> np.ndarray:
    """Mix both images in grey: `opacity` of the moved one, the rest of the fixed one."""
    return _grey((1 - opacity) * fixed + opacity * moved)


def in_squares(fixed: np.ndarray, moved: np.ndarray, grid: Grid, side_mm: float) -> np.ndarray:
    """Show fixed and moved image in turn, in grey, in squares of about `side_mm` within each slice along k."""
    odd = in_odd_squares(fixed.shape[:2], (grid.spacing_mm[0], grid.spacing_mm[1]), side_mm)
    return _grey(np.where(odd[..., None], moved, fixed))


def fuse(kind: str, fixed: np.ndarray, moved: np.ndarray, grid: Grid, settings: Mapping[str, Any]) -> np.ndarray:
    """Return the fusion of a kind, ``colour``, ``blend`` or ``checkerboard``; uint8, shape (*size, 3)."""
    if kind == "checkerboard":
        return in_squares(fixed, moved, grid, settings["checkerboard_mm"])
    return {"colour": colour, "blend": blend}[kind](fixed, moved, settings["opacity"])


def _grey(array: np.ndarray) -> np.ndarray:
    return _bytes(np.repeat(array[..., None], 3, axis=-1))


def _bytes(array: np.ndarray) -> np.ndarray:
    return np.rint(255 * array).astype(np.uint8)


def write_nifti(rgb: np.ndarray, grid: Grid, path: StrPath) -> None:
    """Write a fused image as NIfTI with datatype RGB24 (128), as ITK and 3D Slicer read it, on `grid`.

    SimpleITK itself would write a vector, which viewers take for a displacement.
    """
    affine = np.eye(4)
    # NIfTI's x and y run to the right and to anterior, ours to the left and to posterior.
    affine[:3] = np.diag([-1.0, -1, 1]) @ np.column_stack([grid.steps_mm, grid.origin_mm])
    image = nibabel.Nifti1Image(np.ascontiguousarray(rgb).view(RGB24)[..., 0], affine)
    for set_form in (image.set_sform, image.set_qform):
        set_form(affine, code=1)
    image.header.set_xyzt_units("mm")
    with publishing(path) as partial:
        nibabel.save(image, partial)


def slice_axis(seen: sitk.Image, grid: Grid) -> int:
    """Return which axis of an oriented image runs along k of the `grid` that it was oriented from."""
    return int(np.abs(Grid.of(seen).axes.T @ grid.axes[:, 2]).argmax())


def slices(rgb: np.ndarray, grid: Grid) -> Iterator[tuple[str, np.ndarray]]:
    """Yield (name, picture) of every slice along k, seen as radiologists do: the patient's left on the right.

    `name` counts from the right, anterior or inferior side of the patient, and says where the slice lies: its first
    voxel's position along the slices' normal, in mm, towards the letter. `picture` is uint8, shape (rows, columns, 3),
    with square pixels.
    """
    seen = oriented(to_image(rgb, grid))
    grid_seen = Grid.of(seen)
    across = slice_axis(seen, grid)
    plane = plane_across(across)
    axis = grid_seen.axes[:, across]
    letter = LETTERS[int(np.abs(axis).argmax())][1]
    for n in range(grid_seen.size[across]):
        index, sheet = [0, 0, 0], [slice(None)] * 3
        index[across], sheet[across] = n, slice(n, n + 1)
        position_mm = float(grid_seen.to_world(index) @ axis)
        yield f"slice-{n + 1:03d}_{letter}{position_mm:+.1f}mm", _square(cut(seen[sheet], plane, 0))


def _square(picture: Cut) -> np.ndarray:
    """Return a cut's values with square pixels, of the smaller side; the others are interpolated."""
    rows, columns = picture.values.shape[:2]
    width_mm, height_mm = picture.size_mm
    pixel_mm = min(width_mm / columns, height_mm / rows)
    zoom = (height_mm / rows / pixel_mm, width_mm / columns / pixel_mm, 1)
    if max(zoom) < 1.01:
        return picture.values
    return ndimage.zoom(picture.values, zoom, order=1, grid_mode=True, mode="nearest")


def write_slices(rgb: np.ndarray, grid: Grid, folder: Path, title: str) -> None:
    """Write the :func:`slices` as PNG into `folder`, which is made; `title` and the slice's name stand in each file."""
    folder.mkdir(parents=True)
    for name, picture in slices(rgb, grid):
        caption = {"Title": title, "Description": name, "Software": "CohortMorph"}
        imsave(
            folder / f"{name}.png", np.ascontiguousarray(picture), metadata=caption, pil_kwargs={"compress_level": 1}
        )


# A subject ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Fusion:
    """The fused images of one subject: what all its moving images share.

    Attributes
    ----------
    subject : str
    fixed_name : str
        As in the cohort table.
    fixed : SimpleITK image
    fixed_intensity : dict
        Settings of :func:`cohortmorph.spatial.intensity.prepare`.
    method : str
        The id of the method that moved the images.
    settings : dict
        The configuration's ``fusion``.
    frame_of_reference : str
        The fixed image's FrameOfReferenceUID, for DICOM; "" for a new one.
    phantom : bool
    """

    subject: str
    fixed_name: str
    fixed: sitk.Image
    fixed_intensity: Mapping[str, Any]
    method: str
    settings: Mapping[str, Any]
    frame_of_reference: str = ""
    phantom: bool = False

    def write(self, moving: Collection[Mapping[str, Any]], folder: Path) -> dict[str, Any]:
        """Fuse all moving images of the subject; return what fusion.json says.

        Parameters
        ----------
        moving : list of dict
            ``name`` and ``modality`` as in the cohort table, ``intensity`` (settings of prepare), the path ``sidecar``,
            and by method id the paths ``moved`` and ``registration`` (registration.json).
        folder : Path
            Exists.

        Notes
        -----
        Where a registration failed nothing is fused, and what is returned says so.
        """
        described: dict[str, Any] = {}
        shown = {}
        grid = Grid.of(self.fixed)
        name = f"{self.subject}, {self.fixed_name}"
        grey = to_array(intensity.prepare_or_blank(self.fixed, self.fixed_intensity, name))
        for number, image in enumerate(moving, start=1):
            why = read_json(image["registration"][self.method]).get("failed")
            if why:
                said = self.subject, image["name"], self.fixed_name, self.method
                log.warning("%s, %s onto %s: %s failed; nothing is fused", *said)
                described[image["name"]] = {"failed": why}
                continue
            moved = read_image(image["moved"][self.method])
            arrays = self._fused(image, grey, moved, folder)
            shown[image["name"]] = {column: oriented(to_image(array, grid)) for column, array in arrays.items()}
            described[image["name"]] = {}
            if self.settings["dicom"] != "none":
                described[image["name"]]["dicom"] = self._export(image, moved, number, folder)
        if shown:
            self._overview(shown, folder)
        fixed = {"subject": self.subject, "fixed": self.fixed_name, **self.settings, "method": self.method}
        return fixed | {"images": described}

    def _fused(
        self, image: Mapping[str, Any], grey: np.ndarray, moved: sitk.Image, folder: Path
    ) -> dict[str, np.ndarray]:
        """Write the fusions of one image, `grey` the fixed one; return its row of the overview."""
        grid, name = Grid.of(self.fixed), image["name"]
        prepared = to_array(intensity.prepare_or_blank(moved, image["intensity"], f"{self.subject}, {name} moved"))
        row = {f"{self.fixed_name} (fixed)": grey, "moved": prepared}
        for kind in self.settings["kinds"]:
            row[kind] = rgb = fuse(kind, grey, prepared, grid, self.settings)
            write_nifti(rgb, grid, folder / f"{name}_{kind}.nii.gz")
            if self.settings["png"]:
                title = f"{self.subject}: {name} moved onto {self.fixed_name} ({self.method}), {kind}"
                title += ", simulated (phantom)" if self.phantom else ""
                write_slices(rgb, grid, folder / "png" / f"{name}_{kind}", title)
        return row

    def _export(self, image: Mapping[str, Any], moved: sitk.Image, number: int, folder: Path) -> dict[str, Any]:
        """Write the moved image as DICOM, in its own units; return what is said of it."""
        naming = Naming(
            subject=self.subject,
            image=image["name"],
            fixed=self.fixed_name,
            method=self.method,
            modality=dicom_modality(image["modality"], read_json(image["sidecar"]).get("modality")),
            number=number,
            frame_of_reference=self.frame_of_reference,
            phantom=self.phantom,
        )
        target = folder / "dicom" / image["name"]
        return write_series(to_array(moved), Grid.of(self.fixed), to_array(self.fixed), naming, target)

    def _overview(self, shown: Mapping[str, Mapping[str, sitk.Image]], folder: Path) -> None:
        """Draw the middle slice of every step of the fusion."""
        grid = Grid.of(self.fixed)
        plane = plane_across(slice_axis(oriented(self.fixed), grid))
        title = f"{self.subject}: moved onto {self.fixed_name} by {self.method}, middle {plane} slice"
        figure = pictures.fused(shown, plane, grid.size[2] // 2, title)
        save(figure, folder / "overview.png", phantom=self.phantom)


def dicom_modality(table_modality: str, sidecar_modality: str | None) -> str:
    """Return CT or MR where it is known, else OT (other): what a DICOM source says, or the table of an image file."""
    if sidecar_modality:
        return sidecar_modality if sidecar_modality in STORAGE else "OT"
    word = table_modality.upper()
    return "CT" if word == "CT" else "MR" if word.startswith(("MR", "T1", "T2", "FLAIR", "PD")) else "OT"


def frame_of_reference_of(source: str, name: str, series: str, allow: Collection[str]) -> str:
    """Return the FrameOfReferenceUID of a DICOM series, or "" (and a warning) where the source has none.

    Parameters
    ----------
    source : str
        A DICOM folder, or an image file.
    name : str
        Of the image, for messages: the source's path may name people.
    series : str
        What chooses the series, as in the cohort table.
    allow : collection of str
        The configuration's ``dicom.allow``.
    """
    found = ""
    if source and Path(source).is_dir():
        found = reader.choose(source, name, series, allow)[0].series.frame_of_reference
    if not UID(found).is_valid:
        found = ""
        log.warning("%s: no frame of reference is known; the DICOM series get a new one", name)
    return found
