"""The report says what the tables say, admits what they cannot say, and needs no other file."""

import dataclasses
import itertools
import json
import re
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
import write_report
from test_charts import (
    NETWORK,
    NO_FAILURES,
    NO_FLAGS,
    OTHER,
    OTHERS,
    SELECTED,
    cohort_metrics,
    evaluated,
    histories,
    summarized,
)

from cohortmorph.evaluation import quality
from cohortmorph.evaluation.measures import DICE, NMI, TRE
from cohortmorph.evaluation.selection import select_model
from cohortmorph.evaluation.tables import Evaluation
from cohortmorph.figures.axes import accuracy_in
from cohortmorph.figures.network_charts import training
from cohortmorph.figures.style import message, save
from cohortmorph.report import findings, tables, troubles
from cohortmorph.report.gallery import Picture, Pictures, pair_pictures
from cohortmorph.report.page import render
from cohortmorph.report.provenance import Provenance, without_folders
from cohortmorph.run.files import write_json, write_table

MANY = {"validation": ["P04"], "test": [f"H{number:03d}" for number in range(6)]}


class Page(HTMLParser):
    """Collect tags, resources, captions and text; complain of tags that do not match."""

    def __init__(self, html):
        super().__init__()
        self.open, self.resources, self.captions, self.headers, self.text, self.scripts = [], [], [], [], "", 0
        self.feed(html)
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.scripts += tag == "script"
        self.resources += [value for name, value in attributes if name in ("src", "href", "srcset", "data", "action")]
        if tag not in ("meta", "img", "br", "link"):
            self.open.append(tag)
        if tag in ("caption", "figcaption"):
            self.captions.append("")
        if tag == "th" and ("scope", "col") in attributes:
            self.headers.append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.text += data
        if {"caption", "figcaption"} & set(self.open):
            self.captions[-1] += data
        if "thead" in self.open and self.headers:
            self.headers[-1] += data.strip()


@pytest.fixture(scope="module")
def picture(tmp_path_factory):
    """A path of a small figure, as PNG."""
    path = tmp_path_factory.mktemp("figures") / "figure.png"
    save(message("a figure"), path)
    return str(path)


def described(metrics, selected):
    """Complete choices (one, a list, or None), as select_model makes them of these metrics."""
    choices = [selected] if isinstance(selected, dict) else selected or []
    return [select_model(metrics, choice["network"], "ncc", 0.5) | choice for choice in choices]


def rendered(metrics, selected=SELECTED, picture=None, failures=NO_FAILURES, flags=NO_FLAGS, **changes):
    shown = [Picture(picture, "A title", "A caption.")] if picture else []
    selected = described(metrics, selected)
    curves = {choice["network"]: shown for choice in selected}
    arguments = {
        "pictures": Pictures(curves=curves, comparisons=shown, pairs=shown, harmonized=shown),
        "provenance": Provenance.of({"seed": 1}, 1, "abc"),
    }
    return render(evaluated(metrics, selected, failures, flags), **(arguments | changes))


def verdict(measure, metrics, selected=SELECTED):
    return findings.verdict(measure, evaluated(metrics, selected))


def sureness(metrics, selected=SELECTED):
    return " ".join(findings.sureness(evaluated(metrics, selected)))


def what_went_wrong(metrics, failures=NO_FAILURES):
    return troubles.what_went_wrong(evaluated(metrics, SELECTED, failures))


def failed_registrations(*rows):
    """Return failures.tsv from (pair, split, method, weight, epoch, why)."""
    return pd.DataFrame(rows, columns=NO_FAILURES.columns)


def words(verdict):
    return " ".join(verdict.sentences)


def of(metrics, metric, method, pair=None, structure=None):
    """Select rows of a metrics table."""
    rows = (metrics.metric == metric) & (metrics.method == method)
    if pair:
        rows &= metrics.pair == pair
    return rows & (metrics.structure == structure) if structure else rows


