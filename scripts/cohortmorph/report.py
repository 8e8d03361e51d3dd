"""The report: one HTML file that needs nothing else, with what the cohort says and what it cannot say.

Everything is read from the evaluation's tables; only ids of the cohort table name anything. The template beside this
module escapes every text.
"""

import base64
import hashlib
import platform
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import jinja2
import numpy as np
import pandas as pd
import yaml

from cohortmorph.figures import (
    DICE,
    FOLDING,
    NCC,
    RUNTIME,
    TRE,
    Measure,
    method_label,
    ordered_methods,
    ordered_weights,
)
from cohortmorph.quality import FLAGS, by_pair, count_in_words
from cohortmorph.statistics import (
    SIGNIFICANCE,
    compared,
    failures_as_worst,
    independent_units,
    smallest_p_holm,
    subjects_of,
)

# Below this many subjects a percentile bootstrap interval is too narrow to lean on.
FEW_SUBJECTS = 10
PACKAGES = (
    "itk-elastix", "matplotlib", "neurite", "nibabel", "numpy", "pandas", "pydicom", "scipy", "SimpleITK", "snakemake",
    "tensorflow", "tensorflow-cpu", "tf-keras", "voxelmorph",
)  # fmt: skip
TRE_NEAR = Measure("tre_near_mean", "total", "TRE′", "mm", True)
DECIMALS = {"mm": 2, "% of voxels": 3, "s": 1, "": 3}
MIME_TYPES = {".png": "image/png", ".svg": "image/svg+xml"}


@dataclass(frozen=True)
class Picture:
    """A figure file with its title and caption."""

    path: str
    title: str
    caption: str

    @property
    def uri(self):
        """The file's content as a data URI, so that the report needs no other file."""
        content = base64.b64encode(Path(self.path).read_bytes()).decode()
        return f"data:{MIME_TYPES[Path(self.path).suffix]};base64,{content}"


@dataclass(frozen=True)
class Verdict:
    """Which method is best by one measure on the test pairs, and how sure that is."""

    measure: Measure
    method: str
    value: str
    sentences: list = field(default_factory=list)

    @property
    def title(self):
        """The measure, and which end of it counts."""
        return f"{self.measure.title}, {'lowest' if self.measure.lower_is_better else 'highest'} mean"


def write_text(measure, value):
    """Write a value of a measure with its unit; a missing one is a dash."""
    return f"{digits(measure, value)} {measure.unit}".rstrip() if np.isfinite(value) else "–"


def digits(measure, value):
    """Write a value of a measure without its unit; a missing one is a dash."""
    return f"{value:.{DECIMALS[measure.unit]}f}" if np.isfinite(value) else "–"


def interval(measure, row):
    """Write the 95 % interval of a row of the summary; one pair has none."""
    if not np.isfinite(row.ci_low):
        return "no interval from a single subject"
    return f"95 % interval {digits(measure, row.ci_low)} to {digits(measure, row.ci_high)}"


