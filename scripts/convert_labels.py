"""Convert structures drawn in the clinic to a label map on the image's grid (see cohortmorph.clinic.structures).

In:  the row of the cohort table, whose labels are an RTSTRUCT or SEG (.dcm) or a 3D Slicer segmentation (.seg.nrrd);
     the converted image.
Out: the label map (int32, 0 where there is no structure), with the numbers that the configuration gives.
"""

from pathlib import Path

from cohortmorph.clinic.privacy import without_identity
from cohortmorph.clinic.reader import choose, frames_of_reference
from cohortmorph.clinic.structures import read_labels
from cohortmorph.cohort import sources
from cohortmorph.run import logs
from cohortmorph.spatial import geometry


def main(labels: str, source: str, image: str, output: str, name: str, numbers: dict, series: str, allow: list):
    """Write the label map of one image.

    Parameters
    ----------
    labels, source, image, output : str
        Paths: of the structures, of the image's source (its frame of reference is compared, if it is DICOM), of the
        converted image, and of the map to write.
    name : str
        How messages call the image.
    numbers : dict of str to int
        Name of a structure → number.
    series : str
        Which series of the source, as for the image.
    allow : list of str
        As for the image.
    """
    frames: set[str] = set()
    if Path(source).is_dir():
        frames = frames_of_reference(choose(source, name, series, allow))
    found = read_labels(labels, geometry.read_grid(image), numbers, name, tuple(frames))
    geometry.write_image(found, output)


if __name__ == "__main__":
    subject, image = snakemake.wildcards.subject, snakemake.wildcards.image
    name = f"subject {subject}, image {image}"
    table, folder = snakemake.input.table, snakemake.params.data_folder
    with logs.job(snakemake.log[0], packages=["pydicom", "SimpleITK"]), without_identity(name):
        main(
            labels=sources.path_of(table, folder, subject, image, "labels"),
            source=sources.path_of(table, folder, subject, image),
            image=snakemake.input.image,
            output=snakemake.output[0],
            name=name,
            numbers=snakemake.params.structures,
            series=snakemake.params.series,
            allow=snakemake.params.allow,
        )
