"""A finished run's tables: their columns, read once, the same way for everybody. Tables only, no images.

A table of metrics is tidy: one value a row, methods in the configuration's order. docs/metrics.md says what they hold.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from os import PathLike
from pathlib import Path
from typing import Any

import pandas as pd

from cohortmorph.cohort.methods import Method, in_order
from cohortmorph.cohort.pairs import given_for
from cohortmorph.evaluation.measures import UNREADABLE, Direction, Row, better
from cohortmorph.run.files import StrPath, read_json, read_table

COLUMNS = ["pair", "split", "method", "weight", "epoch", "metric", "structure", "value", "unit"]
SUMMARY_COLUMNS = ["split", "method", "weight", "epoch", "metric", "structure", "unit", "n", "subjects", "failed",
                   "mean", "sd", "median", "ci_low", "ci_high"]  # fmt: skip
COMPARISON_COLUMNS = ["split", "metric", "structure", "unit", "method", "reference", "n", "failed",
                      "median_difference", "ci_low", "ci_high", "effect_size", "p", "p_holm"]  # fmt: skip
RANKING_COLUMNS = ["rank", "method", "score", "runtime_s"]  # before the last, three of each metric
FAILURES_COLUMNS = ["pair", "split", "method", "weight", "epoch", "why"]
FLAGS_COLUMNS = ["subject", "pair", "method", "flag", "value", "threshold", "sentence"]

Choices = Mapping[str, Mapping[str, Any]]  # network's name to what its selected_model.json holds


def table_of(rows: Sequence[Row], pair: str, split: str, method: str) -> pd.DataFrame:
    """Return one method's rows (metric, structure, value, unit) as a tidy table with :data:`COLUMNS`.

    Parameters
    ----------
    rows : list of Row
    pair, split : str
    method : str
        The id, as in file names; see :class:`cohortmorph.cohort.methods.Method`.
    """
    table = pd.DataFrame(rows, columns=["metric", "structure", "value", "unit"])
    of = Method.of(method)
    table = table.assign(pair=pair, split=split, method=of.name, weight=of.weight, epoch=of.epoch)
    return table.astype({"epoch": "Int64", "value": float})[COLUMNS]


def compared(table: pd.DataFrame, selected: Choices) -> pd.DataFrame:
    """Return the rows of all methods, of each network only those of its selected weight and epoch.

    Parameters
    ----------
    table : DataFrame
        With the columns method, weight and epoch.
    selected : dict of network's name to choice
        See :func:`read_choices`; of a network without one no row is returned.
    """
    kept = table.weight == ""
    for method in map(Method.of_choice, selected.values()):
        chosen = (table.method == method.name) & (table.weight == method.weight) & (table.epoch == method.epoch)
        kept = kept | chosen
    return table[kept]


def read_choices(files: StrPath | Iterable[StrPath] | None) -> dict[str, dict[str, Any]]:
    """Read the selected_model.json of each network, by the network's name, in the order of the files.

    Parameters
    ----------
    files : path or iterable of path
        None, "" or no file for none.
    """
    choices = [read_json(Path(path)) for path in as_paths(files)]
    return {choice["network"]: choice for choice in choices}


def as_paths(files: StrPath | Iterable[StrPath] | None) -> list[StrPath]:
    """Return a job's named input as a list of paths: Snakemake may give one path for a list of one, or none at all."""
    if not files:
        return []
    return [files] if isinstance(files, str | PathLike) else list(files)


