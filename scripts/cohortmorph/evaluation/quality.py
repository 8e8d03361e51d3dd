"""Quality control: which registrations somebody should look at, and why.

A flag is no verdict. It says in a sentence what was found and which limit of the configuration (`quality`) it passed;
docs/quality.md says what each flag can and cannot see, and how often they are right on the phantom. All is read from
metrics.tsv and failures.tsv, so that flags and report never disagree.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from cohortmorph.cohort.methods import STARTS
from cohortmorph.cohort.pairs import in_words, kind_of, subjects_of
from cohortmorph.evaluation.tables import FLAGS_COLUMNS, Evaluation

# The worst first: what makes a result worthless, then what makes it wrong, then what makes it doubtful.
FLAGS = {
    "failed": "registration failed",
    "unreadable": "a file cannot be read",
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
FEWEST_OTHERS = 2  # pairs of the same kind without which nothing can be said to be unlike them
MAD_TO_SD = 1.4826  # of a normal distribution: median absolute deviation → standard deviation


@dataclass(frozen=True)
class Likeness:
    """What says how alike the images of a pair look, once they are registered.

    Attributes
    ----------
    metric, covered : str
        In metrics.tsv, over all voxels and over those that the moving image covers.
    unrelated : float
        Its value for images that tell nothing of each other: losses are counted from there.
    name : str
        Of the value less `unrelated`, in a sentence.
    """

    metric: str
    covered: str
    unrelated: float
    name: str


# Between two modalities NCC may fall where a registration gets better, and rise where it gets worse.
OF_ONE_MODALITY = Likeness("ncc_local", "ncc_local_covered", 0, "local squared NCC")
OF_TWO = Likeness("nmi", "nmi_covered", 1, "NMI, less the 1 of unrelated images,")


class Flag(NamedTuple):
    """One doubt: which of :data:`FLAGS`, what was found, the limit that it passed, and both in a sentence."""

    flag: str
    value: float
    threshold: float
    sentence: str


@dataclass(frozen=True)
class Measured:
    """What was measured on one pair.

    Attributes
    ----------
    values : dict of (method, metric, structure) to float
        Of the methods that are compared; of a network only the selected one.
    likeness : Likeness
        What says how alike its images look.
    similarity_of_others : dict of method to array
        The likeness of what the same method covers on the other pairs of images with the same names: pairs differ in
        how much their images share, which is no doubt of its own.
    settings : dict
        The configuration's ``quality``.
    """

    values: Mapping[tuple[str, str, str], float]
    likeness: Likeness
    similarity_of_others: Mapping[str, np.ndarray]
    settings: Mapping[str, float]

    def get(self, method: str, metric: str, structure: str = "image") -> float:
        """Return a value, NaN if there is none."""
        return self.values.get((method, metric, structure), np.nan)

    def before(self, method: str, metric: str, structure: str, best: Callable[..., str]) -> tuple[str, float]:
        """Return (stage, value) of the best stage before `method` that covers enough of the fixed image to count.

        ("", NaN) if there is none.
        """
        stages = STARTS[: STARTS.index(method)] if method in STARTS else STARTS
        enough = [stage for stage in stages if not self.get(stage, "overlap") < self.settings["overlap_percent_min"]]
        found = {stage: self.get(stage, metric, structure) for stage in enough}
        found = {stage: value for stage, value in found.items() if np.isfinite(value)}
        stage = best(found, key=found.__getitem__) if found else ""
        return stage, found.get(stage, np.nan)


def flags(
    evaluation: Evaluation, settings: Mapping[str, float], of_two_modalities: Collection[str] = ()
) -> pd.DataFrame:
    """Return the flags of all pairs, the worst first.

    Parameters
    ----------
    evaluation : Evaluation
        Its metrics and failures; of each network only the selected one is looked at.
    settings : dict
        The configuration's ``quality``.
    of_two_modalities : collection of str
        The pairs that are judged by NMI; all others by the local NCC.

    Returns
    -------
    DataFrame
        With :data:`~cohortmorph.evaluation.tables.FLAGS_COLUMNS`, sorted by the order of :data:`FLAGS`, then by how far
        the limit is passed. ``value`` and ``threshold`` are in the unit that the sentence names; both are NaN where a
        registration failed, or a file cannot be read.
    """
    rows = evaluation.compared(evaluation.metrics)
    methods = evaluation.in_order(rows.method)
    found: list[tuple[Any, ...]] = []
    for row in evaluation.compared(evaluation.failures).itertuples():
        found.append((row.pair, row.method, *Flag("failed", np.nan, np.nan, f"Failed: {row.why.rstrip('.')}.")))
    for row in evaluation.unreadable.itertuples():  # of no method: it is said once, of the start
        sentence = f"What stands in the column {row.column} of {in_words(row.image)} cannot be read."
        found.append((row.pair, STARTS[0], *Flag("unreadable", np.nan, np.nan, sentence)))
    two = set(of_two_modalities)
    similarities = _similarity_of_others(rows, two)
    for pair, of_pair in rows.groupby("pair", sort=False):
        keys = zip(of_pair.method, of_pair.metric, of_pair.structure, strict=True)
        values = dict(zip(keys, of_pair.value, strict=True))
        measured = Measured(values, _likeness(pair, two), similarities.get(pair, {}), settings)
        for method in methods:
            for check, passed_over in CHECKS.items():
                if method not in passed_over:
                    found += [(pair, method, *flag) for flag in check(measured, method)]
    return sort(pd.DataFrame(found, columns=FLAGS_COLUMNS[1:]))


def sort(table: pd.DataFrame) -> pd.DataFrame:
    """Complete a table of flags (without ``subject``) with the subjects, and put the worst first."""
    subjects = [", ".join(sorted(subjects_of([pair]))) for pair in table.pair]
    table.insert(0, "subject", subjects)
    # Limits are passed upwards or downwards: what counts is by which factor.
    with np.errstate(divide="ignore", invalid="ignore"):
        factor = np.abs(np.log(table.value.astype(float).abs() / table.threshold.astype(float).abs())).fillna(np.inf)
    rank = table.flag.map({flag: place for place, flag in enumerate(FLAGS)})
    order = table.assign(rank=rank, factor=-factor).sort_values(["rank", "factor", "pair", "method"], kind="stable")
    return order[FLAGS_COLUMNS].reset_index(drop=True)


def by_pair(flags: pd.DataFrame, pairs: Iterable[str]) -> dict[str, pd.DataFrame]:
    """Return ``{pair: its flags}`` of all `pairs`, that with the worst flag first, those without a flag last.

    Of two pairs with the same worst flag that with more flags comes first.
    """
    tables = {pair: flags[flags.pair == pair] for pair in pairs}
    ranks = list(FLAGS)

    def place(pair: str) -> tuple[int, int, str]:
        table = tables[pair]
        return (min(map(ranks.index, table.flag), default=len(ranks)), -len(table), pair)

    return {pair: tables[pair] for pair in sorted(tables, key=place)}


def _empty_image(pair: Measured, method: str) -> Iterator[Flag]:
    """An image shows nothing, or the moved image nothing where it covers the fixed one."""
    limit = pair.settings["contrast_min"]
    empty = [image for image in ("fixed", "moving") if pair.get("initial", "contrast", image) < limit]
    # What is empty from the start is said once, of the start.
    images = empty if method == "initial" else [] if empty else ["moved"]
    for image in images:
        value = pair.get(method, "contrast", image)
        if value < limit:
            where = " where it covers the fixed one" if image == "moved" else ""
            yield Flag(
                "empty_image",
                value,
                limit,
                f"The {image} image shows nothing{where}: the standard deviation of its prepared intensities (0 to 1) "
                f"is {value:.2g}, below {limit:g}.",
            )


def _little_overlap(pair: Measured, method: str) -> Iterator[Flag]:
    """The moving image covers too little of the fixed one."""
    value, limit = pair.get(method, "overlap"), pair.settings["overlap_percent_min"]
    if value < limit:
        yield Flag(
            "little_overlap", value, limit,
            f"The moving image covers {value:.0f} % of the fixed one, less than {limit:g} %.",
        )  # fmt: skip


def _landmarks_far(pair: Measured, method: str) -> Iterator[Flag]:
    """The landmarks lie further apart than any usable registration leaves them."""
    value, limit = pair.get(method, "tre_mean", "total"), pair.settings["tre_mm_max"]
    if value > limit:
        sentence = f"The landmarks lie {value:.1f} mm apart (mean TRE), more than {limit:g} mm."
        yield Flag("landmarks_far", value, limit, sentence)


def _landmarks_worse(pair: Measured, method: str) -> Iterator[Flag]:
    """The landmarks lie further apart than before."""
    stage, before_mm = pair.before(method, "tre_mean", "total", min)
    value, limit = pair.get(method, "tre_mean", "total"), before_mm + pair.settings["tre_increase_mm_max"]
    if value > limit:
        yield Flag(
            "landmarks_worse", value, limit,
            f"The landmarks lie {value:.1f} mm apart (mean TRE); by {stage} it was {before_mm:.1f} mm. An increase of "
            f"{pair.settings['tre_increase_mm_max']:g} mm is allowed.",
        )  # fmt: skip


def _similarity_worse(pair: Measured, method: str) -> Iterator[Flag]:
    """The images look less alike than before, whatever the sign of the contrast."""
    of = pair.likeness
    stage, best = pair.before(method, of.metric, "image", max)
    loss_percent = pair.settings["similarity_loss_percent_max"]
    value, before = pair.get(method, of.metric) - of.unrelated, best - of.unrelated
    limit = before * (1 - loss_percent / 100)
    if value < limit:
        yield Flag(
            "similarity_worse", value, limit,
            f"The {of.name} is {value:.3f}; by {stage} it was {before:.3f}. A loss of {loss_percent:g} % is allowed.",
        )  # fmt: skip


def _unlike_others(pair: Measured, method: str) -> Iterator[Flag]:
    """The images look less alike than this method makes those of other pairs of the same kind, beyond their spread."""
    of, others = pair.likeness, pair.similarity_of_others.get(method, np.empty(0)) - pair.likeness.unrelated
    if len(others) < FEWEST_OTHERS:
        return
    median = float(np.median(others))
    spread = MAD_TO_SD * float(np.median(np.abs(others - median)))
    share_percent = pair.settings["similarity_of_others_percent_min"]
    deviations = pair.settings["similarity_of_others_deviations_max"]
    value = pair.get(method, of.covered) - of.unrelated
    limit = min(median * share_percent / 100, median - deviations * spread)
    if value < limit:
        yield Flag(
            "unlike_others",
            value,
            limit,
            f"The {of.name} of what is covered is {value:.3f}; the median of the {len(others)} other pairs of these "
            f"images is {median:.3f}, and {limit:.3f} is expected at least.",
        )


def _rotation(pair: Measured, method: str) -> Iterator[Flag]:
    """The displacement turns the image further than a patient lies."""
    value, limit = pair.get(method, "rotation"), pair.settings["rotation_degrees_max"]
    if value > limit:
        yield Flag("rotation", value, limit, f"The image is turned by {value:.0f}°, more than {limit:g}°.")


def _folding(pair: Measured, method: str) -> Iterator[Flag]:
    """Space is turned inside out."""
    found = {name: pair.get(method, name) for name in ("folding", "ndv")}
    value, limit = np.nanmax([*found.values(), -np.inf]), pair.settings["folding_percent_max"]
    if value > limit:
        of = "voxels" if found["folding"] == value else "volume (between voxels)"
        yield Flag("folding", value, limit, f"{value:.2g} % of the {of} are turned inside out, more than {limit:g} %.")


def _volume_change(pair: Measured, method: str) -> Iterator[Flag]:
    """Tissue grows or shrinks as a whole, or somewhere by a large factor; the affine's scaling is part of it."""
    limit = pair.settings["volume_percent_max"]
    value = 100 * (pair.get(method, "jacobian_mean") - 1)
    if abs(value) > limit:
        yield Flag(
            "volume_change", value, np.copysign(limit, value),
            f"The mean volume changes by {value:+.0f} % (mean of the Jacobian determinant, less 1), more than "
            f"{limit:g} %.",
        )  # fmt: skip
    factor = pair.settings["volume_factor_max"]
    low, high = pair.get(method, "jacobian_p01"), pair.get(method, "jacobian_p99")
    if high > factor:
        yield Flag(
            "volume_change", high, factor,
            f"1 % of the volume grows at least {high:.1f} times (99th percentile of the Jacobian determinant), more "
            f"than {factor:g} times.",
        )  # fmt: skip
    if low < 1 / factor:
        yield Flag(
            "volume_change", low, 1 / factor,
            f"1 % of the volume shrinks to at most {max(low, 0):.2f} of itself (1st percentile of the Jacobian "
            f"determinant), less than {1 / factor:.2f}.",
        )  # fmt: skip


