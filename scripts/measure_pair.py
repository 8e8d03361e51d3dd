"""Measure every method of one pair: landmark error, overlap, surfaces, similarity, regularity, run time.

In: the fixed and moving image, their labels, landmarks and the fixed mask (each "" if there is none), the affine
transform (fixed → moving) and a displacement for each method (mm, LPS, on the fixed image's grid) with its
registration.json beside; where the pair is registered the other way round too, those displacements (mm, LPS, on the
moving image's grid); where the true displacement is known, it (mm, LPS, on the fixed image's grid). Out: a tidy table,
one value a row: pair, split, method, weight, epoch, metric, structure, value, unit (mm, 1, %, s, MB, count, degrees).
A method whose registration failed has the rows of the others, without values; what needs a file that cannot be read has
no rows, and the file one of its own (`unreadable`). docs/metrics.md explains each metric.
"""

import pandas as pd

from cohortmorph.evaluation.pair import PairEvaluation, PairFiles
from cohortmorph.evaluation.tables import table_of
from cohortmorph.run import logs
from cohortmorph.run.files import write_table


def main(
    pair: str,
    split: str,
    files: dict,
    displacements: dict,
    reverse_displacements: dict,
    intensities: list,
    settings: dict,
    output: str,
):
    """Write the table of one pair to `output`.

    `files` are those of :class:`PairFiles`, by name; `displacements` and `reverse_displacements` those of each method,
    by its id; `intensities` say how (fixed, moving) are prepared; `settings` has near_landmarks_mm and
    surface_tolerance_mm.
    """
    evaluation = PairEvaluation(pair, PairFiles.of(files), intensities, settings)
    rows = evaluation.of_methods(displacements, reverse_displacements)
    tables = [table_of(of_method, pair, split, method) for method, of_method in rows.items()]
    write_table(pd.concat(tables, ignore_index=True), output)


if __name__ == "__main__":
    with logs.job(snakemake.log[0], packages=["SimpleITK", "scipy", "surface-distance"]):
        methods, reverse = snakemake.params.methods, snakemake.input.get("reverse_displacements", [])
        main(
            pair=snakemake.params.pair,
            split=snakemake.params.split,
            files=snakemake.input,
            displacements=dict(zip(methods, snakemake.input.displacements, strict=True)),
            reverse_displacements=dict(zip(methods, reverse, strict=True)) if reverse else {},
            intensities=snakemake.params.intensities,
            settings=snakemake.params.settings,
            output=snakemake.output[0],
        )
