"""Show which DICOM series stand in the folders of the cohort table, so that its column `series` can choose one.

In:  the cohort table; every source that is a folder.
Out: a table (TSV) of subject, image and cohortmorph.clinic.series.LISTED: modality, kind, description (known words
     only), sequence, orientation, numbers of slices and pixels, thickness and distance (mm), tilt (degrees), and what
     stands in the way. The same in the log. No identity: of the UID the end, of free text the words of a fixed list.
"""

from pathlib import Path

import pandas as pd

from cohortmorph.clinic.folder import read_folder
from cohortmorph.clinic.privacy import without_identity
from cohortmorph.clinic.series import LISTED, candidates, listing
from cohortmorph.cohort import sources
from cohortmorph.run import files, logs


def main(table: str, data_folder: str, images: list, output: str):
    """List the series of all images of the cohort.

    Parameters
    ----------
    table, data_folder : str
        The cohort table, and where its relative paths start.
    images : list of [subject, image]
    output : str
        Path of the table to write.
    """
    found, seen = [], {}
    for subject, image in images:
        name = f"subject {subject}, image {image}"
        with without_identity(name):
            source = sources.path_of(table, data_folder, subject, image)
            if not source or not Path(source).is_dir():
                continue
            if source not in seen:
                # Rows that share a folder are listed once, under the first of them.
                seen[source] = name
                folder = read_folder(source, name)
                listed = listing(candidates(folder.slices, name))
                found += [{"subject": subject, "image": image} | row for row in listed.to_dict("records")]
                logs.log.info("%s:\n%s", name, listed.dropna(axis=1, how="all").to_string(index=False))
            else:
                logs.log.info("%s: the same folder as %s", name, seen[source])
    files.write_table(pd.DataFrame(found, columns=["subject", "image", *LISTED]), output)


if __name__ == "__main__":
    with logs.job(snakemake.log[0], packages=["pydicom"]):
        main(
            table=snakemake.input.table,
            data_folder=snakemake.params.data_folder,
            images=snakemake.params.images,
            output=snakemake.output[0],
        )
