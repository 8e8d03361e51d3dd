"""The scripts around VoxelMorph and the affine transforms, from files to files: directions, frames, grids, units."""

import numpy as np
import pytest
import register_affine
import register_network
import SimpleITK as sitk
from compose_affine import main as compose_affine
from prepare_input import main as prepare_input
from prepare_labels import main as prepare_labels
from prepare_mask import main as prepare_mask
from scipy.spatial.transform import Rotation

from cohortmorph import UserError
from cohortmorph.learning.matching import MatchingNetwork
from cohortmorph.learning.networks import save_parameters, start_tensorflow
from cohortmorph.learning.parameters import checksum
from cohortmorph.learning.registrar import Registrar
from cohortmorph.learning.samples import crop
from cohortmorph.learning.unet import UNet
from cohortmorph.run.files import read_json, write_json
from cohortmorph.spatial import displacement, geometry
from cohortmorph.spatial.geometry import Grid

OBLIQUE = Rotation.from_euler("xyz", [20, -35, 50], degrees=True).as_matrix()
# The frame on which the network works.
GRIDS = {
    "LPS": Grid((20, 18, 16), (2.0, 2.0, 2.0), (-20.0, -15.0, -10.0)),
    "RAS": Grid((20, 18, 16), (2.0, 1.5, 2.5), (20.0, 15.0, -10.0), (-1, 0, 0, 0, -1, 0, 0, 0, 1)),
    "oblique": Grid((20, 18, 16), (1.8, 2.0, 2.5), (-10.0, -20.0, 5.0), tuple(OBLIQUE.ravel())),
    "thick slices": Grid((30, 28, 8), (0.8, 0.8, 5.0), (-12.0, -11.0, -20.0)),
    "axes permuted": Grid((20, 18, 16), (1.5, 2.0, 2.5), (-15.0, -15.0, -15.0), (0, 0, 1, 1, 0, 0, 0, 1, 0)),
}
# The fixed image has a grid of its own, with other axes.
FIXED = Grid((24, 22, 20), (3.0, 3.0, 3.0), (35.0, -30.0, -25.0), (-1, 0, 0, 0, 1, 0, 0, 0, 1))
TO_FIXED = geometry.affine(Rotation.from_euler("z", 25, degrees=True).as_matrix() * [1.1, 0.95, 1.0], [6.0, -4.0, 3.0])
TO_MOVING = geometry.affine(
    Rotation.from_euler("xyz", [10, 5, -40], degrees=True).as_matrix() + np.diag([0.05, 0, -0.1]), [-8.0, 12.0, 5.0]
)
SETTINGS = {
    "kind": "voxelmorph",
    "dimensions": 2,
    "encoder": [4, 4],
    "decoder": [4, 4, 4],
    "int_steps": 0,
    "field_downsampling": 1,
}


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    start_tensorflow(seed=1, threads=1)


@pytest.fixture(params=GRIDS.values(), ids=GRIDS.keys())
def frame(request):
    return request.param


def mapped(transform, points_mm):
    """Map points, shape (n, 3), by an affine transform, with numpy."""
    matrix, offset_mm = geometry.matrix_and_offset(transform)
    return points_mm @ matrix.T + offset_mm


def inverted(transform, points_mm):
    matrix, offset_mm = geometry.matrix_and_offset(transform)
    return (points_mm - offset_mm) @ np.linalg.inv(matrix).T


def write_noise(path, grid, seed=1):
    """Write an image of random values on `grid`; return its path."""
    values = np.random.default_rng(seed).random(grid.size).astype(np.float32)
    geometry.write_image(geometry.to_image(values, grid), path)
    return str(path)


def some_points(n=30):
    return np.random.default_rng(5).uniform(-40, 40, (n, 3))


# ---- compose_affine


