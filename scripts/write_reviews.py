"""Write the page of every pair, on which its registrations are judged by eye; the worst pair comes first.

In:  what plot_pair said of each pair's pictures (JSON), flags.tsv, metrics.tsv, the selected model.
Out: an HTML file a pair; the pictures are expected in a folder beside it that has the pair's name.
"""

from cohortmorph.evaluation import quality
from cohortmorph.evaluation.tables import compared, read_metrics
from cohortmorph.report import page as report
from cohortmorph.report import pair_page as review
from cohortmorph.run import files, logs


def main(
    pairs: list,
    descriptions: list,
    flags: str,
    metrics: str,
    selected: str,
    pages: list,
    phantom: bool = False,
):
    """Write the pages.

    Parameters
    ----------
    pairs, descriptions, pages : list of str
        Ids, paths of plot_pair's JSON files and paths to write, in the same order.
    flags, metrics, selected : str
        Paths; `selected` is "" if no network was trained.
    phantom : bool
        Whether the cohort is the embedded phantom.
    """
    chosen = files.read_json(selected) if selected else None
    raised = report.read_flags(flags)
    measured = compared(read_metrics(metrics), chosen)
    described, paths = (dict(zip(pairs, values, strict=True)) for values in (descriptions, pages))
    ordered = quality.by_pair(raised, pairs)
    names = ["", *ordered, ""]
    for before, pair, after in zip(names, ordered, names[2:], strict=False):
        html = review.page(
            pair,
            files.read_json(described[pair]),
            ordered[pair],
            measured[measured.pair == pair],
            chosen,
            before,
            after,
            phantom,
        )
        with files.publishing(paths[pair]) as partial:
            partial.write_text(html, encoding="utf-8")
    logs.log.info("%d pages, %d of them with flags", len(pairs), sum(len(table) > 0 for table in ordered.values()))


if __name__ == "__main__":
    with logs.job(snakemake.log[0], packages=["jinja2"]):
        main(
            descriptions=list(snakemake.input.descriptions),
            flags=snakemake.input.flags,
            metrics=snakemake.input.metrics,
            selected=snakemake.input.get("selected", ""),
            pages=list(snakemake.output),
            **snakemake.params,
        )
