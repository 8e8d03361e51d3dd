"""Register a pair by its fiducials with every point-based method of the config: rigid or affine, by least squares.

In: the fixed image (for its grid), the fiducials of both images (any format of landmarks; matched by id, else row by
row), the kind of each method. Out: a displacement for each method (mm, LPS, on the fixed grid) with its
registration.json, which holds the run time of the fit, the fiducial registration error and the number of fiducials;
of a method that fails, the cause.
The fiducials' positions alone decide: neither the images nor the affine transform of the pair take part.
"""

import time
from functools import partial

from cohortmorph import UserError
from cohortmorph.registration import fiducials
from cohortmorph.registration import pair as registration
from cohortmorph.run import logs
from cohortmorph.spatial import geometry, landmarks


def main(
    pair: str,
    methods: list,
    kinds: list,
    fixed: str,
    fixed_fiducials: str,
    moving_fiducials: str,
    displacements: list,
):
    """Write a displacement for each of `methods`, fitted as the kind (rigid or affine) at the same place of `kinds`."""
    grid = geometry.read_grid(fixed)
    for method, kind, path in zip(methods, kinds, displacements, strict=True):
        registration.record(pair, method, grid, path, partial(register, kind, fixed_fiducials, moving_fiducials))


def register(kind: str, fixed_fiducials: str, moving_fiducials: str):
    """Return the transform, fixed → moving, and what registration.json says of it; no fiducials are a UserError."""
    lacking = [name for name, path in {"fixed": fixed_fiducials, "moving": moving_fiducials}.items() if not path]
    if lacking:
        raise UserError(
            f"the {' and the '.join(lacking)} image has no fiducials. Name a file with them in the column `fiducials` "
            "of the cohort table, or take this method out of the configuration."
        )
    fixed, moving = map(landmarks.points_lps_mm, landmarks.read_pair(fixed_fiducials, moving_fiducials))
    started, cpu_started = time.perf_counter(), time.process_time()
    transform = fiducials.fit(kind, fixed, moving)
    seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu_started
    if fiducials.is_mirrored(fixed, moving):
        logs.log.warning(
            "%s and %s fit better mirrored: check left and right, and the frame of both files.",
            fixed_fiducials,
            moving_fiducials,
        )
    return transform, {
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "threads": 1,
        "fre_mm": fiducials.fre_mm(transform, fixed, moving),
        "fiducials": len(fixed),
    }


if __name__ == "__main__":
    with logs.job(snakemake.log[0], packages=["scipy", "SimpleITK"]):
        main(
            pair=snakemake.wildcards.pair,
            fixed=snakemake.input.fixed,
            fixed_fiducials=snakemake.input.get("fixed_fiducials", ""),
            moving_fiducials=snakemake.input.get("moving_fiducials", ""),
            displacements=list(snakemake.output.displacements),
            **snakemake.params,
        )
