"""Kinds of networks: what is shared by all, shown with one that is made up and has neither layers nor an encoder."""

import dataclasses
import inspect
import json
import re
import types
from pathlib import Path
from urllib.parse import urlparse

import jsonschema
import numpy as np
import pandas as pd
import pytest
import register_network
import SimpleITK as sitk
import train_conditional
import train_network
import yaml
from referencing import Registry, Resource
from test_training import arrays_of, training_arguments

from cohortmorph import UserError
from cohortmorph.cohort import configuration
from cohortmorph.cohort.network_plan import NetworkPlan
from cohortmorph.learning import applied_network, checkpoints, kinds, task
from cohortmorph.learning.kind import Kind
from cohortmorph.learning.kinds import kind_of
from cohortmorph.learning.networks import save_parameters, start_tensorflow, tf
from cohortmorph.learning.task import Training
from cohortmorph.learning.training import Recipe
from cohortmorph.run import files
from cohortmorph.spatial import displacement, geometry
from cohortmorph.spatial.geometry import Grid

# As little as the shared code asks for, and a key of the kind's own.
SETTINGS = {
    "kind": "shift",
    "dimensions": 2,
    "epochs": 6,
    "steps_per_epoch": 2,
    "batch_size": 4,
    "learning_rate": 0.1,
    "learning_rate_schedule": "cosine",
    "kept_epochs": [2, 6],
    "flips": False,
    "aim": 3.0,
}
OBLIQUE = (0.8, -0.6, 0, 0.6, 0.8, 0, 0, 0, 1)


class Shift:
    """Answers every pair with one displacement, in voxels: at its start one voxel along every axis."""

    def __init__(self, shape, settings):
        self.shape = tuple(shape)
        self.shift = tf.Variable(tf.ones([len(shape)]))

    @property
    def parameters(self):
        return [self.shift]

    @property
    def values(self):
        return int(np.prod(self.shape)) * len(self.shape)

    def field(self, moving, fixed, weights=None, training=False):
        return self.shift + tf.zeros([moving.shape[0], *self.shape, len(self.shape)])

    def displacement(self, field):
        return field

    def draw_weights(self, rng, weights, number):
        return tf.constant(weights[0], tf.float32)

    def weights_of(self, weight, number):
        return tf.constant(weight, tf.float32)


class Aim:
    """The distance to a known displacement, and how large it is times λ; validation sees only the first."""

    names = ("loss", "distance_to_aim", "size")
    watched = ("loss", "distance_to_aim")
    values = 4

    def __init__(self, settings, label_numbers):
        self.aim = settings["aim"]
        if self.aim < 0:
            raise UserError(f"aim: found {self.aim}; expected 0 or more.")

    def parts(self, field, displacement, weights, batch):
        brightness = 0.01 * tf.reduce_mean(batch.moving)  # what is drawn makes a difference
        distance = tf.reduce_mean((displacement - self.aim - brightness) ** 2)
        size = tf.reduce_mean(field**2)
        return distance + weights * size, distance, size


def module_of(path, text="first"):
    """A module of a kind, for its fingerprint."""
    path.write_text(text)
    module = types.ModuleType(path.stem)
    module.__file__ = str(path)
    return module


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    start_tensorflow(seed=1, threads=1)


@pytest.fixture
def kind(tmp_path, monkeypatch):
    """The made-up kind, as if it were one of the registry."""
    made_up = Kind((module_of(tmp_path / "shift.py"),), lambda settings: 1, Shift, Aim)
    for module in (task, kinds):  # a registrar asks the registry itself, when it needs TensorFlow
        monkeypatch.setattr(module, "kind_of", {"shift": made_up}.__getitem__)
    return made_up


def arguments_of(folder, **changes):
    folder.mkdir(exist_ok=True)
    arguments = training_arguments(folder, settings=SETTINGS)
    arguments["training"] |= changes
    return arguments


