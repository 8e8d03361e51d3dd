"""Whether two runs measured the same, to the bit: after a change of the code that should change no number.

    python benchmarks/compare_runs.py BEFORE/results AFTER/results

Compares every displacement, affine transform and network's parameters byte by byte, metrics.tsv row by row without what
a registration costs (run time, CPU time, memory), and selected_model.json. Prints counts; exits with 1 if anything
differs or is missing on one side.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))

from cohortmorph.evaluation.measures import MEASURES
from cohortmorph.evaluation.tables import read_metrics

PATTERNS = ("pairs/*/*/displacement.nii.gz", "pairs/*/affine.tfm", "pairs/*/network_input.nii.gz",
            "images/*/*.nii.gz", "models/**/epoch-*.npz", "models/**/weight-*_epoch-*.npz")  # fmt: skip


def same_file(one, other):
    """Say whether two files hold the same; archives of arrays are compared array by array."""
    if one.suffix != ".npz":
        return one.read_bytes() == other.read_bytes()
    arrays = [np.load(path, allow_pickle=False) for path in (one, other)]
    return arrays[0].files == arrays[1].files and all(
        np.array_equal(arrays[0][n], arrays[1][n]) for n in arrays[0].files
    )


def main():
    """Compare and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    chosen = parser.parse_args()
    wrong = 0
    for pattern in PATTERNS:
        names = {path.relative_to(root) for root in (chosen.before, chosen.after) for path in root.glob(pattern)}
        lacking = [name for name in names if not all((root / name).exists() for root in (chosen.before, chosen.after))]
        differing = [name for name in names - {*lacking} if not same_file(chosen.before / name, chosen.after / name)]
        wrong += len(lacking) + len(differing)
        print(f"{pattern}: {len(names)} files, {len(differing)} differ, {len(lacking)} on one side only")
        for name in sorted(lacking + differing)[:5]:
            print(f"    {name}")
    costs = [measure.metric for measure in MEASURES.values() if measure.cost]
    tables = []
    for root in (chosen.before, chosen.after):
        table = read_metrics(root / "evaluation/metrics.tsv")
        tables.append(table[~table.metric.isin(costs)].reset_index(drop=True))
    same = tables[0].equals(tables[1])
    wrong += not same
    print(f"metrics.tsv without costs: {len(tables[0])} rows, {'the same, in the same order' if same else 'DIFFERENT'}")
    if (chosen.before / "evaluation/selected_model.json").exists():
        texts = [(root / "evaluation/selected_model.json").read_text() for root in (chosen.before, chosen.after)]
        wrong += texts[0] != texts[1]
        selected = json.loads(texts[1])
        said = "the same" if texts[0] == texts[1] else "DIFFERENT"
        print(f"selected_model.json: {said} (λ = {selected['weight']}, epoch {selected['epoch']})")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
