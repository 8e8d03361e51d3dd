# The cohort table: it is checked whenever the workflow starts; this only says what is in it.


rule check_cohort:
    """Check table and configuration, and count images, pairs and splits; nothing else is done."""
    output:
        results.of_cohort("check_cohort.txt"),
    log:
        results.log("check_cohort"),
    benchmark:
        results.benchmark("check_cohort")
    localrule: True
    conda:
        "../envs/workflow.yaml"
    params:
        summary=of(plan.description),
    script:
        "../scripts/check_cohort.py"
