"""Simulated neuronavigation, where the surgeon drops the worst fiducial; it needs no cohort.

N extrinsic fiducials on the head are localized in the image and on the patient, and registered rigidly. The surgeon
looks at the residuals, drops the fiducial with the largest one, and registers the rest again, down to three. What
becomes of the error that is seen (FRE, over the fiducials still registered), and of the one that matters (TRE, at the
target)?

**Head.** The upper half (z ≥ 0) of an ellipsoid with the semi-axes HEAD_MM along x, y, z (LPS), about the origin. The
fiducials are drawn anew for every simulated patient: each is the one of CANDIDATES random points of the surface that
lies farthest from those before it, as a surgeon spreads them. The targets are those of TARGETS_LPS_MM.

**Localization.** All errors of both images together are put on one of them: normal, independent, with the standard
deviation σ along each axis, the same at all fiducials. The true transform is the identity: a rigid one would change
neither FRE nor TRE.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from cohortmorph.figures.style import WIDTH_INCHES, styled
from cohortmorph.registration.fiducials import expected_fre_squared_mm2, expected_tre_squared_mm2

HEAD_MM = (75.0, 95.0, 90.0)
CANDIDATES = 10
TARGETS_LPS_MM = {"deep": (10.0, -10.0, -10.0), "superficial": (30.0, 0.0, 65.0)}
FIDUCIALS = tuple(range(4, 13))
SIGMAS_MM = (0.5, 1.0, 2.0)
FEWEST = 3  # a rigid registration needs three
SHOWN_FIDUCIALS, SHOWN_SIGMA_MM, SHOWN_TARGET, SHOWN_DRAWS = (5, 8, 12), 1.0, "deep", 1000
FRE_COLOUR, TRE_COLOUR = "#0072B2", "#D55E00"  # of Okabe and Ito


def on_the_head(draws: int, fiducials: int, rng: np.random.Generator) -> np.ndarray:
    """Draw configurations of well-spread fiducials on the upper half of the ellipsoid.

    Parameters
    ----------
    draws, fiducials : int
        How many configurations, and of how many points.
    rng : numpy Generator

    Returns
    -------
    array, shape (draws, fiducials, 3), LPS mm
    """
    points = np.empty((draws, 0, 3))
    for _ in range(fiducials):
        directions = rng.normal(size=(draws, CANDIDATES, 3))
        directions[..., 2] = np.abs(directions[..., 2])
        candidates = directions / np.linalg.norm(directions, axis=-1, keepdims=True) * HEAD_MM
        if points.shape[1]:
            nearest_mm = np.linalg.norm(candidates[:, :, None] - points[:, None], axis=-1).min(axis=2)
        else:
            nearest_mm = np.zeros((draws, CANDIDATES))
        farthest = nearest_mm.argmax(axis=1)[:, None, None]
        points = np.concatenate([points, np.take_along_axis(candidates, farthest, axis=1)], axis=1)
    return points


def fit_rigid_draws(fixed_lps_mm: np.ndarray, moving_lps_mm: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Fit a rigid transform to each of many configurations at once; alone, it is that of ``fiducials.fit_rigid``.

    Parameters
    ----------
    fixed_lps_mm, moving_lps_mm : array, shape (draws, n, 3)
        Not checked: n ≥ 3, none on one line.

    Returns
    -------
    rotations : array, shape (draws, 3, 3)
        y = rotation · x + offset, with determinant +1.
    offsets_mm : array, shape (draws, 3)

    Notes
    -----
    Arun, Huang and Blostein, IEEE Trans. Pattern Anal. Mach. Intell. 9:698 (1987), with the sign of Umeyama (1991).
    """
    fixed_mean, moving_mean = fixed_lps_mm.mean(axis=1), moving_lps_mm.mean(axis=1)
    covariances = np.swapaxes(moving_lps_mm - moving_mean[:, None], 1, 2) @ (fixed_lps_mm - fixed_mean[:, None])
    left, _, right = np.linalg.svd(covariances)
    left[:, :, 2] *= np.sign(np.linalg.det(left) * np.linalg.det(right))[:, None]
    rotations = left @ right
    return rotations, moving_mean - np.einsum("dij,dj->di", rotations, fixed_mean)


