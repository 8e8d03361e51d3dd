"""The loss against float64 formulas written with numpy and against voxelmorph 0.2's own losses."""

import itertools

import numpy as np
import pytest
from scipy.interpolate import BSpline
from scipy.ndimage import convolve1d, gaussian_filter

from cohortmorph.learning import losses, self_similarity
from cohortmorph.learning.losses import tf
from cohortmorph.learning.networks import start_tensorflow
from cohortmorph.learning.unet import vxm
from cohortmorph.spatial import displacement
from cohortmorph.spatial.geometry import Grid
from cohortmorph.spatial.ncc import local_ncc_squared

PENALTIES = ("l2", "l1", "bending")
SHAPES = {"2-D": (2, 24, 20, 1), "3-D": (2, 12, 11, 10, 1)}


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    start_tensorflow(seed=1, threads=1)


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
        if name not in ("mse", "mind") and (np.ptp(fixed) == 0 or np.ptp(moved) == 0):
            np.testing.assert_allclose(value, 0, atol=1e-4)


@pytest.mark.parametrize(("name", "window"), [("ncc-squared", None), ("ncc-squared", 9), ("nmi", None), ("mind", None)])
def test_compiled_as_in_training_the_loss_is_the_same(shape, name, window):
    fixed = textured(shape, 1)
    moved = 0.6 * fixed + 0.4 * textured(shape, 2)
    loss = losses.similarity({"name": name, "window": window})
    compiled = tf.function(loss, jit_compile=True)
    np.testing.assert_allclose(compiled(tf.constant(fixed), tf.constant(moved)), loss(fixed, moved), atol=1e-5)


def test_mse_is_the_mean_of_each_sample(shape):
    fixed, moved = textured(shape, 1), textured(shape, 2)
    expected = ((fixed - moved) ** 2).reshape(len(fixed), -1).mean(axis=1)
    np.testing.assert_allclose(losses.similarity({"name": "mse"})(fixed, moved), expected, rtol=1e-5)


# ---- mutual information


def parzen_nmi(fixed, moved, bins):
    """1 − NMI of one sample in float64: each value shared among the bins by scipy's cubic B-spline."""
    spline = BSpline.basis_element(np.arange(-2, 3))

    def shares(image):
        distance = 1 + image.ravel().astype(np.float64)[:, None] * (bins - 3) - np.arange(bins)
        return np.where(np.abs(distance) < 2, spline(np.clip(distance, -2, 2)), 0)

    joint = shares(fixed).T @ shares(moved) / fixed.size

    def entropy(p):
        return -np.sum(p[p > 0] * np.log(p[p > 0]))

    return 1 - (entropy(joint.sum(axis=0)) + entropy(joint.sum(axis=1))) / entropy(joint.ravel())


@pytest.mark.parametrize("bins", [8, 32])
def test_nmi_is_that_of_a_parzen_histogram_for_each_sample(shape, bins):
    fixed = textured(shape, 1)
    moved = (fixed - 0.5) ** 2 * 3 + 0.2 * textured(shape, 2)
    expected = [parzen_nmi(f, m, bins) for f, m in zip(fixed, moved, strict=True)]
    np.testing.assert_allclose(losses.nmi(fixed, moved, bins), expected, atol=1e-5)
    assert -1 < expected[0] < -0.01


def test_nmi_of_black_and_white_is_what_one_computes_by_hand():
    """Two values, far apart: H = ln 2 + h each and ln 2 + 2 h together, h the entropy of the shares 1/6, 4/6, 1/6."""
    image = np.zeros((1, 4, 4, 1), np.float32)
    image[:, :2] = 1
    h = -np.sum([share * np.log(share) for share in (1 / 6, 4 / 6, 1 / 6)])
    together = -np.log(2) / (np.log(2) + 2 * h)
    np.testing.assert_allclose(losses.nmi(image, image, bins=16), [together], rtol=1e-5)
    np.testing.assert_allclose(losses.nmi(image, 1 - image, bins=16), [together], rtol=1e-5)
    crossed = np.swapaxes(image, 1, 2)  # every pair of values alike often: independent
    np.testing.assert_allclose(losses.nmi(image, crossed, bins=16), [0], atol=1e-6)


# ---- self-similarity


