"""Compose the affine transform of a pair from those of its two images to a common frame, without a registration.

In: the transforms frame world → fixed world and frame world → moving world, with their JSON files; or nothing, for an
image and itself. Out: the transform fixed world → moving world (LPS, mm) and a JSON file with the seconds of both, and
whether the start was kept in one of them, or with the cause where one of the two failed.
"""

import SimpleITK as sitk

from cohortmorph.run import logs
from cohortmorph.run.files import read_json, write_json
from cohortmorph.spatial import geometry


def main(to_fixed: str, to_moving: str, registrations: list, affine: str, registration: str):
    """Write the transform to `affine`; with an empty `to_fixed` it is the identity."""
    if to_fixed:
        transform = geometry.chain(geometry.read_affine(to_fixed).GetInverse(), geometry.read_affine(to_moving))
    else:
        transform = sitk.AffineTransform(3)
    geometry.write_transform(transform, affine)
    parts = [read_json(path) for path in registrations]
    failed = [part["failed"] for part in parts if "failed" in part]
    if failed:
        write_json({"failed": failed[0]}, registration)
        return
    how = {name: sum(part[name] for part in parts) for name in ("seconds", "cpu_seconds")}
    how["threads"] = max([part["threads"] for part in parts], default=1)
    if any("start_kept" in part for part in parts):
        how["start_kept"] = any(part.get("start_kept") for part in parts)
    how["peak_memory_mb"] = max([part["peak_memory_mb"] for part in parts], default=0)
    write_json(how | {"composed_of": len(parts)}, registration)


if __name__ == "__main__":
    with logs.job(snakemake.log[0], packages=["SimpleITK"]):
        main(
            to_fixed=snakemake.input.get("to_fixed", ""),
            to_moving=snakemake.input.get("to_moving", ""),
            registrations=[
                snakemake.input[name]
                for name in ("fixed_registration", "moving_registration")
                if snakemake.input.get(name)
            ],
            affine=snakemake.output.affine,
            registration=snakemake.output.registration,
        )
