"""What a network is trained for: λ in voxels and in mm, and where likeness counts."""

import itertools

import numpy as np
import pytest
from test_training import SETTINGS

from cohortmorph.learning.batch import Batch
from cohortmorph.learning.networks import start_tensorflow, tf
from cohortmorph.learning.objective import SimilarityObjective

LENGTH_MM = 96.0  # of every side
AMPLITUDES_MM, PERIODS = (2.0, 1.5, 1.0), ((1, 1, 0), (0, 1, 1), (1, 0, 1))
GRIDS_MM = {"1": (1, 1, 1), "2": (2, 2, 2), "4": (4, 4, 4), "1×1×3": (1, 1, 3), "3×1×1": (3, 1, 1)}


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    start_tensorflow(seed=1, threads=1)


def wave_mm(dimensions, steps_mm, number):
    """A displacement in mm whose components are plane waves, at `number` places each side, `steps_mm` apart."""
    places = np.meshgrid(*[np.arange(n) * s for n, s in zip(number, steps_mm, strict=True)], indexing="ij")
    waves = [
        amplitude * np.sin(2 * np.pi / LENGTH_MM * sum(p * x for p, x in zip(periods, places, strict=False)) + 0.3)
        for amplitude, periods in zip(AMPLITUDES_MM, PERIODS, strict=True)
    ]
    return np.stack(waves[:dimensions], axis=-1)[None]


def by_calculus(name, dimensions):
    """The mean over space, components and axes of the wave's derivatives, squared or not."""
    total = 0.0
    for amplitude, periods in zip(AMPLITUDES_MM[:dimensions], PERIODS, strict=False):
        k = 2 * np.pi / LENGTH_MM * np.array(periods[:dimensions])
        if name == "bending":  # Σ over pairs of axes of (k_a k_b)²
            total += amplitude**2 * (k @ k) ** 2 / 2
        elif name == "l2":
            total += amplitude**2 * (k @ k) / 2
        else:
            total += amplitude * k.sum() * 2 / np.pi
    return total / dimensions ** (3 if name == "bending" else 2)


def penalty_of(field_mm, spacing_mm, downsampling, **regularization):
    """The penalty of a field in mm that a network of such images would put out in voxels; two samples alike."""
    dimensions, size = field_mm.shape[-1], [downsampling * n for n in field_mm.shape[1:-1]]
    spacing_mm = np.array(spacing_mm[:dimensions], np.float32)
    objective = SimilarityObjective(
        SETTINGS
        | {
            "similarity": {"name": "mse", "mask": "none"},
            "regularization": SETTINGS["regularization"] | {"unit": "mm"} | regularization,
            "field_downsampling": downsampling,
        }
    )
    image = tf.zeros((1, *size, 1))
    field = (field_mm / spacing_mm / downsampling).astype(np.float32)
    return float(
        objective.parts(
            tf.constant(field), tf.zeros((1, *size, dimensions)), 1.0, Batch(image, image, spacing_mm[None])
        ).penalty
    )


