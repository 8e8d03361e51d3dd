"""elastix, fixed ← moving, from a parameter file: every result is one SimpleITK transform, fixed world → moving world.

elastix keeps its random state between two runs of one process, so each registration has a process of its own; the
seconds that itk takes to load are paid once, by the parent.
"""

import os
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from cohortmorph import UserError
from cohortmorph.registration.problem import Problem, Registered, Run
from cohortmorph.registration.process import in_child, scratch, words_of
from cohortmorph.run.files import StrPath
from cohortmorph.spatial.geometry import matrix_and_offset

# The default threader of the itk wheels (TBB) was seen many times slower than the pool; itk reads this at its import.
os.environ.setdefault("ITK_GLOBAL_DEFAULT_THREADER", "Pool")


def register(problem: Problem, parameters: Sequence[StrPath], run: Run) -> Registered:
    """Run elastix with parameter files, one after the other; see :class:`cohortmorph.registration.problem.Tool`.

    Without a start, it centres the images by itself as its parameter file says. Seed and threads both change the last
    digits of the result. Samples are taken in the mask. The cost is that of the registration alone.
    """
    _load_itk()
    log = Path(run.log_folder) / "elastix.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with scratch() as folder:
        files = [Path(folder) / f"{number}.h5" for number in range(len(parameters))]
        done, cost, code = in_child(_run, problem, parameters, run, log, files)
        if not done:
            said = words_of(log, ("ERROR", "Error", "Description", "too many", "Too many"))
            raise UserError(
                f"elastix gave up with {', '.join(map(str, parameters))} (exit code {code}). It said: {said}. Look "
                "whether the two images overlap (the affine and harmonized pictures), and whether the parameter file "
                "fits images of this size."
            )
        # A point meets the start first, then one transform a parameter file; CompositeTransform applies its last first.
        start = [] if problem.initial is None else [problem.initial]
        met = [*start, *(sitk.ReadTransform(str(file)) for file in files)]
    transform = met[0] if len(met) == 1 else sitk.CompositeTransform(met[::-1])
    return Registered(transform, cost, {"version": f"itk-elastix {version('itk-elastix')}"})


def _load_itk():
    """Import itk and those of its wrapped modules that are needed, before the fork, so that children share them.

    The modules by their own names: `itk.ElastixRegistrationMethod` and `itk.transformwrite` load everything that they
    could ever be used with, 12 and 8 s instead of 1.
    """
    import itk
    from itk import (
        elxParameterObjectPython,
        itkElastixRegistrationMethodPython,
        itkHDF5TransformIOPython,
        itkTransformFileWriterPython,
    )

    itk.image_from_array(np.zeros((2, 2, 2), np.float32))
    _ = itk.AffineTransform
    return (
        itk,
        elxParameterObjectPython.elastixParameterObject,
        itkElastixRegistrationMethodPython.itkElastixRegistrationMethodIF3IF3,
        itkTransformFileWriterPython.itkTransformFileWriterTemplateD,
        itkHDF5TransformIOPython.itkHDF5TransformIOTemplateD,
    )


def _run(problem: Problem, parameter_files: Sequence[StrPath], run: Run, log: Path, results: list[Path]) -> bool:
    itk, ParameterObject, ElastixRegistrationMethod, TransformFileWriter, HDF5TransformIO = _load_itk()
    itk.MultiThreaderBase.SetGlobalDefaultNumberOfThreads(run.threads)
    parameters = ParameterObject.New()
    for file in parameter_files:
        parameters.AddParameterFile(str(file))
    parameters.SetParameter("RandomSeed", str(run.seed))
    parameters.SetParameter("WriteResultImage", "false")
    parameters.SetParameter("HowToCombineTransforms", "Compose")
    method = ElastixRegistrationMethod.New()
    method.SetFixedImage(_to_itk(itk, problem.fixed, np.float32))
    method.SetMovingImage(_to_itk(itk, problem.moving, np.float32))
    if problem.mask is not None:
        method.SetFixedMask(_to_itk(itk, problem.mask, np.uint8))
    if problem.initial is not None:
        parameters.SetParameter("AutomaticTransformInitialization", "false")
        method.SetInitialTransform(_affine_to_itk(itk, problem.initial))
    method.SetParameterObject(parameters)
    method.SetNumberOfThreads(run.threads)
    method.SetOutputDirectory(str(log.parent))
    method.SetLogFileName(log.name)
    method.LogToFileOn()
    method.LogToConsoleOff()
    try:
        method.UpdateLargestPossibleRegion()
    except RuntimeError:  # its text is always "See elastix log": the parent quotes that
        return False
    # Number 0 is the newest. Behind those of the parameter files stands the start, which the parent composes by itself.
    for number, path in enumerate(reversed(results)):
        writer = TransformFileWriter.New()
        writer.SetTransformIO(HDF5TransformIO.New())
        writer.SetInput(method.ConvertToItkTransform(method.GetNthTransform(number)))
        writer.SetFileName(str(path))
        writer.Update()
    return True


def _to_itk(itk, image, dtype):
    converted = itk.image_from_array(np.ascontiguousarray(sitk.GetArrayViewFromImage(image), dtype=dtype))
    converted.SetSpacing(image.GetSpacing())
    converted.SetOrigin(image.GetOrigin())
    converted.SetDirection(np.array(image.GetDirection()).reshape(3, 3))
    return converted


def _affine_to_itk(itk, transform):
    matrix, offset = matrix_and_offset(transform)
    converted = itk.AffineTransform[itk.D, 3].New()
    converted.SetMatrix(itk.matrix_from_array(matrix))
    converted.SetOffset(offset.tolist())
    return converted
