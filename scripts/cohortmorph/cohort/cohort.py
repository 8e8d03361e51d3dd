"""The cohort: its images, pairs and alignments.

The Snakefile imports this module, so it needs pandas, PyYAML and jsonschema only.
"""

from dataclasses import dataclass
from functools import cached_property

import pandas as pd

from cohortmorph import UserError
from cohortmorph.cohort.checks import Check, pair_id

SPLITS = ("train", "validation", "test")


class _Known(dict):
    """What the cohort has of one kind, by id."""

    def __init__(self, kind, rows):
        super().__init__(rows)
        self._kind = kind

    def __missing__(self, id):
        first = ", ".join(list(self)[:3]) or "none"
        raise UserError(f"This cohort has no {self._kind} {id}; it has {len(self)}: {first}, …")


@dataclass(frozen=True, eq=False)
class Cohort:
    """Images and the pairs to register; made by :func:`load`.

    Attributes
    ----------
    images : DataFrame
        Index ``image_id`` (``{subject}-{image}``); columns subject, image, modality, source, labels, landmarks, mask,
        fiducials, split, series, in the table's order. Paths are expanded; what the table leaves empty is "".
    pairs : DataFrame
        Index ``pair`` (``{moving}_to_{fixed}``, of image ids); columns fixed, moving (image ids), split, and frame, the
        image id on whose grid both images are put for VoxelMorph. For the design between-subjects, validation and test
        pairs only: training pairs are drawn from :attr:`training_inputs`, so that the work grows with the subjects.
    design : str
        ``pairs.design`` of the configuration.
    reference : str
        Image id of the reference of the designs to-reference and between-subjects, otherwise "".
    """

    images: pd.DataFrame
    pairs: pd.DataFrame
    design: str
    reference: str = ""

    @property
    def subjects(self):
        """Subject ids in the table's order."""
        return list(self.images["subject"].unique())

    def images_of(self, subject):
        """Return the names of a subject's images (`CT`, `T1`, …) in the table's order."""
        return self._names[subject]

    def image(self, image_id):
        """Return the row of an image as a dict; UserError for one that is not in the table."""
        return self._image_rows[image_id]

    def pair(self, pair):
        """Return the row of a pair, or of an alignment, as a dict; UserError where it is neither."""
        return self._pair_rows[pair]

    def pairs_in(self, split):
        """Return the ids of the pairs of a split."""
        return list(self.pairs.index[self.pairs["split"] == split])

    def synthetic_pairs(self, split):
        """Return the ids of the pairs of a split whose images the workflow makes by a known displacement."""
        fixed = self.pairs.loc[self.pairs_in(split), "fixed"]
        return [pair for pair, image in fixed.items() if "/synthetic/" in self.images.at[image, "source"]]

    def trained_on_a_test_subject(self, synthetic):
        """Say whether a train image is made, by ``config["synthetic"]``, of a subject that has another split."""
        splits = self.images.drop_duplicates("subject").set_index("subject")["split"]
        return any(
            splits.get(subject) == "train" and self.images.at[made["image"], "split"] != "train"
            for subject, made in synthetic.items()
        )

    @cached_property
    def alignments(self):
        """All affine transforms frame ← image that must be known.

        A DataFrame like :attr:`pairs` (index ``pair``; columns fixed, which is the frame, moving, split, frame) with
        a column `identity`, true where image and frame are one. The split is that of the moving image's subject.
        """
        wanted = [(image, pair.frame) for pair in self.pairs.itertuples() for image in (pair.moving, pair.fixed)]
        wanted += [(image, self.reference) for image in self._images_to_draw_from]
        rows = [
            (pair_id(image, frame), frame, image, self.images.at[image, "split"], frame, image == frame)
            for image, frame in dict.fromkeys(wanted)
        ]
        return pd.DataFrame(rows, columns=["pair", "fixed", "moving", "split", "frame", "identity"]).set_index("pair")

    # A workflow of 10,000 jobs asks for rows more than 100,000 times: dicts answer at once, pandas in 0.1 ms.

    @cached_property
    def _names(self):
        names = self.images.groupby("subject", sort=False)["image"].agg(list)
        return _Known("subject", names)

    @cached_property
    def _image_rows(self):
        return _Known("image", self.images.to_dict("index"))

    @cached_property
    def _pair_rows(self):
        return _Known("pair", {**self.alignments.to_dict("index"), **self.pairs.to_dict("index")})

    @property
    def training_inputs(self):
        """Alignment ids of the train images (between-subjects: pairs are drawn at random), else of the train pairs.

        Returns
        -------
        list of str, or list of (fixed alignment id, moving alignment id)
        """
        if self.design == "between-subjects":
            return [pair_id(image, self.reference) for image in self._images_to_draw_from]
        return self._inputs("train")

    @property
    def validation_inputs(self):
        """(fixed alignment id, moving alignment id) of each validation pair."""
        return self._inputs("validation")

    @property
    def _images_to_draw_from(self):
        if self.design != "between-subjects":
            return []
        same_name = self.images["image"] == self.images.at[self.reference, "image"]
        return list(self.images.index[same_name & (self.images["split"] == "train")])

    def _inputs(self, split):
        return [
            (pair_id(pair.fixed, pair.frame), pair_id(pair.moving, pair.frame))
            for pair in self.pairs[self.pairs["split"] == split].itertuples()
        ]


def load(config, config_files, produced_under="results/", files_are_here=True, tools_are_here=True):
    """Check configuration, cohort table and pairs table, and return the cohort.

    Parameters
    ----------
    config : dict
        The merged configuration.
    config_files : sequence of path
        The files it was merged from, the strongest last; used to say in which line a key stands.
    produced_under : str
        The workflow's output folder: paths in its ``phantom/`` are made by the workflow and need not exist.
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
    check = Check(config, config_files, produced_under, files_are_here, tools_are_here)
    check.schema()
    check.settings()
    check.read_images()
    check.paths()
    pairs = check.pairs()
    check.use_of(pairs)
    if check.problems:
        problems = sorted(check.problems)
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        raise UserError("\n".join([f"{count} in the configuration; nothing was started.", *map(str, problems)]))
    table = pd.DataFrame(pairs, columns=["pair", "fixed", "moving", "split", "frame"]).set_index("pair")
    return Cohort(check.images.drop(columns="line"), table, check.design["design"], check.reference)


def describe(cohort):
    """Return a plain-text table: images, subjects with labels, landmarks and masks, and pairs, by split."""
    images = cohort.images
    rows = [("subjects", images.drop_duplicates("subject")["split"])]
    rows += [(f"{modality} images", group["split"]) for modality, group in images.groupby("modality", sort=False)]
    for column in ("labels", "landmarks", "mask", "fiducials"):
        rows.append((f"subjects with {column}", images[images[column] != ""].drop_duplicates("subject")["split"]))
    rows.append(("pairs", cohort.pairs["split"]))
    table = [("", *SPLITS, "all")]
    table += [(name, *(str((splits == split).sum()) for split in SPLITS), str(len(splits))) for name, splits in rows]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = [f"Pair design: {cohort.design}" + (f", reference {cohort.reference}" if cohort.reference else ""), ""]
    for name, *counts in table:
        cells = [count.rjust(width) for count, width in zip(counts, widths[1:], strict=True)]
        lines.append("  ".join([name.ljust(widths[0]), *cells]))
    if cohort.design == "between-subjects":
        lines += ["", f"Training draws its pairs at random from {len(cohort.training_inputs)} images."]
    return "\n".join(lines) + "\n"
