"""The self-similarity contexts: the networks' loss without its TensorFlow, slab by slab, and what is not known."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from cohortmorph.learning import losses
from cohortmorph.learning.networks import start_tensorflow, tf
from cohortmorph.spatial import mind
from cohortmorph.spatial.mind import SelfSimilarity, mind_distance

SHAPE = (14, 12, 16)


@pytest.fixture(autouse=True, scope="module")
def tensorflow():
    start_tensorflow(seed=1, threads=1)


def image(seed):
    values = gaussian_filter(np.random.default_rng(seed).random(SHAPE), 1)
    return ((values - values.min()) / np.ptp(values)).astype(np.float32)


def distance(fixed, moved, mask=None):
    return mind_distance(SelfSimilarity(fixed), SelfSimilarity(moved), np.ones(SHAPE, bool) if mask is None else mask)


def test_it_is_the_loss_of_the_networks():
    a, b = image(1), image(2)
    inner = np.zeros(SHAPE, bool)
    inner[4:-4, 4:-4, 4:-4] = True  # at the border each has its own way
    loss = losses.mind(
        *(tf.constant(one[None, ..., None]) for one in (a, b)), importance=inner[None, ..., None].astype(np.float32)
    )
    assert distance(a, b, inner) == pytest.approx(float(np.squeeze(loss)), rel=0.02)
    assert distance(a, b) > 0.01


def test_it_does_not_see_how_an_image_changes():
    a = image(1)
    assert distance(a, a) == 0
    assert distance(a, 0.9 - 0.5 * a) < 1e-4 < distance(a, np.roll(a, 1, axis=1))


def test_slabs_make_no_difference(monkeypatch):
    a, b = image(1), image(2)
    b[:, :, :5] = np.nan
    at_once = distance(a, b)
    monkeypatch.setattr(mind, "SLAB_VOXELS", 1)
    assert distance(a, b) == pytest.approx(at_once, rel=1e-5)


def test_what_is_not_known_counts_as_independent():
    """Each voxel that is not known is paired with every descriptor that is."""
    a, b = image(1), image(2)
    b[:4] = np.nan
    fixed, moved = SelfSimilarity(a), SelfSimilarity(b)
    assert moved.known[:7].sum() == 0 and moved.known[7:].all()
    ours, theirs = (one.descriptor(0, SHAPE[0]) for one in (fixed, moved))
    known = np.square(ours - theirs).mean(axis=0)[moved.known]
    left = ours[:, ~moved.known]
    others = theirs[:, moved.known]
    unknown = np.square(left[:, :, None] - others[:, None, :]).mean(axis=(0, 2))
    assert distance(a, b) == pytest.approx(np.r_[known, unknown].mean(), rel=1e-4)
    assert distance(a, np.full(SHAPE, np.nan, np.float32)) == 1
    assert np.isnan(distance(a, a, np.zeros(SHAPE, bool)))
