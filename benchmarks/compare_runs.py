"""Whether two runs measured the same, to the bit: after a change of the code that should change no number.

    python benchmarks/compare_runs.py BEFORE/results AFTER/results

Compares every displacement, affine transform and network's parameters byte by byte, metrics.tsv row by row without what
a registration costs (run time, CPU time, memory), and every network's choice. Prints counts; exits with 1 if anything
differs or is missing on one side.

Runs of before networks had names compare too: their one selected_model.json lay beside the tables and named no network,
and their ids had `-` where a subject and its image are now joined by `~`.
"""

import argparse
import json
import re
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))

from cohortmorph.evaluation.measures import MEASURES
from cohortmorph.evaluation.tables import read_metrics

PATTERNS = ("pairs/*/*/displacement.nii.gz", "pairs/*/affine.tfm", "pairs/*/network_input*.nii.gz",
            "images/*/*.nii.gz", "models/**/epoch-*.npz", "models/**/weight-*_epoch-*.npz")  # fmt: skip
THE_ONE_NETWORK = "voxelmorph"  # of runs of before networks had names


def same_file(one, other):
    """Say whether two files hold the same; archives of arrays are compared array by array."""
    if one.suffix != ".npz":
        return one.read_bytes() == other.read_bytes()
    arrays = [np.load(path, allow_pickle=False) for path in (one, other)]
    return arrays[0].files == arrays[1].files and all(
        np.array_equal(arrays[0][n], arrays[1][n]) for n in arrays[0].files
    )


def plain(text):
    """Write ids as they were and are alike: with `-` between a subject and its image."""
    return str(text).replace("~", "-")


def files_of(root, pattern):
    """Return the files of a run that match a pattern, by their path with plain ids; views without their grid.

    A run of before networks had names had one grid; of one with several, none is called alike.
    """
    found = {path: plain(path.relative_to(root)) for path in root.glob(pattern)}
    without = {path: re.sub(r"(network_input)_[^/]+(?=\.nii\.gz)", r"\1", name) for path, name in found.items()}
    alone = len(set(without.values())) == len(found)
    return {name: path for path, name in (without if alone else found).items()}


def choices_of(root):
    """Return what the networks' selected_model.json files hold, by the network's name, without this name."""
    found = {}
    for path in sorted(root.glob("evaluation/**/selected_model.json")):
        choice = json.loads(path.read_text())
        found[choice.pop("network", THE_ONE_NETWORK)] = choice
    return found


def main():
    """Compare and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    chosen = parser.parse_args()
    roots, wrong = (chosen.before, chosen.after), 0
    for pattern in PATTERNS:
        before, after = (files_of(root, pattern) for root in roots)
        lacking = before.keys() ^ after.keys()
        differing = {name for name in before.keys() & after.keys() if not same_file(before[name], after[name])}
        wrong += len(lacking) + len(differing)
        files = len(before.keys() | after.keys())
        print(f"{pattern}: {files} files, {len(differing)} differ, {len(lacking)} on one side only")
        for name in sorted(lacking | differing)[:5]:
            print(f"    {name}")
    costs = [measure.metric for measure in MEASURES.values() if measure.cost]
    tables = []
    for root in roots:
        table = read_metrics(root / "evaluation/metrics.tsv")
        table["pair"] = table["pair"].map(plain)
        tables.append(table[~table.metric.isin(costs)].reset_index(drop=True))
    same = tables[0].equals(tables[1])
    wrong += not same
    print(f"metrics.tsv without costs: {len(tables[0])} rows, {'the same, in the same order' if same else 'DIFFERENT'}")
    before, after = (choices_of(root) for root in roots)
    for network in sorted(before.keys() | after.keys()):
        same = before.get(network) == after.get(network)
        wrong += not same
        choice = after.get(network) or before[network]
        said = "the same" if same else "DIFFERENT" if network in before and network in after else "on one side only"
        print(f"selected_model.json of {network}: {said} (λ = {choice['weight']}, epoch {choice['epoch']})")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
