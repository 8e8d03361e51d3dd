"""elastix, fixed ← moving, from a parameter file: every result is one SimpleITK transform, fixed world → moving world.

elastix keeps its random state between two runs of one process, so each registration has a process of its own; the
seconds that itk takes to load are paid once, by the parent.
"""

import os
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from cohortmorph import UserError
from cohortmorph.registration.elastix_mask import Settings, settings_for
from cohortmorph.registration.problem import Problem, Registered, Run
from cohortmorph.registration.process import in_child, scratch, words_of
from cohortmorph.run import logs
from cohortmorph.run.files import StrPath
from cohortmorph.spatial.geometry import matrix_and_offset

# The default threader of the itk wheels (TBB) was seen many times slower than the pool; itk reads this at its import.
os.environ.setdefault("ITK_GLOBAL_DEFAULT_THREADER", "Pool")


def register(problem: Problem, parameters: Sequence[StrPath], run: Run) -> Registered:
    """Run elastix with parameter files, one after the other; see :class:`cohortmorph.registration.problem.Tool`.

    Without a start, it centres the images by itself as its parameter file says. Seed and threads both change the last
    digits of the result. Samples are taken in the mask; what that needs beside the parameter files stands in the
    provenance. The cost is that of the registration alone.
    """
    _load_itk()
    files_said = [_read(path) for path in parameters]
    for_mask = [settings_for(problem.mask, said) if problem.mask is not None else {} for said in files_said]
    for path, settings in zip(parameters, for_mask, strict=True):
        if settings:
            logs.log.info("elastix is told for the mask's sake, beside %s: %s", path, settings)
    log = Path(run.log_folder) / "elastix.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with scratch() as folder:
        files = [Path(folder) / f"{number}.h5" for number in range(len(parameters))]
        done, cost, code = in_child(_run, problem, parameters, for_mask, run, log, files)
        if not done:
            of_mask = "" if problem.mask is None else ", and whether the mask lies where both images are"
            said = words_of(log, ("ERROR", "Error", "Description", "too many", "Too many"))
            raise UserError(
                f"elastix gave up with {', '.join(map(str, parameters))} (exit code {code}). It said: {said}. Look "
                "whether the two images overlap (the affine and harmonized pictures), whether the parameter file fits "
                f"images of this size{of_mask}."
            )
        # A point meets the start first, then one transform a parameter file; CompositeTransform applies its last first.
        start = [] if problem.initial is None else [problem.initial]
        met = [*start, *(sitk.ReadTransform(str(file)) for file in files)]
    transform = met[0] if len(met) == 1 else sitk.CompositeTransform(met[::-1])
    told = {"set_for_mask": for_mask} if any(for_mask) else {}
    return Registered(transform, cost, {"version": f"itk-elastix {version('itk-elastix')}"} | told)


def _read(path: StrPath) -> Settings:
    """Return what a parameter file says."""
    _, ParameterObject, *_ = _load_itk()
    parameters = ParameterObject.New()
    try:
        parameters.AddParameterFile(str(path))
    except RuntimeError as error:
        said = " ".join(str(error).rpartition("ERROR: ")[2].split())
        raise UserError(f"{path}: elastix cannot read this parameter file. It said: {said}") from None
    return dict(parameters.GetParameterMap(0))


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


def _run(
    problem: Problem,
    parameter_files: Sequence[StrPath],
    for_mask: Sequence[Mapping[str, str]],
    run: Run,
    log: Path,
    results: list[Path],
) -> bool:
    itk, ParameterObject, ElastixRegistrationMethod, TransformFileWriter, HDF5TransformIO = _load_itk()
    itk.MultiThreaderBase.SetGlobalDefaultNumberOfThreads(run.threads)
    parameters = ParameterObject.New()
    for file in parameter_files:
        parameters.AddParameterFile(str(file))
    for number, settings in enumerate(for_mask):
        for name, value in settings.items():
            parameters.SetParameter(number, name, value)
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
