"""Make a synthetic pair of a real image by a known displacement, as RegNet was trained and tested on.

In: a real image and its mask, if any. Out: fixed and moving image (float32, the real image's units), masks, 100
landmarks in each (LPS, mm), and the displacement fixed → moving (mm, LPS, on the fixed grid).
"""

from pathlib import Path

from cohortmorph import UserError
from cohortmorph.run import logs
from cohortmorph.simulated import synthetic
from cohortmorph.simulated.chance import random_numbers
from cohortmorph.spatial import displacement, geometry, labels, landmarks


def main(subject: str, image: str, mask: str, field: str, seed: int, folder: str):
    """Write the files of a pair into `folder`; they depend on the image, the field's kind, the subject and the seed."""
    picture = geometry.read_image(image)
    where = labels.read(mask, geometry.Grid.of(picture)) if mask else None
    try:
        made = synthetic.make_pair(picture, where, field, random_numbers("synthetic", seed, subject))
    except UserError as error:
        raise UserError(f"subject {subject}: {error}") from None
    displacement.write(made["displacement"], Path(folder) / "truth.nii.gz")
    for role in ("fixed", "moving"):
        geometry.write_image(made[role], Path(folder) / f"{role}.nii.gz")
        geometry.write_image(made[f"{role}_mask"], Path(folder) / f"{role}_mask.nii.gz")
        points = synthetic.landmark_table(made[f"{role}_landmarks_mm"])
        landmarks.write_tsv(points, Path(folder) / f"{role}_landmarks.tsv")


if __name__ == "__main__":
    with logs.job(snakemake.log[0], packages=["scipy", "SimpleITK"]):
        main(
            subject=snakemake.wildcards.subject,
            image=snakemake.input.image,
            mask=snakemake.input.get("mask", ""),
            folder=str(Path(snakemake.output.truth).parent),
            **snakemake.params,
        )
