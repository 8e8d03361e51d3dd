"""What the pages name is there: the files of the project, and the pages that links lead to."""

import re
from pathlib import Path

import pytest

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
