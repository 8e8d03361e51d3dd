"""Summaries, tests of methods against each other, and the choice of the model."""

import json

import collect_metrics
import compare_methods
import numpy as np
import pandas as pd
import pytest
import select_model
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import PermutationMethod, bootstrap, wilcoxon

from cohortmorph import UserError
from cohortmorph.evaluation import comparison, selection, statistics
from cohortmorph.evaluation.tables import COMPARISON_COLUMNS, Evaluation, table_of
from cohortmorph.run.files import write_json, write_table


def rows_of(pairs, split, method, metric, values, structure="image", unit="1"):
    return pd.concat(
        [
            table_of([(metric, structure, value, unit)], pair, split, method)
            for pair, value in zip(pairs, values, strict=True)
        ],
        ignore_index=True,
    )


def test_summary_by_hand():
    table = pd.concat(
        [
            rows_of(["p1", "p2", "p3"], "test", "affine", "tre_mean", [1.0, 2.0, 6.0], "total", "mm"),
            rows_of(["p1", "p2", "p3"], "test", "voxelmorph_weight-1_epoch-20", "dice", [0.5, np.nan, np.inf], "mean"),
            rows_of(["p4"], "train", "affine", "tre_mean", [3.0], "total", "mm"),
            rows_of(["p9"], "test", "initial", "dice", [np.nan], "mean"),
        ],
        ignore_index=True,
    )
    summary = statistics.summarize(table, bootstrap_samples=500, seed=1)
    assert list(summary.columns) == [
        *("split", "method", "weight", "epoch", "metric", "structure", "unit", "n", "subjects", "failed"),
        *("mean", "sd", "median", "ci_low", "ci_high"),
    ]
    first, failing, single, none = (row for _, row in summary.iterrows())
    assert (first["n"], first["subjects"], first["failed"]) == (3, 3, 0)
    assert first[["mean", "sd", "median"]].tolist() == pytest.approx([3, np.sqrt(7), 2])
    assert 1 <= first["ci_low"] < 3 < first["ci_high"] <= 6
    assert (failing["weight"], failing["epoch"]) == ("1", 20)
    assert (failing["n"], failing["failed"], failing["mean"]) == (1, 2, 0.5)
    assert single["n"] == 1 and single[["sd", "ci_low", "ci_high"]].isna().all()
    assert (none["n"], none["failed"]) == (0, 1) and none[["mean", "median"]].isna().all()


def test_a_failure_counts_as_the_worst_that_any_method_reached_on_that_pair():
    pairs = ["p1", "p2", "p3"]
    learned = ["voxelmorph_weight-1_epoch-20", "voxelmorph_weight-2_epoch-20"]
    table = pd.concat(
        [
            rows_of(pairs, "test", "initial", "dice", [0.3, 0.4, np.nan], "mean"),
            rows_of(pairs, "test", "affine", "dice", [0.9, np.nan, np.nan], "mean"),
            rows_of(pairs, "test", learned[0], "dice", [0.2, 0.6, np.nan], "mean"),
            rows_of(pairs, "test", "initial", "tre_mean", [9.0, 8.0, 7.0], "total", "mm"),
            rows_of(pairs, "test", "affine", "tre_mean", [1.0, np.inf, np.nan], "total", "mm"),
            rows_of(pairs, "test", learned[1], "tre_mean", [1.0, 20.0, 1.0], "total", "mm"),
            rows_of(pairs, "test", "initial", "jacobian_min", [1.0, 1.0, 1.0]),
            rows_of(pairs, "test", "affine", "jacobian_min", [0.5, 0.5, np.nan]),
            rows_of(pairs, "test", "initial", "runtime", [0.0, 0.0, 0.0], unit="s"),
            rows_of(pairs, "test", "affine", "runtime", [5.0, 5.0, np.nan], unit="s"),
        ],
        ignore_index=True,
    )
    before = table.copy()
    summary = statistics.summarize(table, 100, seed=1).set_index(["metric", "method"])
    pd.testing.assert_frame_equal(table, before)
    affine = summary.xs("affine", level="method")
    # Not 0.3 of `initial` on another pair; on p3 every method failed, and no value can be given.
    assert affine.loc["dice", ["n", "failed", "mean"]].tolist() == pytest.approx([2, 2, (0.9 + 0.4) / 2])
    assert affine.loc["tre_mean", ["n", "failed", "mean"]].tolist() == pytest.approx([3, 2, (1 + 20 + 7) / 3])
    # Neither direction is better, and what it cost is no quality: no value takes their place.
    assert affine.loc["jacobian_min", ["n", "failed", "mean"]].tolist() == pytest.approx([2, 1, 0.5])
    assert affine.loc["runtime", ["n", "failed", "mean"]].tolist() == pytest.approx([2, 1, 5])


