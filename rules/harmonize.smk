# A subject's stacks made comparable: rotation and slices by NCC.


rule harmonize_subject:
    """Find each image's rotation and slices against the fixed one; transforms map the fixed world to the image's."""
    input:
        images=images_of_subject,
    output:
        directory("results/harmonized/{subject}"),
    log:
        "results/logs/harmonize_subject/{subject}.log",
    benchmark:
        "results/benchmarks/harmonize_subject/{subject}.tsv"
    conda:
        "../envs/imaging.yaml"
    resources:
        **needs(memory_mb=3000, minutes=30),
    params:
        names=image_names,
        intensities=intensities_of_subject,
        settings=config["harmonize"],
    script:
        "../scripts/harmonize_subject.py"
