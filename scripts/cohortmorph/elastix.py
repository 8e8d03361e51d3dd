"""elastix, fixed ← moving, from a parameter file: every result is one SimpleITK transform, fixed world → moving world.

elastix keeps its random state between two runs of one process, so :func:`register` runs in a child of its own; the
seconds that itk takes to load are paid once, by the parent.
"""

import multiprocessing
import os
import tempfile
import time
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from cohortmorph import UserError
from cohortmorph.geometry import Grid, matrix_and_offset

# The default threader of the itk wheels (TBB) was seen many times slower than the pool; itk reads this at its import.
os.environ.setdefault("ITK_GLOBAL_DEFAULT_THREADER", "Pool")


def register(fixed, moving, parameter_file, seed, threads, initial=None, fixed_mask=None, log_folder=None):
    """Register a moving to a fixed image.

    Parameters
    ----------
    fixed, moving : SimpleITK image
        3-D, prepared intensities.
    parameter_file : path
        An elastix parameter file.
    seed, threads : int
        Both change the last digits of the result, so both are part of a run's provenance.
    initial : SimpleITK transform, optional
        Affine start, fixed world → moving world. With it, elastix does not centre the images by itself.
    fixed_mask : SimpleITK image, optional
        Samples are taken where it is not zero; on the fixed image's grid.
    log_folder : path, optional
        Where elastix.log is kept.

    Returns
    -------
    transform : SimpleITK transform
        Fixed world → moving world, with `initial` composed in.
    seconds : float
        Time of the registration alone.

    Raises
    ------
    UserError
        The images cannot be registered (constant, too small, mask elsewhere or empty), or elastix gave up: its own
        words are quoted.
    """
    _check(fixed, moving, fixed_mask)
    _load_itk()
    context = multiprocessing.get_context("fork")
    with tempfile.TemporaryDirectory() as folder:
        log_folder = Path(log_folder or folder)
        log_folder.mkdir(parents=True, exist_ok=True)
        queue = context.SimpleQueue()
        arguments = (fixed, moving, parameter_file, seed, threads, initial, fixed_mask, log_folder, Path(folder), queue)
        child = context.Process(target=_register_in_child, args=arguments)
        child.start()
        child.join()
        if queue.empty() or child.exitcode:
            raise UserError(_explain(parameter_file, log_folder, child.exitcode))
        seconds = queue.get()
        if seconds is None:
            raise UserError(_explain(parameter_file, log_folder, child.exitcode))
        transform = sitk.ReadTransform(str(Path(folder) / "result.h5"))
    if initial is not None:
        # CompositeTransform applies its last transform first.
        transform = sitk.CompositeTransform([transform, initial])
    return transform, seconds


def _check(fixed, moving, fixed_mask):
    for name, image in (("fixed", fixed), ("moving", moving)):
        values = sitk.GetArrayViewFromImage(image)
        if min(image.GetSize()) < 8:
            raise UserError(f"the {name} image has {image.GetSize()} voxels; elastix needs at least 8 along each axis.")
        if not np.isfinite(values).all() or values.min() == values.max():
            raise UserError(f"the {name} image is constant or not finite: there is nothing to register.")
    if fixed_mask is not None:
        difference = Grid.of(fixed).difference_from(Grid.of(fixed_mask))
        if difference:
            raise UserError(f"the fixed image's mask is not on the image's grid: {difference}.")
        if not sitk.GetArrayViewFromImage(fixed_mask).any():
            raise UserError("the fixed image's mask is empty: give a mask with voxels, or none.")


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


def _register_in_child(
    fixed, moving, parameter_file, seed, threads, initial, fixed_mask, log_folder, result_folder, queue
):
    itk, ParameterObject, ElastixRegistrationMethod, TransformFileWriter, HDF5TransformIO = _load_itk()
    itk.MultiThreaderBase.SetGlobalDefaultNumberOfThreads(threads)
    parameters = ParameterObject.New()
    parameters.ReadParameterFile(str(parameter_file))
    parameters.SetParameter("RandomSeed", str(seed))
    parameters.SetParameter("WriteResultImage", "false")
    parameters.SetParameter("HowToCombineTransforms", "Compose")
    method = ElastixRegistrationMethod.New()
    method.SetFixedImage(_to_itk(itk, fixed, np.float32))
    method.SetMovingImage(_to_itk(itk, moving, np.float32))
    if fixed_mask is not None:
        method.SetFixedMask(_to_itk(itk, fixed_mask, np.uint8))
    if initial is not None:
        parameters.SetParameter("AutomaticTransformInitialization", "false")
        method.SetInitialTransform(_affine_to_itk(itk, initial))
    method.SetParameterObject(parameters)
    method.SetNumberOfThreads(threads)
    method.SetOutputDirectory(str(log_folder))
    method.SetLogFileName("elastix.log")
    method.LogToFileOn()
    method.LogToConsoleOff()
    started = time.monotonic()
    try:
        method.UpdateLargestPossibleRegion()
    except RuntimeError:  # its text is always "See elastix log": the parent quotes that
        queue.put(None)
        return
    seconds = time.monotonic() - started
    # Number 0 is the newest; the initial transform stands behind it, and the parent composes that by itself.
    newest = method.ConvertToItkTransform(method.GetNthTransform(0))
    writer = TransformFileWriter.New()
    writer.SetTransformIO(HDF5TransformIO.New())
    writer.SetInput(newest)
    writer.SetFileName(str(result_folder / "result.h5"))
    writer.Update()
    queue.put(seconds)


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


def _explain(parameter_file, log_folder, exit_code):
    log = log_folder / "elastix.log"
    text = log.read_text(errors="replace") if log.exists() else ""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    telling = ("ERROR", "Error", "Description", "too many", "Too many")
    marked = [line for line in lines if any(word in line for word in telling)]
    said = " | ".join((marked or lines)[-4:]) or f"nothing (exit code {exit_code})"
    return (
        f"elastix gave up with {parameter_file}. It said: {said}. Look whether the two images overlap "
        "(the affine and harmonized pictures), and whether the parameter file fits images of this size."
    )


def overlap_fraction(transform, fixed, moving):
    """Return the share of fixed voxels (of about 16 along each axis) that the transform maps into the moving image."""
    grid = Grid.of(fixed)
    steps = tuple(max(1, n // 16) for n in grid.size)
    points = grid.points_mm()[:: steps[0], :: steps[1], :: steps[2]].reshape(-1, 3)
    moved = np.array([transform.TransformPoint(tuple(point)) for point in points])
    return float(Grid.of(moving).contains(moved).mean())