def waves(dimensions, spacing_mm, downsampling):
    """The wave at the voxels of a field: its first and last coincide with those of the images."""
    fine = [round(LENGTH_MM / s) for s in spacing_mm[:dimensions]]
    number = [n // downsampling for n in fine]
    steps_mm = [s * (f - 1) / (n - 1) for s, f, n in zip(spacing_mm, fine, number, strict=False)]
    return wave_mm(dimensions, steps_mm, number)


@pytest.mark.parametrize("name", ["l2", "l1", "bending"])
@pytest.mark.parametrize("dimensions", [2, 3])
def test_in_mm_the_penalty_is_the_field_s_own_on_every_grid(dimensions, name):
    expected, found, of_voxels = by_calculus(name, dimensions), {}, {}
    for (grid, spacing_mm), downsampling in itertools.product(GRIDS_MM.items(), (1, 2)):
        field_mm = waves(dimensions, spacing_mm, downsampling)
        found[grid, downsampling] = penalty_of(field_mm, spacing_mm, downsampling, name=name)
        of_voxels[grid, downsampling] = penalty_of(field_mm, spacing_mm, downsampling, name=name, unit="voxel")
    np.testing.assert_allclose(list(found.values()), expected, rtol=0.06)
    assert max(of_voxels.values()) > 1.5 * min(of_voxels.values())


@pytest.mark.parametrize("name", ["l2", "bending"])
@pytest.mark.parametrize("dimensions", [2, 3])
def test_in_mm_the_sum_is_the_integral_over_the_volume(dimensions, name):
    expected = by_calculus(name, dimensions) * dimensions ** (3 if name == "bending" else 2) * LENGTH_MM**dimensions
    for spacing_mm, downsampling in itertools.product(((2, 2, 2), (2, 2, 3)), (1, 2)):
        field_mm = waves(dimensions, spacing_mm, downsampling)
        found = penalty_of(field_mm, spacing_mm, downsampling, name=name, convention="sum")
        assert found == pytest.approx(expected, rel=0.12)  # the border has fewer differences than voxels


def test_in_mm_a_field_has_the_penalty_of_instance_optimization():
    """Its own words: the mean over voxels, components and axes of (∂v)², v in mm by mm."""
    spacing_mm, field_mm = (1.0, 2.0, 3.0), np.random.default_rng(1).normal(size=(1, 7, 6, 5, 3))
    terms = [
        np.mean((np.diff(field_mm, axis=axis) / step_mm) ** 2)
        for axis, step_mm in zip((1, 2, 3), spacing_mm, strict=True)
    ]
    assert penalty_of(field_mm, spacing_mm, 1) == pytest.approx(np.mean(terms), rel=1e-5)


def test_each_sample_has_its_own_spacing():
    settings = SETTINGS | {"regularization": SETTINGS["regularization"] | {"unit": "mm"}}
    objective, image = SimilarityObjective(settings), tf.zeros((2, 8, 8, 1))
    field = np.zeros((2, 8, 8, 2), np.float32)
    field[..., 0] = np.arange(8)[:, None] * 0.1
    field[..., 1] = np.arange(8)[:, None] * 0.1
    spacing_mm = np.array([[1, 1], [2, 6]], np.float32)
    # By hand: ∂u_i/∂i is 0.1 whatever the spacing; ∂u_j/∂i is 0.1 · 6/2 of the second sample; means over two axes.
    penalties = (0.01 + 0.01) / 4, (0.01 + 0.09) / 4
    for weights in ((1.0, 0.0), (0.0, 1.0)):
        parts = objective.parts(
            tf.constant(field), tf.constant(field), tf.constant(weights), Batch(image, image, spacing_mm)
        )
        assert float(parts.penalty) == pytest.approx(np.mean(penalties), rel=1e-5)
        assert float(parts.loss - parts.similarity) == pytest.approx(np.dot(weights, penalties) / 2, rel=1e-5)


# ---- where likeness counts

MASKS = ("fixed", "moving", "union", "intersection")


def masked(mask, name="mse", **similarity):
    return SimilarityObjective(SETTINGS | {"similarity": {"name": name, "mask": mask, **similarity}})


def smooth(shape, seed):
    rng = np.random.default_rng(seed)
    values = rng.random((2, *shape, 1))
    for axis in range(1, len(shape) + 1):
        values = values + np.roll(values, 1, axis) + np.roll(values, -1, axis)
    return ((values - values.min()) / np.ptp(values)).astype(np.float32)


@pytest.fixture(params=[(16, 14), (12, 11, 10)], ids=["2-D", "3-D"])
def batch(request):
    """Images, and a mask of each with a hole of its own."""
    shape = request.param
    masks = np.ones((2, 2, *shape, 1), np.float32)
    masks[0][(slice(None), *[slice(1, 5)] * len(shape))] = 0
    masks[1][(slice(None), *[slice(3, 8)] * len(shape))] = 0
    spacing_mm = np.ones((2, len(shape)), np.float32)
    return Batch(smooth(shape, 1), smooth(shape, 2), spacing_mm, fixed_mask=masks[0], moving_mask=masks[1])


def likeness_and_gradient(objective, batch, displacement):
    variable = tf.Variable(displacement)
    with tf.GradientTape() as tape:
        likeness = objective.parts(variable, variable, 0.0, batch.each(tf.constant)).similarity
    return float(likeness), tape.gradient(likeness, variable).numpy()


def moved_mask(mask, shift_voxels):
    """Where all voxels around x + shift lie in the mask: its cell, the last of which ends with the image."""
    counts, size = np.zeros_like(mask), np.array(mask.shape[1:-1])
    for sample, *voxel in np.ndindex(*mask.shape[:-1]):
        place = np.array(voxel) + [shift_voxels, *[0] * (len(size) - 1)]
        if (place <= size - 1).all():
            cell = tuple(slice(n, n + 2) for n in np.minimum(place, size - 2))
            counts[(sample, *voxel)] = mask[(sample, *cell)].all()
    return counts


@pytest.mark.parametrize("mask", MASKS)
def test_likeness_counts_where_the_mask_says(batch, mask):
    """By hand, with a shift of two voxels along the first axis: the moving mask moves with its image."""
    displacement = np.zeros((*batch.fixed.shape[:-1], batch.fixed.ndim - 2), np.float32)
    displacement[..., 0] = 2
    moved = batch.moving[:, np.minimum(np.arange(batch.fixed.shape[1]) + 2, batch.fixed.shape[1] - 1)]
    counts = {
        "fixed": batch.fixed_mask,
        "moving": moved_mask(batch.moving_mask, 2),
        "union": np.maximum(batch.fixed_mask, moved_mask(batch.moving_mask, 2)),
        "intersection": batch.fixed_mask * moved_mask(batch.moving_mask, 2),
    }
    axes = tuple(range(1, batch.fixed.ndim))
    expected = {
        name: np.mean(np.sum(where * (batch.fixed - moved) ** 2, axes) / np.sum(where, axes))
        for name, where in counts.items()
    }
    found, _ = likeness_and_gradient(masked(mask), batch, displacement)
    assert found == pytest.approx(expected[mask], rel=1e-5)
    assert 0.2 < counts[mask].mean() < 1
    everywhere = likeness_and_gradient(masked("none"), batch, displacement)[0]
    others = [everywhere, *(value for name, value in expected.items() if name != mask)]
    assert min(abs(other - found) for other in others) > 1e-5


@pytest.mark.parametrize(
    "similarity",
    [
        {"name": "mse"},
        {"name": "nmi", "bins": 16},
        {"name": "ncc-squared", "window": 5},
        {"name": "ncc-squared", "window": None},
        {"name": "ncc-voxelmorph", "window": 5},
        {"name": "mind", "radius": 1, "dilation": 2},
    ],
    ids=str,
)
@pytest.mark.parametrize("mask", ["moving", "intersection"])
def test_what_a_lesion_shows_changes_nothing(batch, mask, similarity):
    """Painted into the moving image where its mask is 0; wherever the displacement puts it, also between voxels."""
    lesion = batch._replace(moving=np.where(batch.moving_mask, batch.moving, 1 - batch.moving**3))
    size = (*batch.fixed.shape[:-1], batch.fixed.ndim - 2)
    for amount in (0.0, 1.7):
        displacement = amount * np.random.default_rng(3).normal(size=size).astype(np.float32)
        found, gradient = likeness_and_gradient(masked(mask, **similarity), batch, displacement)
        painted, of_painted = likeness_and_gradient(masked(mask, **similarity), lesion, displacement)
        assert painted == pytest.approx(found, rel=1e-6) and abs(found) > 1e-4
        np.testing.assert_allclose(of_painted, gradient, atol=1e-6 * np.abs(gradient).max())
        assert np.abs(gradient).max() > 0 and np.isfinite(gradient).all()
        unmasked, _ = likeness_and_gradient(masked("none", **similarity), lesion, displacement)
        plain, _ = likeness_and_gradient(masked("none", **similarity), batch, displacement)
        assert abs(unmasked - plain) > 1e-5


@pytest.mark.parametrize("mask", MASKS)
def test_no_gradient_pushes_the_mask_away(batch, mask):
    """Images without contrast that differ: likeness depends on the displacement by what counts alone, if at all."""
    flat = batch._replace(fixed=0 * batch.fixed, moving=0 * batch.moving + 1)
    fixed = np.where(np.arange(flat.fixed.shape[1]).reshape(-1, *[1] * (flat.fixed.ndim - 2)) > 6, 0.5, 0.0)
    flat = flat._replace(fixed=(flat.fixed + fixed).astype(np.float32))
    displacement = np.full((*flat.fixed.shape[:-1], flat.fixed.ndim - 2), 0.3, np.float32)
    likeness, gradient = likeness_and_gradient(masked(mask), flat, displacement)
    assert likeness > 0.1 and np.abs(gradient).max() < 1e-8  # through a mask that is interpolated, it were 1e-3


def test_masks_that_are_all_zero_make_no_nan(batch):
    nothing = batch._replace(fixed_mask=0 * batch.fixed_mask, moving_mask=0 * batch.moving_mask)
    displacement = np.full((*batch.fixed.shape[:-1], batch.fixed.ndim - 2), 0.3, np.float32)
    for mask, name in itertools.product(MASKS, ("mse", "nmi", "ncc-squared", "mind")):
        likeness, gradient = likeness_and_gradient(masked(mask, name), nothing, displacement)
        assert np.isfinite(likeness) and np.isfinite(gradient).all(), name


def test_a_mask_that_is_asked_for_and_not_there_is_an_error(batch):
    displacement = np.zeros((*batch.fixed.shape[:-1], batch.fixed.ndim - 2), np.float32)
    with pytest.raises(ValueError, match=r"similarity\.mask is fixed, and a batch has no masks"):
        likeness_and_gradient(masked("fixed"), batch._replace(fixed_mask=None), displacement)
