"""Measure every method of one pair: landmark error, overlap, surfaces, similarity, regularity, run time.

In: the fixed and moving image, their labels, landmarks and the fixed mask (each "" if there is none), the affine
transform (fixed → moving) and a displacement for each method (mm, LPS, on the fixed image's grid) with its
registration.json beside; where the pair is registered the other way round too, those displacements (mm, LPS, on the
moving image's grid); where the true displacement is known, it (mm, LPS, on the fixed image's grid). Out: a tidy table,
one value a row: pair, split, method, weight, epoch, metric, structure, value, unit (mm, 1, %, s, MB, count, degrees).
A method whose registration failed has the rows of the others, without values. docs/metrics.md explains each metric.
"""

from pathlib import Path

import numpy as np
import pandas as pd
import SimpleITK as sitk

from cohortmorph.evaluation import metrics, surfaces
from cohortmorph.run import logs
from cohortmorph.run.files import read_json, write_table
from cohortmorph.spatial import displacement, geometry, intensity, labels, landmarks
from cohortmorph.spatial.geometry import to_array


def main(
    pair: str,
    split: str,
    fixed: str,
    moving: str,
    methods: list,
    displacements: list,
    reverse_displacements: list,
    true_displacement: str,
    affine: str,
    fixed_labels: str,
    moving_labels: str,
    fixed_landmarks: str,
    moving_landmarks: str,
    fixed_mask: str,
    near_landmarks_mm: float,
    surface_tolerance_mm: float,
    fixed_intensity: dict,
    moving_intensity: dict,
    output: str,
):
    """Write the table of one pair to `output`; `methods` names the `displacements`, in their order.

    `reverse_displacements` are empty, or those of the same methods.
    """
    # Similarity is measured on what every method saw: a CT in Hounsfield units is mostly air and bone.
    fixed_image = intensity.prepare_or_blank(geometry.read_image(fixed), fixed_intensity, name=f"{pair}, fixed image")
    moving_image = intensity.prepare_or_blank(
        geometry.read_image(moving), moving_intensity, name=f"{pair}, moving image"
    )
    fixed_values, fixed_grid = to_array(fixed_image), geometry.Grid.of(fixed_image)
    moving_values, moving_grid = to_array(moving_image), geometry.Grid.of(moving_image)
    mask = to_array(labels.read(fixed_mask, fixed_grid)) > 0 if fixed_mask else None
    truth = displacement.read(true_displacement, fixed_grid) if true_displacement else None
    with_labels, with_landmarks = fixed_labels and moving_labels, fixed_landmarks and moving_landmarks
    fixed_map = to_array(labels.read(fixed_labels, fixed_grid)) if fixed_labels else None
    if with_labels:
        moving_map = labels.read(moving_labels, moving_grid)
        structures = _structures(fixed_map, to_array(moving_map))
        fixed_surfaces = surfaces.of_structures(fixed_map, structures, fixed_grid.spacing_mm)
    shared_affine = geometry.read_affine(affine)
    if with_landmarks:
        points = [landmarks.points_lps_mm(table) for table in landmarks.read_pair(fixed_landmarks, moving_landmarks)]
        near = metrics.near_landmarks(*points, shared_affine, near_landmarks_mm)
        rounding_mm = landmarks.tre_of_rounding_mm(*points, fixed_grid, moving_grid)

    def measured(field):
        """Return the rows of one displacement, without what its registration reports."""
        rows = []
        if with_landmarks:
            errors_mm = metrics.landmark_errors_mm(*points, field)
            rows += metrics.target_registration_error(errors_mm, near) + metrics.robustness(*points, errors_mm)
            rows += [("tre_of_rounding", "total", rounding_mm, "mm")] if rounding_mm else []
        if truth is not None:
            rows += metrics.field_error(field, truth, mask)
        if with_labels:
            moved_map = to_array(displacement.warp_labels(moving_map, field))
            rows += metrics.overlap(fixed_map, moved_map, structures)
            compared = surfaces.compare_maps(fixed_surfaces, moved_map, fixed_grid.spacing_mm, surface_tolerance_mm)
            rows += metrics.surface_agreement(compared)
        # NaN marks what the moving image does not cover; moved.nii.gz, which is for looking at, has a background there.
        moved = to_array(displacement.warp(moving_image, field, outside=np.nan))
        rows += metrics.similarity(fixed_values, moved, mask)
        rows += metrics.coverage(fixed_values, moving_values, moved, mask)
        rows += metrics.motion(field, shared_affine)
        determinant = displacement.jacobian_determinant(field)
        rows += metrics.regularity(determinant, mask)
        if fixed_map is not None:
            rows += metrics.volume_changes(determinant, fixed_map)
        return rows + metrics.folded_volume(displacement.non_diffeomorphic_volume(field), mask)

    def consistent(field, reverse_path):
        """Return the rows that compare a displacement with that of the way back."""
        reverse = displacement.read_unless_failed(reverse_path, moving_grid)
        errors_mm = (
            np.full(fixed_grid.size, np.nan) if reverse is None else displacement.inverse_error_mm(field, reverse)
        )
        return metrics.inverse_consistency(errors_mm, mask)

    rows_of, failed = {}, {}
    for number, (method, path) in enumerate(zip(methods, displacements, strict=True)):
        registration = read_json(Path(path).parent / "registration.json")
        field = displacement.read_unless_failed(path, fixed_grid)
        if field is None or "failed" in registration:
            failed[method] = registration
            logs.log.warning("%s: failed, no values: %s", method, registration.get("failed", "it has no displacement"))
            continue
        rows = measured(field)
        if reverse_displacements:
            rows += consistent(field, reverse_displacements[number])
        rows_of[method] = rows + metrics.runtime(registration)
        _say(method, rows)
    # Which rows a pair has can be seen from any displacement, if all its registrations failed.
    examples = list(rows_of.values())
    if failed and not examples:
        still = displacement.sample(sitk.Transform(3, sitk.sitkIdentity), fixed_grid)
        examples = [measured(still) + (consistent(still, reverse_displacements[0]) if reverse_displacements else [])]
    rows_of |= {method: metrics.of_failed(registration, examples) for method, registration in failed.items()}
    tables = [metrics.table_of(rows_of[method], pair, split, method) for method in methods]
    write_table(pd.concat(tables, ignore_index=True), output)


