"""Align a moving to a fixed image affinely with elastix.

In: both images; the transforms of the harmonizing step of their subject, if any (harmonized world → image world); the
fixed image's mask, if any. Out: an ITK transform, fixed world → moving world (LPS, mm), with the harmonizing transforms
composed in; a JSON file with seconds, threads and seed. Where the alignment fails the transform is its start, and the
JSON file holds the cause; that harmonizing had failed stands there as well. So it is, with both values of the judge,
where the alignment has made the pair worse, unless the configuration says `keep: always`.
"""

from cohortmorph.registration.alignment import align
from cohortmorph.registration.pairwise import PairFiles
from cohortmorph.registration.problem import Run
from cohortmorph.run import logs
from cohortmorph.run.files import write_json
from cohortmorph.spatial import geometry


def main(files: PairFiles, parameters: str, run: Run, keep: str, affine: str, registration: str):
    """Write the transform to `affine`, and how it was found to `registration`."""
    transform, how = align(files, parameters, run, keep)
    geometry.write_transform(transform, affine)
    write_json(how, registration)


if __name__ == "__main__":
    with logs.job(snakemake.log[0], packages=["itk-elastix", "SimpleITK"]):
        main(
            PairFiles.of(snakemake),
            parameters=snakemake.input.parameters,
            run=Run.of(snakemake),
            keep=snakemake.params.keep,
            affine=snakemake.output.affine,
            registration=snakemake.output.registration,
        )
