"""Align a moving to a fixed image affinely with elastix.

In: both images; the transforms of the harmonizing step of their subject, if any (harmonized world → image world); the
fixed image's mask, if any. Out: an ITK transform, fixed world → moving world (LPS, mm), with the harmonizing transforms
composed in; a JSON file with seconds, threads and seed. Where the alignment fails the transform is its start, and the
JSON file holds the cause; that harmonizing had failed stands there as well.
"""

from cohortmorph import UserError
from cohortmorph.registration import elastix
from cohortmorph.registration import pair as registration
from cohortmorph.run import logs
from cohortmorph.run.files import write_json
from cohortmorph.spatial import geometry, intensity, labels


def main(
    pair: str,
    fixed: str,
    moving: str,
    fixed_mask: str,
    harmonized: list,
    parameters: str,
    fixed_intensity: dict,
    moving_intensity: dict,
    seed: int,
    threads: int,
    affine: str,
    affine_registration: str,
    elastix_log: str,
):
    """Write the transform to `affine`; `harmonized` is empty or (fixed image's, moving image's) transform file."""
    not_harmonized = registration.harmonizing_failure(harmonized)
    start = registration.harmonizing(harmonized)
    # Without harmonizing, elastix brings the images' middles together first: they need not overlap.
    initial = start if harmonized and not not_harmonized else None
    how = {"threads": threads, "seed": seed, "parameters": parameters}
    try:
        fixed_image = intensity.prepare(geometry.read_image(fixed), fixed_intensity, name="fixed image")
        moving_image = intensity.prepare(geometry.read_image(moving), moving_intensity, name="moving image")
        mask = labels.read(fixed_mask, geometry.Grid.of(fixed_image)) != 0 if fixed_mask else None
        registration.check(fixed_image, moving_image, mask, initial)
        transform, cost, further = elastix.register(
            fixed_image, moving_image, [parameters], seed, threads, initial, mask, elastix_log
        )
        transform = geometry.affine(*geometry.matrix_and_offset(transform))
        overlap = registration.overlap_fraction(transform, fixed_image, moving_image)
        if overlap < registration.LEAST_OVERLAP:
            raise UserError(
                f"after the affine alignment only {overlap:.0%} of the fixed image lies inside the moving image. "
                "Look at both images: do they show the same region? A mask of the fixed image, or another start "
                "(AutomaticTransformInitializationMethod in the parameter file), may help."
            )
        logs.log.info("%s: aligned in %.1f s; %.0f %% of the fixed image is covered", pair, cost.seconds, 100 * overlap)
        how |= vars(cost) | further | {"overlap": overlap}
    except UserError as error:
        # The other methods start from where harmonizing, or the scanner, has put the images; each says how that went.
        logs.log.error("%s: the affine alignment failed: %s", pair, error)
        transform, how = start, {"failed": str(error)}
    if not_harmonized:
        how["harmonizing_failed"] = not_harmonized
    geometry.write_transform(transform, affine)
    write_json(how, affine_registration)


if __name__ == "__main__":
    with logs.job(snakemake.log[0], packages=["itk-elastix", "SimpleITK"]):
        main(
            pair=snakemake.wildcards.pair,
            fixed=snakemake.input.fixed,
            moving=snakemake.input.moving,
            fixed_mask=snakemake.input.get("fixed_mask", ""),
            harmonized=list(snakemake.params.harmonized),
            parameters=snakemake.input.parameters,
            threads=snakemake.threads,
            affine=snakemake.output.affine,
            affine_registration=snakemake.output.registration,
            elastix_log=snakemake.params.elastix_log,
            seed=snakemake.params.seed,
            fixed_intensity=snakemake.params.fixed_intensity,
            moving_intensity=snakemake.params.moving_intensity,
        )
