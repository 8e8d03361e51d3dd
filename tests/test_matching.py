"""The kind matching: cost volumes, painted pairs, the objective, and that a network of it learns what it is for."""

import itertools

import numpy as np
import pandas as pd
import pytest
import train_network
from test_training import arrays_of, training_arguments

from cohortmorph.learning import known, matching, painted, registrar
from cohortmorph.learning.applied_network import AppliedNetwork
from cohortmorph.learning.batch import Batch
from cohortmorph.learning.networks import start_tensorflow, tf, warp
from cohortmorph.learning.samples import Image, Samples
from cohortmorph.learning.trainer import Trainer

SETTINGS = {
    "kind": "matching",
    "dimensions": 3,
    "epochs": 1,
    "steps_per_epoch": 1,
    "batch_size": 2,
    "learning_rate": 0.003,
    "learning_rate_schedule": "cosine",
    "flips": True,
    "displacements": {"length_mm": 3.0, "bends_mm": [24, 40]},
    "painting": {"grey_values": 9, "ends": "stack"},
    "mind": {"radius": 1, "dilation": 1},
    "scales": 2,
    "regularization": {"name": "l2"},
    "encoder": [8, 16],
    "decoder": [16, 16, 8],
}
SPACING_MM = (1.0, 1.0, 3.0)  # anisotropic


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    start_tensorflow(seed=1, threads=1, with_gradients=True)


def blobs(shape, seed=0):
    """A smooth image in [0, 1] with structures of some voxels."""
    from scipy.ndimage import gaussian_filter

    values = gaussian_filter(np.random.default_rng(seed).normal(size=shape), 2)
    return np.clip(0.5 + values / (4 * values.std()), 0, 1).astype(np.float32)


def samples(shape=(24, 32, 16), number=3, multiple=8, dimensions=3):
    images = [Image(blobs(shape, seed), SPACING_MM) for seed in range(2 * number)]
    return Samples(list(zip(images[::2], images[1::2], strict=True)), dimensions, multiple)


# ---- the cost volume


@pytest.mark.parametrize("shape", [(6, 8), (4, 6, 8)])
def test_costs_are_those_of_a_loop_over_voxels(shape):
    rng = np.random.default_rng(0)
    fixed, moving = rng.random((2, 5, 1, *shape, 1)).astype(np.float32)
    costs = matching.cost_volume(tf.constant(fixed), tf.constant(moving)).numpy()[0]
    ways = list(itertools.product((-1, 0, 1), repeat=len(shape)))
    assert costs.shape == (*shape, len(ways))
    for index, (n, way) in itertools.product(np.ndindex(*shape), enumerate(ways)):
        there = tuple(np.clip(np.add(index, way), 0, np.array(shape) - 1))
        assert costs[index][n] == pytest.approx(np.mean((fixed[:, 0, *index] - moving[:, 0, *there]) ** 2), abs=1e-6)
    blocks = matching.cost_volume(tf.constant(fixed), tf.constant(moving), average=True).numpy()[0]
    np.testing.assert_allclose(
        blocks[(0,) * len(shape)], costs[(slice(2),) * len(shape)].reshape(-1, len(ways)).mean(0), atol=1e-6
    )


