"""Write the report of the whole cohort: one HTML file that needs no other file and no network.

In:  the figures, metrics.tsv and summary.tsv (TRE in mm, runtime in s, folding in %), the selected model, the
     registration methods' parameter files, and the configuration.
Out: report.html, and provenance.json (versions, commit, seed, configuration without this machine's folders).
"""

from pathlib import Path

from cohortmorph import figures, files, logs, report
from cohortmorph.metrics import read_table


def main(
    metrics: str,
    summary: str,
    selected: str,
    training: str,
    selection: str,
    weights: str,
    methods: str,
    runtime: str,
    pair_pictures: list,
    pairs: list,
    harmonize_pictures: list,
    subjects: list,
    parameter_files: list,
    config: dict,
    seed: int,
    output: str,
    provenance: str,
    commit: str = "",
    phantom: bool = False,
    pictures_max: int = 24,
):
    """Write the report.

    Parameters
    ----------
    metrics, summary, selected : str
        Paths of the evaluation's files; `selected` is "" if no network was trained.
    training, selection, weights, methods, runtime : str
        Paths of the figures of plot_training and plot_comparison, PNG or SVG; "" leaves one out.
    pair_pictures, pairs : list of str
        Paths and ids, in the same order.
    harmonize_pictures, subjects : list of str
        Paths and ids, in the same order.
    parameter_files : list of str
        Paths; their texts stand in the report.
    config : dict
    seed : int
    output, provenance : str
        Paths to write, HTML and JSON.
    commit : str
        The workflow's git commit, if it is known.
    phantom : bool
        Whether the cohort is the embedded phantom.
    pictures_max : int
        So many pictures of pairs, and of subjects, are in the report.
    """
    values, statistics = read_table(metrics), figures.read_summary(summary)
    chosen = files.read_json(selected) if selected else None
    made = report.provenance(config, seed, commit, parameter_files)
    of_pairs, left_out = report.pair_pictures(
        dict(zip(pairs, pair_pictures, strict=True)), values, chosen, most=pictures_max
    )
    harmonized = list(zip(subjects, harmonize_pictures, strict=True))[:pictures_max]
    html = report.render(
        values,
        statistics,
        chosen,
        curves=captioned(values, "validation", training=training, selection=selection, weights=weights),
        comparisons=captioned(values, "test", methods=methods, runtime=runtime),
        pairs=of_pairs,
        harmonized=[report.Picture(path, subject, CAPTIONS["harmonize"][1]) for subject, path in harmonized],
        provenance=made,
        parameter_texts={Path(path).name: Path(path).read_text() for path in parameter_files},
        left_out=left_out,
        phantom=phantom,
    )
    files.write_json(made, provenance)
    with files.publishing(output) as partial:
        partial.write_text(html, encoding="utf-8")
    logs.log.info("%.1f MB, %d pictures of pairs", len(html) / 1e6, len(of_pairs))


CAPTIONS = {
    "training": (
        "Training",
        "Loss of each training and its two parts against the epoch, one line a λ; dashed with markers: on validation "
        "data, "
        "where it was computed. The first epochs are wild by nature.",
    ),
    "selection": (
        "λ and epoch on validation pairs",
        "Mean over {pairs} against the epoch, one line a λ; bars are 95 % intervals of the mean. The circle marks the "
        "selected λ and epoch.",
    ),
    "weights": (
        "λ at the last epoch, on validation pairs",
        "A stronger regularization (higher λ) gives smoother displacements and usually a lower NCC. Grey lines are the "
        "{pairs}; markers and bars are mean and 95 % interval.",
    ),
    "methods": (
        "Methods on test pairs",
        "Every point is a pair, of {pairs}, in the same order from top to bottom in each row; diamond and bar are "
        "mean and "
        "95 % interval of the mean. A logarithmic axis is labelled so.",
    ),
    "runtime": (
        "Runtime and accuracy on test pairs",
        "Means over {pairs}, with 95 % intervals both ways. Methods without a runtime of their own are left out. The "
        "time "
        "of training a network is not in it.",
    ),
    "harmonize": (
        "Harmonized stacks",
        "Above: squared NCC by rotation angle (the best over all starts) and by start slice, with what was chosen. "
        "Below: "
        "contours of each image on the fixed one, before (the middles of both on each other, not rotated) and after.",
    ),
}


def captioned(metrics, split, **paths):
    """Return the pictures that exist, with their captions, which say on how many pairs they rest."""
    pairs = report.pairs_in_words(metrics[metrics.split == split].pair).replace("pair", f"{split} pair", 1)
    return [
        report.Picture(path, CAPTIONS[name][0], CAPTIONS[name][1].format(pairs=pairs))
        for name, path in paths.items()
        if path
    ]


if __name__ == "__main__":
    with logs.job(snakemake.log[0], packages=["jinja2"]):  # noqa: F821
        main(
            metrics=snakemake.input.metrics,  # noqa: F821
            summary=snakemake.input.summary,  # noqa: F821
            selected=snakemake.input.get("selected", ""),  # noqa: F821
            training=snakemake.input.get("training", ""),  # noqa: F821
            selection=snakemake.input.get("selection", ""),  # noqa: F821
            weights=snakemake.input.get("weights", ""),  # noqa: F821
            methods=snakemake.input.methods,  # noqa: F821
            runtime=snakemake.input.runtime,  # noqa: F821
            pair_pictures=list(snakemake.input.get("pair_pictures", [])),  # noqa: F821
            harmonize_pictures=list(snakemake.input.get("harmonize_pictures", [])),  # noqa: F821
            parameter_files=list(snakemake.input.get("parameter_files", [])),  # noqa: F821
            output=snakemake.output.report,  # noqa: F821
            provenance=snakemake.output.provenance,  # noqa: F821
            **snakemake.params,  # noqa: F821
        )
