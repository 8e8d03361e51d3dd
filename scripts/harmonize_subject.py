"""Make one subject's stacks comparable: rotation and slices by NCC (see cohortmorph.registration.harmonize).

In:  the subject's images, each on its native grid.
Out: for each image an ITK transform, from the fixed image's world to the image's world (LPS, mm), and the harmonized
     stack, in the image's own units: all stacks have the same slices and pixels (the fixed image's pixels, at the
     slices of the stack that has the fewest). Tables: squared NCC for each angle (degrees) and each start slice, and
     the slices that match (positions in mm). A JSON of what was chosen.
     If harmonizing is off, or fails, the transforms are the identity, the stacks the images, and the tables empty;
     where it failed the JSON says why, and the evaluation counts it.
"""

from pathlib import Path

from cohortmorph import UserError
from cohortmorph.registration.harmonize import harmonize, harmonized_stack, untouched
from cohortmorph.run import logs
from cohortmorph.run.files import write_json, write_table
from cohortmorph.spatial.geometry import read_image, write_image, write_transform
from cohortmorph.spatial.intensity import prepare


def main(
    subject: str,
    names: list,
    images: list,
    intensities: list,
    settings: dict,
    transforms: list,
    stacks: list,
    angles: str,
    starts: str,
    slices: str,
    summary: str,
):
    """Harmonize the images of one subject.

    Parameters
    ----------
    subject : str
        The subject's id, for messages.
    names, images : list of str
        Ids and paths of the images, in the same order as `intensities`, `transforms` and `stacks`.
    intensities : list of dict
        For each image the settings of cohortmorph.spatial.intensity.prepare.
    settings : dict
        `enabled`, and the arguments `fixed`, `plane`, `range_degrees`, `step_degrees`, `centre` of
        cohortmorph.registration.harmonize.harmonize.
    transforms, stacks : list of str
        Paths to write.
    angles, starts, slices, summary : str
        Paths to write.
    """
    search = {key: value for key, value in settings.items() if key != "enabled"}
    native = {name: read_image(path) for name, path in zip(names, images, strict=True)}
    found, failed = untouched(names, search["fixed"]), {}
    if settings["enabled"]:
        try:
            prepared = {
                name: prepare(native[name], intensity, name) for name, intensity in zip(names, intensities, strict=True)
            }
            found = harmonize(prepared, **search)
        except UserError as error:
            # The rest of the cohort goes on, and the subject's other methods from where the scanner has put the images.
            logs.log.error("subject %s: harmonizing failed: %s", subject, error)
            failed = {"failed": str(error)}
    for name, transform, stack in zip(names, transforms, stacks, strict=True):
        write_transform(found.transforms[name], transform)
        write_image(harmonized_stack(native[name], found.transforms[name], found.grid), stack)
    for table, path in ((found.angles, angles), (found.starts, starts), (found.slices, slices)):
        write_table(table, path)
    write_json({"subject": subject, **settings, **found.summary, **failed}, summary)
    for name, chosen in found.summary["images"].items():
        logs.log.info("%s: rotated by %g°, start slice %s", name, chosen["angle_degrees"], chosen["start_slice"])


if __name__ == "__main__":
    folder = Path(snakemake.output[0])
    names = snakemake.params.names
    with logs.job(snakemake.log[0], packages=["SimpleITK"]):
        main(
            subject=snakemake.wildcards.subject,
            images=list(snakemake.input.images),
            transforms=[folder / f"{name}.tfm" for name in names],
            stacks=[folder / f"{name}.nii.gz" for name in names],
            angles=folder / "angles.tsv",
            starts=folder / "starts.tsv",
            slices=folder / "slices.tsv",
            summary=folder / "harmonize.json",
            **snakemake.params,
        )
