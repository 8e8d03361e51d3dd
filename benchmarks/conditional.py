"""One network for every λ: what it costs, and how near it comes to networks trained for one λ each.

    python benchmarks/conditional.py cost [--rounds 15]
    python benchmarks/conditional.py accuracy RESULTS [--dimensions 2] [--steps 300]

`cost`: a step of training, interleaved with the plain network's, and parameters. 2-D: batch 16 of 128², as the
phantom's demo; 3-D: batch 1 and 2 of 48 × 64 × 48.
`accuracy`: RESULTS/pairs/*/network_input_*.nii.gz of a design between-subjects; the first images in alphabetical order
are trained on, any two a pair, each of the next is registered to the one after it. As many steps for the conditional
network as for each of the others.

One thread; network and loss of config/config.yaml. Seconds are the process's own (CPU), which a busy machine disturbs
less than those on the wall.
"""

import argparse
import os
import sys
import time
from pathlib import Path

import numpy as np
import yaml

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "scripts"))

from cohortmorph.learning.batch import Batch  # noqa: E402
from cohortmorph.learning.networks import start_tensorflow, tf  # noqa: E402
from cohortmorph.learning.objective import Parts  # noqa: E402
from cohortmorph.learning.samples import Samples, largest_shape  # noqa: E402
from cohortmorph.learning.task import read  # noqa: E402
from cohortmorph.learning.trainer import Trainer  # noqa: E402
from cohortmorph.learning.voxelmorph import VOXELMORPH  # noqa: E402

WEIGHTS = (1.0, 2.0, 3.0, 4.0)
CASES = [((128, 128), 16), ((48, 64, 48), 1), ((48, 64, 48), 2)]


def trainer_of(shape, settings, weights):
    """Return the trainer of a new network that learns these λ."""
    return Trainer(VOXELMORPH.network_for(shape, settings, weights), VOXELMORPH.objective(settings, ()), settings)


def cost(settings, rounds):
    """Print the median CPU seconds of a step of both networks, and the median ratio of neighbouring steps."""
    for (shape, batch), downsampling in [(case, downsampling) for case in CASES for downsampling in (2, 1)]:
        settings = settings | {"dimensions": len(shape), "field_downsampling": downsampling}
        trainers = [trainer_of(shape, settings, weights) for weights in ([1.0], WEIGHTS)]
        rng = np.random.default_rng(1)
        images = Batch(
            *(tf.constant(rng.random((batch, *shape, 1), dtype=np.float32)) for _ in range(2)),
            spacing_mm=np.ones((batch, len(shape)), np.float32),
        )
        drawn = [
            trainer.network.draw_weights(rng, weights, batch)
            for trainer, weights in zip(trainers, ([1.0], WEIGHTS), strict=True)
        ]
        for trainer, weights in zip(trainers, drawn, strict=True):
            trainer.step(images, weights)  # compiles
        seconds = np.zeros((rounds, 2))
        for number in range(rounds):
            for which in (0, 1) if number % 2 else (1, 0):
                started = time.process_time()
                trainers[which].step(images, drawn[which])
                seconds[number, which] = time.process_time() - started
        counts = [sum(int(np.prod(each.shape)) for each in trainer.network.parameters) for trainer in trainers]
        one, other = 1000 * np.median(seconds, axis=0)
        print(
            f"{'×'.join(map(str, shape))}, batch {batch}, field 1/{downsampling}: {counts[0]:,} and {counts[1]:,} "
            f"parameters; {one:.0f} and {other:.0f} ms a step, {np.median(seconds[:, 1] / seconds[:, 0]):.2f}×; "
            f"load {os.getloadavg()[0]:.1f}",
            flush=True,
        )


def accuracy(settings, results, dimensions, steps, trained=64, watched=16):
    """Print similarity and penalty on validation samples at each λ, of the conditional network and of one for each."""
    settings = settings | {"dimensions": dimensions}
    paths = sorted(Path(results).glob("pairs/*/network_input_*.nii.gz"))[: trained + watched]
    images = read(list(map(str, paths)))
    pairs = list(zip(images[trained:], [*images[trained + 1 :], images[trained]], strict=True))
    multiple, shape = 2 ** len(settings["encoder"]), largest_shape(images)
    drawn = Samples(images[:trained], dimensions, multiple, shape, flips=settings["flips"])
    probe = Samples(pairs, dimensions, multiple, shape).probe(160, settings["batch_size"])
    print(f"{len(paths)} images, {drawn.shape}, {steps} steps of {settings['batch_size']}", flush=True)
    for weights in (WEIGHTS, [1.0], [4.0], [2.0], [3.0]):
        tf.keras.utils.set_random_seed(1)
        trainer = trainer_of(drawn.shape, settings, weights)
        started = time.process_time()
        for epoch in range(1, steps + 1):
            rng = np.random.default_rng([1, epoch])
            batch = drawn.draw(rng, settings["batch_size"])
            trainer.step(batch, trainer.network.draw_weights(rng, weights, settings["batch_size"]))
        seconds = time.process_time() - started
        for at in weights:
            parts = [trainer.evaluate(batch, trainer.network.weights_of(at, batch.number)) for batch in probe]
            found = Parts(*np.average(parts, axis=0, weights=[batch.number for batch in probe]))
            print(
                f"{'one network' if len(weights) > 1 else 'its own'}, λ = {at:g}: squared NCC {-found.similarity:.4f}, "
                f"penalty {found.penalty:.4g}, loss {found.loss:.4f}; training {seconds:.0f} s",
                flush=True,
            )


def main():
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["cost", "accuracy"])
    parser.add_argument("results", nargs="?")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--dimensions", type=int, choices=[2, 3], default=2)
    parser.add_argument("--steps", type=int, default=300)
    chosen = parser.parse_args()
    start_tensorflow(seed=1, threads=1)
    settings = yaml.safe_load((ROOT / "config" / "config.yaml").read_text())["networks"]["voxelmorph"]
    print(f"TensorFlow {tf.__version__}, one thread, load {os.getloadavg()[0]:.1f}", flush=True)
    if chosen.what == "cost":
        cost(settings, chosen.rounds)
    else:
        accuracy(settings, chosen.results, chosen.dimensions, chosen.steps)


if __name__ == "__main__":
    main()
