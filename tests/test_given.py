"""A file that nobody can read costs its own pairs what needs it: it is counted and told, and nothing else changes."""

import shutil
from pathlib import Path

import collect_metrics
import compare_methods
import flag_pairs
import measure_pair
import numpy as np
import pandas as pd
import pytest
import regnet_table
import select_model
import SimpleITK as sitk
import warp_pair
from test_evaluation import FIXED, INTENSITIES, METHODS, SETTINGS, files_of, known, make_pair, reversed_pair
from test_regnet import arguments  # noqa: F401, a fixture
from test_report import Page

from cohortmorph import UserError
from cohortmorph.evaluation import selection
from cohortmorph.evaluation.given import Given
from cohortmorph.evaluation.measures import FOLDING, SELECTABLE
from cohortmorph.evaluation.pair import PairEvaluation, PairFiles
from cohortmorph.evaluation.tables import Evaluation, read_metrics, table_of
from cohortmorph.figures import pair_pictures
from cohortmorph.registration import fiducials, pairwise
from cohortmorph.report import viewer
from cohortmorph.report.gallery import Pictures
from cohortmorph.report.page import render
from cohortmorph.report.provenance import Provenance
from cohortmorph.run import logs
from cohortmorph.spatial import displacement, geometry

PAIR = "P1-T1_to_P1-CT"
SPLITS = {"P1": "test", "P2": "test", "P3": "test", "P4": "validation", "P5": "validation"}
LANDMARKS = {"tre_", "landmarks_"}
OVERLAPS = {"dice", "iou", "hd95", "surface_"}
IN_MASK = {"mae_", "ncc_", "nmi", "overlap", "contrast", "jacobian_", "folding", "ndv", "inverse_"}
HOSPITAL = "Meier_Anna"  # a folder, and a file, that no message may name


def pair_of(subject):
    return f"{subject}-T1_to_{subject}-CT"


