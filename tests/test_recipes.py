"""CONTRIBUTING's recipes, each done once, with the files that it names alone: a tool, a kind of network, a measure, a
format.

The made-up tool moves by what its parameter file says, the made-up kind of network by as many voxels as its own key
says, the made-up measure is the mean length of a displacement, the made-up format is GIPL, which SimpleITK reads and
the house does not. A cohort goes through Snakemake with all four, up to report and viewer, and the house's own tests
hold in the copy.
"""

import json
import re
import shutil
import subprocess
import sys

import matplotlib.image
import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk
from projects import PROJECT, Project
from scipy import ndimage

from cohortmorph.evaluation.tables import read_metrics
from cohortmorph.spatial import displacement, geometry

PAIR = "results/pairs/A2-MR_to_A1-MR"
CONFIGURATION = """
cohort: config/made-up.tsv
phantom: null
harmonize: {enabled: false}
pairs: {design: to-reference, image: MR, reference: A1}
intensity: {MR: {percentiles: [0.5, 99.5]}}
prealign: {parameters: config/elastix/affine.txt}
baselines:
  bspline-1r: null
  bspline-3r: null
  niftyreg: null
  matching-refined: null
  moved: {tool: shift, parameters: config/shift/two.txt}
networks:
  matching: null
  voxelmorph: null
  one-voxel:
    {kind: shift, dimensions: 3, weights: ["1", "2"], epochs: 2, kept_epochs: [2], batch_size: 1, threads: 1}
fusion: null
evaluation: {selection: {metric: ncc}}
"""
TOOL = '''"""A made-up tool: moves by the vector of its parameter file, mm, LPS."""

from collections.abc import Sequence
from pathlib import Path

import SimpleITK as sitk

from cohortmorph.registration.problem import Problem, Registered, Run
from cohortmorph.registration.process import Cost
from cohortmorph.run.files import StrPath


def register(problem: Problem, parameters: Sequence[StrPath], run: Run) -> Registered:
    """Move the start's target by what the parameter file says."""
    shift_mm = [float(word) for word in Path(parameters[0]).read_text().split()]
    transform = sitk.CompositeTransform([sitk.TranslationTransform(3, shift_mm), problem.start])
    return Registered(transform, Cost(0.0, 0.0, 1.0), {"version": "shift 1"})
'''
MEASURE = '''

def length(field: sitk.Image) -> list[Row]:
    """Return the row of the mean length of a displacement, mm."""
    return [row("displacement_mean", "image", float(np.linalg.norm(to_array(field), axis=-1).mean()))]
'''


KIND = '''"""A made-up kind of network: answers every pair with the same step along the first axis."""

import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cohortmorph.learning.batch import Batch
from cohortmorph.learning.kind import Kind
from cohortmorph.learning.networks import tf, warp


class Step:
    """A network that has a parameter and never uses it."""

    def __init__(self, shape: Sequence[int], settings: Mapping[str, Any]) -> None:
        self.shape = tuple(shape)
        self.step = [float(settings["voxels"]), *[0.0] * (len(shape) - 1)]
        self.parameters = [tf.Variable(1.0)]

    @property
    def values(self) -> int:
        """As many as the field has."""
        return int(np.prod(self.shape)) * len(self.shape)

    def field(self, moving: Any, fixed: Any, weights: Any = None, training: bool = False) -> Any:
        """Return the step for every voxel."""
        return self.step + 0 * self.parameters[0] * tf.ones([moving.shape[0], *self.shape, len(self.shape)])

    def displacement(self, field: Any) -> Any:
        """Return it as it is."""
        return field

    def draw_weights(self, rng: np.random.Generator, weights: Sequence[float], number: int) -> Any:
        """Return the only λ."""
        return self.weights_of(weights[0], number)

    def weights_of(self, weight: float, number: int) -> Any:
        """Return one λ."""
        return tf.constant(weight, tf.float32)


class Error:
    """How far the images are apart; λ weighs nothing."""

    names = ("loss", "error")
    watched = ("loss", "error")
    values = 1

    def __init__(self, settings: Mapping[str, Any], label_numbers: Sequence[float]) -> None:
        pass

    def parts(self, field: Any, displacement: Any, weights: Any, batch: Batch) -> Any:
        """Return the loss and what it is made of."""
        error = tf.reduce_mean((batch.fixed - warp(batch.moving, displacement)) ** 2)
        return error + weights * 0, error


SHIFT = Kind(modules=(sys.modules[__name__],), multiple=lambda settings: 1, network=Step, objective=Error)
'''
KEYS = """$schema: "https://json-schema.org/draft/2020-12/schema"
title: Shift
description: The keys of a network of the kind shift, beside those of every network.
type: object
required: []
properties:
  voxels:
    description: how far every pair is moved along the first axis, voxels
    type: number
    default: 1
allOf: [{$ref: ../network.schema.yaml}]
unevaluatedProperties: false
"""
SPLITS = {"A1": "train", "A2": "test", "A3": "train", "A4": "validation"}
MEANING = "| `networks.{network}.voxels` | how far every pair is moved along the first axis | voxels | `1` | a number |"
LINE = "| `displacement_mean` | mm | · | mean of ‖u‖ over the grid |\n"


