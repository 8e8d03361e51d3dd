# What every method did, measured the same way: from here on no rule knows which method made a displacement.


rule warp_pair:
    """Resample the moving image, and its labels, once through each method's displacement onto the fixed grid."""
    input:
        moving=of_pair("moving"),
        moving_labels=cell_of_pair("moving", "labels"),
        displacements=expand("results/pairs/{{pair}}/{method}/displacement.nii.gz", method=METHODS),
    output:
        moved=expand("results/pairs/{{pair}}/{method}/moved.nii.gz", method=METHODS),
        moved_labels=expand("results/pairs/{{pair}}/{method}/moved_labels.nii.gz", method=METHODS if LABELLED else []),
    log:
        "results/logs/warp_pair/{pair}.log",
    benchmark:
        "results/benchmarks/warp_pair/{pair}.tsv"
    conda:
        "../envs/imaging.yaml"
    resources:
        **needs(memory_mb=3000, minutes=30),
    script:
        "../scripts/warp_pair.py"


rule measure_pair:
    """Measure TRE and surfaces (mm), Dice, NCC, Jacobian, inverse consistency and run time of every method on a pair."""
    input:
        fixed=of_pair("fixed"),
        moving=of_pair("moving"),
        fixed_labels=cell_of_pair("fixed", "labels"),
        moving_labels=cell_of_pair("moving", "labels"),
        fixed_landmarks=cell_of_pair("fixed", "landmarks"),
        moving_landmarks=cell_of_pair("moving", "landmarks"),
        fixed_mask=cell_of_pair("fixed", "mask"),
        affine="results/pairs/{pair}/affine.tfm",
        displacements=expand("results/pairs/{{pair}}/{method}/displacement.nii.gz", method=METHODS),
        registrations=expand("results/pairs/{{pair}}/{method}/registration.json", method=METHODS),
        reverse_displacements=reverse_displacements,
        true_displacement=true_displacement,
    output:
        "results/pairs/{pair}/metrics.tsv",
    log:
        "results/logs/measure_pair/{pair}.log",
    benchmark:
        "results/benchmarks/measure_pair/{pair}.tsv"
    conda:
        "../envs/imaging.yaml"
    resources:
        **needs(memory_mb=4000, minutes=60),
    params:
        pair="{pair}",
        split=split_of_pair,
        methods=METHODS,
        near_landmarks_mm=config["evaluation"]["near_landmarks_mm"],
        surface_tolerance_mm=config["evaluation"]["surface_tolerance_mm"],
        fixed_intensity=of_pair("fixed", intensity_of),
        moving_intensity=of_pair("moving", intensity_of),
    script:
        "../scripts/measure_pair.py"


rule collect_metrics:
    """Join the tables of all pairs, summarize them with bootstrap intervals over the subjects, list what failed."""
    input:
        tables=expand("results/pairs/{pair}/metrics.tsv", pair=EVALUATED),
        registrations=expand("results/pairs/{pair}/{method}/registration.json", pair=EVALUATED, method=METHODS),
        training_alignments=expand("results/pairs/{pair}/affine.json", pair=TRAINING_ALIGNMENTS),
    output:
        metrics="results/evaluation/metrics.tsv",
        summary=report("results/evaluation/summary.tsv", category="Tables"),
        failures=report("results/evaluation/failures.tsv", category="Tables"),
    log:
        "results/logs/collect_metrics.log",
    benchmark:
        "results/benchmarks/collect_metrics.tsv"
    conda:
        "../envs/workflow.yaml"
    resources:
        **needs(memory_mb=2000, minutes=20),
    params:
        bootstrap_samples=config["evaluation"]["bootstrap_samples"],
        seed=config["seed"],
    script:
        "../scripts/collect_metrics.py"


rule select_model:
    """Choose weight λ and epoch on the validation pairs alone."""
    input:
        metrics="results/evaluation/metrics.tsv",
    output:
        "results/evaluation/selected_model.json",
    log:
        "results/logs/select_model.log",
    benchmark:
        "results/benchmarks/select_model.tsv"
    conda:
        "../envs/workflow.yaml"
    resources:
        **needs(memory_mb=1000, minutes=10),
    params:
        settings=config["evaluation"]["selection"],
    script:
        "../scripts/select_model.py"


rule select_weight:
    """Search λ over the whole range with the conditional network's last epoch, on the validation pairs alone."""
    input:
        files=files_to_judge_by,
        network=expand(f"{CONDITIONAL}/epoch-{{epoch}}.npz", epoch=VOXELMORPH["kept_epochs"][-1:]),
    output:
        selected="results/evaluation/selected_weight.json",
        table="results/evaluation/weight_search.tsv",
        pictures=expand("results/figures/weight_search.{kind}", kind=["png", "svg"]),
    log:
        "results/logs/select_weight.log",
    benchmark:
        "results/benchmarks/select_weight.tsv"
    conda:
        "../envs/voxelmorph.yaml"
    resources:
        **needs(memory_mb=6000, minutes=120),
    params:
        pairs=cohort.pairs_in("validation"),
        files=to_judge_by,
        intensities=intensities_to_judge_by,
        weights=weights_of_range,
        epoch=VOXELMORPH["kept_epochs"][-1:],
        settings=ARCHITECTURE,
        selection=config["evaluation"]["selection"],
        bootstrap_samples=config["evaluation"]["bootstrap_samples"],
        seed=config["seed"],
        phantom=PHANTOM,
    script:
        "../scripts/select_weight.py"


rule compare_methods:
    """Test the methods against each other on the test pairs, a value a subject, and rank them over the metrics."""
    input:
        metrics="results/evaluation/metrics.tsv",
        selected=SELECTED,
    output:
        comparison=report("results/evaluation/comparison.tsv", category="Tables"),
        ranking=report("results/evaluation/ranking.tsv", category="Tables"),
    log:
        "results/logs/compare_methods.log",
    benchmark:
        "results/benchmarks/compare_methods.tsv"
    conda:
        "../envs/workflow.yaml"
    resources:
        **needs(memory_mb=2000, minutes=20),
    params:
        bootstrap_samples=config["evaluation"]["bootstrap_samples"],
        seed=config["seed"],
    script:
        "../scripts/compare_methods.py"


rule flag_pairs:
    """Flag the registrations that somebody should look at, by the thresholds of the configuration, the worst first."""
    input:
        metrics="results/evaluation/metrics.tsv",
        failures="results/evaluation/failures.tsv",
        selected=SELECTED,
    output:
        report("results/evaluation/flags.tsv", category="Tables"),
    log:
        "results/logs/flag_pairs.log",
    benchmark:
        "results/benchmarks/flag_pairs.tsv"
    conda:
        "../envs/workflow.yaml"
    resources:
        **needs(memory_mb=1000, minutes=10),
    params:
        settings=config["quality"],
    script:
        "../scripts/flag_pairs.py"
