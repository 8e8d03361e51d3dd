"""The notebook runs from the first cell to the last on small results, and what it shows is what the files hold."""

from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
from made_up import NETWORK, OTHER, PAIRS, SIZES_MM, MadeUp, field
from nbclient import NotebookClient

from cohortmorph.evaluation.tables import read_metrics, table_of
from cohortmorph.run.files import write_table
from cohortmorph.spatial import displacement
from cohortmorph.spatial.geometry import to_array

PATH = Path(__file__).parents[1] / "notebooks/explore.ipynb"


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Small results; metrics.tsv has two networks, one of them with two λ, and Dice beside TRE."""
    folder = MadeUp(tmp_path_factory.mktemp("cohort")).folder / "results"
    tables, value = [], 1.0
    for pair, split in zip(PAIRS, ("validation", "test"), strict=True):
        for method in ("initial", "affine", NETWORK, "voxelmorph_weight-1_epoch-20", OTHER):
            value += 0.25
            rows = [("tre_mean", "total", value, "mm"), ("dice", "mean", 1 / value, ""), ("folding", "image", 0.0, "%")]
            tables.append(table_of(rows, pair, split, method))
    write_table(pd.concat(tables), folder / "evaluation/metrics.tsv")
    return folder


def run(results):
    """Run the notebook on a results folder; return its code cells."""
    notebook = nbformat.read(PATH, as_version=4)
    first = next(cell for cell in notebook.cells if cell.cell_type == "code")
    assert first.source.count('"../results"') == 1
    first.source = first.source.replace('"../results"', repr(str(results)))
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(PATH.parent)}}).execute()
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def said(cells):
    """Return all text that cells put out."""
    outputs = [output for cell in cells for output in cell.outputs]
    return "\n".join(output.get("text", "") + output.get("data", {}).get("text/plain", "") for output in outputs)


def test_it_draws_its_figures_and_the_numbers_are_those_of_the_files(results):
    cells = run(results)
    pictures = [output for cell in cells for output in cell.outputs if "image/png" in output.get("data", {})]
    assert len(pictures) == 4, "two networks have curves"
    text = said(cells)
    u = field(SIZES_MM[NETWORK])
    length_mm = np.linalg.norm(to_array(u), axis=-1)
    assert f"{PAIRS[1]} by {NETWORK}" in text
    assert f"{length_mm.mean():.2f} mm on average, at most {length_mm.max():.2f} mm" in text
    assert f"folded: {100 * (displacement.jacobian_determinant(u) <= 0).mean():.3g} %" in text
    # The test pair alone, and of each network the selected one.
    table = text[text.index("count") : text.index("|u|")]
    assert [line.split()[:3] for line in table.splitlines() if line[:4] in ("init", "affi", "voxe")] == [
        ["initial", "1", "2.50"],
        ["affine", "1", "2.75"],
        ["voxelmorph", "1", "3.00"],
        ["voxelmorph-diff", "1", "3.50"],
    ]


def test_it_runs_without_networks(results):
    table = read_metrics(results / "evaluation/metrics.tsv")
    write_table(table[table.weight == ""], results / "evaluation/metrics.tsv")
    assert list((results / "evaluation").glob("*/selected_model.json")), "of an earlier configuration"
    text = said(run(results))
    assert "No network was trained." in text and "by affine" in text


def test_it_was_saved_without_output():
    cells = nbformat.read(PATH, as_version=4).cells
    assert all(not cell.get("outputs") and not cell.get("execution_count") for cell in cells)
