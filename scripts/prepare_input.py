"""Put an image on the grid on which the network works: the frame image's, at the network's spacing and size.

In: the image, the frame image, the affine transform frame world → image world, and how that was found. Out: a NIfTI
image in [0, 1] (float32), resampled once, linearly; where the image does not reach, 0. Displacements found on it are
composed again with the same transforms. An image that cannot be prepared (a constant one, say), or could not be
aligned, becomes 0 everywhere: training leaves it out, and registration counts it as a failure.
"""

import SimpleITK as sitk

from cohortmorph.run import logs
from cohortmorph.run.files import read_json
from cohortmorph.spatial import geometry, intensity


def main(
    image: str,
    frame: str,
    affine: str,
    registration: str,
    intensity_settings: dict,
    view: dict,
    output: str,
):
    """Write the network's view of `image`: `view` has the arguments of cohortmorph.spatial.geometry.network_grid."""
    prepared = intensity.prepare_or_blank(geometry.read_image(image), intensity_settings, name=image)
    grid = geometry.network_grid(geometry.read_grid(frame), **view)
    transform = geometry.read_affine(affine)
    if why := read_json(registration).get("failed"):
        logs.log.error("%s: left blank, as its affine alignment failed: %s", image, why)
        prepared *= 0
    resampled = sitk.Resample(
        prepared, grid.size, transform, sitk.sitkLinear, grid.origin_mm, grid.spacing_mm, grid.direction, 0.0
    )
    geometry.write_image(resampled, output)


if __name__ == "__main__":
    with logs.job(snakemake.log[0], packages=["SimpleITK"]):
        main(
            image=snakemake.input.image,
            frame=snakemake.input.frame,
            affine=snakemake.input.affine,
            registration=snakemake.input.registration,
            output=snakemake.output[0],
            **snakemake.params,
        )
