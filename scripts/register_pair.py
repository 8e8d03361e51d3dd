"""Register a pair with every method of one tool: elastix, NiftyReg, ANTs, demons or instance optimization.

In: the fixed and the moving image, the fixed mask, if any; what the methods start from: the affine transform fixed →
moving, the harmonizing transforms, and displacements of networks; parameter files of each method in the tool's own
format. Out: a displacement for each method (mm, LPS, on the fixed grid, the start composed in) with its
registration.json; of a method that fails, the cause. Loading a tool's library takes longer than many registrations, so
one job does all methods of a pair.
"""

from cohortmorph.registration.pairwise import Attempt, PairFiles, register_pair
from cohortmorph.registration.problem import Run, Tool
from cohortmorph.run import logs

PACKAGES = {"elastix": ["itk-elastix"], "instance": ["tensorflow-cpu"]}  # beside SimpleITK


def tool_of(name: str) -> Tool:
    """Return the module of the tool that the configuration calls so.

    Loaded here, one alone: a tool's environment holds no other's library, and each takes seconds.
    """
    match name:
        case "elastix":
            from cohortmorph.registration import elastix

            return elastix
        case "niftyreg":
            from cohortmorph.registration import niftyreg

            return niftyreg
        case "ants":
            from cohortmorph.registration import ants

            return ants
        case "demons":
            from cohortmorph.registration import demons

            return demons
        case "instance":
            from cohortmorph.learning import instance

            return instance
    raise ValueError(f"{name} is no tool that registers a pair by its images")


if __name__ == "__main__":
    name = snakemake.params.tool
    with logs.job(snakemake.log[0], packages=[*PACKAGES.get(name, []), "SimpleITK"]):
        methods = zip(snakemake.params.methods, snakemake.output.displacements, strict=True)
        register_pair(
            tool_of(name),
            PairFiles.of(snakemake),
            attempts=[Attempt(**method, displacement=path) for method, path in methods],
            run=Run.of(snakemake),
        )
