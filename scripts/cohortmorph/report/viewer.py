"""The interactive viewer: a page that shows every pair, method by method, and the table that it reads.

The page (viewer_page/) is the same for every cohort: NiiVue, our own two scripts, no network. What it shows stands in
pairs.json beside it, with paths relative to the viewer's folder, so that no volume is copied, and positions in mm, LPS.
"""

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from cohortmorph import UserError
from cohortmorph.cohort.methods import Method
from cohortmorph.evaluation.given import Given
from cohortmorph.evaluation.measures import shown_in
from cohortmorph.evaluation.tables import Evaluation
from cohortmorph.run.files import StrPath, publishing_folder, write_json
from cohortmorph.run.logs import log
from cohortmorph.spatial import intensity
from cohortmorph.spatial.geometry import read_image, to_array

PAGE = Path(__file__).parent / "viewer_page"


def write(evaluation: Evaluation, pairs: Sequence[Mapping[str, Any]], output: StrPath, phantom: bool = False) -> None:
    """Write the viewer to the folder `output`: the page, and pairs.json.

    Parameters
    ----------
    evaluation : Evaluation
        With metrics and failures.
    pairs : list of dict
        See :func:`described_pair`.
    output : path
    phantom : bool
        Whether the cohort is the embedded phantom: then the page says so.
    """
    windows: dict[str, list[float] | None] = {}
    for pair in pairs:
        for image in (pair["fixed"], pair["moving"]):
            if image["file"] not in windows:
                windows[image["file"]] = window(image["file"], image["intensity"])
    measures = [
        {"metric": measure.metric, "label": measure.label, "decimals": measure.decimals}
        for measure in shown_in("viewer")
    ]
    described = [described_pair(pair, evaluation, windows, output) for pair in pairs]
    with publishing_folder(output) as folder:
        copy_page(folder)
        write_json({"phantom": phantom, "measures": measures, "pairs": described}, folder / "pairs.json")


def described_pair(
    pair: Mapping[str, Any], evaluation: Evaluation, windows: Mapping[str, list[float] | None], folder: StrPath
) -> dict[str, Any]:
    """Return what the page shows of a pair.

    Parameters
    ----------
    pair : dict
        ``pair`` (its id), ``split``, ``fixed`` and ``moving`` (each ``name``, the path ``file``, and ``intensity``,
        settings of :func:`cohortmorph.spatial.intensity.limits`), ``moved`` (paths by method id; the displacements lie
        beside them), ``landmarks`` (the paths of the fixed and the moving image's, or None).
    evaluation : Evaluation
    windows : dict of path to window
        See :func:`window`.
    folder : path
        Where the page lies.
    """
    images = {
        role: {
            "name": pair[role]["name"],
            "file": relative(pair[role]["file"], folder),
            "window": windows[pair[role]["file"]],
        }
        for role in ("fixed", "moving")
    }
    return {
        "pair": pair["pair"],
        "split": pair["split"],
        **images,
        "landmarks": matched_landmarks(pair["pair"], *pair["landmarks"]) if pair["landmarks"] else None,
        "methods": described_methods(pair["pair"], pair["moved"], evaluation, folder),
    }


def copy_page(folder: StrPath) -> None:
    """Copy the page, NiiVue and its licences into `folder`."""
    for path in sorted(PAGE.iterdir()):
        shutil.copyfile(path, Path(folder) / path.name)


def window(path: StrPath, settings: Mapping[str, Any]) -> list[float] | None:
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


def matched_landmarks(pair: str, fixed: StrPath, moving: StrPath) -> dict[str, list[list[float]]] | None:
    """Return the landmarks of a pair as lists: ``fixed_lps_mm`` and ``moving_lps_mm``, shape (n, 3), row by row.

    None if they cannot be read.

    Their names stay where they are, as they are whatever somebody in a clinic typed.
    """
    points = Given(pair).landmarks(fixed, moving)
    return points and {"fixed_lps_mm": points[0].tolist(), "moving_lps_mm": points[1].tolist()}


def described_methods(
    pair: str, moved: Mapping[str, StrPath], evaluation: Evaluation, folder: StrPath
) -> list[dict[str, Any]]:
    """Return what the page shows of a pair, an entry a method.

    Parameters
    ----------
    pair : str
    moved : dict of method id to path
        Of the moved images; the displacements lie beside them.
    evaluation : Evaluation
    folder : path
        Where the page lies.

    Returns
    -------
    list of dict
        ``method, label, selected`` (of each network one), ``best`` (of the selected ones, on the validation pairs),
        ``moved, displacement`` (paths seen from `folder`), ``failed`` (the reason, or None) and ``values``, by metric
        those of the measures that are shown here.
    """
    metrics, failures = evaluation.metrics, evaluation.failures
    values, reasons = _by_method(metrics[metrics.pair == pair]), _by_method(failures[failures.pair == pair])
    selected = set(map(Method.of_choice, evaluation.selected.values()))
    return [
        {
            "method": id,
            "label": Method.of(id).label,
            "selected": Method.of(id) in selected,
            "best": Method.of(id) == evaluation.best,
            "moved": relative(path, folder),
            "displacement": relative(Path(path).with_name("displacement.nii.gz"), folder),
            "failed": reasons[id].why.iloc[0] if id in reasons else None,
            "values": _values(values[id]) if id in values else {},
        }
        for id, path in moved.items()
    ]


def _values(metrics: pd.DataFrame) -> dict[str, float]:
    """Return the values of the viewer's measures from one method's rows of metrics.tsv."""
    rows = metrics.set_index(["metric", "structure"]).value.dropna()
    return {one.metric: float(f"{rows[one.key]:.6g}") for one in shown_in("viewer") if one.key in rows}


def relative(path: StrPath, folder: StrPath) -> str:
    """Return `path` as a link of a page in `folder`."""
    return Path(os.path.relpath(path, folder)).as_posix()


def _by_method(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return the rows of each method as {its id: rows}."""
    rows = zip(table.method, table.weight, table.epoch, strict=True)
    ids = [Method(name, weight, int(epoch) if weight else None).id for name, weight, epoch in rows]
    return dict(iter(table.assign(id=ids).groupby("id")))
