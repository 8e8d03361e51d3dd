"""The report's pictures: figures as files, with titles and captions that say on how many pairs they rest."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cohortmorph.evaluation.measures import DICE, NCC, TRE
from cohortmorph.evaluation.tables import Evaluation, as_paths
from cohortmorph.report.wording import digits, pairs_in_words
from cohortmorph.run.files import StrPath

MIME_TYPES = {".png": "image/png", ".svg": "image/svg+xml"}
CURVES, HEADLINE, COMPARISONS = ("training", "selection", "weights"), "methods", ("runtime", "folding", "structures")
CAPTIONS = {
    "training": (
        "Training",
        "Loss of each training and its parts against the epoch, one line a λ; dashed with markers: on validation "
        "data, where it was computed. The first epochs are wild by nature.",
    ),
    "selection": (
        "λ and epoch on validation pairs",
        "Mean over {pairs} against the epoch, one line a λ; bars are 95 % intervals of the mean. The circle marks the "
        "selected λ and epoch.",
    ),
    "weights": (
        "λ at the last epoch, on validation pairs",
        "A stronger regularization (higher λ) gives smoother displacements and usually a lower NCC. Grey lines are the "
        "{pairs}; markers and bars are mean and 95 % interval.",
    ),
    "methods": (
        "Methods on test pairs",
        "Every point is a pair, of {pairs}, in the same order from top to bottom in each row, a cross one on which the "
        "method failed; diamond and bar are mean and 95 % interval of the mean. A logarithmic axis is labelled so.",
    ),
    "runtime": (
        "Accuracy and runtime on test pairs",
        "Means over {pairs}, with 95 % intervals both ways. The dashed line joins the methods than which no other is "
        "both faster and better. Methods without a runtime of their own are left out, and the time of training a "
        "network is not in it.",
    ),
    "folding": (
        "Accuracy and folding on test pairs",
        "Left how well each method does, right the share of the voxels that it turns inside out, which no tissue does; "
        "{pairs}, mean and 95 % interval. An accuracy that was paid with folding is none for dose or for volumes.",
    ),
    "structures": (
        "Structures on test pairs",
        "Each label (without labels: the error along each axis of the patient) on its own, {pairs}: median, quartiles, "
        "and whiskers of up to 1.5 box lengths. A cross: the method failed, and the worst value of the pair counts.",
    ),
    "harmonize": (
        "Harmonized stacks",
        "Above: squared NCC by rotation angle (the best over all starts) and by start slice, with what was chosen. "
        "Below: contours of each image on the fixed one, before (the middles of both on each other, not rotated) and "
        "after.",
    ),
}


@dataclass(frozen=True)
class Picture:
    """A figure file with its title and caption."""

    path: StrPath
    title: str
    caption: str

    @property
    def uri(self) -> str:
        """The file's content as a data URI, so that the report needs no other file."""
        content = base64.b64encode(Path(self.path).read_bytes()).decode()
        return f"data:{MIME_TYPES[Path(self.path).suffix]};base64,{content}"


@dataclass(frozen=True)
class Pictures:
    """The pictures of a report.

    Attributes
    ----------
    headline : Picture or None
        The one for the first page.
    curves : dict of str to sequence of Picture
        Of each network, by its name: its training, and how λ and epoch were chosen.
    comparisons, pairs, harmonized : sequence of Picture
        Of the methods, of single pairs (the worst first) and of single subjects.
    left_out : int
        Number of pictures of pairs that are not in the report, but among the figures.
    """

    headline: Picture | None = None
    curves: Mapping[str, Sequence[Picture]] = field(default_factory=dict)
    comparisons: Sequence[Picture] = ()
    pairs: Sequence[Picture] = ()
    harmonized: Sequence[Picture] = ()
    left_out: int = 0

    @classmethod
    def of(
        cls,
        evaluation: Evaluation,
        figures: Mapping[str, Any],
        pairs: Mapping[str, StrPath],
        subjects: Mapping[str, StrPath],
        networks: Sequence[str] = (),
        most: int = 12,
    ) -> "Pictures":
        """Put titles and captions to the figures of a run.

        Parameters
        ----------
        evaluation : Evaluation
        figures : dict of name to path
            PNG or SVG, by the keys of :data:`CAPTIONS`; what is missing or "" is left out. Those of plot_training and
            plot_selection are lists, a path each of `networks`.
        pairs, subjects : dict of id to path
            Of plot_pair and of plot_harmonize.
        networks : list of str
            Their names.
        most : int
            So many of pairs, and of subjects, are in the report: it stays a file that a browser opens.
        """
        worst = pair_pictures(pairs, evaluation)
        _, caption = CAPTIONS["harmonize"]
        curves: dict[str, dict[str, StrPath]] = {network: {} for network in networks}
        for name in CURVES:
            if paths := as_paths(figures.get(name)):
                for network, path in zip(networks, paths, strict=True):
                    curves[network][name] = path
        return cls(
            headline=next(iter(_captioned(evaluation, "test", figures, [HEADLINE])), None),
            curves={network: _captioned(evaluation, "validation", paths, CURVES) for network, paths in curves.items()},
            comparisons=_captioned(evaluation, "test", figures, COMPARISONS),
            pairs=worst[:most],
            harmonized=[Picture(path, subject, caption) for subject, path in list(subjects.items())[:most]],
            left_out=len(worst[most:]),
        )


def _captioned(
    evaluation: Evaluation, split: str, figures: Mapping[str, StrPath], names: Sequence[str]
) -> list[Picture]:
    """Return the pictures that there are, with their captions, which say on how many pairs of a split they rest."""
    metrics = evaluation.metrics
    pairs = pairs_in_words(metrics[metrics.split == split].pair).replace("pair", f"{split} pair", 1)
    return [
        Picture(figures[name], CAPTIONS[name][0], CAPTIONS[name][1].format(pairs=pairs))
        for name in names
        if figures.get(name)
    ]


def pair_pictures(paths: Mapping[str, StrPath], evaluation: Evaluation) -> list[Picture]:
    """Return the pictures of pairs (paths by pair id), the worst first by the accuracy of the last method."""
    metrics = evaluation.metrics
    shown = evaluation.compared(metrics)
    measure = next((one for one in (TRE, DICE, NCC) if one.rows(shown).value.notna().any()), TRE)
    values = measure.rows(shown).pivot_table(index="pair", columns="method", values="value")
    methods = evaluation.in_order(values.columns)
    last = values[methods[-1]].reindex(list(paths)) if methods else pd.Series(np.nan, index=list(paths))
    # What failed altogether comes before all else.
    order = last.sort_values(ascending=not measure.lower_is_better, na_position="first", kind="stable").index
    splits = metrics.drop_duplicates("pair").set_index("pair").split
    unit = f" ({measure.reader_unit})" if measure.reader_unit else ""
    pictures = []
    for pair in order:
        of_pair = values.loc[pair] if pair in values.index else {}
        numbers = "; ".join(
            f"{evaluation.label(method)} {digits(measure, of_pair[method])}" for method in methods if method in of_pair
        )
        caption = (
            "Fixed image and what each method made of the moving one, as radiologists look at it (the patient's left "
            "on the right); then both in turn on a checkerboard, and their difference. Where the modalities differ, "
            "the difference shows contrast as well as misalignment. "
            + (f"{measure.title}{unit}: {numbers}." if numbers else "Nothing was measured on this pair.")
        )
        pictures.append(Picture(paths[pair], f"{pair} ({splits.get(pair, 'not measured')} pair)", caption))
    return pictures
