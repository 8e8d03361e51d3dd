"""Draw one pair: an overview of a few methods, and the pictures of every method that its page lays on each other.

In:  the fixed and the moving image; for each method the moved image and the displacement (mm, LPS), both on the fixed
     image's grid; the affine transform (fixed → moving); landmarks of both images ("" if there are none); the selected
     model.
Out: the overview, one PNG, in millimetres, the patient's left on the right: the start (initial), the affine, the last
     of the other classical methods and the selected network. A folder of small pictures, and a JSON file that says
     what they show, for write_reviews.
"""

import numpy as np

from cohortmorph import UserError
from cohortmorph.cohort.methods import STARTS, Method
from cohortmorph.figures import pictures
from cohortmorph.figures import style as figures
from cohortmorph.report import pair_page as review
from cohortmorph.run import files, logs
from cohortmorph.spatial import displacement, geometry, intensity, landmarks
from cohortmorph.spatial.geometry import Grid, read_image, to_array, to_image


def main(
    pair: str,
    fixed: str,
    moving: str,
    moved: list,
    displacements: list,
    methods: list,
    affine: str,
    fixed_landmarks: str,
    moving_landmarks: str,
    fixed_intensity: dict,
    moving_intensity: dict,
    selected_model: str,
    overview: str,
    pictures_folder: str,
    description: str,
    phantom: bool = False,
):
    """Draw a pair.

    Parameters
    ----------
    pair : str
        Its id, for the title.
    fixed, moving, affine, fixed_landmarks, moving_landmarks : str
        Paths; "" where there are no landmarks.
    moved, displacements : list of str
        Paths of the moved images and displacements, in the order of `methods`.
    methods : list of str
        Ids of methods, ``voxelmorph_weight-1_epoch-200`` for the learned ones.
    fixed_intensity, moving_intensity : dict
        Settings of cohortmorph.spatial.intensity.prepare.
    selected_model : str
        Path of selected_model.json, "" if no network was trained.
    overview, pictures_folder, description : str
        Paths of the PNG, of the folder of small pictures and of the JSON file.
    """
    selected = files.read_json(selected_model) if selected_model else None
    drawn = compared(methods, selected)
    paths = dict(zip(methods, zip(moved, displacements, strict=True), strict=True))
    still = intensity.prepare_or_blank(read_image(fixed), fixed_intensity, f"{pair}, fixed")
    images = {Method.of(method).name: read_image(paths[method][0]) for method in drawn}
    images = prepared_alike(images, moving_intensity, f"{pair}, moved")
    few = [Method.of(method).name for method in shown(methods, selected)]
    figure = pictures.pair(
        still,
        {method: images[method] for method in few},
        selected,
        title=pair.replace("_to_", " (moving) to ") + " (fixed)",
    )
    figures.save(figure, overview, phantom=phantom)
    points = None
    if fixed_landmarks and moving_landmarks:
        points = [landmarks.points_lps_mm(table) for table in landmarks.read_pair(fixed_landmarks, moving_landmarks)]
    described = review.draw(
        pictures_folder,
        still,
        intensity.prepare_or_blank(read_image(moving), moving_intensity, f"{pair}, moving"),
        images,
        {Method.of(method).name: displacement.read_unless_failed(paths[method][1], Grid.of(still)) for method in drawn},
        geometry.read_affine(affine),
        points,
        selected,
    )
    files.write_json(described, description)


def compared(methods, selected):
    """Return the ids of all methods, of the networks only the selected one, which comes last."""
    learned = f"voxelmorph_weight-{selected['weight']}_epoch-{selected['epoch']}" if selected else None
    classical = [method for method in methods if not method.startswith("voxelmorph_weight-")]
    return [*figures.ordered_methods(classical), *(method for method in methods if method == learned)]


def shown(methods, selected):
    """Return the ids of the overview, in order: initial, affine, the last other classical method, the network."""
    classical = [method for method in methods if not method.startswith("voxelmorph_weight-")]
    others = [method for method in classical if method not in STARTS]
    learned = [method for method in compared(methods, selected) if method not in classical]
    return [method for method in ["initial", "affine", *others[-1:], *learned] if method in methods]


def prepared_alike(images, settings, name):
    """Scale the moved images of all methods to [0, 1] with the same limits, so that they can be compared by eye.

    Without overlap, or of an image that shows nothing, they are constant: they are shown so, where
    cohortmorph.spatial.intensity.prepare would refuse them.
    """
    arrays = {method: to_array(image) for method, image in images.items()}
    try:
        low, high = intensity.limits(np.stack(list(arrays.values())), settings, name)
    except UserError as error:
        logs.log.error("%s", error)
        return {method: image * 0 for method, image in images.items()}
    return {
        method: to_image(np.clip((array - low) / (high - low), 0, 1).astype(np.float32), Grid.of(images[method]))
        for method, array in arrays.items()
    }


if __name__ == "__main__":
    with logs.job(snakemake.log[0], packages=["matplotlib", "SimpleITK"]):
        main(
            fixed=snakemake.input.fixed,
            moving=snakemake.input.moving,
            moved=list(snakemake.input.moved),
            displacements=list(snakemake.input.displacements),
            affine=snakemake.input.affine,
            fixed_landmarks=snakemake.input.get("fixed_landmarks", ""),
            moving_landmarks=snakemake.input.get("moving_landmarks", ""),
            selected_model=snakemake.input.get("selected_model", ""),
            overview=snakemake.output.overview,
            pictures_folder=snakemake.output.pictures,
            description=snakemake.output.description,
            **snakemake.params,
        )