def looped_context(image, radius, dilation):
    """MIND-SSC of one sample (*shape,), float64, voxel by voxel: shape (*shape, channels); what is NaN is left out."""
    image, size = image.astype(np.float64), image.shape
    offsets = [sign * dilation * unit for unit in np.eye(image.ndim, dtype=int) for sign in (-1, 1)]
    pairs = [(a, b) for a, b in itertools.combinations(offsets, 2) if (a + b).any()]

    def at(voxel):
        return image[tuple(np.clip(voxel, 0, np.subtract(size, 1)))]

    distances = np.zeros((*size, len(pairs)))
    for voxel in np.ndindex(*size):
        reach = [range(max(0, n - radius), min(m, n + radius + 1)) for n, m in zip(voxel, size, strict=True)]
        patch = [np.array(near) for near in itertools.product(*reach)]
        for channel, (a, b) in enumerate(pairs):
            distances[(*voxel, channel)] = np.nanmean([(at(near + a) - at(near + b)) ** 2 for near in patch])
    variance = np.nanmean(distances, axis=-1, keepdims=True)
    least = 1e-3 * np.nanmean(variance[np.isfinite(image)])
    variance = np.maximum(variance, least) + self_similarity.FLAT_PATCH
    return np.exp(-(distances - np.nanmin(distances, axis=-1, keepdims=True)) / variance)


@pytest.mark.parametrize(("size", "channels"), [((7, 6), 4), ((5, 4, 4), 12)], ids=["2-D", "3-D"])
@pytest.mark.parametrize(("radius", "dilation"), [(1, 2), (2, 1)])
def test_mind_compares_the_patches_around_each_voxel(size, channels, radius, dilation):
    fixed, moved = textured((1, *size, 1), 1), textured((1, *size, 1), 2)
    contexts = [looped_context(image[0, ..., 0], radius, dilation) for image in (fixed, moved)]
    ours = self_similarity.self_similarity(fixed, radius, dilation)
    assert ours.shape == (channels, 1, *size, 1)
    np.testing.assert_allclose(np.moveaxis(ours[:, 0, ..., 0], 0, -1), contexts[0], atol=1e-4)
    expected = np.mean((contexts[0] - contexts[1]) ** 2)
    np.testing.assert_allclose(losses.mind(fixed, moved, radius, dilation), [expected], rtol=1e-3)


@pytest.mark.parametrize("settings", [{"name": "mind"}, {"name": "mind", "radius": 2, "dilation": 1}, {"name": "nmi"}])
def test_one_fixed_image_may_be_compared_to_many(settings):
    fixed, *others = (textured((1, 5, 6, 4, 1), seed) for seed in (1, 2, 3))
    importance = (textured((1, 5, 6, 4, 1), 4) > 0.3).astype(np.float32)
    for counts in (None, importance):
        unlike = losses.similarity_to(fixed, settings, counts)
        for moved in others:
            expected = losses.similarity(settings)(fixed, moved, counts)
            np.testing.assert_allclose(unlike(moved), expected, rtol=1e-6)


@pytest.mark.filterwarnings("ignore:(Mean of empty|All-NaN)")
@pytest.mark.parametrize("size", [(7, 6), (5, 4, 4)], ids=["2-D", "3-D"])
@pytest.mark.parametrize(("radius", "dilation"), [(1, 2), (2, 1)])
def test_mind_alone_compares_patches_of_what_counts(size, radius, dilation):
    fixed, moved = textured((1, *size, 1), 1), textured((1, *size, 1), 2)
    counts = (textured((1, *size, 1), 3) > 0.3).astype(np.float32)
    known = [np.where(counts, image, np.nan)[0, ..., 0] for image in (fixed, moved)]
    contexts = [looped_context(image, radius, dilation) for image in known]
    expected = np.nanmean((contexts[0] - contexts[1])[np.isfinite(known[0])] ** 2)
    loss = losses.similarity({"name": "mind", "radius": radius, "dilation": dilation}, alone=True)
    np.testing.assert_allclose(loss(fixed, moved, counts), [expected], rtol=1e-3)
    assert abs(loss(fixed, moved).numpy()[0] - expected) > 0.01 * expected


@pytest.mark.parametrize("name", ["nmi", "mind"])
def test_an_inverted_image_agrees_as_well_as_the_image_itself(shape, name):
    fixed = textured(shape, 1)
    moved = 0.6 * fixed + 0.4 * textured(shape, 2)
    loss = losses.similarity({"name": name})
    np.testing.assert_allclose(loss(fixed, 1 - moved), loss(fixed, moved), atol=1e-5)
    assert (loss(fixed, 1 - fixed).numpy() < loss(fixed, moved).numpy() - 0.01).all()