def cut(path):
    """Cut off the end of a file."""
    data = Path(path).read_bytes()
    Path(path).write_bytes(data[: len(data) * 2 // 3])


def starts(table, names):
    """Say which rows are of metrics that begin so."""
    return table.metric.map(lambda metric: metric.startswith(tuple(names)))


@pytest.fixture
def pair(tmp_path):
    """A pair with all that can be given, in a folder that is called after somebody."""
    folder = make_pair(tmp_path / HOSPITAL)
    mask = np.zeros(FIXED.size, np.uint8)
    mask[3:12, 3:12, 3:12] = 1
    geometry.write_image(geometry.to_image(mask, FIXED), folder / f"{HOSPITAL}_mask.nii.gz")
    return folder


def measured(folder):
    measure_pair.main(
        pair=PAIR,
        split="test",
        files=files_of(folder, fixed_mask=folder / f"{HOSPITAL}_mask.nii.gz", true_displacement=known(folder)),
        displacements={method: folder / method / "displacement.nii.gz" for method in METHODS},
        reverse_displacements=dict(zip(METHODS, reversed_pair(folder), strict=True)),
        intensities=INTENSITIES,
        settings=SETTINGS,
        output=folder / "metrics.tsv",
    )
    return read_metrics(folder / "metrics.tsv")


FILES = {
    "fixed_labels": ("fixed_labels.nii.gz", OVERLAPS | {"volume_change"}, "subject P1, image CT, column labels"),
    "moving_labels": ("moving_labels.nii.gz", OVERLAPS, "subject P1, image T1, column labels"),
    "fixed_landmarks": ("fixed.tsv", LANDMARKS, "subject P1, image CT, column landmarks"),
    "moving_landmarks": ("moving.tsv", LANDMARKS, "subject P1, image T1, column landmarks"),
    "fixed_mask": (f"{HOSPITAL}_mask.nii.gz", IN_MASK, "subject P1, image CT, column mask"),
}


@pytest.mark.parametrize("role", FILES)
@pytest.mark.parametrize("how", ["cut", "empty", "missing", "no such thing"])
def test_what_needs_a_bad_file_has_no_rows_and_all_else_is_the_same_to_the_bit(role, how, pair, caplog):
    name, lost, said = FILES[role]
    whole = measured(pair)
    assert "unreadable" not in set(whole.metric)
    if how == "missing":
        (pair / name).unlink()
    elif how == "cut":
        cut(pair / name)
    else:
        (pair / name).write_bytes(b"" if how == "empty" else b"this is no such file\n")
    with caplog.at_level("INFO", logger=logs.log.name):
        found = measured(pair)
    errors = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert errors[0].startswith(f"{said}: ") and len(errors) == 2, "said once, not for every method"
    assert HOSPITAL not in caplog.text
    counted = found[found.metric == "unreadable"]
    assert set(counted.structure) == {role} and len(counted) == len(METHODS) and (counted.value == 1).all()
    pd.testing.assert_frame_equal(
        found[found.metric != "unreadable"].reset_index(drop=True),
        whole[~starts(whole, lost)].reset_index(drop=True),
        check_exact=True,
    )
    assert starts(whole, lost).any() and not found.value.isna().any()


def test_both_files_of_a_pair_may_be_bad_and_each_is_said(pair, caplog):
    cut(pair / "fixed_labels.nii.gz"), cut(pair / "moving_labels.nii.gz")
    with caplog.at_level("ERROR", logger=logs.log.name):
        found = measured(pair)
    assert set(found[found.metric == "unreadable"].structure) == {"fixed_labels", "moving_labels"}
    assert not starts(found, OVERLAPS).any() and starts(found, LANDMARKS).any()


def test_landmarks_that_do_not_match_are_those_of_both_images(pair, caplog):
    table = (pair / "moving.tsv").read_text().splitlines()
    (pair / "moving.tsv").write_text("\n".join(table[:-1]) + "\n")
    given = Given(PAIR)
    with caplog.at_level("ERROR", logger=logs.log.name):
        assert given.landmarks(pair / "fixed.tsv", pair / "moving.tsv") is None
    assert given.unreadable == ["fixed_landmarks", "moving_landmarks"]
    text = "The landmarks of subject P1, image CT and subject P1, image T1 do not match"
    assert text in caplog.text and HOSPITAL not in caplog.text


def test_a_failed_registration_has_the_count_too_and_no_value_of_what_cannot_be_read(pair):
    cut(pair / "fixed.tsv")
    displacement.write_failed(FIXED, pair / "affine" / "displacement.nii.gz")
    (pair / "affine" / "registration.json").write_text('{"failed": "no overlap"}')
    found = measured(pair)
    of_failed = found[found.method == "affine"]
    assert not starts(of_failed, LANDMARKS).any() and of_failed[of_failed.metric == "dice"].value.isna().all()
    assert of_failed[of_failed.metric == "unreadable"].value.tolist() == [1]


def test_a_search_of_weights_measures_what_can_be_measured(pair):
    cut(pair / "fixed_labels.nii.gz")
    evaluation = PairEvaluation(PAIR, PairFiles.of(files_of(pair)), INTENSITIES, SETTINGS)
    field = displacement.sample(sitk.Transform(3, sitk.sitkIdentity), FIXED)
    found = {name: evaluation.row_of(measure, field) for name, measure in SELECTABLE.items()}
    assert {name for name, one in found.items() if one is None} == {"dice"}
    assert evaluation.row_of(FOLDING, field).value == 0
    assert [one.structure for one in evaluation.given.rows] == ["fixed_labels"]


def test_moved_labels_of_a_map_that_cannot_be_read_are_empty(pair, caplog):
    cut(pair / "moving_labels.nii.gz")
    sources = [pair / method / "displacement.nii.gz" for method in METHODS[:2]]
    moved, moved_labels = ([pair / m / f"{name}.nii.gz" for m in METHODS[:2]] for name in ("moved", "moved_labels"))
    with caplog.at_level("ERROR", logger=logs.log.name):
        warp_pair.main(pair / "moving.nii.gz", pair / "moving_labels.nii.gz", sources, moved, moved_labels, PAIR)
    for image, map_ in zip(moved, moved_labels, strict=True):
        assert geometry.to_array(geometry.read_image(image)).std() > 0
        assert FIXED.difference_from(geometry.read_grid(map_)) is None
        assert not geometry.to_array(geometry.read_image(map_)).any()
    assert "subject P1, image T1, column labels" in caplog.text and HOSPITAL not in caplog.text


def test_pictures_and_viewer_do_without_landmarks_that_cannot_be_read(pair, caplog):
    points = {f"{role}_landmarks": str(pair / f"{role}.tsv") for role in ("fixed", "moving")}
    moved = [pair / method / "moved.nii.gz" for method in METHODS[:2]]
    sources = [pair / method / "displacement.nii.gz" for method in METHODS[:2]]
    warp_pair.main(pair / "moving.nii.gz", "", sources, moved, [], PAIR)
    given = points | {role: pair / f"{role}.nii.gz" for role in ("fixed", "moving")}
    given |= {"affine": pair / "affine.tfm", "moved": moved, "displacements": sources}
    assert pair_pictures.read_pair(given, PAIR, METHODS[:2], *INTENSITIES).landmarks is not None
    assert viewer.matched_landmarks(PAIR, *points.values())["fixed_lps_mm"]
    cut(pair / "moving.tsv")
    with caplog.at_level("ERROR", logger=logs.log.name):
        drawn = pair_pictures.read_pair(given, PAIR, METHODS[:2], *INTENSITIES)
        assert viewer.matched_landmarks(PAIR, *points.values()) is None
    assert pair_pictures.draw(drawn, pair / "pictures")["landmarks"] == 0
    assert caplog.text.count("subject P1, image T1, column landmarks") == 2 and HOSPITAL not in caplog.text


def test_regnet_s_table_has_the_other_pairs(arguments):  # noqa: F811
    cut(arguments["pairs"][1]["landmarks"][0])
    for one, name in zip(arguments["pairs"], ("A-T1_to_A-CT", "B-T1_to_B-CT"), strict=True):
        one["pair"] = name
    regnet_table.main(**arguments)
    table = pd.read_csv(arguments["table"], sep="\t")
    of_affine = table[table.method == "affine"]
    assert set(of_affine.data) == {"synthetic, test"} and (of_affine[of_affine.measure == "TRE"].n == 10).all()
    cut(arguments["pairs"][0]["landmarks"][0])
    with pytest.raises(UserError, match="the landmarks of no test pair can be read"):
        regnet_table.main(**arguments)


# ---- from the pairs' tables to the report


def evaluated(folder, bad=(), metric="tre", **files):
    """Measure, collect, compare, flag and select as the rules do; return (Evaluation, page)."""
    make_pair(folder / "one")
    tables, registrations = [], []
    for number, (subject, split) in enumerate(SPLITS.items()):
        own = folder / pair_of(subject)
        shutil.copytree(folder / "one", own)
        # Each pair another, so that means tell which of them they are of.
        shift = displacement.sample(geometry.affine(np.eye(3), [0.3 * number, 0, 0]), FIXED)
        displacement.write(shift, own / METHODS[2] / "displacement.nii.gz")
        for of, name in bad:
            if of == subject:
                cut(own / name)
        measure_pair.main(
            pair=pair_of(subject),
            split=split,
            files=files_of(own, **files),
            displacements={method: own / method / "displacement.nii.gz" for method in METHODS},
            reverse_displacements={},
            intensities=INTENSITIES,
            settings=SETTINGS,
            output=own / "metrics.tsv",
        )
        tables.append(own / "metrics.tsv")
        registrations += [own / method / "registration.json" for method in METHODS]
    out = {
        name: folder / f"{name}.tsv" for name in ("metrics", "summary", "failures", "comparison", "ranking", "flags")
    }
    summary = {"bootstrap_samples": 50, "seed": 1}
    collected = {name: out[name] for name in ("metrics", "summary", "failures")}
    collect_metrics.main(tables, registrations=registrations, **collected, **summary)
    selected = []
    if metric:
        selected = [folder / "selected.json"]
        select_model.main(out["metrics"], "voxelmorph", {"metric": metric, "folding_percent_max": 1}, *selected)
    compare_methods.main(out["metrics"], selected, out["comparison"], out["ranking"], **summary)
    flag_pairs.main(out["metrics"], out["failures"], selected, QUALITY, [], out["flags"])
    evaluation = Evaluation.read(out | {"selected": selected})
    return evaluation, Page(render(evaluation, Pictures(), Provenance.of({"seed": 1}, 1, "abc"))).text


ALL_BAD = [(subject, name) for subject in SPLITS for name in ("fixed.tsv", "moving_labels.nii.gz")]
QUALITY = {
    **{"contrast_min": 0, "overlap_percent_min": 0, "tre_mm_max": 99, "tre_increase_mm_max": 99},
    **{"similarity_loss_percent_max": 100, "similarity_of_others_percent_min": 0, "rotation_degrees_max": 180},
    **{"similarity_of_others_deviations_max": 99, "folding_percent_max": 100, "volume_percent_max": 100},
    **{"volume_factor_max": 99, "border_displacement_mm_max": 99},
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return evaluated(tmp_path_factory.mktemp("whole"))


@pytest.fixture(scope="module")
def damaged(tmp_path_factory):
    """A test pair with landmarks, another with a label map, and a validation pair with landmarks, that were cut off."""
    bad = [("P1", "moving.tsv"), ("P2", "fixed_labels.nii.gz"), ("P4", "fixed.tsv")]
    return evaluated(tmp_path_factory.mktemp("damaged"), bad)


def test_no_pair_changes_another_s_numbers(whole, damaged):
    before, after = (evaluation.metrics for evaluation, _ in (whole, damaged))
    lost = {pair_of("P1"): LANDMARKS, pair_of("P4"): LANDMARKS, pair_of("P2"): OVERLAPS | {"volume_change"}}
    kept = ~np.logical_or.reduce([(before.pair == pair) & starts(before, names) for pair, names in lost.items()])
    pd.testing.assert_frame_equal(
        after[after.metric != "unreadable"].reset_index(drop=True),
        before[kept].reset_index(drop=True),
        check_exact=True,
    )


def test_methods_are_compared_on_the_pairs_that_have_a_value_and_none_counts_as_failed(whole, damaged):
    (before, _), (after, _) = whole, damaged
    for metric, structure, without in (("tre_mean", "total", "P1"), ("dice", "mean", "P2")):
        rows = after.summary[(after.summary.metric == metric) & (after.summary.split == "test")]
        rows = rows[rows.structure == structure].set_index("method")
        assert (rows.n == 2).all() and (rows.failed == 0).all() and len(rows) == 3
        values = before.metrics[(before.metrics.metric == metric) & (before.metrics.structure == structure)]
        values = values[values.split.eq("test") & (values.pair != pair_of(without))].groupby("method").value.mean()
        np.testing.assert_allclose(rows["mean"], values[rows.index], rtol=1e-12)
        tests = after.comparison[(after.comparison.metric == metric) & (after.comparison.structure == structure)]
        assert (tests.n == 2).all() and (tests.failed == 0).all()
    assert not after.ranking[["tre_mean_n", "dice_n", "jacobian_sd_log_n"]].ne([2, 2, 3]).any(axis=None)
    assert after.failures.empty and "unreadable" not in {*after.summary.metric, *after.comparison.metric}


def test_the_report_says_what_cannot_be_read_and_not_that_there_is_none(damaged):
    evaluation, page = damaged
    for subject, image, column in (("P1", "T1", "landmarks"), ("P2", "CT", "labels"), ("P4", "CT", "landmarks")):
        said = f"The {column} of subject {subject}, image {image} cannot be read: what needs this file is left out on "
        assert f"{said}{pair_of(subject)}, for every method alike." in page
    assert "No TRE for" not in page and "No Dice for" not in page
    flags = evaluation.flags
    assert flags.pair.tolist() == [pair_of(subject) for subject in ("P1", "P2", "P4")]
    assert set(flags.flag) == {"unreadable"} and set(flags.method) == {"initial"}
    assert "a file cannot be read: 3 of 5 pairs (initial)" in page
    assert flags.sentence[0] == "What stands in the column landmarks of subject P1, image T1 cannot be read."


def test_a_report_comes_of_a_cohort_of_which_nothing_that_is_given_can_be_read(tmp_path):
    (tmp_path / "mask.nii.gz").write_bytes(b"")
    evaluation, page = evaluated(tmp_path, ALL_BAD, metric=None, fixed_mask=tmp_path / "mask.nii.gz")
    assert {"rotation", "runtime", "unreadable"} <= set(evaluation.metrics.metric)
    assert not starts(evaluation.metrics, LANDMARKS | OVERLAPS | IN_MASK).any()
    assert page.count("cannot be read: what needs this file is left out") == 3 * len(SPLITS)
    assert len(evaluation.flags) == 3 * len(SPLITS)


def test_a_report_of_good_files_says_nothing_of_it(whole):
    evaluation, page = whole
    assert "cannot be read" not in page and evaluation.flags.empty and evaluation.unreadable.empty


def test_a_model_is_chosen_on_the_other_validation_pairs_and_says_so(whole, damaged):
    (before, _), (after, _) = whole, damaged
    assert before.selected["voxelmorph"]["validation_pairs"] == 2
    chosen = after.selected["voxelmorph"]
    assert chosen["validation_pairs"] == 1
    of_p5 = before.metrics[(before.metrics.pair == pair_of("P5")) & (before.metrics.method == "voxelmorph")]
    assert chosen["value"] == of_p5[of_p5.metric.eq("tre_mean") & of_p5.structure.eq("total")].value.item()
    assert chosen["reason"].endswith(
        "on 1 validation pair; test pairs were not looked at. Left out of the mean tre_mean "
        "(P4-T1_to_P4-CT), as what that needs cannot be read."
    )


def validation(*pairs):
    """Return metrics of validation pairs: (pair, {metric: value of λ = 1 and of λ = 2}, roles that cannot be read)."""
    tables = []
    for pair, values, unreadable in pairs:
        for n, method in enumerate(("net_weight-1_epoch-5", "net_weight-2_epoch-5")):
            rows = [(metric, structure, value[n], "1") for (metric, structure), value in values.items()]
            rows += [("unreadable", role, 1, "count") for role in unreadable]
            tables.append(table_of(rows, pair, "validation", method))
    return pd.concat(tables, ignore_index=True)


def test_without_its_mask_a_pair_has_a_say_in_the_error_and_none_in_the_folding():
    tre, folding = ("tre_mean", "total"), ("folding", "image")
    metrics = validation(
        ("A-1_to_A-2", {tre: (2.0, 1.0), folding: (0.1, 0.1)}, ()), ("B-1_to_B-2", {tre: (2.0, 9.0)}, ["fixed_mask"])
    )
    chosen = selection.select_model(metrics, "net", "tre", 1)
    assert (chosen["weight"], chosen["value"], chosen["folding_percent"]) == ("1", 2, 0.1)
    assert "Left out of the mean folding (B-1_to_B-2), as what that needs" in chosen["reason"]
    # What is missing for another cause is asked for as ever.
    with pytest.raises(UserError, match="missing for B-1_to_B-2"):
        selection.select_model(metrics[metrics.metric != "unreadable"], "net", "tre", 1)


def test_a_choice_is_refused_if_no_validation_pair_is_left():
    metrics = validation(("A-1_to_A-2", {("folding", "image"): (0.1, 0.1)}, ["moving_landmarks"]))
    with pytest.raises(UserError, match=r"what tre_mean needs cannot be read for any validation pair.*check_cohort"):
        selection.select_model(metrics, "net", "tre", 1)


def test_a_pair_that_lacks_what_another_file_gives_is_not_excused():
    """The labels cannot be read, but it is the TRE of one candidate that is missing: it failed there."""
    tre, folding = ("tre_mean", "total"), ("folding", "image")
    metrics = validation(("A-1_to_A-2", {tre: (2.0, np.nan), folding: (0.1, 0.1)}, ["fixed_labels"]))
    chosen = selection.select_model(metrics, "net", "tre", 1)
    assert chosen["weight"] == "1" and "1 candidates lack a value" in chosen["reason"]


def test_a_registration_that_fails_for_a_bad_file_does_not_name_it(pair):
    cut(pair / f"{HOSPITAL}_mask.nii.gz"), cut(pair / "moving.tsv")
    images = {role: pair / f"{role}.nii.gz" for role in ("fixed", "moving")}
    prepared = dict.fromkeys(("fixed_intensity", "moving_intensity"), INTENSITIES[0])
    files = pairwise.PairFiles(PAIR, **images, **prepared, fixed_mask=pair / f"{HOSPITAL}_mask.nii.gz")
    for attempt in (lambda: files.images, lambda: fiducials.register("rigid", pair / "fixed.tsv", pair / "moving.tsv")):
        with pytest.raises(UserError, match=r"^the (fixed image's mask|moving image's fiducials): ") as refused:
            attempt()
        assert HOSPITAL not in str(refused.value)
