# The embedded phantom cohort: made only if the cohort table asks for files in results/phantom/.


rule make_phantom:
    """Make a phantom subject as DICOM, with labels, landmarks, fiducials and its true displacements (LPS, mm)."""
    output:
        ct=directory(results.phantom("{subject}", "CT")),
        t1=directory(results.phantom("{subject}", "T1")),
        t2=directory(results.phantom("{subject}", "T2")),
        labels=results.of_phantom("{subject}", "labels"),
        landmarks=results.of_phantom("{subject}", "landmarks"),
        fiducials=results.of_phantom("{subject}", "fiducials"),
        displacements=results.true_displacements("{subject}"),
        truth=results.phantom("{subject}", "truth.json"),
    log:
        results.log("make_phantom/{subject}"),
    benchmark:
        results.benchmark("make_phantom/{subject}")
    conda:
        "../envs/imaging.yaml"
    resources:
        **needs(memory_mb=3000, minutes=20),
    params:
        **(config["phantom"] or {}),
    script:
        "../scripts/make_phantom.py"