def test_subjects_are_drawn_with_all_their_pairs():
    values = {"A-1_to_A-CT": 1.0, "A-2_to_A-CT": 1.0, "A-3_to_A-CT": 1.0, "B-1_to_B-CT": 5.0}
    table = rows_of(list(values), "test", "affine", "tre_mean", values.values(), "total", "mm")
    row = statistics.summarize(table, 1000, seed=1).iloc[0]
    assert (row["n"], row["subjects"], row["mean"]) == (4, 2, 2.0)
    # A sample of two subjects holds A twice, both, or B twice: nothing in between.
    assert (row["ci_low"], row["ci_high"]) == (1.0, 5.0)
    alone = statistics.summarize(table[table.pair.str.startswith("A")], 1000, seed=1).iloc[0]
    assert (alone["n"], alone["subjects"]) == (3, 1) and np.isnan(alone["ci_low"])


@pytest.mark.parametrize(
    ("pairs", "groups"),
    [
        (["A-T1_to_A-CT", "A-T2_to_A-CT", "B-T1_to_B-CT"], ["A", "A", "B"]),
        (["A-T1_to_B-T1", "C-T1_to_D-T1"], ["A", "C"]),
        (["A-T1_to_B-T1", "C-T1_to_D-T1", "B-T1_to_C-T1"], ["A", "A", "A"]),
        (["A-T1_to_X-T1", "B-T1_to_X-T1", "X-T1_to_C-T1"], ["A", "B", "C"]),
        (["A-T1_to_X-T1", "B-T1_to_X-T1", "X-T2_to_X-T1"], ["A", "A", "A"]),
        (["A-T1_to_B-T1"], ["A"]),
    ],
    ids=["within subjects", "disjoint", "a chain", "an atlas", "an atlas with a pair of its own", "one pair"],
)
def test_units_share_no_subject(pairs, groups):
    assert statistics.independent_units(pairs) == dict(zip(pairs, groups, strict=True))


def test_the_interval_agrees_with_scipy():
    values = np.random.default_rng(0).gamma(2, size=(3, 25))
    ours = statistics.bootstrap_interval(values, samples=20000, seed=1)
    for row, (low, high) in zip(values, ours, strict=True):
        theirs = bootstrap((row,), np.mean, n_resamples=20000, method="percentile", rng=2).confidence_interval
        assert (low, high) == pytest.approx(theirs, abs=0.03 * np.ptp(theirs))


@given(st.permutations(range(12)))
@settings(max_examples=20, deadline=None)
def test_the_summary_does_not_depend_on_the_order_of_rows(order):
    random = np.random.default_rng(7)
    table = pd.concat(
        [
            rows_of([f"p{n}" for n in range(6)], "test", method, "dice", random.random(6))
            for method in ("initial", "affine")
        ],
        ignore_index=True,
    )
    expected = statistics.summarize(table, 200, seed=3).sort_values("method", ignore_index=True)
    shuffled = statistics.summarize(table.iloc[list(order)], 200, seed=3).sort_values("method", ignore_index=True)
    pd.testing.assert_frame_equal(shuffled, expected)
    other_seed = statistics.summarize(table, 200, seed=4).sort_values("method", ignore_index=True)
    assert (other_seed["ci_low"] != expected["ci_low"]).any()


def test_a_value_that_stands_there_twice_is_refused():
    table = rows_of(["p1", "p1"], "test", "affine", "dice", [0.5, 0.6])
    with pytest.raises(ValueError, match="1 values twice"):
        statistics.summarize(table, 10, seed=1)


def candidates(values, foldings, metric="tre_mean", structure="total", split="validation", network="voxelmorph"):
    """Return a table of one network from {(weight, epoch): values of the pairs}."""
    tables = []
    for (weight, epoch), of_pairs in values.items():
        method, pairs = f"{network}_weight-{weight}_epoch-{epoch}", [f"{split}{n}" for n in range(len(of_pairs))]
        tables.append(rows_of(pairs, split, method, metric, of_pairs, structure))
        tables.append(rows_of(pairs, split, method, "folding", foldings[weight, epoch], unit="%"))
    return pd.concat(tables, ignore_index=True)


