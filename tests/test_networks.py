"""The network's pieces against scipy and against voxelmorph 0.2's own layers; its parameters on disk."""

import zipfile

import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from cohortmorph import UserError
from cohortmorph.learning.networks import (
    along_axes,
    load_parameters,
    save_parameters,
    start_tensorflow,
    tf,
    upsample,
    warp,
    whole_cells,
)
from cohortmorph.learning.unet import UNet, size_multiple, vxm

DEFAULT = {
    "encoder": [16, 32, 32, 32],
    "decoder": [32, 32, 32, 32, 32, 16, 16],
    "int_steps": 0,
    "field_downsampling": 1,
}
SMALL = {"encoder": [4, 4], "decoder": [4, 4, 4], "int_steps": 0, "field_downsampling": 1}
SHAPES = {"2-D": (16, 12), "3-D": (12, 8, 16)}


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    start_tensorflow(seed=1, threads=1)


@pytest.fixture(params=SHAPES.values(), ids=SHAPES.keys())
def shape(request):
    return request.param


def random_values(*shape, seed=1):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def random_field(shape, batch=2, voxels=3.0, seed=2):
    """Independent displacements, many of them over the border."""
    return voxels * random_values(batch, *shape, len(shape), seed=seed)


def grid_of(shape):
    return np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)


def stirred(network, seed=3):
    """Give a network parameters that make a field of some voxels: at its start it is almost zero."""
    rng = np.random.default_rng(seed)
    for variable in network.parameters:
        fan_in = np.prod(variable.shape[:-1]) if len(variable.shape) > 1 else 30
        variable.assign(rng.normal(0, np.sqrt(1 / fan_in), variable.shape).astype(np.float32))
    return network


# ---- warp


def test_warp_is_linear_interpolation_with_the_border_s_value_beyond(shape):
    values, field = random_values(2, *shape, 3), random_field(shape)
    warped = warp(tf.constant(values), tf.constant(field)).numpy()
    for sample in range(2):
        positions = np.moveaxis(grid_of(shape) + field[sample].astype(np.float64), -1, 0)
        assert (positions < 0).any() and (positions[0] > shape[0] - 1).any()
        for channel in range(3):
            expected = map_coordinates(values[sample, ..., channel], positions, order=1, mode="nearest")
            np.testing.assert_allclose(warped[sample, ..., channel], expected, atol=1e-5)


def test_warp_is_voxelmorph_s_own_transformer(shape):
    values, field = random_values(2, *shape, 1), random_field(shape)
    theirs = vxm.layers.SpatialTransformer(interp_method="linear", indexing="ij")([values, field])
    np.testing.assert_allclose(warp(tf.constant(values), tf.constant(field)), theirs, atol=1e-5)


def test_an_integer_displacement_takes_the_value_over_there(shape):
    """moved(x) = moving(x + u): a displacement of +2 along the first axis brings the content two voxels back."""
    values = random_values(1, *shape, 1)
    field = np.zeros((1, *shape, len(shape)), np.float32)
    field[..., 0], field[..., 1] = 2, -1
    warped = warp(tf.constant(values), tf.constant(field)).numpy()
    np.testing.assert_array_equal(warped[:, :-2, 1:], values[:, 2:, :-1])
    np.testing.assert_array_equal(warped[:, -2:, 1:], np.repeat(values[:, -1:, :-1], 2, axis=1))


def test_values_that_vary_are_warped_alike_with_the_same_gradients(shape):
    values, field = (tf.constant(array) for array in (random_values(2, *shape, 3), random_field(shape)))
    results = []
    for values_vary in (False, True):
        with tf.GradientTape() as tape:
            tape.watch([values, field])
            warped = warp(values, field, values_vary)
            loss = tf.reduce_sum(warped**2)
        results.append([warped, *tape.gradient(loss, [values, field])])
    for one, other in zip(*results, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)
    assert np.abs(results[0][1]).max() > 0.1


def test_warp_goes_along_axes_of_one_voxel():
    values = random_values(1, 6, 1, 1)
    field = np.full((1, 6, 1, 2), 0.5, np.float32)
    expected = (values + values[:, [1, 2, 3, 4, 5, 5]]) / 2
    np.testing.assert_allclose(warp(tf.constant(values), tf.constant(field)), expected, atol=1e-6)


# ---- upsampling and integration


