"""What stands in the viewer's folder, and what its table says (the page itself: tests/viewer/)."""

import hashlib
import json
import re

import numpy as np
import pandas as pd
import pytest
from made_up import METHODS, NETWORK, OTHER, PAIRS, WHY, MadeUp, image

from cohortmorph.evaluation.tables import Evaluation
from cohortmorph.report import viewer
from cohortmorph.spatial import geometry


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    return MadeUp(tmp_path_factory.mktemp("cohort"))


@pytest.fixture(scope="module")
def folder(cohort):
    return cohort.folder / "results/viewer"


@pytest.fixture(scope="module")
def table(folder):
    return json.loads((folder / "pairs.json").read_text())


def test_the_folder_holds_the_page_and_no_volume(folder):
    assert {path.name for path in folder.iterdir()} == {path.name for path in viewer.PAGE.iterdir()} | {"pairs.json"}
    assert not list(folder.glob("*.nii*"))


def test_every_link_leads_to_a_file(folder, table):
    links = re.findall(r'"(\.\./[^"]+)"', json.dumps(table))
    assert len(links) == 2 * 2 + 2 * 2 * len(METHODS)
    for link in links:
        assert (folder / link).is_file(), link


def test_the_table_names_no_folder_of_this_machine_and_no_landmark(folder, table):
    text = json.dumps(table)
    assert str(folder.parent) not in text and not re.search(r'"/', text)
    assert "Miller" not in text


def test_methods_have_their_values_and_reasons(table):
    first = {entry["method"]: entry for entry in table["pairs"][0]["methods"]}
    assert list(first) == METHODS
    assert first["affine"]["values"] == {"tre_mean": 2.23456, "folding": 0.5} and first["affine"]["failed"] is None
    assert first["broken"]["failed"] == WHY and first["broken"]["values"] == {}
    assert first[NETWORK]["label"] == "voxelmorph, λ = 2, epoch 20"
    assert first[NETWORK]["values"]["tre_mean"] == 4.23456


def test_each_network_s_choice_is_selected_and_one_of_them_is_best(table):
    for pair in table["pairs"]:
        found = {key: [entry["method"] for entry in pair["methods"] if entry[key]] for key in ("selected", "best")}
        assert found == {"selected": [OTHER, NETWORK], "best": [NETWORK]}, "whichever comes first"
    assert next(one for one in pair["methods"] if one["method"] == OTHER)["label"] == "voxelmorph-diff, λ = 4, epoch 20"


def test_measures_are_those_of_the_registry(table):
    shown = {measure["metric"]: measure for measure in table["measures"]}
    assert list(shown) == ["tre_mean", "dice", "ncc_squared", "nmi", "folding"]
    assert shown["tre_mean"] == {"metric": "tre_mean", "label": "TRE (mm)", "decimals": 2}


def test_values_are_those_of_the_pair(table):
    second = {entry["method"]: entry for entry in table["pairs"][1]["methods"]}
    assert second["affine"]["values"]["tre_mean"] == 6.23456 and f"{PAIRS[1]}/affine" in second["affine"]["moved"]


def test_landmarks_stand_in_lps_where_both_images_have_some(cohort, table):
    first, second = table["pairs"]
    np.testing.assert_allclose(first["landmarks"]["fixed_lps_mm"], cohort.fixed_lps_mm, atol=1e-6)
    np.testing.assert_allclose(first["landmarks"]["moving_lps_mm"], cohort.moving_lps_mm, atol=1e-6)
    assert second["landmarks"] is None


def test_windows_are_those_that_every_method_saw(table):
    first = table["pairs"][0]
    assert first["fixed"]["window"] == [0, 120]
    wanted = np.percentile(geometry.to_array(image(11)), [1, 99])
    np.testing.assert_allclose(first["moving"]["window"], wanted, rtol=1e-6)


def test_an_image_of_one_value_has_no_window(tmp_path):
    geometry.write_image(image(1) * 0, tmp_path / "CT.nii.gz")
    assert viewer.window(tmp_path / "CT.nii.gz", {"percentiles": [1, 99]}) is None


def test_without_a_network_none_is_selected():
    nothing = pd.DataFrame(columns=["pair", "method", "weight", "epoch", "why", "metric", "structure", "value"])
    evaluation = Evaluation(*[nothing] * 6)
    paths = {"affine": "results/pairs/A/affine/moved.nii.gz"}
    (entry,) = viewer.described_methods("A", paths, evaluation, "results/viewer")
    assert not entry["selected"] and not entry["best"] and entry["moved"] == "../pairs/A/affine/moved.nii.gz"


def test_niivue_is_the_file_that_its_licence_file_names():
    said = (viewer.PAGE / "niivue-licences.txt").read_text()
    assert hashlib.sha256((viewer.PAGE / "niivue.umd.js").read_bytes()).hexdigest() in said
    assert "BSD 2-Clause" in said and re.search(r"@niivue/niivue, version [\d.]+", said)
