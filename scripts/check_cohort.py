"""Write down what the cohort is, before anything is computed.

In: the plain-text description of the checked cohort (:func:`cohortmorph.cohort.cohort.describe`). The Snakefile checks
the cohort when it loads it, so that a mistake stops the workflow before its first job.
Out: a text file with counts (images, subjects, pairs) by split; the same lines in the log.
"""

from cohortmorph.run import files, logs


def main(summary: str, output: str):
    """Log `summary` and write it to `output`."""
    logs.log.info("The cohort:\n%s", summary)
    with files.publishing(output) as partial:
        partial.write_text(summary, encoding="utf-8")


if __name__ == "__main__":
    with logs.job(snakemake.log[0]):
        main(summary=snakemake.params.summary, output=snakemake.output[0])
