"""CONTRIBUTING's recipes, each done once, with the files that it names: a tool, a measure, an input format.

The made-up tool moves by what its parameter file says, the made-up measure is the mean length of a displacement, the
made-up format is GIPL, which SimpleITK reads and the house does not. One pair goes through Snakemake with all three.
"""

import numpy as np
import pytest
import SimpleITK as sitk
from projects import PROJECT, Project
from scipy import ndimage

from cohortmorph.evaluation.tables import read_metrics
from cohortmorph.spatial import displacement, geometry

PAIR = "results/pairs/A2-MR_to_A1-MR"
CONFIGURATION = """
cohort: config/cohort.tsv
phantom: null
harmonize: {enabled: false}
pairs: {design: to-reference, image: MR, reference: A1}
intensity: {MR: {percentiles: [0.5, 99.5]}}
prealign: {parameters: config/elastix/affine.txt}
baselines: {moved: {tool: shift, parameters: config/shift/by-two.txt}}
voxelmorph: null
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


def edit(project, name, old, new):
    """Change a file of the copy as its owner would: once, where `old` stands."""
    path = project.folder / name
    text = path.read_text()
    assert text.count(old) == 1, f"{name}: {old!r} stands {text.count(old)} times"
    path.write_text(text.replace(old, new))


def add_tool(project):
    """CONTRIBUTING, A tool."""
    project.write("scripts/cohortmorph/registration/shift.py", TOOL)
    case = '        case "demons":\n'
    module = "            from cohortmorph.registration import shift\n\n            return shift\n"
    edit(project, "scripts/register_pair.py", case, f'        case "shift":\n{module}{case}')
    demons = '    "demons": ("imaging", 120),\n'
    edit(project, "rules/baselines.smk", demons, f'{demons}    "shift": ("imaging", 10),\n')
    schema, known = "config/schemas/config.schema.yaml", "[elastix, niftyreg, ants, demons, instance, points]"
    edit(project, schema, known, known.replace("points", "points, shift"))
    points = '        "points": lambda: package("scipy"),\n'
    edit(
        project, "scripts/cohortmorph/run/tools.py", points, f'{points}        "shift": lambda: package("SimpleITK"),\n'
    )
    (project.folder / "config/shift").mkdir()
    project.write("config/shift/by-two.txt", "2 0 0\n")


def add_measure(project):
    """CONTRIBUTING, A measure."""
    metrics = project.folder / "scripts/cohortmorph/evaluation/metrics.py"
    metrics.write_text(metrics.read_text() + MEASURE)
    motion = "        rows += metrics.motion(field, self.affine)\n"
    edit(project, "scripts/cohortmorph/evaluation/pair.py", motion, f"{motion}        rows += metrics.length(field)\n")
    entry = '        Measure("mae_mean",'
    new = '        Measure("displacement_mean", "image", "mean displacement", "mm", None, 1, shown=_shown("page")),\n'
    edit(project, "scripts/cohortmorph/evaluation/measures.py", entry, new + entry)


def add_format(project):
    """CONTRIBUTING, An input format: images that SimpleITK reads."""
    edit(project, "scripts/cohortmorph/cohort/paths.py", '".nrrd")', '".nrrd", ".gipl")')


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A copy of the project in which all three recipes were followed, and one pair went through."""
    project = Project(tmp_path_factory.mktemp("recipes"))
    for add in (add_tool, add_measure, add_format):
        add(project)
    rng = np.random.default_rng(3)
    values = ndimage.gaussian_filter(rng.normal(size=(32, 32, 32)), 2).astype(np.float32)
    rows = ["subject\timage\tmodality\tsource\tsplit"]
    for subject, split in {"A1": "train", "A2": "test"}.items():
        image = sitk.GetImageFromArray(values / values.std())
        image.SetSpacing((2.0, 2.0, 2.0))
        sitk.WriteImage(image, project.folder / f"{subject}.gipl")
        rows.append(f"{subject}\tMR\tMR\t{subject}.gipl\t{split}")
    project.write("config/cohort.tsv", "\n".join(rows) + "\n")
    project.write("config/config.yaml", CONFIGURATION)
    code, said = project.snakemake("--", f"{PAIR}/metrics.tsv")
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


def test_a_measure(project):
    """Every method has its row, with the registry's unit; and docs/metrics.md without its line would be found."""
    table = read_metrics(project.folder / PAIR / "metrics.tsv")
    rows = table[table["metric"] == "displacement_mean"].set_index("method")
    assert set(rows.index) == {"initial", "affine", "moved"} and set(rows["unit"]) == {"mm"}
    assert rows.at["initial", "value"] == 0 and rows.at["moved", "value"] == pytest.approx(2, abs=0.5)


def test_an_input_format(project):
    """Its image is converted as it is; what the house does not read is still refused, and the suffix is named."""
    read = sitk.ReadImage(project.folder / "results/images/A1/MR.nii.gz")
    given = sitk.ReadImage(project.folder / "A1.gipl")
    assert np.array_equal(sitk.GetArrayFromImage(read), sitk.GetArrayFromImage(given))
    (project.folder / "A2.xyz").touch()
    project.write("other.tsv", (project.folder / "config/cohort.tsv").read_text().replace("A2.gipl", "A2.xyz"))
    code, said = project.snakemake("--dry-run", "--config", "cohort=other.tsv")
    assert code and "a file ending in .nii, .nii.gz, .mha, .mhd, .nrrd, .gipl" in said


def test_the_recipes_name_the_files():
    text = (PROJECT / "CONTRIBUTING.md").read_text()
    for name in (
        *("scripts/register_pair.py", "rules/baselines.smk", "config/schemas/config.schema.yaml"),
        *("scripts/cohortmorph/run/tools.py", "scripts/cohortmorph/evaluation/metrics.py"),
        *("scripts/cohortmorph/evaluation/pair.py", "scripts/cohortmorph/evaluation/measures.py", "IMAGE_SUFFIXES"),
    ):
        assert name in text
