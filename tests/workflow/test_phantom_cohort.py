"""The whole workflow on a small phantom cohort, as a user starts it."""

import json
import re
import sys

import pandas as pd
import pytest
import SimpleITK as sitk
from projects import SMALL, SUBJECTS, table_of

from cohortmorph.spatial import geometry

pytestmark = pytest.mark.workflow


def test_planted_rotations_and_slices_are_found(finished):
    for subject in SUBJECTS:
        found = json.loads((finished.folder / f"results/harmonized/{subject}/harmonize.json").read_text())
        truth = json.loads((finished.folder / f"results/phantom/{subject}/truth.json").read_text())
        for image in ("T1", "T2"):
            assert found["images"][image]["angle_degrees"] == truth["images"][image]["angle_degrees"]
        for image in ("CT", "T1", "T2"):
            assert found["images"][image]["start_slice"] == truth["start_slice"][image]


def test_tables_hold_every_method_and_metric(finished):
    metrics = pd.read_csv(finished.folder / "results/evaluation/metrics.tsv", sep="\t", dtype={"weight": str})
    assert set(metrics["method"]) == {
        *("initial", "harmonized", "affine", "bspline-1r", "bspline-3r", "niftyreg", "ants", "demons", "voxelmorph"),
        *("points-rigid", "voxelmorph-diff"),
    }
    assert set(metrics.loc[metrics["method"] == "voxelmorph", "weight"]) == {"1", "4"}
    assert set(metrics.loc[metrics["method"] == "voxelmorph", "epoch"]) == {3, 6}
    assert set(metrics["split"]) == {"validation", "test"}
    wanted = {
        "tre_mean",
        "tre_near_mean",
        "dice",
        "ncc_squared",
        "folding",
        "jacobian_min",
        "runtime",
        "peak_memory",
        "fre",
    }
    assert wanted | {"hd95", "ndv", "volume_change", "mae_mean", "landmarks_improved"} <= set(metrics["metric"])
    known = metrics[(metrics["metric"] == "mae_mean") & (metrics["structure"] == "total")].set_index("method")["value"]
    # The displacement that was planted is the whole way: after the scanners' positions little of it is left.
    assert known["affine"].mean() < 0.2 * known["initial"].mean()
    tre = (
        metrics[(metrics["metric"] == "tre_mean") & (metrics["structure"] == "total")].groupby("method")["value"].mean()
    )
    # Pixels of 4 mm are too coarse to tell the methods from each other; the full phantom (make demo) does.
    assert tre["initial"] > 3 * tre["affine"]


def test_selection_comes_from_validation_pairs(finished):
    for network, weights, epochs in (("voxelmorph", {"1", "4"}, {3, 6}), ("voxelmorph-diff", {"2"}, {4})):
        selected = json.loads((finished.folder / f"results/evaluation/{network}/selected_model.json").read_text())
        assert selected["network"] == network and selected["validation_pairs"] == 2
        assert selected["weight"] in weights and selected["epoch"] in epochs
        assert len(selected["candidates"]) == len(weights) * len(epochs)


def test_every_network_is_trained_compared_and_drawn(finished):
    """Each by itself, on a grid of its own, and all of them beside the classical methods."""
    results = finished.folder / "results"
    for network in ("voxelmorph", "voxelmorph-diff"):
        for name in ("training", "selection", "weights"):
            assert (results / f"figures/{network}/{name}.png").stat().st_size > 5000
        assert network in set(pd.read_csv(results / "evaluation/ranking.tsv", sep="\t")["method"])
        assert network in (results / "report.html").read_text()
    pair = results / "pairs/12.3-T1_to_12.3-CT"
    assert {path.name for path in pair.glob("network_input_*")} == {
        "network_input_2d-own-4.nii.gz", "network_input_3d-6-4.nii.gz"
    }  # fmt: skip
    sizes = [geometry.read_grid(path).size for path in sorted(pair.glob("network_input_*"))]
    assert sizes[0] != sizes[1]


def test_report_stands_alone(finished):
    report = (finished.folder / "results/report.html").read_text()
    assert "phantom" in report.lower()
    assert 'src="http' not in report and 'href="http' not in report


def test_every_pair_has_its_page_and_pictures(finished):
    results = finished.folder / "results"
    flags = pd.read_csv(results / "evaluation/flags.tsv", sep="\t")
    assert list(flags.columns) == ["subject", "pair", "method", "flag", "value", "threshold", "sentence"]
    report = (results / "report.html").read_text()
    pages = sorted((results / "qc").glob("*.html"))
    assert len(pages) == 4
    for page in pages:
        assert f'href="qc/{page.name}"' in report
        assert (page.parent / "pictures" / page.stem / "affine/moved.webp").stat().st_size > 1000