TRE = {
    ("1", 20): [4.0, 4.0],
    ("1", 50): [1.0, 2.0],
    ("2", 20): [3.0, 3.0],
    ("10", 20): [3.0, 3.0],
    ("10", 50): [3.0, 3.0],
}
NO_FOLDS = {candidate: [0.0, 0.0] for candidate in TRE}


def choose(table, metric="tre", folding_percent_max=0.5, network="voxelmorph"):
    return selection.select_model(table, network, metric, folding_percent_max)


def choice(*arguments, **changes):
    selected = choose(*arguments, **changes)
    return selected["weight"], selected["epoch"]


def test_the_lowest_mean_error_wins():
    selected = choose(candidates(TRE, NO_FOLDS))
    assert (selected["weight"], selected["epoch"], selected["value"]) == ("1", 50, 1.5)
    assert (selected["metric"], selected["validation_pairs"], selected["admissible"]) == ("tre_mean", 2, True)
    assert "Lowest mean tre_mean among 5 candidates" in selected["reason"]
    assert [(c["weight"], c["epoch"]) for c in selected["candidates"]] == sorted(TRE, key=lambda c: (float(c[0]), c[1]))


def test_the_reason_says_why_it_is_this_metric():
    table = candidates(TRE, NO_FOLDS)
    plain = choose(table)["reason"]
    told = selection.select_model(table, "voxelmorph", "tre", 0.5, why="`auto` took tre.")
    assert told["reason"] == f"{plain} `auto` took tre."


def test_folding_beyond_the_limit_excludes():
    # The mean over the pairs counts: 0.8 and 0.0 are 0.4 %.
    assert choice(candidates(TRE, NO_FOLDS | {("1", 50): [0.8, 0.0]})) == ("1", 50)
    assert choice(candidates(TRE, NO_FOLDS | {("1", 50): [0.8, 0.4]})) == ("10", 20)


def test_ties_go_to_the_larger_weight_as_a_number_then_to_the_smaller_epoch():
    tied = {candidate: values for candidate, values in TRE.items() if values == [3.0, 3.0]}
    assert choice(candidates(tied, NO_FOLDS)) == ("10", 20)
    rounding = tied | {("2", 20): [3.0, 3.0 - 1e-12]}
    assert choice(candidates(rounding, NO_FOLDS)) == ("10", 20)


def test_if_all_fold_too_much_the_least_folding_wins_and_the_reason_says_so():
    folds = {candidate: [float(candidate[0]), 1.0] for candidate in TRE}
    selected = choose(candidates(TRE, folds))
    assert (selected["weight"], selected["epoch"], selected["admissible"]) == ("1", 50, False)
    assert "No candidate has folding of at most 0.5 %" in selected["reason"]


@pytest.mark.parametrize(
    ("metric", "name", "structure"),
    [("dice", "dice", "mean"), ("ncc", "ncc_squared", "image"), ("nmi", "nmi", "image")],
)
def test_more_overlap_and_more_similarity_are_better(metric, name, structure):
    values = {("1", 20): [0.5, 0.5], ("2", 20): [0.9, 0.8], ("3", 20): [0.2, 0.9]}
    table = candidates(values, {candidate: [0.0, 0.0] for candidate in values}, name, structure)
    decoy = candidates({("3", 20): [1.0, 1.0]}, {("3", 20): [0.0, 0.0]}, name, "other")
    assert choice(pd.concat([table, decoy[decoy.metric == name]]), metric) == ("2", 20)


def test_a_candidate_that_failed_on_a_pair_cannot_win():
    selected = choose(candidates(TRE | {("1", 50): [0.1, np.nan]}, NO_FOLDS))
    assert (selected["weight"], selected["epoch"]) == ("10", 20)
    assert "1 candidates lack a value" in selected["reason"]
    assert [c["value"] for c in selected["candidates"]][1] is None
    missing = candidates(TRE, NO_FOLDS)
    lost = (
        (missing.weight == "1")
        & (missing.epoch == 50)
        & (missing.metric == "tre_mean")
        & (missing.pair == "validation1")
    )
    assert choice(missing[~lost]) == ("10", 20)


def test_a_pair_without_the_metric_is_named():
    with pytest.raises(
        UserError, match=r"of the network voxelmorph .* missing for validation1\. Give these pairs landmarks"
    ):
        choice(candidates({key: [1.0, np.nan] for key in TRE}, NO_FOLDS))


