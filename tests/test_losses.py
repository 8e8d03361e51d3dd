"""The loss against float64 formulas written with numpy and against voxelmorph 0.2's own losses."""

import numpy as np
import pytest
from scipy.ndimage import convolve1d, gaussian_filter

from cohortmorph import losses, training
from cohortmorph.losses import tf
from cohortmorph.ncc import local_ncc_squared
from cohortmorph.networks import vxm

SHAPES = {"2-D": (2, 24, 20, 1), "3-D": (2, 12, 11, 10, 1)}


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    training.start_tensorflow(seed=1, threads=1)


@pytest.fixture(params=SHAPES.values(), ids=SHAPES.keys())
def shape(request):
    return request.param


def textured(shape, seed):
    """Random images in [0, 1] with contrast in every window."""
    return np.random.default_rng(seed).random(shape, dtype=np.float32)


def random_field(shape, seed=5):
    """Displacements of some voxels, one component an axis."""
    return np.random.default_rng(seed).normal(0, 2, (*shape[:-1], len(shape) - 2)).astype(np.float32)


def global_ncc(fixed, moved):
    """The course's formula, written as it stands there, float64."""
    fixed, moved = (image.astype(np.float64) - image.mean(dtype=np.float64) for image in (fixed, moved))
    return np.sum(fixed * moved) ** 2 / (np.sum(fixed**2) * np.sum(moved**2))


def windows(shape, window):
    """Yield the window around each voxel as slices, cut off at the border."""
    half = window // 2
    for voxel in np.ndindex(*shape):
        yield tuple(slice(max(0, n - half), n + half + 1) for n in voxel)


def looped_local_ncc(fixed, moved, window):
    return np.mean([global_ncc(fixed[part], moved[part]) for part in windows(fixed.shape, window)])


# ---- NCC


def test_global_ncc_is_the_course_s_formula_for_each_sample(shape):
    fixed, moved = textured(shape, 1), textured(shape, 2)
    moved = 0.6 * fixed + 0.4 * moved
    expected = [-global_ncc(f, m) for f, m in zip(fixed, moved, strict=True)]
    np.testing.assert_allclose(losses.ncc_squared(fixed, moved), expected, atol=1e-4)
    assert -1 < expected[0] < -0.3


@pytest.mark.parametrize("window", [3, 9])
def test_local_ncc_is_the_mean_over_windows_that_are_cut_off_at_the_border(shape, window):
    fixed = textured(shape, 1)
    moved = 0.6 * fixed + 0.4 * textured(shape, 2)
    ours = losses.ncc_squared(fixed, moved, window).numpy()
    by_uniform_filter = [
        -local_ncc_squared(f[..., 0], m[..., 0], window).mean() for f, m in zip(fixed, moved, strict=True)
    ]
    np.testing.assert_allclose(ours, by_uniform_filter, atol=1e-4)
    np.testing.assert_allclose(ours[0], -looped_local_ncc(fixed[0, ..., 0], moved[0, ..., 0], window), atol=1e-4)


@pytest.mark.parametrize("window", [None, 5])
@pytest.mark.parametrize("name", ["ncc-squared", "ncc-voxelmorph"])
def test_the_gradient_is_that_of_finite_differences(name, window):
    fixed = textured((1, 9, 8, 1), 1)
    moved = 0.5 * fixed + 0.5 * textured(fixed.shape, 2)
    loss = losses.similarity({"name": name, "window": window})
    variable = tf.Variable(moved)
    with tf.GradientTape() as tape:
        value = loss(fixed, variable)
    gradient = tape.gradient(value, variable).numpy().ravel()

    def oracle(image):
        """The loss in float64, for covariances of either sign."""
        f, m = fixed[0, ..., 0].astype(np.float64), image.reshape(fixed.shape)[0, ..., 0]
        parts = [...] if window is None else list(windows(f.shape, window))
        result = 0.0
        for part in parts:
            cf, cm = f[part] - f[part].mean(), m[part] - m[part].mean()
            covariance = np.mean(cf * cm)
            if name == "ncc-voxelmorph":
                covariance = max(covariance, 0)
            result -= covariance**2 / (np.mean(cf**2) * np.mean(cm**2) + losses.FLAT)
        return result / len(parts)

    start, step = moved.astype(np.float64).ravel(), 1e-5
    differences = [
        (oracle(start + step * unit) - oracle(start - step * unit)) / (2 * step) for unit in np.eye(start.size)
    ]
    # Central differences in float64 are exact to about 1e-9; the rest is float32.
    np.testing.assert_allclose(gradient, differences, atol=1e-4 * np.abs(differences).max())


