"""A finished run's tables: their columns, read once, the same way for everybody. Tables only, no images.

A table of metrics is tidy: one value a row, methods in the configuration's order. docs/metrics.md says what they hold.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import Any

import pandas as pd

from cohortmorph.cohort.methods import Method, in_order
from cohortmorph.run.files import read_json

COLUMNS = ["pair", "split", "method", "weight", "epoch", "metric", "structure", "value", "unit"]
Row = tuple[str, str, float, str]  # metric, structure, value, unit


def table_of(rows: Sequence[Row], pair: str, split: str, method: str) -> pd.DataFrame:
    """Return one method's rows (metric, structure, value, unit) as a tidy table with :data:`COLUMNS`.

    Parameters
    ----------
    rows : list of tuple
    pair, split : str
    method : str
        The id, as in file names; see :class:`cohortmorph.cohort.methods.Method`.
    """
    table = pd.DataFrame(rows, columns=["metric", "structure", "value", "unit"])
    of = Method.of(method)
    table = table.assign(pair=pair, split=split, method=of.name, weight=of.weight, epoch=of.epoch)
    return table.astype({"epoch": "Int64", "value": float})[COLUMNS]


def read_metrics(path: str | PathLike[str]) -> pd.DataFrame:
    """Read a tidy table; weight stays the text that the user typed, epoch and value may be missing."""
    types = {name: str for name in COLUMNS} | {"epoch": "Int64", "value": float}
    missing = {"epoch": [""], "value": [""]}
    return pd.read_csv(path, sep="\t", dtype=types, keep_default_na=False, na_values=missing)[COLUMNS]


def read_summary(path: str | PathLike[str]) -> pd.DataFrame:
    """Read summary.tsv; weight and structure stay the texts that they are, epoch is an integer or <NA>."""
    texts = dict.fromkeys(["split", "method", "weight", "metric", "structure", "unit"], str)
    table = pd.read_csv(path, sep="\t", dtype=texts | {"epoch": "Int64"})
    return table.fillna(dict.fromkeys(texts, ""))


def read_history(path: str | PathLike[str]) -> pd.DataFrame:
    """Read a training's history.tsv."""
    return pd.read_csv(path, sep="\t")


def compared(table: pd.DataFrame, selected: dict[str, Any] | None) -> pd.DataFrame:
    """Return the rows of all methods, of the networks only those of the selected weight and epoch.

    Parameters
    ----------
    table : DataFrame
        With the columns method, weight and epoch.
    selected : dict or None
        selected_model.json.
    """
    learned = table.weight != ""
    if selected is None:
        return table[~learned]
    return table[~learned | ((table.weight == str(selected["weight"])) & (table.epoch == int(selected["epoch"])))]


def _read_texts(path: str | PathLike[str], texts: Sequence[str]) -> pd.DataFrame:
    """Read a table in which these columns hold texts and "" is one; epoch is an integer or <NA>."""
    table = pd.read_csv(path, sep="\t", dtype=dict.fromkeys(texts, str) | {"epoch": "Int64"})
    return table.fillna(dict.fromkeys(texts, ""))


def read_comparison(path: str | PathLike[str]) -> pd.DataFrame:
    """Read comparison.tsv."""
    return _read_texts(path, ["split", "metric", "structure", "unit", "method", "reference"])


def read_ranking(path: str | PathLike[str]) -> pd.DataFrame:
    """Read ranking.tsv."""
    return pd.read_csv(path, sep="\t", dtype={"rank": "Int64"})


def read_failures(path: str | PathLike[str]) -> pd.DataFrame:
    """Read failures.tsv."""
    return _read_texts(path, ["pair", "split", "method", "weight", "why"])


def read_flags(path: str | PathLike[str]) -> pd.DataFrame:
    """Read flags.tsv."""
    return _read_texts(path, ["subject", "pair", "method", "flag", "sentence"])


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
    selected : dict or None
        selected_model.json; None if no network was trained.
    """

    metrics: pd.DataFrame
    summary: pd.DataFrame
    comparison: pd.DataFrame
    ranking: pd.DataFrame
    failures: pd.DataFrame
    flags: pd.DataFrame
    selected: dict[str, Any] | None = None

    @classmethod
    def read(cls, files: Any) -> "Evaluation":
        """Read the tables that `files`, a mapping such as a job's named inputs, has a path for.

        Only what is named is read: a folder may hold files of an earlier configuration.
        """
        tables = {name: read(files[name]) if files.get(name) else pd.DataFrame() for name, read in READERS.items()}
        selected = files.get("selected")
        return cls(**tables, selected=read_json(Path(selected)) if selected else None)

    @cached_property
    def methods(self) -> list[str]:
        """Names of the methods in the configuration's order, in which metrics.tsv has them."""
        return list(dict.fromkeys(self.metrics.method)) if len(self.metrics) else []

    def in_order(self, names: Any) -> list[str]:
        """Return these names of methods, each once, in the configuration's order."""
        return in_order(names, self.methods)

    def compared(self, table: pd.DataFrame) -> pd.DataFrame:
        """Return a table's rows of all methods, of the networks only those of the selected one."""
        return compared(table, self.selected)

    def label(self, method: str) -> str:
        """Return a method's name for a reader; the selected network's with its λ and epoch."""
        learned = self.selected is not None and bool((self.metrics.weight[self.metrics.method == method] != "").any())
        if not learned or self.selected is None:
            return method
        return Method(method, str(self.selected["weight"]), int(self.selected["epoch"])).label
