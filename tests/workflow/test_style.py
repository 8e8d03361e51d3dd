"""The rules keep the house's form: Snakemake's linter is silent, and every rule says what it does and where it logs.

The rules are asked of Snakemake itself, so that it does not matter how they were written down.
"""

import re
from pathlib import Path

import pytest
import yaml
from snakemake.api import SnakemakeApi
from snakemake.settings.types import OutputSettings, ResourceSettings

PROJECT = Path(__file__).parents[2]


def rules_of(snakefile):
    """Return the rules of a Snakefile, but for those that only ask for files."""
    with SnakemakeApi(OutputSettings(quiet=set())) as api:
        workflow = api.workflow(ResourceSettings(cores=1), snakefile=snakefile, workdir=PROJECT)
        workflow.list_rules()
        return [rule for rule in workflow._workflow_store.rules if rule.name not in ("all", "select_weight")]


def faults_of(rule):
    """Return what a rule lacks of the house's form."""
    name, script = rule.name, rule.script and Path(rule.script)
    found = {
        "a docstring of one sentence": re.fullmatch(r"[A-Z][^\n]*\.", rule.docstring or ""),
        "a log of its name": [path for path in rule.log if re.match(rf"results/logs/{name}[./]", str(path))],
        "a benchmark of its name": re.match(rf"results/benchmarks/{name}[./]", str(rule.benchmark)),
        "an environment that exists": rule.conda_env and (PROJECT / "rules" / rule.conda_env).is_file(),
        "a script that exists": script and (PROJECT / "rules" / script).is_file(),
        "a script that a job's name leads to": script and (script.stem == name or name in SHARED.get(script.stem, ())),
    }
    return [form for form, holds in found.items() if not holds]


CONFIGURATION = yaml.safe_load((PROJECT / "config/schemas/config.schema.yaml").read_text())["properties"]
TOOLS = CONFIGURATION["baselines"]["additionalProperties"]["properties"]["tool"]["enum"]
NETWORKS = yaml.safe_load((PROJECT / "config/config.yaml").read_text())["networks"]
# Scripts of several rules; every other has its rule's name. The points have a script of their own.
SHARED = {
    "register_pair": [f"register_{tool}" for tool in TOOLS if tool != "points"],
    "train_network": [f"train_{name}" for name in NETWORKS],
    "train_conditional": [f"train_{name}_conditional" for name in NETWORKS],
    "register_network": [f"register_{name}" for name in NETWORKS],
}


@pytest.fixture(scope="module")
def rules():
    return rules_of(PROJECT / "Snakefile")


def test_every_rule_has_docstring_log_benchmark_environment_and_script(rules):
    assert len(rules) >= 15
    assert {rule.name: faults for rule in rules if (faults := faults_of(rule))} == {}


def test_every_script_is_some_rule_s(rules):
    scripts = {path.stem for path in (PROJECT / "scripts").glob("*.py")}
    assert scripts == {Path(rule.script).stem for rule in rules}


def test_the_linter_is_silent():
    with SnakemakeApi(OutputSettings(quiet=set())) as api:
        workflow = api.workflow(ResourceSettings(cores=1), snakefile=PROJECT / "Snakefile", workdir=PROJECT)
        assert not workflow.lint()


GOOD = '''
rule make_phantom:
    """Make a phantom."""
    output: "results/phantom"
    log: "results/logs/make_phantom/{subject}.log"
    benchmark: "results/benchmarks/make_phantom/{subject}.tsv"
    conda: "../envs/imaging.yaml"
    script: "../scripts/make_phantom.py"
'''


@pytest.mark.parametrize(
    ("written", "instead", "fault"),
    [
        ("", "", None),
        ("Make a phantom.", "make a phantom", "a docstring of one sentence"),
        ('    """Make a phantom."""\n', "", "a docstring of one sentence"),
        ('    log: "results/logs/make_phantom/{subject}.log"\n', "", "a log of its name"),
        ("logs/make_phantom", "logs/make", "a log of its name"),
        ('    benchmark: "results/benchmarks/make_phantom/{subject}.tsv"\n', "", "a benchmark of its name"),
        ('    conda: "../envs/imaging.yaml"\n', "", "an environment that exists"),
        ("imaging.yaml", "imagine.yaml", "an environment that exists"),
        ("scripts/make_phantom.py", "scripts/make_fantom.py", "a script that exists"),
        ("scripts/make_phantom.py", "scripts/prealign.py", "a script that a job's name leads to"),
    ],
)
def test_a_rule_out_of_form_is_found(written, instead, fault, tmp_path):
    text = GOOD.replace(written, instead).replace('"results/phantom"', '"results/phantom/{subject}"')
    (tmp_path / "Snakefile").write_text(text)
    (rule,) = rules_of(tmp_path / "Snakefile")
    assert fault in faults_of(rule) if fault else faults_of(rule) == []