def test_the_report_contains_the_numbers_of_the_summary(picture):
    metrics = cohort_metrics()
    evaluation = evaluated(metrics, SELECTED)
    summary = evaluation.summary
    page = Page(rendered(metrics, picture=picture))
    test = evaluation.compared(summary[summary.split == "test"])
    for metric, structure, decimals in [
        ("tre_mean", "total", 2), ("tre_mean", "z", 2), ("tre_near_mean", "total", 2), ("dice", "mean", 3),
        ("dice", "2", 3), ("ncc_squared", "image", 3), ("folding", "image", 3), ("runtime", "image", 1),
    ]:  # fmt: skip
        rows = test[(test.metric == metric) & (test.structure == structure)]
        assert len(rows) >= 4
        for row in rows.itertuples():
            assert f"{row.mean:.{decimals}f} ± {row.sd:.{decimals}f}" in page.text
    row = test[(test.metric == "tre_mean") & (test.structure == "total") & (test.method == "bspline-3r")].iloc[0]
    assert f"95 % interval {row.ci_low:.2f} to {row.ci_high:.2f}, n = 4 pairs of 2 subjects." in page.text
    columns, rows = tables.comparison_table(evaluation)
    table = {row[0]: dict(zip(columns, row, strict=True)) for row in rows}
    assert list(table) == ["initial", "affine", "bspline-1r", "bspline-3r", "voxelmorph, λ = 1, epoch 100"]
    means = test.set_index(["method", "metric", "structure"])["mean"]
    assert table["affine"]["Dice"].startswith(f"{means['affine', 'dice', 'mean']:.3f} ± ")
    assert table["affine"]["TRE′ (mm)"].startswith(f"{means['affine', 'tre_near_mean', 'total']:.2f} ± ")
    assert table["bspline-1r"]["folding (%)"].startswith(f"{means['bspline-1r', 'folding', 'image']:.3f} ± ")
    assert table["initial"]["runtime (s)"] == "–" and table["initial"]["n"] == "4"
    assert page.headers[: len(columns) + 3] == ["λ", "epoch 20", "epoch 100", *columns]
    axes_and_labels, rows = tables.structures_table(evaluation)
    by_axis = dict(zip(axes_and_labels, rows[1], strict=True))
    assert by_axis["error inferior–superior (mm)"].startswith(f"{means['affine', 'tre_mean', 'z']:.2f} ± ")
    assert by_axis["Dice, label 2"].startswith(f"{means['affine', 'dice', '2']:.3f} ± ")
    # Networks that were not chosen are in no comparison.
    learned = summary[(summary.split == "test") & (summary.weight == "10") & (summary.metric == "tre_mean")]
    assert all(f"{value:.2f} ± " not in page.text for value in learned["mean"] if value > 5)


def test_the_report_needs_nothing_from_outside(picture):
    page = Page(rendered(cohort_metrics(), picture=picture))
    assert len(page.resources) >= 4 and page.scripts == 0
    assert all(resource.startswith(("data:image/", "#")) for resource in page.resources)
    html = rendered(cohort_metrics(), picture=picture)
    assert not re.search(r"https?://|url\(|@import|<link", html)


def test_every_text_is_escaped(picture):
    evil = "<script>alert(1)</script>"
    metrics = cohort_metrics()
    html = rendered(
        metrics.replace({"method": {"bspline-1r": evil}}),
        selected=SELECTED | {"reason": evil},
        picture=picture,
        pictures=Pictures(curves={NETWORK: [Picture(picture, evil, f'"{evil}')]}),
        provenance=dataclasses.replace(Provenance.of({"cohort": evil, evil: 1}, 1, evil), parameter_texts={evil: evil}),
    )
    assert "<script" not in html
    assert Page(html).text.count(evil) >= 9


@pytest.mark.parametrize("phantom", [True, False])
def test_every_caption_says_phantom_of_a_phantom_only(picture, phantom):
    page = Page(rendered(cohort_metrics(), picture=picture, phantom=phantom))
    assert len(page.captions) == 10
    assert all(caption.startswith("PHANTOM.") == phantom for caption in page.captions)
    assert ("PHANTOM" in page.text) == phantom


@pytest.mark.parametrize("landmarks", [True, False])
@pytest.mark.parametrize("labels", [True, False])
@pytest.mark.parametrize("selected", [SELECTED, None])
def test_a_report_comes_of_whatever_was_measured(landmarks, labels, selected):
    page = Page(rendered(cohort_metrics(landmarks, labels, learned=selected is not None), selected))
    assert ("TRE, lowest mean" in page.text) == landmarks
    assert ("Dice, highest mean" in page.text) == labels
    assert ("No TRE: no test pair has landmarks on both images." in page.text) == (not landmarks)
    assert ("No Dice: no test pair has labels on both images." in page.text) == (not labels)
    assert ("λ = 1, epoch 100" in page.text) == (selected is not None)


