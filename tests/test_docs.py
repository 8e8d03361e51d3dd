"""What the pages and profiles name is there: files of the project, pages that links lead to, rules that are packed."""

import re
from pathlib import Path

import pytest
import yaml
from projects import SMALL, SUBJECTS, Project, table_of
from rules_of import rules_of

PROJECT = Path(__file__).parents[1]
PAGES = sorted([*PROJECT.glob("*.md"), *PROJECT.glob("docs/*.md"), PROJECT / "config/README.md"])
TOP = ("benchmarks", "config", "docs", "envs", "notebooks", "profiles", "rules", "scripts", "tests")
MADE_UP = re.compile(r"[{*…<]|^config/(pairs|my)\b")  # patterns, and names that a user chooses


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(PROJECT)))
def test_files_and_links_of_a_page_exist(page):
    if page.name == "CHANGELOG.md":
        return  # it tells of files that were
    text = page.read_text()
    named = [PROJECT / name for name in re.findall(r"`([\w.-]+/[^`\s:]*)`", text) if name.split("/")[0] in TOP]
    linked = [page.parent / link for link in re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", text)]
    lost = [
        str(path) for path in named + linked if not MADE_UP.search(str(path.relative_to(PROJECT))) and not path.exists()
    ]
    assert not lost, f"{page.relative_to(PROJECT)} names what is not there: {lost}"


def test_every_page_is_in_the_index():
    index = (PROJECT / "docs/README.md").read_text()
    lacking = [
        page.name for page in PROJECT.glob("docs/*.md") if page.name != "README.md" and f"({page.name})" not in index
    ]
    assert not lacking


def packing():
    """Return the packing of the HTCondor profile, its commented lines: groups, and how many share a job."""
    text = (PROJECT / "profiles/htcondor/config.yaml").read_text()
    return yaml.safe_load(re.sub("^# ", "", text[text.index("# cores: ") :], flags=re.M))


def test_a_pool_packs_every_step_of_a_subject_or_pair():
    rules = {rule.name for rule in rules_of()}
    short = {rule.name for rule in rules_of() if re.search(r"\{(subject|pair)\b", rule.benchmark)}
    packed = packing()
    assert len(short) > 15 and not short - packed["groups"].keys(), "short steps that no group has"
    assert not packed["groups"].keys() - rules, "no rules"
    assert set(packed["groups"].values()) == set(packed["group-components"])


def test_no_packed_job_waits_for_itself(tmp_path):
    """Snakemake refuses it: as for instance optimization that starts from a network, if packed with the other tools."""
    packed, project = packing(), Project(tmp_path)
    project.write("config/cohort.tsv", table_of(SUBJECTS))
    project.write("small.yaml", SMALL)
    instance = "{tool: instance, parameters: config/instance/slices.yaml, start: voxelmorph_weight-1_epoch-6}"
    project.write(
        "more.yaml", f"baselines: {{instance: {instance}}}\nnetworks: {{voxelmorph: {{label_weight: 0.1}}}}\n"
    )
    given = [f"{name}={value}" for name, value in packed["groups"].items()]
    sizes = [f"{name}={value}" for name, value in packed["group-components"].items()]
    jobs = project.planned("--configfile", "small.yaml", "more.yaml", "--groups", *given, "--group-components", *sizes)
    assert {"register_instance", "compose_affine", "prepare_labels"} <= set(jobs)
