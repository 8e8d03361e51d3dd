# The interactive viewer: a page for the browser that reads the images where they lie.


rule write_viewer:
    """Write the viewer of all evaluated pairs (`make view`): its page, and a table of links, windows and landmarks."""
    input:
        metrics="results/evaluation/metrics.tsv",
        failures="results/evaluation/failures.tsv",
        selected=SELECTED,
        fixed=of_evaluated("fixed"),
        moving=of_evaluated("moving"),
        moved=expand("results/pairs/{pair}/{method}/moved.nii.gz", pair=EVALUATED, method=METHODS),
        fixed_landmarks=landmarks_to_view("fixed"),
        moving_landmarks=landmarks_to_view("moving"),
    output:
        directory("results/viewer"),
    log:
        "results/logs/write_viewer.log",
    benchmark:
        "results/benchmarks/write_viewer.tsv"
    # It reads where images lie, and little of them: a machine that gets copies of its inputs would get all of them.
    localrule: not SHARED_FILES
    conda:
        "../envs/workflow.yaml"
    resources:
        **needs(memory_mb=2000, minutes=20),
    params:
        pairs=EVALUATED,
        splits=PAIRS.loc[EVALUATED, "split"].tolist(),
        methods=METHODS,
        fixed_names=of_evaluated("fixed", str),
        moving_names=of_evaluated("moving", str),
        fixed_intensities=of_evaluated("fixed", intensity_of),
        moving_intensities=of_evaluated("moving", intensity_of),
        with_landmarks=WITH_LANDMARKS,
        phantom=PHANTOM,
    script:
        "../scripts/write_viewer.py"