def test_composing_goes_from_fixed_back_to_the_frame_and_on_to_moving(tmp_path):
    geometry.write_transform(TO_FIXED, tmp_path / "fixed.tfm")
    geometry.write_transform(TO_MOVING, tmp_path / "moving.tfm")
    cost = {"cpu_seconds": 3.0, "peak_memory_mb": 200.0}
    write_json({"seconds": 2.5, "threads": 1} | cost, tmp_path / "fixed.json")
    write_json({"seconds": 4.0, "threads": 2} | cost | {"peak_memory_mb": 300.0}, tmp_path / "moving.json")
    compose_affine(
        to_fixed=str(tmp_path / "fixed.tfm"),
        to_moving=str(tmp_path / "moving.tfm"),
        registrations=[str(tmp_path / "fixed.json"), str(tmp_path / "moving.json")],
        affine=str(tmp_path / "affine.tfm"),
        registration=str(tmp_path / "affine.json"),
    )
    in_frame_mm = some_points()
    of_fixed_mm, of_moving_mm = mapped(TO_FIXED, in_frame_mm), mapped(TO_MOVING, in_frame_mm)
    composed = geometry.read_affine(tmp_path / "affine.tfm")
    np.testing.assert_allclose(mapped(composed, of_fixed_mm), of_moving_mm, atol=1e-6)
    cost = {"seconds": 6.5, "cpu_seconds": 6.0, "peak_memory_mb": 300.0}
    assert read_json(tmp_path / "affine.json") == cost | {"threads": 2, "composed_of": 2}


@pytest.mark.parametrize(("kept", "expected"), [((True, False), True), ((False, False), False), ((None, True), True)])
def test_a_transform_composed_of_a_kept_start_says_so(tmp_path, kept, expected):
    cost = {"seconds": 1.0, "cpu_seconds": 1.0, "peak_memory_mb": 1.0, "threads": 1}
    for role, start_kept in zip(("fixed", "moving"), kept, strict=True):
        geometry.write_transform(TO_FIXED, tmp_path / f"{role}.tfm")
        write_json(cost | ({} if start_kept is None else {"start_kept": start_kept}), tmp_path / f"{role}.json")
    files = [str(tmp_path / name) for name in ("fixed.tfm", "moving.tfm", "fixed.json", "moving.json")]
    compose_affine(*files[:2], files[2:], str(tmp_path / "affine.tfm"), str(tmp_path / "affine.json"))
    assert read_json(tmp_path / "affine.json")["start_kept"] is expected


def test_a_transform_composed_of_a_failed_alignment_has_failed(tmp_path):
    for role, facts in (("fixed", {"failed": "no overlap"}), ("moving", {"seconds": 1.0, "threads": 1})):
        geometry.write_transform(TO_FIXED, tmp_path / f"{role}.tfm")
        write_json(facts, tmp_path / f"{role}.json")
    files = [str(tmp_path / name) for name in ("fixed.tfm", "moving.tfm", "fixed.json", "moving.json")]
    compose_affine(*files[:2], files[2:], str(tmp_path / "affine.tfm"), str(tmp_path / "affine.json"))
    assert read_json(tmp_path / "affine.json") == {"failed": "no overlap"}
    assert (tmp_path / "affine.tfm").exists()  # what the other methods start from


def test_a_failed_alignment_fails_the_method_affine_alone(tmp_path):
    write_noise(tmp_path / "fixed.nii.gz", FIXED)
    geometry.write_transform(TO_MOVING, tmp_path / "affine.tfm")
    write_json({"failed": "no overlap"}, tmp_path / "affine.json")
    paths = [tmp_path / method / "displacement.nii.gz" for method in ("initial", "affine")]
    files = [str(tmp_path / name) for name in ("fixed.nii.gz", "affine.tfm", "affine.json")]
    register_affine.main(*files, [], dict(zip(("initial", "affine"), paths, strict=True)))
    assert displacement.read_unless_failed(paths[0]) is not None
    assert displacement.read_unless_failed(paths[1]) is None
    assert read_json(tmp_path / "affine/registration.json") == {"failed": "no overlap"}


def test_an_image_is_aligned_to_itself_by_the_identity(tmp_path):
    compose_affine("", "", [], str(tmp_path / "affine.tfm"), str(tmp_path / "affine.json"))
    matrix, offset_mm = geometry.matrix_and_offset(geometry.read_affine(tmp_path / "affine.tfm"))
    np.testing.assert_array_equal(matrix, np.eye(3))
    np.testing.assert_array_equal(offset_mm, 0)
    assert read_json(tmp_path / "affine.json") == {
        **{"seconds": 0, "cpu_seconds": 0, "threads": 1, "peak_memory_mb": 0, "composed_of": 0}
    }


# ---- register_affine


