"""One network for every λ: what λ does in it, how its loss weighs each sample, and what is taken from it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import train_conditional
from test_training import SETTINGS, arrays_of, small_samples, training_arguments

from cohortmorph.learning import losses
from cohortmorph.learning.conditional import ConditionalNetwork, draw_weights, modulate, weights_to_try
from cohortmorph.learning.networks import (
    load_parameters,
    save_parameters,
    start_tensorflow,
    tf,
    warp,
)
from cohortmorph.learning.trainer import Trainer
from cohortmorph.learning.unet import UNet
from cohortmorph.learning.voxelmorph import VOXELMORPH
from cohortmorph.run import files

SHAPES = {"2-D": (16, 12), "3-D": (12, 8, 16)}
SIMPLE = SETTINGS | {"epochs": 4, "kept_epochs": [2, 4], "similarity": {"name": "mse", "mask": "none"}}
WEIGHTS = ["0.5", "2"]


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    start_tensorflow(seed=1, threads=1)


def stirred(network, seed=3, size=0.2):
    """Give every variable random values: at its start λ makes no difference, and the field is almost zero."""
    rng = np.random.default_rng(seed)
    for variable in network.parameters:
        variable.assign(rng.normal(0, size, variable.shape).astype(np.float32))
    return network


def images(*shape, seed=5):
    rng = np.random.default_rng(seed)
    return [tf.constant(rng.random((*shape, 1), dtype=np.float32)) for _ in range(2)]


# ---- the network


def test_each_map_of_each_sample_has_its_own_scale_and_shift():
    features = np.random.default_rng(1).normal(size=(2, 4, 5, 3)).astype(np.float32)
    scale, shift = np.float32([[0, 1, -1], [2, 0, 0.5]]), np.float32([[0, 0, 3], [1, -1, 0]])
    modulated = modulate(tf.constant(features), tf.constant(scale), tf.constant(shift)).numpy()
    np.testing.assert_allclose(modulated[0, ..., 1], 2 * features[0, ..., 1], rtol=1e-6)
    np.testing.assert_allclose(modulated[0, ..., 2], 3, rtol=1e-6)
    np.testing.assert_allclose(modulated[1, ..., 0], 3 * features[1, ..., 0] + 1, rtol=1e-5)


@pytest.mark.parametrize("downsampling", [1, 2])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
@pytest.mark.filterwarnings("ignore:Dense transform shape")
def test_at_a_fixed_weight_it_is_a_plain_network_with_other_kernels(shape, downsampling):
    settings = SETTINGS | {"field_downsampling": downsampling}
    network = stirred(ConditionalNetwork(shape, settings, [0.5, 2.0]))
    plain = UNet(shape, settings)
    moving, fixed = images(2, *shape)
    fields = network.model([moving, fixed, tf.constant([0.5, 1.7])]).numpy()
    for sample, weight in enumerate((0.5, 1.7)):
        network.hand_over(weight, plain)
        expected = plain.model([moving, fixed])[sample]
        assert np.std(expected) > 0.01
        np.testing.assert_allclose(fields[sample], expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())
    assert fields.shape[1:] == tuple(plain.model.output.shape)[1:]


def test_another_weight_gives_another_field_and_the_order_of_the_images_stays():
    network = stirred(ConditionalNetwork((16, 12), SETTINGS, [0.5, 2.0]))
    moving, fixed = images(1, 16, 12)
    one, other = (network.model([moving, fixed, tf.constant([weight])]).numpy() for weight in (0.5, 2.0))
    assert np.abs(one - other).max() > 0.1 * np.abs(one).max()
    assert ["source" in tensor.name for tensor in network.model.inputs] == [True, False, False]


def test_training_begins_where_the_weight_makes_no_difference():
    network = ConditionalNetwork((16, 12), SETTINGS, [0.5, 2.0])
    moving, fixed = images(1, 16, 12)
    one, other = (network.model([moving, fixed, tf.constant([weight])]).numpy() for weight in (0.5, 2.0))
    np.testing.assert_array_equal(one, other)
    assert 0 < np.abs(one).max() < 0.01


def test_the_range_is_seen_on_a_logarithmic_scale_from_minus_one_to_one():
    network = ConditionalNetwork((8, 8), SETTINGS, [4.0, 1.0, 2.0])
    places = network.position(tf.constant([1.0, 2.0, 4.0])).numpy()
    np.testing.assert_allclose(places, [[-1], [0], [1]], atol=1e-6)


def test_a_weight_outside_of_the_range_is_refused():
    network = ConditionalNetwork((8, 8), SETTINGS, [1.0, 4.0])
    for weight in (0.99, 4.01):
        with pytest.raises(ValueError, match="outside of the range 1 to 4"):
            network.hand_over(weight, UNet((8, 8), SETTINGS))


def test_it_is_lean():
    """HyperMorph's network for the same U-Net has 42 million parameters."""
    settings = SETTINGS | {"encoder": [16, 32, 32, 32], "decoder": [32, 32, 32, 32, 32, 16, 16]}
    plain = UNet((16, 16, 16), settings)
    network = ConditionalNetwork((16, 16, 16), settings, [1.0, 4.0])
    counted = [sum(int(np.prod(variable.shape)) for variable in one.parameters) for one in (plain, network)]
    print(f"3-D: {counted[0]:,} and {counted[1]:,} parameters")
    assert counted == [327_331, 348_713]