def drop_worst(
    fiducials: int, sigma_mm: float, draws: int, rng: np.random.Generator, fewest: int = FEWEST
) -> pd.DataFrame:
    """Register simulated patients with all fiducials, then again and again without the one with the largest residual.

    Parameters
    ----------
    fiducials : int
        Their number before any is dropped.
    sigma_mm : float
        Standard deviation of the localization error along each axis.
    draws : int
        Number of simulated patients.
    rng : numpy Generator
    fewest : int
        How many fiducials remain at the end; as many as `fiducials`: none is dropped.

    Returns
    -------
    pandas.DataFrame
        A row for each draw, number dropped (0 to fiducials − fewest) and target: ``draw``, ``dropped``, ``target``,
        ``fre_mm``, ``tre_mm``, and the prediction for the fiducials that are left, ``tre_predicted_squared_mm2``.
    """
    fixed = on_the_head(draws, fiducials, rng)
    moving = fixed + rng.normal(scale=sigma_mm, size=fixed.shape)
    targets = np.array(list(TARGETS_LPS_MM.values()))
    tables = []
    for dropped in range(fiducials - fewest + 1):
        rotations, offsets_mm = fit_rigid_draws(fixed, moving)
        squared_mm2 = ((fixed @ np.swapaxes(rotations, 1, 2) + offsets_mm[:, None] - moving) ** 2).sum(axis=2)
        predicted_mm2 = expected_tre_squared_mm2(targets[:, None], fixed, 3 * sigma_mm**2)
        for number, (name, target) in enumerate(TARGETS_LPS_MM.items()):
            rows = {
                "draw": np.arange(draws),
                "dropped": dropped,
                "target": name,
                "fre_mm": np.sqrt(squared_mm2.mean(axis=1)),
                "tre_mm": np.linalg.norm(rotations @ target + offsets_mm - target, axis=1),
                "tre_predicted_squared_mm2": predicted_mm2[number],
            }
            tables.append(pd.DataFrame(rows))
        kept = np.arange(fixed.shape[1]) != squared_mm2.argmax(axis=1)[:, None]
        fixed, moving = (points[kept].reshape(draws, -1, 3) for points in (fixed, moving))
    return pd.concat(tables, ignore_index=True)


def summarize(simulated: pd.DataFrame, fiducials: int, sigma_mm: float) -> pd.DataFrame:
    """Summarize the table of :func:`drop_worst`: a row for each number dropped and target.

    Returns
    -------
    pandas.DataFrame
        ``sigma_mm``, ``fiducials``, ``dropped``, ``registered``, ``target``; means over the draws of FRE² and TRE²
        (mm²); Fitzpatrick's predictions for the fiducials that are left, as if they had not been chosen by their
        residuals; the deviation of the mean from the prediction, and its standard error (% of the prediction); the
        correlation of FRE and TRE over the draws; and in how many draws the last dropping made FRE smaller, and TRE
        larger (%; NaN before any is dropped).
    """
    rows = []
    groups = {key: group for key, group in simulated.groupby(["dropped", "target"])}
    for (dropped, target), group in groups.items():
        row = {"sigma_mm": sigma_mm, "fiducials": fiducials, "dropped": dropped}
        row |= {"registered": fiducials - dropped, "target": target}
        predicted = {
            "fre": np.full(len(group), expected_fre_squared_mm2(fiducials - dropped, 3 * sigma_mm**2)),
            "tre": group.tre_predicted_squared_mm2.to_numpy(),
        }
        for error, predicted_mm2 in predicted.items():
            squared_mm2 = group[f"{error}_mm"].to_numpy() ** 2
            percent = 100 * (squared_mm2 - predicted_mm2) / predicted_mm2.mean()
            row[f"{error}_mean_squared_mm2"] = squared_mm2.mean()
            row[f"{error}_predicted_squared_mm2"] = predicted_mm2.mean()
            row[f"{error}_deviation_percent"] = percent.mean()
            row[f"{error}_standard_error_percent"] = percent.std(ddof=1) / np.sqrt(len(group))
        row["correlation_fre_tre"] = group.fre_mm.corr(group.tre_mm)
        before = groups.get((dropped - 1, target))
        for error, name, sign in (("fre", "fre_fell_percent", -1), ("tre", "tre_rose_percent", 1)):
            column = f"{error}_mm"
            changes = [np.nan] if before is None else sign * (group[column].to_numpy() - before[column].to_numpy()) > 0
            row[name] = 100 * np.mean(changes)
        rows.append(row)
    return pd.DataFrame(rows)