def test_without_validation_pairs_nothing_is_chosen():
    with pytest.raises(UserError, match="split `validation`"):
        choice(candidates(TRE, NO_FOLDS, split="test"))


@given(st.lists(st.floats(-1e6, 1e6), min_size=10, max_size=10), st.sampled_from(["test", "train"]))
@settings(max_examples=25, deadline=None)
def test_no_other_split_method_or_network_can_leak_into_the_choice(values, split):
    validation = candidates(TRE, NO_FOLDS)
    others = {candidate: values[2 * n : 2 * n + 2] for n, candidate in enumerate(TRE)}
    leaking = candidates(others, {key: [abs(v) for v in value] for key, value in others.items()}, split=split)
    baseline = rows_of(["validation0"], "validation", "affine", "tre_mean", values[:1], "total", "mm")
    other = candidates(others, NO_FOLDS, network="voxelmorph-diff")
    assert choose(pd.concat([leaking, baseline, other, validation])) == choose(validation)


def test_each_network_has_its_own_choice():
    others = {candidate: [5.0, 5.0] for candidate in TRE} | {("10", 50): [4.0, 4.5]}
    table = pd.concat([candidates(TRE, NO_FOLDS), candidates(others, NO_FOLDS, network="voxelmorph-diff")])
    assert choice(table) == ("1", 50) and choice(table, network="voxelmorph-diff") == ("10", 50)
    assert choose(table, network="voxelmorph-diff")["network"] == "voxelmorph-diff"
    with pytest.raises(UserError, match="the network other on a validation pair"):
        choice(table, network="other")


@pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf, 0.0, 1e9, "permuted"])
def test_test_pairs_cannot_leak_through_the_rule_s_script(tmp_path, poison):
    """The file that the rule writes is the same byte for byte, whatever the rows of test pairs hold."""
    random = np.random.default_rng(3)
    test = candidates({key: random.random(2) for key in TRE}, {key: random.random(2) for key in TRE}, split="test")
    table = pd.concat([candidates(TRE, NO_FOLDS | {("1", 50): [0.8, 0.0]}), test], ignore_index=True)
    poisoned = table.copy()
    rows = poisoned["split"] == "test"
    if poison == "permuted":
        # So that each candidate of the test pairs takes the place of every other one.
        poisoned.loc[rows, ["weight", "epoch"]] = poisoned.loc[rows, ["weight", "epoch"]].to_numpy()[::-1]
    else:
        poisoned.loc[rows, "value"] = poison
    written = []
    for name, one in {"clean": table, "poisoned": poisoned, "without": table[~rows]}.items():
        write_table(one, tmp_path / f"{name}.tsv")
        settings = {"metric": "tre", "folding_percent_max": 0.5}
        select_model.main(tmp_path / f"{name}.tsv", "voxelmorph", settings, tmp_path / f"{name}.json")
        written.append((tmp_path / f"{name}.json").read_bytes())
    assert written[0] == written[1] == written[2]
    assert json.loads(written[0])["weight"] == "1"


# Methods against each other ------------------------------------------------------------------------------------------


@given(st.lists(st.integers(-(10**6), 10**6), min_size=1, max_size=12, unique_by=abs).filter(lambda one: 0 not in one))
@settings(max_examples=60, deadline=None)
def test_the_signed_rank_test_is_scipy_s_exact_one(differences):
    p, effect_size = statistics.signed_rank(differences)
    assert p == pytest.approx(wilcoxon(differences, method="exact").pvalue, abs=1e-12)
    assert -1 <= effect_size <= 1


@given(st.lists(st.integers(-3, 3), min_size=2, max_size=9).filter(any))
@settings(max_examples=40, deadline=None)
def test_ties_and_zeros_are_exact_too(differences):
    p, _ = statistics.signed_rank(differences)
    # SciPy counts the signs out where told so; zeros are ranked, then left out (Pratt).
    every_sign = PermutationMethod(n_resamples=np.inf)
    theirs = wilcoxon(differences, zero_method="pratt", method=every_sign).pvalue
    assert p == pytest.approx(theirs, abs=1e-12)


def test_many_subjects_take_the_normal_approximation():
    differences = np.random.default_rng(1).normal(0.2, 1, 80)
    p, _ = statistics.signed_rank(differences)
    assert p == pytest.approx(wilcoxon(differences, method="asymptotic").pvalue, rel=1e-9)
    sixty = differences[:60]
    assert statistics.signed_rank(sixty)[0] == pytest.approx(wilcoxon(sixty, method="exact").pvalue, rel=1e-9)


