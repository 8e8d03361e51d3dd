# The learned registrations, and the methods that need none of their own.


rule register_affine:
    """Write the scanners' own positions, the harmonizing and the affine transform as displacements (LPS, mm, fixed grid)."""
    input:
        files(plan.to_start),
    output:
        displacements=results.displacements("{pair}", plan.starts),
        registrations=results.registrations("{pair}", plan.starts),
    log:
        results.log("register_affine/{pair}"),
    benchmark:
        results.benchmark("register_affine/{pair}")
    conda:
        "../envs/imaging.yaml"
    resources:
        **needs(memory_mb=2000, minutes=10),
    params:
        methods=plan.starts,
        harmonized=of(plan.harmonizing_transforms),
    script:
        "../scripts/register_affine.py"


for name, network in plan.networks.items():

    rule:
        """Register a pair with each weight λ and kept epoch; displacements in mm (LPS) on the fixed image's own grid."""
        name:
            f"register_{name}"
        input:
            files(learning.to_apply(name)),
        output:
            displacements=results.displacements("{pair}", network.ids),
            registrations=results.registrations("{pair}", network.ids),
        log:
            results.log(f"register_{name}/{{pair}}"),
        benchmark:
            results.benchmark(f"register_{name}/{{pair}}")
        conda:
            "../envs/voxelmorph.yaml"
        resources:
            **needs(memory_mb=4000, minutes=60),
        params:
            settings=network.settings_applied,
        script:
            "../scripts/register_network.py"
