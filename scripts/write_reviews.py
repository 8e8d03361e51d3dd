"""Write the page of every pair, on which its registrations are judged by eye; the worst pair comes first.

In:  what plot_pair said of each pair's pictures (JSON), flags.tsv, metrics.tsv, each network's choice of λ and epoch.
Out: an HTML file a pair; the pictures are expected in `pictures/{pair}` beside it.
"""

from cohortmorph.evaluation.quality import by_pair
from cohortmorph.evaluation.tables import Evaluation
from cohortmorph.report.pair_page import page
from cohortmorph.run import files, logs


def main(evaluation: Evaluation, descriptions: dict, pages: dict, phantom: bool = False):
    """Write the pages.

    Parameters
    ----------
    evaluation : Evaluation
        With metrics and flags.
    descriptions, pages : dict of pair to str
        Paths of plot_pair's JSON files, and paths to write.
    phantom : bool
        Whether the cohort is the embedded phantom.
    """
    ordered = by_pair(evaluation.flags, list(pages))
    names = ["", *ordered, ""]
    for before, pair, after in zip(names, ordered, names[2:], strict=False):
        html = page(pair, files.read_json(descriptions[pair]), evaluation, before, after, phantom)
        with files.publishing(pages[pair]) as partial:
            partial.write_text(html, encoding="utf-8")
    logs.log.info("%d pages, %d of them with flags", len(pages), sum(len(table) > 0 for table in ordered.values()))


if __name__ == "__main__":
    pairs = snakemake.params.pairs
    with logs.job(snakemake.log[0], packages=["jinja2"]):
        main(
            Evaluation.read(snakemake.input),
            descriptions=dict(zip(pairs, snakemake.input.descriptions, strict=True)),
            pages=dict(zip(pairs, snakemake.output, strict=True)),
            phantom=snakemake.params.phantom,
        )