def test_the_effect_size_by_hand():
    # |d| ranks 1, 2, 3, 4: 1 + 2 + 4 = 7 above zero, 3 below.
    assert statistics.signed_rank([1, 2, -3, 4])[1] == pytest.approx((7 - 3) / 10)
    assert statistics.signed_rank([1.0, 2.0, 3.0]) == (0.25, 1.0)
    assert statistics.signed_rank([0.0, 0.0]) == (1.0, 0.0)


def test_holm_by_hand():
    # Sorted .005, .01, .03, .04: times 4, 3, 2, 1 is .02, .03, .06, .04; the last may not be below the one before.
    assert statistics.holm([0.01, 0.04, 0.03, 0.005]).tolist() == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert statistics.holm([0.6, 0.9]).tolist() == [1, 1]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
@settings(max_examples=50, deadline=None)
def test_holm_agrees_with_statsmodels(p):
    multitest = pytest.importorskip("statsmodels.stats.multitest")
    np.testing.assert_allclose(statistics.holm(p), multitest.multipletests(p, method="holm")[1], atol=1e-12)


def test_the_smallest_p_that_subjects_allow():
    assert statistics.smallest_p_holm(subjects=6, methods=2) == 2 / 2**6
    assert statistics.smallest_p_holm(subjects=6, methods=5) == pytest.approx(10 * 2 / 2**6)
    assert statistics.smallest_p_holm(subjects=1, methods=5) == 1


def methods_on_subjects(subjects=12, metric="tre_mean", structure="total"):
    """TRE of two pairs a subject: b is best on each, c about the same, initial far off."""
    random = np.random.default_rng(5)
    pairs = [f"S{n:02d}-{image}_to_S{n:02d}-CT" for n in range(subjects) for image in ("T1", "T2")]
    means_mm = {"initial": 20.0, "affine": 5.0, "b": 2.0, "c": 2.05, "voxelmorph_weight-1_epoch-20": 3.0,
                "voxelmorph_weight-9_epoch-20": 0.1}  # fmt: skip
    return pd.concat(
        [
            rows_of(pairs, "test", method, metric, mean * random.normal(1, 0.1, len(pairs)), structure, "mm")
            for method, mean in means_mm.items()
        ],
        ignore_index=True,
    )


CHOSEN = {"network": "voxelmorph", "weight": "1", "epoch": 20}


def comparison_of(table, bootstrap_samples):
    return comparison.compare(Evaluation(metrics=table, selected={"voxelmorph": CHOSEN}), bootstrap_samples, seed=1)


def ranking_of(table):
    return comparison.rank(Evaluation(metrics=table, selected={"voxelmorph": CHOSEN}))


def test_methods_are_compared_with_the_best_and_the_affine_subject_by_subject():
    table = methods_on_subjects()
    found = comparison_of(table, 500)
    assert list(found.columns) == COMPARISON_COLUMNS
    # The best by mean is one of b and c; the network that was not chosen would be far better, and takes no part.
    best = found["reference"].iloc[0]
    assert best in ("b", "c") and list(found["reference"].unique()) == [best, "affine"]
    assert set(found["method"]) == {"initial", "affine", "b", "c", "voxelmorph"}
    rows = found[found["reference"] == best].set_index("method")
    assert (rows["n"] == 12).all(), "subjects, not pairs"
    values = table[table["weight"].isin(["", "1"])].assign(subject=table["pair"].str[:3])
    subjects = values.groupby(["subject", "method"])["value"].mean().unstack()
    difference = subjects["affine"] - subjects[best]
    assert rows.at["affine", "median_difference"] == pytest.approx(difference.median())
    assert rows.at["affine", "p"] == pytest.approx(wilcoxon(difference, method="exact").pvalue)
    assert rows.at["affine", "effect_size"] == -1, "larger errors are worse"
    assert rows.at["affine", "ci_low"] < difference.median() < rows.at["affine", "ci_high"]
    # Holm's family is all pairs of methods: 10 of 5.
    names = sorted(subjects.columns)
    pairs = [(one, other) for n, one in enumerate(names) for other in names[n + 1 :]]
    p = [wilcoxon(subjects[one] - subjects[other], method="exact").pvalue for one, other in pairs]
    corrected = {frozenset(pair): value for pair, value in zip(pairs, statistics.holm(p), strict=True)}
    for row in found.itertuples():
        assert row.p_holm == pytest.approx(corrected[frozenset((row.method, row.reference))])
    affine = found[found["reference"] == "affine"].set_index("method")
    assert affine.at["b", "effect_size"] == 1 and affine.at["b", "median_difference"] < 0
    assert affine.at[best, "p_holm"] == rows.at["affine", "p_holm"]