def test_similarities_say_how_much_they_rest_on_and_are_no_answer_to_which_method(picture):
    """NMI stands beside NCC, and where methods cover less, the card says so."""
    metrics = cohort_metrics()
    like = metrics[metrics.metric == "ncc_squared"]
    by_nmi = {"affine": 1.3, "bspline-3r": 1.2}
    nmi = like.assign(metric="nmi", value=like.method.map(by_nmi).fillna(1.1))
    covered = like.assign(metric="overlap", unit="%", value=like.method.map({"affine": 81.2}).fillna(97.0))
    page = Page(rendered(pd.concat([metrics, nmi, covered]), picture=picture))
    assert "Squared NCC, highest mean" in page.text and "NMI, highest mean" in page.text
    sentence = "The moving image covers 81 % of the fixed one by affine, 97 % by bspline-3r"
    assert page.text.count(sentence) == 1 and "97 % of the fixed one" not in page.text
    assert {"squared NCC", "NMI", "fixed image covered (%)"} <= set(page.headers)
    answer = tiles(pd.concat([metrics, nmi, covered]))["Which method?"]
    assert answer["answer"] == "bspline-3r" and "NMI" not in answer["value"]
    # Of nothing else, both are what is tested and drawn.
    bare = cohort_metrics(landmarks=False, labels=False)
    bare = pd.concat([bare, nmi])
    evaluation = evaluated(bare, SELECTED)
    assert [measure.metric for measure in findings.tested(evaluation)] == ["ncc_squared", "nmi"]
    assert [measure.metric for measure in accuracy_in(evaluation.summary)] == ["ncc_squared", "nmi"]
    assert findings.verdict(NMI, evaluation).method == "affine"


def raised(*rows):
    """Return flags.tsv from (pair, method, flag)."""
    table = pd.DataFrame([(*row, 2.0, 1.0, f"Why {row[2]}.") for row in rows], columns=NO_FLAGS.columns[1:])
    return quality.sort(table)


def tiles(metrics, selected=SELECTED, failures=NO_FAILURES, flags=NO_FLAGS):
    """Return the first page's answers, by question."""
    evaluation = evaluated(metrics, selected, failures, flags)
    verdicts = [one for measure in (TRE, DICE) if (one := findings.verdict(measure, evaluation))]
    choices = list(map(findings.choice, described(metrics, selected)))
    return {tile["question"]: tile for tile in findings.front(evaluation, verdicts, choices)}


def test_the_first_page_answers_which_method_which_network_how_sure_and_what_failed():
    metrics = cohort_metrics()
    page = Page(rendered(metrics)).text
    assert page.index("Which method?") < page.index("How sure?") < page.index("Which method is best?")
    found = tiles(metrics)
    assert found["Which method?"]["answer"] == "bspline-3r" and "best by Dice too" in found["Which method?"]["value"]
    assert found["Which λ and epoch?"]["answer"] == "λ = 1, epoch 100"
    assert "Mean squared NCC" in found["Which λ and epoch?"]["value"]
    assert found["How sure?"]["answer"] == "a hint" and "2 independent test subjects" in found["How sure?"]["value"]
    assert found["How sure?"]["level"] == "doubt"
    nothing = found["What failed?"]
    assert (nothing["answer"], nothing["level"]) == ("nothing flagged", "good")
    assert nothing["value"] == "No registration failed."
    assert "Which λ and epoch?" not in tiles(cohort_metrics(learned=False), None)


