"""Draw how one subject's stacks were made comparable.

In:  the subject's images on their native grids, the transforms (fixed world → image's world, LPS, mm), the tables of
     squared NCC against angle (degrees) and start slice, and harmonize.json.
Out: one PNG: both curves with what was chosen, and each image's contours on the fixed image before and after.
"""

from pathlib import Path

import pandas as pd

from cohortmorph.figures import pictures
from cohortmorph.figures import style as figures
from cohortmorph.run import files, logs
from cohortmorph.spatial import intensity
from cohortmorph.spatial.geometry import read_affine, read_image


def main(
    subject: str,
    names: list,
    images: list,
    intensities: list,
    transforms: list,
    angles: str,
    starts: str,
    summary: str,
    output: str,
    phantom: bool = False,
):
    """Draw a subject; `names`, `images`, `intensities` (settings of prepare) and `transforms` are in the same order."""
    prepared = {
        name: intensity.prepare_or_blank(read_image(path), settings, f"{subject}, {name}")
        for name, path, settings in zip(names, images, intensities, strict=True)
    }
    figure = pictures.harmonize(
        prepared,
        dict(zip(names, map(read_affine, transforms), strict=True)),
        pd.read_csv(angles, sep="\t", dtype={"image": str}),
        pd.read_csv(starts, sep="\t", dtype={"image": str}),
        files.read_json(summary),
        title=subject,
    )
    figures.save(figure, output, phantom=phantom)


if __name__ == "__main__":
    folder = Path(snakemake.input.harmonized)
    with logs.job(snakemake.log[0], packages=["matplotlib", "SimpleITK"]):
        main(
            images=list(snakemake.input.images),
            transforms=[folder / f"{name}.tfm" for name in snakemake.params.names],
            angles=folder / "angles.tsv",
            starts=folder / "starts.tsv",
            summary=folder / "harmonize.json",
            output=snakemake.output[0],
            **snakemake.params,
        )