def register_free(tmp_path, methods, harmonized):
    write_noise(tmp_path / "fixed.nii.gz", FIXED)
    geometry.write_transform(TO_MOVING, tmp_path / "affine.tfm")
    write_json({"seconds": 3.0, "threads": 1, "seed": 4}, tmp_path / "affine.json")
    paths = {method: str(tmp_path / method / "displacement.nii.gz") for method in methods}
    files = [str(tmp_path / name) for name in ("fixed.nii.gz", "affine.tfm", "affine.json")]
    register_affine.main(*files, harmonized, paths)
    return {method: displacement.read(path, FIXED) for method, path in paths.items()}


def test_initial_harmonized_and_affine_move_landmarks_as_their_transforms_do(tmp_path):
    """Harmonizing gives a transform for each image, from the harmonized world into its own."""
    files = [str(tmp_path / f"{name}.tfm") for name in ("of_fixed", "of_moving")]
    of_moving = geometry.affine(Rotation.from_euler("z", 17, degrees=True).as_matrix(), [1.0, 2.0, -6.0])
    geometry.write_transform(TO_FIXED, files[0])
    geometry.write_transform(of_moving, files[1])
    write_json({}, tmp_path / "harmonize.json")
    # Not in the order in which they are written down in the script.
    fields = register_free(tmp_path, ["affine", "initial", "harmonized"], files)
    points_mm = FIXED.to_world(np.random.default_rng(3).integers(0, FIXED.size, (20, 3)))
    expected = {
        "initial": points_mm,
        "affine": mapped(TO_MOVING, points_mm),
        "harmonized": mapped(of_moving, inverted(TO_FIXED, points_mm)),
    }
    for method, field in fields.items():
        np.testing.assert_allclose(displacement.move_points(points_mm, field), expected[method], atol=1e-3)
    assert read_json(tmp_path / "affine/registration.json") == {"seconds": 3.0, "threads": 1, "seed": 4}
    for method in ("initial", "harmonized"):
        assert read_json(tmp_path / method / "registration.json")["seconds"] == 0
    write_json({"failed": "no slice matches"}, tmp_path / "harmonize.json")
    paths = [str(tmp_path / method / "displacement.nii.gz") for method in ("harmonized", "affine")]
    before = [str(tmp_path / name) for name in ("fixed.nii.gz", "affine.tfm", "affine.json")]
    register_affine.main(*before, files, dict(zip(("harmonized", "affine"), paths, strict=True)))
    assert displacement.read_unless_failed(paths[0]) is None and displacement.read_unless_failed(paths[1]) is not None
    assert read_json(tmp_path / "harmonized/registration.json") == {"failed": "no slice matches"}


def test_without_harmonizing_there_are_two_free_methods(tmp_path):
    fields = register_free(tmp_path, ["initial", "affine"], [])
    assert set(fields) == {"initial", "affine"}
    assert not (tmp_path / "harmonized").exists()


# ---- prepare_input


def view(dimensions=3, multiple=16):
    """How the network sees images of any spacing."""
    return {"spacing_mm": None, "dimensions": dimensions, "multiple": multiple}


def aligned(folder, **how):
    """Write how the affine alignment went; return the path."""
    write_json({"seconds": 1.0} | how, folder / "affine.json")
    return str(folder / "affine.json")


def test_an_image_is_seen_through_its_affine_on_the_frame_s_grid(frame, tmp_path):
    """A ramp in the image's world, sampled at the places where the affine puts the frame's voxels."""
    wide = Grid((60, 60, 60), (3.0, 3.0, 3.0), (-90.0, -85.0, -80.0))
    normal = np.array([0.3, -0.2, 0.5])
    ramp = (wide.points_mm() @ normal).astype(np.float32)
    geometry.write_image(geometry.to_image(ramp, wide), tmp_path / "image.nii.gz")
    write_noise(tmp_path / "frame.nii.gz", frame)
    geometry.write_transform(TO_MOVING, tmp_path / "affine.tfm")
    prepare_input(
        image=str(tmp_path / "image.nii.gz"),
        frame=str(tmp_path / "frame.nii.gz"),
        affine=str(tmp_path / "affine.tfm"),
        registration=aligned(tmp_path),
        intensity_settings={"window": [-100, 100]},
        view=view(dimensions=2),
        output=str(tmp_path / "input.nii.gz"),
    )
    seen = geometry.read_image(tmp_path / "input.nii.gz")
    grid = Grid.of(seen)
    assert grid.size == (32, 32, frame.size[2])
    points_mm = mapped(TO_MOVING, grid.points_mm().reshape(-1, 3))
    expected = ((points_mm @ normal + 100) / 200).reshape(grid.size)
    expected[~wide.contains(points_mm).reshape(grid.size)] = np.nan
    values = geometry.to_array(seen)
    assert values.dtype == np.float32
    reached = np.isfinite(expected)
    assert reached.mean() > 0.5
    np.testing.assert_allclose(values[reached], np.clip(expected[reached], 0, 1), atol=1e-4)


