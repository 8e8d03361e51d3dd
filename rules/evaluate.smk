# What every method did, measured the same way: from here on no rule knows which method made a displacement.


rule warp_pair:
    """Resample the moving image, and its labels, once through each method's displacement onto the fixed grid."""
    input:
        files(plan.to_warp),
    output:
        moved=[results.moved("{pair}", method) for method in plan.methods],
        moved_labels=[results.moved_labels("{pair}", method) for method in plan.moved_labels],
    log:
        results.log("warp_pair/{pair}"),
    benchmark:
        results.benchmark("warp_pair/{pair}")
    conda:
        "../envs/imaging.yaml"
    resources:
        **needs(memory_mb=3000, minutes=30),
    params:
        users_files(plan.to_warp),
    script:
        "../scripts/warp_pair.py"


rule measure_pair:
    """Measure TRE and surfaces (mm), Dice, NCC, NMI, Jacobian, inverse consistency and run time of every method on a pair."""
    input:
        files(plan.to_measure),
    output:
        results.metrics_of_pair("{pair}"),
    log:
        results.log("measure_pair/{pair}"),
    benchmark:
        results.benchmark("measure_pair/{pair}")
    conda:
        "../envs/imaging.yaml"
    resources:
        **needs(memory_mb=4000, minutes=60),
    params:
        users_files(plan.to_measure),
        pair="{pair}",
        split=of(plan.split),
        methods=plan.methods,
        intensities=of(plan.intensities),
        settings={key: config["evaluation"][key] for key in ("near_landmarks_mm", "surface_tolerance_mm")},
    script:
        "../scripts/measure_pair.py"


rule collect_metrics:
    """Join the tables of all pairs, summarize them with bootstrap intervals over the subjects, list what failed."""
    input:
        files(plan.to_collect),
    output:
        metrics=results.evaluation("metrics.tsv"),
        summary=report(results.evaluation("summary.tsv"), category="Tables"),
        failures=report(results.evaluation("failures.tsv"), category="Tables"),
    log:
        results.log("collect_metrics"),
    benchmark:
        results.benchmark("collect_metrics")
    conda:
        "../envs/workflow.yaml"
    resources:
        **needs(memory_mb=2000, minutes=20),
    params:
        bootstrap_samples=config["evaluation"]["bootstrap_samples"],
        seed=config["seed"],
    script:
        "../scripts/collect_metrics.py"


rule compare_methods:
    """Test the methods against each other on the test pairs, a value a subject, and rank them over the metrics."""
    input:
        metrics=results.evaluation("metrics.tsv"),
        selected=plan.selected,
    output:
        comparison=report(results.evaluation("comparison.tsv"), category="Tables"),
        ranking=report(results.evaluation("ranking.tsv"), category="Tables"),
    log:
        results.log("compare_methods"),
    benchmark:
        results.benchmark("compare_methods")
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
        metrics=results.evaluation("metrics.tsv"),
        failures=results.evaluation("failures.tsv"),
        selected=plan.selected,
    output:
        report(results.evaluation("flags.tsv"), category="Tables"),
    log:
        results.log("flag_pairs"),
    benchmark:
        results.benchmark("flag_pairs")
    conda:
        "../envs/workflow.yaml"
    resources:
        **needs(memory_mb=1000, minutes=10),
    params:
        settings=config["quality"],
        of_two_modalities=plan.of_two_modalities,
    script:
        "../scripts/flag_pairs.py"


rule select_model:
    """Choose a network's weight λ and epoch on the validation pairs alone."""
    input:
        metrics=results.evaluation("metrics.tsv"),
    output:
        results.selected("{network}"),
    log:
        results.log("select_model/{network}"),
    benchmark:
        results.benchmark("select_model/{network}")
    conda:
        "../envs/workflow.yaml"
    resources:
        **needs(memory_mb=1000, minutes=10),
    params:
        network="{network}",
        settings=plan.selection,
    script:
        "../scripts/select_model.py"


rule search_weight:
    """Search λ over the whole range with the conditional network's last epoch, on the validation pairs alone."""
    input:
        files(learning.to_search_weight),
    output:
        selected=results.evaluation("{network}/selected_weight.json"),
        table=results.evaluation("{network}/weight_search.tsv"),
        pictures=results.drawn("{network}/weight_search"),
    log:
        results.log("search_weight/{network}"),
    benchmark:
        results.benchmark("search_weight/{network}")
    conda:
        "../envs/voxelmorph.yaml"
    resources:
        **needs(memory_mb=6000, minutes=120),
    params:
        users_files(learning.to_search_weight),
        pairs=of(learning.pairs_to_judge_by),
        conditional=of(learning.search_settings),
        selection={
            **plan.selection,
            "bootstrap_samples": config["evaluation"]["bootstrap_samples"],
        },
        seed=config["seed"],
        phantom=plan.phantom,
    script:
        "../scripts/search_weight.py"


# Asked for by its name: the search of every network.
rule select_weight:
    input:
        learning.searched,
    localrule: True