def test_every_network_is_compared_and_ranked_with_its_own_choice():
    table = methods_on_subjects()
    network = table[table["method"] == "voxelmorph"]
    # The second network's other λ: what was chosen of it is a tenth as good as that of the first.
    other = network.assign(method="voxelmorph-diff", weight=network["weight"].map({"1": "9", "9": "1"}))
    other["value"] = other["value"].where(other["weight"] == "1", 10 * other["value"])
    chosen = {"voxelmorph": CHOSEN, "voxelmorph-diff": {"network": "voxelmorph-diff", "weight": "9", "epoch": 20}}
    both = Evaluation(metrics=pd.concat([table, other], ignore_index=True), selected=chosen)
    found = comparison.compare(both, 200, seed=1)
    rows = found[found["reference"] == "affine"].set_index("method")
    assert rows.at["voxelmorph-diff", "effect_size"] == -1 and rows.at["voxelmorph", "effect_size"] == 1
    pairs = both.compared(both.metrics).pivot(index="pair", columns="method", values="value")
    subjects = pairs.groupby(pairs.index.str[:3]).mean()
    median = (subjects["voxelmorph-diff"] - subjects["affine"]).median()
    assert rows.at["voxelmorph-diff", "median_difference"] == pytest.approx(median) and median > 20
    ranks = comparison.rank(both).set_index("method")["rank"]
    assert ranks["voxelmorph-diff"] == ranks.max() == 5 and ranks["voxelmorph"] == 3


def test_more_is_better_turns_best_and_effect_around():
    found = comparison_of(methods_on_subjects(metric="dice", structure="mean"), 200)
    assert found["reference"].iloc[0] == "initial"
    rows = found[found["reference"] == "initial"].set_index("method")
    assert rows.at["b", "effect_size"] == -1 and rows.at["b", "median_difference"] < 0
    assert comparison_of(methods_on_subjects(metric="jacobian_min"), 200).empty
    assert comparison_of(methods_on_subjects(metric="runtime"), 200).empty


def test_failing_where_it_is_hard_wins_nothing():
    """Without its failures b would stay best and n would shrink: both are what must not happen."""
    table = methods_on_subjects()
    hard = table["pair"].str.startswith(("S00", "S01")) & (table["method"] == "b")
    for lost in (table.assign(value=table["value"].mask(hard)), table[~hard]):
        found = comparison_of(lost, 200)
        assert found["reference"].iloc[0] == "c"
        row = found[(found["reference"] == "c") & (found["method"] == "b")].iloc[0]
        assert (row["n"], row["failed"]) == (12, 4)
    every = table["pair"].str.startswith("S00")
    found = comparison_of(table.assign(value=table["value"].mask(every)), 200)
    assert (found["n"] == 11).all() and (found["failed"] == 2).all()
    nothing = comparison_of(table.assign(value=np.nan), 200)
    assert len(nothing) == 5 and (nothing["n"] == 0).all() and nothing["p_holm"].isna().all()


def test_one_subject_gives_no_interval_and_no_significance():
    found = comparison_of(methods_on_subjects(subjects=1), 200)
    assert (found["p"] == 1).all() and (found["p_holm"] == 1).all() and found["ci_low"].isna().all()


def test_the_comparison_looks_at_test_pairs_only_and_not_at_the_order_of_rows():
    table = methods_on_subjects()
    others = table.assign(split="validation", value=1.0, pair=table["pair"].str.replace("S", "V"))
    alone = comparison_of(table, 200)
    with_others = comparison_of(pd.concat([others, table], ignore_index=True), 200)
    pd.testing.assert_frame_equal(with_others, alone)
    pd.testing.assert_frame_equal(comparison_of(table.iloc[::-1], 200), alone)


