# From the hospital's files to NIfTI on the native grid. Their paths, often named after patients, are no inputs: Snakemake
# would write them down. A job looks its path up in the table; the fingerprint reruns it when a file changes.


rule list_series:
    """List the DICOM series in the folders of the cohort table, without identity, to choose from in its column series."""
    input:
        table=config["cohort"],
    output:
        results.of_cohort("list_series.tsv"),
    log:
        results.log("list_series"),
    benchmark:
        results.benchmark("list_series")
    localrule: True
    conda:
        "../envs/imaging.yaml"
    params:
        data_folder=of(plan.data_folder),
        images=[[image.subject, image.name] for image in cohort.images.values()],
        fingerprints=of(plan.fingerprints),
    script:
        "../scripts/list_series.py"


rule convert_image:
    """Convert a DICOM series or an image file to NIfTI, with a sidecar of geometry and acquisition, without identity."""
    input:
        files(plan.to_convert),
        table=ancient(config["cohort"]),
    output:
        image=results.image("{subject}", "{image}"),
        sidecar=results.sidecar("{subject}", "{image}"),
    log:
        results.log("convert_image/{subject}/{image}"),
    benchmark:
        results.benchmark("convert_image/{subject}/{image}")
    localrule: not SHARED_FILES
    conda:
        "../envs/imaging.yaml"
    resources:
        **needs(memory_mb=2000, minutes=20),
    params:
        data_folder=of(plan.data_folder),
        series=of(plan.cell("series")),
        form=of(plan.cell("geometry")),
        settings=config["dicom"],
        fingerprint=of(plan.fingerprint("source")),
    script:
        "../scripts/convert_image.py"


rule convert_labels:
    """Convert structures drawn in the clinic (RTSTRUCT, SEG, 3D Slicer) to a label map on the image's grid."""
    input:
        table=ancient(config["cohort"]),
        image=results.image("{subject}", "{image}"),
    output:
        results.labels("{subject}", "{image}"),
    log:
        results.log("convert_labels/{subject}/{image}"),
    benchmark:
        results.benchmark("convert_labels/{subject}/{image}")
    localrule: not SHARED_FILES
    conda:
        "../envs/imaging.yaml"
    resources:
        **needs(memory_mb=2000, minutes=20),
    params:
        data_folder=of(plan.data_folder),
        structures=config["structures"],
        series=of(plan.cell("series")),
        allow=config["dicom"]["allow"],
        fingerprint=of(plan.fingerprint("labels")),
    script:
        "../scripts/convert_labels.py"
