# The affine transform of every pair, fixed world to moving world, with the harmonizing transforms composed in.


rule prealign:
    """Align the moving to the fixed image affinely with elastix; the transform maps fixed mm to moving mm (LPS)."""
    input:
        files(plan.to_align),
    output:
        affine=results.affine("{pair}"),
        registration=results.affine_registration("{pair}"),
    log:
        results.log("prealign/{pair}"),
    benchmark:
        results.benchmark("prealign/{pair}")
    wildcard_constraints:
        pair=cohort.aligned_pairs,
    conda:
        "../envs/elastix.yaml"
    resources:
        **needs(memory_mb=4000, minutes=60),
    params:
        users_files(plan.to_align),
        harmonized=of(plan.harmonizing_transforms),
        intensities=of(plan.intensities),
        seed=config["seed"],
        keep=config["prealign"]["keep"],
    script:
        "../scripts/prealign.py"


rule compose_affine:
    """Compose a pair's affine transform from those of its images to their frame; of an image to itself: the identity."""
    input:
        files(plan.to_compose),
    output:
        affine=results.affine("{pair}"),
        registration=results.affine_registration("{pair}"),
    log:
        results.log("compose_affine/{pair}"),
    benchmark:
        results.benchmark("compose_affine/{pair}")
    wildcard_constraints:
        pair=cohort.composed_pairs,
    conda:
        "../envs/imaging.yaml"
    resources:
        **needs(memory_mb=1000, minutes=10),
    script:
        "../scripts/compose_affine.py"
