# The classical methods: a rule a tool, each starting from the pair's affine transform, or from its own (config).


rule register_elastix:
    """Register a pair with every elastix method; displacements in mm (LPS) on the fixed image's own grid."""
    input:
        fixed=of_pair("fixed"),
        moving=of_pair("moving"),
        fixed_mask=cell_of_pair("fixed", "mask"),
        affine="results/pairs/{pair}/affine.tfm",
        harmonized=harmonized_folder,
        parameters=parameter_files_of("elastix"),
    output:
        displacements=displacements_of("elastix"),
        registrations=registrations_of("elastix"),
    log:
        "results/logs/register_elastix/{pair}.log",
    benchmark:
        "results/benchmarks/register_elastix/{pair}.tsv"
    conda:
        "../envs/elastix.yaml"
    resources:
        **needs(memory_mb=4000, minutes=120),
    params:
        methods=methods_of("elastix"),
        settings=settings_of("elastix"),
        harmonized=harmonizing_transforms,
        fixed_intensity=of_pair("fixed", intensity_of),
        moving_intensity=of_pair("moving", intensity_of),
        seed=config["seed"],
        tool_log="results/logs/register_elastix/{pair}",
    script:
        "../scripts/register_elastix.py"


rule register_niftyreg:
    """Register a pair with every NiftyReg method; displacements in mm (LPS) on the fixed image's own grid."""
    input:
        fixed=of_pair("fixed"),
        moving=of_pair("moving"),
        fixed_mask=cell_of_pair("fixed", "mask"),
        affine="results/pairs/{pair}/affine.tfm",
        harmonized=harmonized_folder,
        parameters=parameter_files_of("niftyreg"),
    output:
        displacements=displacements_of("niftyreg"),
        registrations=registrations_of("niftyreg"),
    log:
        "results/logs/register_niftyreg/{pair}.log",
    benchmark:
        "results/benchmarks/register_niftyreg/{pair}.tsv"
    conda:
        "../envs/niftyreg.yaml"
    resources:
        **needs(memory_mb=4000, minutes=120),
    params:
        methods=methods_of("niftyreg"),
        settings=settings_of("niftyreg"),
        harmonized=harmonizing_transforms,
        fixed_intensity=of_pair("fixed", intensity_of),
        moving_intensity=of_pair("moving", intensity_of),
        seed=config["seed"],
        tool_log="results/logs/register_niftyreg/{pair}",
    script:
        "../scripts/register_niftyreg.py"


rule register_ants:
    """Register a pair with every ANTs method; displacements in mm (LPS) on the fixed image's own grid."""
    input:
        fixed=of_pair("fixed"),
        moving=of_pair("moving"),
        fixed_mask=cell_of_pair("fixed", "mask"),
        affine="results/pairs/{pair}/affine.tfm",
        harmonized=harmonized_folder,
        parameters=parameter_files_of("ants"),
    output:
        displacements=displacements_of("ants"),
        registrations=registrations_of("ants"),
    log:
        "results/logs/register_ants/{pair}.log",
    benchmark:
        "results/benchmarks/register_ants/{pair}.tsv"
    conda:
        "../envs/ants.yaml"
    resources:
        **needs(memory_mb=4000, minutes=240),
    params:
        methods=methods_of("ants"),
        settings=settings_of("ants"),
        harmonized=harmonizing_transforms,
        fixed_intensity=of_pair("fixed", intensity_of),
        moving_intensity=of_pair("moving", intensity_of),
        seed=config["seed"],
        tool_log="results/logs/register_ants/{pair}",
    script:
        "../scripts/register_ants.py"


rule register_demons:
    """Register a pair with every demons method; displacements in mm (LPS) on the fixed image's own grid."""
    input:
        fixed=of_pair("fixed"),
        moving=of_pair("moving"),
        fixed_mask=cell_of_pair("fixed", "mask"),
        affine="results/pairs/{pair}/affine.tfm",
        harmonized=harmonized_folder,
        parameters=parameter_files_of("demons"),
    output:
        displacements=displacements_of("demons"),
        registrations=registrations_of("demons"),
    log:
        "results/logs/register_demons/{pair}.log",
    benchmark:
        "results/benchmarks/register_demons/{pair}.tsv"
    conda:
        "../envs/imaging.yaml"
    resources:
        **needs(memory_mb=4000, minutes=120),
    params:
        methods=methods_of("demons"),
        settings=settings_of("demons"),
        harmonized=harmonizing_transforms,
        fixed_intensity=of_pair("fixed", intensity_of),
        moving_intensity=of_pair("moving", intensity_of),
        seed=config["seed"],
        tool_log="results/logs/register_demons/{pair}",
    script:
        "../scripts/register_demons.py"


rule register_instance:
    """Refine a start by gradient steps on the loss, pair by pair; displacements in mm (LPS) on the fixed grid."""
    input:
        fixed=of_pair("fixed"),
        moving=of_pair("moving"),
        fixed_mask=cell_of_pair("fixed", "mask"),
        affine="results/pairs/{pair}/affine.tfm",
        harmonized=harmonized_folder,
        start_displacements=starts_of("instance"),
        parameters=parameter_files_of("instance"),
    output:
        displacements=displacements_of("instance"),
        registrations=registrations_of("instance"),
    log:
        "results/logs/register_instance/{pair}.log",
    benchmark:
        "results/benchmarks/register_instance/{pair}.tsv"
    conda:
        "../envs/voxelmorph.yaml"
    resources:
        **needs(memory_mb=4000, minutes=120),
    params:
        methods=methods_of("instance"),
        settings=settings_of("instance"),
        harmonized=harmonizing_transforms,
        fixed_intensity=of_pair("fixed", intensity_of),
        moving_intensity=of_pair("moving", intensity_of),
        seed=config["seed"],
        tool_log="results/logs/register_instance/{pair}",
    script:
        "../scripts/register_instance.py"


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
        methods=methods_of("points"),
        kinds=models_of("points"),
    script:
        "../scripts/register_points.py"
