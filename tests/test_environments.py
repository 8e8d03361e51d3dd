"""The conda environments hold the versions that were tested: those of uv.lock."""

import ast
import sys
import tomllib
from pathlib import Path

import pytest
import register_pair
import yaml
from snakemake.api import SnakemakeApi
from snakemake.settings.types import OutputSettings, ResourceSettings

ROOT = Path(__file__).parent.parent
ENVIRONMENTS = sorted((ROOT / "envs").glob("*.yaml"))
# Packages that uv.lock has under another name: conda's and the GPU nodes' TensorFlow is the same release.
LOCKED_AS = {"tensorflow": "tensorflow-cpu"}
# Programs of conda's alone; the lock has them inside of another package's wheel.
UNLOCKED = {"niftyreg": "1.5.69.6"}
# Modules whose package has another name.
PACKAGES = {
    "SimpleITK": "simpleitk",
    "ants": "antspyx",
    "itk": "itk-elastix",
    "surface_distance": "surface-distance",
    "yaml": "pyyaml",
}


@pytest.fixture(scope="module")
def locked():
    """Return {package: version} of uv.lock."""
    packages = tomllib.loads((ROOT / "uv.lock").read_text())["package"]
    return {package["name"]: package["version"] for package in packages if "version" in package}


def pins(path):
    """Return (conda's pins, pip's pins) of an environment as {package: version}; a line without a version fails."""
    found = {"=": {}, "==": {}}
    for line in yaml.safe_load(path.read_text())["dependencies"]:
        separator, entries = ("==", line["pip"]) if isinstance(line, dict) else ("=", [line])
        for entry in entries:
            if entry == "pip":
                continue
            name, mark, version = entry.partition(separator)
            assert mark and version[:1].isdigit(), f"{path.name}: {entry!r} is no pin with {separator!r}"
            found[separator][name] = version
    return found["="], found["=="]


@pytest.fixture(scope="module")
def rules():
    """Return the rules that have a script, as Snakemake knows them."""
    with SnakemakeApi(OutputSettings(quiet=set())) as api:
        workflow = api.workflow(ResourceSettings(cores=1), snakefile=ROOT / "Snakefile", workdir=ROOT)
        workflow.list_rules()
        return [rule for rule in workflow._workflow_store.rules if rule.script]


def environment_of(rule):
    return (ROOT / "rules" / rule.conda_env).resolve()


def modules_of(rule):
    """Return the files that a rule runs: its script, and where that serves several tools, the module of its tool."""
    script = (ROOT / "rules" / rule.script).resolve()
    return (
        [script, Path(register_pair.tool_of(rule.params.tool).__file__)] if script.stem == "register_pair" else [script]
    )


def third_party(files):
    """Return the third-party modules that these files and the library modules that they import name, at any depth."""
    found, waiting, seen = set(), list(files), set()
    while waiting:
        path = waiting.pop()
        if path in seen or not path.is_file():
            continue
        seen.add(path)
        tree = ast.parse(path.read_text())
        # Of the tools that this one may load, a rule loads one.
        for node in tree.body if path.stem == "register_pair" else ast.walk(tree):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            else:
                continue
            for name in names:
                top = name.partition(".")[0]
                if top == "cohortmorph" or (ROOT / "scripts" / f"{top}.py").exists():
                    module = ROOT / "scripts" / name.replace(".", "/")
                    waiting += [module.with_suffix(".py"), module / "__init__.py"]
                elif top not in sys.stdlib_module_names:
                    found.add(top)
    return found


def test_every_environment_is_some_rule_s(rules):
    assert len(ENVIRONMENTS) == 6
    assert set(map(environment_of, rules)) == set(ENVIRONMENTS)


@pytest.mark.parametrize("path", ENVIRONMENTS, ids=lambda path: path.stem)
def test_pins_are_those_of_the_lock(path, locked):
    conda, pip = pins(path)
    python = conda.pop("python")
    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"] == f"=={python}.*"
    assert len(conda) + len(pip) >= 3
    for name, version in (conda | pip).items():
        assert version == (UNLOCKED | locked)[LOCKED_AS.get(name, name)], f"{path.name}: {name}"


def test_tensorflow_is_one_release_for_cpu_and_gpu(locked):
    _, pip = pins(ROOT / "envs" / "voxelmorph.yaml")
    assert pip["tensorflow"] == locked["tensorflow-cpu"] == locked["tensorflow"]


@pytest.mark.parametrize("path", ENVIRONMENTS, ids=lambda path: path.stem)
def test_channels_are_conda_forge_alone(path):
    assert yaml.safe_load(path.read_text())["channels"] == ["conda-forge", "nodefaults"]


def test_imports_are_followed_into_the_library():
    assert {"SimpleITK", "numpy", "itk", "pandas"} <= third_party([ROOT / "scripts" / "prealign.py"])


def test_each_rule_s_environment_has_what_its_script_imports(rules):
    assert len(rules) > 10
    for rule in rules:
        conda, pip = pins(environment_of(rule))
        lacking = {
            module for module in third_party(modules_of(rule)) if PACKAGES.get(module, module) not in conda | pip
        }
        assert not lacking, f"{environment_of(rule).name} lacks what {rule.name} imports: {sorted(lacking)}"