def simulate(draws: int, seed: int) -> tuple[pd.DataFrame, dict[int, pd.DataFrame]]:
    """Run the experiment for all of FIDUCIALS and SIGMAS_MM.

    Parameters
    ----------
    draws : int
        Simulated patients for each number of fiducials and σ.
    seed : int

    Returns
    -------
    summary : pandas.DataFrame
        The rows of :func:`summarize`.
    shown : dict of int to pandas.DataFrame
        For the figure: the table of :func:`drop_worst` at SHOWN_SIGMA_MM for each of SHOWN_FIDUCIALS.
    """
    summaries, shown = [], {}
    for number, sigma_mm in enumerate(SIGMAS_MM):
        for fiducials in FIDUCIALS:
            rng = np.random.default_rng([seed, fiducials, number])
            simulated = drop_worst(fiducials, sigma_mm, draws, rng)
            summaries.append(summarize(simulated, fiducials, sigma_mm))
            if sigma_mm == SHOWN_SIGMA_MM and fiducials in SHOWN_FIDUCIALS:
                shown[fiducials] = simulated
    return pd.concat(summaries, ignore_index=True), shown


@styled
def figure(summary: pd.DataFrame, shown: Mapping[int, pd.DataFrame]) -> Figure:
    """Draw FRE and TRE (root mean squares, mm) against the number dropped, and TRE against FRE before any is dropped.

    Parameters
    ----------
    summary, shown
        As :func:`simulate` gives them.

    Returns
    -------
    matplotlib.figure.Figure
        A column for each of SHOWN_FIDUCIALS.
    """
    drawn = Figure(figsize=(WIDTH_INCHES, 7.2), layout="constrained")
    panels = drawn.subplots(2, len(shown), sharey="row", squeeze=False)
    rows = summary[(summary.sigma_mm == SHOWN_SIGMA_MM) & (summary.target == SHOWN_TARGET)]
    colours = {"fre": (FRE_COLOUR, "o"), "tre": (TRE_COLOUR, "s")}
    for (fiducials, simulated), dropping, scatter in zip(shown.items(), *panels, strict=True):
        line = rows[rows.fiducials == fiducials].sort_values("dropped")
        for error, (colour, marker) in colours.items():
            measured = np.sqrt(line[f"{error}_mean_squared_mm2"])
            dropping.plot(line.dropped, measured, color=colour, marker=marker, label=f"{error.upper()}, simulated")
            predicted = np.sqrt(line[f"{error}_predicted_squared_mm2"])
            dropping.plot(line.dropped, predicted, color=colour, linestyle="--", label=f"{error.upper()}, predicted")
        dropping.set(title=f"N = {fiducials} fiducials", xlabel="fiducials dropped, the worst first")
        dropping.xaxis.get_major_locator().set_params(integer=True)

        one = simulated[(simulated.dropped == 0) & (simulated.target == SHOWN_TARGET)]
        part = one.iloc[:SHOWN_DRAWS]
        scatter.scatter(part.fre_mm, part.tre_mm, s=6, color="0.35", alpha=0.5, linewidths=0)
        correlation = f"{one.fre_mm.corr(one.tre_mm):+.2f}".replace("-", "−")
        scatter.set(title=f"None dropped: r = {correlation} in {len(one)} draws", xlabel="FRE (mm)")
    # At last: a limit set while the panels fill would cut what is drawn later, as they share their axes.
    for axes in panels.flat:
        axes.set_ylim(bottom=0)
    for axes in panels[1]:
        axes.set_xlim(0, max(other.get_xlim()[1] for other in panels[1]))
    panels[0, 0].set_ylabel("root mean square (mm)")
    panels[1, 0].set_ylabel("TRE (mm)")
    drawn.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    drawn.suptitle(
        "Simulated neuronavigation: the fiducial with the largest error is dropped, and the rest registered again "
        f"(σ = {SHOWN_SIGMA_MM:g} mm, {SHOWN_TARGET} target)",
        x=0.01,
        ha="left",
    )
    return drawn
