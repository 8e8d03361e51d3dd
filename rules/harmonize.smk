# A subject's stacks made comparable: rotation and slices by NCC.


rule harmonize_subject:
    """Find each image's rotation and slices against the fixed one; transforms map the fixed world to the image's."""
    input:
        files(plan.to_harmonize),
    output:
        directory(results.harmonized("{subject}")),
    log:
        results.log("harmonize_subject/{subject}"),
    benchmark:
        results.benchmark("harmonize_subject/{subject}")
    conda:
        "../envs/imaging.yaml"
    resources:
        **needs(memory_mb=3000, minutes=30),
    params:
        names=of(plan.names),
        intensities=of(plan.intensities_of_subject),
        settings=config["harmonize"],
    script:
        "../scripts/harmonize_subject.py"
