"""Write a table of the shape of RegNet's Table 2.1 for the test pairs, and draw residuals and capture range.

In: the displacements (mm, LPS, fixed grid), affine transforms and landmarks of the test pairs, the metrics (for the
mean absolute error of synthetic pairs), each network's choice of λ and epoch. Out: the table as TSV (mean and sd in mm)
and as Markdown beside the published one, and a figure.
"""

import pandas as pd

from cohortmorph.evaluation.tables import Evaluation
from cohortmorph.experiments import regnet
from cohortmorph.figures.style import save
from cohortmorph.run import logs
from cohortmorph.run.files import publishing, write_table


def main(
    evaluation: Evaluation,
    pairs: list,
    methods: list,
    near_landmarks_mm: float,
    same_patient: bool,
    table: str,
    text: str,
    pictures: list,
):
    """Write the table, its text and the pictures.

    Parameters
    ----------
    evaluation : Evaluation
        With metrics.
    pairs : list of dict
        See cohortmorph.experiments.regnet.landmark_errors.
    methods : list of str
        Ids of all methods, in the configuration's order.
    near_landmarks_mm : float
        Landmarks that are nearer after the affine alignment are those of TRE′.
    same_patient : bool
        Whether the networks were trained on a test patient.
    """
    known = regnet.methods_taking_part(methods, evaluation.selected)
    errors = regnet.landmark_errors(pairs, known, near_landmarks_mm)
    ours = regnet.table(errors, evaluation.metrics, known)
    write_table(pd.concat([ours, regnet.published()]), table)
    with publishing(text) as partial:
        partial.write_text(regnet.as_text(ours, same_patient))
    save(regnet.figure(errors, known), *pictures)
    for row in ours.itertuples():
        logs.log.info(
            "%s, %s, %s: %.2f ± %.2f mm", row.measure, row.data, row.method, row.total_mean_mm, row.total_sd_mm
        )


if __name__ == "__main__":
    with logs.job(snakemake.log[0], packages=["SimpleITK", "matplotlib"]):
        main(
            Evaluation.read(snakemake.input),
            table=snakemake.output.table,
            text=snakemake.output.text,
            pictures=list(snakemake.output.pictures),
            **snakemake.params,
        )