def test_snakemakes_own_report_holds_figures_tables_and_ours(finished, tmp_path):
    code, said = finished.snakemake("--configfile", "small.yaml", "--report", str(tmp_path / "report.html"))
    assert code == 0, said[-2000:]
    page = (tmp_path / "report.html").read_text()
    for name in ("selection.svg", "methods.png", "summary.tsv", "flags.tsv", "12.3-T1_to_12.3-CT.png", "report.html"):
        assert f"/{name}" in page, name


def test_a_finished_run_has_nothing_to_do(finished):
    assert finished.planned("--configfile", "small.yaml") == {}


def test_a_new_test_subject_adds_its_own_jobs_and_the_final_tables(finished):
    table = finished.folder / "config/cohort.tsv"
    before = table.read_text()
    try:
        table.write_text(table_of(SUBJECTS | {"sub-01": "test"}))
        planned = finished.planned("--configfile", "small.yaml")
    finally:
        table.write_text(before)
    own = {
        "make_phantom": 1,
        "convert_image": 3,
        "harmonize_subject": 1,
        "prealign": 2,
        "compose_affine": 1,
        "prepare_input": 6,
        "register_affine": 2,
        "register_elastix": 2,
        "register_niftyreg": 2,
        "register_ants": 2,
        "register_demons": 2,
        "register_points": 2,
        "register_voxelmorph": 2,
        "register_voxelmorph-diff": 2,
        "warp_pair": 2,
        "measure_pair": 2,
        "plot_harmonize": 1,
    }
    assert {rule: planned.get(rule) for rule in own} == own
    assert "train_voxelmorph" not in planned
    tables = {
        "collect_metrics",
        "compare_methods",
        "select_model",
        "plot_comparison",
        "plot_selection",
        "plot_pair",
        "flag_pairs",
        "write_reviews",
        "fuse_subject",
        "write_report",
        "write_viewer",
        "all",
    }
    assert set(planned) == set(own) | tables


def test_no_identity_in_any_file_name_log_or_text(finished):
    """The DICOM headers of the phantom carry a name: it must not come out of results/phantom."""
    results = finished.folder / "results"
    assert any(b"PHANTOM^" in path.read_bytes() for path in (results / "phantom").rglob("*") if path.is_file())
    for path in results.rglob("*"):
        if path.is_file() and "phantom" not in path.relative_to(results).parts:
            assert b"PHANTOM^" not in path.read_bytes(), path


def test_mistakes_are_told_at_once_without_a_traceback(project):
    rows = table_of(SUBJECTS).splitlines()
    rows[5] = rows[5].replace("validation", "validaton")
    rows[7] = rows[7].replace("results/phantom/12.3/CT\t", "missing/folder\t")
    project.write("config/cohort.tsv", "\n".join(rows) + "\n")
    project.write("small.yaml", SMALL.replace("epochs: 6", "epochz: 6"))
    code, said = project.snakemake("check_cohort", "--configfile", "small.yaml")
    assert code != 0
    assert "Traceback" not in said
    for words in ("line 6", "validaton", "validation", "missing/folder", "epochz", "epochs", "small.yaml"):
        assert words in said, words


def test_check_cohort_only_checks_and_counts(project):
    project.write("config/cohort.tsv", table_of(SUBJECTS))
    code, said = project.snakemake("check_cohort")
    assert code == 0, said
    summary = (project.folder / "results/check_cohort.txt").read_text()
    assert all(word in summary for word in ("CT", "T1", "T2", "train", "validation", "test"))
    assert sorted(path.name for path in (project.folder / "results").iterdir()) == [
        "benchmarks",
        "check_cohort.txt",
        "logs",
    ]


def test_no_timer_of_snakemakes_limiter_wakes_its_scheduler(project):
    """The limiter would count down the jobs that it still allows (rules/htcondor.smk says why it is off)."""
    project.write("config/cohort.tsv", table_of(SUBJECTS))
    code, said = project.snakemake("check_cohort", "--verbose")
    assert code == 0, said
    assert {int(count) for count in re.findall(r"'_job_count': (\d+)", said)} == {sys.maxsize}


def test_a_method_that_fails_on_every_pair_is_listed_and_the_rest_goes_on(finished, tmp_path):
    project = finished.copy(tmp_path / "copy")
    project.write("broken.txt", "reg_f3d -sx\n")
    project.write("broken.yaml", "baselines: {broken: {tool: niftyreg, parameters: broken.txt}}\n")
    code, said = project.snakemake("--configfile", "small.yaml", "broken.yaml")
    assert code == 0, said[-6000:]
    failures = pd.read_csv(project.folder / "results/evaluation/failures.tsv", sep="\t")
    assert len(failures) == 4 and set(failures["method"]) == {"broken"}
    assert failures["why"].str.contains(r"broken\.txt: -sx of reg_f3d is followed by nothing").all()
    summary = pd.read_csv(project.folder / "results/evaluation/summary.tsv", sep="\t")
    tre = summary[(summary["metric"] == "tre_mean") & (summary["structure"] == "total") & (summary["split"] == "test")]
    tre = tre.set_index("method")
    # A failure counts as the worst value of its pair.
    metrics = pd.read_csv(project.folder / "results/evaluation/metrics.tsv", sep="\t")
    of_pairs = metrics[
        (metrics["metric"] == "tre_mean") & (metrics["structure"] == "total") & (metrics["split"] == "test")
    ]
    worst = of_pairs.groupby("pair")["value"].max()
    assert tre.loc["broken", "failed"] == 2 and len(worst) == 2
    assert tre.loc["broken", "mean"] == pytest.approx(worst.mean(), rel=1e-6)
    assert tre.loc["bspline-3r", "failed"] == 0 and tre.loc["bspline-3r", "mean"] < tre.loc["initial", "mean"]
    report = (project.folder / "results/report.html").read_text()
    assert "-sx of reg_f3d is followed by nothing" in report