class Recipe:
    """A chapter of CONTRIBUTING.md, followed in a copy of the project: other files than it names are left alone."""

    def __init__(self, folder, title, **names):
        chapter = re.search(rf"^## {title}\n(.*?)^## ", (PROJECT / "CONTRIBUTING.md").read_text(), re.M | re.S)[1]
        for name, value in names.items():
            chapter = chapter.replace(f"{{{name}}}", value)
        self.folder, self.title, self.named = folder, title, re.findall(r"`([\w.-]+/[\w./-]*)`", chapter)

    def path(self, name):
        """Return a file that the recipe names, or a file in a folder that it names."""
        named = [one for one in self.named if name == one or (one.endswith("/") and name.startswith(one))]
        assert named, f"CONTRIBUTING, {self.title}, does not name {name}"
        return self.folder / name

    def write(self, name, text):
        """Write a new file."""
        self.path(name).parent.mkdir(exist_ok=True)
        self.path(name).write_text(text)

    def edit(self, name, old, new):
        """Change a file as its owner would: once, where `old` stands."""
        text = self.path(name).read_text()
        assert text.count(old) == 1, f"{name}: {old!r} stands {text.count(old)} times"
        self.path(name).write_text(text.replace(old, new))


def add_tool(folder):
    """CONTRIBUTING, A tool."""
    recipe = Recipe(folder, "A tool", tool="shift")
    recipe.write("scripts/cohortmorph/registration/shift.py", TOOL)
    case = '        case "demons":\n'
    module = "            from cohortmorph.registration import shift\n\n            return shift\n"
    recipe.edit("scripts/register_pair.py", case, f'        case "shift":\n{module}{case}')
    demons = '    "demons": ("imaging", 120),\n'
    recipe.edit("rules/baselines.smk", demons, f'{demons}    "shift": ("imaging", 10),\n')
    schema, known = "config/schemas/config.schema.yaml", "[elastix, niftyreg, ants, demons, instance, points]"
    recipe.edit(schema, known, known.replace("points", "points, shift"))
    finders = {"HOW_TO_GET = {\n": '    "shift": "made up",\n', "finders = {\n": '        "shift": lambda: "here",\n'}
    for where, line in finders.items():
        recipe.edit("scripts/cohortmorph/run/tools.py", where, where + line)
    recipe.write("config/shift/two.txt", "2 0 0\n")
    demons = "#   register_demons: baseline\n"
    recipe.edit("profiles/htcondor/config.yaml", demons, f"{demons}#   register_shift: baseline\n")


def add_kind(folder):
    """CONTRIBUTING, A kind of network."""
    recipe = Recipe(folder, "A kind of network", kind="shift")
    recipe.write("scripts/cohortmorph/learning/shift.py", KIND)
    case = '        case "voxelmorph":\n'
    module = "            from cohortmorph.learning.shift import SHIFT\n\n            return SHIFT\n"
    recipe.edit("scripts/cohortmorph/learning/kinds.py", case, f'        case "shift":\n{module}{case}')
    recipe.write("config/schemas/kinds/shift.schema.yaml", KEYS)
    schema, known = "config/schemas/config.schema.yaml", "enum: [voxelmorph, matching]"
    recipe.edit(schema, known, "enum: [voxelmorph, matching, shift]")
    editors = """        - if: {type: object, properties: {kind: {const: voxelmorph}}, required: [kind]}
          then: {$ref: kinds/voxelmorph.schema.yaml}
"""
    recipe.edit(schema, editors, editors + editors.replace("voxelmorph", "shift"))
    following = "### Evaluation\n"
    table = "| key | meaning | unit | default | allowed |\n|---|---|---|---|---|\n"
    recipe.edit("config/README.md", following, f"#### Kind `shift`\n\n{table}{MEANING}\n\n{following}")


