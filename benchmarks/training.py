"""VoxelMorph: what a training step costs here and in voxelmorph 0.2's own way, and how soon each is good.

    python benchmarks/training.py steps [--rounds 7] [--threads 2] [--cases 64 2d 96]
    python benchmarks/training.py ncc [--rounds 7] [--threads 2]
    python benchmarks/training.py memory [--threads 2]
    python benchmarks/training.py determinism [--rounds 5] [--threads 2]
    python benchmarks/training.py dice FOLDER [--recipe stock] [--cpu_minutes 10] [--threads 2]

- ``steps`` takes turns in one process (stock, ours, floor, stock, …): stock is VxmDense, NCC 9ᵈ, Grad l2 and
  ``model.fit``; ours is the same network and loss in :class:`cohortmorph.learning.trainer.Trainer`; the floor is the
  network's forward and backward pass alone.
- ``ncc`` is the local NCC alone, value and gradient.
- ``memory`` and ``determinism`` use a process of its own for each measurement.
- ``dice`` trains one recipe on the hippocampi that a run of tests/real/hippocampus.yaml has put on the network's grid
  (FOLDER/results/pairs; ask Snakemake for network_labels.nii.gz of the validation subjects too, which the workflow
  itself does not need), and prints seconds, seconds of CPU and Dice over the validation pairs as it goes on.

Seconds on the clock are disturbed by whatever else runs: the ratios of medians count, and seconds of CPU stand beside.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))

from cohortmorph.evaluation.metrics import dice
from cohortmorph.learning.batch import Batch
from cohortmorph.learning.losses import ncc_voxelmorph
from cohortmorph.learning.networks import tf, warp
from cohortmorph.learning.samples import Image, Samples, pad
from cohortmorph.learning.trainer import Trainer
from cohortmorph.learning.unet import UNet, size_multiple, vxm
from cohortmorph.learning.voxelmorph import VOXELMORPH
from cohortmorph.registration.process import peak_memory_mb
from cohortmorph.spatial import geometry

# (shape, batch size)
CASES = {"64": ((64, 64, 64), 1), "2d": ((256, 256), 8), "96": ((96, 96, 96), 1)}
NETWORKS = {
    "displacement": {"int_steps": 0, "field_downsampling": 1},
    "velocity": {"int_steps": 7, "field_downsampling": 2},
}
SETTINGS = {
    "learning_rate": 1e-4,
    "learning_rate_schedule": "constant",
    "augment": {"deformation": 0, "intensity": 0},
    "similarity": {"name": "ncc-voxelmorph", "window": 9, "mask": "none"},
    "regularization": {"name": "l2", "convention": "mean", "unit": "voxel", "folding_weight": 0},
    "label_weight": 0,
    "label_loss": "dice",
    "incompressible": {"labels": [], "weight": 0},
    "encoder": [16, 32, 32, 32],
    "decoder": [32, 32, 32, 32, 32, 16, 16],
}


def start(threads, deterministic=False):
    """Set the threads, and say what the numbers depend on."""
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    tf.keras.utils.set_random_seed(1)
    if deterministic:
        tf.config.experimental.enable_op_determinism()


def print_conditions(threads):
    """Print versions, threads and load."""
    versions = ", ".join(f"{name} {version(name)}" for name in ("tensorflow-cpu", "voxelmorph", "numpy"))
    load = " ".join(f"{value:.1f}" for value in os.getloadavg())
    print(f"{versions}; {threads} threads of {os.cpu_count()} cores; load {load}", flush=True)


def images(shape, batch, seed=1):
    """Return two batches of smooth images in [0, 1]."""
    rng = np.random.default_rng(seed)
    coarse = rng.random((2, batch, *[n // 8 for n in shape], 1)).astype(np.float32)
    for axis in range(2, 2 + len(shape)):
        coarse = coarse.repeat(8, axis=axis)
    return coarse + 0.01 * rng.random(coarse.shape, dtype=np.float32)


def stock_network(shape, network):
    """Return VxmDense as :class:`UNet` builds it, with its own integration and warp."""
    return vxm.networks.VxmDense(
        shape,
        nb_unet_features=[SETTINGS["encoder"], SETTINGS["decoder"]],
        int_steps=network["int_steps"],
        svf_resolution=network["field_downsampling"],
        int_resolution=network["field_downsampling"],
    )


class Clock(tf.keras.callbacks.Callback):
    """Seconds and CPU seconds of each step of ``model.fit`` but the first, which also starts the data's iterator."""

    def on_epoch_begin(self, epoch, logs=None):
        self.times = []

    def on_train_batch_end(self, batch, logs=None):
        self.times.append((time.perf_counter(), time.process_time()))


