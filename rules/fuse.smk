# The fused image, which the registrations are for: all evaluated subjects, by the method that the configuration names.


rule fuse_subject:
    """Lay a subject's moved images on the fixed one, on its grid (LPS, mm): NIfTI in colours, PNG and DICOM slices."""
    input:
        files(shown.to_fuse),
        table=ancient(config["cohort"]),
    output:
        directory(results.fused("{subject}", "{image}")),
    log:
        results.log("fuse_subject/{subject}/{image}"),
    benchmark:
        results.benchmark("fuse_subject/{subject}/{image}")
    localrule: not SHARED_FILES and shown.fusion.get("dicom") == "linked"
    conda:
        "../envs/workflow.yaml"
    resources:
        **needs(memory_mb=3000, minutes=20),
    params:
        moving=of(shown.images_to_fuse),
        fixed_intensity=of(shown.intensity),
        settings=shown.fusion,
        data_folder=of(plan.data_folder),
        series=of(plan.cell("series")),
        dicom=config["dicom"],
        phantom=plan.phantom,
    script:
        "../scripts/fuse_subject.py"
