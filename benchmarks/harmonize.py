"""Harmonization: right on many phantoms, how far it is right on a real study, and faster than angle after angle.

    python benchmarks/harmonize.py phantoms --count 1000 [--first 0]
    python benchmarks/harmonize.py speed FOLDER_A FOLDER_B       two DICOM series
    python benchmarks/harmonize.py recover FOLDER_A FOLDER_B     a known turn and shift of B is found again

Phantoms are those of tests/test_harmonize.py: CT 40 slices every 1 mm, T1 35 every 1 mm of 2 mm (overlap) with
inverted contrast, T2 14 every 2.2 mm of 2 mm (gap), turned by −7° to 7°, shifted by whole slices, 2 % noise; on
request deformed as well, each image by itself.
"""

import argparse
import sys
import time
from pathlib import Path

import numpy as np
import SimpleITK as sitk

sys.path[:0] = [str(Path(__file__).parents[1] / part) for part in ("scripts", "tests")]

from cohortmorph.clinic import reader as dicom  # noqa: E402
from cohortmorph.registration.harmonize import harmonize  # noqa: E402
from cohortmorph.registration.rotation import rotation_matrix  # noqa: E402
from cohortmorph.spatial.geometry import Grid, affine, to_array, to_image  # noqa: E402
from cohortmorph.spatial.intensity import prepare  # noqa: E402
from cohortmorph.spatial.ncc import local_ncc_squared  # noqa: E402

PERCENTILES = {"percentiles": [0.5, 99.5]}


def phantoms(count, first, deformation_mm):
    """Count the phantoms of which every angle and start slice is right."""
    from test_harmonize import chosen, subject

    wrong, start = [], time.perf_counter()
    for seed in range(first, first + count):
        images, _, starts, angles = subject(seed, warp_mm=deformation_mm)
        found = harmonize(images, "CT", range_degrees=8)
        if chosen(found, "angle_degrees") != angles or chosen(found, "start_slice") != starts:
            wrong.append(seed)
    print(f"{count - len(wrong)} of {count} phantoms right, wrong: {wrong}; {time.perf_counter() - start:.0f} s")


def read(folder):
    """Read a series with prepared intensities."""
    return prepare(sitk.Cast(dicom.read_series(folder)[0], sitk.sitkFloat32), PERCENTILES)


def one_after_the_other(fixed, moving, degrees):
    """Turn the moving stack by one angle and correlate every slice with every fixed slice; return the seconds."""
    start = time.perf_counter()
    grid = Grid.of(fixed)
    rotation, centre = rotation_matrix(grid, "axial", degrees), grid.centre_mm
    turned = sitk.Resample(moving, fixed, affine(rotation, centre - rotation @ centre), sitk.sitkLinear, 0.0)
    a, b = to_array(fixed), to_array(turned)
    window = max(round(14 / grid.spacing_mm[0]) // 2 * 2 + 1, 5)
    pairs = [
        local_ncc_squared(a[..., m], b[..., n], window).mean() for m in range(a.shape[2]) for n in range(b.shape[2])
    ]
    assert max(pairs) <= 1
    return time.perf_counter() - start


def speed(fixed, moving):
    """Time the whole search against one angle of the plain way, which is counted for all of them."""
    start = time.perf_counter()
    harmonize({"A": fixed, "B": moving}, "A", range_degrees=30)
    ours = time.perf_counter() - start
    plain = one_after_the_other(fixed, moving, 3.0)
    print(f"61 angles: ours {ours:.1f} s; one after the other {plain:.1f} s an angle, so {61 * plain:.0f} s for 61")
    print(f"{61 * plain / ours:.0f} times faster")


def recover(fixed, moving, degrees, slices):
    """Turn and shift a stack by known amounts and find them again."""
    grid = Grid.of(moving)
    rotation, centre = rotation_matrix(grid, "axial", -degrees), grid.centre_mm
    turned = sitk.Resample(moving, moving, affine(rotation, centre - rotation @ centre), sitk.sitkLinear, 0.0)
    kept = to_array(turned)[..., slices:]
    cut = Grid(
        (*grid.size[:2], grid.size[2] - slices), grid.spacing_mm, tuple(grid.to_world([0, 0, slices])), grid.direction
    )
    for refine_degrees in (None, 0.1):
        found = harmonize({"A": fixed, "B": to_image(kept, cut)}, "A", range_degrees=10, refine_degrees=refine_degrees)
        one = found.summary["images"]
        start = one["B"]["start_slice"] - one["A"]["start_slice"]
        print(
            f"turned by {degrees}°, cut by {slices} slices: found {one['B']['angle_degrees']}° and "
            f"{-start} slices (refined to {refine_degrees})"
        )


def main():
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["phantoms", "speed", "recover"])
    parser.add_argument("folders", nargs="*")
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--deformation_mm", type=float, default=0.0)
    chosen = parser.parse_args()
    if chosen.what == "phantoms":
        phantoms(chosen.count, chosen.first, chosen.deformation_mm)
        return
    fixed, moving = map(read, chosen.folders)
    if chosen.what == "speed":
        speed(fixed, moving)
    else:
        for degrees, slices in ((4, 2), (-7, 3), (2.5, 0)):
            recover(fixed, moving, degrees, slices)


if __name__ == "__main__":
    np.seterr(all="raise", under="ignore")
    main()
