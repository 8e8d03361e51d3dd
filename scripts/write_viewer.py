"""Write the interactive viewer of all evaluated pairs: a folder for a web server on this machine (`make view`).

In:  metrics.tsv (TRE in mm, folding in %), failures.tsv, each network's choice of λ and epoch; of each pair the fixed
     and moving image, the moved image of each method on the fixed grid, and the landmarks (LPS, mm) where both images
     have some.
Out: a folder with the page, and pairs.json, which links to the images where they lie; none is copied.
"""

from cohortmorph.evaluation.tables import Evaluation
from cohortmorph.report import viewer
from cohortmorph.run import logs


def main(evaluation: Evaluation, pairs: list, output: str, phantom: bool = False):
    """Write the viewer to the folder `output`; `pairs` are as in cohortmorph.report.viewer.described_pair."""
    viewer.write(evaluation, pairs, output, phantom)
    marked = sum(pair["landmarks"] is not None for pair in pairs)
    logs.log.info("%d pairs, %d methods, %d pairs with landmarks", len(pairs), len(evaluation.methods), marked)


if __name__ == "__main__":
    with logs.job(snakemake.log[0], packages=["SimpleITK", "pandas"]):
        main(Evaluation.read(snakemake.input), output=snakemake.output[0], **snakemake.params)
