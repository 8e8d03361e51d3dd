"""RegNet's Table 2.1 with the methods of this workflow, beside the published figures.

Sokooti et al., Nonrigid image registration using multi-scale 3D convolutional neural networks, MICCAI 2017; the table
is that of chapter 2 of Sokooti's thesis. Its data (SPREAD, 19 pairs of lung CT) are not public.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cohortmorph import UserError
from cohortmorph.cohort.methods import Method
from cohortmorph.evaluation.given import Given
from cohortmorph.evaluation.metrics import landmark_errors_mm, near_landmarks
from cohortmorph.evaluation.tables import Choices
from cohortmorph.figures.pair_pictures import methods_to_draw
from cohortmorph.figures.style import method_colours
from cohortmorph.spatial import displacement, geometry

AXES = ("total", "x", "y", "z")
ROW = ["measure", "data", "method", "n", *(f"{axis}_{name}_mm" for axis in AXES for name in ("mean", "sd"))]
# As printed: mean and sd in mm; total, x, y, z. MAE over voxels, TRE and TRE′ over 685 and 503 landmarks of 7 pairs.
PUBLISHED = {
    ("MAE", "SPREAD, synthetic, test", "RegNet"): (1.19, 1.17, 0.36, 0.59, 0.40, 0.50, 0.43, 0.51),
    ("TRE", "SPREAD, real, test", "Affine"): (8.08, 7.18, 4.21, 4.40, 3.92, 5.64, 3.80, 4.25),
    ("TRE", "SPREAD, real, test", "B-spline 1R"): (5.48, 7.56, 2.47, 4.01, 2.64, 5.71, 2.92, 4.12),
    ("TRE", "SPREAD, real, test", "B-spline 3R"): (2.19, 6.22, 0.67, 1.97, 1.04, 5.07, 1.45, 3.21),
    ("TRE", "SPREAD, real, test", "RegNet"): (4.39, 7.54, 2.19, 4.53, 1.79, 4.83, 2.35, 4.33),
    ("TRE′", "SPREAD, real, test", "Affine"): (5.39, 2.25, 2.80, 2.04, 2.70, 1.92, 2.73, 1.93),
    ("TRE′", "SPREAD, real, test", "B-spline 1R"): (2.59, 2.28, 1.02, 1.44, 1.09, 1.47, 1.72, 1.56),
    ("TRE′", "SPREAD, real, test", "B-spline 3R"): (1.28, 0.94, 0.41, 0.51, 0.42, 0.43, 1.00, 0.86),
    ("TRE′", "SPREAD, real, test", "RegNet"): (1.66, 1.26, 0.58, 0.62, 0.64, 0.77, 1.19, 1.10),
}


def methods_taking_part(ids: Sequence[str], selected: Choices) -> dict[str, Method]:
    """Return {id: method} of these ids, of each network only its selected one."""
    return {method.id: method for method in methods_to_draw(ids, selected)}


def landmark_errors(
    pairs: Sequence[Mapping[str, Any]], methods: Mapping[str, Method], near_landmarks_mm: float
) -> pd.DataFrame:
    """Measure the error of every landmark of test pairs by every method.

    Parameters
    ----------
    pairs : list of dict
        ``pair`` (its id), ``synthetic`` (bool), and the paths ``displacements`` (by method id), ``affine`` (fixed →
        moving), ``landmarks`` (of the fixed and of the moving image).
    methods : dict of id to Method
        Those that take part.
    near_landmarks_mm : float
        Landmarks that are nearer after the affine alignment are near.

    Returns
    -------
    DataFrame
        A row for each method and landmark: ``x``, ``y``, ``z`` (the error, mm, LPS; NaN where the registration
        failed), ``pair``, ``method`` (id), ``near``, ``synthetic``, ``landmark`` (number) and ``start_mm``, the
        distance after the affine alignment. Pairs whose landmarks cannot be read are left out.

    Raises
    ------
    UserError
        If a pair has no landmarks, or those of no pair can be read.
    """
    if not all(pair["landmarks"] and all(pair["landmarks"]) for pair in pairs):
        raise UserError(
            "regnet_table needs landmarks in both images of every test pair (cohort table, column landmarks)."
        )
    tables = []
    for pair in pairs:
        points = Given(pair["pair"]).landmarks(*pair["landmarks"])
        if points is None:
            continue
        fixed, moving = points
        affine = geometry.read_affine(pair["affine"])
        aligned = np.array([affine.TransformPoint(tuple(point)) for point in fixed])
        of_pair = {
            "pair": pair["pair"],
            "near": near_landmarks(fixed, moving, affine, near_landmarks_mm),
            "synthetic": pair["synthetic"],
            "landmark": range(len(fixed)),
            "start_mm": np.linalg.norm(aligned - moving, axis=1),
        }
        for method in methods:
            field = displacement.read_unless_failed(pair["displacements"][method])
            errors_mm = np.full_like(fixed, np.nan) if field is None else landmark_errors_mm(fixed, moving, field)
            tables.append(pd.DataFrame(errors_mm, columns=["x", "y", "z"]).assign(method=method, **of_pair))
    if not tables:
        raise UserError("regnet_table: the landmarks of no test pair can be read; `snakemake check_cohort` says why.")
    return pd.concat(tables, ignore_index=True)


def table(errors: pd.DataFrame, metrics: pd.DataFrame, methods: Mapping[str, Method]) -> pd.DataFrame:
    """Return the rows of the table.

    Parameters
    ----------
    errors : DataFrame
        See :func:`landmark_errors`.
    metrics : DataFrame
        metrics.tsv, for the mean absolute error of synthetic pairs.
    methods : dict of id to Method
        Those that take part, in the order of the rows.

    Returns
    -------
    DataFrame
        Columns of :data:`ROW`. TRE and TRE′ (landmarks within reach after the affine) over all landmarks together, MAE
        over all voxels (in the fixed mask) together; n counts landmarks or pairs. Failures leave their landmarks
        out of mean and sd, and n says so.
    """
    rows = []
    for is_synthetic, data in ((True, "synthetic, test"), (False, "real, test")):
        for measure in ("MAE", "TRE", "TRE′"):
            for method in methods:
                if measure == "MAE":
                    row = _absolute_error(metrics, methods[method], errors) if is_synthetic else None
                else:
                    chosen = errors[(errors["synthetic"] == is_synthetic) & (errors["method"] == method)]
                    row = _landmark_error(chosen if measure == "TRE" else chosen[chosen["near"]])
                if row is not None:
                    rows.append((measure, data, method, *row))
    return pd.DataFrame(rows, columns=ROW)


def _landmark_error(chosen: pd.DataFrame) -> tuple[float, ...] | None:
    """Return the number of landmarks with a value, then mean and sd (mm) of the error, total and along each axis."""
    vectors = chosen[["x", "y", "z"]].dropna().to_numpy()
    if not len(vectors):
        return None
    lengths = [np.linalg.norm(vectors, axis=1), *np.abs(vectors).T]
    return (len(vectors), *(value for length in lengths for value in (length.mean(), length.std())))


def _absolute_error(metrics: pd.DataFrame, method: Method, errors: pd.DataFrame) -> tuple[float, ...] | None:
    """Return the number of synthetic pairs, then mean and sd (mm) of the absolute error over all their voxels."""
    pairs = errors.loc[errors["synthetic"] & (errors["method"] == method.id), "pair"].unique()
    rows = metrics[metrics["pair"].isin(pairs) & (metrics["method"] == method.name)]
    rows = rows[rows["weight"] == method.weight]
    rows = rows[rows["epoch"].isna() if method.epoch is None else rows["epoch"] == method.epoch]
    values = rows.pivot_table(index="pair", columns=["metric", "structure"], values="value")
    if ("mae_mean", "total") not in values:
        return None
    found = [len(values)]
    for axis in AXES:
        mean, sd = values["mae_mean", axis], values["mae_sd", axis]
        # Pairs of one size: the variance over all voxels is the mean of squares less the square of the mean.
        found += [mean.mean(), np.sqrt((sd**2 + mean**2).mean() - mean.mean() ** 2)]
    return tuple(found)


def published() -> pd.DataFrame:
    """Return the published rows in the same form; n is 0, as the table does not print it."""
    rows = [(*key, 0, *values) for key, values in PUBLISHED.items()]
    return pd.DataFrame(rows, columns=ROW)


def as_text(ours: pd.DataFrame, same_patient: bool) -> str:
    """Return both tables as Markdown, with what a reader must know of them."""
    notes = [
        "SPREAD, the data of the published rows, are not public. The real pairs of this cohort stand in for its test "
        "pairs, synthetic pairs made of this cohort's images for its synthetic ones; figures of different data can be "
        "compared in their order, not in their size.",
        "RegNet itself is not run: networks that are trained without known displacements stand in its place.",
        "TRE′: landmarks within reach (8 mm in the paper) after the affine alignment. sd: over landmarks, or voxels.",
    ]
    if same_patient:
        notes.append(
            "**The synthetic training pairs are made of an image of a test patient: the rows of each network are those "
            "of one that has seen this anatomy.**"
        )
    lines = ["# RegNet's Table 2.1, and this cohort", ""]
    for title, part in (("This cohort", ours), ("Published", published())):
        lines += [
            f"## {title}",
            "",
            "| | data | method | n | total, mm | x | y | z |",
            "|---|---|---|--:|--:|--:|--:|--:|",
        ]
        for row in part.itertuples(index=False):
            cells = [f"{getattr(row, f'{axis}_mean_mm'):.2f} ± {getattr(row, f'{axis}_sd_mm'):.2f}" for axis in AXES]
            lines.append(f"| {row.measure} | {row.data} | {row.method} | {row.n or ''} | {' | '.join(cells)} |")
        lines.append("")
    return "\n".join(lines + [f"- {note}" for note in notes]) + "\n"


def figure(errors: pd.DataFrame, methods: Mapping[str, Method]) -> Figure:
    """Draw residuals against the distance after the affine, residuals along each axis, and the capture range.

    Parameters
    ----------
    errors : DataFrame
        See :func:`landmark_errors`.
    methods : dict of id to Method
        Those that take part, in order.

    Returns
    -------
    matplotlib Figure
        A row for synthetic and a row for real pairs, where there are any.
    """
    errors = errors.assign(residual_mm=np.linalg.norm(errors[["x", "y", "z"]], axis=1)).dropna(subset="residual_mm")
    colours = method_colours(methods.values())
    there = set(errors["method"])
    shown = [method for id, method in methods.items() if id in there and id != "initial"]
    kinds = [(True, "synthetic pairs"), (False, "real pairs")]
    kinds = [(kind, title) for kind, title in kinds if (errors["synthetic"] == kind).any()]
    drawn = Figure(figsize=(11, 3.6 * len(kinds) + 0.5), layout="constrained")
    panels = drawn.subplots(len(kinds), 3, squeeze=False)
    for (kind, title), (residuals, axes, capture) in zip(kinds, panels, strict=True):
        rows = errors[errors["synthetic"] == kind]
        limit_mm = max(1.0, rows["start_mm"].max())
        for number, method in enumerate(shown):
            of_method = rows[rows["method"] == method.id]
            _against_start(residuals, capture, of_method, limit_mm, colours[method.name], method.label)
            width = 0.8 / len(shown)
            places = np.arange(3) + (number - (len(shown) - 1) / 2) * width
            _boxes(axes, of_method, places, width, colours[method.name])
        residuals.plot([0, limit_mm], [0, limit_mm], color="0.6", linestyle=":", linewidth=1)
        residuals.set(
            title=title, xlabel="distance after the affine, mm", ylabel="residual distance, mm", ylim=(0, None)
        )
        axes.set(title="error along each axis (LPS)", ylabel="absolute error, mm", xticks=range(3), xticklabels="xyz")
        capture.set(
            title="capture range",
            xlabel="distance after the affine, mm",
            ylabel="landmarks within 2 mm, %",
            ylim=(-3, 103),
        )
        for panel in (residuals, axes, capture):
            panel.spines[["top", "right"]].set_visible(False)
    handles, names = panels[0, 0].get_legend_handles_labels()
    drawn.legend(handles, names, loc="outside lower center", ncols=min(len(names), 8), frameon=False)
    return drawn


def _against_start(
    residuals: Axes, capture: Axes, errors: pd.DataFrame, limit_mm: float, colour: str, label: str
) -> None:
    """Draw one method's residuals against the distance after the affine, and how many landmarks it caught."""
    edges_mm = np.arange(0, limit_mm + 2, 2.0)
    middles_mm = edges_mm[:-1] + 1
    bins = np.digitize(errors["start_mm"], edges_mm) - 1
    of_bins = [errors["residual_mm"][bins == n] for n in range(len(middles_mm))]
    residuals.scatter(errors["start_mm"], errors["residual_mm"], s=6, alpha=0.25, color=colour, linewidths=0)
    residuals.plot(middles_mm, [of_bin.mean() for of_bin in of_bins], color=colour, label=label)
    caught = [100 * (of_bin <= 2).mean() for of_bin in of_bins]
    capture.plot(middles_mm, caught, marker="o", markersize=3, color=colour, label=label)


def _boxes(axes: Axes, errors: pd.DataFrame, places: np.ndarray, width: float, colour: str) -> None:
    """Draw a box of one method's absolute errors along each axis; whiskers reach from 5 to 95 %."""
    boxes = axes.boxplot(
        [errors[axis].abs() for axis in "xyz"],
        positions=places,
        widths=width * 0.85,
        patch_artist=True,
        whis=(5, 95),
        showfliers=False,
        medianprops={"color": "k"},
        manage_ticks=False,
    )
    for box in boxes["boxes"]:
        box.set_facecolor(colour)
