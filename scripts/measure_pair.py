"""Measure every method of one pair: landmark error, overlap, similarity, regularity, runtime.

In: the fixed and moving image, their labels, landmarks and the fixed mask (each "" if there is none), the affine
transform (fixed → moving) and a displacement for each method (mm, LPS, on the fixed image's grid) with its
registration.json beside. Out: a tidy table, one value a row: pair, split, method, weight, epoch, metric, structure,
value, unit (mm, 1, %, s, count).
"""

from pathlib import Path

import numpy as np
import pandas as pd

from cohortmorph import displacement, geometry, intensity, labels, landmarks, logs, metrics
from cohortmorph.files import read_json, write_table
from cohortmorph.geometry import to_array


def main(
    pair: str,
    split: str,
    fixed: str,
    moving: str,
    methods: list,
    displacements: list,
    affine: str,
    fixed_labels: str,
    moving_labels: str,
    fixed_landmarks: str,
    moving_landmarks: str,
    fixed_mask: str,
    near_landmarks_mm: float,
    fixed_intensity: dict,
    moving_intensity: dict,
    output: str,
):
    """Write the table of one pair to `output`; `methods` names the `displacements`, in their order."""
    # Similarity is measured on what every method saw: a CT in Hounsfield units is mostly air and bone.
    fixed_image = intensity.prepare(geometry.read_image(fixed), fixed_intensity, name=f"{pair}, fixed image")
    moving_image = intensity.prepare(geometry.read_image(moving), moving_intensity, name=f"{pair}, moving image")
    fixed_values, fixed_grid = to_array(fixed_image), geometry.Grid.of(fixed_image)
    mask = to_array(labels.read(fixed_mask, fixed_grid)) > 0 if fixed_mask else None
    with_labels, with_landmarks = fixed_labels and moving_labels, fixed_landmarks and moving_landmarks
    if with_labels:
        fixed_map = labels.read(fixed_labels, fixed_grid)
        moving_map = labels.read(moving_labels, geometry.Grid.of(moving_image))
    if with_landmarks:
        points = [landmarks.points_lps_mm(table) for table in landmarks.read_pair(fixed_landmarks, moving_landmarks)]
        near = metrics.near_landmarks(*points, geometry.read_affine(affine), near_landmarks_mm)
    tables = []
    for method, path in zip(methods, displacements, strict=True):
        field = displacement.read(path, fixed_grid)
        rows = []
        if with_landmarks:
            rows += metrics.target_registration_error(metrics.landmark_errors_mm(*points, field), near)
        if with_labels:
            rows += metrics.dice(to_array(fixed_map), to_array(displacement.warp_labels(moving_map, field)))
        # NaN marks what the moving image does not cover; moved.nii.gz, which is for looking at, has a background there.
        moved = to_array(displacement.warp(moving_image, field, outside=np.nan))
        rows += metrics.similarity(fixed_values, moved, mask)
        rows += metrics.regularity(displacement.jacobian_determinant(field), mask)
        rows += metrics.runtime(read_json(Path(path).parent / "registration.json"))
        tables.append(metrics.table_of(rows, pair, split, method))
        _say(method, rows)
    write_table(pd.concat(tables, ignore_index=True), output)


def _say(method, rows):
    """Log the figures that a reader of the log looks for."""
    values = {(metric, structure): value for metric, structure, value, _ in rows}
    wanted = {
        "tre_mean": "total",
        "landmarks_outside": "total",
        "dice": "mean",
        "ncc_squared": "image",
        "folding": "image",
    }
    said = [f"{name} {values[name, of]:.4g}" for name, of in wanted.items() if (name, of) in values]
    logs.log.info("%s: %s", method, ", ".join(said))
    if values.get(("landmarks_outside", "total")):
        logs.log.warning(
            "%s: %d landmarks lie outside of the fixed image's grid", method, values["landmarks_outside", "total"]
        )


if __name__ == "__main__":
    with logs.job(snakemake.log[0], packages=["SimpleITK", "scipy"]):  # noqa: F821
        main(
            fixed=snakemake.input.fixed,  # noqa: F821
            moving=snakemake.input.moving,  # noqa: F821
            displacements=list(snakemake.input.displacements),  # noqa: F821
            affine=snakemake.input.affine,  # noqa: F821
            fixed_labels=snakemake.input.get("fixed_labels", ""),  # noqa: F821
            moving_labels=snakemake.input.get("moving_labels", ""),  # noqa: F821
            fixed_landmarks=snakemake.input.get("fixed_landmarks", ""),  # noqa: F821
            moving_landmarks=snakemake.input.get("moving_landmarks", ""),  # noqa: F821
            fixed_mask=snakemake.input.get("fixed_mask", ""),  # noqa: F821
            output=snakemake.output[0],  # noqa: F821
            **snakemake.params,  # noqa: F821
        )
