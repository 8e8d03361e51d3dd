"""NCC against direct float64 loops, and its invariance under changes of contrast."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cohortmorph.spatial.ncc import local_ncc_squared, local_ncc_squared_matrix, ncc_signed, ncc_squared


def direct_signed(a, b):
    """The course's formula before squaring, pixel by pixel."""
    a_mean = sum(a) / len(a)
    b_mean = sum(b) / len(b)
    covariation = sum((x - a_mean) * (y - b_mean) for x, y in zip(a, b, strict=True))
    a_variation = sum((x - a_mean) ** 2 for x in a)
    b_variation = sum((y - b_mean) ** 2 for y in b)
    return covariation / (a_variation * b_variation) ** 0.5


def images(seed, *shape):
    """Two correlated random images, away from zero mean and unit variance."""
    rng = np.random.default_rng(seed)
    a = rng.normal(40, 7, shape)
    return a, 900 - 0.7 * a + rng.normal(0, 4, shape)


def test_of_four_pixels_by_hand():
    # a - 2.5 = (-1.5, -.5, .5, 1.5); b - 1 = (1, -1, 1, -1): covariation -2, variations 5 and 4.
    assert ncc_signed([1, 2, 3, 4], [2, 0, 2, 0]) == pytest.approx(-2 / 20**0.5, abs=1e-15)
    assert ncc_squared([1, 2, 3, 4], [2, 0, 2, 0]) == pytest.approx(0.2, abs=1e-15)


@pytest.mark.parametrize("shape", [(50,), (7, 9), (5, 6, 7)])
def test_agrees_with_a_direct_loop(shape):
    a, b = images(1, *shape)
    expected = direct_signed(a.ravel(), b.ravel())
    assert expected < -0.3
    assert ncc_signed(a, b) == pytest.approx(expected, abs=1e-10)
    assert ncc_squared(a, b) == pytest.approx(expected**2, abs=1e-10)


def test_mask_says_where_to_compare():
    a, b = images(2, 8, 9)
    mask = np.random.default_rng(0).random((8, 9)) > 0.4
    assert ncc_squared(a, b, mask) == pytest.approx(direct_signed(a[mask], b[mask]) ** 2, abs=1e-10)
    b[~mask] = np.nan
    assert ncc_squared(a, b, mask) == pytest.approx(direct_signed(a[mask], b[mask]) ** 2, abs=1e-10)


@given(
    seed=st.integers(0, 2**32 - 1),
    gain=st.floats(0.01, 100) | st.floats(-100, -0.01),
    offset=st.floats(-1000, 1000),
)
def test_gain_and_offset_change_nothing(seed, gain, offset):
    a, b = images(seed, 9, 11)
    assert ncc_squared(gain * a + offset, b) == pytest.approx(ncc_squared(a, b), abs=1e-9)
    assert ncc_signed(gain * a + offset, b) == pytest.approx(np.sign(gain) * ncc_signed(a, b), abs=1e-9)
    assert ncc_squared(a, gain * a + offset) == pytest.approx(1, abs=1e-12)
    np.testing.assert_allclose(local_ncc_squared(gain * a + offset, b, 5), local_ncc_squared(a, b, 5), atol=1e-8)


def test_without_contrast_it_is_zero():
    a, _ = images(3, 6, 6)
    flat = np.full((6, 6), 0.1)
    assert ncc_squared(a, flat) == ncc_squared(flat, a) == ncc_squared(flat, flat) == 0
    assert not local_ncc_squared(a, flat, 3).any()
    assert not local_ncc_squared_matrix(flat[None], a[None], 3)[0].any()


def test_nothing_compared_is_not_a_number():
    a, b = images(4, 3, 3)
    assert np.isnan(ncc_squared(a, b, np.zeros((3, 3), bool)))
    b[1, 1] = np.nan
    assert np.isnan(ncc_squared(a, b))


def test_different_shapes_are_refused():
    with pytest.raises(ValueError, match="shapes"):
        ncc_squared(np.ones((3, 4)), np.ones((4, 3)))
    with pytest.raises(ValueError, match="mask"):
        ncc_squared(np.ones((3, 4)), np.ones((3, 4)), np.ones(3, bool))