def best_of(choices: Iterable[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """Return the choice of the network that did best on the validation pairs, None of none.

    What folds little enough comes before what folds too much, of which the one that folds least is best, as
    :func:`cohortmorph.evaluation.selection.select_model` chooses. Of equals it is the first.

    Parameters
    ----------
    choices : iterable of dict
        What is in selected_model.json, of each network; all were chosen by the same metric.
    """

    def place(choice: Mapping[str, Any]) -> tuple[float, float]:
        too_much = 0 if choice["admissible"] else choice["folding_percent"]
        return too_much, cost(choice["value"], better(choice["metric"]))

    return min(choices, key=place, default=None)


def cost(value: float, direction: Direction | None) -> float:
    """Return a value as what is better if less; nine digits, as in the tables: below that a difference is rounding."""
    return float(f"{value:.9g}") * (-1 if direction == "more" else 1)


def read_metrics(path: StrPath) -> pd.DataFrame:
    """Read a tidy table; weight stays the text that the user typed, epoch and value may be missing."""
    types = {name: str for name in COLUMNS} | {"epoch": "Int64", "value": float}
    missing = {"epoch": [""], "value": [""]}
    return read_table(path, dtype=types, keep_default_na=False, na_values=missing)[COLUMNS]


def read_summary(path: StrPath) -> pd.DataFrame:
    """Read summary.tsv."""
    return _read_texts(path, ["split", "method", "weight", "metric", "structure", "unit"])


def read_comparison(path: StrPath) -> pd.DataFrame:
    """Read comparison.tsv."""
    return _read_texts(path, ["split", "metric", "structure", "unit", "method", "reference"])


def read_ranking(path: StrPath) -> pd.DataFrame:
    """Read ranking.tsv."""
    return read_table(path, dtype={"rank": "Int64"})


def read_failures(path: StrPath) -> pd.DataFrame:
    """Read failures.tsv."""
    return _read_texts(path, ["pair", "split", "method", "weight", "why"])


def read_flags(path: StrPath) -> pd.DataFrame:
    """Read flags.tsv."""
    return _read_texts(path, ["subject", "pair", "method", "flag", "sentence"])


def read_history(path: StrPath) -> pd.DataFrame:
    """Read a training's history.tsv."""
    return read_table(path)


def _read_texts(path: StrPath, texts: Sequence[str]) -> pd.DataFrame:
    """Read a table in which these columns hold texts and "" is one; epoch is an integer or <NA>."""
    table = read_table(path, dtype=dict.fromkeys(texts, str) | {"epoch": "Int64"})
    return table.fillna(dict.fromkeys(texts, ""))


READERS = {
    "metrics": read_metrics,
    "summary": read_summary,
    "comparison": read_comparison,
    "ranking": read_ranking,
    "failures": read_failures,
    "flags": read_flags,
}


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What a finished run measured: its tables, each read once; a table that was not given has no rows.

    Attributes
    ----------
    metrics, summary, comparison, ranking, failures, flags : DataFrame
    selected : dict of network's name to dict
        Its selected_model.json; empty if no network was trained.
    """

    metrics: pd.DataFrame = field(default_factory=partial(pd.DataFrame, columns=COLUMNS))
    summary: pd.DataFrame = field(default_factory=partial(pd.DataFrame, columns=SUMMARY_COLUMNS))
    comparison: pd.DataFrame = field(default_factory=partial(pd.DataFrame, columns=COMPARISON_COLUMNS))
    ranking: pd.DataFrame = field(default_factory=partial(pd.DataFrame, columns=RANKING_COLUMNS))
    failures: pd.DataFrame = field(default_factory=partial(pd.DataFrame, columns=FAILURES_COLUMNS))
    flags: pd.DataFrame = field(default_factory=partial(pd.DataFrame, columns=FLAGS_COLUMNS))
    selected: Choices = field(default_factory=dict)

    @classmethod
    def read(cls, files: Mapping[str, Any]) -> "Evaluation":
        """Read the tables that `files`, a mapping such as a job's named inputs, has a path for.

        The networks' choices are ``selected``: one path, or a list of them, which may be empty. Only what is named is
        read: a folder may hold files of an earlier configuration.
        """
        tables = {name: read(files[name]) for name, read in READERS.items() if files.get(name)}
        return cls(**tables, selected=read_choices(files.get("selected")))

    @cached_property
    def methods(self) -> list[str]:
        """Names of the methods in the configuration's order, in which metrics.tsv has them."""
        return list(dict.fromkeys(self.metrics.method))

    @cached_property
    def learned(self) -> set[str]:
        """Names of the methods that are networks: those with a weight λ."""
        return set(self.metrics.method[self.metrics.weight != ""])

    @cached_property
    def unreadable(self) -> pd.DataFrame:
        """What was given and cannot be read, a row a pair and file: pair, split, image (id), column of the table."""
        rows = self.metrics[self.metrics.metric == UNREADABLE.metric].drop_duplicates(["pair", "structure"])
        places = [given_for(*place) for place in zip(rows.pair, rows.structure, strict=True)]
        return rows[["pair", "split"]].assign(image=[one for one, _ in places], column=[column for _, column in places])

    def in_order(self, names: Iterable[str]) -> list[str]:
        """Return these names of methods, each once, in the configuration's order."""
        return in_order(names, self.methods)

    def compared(self, table: pd.DataFrame) -> pd.DataFrame:
        """Return a table's rows of all methods, of each network only those of its selected weight and epoch."""
        return compared(table, self.selected)

    @cached_property
    def best(self) -> Method | None:
        """Of the selected methods, one a network, the best on the validation pairs; None if there is no network."""
        choice = best_of(self.selected.values())
        return Method.of_choice(choice) if choice else None

    def label(self, method: str) -> str:
        """Return a method's name for a reader; a network's with its selected λ and epoch."""
        choice = self.selected.get(method)
        return Method.of_choice(choice).label if choice else method
