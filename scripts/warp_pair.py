"""Resample the moving image, and its labels, onto the fixed image's grid through the displacement of every method.

In: the moving image, its label map (or ""), the displacements of one pair (mm, LPS, on the fixed image's grid).
Out: a moved image and, with labels, a moved label map for each displacement, in the units of the moving image. All
methods go through the same resampling (linear; labels: nearest neighbour): the tools' own differ at the image's border.
Where the registration failed, the moved image is all background and the moved label map empty; where the label map
cannot be read, the moved ones are empty.
"""

import numpy as np

from cohortmorph.evaluation.given import Given
from cohortmorph.run import logs
from cohortmorph.spatial import displacement
from cohortmorph.spatial.geometry import Grid, read_grid, read_image, to_array, to_image, write_image


def main(moving: str, moving_labels: str, displacements: list, moved: list, moved_labels: list, pair: str):
    """Write `moved` and `moved_labels` (both in the order of `displacements`; the latter empty without labels)."""
    image = read_image(moving)
    # Outside of the moving image its lowest value: 0 would be soft tissue in a CT.
    background = float(to_array(image).min())
    grid = Grid.of(image)
    label_map = Given(pair).labels("moving_labels", moving_labels, grid) if moving_labels else None
    if label_map is None:
        label_map = to_image(np.zeros(grid.size, np.int32), grid)
    label_paths = moved_labels if moving_labels else [None] * len(moved)
    for source, image_path, labels_path in zip(displacements, moved, label_paths, strict=True):
        field = displacement.read_unless_failed(source)
        if field is None:
            logs.log.warning("%s: this registration failed; the moved image is empty", source)
            field = displacement.nowhere(read_grid(source))
        write_image(displacement.warp(image, field, outside=background), image_path)
        if labels_path is not None:
            write_image(displacement.warp_labels(label_map, field), labels_path)


if __name__ == "__main__":
    with logs.job(snakemake.log[0], packages=["SimpleITK"]):
        main(
            moving=snakemake.input.moving,
            moving_labels=snakemake.input.get("moving_labels", ""),
            displacements=list(snakemake.input.displacements),
            moved=list(snakemake.output.moved),
            moved_labels=list(snakemake.output.get("moved_labels", [])),
            pair=snakemake.wildcards.pair,
        )
