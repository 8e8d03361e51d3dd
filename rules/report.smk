# Figures and the report: one HTML file that needs no network.


rule plot_comparison:
    """Draw NCC, TRE (mm), Dice, folding and run time by method on test pairs."""
    input:
        metrics=results.evaluation("metrics.tsv"),
        summary=results.evaluation("summary.tsv"),
        selected=plan.selected,
    output:
        methods=report(results.drawn("methods"), category="Methods"),
        runtime=report(results.drawn("runtime"), category="Methods"),
        structures=report(results.drawn("structures"), category="Methods"),
        folding=report(results.drawn("folding"), category="Methods"),
    log:
        results.log("plot_comparison"),
    benchmark:
        results.benchmark("plot_comparison")
    conda:
        "../envs/workflow.yaml"
    resources:
        **needs(memory_mb=2000, minutes=10),
    params:
        phantom=plan.phantom,
    script:
        "../scripts/plot_comparison.py"


rule plot_pair:
    """Draw a pair before and after each method: an overview, and the pictures of its page; displacements in mm (LPS)."""
    input:
        files(shown.to_draw),
    output:
        overview=report(results.figure("pairs/{pair}.png"), category="Pairs"),
        pictures=directory(results.review("pictures/{pair}")),
        description=results.review("{pair}.json"),
    log:
        results.log("plot_pair/{pair}"),
    benchmark:
        results.benchmark("plot_pair/{pair}")
    conda:
        "../envs/workflow.yaml"
    resources:
        **needs(memory_mb=4000, minutes=20),
    params:
        users_files(shown.to_draw),
        pair="{pair}",
        methods=plan.methods,
        intensities=of(plan.intensities),
        phantom=plan.phantom,
    script:
        "../scripts/plot_pair.py"


rule write_reviews:
    """Write the page of every pair, on which its registrations are judged by eye, the worst first."""
    input:
        descriptions=[results.review(f"{pair}.json") for pair in plan.evaluated],
        flags=results.evaluation("flags.tsv"),
        metrics=results.evaluation("metrics.tsv"),
        selected=plan.selected,
    output:
        [results.review(f"{pair}.html") for pair in plan.evaluated],
    log:
        results.log("write_reviews"),
    benchmark:
        results.benchmark("write_reviews")
    conda:
        "../envs/workflow.yaml"
    resources:
        **needs(memory_mb=2000, minutes=10),
    params:
        pairs=plan.evaluated,
        phantom=plan.phantom,
    script:
        "../scripts/write_reviews.py"


rule plot_harmonize:
    """Draw how a subject's rotation and slices were found, and its stacks before and after."""
    input:
        files(plan.to_harmonize),
        harmonized=results.harmonized("{subject}"),
    output:
        report(results.figure("harmonize/{subject}.png"), category="Harmonizing"),
    log:
        results.log("plot_harmonize/{subject}"),
    benchmark:
        results.benchmark("plot_harmonize/{subject}")
    conda:
        "../envs/workflow.yaml"
    resources:
        **needs(memory_mb=3000, minutes=10),
    params:
        subject="{subject}",
        names=of(plan.names),
        intensities=of(plan.intensities_of_subject),
        phantom=plan.phantom,
    script:
        "../scripts/plot_harmonize.py"


rule write_report:
    """Write the report: what did best, which λ and epoch, how sure, and how it was made."""
    input:
        files(shown.to_report),
        metrics=results.evaluation("metrics.tsv"),
        summary=results.evaluation("summary.tsv"),
        comparison=results.evaluation("comparison.tsv"),
        ranking=results.evaluation("ranking.tsv"),
        failures=results.evaluation("failures.tsv"),
        flags=results.evaluation("flags.tsv"),
        selected=plan.selected,
    output:
        report=report(results.of_cohort("report.html"), category="Report"),
        provenance=results.of_cohort("provenance.json"),
    log:
        results.log("write_report"),
    benchmark:
        results.benchmark("write_report")
    conda:
        "../envs/workflow.yaml"
    resources:
        **needs(memory_mb=2000, minutes=10),
    params:
        users_files(shown.to_report),
        pairs=plan.evaluated,
        subjects=shown.harmonized_subjects,
        networks=list(plan.networks),
        config=config,
        skipped=list(plan.skipped),
        seed=config["seed"],
        commit=of(partial(provenance.commit, workflow.basedir)),
        phantom=plan.phantom,
    script:
        "../scripts/write_report.py"


rule plot_training:
    """Draw a network's loss and its parts against the epoch, one line a weight λ."""
    input:
        files(learning.histories),
    output:
        report(results.drawn("{network}/training"), category="Training"),
    log:
        results.log("plot_training/{network}"),
    benchmark:
        results.benchmark("plot_training/{network}")
    conda:
        "../envs/workflow.yaml"
    resources:
        **needs(memory_mb=2000, minutes=10),
    params:
        network="{network}",
        weights=of(learning.weights),
        phantom=plan.phantom,
    script:
        "../scripts/plot_training.py"


rule plot_selection:
    """Draw a network's NCC, TRE (mm), Dice and folding on validation pairs against epoch and λ."""
    input:
        metrics=results.evaluation("metrics.tsv"),
        summary=results.evaluation("summary.tsv"),
        selected=results.selected("{network}"),
    output:
        selection=report(results.drawn("{network}/selection"), category="Choice of λ and epoch"),
        weights=report(results.drawn("{network}/weights"), category="Choice of λ and epoch"),
    log:
        results.log("plot_selection/{network}"),
    benchmark:
        results.benchmark("plot_selection/{network}")
    conda:
        "../envs/workflow.yaml"
    resources:
        **needs(memory_mb=2000, minutes=10),
    params:
        network="{network}",
        phantom=plan.phantom,
    script:
        "../scripts/plot_selection.py"
