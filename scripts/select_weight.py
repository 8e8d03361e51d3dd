"""Search the regularization weight λ with the conditional network, on validation pairs alone.

In: the conditional network of one epoch; for each validation pair the images, the network's views of them, the affine
transforms frame → fixed and frame → moving, labels, landmarks and mask ("" where there is none). Out: the choice as
selected_weight.json, a tidy table of what was measured at each λ (as metrics.tsv: mm for TRE, 1 for Dice and NCC, % for
folding), and a figure.

No file of a train or test subject is read: see the rule's inputs.
"""

import numpy as np
import pandas as pd

from cohortmorph.evaluation import metrics, statistics
from cohortmorph.figures import network_charts
from cohortmorph.figures.style import save
from cohortmorph.learning import training
from cohortmorph.learning.conditional import ConditionalNetwork, weights_to_try
from cohortmorph.learning.networks import load_weights, size_multiple
from cohortmorph.run import logs
from cohortmorph.run.files import write_json, write_table
from cohortmorph.spatial import displacement, geometry, intensity, labels, landmarks
from cohortmorph.spatial.geometry import to_array


def main(
    network: str,
    pairs: list,
    files: list,
    intensities: list,
    weights: list,
    epoch: list,
    settings: dict,
    selection: dict,
    bootstrap_samples: int,
    seed: int,
    threads: int,
    selected: str,
    table: str,
    pictures: list,
    phantom: bool = False,
):
    """Measure every λ on every pair; `files` and `intensities` are those of the `pairs`, in their order."""
    training.start_tensorflow(seed, threads, with_gradients=True)
    shape = [size_multiple(settings["encoder"])] * settings["dimensions"]  # any: the weights do not depend on it
    conditional = ConditionalNetwork(shape, settings, list(map(float, weights)))
    load_weights(conditional, network)
    tried = weights_to_try(weights)
    registrars, tables = {}, []
    for pair, of_pair, prepared in zip(pairs, files, intensities, strict=True):
        size = geometry.read_grid(of_pair["fixed_input"]).size
        if size not in registrars:
            registrars[size] = training.Registrar(size, settings)
        registrar = registrars[size]
        measure = measurement(pair, of_pair, *prepared, selection["metric"])
        for weight in tried:
            conditional.hand_over(float(weight), registrar.network)
            rows = measure(register(registrar, of_pair))
            tables.append(metrics.table_of(rows, pair, "validation", f"voxelmorph_weight-{weight}_epoch-{epoch[0]}"))
        logs.log.info("%s: %d λ from %s to %s", pair, len(tried), tried[0], tried[-1])
    measured = pd.concat(tables, ignore_index=True)
    found = statistics.search_weight(
        measured, **selection, named=weights, bootstrap_samples=bootstrap_samples, seed=seed
    )
    say(found)
    write_table(measured, table)
    save(network_charts.weight_search(measured, found), *pictures, phantom=phantom)
    write_json(found | {"sha256": training.checksum(network)}, selected)


def register(registrar, files):
    """Return the pair's displacement in mm (LPS) on the fixed image's grid, as register_voxelmorph.py writes it."""
    fixed_input = geometry.read_image(files["fixed_input"])
    images = [to_array(image) for image in (fixed_input, geometry.read_image(files["moving_input"]))]
    to_frame = geometry.read_affine(files["frame_to_fixed"]).GetInverse()
    to_moving = geometry.read_affine(files["frame_to_moving"])
    network_grid, grid = geometry.Grid.of(fixed_input), geometry.read_grid(files["fixed"])
    return displacement.of_network(registrar(*images), network_grid, to_frame, to_moving, grid)


def measurement(pair, files, fixed_intensity, moving_intensity, metric):
    """Return the function field → rows of what the choice rests on, as measure_pair.py measures it."""
    fixed, moving = (
        intensity.prepare_or_blank(geometry.read_image(files[role]), settings, name=f"{pair}, {role} image")
        for role, settings in (("fixed", fixed_intensity), ("moving", moving_intensity))
    )
    grid = geometry.Grid.of(fixed)
    mask = to_array(labels.read(files["fixed_mask"], grid)) > 0 if files["fixed_mask"] else None
    if metric == "dice":
        fixed_map = to_array(labels.read(files["fixed_labels"], grid))
        moving_map = labels.read(files["moving_labels"], geometry.Grid.of(moving))
        structures, _ = metrics.shared_structures(fixed_map, to_array(moving_map))
    if metric == "tre":
        tables = landmarks.read_pair(files["fixed_landmarks"], files["moving_landmarks"])
        points = [landmarks.points_lps_mm(table) for table in tables]

    def measured(field):
        if metric == "dice":
            rows = metrics.overlap(fixed_map, to_array(displacement.warp_labels(moving_map, field)), structures)
        elif metric == "tre":
            errors_mm = metrics.landmark_errors_mm(*points, field)
            rows = metrics.target_registration_error(errors_mm, np.zeros(len(errors_mm), bool))
        else:
            rows = metrics.similarity(to_array(fixed), to_array(displacement.warp(moving, field, np.nan)), mask)
        wanted = statistics.SELECTION[metric][:2]
        rows = [row for row in rows if row[:2] == wanted]
        regularity = metrics.regularity(displacement.jacobian_determinant(field), mask)
        return rows + [row for row in regularity if row[:2] == ("folding", "image")]

    return measured


def say(found):
    """Log the choice, how sure it is, and whether it agrees with the course's λ = 1 and the configuration's weights."""
    logs.log.info("λ = %s (%s %.4g). %s", found["weight"], found["metric"], found["value"], found["reason"])
    if found["as_good"]:
        logs.log.info("not told from it by %d subjects: λ from %s to %s", found["subjects"], *found["as_good"])
    if found["at_the_edge"]:
        logs.log.warning("λ = %s is at the edge of what was tried; a better one may lie beyond.", found["weight"])
    logs.log.info("among voxelmorph.weights: λ = %s", found["named"]["weight"])
    course = found["course"]
    if not course["tried"]:
        logs.log.info("the course's λ = 1 lies outside of the range")
    else:
        words = {True: "agrees", False: "does not agree", None: "cannot be compared on so few subjects"}
        logs.log.info("the course's λ = 1 %s: worse by %.3g", words[course["agrees"]], course["worse_by"])


if __name__ == "__main__":
    with logs.job(snakemake.log[0], packages=["tensorflow-cpu", "voxelmorph", "SimpleITK"]):
        main(
            network=snakemake.input.network[0],
            threads=snakemake.threads,
            selected=snakemake.output.selected,
            table=snakemake.output.table,
            pictures=list(snakemake.output.pictures),
            **snakemake.params,
        )
