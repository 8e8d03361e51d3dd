"""What harmonizing a subject has left on disk, for the registrations that start from it."""

from collections.abc import Sequence
from pathlib import Path

import SimpleITK as sitk

from cohortmorph.run.files import StrPath, read_json
from cohortmorph.spatial import geometry

SUMMARY = "harmonize.json"


def fixed_to_moving(transforms: Sequence[StrPath]) -> sitk.AffineTransform:
    """Return the transform fixed → moving that harmonizing found, LPS mm.

    Parameters
    ----------
    transforms : sequence of path
        Harmonized world → image world, of the fixed and of the moving image; without any, the identity is returned.
    """
    if not transforms:
        return sitk.AffineTransform(3)
    of_fixed, of_moving = map(geometry.read_affine, transforms)
    return geometry.chain(of_fixed.GetInverse(), of_moving)


def failure(transforms: Sequence[StrPath]) -> str:
    """Return why harmonizing the subject of these transform files failed, "" if it did not or there are none."""
    return read_json(Path(transforms[0]).parent / SUMMARY).get("failed", "") if transforms else ""