def test_the_registry_names_its_kinds_and_refuses_others():
    assert kind_of("voxelmorph").multiple({"encoder": [4, 4, 4]}) == 8
    with pytest.raises(ValueError, match="magic is no kind of network; each of config/schemas/kinds/ has a case"):
        kind_of("magic")


# What planning knows of kinds, of which it loads none, is what they are.

SCHEMA = configuration.SCHEMAS / "config.schema.yaml"
WRITTEN = {"weights": ["1"], "epochs": 2, "kept_epochs": [2]}  # no more is needed of any kind


def plan_of(kind):
    """Return the plan of a network of this kind, all else as it is by default."""
    config = configuration.with_defaults({"networks": {"mine": WRITTEN | {"kind": kind}}})
    return NetworkPlan("mine", config["networks"]["mine"], cohort=None, results=None)


def test_every_kind_has_a_schema_a_name_in_the_configuration_s_and_a_case():
    entry = yaml.safe_load(SCHEMA.read_text())["properties"]["networks"]["additionalProperties"]
    composed = [(one["if"]["properties"]["kind"]["const"], one["then"]["$ref"]) for one in entry["allOf"]]
    assert configuration.kinds() and sorted(entry["properties"]["kind"]["enum"]) == configuration.kinds()
    assert sorted(composed) == [(name, f"kinds/{name}.schema.yaml") for name in configuration.kinds()]
    cases = re.findall(r'^        case "(.*)":$', inspect.getsource(kind_of), re.M)
    assert sorted(cases) == configuration.kinds()
    assert len({id(kind_of(name)) for name in cases}) == len(cases) and isinstance(kind_of(cases[0]), Kind)


@pytest.mark.parametrize("name", configuration.kinds())
def test_the_plan_of_every_kind_knows_its_multiple_and_whether_it_is_conditional(name):
    plan = plan_of(name)
    assert plan.grid_settings["multiple"] == kind_of(name).multiple(plan.settings)
    assert plan.may_be_conditional == (kind_of(name).conditional is not None)


@pytest.mark.parametrize("name", configuration.kinds())
def test_every_kind_makes_a_network_and_an_objective_of_its_defaults_alone(name):
    kind, settings = kind_of(name), plan_of(name).settings
    network = kind.network(kind.smallest_shape(settings), settings)
    assert network.parameters and network.values > 0
    objective = kind.objective(settings, [])
    assert objective.names[0] == objective.watched[0] == "loss" and set(objective.watched) <= set(objective.names)


@pytest.fixture(scope="module")
def editor():
    """The schemas as an editor puts them together: by their `$ref` alone."""
    read = lambda uri: Resource.from_contents(yaml.safe_load(Path(urlparse(uri).path).read_text()))  # noqa: E731
    return jsonschema.Draft202012Validator({"$ref": SCHEMA.as_uri()}, registry=Registry(retrieve=read))


def test_editors_accept_the_shipped_configuration_and_a_network_that_is_left_out(editor):
    shipped = yaml.safe_load((SCHEMA.parents[1] / "config.yaml").read_text())
    assert shipped["networks"]
    assert [error.message for error in editor.iter_errors(shipped)] == []
    assert [error.message for error in editor.iter_errors(shipped | {"networks": {"mine": None}})] == []


@pytest.mark.parametrize("name", configuration.kinds())
def test_editors_take_what_the_workflow_takes_of_every_kind_and_no_other_key(editor, name):
    shipped = yaml.safe_load((SCHEMA.parents[1] / "config.yaml").read_text())
    network = WRITTEN | {"kind": name}
    for chosen, good in ((network, True), (network | {"unheard_of": 1}, False), (network | {"epochs": "2"}, False)):
        assert configuration.network_validator(name).is_valid(chosen) == good
        errors = list(editor.iter_errors(shipped | {"networks": {"mine": chosen}}))
        assert [list(error.absolute_path)[:2] for error in errors] == [["networks", "mine"]] * len(errors)
        assert (not errors) == good, [error.message for error in errors]


