# Experiments of the sources, which `rule all` does not ask for: RegNet's, and neuronavigation, which needs no cohort.


rule make_synthetic:
    """Make a pair of a real image by a known displacement (mm, LPS, fixed grid), with masks and landmarks."""
    input:
        files(plan.to_make_synthetic),
    output:
        images=results.of_synthetic("{subject}", "source"),
        masks=results.of_synthetic("{subject}", "mask"),
        landmarks=results.of_synthetic("{subject}", "landmarks"),
        truth=results.synthetic("{subject}", "truth.nii.gz"),
    log:
        results.log("make_synthetic/{subject}"),
    benchmark:
        results.benchmark("make_synthetic/{subject}")
    conda:
        "../envs/imaging.yaml"
    resources:
        **needs(memory_mb=4000, minutes=30),
    params:
        users_files(plan.to_make_synthetic),
        field=of(plan.synthetic_field),
        seed=config["seed"],
    script:
        "../scripts/make_synthetic.py"


rule regnet_table:
    """Write a table of the shape of RegNet's Table 2.1 (mm) beside the published one, and draw residuals and range."""
    input:
        files(shown.to_tabulate),
        metrics=results.evaluation("metrics.tsv"),
        selected=plan.selected,
    output:
        table=results.experiment("regnet_table.tsv"),
        text=results.experiment("regnet_table.md"),
        pictures=[results.experiment(f"regnet.{kind}") for kind in ("png", "svg")],
    log:
        results.log("regnet_table"),
    benchmark:
        results.benchmark("regnet_table")
    conda:
        "../envs/workflow.yaml"
    resources:
        **needs(memory_mb=4000, minutes=30),
    params:
        users_files(shown.to_tabulate),
        pairs=shown.pairs_to_tabulate,
        methods=plan.methods,
        near_landmarks_mm=config["evaluation"]["near_landmarks_mm"],
        same_patient=cohort.trained_on_a_test_subject(config["synthetic"]),
    script:
        "../scripts/regnet_table.py"


rule neuronavigation:
    """Simulate FRE and TRE (mm) when the fiducial with the largest error is dropped, again and again."""
    output:
        table=results.experiment("neuronavigation.tsv"),
        pictures=[results.experiment(f"neuronavigation.{kind}") for kind in ("png", "svg")],
    log:
        results.log("neuronavigation"),
    benchmark:
        results.benchmark("neuronavigation")
    conda:
        "../envs/workflow.yaml"
    resources:
        **needs(memory_mb=2000, minutes=10),
    params:
        draws=10000,
        seed=config["seed"],
    script:
        "../scripts/neuronavigation.py"