@pytest.mark.parametrize("shape", [(12, 20), (4, 12, 20)])
def test_a_new_network_answers_next_to_nothing_on_the_images_own_grid(shape):
    # One level: the sides are multiples of 4 only.
    network = matching.MatchingNetwork(shape, SETTINGS | {"scales": 3, "encoder": [8], "decoder": [8, 8]})
    fixed, moving = (tf.constant(blobs((2, *shape, 1), seed)) for seed in (1, 2))
    field = network.field(moving, fixed)
    assert field.shape == (2, *(size // 2 for size in shape), len(shape))
    found = network.displacement(field).numpy()
    assert found.shape == (2, *shape, len(shape))
    assert 0 < np.abs(found).max() < 0.01


def test_what_it_reads_is_blind_to_an_inverted_contrast():
    network = matching.MatchingNetwork((16, 16, 16), SETTINGS)
    fixed, moving = (tf.constant(blobs((1, 16, 16, 16, 1), seed)) for seed in (1, 2))
    upright, inverted = network._costs(fixed, moving).numpy(), network._costs(fixed, 0.9 - 0.5 * moving).numpy()
    np.testing.assert_allclose(inverted, upright, atol=0.05)
    assert np.abs(network._costs(fixed, fixed).numpy() - upright).max() > 0.5


# ---- what it learns from


def test_the_fixed_image_is_the_moving_one_at_the_planted_displacement(monkeypatch):
    for name in ("_in_a_random_contrast", "_spoiled"):
        monkeypatch.setattr(painted, name, lambda images, *of: images)
    monkeypatch.setattr(painted, "_inside", lambda images, *of: 1.0)
    pairs = painted.PaintedPairs(samples(), SETTINGS["displacements"], SETTINGS["painting"])
    batch = pairs.draw(np.random.default_rng(1), 4)
    voxels = batch.displacement_mm / np.array(SPACING_MM, np.float32)  # mm along each axis, so unlike in voxels
    np.testing.assert_allclose(warp(batch.moving, voxels), batch.fixed, atol=1e-5)
    before = np.abs(batch.moving - batch.fixed).mean()
    assert before > 0.05
    wrong = np.abs(warp(batch.moving, batch.displacement_mm).numpy() - batch.fixed).mean()
    assert wrong > before / 4


def test_displacements_are_as_long_as_asked_for():
    pairs = painted.PaintedPairs(samples(), SETTINGS["displacements"], SETTINGS["painting"])
    rng = np.random.default_rng(1)
    drawn = np.concatenate([pairs.draw(rng, 8).displacement_mm.numpy() for _ in range(12)])
    assert np.sqrt((drawn**2).sum(axis=-1).mean()) == pytest.approx(3.0, rel=0.15)
    assert np.std(np.linalg.norm(drawn, axis=-1).mean(axis=(1, 2, 3))) > 0.5  # small ones and large ones


def test_contrasts_are_others_in_both_images_of_a_pair_and_the_probe_is_always_the_same():
    pairs = painted.PaintedPairs(samples(), SETTINGS["displacements"] | {"length_mm": 1e-6}, SETTINGS["painting"])
    batch = pairs.draw(np.random.default_rng(1), 8)
    for images in (batch.fixed, batch.moving):
        assert images.numpy().min() >= 0
        assert images.numpy().max() <= 1
    alike = [
        np.corrcoef(f.ravel(), m.ravel())[0, 1] for f, m in zip(batch.fixed.numpy(), batch.moving.numpy(), strict=True)
    ]
    assert min(alike) < 0 < max(alike)
    assert np.abs(alike).max() < 0.99
    first, second = (pairs.probe(3, 2) for _ in range(2))
    assert [each.number for each in first] == [2, 1]
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one.moving, other.moving)


@pytest.mark.parametrize("shape", [(24, 32), (24, 32, 20)])
def test_images_end_anywhere_within_an_eighth_of_what_they_show(shape):
    images = np.zeros((40, *shape, 1), np.float32)
    images[(slice(None), *[slice(4, size - 2) for size in shape])] = 0.5  # the rest is padding
    seeds = tf.unstack(tf.random.split(tf.constant([1, 2]), 64))
    inside = painted._inside(tf.constant(images), range(1, len(shape) + 1), iter(seeds)).numpy()
    for axis, size in enumerate(shape):
        others = tuple(other for other in range(1, len(shape) + 2) if other != axis + 1)
        shown = inside.max(axis=others) > 0
        before = shown.argmax(axis=1) - 4
        after = size - 3 - (size - 1 - shown[:, ::-1].argmax(axis=1))
        most = (size - 7) / 8
        for cut in (before, after):
            assert cut.min() == 0
            assert most - 1.5 < cut.max() <= most
        assert abs(np.corrcoef(before, after)[0, 1]) < 0.5


def test_both_images_of_a_pair_are_cut_and_each_by_itself():
    painting = {"grey_values": 4, "ends": "anywhere"}
    batch = painted.PaintedPairs(samples(), SETTINGS["displacements"], painting).draw(np.random.default_rng(3), 16)
    for axis in (1, 2, 3):
        others = tuple(other for other in (1, 2, 3, 4) if other != axis)
        ends = [(images.numpy().max(axis=others) > 0).argmax(axis=1) for images in (batch.fixed, batch.moving)]
        assert len(set(ends[0])) > 1
        assert len(set(ends[1])) > 1
        assert list(ends[0]) != list(ends[1])


def test_only_the_moving_stack_ends_early_if_only_stacks_may():
    drawn = painted.PaintedPairs(samples(), SETTINGS["displacements"], SETTINGS["painting"])
    batch = drawn.draw(np.random.default_rng(3), 16)
    blank = (batch.moving.numpy() == 0).all(axis=(1, 2, 4))
    assert blank[:, 0].any()
    assert blank[:, -1].any()
    assert not blank[:, 3:-3].any()
    for images, axes in ((batch.moving, (1, 2)), (batch.fixed, (1, 2, 3))):
        for axis in axes:
            assert (images.numpy().max(axis=tuple(other for other in (1, 2, 3, 4) if other != axis)) > 0).all()


def test_slices_are_painted_too():
    pairs = painted.PaintedPairs(samples(dimensions=2), SETTINGS["displacements"], SETTINGS["painting"])
    batch = pairs.draw(np.random.default_rng(1), 4)
    assert batch.fixed.shape == (4, 24, 32, 1)
    assert batch.displacement_mm.shape == (4, 24, 32, 2)


# ---- what it is trained for


def test_the_objective_counts_mm_and_is_0_at_the_truth():
    objective = known.KnownDisplacement(SETTINGS)
    rng = np.random.default_rng(1)
    truth_mm, found = rng.normal(size=(2, 2, 4, 5, 6, 3)).astype(np.float32)
    spacing_mm = np.array([[1, 2, 3], [2, 2, 0.5]], np.float32)
    batch = Batch(None, None, tf.constant(spacing_mm), displacement_mm=tf.constant(truth_mm))
    steps_mm = spacing_mm[:, None, None, None]
    loss, error, penalty = objective.parts(None, tf.constant(found), tf.constant(0.5), batch)
    assert float(error) == pytest.approx(((found * steps_mm - truth_mm) ** 2).sum(axis=-1).mean(), rel=1e-5)
    by_hand = np.mean(
        [
            np.mean([((np.diff(u * h, axis=axis) / h[axis]) ** 2).mean() for axis in range(3)])
            for u, h in zip(found, spacing_mm, strict=True)
        ]
    )
    assert float(penalty) == pytest.approx(by_hand, rel=1e-5)
    assert float(loss) == pytest.approx(float(error) + 0.5 * float(penalty), rel=1e-6)
    assert float(objective.parts(None, tf.constant(truth_mm / steps_mm), tf.constant(0.0), batch).loss) < 1e-10


# ---- that it learns, and how it is applied


@pytest.fixture(scope="module")
def trained():
    settings = SETTINGS | {"dimensions": 2, "steps_per_epoch": 250, "batch_size": 8, "encoder": [16, 32]}
    settings |= {"decoder": [32, 32, 16]}
    tf.keras.utils.set_random_seed(1)  # whatever tests ran before
    drawn = painted.PaintedPairs(
        samples((48, 64, 4), number=6, dimensions=2), settings["displacements"], settings["painting"]
    )
    network = matching.MatchingNetwork(drawn.shape, settings)
    trainer = Trainer(network, known.KnownDisplacement(settings), settings)
    rng = np.random.default_rng(1)
    for _ in range(settings["steps_per_epoch"]):
        trainer.step(drawn.draw(rng, settings["batch_size"]), network.weights_of(0, 1))
    return network


def test_it_finds_a_shift_between_images_of_opposite_contrast(trained):
    moving = blobs((48, 64, 4), seed=99)
    shift = np.array([2.0, -1.0, 0.0])
    fixed = 1 - np.roll(moving, (-2, 1), axis=(0, 1))  # fixed(x) = moving(x + shift)
    inside = (slice(8, -8), slice(8, -8))
    found = [registrar.Registrar(AppliedNetwork(trained), passes)(fixed, moving)[inside] for passes in (1, 2)]
    once, twice = (np.linalg.norm(each - shift, axis=-1).mean() for each in found)
    assert once < 0.6 * np.linalg.norm(shift)
    assert twice < 0.8 * once  # the second pass sees what is left


class Shift:
    """Answers one displacement, half the way to a shift between two bars."""

    shape, device = (8, 8, 8), "CPU"

    def load(self, path):
        raise AssertionError("it has no parameters")

    def __call__(self, fixed, moving):
        index = np.arange(8)[:, None, None]
        along = [(index * image).sum() / image.sum() for image in (moving, fixed)]
        return np.full((1, 8, 8, 8, 3), [(along[0] - along[1]) / 2, 0, 0], np.float32)


def test_passes_add_up():
    moving, fixed = np.zeros((2, 8, 8, 8), np.float32)
    moving[5], fixed[1] = 1, 1
    halfway, nearer = (registrar.Registrar(Shift(), passes)(fixed, moving) for passes in (1, 2))
    np.testing.assert_allclose(halfway, np.broadcast_to([2, 0, 0], halfway.shape), atol=1e-5)
    np.testing.assert_allclose(nearer, np.broadcast_to([3, 0, 0], nearer.shape), atol=1e-5)


class Lopsided(Shift):
    """As Shift, plus an error of its own towards the end of each axis, whatever the images are."""

    def __call__(self, fixed, moving):
        return super().__call__(fixed, moving) + np.float32([0.5, -0.25, 1.0])


@pytest.mark.parametrize("passes", [1, 2])
def test_the_mean_over_mirror_images_leaves_out_what_does_not_mirror(passes):
    moving, fixed = np.zeros((2, 8, 8, 8), np.float32)
    moving[5], fixed[1] = 1, 1
    plain = registrar.Registrar(Shift(), passes)(fixed, moving)
    lopsided, mirrored = (registrar.Registrar(Lopsided(), passes, each)(fixed, moving) for each in (False, True))
    assert np.abs(lopsided - plain).max() > 0.4
    np.testing.assert_allclose(mirrored, plain, atol=1e-5)


def test_in_two_dimensions_there_are_four_mirror_images():
    class Flat(Shift):
        shape = (8, 8)

        def __call__(self, fixed, moving):
            return np.full((*fixed.shape, 2), [0.5, -0.25], np.float32)

    applied = registrar.Registrar(Flat(), 1, True)
    assert len(applied.mirrors) == 4
    np.testing.assert_allclose(applied(*np.zeros((2, 8, 8, 3), np.float32)), 0, atol=1e-6)


def test_images_are_sampled_as_the_networks_do_it():
    rng = np.random.default_rng(1)
    for shape in ((9, 7), (9, 7, 5)):
        values = rng.random((2, *shape, 3), dtype=np.float32)
        field = rng.normal(0, 4, (2, *shape, len(shape))).astype(np.float32)  # much of it leads beyond the border
        np.testing.assert_allclose(
            registrar.warped(values, field), warp(*map(tf.constant, (values, field))).numpy(), atol=1e-5
        )


def test_a_training_of_a_rule_gives_the_same_bits_again_and_watches_other_anatomies(tmp_path):
    settings = SETTINGS | {"dimensions": 2, "epochs": 2, "steps_per_epoch": 2, "kept_epochs": [1, 2]}
    found = []
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        arguments = training_arguments(tmp_path / name, weight="0", settings=settings)
        train_network.main(**arguments)
        found.append([arrays_of(path) for path in arguments["networks"]])
    for one, other in zip(*found, strict=True):
        assert one.keys() == other.keys()
        assert all(np.array_equal(one[name], other[name]) for name in one)
    assert not np.array_equal(found[0][0]["000"], found[0][1]["000"])
    history = pd.read_csv(tmp_path / "one/history.tsv", sep="\t")
    parts = ["loss", "displacement_error", "penalty"]
    assert list(history.columns) == ["epoch", *parts, *(f"validation_{part}" for part in parts), "seconds"]
    assert (history["displacement_error"] > 0.1).all()  # mm²