def test_a_kind_is_trained_by_the_shared_loop_with_parts_of_its_own(kind, tmp_path, caplog):
    caplog.set_level("INFO")
    train_network.main(**arguments_of(tmp_path / "training"))
    history = pd.read_csv(tmp_path / "training/history.tsv", sep="\t")
    assert history.columns.tolist() == [
        *("epoch", "loss", "distance_to_aim", "size"),
        *("validation_loss", "validation_distance_to_aim", "seconds"),
    ]
    np.testing.assert_allclose(history["loss"], history["distance_to_aim"] + 0.5 * history["size"], rtol=1e-5)
    # The first step sees one voxel and an aim of three, with a little brightness.
    assert history["distance_to_aim"][0] == pytest.approx(4, abs=0.1) and history["loss"].is_monotonic_decreasing
    assert "epoch 6 of 6: loss " in caplog.text and ", distance to aim " in caplog.text
    assert "mine, λ = 0.5, on CPU" in caplog.text
    report = files.read_json(tmp_path / "training/training.json")
    assert (report["network"], report["settings"]["kind"]) == ("mine", "shift")
    assert report["shape"] == [37, 33]  # of the largest image: a kind without an encoder pads to no multiple
    assert list(arrays_of(tmp_path / "training/epoch-6.npz")) == ["000"]
    live = pd.read_csv(tmp_path / "training/live_history.tsv", sep="\t")
    assert live.columns.tolist() == history.columns.tolist()


def test_it_goes_on_from_its_checkpoint_to_the_same_bits(kind, tmp_path, monkeypatch):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    train_network.main(**arguments_of(whole))
    save = checkpoints.Checkpoint.save

    def save_and_die(self, variables, rows, kept, last=False):
        save(self, variables, rows, kept, last=True)
        if len(rows) == 3:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(checkpoints.Checkpoint, "save", save_and_die)
        train_network.main(**arguments_of(cut))
    train_network.main(**arguments_of(cut))
    assert files.read_json(cut / "training.json")["resumed_after_epoch"] == 3
    for name in ("epoch-2.npz", "epoch-6.npz"):
        np.testing.assert_array_equal(arrays_of(whole / name)["000"], arrays_of(cut / name)["000"])
    expected, found = (pd.read_csv(f / "history.tsv", sep="\t").drop(columns="seconds") for f in (whole, cut))
    pd.testing.assert_frame_equal(found, expected, check_exact=True)


def test_a_breakdown_names_its_parts_and_its_section(kind, tmp_path):
    broken = arguments_of(tmp_path / "training", settings=SETTINGS | {"aim": float("nan")})
    said = (
        r"training mine with λ = 0\.5 broke down at epoch 1, step 1: loss nan \(distance to aim nan, size 1, size of "
        r"the gradient nan\)\. .* Lower networks\.mine\.learning_rate"
    )
    with pytest.raises(UserError, match=said):
        train_network.main(**broken)
    assert arrays_of(tmp_path / "training/last-good-parameters.npz")["000"].tolist() == [1, 1]


def test_what_its_objective_refuses_is_told_with_the_place_in_the_configuration(kind, tmp_path):
    with pytest.raises(UserError, match=r"^networks\.mine\.aim: found -1; expected 0 or more\."):
        train_network.main(**arguments_of(tmp_path / "training", settings=SETTINGS | {"aim": -1}))


def test_the_job_that_needs_more_memory_is_named():
    recipe = Recipe("mine", kind_of("voxelmorph"), [0.5], SETTINGS, 1)
    assert recipe.more_memory == "--set-resources train_mine:htcondor_request_mem_mb=..."
    several = dataclasses.replace(recipe, weights=[0.5, 2.0])
    assert several.more_memory == "--set-resources train_mine_conditional:htcondor_request_mem_mb=..."
    assert (recipe.title, several.title) == ("mine with λ = 0.5", "mine with λ = 0.5 to 2")


def test_a_kind_without_a_conditional_network_refuses_several_weights(kind, tmp_path):
    arguments = arguments_of(tmp_path / "training", weight=["0.5", "2"])
    with pytest.raises(ValueError, match="a network of the kind shift learns one λ: found 2 weights"):
        train_conditional.main(conditional=arguments["networks"], **arguments)


