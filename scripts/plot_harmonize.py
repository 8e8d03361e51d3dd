"""Draw how one subject's stacks were made comparable.

In:  the subject's images on their native grids; a folder with the transforms (fixed world → image's world, LPS, mm),
     the tables of squared NCC against angle (degrees) and start slice, and harmonize.json.
Out: one PNG: both curves with what was chosen, and each image's contours on the fixed image before and after.
"""

from pathlib import Path

from cohortmorph.figures.pictures import Search, harmonize
from cohortmorph.figures.style import save
from cohortmorph.run import files, logs
from cohortmorph.spatial import intensity
from cohortmorph.spatial.geometry import read_affine, read_image


def main(
    subject: str,
    names: list,
    images: list,
    intensities: list,
    harmonized: str,
    output: str,
    phantom: bool = False,
):
    """Draw a subject; `names`, `images` (paths) and `intensities` (settings of prepare) are in the same order.

    `harmonized` is the folder that harmonize_subject.py wrote.
    """
    prepared = {
        name: intensity.prepare_or_blank(read_image(path), settings, f"{subject}, {name}")
        for name, path, settings in zip(names, images, intensities, strict=True)
    }
    folder = Path(harmonized)
    search = Search(
        {name: read_affine(folder / f"{name}.tfm") for name in names},
        *(files.read_table(folder / f"{table}.tsv", dtype={"image": str}) for table in ("angles", "starts")),
        files.read_json(folder / "harmonize.json"),
    )
    save(harmonize(prepared, search, title=subject), output, phantom=phantom)


if __name__ == "__main__":
    with logs.job(snakemake.log[0], packages=["matplotlib", "SimpleITK"]):
        main(
            images=list(snakemake.input.images),
            harmonized=snakemake.input.harmonized,
            output=snakemake.output[0],
            **snakemake.params,
        )
