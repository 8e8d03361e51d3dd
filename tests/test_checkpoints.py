"""A training that is killed and started again ends as if nothing had happened."""

import ast
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cohortmorph.cohort.configuration import kinds
from cohortmorph.learning import checkpoints, task
from cohortmorph.learning.kinds import kind_of
from cohortmorph.spatial import geometry

SCRIPTS = Path(__file__).parents[1] / "scripts"
LEARNING = SCRIPTS / "cohortmorph/learning"
EPOCHS = 40
SETTINGS = {
    "kind": "voxelmorph",
    "dimensions": 2,
    "encoder": [4, 4],
    "decoder": [4, 4, 4],
    "int_steps": 0,
    "field_downsampling": 1,
    "epochs": EPOCHS,
    "steps_per_epoch": 2,
    "batch_size": 2,
    "learning_rate": 0.001,
    "kept_epochs": [2, EPOCHS],
    "similarity": {"name": "ncc-squared", "window": 5, "mask": "none"},
    "regularization": {"name": "l2", "convention": "mean", "unit": "voxel", "folding_weight": 0},
    "label_weight": 0,
    "label_loss": "dice",
    "incompressible": {"labels": [], "weight": 0},
    "learning_rate_schedule": "cosine",
    "augment": {"deformation": 1, "intensity": 1},
    "flips": True,
}
# The rule's script on the images of a folder; every epoch leaves a checkpoint, and takes a while if so wished.
TRAIN = """
import sys, time
from cohortmorph.learning import checkpoints
import train_network
folder, weight, pause, settings = sys.argv[1], sys.argv[2], float(sys.argv[3]), {settings}
class Eager(checkpoints.Checkpoint):
    def save(self, *arguments, **options):
        self.every_seconds = 0
        super().save(*arguments, **options)
        time.sleep(pause)
checkpoints.Checkpoint = Eager
images = [("fixed.nii.gz", "moving.nii.gz")]
train_network.main(
    training=dict(
        network="mine", weight=weight, training_inputs=images, training_labels=[], training_masks=[],
        validation_inputs=images, validation_masks=[], settings=settings, seed=1, threads=1,
    ),
    history=folder + "/history.tsv", report=folder + "/training.json",
    networks=[folder + f"/epoch-{{epoch}}.npz" for epoch in settings["kept_epochs"]],
)
"""


def train(folder, name, weight="1", pause=0.0, settings=SETTINGS):
    """Start a training in a process of its own."""
    (folder / name).mkdir(exist_ok=True)
    return subprocess.Popen(
        [sys.executable, "-c", TRAIN.format(settings=settings), name, weight, str(pause)],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(SCRIPTS)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process):
    said = process.communicate()[1]
    assert process.returncode == 0, said[-3000:]


def epoch_of(path):
    with np.load(path, allow_pickle=False) as state:
        return len(state["history"])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("training")
    rng = np.random.default_rng(1)
    grid = geometry.sitk.Image([16, 16, 6], geometry.sitk.sitkFloat32)
    for name in ("fixed", "moving"):
        image = geometry.sitk.GetImageFromArray(rng.random((6, 16, 16), dtype=np.float32))
        image.CopyInformation(grid)
        geometry.write_image(image, folder / f"{name}.nii.gz")
    return folder


@pytest.fixture(scope="module")
def whole(folder):
    """A training that nothing disturbed."""
    finish(train(folder, "whole"))
    return folder / "whole"


@pytest.fixture(scope="module")
def resumed(folder, whole):
    """The same training, killed by SIGKILL in its midst, without its outputs (Snakemake removes them), and resumed."""
    state = folder / "resumed/checkpoint.npz"
    process = train(folder, "resumed", pause=0.3)
    until = time.monotonic() + 120
    while not (state.exists() and epoch_of(state) >= 3):
        assert process.poll() is None and time.monotonic() < until
        time.sleep(0.1)
    process.send_signal(signal.SIGKILL)
    process.wait()
    (folder / "resumed/epoch-2.npz").unlink()
    killed_after = epoch_of(state)
    assert killed_after < EPOCHS
    finish(train(folder, "resumed"))
    assert json.loads((folder / "resumed/training.json").read_text())["resumed_after_epoch"] == killed_after
    return folder / "resumed"


def test_resumed_parameters_are_identical_to_those_of_an_undisturbed_training(whole, resumed):
    for epoch in SETTINGS["kept_epochs"]:
        assert (resumed / f"epoch-{epoch}.npz").read_bytes() == (whole / f"epoch-{epoch}.npz").read_bytes()


def test_resumed_history_has_every_epoch_once_and_the_same_numbers(whole, resumed):
    expected, found = (pd.read_csv(f / "history.tsv", sep="\t").drop(columns="seconds") for f in (whole, resumed))
    assert found["epoch"].tolist() == list(range(1, EPOCHS + 1))
    pd.testing.assert_frame_equal(found, expected, check_exact=True)


