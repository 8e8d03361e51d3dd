"""The table of RegNet's shape against values computed by hand, and its picture."""

import numpy as np
import pandas as pd
import pytest
import regnet_table

from cohortmorph import UserError
from cohortmorph.cohort.methods import Method
from cohortmorph.evaluation.tables import Evaluation, table_of
from cohortmorph.experiments import regnet
from cohortmorph.run.files import write_json, write_table
from cohortmorph.simulated import synthetic
from cohortmorph.spatial import displacement, geometry, landmarks
from cohortmorph.spatial.geometry import Grid

GRID = Grid((20, 20, 20), (5.0, 5.0, 5.0), (-50.0, -50.0, -50.0))
METHODS = ["affine", "bspline-3r", "voxelmorph_weight-1_epoch-10", "voxelmorph_weight-1_epoch-20"]
# Every landmark's error by method and pair, constant: (x, y, z) in mm.
ERRORS = {
    ("A", "affine"): (3.0, 4.0, 0.0),
    ("A", "bspline-3r"): (0.0, 0.0, 1.0),
    ("A", "voxelmorph_weight-1_epoch-20"): (2.0, 0.0, 0.0),
    ("B", "affine"): (0.0, 0.0, 10.0),
    ("B", "bspline-3r"): (0.0, 2.0, 0.0),
    ("B", "voxelmorph_weight-1_epoch-20"): (1.0, 2.0, 2.0),
}


@pytest.fixture
def arguments(tmp_path):
    """Two test pairs, A synthetic and B real, of ten landmarks each."""
    points = np.random.default_rng(1).uniform(-30, 30, (10, 3))
    pairs = []
    for pair in "AB":
        of_pair = {"pair": pair, "synthetic": pair == "A", "affine": str(tmp_path / f"{pair}.tfm")}
        of_pair["landmarks"] = [str(tmp_path / f"{pair}_{role}.tsv") for role in ("fixed", "moving")]
        for path in of_pair["landmarks"]:
            landmarks.write_tsv(synthetic.landmark_table(points), path)
        geometry.write_transform(geometry.affine(np.eye(3), ERRORS[pair, "affine"]), of_pair["affine"])
        of_pair["displacements"] = {method: str(tmp_path / pair / method / "displacement.nii.gz") for method in METHODS}
        for method, path in of_pair["displacements"].items():
            shift = ERRORS.get((pair, method), (99, 99, 99))
            displacement.write(displacement.sample(geometry.affine(np.eye(3), shift), GRID), path)
        pairs.append(of_pair)
    rows = [("mae_mean", axis, value, "mm") for axis, value in zip(regnet.AXES, (2.0, 1.0, 1.0, 0.5), strict=True)]
    rows += [("mae_sd", axis, 0.5, "mm") for axis in regnet.AXES]
    tables = [table_of(rows, "A", "test", method) for method in METHODS]
    write_table(pd.concat(tables), tmp_path / "metrics.tsv")
    write_json({"network": "voxelmorph", "weight": "1", "epoch": 20}, tmp_path / "selected.json")
    given = {"metrics": tmp_path / "metrics.tsv", "selected": [tmp_path / "selected.json"]}
    return {
        "evaluation": Evaluation.read(given),
        "pairs": pairs,
        "methods": METHODS,
        "near_landmarks_mm": 8,
        "same_patient": True,
        "table": str(tmp_path / "table.tsv"),
        "text": str(tmp_path / "table.md"),
        "pictures": [str(tmp_path / "regnet.png")],
    }


def row_of(arguments, measure, data, method):
    table = pd.read_csv(arguments["table"], sep="\t")
    rows = table[(table["measure"] == measure) & (table["data"] == data) & (table["method"] == method)]
    assert len(rows) == 1
    return rows.iloc[0]


def test_errors_stand_where_the_paper_has_them(arguments, tmp_path):
    regnet_table.main(**arguments)
    affine = row_of(arguments, "TRE", "synthetic, test", "affine")
    assert [affine[f"{axis}_mean_mm"] for axis in regnet.AXES] == pytest.approx([5, 3, 4, 0], abs=1e-3)
    assert affine["n"] == 10 and affine["total_sd_mm"] == pytest.approx(0, abs=1e-3)
    real = row_of(arguments, "TRE", "real, test", "voxelmorph_weight-1_epoch-20")
    assert [real[f"{axis}_mean_mm"] for axis in regnet.AXES] == pytest.approx([3, 1, 2, 2], abs=1e-3)
    known = row_of(arguments, "MAE", "synthetic, test", "bspline-3r")
    assert (known["total_mean_mm"], known["total_sd_mm"], known["z_mean_mm"]) == pytest.approx((2, 0.5, 0.5))
    published = row_of(arguments, "TRE", "SPREAD, real, test", "B-spline 3R")
    assert (published["total_mean_mm"], published["total_sd_mm"]) == (2.19, 6.22)
    assert (tmp_path / "regnet.png").stat().st_size > 20_000


