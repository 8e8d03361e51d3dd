"""Quality control: which registrations somebody should look at, and why.

A flag is no verdict. It says in a sentence what was found and which limit of the configuration (`quality`) it passed;
docs/quality.md says what each flag can and cannot see, and how often they are right on the phantom. All is read from
metrics.tsv and failures.tsv, so that flags and report never disagree.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from cohortmorph.evaluation.statistics import compared, subjects_of
from cohortmorph.evaluation.tables import Evaluation

COLUMNS = ["subject", "pair", "method", "flag", "value", "threshold", "sentence"]
# The worst first: what makes a result worthless, then what makes it wrong, then what makes it doubtful.
FLAGS = {
    "failed": "registration failed",
    "empty_image": "empty image",
    "little_overlap": "little overlap",
    "landmarks_far": "landmarks far apart",
    "landmarks_worse": "landmarks got worse",
    "similarity_worse": "similarity got worse",
    "unlike_others": "unlike the other pairs",
    "rotation": "turned far",
    "folding": "folding",
    "volume_change": "volume change",
    "border_displacement": "displacement at the border",
}
STAGES = ("initial", "harmonized", "affine")  # what comes before every other method, in this order
FEWEST_OTHERS = 2  # pairs of the same kind without which nothing can be said to be unlike them
MAD_TO_SD = 1.4826  # of a normal distribution: median absolute deviation → standard deviation


@dataclass(frozen=True)
class Pair:
    """What was measured on one pair.

    Attributes
    ----------
    name : str
    values : dict of (method, metric, structure) to float
        Of the methods that are compared; the selected network is ``voxelmorph``.
    settings : dict
        The configuration's ``quality``.
    """

    name: str
    values: dict
    settings: dict

    def get(self, method, metric, structure="image"):
        """Return a value, NaN if there is none."""
        return self.values.get((method, metric, structure), np.nan)

    def before(self, method, metric, structure, best):
        """Return (stage, value) of the best stage before `method` that covers enough of the fixed image to count.

        ("", NaN) if there is none.
        """
        stages = STAGES[: STAGES.index(method)] if method in STAGES else STAGES
        enough = [stage for stage in stages if not self.get(stage, "overlap") < self.settings["overlap_percent_min"]]
        found = {stage: self.get(stage, metric, structure) for stage in enough}
        found = {stage: value for stage, value in found.items() if np.isfinite(value)}
        stage = best(found, key=found.get) if found else ""
        return stage, found.get(stage, np.nan)


def flags(metrics, failures, selected, settings):
    """Return the flags of all pairs, the worst first.

    Parameters
    ----------
    metrics : DataFrame
        metrics.tsv.
    failures : DataFrame
        failures.tsv.
    selected : dict or None
        selected_model.json; of the networks only this one is looked at.
    settings : dict
        The configuration's ``quality``.

    Returns
    -------
    DataFrame
        With :data:`COLUMNS`, sorted by the order of :data:`FLAGS`, then by how far the limit is passed. ``value`` and
        ``threshold`` are in the unit that the sentence names; both are NaN where a registration failed.
    """
    rows = compared(metrics, selected)
    methods = list(dict.fromkeys(rows.method))
    found = []
    for row in compared(failures, selected).itertuples():
        found.append((row.pair, row.method, "failed", np.nan, np.nan, f"Failed: {row.why.rstrip('.')}."))
    similarities = _similarity_of_others(rows)
    for name, of_pair in rows.groupby("pair", sort=False):
        keys = zip(of_pair.method, of_pair.metric, of_pair.structure, strict=True)
        pair = Pair(name, dict(zip(keys, of_pair.value, strict=True)), settings)
        for method in methods:
            checks = [_empty_image]
            if method != "initial":  # where the scanners put the images is no registration
                checks += [_little_overlap, _landmarks_worse, _similarity_worse, _rotation, _volume_change]
            if method not in ("initial", "harmonized"):
                checks.append(_landmarks_far)
            if method not in STAGES:
                checks += [_folding, _border_displacement]
            for check in checks:
                found += [(name, method, *flag) for flag in check(pair, method)]
            if method != "initial":
                others = similarities.get((name, method), [])
                found += [(name, method, *flag) for flag in _unlike_others(pair, method, others)]
    return sort(pd.DataFrame(found, columns=COLUMNS[1:]))


def sort(table):
    """Complete a table of flags with the subjects, and put the worst first."""
    subjects = [", ".join(sorted(subjects_of([pair]))) for pair in table.pair]
    table.insert(0, "subject", subjects)
    # Limits are passed upwards or downwards: what counts is by which factor.
    with np.errstate(divide="ignore", invalid="ignore"):
        factor = np.abs(np.log(table.value.astype(float).abs() / table.threshold.astype(float).abs())).fillna(np.inf)
    rank = table.flag.map({flag: place for place, flag in enumerate(FLAGS)})
    order = table.assign(rank=rank, factor=-factor).sort_values(["rank", "factor", "pair", "method"], kind="stable")
    return order[COLUMNS].reset_index(drop=True)


def by_pair(flags, pairs):
    """Return ``{pair: its flags}`` of all `pairs`, that with the worst flag first, those without a flag last.

    Of two pairs with the same worst flag that with more flags comes first.
    """
    tables = {pair: flags[flags.pair == pair] for pair in pairs}
    ranks = list(FLAGS)

    def place(pair):
        table = tables[pair]
        return (min(map(ranks.index, table.flag), default=len(ranks)), -len(table), pair)

    return {pair: tables[pair] for pair in sorted(tables, key=place)}


def _empty_image(pair, method):
    """An image shows nothing, or the moved image nothing where it covers the fixed one."""
    limit = pair.settings["contrast_min"]
    empty = [image for image in ("fixed", "moving") if pair.get("initial", "contrast", image) < limit]
    # What is empty from the start is said once, of the start.
    images = empty if method == "initial" else [] if empty else ["moved"]
    for image in images:
        value = pair.get(method, "contrast", image)
        if value < limit:
            where = " where it covers the fixed one" if image == "moved" else ""
            yield (
                "empty_image",
                value,
                limit,
                f"The {image} image shows nothing{where}: the standard deviation of its prepared intensities (0 to 1) "
                f"is {value:.2g}, below {limit:g}.",
            )


def _little_overlap(pair, method):
    """The moving image covers too little of the fixed one."""
    value, limit = pair.get(method, "overlap"), pair.settings["overlap_percent_min"]
    if value < limit:
        yield (
            "little_overlap", value, limit,
            f"The moving image covers {value:.0f} % of the fixed one, less than {limit:g} %.",
        )  # fmt: skip


def _landmarks_far(pair, method):
    """The landmarks lie further apart than any usable registration leaves them."""
    value, limit = pair.get(method, "tre_mean", "total"), pair.settings["tre_mm_max"]
    if value > limit:
        sentence = f"The landmarks lie {value:.1f} mm apart (mean TRE), more than {limit:g} mm."
        yield "landmarks_far", value, limit, sentence


def _landmarks_worse(pair, method):
    """The landmarks lie further apart than before."""
    stage, before_mm = pair.before(method, "tre_mean", "total", min)
    value, limit = pair.get(method, "tre_mean", "total"), before_mm + pair.settings["tre_increase_mm_max"]
    if value > limit:
        yield (
            "landmarks_worse", value, limit,
            f"The landmarks lie {value:.1f} mm apart (mean TRE); by {stage} it was {before_mm:.1f} mm. An increase of "
            f"{pair.settings['tre_increase_mm_max']:g} mm is allowed.",
        )  # fmt: skip


def _similarity_worse(pair, method):
    """The images look less alike than before, in local windows and whatever the sign of the contrast."""
    stage, before = pair.before(method, "ncc_local", "image", max)
    loss_percent = pair.settings["similarity_loss_percent_max"]
    value, limit = pair.get(method, "ncc_local"), before * (1 - loss_percent / 100)
    if value < limit:
        yield (
            "similarity_worse", value, limit,
            f"The local squared NCC is {value:.3f}; by {stage} it was {before:.3f}. A loss of {loss_percent:g} % is "
            "allowed.",
        )  # fmt: skip


def _unlike_others(pair, method, others):
    """The images look less alike than this method makes those of other pairs of the same kind, beyond their spread."""
    if len(others) < FEWEST_OTHERS:
        return
    median = np.median(others)
    spread = MAD_TO_SD * np.median(np.abs(others - median))
    share, deviations = (pair.settings[f"similarity_of_others_{key}"] for key in ("percent_min", "deviations_max"))
    value, limit = pair.get(method, "ncc_local"), min(median * share / 100, median - deviations * spread)
    if value < limit:
        yield (
            "unlike_others",
            value,
            limit,
            f"The local squared NCC is {value:.3f}; the median of the {len(others)} other pairs of these images is "
            f"{median:.3f}, and {limit:.3f} is expected at least.",
        )


def _rotation(pair, method):
    """The displacement turns the image further than a patient lies."""
    value, limit = pair.get(method, "rotation"), pair.settings["rotation_degrees_max"]
    if value > limit:
        yield "rotation", value, limit, f"The image is turned by {value:.0f}°, more than {limit:g}°."


def _folding(pair, method):
    """Space is turned inside out."""
    found = {name: pair.get(method, name) for name in ("folding", "ndv")}
    value, limit = np.nanmax([*found.values(), -np.inf]), pair.settings["folding_percent_max"]
    if value > limit:
        of = "voxels" if found["folding"] == value else "volume (between voxels)"
        yield "folding", value, limit, f"{value:.2g} % of the {of} are turned inside out, more than {limit:g} %."


def _volume_change(pair, method):
    """Tissue grows or shrinks as a whole, or somewhere by a large factor; the affine's scaling is part of it."""
    limit = pair.settings["volume_percent_max"]
    value = 100 * (pair.get(method, "jacobian_mean") - 1)
    if abs(value) > limit:
        yield (
            "volume_change", value, np.copysign(limit, value),
            f"The mean volume changes by {value:+.0f} % (mean of the Jacobian determinant, less 1), more than "
            f"{limit:g} %.",
        )  # fmt: skip
    factor = pair.settings["volume_factor_max"]
    low, high = (pair.get(method, f"jacobian_{name}") for name in ("p01", "p99"))
    if high > factor:
        yield (
            "volume_change", high, factor,
            f"1 % of the volume grows at least {high:.1f} times (99th percentile of the Jacobian determinant), more "
            f"than {factor:g} times.",
        )  # fmt: skip
    if low < 1 / factor:
        yield (
            "volume_change", low, 1 / factor,
            f"1 % of the volume shrinks to at most {max(low, 0):.2f} of itself (1st percentile of the Jacobian "
            f"determinant), less than {1 / factor:.2f}.",
        )  # fmt: skip