def add_measure(folder):
    """CONTRIBUTING, A measure; but for the line of docs/metrics.md."""
    recipe = Recipe(folder, "A measure")
    surfaces = "def _with_mean("
    recipe.edit("scripts/cohortmorph/evaluation/metrics.py", surfaces, f"{MEASURE.lstrip()}\n\n{surfaces}")
    motion = "        rows += metrics.motion(field, self.affine)\n"
    recipe.edit("scripts/cohortmorph/evaluation/pair.py", motion, f"{motion}        rows += metrics.length(field)\n")
    entry = '        Measure("mae_mean",'
    new = '        Measure("displacement_mean", "image", "mean displacement", "mm", None, 1, shown=_shown("page")),\n'
    recipe.edit("scripts/cohortmorph/evaluation/measures.py", entry, new + entry)


def explain_measure(folder):
    """The rest of it."""
    rotation = "| `rotation` |"
    Recipe(folder, "A measure").edit("docs/metrics.md", rotation, LINE + rotation)


def add_format(folder):
    """CONTRIBUTING, An input format: images that SimpleITK reads."""
    recipe = Recipe(folder, "An input format")
    recipe.edit("scripts/cohortmorph/cohort/paths.py", '".nrrd")', '".nrrd", ".gipl")')
    schema, source = "config/schemas/cohort.schema.yaml", "a folder of DICOM slices, or a file ending in .nii, "
    recipe.edit(schema, source, f"{source}.gipl, ")


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A copy of the project in which all recipes were followed, and a cohort went through."""
    project = Project(tmp_path_factory.mktemp("recipes"))
    for add in (add_tool, add_kind, add_measure, add_format):
        add(project.folder)
    rng = np.random.default_rng(3)
    values = ndimage.gaussian_filter(rng.normal(size=(32, 32, 32)), 2).astype(np.float32)
    rows = ["subject\timage\tmodality\tsource\tsplit"]
    for subject, split in SPLITS.items():
        image = sitk.GetImageFromArray(values / values.std())
        image.SetSpacing((2.0, 2.0, 2.0))
        sitk.WriteImage(image, project.folder / f"{subject}.gipl")
        rows.append(f"{subject}\tMR\tMR\t{subject}.gipl\t{split}")
    project.write("config/made-up.tsv", "\n".join(rows) + "\n")
    project.write("made-up.yaml", CONFIGURATION)
    code, said = project.snakemake("--configfile", "made-up.yaml")
    assert code == 0, said[-4000:]
    return project


def test_a_tool(project):
    """It registers through its own rule, its displacement keeps the house's contract, and it is measured."""
    assert (project.folder / "results/benchmarks/register_shift/A2-MR_to_A1-MR.tsv").exists()
    grid = geometry.read_grid(project.folder / "results/images/A1/MR.nii.gz")
    moved, affine = (
        geometry.to_array(displacement.read(project.folder / PAIR / method / "displacement.nii.gz", grid))
        for method in ("moved", "affine")
    )
    np.testing.assert_allclose(moved - affine, np.broadcast_to([2.0, 0, 0], moved.shape), atol=1e-4)
    assert "moved" in set(read_metrics(project.folder / PAIR / "metrics.tsv")["method"])


@pytest.mark.parametrize("weight", ["1", "2"])
def test_a_kind_of_network_is_trained_and_applied(project, weight):
    """By the shared loop, for each λ; it moves by one voxel of its grid, in mm, as the affine goes on from there."""
    trained = project.folder / f"results/models/one-voxel/weight-{weight}"
    history = pd.read_csv(trained / "history.tsv", sep="\t")
    parts = ["loss", "error"]
    assert history.columns.tolist() == ["epoch", *parts, *(f"validation_{name}" for name in parts), "seconds"]
    assert len(history) == 2 and (history["loss"] == history["error"]).all() and (history["error"] > 0).all()
    grid = geometry.read_grid(project.folder / "results/images/A1/MR.nii.gz")
    moved, affine = (
        geometry.to_array(displacement.read(project.folder / PAIR / method / "displacement.nii.gz", grid))
        for method in (f"one-voxel_weight-{weight}_epoch-2", "affine")
    )
    transform = geometry.read_affine(project.folder / PAIR / "affine.tfm")
    step_mm = np.array(transform.GetMatrix()).reshape(3, 3) @ [2.0, 0, 0]
    assert step_mm == pytest.approx([2, 0, 0], abs=0.1), "both images are the same, so that it hardly turns"
    np.testing.assert_allclose(moved - affine, np.broadcast_to(step_mm, moved.shape), atol=1e-4)