def stock(shape, batch, network, weight=1.0):
    """Return a function (steps) → [(seconds, CPU seconds)] that trains in voxelmorph's own way."""
    moving, fixed = images(shape, batch)
    model = stock_network(shape, network)
    penalty = vxm.losses.Grad("l2", loss_mult=network["field_downsampling"]).loss
    model.compile(
        tf.keras.optimizers.Adam(SETTINGS["learning_rate"]),
        loss=[vxm.losses.NCC(win=9).loss, penalty],
        loss_weights=[1.0, weight],
    )
    field_shape = model.outputs[1].shape[1:]
    zeros = np.zeros((batch, *field_shape), np.float32)

    def generate():  # as voxelmorph.generators.scan_to_scan
        while True:
            yield (moving, fixed), (fixed, zeros)

    def signature(shape):
        return tf.TensorSpec((batch, *shape), tf.float32)

    image = signature((*shape, 1))
    data = tf.data.Dataset.from_generator(
        generate, output_signature=((image, image), (image, signature(field_shape)))
    ).prefetch(1)
    clock = Clock()

    def run(steps):
        model.fit(data, epochs=1, steps_per_epoch=steps + 1, callbacks=[clock], verbose=0)
        return [tuple(np.subtract(after, before)) for before, after in zip(clock.times, clock.times[1:], strict=False)]

    return run


def trainer_of(shape, settings):
    """Return the trainer of a plain network."""
    settings = SETTINGS | settings
    return Trainer(UNet(shape, settings), VOXELMORPH.objective(settings, ()), settings)


def ours(shape, batch, network):
    """Return the same for our step, data drawn as in training."""
    moving, fixed = images(shape, batch)
    trainer = trainer_of(shape, network)
    drawn = Batch(fixed, moving, np.ones((batch, len(shape)), np.float32))
    return timed(lambda: trainer.step(drawn, tf.constant(1.0)))


def floor(shape, batch, network):
    """Return the same for forward and backward pass of the network alone."""
    moving, fixed = images(shape, batch)
    model = UNet(shape, SETTINGS | network).model

    @tf.function
    def forward_backward(moving, fixed):
        with tf.GradientTape() as tape:
            field = model([moving, fixed], training=True)
        # Handed out as they are: the sum stands for an optimizer that costs nothing.
        return tf.add_n([tf.reduce_sum(g) for g in tape.gradient(field, model.trainable_variables)])

    moving, fixed = tf.constant(moving), tf.constant(fixed)
    return timed(lambda: forward_backward(moving, fixed).numpy())


def timed(function):
    """Return a function (times) → [(seconds, CPU seconds)] of so many calls."""

    def run(times):
        taken = []
        for _ in range(times):
            before = time.perf_counter(), time.process_time()
            function()
            taken.append((time.perf_counter() - before[0], time.process_time() - before[1]))
        return taken

    return run


WAYS = {"stock": stock, "ours": ours, "floor": floor}


def compare(ways, rounds, each=2):
    """Run functions (times) → [(seconds, CPU seconds)] in turns; print medians and ratios to `ours`."""
    taken = {name: [] for name in ways}
    for run in ways.values():
        run(1)  # compiles
    for _ in range(rounds):
        for name, run in ways.items():
            taken[name] += run(each)
    medians = {name: np.median(values, axis=0) for name, values in taken.items()}
    for name, (seconds, cpu_seconds) in medians.items():
        ratio, cpu_ratio = medians[name] / medians["ours"]
        print(
            f"  {name:8} {1e3 * seconds:8.1f} ms {1e3 * cpu_seconds:8.1f} ms CPU; "
            f"{ratio:.2f} and {cpu_ratio:.2f} × ours"
        )
    load = os.getloadavg()[0]
    print(f"  medians of {rounds * each}, load {load:.1f}", flush=True)


def compare_steps(cases, rounds):
    """Print a training step of each way."""
    for case in cases:
        shape, batch = CASES[case]
        for name, network in NETWORKS.items():
            print(f"{' × '.join(map(str, shape))}, batch {batch}, {name}")
            compare({way: make(shape, batch, network) for way, make in WAYS.items()}, rounds)


def compare_ncc(rounds):
    """Print value and gradient of the local NCC."""

    def value_and_gradient(loss, compiled):
        @tf.function(jit_compile=compiled)
        def function(fixed, moved):
            with tf.GradientTape() as tape:
                tape.watch(moved)
                value = tf.reduce_mean(loss(fixed, moved))
            return value, tape.gradient(value, moved)

        return function

    def run(function, fixed, moved):
        return timed(lambda: function(fixed, moved)[1].numpy())

    for shape, batch in CASES.values():
        # Anew for each case: the stock loss remembers the dimensions that it saw first.
        functions = {
            "stock": value_and_gradient(vxm.losses.NCC(win=9).loss, False),
            "ours": value_and_gradient(lambda fixed, moved: ncc_voxelmorph(fixed, moved, 9), True),
        }
        pair = [tf.constant(image) for image in images(shape, batch)]
        print(f"local NCC 9^{len(shape)}, value and gradient: {' × '.join(map(str, shape))}, batch {batch}")
        compare({name: run(function, *pair) for name, function in functions.items()}, rounds, each=1)


