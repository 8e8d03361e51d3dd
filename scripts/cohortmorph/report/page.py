"""The report: one HTML file that needs nothing else, with what the cohort says and what it cannot say.

Everything is read from the evaluation's tables; only ids of the cohort table name anything. The template beside this
module escapes every text.
"""

import base64
import hashlib
import platform
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import jinja2
import numpy as np
import pandas as pd
import yaml

from cohortmorph.evaluation.quality import count_in_words
from cohortmorph.evaluation.tables import Evaluation, compared
from cohortmorph.figures.style import DICE, NCC, TRE, method_label, ordered_methods
from cohortmorph.report.findings import choice, front, sureness, verdict
from cohortmorph.report.tables import (
    comparison_table,
    quality_table,
    ranking_caution,
    ranking_table,
    structures_table,
    tests_table,
)
from cohortmorph.report.troubles import what_went_wrong
from cohortmorph.report.wording import digits, pairs_in_words

PACKAGES = (
    "itk-elastix", "matplotlib", "neurite", "nibabel", "numpy", "pandas", "pydicom", "scipy", "SimpleITK", "snakemake",
    "tensorflow", "tensorflow-cpu", "tf-keras", "voxelmorph",
)  # fmt: skip
MIME_TYPES = {".png": "image/png", ".svg": "image/svg+xml"}


@dataclass(frozen=True)
class Picture:
    """A figure file with its title and caption."""

    path: str
    title: str
    caption: str

    @property
    def uri(self):
        """The file's content as a data URI, so that the report needs no other file."""
        content = base64.b64encode(Path(self.path).read_bytes()).decode()
        return f"data:{MIME_TYPES[Path(self.path).suffix]};base64,{content}"


def read_texts(path, texts):
    """Read a table in which these columns hold texts and "" is one; epoch is an integer or <NA>."""
    table = pd.read_csv(path, sep="\t", dtype=dict.fromkeys(texts, str) | {"epoch": "Int64"})
    return table.fillna(dict.fromkeys(texts, ""))


def read_tests(path):
    """Read comparison.tsv."""
    return read_texts(path, ["split", "metric", "structure", "unit", "method", "reference"])


def read_flags(path):
    """Read flags.tsv."""
    return read_texts(path, ["subject", "pair", "method", "flag", "sentence"])


def read_failures(path):
    """Read failures.tsv."""
    return read_texts(path, ["pair", "split", "method", "weight", "why"])


def pair_pictures(paths, metrics, selected, most=24):
    """Return the Pictures of pairs, the worst first, and how many were left out.

    Parameters
    ----------
    paths : dict of pair id to path
    metrics : DataFrame
    selected : dict or None
    most : int
        The report stays a file that a browser opens; the other pictures lie among the figures.
    """
    shown = compared(metrics, selected)
    measure = next((one for one in (TRE, DICE, NCC) if one.rows(shown).value.notna().any()), TRE)
    values = measure.rows(shown).pivot_table(index="pair", columns="method", values="value")
    methods = ordered_methods(values.columns)
    last = values[methods[-1]].reindex(paths) if methods else pd.Series(np.nan, index=list(paths))
    # What failed altogether comes before all else.
    order = last.sort_values(ascending=not measure.lower_is_better, na_position="first", kind="stable").index
    splits = metrics.drop_duplicates("pair").set_index("pair").split
    pictures = []
    for pair in order[:most]:
        numbers = [
            f"{method_label(method, selected)} {digits(measure, values.at[pair, method])}"
            for method in methods
            if pair in values.index
        ]
        unit = f" ({measure.unit})" if measure.unit else ""
        caption = (
            "Fixed image and what each method made of the moving one, as radiologists look at it (the patient's left "
            "on the "
            "right); then both in turn on a checkerboard, and their difference. Where the modalities differ, the "
            "difference "
            "shows contrast as well as misalignment. "
            + (f"{measure.title}{unit}: {'; '.join(numbers)}." if numbers else "Nothing was measured on this pair.")
        )
        pictures.append(Picture(paths[pair], f"{pair} ({splits.get(pair, 'not measured')} pair)", caption))
    return pictures, len(paths) - len(pictures)


