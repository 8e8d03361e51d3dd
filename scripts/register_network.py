"""Register a pair with a network, of any kind, at every λ and kept epoch.

In: the fixed image (for its grid), the network's views of both images on the frame's grid, the affine transforms
frame → fixed and frame → moving, the parameters of each network. Out: a displacement for each network (mm, LPS, on the
fixed image's own grid, x ↦ frame ↦ network ↦ moving composed) with its registration.json.
"""

from pathlib import Path

from cohortmorph.learning.inference import refuse_empty, write_displacements
from cohortmorph.learning.registrar import View
from cohortmorph.registration.record import record
from cohortmorph.run import logs


def main(pair: str, files: dict, networks: list, settings: dict, threads: int, displacements: list):
    """Write one displacement for each of `networks`, in their order; `files` are those of :meth:`View.read`,
    `settings` those of the training."""
    view = View.read(files)
    if view.empty:
        for output in displacements:
            record(pair, Path(output).parent.name, view.grid, output, refuse_empty)
        return
    write_displacements(view, networks, settings, threads, displacements)


if __name__ == "__main__":
    with logs.job(snakemake.log[0], packages=["openvino", "SimpleITK"]):
        main(
            pair=snakemake.wildcards.pair,
            files=snakemake.input,
            networks=list(snakemake.input.networks),
            threads=snakemake.threads,
            displacements=list(snakemake.output.displacements),
            **snakemake.params,
        )
