"""Draw one pair: an overview of a few methods, and the pictures of every method that its page lays on each other.

In:  the fixed and the moving image; for each method the moved image and the displacement (mm, LPS), both on the fixed
     image's grid; the affine transform (fixed → moving); landmarks of both images, if there are any; the selected
     model.
Out: the overview, one PNG, in millimetres, the patient's left on the right: the start (initial), the affine, the last
     of the other classical methods and the selected network. A folder of small pictures, and a JSON file that says
     what they show, for write_reviews.
"""

from collections.abc import Mapping
from typing import Any

from cohortmorph.cohort.pairs import images_of
from cohortmorph.figures import pair_pictures
from cohortmorph.figures.pair_pictures import RegisteredPair, Result
from cohortmorph.figures.style import save
from cohortmorph.run import files, logs
from cohortmorph.spatial import displacement, geometry, intensity, landmarks
from cohortmorph.spatial.geometry import Grid, read_image


def main(
    given: Mapping[str, Any],
    pair: str,
    methods: list,
    intensities: list,
    overview: str,
    pictures: str,
    description: str,
    phantom: bool = False,
):
    """Draw a pair.

    Parameters
    ----------
    given : mapping
        The paths ``fixed``, ``moving``, ``affine``, in the order of `methods` ``moved`` and ``displacements``, and
        where there are some ``fixed_landmarks``, ``moving_landmarks`` and ``selected``.
    pair : str
        Its id, for the title.
    methods : list of str
        Ids of all methods, in the configuration's order.
    intensities : list of dict
        Of the fixed and of the moving image: settings of cohortmorph.spatial.intensity.prepare.
    overview, pictures, description : str
        Paths of the PNG, of the folder of small pictures and of the JSON file.
    """
    registered = read(given, pair, methods, *intensities)
    moving, fixed = images_of(pair)
    save(pair_pictures.overview(registered, f"{moving} (moving) to {fixed} (fixed)"), overview, phantom=phantom)
    files.write_json(pair_pictures.draw(registered, pictures), description)


def read(
    given: Mapping[str, Any], pair: str, methods: list, fixed_intensity: dict, moving_intensity: dict
) -> RegisteredPair:
    """Read the files of a pair; of the networks only the selected one."""
    selected = files.read_json(given["selected"]) if given.get("selected") else None
    drawn = pair_pictures.methods_to_draw(methods, selected)
    moved = dict(zip(methods, given["moved"], strict=True))
    displacements = dict(zip(methods, given["displacements"], strict=True))
    fixed = intensity.prepare_or_blank(read_image(given["fixed"]), fixed_intensity, f"{pair}, fixed")
    images = pair_pictures.prepared_alike(
        {method: read_image(moved[method.id]) for method in drawn}, moving_intensity, f"{pair}, moved"
    )
    points = None
    if given.get("fixed_landmarks") and given.get("moving_landmarks"):
        tables = landmarks.read_pair(given["fixed_landmarks"], given["moving_landmarks"])
        points = landmarks.points_lps_mm(tables[0]), landmarks.points_lps_mm(tables[1])
    return RegisteredPair(
        fixed=fixed,
        moving=intensity.prepare_or_blank(read_image(given["moving"]), moving_intensity, f"{pair}, moving"),
        affine=geometry.read_affine(given["affine"]),
        results={
            method: Result(images[method], displacement.read_unless_failed(displacements[method.id], Grid.of(fixed)))
            for method in drawn
        },
        landmarks=points,
    )


if __name__ == "__main__":
    with logs.job(snakemake.log[0], packages=["matplotlib", "SimpleITK"]):
        main(snakemake.input, **snakemake.output, **snakemake.params)
