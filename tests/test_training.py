"""What training draws, what it learns and records, how it breaks down, and how a trained network is applied."""

import dataclasses
import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import train_network
from hypothesis import given, settings
from hypothesis import strategies as st

from cohortmorph import UserError
from cohortmorph.learning import losses, objective, task, training
from cohortmorph.learning.applied_network import registrar_of
from cohortmorph.learning.batch import Batch
from cohortmorph.learning.networks import (
    load_parameters,
    save_parameters,
    start_tensorflow,
    tf,
    warp,
)
from cohortmorph.learning.objective import Parts
from cohortmorph.learning.parameters import checksum
from cohortmorph.learning.samples import Image, Samples, crop, pad
from cohortmorph.learning.trainer import Step, Trainer, learning_rate
from cohortmorph.learning.training import Recipe
from cohortmorph.learning.unet import UNet
from cohortmorph.learning.voxelmorph import VOXELMORPH
from cohortmorph.run import files, memory
from cohortmorph.spatial import geometry
from cohortmorph.spatial.geometry import Grid

SETTINGS = {
    "kind": "voxelmorph",
    "dimensions": 2,
    "epochs": 30,
    "steps_per_epoch": 1,
    "batch_size": 4,
    "learning_rate": 0.003,
    "kept_epochs": [10, 30],
    "similarity": {"name": "ncc-squared", "window": 9, "mask": "none"},
    "regularization": {"name": "l2", "convention": "mean", "unit": "voxel", "folding_weight": 0},
    "int_steps": 0,
    "encoder": [8, 8],
    "decoder": [8, 8, 8],
    "field_downsampling": 1,
    "label_weight": 0,
    "label_loss": "dice",
    "incompressible": {"labels": [], "weight": 0},
    "learning_rate_schedule": "constant",
    "augment": {"deformation": 0, "intensity": 0},
    "flips": False,
}


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    start_tensorflow(seed=1, threads=1)


def labelled(image, shape=(8, 8, 5)):
    """An image whose values say whose it is, and which slice: 100 · image + slice (+ a little contrast)."""
    values = np.full(shape, 100.0 * image) + np.arange(shape[2])
    values[0, 0] += 0.25
    return values.astype(np.float32)


def blobs(seed, shift_voxels=(0, 0), shape=(32, 32, 6)):
    """Smooth spots in [0, 1] that are somewhere else in each slice; `shift_voxels` moves them all."""
    rng = np.random.default_rng(seed)
    i, j = np.meshgrid(np.arange(shape[0]), np.arange(shape[1]), indexing="ij")
    image = np.zeros(shape)
    for k in range(shape[2]):
        for _ in range(6):
            centre = rng.uniform(8, 24, 2) + shift_voxels
            image[..., k] += rng.uniform(0.3, 1) * np.exp(-((i - centre[0]) ** 2 + (j - centre[1]) ** 2) / 18)
    return (image / image.max()).astype(np.float32)


# Of the kind voxelmorph, in this order: what was written by other versions stays readable.
HISTORY = (
    *("epoch", "loss", "similarity", "penalty", "label_loss", "folding_penalty", "incompressibility"),
    *("validation_loss", "validation_similarity", "validation_penalty", "validation_folding_penalty", "seconds"),
)

SIMPLE = SETTINGS | {"epochs": 5, "similarity": {"name": "mse", "mask": "none"}}


def pairs_of(pairs, labels=None):
    """Entries of Samples: pairs of arrays as images, with pairs of label maps."""
    maps = labels or [(None, None)] * len(pairs)
    return [tuple(Image(v, labels=m) for v, m in zip(*each, strict=True)) for each in zip(pairs, maps, strict=True)]


def small_samples():
    images = [blobs(seed, shape=(16, 16, 4)) for seed in (1, 2, 3, 4)]
    return Samples(pairs_of([(images[0], images[1]), (images[2], images[3])]), 2, 4)


def trainer_of(shape=(16, 16), label_numbers=(), **changes):
    settings = SIMPLE | changes
    return Trainer(UNet(shape, settings), VOXELMORPH.objective(settings, label_numbers), settings)


def recipe_of(settings, weight=1.0, seed=1, kind=VOXELMORPH):
    return Recipe("mine", kind, [weight], settings, seed)


def batch_of(fixed, moving, fixed_labels=None, moving_labels=None):
    """A batch of voxels of 1 mm."""
    spacing_mm = np.ones((len(fixed), len(fixed.shape) - 2), np.float32)
    return Batch(fixed, moving, spacing_mm, fixed_labels, moving_labels)


def step_of(trainer, *arrays, weight=1.0, **options):
    return trainer.step(batch_of(*arrays), tf.constant(weight), **options)


# ---- samples


@given(st.data())
@settings(max_examples=50, deadline=None)
def test_cropping_undoes_padding(data):
    dimensions = data.draw(st.sampled_from([2, 3]))
    shape = data.draw(st.lists(st.integers(1, 9), min_size=dimensions, max_size=dimensions))
    more = data.draw(st.lists(st.integers(0, 7), min_size=dimensions, max_size=dimensions))
    array = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    padded = pad(array, np.add(shape, more))
    assert padded.shape == tuple(np.add(shape, more))
    np.testing.assert_array_equal(crop(padded, shape), array)
    assert padded.sum(dtype=float) == pytest.approx(array.sum(dtype=float), abs=1e-4)
    # The components of a displacement follow as one more axis, that cropping leaves alone.
    np.testing.assert_array_equal(crop(np.stack([padded] * 5, axis=-1), shape)[..., 4], array)


def test_sides_are_padded_evenly_to_the_multiple():
    samples = Samples(pairs_of([(np.ones((20, 16, 10)), np.ones((20, 16, 10)))]), 3, 16)
    assert samples.shape == (32, 16, 16)
    assert samples.fixed.shape == (1, 32, 16, 16) and samples.fixed.dtype == np.float32
    np.testing.assert_array_equal(crop(samples.fixed[0], (20, 16, 10)), 1)
    assert samples.fixed.sum() == 20 * 16 * 10


