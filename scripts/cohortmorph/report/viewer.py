"""The interactive viewer: a page that shows every pair, method by method, and the table that it reads.

The page (viewer_page/) is the same for every cohort: NiiVue, our own two scripts, no network. What it shows stands in
pairs.json beside it, with paths relative to the viewer's folder, so that no volume is copied, and positions in mm, LPS.
"""

import os
import shutil
from pathlib import Path

from cohortmorph import UserError
from cohortmorph.cohort.configuration import learned_method
from cohortmorph.cohort.methods import Method
from cohortmorph.run.logs import log
from cohortmorph.spatial import intensity, landmarks
from cohortmorph.spatial.geometry import read_image, to_array

PAGE = Path(__file__).parent / "viewer_page"
# What stands beside each method: {name in pairs.json: (metric, structure) of metrics.tsv}.
SHOWN = {
    "tre_mm": ("tre_mean", "total"),
    "dice": ("dice", "mean"),
    "ncc_squared": ("ncc_squared", "image"),
    "folding_percent": ("folding", "image"),
}


def copy_page(folder):
    """Copy the page, NiiVue and its licences into `folder`."""
    for path in sorted(PAGE.iterdir()):
        shutil.copyfile(path, Path(folder) / path.name)


def window(path, settings):
    """Return the values [low, high] of an image that are black and white, those that become 0 and 1 for every method.

    None where there are none, as in an image of one value: the page then takes what it finds.
    """
    if "window" in settings:
        return [float(bound) for bound in settings["window"]]
    try:
        image = read_image(path)
        return list(intensity.limits(to_array(image), settings, name=Path(path).name))
    except UserError as error:
        log.warning("%s: shown without a window: %s", path, error)
        return None


def matched_landmarks(fixed_path, moving_path):
    """Return the landmarks of a pair as lists: ``fixed_lps_mm`` and ``moving_lps_mm``, shape (n, 3), row by row.

    Their names stay where they are, as they are whatever somebody in a clinic typed.
    """
    fixed, moving = landmarks.read_pair(fixed_path, moving_path)
    return {
        "fixed_lps_mm": landmarks.points_lps_mm(fixed).tolist(),
        "moving_lps_mm": landmarks.points_lps_mm(moving).tolist(),
    }


def described_methods(pair, moved, metrics, failures, selected, folder):
    """Return what the page shows of a pair, an entry a method.

    Parameters
    ----------
    pair : str
    moved : dict of method (as its folder is called) to path
        Of the moved images; the displacements lie beside them.
    metrics, failures : DataFrame
        metrics.tsv and failures.tsv.
    selected : dict or None
        selected_model.json.
    folder : str or Path
        Where the page lies.

    Returns
    -------
    list of dict
        ``method, label, selected, moved, displacement`` (paths seen from `folder`), ``failed`` (the reason, or None)
        and the values of :data:`SHOWN`, None where there are none.
    """
    values, reasons = _by_method(metrics[metrics.pair == pair]), _by_method(failures[failures.pair == pair])
    chosen = learned_method(selected["weight"], selected["epoch"]) if selected else None
    entries = []
    for method, path in moved.items():
        of = Method.of(method)
        name, weight, epoch = of.name, of.weight, of.epoch
        entry = {
            "method": method,
            "label": f"{name}, λ = {weight}, epoch {epoch}" if weight else name,
            "selected": method == chosen,
            "moved": relative(path, folder),
            "displacement": relative(Path(path).with_name("displacement.nii.gz"), folder),
            "failed": reasons[method].why.iloc[0] if method in reasons else None,
        }
        rows = values[method].set_index(["metric", "structure"]).value.dropna() if method in values else {}
        for shown, wanted in SHOWN.items():
            entry[shown] = float(f"{rows[wanted]:.6g}") if wanted in rows else None
        entries.append(entry)
    return entries


def relative(path, folder):
    """Return `path` as a link of a page in `folder`."""
    return Path(os.path.relpath(path, folder)).as_posix()


def _by_method(table):
    """Return the rows of each method as {its folder: rows}."""
    rows = zip(table.method, table.weight, table.epoch, strict=True)
    folders = [learned_method(weight, epoch) if weight else method for method, weight, epoch in rows]
    return dict(iter(table.assign(folder=folders).groupby("folder")))
