"""Put an image's label map on the grid on which the network works (see prepare_input.py).

In: the label map, the image that it belongs to, the frame image, and the affine transform frame world → image world.
Out: a NIfTI label map, resampled once, to the nearest neighbour; where the map does not reach, 0.
"""

from cohortmorph.run import logs
from cohortmorph.spatial import geometry, labels


def main(label_map: str, image: str, frame: str, affine: str, view: dict, output: str):
    """Write the network's view of `label_map`, as prepare_input.py that of an image."""
    own = labels.read(label_map, geometry.read_grid(image))
    grid = geometry.network_grid(geometry.read_grid(frame), **view)
    geometry.write_image(labels.resampled(own, grid, geometry.read_affine(affine)), output)


if __name__ == "__main__":
    with logs.job(snakemake.log[0], packages=["SimpleITK"]):
        main(
            label_map=snakemake.input.labels,
            image=snakemake.input.image,
            frame=snakemake.input.frame,
            affine=snakemake.input.affine,
            output=snakemake.output[0],
            **snakemake.params,
        )