def provenance(config, seed, commit="", parameter_files=()):
    """Return what somebody needs to make the results again.

    Parameters
    ----------
    config : dict
        Without folders of the machine, see :func:`without_folders`.
    seed : int
    commit : str
        The workflow's git commit; "" if it is unknown.
    parameter_files : sequence of str
        Paths of the registration methods' parameter files.
    """
    return {
        "commit": commit or None,
        "python": platform.python_version(),
        "packages": {package: found for package in PACKAGES if (found := _version(package))},
        "seed": seed,
        "config": without_folders(config),
        "parameter_files": {
            Path(path).name: hashlib.sha256(Path(path).read_bytes()).hexdigest() for path in parameter_files
        },
    }


def _version(package):
    """Return an installed package's version, or None."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def without_folders(config):
    """Return the configuration without folders of this machine, since their names may name people.

    The data folder is left out; of other absolute paths only the file's name stays.
    """
    if isinstance(config, dict):
        return {str(key): without_folders(value) for key, value in config.items() if key != "data_folder"}
    if isinstance(config, list | tuple):
        return [without_folders(value) for value in config]
    if isinstance(config, str) and config.startswith(("/", "~", "$")):
        return Path(config).name
    return config


def template(name):
    """Return a template beside this module; it escapes every text and refuses what it is not given."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=jinja2.StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    return environment.get_template(name)


def render(
    metrics,
    summary,
    selected,
    tests,
    ranking,
    failures,
    flags,
    curves,
    comparisons,
    pairs,
    harmonized,
    provenance,
    parameter_texts,
    left_out=0,
    skipped=(),
    links=None,
    headline=None,
    phantom=False,
):
    """Return the report as HTML.

    Parameters
    ----------
    metrics, summary : DataFrame
        metrics.tsv and summary.tsv.
    selected : dict or None
        selected_model.json.
    tests, ranking, failures, flags : DataFrame
        comparison.tsv, ranking.tsv, failures.tsv and flags.tsv.
    curves, comparisons, pairs, harmonized : list of Picture
        Of the trainings, of the methods, of single pairs and of single subjects.
    provenance : dict
        See :func:`provenance`.
    parameter_texts : dict of file name to text
    left_out : int
        Number of pictures of pairs that are not in the report.
    skipped : sequence of str
        Methods whose tool is not installed.
    links : dict of pair to address, optional
        Of the pairs' pages, relative to the report.
    headline : Picture, optional
        The one for the first page.
    phantom : bool
        Whether the cohort is the embedded phantom: then every part of the report says so.
    """
    test = metrics[metrics.split == "test"]
    verdicts = [verdict(measure, metrics, summary, selected) for measure in (TRE, DICE, NCC)]
    verdicts = [one for one in verdicts if one]
    chosen = choice(selected) if selected else None
    reviewed = quality_table(flags, metrics, selected, links or {})
    return template("report.html.jinja").render(
        phantom=phantom,
        front=front(
            [one for one in verdicts if one.measure is not NCC] or verdicts,
            chosen,
            metrics,
            tests,
            failures,
            flags,
            selected,
        ),
        headline=headline,
        quality=reviewed,
        flag_counts=count_in_words(flags, reviewed, Evaluation(metrics=metrics, selected=selected)),
        verdicts=verdicts,
        sureness=sureness(metrics, tests),
        choice=chosen,
        troubles=what_went_wrong(metrics, selected, failures, skipped),
        test_pairs=pairs_in_words(test.pair),
        splits={
            split: pairs_in_words(metrics[metrics.split == split].pair)
            for split in ("train", "validation", "test")
            if (metrics.split == split).any()
        },
        comparison=comparison_table(summary, selected),
        structures=structures_table(summary, selected),
        tests=tests_table(tests, selected),
        ranking=ranking_table(ranking, selected),
        ranking_caution=ranking_caution(ranking),
        curves=curves,
        comparisons=comparisons,
        pairs=pairs,
        left_out=left_out,
        harmonized=harmonized,
        provenance=provenance,
        config=yaml.safe_dump(provenance["config"], sort_keys=False, allow_unicode=True),
        parameter_texts=parameter_texts,
    )