def test_mind_is_blind_to_contrast_and_brightness(shape):
    fixed, moved = textured(shape, 1), textured(shape, 2)
    np.testing.assert_allclose(losses.mind(fixed, 0.9 - 0.5 * moved), losses.mind(fixed, moved), atol=1e-4)
    np.testing.assert_allclose(losses.mind(fixed, 0.9 - 0.5 * fixed), 0, atol=1e-4)


@pytest.mark.parametrize(("name", "size"), [("nmi", (6, 5)), ("mind", (6, 5)), ("mind", (4, 4, 4))])
def test_gradients_of_nmi_and_mind_are_those_of_finite_differences(name, size):
    fixed = textured((1, *size, 1), 1)
    moved = 0.5 * fixed + 0.5 * textured(fixed.shape, 2)
    variable = tf.Variable(moved)
    with tf.GradientTape() as tape:
        value = losses.similarity({"name": name})(fixed, variable)
    gradient = tape.gradient(value, variable).numpy().ravel()
    context = looped_context(fixed[0, ..., 0], 1, 2)

    def oracle(image):
        if name == "nmi":
            return parzen_nmi(fixed, image, 32)
        return np.mean((looped_context(image.reshape(size), 1, 2) - context) ** 2)

    start, step = moved.astype(np.float64).ravel(), 1e-6
    for direction in np.random.default_rng(7).normal(size=(2, start.size)):
        difference = (oracle(start + step * direction) - oracle(start - step * direction)) / (2 * step)
        np.testing.assert_allclose(gradient @ direction, difference, rtol=2e-3)


def test_settings_that_a_similarity_knows_reach_it(shape):
    fixed, moved = textured(shape, 1), textured(shape, 2)
    for name, function, changed in [
        ("nmi", losses.nmi, {"bins": 8}),
        ("mind", losses.mind, {"radius": 2, "dilation": 1}),
    ]:
        chosen = losses.similarity({"name": name, "window": 9, **changed})(fixed, moved)
        np.testing.assert_array_equal(chosen, function(fixed, moved, **changed))
        assert np.abs(chosen - function(fixed, moved)).max() > 1e-3


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
    for name in ("l2", "l1"):
        theirs = vxm.losses.Grad(name, loss_mult=downsampling).loss(None, tf.constant(field))
        np.testing.assert_allclose(losses.gradient_penalty(field, "mean", downsampling, name), theirs, rtol=1e-5)


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
@pytest.mark.parametrize(("penalty", "power"), [("l2", 2), ("l1", 2), ("bending", 3)])
def test_the_conventions_convert_as_documented(size, downsampling, penalty, power):
    """mean = sum · downsampling / (n d²), but for the border, where an axis has fewer differences than voxels."""
    field = random_field((1, *size, 1))
    voxels, dimensions = np.prod(size), len(size)
    total, mean = (losses.gradient_penalty(field, name, downsampling, penalty).numpy()[0] for name in ("sum", "mean"))
    np.testing.assert_allclose(mean, total * downsampling / (voxels * dimensions**power), rtol=3 / min(size))


def test_the_absolute_gradient_is_a_sum_of_lengths(shape):
    field = random_field(shape).astype(np.float64)
    expected = [sum(np.abs(np.diff(u, axis=axis)).sum() for axis in range(u.ndim - 1)) for u in field]
    np.testing.assert_allclose(losses.gradient_penalty(field.astype(np.float32), "sum", name="l1"), expected, rtol=1e-5)


def test_the_bending_energy_is_the_sum_over_all_pairs_of_axes(shape):
    field = random_field(shape).astype(np.float64)
    axes = range(len(shape) - 2)
    expected = [sum((np.diff(np.diff(u, axis=a), axis=b) ** 2).sum() for a in axes for b in axes) for u in field]
    np.testing.assert_allclose(
        losses.gradient_penalty(field.astype(np.float32), "sum", name="bending"), expected, rtol=1e-5
    )


def linear(shape, matrix, offset=0.0):
    """The field u(x) = M x + offset on a grid of this shape, one sample."""
    voxels = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
    return (voxels @ np.asarray(matrix).T + offset)[None].astype(np.float32)