def measure_child(what, **arguments):
    """Run this file in a process of its own and return the JSON of its last line."""
    options = [f"--{name}={value}" for name, value in arguments.items()]
    command = [sys.executable, __file__, what, *options]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return json.loads(said.splitlines()[-1])


def one(way, case, network, threads, deterministic, times):
    """Print, as JSON, the step of one way and the peak memory of this process."""
    start(threads, deterministic)
    before = peak_memory_mb()
    run = WAYS[way](*CASES[case], NETWORKS[network])
    run(1)
    seconds, cpu_seconds = np.median(run(times), axis=0)
    print(json.dumps({"seconds": seconds, "cpu": cpu_seconds, "libraries_mb": before, "peak_mb": peak_memory_mb()}))


def compare_memory(threads):
    """Print peak memory of two steps, and our own estimate."""
    for case, (shape, batch) in CASES.items():
        for network, settings in NETWORKS.items():
            peaks = [
                measure_child("one", way=way, case=case, network=network, threads=threads, times=2)
                for way in ("stock", "ours")
            ]
            estimate = trainer_of(shape, settings).memory_mb(batch)
            print(f"{case}, {network}: ", end="")
            print(
                "; ".join(f"{m['peak_mb']:.0f} MB (libraries {m['libraries_mb']:.0f})" for m in peaks),
                f"stock; ours. Estimate above libraries: {estimate:.0f} MB",
                flush=True,
            )


def compare_determinism(threads, rounds):
    """Print our step with and without deterministic mode, in turns."""
    for case in ("64", "2d"):
        for network in NETWORKS:
            taken = {True: [], False: []}
            for _ in range(rounds):
                for deterministic, values in taken.items():
                    found = measure_child(
                        *["one"],
                        **{"way": "ours", "case": case, "network": network},
                        **{"threads": threads, "deterministic": int(deterministic), "times": 6},
                    )
                    values.append((found["seconds"], found["cpu"]))
            on, off = (np.median(values, axis=0) for values in taken.values())
            print(
                f"{case}, {network}: deterministic {1e3 * on[0]:.0f} ms ({1e3 * on[1]:.0f} ms CPU), "
                f"else {1e3 * off[0]:.0f} ms ({1e3 * off[1]:.0f}); {on[0] / off[0]:.2f} and {on[1] / off[1]:.2f} times",
                flush=True,
            )


# ---- time to a given Dice


def hippocampi(folder):
    """Return {subject: (image, labels)} of the splits train and validation, and validation pairs (fixed, moving)."""
    table = np.loadtxt(
        Path(__file__).parents[1] / "tests/real/hippocampus.tsv", str, delimiter="\t", skiprows=3, usecols=(0, 7)
    )
    found = {}
    for subject, split in table:
        view = Path(folder) / f"results/pairs/{subject}-MR_to_H001-MR"
        files = [view / f"network_{kind}.nii.gz" for kind in ("input", "labels")]
        if all(file.exists() for file in files):
            arrays = [geometry.to_array(geometry.read_image(file)) for file in files]
            found.setdefault(split, {})[subject] = arrays
    watched = list(found["validation"])
    return found["train"], found["validation"], list(zip(watched, watched[1:] + watched[:1], strict=True))


# What is trained until it is good. `stock` is voxelmorph 0.2's train.py at its defaults, with the NCC and λ = 1 of the
# paper (Balakrishnan et al., IEEE TMI 2019); the others change what they name.
FAST = {"int_steps": 5, "field_downsampling": 2, "learning_rate": 1e-3}
SMALL = FAST | {
    "similarity": {"name": "ncc-squared", "window": 5, "mask": "none"},
    "encoder": [16, 32, 32],
    "decoder": [32, 32, 32, 32, 16, 16],
}
RECIPES = {
    "stock": {},
    "stock-fast-rate": {"learning_rate": 1e-3},
    "half": FAST,
    "small": SMALL,
    "small-plain": SMALL | {"int_steps": 0},
    "small-cosine": SMALL | {"cosine": True},
    "small-batch-4": SMALL | {"batch_size": 4},
    "small-labels": SMALL | {"label_weight": 2.0},
}