@pytest.mark.parametrize("window", [None, 9])
@pytest.mark.parametrize("contrast", [1.0, 0.5, -1.0, -0.5])
def test_squared_ncc_is_blind_to_contrast_and_brightness(shape, window, contrast):
    fixed, moved = textured(shape, 1), textured(shape, 2)
    moved = 0.6 * fixed + 0.4 * moved
    changed = contrast * moved + (0.1 if contrast > 0 else 0.9)
    before, after = losses.ncc_squared(fixed, moved, window), losses.ncc_squared(fixed, changed, window)
    np.testing.assert_allclose(after, before, atol=1e-4)


@pytest.mark.parametrize("window", [None, 9])
def test_an_inverted_image_agrees_in_the_squared_ncc_but_not_in_voxelmorph_s(shape, window):
    image = textured(shape, 1)
    np.testing.assert_allclose(losses.ncc_squared(image, 1 - image, window), -1, atol=1e-4)
    np.testing.assert_allclose(losses.ncc_voxelmorph(image, image, window), -1, atol=1e-4)
    np.testing.assert_allclose(losses.ncc_voxelmorph(image, 1 - image, window), 0, atol=1e-4)


def inner(values, window):
    """Cut off the voxels whose windows reach over the border."""
    half = window // 2
    return values[(0, *[slice(half, n - half) for n in values.shape[1:-1]], 0)]


def test_voxelmorph_s_own_ncc_agrees_away_from_the_border(shape):
    # voxelmorph fills up with zeros there; its epsilon (1e-5 on sums of squares) is nothing beside this contrast.
    window = 5
    fixed = textured(shape, 1)
    moved = 0.6 * fixed + 0.4 * textured(shape, 2)
    theirs = vxm.losses.NCC(win=window).ncc(tf.constant(fixed), tf.constant(moved)).numpy()
    covariance, fixed_variance, moved_variance = (
        moment.numpy() for moment in losses._second_moments(fixed, moved, window)
    )
    ours = np.maximum(covariance, 0) ** 2 / (fixed_variance * moved_variance + losses.FLAT)
    np.testing.assert_allclose(inner(ours, window), inner(theirs, window), atol=1e-4)
    assert np.abs(ours - theirs).max() > 0.01  # at the border they do differ


def test_voxelmorph_s_own_loss_counts_the_background_as_agreement_and_ours_does_not(shape):
    """In a frame of zeros as wide as the window, voxelmorph's padding changes nothing: the background differs."""
    window = 5
    margin = [(0, 0), *[(window, window)] * (len(shape) - 2), (0, 0)]
    fixed = np.pad(textured(shape, 1), margin)
    moved = np.pad(0.6 * textured(shape, 1) + 0.4 * textured(shape, 2), margin)
    theirs = vxm.losses.NCC(win=window).loss(tf.constant(fixed), tf.constant(moved)).numpy()
    sizes = [n - 2 * window for n in fixed.shape[1:-1]]
    background = 1 - np.prod([n + window - 1 for n in sizes]) / np.prod(fixed.shape[1:-1])  # windows of zeros only
    assert background > 0.3
    np.testing.assert_allclose(losses.ncc_voxelmorph(fixed, moved, window), theirs + background, atol=2e-3)


