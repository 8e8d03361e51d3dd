"""Each real DICOM folder as dcm2niix converts it and as we do: grids side by side, and whether voxels agree.

    python benchmarks/compare_dcm2niix.py FOLDER [FOLDER ...]

Every folder below that holds files is one series' folder; dcm2niix must be on PATH. What we refuse is shown with the
reason. Files on one grid are compared at the same points of the world (axes may be flipped); docs/dicom.md says why the
others differ.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import nibabel
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))

from cohortmorph import UserError
from cohortmorph.clinic import reader as dicom
from cohortmorph.spatial.geometry import Grid, to_array


def theirs(folder, out):
    """Convert by dcm2niix; return (exit code, {file name: image})."""
    command = ["dcm2niix", "-z", "n", "-b", "n", "-f", "out", "-o", str(out), str(folder)]
    code = subprocess.run(command, capture_output=True).returncode
    return code, {path.stem: nibabel.load(path) for path in sorted(out.glob("*.nii"))}


def agreement(image, other):
    """Say how the voxels of another converter's file agree with ours, or that its grid is another one."""
    shape = other.shape[:3]
    if other.ndim > 3 or sorted(shape) != sorted(image.GetSize()) or other.get_data_dtype().names:
        return "another grid"
    indices = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
    points = (indices @ other.affine[:3, :3].T + other.affine[:3, 3]) * [-1, -1, 1]
    grid = Grid.of(image)
    ours = np.rint(grid.to_indices(points)).astype(int)
    away_mm = np.abs(grid.to_world(ours) - points).max()
    if away_mm > 0.01 or ours.min() < 0 or (ours >= grid.size).any():
        return "another grid"
    difference = np.abs(to_array(image)[tuple(np.moveaxis(ours, -1, 0))] - np.asanyarray(other.dataobj)).max()
    return f"same grid (within {away_mm:.1g} mm), largest difference of values {difference:g}"


def shown(size, spacing_mm):
    """Return a grid in words."""
    return f"{' × '.join(map(str, size))} at {' × '.join(f'{mm:.4g}' for mm in spacing_mm)} mm"


def compare(folder):
    """Print what both make of a folder."""
    print(f"\n{folder}")
    with tempfile.TemporaryDirectory() as out:
        code, files = theirs(folder, Path(out))
        print(f"  dcm2niix  exit code {code}, {len(files)} file(s)")
        options = [{}, {"uneven": "resample", "allow": ["derived", "secondary-capture", "colour", "two-slices"]}]
        for chosen in options:
            try:
                image, _ = dicom.read_series(folder, "here", **chosen)
            except UserError as error:
                print(f"  ours      {'if allowed: ' if chosen else ''}refused: {str(error)[:150]}")
                image = None
            else:
                print(f"  ours      {'if allowed: ' if chosen else ''}{shown(image.GetSize(), image.GetSpacing())}")
                break
        for name, other in files.items():
            spacing_mm = other.header.get_zooms()[:3]
            verdict = agreement(image, other) if image is not None else ""
            print(f"            {name}: {shown(other.shape, spacing_mm)}  {verdict}")


if __name__ == "__main__":
    roots = list(map(Path, sys.argv[1:]))
    folders = {path.parent for root in roots for path in root.rglob("*") if path.is_file() and ".nii" not in path.name}
    for one in sorted(folder for folder in folders if not any(child.is_dir() for child in folder.iterdir())):
        compare(one)
