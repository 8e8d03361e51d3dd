"""The conda environments hold the versions that were tested: those of uv.lock."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml
from imports_of import imports_of, modules, reached_from
from rules_of import rules_of

ROOT = Path(__file__).parent.parent
ENVIRONMENTS = sorted((ROOT / "envs").glob("*.yaml"))
# Packages that uv.lock has under another name: the GPU nodes' TensorFlow is the same release.
LOCKED_AS = {"tensorflow": "tensorflow-cpu", "python-isal": "isal"}
# Programs of conda's alone; the lock has them inside of another package's wheel.
UNLOCKED = {"niftyreg": "1.5.69.6"}
# Modules whose package has another name.
PACKAGES = {
    "SimpleITK": "simpleitk",
    "ants": "antspyx",
    "isal": "python-isal",
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


def test_every_environment_is_some_rule_s():
    assert ENVIRONMENTS
    assert {rule.environment for rule in rules_of() if rule.script} == set(ENVIRONMENTS)


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


def other_tools(rule):
    """Return the modules of the tools that register_pair.py does not load in a rule: it loads one tool."""
    if rule.script.stem != "register_pair":
        return []
    tools = {name.rpartition(".")[2]: modules()[name] for name in imports_of(rule.script)[0] if is_tool(name)}
    return [path for tool, path in tools.items() if rule.name != f"register_{tool}"]


def is_tool(name):
    """Say whether a module of the house is a tool's: it has a function `register`."""
    return re.search(r"^def register\(", modules()[name].read_text(), re.M) is not None


def test_each_rule_s_environment_has_what_its_script_imports():
    rules = [rule for rule in rules_of() if rule.script]
    assert len(rules) > 10
    for rule in rules:
        conda, pip = pins(rule.environment)
        needed = reached_from(rule.script, without=other_tools(rule))
        needed = {module for module in needed if PACKAGES.get(module, module) not in conda | pip}
        assert not needed, f"{rule.name}: {rule.environment.name} lacks what its script imports: {sorted(needed)}"


def test_imports_are_followed_into_the_rooms(tmp_path):
    room = tmp_path / "cohortmorph" / "room"
    room.mkdir(parents=True)
    for name, text in {
        "../__init__.py": "class UserError(Exception): pass",
        "__init__.py": '"""A room."""',
        "deep.py": "def late():\n    import deepest",
        "module.py": "from cohortmorph.room.deep import late\nimport numpy as np",
        "../../script.py": "from cohortmorph import UserError\nfrom cohortmorph.room import module\nimport json",
        "../../dotted.py": "import cohortmorph.room.deep",
        "../../lost.py": "from cohortmorph.room import moved_away",
    }.items():
        (room / name).write_text(text + "\n")
    assert reached_from(tmp_path / "script.py", tmp_path) == {"numpy", "deepest"}
    assert reached_from(tmp_path / "dotted.py", tmp_path) == {"deepest"}
    with pytest.raises(AssertionError, match=r"lost.py:1: there is no cohortmorph.room.moved_away"):
        reached_from(tmp_path / "lost.py", tmp_path)


def test_the_version_is_the_same_wherever_it_is_written(locked):
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    newest = re.search(r"^## (.*)$", (ROOT / "CHANGELOG.md").read_text(), re.M)[1]
    assert locked["cohortmorph"] == version == cited["version"]
    assert newest in (f"{version} ({cited['date-released']})", "Unreleased")
