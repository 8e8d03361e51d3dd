"""Register a pair with every elastix baseline of the config, each starting from the pair's affine transform.

In: the fixed and the moving image, the affine transform fixed → moving, a parameter file for each method, the fixed
mask, if any. Out: a displacement for each method (mm, LPS, on the fixed grid, the affine composed in) with its
registration.json.
One job does all methods of a pair: loading itk takes longer than many registrations.
"""

from pathlib import Path

from cohortmorph import UserError, displacement, elastix, geometry, intensity, labels, logs
from cohortmorph.files import write_json


def main(
    pair: str,
    methods: list,
    fixed: str,
    moving: str,
    fixed_mask: str,
    affine: str,
    parameters: list,
    fixed_intensity: dict,
    moving_intensity: dict,
    seed: int,
    threads: int,
    displacements: list,
    elastix_log: str,
):
    """Write a displacement for each of `methods`, from the parameter file at the same place of `parameters`."""
    fixed_image = intensity.prepare(geometry.read_image(fixed), fixed_intensity, name=f"{pair}, fixed image")
    moving_image = intensity.prepare(geometry.read_image(moving), moving_intensity, name=f"{pair}, moving image")
    grid = geometry.Grid.of(fixed_image)
    mask = labels.read(fixed_mask, grid) != 0 if fixed_mask else None
    initial = geometry.read_affine(affine)
    for method, parameter_file, path in zip(methods, parameters, displacements, strict=True):
        try:
            transform, seconds = elastix.register(
                fixed_image, moving_image, parameter_file, seed, threads, initial, mask, Path(elastix_log) / method
            )
        except UserError as error:
            raise UserError(f"{pair}, method {method}: {error}") from None
        logs.log.info("%s: %s in %.1f s", pair, method, seconds)
        displacement.write(displacement.sample(transform, grid), path)
        how = {"seconds": seconds, "threads": threads, "seed": seed, "parameters": parameter_file}
        write_json(how, Path(path).parent / "registration.json")


if __name__ == "__main__":
    with logs.job(snakemake.log[0], packages=["itk-elastix", "SimpleITK"]):  # noqa: F821
        main(
            pair=snakemake.wildcards.pair,  # noqa: F821
            fixed=snakemake.input.fixed,  # noqa: F821
            moving=snakemake.input.moving,  # noqa: F821
            fixed_mask=snakemake.input.get("fixed_mask", ""),  # noqa: F821
            affine=snakemake.input.affine,  # noqa: F821
            parameters=list(snakemake.input.parameters),  # noqa: F821
            threads=snakemake.threads,  # noqa: F821
            displacements=list(snakemake.output.displacements),  # noqa: F821
            **snakemake.params,  # noqa: F821
        )
