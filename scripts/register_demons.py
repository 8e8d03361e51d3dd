"""Register a pair with every demons method of the config.

In: the fixed and the moving image, the affine transform fixed → moving and the harmonizing transforms, one of which
each method starts from, a YAML file of settings for each method, the fixed mask, if any. Out: a displacement for each
method (mm, LPS, on the fixed grid, the start composed in) with its registration.json; of a method that fails, the
cause.
"""

from cohortmorph.registration import demons
from cohortmorph.registration.pair import arguments_of, register_pair
from cohortmorph.run import logs

if __name__ == "__main__":
    with logs.job(snakemake.log[0], packages=["SimpleITK"]):
        register_pair(demons.register, **arguments_of(snakemake))
