# The cohort table: it is checked whenever the workflow starts; this only says what is in it.


rule check_cohort:
    """Check table and configuration, and count images, pairs and splits; nothing else is done."""
    output:
        "results/check_cohort.txt",
    log:
        "results/logs/check_cohort.log",
    benchmark:
        "results/benchmarks/check_cohort.tsv"
    localrule: True
    conda:
        "../envs/workflow.yaml"
    params:
        summary=cohort_table.describe(cohort),
    script:
        "../scripts/check_cohort.py"
