"""Where NiftyReg moves an image on its own copy: grids × control points × levels, as asked and off the table.

    python benchmarks/niftyreg_grids.py [--quick]

Writes a row a level: of how many settings an image moved by more than .1 mm with the words as they were asked, and with
those of :func:`cohortmorph.registration.niftyreg.off_the_table`, by which a run replaces them. Then the worst of each.
docs/methods.md has the table. 297 settings, twice, take some minutes; with --quick 24 take seconds.
"""

import itertools
import sys
import tempfile
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))
from cohortmorph.registration import niftyreg
from cohortmorph.registration.problem import Problem, Run
from cohortmorph.spatial import displacement, geometry
from cohortmorph.spatial.geometry import Grid

SIZE = (40, 40, 28)
SPACINGS_MM = [
    *((2, 2, 3), (2, 2, 1), (2, 2, 2.5), (2, 2, 4), (2, 2, 5), (1, 1, 3)),
    *((1, 1, 1.5), (2, 3, 3), (3, 3, 2), (3, 2, 2), (3, 2, 1)),
]
APART_MM = [5, 6, 7.5, 8, 9, 10, 12, 15, 20]
LEVELS = [1, 2, 3]


def moved_mm(spacing_mm: tuple[float, float, float], words: str, folder: Path) -> float:
    """Return the largest displacement between an image of smooth noise and its copy."""
    noise = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=SIZE), 2)
    image = geometry.to_image(noise.astype(np.float32), Grid(SIZE, spacing_mm, (0.0, 0.0, 0.0)))
    (folder / "parameters.txt").write_text(words)
    problem = Problem(image, sitk.Image(image), None, sitk.AffineTransform(3))
    transform, *_ = niftyreg.register(problem, [folder / "parameters.txt"], Run(1, 1, folder))
    field = geometry.to_array(displacement.sample(transform, Grid.of(image)))
    return float(np.linalg.norm(field, axis=-1).max())


def main(quick: bool) -> None:
    """Print the table."""
    spacings_mm, apart_mm = (SPACINGS_MM[:2], [8, 10, 12, 15]) if quick else (SPACINGS_MM, APART_MM)
    mended = niftyreg.off_the_table
    print("levels\tsettings\twrong as asked\tworst, mm\twrong off the table\tworst, mm")
    for levels in LEVELS:
        row = [str(levels), str(len(spacings_mm) * len(apart_mm))]
        for words_of in (lambda row, *spacings: row, mended):
            niftyreg.off_the_table = words_of
            with tempfile.TemporaryDirectory() as folder:
                found = [
                    moved_mm(spacing, f"reg_f3d -sx {apart} -ln {levels}", Path(folder))
                    for spacing, apart in itertools.product(spacings_mm, apart_mm)
                ]
            row += [str(sum(mm > 0.1 for mm in found)), f"{max(found):.3f}"]
        print("\t".join(row), flush=True)


if __name__ == "__main__":
    main("--quick" in sys.argv[1:])
