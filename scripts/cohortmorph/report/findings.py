"""What the evaluation's tables say: which method, which λ and epoch, and how sure that is."""

from dataclasses import dataclass, field

from cohortmorph.cohort.pairs import subjects_of
from cohortmorph.evaluation.statistics import (
    SIGNIFICANCE,
    failures_as_worst,
    independent_units,
    smallest_p_holm,
)
from cohortmorph.evaluation.tables import compared
from cohortmorph.figures.style import DICE, NCC, TRE, Measure, method_label, ordered_methods, ordered_weights
from cohortmorph.report.wording import count, interval, pairs_in_words, write_text

# Below this many subjects a percentile bootstrap interval is too narrow to lean on.
FEW_SUBJECTS = 10


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