def test_where_the_image_does_not_reach_the_network_sees_zero(tmp_path):
    small = geometry.to_image(np.full((8, 8, 8), 90.0) + np.arange(8), GRIDS["LPS"].resized((8, 8, 8)))
    geometry.write_image(small, tmp_path / "image.nii.gz")
    write_noise(tmp_path / "frame.nii.gz", GRIDS["LPS"])
    geometry.write_transform(sitk.AffineTransform(3), tmp_path / "affine.tfm")
    files = [str(tmp_path / name) for name in ("image.nii.gz", "frame.nii.gz", "affine.tfm")]
    prepare_input(*files, aligned(tmp_path), {"window": [0, 100]}, view(), str(tmp_path / "input.nii.gz"))
    values = geometry.to_array(geometry.read_image(tmp_path / "input.nii.gz"))
    assert values.shape == (32, 32, 16)
    middle = crop(values, (8, 8, 8))
    assert middle.min() > 0.89
    assert values.sum() == pytest.approx(middle.sum())
    # What could not be aligned is not seen at all.
    failed = aligned(tmp_path, failed="no overlap")
    prepare_input(*files, failed, {"window": [0, 100]}, view(), str(tmp_path / "input.nii.gz"))
    assert not geometry.to_array(geometry.read_image(tmp_path / "input.nii.gz")).any()


def test_an_image_that_cannot_be_prepared_is_seen_as_nothing_and_fails_its_registration(tmp_path, caplog):
    grid = GRIDS["LPS"]
    geometry.write_image(geometry.to_image(np.full(grid.size, 7.0, np.float32), grid), tmp_path / "image.nii.gz")
    write_noise(tmp_path / "frame.nii.gz", grid)
    geometry.write_transform(sitk.AffineTransform(3), tmp_path / "affine.tfm")
    files = [str(tmp_path / name) for name in ("image.nii.gz", "frame.nii.gz", "affine.tfm")]
    prepare_input(
        *files, aligned(tmp_path), {"percentiles": [0, 100]}, view(multiple=4), str(tmp_path / "nothing.nii.gz")
    )
    assert "gives all voxels one value" in caplog.text
    assert not geometry.to_array(geometry.read_image(tmp_path / "nothing.nii.gz")).any()
    output = tmp_path / "network-0" / "displacement.nii.gz"
    register_network.main(
        pair="P01-T1_to_P01-CT",
        files={
            "fixed": files[1],
            "fixed_input": files[1],
            "moving_input": str(tmp_path / "nothing.nii.gz"),
            "frame_to_fixed": files[2],
            "frame_to_moving": files[2],
        },
        networks=["never read"],
        settings=SETTINGS,
        threads=1,
        displacements=[str(output)],
    )
    assert displacement.read_unless_failed(output) is None
    assert "could not be prepared" in read_json(output.parent / "registration.json")["failed"]


def test_labels_are_seen_through_the_same_affine_on_the_same_grid_unmixed(frame, tmp_path):
    """Where the image, seen by the network, is well inside of a structure, its label is that structure's."""
    wide = Grid((60, 60, 60), (3.0, 3.0, 3.0), (-90.0, -85.0, -80.0))
    ramp = (wide.points_mm() @ np.array([0.3, -0.2, 0.5])).astype(np.float32)
    structures = np.where(ramp > 0, 3, 7).astype(np.uint8)
    geometry.write_image(geometry.to_image(ramp, wide), tmp_path / "image.nii.gz")
    geometry.write_image(geometry.to_image(structures, wide), tmp_path / "labels.nii.gz")
    write_noise(tmp_path / "frame.nii.gz", frame)
    geometry.write_transform(TO_MOVING, tmp_path / "affine.tfm")
    image, labels, reference, affine, seen, seen_labels = [
        str(tmp_path / f"{name}")
        for name in ("image.nii.gz", "labels.nii.gz", "frame.nii.gz", "affine.tfm", "a.nii.gz", "b.nii.gz")
    ]
    prepare_input(image, reference, affine, aligned(tmp_path), {"window": [-100, 100]}, view(), seen)
    prepare_labels(labels, image, reference, affine, view(), seen_labels)
    assert geometry.read_grid(seen_labels).difference_from(geometry.read_grid(seen)) is None
    values = 200 * geometry.to_array(geometry.read_image(seen)) - 100
    numbers = geometry.to_array(geometry.read_image(seen_labels))
    assert set(np.unique(numbers)) <= {0, 3, 7}
    inside = (numbers > 0) & (np.abs(values) > 3)  # 3: the ramp over a voxel's diagonal
    assert inside.mean() > 0.3
    np.testing.assert_array_equal(numbers[inside], np.where(values[inside] > 0, 3, 7))