@pytest.mark.parametrize("size", [(6, 5), (6, 5, 4)], ids=["2-D", "3-D"])
def test_bending_leaves_affine_fields_free_and_counts_a_parabola(size):
    matrix = np.random.default_rng(1).normal(size=(len(size), len(size)))
    affine = linear(size, matrix, offset=3)
    for convention in ("mean", "sum"):
        np.testing.assert_allclose(losses.gradient_penalty(affine, convention, name="bending"), 0, atol=1e-9)
    assert losses.gradient_penalty(affine, "mean")[0] > 0.1
    parabola = np.zeros_like(affine)
    parabola[0, ..., 1] = 0.5 * (np.arange(size[0]) ** 2).reshape(-1, *[1] * (len(size) - 1))
    # A second difference of 1 along the first axis, in all but two of its voxels.
    expected = (size[0] - 2) * np.prod(size[1:])
    np.testing.assert_allclose(losses.gradient_penalty(parabola, "sum", name="bending"), [expected], rtol=1e-6)


def test_flat_fields_have_finite_gradients(shape):
    inside = tf.ones((*shape[:-1], 1))
    functions = [lambda field, name=name: losses.gradient_penalty(field, "mean", name=name) for name in PENALTIES]
    functions += [losses.folding_penalty, lambda field: losses.incompressibility(field, inside)]
    for function in functions:
        field = tf.Variable(0 * random_field(shape))
        with tf.GradientTape() as tape:
            value = function(field)
        assert value.shape == shape[:1] and not value.numpy().any()
        assert np.isfinite(tape.gradient(value, field)).all()


# ---- folding


@pytest.mark.parametrize("spacing_mm", [(1, 1, 1), (0.7, 2, 5)])
def test_the_folding_penalty_is_the_non_diffeomorphic_volume_that_is_measured(spacing_mm):
    voxels = random_field((2, 7, 6, 5, 1)) / 3
    turned = np.array([[0.8, -0.6, 0], [0.6, 0.8, 0], [0, 0, 1]])
    grid = Grid((7, 6, 5), spacing_mm, (3, 4, 5), tuple(turned.ravel()))
    measured = [displacement.non_diffeomorphic_volume(displacement.from_voxels(field, grid)).mean() for field in voxels]
    np.testing.assert_allclose(losses.folding_penalty(voxels), measured, rtol=1e-4)
    assert min(measured) > 0.01


@pytest.mark.parametrize("size", [(6, 5), (6, 5, 4)], ids=["2-D", "3-D"])
def test_folding_costs_the_volume_that_is_turned_inside_out(size):
    identity = np.eye(len(size))
    mirrored = -2 * np.diag([1.0] + [0.0] * (len(size) - 1))
    cubes = np.prod(np.subtract(size, 1))
    for matrix, expected in [(0 * identity, 0), (0.5 * identity, 0), (mirrored, 1), (1.5 * mirrored, 2)]:
        field = linear(size, matrix, offset=1)
        np.testing.assert_allclose(losses.folding_penalty(field), [expected], atol=1e-6)
        np.testing.assert_allclose(losses.folding_penalty(field, "sum"), [expected * cubes], rtol=1e-6, atol=1e-5)


def test_a_folding_that_alternates_between_voxels_is_seen():
    """Central differences see nothing here: both neighbours of a voxel are displaced alike."""
    for size in [(8, 8), (8, 8, 8)]:
        field = np.zeros((1, *size, len(size)), np.float32)
        field[..., 0] = (0.6 * (-1) ** np.arange(8)).reshape(-1, *[1] * (len(size) - 1))
        assert losses.folding_penalty(field)[0] > 0.05
        # Every second interval is turned, by 1 − 1.2: four of seven.
        np.testing.assert_allclose(losses.folding_penalty(field), [0.2 * 4 / 7], rtol=1e-5)


# ---- incompressible structures


def turn(size):
    """The rigid motion x ↦ R x + t as a field."""
    cos, sin = np.cos(0.5), np.sin(0.5)
    rotation = np.eye(len(size))
    rotation[:2, :2] = [[cos, -sin], [sin, cos]]
    return linear(size, rotation - np.eye(len(size)), offset=2)


@pytest.mark.parametrize("convention", ["mean", "sum"])
@pytest.mark.parametrize("size", [(6, 5), (6, 5, 4)], ids=["2-D", "3-D"])
def test_rigid_motion_keeps_volumes_and_growth_costs_its_share(size, convention):
    inside = np.zeros((1, *size, 2), np.float32)
    inside[0, 1:4, 1:3, ..., 0] = 1
    inside[0, 4, 3, ..., 1] = 1
    np.testing.assert_allclose(losses.incompressibility(turn(size), inside, convention), 0, atol=1e-4)
    growth = 1.1 ** len(size) - 1
    expected = growth if convention == "mean" else growth * inside.sum()
    grown = linear(size, 0.1 * np.eye(len(size)))
    np.testing.assert_allclose(losses.incompressibility(grown, inside, convention), [expected], rtol=1e-4)