def test_landmarks_beyond_reach_after_the_affine_do_not_count_in_tre_prime(arguments):
    regnet_table.main(**arguments)
    table = pd.read_csv(arguments["table"], sep="\t")
    prime = table[(table["measure"] == "TRE′") & ~table["data"].str.startswith("SPREAD")]
    assert set(prime["data"]) == {"synthetic, test"}  # of the real pair all are 10 mm away


def test_only_the_selected_network_takes_part_and_the_text_says_what_stands_in(arguments, tmp_path):
    regnet_table.main(**arguments)
    text = (tmp_path / "table.md").read_text()
    assert "epoch-20" in text and "epoch-10" not in text
    assert "SPREAD, the data of the published rows, are not public" in text and "has seen this anatomy" in text
    regnet_table.main(**arguments | {"same_patient": False})
    assert "has seen this anatomy" not in (tmp_path / "table.md").read_text()


def test_each_network_takes_part_with_its_own_choice():
    ids = [f"{name}_weight-{weight}_epoch-20" for name in ("voxelmorph", "voxelmorph-diff") for weight in "12"]
    choices = {name: {"network": name, "weight": weight, "epoch": 20}
               for name, weight in (("voxelmorph-diff", "1"), ("voxelmorph", "2"))}  # fmt: skip
    assert list(regnet.methods_taking_part(["affine", *ids], choices)) == ["affine", ids[1], ids[2]]


def test_a_failed_registration_has_no_row_of_its_own_making(arguments):
    displacement.write_failed(GRID, arguments["pairs"][0]["displacements"]["bspline-3r"])
    regnet_table.main(**arguments)
    table = pd.read_csv(arguments["table"], sep="\t")
    rows = table[(table["method"] == "bspline-3r") & (table["data"] == "synthetic, test")]
    assert set(rows["measure"]) == {"MAE"}


def test_pairs_without_landmarks_are_refused(arguments):
    for missing in (None, [arguments["pairs"][1]["landmarks"][0], ""]):
        arguments["pairs"][1]["landmarks"] = missing
        with pytest.raises(UserError, match="needs landmarks in both images of every test pair"):
            regnet_table.main(**arguments)


def test_the_figure_has_every_method_in_order_and_the_distances_after_the_affine(arguments):
    known = regnet.methods_taking_part(arguments["methods"], arguments["evaluation"].selected)
    errors = regnet.landmark_errors(arguments["pairs"], known, 8)
    assert errors[errors.pair == "A"].start_mm.to_numpy() == pytest.approx(5, abs=1e-3)
    assert errors[errors.pair == "B"].start_mm.to_numpy() == pytest.approx(10, abs=1e-3)
    drawn = regnet.figure(errors, known)
    names = ["affine", "bspline-3r", "voxelmorph, λ = 1, epoch 20"]
    assert [text.get_text() for text in drawn.legends[0].get_texts()] == names
    assert [axes.get_title(loc="center") or axes.get_title(loc="left") for axes in drawn.axes[::3]] == [
        "synthetic pairs", "real pairs"
    ]  # fmt: skip
    residuals = drawn.axes[0].collections
    for points, method in zip(residuals, known, strict=True):
        of_method = errors[(errors.method == method) & errors.synthetic]
        lengths_mm = np.linalg.norm(of_method[["x", "y", "z"]], axis=1)
        np.testing.assert_allclose(points.get_offsets(), np.stack([of_method.start_mm, lengths_mm], axis=1))
    assert len({line.get_color() for line in drawn.axes[0].lines[:3]}) == 3


def test_mae_over_all_voxels_of_two_pairs():
    errors = pd.DataFrame({"pair": ["A", "C"], "synthetic": True, "method": "affine", "near": True})
    errors[["x", "y", "z"]] = 1.0
    tables = [
        table_of(
            [
                (f"mae_{name}", axis, value, "mm")
                for axis in regnet.AXES
                for name, value in (("mean", mean), ("sd", sd))
            ],
            pair,
            "test",
            "affine",
        )
        for pair, mean, sd in (("A", 1.0, 0.0), ("C", 3.0, 0.0))
    ]
    row = regnet.table(errors, pd.concat(tables), {"affine": Method("affine")}).iloc[0]
    # Half of the voxels have an error of 1, half of 3: mean 2, sd 1.
    assert (row["measure"], row["total_mean_mm"], row["total_sd_mm"]) == ("MAE", 2, pytest.approx(1))
