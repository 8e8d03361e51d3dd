"""Write a table of the shape of RegNet's Table 2.1 for the test pairs, and draw residuals and capture range.

In: the displacements (mm, LPS, fixed grid), affine transforms and landmarks of the test pairs, the metrics (for the
mean absolute error of synthetic pairs), the selected model. Out: the table as TSV (mean and sd in mm) and as Markdown
beside the published one, and a figure.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from cohortmorph import UserError
from cohortmorph.cohort.methods import Method
from cohortmorph.evaluation import metrics
from cohortmorph.evaluation.tables import read_metrics
from cohortmorph.experiments import regnet
from cohortmorph.figures import style as figures
from cohortmorph.run import logs
from cohortmorph.run.files import publishing, read_json, write_table
from cohortmorph.spatial import displacement, geometry, landmarks


def main(
    pairs: list,
    methods: list,
    displacements: list,
    affines: list,
    fixed_landmarks: list,
    moving_landmarks: list,
    metrics_table: str,
    selected: str,
    near_landmarks_mm: float,
    synthetic: list,
    same_patient: bool,
    table: str,
    text: str,
    pictures: list,
):
    """Write the table, its text and the pictures; `displacements` run through the methods of each pair in turn."""
    if not len(fixed_landmarks) == len(moving_landmarks) == len(pairs):
        raise UserError(
            "regnet_table needs landmarks in both images of every test pair (cohort table, column landmarks)."
        )
    chosen = read_json(selected) if selected else None
    known = {method: Method.of(method) for method in methods}
    taking_part = {
        method: of
        for method, of in known.items()
        if not of.learned or (of.weight, of.epoch) == (chosen["weight"], chosen["epoch"])
    }
    rows, starts = [], {}
    for n, pair in enumerate(pairs):
        points = [
            landmarks.points_lps_mm(points) for points in landmarks.read_pair(fixed_landmarks[n], moving_landmarks[n])
        ]
        affine = geometry.read_affine(affines[n])
        near = metrics.near_landmarks(*points, affine, near_landmarks_mm)
        aligned = np.array([affine.TransformPoint(tuple(point)) for point in points[0]])
        starts |= {(pair, m): d for m, d in enumerate(np.linalg.norm(aligned - points[1], axis=1))}
        for method, path in zip(methods, displacements[n * len(methods) :], strict=False):
            if method not in taking_part:
                continue
            field = displacement.read_unless_failed(path)
            errors = np.full_like(points[0], np.nan) if field is None else metrics.landmark_errors_mm(*points, field)
            found = pd.DataFrame(errors, columns=["x", "y", "z"])
            rows.append(
                found.assign(
                    pair=pair, method=method, near=near, synthetic=pair in synthetic, landmark=range(len(found))
                )
            )
    errors = pd.concat(rows, ignore_index=True)
    ours = regnet.table(errors, read_metrics(metrics_table), taking_part)
    write_table(pd.concat([ours, regnet.published()]), table)
    with publishing(text) as partial:
        Path(partial).write_text(regnet.as_text(ours, same_patient))
    initial_mm = pd.Series(starts)
    figures.save(regnet.figure(errors, initial_mm), *pictures)
    for row in ours.itertuples():
        logs.log.info(
            "%s, %s, %s: %.2f ± %.2f mm", row.measure, row.data, row.method, row.total_mean_mm, row.total_sd_mm
        )


if __name__ == "__main__":
    with logs.job(snakemake.log[0], packages=["SimpleITK", "matplotlib"]):
        main(
            displacements=list(snakemake.input.displacements),
            affines=list(snakemake.input.affines),
            fixed_landmarks=list(snakemake.input.fixed_landmarks),
            moving_landmarks=list(snakemake.input.moving_landmarks),
            metrics_table=snakemake.input.metrics,
            selected=snakemake.input.get("selected", ""),
            table=snakemake.output.table,
            text=snakemake.output.text,
            pictures=list(snakemake.output.pictures),
            **snakemake.params,
        )
