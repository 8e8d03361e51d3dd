"""Intensities: windows, percentiles, and what must not pass silently."""

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given
from hypothesis import strategies as st

from cohortmorph import UserError
from cohortmorph.spatial import intensity
from cohortmorph.spatial.geometry import Grid, to_array, to_image

GRID = Grid((5, 4, 3), (1.5, 2.0, 2.5), (-7.0, 3.0, 11.0), (0, -1, 0, 1, 0, 0, 0, 0, 1))


def image_of(values):
    return to_image(np.resize(np.asarray(values, dtype=np.float32), GRID.size), GRID)


def test_a_window_keeps_the_units_between_its_bounds():
    prepared = intensity.prepare(image_of([-1000, -20, 40, 100, 900]), {"window": [-20, 100]})
    assert prepared.GetPixelID() == sitk.sitkFloat32
    assert Grid.of(prepared) == GRID
    np.testing.assert_allclose(to_array(prepared).ravel()[:5], [0, 0, 0.5, 1, 1], atol=1e-7)


def test_percentiles_are_taken_over_all_voxels():
    values = np.arange(60.0)
    prepared = to_array(intensity.prepare(image_of(values), {"percentiles": [10, 90]})).ravel()
    np.testing.assert_allclose(prepared, np.clip((values - 5.9) / (53.1 - 5.9), 0, 1), atol=1e-6)


@given(scale=st.floats(0.01, 1000), offset=st.floats(-1000, 1000))
def test_percentiles_do_not_see_the_units_of_an_mr_image(scale, offset):
    values = np.random.default_rng(1).normal(size=60)
    settings = {"percentiles": [0.5, 99.5]}
    reference = to_array(intensity.prepare(image_of(values), settings))
    np.testing.assert_allclose(
        to_array(intensity.prepare(image_of(scale * values + offset), settings)), reference, atol=0.02
    )


def test_voxels_that_are_not_finite_get_zero_and_do_not_count():
    values = np.arange(60.0)
    values[[3, 20]] = np.nan, np.inf
    prepared = to_array(intensity.prepare(image_of(values), {"percentiles": [0, 100]})).ravel()
    assert prepared[3] == 0
    assert np.isfinite(prepared).all()
    assert prepared[59] == pytest.approx(1)


@pytest.mark.parametrize(
    ("values", "settings", "words"),
    [
        ([7.0], {"percentiles": [0, 100]}, "one value"),
        ([200.0, 900.0], {"window": [-20, 100]}, "from 200 to 900"),
        ([np.nan], {"window": [0, 1]}, "finite"),
        ([0.0, 1.0], {"window": [1, 0]}, "lower bound"),
        ([0.0, 1.0], {"percentiles": [1, 101]}, "lower bound"),
        ([0.0, 1.0], {"clip": [0, 1]}, "expected one of"),
        ([0.0, 1.0], {"window": [0, 1], "percentiles": [0, 100]}, "expected one of"),
    ],
)
def test_what_would_give_one_value_everywhere_is_refused_by_name(values, settings, words):
    with pytest.raises(UserError, match=words) as error:
        intensity.prepare(image_of(values), settings, "P01 T1")
    assert "P01 T1" in str(error.value)
