"""Write the report of the whole cohort: one HTML file that needs no other file and no network.

In:  the figures, metrics.tsv and summary.tsv (TRE in mm, runtime in s, folding in %), comparison.tsv, ranking.tsv,
     failures.tsv and flags.tsv, the pages of the pairs, the selected model, the registration methods' parameter files,
     and the configuration.
Out: report.html, and provenance.json (versions, commit, seed, configuration without this machine's folders).
"""

import os
from pathlib import Path

from cohortmorph.evaluation.tables import read_metrics
from cohortmorph.figures import style as figures
from cohortmorph.report import page as report
from cohortmorph.report.wording import pairs_in_words
from cohortmorph.run import files, logs


def main(
    metrics: str,
    summary: str,
    comparison: str,
    ranking: str,
    failures: str,
    flags: str,
    selected: str,
    training: str,
    selection: str,
    weights: str,
    methods: str,
    runtime: str,
    structures: str,
    folding: str,
    pair_pictures: list,
    reviews: list,
    pairs: list,
    harmonize_pictures: list,
    subjects: list,
    parameter_files: list,
    config: dict,
    skipped: list,
    seed: int,
    output: str,
    provenance: str,
    commit: str = "",
    phantom: bool = False,
    pictures_max: int = 12,
):
    """Write the report.

    Parameters
    ----------
    metrics, summary, comparison, ranking, failures, flags, selected : str
        Paths of the evaluation's files; `selected` is "" if no network was trained.
    training, selection, weights, methods, runtime, structures, folding : str
        Paths of the figures of plot_training and plot_comparison, PNG or SVG; "" leaves one out.
    pair_pictures, reviews, pairs : list of str
        Paths of pictures and of pages, and ids, in the same order; the report links to the pages.
    harmonize_pictures, subjects : list of str
        Paths and ids, in the same order.
    parameter_files : list of str
        Paths; their texts stand in the report.
    config : dict
    skipped : list of str
        Methods that were left out, as their tool is not installed.
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
    values, statistics = read_metrics(metrics), figures.read_summary(summary)
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
        tests=report.read_tests(comparison),
        ranking=report.read_texts(ranking, ["method"]),
        failures=report.read_failures(failures),
        flags=report.read_flags(flags),
        links={pair: os.path.relpath(page, Path(output).parent) for pair, page in zip(pairs, reviews, strict=True)},
        skipped=skipped,
        curves=captioned(values, "validation", training=training, selection=selection, weights=weights),
        headline=captioned(values, "test", methods=methods)[0] if methods else None,
        comparisons=captioned(values, "test", runtime=runtime, folding=folding, structures=structures),
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
        "Every point is a pair, of {pairs}, in the same order from top to bottom in each row, a cross one on which the "
        "method failed; diamond and bar are mean and 95 % interval of the mean. A logarithmic axis is labelled so.",
    ),
    "runtime": (
        "Accuracy and runtime on test pairs",
        "Means over {pairs}, with 95 % intervals both ways. The dashed line joins the methods than which no other is "
        "both faster and better. Methods without a runtime of their own are left out, and the time of training a "
        "network is not in it.",
    ),
    "folding": (
        "Accuracy and folding on test pairs",
        "Left how well each method does, right the share of the voxels that it turns inside out, which no tissue does; "
        "{pairs}, mean and 95 % interval. An accuracy that was paid with folding is none for dose or for volumes.",
    ),
    "structures": (
        "Structures on test pairs",
        "Each label (without labels: the error along each axis of the patient) on its own, {pairs}: median, quartiles, "
        "and whiskers of up to 1.5 box lengths. A cross: the method failed, and the worst value of the pair counts.",
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
    pairs = pairs_in_words(metrics[metrics.split == split].pair).replace("pair", f"{split} pair", 1)
    return [
        report.Picture(path, CAPTIONS[name][0], CAPTIONS[name][1].format(pairs=pairs))
        for name, path in paths.items()
        if path
    ]


if __name__ == "__main__":
    with logs.job(snakemake.log[0], packages=["jinja2"]):
        main(
            metrics=snakemake.input.metrics,
            summary=snakemake.input.summary,
            comparison=snakemake.input.comparison,
            ranking=snakemake.input.ranking,
            failures=snakemake.input.failures,
            flags=snakemake.input.flags,
            reviews=list(snakemake.input.reviews),
            selected=snakemake.input.get("selected", ""),
            training=snakemake.input.get("training", ""),
            selection=snakemake.input.get("selection", ""),
            weights=snakemake.input.get("weights", ""),
            methods=snakemake.input.methods,
            runtime=snakemake.input.runtime,
            structures=snakemake.input.structures,
            folding=snakemake.input.folding,
            pair_pictures=list(snakemake.input.get("pair_pictures", [])),
            harmonize_pictures=list(snakemake.input.get("harmonize_pictures", [])),
            parameter_files=list(snakemake.input.get("parameter_files", [])),
            output=snakemake.output.report,
            provenance=snakemake.output.provenance,
            **snakemake.params,
        )
