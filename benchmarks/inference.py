"""VoxelMorph applied to pairs: what the start costs, and what a pair costs beside the network's own forward pass.

    python benchmarks/inference.py [--engine openvino|tensorflow] [--size 64] [--pairs 8] [--threads 1]

A cohort of made-up images is written to a temporary folder and registered in one process, by the steps of
scripts/register_network.py: read, network, compose and sample on the fixed grid, write. Printed are the parts of the
start (libraries, network, first call), the median of each part of a pair, how the whole compares with the forward pass,
and after how many pairs the start has paid for itself. Seconds of CPU, which other work on the machine disturbs least;
then seconds on the clock of a pair whose file is compressed while the next pair runs, as the script does it.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))

NETWORK = {
    "kind": "voxelmorph",
    "dimensions": 3,
    "encoder": [16, 32, 32, 32],
    "decoder": [32, 32, 32, 32, 32, 16, 16],
    "int_steps": 5,
    "field_downsampling": 2,
}


class Laps:
    """Seconds between two calls, by name."""

    def __init__(self, clock=time.process_time):
        self.clock = clock
        self.taken, self.last = {}, clock()

    def __call__(self, name):
        now = self.clock()
        self.taken.setdefault(name, []).append(now - self.last)
        self.last = now

    def median(self, name):
        return float(np.median(self.taken[name]))


def write_network(path):
    """Write a network that has learned nothing; in a process of its own, as it takes TensorFlow."""
    code = (
        "import sys\nfrom cohortmorph.learning.networks import save_parameters\n"
        f"from cohortmorph.learning.unet import UNet\nsave_parameters(UNet([16] * 3, {NETWORK}), sys.argv[1])"
    )
    scripts = str(Path(__file__).parents[1] / "scripts")
    subprocess.run([sys.executable, "-c", code, path], env=os.environ | {"PYTHONPATH": scripts}, check=True)


def registrar_by(engine, shape, threads):
    """Return a new registrar that computes with this library."""
    if engine == "openvino":
        from cohortmorph.learning.inference import registrar_of

        return registrar_of(shape, NETWORK, threads)
    from cohortmorph.learning.applied_network import registrar_of
    from cohortmorph.learning.networks import start_tensorflow
    from cohortmorph.learning.voxelmorph import VOXELMORPH

    start_tensorflow(1, threads)
    return registrar_of(VOXELMORPH, shape, NETWORK)


def main(engine, size, pairs, threads):
    """Print the table."""
    with tempfile.TemporaryDirectory() as folder:
        write_network(f"{folder}/network.npz")
        measure(engine, size, pairs, threads, folder)


def measure(engine, size, pairs, threads, folder):
    laps = Laps()
    import SimpleITK as sitk

    from cohortmorph.spatial import displacement, geometry

    grid = geometry.Grid((size,) * 3, (1.0,) * 3, (0.0,) * 3)
    laps("libraries")
    registrar = registrar_by(engine, grid.size, threads)
    registrar.load(f"{folder}/network.npz")
    laps("network built")
    rng = np.random.default_rng(1)
    paths = [Path(folder) / f"{n}.nii.gz" for n in range(pairs + 1)]
    for path in paths:
        geometry.write_image(geometry.to_image(rng.random(grid.size, dtype=np.float32), grid), path)
    identity = sitk.AffineTransform(3)
    image = rng.random(grid.size, dtype=np.float32)
    laps("(images made)")
    registrar(image, image)
    laps("first call")

    def composed(voxels):
        return displacement.of_network(voxels, grid, identity, identity, grid)

    clock = Laps(time.perf_counter)
    for fixed, moving in pairwise(paths):
        laps("(between pairs)"), clock("(between pairs)")
        registrar.applied(image[None], image[None])
        laps("forward pass alone"), clock("forward pass alone")
        fixed_values, moving_values = (geometry.to_array(geometry.read_image(path)) for path in (fixed, moving))
        laps("read")
        voxels = registrar(fixed_values, moving_values)
        laps("network")
        sampled = composed(voxels)
        laps("compose and sample")
        displacement.write(sampled, Path(folder) / "displacement.nii.gz")
        laps("write")

    clock("(between pairs)")
    with ThreadPoolExecutor(1) as writer:
        written = None
        for fixed, moving in pairwise(paths):
            pair = (geometry.to_array(geometry.read_image(path)) for path in (fixed, moving))
            sampled = composed(registrar(*pair))
            if written:
                written.result()
            written = writer.submit(displacement.write, sampled, Path(folder) / "displacement.nii.gz")
            clock("a pair")
    versions = ", ".join(
        f"{name} {version(name)}" for name in ("openvino" if engine == "openvino" else "tensorflow-cpu", "SimpleITK")
    )
    print(f"{versions}; {threads} threads of {os.cpu_count()} cores; load {os.getloadavg()[0]:.1f}; {size}³ voxels")
    start = ["libraries", "network built", "first call"]
    steps = ["read", "network", "compose and sample", "write"]
    for name in [*start, "forward pass alone", *steps]:
        print(f"  {name:20} {1e3 * laps.median(name):8.0f} ms CPU")
    forward, whole = laps.median("forward pass alone"), sum(map(laps.median, steps))
    started = sum(map(laps.median, start))
    print(f"a pair: {whole:.2f} s, {whole / forward:.2f} × the forward pass; the start: {started:.1f} s")
    whole_clock, forward_clock = clock.median("a pair"), clock.median("forward pass alone")
    print(f"on the clock, files compressed meanwhile: {whole_clock:.2f} s a pair, {whole_clock / forward_clock:.2f} ×")
    for number in (1, 16, 100):
        print(f"  {number:3} pairs a process: {whole + started / number:.2f} s a pair, start-up included")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", choices=("openvino", "tensorflow"), default="openvino")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--pairs", type=int, default=8)
    parser.add_argument("--threads", type=int, default=1)
    main(**vars(parser.parse_args()))