def test_another_weight_does_not_resume(folder, resumed):
    finish(train(folder, "resumed", weight="2", settings=SETTINGS | {"epochs": 2, "kept_epochs": [1, 2]}))
    assert json.loads((folder / "resumed/training.json").read_text())["resumed_after_epoch"] == 0


def imports_of(module):
    """Names of the modules of the learning room that one of them imports, at its top or later; not which kinds are."""
    names = set()
    for node in ast.walk(ast.parse((LEARNING / f"{module}.py").read_text())):
        if isinstance(node, ast.Import):
            paths = [alias.name for alias in node.names if alias.name.startswith("cohortmorph.learning.")]
            names |= {path.removeprefix("cohortmorph.learning.") for path in paths}  # `voxelmorph` alone is a package
        if isinstance(node, ast.ImportFrom) and node.module == "cohortmorph.learning":
            names |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom) and node.module.startswith("cohortmorph.learning."):
            names.add(node.module.removeprefix("cohortmorph.learning."))
    return {name for name in names if (LEARNING / f"{name}.py").exists()} - {"kinds"}


def reached_from(module):
    reached, new = set(), {module}
    while new:
        reached |= new
        new = set().union(*map(imports_of, new)) - reached
    return reached


def stems(modules):
    return {Path(module.__file__).stem for module in modules}


def test_the_fingerprint_holds_all_code_of_the_room_that_a_training_runs():
    shared = reached_from("task")
    assert {"training", "trainer", "samples", "networks", "kind"} < shared
    assert stems(task.CODE) == shared
    assert {"objective", "losses", "unet", "conditional"} < reached_from("voxelmorph") - shared


@pytest.mark.parametrize("name", kinds())
def test_the_fingerprint_of_every_kind_holds_what_its_own_module_leads_to(name):
    assert stems(kind_of(name).modules) == reached_from(name) - reached_from("task")


class Variable:
    """What a checkpoint uses of a TensorFlow variable."""

    def __init__(self, value):
        self.value = np.array(value, np.float32)

    def numpy(self):
        return self.value

    def assign(self, value):
        self.value = value


@pytest.fixture
def saved(tmp_path):
    """A checkpoint after two epochs, of which the second was kept."""
    (tmp_path / "epoch-2.npz").write_bytes(b"parameters")
    checkpoint = checkpoints.Checkpoint(tmp_path / "checkpoint.npz", "a", every_seconds=0)
    checkpoint.save([Variable([1, 2])], [[1, 0.5], [2, 0.25]], {2: tmp_path / "epoch-2.npz", 9: tmp_path / "none"})
    return tmp_path


def test_state_comes_back(saved):
    variable = Variable([0, 0])
    (saved / "epoch-2.npz").unlink()
    rows = checkpoints.Checkpoint(saved / "checkpoint.npz", "a").restore([variable], {2: saved / "epoch-2.npz"})
    assert rows == [[1, 0.5], [2, 0.25]]
    assert variable.value.tolist() == [1, 2]
    assert (saved / "epoch-2.npz").read_bytes() == b"parameters"


def test_another_fingerprint_begins_anew(saved):
    variable = Variable([0, 0])
    assert checkpoints.Checkpoint(saved / "checkpoint.npz", "b").restore([variable], {}) == []
    assert variable.value.tolist() == [0, 0]


@pytest.mark.parametrize("length", [0, 10, 300])
def test_a_damaged_file_begins_anew(saved, length):
    path = saved / "checkpoint.npz"
    path.write_bytes(path.read_bytes()[:length])
    assert checkpoints.Checkpoint(path, "a").restore([Variable([0, 0])], {}) == []


def test_the_file_is_written_no_more_often_than_asked(tmp_path):
    checkpoint = checkpoints.Checkpoint(tmp_path / "checkpoint.npz", "a", every_seconds=1000)
    checkpoint.save([Variable([1])], [[1, 0.5]], {})
    assert not checkpoint.path.exists()
    checkpoint.save([Variable([1])], [[1, 0.5]], {}, last=True)
    assert checkpoint.path.exists()


def test_fingerprint_sees_settings_and_contents(tmp_path):
    (tmp_path / "image").write_text("1")
    first = checkpoints.fingerprint({"weight": "1"}, [tmp_path / "image"])
    assert first == checkpoints.fingerprint({"weight": "1"}, [tmp_path / "image"])
    assert first != checkpoints.fingerprint({"weight": "2"}, [tmp_path / "image"])
    (tmp_path / "image").write_text("2")
    assert first != checkpoints.fingerprint({"weight": "1"}, [tmp_path / "image"])
