# The interactive viewer: a page for the browser that reads the images where they lie.


rule write_viewer:
    """Write the viewer of all evaluated pairs (`make view`): its page, and a table of links, windows and landmarks."""
    input:
        files(shown.to_view),
        metrics=results.evaluation("metrics.tsv"),
        failures=results.evaluation("failures.tsv"),
        selected=plan.selected,
    output:
        directory(results.of_cohort("viewer")),
    log:
        results.log("write_viewer"),
    benchmark:
        results.benchmark("write_viewer")
    # It reads where images lie, and little of them: a machine that gets copies of its inputs would get all of them.
    localrule: not SHARED_FILES
    conda:
        "../envs/workflow.yaml"
    resources:
        **needs(memory_mb=2000, minutes=20),
    params:
        users_files(shown.to_view),
        pairs=shown.pairs_to_view,
        phantom=plan.phantom,
    script:
        "../scripts/write_viewer.py"
