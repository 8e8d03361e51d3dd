# Experiments of the sources, which `rule all` does not ask for: RegNet's, and neuronavigation, which needs no cohort.


rule make_synthetic:
    """Make a pair of a real image by a known displacement (mm, LPS, fixed grid), with masks and landmarks."""
    input:
        image=synthetic_base,
        mask=synthetic_mask,
    output:
        images=expand("results/synthetic/{{subject}}/{role}.nii.gz", role=["fixed", "moving"]),
        masks=expand("results/synthetic/{{subject}}/{role}_mask.nii.gz", role=["fixed", "moving"]),
        landmarks=expand("results/synthetic/{{subject}}/{role}_landmarks.tsv", role=["fixed", "moving"]),
        truth="results/synthetic/{subject}/truth.nii.gz",
    log:
        "results/logs/make_synthetic/{subject}.log",
    benchmark:
        "results/benchmarks/make_synthetic/{subject}.tsv"
    conda:
        "../envs/imaging.yaml"
    resources:
        **needs(memory_mb=4000, minutes=30),
    params:
        field=synthetic_field,
        seed=config["seed"],
    script:
        "../scripts/make_synthetic.py"


rule regnet_table:
    """Write a table of the shape of RegNet's Table 2.1 (mm) beside the published one, and draw residuals and range."""
    input:
        displacements=expand(
            "results/pairs/{pair}/{method}/displacement.nii.gz", pair=cohort.pairs_in("test"), method=METHODS
        ),
        affines=expand("results/pairs/{pair}/affine.tfm", pair=cohort.pairs_in("test")),
        fixed_landmarks=landmarks_of_test_pairs("fixed"),
        moving_landmarks=landmarks_of_test_pairs("moving"),
        metrics="results/evaluation/metrics.tsv",
        selected=SELECTED,
    output:
        table="results/experiments/regnet_table.tsv",
        text="results/experiments/regnet_table.md",
        pictures=expand("results/experiments/regnet.{kind}", kind=["png", "svg"]),
    log:
        "results/logs/regnet_table.log",
    benchmark:
        "results/benchmarks/regnet_table.tsv"
    conda:
        "../envs/workflow.yaml"
    resources:
        **needs(memory_mb=4000, minutes=30),
    params:
        pairs=cohort.pairs_in("test"),
        methods=METHODS,
        near_landmarks_mm=config["evaluation"]["near_landmarks_mm"],
        synthetic=cohort.synthetic_pairs("test"),
        same_patient=cohort.trained_on_a_test_subject(config["synthetic"]),
    script:
        "../scripts/regnet_table.py"


rule neuronavigation:
    """Simulate FRE and TRE (mm) when the fiducial with the largest error is dropped, again and again."""
    output:
        table="results/experiments/neuronavigation.tsv",
        pictures=expand("results/experiments/neuronavigation.{kind}", kind=["png", "svg"]),
    log:
        "results/logs/neuronavigation.log",
    benchmark:
        "results/benchmarks/neuronavigation.tsv"
    conda:
        "../envs/workflow.yaml"
    resources:
        **needs(memory_mb=2000, minutes=10),
    params:
        draws=10000,
        seed=config["seed"],
    script:
        "../scripts/neuronavigation.py"
