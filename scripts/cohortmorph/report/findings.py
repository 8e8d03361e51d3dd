"""What the evaluation's tables say: which method, which λ and epoch of each network, and how sure that is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from cohortmorph.cohort.methods import ordered_weights
from cohortmorph.cohort.pairs import subjects_of
from cohortmorph.evaluation.measures import DICE, MEASURES, OVERLAP, SIMILARITIES, TRE, Measure
from cohortmorph.evaluation.statistics import (
    SIGNIFICANCE,
    failures_as_worst,
    independent_units,
    smallest_p_holm,
)
from cohortmorph.evaluation.tables import Evaluation
from cohortmorph.report.wording import count, interval, pairs_in_words, write_text

HIDDEN = "what is not covered counts as not explained"
# Below this many subjects a percentile bootstrap interval is too narrow to lean on.
FEW_SUBJECTS = 10


@dataclass(frozen=True)
class Verdict:
    """Which method is best by one measure on the test pairs, and how sure that is."""

    measure: Measure
    method: str
    value: str
    sentences: list[str] = field(default_factory=list)

    @property
    def title(self) -> str:
        """The measure, and which end of it counts."""
        return f"{self.measure.title}, {'lowest' if self.measure.lower_is_better else 'highest'} mean"


def verdict(measure: Measure, evaluation: Evaluation) -> Verdict | None:
    """Return the Verdict of one measure on the test pairs, or None if it was not measured.

    Failed registrations count as the worst value of their pair, in the means as in the pairs that are won.
    """
    rows = evaluation.compared(evaluation.summary[evaluation.summary.split == "test"])
    rows = measure.rows(rows).dropna(subset=["mean"])
    if rows.empty:
        return None
    points = failures_as_worst(evaluation.metrics[evaluation.metrics.split == "test"])
    points = measure.rows(evaluation.compared(points)).dropna(subset=["value"])
    values = {method: of_method.set_index("pair").value for method, of_method in points.groupby("method")}
    complete = rows[rows.n == rows.n.max()]
    ranking = complete.sort_values("mean", ascending=measure.lower_is_better, kind="stable")
    best = ranking.iloc[0]
    of_best = values[best.method]
    sentences = [f"{interval(measure, best).capitalize()}, n = {pairs_in_words(of_best.index)}."]
    if best.failed:
        sentences.append(f"It failed on {count(int(best.failed), 'pair')}, where the worst value counts.")
    if best.method == "initial":
        sentences.append("This is the start: no registration improved it on average.")
    if len(ranking) > 1:
        of_second = values[ranking.iloc[1].method].reindex(of_best.index)
        won = int((of_best < of_second).sum() if measure.lower_is_better else (of_best > of_second).sum())
        sentences += _covered(measure, evaluation, ranking)
        sentences += _against_others(measure, evaluation, ranking, f"{won} of {count(len(of_best), 'pair')}")
    failing = rows[(rows.failed > 0) & (rows.method != best.method)]
    if len(failing):
        names = ", ".join(evaluation.in_order(failing.method))
        sentences.append(f"Failed on some pair, where the worst value counts: {names}.")
    incomplete = rows[rows.n < rows.n.max()]
    if len(incomplete):
        names = ", ".join(evaluation.in_order(incomplete.method))
        sentences.append(f"Not ranked, without a value on some pair: {names}.")
    return Verdict(measure, evaluation.label(best.method), write_text(measure, best["mean"]), sentences)


def _covered(measure: Measure, evaluation: Evaluation, ranking: pd.DataFrame) -> list[str]:
    """Say of a similarity how much the best and the second of a ranking cover, where that differs for a reader."""
    test = OVERLAP.rows(evaluation.compared(evaluation.summary[evaluation.summary.split == "test"]))
    covered = test.set_index("method")["mean"].reindex(ranking.method.iloc[:2])
    shares = [write_text(OVERLAP, share) for share in covered]
    if measure not in SIMILARITIES or covered.isna().any() or shares[0] == shares[1]:
        return []
    best, second = map(evaluation.label, covered.index)
    return [f"The moving image covers {shares[0]} of the fixed one by {best}, {shares[1]} by {second}: {HIDDEN}."]


def _against_others(measure: Measure, evaluation: Evaluation, ranking: pd.DataFrame, won: str) -> list[str]:
    """Say how far the best of a ranking stands from the second, and whether its interval overlaps with others'."""
    best, second, others = ranking.iloc[0], ranking.iloc[1], ranking.iloc[1:]
    sentences = [
        f"Next: {evaluation.label(second.method)}, {write_text(measure, second['mean'])} "
        f"({interval(measure, second)}); {best.method} is better than it on {won}."
    ]
    overlapping = others[(others.ci_low <= best.ci_high) & (others.ci_high >= best.ci_low)]
    if len(overlapping):
        names = ", ".join(evaluation.in_order(overlapping.method))
        sentences.append(f"Its interval overlaps with that of {names}: the intervals do not tell them apart.")
    elif best.subjects >= FEW_SUBJECTS:
        sentences.append("Its interval overlaps with that of no other method.")
    return sentences


