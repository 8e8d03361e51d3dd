# The affine transform of every pair, fixed world to moving world, with the harmonizing transforms composed in.


rule prealign:
    """Align the moving to the fixed image affinely with elastix; the transform maps fixed mm to moving mm (LPS)."""
    input:
        fixed=of_pair("fixed"),
        moving=of_pair("moving"),
        fixed_mask=cell_of_pair("fixed", "mask"),
        harmonized=harmonized_folder,
        parameters=config["prealign"]["parameters"],
    output:
        affine="results/pairs/{pair}/affine.tfm",
        registration="results/pairs/{pair}/affine.json",
    log:
        "results/logs/prealign/{pair}.log",
    benchmark:
        "results/benchmarks/prealign/{pair}.tsv"
    wildcard_constraints:
        pair=one_of(ALIGNMENTS.index[~ALIGNMENTS["identity"]]),
    conda:
        "../envs/elastix.yaml"
    resources:
        **needs(memory_mb=4000, minutes=60),
    params:
        harmonized=harmonizing_transforms,
        fixed_intensity=of_pair("fixed", intensity_of),
        moving_intensity=of_pair("moving", intensity_of),
        seed=config["seed"],
        elastix_log="results/logs/prealign/{pair}",
    script:
        "../scripts/prealign.py"


rule compose_affine:
    """Compose a pair's affine transform from those of its images to their frame; of an image to itself: the identity."""
    input:
        to_fixed=composed_from("fixed", "affine.tfm"),
        to_moving=composed_from("moving", "affine.tfm"),
        fixed_registration=composed_from("fixed", "affine.json"),
        moving_registration=composed_from("moving", "affine.json"),
    output:
        affine="results/pairs/{pair}/affine.tfm",
        registration="results/pairs/{pair}/affine.json",
    log:
        "results/logs/compose_affine/{pair}.log",
    benchmark:
        "results/benchmarks/compose_affine/{pair}.tsv"
    wildcard_constraints:
        pair=one_of({*PAIRS.index, *ALIGNMENTS.index} - {*ALIGNMENTS.index[~ALIGNMENTS["identity"]]}),
    conda:
        "../envs/imaging.yaml"
    resources:
        **needs(memory_mb=1000, minutes=10),
    script:
        "../scripts/compose_affine.py"
