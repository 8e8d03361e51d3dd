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
            files(plan.to_register(tool)),
        output:
            displacements=results.displacements("{pair}", plan.methods_of(tool)),
            registrations=results.registrations("{pair}", plan.methods_of(tool)),
        log:
            results.log(f"register_{tool}/{{pair}}"),
        benchmark:
            results.benchmark(f"register_{tool}/{{pair}}")
        conda:
            f"../envs/{environment}.yaml"
        resources:
            **needs(memory_mb=4000, minutes=minutes),
        params:
            users_files(plan.to_register(tool)),
            tool=tool,
            methods=plan.settings_of(tool),
            harmonized=of(plan.harmonizing_transforms),
            intensities=of(plan.intensities),
            seed=config["seed"],
        script:
            "../scripts/register_pair.py"


rule register_points:
    """Register a pair by its fiducials, by least squares; displacements in mm (LPS) on the fixed image's own grid."""
    input:
        files(plan.to_register_points),
    output:
        displacements=results.displacements("{pair}", plan.methods_of("points")),
        registrations=results.registrations("{pair}", plan.methods_of("points")),
    log:
        results.log("register_points/{pair}"),
    benchmark:
        results.benchmark("register_points/{pair}")
    conda:
        "../envs/imaging.yaml"
    resources:
        **needs(memory_mb=2000, minutes=10),
    params:
        users_files(plan.to_register_points),
        methods=plan.models_of_points(),
    script:
        "../scripts/register_points.py"
