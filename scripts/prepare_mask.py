"""Put where an image counts on the grid on which the network works (see prepare_input.py).

In: the image's mask, if it has one, the image, the frame image, and the affine transform frame world → image world.
Out: a NIfTI mask, 1 where the mask is not 0 or, without one, everywhere in the image, resampled once, to the nearest
neighbour; where the image does not reach, 0.
"""

import numpy as np

from cohortmorph.run import logs
from cohortmorph.spatial import geometry, labels


def main(mask: str, image: str, frame: str, affine: str, view: dict, output: str):
    """Write the network's view of `mask`, "" for none, as prepare_input.py that of its image."""
    own_grid = geometry.read_grid(image)
    counts = labels.read(mask, own_grid) != 0 if mask else geometry.to_image(np.ones(own_grid.size, np.uint8), own_grid)
    grid = geometry.network_grid(geometry.read_grid(frame), **view)
    geometry.write_image(labels.resampled(counts, grid, geometry.read_affine(affine)), output)


if __name__ == "__main__":
    with logs.job(snakemake.log[0], packages=["SimpleITK"]):
        main(
            mask=snakemake.input.get("mask", ""),
            image=snakemake.input.image,
            frame=snakemake.input.frame,
            affine=snakemake.input.affine,
            output=snakemake.output[0],
            **snakemake.params,
        )