@pytest.mark.parametrize("window", [None, 9])
@pytest.mark.parametrize("name", losses.SIMILARITIES)
def test_flat_images_and_flat_windows_give_numbers(shape, name, window):
    blank = np.zeros(shape, np.float32)
    half = textured(shape, 1)
    half[:, shape[1] // 2 :] = 0.7
    loss = losses.similarity({"name": name, "window": window})
    for fixed, moved in [(blank, blank), (blank + 0.7, half), (half, blank + 1), (half, half)]:
        variable = tf.Variable(moved)
        with tf.GradientTape() as tape:
            value = loss(fixed, variable)
        assert np.isfinite(value).all() and value.shape == shape[:1]
        assert np.isfinite(tape.gradient(value, variable)).all()
        if name != "mse" and (np.ptp(fixed) == 0 or np.ptp(moved) == 0):
            np.testing.assert_allclose(value, 0, atol=1e-4)


@pytest.mark.parametrize("window", [None, 9])
def test_compiled_as_in_training_the_loss_is_the_same(shape, window):
    fixed = textured(shape, 1)
    moved = 0.6 * fixed + 0.4 * textured(shape, 2)
    compiled = tf.function(lambda f, m: losses.ncc_squared(f, m, window), jit_compile=True)
    np.testing.assert_allclose(
        compiled(tf.constant(fixed), tf.constant(moved)), losses.ncc_squared(fixed, moved, window), atol=1e-5
    )


def test_mse_is_the_mean_of_each_sample(shape):
    fixed, moved = textured(shape, 1), textured(shape, 2)
    expected = ((fixed - moved) ** 2).reshape(len(fixed), -1).mean(axis=1)
    np.testing.assert_allclose(losses.similarity({"name": "mse"})(fixed, moved), expected, rtol=1e-5)


def test_similarity_reads_name_and_window_from_the_settings(shape):
    fixed, moved = textured(shape, 1), textured(shape, 2)
    chosen = losses.similarity({"name": "ncc-voxelmorph", "window": 5})(fixed, moved)
    np.testing.assert_array_equal(chosen, losses.ncc_voxelmorph(fixed, moved, 5))
    everywhere = losses.similarity({"name": "ncc-squared", "window": None})(fixed, moved)
    np.testing.assert_array_equal(everywhere, losses.ncc_squared(fixed, moved))


# ---- the penalty


@pytest.mark.parametrize("downsampling", [1, 2])
def test_the_mean_penalty_is_voxelmorph_s_own(shape, downsampling):
    field = random_field(shape)
    theirs = vxm.losses.Grad("l2", loss_mult=downsampling).loss(None, tf.constant(field))
    np.testing.assert_allclose(losses.gradient_penalty(field, "mean", downsampling), theirs, rtol=1e-5)


def test_the_summed_penalty_is_the_course_s(shape):
    field = random_field(shape).astype(np.float64)
    expected = [sum((np.diff(u, axis=axis) ** 2).sum() for axis in range(u.ndim - 1)) for u in field]
    # The course knows no downsampling: its factor changes nothing.
    for downsampling in (1, 2):
        penalty = losses.gradient_penalty(field.astype(np.float32), "sum", downsampling)
        np.testing.assert_allclose(penalty, expected, rtol=1e-5)


def test_a_linear_field_has_the_penalty_one_computes_by_hand():
    """u = (0.5 i, 0) on 6 x 4 voxels: 5 differences of 0.5 in each of 4 columns."""
    field = np.zeros((1, 6, 4, 2), np.float32)
    field[0, :, :, 0] = 0.5 * np.arange(6)[:, None]
    np.testing.assert_allclose(losses.gradient_penalty(field, "sum"), [20 * 0.25], rtol=1e-6)
    # Mean over 5 x 4 voxels and 2 components of the one axis, 0 for the other, averaged over both axes.
    np.testing.assert_allclose(losses.gradient_penalty(field, "mean"), [0.25 / 2 / 2], rtol=1e-6)


@pytest.mark.parametrize("downsampling", [1, 2])
@pytest.mark.parametrize("size", [(64, 80), (20, 24, 22)], ids=["2-D", "3-D"])
def test_the_conventions_convert_as_documented(size, downsampling):
    """mean = sum · downsampling / (n d²), but for the border, where an axis has one difference less than voxels."""
    field = random_field((1, *size, 1))
    voxels, dimensions = np.prod(size), len(size)
    total, mean = (losses.gradient_penalty(field, name, downsampling).numpy()[0] for name in ("sum", "mean"))
    np.testing.assert_allclose(mean, total * downsampling / (voxels * dimensions**2), rtol=1.5 / min(size))


# ---- value and gradient in double precision


def box_sums(values, window):
    """Sums over the window around each voxel, with zeros beyond the border; its own transpose."""
    for axis in range(values.ndim):
        values = convolve1d(values, np.ones(window), axis=axis, mode="constant")
    return values


def local_ncc_with_gradient(fixed, moved, window, clipped):
    """Minus the mean local NCC of two arrays, and its derivative with respect to `moved`, by hand and in float64."""
    fixed, moved = fixed.astype(np.float64), moved.astype(np.float64)
    voxels = box_sums(np.ones(fixed.shape), window)

    def mean(values):
        return box_sums(values, window) / voxels

    def transposed(values):
        return box_sums(values / voxels, window)

    fixed_mean, moved_mean = mean(fixed), mean(moved)
    covariance = mean(fixed * moved) - fixed_mean * moved_mean
    if clipped:
        covariance = np.maximum(covariance, 0)
    fixed_variance, moved_variance = (mean(image**2) - mean(image) ** 2 for image in (fixed, moved))
    below = fixed_variance * moved_variance + losses.FLAT
    by_covariance = -2 * covariance / below / fixed.size
    by_variance = covariance**2 * fixed_variance / below**2 / fixed.size
    gradient = (
        fixed * transposed(by_covariance)
        - transposed(by_covariance * fixed_mean)
        + 2 * moved * transposed(by_variance)
        - 2 * transposed(by_variance * moved_mean)
    )
    return -np.mean(covariance**2 / below), gradient


@pytest.mark.parametrize("contrast", [1, -1], ids=["same contrast", "inverted contrast"])
@pytest.mark.parametrize("name", ["ncc-squared", "ncc-voxelmorph"])
@pytest.mark.parametrize("size", [(40, 36), (22, 20, 18)], ids=["2-D", "3-D"])
def test_local_ncc_and_gradient_are_those_of_double_precision(size, name, contrast):
    """Of images with a constant background, in which whole windows are flat in both."""
    rng = np.random.default_rng(3)
    fixed, noise = (gaussian_filter(rng.random(size), 1.0).astype(np.float32) for _ in range(2))
    moved = 0.7 * fixed + 0.3 * noise
    if contrast < 0:
        moved = 1 - moved
    fixed[: size[0] // 2] = moved[: size[0] // 2] = 0.7
    variable = tf.Variable(moved[None, ..., None])
    with tf.GradientTape() as tape:
        value = losses.similarity({"name": name, "window": 9})(tf.constant(fixed[None, ..., None]), variable)
    gradient = tape.gradient(value, variable).numpy()[0, ..., 0]
    expected, expected_gradient = local_ncc_with_gradient(fixed, moved, 9, clipped=name == "ncc-voxelmorph")
    largest = np.abs(expected_gradient).max()
    print(
        f"value {expected:.4f}, off by {abs(value[0] - expected):.1e}; "
        f"gradient off by {np.abs(gradient - expected_gradient).max() / largest:.1e} of its largest"
    )
    np.testing.assert_allclose(value, [expected], atol=1e-5)
    np.testing.assert_allclose(gradient, expected_gradient, atol=1e-5 * largest)
