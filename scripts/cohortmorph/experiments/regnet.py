"""RegNet's Table 2.1 with the methods of this workflow, beside the published figures.

Sokooti et al., Nonrigid image registration using multi-scale 3D convolutional neural networks, MICCAI 2017; the table
is that of chapter 2 of Sokooti's thesis. Its data (SPREAD, 19 pairs of lung CT) are not public.
"""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from cohortmorph.figures.style import method_colours, method_label, ordered_methods

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


def table(errors, metrics, methods):
    """Return the rows of the table.

    Parameters
    ----------
    errors : DataFrame
        A landmark a row: pair, synthetic (bool), method, near (bool), x, y, z (error in mm, LPS; NaN: no value).
    metrics : DataFrame
        metrics.tsv, for the mean absolute error of synthetic pairs.
    methods : dict
        {method id: Method} of the methods that take part.

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
                    row = _absolute_error(metrics, methods[method], errors, method) if is_synthetic else None
                else:
                    chosen = errors[(errors["synthetic"] == is_synthetic) & (errors["method"] == method)]
                    row = _landmark_error(chosen if measure == "TRE" else chosen[chosen["near"]])
                if row is not None:
                    rows.append((measure, data, method, *row))
    return pd.DataFrame(rows, columns=ROW)


def _landmark_error(chosen):
    vectors = chosen[["x", "y", "z"]].dropna().to_numpy()
    if not len(vectors):
        return None
    lengths = [np.linalg.norm(vectors, axis=1), *np.abs(vectors).T]
    return (len(vectors), *(value for length in lengths for value in (length.mean(), length.std())))


def _absolute_error(metrics, method, errors, method_id):
    pairs = errors.loc[errors["synthetic"] & (errors["method"] == method_id), "pair"].unique()
    name, weight, epoch = method.name, method.weight, method.epoch
    rows = metrics[metrics["pair"].isin(pairs) & (metrics["method"] == name) & (metrics["weight"] == weight)]
    rows = rows[rows["epoch"].isna() if epoch is None else rows["epoch"] == epoch]
    values = rows.pivot_table(index="pair", columns=["metric", "structure"], values="value")
    if ("mae_mean", "total") not in values:
        return None
    found = [len(values)]
    for axis in AXES:
        mean, sd = values["mae_mean", axis], values["mae_sd", axis]
        # Pairs of one size: the variance over all voxels is the mean of squares less the square of the mean.
        found += [mean.mean(), np.sqrt((sd**2 + mean**2).mean() - mean.mean() ** 2)]
    return tuple(found)


def published():
    """Return the published rows in the same form; n is 0, as the table does not print it."""
    rows = [(*key, 0, *values) for key, values in PUBLISHED.items()]
    return pd.DataFrame(rows, columns=ROW)


def as_text(ours, same_patient):
    """Return both tables as Markdown, with what a reader must know of them."""
    notes = [
        "SPREAD, the data of the published rows, are not public. The real pairs of this cohort stand in for its test "
        "pairs, synthetic pairs made of this cohort's images for its synthetic ones; figures of different data can be "
        "compared in their order, not in their size.",
        "RegNet itself is not run: VoxelMorph, trained without known displacements, stands in its place.",
        "TRE′: landmarks within reach (8 mm in the paper) after the affine alignment. sd: over landmarks, or voxels.",
    ]
    if same_patient:
        notes.append(
            "**The synthetic training pairs are made of an image of a test patient: the rows of "
            "VoxelMorph are those of a network that has seen this anatomy.**"
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


def figure(errors, initial_mm):
    """Draw residuals against the distance after the affine, residuals along each axis, and the capture range.

    Parameters
    ----------
    errors : DataFrame
        See :func:`table`; with a column ``landmark`` that tells the landmarks of a pair apart.
    initial_mm : Series
        Distance after the affine alignment, by (pair, landmark), mm.

    Returns
    -------
    matplotlib Figure
        A row for synthetic and a row for real pairs, where there are any.
    """
    errors = errors.assign(
        residual_mm=np.linalg.norm(errors[["x", "y", "z"]], axis=1),
        start_mm=initial_mm.reindex(pd.MultiIndex.from_frame(errors[["pair", "landmark"]])).to_numpy(),
    ).dropna(subset="residual_mm")
    methods = [method for method in ordered_methods(errors["method"].unique()) if method != "initial"]
    colours = method_colours(methods)
    kinds = [(True, "synthetic pairs"), (False, "real pairs")]
    kinds = [(kind, title) for kind, title in kinds if (errors["synthetic"] == kind).any()]
    drawn = Figure(figsize=(11, 3.6 * len(kinds) + 0.5), layout="constrained")
    panels = drawn.subplots(len(kinds), 3, squeeze=False)
    for (kind, title), (residuals, axes, capture) in zip(kinds, panels, strict=True):
        rows = errors[errors["synthetic"] == kind]
        limit_mm = max(1.0, rows["start_mm"].max())
        edges_mm = np.arange(0, limit_mm + 2, 2.0)
        middles_mm = edges_mm[:-1] + 1
        for number, method in enumerate(methods):
            of_method = rows[rows["method"] == method]
            look = {"color": colours[method], "label": method_label(method)}
            bins = np.digitize(of_method["start_mm"], edges_mm) - 1
            means = [of_method["residual_mm"][bins == n].mean() for n in range(len(middles_mm))]
            residuals.scatter(
                of_method["start_mm"], of_method["residual_mm"], s=6, alpha=0.25, color=colours[method], linewidths=0
            )
            residuals.plot(middles_mm, means, **look)
            caught = [100 * (of_method["residual_mm"][bins == n] <= 2).mean() for n in range(len(middles_mm))]
            capture.plot(middles_mm, caught, marker="o", markersize=3, **look)
            width = 0.8 / len(methods)
            places = np.arange(3) + (number - (len(methods) - 1) / 2) * width
            boxes = axes.boxplot(
                [of_method[axis].abs() for axis in "xyz"],
                positions=places,
                widths=width * 0.85,
                patch_artist=True,
                whis=(5, 95),
                showfliers=False,
                medianprops={"color": "k"},
                manage_ticks=False,
            )
            for box in boxes["boxes"]:
                box.set_facecolor(colours[method])
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
