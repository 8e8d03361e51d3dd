# The fused image, which the registrations are for: all evaluated subjects, by the method that the configuration names.


rule fuse_subject:
    """Lay a subject's moved images on the fixed one, on its grid (LPS, mm): NIfTI in colours, PNG and DICOM slices."""
    input:
        table=ancient(config["cohort"]),
        fixed="results/images/{subject}/{image}.nii.gz",
        moved=of_fused_pairs("moved.nii.gz"),
        registrations=of_fused_pairs("registration.json"),
        sidecars=of_fused_images(sidecar_file),
        selected_model=SELECTED if methods_to_fuse() == LEARNED else [],
    output:
        directory("results/fused/{subject}/{image}"),
    log:
        "results/logs/fuse_subject/{subject}-{image}.log",
    benchmark:
        "results/benchmarks/fuse_subject/{subject}-{image}.tsv"
    localrule: not SHARED_FILES and FUSION.get("dicom") == "linked"
    conda:
        "../envs/workflow.yaml"
    resources:
        **needs(memory_mb=3000, minutes=20),
    params:
        names=of_fused_images(image_name),
        modalities=of_fused_images(modality_of),
        methods=methods_to_fuse(),
        fixed_intensity=intensity_of_fixed,
        moving_intensities=of_fused_images(intensity_of),
        settings=FUSION,
        data_folder=typed_data_folder,
        series=table_cell("series"),
        dicom=config["dicom"],
        phantom=PHANTOM,
    script:
        "../scripts/fuse_subject.py"
