"""The workflow's rules as Snakemake itself knows them, however they are written: by hand, in a loop, by `use rule`.

Run as a program it prints them: Snakemake changes the process that reads a Snakefile (its folder, its loggers, what can
be imported), so it reads in one of its own.
"""

import functools
import json
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

PROJECT = Path(__file__).parents[1]


class Rule(NamedTuple):
    """What tests want to know of a rule."""

    name: str
    docstring: str
    file: Path  # that has it
    script: Path | None
    environment: Path | None
    logs: list[str]
    benchmark: str
    outputs: list[str]  # a regular expression each
    memory_mb: int | None  # that the first attempt asks for; None where the rule asks for nothing
    minutes: int | None


@functools.cache
def rules_of(project: Path = PROJECT) -> tuple[Rule, ...]:
    """Return all rules of a project's Snakefile, under its own configuration, in their order."""
    ran = subprocess.run([sys.executable, __file__], cwd=project, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr[-4000:]
    rules = json.loads(ran.stdout.splitlines()[-1])
    return tuple(
        Rule(**{key: Path(value) if value and key in PATHS else value for key, value in rule.items()}) for rule in rules
    )


PATHS = ("file", "script", "environment")


def _read() -> list[dict]:
    """Return the rules of the Snakefile in this folder."""
    from snakemake.api import ResourceSettings, SnakemakeApi

    with SnakemakeApi() as api:
        workflow = api.workflow(resource_settings=ResourceSettings(), snakefile=Path("Snakefile"))._workflow
        return [
            {
                "name": rule.name,
                "docstring": rule.docstring or "",
                "file": str(rule.snakefile),
                "script": _beside(rule, rule.script),
                "environment": _beside(rule, rule.conda_env),
                "logs": list(map(str, rule.log)),
                "benchmark": str(rule.benchmark or ""),
                "outputs": [output.regex().pattern for output in rule.output],
                "memory_mb": _asked(rule, "mem_mb"),
                "minutes": _asked(rule, "runtime"),
            }
            for rule in workflow.rules
        ]


def _asked(rule, resource) -> int | None:
    """Return what the first attempt of a rule asks for."""
    if resource not in rule.resources:
        return None
    return rule.resources[resource].evaluate(None, attempt=1).value


def _beside(rule, path) -> str:
    """Return a path that a rule's file names, from where that file is; "" for none."""
    return str((Path(str(rule.snakefile)).parent / str(path)).resolve()) if path else ""


if __name__ == "__main__":
    print(json.dumps(_read()))