def test_a_kind_of_network_is_chosen_compared_and_shown(project):
    """As every other method: by the name that the configuration gives to it."""
    of_cohort = project.folder / "results"
    chosen = json.loads((of_cohort / "evaluation/one-voxel/selected_model.json").read_text())
    assert (chosen["network"], chosen["epoch"]) == ("one-voxel", 2) and chosen["weight"] in ("1", "2")
    for name in ("ranking", "comparison"):
        assert "one-voxel" in set(pd.read_csv(of_cohort / f"evaluation/{name}.tsv", sep="\t")["method"]), name
    for name in ("training", "selection"):
        image = matplotlib.image.imread(of_cohort / f"figures/one-voxel/{name}.png")
        assert image.ndim == 3 and image[..., :3].std() > 0.05, name
    methods = json.loads((of_cohort / "viewer/pairs.json").read_text())["pairs"][-1]["methods"]
    label = f"one-voxel, λ = {chosen['weight']}, epoch 2"
    assert [one["method"] for one in methods if one["label"] == label and one["selected"]] == [
        f"one-voxel_weight-{chosen['weight']}_epoch-2"
    ]
    assert label in (of_cohort / "report.html").read_text()


def test_keys_that_a_kind_does_not_take_are_refused(project):
    project.write("wrong.yaml", "networks: {one-voxel: {voxel: 2, encoder: [8, 8]}}\n")
    code, said = project.snakemake("--dry-run", "--configfile", "made-up.yaml", "wrong.yaml")
    assert code and "networks.one-voxel.voxel: unknown key (did you mean 'voxels'?)" in said
    assert "networks.one-voxel.encoder: the kind shift does not take this key; matching, voxelmorph do" in said


def test_a_measure(project):
    """Every method has its row, with the registry's unit."""
    table = read_metrics(project.folder / PAIR / "metrics.tsv")
    rows = table[table["metric"] == "displacement_mean"].set_index("method")
    assert {"initial", "affine", "moved"} < set(rows.index) and set(rows["unit"]) == {"mm"}
    assert rows.at["initial", "value"] == 0 and rows.at["moved", "value"] == pytest.approx(2, abs=0.5)


def test_an_input_format(project):
    """Its image is converted as it is; what the house does not read is still refused, and the suffix is named."""
    read = sitk.ReadImage(project.folder / "results/images/A1/MR.nii.gz")
    given = sitk.ReadImage(project.folder / "A1.gipl")
    assert np.array_equal(sitk.GetArrayFromImage(read), sitk.GetArrayFromImage(given))
    (project.folder / "A2.xyz").touch()
    project.write("other.tsv", (project.folder / "config/made-up.tsv").read_text().replace("A2.gipl", "A2.xyz"))
    code, said = project.snakemake("--dry-run", "--configfile", "made-up.yaml", "--config", "cohort=other.tsv")
    assert code and "a file ending in .nii, .nii.gz, .mha, .mhd, .nrrd, .gipl" in said


@pytest.fixture(scope="module")
def house(project, tmp_path_factory):
    """The copy with all that the house's tests read, without what went through it."""
    house = tmp_path_factory.mktemp("house")
    kept_out = shutil.ignore_patterns(".*", "results", "__pycache__")
    shutil.copytree(PROJECT, house, dirs_exist_ok=True, ignore=kept_out)
    for name in ("config", "rules", "scripts", "profiles"):
        shutil.copytree(project.folder / name, house / name, dirs_exist_ok=True, ignore=kept_out)
    return house


def run_tests(house, *names):
    """Run some of the house's tests; return the exit code and what they said."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *names]
    ran = subprocess.run(command, cwd=house, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return ran.returncode, ran.stdout


def test_a_measure_without_its_line_is_found(house):
    code, said = run_tests(house, "tests/test_measures.py", "-k", "explains")
    assert code == 1 and "displacement_mean" in said
    explain_measure(house)
    code, said = run_tests(house, "tests/test_measures.py")
    assert code == 0, said


def test_the_house_s_tests_hold(house):
    code, said = run_tests(
        house,
        "tests/test_architecture.py",
        "tests/test_docs.py",
        "tests/test_environments.py",
        "tests/test_configuration.py::test_readme_has_every_key_with_its_default",
        "tests/workflow/test_style.py",
    )
    assert code == 0, said


def test_the_house_looks_at_a_new_kind_by_itself(house):
    files = ("tests/test_kinds.py", "tests/test_checkpoints.py")
    code, said = run_tests(house, *files, "-vv", "-k", "every_kind or editors")
    assert code == 0 and all(re.search(rf"{file}\S*\[shift\] PASSED", said) for file in files), said
