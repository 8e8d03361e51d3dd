"""Flag the registrations that somebody should look at.

In:  metrics.tsv and failures.tsv of the whole cohort, each network's choice of λ and epoch (none if no network
     was trained).
Out: flags.tsv, the worst first: subject, pair, method, flag, value, threshold, sentence; value and threshold in the
     unit that the sentence names.
"""

from cohortmorph.evaluation import quality
from cohortmorph.evaluation.tables import Evaluation
from cohortmorph.run import logs
from cohortmorph.run.files import write_table


def main(metrics: str, failures: str, selected: list, settings: dict, of_two_modalities: list, output: str):
    """Write the flags to `output`.

    `settings` are the configuration's ``quality``; `of_two_modalities` the ids of the pairs that are judged by NMI.
    """
    evaluation = Evaluation.read({"metrics": metrics, "failures": failures, "selected": selected})
    flags, pairs = quality.flags(evaluation, settings, of_two_modalities), set(evaluation.metrics.pair)
    write_table(flags, output)
    for sentence in quality.count_in_words(flags, pairs, evaluation):
        logs.log.warning("%s", sentence)
    flagged = set(flags.pair)
    logs.log.info("%d of %d pairs are flagged", len(flagged), len(pairs | flagged))


if __name__ == "__main__":
    with logs.job(snakemake.log[0], packages=["numpy", "pandas"]):
        main(
            metrics=snakemake.input.metrics,
            failures=snakemake.input.failures,
            selected=snakemake.input.get("selected", []),
            output=snakemake.output[0],
            **snakemake.params,
        )
