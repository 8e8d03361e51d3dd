"""The report: one HTML file that needs nothing else, with what the cohort says and what it cannot say.

Everything is read from the evaluation's tables; only ids of the cohort table name anything. The template beside this
module escapes every text.
"""

from collections.abc import Collection, Mapping

from cohortmorph.evaluation.measures import DICE, SIMILARITIES, TRE
from cohortmorph.evaluation.quality import count_in_words
from cohortmorph.evaluation.tables import Evaluation
from cohortmorph.report import tables
from cohortmorph.report.findings import choice, front, sureness, verdict
from cohortmorph.report.gallery import Pictures
from cohortmorph.report.provenance import Provenance
from cohortmorph.report.templates import template
from cohortmorph.report.troubles import what_went_wrong
from cohortmorph.report.wording import pairs_in_words

SPLITS = ("train", "validation", "test")


def render(
    evaluation: Evaluation,
    pictures: Pictures,
    provenance: Provenance,
    links: Mapping[str, str] | None = None,
    skipped: Collection[str] = (),
    phantom: bool = False,
) -> str:
    """Return the report as HTML.

    Parameters
    ----------
    evaluation : Evaluation
    pictures : Pictures
    provenance : Provenance
    links : dict of pair to address, optional
        Of the pairs' pages, relative to the report.
    skipped : collection of str
        Methods whose tool is not installed.
    phantom : bool
        Whether the cohort is the embedded phantom: then every part of the report says so.
    """
    pairs = {split: evaluation.metrics.pair[evaluation.metrics.split == split] for split in SPLITS}
    verdicts = [one for measure in (TRE, DICE, *SIMILARITIES) if (one := verdict(measure, evaluation))]
    choices = [choice(selected) for selected in evaluation.selected.values()]
    reviewed = tables.quality_table(evaluation, links or {})
    return template("report.html.jinja").render(
        phantom=phantom,
        front=front(evaluation, [one for one in verdicts if one.measure not in SIMILARITIES] or verdicts, choices),
        quality=reviewed,
        flag_counts=count_in_words(evaluation.flags, [one["pair"] for one in reviewed], evaluation),
        verdicts=verdicts,
        sureness=sureness(evaluation),
        choices=choices,
        troubles=what_went_wrong(evaluation, skipped),
        test_pairs=pairs_in_words(pairs["test"]),
        splits={split: pairs_in_words(of_split) for split, of_split in pairs.items() if len(of_split)},
        comparison=tables.comparison_table(evaluation),
        structures=tables.structures_table(evaluation),
        tests=tables.tests_table(evaluation),
        ranking=tables.ranking_table(evaluation),
        ranking_caution=tables.ranking_caution(evaluation),
        pictures=pictures,
        provenance=provenance,
    )