def test_two_networks_each_have_their_choice_and_their_figures_under_their_name(picture, tmp_path):
    metrics = cohort_metrics(networks=(NETWORK, OTHER))
    both = [SELECTED, OTHERS]
    found = tiles(metrics, both)
    assert found["Which λ and epoch of voxelmorph?"]["answer"] == "λ = 1, epoch 100"
    assert found["Which λ and epoch of voxelmorph-diff?"]["answer"] == "λ = 10, epoch 20"
    assert found["Which method?"]["answer"] == "bspline-3r" and "Which λ and epoch?" not in found
    figures = {}
    for name, network in itertools.product(("training", "selection", "weights"), (NETWORK, OTHER)):
        save(message(f"{name} of {network}"), tmp_path / f"{network}_{name}.png")
        figures.setdefault(name, []).append(str(tmp_path / f"{network}_{name}.png"))
    pictures = Pictures.of(evaluated(metrics, both), figures, {}, {}, [NETWORK, OTHER])
    html = rendered(metrics, both, pictures=pictures)
    text = Page(html).text
    chosen = html[html.index('id="choice"') : html.index('id="comparison"')]
    starts = [chosen.index(f">{network}</h3>") for network in (NETWORK, OTHER)]
    for number, part in enumerate((chosen[starts[0] : starts[1]], chosen[starts[1] :])):
        places = [part.index(Picture(figures[name][number], "", "").uri) for name in figures]
        assert places == sorted(places) and part.count("data:image/") == 3
        (framed,) = re.findall(r'<th scope="row">(\S+)</th>(?:(?!</tr>).)*class="chosen', part, re.DOTALL)
        assert framed == both[number]["weight"]
    for name in ("voxelmorph", "voxelmorph-diff"):
        assert f"{name}, chosen on validation pairs" in text
    with pytest.raises(ValueError, match="zip"):
        Pictures.of(evaluated(metrics, both), figures | {"weights": figures["weights"][:1]}, {}, {}, [NETWORK, OTHER])


def test_the_table_of_methods_has_every_network_with_its_own_choice():
    evaluation = evaluated(cohort_metrics(networks=(NETWORK, OTHER)), [SELECTED, OTHERS])
    columns, rows = tables.comparison_table(evaluation)
    table = {row[0]: dict(zip(columns, row, strict=True)) for row in rows}
    summary = evaluation.summary
    own = summary[(summary.split == "test") & (summary.metric == "tre_mean") & (summary.structure == "total")]
    for label, choice in (("voxelmorph, λ = 1, epoch 100", SELECTED), ("voxelmorph-diff, λ = 10, epoch 20", OTHERS)):
        row = own[(own.method == choice["network"]) & (own.weight == choice["weight"]) & (own.epoch == choice["epoch"])]
        assert table[label]["TRE (mm)"].startswith(f"{row['mean'].item():.2f} ± ")


def test_the_first_page_says_when_measures_disagree_and_when_the_order_is_clear():
    metrics = cohort_metrics()
    metrics.loc[of(metrics, "dice", "affine"), "value"] = 0.99
    said = tiles(metrics)["Which method?"]
    assert said["level"] == "doubt" and "by Dice affine" in said["value"]
    many = cohort_metrics(subjects={"validation": ["V1"], "test": [f"H{number:03d}" for number in range(12)]})
    assert tiles(many)["How sure?"]["answer"] == "clear"
    rows = (many.metric == "tre_mean") & (many.structure == "total")
    best = many[rows & (many.method == "bspline-3r")].set_index("pair").value
    learned = rows & (many.method == "voxelmorph")
    beside = np.where(many.pair.str[3].isin(list("02468")), 0.1, -0.09)  # worse on one subject, better on the next
    many.loc[learned, "value"] = (many.pair.map(best) + beside)[learned]
    assert tiles(many)["How sure?"]["answer"] == "in part"
    assert tiles(cohort_metrics(subjects={"validation": ["P04"]}))["How sure?"]["answer"] == "not at all"


def test_flagged_pairs_come_first_and_lead_to_their_pages():
    metrics = cohort_metrics()
    pairs = sorted(metrics.pair.unique())
    flags = raised((pairs[3], "affine", "folding"), (pairs[5], "affine", "failed"), (pairs[5], "affine", "folding"),
                   ("P01-T1_to_P01-CT", "affine", "failed"))  # fmt: skip
    failures = failed_registrations((pairs[5], "test", "affine", "", pd.NA, "no overlap"))
    found = tiles(metrics, failures=failures, flags=flags)["What failed?"]
    assert (found["answer"], found["level"]) == ("3 of 9 pairs flagged", "doubt") and "1 registration failed" in found[
        "value"
    ]
    page = Page(rendered(metrics, flags=flags, links={pair: f"qc/{pair}.html" for pair in pairs}))
    links = [resource for resource in page.resources if resource.startswith("qc/")]
    assert links[:2] == [f"qc/{pairs[5]}.html", f"qc/{pairs[3]}.html"], "on the first page"
    evaluation = evaluated(metrics, SELECTED, failures, flags)
    table = tables.quality_table(evaluation, {pair: f"qc/{pair}.html" for pair in pairs})
    assert [row["pair"] for row in table[:4]] == [pairs[5], "P01-T1_to_P01-CT", pairs[3], pairs[0]]
    assert table[1]["link"] == "" and table[0]["sentence"] == "Why failed." and len(table) == 9
    assert table[0]["flags"] == ["registration failed (affine)", "folding (affine)"]
    assert "registration failed: 2 of 9 pairs (affine)" in page.text and "Why failed." in page.text


