"""Write the methods that need no registration of their own as displacements: `initial`, `harmonized`, `affine`.

In: the fixed image (for its grid), the affine transform fixed → moving, the harmonizing transforms of both images, if
any. Out: a displacement for each method (mm, LPS, fixed grid) with its registration.json. `initial` is no displacement
at all: the images as their scanners placed them; `harmonized` is the rotation and the slice offset found by NCC alone.
"""

from pathlib import Path

import SimpleITK as sitk

from cohortmorph.registration import harmonized
from cohortmorph.run import logs
from cohortmorph.run.files import read_json, write_json
from cohortmorph.spatial import displacement, geometry


def main(fixed: str, affine: str, registration: str, harmonizing: list, displacements: dict):
    """Write the displacement of each method (the keys); `harmonizing` are the transforms of harmonizing, or none."""
    transforms = {"initial": sitk.AffineTransform(3), "affine": geometry.read_affine(affine)}
    if harmonizing:
        transforms["harmonized"] = harmonized.fixed_to_moving(harmonizing)
    how_of = {"affine": read_json(registration)}
    if why := harmonized.failure(harmonizing):
        how_of["harmonized"] = {"failed": why}
    no_time = {"seconds": 0.0, "cpu_seconds": 0.0, "threads": 1}
    grid = geometry.read_grid(fixed)
    for method, path in displacements.items():
        how = how_of.get(method, no_time)
        if "failed" in how:
            logs.log.error("%s had failed: %s", method, how["failed"])
            displacement.write_failed(grid, path)
        else:
            displacement.write(displacement.sample(transforms[method], grid), path)
        write_json(how, Path(path).parent / "registration.json")


if __name__ == "__main__":
    with logs.job(snakemake.log[0], packages=["SimpleITK"]):
        main(
            fixed=snakemake.input.fixed,
            affine=snakemake.input.affine,
            registration=snakemake.input.registration,
            harmonizing=list(snakemake.params.harmonized),
            displacements=dict(zip(snakemake.params.methods, snakemake.output.displacements, strict=True)),
        )