def test_a_mask_is_seen_where_its_image_is_and_an_image_without_one_counts_as_far_as_it_reaches(frame, tmp_path):
    """The image is 1 where its mask is: the network's view of both agrees, but for the mask's own border."""
    small = Grid((11, 12, 13), (3.0, 3.0, 3.0), (-25.0, -18.5, -12.0))
    at = small.points_mm() @ np.array([0.3, -0.2, 0.5])
    inside = (at > 0).astype(np.float32)
    geometry.write_image(geometry.to_image(100 * inside, small), tmp_path / "image.nii.gz")
    geometry.write_image(geometry.to_image((5 * inside).astype(np.uint8), small), tmp_path / "mask.nii.gz")
    write_noise(tmp_path / "frame.nii.gz", frame)
    geometry.write_transform(TO_MOVING, tmp_path / "affine.tfm")
    image, mask, reference, affine, seen, *masks = [
        str(tmp_path / name)
        for name in ("image.nii.gz", "mask.nii.gz", "frame.nii.gz", "affine.tfm", "a.nii.gz", "b.nii.gz", "c.nii.gz")
    ]
    prepare_input(image, reference, affine, aligned(tmp_path), {"window": [0, 100]}, view(), seen)
    prepare_mask(mask, image, reference, affine, view(), masks[0])
    prepare_mask("", image, reference, affine, view(), masks[1])
    assert geometry.read_grid(masks[0]).difference_from(geometry.read_grid(seen)) is None
    values, counts, reached = (geometry.to_array(geometry.read_image(path)) for path in (seen, *masks))
    assert set(np.unique(counts)) == set(np.unique(reached)) == {0, 1}
    in_moving = geometry.read_grid(seen).points_mm().reshape(-1, 3)
    in_moving = np.array([TO_MOVING.TransformPoint(point) for point in in_moving])
    index = small.to_indices(in_moving).reshape(*reached.shape, 3)
    beyond = np.maximum(np.abs(index - (np.array(small.size) - 1) / 2) - (np.array(small.size) - 1) / 2, 0).max(axis=-1)
    assert (reached[beyond > 0.51] == 0).all() and (reached[beyond == 0] == 1).all()
    assert 0.05 < reached.mean() < 0.95
    clear = (beyond == 0) & ((values < 1e-3) | (values > 0.999))
    np.testing.assert_array_equal(counts[clear], np.round(values[clear]))
    assert 0.05 < counts[clear].mean() < 0.95  # both sides of the mask are looked at


@pytest.mark.parametrize("dimensions", [2, 3])
@pytest.mark.parametrize("spacing_mm", [None, 4.0, [3.0, 2.0, 5.0]], ids=str)
def test_the_network_s_grid_covers_the_frame_in_sides_that_it_can_halve(frame, spacing_mm, dimensions):
    grid = geometry.network_grid(frame, spacing_mm, dimensions, 16)
    expected_mm = frame.spacing_mm if spacing_mm is None else np.broadcast_to(spacing_mm, 3)
    np.testing.assert_allclose(grid.spacing_mm, expected_mm)
    np.testing.assert_array_equal(grid.axes, frame.axes)
    assert all(n % 16 == 0 for n in grid.size[:dimensions])
    if dimensions == 2:
        assert grid.size[2] == (frame.size[2] if spacing_mm is None else frame.respaced(spacing_mm).size[2])
    # Padded evenly: the middles are at most a voxel apart, and every corner of the frame's voxels is inside.
    corners = np.array([[i, j, k] for i in (0, 1) for j in (0, 1) for k in (0, 1)]) * np.array(frame.size) - 0.5
    at = grid.to_indices(frame.to_world(corners))
    assert (at >= -0.5 - 1e-6).all() and (at <= np.array(grid.size) - 0.5 + 1e-6).all()
    assert (np.abs(grid.to_indices(frame.centre_mm) - (np.array(grid.size) - 1) / 2) <= 0.5 + 1e-6).all()