def count(number, noun):
    """Write a number with its noun, in the plural where it needs one."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def pairs_in_words(pairs):
    """Write how many pairs of how many subjects."""
    pairs = set(pairs)
    return f"{count(len(pairs), 'pair')} of {count(len(subjects_of(pairs)), 'subject')}"


def read_texts(path, texts):
    """Read a table in which these columns hold texts and "" is one; epoch is an integer or <NA>."""
    table = pd.read_csv(path, sep="\t", dtype=dict.fromkeys(texts, str) | {"epoch": "Int64"})
    return table.fillna(dict.fromkeys(texts, ""))


def read_tests(path):
    """Read comparison.tsv."""
    return read_texts(path, ["split", "metric", "structure", "unit", "method", "reference"])


def read_flags(path):
    """Read flags.tsv."""
    return read_texts(path, ["subject", "pair", "method", "flag", "sentence"])


def read_failures(path):
    """Read failures.tsv."""
    return read_texts(path, ["pair", "split", "method", "weight", "why"])


# What the tables say ------------------------------------------------------------------------------------------------


def verdict(measure, metrics, summary, selected):
    """Return the Verdict of one measure on the test pairs, or None if it was not measured.

    Failed registrations count as the worst value of their pair, in the means as in the pairs that are won.
    """
    rows = measure.rows(compared(summary[summary.split == "test"], selected)).dropna(subset=["mean"])
    points = measure.rows(compared(failures_as_worst(metrics[metrics.split == "test"]), selected))
    points = points.dropna(subset=["value"])
    if rows.empty:
        return None
    complete = rows[rows.n == rows.n.max()]
    ranking = complete.sort_values("mean", ascending=measure.lower_is_better, kind="stable")
    best = ranking.iloc[0]
    of_best = points[points.method == best.method].set_index("pair").value
    sentences = [f"{interval(measure, best).capitalize()}, n = {pairs_in_words(of_best.index)}."]
    if best.failed:
        sentences.append(f"It failed on {count(int(best.failed), 'pair')}, where the worst value counts.")
    if best.method == "initial":
        sentences.append("This is the start: no registration improved it on average.")
    if len(ranking) > 1:
        second = ranking.iloc[1]
        of_second = points[points.method == second.method].set_index("pair").value.reindex(of_best.index)
        won = int((of_best < of_second).sum() if measure.lower_is_better else (of_best > of_second).sum())
        sentences.append(
            f"Next: {method_label(second.method, selected)}, {write_text(measure, second['mean'])} "
            f"({interval(measure, second)}); {best.method} is better than it on {won} of {count(len(of_best), 'pair')}."
        )
        others = ranking.iloc[1:]
        overlapping = others[(others.ci_low <= best.ci_high) & (others.ci_high >= best.ci_low)]
        if len(overlapping):
            names = ", ".join(ordered_methods(overlapping.method))
            sentences.append(f"Its interval overlaps with that of {names}: the intervals do not tell them apart.")
        elif best.subjects >= FEW_SUBJECTS:
            sentences.append("Its interval overlaps with that of no other method.")
    failing = rows[(rows.failed > 0) & (rows.method != best.method)]
    if len(failing):
        names = ", ".join(ordered_methods(failing.method))
        sentences.append(f"Failed on some pair, where the worst value counts: {names}.")
    incomplete = rows[rows.n < rows.n.max()]
    if len(incomplete):
        sentences.append(f"Not ranked, without a value on some pair: {', '.join(ordered_methods(incomplete.method))}.")
    return Verdict(
        measure,
        method_label(best.method, selected),
        write_text(measure, best["mean"]),
        sentences,
    )


def front(verdicts, choice, metrics, tests, failures, flags, selected):
    """Return what the first page answers, each as ``question``, ``answer``, ``value`` and ``level`` (good or doubt).

    Parameters
    ----------
    verdicts : list of Verdict
    choice : dict or None
        See :func:`choice`.
    metrics, tests, failures, flags : DataFrame
        metrics.tsv, comparison.tsv, failures.tsv and flags.tsv.
    selected : dict or None
        selected_model.json.
    """
    tiles = []
    if verdicts:
        best, *others = verdicts
        agreeing = [one.measure.name for one in others if one.method == best.method]
        differing = [f"by {one.measure.name} {one.method}" for one in others if one.method != best.method]
        said = [f"{best.measure.name} {best.value}", best.sentences[0].rstrip(".")]
        said += [f"best by {' and '.join(agreeing)} too"] if agreeing else []
        tiles.append(_tile("Which method?", best.method, "; ".join([*said, *differing]) + ".", not differing))
    else:
        tiles.append(_tile("Which method?", "unknown", "Nothing was measured on test pairs.", False))
    if choice:
        said = " ".join([choice["value"][0].upper() + choice["value"][1:] + ".", *choice["warnings"]])
        tiles.append(_tile("Which λ and epoch?", choice["headline"], said, not choice["warnings"]))
    tiles.append(_how_sure(metrics, tests))
    pairs, flagged = set(metrics.pair) | set(flags.pair), set(flags.pair)
    of_test = compared(failures, selected)
    said = f"{count(len(of_test), 'registration')} failed." if len(of_test) else "No registration failed."
    if flagged:
        said += " Where a limit of the quality control is passed, look before you trust."
    answer = f"{len(flagged)} of {count(len(pairs), 'pair')} flagged" if flagged else "nothing flagged"
    tiles.append(_tile("What failed?", answer, said, not flagged and not len(of_test)))
    return tiles


def _tile(question, answer, value, good):
    return {"question": question, "answer": answer, "value": value, "level": "good" if good else "doubt"}


def _how_sure(metrics, tests):
    """Say in a word how much the test subjects allow to conclude, and against how many methods the best one stands."""
    question = "How sure?"
    units = set(independent_units(set(metrics[metrics.split == "test"].pair)).values())
    if not units:
        return _tile(question, "not at all", "There is no test pair.", False)
    measures = tested(tests)
    told = ""
    significant = False
    if measures:
        rows = measures[0].rows(tests)
        rows = rows[(rows.reference == rows.reference.iloc[0]) & (rows.method != rows.reference)]
        clear = int((rows.p_holm < SIGNIFICANCE).sum())
        significant = len(rows) > 0 and clear == len(rows)
        told = (
            f" By {measures[0].name} the best one differs from {clear} of {len(rows)} others with corrected p < 0.05."
        )
    number = count(len(units), "independent test subject")
    if len(units) < FEW_SUBJECTS:
        verb = "is" if len(units) == 1 else "are"
        return _tile(question, "a hint", f"{number} {verb} too few to rank methods.{told}", False)
    return _tile(question, "clear" if significant else "in part", f"{number}.{told}", significant)


def quality_table(flags, metrics, selected, links):
    """Return every pair with its flags, the worst first: dicts of pair, link, split, flags and the first sentence.

    Parameters
    ----------
    flags, metrics : DataFrame
        flags.tsv and metrics.tsv.
    selected : dict or None
        selected_model.json.
    links : dict of pair to address
        Of the pairs' pages, relative to the report; a pair without one has no link.
    """
    splits = metrics.drop_duplicates("pair").set_index("pair").split
    rows = []
    for pair, raised in by_pair(flags, [*splits.index, *sorted(set(flags.pair) - set(splits.index))]).items():
        names = [
            f"{FLAGS[flag]} ({', '.join(method_label(method, selected) for method in ordered_methods(of.method))})"
            for flag, of in raised.groupby("flag", sort=False)
        ]
        rows.append(
            {
                "pair": pair,
                "link": links.get(pair, ""),
                "split": splits.get(pair, "train"),
                "flags": names,
                "sentence": raised.sentence.iloc[0] if len(raised) else "",
            }
        )
    return rows


def sureness(metrics, tests):
    """Say in sentences how much the number of test subjects allows to conclude.

    Parameters
    ----------
    metrics, tests : DataFrame
        metrics.tsv and comparison.tsv.
    """
    pairs = set(metrics[metrics.split == "test"].pair)
    if not pairs:
        return ["There is no test pair: nothing here says how well any method does on subjects it has not seen."]
    units, subjects = set(independent_units(pairs).values()), subjects_of(pairs)
    sentences = []
    if len(units) < FEW_SUBJECTS:
        sentences.append(
            f"{count(len(units), 'independent test subject')} {'is' if len(units) == 1 else 'are'} too few to rank "
            f"methods: below {FEW_SUBJECTS}, intervals drawn from the subjects themselves come out too narrow, even "
            "where they do not overlap. Read the order as a hint."
        )
    for measure in tested(tests):
        rows = measure.rows(tests)
        subjects_n, methods = int(rows.n.max()), rows[rows.reference == rows.reference.iloc[0]].method.nunique() + 1
        smallest = smallest_p_holm(subjects_n, methods)
        if smallest >= SIGNIFICANCE:
            sentences.append(
                f"{measure.title}: with {count(subjects_n, 'subject')} the smallest p that Wilcoxon's test can give is "
                f"{min(1, 2 / 2**subjects_n):.2g}, and {smallest:.2g} after the correction for the "
                f"{count(methods * (methods - 1) // 2, 'pair')} of {methods} methods. No difference can be "
                "significant, however clear it is; nor does a large p say that two methods are equally good."
            )
    if len(subjects) > len(units):
        shared = sorted(set.intersection(*(subjects_of([pair]) for pair in pairs)))
        if len(shared) == 1 and len(units) == len(subjects) - 1:
            sentences.append(
                f"{shared[0]} takes part in every test pair: what is found holds for registrations with it."
            )
        else:
            sentences.append(
                f"Pairs between subjects link the {count(len(subjects), 'test subject')} to "
                f"{count(len(units), 'independent group')}; intervals and tests rest on the groups."
            )
    return sentences


def tested(tests):
    """Return the measures of which the report shows tests: TRE and Dice, squared NCC if there is neither."""
    shown = [measure for measure in (TRE, DICE) if len(measure.rows(tests))]
    return shown or [measure for measure in (NCC,) if len(measure.rows(tests))]


def tests_table(tests, selected):
    """Return how each method differs from the best one, as (columns, rows of text).

    Parameters
    ----------
    tests : DataFrame
        comparison.tsv.
    selected : dict or None
        selected_model.json.
    """
    columns = ["measure", "method", "against the best", "subjects", "failed pairs", "median difference",
               "95 % interval", "effect size", "p", "p corrected"]  # fmt: skip
    table = []
    for measure in tested(tests):
        rows = measure.rows(tests)
        # The best comes first in the file; affine, the other reference, is in the file only.
        rows = rows[rows.reference == rows.reference.iloc[0]].set_index("method")
        for method in ordered_methods(rows.index):
            row = rows.loc[method]
            table.append(
                [
                    measure.label,
                    method_label(method, selected),
                    method_label(row.reference, selected) if row.reference else "–",
                    str(row.n),
                    str(row.failed),
                    _signed(measure, row.median_difference),
                    "–"
                    if np.isnan(row.ci_low)
                    else f"{_signed(measure, row.ci_low)} to {_signed(measure, row.ci_high)}",
                    "–" if np.isnan(row.effect_size) else f"{row.effect_size:+.2f}",
                    _probability(row.p),
                    _probability(row.p_holm) + (" *" if row.p_holm < SIGNIFICANCE else ""),
                ]
            )
    return columns, table


def _signed(measure, value):
    """Write a difference with its sign; a missing one is a dash."""
    return f"{value:+.{DECIMALS[measure.unit]}f}" if np.isfinite(value) else "–"


def _probability(p):
    """Write a p value; a tiny one by its bound."""
    return "–" if np.isnan(p) else "< 0.0001" if p < 1e-4 else f"{p:.2g}"


def ranking_table(ranking, selected):
    """Return the ranking in Learn2Reg's manner, as (columns, rows of text).

    Parameters
    ----------
    ranking : DataFrame
        ranking.tsv.
    selected : dict or None
        selected_model.json.
    """
    names = {"tre_mean": "TRE", "landmarks_improved": "landmarks improved", "dice": "Dice", "hd95": "HD95",
             "jacobian_sd_log": "SD of log J"}  # fmt: skip
    metrics = [column.removesuffix("_wins") for column in ranking.columns if column.endswith("_wins")]
    columns = ["rank", "method", "score", *(f"{names[one]}: wins, score" for one in metrics), "runtime (s)"]
    table = [
        [
            f"{row['rank']}",
            method_label(row["method"], selected),
            f"{row['score']:.2f}",
            *(f"{row[f'{one}_wins']:g}, {row[f'{one}_score']:.2f}" for one in metrics),
            digits(RUNTIME, row["runtime_s"]),
        ]
        for _, row in ranking.iterrows()
    ]
    return columns, table if metrics else []


def ranking_caution(ranking):
    """Say in a sentence if the ranking tells nothing; "" if it does."""
    wins = ranking.filter(regex="_wins$")
    if not len(wins.columns) or wins.to_numpy().any():
        return ""
    subjects_n = int(ranking.filter(regex="_n$").to_numpy().max())
    return (
        f"No method is better than another with p < {SIGNIFICANCE:g} in any metric, so all share the first rank: with "
        f"{count(subjects_n, 'subject')}, this ranking says nothing."
    )


def choice(selected):
    """Describe how λ and epoch were chosen: the sentence, warnings, and the table of candidates.

    Parameters
    ----------
    selected : dict
        selected_model.json.

    Returns
    -------
    dict
        ``headline``, ``reason``, ``warnings``, and ``epochs`` with ``rows`` of (λ, one cell an epoch).
    """
    candidates = {(str(one["weight"]), int(one["epoch"])): one for one in selected.get("candidates", [])}
    weights = ordered_weights(weight for weight, _ in candidates)
    epochs = sorted({epoch for _, epoch in candidates})
    chosen = (str(selected["weight"]), int(selected["epoch"]))
    edges = []
    if len(weights) > 1 and chosen[0] in (weights[0], weights[-1]):
        edges.append(f"the {'smallest' if chosen[0] == weights[0] else 'largest'} λ")
    if len(epochs) > 1 and chosen[1] == epochs[-1]:
        edges.append("the last epoch")
    warnings = []
    if edges:
        warnings.append(
            f"The choice lies at the edge of what was tried ({' and '.join(edges)}): a better one may lie beyond."
        )
    if not selected.get("admissible", True):
        warnings.append("Every candidate folds more than the configuration admits.")
    unit = "" if selected.get("unit", "1") == "1" else f" {selected['unit']}"
    name = next(
        (measure.name for measure in (TRE, DICE, NCC) if measure.metric == selected["metric"]), selected["metric"]
    )
    return {
        "headline": f"λ = {chosen[0]}, epoch {chosen[1]}",
        "value": f"mean {name} {selected['value']:.3f}{unit} on "
        f"{count(selected['validation_pairs'], 'validation pair')}",
        "reason": selected["reason"],
        "warnings": warnings,
        "metric": f"{name}{f' ({unit.strip()})' if unit else ''}",
        "epochs": epochs,
        "rows": [
            (weight, [_candidate(candidates.get((weight, epoch)), (weight, epoch) == chosen) for epoch in epochs])
            for weight in weights
        ],
    }


def _candidate(candidate, is_chosen):
    """Return the cell of one λ and epoch in the table of candidates."""
    if candidate is None or candidate["value"] is None:
        return {"text": "–", "folding": "", "chosen": is_chosen, "admissible": False}
    folding = candidate.get("folding_percent")
    return {
        "text": f"{candidate['value']:.3f}",
        "folding": "" if folding is None else f"{folding:.2g} %",
        "chosen": is_chosen,
        "admissible": candidate.get("admissible", True),
    }


def troubles(metrics, selected, failures, skipped=()):
    """List, in sentences, what failed, folded, got worse or was left out on the test pairs; empty if nothing did.

    Parameters
    ----------
    metrics, failures : DataFrame
        metrics.tsv and failures.tsv.
    selected : dict or None
        selected_model.json.
    skipped : sequence of str
        Methods whose tool is not installed.
    """
    test = compared(metrics[metrics.split == "test"], selected)
    pairs = set(test.pair)
    return [
        *_left_out(skipped),
        *_unmeasured(test, pairs),
        *_registrations_failed(failures, selected),
        *_values_missing(test, failures, selected),
        *_landmarks_outside(test),
        *_landmarks_rounded(test),
        *_foldings(test, selected),
        *_worse(test, selected),
    ]


def _left_out(skipped):
    """Say which methods did not take part."""
    if not skipped:
        return []
    return [
        f"Left out, as the tool is not installed where this ran (missing: skip): {', '.join(skipped)}. "
        "docs/methods.md says how to get it."
    ]


def _unmeasured(test, pairs):
    """Say for which pairs there are no landmarks or labels."""
    for measure, needs in ((TRE, "landmarks"), (DICE, "labels")):
        without = pairs - set(measure.rows(test).pair)
        if without and without == pairs:
            yield f"No {measure.name}: no test pair has {needs} on both images."
        elif without:
            yield f"No {measure.name} for {_listed(without)} of {len(pairs)} test pairs: they have no {needs}."


def _registrations_failed(failures, selected):
    """Say which registrations failed on which pairs, and why; those of validation and other networks are counted."""
    shown = compared(failures[failures.split == "test"], selected)
    for (method, why), rows in shown.groupby(["method", "why"], sort=False):
        yield f"{method_label(method, selected)} failed on {', '.join(sorted(rows.pair))}: {why.rstrip('.')}."
    in_training = failures[failures.split == "train"]
    for (method, why), rows in in_training.groupby(["method", "why"], sort=False):
        left_out = "; training leaves them out" if method == "affine" else ""
        pairs = ", ".join(rows.pair)
        yield f"{method_label(method, selected)} failed on train images {pairs}: {why.rstrip('.')}{left_out}."
    others = len(failures) - len(shown) - len(in_training)
    if others:
        yield (
            f"{count(others, 'more registration')} failed on validation pairs or by networks that were not chosen; "
            "results/evaluation/failures.tsv lists them."
        )


def _values_missing(test, failures, selected):
    """Say which values do not exist although the registration did not fail, and what counts in their place."""
    registrations = compared(failures, selected)  # the networks of `test` are the selected ones already
    known = set(zip(registrations.pair, registrations.method, strict=True))
    failed = failures_as_worst(test)
    unexplained = np.array([key not in known for key in zip(failed.pair, failed.method, strict=True)], dtype=bool)
    failed = failed[failed.failed & unexplained]
    for (metric, method), rows in failed.groupby(["metric", "method"], sort=False):
        instead = "it takes no part in the mean" if rows.value.isna().any() else "the worst value of the pair counts"
        yield f"No value of {metric} by {method_label(method, selected)} for {_listed(rows.pair)}: {instead}."


def _landmarks_outside(test):
    """Say which pairs have landmarks that could not be measured."""
    counts = test[test.metric.isin(["landmarks_n", "landmarks_outside"])]
    counts = counts.pivot_table(index="pair", columns="metric", values="value", aggfunc="max")
    for pair, row in counts.iterrows():
        outside = row.get("landmarks_outside", 0)
        if outside > 0:
            total = outside + row.get("landmarks_n", 0)
            yield f"{pair}: {outside:g} of {total:g} landmarks lie outside of the fixed image, and so not in the TRE."


def _landmarks_rounded(test):
    """Say where landmarks lie on voxels, and what TRE that makes by itself."""
    rounded = test[test.metric == "tre_of_rounding"].drop_duplicates("pair")
    if len(rounded):
        yield (
            f"Landmarks of {_listed(rounded.pair)} lie on voxel centres or slices: that alone is a mean TRE of about "
            f"{rounded.value.mean():.2f} mm, even if the registration were perfect. Smaller differences say nothing."
        )


def _foldings(test, selected):
    """Say which methods turn space inside out somewhere."""
    rows = FOLDING.rows(test)
    for method in ordered_methods(rows.method):
        of_method = rows[rows.method == method]
        folded = of_method[of_method.value > 0]
        if len(folded):
            yield (
                f"{method_label(method, selected)} folds in {len(folded)} of {count(len(of_method), 'test pair')}, at "
                "worst "
                f"{folded.value.max():.3g} % of the voxels."
            )


def _worse(test, selected):
    """Say where a method left a larger TRE (else a smaller Dice) than there was before any registration."""
    measure = TRE if len(TRE.rows(test)) else DICE
    values = measure.rows(test).pivot_table(index="pair", columns="method", values="value")
    if "initial" not in values:
        return
    sign = 1 if measure.lower_is_better else -1
    for method in ordered_methods(values.columns):
        worse = values.index[sign * (values[method] - values["initial"]) > 0]
        if len(worse):
            yield f"{method_label(method, selected)} left a worse {measure.name} than the start had: {_listed(worse)}."


def _listed(pairs, most=6):
    """List pairs, the first few by name."""
    pairs = sorted(set(pairs))
    return ", ".join(pairs[:most]) + (f" and {len(pairs) - most} more" if len(pairs) > most else "")


def comparison_table(summary, selected):
    """Return the comparison of methods on the test pairs, as (columns, rows of text)."""
    rows = compared(summary[summary.split == "test"], selected)
    columns = ["method", "n", "failed", "TRE (mm)", "95 % interval", "median", "TRE′ (mm)", "Dice", "squared NCC",
               "folding (%)", "runtime (s)"]  # fmt: skip
    table = []
    for method in ordered_methods(rows.method):
        own = rows[rows.method == method]
        tre, near, dice, ncc, folding, seconds = (
            _only(measure.rows(own)) for measure in (TRE, TRE_NEAR, DICE, NCC, FOLDING, RUNTIME)
        )
        counts = {int(row.n) for row in (tre, dice, ncc) if row is not None}
        failed = max((int(row.failed) for row in (tre, dice, ncc) if row is not None), default=0)
        table.append(
            [
                method_label(method, selected),
                "–".join(map(str, sorted({min(counts), max(counts)}))) if counts else "–",
                str(failed) if failed else "–",
                _mean_and_sd(TRE, tre),
                "–" if tre is None or np.isnan(tre.ci_low) else f"{tre.ci_low:.2f} to {tre.ci_high:.2f}",
                "–" if tre is None else digits(TRE, tre["median"]),
                _mean_and_sd(TRE_NEAR, near),
                _mean_and_sd(DICE, dice),
                _mean_and_sd(NCC, ncc),
                _mean_and_sd(FOLDING, folding),
                _mean_and_sd(RUNTIME, seconds),
            ]
        )
    filled = [n for n, name in enumerate(columns) if n < 2 or any(row[n] != "–" for row in table)]
    return [columns[n] for n in filled], [[row[n] for n in filled] for row in table]


def structures_table(summary, selected):
    """Return TRE by axis and Dice by label for each method on the test pairs, as (columns, rows of text)."""
    rows = compared(summary[summary.split == "test"], selected)
    axes = rows[(rows.metric == "tre_mean") & rows.structure.isin(list("xyz"))]
    labels = rows[(rows.metric == "dice") & (rows.structure != "mean")]
    sides = {"x": "left–right", "y": "anterior–posterior", "z": "inferior–superior"}
    wanted = [(TRE, axis, f"error {sides[axis]} (mm)") for axis in sorted(axes.structure.unique())]
    ordered = sorted(labels.structure.unique(), key=lambda label: (not label.isdigit(), label.zfill(9)))
    wanted += [(DICE, label, f"Dice, label {label}") for label in ordered]
    table = []
    for method in ordered_methods(rows.method):
        own = rows[rows.method == method]
        cells = [
            _mean_and_sd(measure, _only(own[(own.metric == measure.metric) & (own.structure == structure)]))
            for measure, structure, _ in wanted
        ]
        table.append([method_label(method, selected), *cells])
    return ["method", *(name for _, _, name in wanted)], table if wanted else []


def _only(rows):
    """Return the one row of a table, None if there is none."""
    return rows.iloc[0] if len(rows) else None


def _mean_and_sd(measure, row):
    """Write mean ± standard deviation; a single pair has no deviation."""
    if row is None or not np.isfinite(row["mean"]):
        return "–"
    spread = f" ± {digits(measure, row.sd)}" if np.isfinite(row.sd) else ""
    return digits(measure, row["mean"]) + spread


def pair_pictures(paths, metrics, selected, most=24):
    """Return the Pictures of pairs, the worst first, and how many were left out.

    Parameters
    ----------
    paths : dict of pair id to path
    metrics : DataFrame
    selected : dict or None
    most : int
        The report stays a file that a browser opens; the other pictures lie among the figures.
    """
    shown = compared(metrics, selected)
    measure = next((one for one in (TRE, DICE, NCC) if one.rows(shown).value.notna().any()), TRE)
    values = measure.rows(shown).pivot_table(index="pair", columns="method", values="value")
    methods = ordered_methods(values.columns)
    last = values[methods[-1]].reindex(paths) if methods else pd.Series(np.nan, index=list(paths))
    # What failed altogether comes before all else.
    order = last.sort_values(ascending=not measure.lower_is_better, na_position="first", kind="stable").index
    splits = metrics.drop_duplicates("pair").set_index("pair").split
    pictures = []
    for pair in order[:most]:
        numbers = [
            f"{method_label(method, selected)} {digits(measure, values.at[pair, method])}"
            for method in methods
            if pair in values.index
        ]
        unit = f" ({measure.unit})" if measure.unit else ""
        caption = (
            "Fixed image and what each method made of the moving one, as radiologists look at it (the patient's left "
            "on the "
            "right); then both in turn on a checkerboard, and their difference. Where the modalities differ, the "
            "difference "
            "shows contrast as well as misalignment. "
            + (f"{measure.title}{unit}: {'; '.join(numbers)}." if numbers else "Nothing was measured on this pair.")
        )
        pictures.append(Picture(paths[pair], f"{pair} ({splits.get(pair, 'not measured')} pair)", caption))
    return pictures, len(paths) - len(pictures)


# How it was made -----------------------------------------------------------------------------------------------------


def provenance(config, seed, commit="", parameter_files=()):
    """Return what somebody needs to make the results again.

    Parameters
    ----------
    config : dict
        Without folders of the machine, see :func:`without_folders`.
    seed : int
    commit : str
        The workflow's git commit; "" if it is unknown.
    parameter_files : sequence of str
        Paths of the registration methods' parameter files.
    """
    return {
        "commit": commit or None,
        "python": platform.python_version(),
        "packages": {package: found for package in PACKAGES if (found := _version(package))},
        "seed": seed,
        "config": without_folders(config),
        "parameter_files": {
            Path(path).name: hashlib.sha256(Path(path).read_bytes()).hexdigest() for path in parameter_files
        },
    }


def _version(package):
    """Return an installed package's version, or None."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def without_folders(config):
    """Return the configuration without folders of this machine, since their names may name people.

    The data folder is left out; of other absolute paths only the file's name stays.
    """
    if isinstance(config, dict):
        return {str(key): without_folders(value) for key, value in config.items() if key != "data_folder"}
    if isinstance(config, list | tuple):
        return [without_folders(value) for value in config]
    if isinstance(config, str) and config.startswith(("/", "~", "$")):
        return Path(config).name
    return config


