"""Train VoxelMorph for one regularization weight λ.

In: the network's views of the training and validation images (see prepare_input.py). Out: history.tsv (one row an
epoch: loss and its parts, unweighted), the weights of each kept epoch (plain arrays, .npz), training.json (how it was
done), and checkpoint.npz, from which a training that was cut short goes on.
"""

from pathlib import Path

import numpy as np

from cohortmorph import UserError
from cohortmorph.learning import augment, checkpoints, conditional, losses, networks, training
from cohortmorph.learning.networks import device, size_multiple
from cohortmorph.run import logs, memory
from cohortmorph.run.files import write_json, write_table
from cohortmorph.spatial import geometry


def main(
    weight: str | list,
    training_inputs: list,
    training_labels: list,
    validation_inputs: list,
    settings: dict,
    seed: int,
    threads: int,
    history: str,
    weights: list,
    report: str,
):
    """Train; `training_inputs` are paths of images of which any two make a pair, or (fixed, moving) paths.

    With a list of `weight`, one conditional network learns all of them (see train_conditional.py).
    `training_labels` are their label maps in the same form, or empty: then labels play no part.
    """
    training.start_tensorflow(seed, threads, with_gradients=True)
    used = device()
    dimensions, multiple = settings["dimensions"], size_multiple(settings["encoder"])
    any_two = isinstance(training_inputs[0], str)
    check_memory(training_inputs + training_labels + validation_inputs)
    learned, left_out = without_empty(training_inputs, read(training_inputs))
    validated, unwatched = without_empty(validation_inputs, read(validation_inputs))
    training_labels = [path for n, path in enumerate(training_labels) if training_inputs[n] not in left_out]
    for entry in left_out + unwatched:
        logs.log.error("left out, as an image has no values (see results/logs/prepare_input): %s", entry)
    if not learned or not validated:
        raise UserError("nothing is left to train on, or to watch the training with: every pair of the split failed.")
    shape = training.largest_shape(learned + validated)
    drawn = training.Samples(
        dimensions,
        multiple,
        **{"images" if any_two else "pairs": learned},
        at_least=shape,
        labels=read(training_labels) or None,
        flips=settings["flips"],
    )
    watched = training.Samples(dimensions, multiple, pairs=validated, at_least=shape)
    logs.log.info(
        "λ = %s on %s with %d threads: %d %s to draw from, %d validation samples, images of %s",
        *(
            weight if isinstance(weight, str) else ", ".join(weight),
            used,
            threads,
            len(drawn),
            "images" if any_two else "samples",
            len(watched),
            drawn.shape,
        ),
    )
    kept = dict(zip(settings["kept_epochs"], weights, strict=True))
    folder = Path(history).parent
    # What decides the result; the library's modules stand for the code.
    code = [Path(module.__file__) for module in (augment, conditional, losses, networks, training)]
    read_files = [
        path for entry in training_inputs + training_labels + validation_inputs for path in np.atleast_1d(entry)
    ]
    decisive = checkpoints.fingerprint(
        [weight, settings, seed, training_inputs, training_labels, validation_inputs], [*code, *read_files]
    )
    value = float(weight) if isinstance(weight, str) else tuple(map(float, weight))
    checkpoint = checkpoints.Checkpoint(folder / "checkpoint.npz", decisive)
    table = training.train(drawn, watched, value, settings, seed, kept, folder / "last-good-weights.npz", checkpoint)
    write_table(table, history)
    facts = {
        "weight": weight,
        "settings": settings,
        "seed": seed,
        "device": used,
        "threads": threads,
        "shape": drawn.shape,
        "samples": len(drawn),
        "left_out": left_out + unwatched,
        "validation_samples": len(watched),
        "label_numbers": drawn.label_numbers.tolist(),
        "seconds": float(table["seconds"].sum()),
        "resumed_after_epoch": checkpoint.first_epoch - 1,
        "sha256": {str(epoch): training.checksum(path) for epoch, path in kept.items()},
    }
    write_json(facts, report)


def check_memory(inputs):
    """Refuse images that do not fit into memory: as they are read, and padded to the largest, once each and stacked."""
    sizes = np.array(
        [geometry.read_grid(str(path)).size for entry in inputs for path in np.atleast_1d(entry)], dtype=float
    )
    values_mb = 4 / 2**20
    memory.check(
        {
            f"{len(sizes)} images": values_mb * sizes.prod(axis=1).sum(),
            "the same padded for the network": 2 * values_mb * len(sizes) * sizes.max(axis=0).prod(),
        },
        "Raise voxelmorph.spacing_mm, use fewer train or validation images, or let the job ask for more memory "
        "(--set-resources train_voxelmorph:htcondor_request_mem_mb=...).",
    )


def without_empty(inputs, arrays):
    """Return the arrays that show something, and the inputs of those that do not (see prepare_input.py)."""
    good = [all(np.ptp(array) > 0 for array in _each(entry)) for entry in arrays]
    kept = [array for array, is_good in zip(arrays, good, strict=True) if is_good]
    return kept, [entry for entry, is_good in zip(inputs, good, strict=True) if not is_good]


def _each(entry):
    return entry if isinstance(entry, tuple) else (entry,)


def read(inputs):
    """Read paths, or tuples of paths, as arrays."""
    return [
        geometry.to_array(geometry.read_image(entry)) if isinstance(entry, str) else tuple(read(entry))
        for entry in inputs
    ]


if __name__ == "__main__":
    with logs.job(snakemake.log[0], packages=["tensorflow-cpu", "voxelmorph"]):
        main(
            weight=snakemake.wildcards.weight,
            threads=snakemake.threads,
            history=snakemake.output.history,
            weights=list(snakemake.output.weights),
            report=snakemake.output.report,
            **snakemake.params,
        )