def test_a_cohort_without_test_pairs_says_so():
    page = Page(rendered(cohort_metrics(subjects={"validation": ["P04"]})))
    assert "There is no test pair" in page.text and "Nothing was measured on test pairs." in page.text


def test_the_best_method_is_named_with_its_uncertainty():
    metrics = cohort_metrics()
    best = verdict(TRE, metrics)
    assert best.method == "bspline-3r" and re.fullmatch(r"1\.\d\d mm", best.value)
    assert "n = 4 pairs of 2 subjects" in words(best) and "better than it on 4 of 4 pairs" in words(best)
    assert verdict(DICE, metrics).method == "bspline-3r"
    assert verdict(DICE, cohort_metrics(labels=False)) is None
    # One subject's pairs twice as bad for the best method: its interval now holds the next one's.
    metrics.loc[of(metrics, "tre_mean", "bspline-3r") & metrics.pair.str.startswith("P06"), "value"] *= 1.6
    assert "Its interval overlaps with that of bspline-1r" in words(verdict(TRE, metrics))


def test_a_failure_counts_as_the_worst_and_is_said():
    metrics = cohort_metrics()
    metrics.loc[of(metrics, "tre_mean", "bspline-3r", "P05-T1_to_P05-CT", "total"), "value"] = np.nan
    best = verdict(TRE, metrics)
    assert best.method == "bspline-1r", "with 30 mm, as before registration, on one of four pairs"
    assert "Failed on some pair, where the worst value counts: bspline-3r." in words(best)
    trouble = what_went_wrong(metrics)
    assert "No value of tre_mean by bspline-3r for P05-T1_to_P05-CT: the worst value of the pair counts." in trouble
    metrics.loc[of(metrics, "runtime", "bspline-3r", "P05-T1_to_P05-CT"), "value"] = np.nan
    trouble = what_went_wrong(metrics)
    assert "No value of runtime by bspline-3r for P05-T1_to_P05-CT: it takes no part in the mean." in trouble
    # A failure where the others are hardly better does not topple the best one, but is said.
    metrics = cohort_metrics()
    only_two = metrics[metrics.method.isin(["bspline-1r", "bspline-3r"])].copy()
    only_two.loc[of(only_two, "tre_mean", "bspline-3r", "P05-T1_to_P05-CT", "total"), "value"] = np.nan
    best = verdict(TRE, only_two)
    assert best.method == "bspline-3r" and "It failed on 1 pair, where the worst value counts." in words(best)
    assert "n = 4 pairs of 2 subjects" in words(best) and "better than it on 3 of 4 pairs" in words(best)


def test_failed_registrations_are_listed_with_their_cause():
    metrics, pair = cohort_metrics(), "P05-T1_to_P05-CT"
    metrics.loc[(metrics.pair == pair) & (metrics.method == "bspline-3r"), "value"] = np.nan
    failures = failed_registrations(
        (pair, "test", "bspline-3r", "", pd.NA, "elastix gave up."),
        ("P06-T1_to_P06-CT", "test", "bspline-3r", "", pd.NA, "elastix gave up."),
        (pair, "test", "voxelmorph", "10", 20, "out of memory"),
        ("P04-T1_to_P04-CT", "validation", "affine", "", pd.NA, "no overlap"),
    )
    trouble = what_went_wrong(metrics, failures)
    assert f"bspline-3r failed on {pair}, P06-T1_to_P06-CT: elastix gave up." in trouble
    (others,) = [sentence for sentence in trouble if "more registration" in sentence]
    assert others.startswith("2 more registrations failed on validation pairs or by networks that were not chosen")
    assert not [sentence for sentence in trouble if sentence.startswith("No value")], "said once is enough"
    assert "elastix gave up." in Page(rendered(metrics, failures=failures)).text


