# Figures and the report: one HTML file that needs no network.


rule plot_training:
    """Draw the loss and its parts against the epoch, one line a weight λ."""
    input:
        histories=HISTORIES,
    output:
        report(expand("results/figures/training.{kind}", kind=["png", "svg"]), category="Training"),
    log:
        "results/logs/plot_training.log",
    benchmark:
        "results/benchmarks/plot_training.tsv"
    conda:
        "../envs/workflow.yaml"
    resources:
        **needs(memory_mb=2000, minutes=10),
    params:
        weights=VOXELMORPH["weights"],
        phantom=PHANTOM,
    script:
        "../scripts/plot_training.py"


rule plot_comparison:
    """Draw NCC, TRE (mm) and Dice against epoch and λ on validation pairs, and by method on test pairs."""
    input:
        metrics="results/evaluation/metrics.tsv",
        summary="results/evaluation/summary.tsv",
        selected=SELECTED,
    output:
        selection=report(
            expand("results/figures/selection.{kind}", kind=["png", "svg"]), category="Choice of λ and epoch"
        ),
        weights=report(expand("results/figures/weights.{kind}", kind=["png", "svg"]), category="Choice of λ and epoch"),
        methods=report(expand("results/figures/methods.{kind}", kind=["png", "svg"]), category="Methods"),
        runtime=report(expand("results/figures/runtime.{kind}", kind=["png", "svg"]), category="Methods"),
        structures=report(expand("results/figures/structures.{kind}", kind=["png", "svg"]), category="Methods"),
        folding=report(expand("results/figures/folding.{kind}", kind=["png", "svg"]), category="Methods"),
    log:
        "results/logs/plot_comparison.log",
    benchmark:
        "results/benchmarks/plot_comparison.tsv"
    conda:
        "../envs/workflow.yaml"
    resources:
        **needs(memory_mb=2000, minutes=10),
    params:
        phantom=PHANTOM,
    script:
        "../scripts/plot_comparison.py"


rule plot_pair:
    """Draw a pair before and after each method: an overview, and the pictures of its page; displacements in mm (LPS)."""
    input:
        fixed=of_pair("fixed"),
        moving=of_pair("moving"),
        moved=expand("results/pairs/{{pair}}/{method}/moved.nii.gz", method=METHODS),
        displacements=expand("results/pairs/{{pair}}/{method}/displacement.nii.gz", method=METHODS),
        affine="results/pairs/{pair}/affine.tfm",
        fixed_landmarks=cell_of_pair("fixed", "landmarks"),
        moving_landmarks=cell_of_pair("moving", "landmarks"),
        selected_model=SELECTED,
    output:
        overview=report("results/figures/pairs/{pair}.png", category="Pairs"),
        pictures=directory("results/qc/{pair}"),
        description="results/qc/{pair}.json",
    log:
        "results/logs/plot_pair/{pair}.log",
    benchmark:
        "results/benchmarks/plot_pair/{pair}.tsv"
    conda:
        "../envs/workflow.yaml"
    resources:
        **needs(memory_mb=4000, minutes=20),
    params:
        pair="{pair}",
        methods=METHODS,
        fixed_intensity=of_pair("fixed", intensity_of),
        moving_intensity=of_pair("moving", intensity_of),
        phantom=PHANTOM,
    script:
        "../scripts/plot_pair.py"


rule write_reviews:
    """Write the page of every pair, on which its registrations are judged by eye, the worst first."""
    input:
        descriptions=expand("results/qc/{pair}.json", pair=EVALUATED),
        flags="results/evaluation/flags.tsv",
        metrics="results/evaluation/metrics.tsv",
        selected=SELECTED,
    output:
        expand("results/qc/{pair}.html", pair=EVALUATED),
    log:
        "results/logs/write_reviews.log",
    benchmark:
        "results/benchmarks/write_reviews.tsv"
    conda:
        "../envs/workflow.yaml"
    resources:
        **needs(memory_mb=2000, minutes=10),
    params:
        pairs=EVALUATED,
        phantom=PHANTOM,
    script:
        "../scripts/write_reviews.py"


rule plot_harmonize:
    """Draw how a subject's rotation and slices were found, and its stacks before and after."""
    input:
        images=images_of_subject,
        harmonized="results/harmonized/{subject}",
    output:
        report("results/figures/harmonize/{subject}.png", category="Harmonizing"),
    log:
        "results/logs/plot_harmonize/{subject}.log",
    benchmark:
        "results/benchmarks/plot_harmonize/{subject}.tsv"
    conda:
        "../envs/workflow.yaml"
    resources:
        **needs(memory_mb=3000, minutes=10),
    params:
        subject="{subject}",
        names=image_names,
        intensities=intensities_of_subject,
        phantom=PHANTOM,
    script:
        "../scripts/plot_harmonize.py"


rule write_report:
    """Write the report: what did best, which λ and epoch, how sure, and how it was made."""
    input:
        metrics="results/evaluation/metrics.tsv",
        summary="results/evaluation/summary.tsv",
        comparison="results/evaluation/comparison.tsv",
        ranking="results/evaluation/ranking.tsv",
        failures="results/evaluation/failures.tsv",
        flags="results/evaluation/flags.tsv",
        reviews=expand("results/qc/{pair}.html", pair=EVALUATED),
        selected=SELECTED,
        training="results/figures/training.png" if LEARNED else [],
        selection="results/figures/selection.png" if LEARNED else [],
        weights="results/figures/weights.png" if LEARNED else [],
        methods="results/figures/methods.png",
        runtime="results/figures/runtime.png",
        structures="results/figures/structures.png",
        folding="results/figures/folding.png",
        pair_pictures=expand("results/figures/pairs/{pair}.png", pair=EVALUATED),
        harmonize_pictures=expand(
            "results/figures/harmonize/{subject}.png", subject=cohort.subjects if HARMONIZED else []
        ),
        parameter_files=PARAMETER_FILES,
    output:
        report=report("results/report.html", category="Report"),
        provenance="results/provenance.json",
    log:
        "results/logs/write_report.log",
    benchmark:
        "results/benchmarks/write_report.tsv"
    conda:
        "../envs/workflow.yaml"
    resources:
        **needs(memory_mb=2000, minutes=10),
    params:
        pairs=EVALUATED,
        subjects=cohort.subjects if HARMONIZED else [],
        config=config,
        skipped=SKIPPED,
        seed=config["seed"],
        commit=commit(),
        phantom=PHANTOM,
    script:
        "../scripts/write_report.py"
