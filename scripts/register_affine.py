"""Write the methods that need no registration of their own as displacements: `initial`, `harmonized`, `affine`.

In: the fixed image (for its grid), the affine transform fixed → moving, the harmonizing transforms of both images, if
any. Out: a displacement for each method (mm, LPS, fixed grid) with its registration.json. `initial` is no displacement
at all: the images as their scanners placed them; `harmonized` is the rotation and the slice offset found by NCC alone.
"""

from pathlib import Path

import SimpleITK as sitk

from cohortmorph.registration.pair import harmonizing, harmonizing_failure
from cohortmorph.run import logs
from cohortmorph.run.files import read_json, write_json
from cohortmorph.spatial import displacement, geometry


def main(methods: list, fixed: str, affine: str, registration: str, harmonized: list, displacements: list):
    """Write one displacement for each of `methods`, in their order."""
    transforms = {"initial": sitk.AffineTransform(3), "affine": geometry.read_affine(affine)}
    if harmonized:
        transforms["harmonized"] = harmonizing(harmonized)
    how_of = {"affine": read_json(registration)}
    if why := harmonizing_failure(harmonized):
        how_of["harmonized"] = {"failed": why}
    no_time = {"seconds": 0.0, "cpu_seconds": 0.0, "threads": 1}
    grid = geometry.read_grid(fixed)
    for method, path in zip(methods, displacements, strict=True):
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
            methods=snakemake.params.methods,
            fixed=snakemake.input.fixed,
            affine=snakemake.input.affine,
            registration=snakemake.input.registration,
            harmonized=list(snakemake.params.harmonized),
            displacements=list(snakemake.output.displacements),
        )