def _structures(fixed_map, moving_map):
    """Return the labels that both maps have, and say which only one has."""
    shared, others = metrics.shared_structures(fixed_map, moving_map)
    if others:
        logs.log.warning(
            "labels in one of the two images only, which cannot be compared: %s", ", ".join(map(str, others))
        )
    if not shared:
        logs.log.warning("the two images share no label, so there is no overlap to measure")
    return shared


def _say(method, rows):
    """Log the figures that a reader of the log looks for."""
    values = {(metric, structure): value for metric, structure, value, _ in rows}
    wanted = {
        "tre_mean": "total",
        "landmarks_outside": "total",
        "dice": "mean",
        "hd95": "mean",
        "ncc_squared": "image",
        "folding": "image",
        "ndv": "image",
    }
    said = [f"{name} {values[name, of]:.4g}" for name, of in wanted.items() if (name, of) in values]
    logs.log.info("%s: %s", method, ", ".join(said))
    if values.get(("landmarks_outside", "total")):
        logs.log.warning(
            "%s: %d landmarks lie outside of the fixed image's grid", method, values["landmarks_outside", "total"]
        )


if __name__ == "__main__":
    with logs.job(snakemake.log[0], packages=["SimpleITK", "scipy", "surface-distance"]):
        main(
            fixed=snakemake.input.fixed,
            moving=snakemake.input.moving,
            displacements=list(snakemake.input.displacements),
            reverse_displacements=list(snakemake.input.get("reverse_displacements", [])),
            true_displacement=snakemake.input.get("true_displacement", ""),
            affine=snakemake.input.affine,
            fixed_labels=snakemake.input.get("fixed_labels", ""),
            moving_labels=snakemake.input.get("moving_labels", ""),
            fixed_landmarks=snakemake.input.get("fixed_landmarks", ""),
            moving_landmarks=snakemake.input.get("moving_landmarks", ""),
            fixed_mask=snakemake.input.get("fixed_mask", ""),
            output=snakemake.output[0],
            **snakemake.params,
        )
