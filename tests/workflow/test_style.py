"""The rules keep the house's form: Snakemake's linter is silent, and every rule says what it does and where it logs."""

import re
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
RULE_FILES = sorted((PROJECT / "rules").glob("*.smk"))
RULES = [
    pytest.param(match[0], id=match[1])
    for path in RULE_FILES
    for match in re.finditer(r"^rule (\w+):\n(?:(?:    .*)?\n)+", path.read_text(), re.M)
]


def test_rules_are_found():
    assert len(RULES) >= 15


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_has_docstring_log_benchmark_environment_and_script_of_its_name(rule):
    name = re.match(r"rule (\w+)", rule)[1]
    assert re.match(r'rule \w+:\n    """[A-Z].*\."""\n', rule), "a docstring of one sentence comes first"
    for directive in ("log", "benchmark", "conda", "script"):
        assert f"\n    {directive}:" in rule, directive
    assert f'"../scripts/{name}.py"' in rule
    assert f"results/logs/{name}" in rule
    assert "lambda" not in rule


def test_every_script_has_its_rule():
    scripts = {path.stem for path in (PROJECT / "scripts").glob("*.py")}
    rules = {rule.id for rule in RULES}
    assert scripts == rules


def test_environments_exist():
    for path in RULE_FILES:
        for name in re.findall(r'"\.\./envs/(.+?)"', path.read_text()):
            assert (PROJECT / "envs" / name).is_file()
