"""Write the report of the whole cohort: one HTML file that needs no other file and no network.

In:  the figures, metrics.tsv and summary.tsv (TRE in mm, runtime in s, folding in %), comparison.tsv, ranking.tsv,
     failures.tsv and flags.tsv, the pages of the pairs, each network's choice of λ and epoch and its figures, the
     registration methods' parameter files, and the configuration.
Out: report.html, and provenance.json (versions, commit, seed, configuration without this machine's folders).
"""

import os
from pathlib import Path

from cohortmorph.evaluation.tables import Evaluation
from cohortmorph.report import page
from cohortmorph.report.gallery import Pictures
from cohortmorph.report.provenance import Provenance
from cohortmorph.run import files, logs


def main(
    evaluation: Evaluation,
    pictures: Pictures,
    provenance: Provenance,
    pages: dict,
    output: str,
    provenance_output: str,
    skipped: list,
    phantom: bool = False,
):
    """Write the report to `output` and how it was made to `provenance_output`.

    Parameters
    ----------
    pages : dict of pair to str
        Paths of the pairs' pages, to which the report links.
    skipped : list of str
        Methods that were left out, as their tool is not installed.
    phantom : bool
        Whether the cohort is the embedded phantom.
    """
    links = {pair: os.path.relpath(path, Path(output).parent) for pair, path in pages.items()}
    html = page.render(evaluation, pictures, provenance, links, skipped, phantom)
    files.write_json(provenance.facts, provenance_output)
    with files.publishing(output) as partial:
        partial.write_text(html, encoding="utf-8")
    logs.log.info("%.1f MB, %d pictures of pairs", len(html) / 1e6, len(pictures.pairs))


if __name__ == "__main__":
    given, params = snakemake.input, snakemake.params
    with logs.job(snakemake.log[0], packages=["jinja2"]):
        evaluation = Evaluation.read(given)
        main(
            evaluation,
            Pictures.of(
                evaluation,
                figures=given,
                pairs=dict(zip(params.pairs, given.get("pair_pictures", []), strict=True)),
                subjects=dict(zip(params.subjects, given.get("harmonize_pictures", []), strict=True)),
                networks=params.networks,
            ),
            Provenance.of(params.config, params.seed, params.commit, given.get("parameter_files", [])),
            pages=dict(zip(params.pairs, given.reviews, strict=True)),
            output=snakemake.output.report,
            provenance_output=snakemake.output.provenance,
            skipped=params.skipped,
            phantom=params.phantom,
        )