def test_in_two_dimensions_the_slices_are_samples_and_their_number_stays():
    samples = Samples(pairs_of([(labelled(1, (20, 30, 5)), labelled(2, (20, 30, 5)))]), 2, 16)
    assert samples.shape == (32, 32) and len(samples) == 5
    np.testing.assert_array_equal(samples.fixed[:, 16, 16], 100 + np.arange(5))
    np.testing.assert_array_equal(samples.moving[:, 16, 16], 200 + np.arange(5))


def test_pairs_of_different_size_are_padded_to_the_largest():
    pairs = [(labelled(n, shape), labelled(n + 1, shape)) for n, shape in ((1, (8, 8, 5)), (3, (14, 6, 3)))]
    samples = Samples(pairs_of(pairs), 2, 4)
    assert samples.shape == (16, 8) and len(samples) == 5 + 3
    assert sorted(samples.fixed.max(axis=(1, 2))) == [n + 0.25 for n in (100, 101, 102, 103, 104, 300, 301, 302)]


def test_a_size_asked_for_is_reached():
    samples = Samples(pairs_of([(labelled(1), labelled(2))]), 2, 4, at_least=(13, 4, 2))
    assert samples.shape == (16, 8) and len(samples) == 5


def test_a_drawn_pair_belongs_together():
    pairs = [(labelled(10 + n), labelled(20 + n)) for n in range(3)]
    samples = Samples(pairs_of(pairs), 2, 8)
    fixed, moving, *_ = samples.draw(np.random.default_rng(1), 12)
    assert fixed.shape == moving.shape == (12, 8, 8, 1)
    np.testing.assert_array_equal(moving - fixed, 1000)
    assert len(np.unique(fixed[:, 4, 4])) == 12  # none twice, as long as there are enough
    assert samples.draw(np.random.default_rng(1), 40).number == 40


@pytest.mark.parametrize("dimensions", [2, 3])
def test_flips_mirror_all_arrays_of_a_sample_alike_along_the_axes_of_the_images(dimensions):
    def ramp(image):
        return 100.0 * image + np.arange(8 * 8 * 8).reshape(8, 8, 8)

    entries = pairs_of([(ramp(1), ramp(2))], [(ramp(0) % 7, ramp(0) % 7)])
    samples = Samples(entries, dimensions, 8, flips=True)
    plain = Samples(entries, dimensions, 8)
    seen = set()
    for seed in range(60):
        fixed, moving, _, fixed_labels, moving_labels, *_ = samples.draw(np.random.default_rng(seed), 1)
        expected = plain.draw(np.random.default_rng(seed), 1)[0][0, ..., 0]
        np.testing.assert_array_equal(moving - fixed, np.full_like(fixed, 100))
        np.testing.assert_array_equal(fixed_labels, moving_labels)
        as_label = (fixed[..., 0] - 100) % 7
        np.testing.assert_array_equal(np.argmax(fixed_labels, axis=-1)[as_label > 0] + 1, as_label[as_label > 0])
        every = [axes for n in range(dimensions + 1) for axes in itertools.combinations(range(dimensions), n)]
        seen.add(next(axes for axes in every if np.array_equal(np.flip(expected, axes), fixed[0, ..., 0])))
    assert seen == set(every)


@pytest.mark.parametrize("dimensions", [2, 3])
def test_masks_and_spacing_are_drawn_with_their_images_and_padding_does_not_count(dimensions):
    """The mask is where the image is above its middle, of any number but 0."""
    grids = [((6, 8, 4), (1.0, 2.0, 3.0)), ((8, 5, 4), (0.5, 0.7, 5.0))]
    entries, rng = [], np.random.default_rng(1)
    for shape, spacing_mm in grids:
        values = [1 + rng.random(shape).astype("f4") for _ in range(2)]
        entries.append(tuple(Image(v, spacing_mm, mask=7.0 * (v > 1.5)) for v in values))
    samples = Samples(entries, dimensions, 8, flips=True)
    np.testing.assert_array_equal(np.unique(samples.spacing_mm[:, 0]), [0.5, 1])
    for batch in (samples.draw(np.random.default_rng(2), 12), *samples.probe(12, 5)):
        np.testing.assert_array_equal(batch.fixed_mask, batch.fixed > 1.5)
        np.testing.assert_array_equal(batch.moving_mask, batch.moving > 1.5)
        assert batch.fixed_mask.dtype == np.float32 and 0.1 < batch.fixed_mask.mean() < 0.5
        assert (batch.fixed_labels, batch.moving_labels, batch.displacement_mm) == (None, None, None)
        voxels = np.count_nonzero(batch.fixed, axis=tuple(range(1, dimensions + 2)))
        expected = [grids[int(n == np.prod(grids[1][0][:dimensions]))][1][:dimensions] for n in voxels]
        np.testing.assert_array_equal(batch.spacing_mm, np.float32(expected))


