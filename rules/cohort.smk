# The cohort table: it is checked whenever the workflow starts. What its files hold is looked at when that is asked for.


rule check_cohort:
    """Open every file of the cohort and list all that is wrong at once; count images, pairs and splits."""
    input:
        table=ancient(config["cohort"]),
        parameters=plan.parameter_files,
    output:
        results.of_cohort("check_cohort.txt"),
    log:
        results.log("check_cohort"),
    benchmark:
        results.benchmark("check_cohort")
    localrule: True
    conda:
        "../envs/imaging.yaml"
    threads: 64  # as many of them as --cores gives, and the machine has
    params:
        summary=of(plan.description),
        data_folder=of(plan.data_folder),
        pairs=[[pair.fixed.id, pair.moving.id] for pair in cohort.pairs.values()],
        settings={key: config[key] for key in ("dicom", "structures")},
        tools=plan.tools,
        fingerprints=of(plan.fingerprints_of_all),
    script:
        "../scripts/check_cohort.py"