def test_its_parameters_come_back_from_disk_whatever_the_size_of_the_images(tmp_path):
    written = stirred(ConditionalNetwork((16, 12), SETTINGS, [0.5, 2.0]))
    save_parameters(written, tmp_path / "parameters.npz")
    read = ConditionalNetwork((8, 8), SETTINGS, [0.5, 2.0])
    load_parameters(read, tmp_path / "parameters.npz")
    plains = [UNet((8, 8), SETTINGS) for _ in range(2)]
    for network, plain in zip((written, read), plains, strict=True):
        network.hand_over(0.9, plain)
    for one, other in zip(plains[0].parameters, plains[1].parameters, strict=True):
        np.testing.assert_array_equal(one, other)
    with pytest.raises(ValueError, match="parameters of another network"):
        load_parameters(plains[0], tmp_path / "parameters.npz")


# ---- λ of each sample


def test_several_weights_make_a_conditional_network_and_each_kind_says_what_it_sees_of_them():
    plain, conditional = (VOXELMORPH.network_for((16, 12), SETTINGS, weights) for weights in ([0.5], [0.5, 2.0]))
    assert [type(network) for network in (plain, conditional)] == [UNet, ConditionalNetwork]
    moving, fixed = images(2, 16, 12)
    assert float(plain.draw_weights(np.random.default_rng(1), [0.5], 2)) == float(plain.weights_of(0.5, 2)) == 0.5
    assert conditional.weights_of(0.5, 2).numpy().tolist() == [0.5, 0.5]
    drawn = conditional.draw_weights(np.random.default_rng(1), [0.5, 2.0], 2)
    np.testing.assert_array_equal(drawn, draw_weights(np.random.default_rng(1), [0.5, 2.0], 2))
    for network, weights in ((plain, plain.weights_of(0.5, 2)), (conditional, drawn)):
        assert network.field(moving, fixed, weights).shape == (2, 16, 12, 2)


def test_weights_are_drawn_evenly_on_a_logarithmic_scale_a_quarter_beyond_each_end_and_every_batch_spreads():
    rng = np.random.default_rng(1)
    batches = np.array([draw_weights(rng, [10.0, 0.1], 4) for _ in range(2000)])
    # 0.1 to 10 are two decades; half of one more on either side.
    places = (np.log10(batches) + 1.5) / 3
    assert batches.dtype == np.float32 and 0 <= places.min() < 0.01 and 0.99 < places.max() <= 1
    assert (np.sort(np.floor(places * 4), axis=1) == [0, 1, 2, 3]).all()
    # Any sample of a batch, the first as well as the last, gets any λ.
    assert [abs(np.log10(batches[:, n]).mean()) < 0.05 for n in range(4)] == [True] * 4


def test_each_sample_s_penalty_is_weighed_by_its_own_weight():
    """Two samples with penalties p₁ and p₂: the loss is the mean of s₁ + λ₁ p₁ and s₂ + λ₂ p₂, written out by hand."""
    settings = SIMPLE | {"learning_rate": 1e-4}
    network = VOXELMORPH.network_for((16, 16), settings, (0.5, 4.0))
    trainer = Trainer(network, VOXELMORPH.objective(settings, ()), settings)
    stirred(trainer.network)
    rng = np.random.default_rng(4)
    batch = small_samples().draw(rng, 2)
    fixed, moving = tf.constant(batch.fixed), tf.constant(batch.moving)
    losses_found = []
    for weights in ([0.5, 4.0], [4.0, 0.5], [2.0, 2.0]):
        lambdas = tf.constant(weights)
        field = trainer.network.model([moving, fixed, lambdas])
        squares = [np.mean(np.diff(field.numpy(), axis=axis) ** 2, axis=(1, 2, 3)) for axis in (1, 2)]
        penalties = sum(squares) / 2
        likeness = losses.mse(fixed, warp(moving, trainer.network.displacement(field))).numpy()
        expected = np.mean([s + w * p for s, w, p in zip(likeness, weights, penalties, strict=True)])
        result = trainer.evaluate(batch, lambdas)[:3]
        np.testing.assert_allclose(result, [expected, likeness.mean(), penalties.mean()], rtol=1e-4)
        assert abs(penalties[0] - penalties[1]) > 1e-3 * penalties[0]
        losses_found.append(result[0])
    assert len(set(losses_found)) == 3
    before = trainer.evaluate(batch, lambdas)
    np.testing.assert_allclose(trainer.step(batch, lambdas).parts[:3], before[:3], rtol=1e-4)
    assert trainer.evaluate(batch, lambdas).loss < before.loss


