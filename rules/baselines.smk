# The classical methods: a rule a tool, each starting from the pair's affine transform, or from its own (config).


rule register_elastix:
    """Register a pair with every elastix method; displacements in mm (LPS) on the fixed image's own grid."""
    input:
        files(plan.to_register("elastix")),
    output:
        displacements=results.displacements("{pair}", plan.methods_of("elastix")),
        registrations=results.registrations("{pair}", plan.methods_of("elastix")),
    log:
        results.log("register_elastix/{pair}"),
    benchmark:
        results.benchmark("register_elastix/{pair}")
    conda:
        "../envs/elastix.yaml"
    resources:
        **needs(memory_mb=4000, minutes=120),
    params:
        methods=plan.methods_of("elastix"),
        settings=plan.settings_of("elastix"),
        harmonized=of(plan.harmonizing_transforms),
        intensities=of(plan.intensities),
        seed=config["seed"],
        tool_log=results.tool_log("register_elastix/{pair}"),
    script:
        "../scripts/register_elastix.py"


rule register_niftyreg:
    """Register a pair with every NiftyReg method; displacements in mm (LPS) on the fixed image's own grid."""
    input:
        files(plan.to_register("niftyreg")),
    output:
        displacements=results.displacements("{pair}", plan.methods_of("niftyreg")),
        registrations=results.registrations("{pair}", plan.methods_of("niftyreg")),
    log:
        results.log("register_niftyreg/{pair}"),
    benchmark:
        results.benchmark("register_niftyreg/{pair}")
    conda:
        "../envs/niftyreg.yaml"
    resources:
        **needs(memory_mb=4000, minutes=120),
    params:
        methods=plan.methods_of("niftyreg"),
        settings=plan.settings_of("niftyreg"),
        harmonized=of(plan.harmonizing_transforms),
        intensities=of(plan.intensities),
        seed=config["seed"],
        tool_log=results.tool_log("register_niftyreg/{pair}"),
    script:
        "../scripts/register_niftyreg.py"


rule register_ants:
    """Register a pair with every ANTs method; displacements in mm (LPS) on the fixed image's own grid."""
    input:
        files(plan.to_register("ants")),
    output:
        displacements=results.displacements("{pair}", plan.methods_of("ants")),
        registrations=results.registrations("{pair}", plan.methods_of("ants")),
    log:
        results.log("register_ants/{pair}"),
    benchmark:
        results.benchmark("register_ants/{pair}")
    conda:
        "../envs/ants.yaml"
    resources:
        **needs(memory_mb=4000, minutes=240),
    params:
        methods=plan.methods_of("ants"),
        settings=plan.settings_of("ants"),
        harmonized=of(plan.harmonizing_transforms),
        intensities=of(plan.intensities),
        seed=config["seed"],
        tool_log=results.tool_log("register_ants/{pair}"),
    script:
        "../scripts/register_ants.py"


rule register_demons:
    """Register a pair with every demons method; displacements in mm (LPS) on the fixed image's own grid."""
    input:
        files(plan.to_register("demons")),
    output:
        displacements=results.displacements("{pair}", plan.methods_of("demons")),
        registrations=results.registrations("{pair}", plan.methods_of("demons")),
    log:
        results.log("register_demons/{pair}"),
    benchmark:
        results.benchmark("register_demons/{pair}")
    conda:
        "../envs/imaging.yaml"
    resources:
        **needs(memory_mb=4000, minutes=120),
    params:
        methods=plan.methods_of("demons"),
        settings=plan.settings_of("demons"),
        harmonized=of(plan.harmonizing_transforms),
        intensities=of(plan.intensities),
        seed=config["seed"],
        tool_log=results.tool_log("register_demons/{pair}"),
    script:
        "../scripts/register_demons.py"


rule register_instance:
    """Refine a start by gradient steps on the loss, pair by pair; displacements in mm (LPS) on the fixed grid."""
    input:
        files(plan.to_register("instance")),
    output:
        displacements=results.displacements("{pair}", plan.methods_of("instance")),
        registrations=results.registrations("{pair}", plan.methods_of("instance")),
    log:
        results.log("register_instance/{pair}"),
    benchmark:
        results.benchmark("register_instance/{pair}")
    conda:
        "../envs/voxelmorph.yaml"
    resources:
        **needs(memory_mb=4000, minutes=120),
    params:
        methods=plan.methods_of("instance"),
        settings=plan.settings_of("instance"),
        harmonized=of(plan.harmonizing_transforms),
        intensities=of(plan.intensities),
        seed=config["seed"],
        tool_log=results.tool_log("register_instance/{pair}"),
    script:
        "../scripts/register_instance.py"


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
        methods=plan.methods_of("points"),
        kinds=list(plan.models_of_points().values()),
    script:
        "../scripts/register_points.py"