def front(
    evaluation: Evaluation, verdicts: Sequence[Verdict], choices: Sequence[Mapping[str, Any]]
) -> list[dict[str, str]]:
    """Return what the first page answers, each as ``question``, ``answer``, ``value`` and ``level`` (good or doubt).

    Parameters
    ----------
    evaluation : Evaluation
    verdicts : list of Verdict
    choices : list of dict
        Of each network, see :func:`choice`.
    """
    tiles = []
    if verdicts:
        best, *others = verdicts
        agreeing = [one.measure.name for one in others if one.method == best.method]
        differing = [f"by {one.measure.name} {one.method}" for one in others if one.method != best.method]
        reasons = [f"{best.measure.name} {best.value}", best.sentences[0].rstrip(".")]
        reasons += [f"best by {' and '.join(agreeing)} too"] if agreeing else []
        tiles.append(_tile("Which method?", best.method, "; ".join([*reasons, *differing]) + ".", not differing))
    else:
        tiles.append(_tile("Which method?", "unknown", "Nothing was measured on test pairs.", False))
    for one in choices:
        whose = f" of {one['network']}" if len(choices) > 1 else ""
        said = " ".join([one["value"][0].upper() + one["value"][1:] + ".", *one["warnings"]])
        tiles.append(_tile(f"Which λ and epoch{whose}?", one["headline"], said, not one["warnings"]))
    tiles.append(_how_sure(evaluation))
    flagged = set(evaluation.flags.pair)
    pairs = set(evaluation.metrics.pair) | flagged
    failed = len(evaluation.compared(evaluation.failures))
    said = f"{count(failed, 'registration')} failed." if failed else "No registration failed."
    if flagged:
        said += " Where a limit of the quality control is passed, look before you trust."
    answer = f"{len(flagged)} of {count(len(pairs), 'pair')} flagged" if flagged else "nothing flagged"
    tiles.append(_tile("What failed?", answer, said, not flagged and not failed))
    return tiles


def _tile(question: str, answer: str, value: str, good: bool) -> dict[str, str]:
    return {"question": question, "answer": answer, "value": value, "level": "good" if good else "doubt"}


def _how_sure(evaluation: Evaluation) -> dict[str, str]:
    """Say in a word how much the test subjects allow to conclude, and against how many methods the best one stands."""
    question = "How sure?"
    units = set(independent_units(_test_pairs(evaluation)).values())
    if not units:
        return _tile(question, "not at all", "There is no test pair.", False)
    measures = tested(evaluation)
    told = ""
    significant = False
    if measures:
        rows = against_best(measures[0], evaluation)
        rows = rows[rows.method != rows.reference]
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


def _test_pairs(evaluation: Evaluation) -> set[str]:
    """Return the ids of the test pairs."""
    return set(evaluation.metrics[evaluation.metrics.split == "test"].pair)


def sureness(evaluation: Evaluation) -> list[str]:
    """Say in sentences how much the number of test subjects allows to conclude."""
    pairs = _test_pairs(evaluation)
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
    for measure in tested(evaluation):
        subjects_n = int(measure.rows(evaluation.comparison).n.max())
        methods = against_best(measure, evaluation).method.nunique() + 1
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


def tested(evaluation: Evaluation) -> list[Measure]:
    """Return the measures of which the report shows tests: TRE and Dice, the similarities if there is neither."""
    tests = evaluation.comparison
    shown = [measure for measure in (TRE, DICE) if len(measure.rows(tests))]
    return shown or [measure for measure in SIMILARITIES if len(measure.rows(tests))]


def against_best(measure: Measure, evaluation: Evaluation) -> pd.DataFrame:
    """Return the rows of comparison.tsv that compare with the best method; affine, the other reference, is left out."""
    rows = measure.rows(evaluation.comparison)
    return rows[rows.reference == rows.reference.iloc[0]]  # the best comes first in the file


def choice(selected: Mapping[str, Any]) -> dict[str, Any]:
    """Describe how a network's λ and epoch were chosen: the sentence, warnings, and the table of candidates.

    Parameters
    ----------
    selected : dict
        The network's selected_model.json.

    Returns
    -------
    dict
        ``network``, ``headline``, ``reason``, ``warnings``, and ``epochs`` with ``rows`` of (λ, one cell an epoch).
    """
    candidates = {(str(one["weight"]), int(one["epoch"])): one for one in selected.get("candidates", [])}
    weights = ordered_weights(weight for weight, _ in candidates)
    epochs = sorted({epoch for _, epoch in candidates})
    chosen = (str(selected["weight"]), int(selected["epoch"]))
    unit = "" if selected.get("unit", "1") == "1" else f" {selected['unit']}"
    name = MEASURES[selected["metric"]].name
    return {
        "network": selected["network"],
        "headline": f"λ = {chosen[0]}, epoch {chosen[1]}",
        "value": f"mean {name} {selected['value']:.3f}{unit} on "
        f"{count(selected['validation_pairs'], 'validation pair')}",
        "reason": selected["reason"],
        "warnings": _warnings(selected, weights, epochs),
        "metric": f"{name}{f' ({unit.strip()})' if unit else ''}",
        "epochs": epochs,
        "rows": [
            (weight, [_candidate(candidates.get((weight, epoch)), (weight, epoch) == chosen) for epoch in epochs])
            for weight in weights
        ],
    }


def _warnings(selected: Mapping[str, Any], weights: Sequence[str], epochs: Sequence[int]) -> list[str]:
    """Say what makes the choice among these λ and epochs doubtful."""
    edges = []
    if len(weights) > 1 and str(selected["weight"]) in (weights[0], weights[-1]):
        edges.append(f"the {'smallest' if str(selected['weight']) == weights[0] else 'largest'} λ")
    if len(epochs) > 1 and int(selected["epoch"]) == epochs[-1]:
        edges.append("the last epoch")
    warnings = []
    if edges:
        warnings.append(
            f"The choice lies at the edge of what was tried ({' and '.join(edges)}): a better one may lie beyond."
        )
    if not selected.get("admissible", True):
        warnings.append("Every candidate folds more than the configuration admits.")
    return warnings


def _candidate(candidate: Mapping[str, Any] | None, is_chosen: bool) -> dict[str, Any]:
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
