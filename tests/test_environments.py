"""The conda environments hold the versions that were tested: those of uv.lock."""

import ast
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

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


def scripts_and_environments():
    """Return {script: environment} of all rules."""
    used = {}
    for file in (ROOT / "rules").glob("*.smk"):
        environment = None
        for line in map(str.strip, file.read_text().splitlines()):
            if line.startswith('"../envs/'):
                environment = ROOT / "envs" / Path(line.strip('"')).name
            if line.startswith('"../scripts/'):
                used[ROOT / "scripts" / Path(line.strip('"')).name] = environment
    return used


def third_party(script):
    """Return the third-party modules that a script and the library modules that it imports name, at any depth."""
    found, waiting, seen = set(), [script], set()
    while waiting:
        path = waiting.pop()
        if path in seen or not path.exists():
            continue
        seen.add(path)
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            else:
                continue
            for name in names:
                top, *rest = name.split(".")
                if top == "cohortmorph":
                    waiting.append(ROOT / "scripts" / "cohortmorph" / f"{(rest or ['__init__'])[0]}.py")
                elif (ROOT / "scripts" / f"{top}.py").exists():
                    waiting.append(ROOT / "scripts" / f"{top}.py")
                elif top not in sys.stdlib_module_names:
                    found.add(top)
    return found


def test_every_environment_is_some_rule_s():
    assert len(ENVIRONMENTS) == 6
    assert set(scripts_and_environments().values()) == set(ENVIRONMENTS)


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


def test_each_rule_s_environment_has_what_its_script_imports():
    rules = scripts_and_environments()
    assert len(rules) > 10
    for script, environment in rules.items():
        conda, pip = pins(environment)
        lacking = {module for module in third_party(script) if PACKAGES.get(module, module) not in conda | pip}
        assert not lacking, f"{environment.name} lacks what {script.name} imports: {sorted(lacking)}"