def test_the_ranking_in_learn2reg_s_manner_by_hand():
    error, folds = methods_on_subjects(), methods_on_subjects(metric="jacobian_sd_log", structure="image")
    # In smoothness the order is: affine best, then the network, and b and c equally last.
    smooth = {"affine": 0.1, "voxelmorph": 0.2, "b": 0.4, "c": 0.4, "initial": 0.0}
    folds["value"] = folds["method"].map(smooth)
    seconds = rows_of(error["pair"].unique(), "test", "b", "runtime", [7.0] * 24, unit="s")
    ranking = ranking_of(pd.concat([error, folds, seconds], ignore_index=True))
    assert "initial" not in set(ranking["method"])
    rows = ranking.set_index("method")
    # b and c, not told apart, beat the network and the affine; the network beats the affine.
    assert rows["tre_mean_wins"].to_dict() == {"b": 2, "c": 2, "voxelmorph": 1, "affine": 0}
    assert rows["tre_mean_score"].to_dict() == pytest.approx({"b": 0.85, "c": 0.85, "voxelmorph": 0.4, "affine": 0.1})
    assert rows["jacobian_sd_log_wins"].to_dict() == {"affine": 3, "voxelmorph": 2, "b": 0, "c": 0}
    assert rows.at["b", "score"] == pytest.approx(np.sqrt(0.85 * 0.25))
    assert rows.at["voxelmorph", "score"] == pytest.approx(np.sqrt(0.4 * 0.7))
    assert list(ranking["method"]) == ["voxelmorph", "b", "c", "affine"] and list(ranking["rank"]) == [1, 2, 2, 4]
    assert rows.at["b", "runtime_s"] == 7 and np.isnan(rows.at["c", "runtime_s"])


def test_too_few_subjects_rank_nobody():
    ranking = ranking_of(methods_on_subjects(subjects=5))
    assert (ranking["tre_mean_wins"] == 0).all() and (ranking["rank"] == 1).all()
    assert ranking_of(methods_on_subjects(metric="jacobian_min")).empty


def test_the_script_writes_both_tables_and_works_without_a_network(tmp_path):
    write_table(methods_on_subjects(), tmp_path / "metrics.tsv")
    write_json(CHOSEN, tmp_path / "selected.json")
    for selected, learned in (([tmp_path / "selected.json"], True), ([], False)):
        compare_methods.main(
            tmp_path / "metrics.tsv", selected, tmp_path / "comparison.tsv", tmp_path / "ranking.tsv", 200, seed=1
        )
        tests, ranking = (pd.read_csv(tmp_path / f"{name}.tsv", sep="\t") for name in ("comparison", "ranking"))
        assert list(tests.columns) == COMPARISON_COLUMNS
        assert ("voxelmorph" in set(tests["method"])) == ("voxelmorph" in set(ranking["method"])) == learned


def test_what_failed_is_listed_with_its_reason_and_without_folders(tmp_path):
    pair, methods = "P1-T1_to_P1-CT", ["affine", "bspline-1r", "voxelmorph_weight-1.0_epoch-20"]
    table = pd.concat([rows_of([pair], "test", method, "dice", [np.nan], "mean") for method in methods])
    write_table(table, tmp_path / "metrics.tsv")
    whys = [
        None,
        "elastix gave up:\nsee /home/doe/x.log and /data/doe/results/logs/elastix.log, 1/2 done",
        "memory",
    ]
    paths = [tmp_path / pair / method / "registration.json" for method in methods]
    for path, why in zip(paths, whys, strict=True):
        write_json({"seconds": 1.0} if why is None else {"failed": why}, path)
    outputs = [tmp_path / f"{name}.tsv" for name in ("all", "summary", "failures")]
    collect_metrics.main([tmp_path / "metrics.tsv"], *outputs[:2], 100, 1, paths, outputs[2])
    failures = pd.read_csv(outputs[2], sep="\t", dtype=str, keep_default_na=False)
    assert list(failures.columns) == ["pair", "split", "method", "weight", "epoch", "why"]
    assert failures[["pair", "split", "method", "weight", "epoch"]].to_numpy().tolist() == [
        [pair, "test", "bspline-1r", "", ""],
        [pair, "test", "voxelmorph", "1.0", "20"],
    ]
    assert failures["why"].iloc[0].endswith("and elastix.log, 1/2 done") and "\n" not in failures["why"].iloc[0]
    assert "doe" not in failures["why"].iloc[0]
    aligned = tmp_path / "P2-T1_to_P2-CT" / "affine.json"
    write_json({"failed": "no overlap", "harmonizing_failed": "no slice"}, aligned)
    collect_metrics.main([tmp_path / "metrics.tsv"], *outputs[:2], 100, 1, paths[:1], outputs[2], [aligned])
    training = pd.read_csv(outputs[2], sep="\t")[["pair", "split", "method", "why"]].to_numpy().tolist()
    assert training == [
        ["P2-T1_to_P2-CT", "train", "harmonized", "no slice"],
        ["P2-T1_to_P2-CT", "train", "affine", "no overlap"],
    ]
    collect_metrics.main([tmp_path / "metrics.tsv"], *outputs[:2], 100, 1, paths[:1], outputs[2])
    assert outputs[2].read_text().splitlines() == ["pair\tsplit\tmethod\tweight\tepoch\twhy"]