def template(name):
    """Return a template beside this module; it escapes every text and refuses what it is not given."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=jinja2.StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    return environment.get_template(name)


def render(
    metrics,
    summary,
    selected,
    tests,
    ranking,
    failures,
    flags,
    curves,
    comparisons,
    pairs,
    harmonized,
    provenance,
    parameter_texts,
    left_out=0,
    skipped=(),
    links=None,
    headline=None,
    phantom=False,
):
    """Return the report as HTML.

    Parameters
    ----------
    metrics, summary : DataFrame
        metrics.tsv and summary.tsv.
    selected : dict or None
        selected_model.json.
    tests, ranking, failures, flags : DataFrame
        comparison.tsv, ranking.tsv, failures.tsv and flags.tsv.
    curves, comparisons, pairs, harmonized : list of Picture
        Of the trainings, of the methods, of single pairs and of single subjects.
    provenance : dict
        See :func:`provenance`.
    parameter_texts : dict of file name to text
    left_out : int
        Number of pictures of pairs that are not in the report.
    skipped : sequence of str
        Methods whose tool is not installed.
    links : dict of pair to address, optional
        Of the pairs' pages, relative to the report.
    headline : Picture, optional
        The one for the first page.
    phantom : bool
        Whether the cohort is the embedded phantom: then every part of the report says so.
    """
    test = metrics[metrics.split == "test"]
    verdicts = [verdict(measure, metrics, summary, selected) for measure in (TRE, DICE, NCC)]
    verdicts = [one for one in verdicts if one]
    chosen = choice(selected) if selected else None
    reviewed = quality_table(flags, metrics, selected, links or {})
    return template("report.html.jinja").render(
        phantom=phantom,
        front=front(
            [one for one in verdicts if one.measure is not NCC] or verdicts,
            chosen,
            metrics,
            tests,
            failures,
            flags,
            selected,
        ),
        headline=headline,
        quality=reviewed,
        flag_counts=count_in_words(flags, reviewed, selected),
        verdicts=verdicts,
        sureness=sureness(metrics, tests),
        choice=chosen,
        troubles=troubles(metrics, selected, failures, skipped),
        test_pairs=pairs_in_words(test.pair),
        splits={
            split: pairs_in_words(metrics[metrics.split == split].pair)
            for split in ("train", "validation", "test")
            if (metrics.split == split).any()
        },
        comparison=comparison_table(summary, selected),
        structures=structures_table(summary, selected),
        tests=tests_table(tests, selected),
        ranking=ranking_table(ranking, selected),
        ranking_caution=ranking_caution(ranking),
        curves=curves,
        comparisons=comparisons,
        pairs=pairs,
        left_out=left_out,
        harmonized=harmonized,
        provenance=provenance,
        config=yaml.safe_dump(provenance["config"], sort_keys=False, allow_unicode=True),
        parameter_texts=parameter_texts,
    )