def test_the_tests_are_tabled_with_effect_and_interval():
    metrics = cohort_metrics(subjects={"validation": ["V1"], "test": [f"H{number:03d}" for number in range(12)]})
    evaluation = evaluated(metrics, SELECTED)
    tests = evaluation.comparison
    columns, rows = tables.tests_table(evaluation)
    table = {(row[0], row[1]): dict(zip(columns, row, strict=True)) for row in rows}
    assert [key[1] for key in table][:4] == ["initial", "affine", "bspline-1r", "voxelmorph, λ = 1, epoch 100"]
    found = tests[(tests.metric == "tre_mean") & (tests.structure == "total") & (tests.method == "bspline-1r")].iloc[0]
    row = table["TRE (mm)", "bspline-1r"]
    assert row["against the best"] == found.reference == "bspline-3r" and row["subjects"] == "12"
    assert row["median difference"] == f"{found.median_difference:+.2f}" and row["effect size"] == "-1.00"
    assert row["95 % interval"] == f"{found.ci_low:+.2f} to {found.ci_high:+.2f}"
    assert row["p"] == "0.00049" and row["p corrected"] == f"{found.p_holm:.2g} *"
    assert {label for label, _ in table} == {"TRE (mm)", "Dice"}
    page = Page(rendered(metrics))
    assert row["95 % interval"] in page.text and "in the manner of Learn2Reg" in page.text
    columns, rows = tables.ranking_table(evaluation)
    assert columns[:3] == ["rank", "method", "score"] and rows[0][:3] == ["1", "bspline-3r", "1.00"]
    assert rows[0][columns.index("TRE: wins, score")] == "3, 1.00" and tables.ranking_caution(evaluation) == ""


def test_too_few_subjects_are_told_in_words_and_get_no_stars():
    metrics = cohort_metrics()
    said = sureness(metrics)
    # Two subjects: 2 / 2^2; five methods make ten pairs.
    assert "TRE: with 2 subjects the smallest p that Wilcoxon's test can give is 0.5, and 1 after" in said
    assert "the 10 pairs of 5 methods. No difference can be significant" in said
    page = Page(rendered(metrics))
    assert "No difference can be significant" in page.text and " *" not in page.text.replace("*: corrected", "")
    assert "with 2 subjects, this ranking says nothing" in page.text
    nine = cohort_metrics(subjects={"test": [f"H{number:03d}" for number in range(9)]})
    assert "No difference can be significant" not in sureness(nine)
    eight = cohort_metrics(subjects={"test": [f"H{number:03d}" for number in range(8)]})
    assert "is 0.0078, and 0.078 after" in sureness(eight)


def test_doing_nothing_can_be_best_and_that_is_said():
    metrics = cohort_metrics()
    metrics.loc[of(metrics, "tre_mean", "initial"), "value"] = 0.5
    best = verdict(TRE, metrics)
    assert best.method == "initial" and "no registration improved it" in words(best)
    worse = [sentence for sentence in what_went_wrong(metrics) if "worse TRE than the start" in sentence]
    assert len(worse) == 4


def test_few_subjects_and_linked_ones_are_cautioned():
    assert "2 independent test subjects are too few to rank methods" in sureness(cohort_metrics())
    ten = cohort_metrics(subjects={"test": [f"H{number:03d}" for number in range(10)]})
    assert "too few" not in sureness(ten) and "link" not in sureness(ten)
    names = sorted(ten.pair.unique())
    between = dict(zip(names, [f"H{n:03d}-T1_to_H{(n + 1) % 20:03d}-CT" for n in range(20)], strict=True))
    assert "link the 20 test subjects to 1 independent group;" in sureness(ten.assign(pair=ten.pair.map(between)))
    atlas = {name: f"H{n:03d}-T1_to_ATLAS-CT" for n, name in enumerate(names)}
    assert "ATLAS takes part in every test pair" in sureness(ten.assign(pair=ten.pair.map(atlas)))


def test_a_single_pair_has_no_interval():
    metrics = cohort_metrics(subjects={"validation": ["P04"], "test": ["P05"]}).query("pair.str.contains('T1')")
    best = verdict(TRE, metrics)
    assert "No interval from a single subject, n = 1 pair of 1 subject." in words(best)
    assert "overlaps" not in words(best)
    assert "nan" not in Page(rendered(metrics)).text.lower()


