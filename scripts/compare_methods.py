"""Compare the methods on the test pairs, with tests, effect sizes and intervals, and rank them over the metrics.

In: the tidy table of all pairs and each network's choice of λ and epoch (none if no network was trained). Out: a row a
metric, structure, method and reference with the median difference (in the row's unit), its 95 % interval, the effect
size and p; and the ranking in Learn2Reg's manner, a row a method. docs/statistics.md explains both.
"""

from cohortmorph.evaluation.comparison import compare, rank
from cohortmorph.evaluation.statistics import SIGNIFICANCE
from cohortmorph.evaluation.tables import Evaluation
from cohortmorph.run import logs
from cohortmorph.run.files import write_table


def main(metrics: str, selected: list, comparison: str, ranking: str, bootstrap_samples: int, seed: int):
    """Write the table of tests to `comparison` and the ranking to `ranking`."""
    evaluation = Evaluation.read({"metrics": metrics, "selected": selected})
    tests = compare(evaluation, bootstrap_samples, seed)
    write_table(tests, comparison)
    write_table(rank(evaluation), ranking)
    significant = (tests["p_holm"] < SIGNIFICANCE).sum()
    logs.log.info("%d comparisons, %d with a corrected p below %g", len(tests), significant, SIGNIFICANCE)


if __name__ == "__main__":
    with logs.job(snakemake.log[0], packages=["numpy", "pandas", "scipy"]):
        main(
            metrics=snakemake.input.metrics,
            selected=snakemake.input.get("selected", []),
            comparison=snakemake.output.comparison,
            ranking=snakemake.output.ranking,
            **snakemake.params,
        )