# ---- register_network


def register(tmp_path, frame, networks, settings):
    """Run the script for a fixed image on FIXED; return its fields."""
    for name in ("fixed_input", "moving_input"):
        write_noise(tmp_path / f"{name}.nii.gz", frame, seed=len(name))
    write_noise(tmp_path / "fixed.nii.gz", FIXED)
    geometry.write_transform(TO_FIXED, tmp_path / "frame_to_fixed.tfm")
    geometry.write_transform(TO_MOVING, tmp_path / "frame_to_moving.tfm")
    outputs = [str(tmp_path / f"network-{number}/displacement.nii.gz") for number in range(len(networks))]
    register_network.main(
        pair="P01-T1_to_P01-CT",
        files={
            "fixed": str(tmp_path / "fixed.nii.gz"),
            "fixed_input": str(tmp_path / "fixed_input.nii.gz"),
            "moving_input": str(tmp_path / "moving_input.nii.gz"),
            "frame_to_fixed": str(tmp_path / "frame_to_fixed.tfm"),
            "frame_to_moving": str(tmp_path / "frame_to_moving.tfm"),
        },
        networks=networks,
        settings=settings,
        threads=1,
        displacements=outputs,
    )
    return [displacement.read(path, FIXED) for path in outputs]


def network_of_a_constant(voxels, settings, path):
    """Write a network that answers every pair with one displacement: its last layer is all bias."""
    network = UNet([16] * settings["dimensions"], settings)
    kernel, bias = network.parameters[-2:]
    kernel.assign(np.zeros(kernel.shape, np.float32))
    bias.assign(np.array(voxels, np.float32))
    save_parameters(network, path)
    return str(path)


def landmarks_seen_by(frame):
    """Return voxel centres of the fixed image that lie well inside the frame, and where they are in it."""
    points_mm = FIXED.points_mm().reshape(-1, 3)
    in_frame_mm = inverted(TO_FIXED, points_mm)
    index = frame.to_indices(in_frame_mm)
    seen = ((index > 0.5) & (index < np.array(frame.size) - 1.5)).all(axis=1)
    assert seen.sum() > 50
    return points_mm[seen], in_frame_mm[seen]


def test_two_passes_of_a_matching_network_arrive_in_moving_mm(frame, tmp_path):
    settings = SETTINGS | {"kind": "matching", "dimensions": 3, "mind": {"radius": 1, "dilation": 1}, "scales": 2}
    network = MatchingNetwork([32] * 3, settings)
    kernel, bias = network.parameters[-2:]
    kernel.assign(np.zeros(kernel.shape, np.float32))
    shift = np.array([1.25, -0.75, 0.5])
    bias.assign((shift / 4).astype(np.float32))  # two passes, and a voxel of the field is two of the images
    save_parameters(network, tmp_path / "network.npz")
    (field,) = register(tmp_path, frame, [str(tmp_path / "network.npz")], settings | {"passes": 2})
    points_mm, in_frame_mm = landmarks_seen_by(frame)
    expected_mm = mapped(TO_MOVING, in_frame_mm + frame.steps_mm @ shift)
    np.testing.assert_allclose(displacement.move_points(points_mm, field), expected_mm, atol=1e-3)


@pytest.mark.parametrize("dimensions", [2, 3])
def test_a_network_s_shift_arrives_in_moving_mm_through_both_affines(frame, dimensions, tmp_path):
    """x → A_F⁻¹ x = y in the frame → y + S u, u in voxels → A_M; two networks of one job keep their order."""
    settings = SETTINGS | {"dimensions": dimensions}
    shifts = [[1.25, -0.75, 0.5][:dimensions], [-2.0, 0.5, 1.0][:dimensions]]
    networks = [network_of_a_constant(u, settings, tmp_path / f"{n}.npz") for n, u in enumerate(shifts)]
    fields = register(tmp_path, frame, networks, settings)
    points_mm, in_frame_mm = landmarks_seen_by(frame)
    for number, (shift, field) in enumerate(zip(shifts, fields, strict=True)):
        shift_mm = frame.steps_mm @ np.array([*shift, 0.0][:3])
        expected_mm = mapped(TO_MOVING, in_frame_mm + shift_mm)
        np.testing.assert_allclose(displacement.move_points(points_mm, field), expected_mm, atol=1e-3)
        how = read_json(tmp_path / f"network-{number}/registration.json")
        assert how["threads"] == 1 and how["device"] == "CPU" and how["seconds"] > 0
        assert how["sha256"] == checksum(networks[number])


