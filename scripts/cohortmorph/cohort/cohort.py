"""The cohort: its images, pairs and alignments. The Snakefile loads it, so it needs PyYAML and jsonschema only."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from cohortmorph import UserError
from cohortmorph.cohort import checks
from cohortmorph.cohort.configuration import with_defaults
from cohortmorph.cohort.design import Design
from cohortmorph.cohort.layout import SYNTHETIC
from cohortmorph.cohort.on_disk import OnDisk
from cohortmorph.cohort.pairs import Image, Pair, pair_id
from cohortmorph.cohort.paths import Paths
from cohortmorph.cohort.problems import Problems
from cohortmorph.cohort.table import read_images

SPLITS = ("train", "validation", "test")
Value = TypeVar("Value")
Sample = str | tuple[str, str]  # an alignment id, or (fixed, moving)


class _Known(dict[str, Value]):
    """What the cohort has of one kind, by id."""

    def __init__(self, kind: str, rows: Mapping[str, Value]):
        super().__init__(rows)
        self._kind = kind

    def __missing__(self, id: str) -> Value:
        first = ", ".join(list(self)[:3]) or "none"
        raise UserError(f"This cohort has no {self._kind} {id}; it has {len(self)}: {first}, …")


@dataclass(frozen=True, eq=False)
class Cohort:
    """Images and the pairs to register; made by :func:`load`.

    Attributes
    ----------
    images : dict of id to Image
        In the table's order.
    pairs : dict of id to Pair
        Of the design between-subjects, validation and test pairs only: training pairs are drawn from
        :attr:`training_inputs`, so that the work grows with the subjects.
    design : str
        ``pairs.design`` of the configuration.
    reference : Image or None
        Of the designs to-reference and between-subjects.
    on_disk : OnDisk
        What lies at the user's paths.
    """

    images: dict[str, Image]
    pairs: dict[str, Pair]
    design: str
    reference: Image | None = None
    on_disk: OnDisk = field(default_factory=OnDisk)

    @property
    def subjects(self) -> list[str]:
        """Subject ids in the table's order."""
        return list(self._names)

    def images_of(self, subject: str) -> list[str]:
        """Return the names of a subject's images (`CT`, `T1`, …) in the table's order."""
        return self._names[subject]

    def image(self, image: str) -> Image:
        """Return an image by its id; UserError for one that is not in the table."""
        return self._images[image]

    def pair(self, pair: str) -> Pair:
        """Return a pair, or an alignment, by its id; UserError where it is neither."""
        return self._pairs[pair]

    def pairs_in(self, split: str) -> list[str]:
        """Return the ids of the pairs of a split."""
        return [id for id, pair in self.pairs.items() if pair.split == split]

    def synthetic_pairs(self, split: str) -> list[str]:
        """Return the ids of the pairs of a split whose images the workflow makes by a known displacement."""
        return [id for id in self.pairs_in(split) if self.pairs[id].fixed.source.startswith(SYNTHETIC)]

    def trained_on_a_test_subject(self, synthetic: Mapping[str, Any]) -> bool:
        """Say whether a train image is made, by ``config["synthetic"]``, of a subject that has another split."""
        splits = {image.subject: image.split for image in self.images.values()}
        return any(
            splits.get(subject) == "train" and self.images[made["image"]].split != "train"
            for subject, made in synthetic.items()
        )

    @cached_property
    def alignments(self) -> dict[str, Pair]:
        """All affine transforms frame ← image that must be known, as pairs: `fixed` is the frame.

        The split is that of the moving image's subject. Where image and frame are one, the transform is the identity.
        """
        wanted = [(image, pair.frame) for pair in self.pairs.values() for image in (pair.moving, pair.fixed)]
        if self.reference is not None:
            wanted += [(image, self.reference) for image in self._images_to_draw_from]
        return {
            pair_id(image.id, frame.id): Pair(frame, image, frame, image.split)
            for image, frame in dict.fromkeys(wanted)
        }

    # Snakemake matches these against every file of every pair: a list of all pairs would make planning quadratic.

    @property
    def aligned_pairs(self) -> str:
        """A regular expression of the pairs that are registered affinely: an image and its frame."""
        if self.reference is not None:
            frame = re.escape(self.reference.id)
            return rf"(?!{frame}_to_)[^/]+_to_{frame}"
        return rf"(?!(?:{self._to_themselves})/)[^/]+"

    @property
    def composed_pairs(self) -> str:
        """The same of all others: their affine comes from those of both images to their frame, or is the identity."""
        if self.reference is not None:
            frame = re.escape(self.reference.id)
            return rf"{frame}_to_{frame}|[^/]+_to_(?!{frame}/)[^/]+"
        return self._to_themselves

    @property
    def _to_themselves(self) -> str:
        """A regular expression of the alignments of frames to themselves."""
        pairs = self.pairs.values()
        names = sorted({pair.frame.name for pair in pairs})
        if any(pair.moving.name in names for pair in pairs):
            names_are_not_enough = {pair_id(pair.frame.id, pair.frame.id) for pair in pairs}
            return "|".join(map(re.escape, sorted(names_are_not_enough)))
        return "|".join(rf"(?:{_ids_of(name)})_to_[^/]+" for name in names)

    @cached_property
    def _names(self) -> dict[str, list[str]]:
        names: dict[str, list[str]] = {}
        for image in self.images.values():
            names.setdefault(image.subject, []).append(image.name)
        return _Known("subject", names)

    @cached_property
    def _images(self) -> dict[str, Image]:
        return _Known("image", self.images)

    @cached_property
    def _pairs(self) -> dict[str, Pair]:
        return _Known("pair", self.alignments | self.pairs)

    @cached_property
    def training_inputs(self) -> list[Sample]:
        """Alignment ids of the train images (between-subjects: pairs are drawn at random), else of the train pairs."""
        if self.design == "between-subjects" and self.reference is not None:
            return [pair_id(image.id, self.reference.id) for image in self._images_to_draw_from]
        return self._inputs("train")

    @cached_property
    def validation_inputs(self) -> list[Sample]:
        """(fixed alignment id, moving alignment id) of each validation pair."""
        return self._inputs("validation")

    @property
    def _images_to_draw_from(self) -> list[Image]:
        if self.design != "between-subjects" or self.reference is None:
            return []
        name = self.reference.name
        return [image for image in self.images.values() if image.name == name and image.split == "train"]

    def _inputs(self, split: str) -> list[Sample]:
        pairs = [self.pairs[id] for id in self.pairs_in(split)]
        return [(pair_id(p.fixed.id, p.frame.id), pair_id(p.moving.id, p.frame.id)) for p in pairs]


