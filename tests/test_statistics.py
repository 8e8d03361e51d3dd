"""Summaries and the choice of the model."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import bootstrap

from cohortmorph import UserError, metrics, statistics


def rows_of(pairs, split, method, metric, values, structure="image", unit="1"):
    return pd.concat(
        [
            metrics.table_of([(metric, structure, value, unit)], pair, split, method)
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
            rows_of(["p1"], "test", "initial", "dice", [np.nan], "mean"),
        ],
        ignore_index=True,
    )
    summary = statistics.summarize(table, bootstrap_samples=500, seed=1)
    assert list(summary.columns) == [
        *("split", "method", "weight", "epoch", "metric", "structure", "unit", "n", "failed"),
        *("mean", "sd", "median", "ci_low", "ci_high"),
    ]
    first, failing, single, none = (row for _, row in summary.iterrows())
    assert (first["n"], first["failed"]) == (3, 0)
    assert first[["mean", "sd", "median"]].tolist() == pytest.approx([3, np.sqrt(7), 2])
    assert 1 <= first["ci_low"] < 3 < first["ci_high"] <= 6
    assert (failing["weight"], failing["epoch"]) == ("1", 20)
    assert (failing["n"], failing["failed"], failing["mean"]) == (1, 2, 0.5)
    assert single["n"] == 1 and single[["sd", "ci_low", "ci_high"]].isna().all()
    assert (none["n"], none["failed"]) == (0, 1) and none[["mean", "median"]].isna().all()


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


def candidates(values, foldings, metric="tre_mean", structure="total", split="validation"):
    """Return a table from {(weight, epoch): values of the pairs}."""
    tables = []
    for (weight, epoch), of_pairs in values.items():
        method, pairs = f"voxelmorph_weight-{weight}_epoch-{epoch}", [f"{split}{n}" for n in range(len(of_pairs))]
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


def choice(table, metric="tre", folding_percent_max=0.5):
    selected = statistics.select_model(table, metric, folding_percent_max)
    return selected["weight"], selected["epoch"]


def test_the_lowest_mean_error_wins():
    selected = statistics.select_model(candidates(TRE, NO_FOLDS), "tre", 0.5)
    assert (selected["weight"], selected["epoch"], selected["value"]) == ("1", 50, 1.5)
    assert (selected["metric"], selected["validation_pairs"], selected["admissible"]) == ("tre_mean", 2, True)
    assert "Lowest mean tre_mean among 5 candidates" in selected["reason"]
    assert [(c["weight"], c["epoch"]) for c in selected["candidates"]] == sorted(TRE, key=lambda c: (float(c[0]), c[1]))


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
    selected = statistics.select_model(candidates(TRE, folds), "tre", 0.5)
    assert (selected["weight"], selected["epoch"], selected["admissible"]) == ("1", 50, False)
    assert "No candidate has folding of at most 0.5 %" in selected["reason"]


@pytest.mark.parametrize(("metric", "name", "structure"), [("dice", "dice", "mean"), ("ncc", "ncc_squared", "image")])
def test_more_overlap_and_more_similarity_are_better(metric, name, structure):
    values = {("1", 20): [0.5, 0.5], ("2", 20): [0.9, 0.8], ("3", 20): [0.2, 0.9]}
    table = candidates(values, {candidate: [0.0, 0.0] for candidate in values}, name, structure)
    decoy = candidates({("3", 20): [1.0, 1.0]}, {("3", 20): [0.0, 0.0]}, name, "other")
    assert choice(pd.concat([table, decoy[decoy.metric == name]]), metric) == ("2", 20)


def test_a_candidate_that_failed_on_a_pair_cannot_win():
    selected = statistics.select_model(candidates(TRE | {("1", 50): [0.1, np.nan]}, NO_FOLDS), "tre", 0.5)
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
    with pytest.raises(UserError, match=r"missing for validation1\. Give these pairs landmarks"):
        choice(candidates({key: [1.0, np.nan] for key in TRE}, NO_FOLDS))


def test_without_validation_pairs_nothing_is_chosen():
    with pytest.raises(UserError, match="split `validation`"):
        choice(candidates(TRE, NO_FOLDS, split="test"))


@given(st.lists(st.floats(-1e6, 1e6), min_size=10, max_size=10), st.sampled_from(["test", "train"]))
@settings(max_examples=25, deadline=None)
def test_no_other_split_and_no_other_method_can_leak_into_the_choice(values, split):
    validation = candidates(TRE, NO_FOLDS)
    others = {candidate: values[2 * n : 2 * n + 2] for n, candidate in enumerate(TRE)}
    leaking = candidates(others, {key: [abs(v) for v in value] for key, value in others.items()}, split=split)
    baseline = rows_of(["validation0"], "validation", "affine", "tre_mean", values[:1], "total", "mm")
    alone = statistics.select_model(validation, "tre", 0.5)
    assert statistics.select_model(pd.concat([leaking, baseline, validation]), "tre", 0.5) == alone