def test_each_structure_counts_alike_and_only_inside(shape):
    field = random_field(shape) / 10
    inside = np.zeros((*shape[:-1], 3), np.float32)
    inside[:, 1:8, 1:8, ..., 0] = 1
    inside[:, 9, 9, ..., 1] = 1  # small; and nothing in the third, which this sample does not have
    grid = Grid((*shape[1:-1], *[1] * (5 - len(shape))), (0.7, 2, 5), (0, 0, 0), tuple(np.eye(3).ravel()))
    for sample in range(shape[0]):
        voxels = np.zeros((*grid.size, 3), np.float32)
        voxels[..., : len(shape) - 2] = field[sample].reshape(*grid.size, -1)
        determinant = displacement.jacobian_determinant(displacement.from_voxels(voxels, grid))
        change = np.abs(determinant.reshape(shape[1:-1]) - 1)
        means = [change[inside[sample, ..., n] > 0].mean() for n in range(2)]
        ours = losses.incompressibility(field, inside)[sample]
        np.testing.assert_allclose(ours, np.mean(means), rtol=1e-4)
        # For one structure, mean = sum / n.
        one = inside[..., :1]
        total = losses.incompressibility(field, one, "sum")[sample]
        np.testing.assert_allclose(total / one[sample].sum(), losses.incompressibility(field, one)[sample], rtol=1e-5)
    nothing = losses.incompressibility(field, 0 * inside)
    np.testing.assert_array_equal(nothing, 0)


@pytest.mark.parametrize("name", ["l1", "bending", "folding", "incompressible"])
@pytest.mark.parametrize("size", [(6, 5), (4, 5, 4)], ids=["2-D", "3-D"])
def test_gradients_of_the_penalties_are_those_of_finite_differences(size, name):
    """Steps are small against a field in [-2, 2], and float32 keeps four digits. (Compiled in 2-D only.)"""
    start = random_field((1, *size, 1))[0] / 3
    inside = np.ones((1, *size, 1), np.float32)
    function = {
        "l1": lambda field: losses.gradient_penalty(field, "sum", name="l1"),
        "bending": lambda field: losses.gradient_penalty(field, "sum", name="bending"),
        "folding": lambda field: losses.folding_penalty(field, "sum"),
        "incompressible": lambda field: losses.incompressibility(field, inside, "sum"),
    }[name]

    def gradient_of(field):
        with tf.GradientTape() as tape:
            tape.watch(field)
            value = function(field)
        return value, tape.gradient(value, field)

    as_in_training = tf.function(gradient_of, jit_compile=True) if len(size) == 2 else gradient_of
    value, gradient = as_in_training(tf.constant(start[None]))
    np.testing.assert_allclose(value, function(start[None]), rtol=1e-5)
    direction = np.random.default_rng(7).normal(size=start.shape).astype(np.float32)
    step = 2e-3
    ahead, behind = (function((start + sign * step * direction)[None]).numpy()[0] for sign in (1, -1))
    expected = (float(ahead) - float(behind)) / (2 * step)
    np.testing.assert_allclose(np.sum(gradient * direction), expected, rtol=2e-2, atol=2e-2 * abs(value[0]))


# ---- labels


@pytest.fixture
def overlapping():
    """Fixed: structures of 2 and 1 of 6 voxels. Moved: half of a voxel of each has gone over to the background."""
    fixed = np.zeros((1, 6, 1, 2), np.float32)
    fixed[0, :2, 0, 0] = fixed[0, 2, 0, 1] = 1
    moved = fixed.copy()
    moved[0, 1, 0, 0] = moved[0, 2, 0, 1] = 0.5
    return fixed, moved


def test_dice_sums_before_it_divides(overlapping):
    expected = 1 - np.mean([2 * 1.5 / (2 + 1.5), 2 * 0.5 / (1 + 0.5)])
    np.testing.assert_allclose(losses.dice_loss(*overlapping), [expected], atol=1e-3)


