# The classical methods: a rule a tool, each starting from the pair's affine transform, or from its own (config).

# Each tool's environment and how long it may take, in minutes.
IMAGE_TOOLS = {
    "elastix": ("elastix", 120),
    "niftyreg": ("niftyreg", 120),
    "ants": ("ants", 240),
    "demons": ("imaging", 120),
    "instance": ("voxelmorph", 120),
}

for tool, (environment, minutes) in IMAGE_TOOLS.items():

    rule:
        """Register a pair with every method of one tool; displacements in mm (LPS) on the fixed image's own grid."""
        name:
            f"register_{tool}"
        input:
            fixed=of_pair("fixed"),
            moving=of_pair("moving"),
            fixed_mask=cell_of_pair("fixed", "mask"),
            affine="results/pairs/{pair}/affine.tfm",
            harmonized=harmonized_folder,
            start_displacements=starts_of(tool),
            parameters=parameter_files_of(tool),
        output:
            displacements=displacements_of(tool),
            registrations=registrations_of(tool),
        log:
            f"results/logs/register_{tool}/{{pair}}.log",
        benchmark:
            f"results/benchmarks/register_{tool}/{{pair}}.tsv"
        conda:
            f"../envs/{environment}.yaml"
        resources:
            **needs(memory_mb=4000, minutes=minutes),
        params:
            tool=tool,
            methods=[{"method": method, **settings} for method, settings in zip(methods_of(tool), settings_of(tool))],
            harmonized=harmonizing_transforms,
            fixed_intensity=of_pair("fixed", intensity_of),
            moving_intensity=of_pair("moving", intensity_of),
            seed=config["seed"],
        script:
            "../scripts/register_pair.py"


rule register_points:
    """Register a pair by its fiducials, by least squares; displacements in mm (LPS) on the fixed image's own grid."""
    input:
        fixed=of_pair("fixed"),
        fixed_fiducials=cell_of_pair("fixed", "fiducials"),
        moving_fiducials=cell_of_pair("moving", "fiducials"),
    output:
        displacements=displacements_of("points"),
        registrations=registrations_of("points"),
    log:
        "results/logs/register_points/{pair}.log",
    benchmark:
        "results/benchmarks/register_points/{pair}.tsv"
    conda:
        "../envs/imaging.yaml"
    resources:
        **needs(memory_mb=2000, minutes=10),
    params:
        methods=[{"method": method, "model": model} for method, model in zip(methods_of("points"), models_of("points"))],
    script:
        "../scripts/register_points.py"