# ---- a search over λ


def searched(dice_of, folding_of=lambda weight: 0.0, tried=("0.5", "1", "2", "4"), subjects=6):
    """A table of Dice; subject n's is that of `dice_of` plus its own level."""
    values = {(weight, 50): [dice_of(float(weight), n) + 0.01 * n for n in range(subjects)] for weight in tried}
    foldings = {key: [folding_of(float(key[0]))] * subjects for key in values}
    return candidates(values, foldings, "dice", "mean")


def found_in(table, named=("0.5", "2")):
    return selection.search_weight(table, "voxelmorph", "dice", 0.5, list(named), bootstrap_samples=500, seed=1)


def test_a_search_says_which_weights_the_pairs_do_not_tell_from_the_choice():
    """λ = 2 beats 1 by 0.0001 on three subjects of six and loses it on the others but one; 0.5 and 4 are far off."""
    worse = {0.5: 0.05, 1: 0.0, 2: 0.0, 4: 0.03}

    def dice(weight, subject):
        better = {1: 1e-4 * (subject % 2), 2: 2e-4 * (subject % 2 == 0)}.get(weight, 0)
        return 0.7 - worse[weight] + better

    table = searched(dice)
    found = found_in(table)
    assert found["weight"] == "2" and found["as_good"] == ["1", "2"] and not found["at_the_edge"]
    assert found["course"]["tried"] and found["course"]["agrees"] is True
    assert found["course"]["worse_by"] == pytest.approx(0.5e-4)
    assert found["named"]["weight"] == "2" and found["range"] == ["0.5", "4"] and found["subjects"] == 6
    assert "candidates" not in found
    better = table.assign(method="voxelmorph-diff", value=table["value"] + 0.1 * (table["weight"] == "0.5"))
    assert found_in(pd.concat([table, better])) == found, "of this network alone"
    assert found_in(table, ["0.5", "4"])["named"]["weight"] == "4"
    one = found_in(searched(lambda weight, n: 0.7 - abs(np.log(weight / 4))))
    assert one["weight"] == "4" and one["at_the_edge"] and one["as_good"] == ["4", "4"]
    assert one["course"]["agrees"] is False and one["course"]["interval"][0] > 0


def test_less_is_better_for_the_landmark_error_of_a_search():
    values = {(weight, 50): [float(weight) + n for n in range(4)] for weight in ("1", "2")}
    table = candidates(values, {key: [0.0] * 4 for key in values})
    found = selection.search_weight(table, "voxelmorph", "tre", 0.5, ["1", "2"], bootstrap_samples=100, seed=1)
    assert found["weight"] == "1" and found["course"]["worse_by"] == 0 and found["as_good"] == ["1", "1"]


def test_a_weight_that_folds_too_much_is_neither_chosen_nor_as_good():
    found = found_in(searched(lambda weight, n: 0.7 - 0.01 * np.log(weight), lambda weight: 2.0 if weight < 2 else 0.1))
    assert found["weight"] == "2" and found["as_good"] == ["2", "2"]
    assert found["course"]["admissible"] is False and found["course"]["agrees"] is False
    assert found["course"]["worse_by"] < 0


def test_one_subject_says_nothing_about_others():
    found = found_in(searched(lambda weight, n: 0.7, subjects=1))
    assert found["as_good"] is None and found["course"]["agrees"] is None and found["course"]["interval"] is None


def test_a_range_without_the_course_s_weight_is_said():
    found = found_in(searched(lambda weight, n: 0.7, tried=("2", "4")), ["2", "4"])
    assert found["course"] == {"weight": "1", "tried": False, "agrees": None}


def test_a_search_looks_at_no_test_pair():
    table = searched(lambda weight, n: 0.7 - abs(np.log(weight / 2)))
    other = searched(lambda weight, n: 0.7 + abs(np.log(weight / 2))).assign(split="test")
    other["pair"] = "other" + other["pair"]
    assert found_in(pd.concat([table, other])) == found_in(table)