@pytest.mark.parametrize("dimensions", [2, 3])
def test_of_any_two_images_each_has_its_own_mask(dimensions):
    images = [Image(values, (1, 2, 3), mask=values % 2) for values in (labelled(n, (8, 8, 8)) // 1 for n in range(3))]
    batch = Samples(images, dimensions, 8).draw(np.random.default_rng(1), 20)
    np.testing.assert_array_equal(batch.fixed_mask, batch.fixed % 2)
    np.testing.assert_array_equal(batch.moving_mask, batch.moving % 2)
    np.testing.assert_array_equal(batch.spacing_mm, np.tile(np.float32([1, 2, 3][:dimensions]), (20, 1)))


def test_masks_of_some_images_only_are_an_error():
    with pytest.raises(ValueError, match="1 of 2 images lack what the others have"):
        Samples([(Image(labelled(1), mask=labelled(1)), Image(labelled(2)))], 2, 8)


def test_slices_that_are_dropped_take_their_masks_and_spacing_along():
    fixed, moving = labelled(1), labelled(2)
    fixed[:, :, 0] = 0
    samples = Samples([tuple(Image(v, mask=v) for v in (fixed, moving))], 2, 8)
    assert [len(samples.spacing_mm), len(samples.fixed_mask), len(samples.moving_mask)] == [4] * 3


def test_labels_pull_the_field_where_the_images_say_nothing():
    """Flat images and two label maps that lie apart: only the labels can lower the loss, and they do."""
    i, j = np.meshgrid(np.arange(16), np.arange(16), indexing="ij")
    square = [((np.abs(i - centre) < 4) & (np.abs(j - 8) < 4))[None, ..., None].astype("f4") for centre in (7, 9)]
    image = np.random.default_rng(1).random((1, 16, 16, 1)).astype("f4") * 1e-6
    trainer = trainer_of(learning_rate=3e-3, label_weight=1.0)
    first, *_, last = [step_of(trainer, image, image, *square, weight=0.001).parts for _ in range(60)]
    assert first.label_loss == pytest.approx(1 - 5 / 7, abs=0.02)  # two of seven rows lie apart
    assert last.label_loss < 0.5 * first.label_loss
    assert last.loss == pytest.approx(last.similarity + 0.001 * last.penalty + last.label_loss, rel=1e-4)


def test_augmented_steps_are_seeded_and_see_other_images():
    image = np.random.default_rng(1).random((1, 16, 16, 1)).astype("f4")

    def first_step(seed, **augment):
        start_tensorflow(seed=1, threads=1)
        trainer = trainer_of(label_weight=1.0, augment={"deformation": 1, "intensity": 1} | augment)
        return step_of(trainer, *[image] * 4, weight=0.001, seed=tf.constant([seed, 0]))

    plain = first_step(1, deformation=0, intensity=0)
    assert plain.parts.similarity == pytest.approx(0, abs=1e-6)  # mean squared difference of an image and itself
    assert first_step(1).parts.similarity > 1e-3  # each is varied by itself
    assert first_step(1) == first_step(1)
    assert first_step(1).parts.similarity != first_step(2).parts.similarity


def test_augmented_masks_stay_whole_and_follow_their_images():
    trainer = trainer_of(augment={"deformation": 1, "intensity": 0})
    image = np.repeat(blobs(1, shape=(16, 16, 1)).transpose(2, 0, 1)[..., None], 4, axis=0)
    mask = np.zeros_like(image)
    mask[:, 4:12, 4:12] = 1
    given = batch_of(mask, mask)._replace(fixed_mask=mask, moving_mask=mask)
    varied = trainer._varied(given.each(tf.constant), tf.constant([1, 2]))
    assert varied.fixed_labels is None and varied.displacement_mm is None
    for bent, counts in ((varied.fixed, varied.fixed_mask), (varied.moving, varied.moving_mask)):
        np.testing.assert_array_equal(counts, np.array(bent) > 0.999)
        assert np.abs(counts - mask).max() == 1 and 0.1 < np.mean(counts) < 0.4
    np.testing.assert_array_equal(varied.spacing_mm, given.spacing_mm)
    known = given._replace(displacement_mm=np.zeros((4, 16, 16, 2), "f4"))
    with pytest.raises(ValueError, match="images with a known displacement cannot be bent at random"):
        trainer.step(known, tf.constant(1.0), tf.constant([1, 2]))


def test_the_learning_rate_rises_and_falls_to_a_hundredth():
    settings = SIMPLE | {"epochs": 100, "steps_per_epoch": 10, "learning_rate": 0.01}
    assert learning_rate(settings) == 0.01
    rate = learning_rate(settings | {"learning_rate_schedule": "cosine"})
    rates = [float(rate(step)) for step in (0, 50, 100, 550, 1000)]
    np.testing.assert_allclose(rates, [0, 0.005, 0.01, 0.01 * (0.01 + 0.99 / 2), 0.0001], rtol=1e-3)


def test_the_label_loss_is_the_one_that_the_settings_name():
    rng = np.random.default_rng(1)
    images = [rng.random((1, 16, 16, 1)).astype("f4") for _ in range(2)]
    maps = [(rng.random((1, 16, 16, 2)) > 0.5).astype("f4") / 2 for _ in range(2)]
    for name in ("dice-voxelwise", "cross-entropy"):
        trainer = trainer_of(label_weight=1.0, label_loss=name)
        # A new network moves next to nothing; Dice is half of these.
        still = float(losses.LABEL_LOSSES[name](*maps)[0])
        assert step_of(trainer, *images, *maps).parts.label_loss == pytest.approx(still, abs=0.02)


def test_incompressible_structures_and_folding_are_parts_of_the_loss_with_weights_of_their_own():
    """A square that would grow: where it must keep its volume, the network learns to leave it more as it is."""
    i, j = np.meshgrid(np.arange(16), np.arange(16), indexing="ij")
    small, large = ((np.abs(i - 8) < half) & (np.abs(j - 8) < half) for half in (4, 6))
    fixed, moving = (
        np.array(square, "f4")[None, ..., None] * np.random.default_rng(1).random((16, 16, 1)).astype("f4")
        for square in (small, large)
    )
    structures = np.stack([~small, small], axis=-1)[None].astype("f4")
    parts = {}
    for weight in (0, 1.0):
        tf.keras.utils.set_random_seed(1)
        volume = {"labels": [7], "weight": weight}
        folding = SETTINGS["regularization"] | {"folding_weight": 0.5}
        changes = {"learning_rate": 3e-3, "incompressible": volume, "regularization": folding}
        trainer = trainer_of(label_numbers=[3, 7], **changes)
        batch = fixed, moving, structures, structures
        found = parts[weight] = [step_of(trainer, *batch, weight=0.01).parts for _ in range(40)][-1]
        others = 0.5 * found.folding_penalty + weight * found.incompressibility
        assert found.loss == pytest.approx(found.similarity + 0.01 * found.penalty + others, rel=1e-4)
        assert found.label_loss == 0  # label_weight is 0
        displacement = trainer.network.displacement(trainer.network.model([moving, fixed]))
        by_hand = float(losses.incompressibility(displacement, structures[..., 1:])[0])
        if weight:
            assert found.incompressibility == pytest.approx(by_hand, rel=0.3, abs=0.01)  # of one step before
        else:
            assert found.incompressibility == 0 and by_hand > 0.02
            free = by_hand
    assert parts[1.0].incompressibility < 0.5 * free


def test_a_label_that_no_training_image_has_cannot_be_incompressible(tmp_path):
    maps = [(np.arange(16 * 16 * 4).reshape(16, 16, 4) % 3).astype("f4") for _ in range(2)]
    images = (blobs(1, shape=(16, 16, 4)), blobs(2, shape=(16, 16, 4)))
    samples = Samples(pairs_of([images], [tuple(maps)]), 2, 4)
    settings = SIMPLE | {"incompressible": {"labels": [2, 5], "weight": 1.0}}
    said = (
        r"^networks\.mine\.incompressible\.labels: no train image has label 5; their maps, on the network's grid, "
        r"hold 1, 2"
    )
    with pytest.raises(UserError, match=said):
        training.train(recipe_of(settings), samples, small_samples(), {}, tmp_path)


def test_a_gradient_far_too_long_does_not_throw_the_network_away():
    trainer = trainer_of(learning_rate=1e-4)
    rng = np.random.default_rng(1)
    images = [tf.constant(rng.random((2, 16, 16, 1)), tf.float32) for _ in range(2)]
    trainer.network.parameters[-2].assign(rng.normal(size=trainer.network.parameters[-2].shape) * 1e-2)
    assert step_of(trainer, *images, weight=1e9).gradient_norm > 1e3
    moments = [variable.numpy() for variable in trainer.optimizer.variables if "/m/" in variable.name.lower()]
    assert moments
    assert np.sqrt(sum((moment**2).sum() for moment in moments)) <= 0.1001  # (1 − β₁) times the longest allowed


def test_every_slice_is_drawn_as_often_as_any_other_and_a_batch_spreads_over_all():
    samples = Samples(pairs_of([(labelled(1, (8, 8, 20)), labelled(2, (8, 8, 20)))]), 2, 8)
    rng = np.random.default_rng(1)
    batches = np.array([samples.draw(rng, 4)[0][:, 4, 4, 0] - 100 for _ in range(1000)]).astype(int)
    times = np.bincount(batches.ravel(), minlength=20)
    assert times.min() > 150 and times.max() < 250  # 200 are expected, with a standard deviation of 13
    assert {tuple(batch // 5) for batch in np.sort(batches)} == {(0, 1, 2, 3)}


def test_slices_without_content_in_either_image_are_dropped():
    fixed, moving = labelled(1), labelled(2)
    fixed[:, :, 0] = moving[:, :, 3] = 0
    samples = Samples(pairs_of([(fixed, moving)]), 2, 8)
    np.testing.assert_array_equal(samples.fixed[:, 4, 4], [101, 102, 104])
    np.testing.assert_array_equal(samples.moving[:, 4, 4], [201, 202, 204])


def test_pairs_without_any_common_slice_are_the_user_s_mistake():
    with pytest.raises(UserError, match="no slice has content in both images"):
        Samples(pairs_of([(np.zeros((8, 8, 5)), labelled(2))]), 2, 8)


@pytest.mark.parametrize("dimensions", [2, 3])
def test_any_two_never_pairs_an_image_with_itself(dimensions):
    samples = Samples([Image(labelled(n, (8, 8, 8))) for n in range(3)], dimensions, 8)
    batch = samples.draw(np.random.default_rng(1), 300)
    fixed, moving = (images.reshape(300, -1)[:, 12].astype(int) for images in batch[:2])
    pairs = set(zip(fixed // 100, moving // 100, strict=True))
    assert pairs == {(0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1)}
    np.testing.assert_array_equal(fixed % 100, moving % 100)  # the same slice of both
    if dimensions == 2:
        assert set(fixed % 100) == set(range(8))


def test_memory_of_any_two_grows_with_the_images_and_not_with_their_pairs():
    sizes = {}
    for number in (4, 8):
        samples = Samples([Image(labelled(n, (8, 8, 8))) for n in range(number)], 3, 8)
        assert len(samples) == number
        assert samples.fixed is samples.moving
        sizes[number] = samples.fixed.nbytes
    assert sizes[8] == 2 * sizes[4] == 8 * 8**3 * 4


def test_nothing_to_draw_from_is_an_error():
    with pytest.raises(ValueError, match="nothing to draw from"):
        Samples([], 2, 8)


def test_the_probe_holds_all_samples_where_they_are_few():
    samples = Samples(pairs_of([(labelled(1), labelled(2))]), 2, 8)
    batches = samples.probe(16, batch_size=2)
    assert [batch.number for batch in batches] == [2, 2, 1]
    assert batches[0].fixed.shape == batches[0].moving.shape == (2, 8, 8, 1)
    np.testing.assert_array_equal(np.concatenate([batch.fixed for batch in batches])[:, 4, 4, 0], 100 + np.arange(5))
    np.testing.assert_array_equal(np.concatenate([batch.moving for batch in batches])[:, 4, 4, 0], 200 + np.arange(5))


def test_the_probe_of_many_samples_is_evenly_spread():
    samples = Samples(pairs_of([(labelled(1, (8, 8, 40)), labelled(2, (8, 8, 40)))]), 2, 8)
    ((fixed, moving, *_),) = samples.probe(4, batch_size=8)
    np.testing.assert_array_equal(fixed[:, 4, 4, 0], [105, 115, 125, 135])
    np.testing.assert_array_equal(moving[:, 4, 4, 0], [205, 215, 225, 235])


# ---- the loop, without a network


class NoNetwork:
    """Stands in for Trainer: steps cost nothing, and the loss says how many there were."""

    def __init__(self, network, objective, settings):
        self.network, self.objective = network, objective
        self.seen = []

    def memory_mb(self, batch_size):
        return 0

    def step(self, batch, weights, seed):
        assert float(weights) == 1 and seed is None
        self.seen.append(batch)
        self.network.parameters[0].assign_add([1.0])
        return Step(Parts(*np.float32([3, 1, 2, 4, 5, 6]) * len(self.seen)), 1.0)

    def evaluate(self, batch, weights):
        # Larger samples count more, and an average over batches of different size must not forget it.
        return Parts(*np.float32([1, 2, 3, 0, 4, 0]) * np.mean(batch.fixed[:, 4, 4]))


class OneNumber(UNet):
    """A network that takes no time to be built."""

    parameters = None

    def __init__(self, shape, settings):
        self.parameters = [tf.Variable([0.0])]


@pytest.fixture
def stub(monkeypatch):
    """Replace the Trainer; the list holds those that were made."""
    made = []

    def make(*arguments):
        made.append(NoNetwork(*arguments))
        return made[-1]

    monkeypatch.setattr(training, "Trainer", make)
    return made


def run_stub(stub, tmp_path, seed=1, kept=(), **changes):
    samples = Samples(pairs_of([(labelled(n), labelled(n + 1)) for n in range(1, 9)]), 2, 8)
    watched = Samples(pairs_of([(labelled(1), labelled(2))]), 2, 8)
    paths = {epoch: tmp_path / f"epoch-{epoch}.npz" for epoch in kept}
    kind = dataclasses.replace(VOXELMORPH, network=OneNumber)
    recipe = recipe_of(SETTINGS | {"batch_size": 3} | changes, seed=seed, kind=kind)
    history = training.train(recipe, samples, watched, paths, tmp_path)
    return history, [batch.fixed[:, 4, 4, 0].tolist() for batch in stub[-1].seen]


def test_the_history_so_far_can_be_watched(stub, tmp_path, monkeypatch):
    epochs_told = []
    written = training.write_table

    def spy(table, path):
        written(table, path)
        epochs_told.append(len(pd.read_csv(tmp_path / training.LIVE_HISTORY, sep="\t")))

    monkeypatch.setattr(training, "write_table", spy)
    monkeypatch.setattr(training, "LIVE_SECONDS", -1)
    history, _ = run_stub(stub, tmp_path, epochs=3)
    assert epochs_told == [1, 2, 3]
    live = pd.read_csv(tmp_path / training.LIVE_HISTORY, sep="\t")
    pd.testing.assert_frame_equal(live, history, check_dtype=False)
    # Not at every epoch of a fast training, but always at its end.
    monkeypatch.setattr(training, "LIVE_SECONDS", 1e9)
    run_stub(stub, tmp_path, epochs=5)
    assert epochs_told[3:] == [1, 5]


def test_draws_are_determined_by_seed_and_epoch(stub, tmp_path):
    _, drawn = run_stub(stub, tmp_path, epochs=5)
    _, again = run_stub(stub, tmp_path, epochs=5)
    _, two_steps = run_stub(stub, tmp_path, epochs=5, steps_per_epoch=2)
    _, other_seed = run_stub(stub, tmp_path, epochs=5, seed=2)
    assert drawn == again
    # The first step of an epoch draws the same, whatever came before: an epoch can be repeated by itself.
    assert two_steps[0::2] == drawn
    assert drawn != other_seed
    assert len(set(map(tuple, drawn))) > 1


def test_every_epoch_has_a_row_with_means_over_its_steps(stub, tmp_path):
    history, _ = run_stub(stub, tmp_path, epochs=4, steps_per_epoch=2)
    assert tuple(history.columns) == HISTORY
    assert history["epoch"].tolist() == [1, 2, 3, 4]
    assert history["loss"].tolist() == [4.5, 10.5, 16.5, 22.5]
    assert history["similarity"].tolist() == [1.5, 3.5, 5.5, 7.5]
    assert history["penalty"].tolist() == [3, 7, 11, 15]
    assert history["label_loss"].tolist() == [6, 14, 22, 30]
    assert history["folding_penalty"].tolist() == [7.5, 17.5, 27.5, 37.5]
    assert history["incompressibility"].tolist() == [9, 21, 33, 45]
    assert (history["seconds"] >= 0).all()


def test_validation_is_a_mean_over_the_same_samples_at_every_epoch(stub, tmp_path):
    history, _ = run_stub(stub, tmp_path, epochs=6)
    # Slices 100 … 104, in batches of 3 and 2.
    np.testing.assert_allclose(history["validation_loss"], 102, rtol=1e-6)
    np.testing.assert_allclose(history["validation_similarity"], 204, rtol=1e-6)
    np.testing.assert_allclose(history["validation_penalty"], 306, rtol=1e-6)
    np.testing.assert_allclose(history["validation_folding_penalty"], 408, rtol=1e-6)


def test_long_trainings_are_watched_twenty_times_and_where_networks_are_kept(stub, tmp_path):
    history, _ = run_stub(stub, tmp_path, epochs=45, kept=[3, 45])
    watched = [*range(2, 45, 2), 3, 45]
    assert history["epoch"][history["validation_loss"].notna()].tolist() == sorted(watched)
    assert history["loss"].notna().all()
    resumed = pd.read_csv(tmp_path / training.LIVE_HISTORY, sep="\t")
    assert resumed["validation_loss"].notna().tolist() == history["validation_loss"].notna().tolist()


def test_parameters_are_kept_after_their_epoch(stub, tmp_path):
    run_stub(stub, tmp_path, epochs=6, steps_per_epoch=2, kept=[2, 6])
    for epoch in (2, 6):
        with np.load(tmp_path / f"epoch-{epoch}.npz", allow_pickle=False) as arrays:
            assert arrays["000"].tolist() == [2.0 * epoch]
    assert not (tmp_path / training.RESCUE).exists()


# ---- a small training, twice

WORK = """
import json, sys
import train_network
train_network.main(**json.load(open(sys.argv[1])))
"""


def training_arguments(folder, validation_seed=9, weight="0.5", settings=SETTINGS):
    """Write small images: three training pairs, and a validation pair on a larger grid of its own."""
    grid = Grid((32, 32, 6), (1.0, 1.0, 2.0), (-16.0, -16.0, 0.0))
    wide = Grid((37, 33, 5), (1.0, 1.0, 2.0), (-16.0, -16.0, 0.0))

    def write(name, array, on):
        geometry.write_image(geometry.to_image(array, on), folder / name)
        return str(folder / name)

    pairs = [
        (write(f"fixed-{n}.nii.gz", blobs(n), grid), write(f"moving-{n}.nii.gz", blobs(n, (2, -1)), grid))
        for n in range(3)
    ]
    validation = (
        write("fixed-validation.nii.gz", blobs(validation_seed, shape=wide.size), wide),
        write("moving-validation.nii.gz", blobs(validation_seed, (2, -1), wide.size), wide),
    )
    return {
        "training": {
            "network": "mine",
            "weight": weight,
            "training_inputs": pairs,
            "training_labels": [],
            "training_masks": [],
            "validation_inputs": [validation],
            "validation_masks": [],
            "settings": settings,
            "seed": 7,
            "threads": 1,
        },
        "history": str(folder / "history.tsv"),
        "networks": [str(folder / f"epoch-{epoch}.npz") for epoch in settings["kept_epochs"]],
        "report": str(folder / "training.json"),
    }


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory):
    """The folder of the same training in another process, which validates on other images, and that process."""
    folder = tmp_path_factory.mktemp("elsewhere")
    (folder / "arguments.json").write_text(json.dumps(training_arguments(folder, validation_seed=10)))
    environment = os.environ | {"PYTHONPATH": str(Path(train_network.__file__).parent)}
    with (folder / "output.txt").open("w") as output:
        command = [sys.executable, "-c", WORK, str(folder / "arguments.json")]
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT)
    yield folder, process
    process.kill()
    process.wait()


@pytest.fixture(scope="module")
def trained(tmp_path_factory, elsewhere):
    """The folder of a training in this process, and its arguments; `elsewhere` starts first and runs beside it."""
    folder = tmp_path_factory.mktemp("trained")
    arguments = training_arguments(folder)
    train_network.main(**arguments)
    return folder, arguments


def arrays_of(path):
    with np.load(path, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


def test_training_lowers_the_loss_and_raises_the_likeness_of_unseen_images(trained):
    folder, _ = trained
    history = pd.read_csv(folder / "history.tsv", sep="\t")
    assert tuple(history.columns) == HISTORY
    assert history["epoch"].tolist() == list(range(1, 31))
    first, last = history.iloc[:5].mean(), history.iloc[-5:].mean()
    print(
        f"loss {first['loss']:.3f} to {last['loss']:.3f}, validation {first['validation_loss']:.3f} to "
        f"{last['validation_loss']:.3f}"
    )
    assert last["loss"] < first["loss"] - 0.05
    assert last["validation_similarity"] < first["validation_similarity"] - 0.02
    np.testing.assert_allclose(history["loss"], history["similarity"] + 0.5 * history["penalty"], atol=1e-5)
    assert (history["similarity"] < 0).all() and (history["penalty"] > 0).all()


def test_training_json_says_how_it_was_done(trained):
    folder, _ = trained
    facts = files.read_json(folder / "training.json")
    assert facts["shape"] == [40, 36]  # the validation images are larger, and share the network
    assert (facts["samples"], facts["validation_samples"]) == (18, 5)
    assert (facts["network"], facts["weight"], facts["settings"]) == ("mine", "0.5", SETTINGS)
    assert facts["settings"]["kind"] == "voxelmorph" and (facts["seed"], facts["threads"]) == (7, 1)
    assert set(facts["sha256"]) == {"10", "30"}
    assert facts["sha256"]["30"] == checksum(folder / "epoch-30.npz") != facts["sha256"]["10"]


def test_kept_parameters_give_the_loss_of_their_epoch(trained):
    """The parameters on disk, and the loss written out step by step, reproduce history.tsv."""
    folder, arguments = trained
    history = pd.read_csv(folder / "history.tsv", sep="\t").set_index("epoch")
    pairs = task.read(arguments["training"]["validation_inputs"])
    samples = Samples(pairs, 2, 4, at_least=(40, 36, 6))
    network = UNet((40, 36), SETTINGS)
    for epoch in SETTINGS["kept_epochs"]:
        load_parameters(network, folder / f"epoch-{epoch}.npz")
        field = network.model([samples.moving[..., None], samples.fixed[..., None]])
        moved = warp(tf.constant(samples.moving[..., None]), network.displacement(field))
        likeness = float(np.mean(losses.ncc_squared(samples.fixed[..., None], moved, 9)))
        penalty = float(np.mean(losses.gradient_penalty(field, "mean")))
        row = history.loc[epoch]
        assert row["validation_similarity"] == pytest.approx(likeness, abs=1e-4)
        assert row["validation_penalty"] == pytest.approx(penalty, abs=1e-4)
        assert row["validation_loss"] == pytest.approx(likeness + 0.5 * penalty, abs=1e-4)


def test_a_step_and_a_validation_see_the_same_loss_and_the_step_lowers_it():
    """Of a network whose answer depends on which image is which."""
    trainer, weights = trainer_of(learning_rate=1e-4), tf.constant(0.01)
    rng = np.random.default_rng(4)
    for variable in trainer.network.parameters:
        variable.assign(rng.normal(0, 0.2, variable.shape))
    batch = small_samples().draw(rng, 4)
    before = trainer.evaluate(batch, weights)
    np.testing.assert_allclose(trainer.step(batch, weights).parts[:3], before[:3], rtol=1e-4)
    assert before.loss == pytest.approx(before.similarity + 0.01 * before.penalty, rel=1e-5)
    assert trainer.evaluate(batch, weights).loss < before.loss
    swapped = batch._replace(fixed=batch.moving, moving=batch.fixed)
    assert np.abs(trainer.evaluate(swapped, weights).loss - before.loss) > 0.01 * abs(before.loss)


def test_pairs_of_any_two_images_are_trained_as_well(tmp_path):
    small = SIMPLE | {"epochs": 2, "kept_epochs": [2], "int_steps": 1}
    small["regularization"] = SETTINGS["regularization"] | {"convention": "sum"}
    arguments = training_arguments(tmp_path, settings=small)
    pairs = arguments["training"]["training_inputs"]
    arguments["training"]["training_inputs"] = [path for pair in pairs for path in pair]
    train_network.main(**arguments)
    assert files.read_json(tmp_path / "training.json")["samples"] == 6
    history = pd.read_csv(tmp_path / "history.tsv", sep="\t")
    np.testing.assert_allclose(history["loss"], history["similarity"] + 0.5 * history["penalty"], atol=1e-5)


@pytest.mark.parametrize("any_two", [False, True], ids=["pairs", "any two"])
def test_a_training_in_masks_counts_likeness_there_alone(tmp_path, any_two):
    """Of the untrained network, which moves nothing: the first epoch's likeness is the images' own in the masks."""
    small = SIMPLE | {"epochs": 1, "kept_epochs": [1], "similarity": {"name": "mse", "mask": "fixed"}, "batch_size": 18}
    small["learning_rate"] = 1e-9
    arguments = training_arguments(tmp_path, settings=small)

    def masked(path):
        """Write a mask in which the images differ by 0.5, after adding that to the image, and by little else."""
        found = geometry.read_image(path)
        values, mask = geometry.to_array(found), np.zeros(found.GetSize(), "f4")
        mask[10:20, 10:20] = 1
        values[:] = 0.25 + 0.001 * values
        values[10:20, 10:20] += 0.5 * (("moving-1" if any_two else "moving") in path)
        new = path.replace(".nii.gz", "_mask.nii.gz")
        for array, file in ((mask, new), (values, path)):
            geometry.write_image(geometry.to_image(array, Grid.of(found)), file)
        return new

    inputs = arguments["training"]
    inputs["validation_masks"] = [tuple(map(masked, pair)) for pair in inputs["validation_inputs"]]
    if any_two:
        inputs["training_inputs"] = [moving for _, moving in inputs["training_inputs"]]
        inputs["training_masks"] = [masked(path) for path in inputs["training_inputs"]]
    else:
        inputs["training_masks"] = [tuple(map(masked, pair)) for pair in inputs["training_inputs"]]
    train_network.main(**arguments)
    row = pd.read_csv(tmp_path / "history.tsv", sep="\t").iloc[0]
    if any_two:  # of three images, one is brighter
        assert 0.0625 < row["similarity"] < 0.25
    else:
        assert row["similarity"] == pytest.approx(0.25, rel=0.01)
        assert row["validation_similarity"] == pytest.approx(0.25, rel=0.01)


def test_another_process_trains_the_same_bits_whatever_it_validates_on(trained, elsewhere):
    (folder, _), (other, process) = trained, elsewhere
    assert process.wait(timeout=300) == 0, (other / "output.txt").read_text()
    for epoch in SETTINGS["kept_epochs"]:
        here, there = (arrays_of(place / f"epoch-{epoch}.npz") for place in (folder, other))
        assert here.keys() == there.keys()
        for name, array in here.items():
            np.testing.assert_array_equal(array, there[name])
    here, there = (pd.read_csv(place / "history.tsv", sep="\t") for place in (folder, other))
    columns = ["epoch", "loss", "similarity", "penalty"]
    pd.testing.assert_frame_equal(here[columns], there[columns], check_exact=True)
    assert (here["validation_loss"] != there["validation_loss"]).all()


# ---- breakdown


def poisoned(samples, epoch, step, steps_per_epoch):
    """Samples whose draw holds one NaN at that step."""
    draw, drawn = samples.draw, []

    def draw_and_poison(rng, number):
        drawn.append(number)
        batch = draw(rng, number)
        if len(drawn) == (epoch - 1) * steps_per_epoch + step:
            batch.moving[0, 3, 3] = np.nan
        return batch

    samples.draw = draw_and_poison
    return samples


def test_a_loss_that_is_no_number_names_epoch_and_step_and_leaves_the_last_good_parameters(tmp_path):
    broken = poisoned(small_samples(), epoch=3, step=2, steps_per_epoch=2)
    two_steps = SIMPLE | {"steps_per_epoch": 2}
    kept, rescue = {2: tmp_path / "epoch-2.npz"}, tmp_path / "last-good-parameters.npz"
    said = (
        r"training mine with λ = 2 broke down at epoch 3, step 2: loss nan .*epoch 2 are in .*last-good-parameters\.npz"
    )
    with pytest.raises(UserError, match=said):
        training.train(recipe_of(two_steps, weight=2.0), broken, small_samples(), kept, tmp_path)
    network = UNet((16, 16), two_steps)
    load_parameters(network, rescue)
    for name, array in arrays_of(tmp_path / "epoch-2.npz").items():
        np.testing.assert_array_equal(arrays_of(rescue)[name], array)


def test_a_learning_rate_that_explodes_is_named(tmp_path):
    too_fast = SIMPLE | {"learning_rate": 1e30}
    with pytest.raises(UserError, match=r"broke down at epoch \d, step 1: loss .*Lower networks\.mine\.learning_rate"):
        training.train(recipe_of(too_fast), small_samples(), small_samples(), {}, tmp_path)
    assert all(np.isfinite(array).all() for array in arrays_of(tmp_path / training.RESCUE).values())


def test_a_gradient_that_is_no_number_is_found_before_it_spoils_the_network(tmp_path, monkeypatch):
    """√0 is a number, its derivative is none: the loss looks well while the parameters are lost."""

    def rootless(settings, alone):
        return lambda fixed, moved, counts: tf.reduce_mean((fixed - moved) ** 2) + tf.sqrt(0.0 * tf.reduce_sum(moved))

    monkeypatch.setattr(objective, "similarity", rootless)
    with pytest.raises(UserError, match=r"epoch 1, step 1: loss 0\.\d+ .*size of the gradient nan.*of epoch 0 are in"):
        training.train(recipe_of(SIMPLE), small_samples(), small_samples(), {}, tmp_path)
    assert all(np.isfinite(array).all() for array in arrays_of(tmp_path / training.RESCUE).values())


# ---- memory


def test_a_step_that_does_not_fit_into_memory_is_refused_before_it_is_made(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "left_mb", lambda: (5.0, "the machine has free"))
    monkeypatch.setattr(Samples, "draw", None)  # nothing is drawn
    said = (
        r"a step with batches of 400 × 16 × 16 voxels \d+ MB\), and the machine has free 5 MB\. Lower "
        r"networks\.mine\.batch_size, .*\(rules/train\.smk, or --set-resources train_mine:htcondor_request_mem_mb="
    )
    with pytest.raises(UserError, match=said):
        training.train(recipe_of(SIMPLE | {"batch_size": 400}), small_samples(), small_samples(), {}, tmp_path)


def test_the_memory_of_a_step_grows_with_batch_voxels_and_features():
    def of(shape, batch_size, **changes):
        return trainer_of(shape, **changes).memory_mb(batch_size)

    base = of((16, 16), 1)
    assert of((16, 16), 8) == pytest.approx(8 * base)
    assert of((32, 16), 1) == pytest.approx(2 * base)
    assert of((16, 16), 1, encoder=[16, 16], decoder=[16, 16, 16]) > 1.2 * base


def test_images_that_do_not_fit_into_memory_are_refused_before_they_are_read(tmp_path, monkeypatch):
    arguments = training_arguments(tmp_path)
    monkeypatch.setattr(memory, "left_mb", lambda: (0.1, "its HTCondor slot leaves it"))
    monkeypatch.setattr(task, "read", None)
    # 6 of 32 × 32 × 6 and 2 of 37 × 33 × 5 voxels; 8 of 37 × 33 × 6.
    with pytest.raises(
        UserError,
        match=r"8 images 0 MB, the same padded for the network 0 MB\), and its HTCondor slot .*Raise networks\.mine\.",
    ):
        train_network.main(**arguments)


def test_validation_images_of_another_size_are_an_error(stub, tmp_path):
    other = Samples(pairs_of([(labelled(1, (9, 8, 5)), labelled(2, (9, 8, 5)))]), 2, 8)
    with pytest.raises(ValueError, match=r"validation images of \(16, 8\) for a network of \(16, 16\)"):
        training.train(recipe_of(SIMPLE), small_samples(), other, {}, tmp_path)


# ---- registering


def with_constant_field(network, voxels):
    """Let a network answer every pair with one displacement: its last layer is all bias."""
    kernel, bias = network.parameters[-2:]
    kernel.assign(np.zeros(kernel.shape, np.float32))
    bias.assign(np.array(voxels, np.float32))
    return network


@pytest.mark.parametrize(("dimensions", "voxels"), [(2, [1.5, -2.0]), (3, [1.5, -2.0, 0.5])])
def test_the_registrar_gives_voxels_of_the_arrays_themselves(dimensions, voxels):
    registrar = registrar_of(VOXELMORPH, (13, 10, 7), SETTINGS | {"dimensions": dimensions})
    with_constant_field(registrar.applied.network, voxels)
    images = [np.random.default_rng(seed).random((13, 10, 7), dtype=np.float32) for seed in (1, 2)]
    displacement = registrar(*images)
    assert displacement.shape == (13, 10, 7, 3)
    np.testing.assert_allclose(displacement, np.broadcast_to([*voxels, 0.0][:3], displacement.shape), atol=1e-6)


@pytest.mark.filterwarnings("ignore:Dense transform shape")
def test_a_downsampled_field_is_scaled_to_voxels_of_the_images():
    registrar = registrar_of(VOXELMORPH, (13, 10, 7), SETTINGS | {"field_downsampling": 2})
    with_constant_field(registrar.applied.network, [1.5, -2.0])
    image = np.random.default_rng(1).random((13, 10, 7), dtype=np.float32)
    np.testing.assert_allclose(registrar(image, image)[6, 5, 3], [3, -4, 0], atol=1e-6)


@pytest.mark.parametrize("dimensions", [2, 3])
def test_the_registrar_applies_the_network_to_moving_and_fixed(dimensions, monkeypatch):
    """Slice by slice and padded by hand, the network gives the same: no batch mixes slices up."""
    monkeypatch.setattr("cohortmorph.learning.registrar.SLICES_AT_ONCE", 3)
    shape = (13, 10, 7)
    registrar = registrar_of(VOXELMORPH, shape, SETTINGS | {"dimensions": dimensions})
    rng = np.random.default_rng(4)
    for variable in registrar.applied.network.parameters:
        variable.assign(rng.normal(0, 0.2, variable.shape))
    fixed, moving = (rng.random(shape, dtype=np.float32) for _ in range(2))
    displacement = registrar(fixed, moving)
    assert np.std(displacement[..., 0]) > 0.01
    if dimensions == 3:
        size = (16, 12, 8)
        before = [(n - m) // 2 for n, m in zip(size, shape, strict=True)]
        inputs = []
        for image in (moving, fixed):
            padded = np.zeros((1, *size, 1), np.float32)
            padded[0, before[0] : before[0] + 13, before[1] : before[1] + 10, before[2] : before[2] + 7, 0] = image
            inputs.append(padded)
        expected = registrar.applied.network.model(inputs).numpy()[0]
        expected = expected[before[0] : before[0] + 13, before[1] : before[1] + 10, before[2] : before[2] + 7]
        np.testing.assert_allclose(displacement, expected, atol=1e-4)
        return
    for k in range(7):
        inputs = []
        for image in (moving, fixed):
            padded = np.zeros((1, 16, 12, 1), np.float32)
            padded[0, 1:14, 1:11, 0] = image[..., k]
            inputs.append(padded)
        expected = registrar.applied.network.model(inputs).numpy()[0, 1:14, 1:11]
        np.testing.assert_allclose(displacement[:, :, k, :2], expected, atol=1e-4)
        np.testing.assert_array_equal(displacement[:, :, k, 2], 0)


def test_one_registrar_takes_the_parameters_of_any_training(tmp_path):
    registrar = registrar_of(VOXELMORPH, (16, 16, 3), SETTINGS)
    image = np.random.default_rng(1).random((16, 16, 3), dtype=np.float32)
    for voxels in ([1.0, 2.0], [-3.0, 0.5]):
        save_parameters(with_constant_field(UNet((32, 8), SETTINGS), voxels), tmp_path / "parameters.npz")
        registrar.load(tmp_path / "parameters.npz")
        np.testing.assert_allclose(registrar(image, image)[8, 8, 1, :2], voxels, atol=1e-6)


def test_the_checksum_is_that_of_sha256sum(tmp_path):
    (tmp_path / "file").write_bytes(b"abc")
    assert checksum(tmp_path / "file").startswith("ba7816bf8f01cfea414140de5dae2223")


def test_images_without_anything_to_see_are_left_out_and_named(tmp_path, caplog):
    arguments = training_arguments(tmp_path)
    empty = geometry.to_image(
        np.zeros((32, 32, 6), np.float32), Grid((32, 32, 6), (1.0, 1.0, 2.0), (-16.0, -16.0, 0.0))
    )
    geometry.write_image(empty, tmp_path / "fixed-1.nii.gz")
    train_network.main(**arguments)
    report = json.loads((tmp_path / "training.json").read_text())
    assert report["left_out"] == [list(arguments["training"]["training_inputs"][1])]
    assert "left out" in caplog.text and "fixed-1.nii.gz" in caplog.text
    geometry.write_image(empty, tmp_path / "moving-validation.nii.gz")
    with pytest.raises(UserError, match="nothing is left to train on, or to watch the training with"):
        train_network.main(**arguments)
