# The classical methods, each starting from the pair's affine transform.


rule register_elastix:
    """Register a pair with every elastix baseline; displacements in mm (LPS) on the fixed image's own grid."""
    input:
        fixed=of_pair("fixed"),
        moving=of_pair("moving"),
        fixed_mask=cell_of_pair("fixed", "mask"),
        affine="results/pairs/{pair}/affine.tfm",
        parameters=config["baselines"].values(),
    output:
        displacements=expand("results/pairs/{{pair}}/{method}/displacement.nii.gz", method=BASELINES),
        registrations=expand("results/pairs/{{pair}}/{method}/registration.json", method=BASELINES),
    log:
        "results/logs/register_elastix/{pair}.log",
    benchmark:
        "results/benchmarks/register_elastix/{pair}.tsv"
    conda:
        "../envs/elastix.yaml"
    resources:
        **needs(memory_mb=4000, minutes=120),
    params:
        methods=BASELINES,
        fixed_intensity=of_pair("fixed", intensity_of),
        moving_intensity=of_pair("moving", intensity_of),
        seed=config["seed"],
        elastix_log="results/logs/register_elastix/{pair}",
    script:
        "../scripts/register_elastix.py"