def test_what_went_wrong_is_listed():
    metrics = cohort_metrics()
    pair = "P06-T2_to_P06-CT"
    metrics.loc[(metrics.metric == "landmarks_outside") & (metrics.pair == pair), "value"] = 3
    metrics.loc[of(metrics, "tre_mean", "affine", pair), "value"] = 99
    metrics = metrics[~((metrics.metric == "dice") & (metrics.pair == pair))]
    rounded = metrics[metrics.metric == "tre_mean"].assign(metric="tre_of_rounding", structure="total", value=1.1)
    rounded = rounded.drop_duplicates(["pair", "method", "weight", "epoch"])
    metrics = pd.concat([metrics, rounded[rounded.pair == pair]])
    trouble = "\n".join(what_went_wrong(metrics))
    assert f"The moving landmarks of {pair} lie on voxel centres" in trouble
    assert "explains a mean TRE of at most 1.10 mm; a registration may stay below it" in trouble
    assert f"{pair}: 3 of 43 landmarks lie outside of the fixed image" in trouble
    assert f"affine left a worse TRE than the start had: {pair}." in trouble
    assert re.search(r"bspline-1r folds in 4 of 4 test pairs, at worst 0\.1\d* % of the voxels", trouble)
    assert f"No Dice for {pair} of 4 test pairs: they have no labels." in trouble
    assert "bspline-3r folds" not in trouble


def test_pairs_that_were_left_at_their_start_are_named():
    """The affine's figures are then the start's: its reader must know; where it helped nothing is said."""
    metrics = cohort_metrics()
    of_affine = metrics[(metrics.method == "affine") & (metrics.metric == "ncc_squared")]
    pairs = sorted(of_affine.pair)
    rows = of_affine.assign(metric="start_kept", unit="1", value=of_affine.pair.isin(pairs[:2]).astype(float))
    (said,) = set(what_went_wrong(pd.concat([metrics, rows]))) - set(what_went_wrong(metrics))
    assert f"(MIND distance) on {pairs[0]}, {pairs[1]} (2 of {len(pairs)} validation and test pairs)" in said
    assert said.startswith("affine made the images agree less") and pairs[2] not in said
    assert said in Page(rendered(pd.concat([metrics, rows]))).text
    assert what_went_wrong(pd.concat([metrics, rows.assign(value=0.0)])) == what_went_wrong(metrics)


def test_nothing_wrong_is_said_too():
    metrics = cohort_metrics()
    metrics.loc[metrics.metric == "folding", "value"] = 0
    assert what_went_wrong(metrics) == []
    assert "no method folds" in Page(rendered(metrics)).text


def test_the_choice_is_explained_and_its_edges_are_warned_of():
    metrics = cohort_metrics()
    selected = select_model(metrics, NETWORK, "tre", 0.5)
    chosen = findings.choice(selected)
    assert chosen["headline"] == f"λ = {selected['weight']}, epoch {selected['epoch']}" == "λ = 0.5, epoch 100"
    assert "the smallest λ and the last epoch" in chosen["warnings"][0]
    assert [weight for weight, _ in chosen["rows"]] == ["0.5", "1", "10"] and chosen["epochs"] == [20, 100]
    cells = {
        (weight, epoch): cell
        for weight, row in chosen["rows"]
        for epoch, cell in zip(chosen["epochs"], row, strict=True)
    }
    assert [place for place, cell in cells.items() if cell["chosen"]] == [("0.5", 100)]
    for candidate in selected["candidates"]:
        assert cells[candidate["weight"], candidate["epoch"]]["text"] == f"{candidate['value']:.3f}"
    inside = findings.choice(selected | {"weight": "1", "epoch": 20})
    assert inside["warnings"] == []
    folding = findings.choice(selected | {"admissible": False})
    assert any("folds more than" in warning for warning in folding["warnings"])


def test_pairs_come_worst_first_and_what_is_left_out_is_counted():
    metrics = cohort_metrics()
    pairs = sorted(metrics[metrics.split == "test"].pair.unique())
    worst, failed = pairs[2], pairs[1]
    metrics.loc[of(metrics, "tre_mean", "voxelmorph", worst), "value"] = 50
    paths = {pair: "x.png" for pair in pairs}
    pictures = Pictures.of(evaluated(metrics, SELECTED), {}, paths, {}, most=3)
    assert pictures.pairs[0].title == f"{worst} (test pair)" and pictures.left_out == 1 and len(pictures.pairs) == 3
    assert "voxelmorph, λ = 1, epoch 100 50.00" in pictures.pairs[0].caption
    metrics.loc[of(metrics, "tre_mean", "voxelmorph", failed, "total"), "value"] = np.nan
    found = pair_pictures(paths, evaluated(metrics, SELECTED))
    assert [picture.title.split()[0] for picture in found[:2]] == [failed, worst]