@pytest.mark.parametrize("dimensions", [2, 3])
def test_it_is_applied_by_the_shared_registrar_in_mm_along_the_axes_of_the_image(kind, tmp_path, dimensions):
    grid = Grid((13, 10, 7), (1.5, 2.0, 4.0), (-30.0, 12.0, 400.0), OBLIQUE)
    rng = np.random.default_rng(1)
    given = {name: str(tmp_path / f"{name}.nii.gz") for name in ("fixed", "fixed_input", "moving_input")}
    for path in given.values():
        geometry.write_image(geometry.to_image(rng.random(grid.size, dtype=np.float32), grid), path)
    for name in ("frame_to_fixed", "frame_to_moving"):
        given[name] = str(tmp_path / f"{name}.tfm")
        geometry.write_transform(sitk.AffineTransform(3), given[name])
    save_parameters(Shift((5,) * dimensions, SETTINGS), tmp_path / "epoch-6.npz")
    output = tmp_path / "mine_weight-0.5_epoch-6/displacement.nii.gz"
    output.parent.mkdir()
    settings = SETTINGS | {"dimensions": dimensions}
    network = str(tmp_path / "epoch-6.npz")
    register_network.main("P1-A_to_P1-B", given, [network], settings, threads=1, displacements=[str(output)])
    # One voxel along each axis of the network: of mm, and turned into LPS by the image's own axes.
    shift_mm = [1.5, 2.0, 4.0][:dimensions] + [0.0] * (3 - dimensions)
    expected_mm = np.array(OBLIQUE).reshape(3, 3) @ shift_mm
    found_mm = geometry.to_array(displacement.read(output, grid))
    np.testing.assert_allclose(found_mm, np.broadcast_to(expected_mm, found_mm.shape), atol=1e-4)
    assert json.loads((output.parent / "registration.json").read_text())["device"] == "CPU"


def test_a_registrar_of_its_own_is_used(kind):
    own = dataclasses.replace(kind, registrar=lambda shape, settings: ("own", shape, settings["kind"]))
    assert applied_network.registrar_of(own, (5, 6, 7), SETTINGS) == ("own", (5, 6, 7), "shift")
    assert applied_network.registrar_of(kind, (5, 6, 7), SETTINGS).shape == (5, 6)


def test_samples_of_its_own_are_drawn_from(kind, tmp_path, monkeypatch):
    asked = []

    def samples(settings, multiple, training, validation):
        asked.append((settings["kind"], multiple, len(training), len(validation)))
        return kind.samples(settings, 10, training, validation)

    own = dataclasses.replace(kind, samples=samples)
    monkeypatch.setattr(task, "kind_of", {"shift": own}.__getitem__)
    train_network.main(**arguments_of(tmp_path / "training"))
    assert asked == [("shift", 1, 3, 1)]
    assert files.read_json(tmp_path / "training/training.json")["shape"] == [40, 40]


def test_the_fingerprint_knows_the_code_of_its_own_kind_alone_and_not_the_name(kind, tmp_path, monkeypatch):
    other = dataclasses.replace(kind, modules=(module_of(tmp_path / "other.py"),))
    monkeypatch.setattr(task, "kind_of", {"shift": kind, "other": other}.__getitem__)
    arguments = arguments_of(tmp_path / "training")["training"]
    of_other = arguments | {"settings": SETTINGS | {"kind": "other"}}
    first, first_of_other = Training(**arguments).fingerprint, Training(**of_other).fingerprint
    module_of(tmp_path / "other.py", "changed")
    assert Training(**arguments).fingerprint == first
    assert Training(**of_other).fingerprint != first_of_other
    assert Training(**arguments | {"network": "other"}).fingerprint == first
    assert Training(**arguments | {"settings": SETTINGS | {"aim": 4.0}}).fingerprint != first
    module_of(tmp_path / "shift.py", "changed")
    assert Training(**arguments).fingerprint != first