def _ids_of(name: str) -> str:
    """Return a regular expression of the ids of all subjects' images of this name."""
    with_hyphen = rf"[^~/]+~{re.escape(name)}"
    return with_hyphen if "-" in name else rf"[^~/-]+-{re.escape(name)}|{with_hyphen}"


def load(
    config: dict[str, Any],
    config_files: Iterable[str | Path],
    needs: Mapping[str, str],
    files_are_here: bool = True,
    tools_are_here: bool = True,
) -> Cohort:
    """Check configuration, cohort table and pairs table, and return the cohort.

    Parameters
    ----------
    config : dict
        The merged configuration.
    config_files : sequence of path
        The files it was merged from, the strongest last; used to say in which line a key stands.
    needs : dict of str to str
        What each metric of `evaluation.selection` needs of a pair, see :func:`checks.check_use`; the registry of
        measures knows, which this room lies below.
    files_are_here : bool
        Whether the files of the table are looked at. A job on a pool's machine may not see them, and need not: the run
        that sent it has.
    tools_are_here : bool
        Whether registration tools are looked for; not where each job has a conda environment of its own.

    Returns
    -------
    Cohort

    Raises
    ------
    UserError
        With all problems at once, one a line, sorted by file and line.
    """
    complete, problems = with_defaults(config), Problems(config, config_files)
    checks.check_schema(problems)
    checks.check_settings(complete, problems, tools_are_here)
    table = read_images(complete["cohort"], complete.get("intensity"), problems) if problems.sound("cohort") else None
    on_disk = Paths(complete, files_are_here, problems).check(table) if table is not None else OnDisk()
    pairs: list[Pair] = []
    design = None
    if table is not None and problems.sound("pairs"):
        design = Design(complete["pairs"], table, problems)
        if problems.sound("harmonize.enabled", "harmonize.fixed") and complete["harmonize"]["enabled"]:
            design.check_harmonized(complete["harmonize"]["fixed"])
        pairs = design.pairs()
        checks.check_use(complete, design, pairs, needs, problems)
    problems.raise_all()
    assert table is not None and design is not None  # or there were problems
    by_id = {pair.id: pair for pair in pairs}
    return Cohort(table.images, by_id, design.chosen["design"], design.reference, on_disk)


def describe(cohort: Cohort) -> str:
    """Return a plain-text table: images, subjects with labels, landmarks and masks, and pairs, by split."""
    images = list(cohort.images.values())
    rows = [("subjects", _splits_of_subjects(images))]
    for modality in dict.fromkeys(image.modality for image in images):
        rows.append((f"{modality} images", [image.split for image in images if image.modality == modality]))
    for column in ("labels", "landmarks", "mask", "fiducials"):
        having = [image for image in images if getattr(image, column)]
        rows.append((f"subjects with {column}", _splits_of_subjects(having)))
    rows.append(("pairs", [pair.split for pair in cohort.pairs.values()]))
    table: list[tuple[str, ...]] = [("", *SPLITS, "all")]
    table += [(name, *(str(splits.count(split)) for split in SPLITS), str(len(splits))) for name, splits in rows]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    reference = f", reference {cohort.reference.id}" if cohort.reference else ""
    lines = [f"Pair design: {cohort.design}{reference}", ""]
    for name, *counts in table:
        cells = [count.rjust(width) for count, width in zip(counts, widths[1:], strict=True)]
        lines.append("  ".join([name.ljust(widths[0]), *cells]))
    if cohort.design == "between-subjects":
        lines += ["", f"Training draws its pairs at random from {len(cohort.training_inputs)} images."]
    return "\n".join(lines) + "\n"


def _splits_of_subjects(images: Iterable[Image]) -> list[str]:
    """Return the split of each subject among the images."""
    return list({image.subject: image.split for image in images}.values())
