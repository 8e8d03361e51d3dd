"""Finished runs of the embedded phantom, each with a seed of its own, as one table: which method is how near the truth?

    python benchmarks/centre.py RESULTS [RESULTS ...]

RESULTS are `results/` of runs of config/config.yaml with different numbers for phantom.seed; docs/centre.md has the
commands. For each method (of a network, what was selected on its validation pairs) and all test pairs of all seeds:
landmark TRE, error against the planted displacement in the brain, Dice, folded volume, with 95 % intervals over the
subjects (those of every seed are others).
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "scripts")]

from cohortmorph.cohort.methods import Method  # noqa: E402
from cohortmorph.evaluation.statistics import bootstrap_interval  # noqa: E402
from cohortmorph.evaluation.tables import read_metrics  # noqa: E402
from cohortmorph.spatial import displacement, geometry  # noqa: E402

SAMPLES = 2000


def selected(results):
    """The methods of a run: of each network the selected one, all others as they are; id → name."""
    metrics = read_metrics(results / "evaluation" / "metrics.tsv")
    names = {name: name for name in metrics[metrics.weight.fillna("") == ""].method.unique()}
    for path in sorted(results.glob("evaluation/*/selected_model.json")):
        method = Method.of_choice(json.loads(path.read_text()))
        names[method.id] = f"{method.name} (network)"
    return metrics, names


def error_mm(results, pair, method):
    """Mean ‖u − u_true‖ where the fixed image has a tissue's label."""
    moving, fixed = (end.split("-") for end in pair.split("_to_"))
    phantom = results / "phantom" / fixed[0]
    truth = displacement.read(phantom / f"truth_{moving[1]}_to_CT.nii.gz")
    found = displacement.read(results / "pairs" / pair / method / "displacement.nii.gz")
    inside = geometry.to_array(geometry.read_image(phantom / f"{fixed[1]}_labels.nii.gz")) > 0
    return np.linalg.norm(geometry.to_array(found) - geometry.to_array(truth), axis=-1)[inside].mean()


def rows_of(results, seed):
    """One row a test pair and method."""
    metrics, names = selected(results)
    ids = metrics.apply(
        lambda row: Method(row.method, row.weight or "", int(row.epoch) if row.weight else None).id, axis=1
    )
    for (pair, id), rows in metrics[metrics.split == "test"].groupby(["pair", ids.rename("id")]):
        if id in names:
            values = rows.set_index(["metric", "structure"]).value
            yield {
                "seed": seed,
                "subject": f"{seed}-{pair.split('-')[0]}",
                "pair": pair,
                "method": names[id],
                "tre_mm": values["tre_mean"]["total"],
                "error_mm": error_mm(results, pair, id),
                "dice": values["dice"].mean(),
                "ndv_percent": values["ndv"].iloc[0],
            }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", nargs="+", type=Path)
    rows = []
    for results in parser.parse_args().results:
        seed = json.loads(next(results.glob("phantom/*/truth.json")).read_text())["seed"]
        rows += rows_of(results, seed)
    table = pd.DataFrame(rows)
    print(
        f"{table.seed.nunique()} seeds ({', '.join(map(str, sorted(table.seed.unique())))}), "
        f"{table.subject.nunique()} test subjects, {len(table[['seed', 'pair']].drop_duplicates())} pairs; PHANTOM"
    )
    shown = []
    for method, of in table.groupby("method"):
        row = {"method": method, "pairs": len(of)}
        for value in ("tre_mm", "error_mm", "dice"):
            means = of.groupby("subject")[value].mean().to_numpy()
            low, high = bootstrap_interval(means[None], SAMPLES, 1)[0]
            row[value] = f"{of[value].mean():.3f} [{low:.3f}, {high:.3f}]"
        row["tre by seed"] = " ".join(f"{mean:.2f}" for mean in of.groupby("seed").tre_mm.mean())
        row["ndv, most %"] = f"{of.ndv_percent.max():.4f}"
        shown.append((of.tre_mm.mean(), row))
    print(pd.DataFrame([row for _, row in sorted(shown, key=lambda each: each[0])]).to_string(index=False))


if __name__ == "__main__":
    main()