def test_upsampling_is_voxelmorph_s_own_rescaling(shape):
    coarse = random_field([n // 2 for n in shape])
    theirs = vxm.layers.RescaleTransform(2)(coarse)
    np.testing.assert_allclose(2 * upsample(tf.constant(coarse), shape), theirs, atol=1e-4)


def test_upsampling_keeps_the_corners(shape):
    coarse = random_field([n // 2 for n in shape])
    fine = upsample(tf.constant(coarse), shape).numpy()
    np.testing.assert_allclose(fine[:, *[0] * len(shape)], coarse[:, *[0] * len(shape)], atol=1e-6)
    np.testing.assert_allclose(fine[:, *[-1] * len(shape)], coarse[:, *[-1] * len(shape)], atol=1e-5)


@pytest.mark.parametrize("size", [5, 150])
def test_products_along_each_axis(size):
    """Also of a band matrix that is cut in blocks, one of them empty, and of several samples and channels."""
    rng = np.random.default_rng(1)
    band = np.triu(np.tril(rng.normal(size=(size, 70)), 3), -3)
    matrices = [band, rng.normal(size=(3, 4))]
    values = random_values(2, 70, 4, 3)
    expected = np.einsum("oi,pj,bijc->bopc", *matrices, values)
    np.testing.assert_allclose(along_axes(matrices, tf.constant(values)), expected, atol=1e-4)


def smooth_velocity(shape):
    position = 2 * np.pi * grid_of(shape) / np.array(shape)
    columns = [1.5 * np.sin(position[..., (axis + 1) % len(shape)]) for axis in range(len(shape))]
    return np.stack(columns, axis=-1)[None].astype(np.float32)


def test_scaling_and_squaring_is_voxelmorph_s_own(shape):
    velocity = smooth_velocity(shape)
    network = UNet(shape, SMALL | {"int_steps": 7})
    theirs = vxm.layers.VecInt(method="ss", int_steps=7)(tf.constant(velocity)).numpy()
    np.testing.assert_allclose(network.displacement(tf.constant(velocity)), theirs, atol=1e-4)
    assert np.abs(theirs - velocity).max() > 0.1


@pytest.mark.filterwarnings("ignore:Dense transform shape")
@pytest.mark.parametrize("downsampling", [1, 2])
@pytest.mark.parametrize("int_steps", [0, 5])
def test_the_displacement_is_that_of_voxelmorph_s_own_network(shape, int_steps, downsampling):
    """Its parameters in VxmDense give the same field; without integration, VxmDense never undoes the downsampling."""
    settings = SMALL | {"int_steps": int_steps, "field_downsampling": downsampling}
    network = stirred(UNet(shape, settings))
    theirs = vxm.networks.VxmDense(
        shape,
        nb_unet_features=[settings["encoder"], settings["decoder"]],
        int_steps=int_steps,
        svf_resolution=downsampling,
        int_resolution=downsampling,
    )
    theirs.set_weights([variable.numpy() for variable in network.parameters])
    moving, fixed = random_values(2, *shape, 1, seed=4), random_values(2, *shape, 1, seed=5)
    expected = tf.keras.Model(theirs.inputs, theirs.references.pos_flow)([moving, fixed])
    if int_steps == 0 and downsampling == 2:
        expected = vxm.layers.RescaleTransform(2)(expected)
    field = network.model([moving, fixed])
    assert field.shape == (2, *[n // downsampling for n in shape], len(shape))
    assert 0.1 < np.std(expected) < 10
    np.testing.assert_allclose(network.displacement(field), expected, atol=1e-3)
    if downsampling == 1:
        moved = warp(tf.constant(moving), network.displacement(field))
        np.testing.assert_allclose(moved, theirs([moving, fixed])[0], atol=1e-3)


# ---- architecture


@pytest.mark.parametrize(("shape", "number"), [((32, 32), 109_170), ((16, 16, 16), 327_331)])
def test_the_default_network_keeps_its_size(shape, number):
    network = UNet(shape, DEFAULT)
    counted = sum(int(np.prod(variable.shape)) for variable in network.parameters)
    print(f"{len(shape)}-D: {counted:,} parameters")
    assert counted == number


def test_layers_are_those_of_the_paper():
    layers = UNet((32, 32), DEFAULT).model.layers
    kinds = [type(layer).__name__ for layer in layers]
    slopes = [float(layer.alpha) for layer in layers if type(layer).__name__ == "LeakyReLU"]
    assert slopes == pytest.approx([0.2] * 11)
    assert {layer.kernel_size for layer in layers if type(layer).__name__ == "Conv2D"} == {(3, 3)}
    assert {layer.pool_size for layer in layers if type(layer).__name__ == "MaxPooling2D"} == {(2, 2)}
    assert kinds.count("MaxPooling2D") == kinds.count("UpSampling2D") == 4
    assert kinds.count("Concatenate") == 1 + 4  # both images, and a skip connection a level
    assert kinds[-1] == "Conv2D"  # the field itself is not bent by an activation


def test_sides_are_divisible_once_a_level():
    assert size_multiple([16, 32, 32, 32]) == 16
    assert size_multiple([4]) == 2
    UNet((2 * size_multiple(SMALL["encoder"]), 4), SMALL)


def test_the_network_starts_almost_at_the_identity(shape):
    network = UNet(shape, SMALL)
    images = [random_values(1, *shape, 1, seed=seed) for seed in (1, 2)]
    field = np.abs(network.displacement(network.model(images)))
    assert 0 < field.max() < 0.01


def test_moving_comes_first(shape):
    network = stirred(UNet(shape, SMALL))
    assert ["source" in tensor.name for tensor in network.model.inputs] == [True, False]


# ---- parameters on disk


def test_parameters_come_back_to_the_bit(shape, tmp_path):
    written = stirred(UNet(shape, SMALL))
    save_parameters(written, tmp_path / "parameters.npz")
    read = UNet(shape, SMALL)
    load_parameters(read, tmp_path / "parameters.npz")
    images = [random_values(1, *shape, 1, seed=seed) for seed in (1, 2)]
    np.testing.assert_array_equal(read.model(images), written.model(images))
    for ours, theirs in zip(read.parameters, written.parameters, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_parameters_fit_a_network_for_images_of_another_size(tmp_path):
    written = stirred(UNet((16, 12), SMALL))
    save_parameters(written, tmp_path / "parameters.npz")
    read = UNet((8, 20), SMALL)
    load_parameters(read, tmp_path / "parameters.npz")
    np.testing.assert_array_equal(read.parameters[0], written.parameters[0])


@pytest.mark.parametrize(
    "other",
    [{"encoder": [4, 8]}, {"decoder": [4, 4, 4, 4]}, {"decoder": [4, 4]}, {"shape": (8, 8, 8)}],
    ids=["wider", "longer", "shorter", "3-D"],
)
def test_parameters_of_another_architecture_are_refused(other, tmp_path):
    save_parameters(UNet((8, 8), SMALL), tmp_path / "parameters.npz")
    settings = SMALL | other
    network = UNet(settings.pop("shape", (8, 8)), settings)
    before = [variable.numpy() for variable in network.parameters]
    with pytest.raises(ValueError, match=r"parameters\.npz holds parameters of another network"):
        load_parameters(network, tmp_path / "parameters.npz")
    for variable, array in zip(network.parameters, before, strict=True):
        np.testing.assert_array_equal(variable, array)


def test_more_than_ninety_nine_layers_stay_in_order(tmp_path):
    class Deep:
        """As many variables as a network deeper than any here."""

        def __init__(self, value):
            self.parameters = [tf.Variable(value * n) for n in range(120)]

    written, read = Deep(1.0), Deep(0.0)
    save_parameters(written, tmp_path / "parameters.npz")
    load_parameters(read, tmp_path / "parameters.npz")
    assert [float(variable) for variable in read.parameters] == list(range(120))


def test_the_file_holds_plain_arrays_and_pickles_are_refused(tmp_path):
    network = UNet((8, 8), SMALL)
    save_parameters(network, tmp_path / "parameters.npz")
    with zipfile.ZipFile(tmp_path / "parameters.npz") as archive:
        for name in archive.namelist():
            with archive.open(name) as file:
                assert np.lib.format.read_magic(file) == (1, 0)
                _, _, dtype = np.lib.format.read_array_header_1_0(file)
                assert dtype == np.float32
    pickled = np.array([{"code": "runs when this is loaded"}], dtype=object)
    np.savez(tmp_path / "pickled.npz", pickled)
    with pytest.raises(UserError, match="other than plain arrays"):
        load_parameters(network, tmp_path / "pickled.npz")


@pytest.mark.parametrize("amount", [0.0, 1.0, 2.5])
def test_whole_cells_lie_where_nothing_else_is_interpolated_or_differentiated(shape, amount):
    """What is not in the mask may be no number: neither the warped image nor its derivative sees it."""
    rng = np.random.default_rng(2)
    mask = (rng.random((2, *shape, 1)) > 0.1).astype("f4")
    image = np.where(mask, rng.random(mask.shape), np.nan).astype("f4")
    displacement = tf.Variable(amount * rng.normal(size=(2, *shape, len(shape))).astype("f4"))
    with tf.GradientTape() as tape:
        moved = warp(tf.constant(image), displacement)
    whole = whole_cells(tf.constant(mask), displacement).numpy()[..., 0] == 1
    known = np.isfinite(moved)[..., 0] & np.isfinite(tape.gradient(moved, displacement)).all(axis=-1)
    positions = displacement.numpy() + np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
    inside = ((positions >= 0) & (positions <= np.array(shape) - 1)).all(axis=-1)
    np.testing.assert_array_equal(whole, known & inside)
    assert 0.1 < whole.mean() < 0.9
    assert not whole_cells(tf.zeros_like(mask), displacement).numpy().any()
