"""Write down what the cohort is, and what is wrong with its files, before anything is computed.

In: the plain-text description of the checked cohort (:func:`cohortmorph.cohort.cohort.describe`). The Snakefile checks
table and configuration when it loads them, so that a mistake stops the workflow before its first job; here every file
of the table is opened as well, by the readers of the jobs. DICOM pixels are not decoded.
Out: a text file with counts (images, subjects, pairs) by split, and warnings; the same in the log. Problems end the job
with the list of them all.
"""

import os
import sys

from cohortmorph import UserError
from cohortmorph.cohort import sources
from cohortmorph.inspection import cohort, together
from cohortmorph.run import files, logs


def main(
    summary: str, table: str, data_folder: str, pairs: list, settings: dict, tools: list, output: str, threads: int = 1
):
    """Look at all files of a cohort, and write `summary` and what was found to `output`.

    Parameters
    ----------
    summary : str
    table, data_folder : str
        The cohort table, and where its relative paths start.
    pairs : list of (fixed id, moving id)
    settings : dict
        ``dicom`` and ``structures`` of the configuration.
    tools : list of dict
        See :func:`cohortmorph.inspection.together.wrong_parameters`.
    output : str
        Path of the text file.
    threads : int
        How many files are looked at side by side.
    """
    logs.log.info("The cohort:\n%s", summary)
    images = cohort.given_in(table, data_folder)
    seen = cohort.look_at_all(images, settings["dicom"], settings["structures"], threads, sys.stderr.isatty())
    problems, warnings = cohort.relations(images, seen, pairs)
    problems = [found for one in seen.values() for found in one.problems] + problems
    warnings = [found for one in seen.values() for found in one.warnings] + warnings
    said = [*together.wrong_parameters(tools), *cohort.told(problems, table)]
    warned = cohort.told(warnings, table)
    to_make = len(sources.rows_of(table)) - len(images)
    later = f" ({to_make} more are made by the workflow, and are not there yet)" if to_make else ""
    looked = f"{len(images)} images were looked at{later}"
    if warned:
        warned = [f"{len(warned)} warning{'s' if len(warned) > 1 else ''}:", *warned]
        logs.log.warning("%s", "\n".join(warned))
    if said:
        count = f"{len(said)} problem{'s' if len(said) > 1 else ''} in the files of the cohort; nothing was computed."
        advice = "Correct them, or leave out what cannot be: empty the cell, or write # before the row of an image."
        raise UserError("\n".join([count, *said, advice]))
    logs.log.info("%s; no problem was found.", looked)
    with files.publishing(output) as partial:
        partial.write_text("\n".join([summary, f"{looked}; no problem was found.", *warned]) + "\n", encoding="utf-8")


if __name__ == "__main__":
    with logs.job(snakemake.log[0], packages=["pydicom", "SimpleITK"]):
        main(
            summary=snakemake.params.summary,
            table=snakemake.input.table,
            data_folder=snakemake.params.data_folder,
            pairs=snakemake.params.pairs,
            settings=snakemake.params.settings,
            tools=snakemake.params.tools,
            output=snakemake.output[0],
            threads=min(snakemake.threads, len(os.sched_getaffinity(0))),
        )