def test_folders_of_the_machine_stay_out_of_the_report():
    config = {
        "data_folder": "/home/someone/Patients", "cohort": "/home/someone/cohort.tsv", "seed": 1,
        "pairs": {"table": "${HOME}/pairs.tsv", "moving": ["T1", "/data/x.nii"]}, "prealign": "config/affine.txt",
    }  # fmt: skip
    assert without_folders(config) == {
        "cohort": "cohort.tsv", "seed": 1, "pairs": {"table": "pairs.tsv", "moving": ["T1", "x.nii"]},
        "prealign": "config/affine.txt",
    }  # fmt: skip


def test_the_script_writes_one_file_and_its_provenance(tmp_path):
    metrics = cohort_metrics()
    selected = select_model(metrics, NETWORK, "tre", 0.5)
    write_table(metrics, tmp_path / "metrics.tsv")
    write_table(summarized(metrics), tmp_path / "summary.tsv")
    write_json(selected, tmp_path / "selected.json")
    made = evaluated(metrics, selected)
    write_table(made.comparison, tmp_path / "comparison.tsv")
    write_table(made.ranking, tmp_path / "ranking.tsv")
    row = ("P05-T1_to_P05-CT", "test", "affine", "", pd.NA, "no overlap at all")
    write_table(failed_registrations(row), tmp_path / "failures.tsv")
    write_table(NO_FLAGS, tmp_path / "flags.tsv")
    save(training(NETWORK, histories()), tmp_path / "figure.svg", tmp_path / "figure.png")
    (tmp_path / "affine.txt").write_text('(Transform "AffineTransform") // see http://elastix.example\n')
    pairs = sorted(metrics[metrics.split == "test"].pair.unique())
    svg, png = str(tmp_path / "figure.svg"), str(tmp_path / "figure.png")
    given = {
        name: tmp_path / f"{name}.tsv" for name in ("metrics", "summary", "comparison", "ranking", "failures", "flags")
    }
    evaluation = Evaluation.read(given | {"selected": [tmp_path / "selected.json"]})
    shown = {"training": [svg], "selection": [svg], "weights": []}
    shown |= dict.fromkeys(("methods", "runtime", "structures", "folding"), png)
    for run in ("one", "two"):
        write_report.main(
            evaluation,
            Pictures.of(
                evaluation, shown, dict.fromkeys(pairs, png), dict.fromkeys(["P05", "P06"], png), [NETWORK], most=3
            ),
            Provenance.of(
                {"data_folder": str(tmp_path), "networks": {NETWORK: {"weights": ["0.5"]}}},
                7,
                "abc",
                [tmp_path / "affine.txt"],
            ),
            pages={pair: tmp_path / f"qc/{pair}.html" for pair in pairs},
            output=tmp_path / f"{run}.html",
            provenance_output=tmp_path / f"{run}.json",
            skipped=["ants"],
            phantom=True,
        )
    html = (tmp_path / "one.html").read_text()
    assert html == (tmp_path / "two.html").read_text()
    page = Page(html)
    pages = [f"qc/{pair}.html" for pair in pairs]
    others = [resource for resource in page.resources if not resource.startswith(("data:image/", "#"))]
    assert sorted(others) == pages
    # two curves, four comparisons, three of four pairs, two subjects
    assert sum(resource.startswith("data:") for resource in page.resources) == 11
    assert "affine failed on P05-T1_to_P05-CT: no overlap at all." in page.text
    assert "Left out, as the tool is not installed where this ran (missing: skip): ants" in page.text
    assert "among the figures beside it: 1 more." in page.text and "AffineTransform" in page.text
    assert "4 test pairs of 2 subjects" in page.text and "4 validation pairs of 2 subjects" in page.text
    made = json.loads((tmp_path / "one.json").read_text())
    assert made["seed"] == 7 and made["commit"] == "abc" and made["packages"]["numpy"] == np.__version__
    assert list(made["parameter_files"]) == ["affine.txt"] and len(made["parameter_files"]["affine.txt"]) == 64
    assert str(tmp_path) not in html and str(tmp_path) not in json.dumps(made)