def test_a_displacement_that_varies_is_taken_at_the_right_place(frame, tmp_path, monkeypatch):
    """A displacement linear in the voxel indices survives linear interpolation: every landmark is known exactly."""
    slope = np.array([[0.05, -0.02, 0.03], [0.01, -0.04, 0.02], [-0.03, 0.02, 0.06]])
    offset = np.array([-0.5, 1.0, 0.25])

    def linear(self, fixed, moving):
        index = np.stack(np.meshgrid(*map(np.arange, fixed.shape), indexing="ij"), axis=-1)
        return (index @ slope.T + offset).astype(np.float32)

    monkeypatch.setattr(Registrar, "__call__", linear)
    networks = [network_of_a_constant([0.0, 0.0], SETTINGS, tmp_path / "parameters.npz")]
    (field,) = register(tmp_path, frame, networks, SETTINGS)
    points_mm, in_frame_mm = landmarks_seen_by(frame)
    voxels = frame.to_indices(in_frame_mm) @ slope.T + offset
    expected_mm = mapped(TO_MOVING, in_frame_mm + voxels @ frame.steps_mm.T)
    np.testing.assert_allclose(displacement.move_points(points_mm, field), expected_mm, atol=1e-3)
    assert np.ptp(voxels @ frame.steps_mm.T, axis=0).min() > 0.5


def test_outside_the_frame_a_displacement_fades_until_the_affine_remains(tmp_path, monkeypatch):
    frame, shift = GRIDS["LPS"], [3.0, 3.0]
    monkeypatch.setattr(displacement, "FADE_MM", 3 * max(frame.spacing_mm))
    networks = [network_of_a_constant(shift, SETTINGS, tmp_path / "parameters.npz")]
    (field,) = register(tmp_path, frame, networks, SETTINGS)
    points_mm = FIXED.points_mm().reshape(-1, 3)
    in_frame_mm = inverted(TO_FIXED, points_mm)
    index = frame.to_indices(in_frame_mm)
    beyond_mm = np.maximum(0, np.maximum(-index, index - np.array(frame.size) + 1)) * np.array(frame.spacing_mm)
    fade = np.maximum(0, 1 - beyond_mm / displacement.FADE_MM).prod(axis=-1, keepdims=True)
    expected_mm = mapped(TO_MOVING, in_frame_mm + fade * (frame.steps_mm @ [*shift, 0.0]))
    moved_mm = displacement.move_points(points_mm, field)
    # Where it reaches 0, between two voxels, it is rounded off.
    far = (beyond_mm > displacement.FADE_MM + np.array(frame.spacing_mm)).any(axis=-1)
    near = (beyond_mm < displacement.FADE_MM - np.array(frame.spacing_mm)).all(axis=-1) & (beyond_mm > 0).any(axis=-1)
    assert far.sum() > 50 and near.sum() > 50
    np.testing.assert_allclose(moved_mm[far], mapped(TO_MOVING, in_frame_mm[far]), atol=1e-3)
    np.testing.assert_allclose(moved_mm[near], expected_mm[near], atol=1e-3)


def test_a_network_of_another_architecture_stops_the_job(tmp_path):
    networks = [network_of_a_constant([0.0, 0.0], SETTINGS | {"decoder": [4, 4, 8]}, tmp_path / "parameters.npz")]
    with pytest.raises(ValueError, match="parameters of another network"):
        register(tmp_path, GRIDS["LPS"], networks, SETTINGS)
    assert not (tmp_path / "network-0/displacement.nii.gz").exists()


def test_a_network_that_answers_nonsense_leaves_no_displacement(tmp_path):
    networks = [network_of_a_constant([np.nan, 0.0], SETTINGS, tmp_path / "parameters.npz")]
    with pytest.raises((ValueError, UserError), match="not finite"):
        register(tmp_path, GRIDS["LPS"], networks, SETTINGS)
    assert not (tmp_path / "network-0/displacement.nii.gz").exists()
