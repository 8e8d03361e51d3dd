# The embedded phantom cohort: made only if the cohort table asks for files in results/phantom/.


rule make_phantom:
    """Make a phantom subject as DICOM, with labels, landmarks, fiducials and its true displacements (LPS, mm)."""
    output:
        ct=directory("results/phantom/{subject}/CT"),
        t1=directory("results/phantom/{subject}/T1"),
        t2=directory("results/phantom/{subject}/T2"),
        labels=expand("results/phantom/{{subject}}/{image}_labels.nii.gz", image=["CT", "T1", "T2"]),
        landmarks=expand("results/phantom/{{subject}}/{image}_landmarks.tsv", image=["CT", "T1", "T2"]),
        fiducials=expand("results/phantom/{{subject}}/{image}_fiducials.tsv", image=["CT", "T1", "T2"]),
        displacements=expand("results/phantom/{{subject}}/truth_{image}_to_CT.nii.gz", image=["T1", "T2"]),
        truth="results/phantom/{subject}/truth.json",
    log:
        "results/logs/make_phantom/{subject}.log",
    benchmark:
        "results/benchmarks/make_phantom/{subject}.tsv"
    conda:
        "../envs/imaging.yaml"
    resources:
        **needs(memory_mb=3000, minutes=20),
    params:
        **(config["phantom"] or {}),
    script:
        "../scripts/make_phantom.py"