def test_the_lecture_s_dice_divides_at_each_voxel(overlapping):
    """Six voxels with their true classes: 1, 1/2 | 1/2 | 1, 1, 1; what is not the truth adds 0. Three classes."""
    quotient = 2 * 0.5 / (0.5 + 1)
    expected = 1 - (4 + 2 * quotient) / (3 * 6)
    np.testing.assert_allclose(losses.voxelwise_dice_loss(*overlapping), [expected], rtol=1e-6)
    fixed = overlapping[0]
    np.testing.assert_allclose(losses.voxelwise_dice_loss(fixed, fixed), [1 - 1 / 3], rtol=1e-6)


def test_the_cross_entropy_is_the_lecture_s(overlapping):
    np.testing.assert_allclose(losses.cross_entropy(*overlapping), [-2 * np.log(0.5) / (3 * 6)], rtol=2e-3)
    fixed = overlapping[0]
    lost = np.zeros_like(fixed)
    np.testing.assert_allclose(losses.cross_entropy(fixed, fixed), [0], atol=1e-6)
    np.testing.assert_allclose(losses.cross_entropy(fixed, lost), [3 * np.log(1001) / (3 * 6)], rtol=1e-5)


@pytest.mark.parametrize("name", losses.LABEL_LOSSES)
def test_a_label_loss_falls_as_the_structures_come_closer_for_each_sample(name):
    spot = gaussian_filter(np.pad([[1.0]], 10), 3)
    fixed = (spot > 0.3 * spot.max())[None, ..., None].astype(np.float32)
    moved = np.concatenate([np.roll(fixed, by, axis=1) for by in (0, 1, 2, 4)])
    variable = tf.Variable(moved)
    with tf.GradientTape() as tape:
        values = losses.LABEL_LOSSES[name](np.repeat(fixed, 4, axis=0), variable)
    assert (np.diff(values) > 0).all()
    assert np.isfinite(tape.gradient(values, variable)).all()


def test_windows_alone_hold_what_counts_and_nothing_else(shape):
    fixed = textured(shape, 1)
    moved = 0.6 * fixed + 0.4 * textured(shape, 2)
    counts = (textured(shape, 3) > 0.3).astype(np.float32)
    expected = []
    for f, m, where in zip(fixed[..., 0], moved[..., 0], counts[..., 0] == 1, strict=True):
        parts = [part for voxel, part in zip(np.ndindex(*f.shape), windows(f.shape, 5), strict=True) if where[voxel]]
        expected.append(-np.mean([global_ncc(f[part][where[part]], m[part][where[part]]) for part in parts]))
    loss = losses.similarity({"name": "ncc-squared", "window": 5}, alone=True)
    np.testing.assert_allclose(loss(fixed, moved, counts), expected, atol=1e-4)
    with_others = losses.similarity({"name": "ncc-squared", "window": 5})(fixed, moved, counts)
    assert np.abs(with_others - expected).max() > 1e-3


@pytest.mark.parametrize("name", losses.SIMILARITIES)
def test_where_all_counts_alone_changes_nothing(name, shape):
    fixed, moved = textured(shape, 1), textured(shape, 2)
    alone, plain = (losses.similarity({"name": name, "window": 5}, alone=alone) for alone in (True, False))
    np.testing.assert_allclose(alone(fixed, moved, np.ones_like(fixed)), plain(fixed, moved), rtol=1e-4)
    np.testing.assert_array_equal(alone(fixed, moved), plain(fixed, moved))


@pytest.mark.parametrize("name", losses.SIMILARITIES)
def test_importance_says_which_voxels_count(name):
    """All equal: as without. Where they are 0, an image may show anything."""
    rng = np.random.default_rng(3)
    fixed, moved = (rng.random((1, 24, 12, 10, 1)).astype(np.float32) for _ in range(2))
    moved = (0.7 * fixed + 0.3 * moved).astype(np.float32)
    loss = losses.similarity({"name": name, "window": 5})
    plain = loss(fixed, moved).numpy()
    np.testing.assert_allclose(loss(fixed, moved, np.full_like(fixed, 0.5)), plain, rtol=2e-4)
    importance = np.zeros_like(fixed)
    importance[:, :8] = 1
    other = moved.copy()
    other[:, 16:] = rng.permutation(other[:, 16:].ravel()).reshape(other[:, 16:].shape)  # the image keeps its mean
    assert abs(loss(fixed, other).numpy()[0] - plain[0]) > 1e-3 * abs(plain[0])
    tolerance = 1e-2 if name == "mind" else 1e-4  # MIND's least variance is of the whole image
    np.testing.assert_allclose(loss(fixed, other, importance), loss(fixed, moved, importance), rtol=tolerance)
    assert np.isfinite(loss(fixed, moved, np.zeros_like(fixed))).all()


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
