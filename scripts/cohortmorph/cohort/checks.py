"""What is checked of a cohort before anything starts: configuration and tables, all problems in one go.

The Snakefile imports this module, so it needs pandas, PyYAML and jsonschema only.
"""

import itertools
import os
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import yaml

from cohortmorph.cohort.configuration import (
    VARIABLE,
    conditional_problem,
    dotted,
    explained,
    in_words,
    key_lines,
    learned_method,
    listed,
    nearest,
    parameter_files,
    read_yaml,
    schema_of,
    validator_of,
    value_at,
    with_defaults,
)
from cohortmorph.run import tools

PATH_COLUMNS = ("source", "labels", "landmarks", "mask", "fiducials")
IMAGE_SUFFIXES = (".nii", ".nii.gz", ".mha", ".mhd", ".nrrd")
NEEDS = {"tre": "landmarks", "dice": "labels", "ncc": ""}


@dataclass(frozen=True, order=True)
class _Problem:
    file: str
    line: int
    text: str

    def __str__(self):
        return f"{self.file} line {self.line}, {self.text}" if self.line else f"{self.file}, {self.text}"


class Check:
    """Collects every problem; each step works on what the steps before it found to be sound."""

    def __init__(self, config, config_files, produced_under, files_are_here, tools_are_here):
        self.config = config
        self.files_are_here = files_are_here
        self.tools_are_here = tools_are_here
        self.phantom_folder = Path(produced_under, "phantom").as_posix() + "/"
        self.synthetic_folder = Path(produced_under, "synthetic").as_posix() + "/"
        self.problems = set()
        self.broken = set()  # key paths of the configuration that later steps must not rely on
        self.files = [self._config_file(Path(file)) for file in config_files]
        self.complete = with_defaults(config)
        self.design = {}
        self.reference = ""
        self.images = None
        self.header_line = 1
        self.split_is_sound = False
        self.pairs_are_known = True
        self.unclear_subjects = set()

    def _config_file(self, path):
        """Return (name, {key path: line}, content) of a configuration file."""
        name, lines, content = _shown_path(path), {}, None
        try:
            root, content = read_yaml(path)
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            self.problems.add(_Problem(name, 0, f"not readable as YAML: {' '.join(str(error).split())}"))
        else:
            for key, line in key_lines(root):
                if key in lines:
                    text = f"{dotted(key)}: stands already in line {lines[key]}; YAML would silently take the last one"
                    self.problems.add(_Problem(name, line, text))
                lines[key] = line
        return name, lines, content

    # ---- where a problem stands

    def _place(self, key):
        """Return (file, line) of a key path: the last file that holds it, or its nearest parent."""
        if not self.files:
            return "configuration", 0
        for depth in range(len(key), 0, -1):
            part = tuple(map(str, key[:depth]))
            for name, lines, content in reversed(self.files):
                if part in lines:
                    value = value_at(self.config, part)
                    typed_here = isinstance(value, dict) or in_words(value) == in_words(value_at(content, part))
                    return (name, lines[part]) if typed_here else ("command line (--config)", 0)
            if depth == len(key) and value_at(self.config, part) is not None:
                return ("command line (--config)", 0)
        return self.files[0][0], 1

    def in_config(self, key, text):
        """Note a problem with a key of the configuration (a path as tuple)."""
        self.problems.add(_Problem(*self._place(key), f"{dotted(key)}: {text}" if key else text))

    def in_table(self, line, text):
        """Note a problem in the cohort table."""
        self.problems.add(_Problem(_shown_path(self.complete["cohort"]), int(line), text))

    def in_row(self, row, column, text):
        """Note a problem in a cell of the cohort table."""
        self.in_table(row.line, f"subject {row.subject}, column {column}: {text}")

    def sound(self, *keys):
        """Say whether these dotted keys, the blocks around and the keys below them obey the schema."""
        paths = [tuple(key.split(".")) for key in keys]
        pairs = [(path, broken) for path in paths for broken in self.broken]
        return not any(path[: len(broken)] == broken[: len(path)] for path, broken in pairs)

    # ---- the configuration

    def schema(self):
        """Check the configuration against its schema."""
        for error in validator_of("config").iter_errors(self.config):
            problems = explained(error, self.config)
            for key, text in problems:
                self.in_config(key, text)
            if error.validator == "required":
                block = tuple(map(str, error.absolute_path))
                self.broken |= {(*block, name) for name in error.validator_value if name not in error.instance}
            else:
                self.broken |= {tuple(map(str, key)) for key, _ in problems}

    def settings(self):
        """Check what a schema cannot say: values that depend on each other, and files."""
        checks = {
            ("voxelmorph.weights",): _weight_problems,
            ("voxelmorph.weights", "voxelmorph.conditional"): _conditional_problems,
            ("voxelmorph.epochs", "voxelmorph.kept_epochs"): _epoch_problems,
            ("voxelmorph.similarity.window",): _window_problems,
            ("voxelmorph.incompressible.weight", "voxelmorph.incompressible.labels"): _incompressible_problems,
            ("voxelmorph.encoder", "voxelmorph.decoder"): _level_problems,
        }
        if isinstance(self.complete.get("intensity"), dict):
            checks |= {(f"intensity.{modality}",): _limit_problems for modality in self.complete["intensity"]}
        for keys, found_in in checks.items():
            values = [value_at(self.complete, key.split(".")) for key in keys]
            if self.sound(*keys) and None not in values:
                for below, text in found_in(*values):
                    self.in_config((*keys[-1].split("."), *below), text)
        if self.sound("prealign.parameters"):
            self._parameter_files(("prealign",), "elastix", self.complete["prealign"])
        baselines = self.complete.get("baselines")
        for method, chosen in baselines.items() if isinstance(baselines, dict) else ():
            if not self.sound(f"baselines.{method}"):
                continue
            self._parameter_files(("baselines", method), chosen["tool"], chosen)
            self._start(("baselines", method, "start"), chosen)
            lacking = self.tools_are_here and chosen["missing"] == "refuse" and not tools.find(chosen["tool"])
            if lacking:
                text = f"{tools.HOW_TO_GET[chosen['tool']]}; or set `missing: skip`, or the method to null"
                self.in_config(("baselines", method), text)

        if self.complete.get("fusion") and self.sound("fusion.method", "voxelmorph", "baselines", "harmonize"):
            network = self.complete["voxelmorph"] or {"weights": [], "kept_epochs": []}
            of_networks = itertools.product(network["weights"], network["kept_epochs"])
            known = ["selected", "initial", "affine", *baselines, *(learned_method(*of) for of in of_networks)]
            known += ["harmonized"] if self.complete["harmonize"]["enabled"] else []
            if (method := self.complete["fusion"]["method"]) not in known:
                self.in_config(
                    ("fusion", "method"), f"found {method!r}{nearest(method, known)}; known: {listed(known, 30)}"
                )

    def _start(self, key, chosen):
        """Check that a start other than an alignment is a network of this configuration, for a tool that takes it."""
        if chosen["start"] in ("affine", "own"):
            return
        if chosen["tool"] != "instance":
            self.in_config(key, f"found {chosen['start']!r}; {chosen['tool']} starts from affine or own")
        elif self.sound("voxelmorph.weights", "voxelmorph.kept_epochs"):
            network = self.complete["voxelmorph"] or {"weights": [], "kept_epochs": []}
            known = [learned_method(*of) for of in itertools.product(network["weights"], network["kept_epochs"])]
            if chosen["start"] not in known:
                text = f"found {chosen['start']!r}; expected affine, own"
                self.in_config(key, f"{text}, or a network that is trained: {listed(known) or 'there is none'}")

    def _parameter_files(self, key, tool, chosen):
        files = parameter_files(chosen)
        if len(files) > 1 and tool != "elastix":
            self.in_config((*key, "parameters"), f"found {len(files)} files; {tool} takes one")
        for file in files:
            if not Path(file).is_file():
                text = f"found {file!r}, which is no file; expected a parameter file of {tool}"
                self.in_config((*key, "parameters"), text)

    # ---- the cohort table

    def read_images(self):
        """Read the cohort table; rows that cannot be told apart are left out of the later steps."""
        table = self._table(("cohort",), self.complete["cohort"], "cohort") if self.sound("cohort") else None
        if table is None:
            return
        # An empty id or split was noted before: what would follow from it only, such as a missing image, is not noted.
        self.split_is_sound = bool((table[["subject", "image", "split"]] != "").all(axis=None))
        self.unclear_subjects = set(table["subject"][table["image"] == ""])
        table = table[(table["subject"] != "") & (table["image"] != "")]
        seen, split_of = {}, {}
        for row in table.itertuples():
            name = image_id(row)
            if name in seen:
                self.in_row(row, "image", f"found {row.image!r}, but {name} stands already in line {seen[name]}")
            line, split = split_of.setdefault(row.subject, (row.line, row.split))
            if row.split and split and row.split != split:
                self.split_is_sound = False
                text = f"found {row.split!r}, but line {line} says {split!r}; a subject belongs to one split"
                self.in_row(row, "split", f"{text}, or a network is judged by a patient that it has learned from")
            seen.setdefault(name, row.line)
        table = table.drop_duplicates(["subject", "image"])
        self.images = table.set_index(pd.Index([image_id(row) for row in table.itertuples()], name="image_id"))
        if isinstance(self.complete.get("intensity"), dict):
            known = list(self.complete["intensity"])
            for row in table[~table["modality"].isin([*known, ""])].itertuples():
                text = f"found {row.modality!r}, which intensity in the configuration has not; it has {listed(known)}"
                self.in_row(row, "modality", text + nearest(row.modality, known))

    def _table(self, key, path, schema_name):
        """Read a TSV; return its rows with a column `line`, cells that break the schema emptied, or None."""
        schema = schema_of(schema_name)
        try:
            lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
        except FileNotFoundError:
            return self.in_config(key, f"found {path!r}, which is no file; expected the path of a TSV table")
        except (OSError, UnicodeDecodeError) as error:
            return self.in_config(key, f"{path!r} is not readable ({error}); save it as text in UTF-8 with tabs")
        name = _shown_path(path)
        numbered = [(n, line) for n, line in enumerate(lines, 1) if line.strip() and not line.startswith("#")]
        if not numbered:
            self.problems.add(_Problem(name, 1, f"no rows; expected the columns {listed(schema['properties'])}"))
            return None
        (header_line, header_text), *rows = numbered
        header = header_text.rstrip("\t").split("\t")
        for text in _header_problems(header, header_text, schema):
            self.problems.add(_Problem(name, header_line, text))
        if not set(schema["required"]) <= set(header) or len(set(header)) < len(header):
            return None
        if not rows:
            return self.problems.add(_Problem(name, header_line, "no rows below the column names"))
        if schema_name == "cohort":
            self.header_line = header_line
        columns = list(schema["properties"])
        records = []
        for line, text in rows:
            cells = text.split("\t")
            while len(cells) > len(header) and not cells[-1]:
                cells.pop()
            row = dict.fromkeys(columns, "") | dict(zip(header, cells, strict=False))
            if len(cells) == len(header):
                problems = [
                    problem for error in validator_of(schema_name).iter_errors(row) for problem in explained(error, row)
                ]
            else:
                count = "1 cell" if len(cells) == 1 else f"{len(cells)} cells"
                problems = [((), f"found {count}; expected {len(header)}, separated by single tabs, empty cells too")]
                row = dict.fromkeys(columns, "") | {"subject": row.get("subject", "")}
            subject = [f"subject {row['subject']}"] if row.get("subject") else []
            for column, text in problems:
                where = ", ".join([*subject, *(f"column {name}" for name in column)])
                self.problems.add(_Problem(name, line, f"{where}: {text}" if where else text))
            # Cells that break the schema are emptied; paths stay, as whether there are landmarks decides other checks.
            bad = {column for (column,) in (key for key, _ in problems if key)} - set(PATH_COLUMNS)
            records.append({column: "" if column in bad else row[column] for column in columns} | {"line": line})
        return pd.DataFrame(records, columns=[*columns, "line"])

    def paths(self):
        """Expand the paths of the table and check that they exist."""
        if self.images is None:
            return
        folder = self._data_folder()
        self._sources_of_two_subjects()
        for column in PATH_COLUMNS:
            for row in self.images[self.images[column] != ""].itertuples():
                typed = getattr(row, column)
                if typed.startswith(self.phantom_folder):
                    self._phantom_path(row, column, typed)
                elif typed.startswith(self.synthetic_folder):
                    self._synthetic_path(row, column, typed)
                elif folder is not None or Path(typed).is_absolute():
                    path = Path(folder or ".", typed)
                    self.images.at[row.Index, column] = str(path)
                    if self.files_are_here and (text := _path_problem(column, path)):
                        self.in_row(row, column, f"found {typed!r}, {text}")

    def _data_folder(self):
        """Return the expanded data folder, or None if it is no folder (which is noted)."""
        if not self.sound("data_folder"):
            return None
        typed = self.complete["data_folder"]
        folder = str(Path(os.path.expandvars(typed)).expanduser())
        if unset := VARIABLE.findall(folder):
            self.in_config(
                ("data_folder",),
                f"found {typed!r}, but the environment has no variable {listed(unset)}; export it first",
            )
            return None
        relative = [
            path
            for path in self.images[list(PATH_COLUMNS)].to_numpy().ravel()
            if path and not path.startswith(self.phantom_folder) and not Path(path).is_absolute()
        ]
        if self.files_are_here and relative and not Path(folder).is_dir():
            self.in_config(("data_folder",), f"found {typed!r}, which is no folder ({folder})")
            return None
        return folder

    def _phantom_path(self, row, column, typed):
        if self.complete["phantom"] is None:
            self.in_row(row, column, f"found {typed!r}, but the configuration has no `phantom` that would make it")
        endings = {"source": "", "labels": "_labels.nii.gz"}
        endings |= {"landmarks": "_landmarks.tsv", "fiducials": "_fiducials.tsv"}
        ending = endings.get(column)
        made = f"{self.phantom_folder}{{subject}}/{{CT, T1 or T2}}{ending}"
        pattern = f"{re.escape(self.phantom_folder)}[A-Za-z0-9]+/(CT|T1|T2){re.escape(ending or '')}"
        if ending is None:
            self.in_row(row, column, f"found {typed!r}, but the phantom makes no {column}; leave the cell empty")
        elif not re.fullmatch(pattern, typed):
            self.in_row(row, column, f"found {typed!r}, but of this kind the phantom makes {made} only")

    def _synthetic_path(self, row, column, typed):
        chosen = self.complete["synthetic"].get(row.subject)
        ending = {"source": ".nii.gz", "landmarks": "_landmarks.tsv", "mask": "_mask.nii.gz"}.get(column)
        made = [f"{self.synthetic_folder}{row.subject}/{role}{ending}" for role in ("fixed", "moving")]
        if chosen is None:
            text = f"found {typed!r}, but `synthetic` in the configuration does not have subject {row.subject}"
            self.in_row(row, column, text)
        elif ending is None:
            self.in_row(row, column, f"found {typed!r}, but synthetic pairs have no {column}; leave the cell empty")
        elif typed not in made:
            self.in_row(row, column, f"found {typed!r}, but of this kind only {listed(made)} are made")
        elif chosen["image"] not in self.images.index:
            text = f"found {chosen['image']!r}, which is no image of the cohort table; expected {{subject}}-{{image}}"
            self.in_config(("synthetic", row.subject, "image"), text)

    def _sources_of_two_subjects(self):
        """The same file under two subjects would carry an image from one split into another."""
        first = {}
        for row in self.images[self.images["source"] != ""].itertuples():
            subject, line = first.setdefault(row.source, (row.subject, row.line))
            if subject != row.subject:
                self.in_row(row, "source", f"found {row.source!r}, which line {line} gives to subject {subject}")

    # ---- the pairs

    def pairs(self):
        """Check the pair design and return its pairs: (pair id, fixed, moving, split, frame), of image ids."""
        if self.images is None or not self.sound("pairs"):
            return []
        self.design = self.complete["pairs"]
        self._harmonized_images()
        makers = {
            "within-subject": self._within_subject,
            "to-reference": self._to_reference,
            "between-subjects": self._between_subjects,
            "table": self._listed_pairs,
        }
        pairs = makers[self.design["design"]]()
        return [(pair_id(moving, fixed), fixed, moving, split, frame) for fixed, moving, split, frame in pairs]

    def _known_image(self, key, name):
        """Say whether any subject has an image of this name; if none, note it at the configuration's key."""
        known = list(self.images["image"].unique())
        if name in known:
            return True
        self.pairs_are_known = False
        self.in_config(
            key, f"found {name!r}, an image that no subject has; known: {listed(known)}{nearest(name, known)}"
        )
        return False

    def _each_subject(self, key, names, wanted):
        """Note every subject that has none of the images `names`; return the images by subject."""
        by_subject = {subject: group for subject, group in self.images.groupby("subject", sort=False)}
        for subject, group in by_subject.items():
            if not set(names) & set(group["image"]) and subject not in self.unclear_subjects:
                line, has = group["line"].iloc[0], listed(group["image"])
                text = f"no image {wanted} ({key}), only {has}; add its row, or start the subject's lines with #"
                self.in_table(line, f"subject {subject}, column image: {text}")
        return by_subject

    def _harmonized_images(self):
        if not self.sound("harmonize.enabled", "harmonize.fixed") or not self.complete["harmonize"]["enabled"]:
            return
        fixed = self.complete["harmonize"]["fixed"]
        known = self._known_image(("harmonize", "fixed"), fixed)
        # The design within-subject asks for the same image, and says so.
        if known and (self.design["design"] != "within-subject" or self.design["fixed"] != fixed):
            self._each_subject("harmonize.fixed", [fixed], fixed)

    def _within_subject(self):
        fixed, moving = self.design["fixed"], self.design["moving"]
        if fixed in moving:
            self.in_config(("pairs", "moving", moving.index(fixed)), f"found {fixed!r}, which is the fixed image too")
        known = self._known_image(("pairs", "fixed"), fixed)
        known_moving = [name for n, name in enumerate(moving) if self._known_image(("pairs", "moving", n), name)]
        if not known:
            return []
        by_subject = self._each_subject("pairs.fixed", [fixed], fixed)
        if known_moving:
            self._each_subject("pairs.moving", known_moving, " or ".join(moving))
        pairs = []
        for subject, group in by_subject.items():
            names = set(group["image"])
            frame = f"{subject}-{fixed}"
            if fixed in names:
                split = group["split"].iloc[0]
                pairs += [(frame, f"{subject}-{name}", split, frame) for name in known_moving if name in names]
        return [pair for pair in pairs if pair[0] != pair[1]]

    def _reference_and_images(self):
        """Return the reference's image id (or "") and the images of that name, in table order."""
        name, subject = self.design["image"], self.design["reference"]
        subjects = list(self.images["subject"].unique())
        if subject not in subjects:
            self.pairs_are_known = False
            text = f"found {subject!r}, which is no subject of the table; known: {listed(subjects)}"
            self.in_config(("pairs", "reference"), text + nearest(subject, subjects))
        if not self._known_image(("pairs", "image"), name):
            return self.images.iloc[:0]
        self._each_subject("pairs.image", [name], name)
        reference = f"{subject}-{name}"
        if reference in self.images.index:
            self.reference = reference
            split = self.images.at[reference, "split"]
            if split not in ("train", ""):
                text = (
                    f"found {subject!r}, a {split} subject; expected a train subject, as it shapes every registration"
                )
                self.in_config(("pairs", "reference"), text)
        return self.images[self.images["image"] == name]

    def _to_reference(self):
        images = self._reference_and_images()
        if not self.reference:
            return []
        others = images[images.index != self.reference]
        return [(self.reference, row.Index, row.split, self.reference) for row in others.itertuples()]

    def _between_subjects(self):
        images, count = self._reference_and_images(), self.design["moving_per_fixed"]
        pairs = []
        for split in ("validation", "test"):
            judged = list(images.index[images["split"] == split])
            if 0 < len(judged) <= count:
                self.pairs_are_known &= split != "validation"
                found = "1 subject" if len(judged) == 1 else f"{len(judged)} subjects"
                text = f"column split: {split} has {found} with image {self.design['image']}; "
                self.in_table(self.header_line, text + f"pairs.moving_per_fixed {count} needs at least {count + 1}")
                continue
            # Groups that share no subject, as statistics count groups; the last one takes those left over.
            groups = max(1, len(judged) // (count + 1))
            for n in range(groups):
                group = judged[n * (count + 1) : (n + 1) * (count + 1) if n < groups - 1 else None]
                for place, fixed in enumerate(group):
                    moving = [group[(place + step) % len(group)] for step in range(1, count + 1)]
                    pairs += [(fixed, image, split, self.reference) for image in moving]
        return pairs

    def _listed_pairs(self):
        path = self.design["table"]
        table = self._table(("pairs", "table"), path, "pairs")
        self.pairs_are_known = table is not None and bool((table != "").all(axis=None))
        seen, pairs = {}, []
        for row in () if table is None else table.itertuples():

            def problem(text, line=row.line):
                self.problems.add(_Problem(_shown_path(path), int(line), text))

            fixed, moving = (self._listed_image(row, role, problem) for role in ("fixed", "moving"))
            if not fixed or not moving:
                continue
            name, splits = pair_id(moving, fixed), [self.images.at[image, "split"] for image in (fixed, moving)]
            if fixed == moving:
                problem(f"column moving_image: {moving} would be registered to itself")
            elif name in seen:
                problem(f"column moving_image: {name} stands already in line {seen[name]}")
            elif all(splits) and splits[0] not in (splits[1], "train"):
                problem(
                    f"column fixed_subject: {fixed} is {splits[0]}, {moving} is {splits[1]}; expected one split for "
                    "both, or a train subject as the fixed one"
                )
            else:
                pairs.append((fixed, moving, splits[1], fixed))
            seen.setdefault(name, row.line)
        return pairs

    def _listed_image(self, row, role, problem):
        """Return the image id that a row of the pairs table names, or "" (noted) if the cohort has it not."""
        subject, name = getattr(row, f"{role}_subject"), getattr(row, f"{role}_image")
        if not subject or not name:
            return ""
        if f"{subject}-{name}" in self.images.index:
            return f"{subject}-{name}"
        self.pairs_are_known = False
        images = self.images["image"][self.images["subject"] == subject].tolist()
        if images:
            near = nearest(name, images)
            problem(f"column {role}_image: found {name!r}; subject {subject} has {listed(images)}{near}")
        else:
            near = nearest(subject, self.images["subject"].unique())
            problem(f"column {role}_subject: found {subject!r}, which is no subject of the cohort table{near}")
        return ""

    # ---- what the pairs are used for

    def use_of(self, pairs):
        """Check that the pairs can be trained on, judged and chosen by."""
        if not self.design or self.images is None:
            return
        self._landmarks_on_one_side(pairs)
        splits = Counter(split for _, _, _, split, _ in pairs)
        if not self.split_is_sound or not self.pairs_are_known or ("voxelmorph",) in self.broken:
            return
        if self.complete["voxelmorph"] is not None:
            self._learnable(splits)
            self._labels_to_learn_from([pair for pair in pairs if pair[3] == "train"])
            self._selectable([pair for pair in pairs if pair[3] == "validation"])
        elif not pairs and not self.problems:
            self.in_config(("pairs", "design"), "these rows and this design make no pair")

    def _landmarks_on_one_side(self, pairs):
        partners = {}
        landmarks = self.images["landmarks"].to_dict()
        for _, fixed, moving, *_ in pairs:
            for image, other in ((fixed, moving), (moving, fixed)):
                if landmarks[other] and not landmarks[image]:
                    partners.setdefault(image, []).append(other)
        for image, others in partners.items():
            row = self.images.loc[image]
            text = f"empty, but {listed(others, 3)} of the same pair has landmarks; give both or neither"
            self.in_row(row, "landmarks", text)

    def _learnable(self, splits):
        between = self.design["design"] == "between-subjects"
        if between:
            same_name = self.images["image"] == self.design["image"]
            found, needed = int((same_name & (self.images["split"] == "train")).sum()), 2
        else:
            found, needed = splits["train"], 1
        if found < needed:
            kind = "train subject(s)" if between else "train pair(s)"
            text = f"column split: found {found} {kind}; voxelmorph learns from at least {needed}"
            self.in_table(self.header_line, text + " (or set voxelmorph: null)")
        if not splits["validation"]:
            text = "column split: found no validation pair; voxelmorph chooses λ and epoch on at least 1"
            self.in_table(self.header_line, text + " (or set voxelmorph: null)")

    def _labels_to_learn_from(self, training_pairs):
        chosen = self.complete["voxelmorph"]
        # Incompressible structures are those of the fixed image; the label loss compares both.
        roles = {("label_weight",): (1, 2), ("incompressible", "weight"): (1,)}
        for key, images in roles.items():
            weight = value_at(chosen, key)
            if not weight or not self.sound("voxelmorph." + ".".join(key)):
                continue
            wanted = {pair[role] for pair in training_pairs for role in images}
            if self.design["design"] == "between-subjects":
                drawn = (self.images["image"] == self.design["image"]) & (self.images["split"] == "train")
                wanted = set(self.images.index[drawn])
            lacking = [image for image in self.images.index if image in wanted and not self.images.at[image, "labels"]]
            if lacking:
                which = "train image" if len(images) == 2 else "fixed image of a train pair"
                found = f"found {weight}, which needs labels on every {which}"
                self.in_config(("voxelmorph", *key), f"{found}; without: {listed(lacking, 5)}")

    def _selectable(self, validation_pairs):
        if not self.sound("evaluation.selection.metric"):
            return
        metric = self.complete["evaluation"]["selection"]["metric"]
        column = NEEDS[metric]
        if not column:
            return
        given = self.images[column].to_dict()
        lacking = [name for name, fixed, moving, *_ in validation_pairs if not given[fixed] or not given[moving]]
        if lacking:
            text = f"found {metric!r}, which needs {column} on both images of every validation pair"
            self.in_config(("evaluation", "selection", "metric"), f"{text}; without: {listed(lacking, 5)}")


# ---- single values of the settings


def _weight_problems(weights):
    """Yield (key path below the weights, text)."""
    seen = {}
    for n, weight in enumerate(weights):
        if float(weight) in seen:
            yield (n,), f"found {weight!r}, the same number as {seen[float(weight)]!r}"
        seen.setdefault(float(weight), weight)


def _conditional_problems(weights, conditional):
    """Yield (key path below the key `conditional`, text)."""
    problem = conditional_problem(weights)
    if conditional and problem:
        yield (), f"found true; {problem}"


def _epoch_problems(epochs, kept):
    """Yield (key path below the kept epochs, text)."""
    for n, epoch in enumerate(kept):
        if epoch > epochs:
            yield (n,), f"found {epoch}; the training has only {epochs} epochs (voxelmorph.epochs)"
    if epochs not in kept:
        yield (), f"found {listed(kept)}, without the last epoch {epochs} (voxelmorph.epochs); add it"


def _window_problems(window):
    """Yield (key path below the window, text)."""
    if window % 2 == 0:
        yield (), f"found {window}; expected an odd number, as a window has a middle voxel"


def _incompressible_problems(weight, labels):
    """Yield (key path below the labels, text)."""
    if weight and not labels:
        yield (), f"found none, but incompressible.weight is {weight}; expected the numbers of the structures"


def _level_problems(encoder, decoder):
    """Yield (key path below the decoder, text)."""
    if len(decoder) < len(encoder):
        yield (), f"found {len(decoder)} numbers; expected at least {len(encoder)}, as many as the encoder has"


def _limit_problems(settings):
    """Yield (key path below a modality of intensity, text)."""
    if len(settings) != 1:
        found = " and ".join(settings) or "neither"
        yield (), f"found {found}; expected either window or percentiles" + ("; set one to null" if settings else "")
    for name, (low, high) in settings.items():
        if low >= high:
            yield (name,), f"found [{low}, {high}]; expected the lower limit first, and another upper one"


# ---- cells, column names and names of files


def _path_problem(column, path):
    """Return what is wrong with an existing or missing path of the table, or None."""
    if not path.exists():
        return f"which does not exist ({path})"
    if column != "source":
        return None if path.is_file() else "which is a folder; expected a file"
    if path.is_dir():
        return None if any(path.iterdir()) else "which is an empty folder; expected DICOM slices in it"
    if not path.name.lower().endswith(IMAGE_SUFFIXES):
        return f"which is neither a folder of DICOM slices nor a file ending in {', '.join(IMAGE_SUFFIXES)}"
    return None


def _header_problems(header, text, schema):
    """Yield what is wrong with a table's column names."""
    known, required = list(schema["properties"]), schema["required"]
    for separator, name in ((",", "commas"), (";", "semicolons"), (" ", "spaces")):
        if len(header) == 1 and separator in text.strip():
            yield f"the columns are separated by {name}; expected tabs: save the table as tab-delimited text (TSV)"
            return
    for column, count in Counter(header).items():
        if count > 1:
            yield f"column {column!r} stands {count} times"
        if column not in known:
            yield f"unknown column {column!r}{nearest(column, known)}; known: {listed(known)}"
    for column in required:
        if column not in header:
            yield f"missing column {column!r}: {schema['properties'][column]['description']}"


def _shown_path(path):
    path = Path(path)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def image_id(row):
    return f"{row.subject}-{row.image}"


def pair_id(moving, fixed):
    return f"{moving}_to_{fixed}"
