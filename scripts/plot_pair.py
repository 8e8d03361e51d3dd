"""Draw one pair: an overview of a few methods, and the pictures of every method that its page lays on each other.

In:  the fixed and the moving image; for each method the moved image and the displacement (mm, LPS), both on the fixed
     image's grid; the affine transform (fixed → moving); landmarks of both images, if there are any; each
     network's choice of λ and epoch.
Out: the overview, one PNG, in millimetres, the patient's left on the right: the start (initial), the affine, the last
     of the other classical methods and each network with its selected λ and epoch. A folder of small pictures, and a
     JSON file that says what they show, for write_reviews.
"""

from collections.abc import Mapping
from typing import Any

from cohortmorph.cohort.pairs import images_of
from cohortmorph.figures import pair_pictures
from cohortmorph.figures.style import save
from cohortmorph.run import files, logs


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
        where there are some ``fixed_landmarks`` and ``moving_landmarks``; ``selected``: those of each network's
        selected_model.json.
    pair : str
        Its id, for the title.
    methods : list of str
        Ids of all methods, in the configuration's order.
    intensities : list of dict
        Of the fixed and of the moving image: settings of cohortmorph.spatial.intensity.prepare.
    overview, pictures, description : str
        Paths of the PNG, of the folder of small pictures and of the JSON file.
    """
    registered = pair_pictures.read_pair(given, pair, methods, *intensities)
    moving, fixed = images_of(pair)
    save(pair_pictures.overview(registered, f"{moving} (moving) to {fixed} (fixed)"), overview, phantom=phantom)
    files.write_json(pair_pictures.draw(registered, pictures), description)


if __name__ == "__main__":
    with logs.job(snakemake.log[0], packages=["matplotlib", "SimpleITK"]):
        main(snakemake.input, **snakemake.output, **snakemake.params)