def test_the_weights_tried_are_close_and_hold_those_named_and_one():
    tried = weights_to_try(["4", "0.50", "3"])
    assert tried == sorted(tried, key=float) and tried[0] == "0.50" and tried[-1] == "4"
    assert {"1", "3"} <= set(tried)
    ratios = np.array(tried[1:], float) / np.array(tried[:-1], float)
    assert ratios.min() > 1 and ratios.max() < 1.101
    assert weights_to_try(["2", "4"])[0] == "2" and "1" not in weights_to_try(["2", "4"])
    assert "1" not in weights_to_try(["1.0", "4"]) and "1.0" in weights_to_try(["1.0", "4"])


# ---- a small training, twice

WORK = """
import json, sys
import train_conditional
train_conditional.main(**json.load(open(sys.argv[1])))
"""


def arguments_of(folder):
    """As for a plain training, with two λ."""
    folder.mkdir(exist_ok=True)
    arguments = training_arguments(folder, weight=WEIGHTS, settings=SIMPLE)
    arguments["conditional"] = arguments["networks"]
    arguments["networks"] = [
        str(folder / f"weight-{weight}_epoch-{epoch}.npz") for weight in WEIGHTS for epoch in SIMPLE["kept_epochs"]
    ]
    return arguments


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("conditional")
    train_conditional.main(**arguments_of(folder))
    return folder


def test_a_network_for_each_weight_and_epoch_is_taken_from_it(trained):
    network, plain = ConditionalNetwork((8, 8), SIMPLE, [0.5, 2.0]), UNet((8, 8), SIMPLE)
    for epoch in (2, 4):
        load_parameters(network, trained / f"epoch-{epoch}.npz")
        for weight in WEIGHTS:
            network.hand_over(float(weight), plain)
            written = arrays_of(trained / f"weight-{weight}_epoch-{epoch}.npz")
            for number, variable in enumerate(plain.parameters):
                np.testing.assert_array_equal(written[f"{number:03d}"], variable.numpy())
            assert len(written) == len(plain.parameters)
    few, many = (arrays_of(trained / f"weight-{weight}_epoch-4.npz") for weight in WEIGHTS)
    assert any((few[name] != many[name]).any() for name in few)
    report = files.read_json(trained / "training.json")
    assert report["weight"] == WEIGHTS and set(report["sha256"]) == {"2", "4"}


def test_validation_is_watched_at_each_weight_in_turn(trained):
    history = pd.read_csv(trained / "history.tsv", sep="\t")
    assert history["validation_weight"].tolist() == [2, 0.5, 2, 0.5]
    loss = history["validation_similarity"] + history["validation_weight"] * history["validation_penalty"]
    np.testing.assert_allclose(history["validation_loss"], loss, rtol=1e-4)


def test_a_training_that_was_cut_short_goes_on_to_the_same_bits(trained, tmp_path):
    """In another process, stopped after two of four epochs, by what it left behind."""
    folder = tmp_path / "again"
    arguments = arguments_of(folder)
    (tmp_path / "arguments.json").write_text(json.dumps(arguments))
    stop = WORK.replace("import train_conditional\n", """
from cohortmorph.learning import checkpoints
import train_conditional
save = checkpoints.Checkpoint.save
def save_and_die(self, variables, rows, kept, last=False):
    save(self, variables, rows, kept, last=True)
    if len(rows) == 2 and not sys.argv[2:]:
        sys.exit(7)
checkpoints.Checkpoint.save = save_and_die
""")  # fmt: skip
    environment = os.environ | {"PYTHONPATH": str(Path(train_conditional.__file__).parent)}
    command = [sys.executable, "-c", stop, str(tmp_path / "arguments.json")]
    assert subprocess.run(command, env=environment, check=False).returncode == 7
    assert not (folder / "training.json").exists()
    train_conditional.main(**arguments)
    assert files.read_json(folder / "training.json")["resumed_after_epoch"] == 2
    for name in ("epoch-2.npz", "epoch-4.npz", "weight-2_epoch-4.npz"):
        here, there = arrays_of(trained / name), arrays_of(folder / name)
        for key, array in here.items():
            np.testing.assert_array_equal(array, there[key])


def test_a_network_of_another_range_does_not_go_on_from_the_checkpoint(trained, tmp_path, caplog):
    folder = tmp_path / "other"
    arguments = arguments_of(folder)
    (folder / "checkpoint.npz").write_bytes((trained / "checkpoint.npz").read_bytes())
    arguments["training"]["weight"] = ["0.5", "3"]
    train_conditional.main(**arguments)
    assert files.read_json(folder / "training.json")["resumed_after_epoch"] == 0