def test_an_empty_image_is_listed_and_the_rest_of_its_subject_and_of_the_cohort_goes_on(finished, tmp_path):
    project = finished.copy(tmp_path / "copy")
    images = project.folder / "results/images/12.3"
    (project.folder / "clinic").mkdir()
    for name in ("CT", "T1", "T2"):
        image = sitk.ReadImage(images / f"{name}.nii.gz")
        if name == "T1":
            image = image * 0 + 7
            image[0, 0, 0] = 8  # one value everywhere would be refused when it is converted
        sitk.WriteImage(image, project.folder / f"clinic/{name}.nii.gz")
    rows = [f"sub-01\t{name}\t{name}\tclinic/{name}.nii.gz\t\t\t\ttest\n" for name in ("CT", "T1", "T2")]
    with (project.folder / "config/cohort.tsv").open("a") as table:
        table.writelines(rows)
    code, said = project.snakemake("--configfile", "small.yaml")
    assert code == 0, said[-6000:]
    failures = pd.read_csv(project.folder / "results/evaluation/failures.tsv", sep="\t").set_index(["pair", "method"])
    assert set(failures.index.get_level_values("pair")) == {f"sub-01~{name}_to_sub-01~CT" for name in ("T1", "T2")}
    constant = failures.loc["sub-01~T1_to_sub-01~CT"]
    assert {"harmonized", "affine", "ants", "demons", "niftyreg", "voxelmorph", "points-rigid"} <= set(constant.index)
    assert constant.loc["affine", "why"].startswith("moving image: the intensities run from 7 to 8")
    # Harmonizing is of all images of a subject together; the affine alignment then starts by itself.
    other = failures.loc["sub-01~T2_to_sub-01~CT"]
    assert (
        set(other.index) == {"harmonized", "points-rigid"} and "T1: the intensities" in other.loc["harmonized", "why"]
    )
    report = (project.folder / "results/report.html").read_text()
    assert "sub-01~T1_to_sub-01~CT" in report and "the intensities run from 7 to 8" in report


def test_no_file_of_a_test_subject_is_made_for_the_search_of_the_weight(project):
    project.write("config/cohort.tsv", table_of(SUBJECTS))
    project.write("small.yaml", SMALL)
    planned = project.planned("results/evaluation/voxelmorph/selected_weight.json", "--configfile", "small.yaml")
    assert planned["make_phantom"] == 2  # of three: one to train on, one to validate
    assert planned["train_voxelmorph_conditional"] == planned["search_weight"] == 1
    assert not {"train_voxelmorph", "register_voxelmorph", "measure_pair", "collect_metrics"} & set(planned)


def test_the_conditional_network_takes_the_place_of_the_grid_by_one_key(finished, tmp_path):
    project = finished.copy(tmp_path / "copy")
    project.write("one.yaml", "networks: {voxelmorph: {conditional: true}}\n")
    folder = "results/evaluation/voxelmorph"
    files = ["results/figures/voxelmorph/training.png", *(f"{folder}/selected_{of}.json" for of in ("model", "weight"))]
    code, said = project.snakemake(*files, "--configfile", "small.yaml", "one.yaml")
    assert code == 0, said[-6000:]
    assert (project.folder / "results/models/voxelmorph/weight-1/history.tsv").exists(), "the grid's is kept"
    found, metrics = (
        pd.read_csv(project.folder / f"results/evaluation/{name}.tsv", sep="\t", dtype={"weight": str})
        for name in ("voxelmorph/weight_search", "metrics")
    )
    keys = ["pair", "weight", "metric", "structure"]
    values = found[found["weight"].isin(["1", "4"])].set_index(keys)["value"].sort_index()
    learned = metrics[(metrics["method"] == "voxelmorph") & (metrics["epoch"] == 6)].set_index(keys)["value"]
    assert len(values) == 2 * 2 * 2
    assert values.to_numpy() == pytest.approx(learned.loc[values.index].to_numpy(), abs=1e-3)
    old = pd.read_csv(finished.folder / "results/evaluation/metrics.tsv", sep="\t", dtype={"weight": str})
    assert not metrics["value"].equals(old["value"])
    # Back to the grid nothing is trained again.
    assert "train_voxelmorph" not in project.planned("--configfile", "small.yaml")