def stock_training(shape, settings):
    """Return a step (batch) in voxelmorph's own way, and a function (fixed, moving) → displacement."""
    dense = vxm.networks.VxmDense(shape)
    rate = settings.get("learning_rate", 1e-4)
    losses = [vxm.losses.NCC(win=9).loss, vxm.losses.Grad("l2", loss_mult=2).loss]
    dense.compile(tf.keras.optimizers.Adam(rate), loss=losses, loss_weights=[1.0, 1.0])
    zeros = np.zeros((1, *dense.outputs[1].shape[1:]), np.float32)
    displacement = tf.function(tf.keras.Model(dense.inputs, dense.references.pos_flow))
    return (
        # What `model.fit` does at each step, without its iterator.
        lambda batch: dense.train_on_batch([batch.moving, batch.fixed], [batch.fixed, zeros]),
        lambda fixed, moving: displacement([moving, fixed]),
    )


def our_training(shape, settings):
    """Return the same for our training."""
    trainer = trainer_of(shape, settings)
    compiled = tf.function(trainer.network.displacement, jit_compile=True)
    return (
        lambda batch: trainer.step(batch, tf.constant(1.0)),
        lambda fixed, moving: compiled(trainer.network.model([moving, fixed])),
    ), trainer


def time_to_dice(folder, recipe, cpu_minutes, threads, check_seconds=15):
    """Train a recipe, and print the mean Dice of the validation pairs against the seconds it has taken."""
    learned, watched, pairs = hippocampi(folder)
    settings = dict(RECIPES[recipe])
    with_labels = settings.get("label_weight")
    entries = [Image(image, labels=labels if with_labels else None) for image, labels in learned.values()]
    drawn = Samples(entries, 3, size_multiple((SETTINGS | settings)["encoder"]))
    trainer = None
    if recipe.startswith("stock"):
        step, displacement = stock_training(drawn.shape, settings)
    else:
        (step, displacement), trainer = our_training(drawn.shape, settings)
    probe = []
    for fixed, moving in pairs:
        (fixed_image, fixed_labels), (moving_image, moving_labels) = watched[fixed], watched[moving]
        image_pair = [tf.constant(pad(image, drawn.shape)[None, ..., None]) for image in (fixed_image, moving_image)]
        probe.append((*image_pair, *(pad(labels, drawn.shape) for labels in (fixed_labels, moving_labels))))

    def mean_dice():
        values = []
        for fixed, moving, fixed_labels, moving_labels in probe:
            one_hot = (moving_labels[None, ..., None] == [0, 1, 2]).astype(np.float32)
            moved = np.argmax(warp(tf.constant(one_hot), displacement(fixed, moving))[0], axis=-1)
            values.append(np.mean(list(dice(fixed_labels.astype(int), moved).values())))
        return np.mean(values)

    batch_size, rng = settings.get("batch_size", 1), np.random.default_rng(1)
    print(f"{recipe}: {len(drawn)} images, {len(pairs)} validation pairs, Dice before {mean_dice():.4f}", flush=True)
    step(drawn.draw(rng, batch_size))  # compiles
    seconds = cpu_seconds = last = steps = 0
    while cpu_seconds < 60 * cpu_minutes:
        before = time.perf_counter(), time.process_time()
        if settings.get("cosine"):
            done = cpu_seconds / (60 * cpu_minutes)
            trainer.optimizer.learning_rate.assign(settings["learning_rate"] * (1 + np.cos(np.pi * done)) / 2)
        step(drawn.draw(rng, batch_size))
        steps += 1
        seconds += time.perf_counter() - before[0]
        cpu_seconds += time.process_time() - before[1]
        if cpu_seconds - last > check_seconds:
            last = cpu_seconds
            print(f"{recipe}\t{steps}\t{seconds:.1f}\t{cpu_seconds:.1f}\t{mean_dice():.4f}", flush=True)


def main():
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["steps", "ncc", "memory", "determinism", "dice", "one"])
    parser.add_argument("folder", nargs="?")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--recipe", choices=RECIPES, default="stock")
    parser.add_argument("--cpu_minutes", type=float, default=10)
    for name in ("way", "case", "network"):
        parser.add_argument(f"--{name}", help=argparse.SUPPRESS)
    for name in ("deterministic", "times"):
        parser.add_argument(f"--{name}", type=int, default=0, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.what == "one":
        one(chosen.way, chosen.case, chosen.network, chosen.threads, chosen.deterministic, chosen.times)
        return
    print_conditions(chosen.threads)
    if chosen.what in ("steps", "ncc", "dice"):
        start(chosen.threads)
    if chosen.what == "steps":
        compare_steps(chosen.cases, chosen.rounds)
    elif chosen.what == "ncc":
        compare_ncc(chosen.rounds)
    elif chosen.what == "memory":
        compare_memory(chosen.threads)
    elif chosen.what == "determinism":
        compare_determinism(chosen.threads, chosen.rounds)
    else:
        time_to_dice(chosen.folder, chosen.recipe, chosen.cpu_minutes, chosen.threads)


if __name__ == "__main__":
    main()