def _border_displacement(pair: Measured, method: str) -> Iterator[Flag]:
    """What lies at the border of the image, where it holds least, is moved far from where the affine put it."""
    value, limit = pair.get(method, "border_displacement"), pair.settings["border_displacement_mm_max"]
    if value > limit:
        yield Flag(
            "border_displacement", value, limit,
            f"At the image's border the displacement differs from the affine by {value:.1f} mm (95th percentile), more "
            f"than {limit:g} mm.",
        )  # fmt: skip


# Each check, and the methods that it passes over. Where the scanners put the images (`initial`) is no registration.
CHECKS: dict[Callable[[Measured, str], Iterator[Flag]], Sequence[str]] = {
    _empty_image: (),
    _little_overlap: ("initial",),
    _landmarks_worse: ("initial",),
    _similarity_worse: ("initial",),
    _rotation: ("initial",),
    _volume_change: ("initial",),
    _landmarks_far: ("initial", "harmonized"),
    _folding: STARTS,
    _border_displacement: STARTS,
    _unlike_others: ("initial",),
}


def _likeness(pair: str, of_two_modalities: Collection[str]) -> Likeness:
    return OF_TWO if pair in of_two_modalities else OF_ONE_MODALITY


def _similarity_of_others(rows: pd.DataFrame, of_two_modalities: Collection[str]) -> dict[str, dict[str, np.ndarray]]:
    """Return ``{pair: {method: likeness}}`` of the method on the other pairs of images with the same names."""
    wanted = rows.pair.map({pair: _likeness(pair, of_two_modalities).covered for pair in rows.pair.unique()})
    values = rows[(rows.metric == wanted) & np.isfinite(rows.value)]
    others: dict[str, dict[str, np.ndarray]] = {}
    for _, group in values.groupby([values.pair.map(kind_of), "metric", "method"], sort=False):
        for row in group.itertuples():
            others.setdefault(row.pair, {})[row.method] = group.value[group.pair != row.pair].to_numpy()
    return others


def count_in_words(flags: pd.DataFrame, pairs: Collection[str], evaluation: Evaluation) -> list[str]:
    """Say on how many of so many pairs which flags were raised; one sentence a flag, the worst first.

    Parameters
    ----------
    flags : DataFrame
        See :func:`flags`.
    pairs : collection of str
        All that were looked at.
    evaluation : Evaluation
        For the names and the order of methods.
    """
    sentences = []
    for flag, name in FLAGS.items():
        rows = flags[flags.flag == flag]
        if len(rows):
            methods = ", ".join(map(evaluation.label, evaluation.in_order(rows.method)))
            sentences.append(f"{name}: {rows.pair.nunique()} of {len(pairs)} pairs ({methods})")
    return sentences
