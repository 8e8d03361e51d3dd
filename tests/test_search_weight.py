"""The search for λ: what it measures is what register_network and measure_pair measure."""

import numpy as np
import pytest
import SimpleITK as sitk
from test_conditional import SIMPLE, WEIGHTS, stirred
from test_training import blobs

from cohortmorph.evaluation.tables import read_metrics
from cohortmorph.learning.conditional import ConditionalNetwork
from cohortmorph.learning.networks import save_parameters, start_tensorflow
from cohortmorph.learning.parameters import checksum
from cohortmorph.learning.unet import UNet
from cohortmorph.run import files
from cohortmorph.spatial import geometry
from cohortmorph.spatial.geometry import Grid

PAIRS = ["P1-T1_to_P1-CT", "P2-T1_to_P2-CT"]
INTENSITIES = [{"percentiles": [0, 100]}] * 2


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    start_tensorflow(seed=1, threads=1)


def files_of(folder, number):
    """Two small images with labels, which the network sees as they are."""
    grid = Grid((32, 32, 4), (1.0, 1.0, 2.0), (-16.0, -16.0, 0.0))
    given = {"fixed_mask": "", "fixed_landmarks": "", "moving_landmarks": ""}
    for role, shift in (("fixed", (0, 0)), ("moving", (2, -1))):
        values = blobs(number, shift, (32, 32, 4))
        for name, array in ((role, values), (f"{role}_labels", (values > 0.3).astype(np.float32))):
            given[name] = str(folder / f"{name}-{number}.nii.gz")
            geometry.write_image(geometry.to_image(array, grid), given[name])
        given[f"{role}_input"] = given[role]
        given[f"frame_to_{role}"] = str(folder / f"{role}-{number}.tfm")
        geometry.write_transform(sitk.AffineTransform(3), given[f"frame_to_{role}"])
    return given


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    """The arguments of a search and what it found, with a network of random weights that moves things a little."""
    import search_weight

    folder = tmp_path_factory.mktemp("search")
    network = stirred(ConditionalNetwork((8, 8), SIMPLE, [0.5, 2.0]), size=0.15)
    save_parameters(network, folder / "epoch-4.npz")
    arguments = {
        "network": str(folder / "epoch-4.npz"),
        "conditional": {"network": "mine", "weights": WEIGHTS, "epoch": 4, "settings": SIMPLE},
        "pairs": [
            {"pair": pair, "files": files_of(folder, number), "intensities": INTENSITIES}
            for number, pair in enumerate(PAIRS, start=1)
        ],
        "selection": {"metric": "dice", "folding_percent_max": 100, "bootstrap_samples": 200},
        "seed": 1,
        "threads": 1,
        "outputs": {
            "selected": str(folder / "selected_weight.json"),
            "table": str(folder / "weight_search.tsv"),
            "pictures": [str(folder / "weight_search.png")],
        },
    }
    search_weight.main(**arguments)
    return folder, arguments, network


def test_it_measures_what_the_other_rules_measure(searched):
    import measure_pair
    import register_network

    folder, arguments, network = searched
    plain = UNet((8, 8), SIMPLE)
    methods = [f"mine_weight-{weight}_epoch-4" for weight in WEIGHTS]
    for method, weight in zip(methods, WEIGHTS, strict=True):
        (folder / method).mkdir()
        network.hand_over(float(weight), plain)
        save_parameters(plain, folder / f"{method}.npz")
    displacements = [str(folder / method / "displacement.nii.gz") for method in methods]
    given = arguments["pairs"][0]["files"]
    names = ("fixed", "fixed_input", "moving_input", "frame_to_fixed", "frame_to_moving")
    register_network.main(
        pair=PAIRS[0],
        networks=[str(folder / f"{method}.npz") for method in methods],
        settings=SIMPLE,
        threads=1,
        displacements=displacements,
        files={name: given[name] for name in names},
    )
    measure_pair.main(
        pair=PAIRS[0],
        split="validation",
        files=given | {"affine": given["frame_to_fixed"]},
        displacements=dict(zip(methods, displacements, strict=True)),
        reverse_displacements={},
        intensities=INTENSITIES,
        settings={"near_landmarks_mm": 8, "surface_tolerance_mm": 2},
        output=str(folder / "metrics.tsv"),
    )
    keys = ["pair", "split", "method", "weight", "epoch", "metric", "structure"]
    expected = read_metrics(folder / "metrics.tsv").set_index(keys)["value"]
    found = read_metrics(folder / "weight_search.tsv")
    assert set(found["metric"]) == {"dice", "folding"} and set(found["pair"]) == set(PAIRS)
    values = found[found["weight"].isin(WEIGHTS) & (found["pair"] == PAIRS[0])].set_index(keys)["value"]
    assert len(values) == 4 and values.xs("dice", level="metric").nunique() == 2
    np.testing.assert_allclose(values, expected.loc[values.index], atol=1e-4)


def test_it_tries_the_range_and_writes_down_its_choice(searched):
    folder, arguments, _ = searched
    found = files.read_json(folder / "selected_weight.json")
    table = read_metrics(folder / "weight_search.tsv")
    assert found["tried"] == table["weight"].nunique() > 10 and {*WEIGHTS, "1"} <= set(table["weight"])
    means = table[table["metric"] == "dice"].groupby("weight")["value"].mean()
    assert found["value"] == pytest.approx(means.max()) and means[found["weight"]] == pytest.approx(means.max())
    assert (found["epoch"], found["validation_pairs"], found["subjects"]) == (4, 2, 2)
    assert found["sha256"] == checksum(arguments["network"])
    assert (folder / "weight_search.png").stat().st_size > 1000
