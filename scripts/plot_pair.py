"""Draw one pair: the fixed image, what each method made of the moving one, checkerboards and differences.

In:  the fixed image and, for each method, the moved image on its grid; the selected model.
Out: one PNG, in millimetres, the patient's left on the right. Shown are the start (initial), the affine, the last of
     the other classical methods and the selected network.
"""

import numpy as np

from cohortmorph import UserError, figures, files, intensity, logs, pictures
from cohortmorph.geometry import Grid, read_image, to_array, to_image
from cohortmorph.metrics import parse_method


def main(
    pair: str,
    fixed: str,
    moved: list,
    methods: list,
    fixed_intensity: dict,
    moving_intensity: dict,
    selected_model: str,
    output: str,
    phantom: bool = False,
):
    """Draw a pair.

    Parameters
    ----------
    pair : str
        Its id, for the title.
    fixed : str
        Path of the fixed image.
    moved : list of str
        Paths of the moved images, in the order of `methods`.
    methods : list of str
        Ids of methods, ``voxelmorph_weight-1_epoch-200`` for the learned ones.
    fixed_intensity, moving_intensity : dict
        Settings of cohortmorph.intensity.prepare.
    selected_model : str
        Path of selected_model.json, "" if no network was trained.
    output : str
        Path of the PNG.
    """
    selected = files.read_json(selected_model) if selected_model else None
    paths = dict(zip(methods, moved, strict=True))
    images = {parse_method(method)[0]: read_image(paths[method]) for method in shown(methods, selected)}
    figure = pictures.pair(
        intensity.prepare_or_blank(read_image(fixed), fixed_intensity, f"{pair}, fixed"),
        prepared_alike(images, moving_intensity, f"{pair}, moved"),
        selected,
        title=pair.replace("_to_", " (moving) to ") + " (fixed)",
    )
    figures.save(figure, output, phantom=phantom)


def shown(methods, selected):
    """Return the ids to show, in order: initial, affine, the last other classical method, the selected network."""
    learned = f"voxelmorph_weight-{selected['weight']}_epoch-{selected['epoch']}" if selected else None
    classical = [method for method in methods if not method.startswith("voxelmorph_weight-")]
    others = [method for method in classical if method not in ("initial", "harmonized", "affine")]
    return [method for method in ["initial", "affine", *others[-1:], learned] if method in methods]


def prepared_alike(images, settings, name):
    """Scale the moved images of all methods to [0, 1] with the same limits, so that they can be compared by eye.

    Without overlap, or of an image that shows nothing, they are constant: they are shown so, where
    cohortmorph.intensity.prepare would refuse them.
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
    with logs.job(snakemake.log[0], packages=["matplotlib", "SimpleITK"]):  # noqa: F821
        main(
            fixed=snakemake.input.fixed,  # noqa: F821
            moved=list(snakemake.input.moved),  # noqa: F821
            selected_model=snakemake.input.get("selected_model", ""),  # noqa: F821
            output=snakemake.output[0],  # noqa: F821
            **snakemake.params,  # noqa: F821
        )