@pytest.mark.parametrize(("shape", "window"), [((9, 12), 3), ((9, 12), 5), ((6, 7, 5), 3), ((11, 8, 1), 5)])
def test_local_agrees_with_a_direct_loop(shape, window):
    a, b = images(5, *shape)
    half = window // 2
    expected = np.empty(shape)
    for middle in np.ndindex(shape):
        box = tuple(slice(max(n - half, 0), n + half + 1) for n in middle)
        expected[middle] = direct_signed(a[box].ravel(), b[box].ravel()) ** 2
    np.testing.assert_allclose(local_ncc_squared(a, b, window), expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize(("shape", "window"), [((9, 12), 3), ((11, 8, 1), 5), ((7, 9, 6), 5)])
def test_what_is_not_known_of_a_window_explains_nothing_of_it(shape, window):
    a, b = images(9, *shape)
    b[np.random.default_rng(2).random(shape) < 0.3] = np.nan
    b[:5, :6] = np.nan
    half = window // 2
    expected = np.zeros(shape)
    for middle in np.ndindex(shape):
        box = tuple(slice(max(n - half, 0), n + half + 1) for n in middle)
        of_a, of_b, known = a[box], b[box], np.isfinite(b[box])
        if known.sum() > 1:
            filled = np.where(known, of_b, of_b[known].mean())
            expected[middle] = direct_signed(of_a.ravel(), filled.ravel()) ** 2
            # The same, from what is known and its share of what there is to explain.
            share = ((of_a[known] - of_a[known].mean()) ** 2).sum() / ((of_a - of_a.mean()) ** 2).sum()
            assert expected[middle] == pytest.approx(direct_signed(of_a[known], of_b[known]) ** 2 * share, abs=1e-10)
    assert (expected == 0).any() and (expected > 0.1).any()
    np.testing.assert_allclose(local_ncc_squared(a, b, window), expected, rtol=0, atol=1e-10)
    assert not local_ncc_squared(a, b * np.nan, window).any()


def test_local_sees_what_the_global_misses():
    """Contrast inverted in one half: globally little agreement, locally (away from the seam) all of it."""
    rng = np.random.default_rng(6)
    a = rng.random((40, 40))
    b = a.copy()
    b[20:] = 1 - a[20:]
    assert ncc_squared(a, b) < 0.05
    local = local_ncc_squared(a, b, 5)
    np.testing.assert_allclose(local[:18], 1, atol=1e-9)
    np.testing.assert_allclose(local[22:], 1, atol=1e-9)
    assert local[19:21].mean() < 0.6


@pytest.mark.parametrize("window", [0, 4, -3])
def test_a_window_without_a_middle_is_refused(window):
    with pytest.raises(ValueError, match="odd"):
        local_ncc_squared(np.eye(5), np.eye(5), window)


@pytest.mark.parametrize("covered", [True, False])
def test_local_matrix_is_the_mean_over_windows_side_by_side(covered):
    rng = np.random.default_rng(8)
    a, b = rng.random((4, 17, 20)) + 50, rng.random((5, 17, 20)) - 20
    b[2] = 1 - a[1]
    if not covered:
        a[0, 5, 5] = b[3, :, 12:] = np.nan
    expected, windows = np.zeros((4, 5)), np.zeros((4, 5), int)
    # 17 = 1 + 3·5 + 1 rows, 20 = 4·5 columns
    for m, n in np.ndindex(4, 5):
        for y, x in np.ndindex(3, 4):
            box = np.s_[1 + 5 * y : 6 + 5 * y, 5 * x : 5 * x + 5]
            if np.isfinite(a[m][box]).all() and np.isfinite(b[n][box]).all():
                expected[m, n] += direct_signed(a[m][box].ravel(), b[n][box].ravel()) ** 2
                windows[m, n] += 1
    found, compared = local_ncc_squared_matrix(a, b, 5)
    np.testing.assert_array_equal(compared, windows)
    np.testing.assert_allclose(found, expected / windows, rtol=0, atol=1e-10)
    assert found[1, 2] == pytest.approx(1)
    assert windows.min() == (12 if covered else 5)


def test_slices_that_share_no_window_cannot_be_compared():
    a, b = np.random.default_rng(9).random((2, 2, 6, 6))
    a[0, :, :3] = np.nan
    b[1, :, 3:] = np.nan
    found, windows = local_ncc_squared_matrix(a, b, 3)
    np.testing.assert_array_equal(windows, [[2, 0], [4, 2]])
    np.testing.assert_array_equal(np.isnan(found), [[False, True], [False, False]])
