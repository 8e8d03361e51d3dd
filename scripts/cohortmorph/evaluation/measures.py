"""The registry of measures: every number that is measured of a result, once.

Its name in tables and in words, unit, which end is good, decimals, what it needs, where it is shown and whether methods
are ranked by it. Figures, report, quality control, statistics and viewer read it here; a new measure is a function in
metrics.py, an entry here and a line in docs/metrics.md. Tables only: neither images nor pictures are loaded.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:  # not loaded: the Snakefile reads this module
    import pandas as pd

Direction = Literal["less", "more"]
# What a pair must have, in words; "" is what every pair has.
NEEDS = {
    "": "images that overlap",
    "landmarks": "landmarks inside the fixed image",
    "labels": "label maps",
    "fiducials": "fiducials",
    "truth": "a known displacement",
    "reverse": "the pair the other way round",
}


@dataclass(frozen=True)
class Measure:
    """A metric as tables, figures and report know it.

    Attributes
    ----------
    metric : str
        Its name in metrics.tsv.
    structure : str
        The row that stands for the whole: ``total`` (of x, y, z), ``mean`` (of structures), ``image``.
    name : str
        For a reader.
    unit : str
        In metrics.tsv: mm, 1, %, s, MB, count or degrees.
    better : {"less", "more", None}
        Which values are better; None where neither end is good by itself.
    decimals : int
        Shown to a reader.
    needs : str
        What the pair must have, a key of :data:`NEEDS`.
    cost : bool
        What a registration costs is no quality of its result: a failed one has no value, and no other takes its place.
    ranked : bool
        Whether methods are ranked by it (what Learn2Reg ranks by: accuracy, robustness, plausibility).
    select : str
        How ``evaluation.selection.metric`` of the configuration calls it; "" if nothing can be selected by it.
    reported_as : str
        The entry of registration.json from which it comes; "" if it is measured.
    shown : frozenset of str
        Beside the tables: ``log`` (of measure_pair), ``page`` (of a pair), ``viewer``.
    in_words : str
        The unit for a reader, where it is not `unit`.
    """

    metric: str
    structure: str
    name: str
    unit: str
    better: Direction | None = None
    decimals: int = 3
    needs: str = ""
    cost: bool = False
    ranked: bool = False
    select: str = ""
    reported_as: str = ""
    shown: frozenset[str] = frozenset()
    in_words: str = ""

    @property
    def key(self) -> tuple[str, str]:
        """(metric, structure), which finds its rows."""
        return self.metric, self.structure

    @property
    def needs_in_words(self) -> str:
        """What the pair must have, for a reader."""
        return NEEDS[self.needs]

    @property
    def reader_unit(self) -> str:
        """The unit as a reader sees it; "" for a number without one."""
        return self.in_words or ("" if self.unit in ("1", "count") else self.unit)

    @property
    def label(self) -> str:
        """The name with its unit, for an axis."""
        return f"{self.name} ({self.reader_unit})" if self.reader_unit else self.name

    @property
    def title(self) -> str:
        """The name as the first word of a title."""
        return self.name[0].upper() + self.name[1:]

    @property
    def direction(self) -> str:
        """Which end is good, as a word; "" where neither is."""
        return {"less": "lower", "more": "higher", None: ""}[self.better]

    @property
    def lower_is_better(self) -> bool:
        """Whether the lower end is the good one."""
        return self.better == "less"

    def rows(self, table: "pd.DataFrame", structure: str | None = None) -> "pd.DataFrame":
        """Return the rows of a tidy table that hold this measure, of another structure if one is given."""
        return table[(table.metric == self.metric) & (table.structure == (structure or self.structure))]


def _shown(*places: str) -> frozenset[str]:
    return frozenset(places)


_EVERYWHERE = _shown("log", "page", "viewer")

# In the order in which they are read: accuracy, overlap, similarity, plausibility, cost.
MEASURES = {
    measure.metric: measure
    for measure in (
        Measure("tre_mean", "total", "TRE", "mm", "less", 2, "landmarks", ranked=True, select="tre", shown=_EVERYWHERE),
        Measure("tre_sd", "total", "TRE, sd", "mm", "less", 2, "landmarks"),
        Measure("tre_median", "total", "TRE, median", "mm", "less", 2, "landmarks", shown=_shown("page")),
        Measure("tre_p95", "total", "TRE, 95th percentile", "mm", "less", 2, "landmarks"),
        Measure("tre_max", "total", "TRE, largest", "mm", "less", 1, "landmarks", shown=_shown("page")),
        Measure("tre_near_mean", "total", "TRE′", "mm", "less", 2, "landmarks"),
        Measure("tre_near_sd", "total", "TRE′, sd", "mm", "less", 2, "landmarks"),
        Measure("tre_relative", "total", "TRE, of that before", "1", "less", 3, "landmarks"),
        Measure(
            "landmarks_improved", "total", "landmarks improved", "%", "more", 0, "landmarks",
            ranked=True, shown=_shown("page"),
        ),
        Measure("landmarks_n", "total", "landmarks", "count", None, 0, "landmarks"),
        Measure(
            "landmarks_outside", "total", "landmarks outside", "count", None, 0, "landmarks", shown=_shown("log")
        ),
        Measure("tre_near_n", "total", "landmarks near", "count", None, 0, "landmarks"),
        Measure("tre_of_rounding", "total", "TRE of rounding", "mm", None, 2, "landmarks"),
        Measure("mae_mean", "total", "MAE", "mm", "less", 2, "truth"),
        Measure("mae_sd", "total", "MAE, sd", "mm", "less", 2, "truth"),
        Measure("dice", "mean", "Dice", "1", "more", 3, "labels", ranked=True, select="dice", shown=_EVERYWHERE),
        Measure("iou", "mean", "IoU", "1", "more", 3, "labels"),
        Measure("surface_dice", "mean", "surface Dice", "1", "more", 3, "labels"),
        Measure("hd95", "mean", "HD95", "mm", "less", 2, "labels", ranked=True, shown=_shown("log")),
        Measure("surface_distance_mean", "mean", "mean surface distance", "mm", "less", 2, "labels"),
        Measure("ncc_local", "image", "local squared NCC", "1", "more", 3, shown=_shown("page")),
        # Of one pair against others, for quality control: a method that covers less may have more of it.
        Measure("ncc_local_covered", "image", "local squared NCC of what is covered", "1", None, 3),
        Measure("ncc_squared", "image", "squared NCC", "1", "more", 3, select="ncc", shown=_EVERYWHERE),
        # The judge between two modalities, whose NCC need not rise where they meet (benchmarks/judges.py).
        Measure("nmi", "image", "NMI", "1", "more", 3, select="nmi", shown=_shown("page", "viewer")),
        Measure("nmi_covered", "image", "NMI of what is covered", "1", None, 3),
        # Images of opposite contrast agree at -1 as well as others at 1.
        Measure("ncc_signed", "image", "NCC", "1", None, 3),
        # What quality control looks at: neither end is good by itself.
        Measure("overlap", "image", "fixed image covered", "%", None, 0, shown=_shown("page")),
        Measure("contrast", "moved", "contrast", "1", None, 3),
        Measure("rotation", "image", "turned", "degrees", None, 1, shown=_shown("page"), in_words="°"),
        # Both a small and a large change of volume may be the truth, but not the sign.
        Measure("jacobian_min", "image", "Jacobian, least", "1", None, 2),
        Measure("jacobian_mean", "image", "Jacobian, mean", "1", None, 2, shown=_shown("page")),
        Measure("jacobian_p01", "image", "Jacobian, 1st percentile", "1", None, 2, shown=_shown("page")),
        Measure("jacobian_p99", "image", "Jacobian, 99th percentile", "1", None, 2, shown=_shown("page")),
        Measure("jacobian_sd_log", "image", "SD of log J", "1", "less", 3, ranked=True),
        Measure("jacobian_sd_log_learn2reg", "image", "SDlogJ (Learn2Reg)", "1", "less", 3),
        # Bone keeps its volume, a bladder does not: only who knows the organ can judge.
        Measure("volume_change", "", "volume change", "%", None, 1, "labels"),
        Measure("folding", "image", "folding", "%", "less", 3, shown=_EVERYWHERE, in_words="% of voxels"),
        Measure("ndv", "image", "folded volume", "%", "less", 3, shown=_shown("log", "page")),
        Measure("border_displacement", "image", "border beyond the affine", "mm", None, 1, shown=_shown("page")),
        Measure("inverse_consistency_mean", "image", "inverse consistency", "mm", "less", 2, "reverse"),
        Measure("inverse_consistency_p95", "image", "inverse consistency, 95th percentile", "mm", "less", 2, "reverse"),
        Measure("inverse_consistency_outside", "image", "without a way back", "%", None, 1, "reverse"),
        Measure(
            "runtime", "image", "runtime", "s", "less", 1, cost=True, reported_as="seconds", shown=_shown("page")
        ),
        Measure("cpu_time", "image", "CPU time", "s", "less", 1, cost=True, reported_as="cpu_seconds"),
        Measure("peak_memory", "image", "peak memory", "MB", "less", 0, cost=True, reported_as="peak_memory_mb"),
        # What was given and cannot be read, by role (`fixed_labels`): no result, but why there is none.
        Measure("unreadable", "", "unreadable", "count", None, 0),
        # What is left at the fiducials says nothing about the error elsewhere (Fitzpatrick 2009).
        Measure("fre", "image", "FRE", "mm", None, 2, "fiducials", reported_as="fre_mm"),
        # Of the affine: 1 where it was judged to be worse than its start, which then stands in its place.
        Measure("start_kept", "image", "start kept", "1", None, 0, reported_as="start_kept"),
    )
}  # fmt: skip
TRE, TRE_NEAR, DICE, NCC, FOLDING, RUNTIME = (
    MEASURES[metric] for metric in ("tre_mean", "tre_near_mean", "dice", "ncc_squared", "folding", "runtime")
)
NMI = MEASURES["nmi"]
SIMILARITIES = [NCC, NMI]  # what stands for the looks of a result: never for its accuracy, unless nothing else does
OVERLAP = MEASURES["overlap"]
START_KEPT = MEASURES["start_kept"]
UNREADABLE = MEASURES["unreadable"]
RANKED = [measure for measure in MEASURES.values() if measure.ranked]
SELECTABLE = {measure.select: measure for measure in MEASURES.values() if measure.select}
REPORTED = [measure for measure in MEASURES.values() if measure.reported_as]


class Row(NamedTuple):
    """One measured value: a row of metrics.tsv without the pair and method that it belongs to."""

    metric: str
    structure: str
    value: float
    unit: str

    @property
    def key(self) -> tuple[str, str]:
        """(metric, structure), as of :class:`Measure`."""
        return self.metric, self.structure


def row(metric: str, structure: str, value: float) -> Row:
    """Return a value of a metric with its unit."""
    return Row(metric, structure, value, MEASURES[metric].unit)


def better(metric: str) -> Direction | None:
    """Say which values of a metric are a better result; None where neither is, and for what a registration costs."""
    measure = MEASURES.get(metric)
    return None if measure is None or measure.cost else measure.better


def shown_in(place: str) -> list[Measure]:
    """Return the measures that are shown at a place, see :attr:`Measure.shown`."""
    return [measure for measure in MEASURES.values() if place in measure.shown]