def _border_displacement(pair, method):
    """What lies at the border of the image, where it holds least, is moved far from where the affine put it."""
    value, limit = pair.get(method, "border_displacement"), pair.settings["border_displacement_mm_max"]
    if value > limit:
        yield (
            "border_displacement", value, limit,
            f"At the image's border the displacement differs from the affine by {value:.1f} mm (95th percentile), more "
            f"than {limit:g} mm.",
        )  # fmt: skip


def _similarity_of_others(rows):
    """Return ``{(pair, method): local NCC}`` (array) of the method on the other pairs of images with the same names."""
    values = rows[(rows.metric == "ncc_local") & np.isfinite(rows.value)]
    others = {}
    for _, group in values.groupby([values.pair.map(kind_of), "method"], sort=False):
        for row in group.itertuples():
            others[row.pair, row.method] = group.value[group.pair != row.pair].to_numpy()
    return others


def kind_of(pair):
    """Return the names of a pair's images without the subjects'.

    Examples
    --------
    >>> kind_of("P01-T1_to_P01-CT")
    'T1_to_CT'
    """
    return "_to_".join(image.partition("-")[2] for image in pair.split("_to_"))


def count_in_words(flags, pairs, evaluation: Evaluation):
    """Say on how many of so many pairs which flags were raised; one sentence a flag, the worst first."""
    sentences = []
    for flag, name in FLAGS.items():
        rows = flags[flags.flag == flag]
        if len(rows):
            methods = ", ".join(map(evaluation.label, evaluation.in_order(rows.method)))
            sentences.append(f"{name}: {rows.pair.nunique()} of {len(pairs)} pairs ({methods})")
    return sentences
