"""Write the page of every pair, on which its registrations are judged by eye; the worst pair comes first.

In:  what plot_pair said of each pair's pictures (JSON), flags.tsv, metrics.tsv, the selected model.
Out: an HTML file a pair; the pictures are expected in a folder beside it that has the pair's name.
"""

from cohortmorph import files, logs, quality, report, review
from cohortmorph.metrics import read_table
from cohortmorph.statistics import compared


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
    measured = compared(read_table(metrics), chosen)
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
    with logs.job(snakemake.log[0], packages=["jinja2"]):  # noqa: F821
        main(
            descriptions=list(snakemake.input.descriptions),  # noqa: F821
            flags=snakemake.input.flags,  # noqa: F821
            metrics=snakemake.input.metrics,  # noqa: F821
            selected=snakemake.input.get("selected", ""),  # noqa: F821
            pages=list(snakemake.output),  # noqa: F821
            **snakemake.params,  # noqa: F821
        )
