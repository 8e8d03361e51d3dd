"""Register a pair with every NiftyReg method of the config.

In: the fixed and the moving image, the affine transform fixed → moving and the harmonizing transforms, one of which
each method starts from, a file of NiftyReg's options for each method, the fixed mask, if any. Out: a displacement for
each method (mm, LPS, on the fixed grid, the start composed in) with its registration.json; of a method that fails,
without values and with the cause.
"""

from cohortmorph import logs, niftyreg
from cohortmorph.registration import register_pair


def main(**of_pair):
    """See :func:`cohortmorph.registration.register_pair`."""
    register_pair(niftyreg.register, **of_pair)


if __name__ == "__main__":
    with logs.job(snakemake.log[0], packages=["SimpleITK"]):  # noqa: F821
        main(
            pair=snakemake.wildcards.pair,  # noqa: F821
            fixed=snakemake.input.fixed,  # noqa: F821
            moving=snakemake.input.moving,  # noqa: F821
            fixed_mask=snakemake.input.get("fixed_mask", ""),  # noqa: F821
            affine=snakemake.input.affine,  # noqa: F821
            threads=snakemake.threads,  # noqa: F821
            displacements=list(snakemake.output.displacements),  # noqa: F821
            **snakemake.params,  # noqa: F821
        )
