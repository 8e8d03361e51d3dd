"""Compose the affine transform of a pair from those of its two images to a common frame, without a registration.

In: the transforms frame world → fixed world and frame world → moving world, with their JSON files; or nothing, for an
image and itself. Out: the transform fixed world → moving world (LPS, mm) and a JSON file with the seconds of both.
"""

import SimpleITK as sitk

from cohortmorph import geometry, logs
from cohortmorph.files import read_json, write_json


def main(to_fixed: str, to_moving: str, registrations: list, affine: str, registration: str):
    """Write the transform to `affine`; with an empty `to_fixed` it is the identity."""
    if to_fixed:
        transform = geometry.chain(geometry.read_affine(to_fixed).GetInverse(), geometry.read_affine(to_moving))
    else:
        transform = sitk.AffineTransform(3)
    geometry.write_transform(transform, affine)
    parts = [read_json(path) for path in registrations]
    seconds, threads = sum(part["seconds"] for part in parts), max([part["threads"] for part in parts], default=1)
    write_json({"seconds": seconds, "threads": threads, "composed_of": len(parts)}, registration)


if __name__ == "__main__":
    with logs.job(snakemake.log[0], packages=["SimpleITK"]):  # noqa: F821
        main(
            to_fixed=snakemake.input.get("to_fixed", ""),  # noqa: F821
            to_moving=snakemake.input.get("to_moving", ""),  # noqa: F821
            registrations=list(snakemake.input)[2:],  # noqa: F821
            affine=snakemake.output.affine,  # noqa: F821
            registration=snakemake.output.registration,  # noqa: F821
        )
