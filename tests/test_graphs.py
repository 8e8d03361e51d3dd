"""Networks applied by OpenVINO answer as they do in TensorFlow, of which they come."""

import numpy as np
import pytest
from test_training import SETTINGS

from cohortmorph import UserError
from cohortmorph.learning import graphs
from cohortmorph.learning.applied_network import AppliedNetwork, registrar_of
from cohortmorph.learning.kinds import kind_of
from cohortmorph.learning.networks import save_parameters, start_tensorflow

MATCHING = {
    "kind": "matching",
    "mind": {"radius": 1, "dilation": 1},
    "scales": 2,
    "encoder": [4, 6],
    "decoder": [6, 5, 4],
}
SHAPES = {2: (29, 22), 3: (29, 22, 17)}
CASES = {
    "displacement": {},
    "velocity": {"int_steps": 5},
    "half": {"field_downsampling": 2},
    "half velocity": {"field_downsampling": 2, "int_steps": 7},
    "three levels": {"encoder": [4, 6, 8], "decoder": [8, 6, 6, 4, 4]},
    "matching": MATCHING,
    "matching, one scale": MATCHING | {"scales": 1},
    "matching, three scales": MATCHING | {"scales": 3, "mind": {"radius": 2, "dilation": 3}},
}


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    start_tensorflow(seed=1, threads=1)


def both(settings, batch, path):
    """A network with random parameters, applied by TensorFlow and by OpenVINO."""
    settings = SETTINGS | {"encoder": [4, 6], "decoder": [6, 5, 4], "kind": "voxelmorph"} | settings
    shape = SHAPES[settings["dimensions"]]
    applied = graphs.Applied(shape, settings, batch, threads=1)
    network = kind_of(settings["kind"]).network(applied.shape, settings)
    rng = np.random.default_rng(3)
    for variable in network.parameters:
        variable.assign(rng.normal(0, 1.2 / np.sqrt(np.prod(variable.shape[:-1])), variable.shape))
    save_parameters(network, path)
    applied.load(path)
    return AppliedNetwork(network), applied


@pytest.mark.parametrize("dimensions", [2, 3])
@pytest.mark.parametrize("case", CASES)
def test_a_graph_answers_as_its_network(case, dimensions, tmp_path):
    known, applied = both(CASES[case] | {"dimensions": dimensions}, 2, tmp_path / "network.npz")
    assert applied.device == "CPU"
    fixed, moving = np.random.default_rng(1).random((2, 2, *known.shape), dtype=np.float32)
    expected, found = (each(fixed, moving) for each in (known, applied))
    assert np.abs(expected).max() > 0.2  # voxels
    np.testing.assert_allclose(found, expected, atol=1e-3 * max(1, np.abs(expected).max()))


@pytest.mark.parametrize("case", CASES)
def test_images_are_padded_alike(case):
    settings = SETTINGS | {"kind": "voxelmorph", "dimensions": 3} | CASES[case]
    expected = registrar_of(kind_of(settings["kind"]), (29, 22, 17), settings).shape
    assert graphs.Applied((29, 22, 17), settings, 1, threads=1).shape == expected


def test_parameters_of_another_network_are_refused(tmp_path):
    settings = {"dimensions": 2}
    _, applied = both(settings, 1, tmp_path / "network.npz")
    larger = {"encoder": [4, 6, 8], "decoder": [8, 6, 6, 4, 4]}
    for other in (larger, {"encoder": [4], "decoder": [6, 4]}, {"decoder": [6, 4, 5]}, MATCHING):
        both(settings | other, 1, tmp_path / "other.npz")
        with pytest.raises(ValueError, match="of another network"):
            applied.load(tmp_path / "other.npz")


def test_damaged_parameters_are_a_clear_error(tmp_path):
    _, applied = both({"dimensions": 2}, 1, tmp_path / "network.npz")
    whole = (tmp_path / "network.npz").read_bytes()
    (tmp_path / "network.npz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match="cut off, damaged"):
        applied.load(tmp_path / "network.npz")
