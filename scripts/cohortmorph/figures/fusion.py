"""The fused image: a moved image laid on the fixed one, on the fixed image's grid, in colours.

Arrays are indexed [i, j, k], images prepared to [0, 1] (see cohortmorph.spatial.intensity); fused ones
have red, green and blue last, uint8. Where the moving image has no values it counts as its lowest.
"""

import matplotlib
import nibabel
import numpy as np
from matplotlib.image import imsave
from scipy import ndimage

from cohortmorph.figures.pictures import LETTERS, PLANES, cut, oriented
from cohortmorph.run.files import publishing
from cohortmorph.spatial.geometry import Grid, to_image

COLOURS = "inferno"  # perceptually uniform, and black where the moved image is: the fixed one shines through
RGB24 = np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])


def colour(fixed, moved, opacity):
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


def blend(fixed, moved, opacity):
    """Mix both images in grey: `opacity` of the moved one, the rest of the fixed one."""
    return _grey((1 - opacity) * fixed + opacity * moved)


def checkerboard(fixed, moved, spacing_mm, side_mm):
    """Show fixed and moved image in turn, in grey, in squares of about `side_mm` within each slice along k."""
    i, j = (np.arange(n) * step // max(side_mm, step) for n, step in zip(fixed.shape[:2], spacing_mm[:2], strict=True))
    odd = (i[:, None] + j) % 2 == 1
    return _grey(np.where(odd[..., None], moved, fixed))


def fuse(kind, fixed, moved, grid, settings):
    """Return the fusion of a kind, ``colour``, ``blend`` or ``checkerboard``; uint8, shape (*size, 3)."""
    if kind == "checkerboard":
        return checkerboard(fixed, moved, grid.spacing_mm, settings["checkerboard_mm"])
    return {"colour": colour, "blend": blend}[kind](fixed, moved, settings["opacity"])


def _grey(array):
    return _bytes(np.repeat(array[..., None], 3, axis=-1))


def _bytes(array):
    return np.rint(255 * array).astype(np.uint8)


def write_nifti(rgb, grid, path):
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


def slice_axis(seen, grid):
    """Return which axis of an oriented image runs along k of the `grid` that it was oriented from."""
    return int(np.abs(Grid.of(seen).axes.T @ grid.axes[:, 2]).argmax())


def slices(rgb, grid):
    """Yield (name, picture) of every slice along k, seen as radiologists do: the patient's left on the right.

    `name` counts from the right, anterior or inferior side of the patient, and says where the slice lies: its first
    voxel's position along the slices' normal, in mm, towards the letter. `picture` is uint8, shape (rows, columns, 3),
    with square pixels.
    """
    seen = oriented(to_image(rgb, grid))
    grid_seen = Grid.of(seen)
    across = slice_axis(seen, grid)
    plane = next(name for name, axis in PLANES.items() if axis == across)
    axis = grid_seen.axes[:, across]
    letter = LETTERS[int(np.abs(axis).argmax())][1]
    for n in range(grid_seen.size[across]):
        index, sheet = [0, 0, 0], [slice(None)] * 3
        index[across], sheet[across] = n, slice(n, n + 1)
        position_mm = float(grid_seen.to_world(index) @ axis)
        yield f"slice-{n + 1:03d}_{letter}{position_mm:+.1f}mm", _square(cut(seen[sheet], plane, 0))


def _square(picture):
    """Return a cut's values with square pixels, of the smaller side; the others are interpolated."""
    rows, columns = picture.values.shape[:2]
    width_mm, height_mm = picture.size_mm
    pixel_mm = min(width_mm / columns, height_mm / rows)
    zoom = (height_mm / rows / pixel_mm, width_mm / columns / pixel_mm, 1)
    if max(zoom) < 1.01:
        return picture.values
    return ndimage.zoom(picture.values, zoom, order=1, grid_mode=True, mode="nearest")


def write_slices(rgb, grid, folder, title):
    """Write the :func:`slices` as PNG into `folder`, which is made; `title` and the slice's name stand in each file."""
    folder.mkdir(parents=True)
    for name, picture in slices(rgb, grid):
        caption = {"Title": title, "Description": name, "Software": "CohortMorph"}
        imsave(
            folder / f"{name}.png", np.ascontiguousarray(picture), metadata=caption, pil_kwargs={"compress_level": 1}
        )
