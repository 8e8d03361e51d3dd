"""Register a pair with VoxelMorph for every λ and kept epoch: one job loads TensorFlow once for all of them.

In: the fixed image (for its grid), the network's views of both images on the frame's grid, the affine transforms
frame → fixed and frame → moving, the weights of each network. Out: a displacement for each network (mm, LPS, on the
fixed image's own grid, x ↦ frame ↦ network ↦ moving composed) with its registration.json.
"""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from cohortmorph import UserError
from cohortmorph.learning import training
from cohortmorph.learning.networks import device, load_weights
from cohortmorph.registration.process import peak_memory_mb
from cohortmorph.registration.record import record
from cohortmorph.run import logs
from cohortmorph.run.files import write_json
from cohortmorph.spatial import displacement, geometry


def main(
    pair: str,
    fixed: str,
    fixed_input: str,
    moving_input: str,
    frame_to_fixed: str,
    frame_to_moving: str,
    weights: list,
    settings: dict,
    seed: int,
    threads: int,
    displacements: list,
):
    """Write one displacement for each file of `weights`, in their order."""
    grid = geometry.read_grid(fixed)
    fixed_image = geometry.read_image(fixed_input)
    network_grid = geometry.Grid.of(fixed_image)
    fixed_values, moving_values = geometry.to_array(fixed_image), geometry.to_array(geometry.read_image(moving_input))
    if not (np.ptp(fixed_values) and np.ptp(moving_values)):
        for output in displacements:
            record(pair, Path(output).parent.name, grid, output, _refuse)
        return
    training.start_tensorflow(seed, threads)
    used = device()
    to_frame = geometry.read_affine(frame_to_fixed).GetInverse()
    to_moving = geometry.read_affine(frame_to_moving)
    registrar = training.Registrar(network_grid.size, settings)
    registrar(fixed_values, moving_values)  # the first call compiles; it is nobody's run time
    # A third of the time goes into compressing a field; meanwhile the next network can run.
    with ThreadPoolExecutor(1) as writer:
        clock = writer.submit(lambda: time.pthread_getcpuclockid(threading.get_ident())).result()
        written = None
        for path, output in zip(weights, displacements, strict=True):
            load_weights(registrar.network, path)
            started, cpu_started = time.monotonic(), _cpu_time_without(clock)
            voxels = registrar(fixed_values, moving_values)
            sampled = displacement.of_network(voxels, network_grid, to_frame, to_moving, grid)
            seconds, cpu_seconds = time.monotonic() - started, _cpu_time_without(clock) - cpu_started
            how = {"seconds": seconds, "cpu_seconds": cpu_seconds, "peak_memory_mb": peak_memory_mb()}
            how |= {"threads": threads, "device": used, "sha256": training.checksum(path)}
            if written:
                written.result()
            written = writer.submit(_write, sampled, how, output)
        written.result()
    logs.log.info("%d networks on %s", len(weights), used)


def _cpu_time_without(clock):
    """Return the CPU seconds of this process but for the thread of `clock`."""
    return time.process_time() - time.clock_gettime(clock)


def _write(field, how, output):
    displacement.write(field, output)
    write_json(how, Path(output).parent / "registration.json")


def _refuse():
    raise UserError("an image could not be prepared for the network; its log in results/logs/prepare_input says why.")


if __name__ == "__main__":
    with logs.job(snakemake.log[0], packages=["tensorflow-cpu", "voxelmorph", "SimpleITK"]):
        main(
            pair=snakemake.wildcards.pair,
            fixed=snakemake.input.fixed,
            fixed_input=snakemake.input.fixed_input,
            moving_input=snakemake.input.moving_input,
            frame_to_fixed=snakemake.input.frame_to_fixed,
            frame_to_moving=snakemake.input.frame_to_moving,
            weights=list(snakemake.input.weights),
            settings=snakemake.params.settings,
            seed=snakemake.params.seed,
            threads=snakemake.threads,
            displacements=list(snakemake.output.displacements),
        )
