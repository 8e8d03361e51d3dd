# The learned registrations, and the methods that need none of their own.


rule register_voxelmorph:
    """Register a pair with each weight λ and kept epoch; displacements in mm (LPS) on the fixed image's own grid."""
    input:
        fixed=of_pair("fixed"),
        fixed_input=to_frame("fixed", "network_input.nii.gz"),
        moving_input=to_frame("moving", "network_input.nii.gz"),
        frame_to_fixed=to_frame("fixed", "affine.tfm"),
        frame_to_moving=to_frame("moving", "affine.tfm"),
        networks=NETWORK_FILES,
    output:
        displacements=expand("results/pairs/{{pair}}/{method}/displacement.nii.gz", method=LEARNED),
        registrations=expand("results/pairs/{{pair}}/{method}/registration.json", method=LEARNED),
    log:
        "results/logs/register_voxelmorph/{pair}.log",
    benchmark:
        "results/benchmarks/register_voxelmorph/{pair}.tsv"
    conda:
        "../envs/voxelmorph.yaml"
    resources:
        **needs(memory_mb=4000, minutes=60),
    params:
        settings=ARCHITECTURE,
        seed=config["seed"],
    script:
        "../scripts/register_voxelmorph.py"


rule register_affine:
    """Write the scanners' own positions, the harmonizing and the affine transform as displacements (LPS, mm, fixed grid)."""
    input:
        fixed=of_pair("fixed"),
        affine="results/pairs/{pair}/affine.tfm",
        registration="results/pairs/{pair}/affine.json",
        harmonized=harmonized_folder,
    output:
        displacements=expand("results/pairs/{{pair}}/{method}/displacement.nii.gz", method=FREE),
        registrations=expand("results/pairs/{{pair}}/{method}/registration.json", method=FREE),
    log:
        "results/logs/register_affine/{pair}.log",
    benchmark:
        "results/benchmarks/register_affine/{pair}.tsv"
    conda:
        "../envs/imaging.yaml"
    resources:
        **needs(memory_mb=2000, minutes=10),
    params:
        methods=FREE,
        harmonized=harmonizing_transforms,
    script:
        "../scripts/register_affine.py"
