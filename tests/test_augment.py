"""Random variants of the training images: seeded, of the stated strength, labels bent with their image."""

import numpy as np
import pytest

from cohortmorph.learning.augment import SHIFT_SD_VOXELS, augment
from cohortmorph.learning.networks import start_tensorflow, tf

SIZES = {2: (24, 32), 3: (16, 24, 20)}


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    start_tensorflow(seed=1, threads=1)


def images(dimensions, batch=3):
    """Smooth images in [0, 1], and label maps that are the image itself, so that one tells how the other was bent."""
    axes = np.meshgrid(*[np.linspace(0, 3, n) for n in SIZES[dimensions]], indexing="ij")
    image = np.prod([np.sin(axis) ** 2 for axis in axes], axis=0).astype("f4")
    return tf.constant(np.repeat(image[None, ..., None], batch, axis=0))


def seed(number):
    return tf.constant([number, 7], tf.int32)


@pytest.mark.parametrize("dimensions", [2, 3])
def test_nothing_changes_at_strength_0(dimensions):
    image = images(dimensions)
    same, (labels,) = augment(image, [image], seed(1), deformation=0, intensity=0)
    np.testing.assert_array_equal(same, image)
    np.testing.assert_array_equal(labels, image)


@pytest.mark.parametrize("dimensions", [2, 3])
def test_labels_are_bent_with_their_image_and_not_changed_in_value(dimensions):
    image = images(dimensions)
    bent, (labels,) = augment(image, [image], seed(1), deformation=1, intensity=0)
    np.testing.assert_allclose(bent, labels, atol=1e-6)
    assert np.abs(bent - image).max() > 0.05
    brighter, (labels,) = augment(image, [image], seed(1), deformation=0, intensity=1)
    np.testing.assert_array_equal(labels, image)
    assert np.abs(brighter - image).max() > 0.05


@pytest.mark.parametrize("strengths", [{"deformation": 1, "intensity": 0}, {"deformation": 0, "intensity": 1}])
def test_the_seed_decides_and_no_sample_is_like_another(strengths):
    image = images(3)
    first, _ = augment(image, [], seed(1), **strengths)
    again, _ = augment(image, [], seed(1), **strengths)
    other, _ = augment(image, [], seed(2), **strengths)
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0.01
    assert np.abs(first[0] - first[1]).max() > 0.01


def test_the_displacement_is_as_large_as_the_strength_says():
    """On ramps the values say where they come from, in the middle by shift and bending alone."""
    ramp = tf.broadcast_to(tf.range(57, dtype=tf.float32)[None, :, None, None], (300, 57, 9, 1))
    spread = {
        strength: np.std(augment(ramp, [], seed(3), deformation=strength, intensity=0)[0][:, 28, 4, 0])
        for strength in (0.5, 1)
    }
    # The middle lies on a control point along i (every 7 voxels) and along j (every 4).
    assert spread[1] == pytest.approx(np.hypot(SHIFT_SD_VOXELS, 1), rel=0.15)
    assert spread[0.5] == pytest.approx(spread[1] / 2, rel=0.02)
