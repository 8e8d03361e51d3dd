# From the hospital's files to NIfTI on the native grid. Their paths, often named after patients, are no inputs: Snakemake
# would write them down. A job looks its path up in the table; the fingerprint reruns it when path or files change.


rule list_series:
    """List the DICOM series in the folders of the cohort table, without identity, to choose from in its column series."""
    input:
        table=config["cohort"],
    output:
        "results/list_series.tsv",
    log:
        "results/logs/list_series.log",
    benchmark:
        "results/benchmarks/list_series.tsv"
    localrule: True
    conda:
        "../envs/imaging.yaml"
    params:
        data_folder=typed_data_folder,
        images=IMAGES[["subject", "image"]].values.tolist(),
        fingerprints=fingerprints_of_sources,
    script:
        "../scripts/list_series.py"


rule convert_image:
    """Convert a DICOM series or an image file to NIfTI, with a sidecar of geometry and acquisition, without identity."""
    input:
        table=ancient(config["cohort"]),
        made=made_path("source"),
    output:
        image="results/images/{subject}/{image}.nii.gz",
        sidecar="results/images/{subject}/{image}.json",
    log:
        "results/logs/convert_image/{subject}-{image}.log",
    benchmark:
        "results/benchmarks/convert_image/{subject}-{image}.tsv"
    localrule: not SHARED_FILES
    conda:
        "../envs/imaging.yaml"
    resources:
        **needs(memory_mb=2000, minutes=20),
    params:
        data_folder=typed_data_folder,
        series=table_cell("series"),
        settings=config["dicom"],
        fingerprint=fingerprint_of("source"),
    script:
        "../scripts/convert_image.py"


rule convert_labels:
    """Convert structures drawn in the clinic (RTSTRUCT, SEG, 3D Slicer) to a label map on the image's grid."""
    input:
        table=ancient(config["cohort"]),
        image="results/images/{subject}/{image}.nii.gz",
    output:
        "results/images/{subject}/{image}_labels.nii.gz",
    log:
        "results/logs/convert_labels/{subject}-{image}.log",
    benchmark:
        "results/benchmarks/convert_labels/{subject}-{image}.tsv"
    localrule: not SHARED_FILES
    conda:
        "../envs/imaging.yaml"
    resources:
        **needs(memory_mb=2000, minutes=20),
    params:
        data_folder=typed_data_folder,
        structures=config["structures"],
        series=table_cell("series"),
        allow=config["dicom"]["allow"],
        fingerprint=fingerprint_of("labels"),
    script:
        "../scripts/convert_labels.py"
