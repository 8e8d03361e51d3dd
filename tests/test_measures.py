"""The registry of measures, and the page that explains each."""

import re
from dataclasses import fields
from pathlib import Path

import pytest

from cohortmorph.cohort.pairs import Image
from cohortmorph.evaluation.measures import MEASURES, NEEDS, RANKED, SELECTABLE, better, row, shown_in

ARROWS = {"less": "↓", "more": "↑", None: "·"}
PAGES = sorted([Path("README.md"), *Path("docs").glob("*.md")])


def cells(line):
    """Return the cells of a table's row; a bar after a backslash is none."""
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip())[1:-1]]


def explained():
    """Return {metric: (unit, arrow)} of the tables of docs/metrics.md: `tre_mean`, `_sd` are tre_mean and tre_sd."""
    found = {}
    for line in Path("docs/metrics.md").read_text().splitlines():
        if not line.startswith("| `"):
            continue
        names, unit, arrow, *_ = cells(line)
        first, *others = re.findall(r"`(\w+)`", names)
        for name in [first, *(first.rpartition("_")[0] + other if other[0] == "_" else other for other in others)]:
            assert name not in found, f"{name} is explained twice"
            found[name] = (unit, arrow)
    return found


def test_the_page_explains_each_measure_with_its_unit_and_direction():
    assert explained() == {name: (measure.unit, ARROWS[measure.better]) for name, measure in MEASURES.items()}


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_no_table_is_broken_by_a_blank_line(path):
    lines = ["", *path.read_text().splitlines(), ""]
    for before, line, after in zip(lines, lines[1:], lines[2:], strict=False):
        if line.startswith("|") and not before.strip():
            assert re.fullmatch(r"\|([\s:]*-+[\s:]*\|)+", after.strip()), (
                f"{path}: no header, after a blank line: {line}"
            )


def test_the_registry_is_whole():
    for name, measure in MEASURES.items():
        assert name == measure.metric and measure.name and measure.needs in NEEDS
        assert measure.unit in {"mm", "1", "%", "s", "MB", "count", "degrees"}
        assert measure.shown <= {"log", "page", "viewer"}
        # What is ranked or selected by must have a good end, and cost none of a result's.
        assert not (measure.ranked or measure.select) or better(name)
    assert [measure.metric for measure in RANKED] == [
        *("tre_mean", "landmarks_improved", "dice", "hd95", "jacobian_sd_log"),
    ]
    assert [measure.metric for measure in shown_in("log")] == [
        *("tre_mean", "landmarks_outside", "dice", "hd95", "ncc_squared", "folding", "ndv"),
    ]


def test_costs_are_no_quality_and_what_is_unknown_has_no_better_end():
    costs = {name for name, measure in MEASURES.items() if measure.cost}
    assert costs == {"runtime", "cpu_time", "peak_memory"} and not any(map(better, costs))
    assert (better("dice"), better("tre_mean"), better("jacobian_min"), better("invented")) == (
        "more",
        "less",
        None,
        None,
    )


def test_a_row_has_the_registry_s_unit():
    assert row("rotation", "image", 3.0) == ("rotation", "image", 3.0, "degrees")
    with pytest.raises(KeyError):
        row("invented", "image", 3.0)


def test_what_the_configuration_can_select_by_is_in_the_registry():
    columns = {"", *(field.name for field in fields(Image))}
    assert {measure.needs for measure in SELECTABLE.values()} <= columns  # of the cohort table
    schema = Path("config/schemas/config.schema.yaml").read_text()
    assert f"enum: [auto, {', '.join(SELECTABLE)}]" in schema
