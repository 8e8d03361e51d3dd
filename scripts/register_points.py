"""Register a pair by its fiducials with every point-based method of the config: rigid or affine, by least squares.

In: the fixed image (for its grid), the fiducials of both images (any format of landmarks; matched by id, else row by
row), the model of each method. Out: a displacement for each method (mm, LPS, on the fixed grid) with its
registration.json, which holds the run time of the fit, the fiducial registration error and the number of fiducials;
of a method that fails, the cause.
The fiducials' positions alone decide: neither the images nor the affine transform of the pair take part.
"""

from functools import partial

from cohortmorph.registration import fiducials
from cohortmorph.registration.record import record
from cohortmorph.run import logs
from cohortmorph.spatial import geometry


def main(pair: str, fixed: str, fixed_fiducials: str, moving_fiducials: str, methods: list):
    """Write a displacement for each of `methods`: dicts of its `method` (id), `model`, and path of `displacement`."""
    grid = geometry.read_grid(fixed)
    for each in methods:
        attempt = partial(fiducials.register, each["model"], fixed_fiducials, moving_fiducials)
        record(pair, each["method"], grid, each["displacement"], attempt)


if __name__ == "__main__":
    with logs.job(snakemake.log[0], packages=["scipy", "SimpleITK"]):
        methods = zip(snakemake.params.methods, snakemake.output.displacements, strict=True)
        main(
            pair=snakemake.wildcards.pair,
            fixed=snakemake.input.fixed,
            fixed_fiducials=snakemake.input.get("fixed_fiducials", ""),
            moving_fiducials=snakemake.input.get("moving_fiducials", ""),
            methods=[{**method, "displacement": path} for method, path in methods],
        )
