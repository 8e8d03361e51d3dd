"""Make one subject's stacks comparable: rotation and slices by NCC (see cohortmorph.registration.harmonize).

In:  the subject's images, each on its native grid.
Out: a folder with, for each image, an ITK transform, from the fixed image's world to the image's world (LPS, mm), and
     the harmonized stack, in the image's own units: all stacks have the same slices and pixels (the fixed image's
     pixels, at the slices of the stack that has the fewest). Tables: squared NCC for each angle (degrees) and each
     start slice, and the slices that match (positions in mm). A JSON of what was chosen.
     If harmonizing is off, or fails, the transforms are the identity, the stacks the images, and the tables empty;
     where it failed the JSON says why, and the evaluation counts it.
"""

from cohortmorph import UserError
from cohortmorph.registration.harmonize import harmonize, untouched
from cohortmorph.run import logs
from cohortmorph.spatial.geometry import read_image
from cohortmorph.spatial.intensity import prepare


def main(subject: str, images: dict, intensities: dict, settings: dict, output: str):
    """Harmonize the images of one subject.

    Parameters
    ----------
    subject : str
        The subject's id, for messages.
    images : dict of name to path
    intensities : dict of name to dict
        The settings of cohortmorph.spatial.intensity.prepare for each image.
    settings : dict
        `enabled`, and the arguments `fixed`, `plane`, `range_degrees`, `step_degrees`, `centre` of
        cohortmorph.registration.harmonize.harmonize.
    output : str
        The folder.
    """
    search = {key: value for key, value in settings.items() if key != "enabled"}
    native = {name: read_image(path) for name, path in images.items()}
    found, facts = untouched(images, search["fixed"]), {"subject": subject, **settings}
    if settings["enabled"]:
        try:
            prepared = {name: prepare(image, intensities[name], name) for name, image in native.items()}
            found = harmonize(prepared, **search)
        except UserError as error:
            # The rest of the cohort goes on, and the subject's other methods from where the scanner has put the images.
            logs.log.error("subject %s: harmonizing failed: %s", subject, error)
            facts["failed"] = str(error)
    found.write(native, facts, output)
    for name, chosen in found.summary["images"].items():
        logs.log.info("%s: rotated by %g°, start slice %s", name, chosen["angle_degrees"], chosen["start_slice"])


if __name__ == "__main__":
    with logs.job(snakemake.log[0], packages=["SimpleITK"]):
        main(
            subject=snakemake.wildcards.subject,
            images=dict(zip(snakemake.params.names, snakemake.input.images, strict=True)),
            intensities=dict(zip(snakemake.params.names, snakemake.params.intensities, strict=True)),
            settings=snakemake.params.settings,
            output=snakemake.output[0],
        )
