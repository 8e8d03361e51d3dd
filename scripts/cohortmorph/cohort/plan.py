"""The plan: what every rule reads and how it is set, from the cohort, the configuration and what was skipped.

Pure Python, so that tests ask it in milliseconds. The rules hand it their wildcards (``rules/common.smk``): functions
that begin with ``to_`` return a job's named inputs, None or an empty list where there is none; the others return
settings. What this machine lacks is no question of the plan: the main run decides it once (``skipped``).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from cohortmorph import UserError
from cohortmorph.cohort import cohort as cohorts
from cohortmorph.cohort import skipped, sources
from cohortmorph.cohort.cohort import Cohort, describe
from cohortmorph.cohort.configuration import networks_of, parameter_files, with_defaults
from cohortmorph.cohort.layout import MADE_HERE, PHANTOM, PHANTOM_IMAGES, Layout
from cohortmorph.cohort.methods import STARTS, Method
from cohortmorph.cohort.network_plan import NetworkPlan
from cohortmorph.cohort.pairs import Image, Pair, image_id, pair_id
from cohortmorph.cohort.selection_metric import AUTO, settled
from cohortmorph.cohort.table import PATH_COLUMNS
from cohortmorph.run.logs import log

Files = dict[str, Any]  # named inputs of a job: a path, a list of paths, or None


@dataclass(frozen=True, eq=False)
class Plan:
    """What is to be done.

    Attributes
    ----------
    cohort : Cohort
    config : dict
        With defaults.
    skipped : sequence of str
        Methods of the configuration that are left out, as their tool is missing where the run was started.
    results : Layout
    needs : dict of str to str
        What each metric of `evaluation.selection` needs of a pair, see :func:`load`.
    """

    cohort: Cohort
    config: dict[str, Any]
    skipped: Sequence[str] = ()
    results: Layout = field(default_factory=Layout)
    needs: Mapping[str, str] = field(default_factory=dict)

    def description(self, **_: str) -> str:
        """Return what the cohort is, as a plain-text table."""
        return describe(self.cohort)

    # ---- what is compared

    @cached_property
    def harmonizes(self) -> bool:
        """Whether a subject's stacks are harmonized."""
        return self.config["harmonize"]["enabled"]

    @cached_property
    def starts(self) -> list[str]:
        """Methods that need no registration of their own."""
        return [start for start in STARTS if start != "harmonized" or self.harmonizes]

    @cached_property
    def baselines(self) -> dict[str, dict[str, Any]]:
        """The classical methods, in the configuration's order, by name."""
        return {name: chosen for name, chosen in self.config["baselines"].items() if name not in self.skipped}

    @cached_property
    def learned(self) -> list[Method]:
        """The networks that are applied: a method for each weight λ and kept epoch."""
        return networks_of(self.config)

    @cached_property
    def methods(self) -> list[str]:
        """The ids of all methods, in the order in which every table has them."""
        return [*self.starts, *self.baselines, *(method.id for method in self.learned)]

    @cached_property
    def evaluated(self) -> list[str]:
        """The ids of the pairs that are registered by every method and measured."""
        return self.cohort.pairs_in("validation") + self.cohort.pairs_in("test")

    @cached_property
    def networks(self) -> dict[str, NetworkPlan]:
        """How each network is trained and applied, by name and in the configuration's order."""
        chosen = self.config["networks"]
        return {name: NetworkPlan(name, one, self.cohort, self.results) for name, one in chosen.items()}

    @cached_property
    def phantom(self) -> bool:
        """Whether an image is a phantom's: then every page and figure says so."""
        return any(image.source.startswith(PHANTOM) for image in self.cohort.images.values())

    @cached_property
    def moved_labels(self) -> list[str]:
        """The methods whose moved label maps are written: all, if every moving image has labels."""
        pairs = self.cohort.pairs.values()
        return self.methods if self.evaluated and all(pair.moving.labels for pair in pairs) else []

    @cached_property
    def selected(self) -> list[str]:
        """The files that say which λ and epoch of each network were chosen."""
        return [self.results.selected(name) for name in self.networks]

    @cached_property
    def selection(self) -> dict[str, Any]:
        """``evaluation.selection`` with `auto` settled and, if there is something to say of the metric, ``why``."""
        chosen = self.config["evaluation"]["selection"]
        validation = [self.cohort.pair(pair) for pair in self.cohort.pairs_in("validation")]
        metric, why = settled(chosen["metric"], validation, self.needs)
        return chosen | {"metric": metric} | ({"why": why} if why else {})

    @cached_property
    def of_two_modalities(self) -> list[str]:
        """The ids of the evaluated pairs whose images are of two modalities."""
        return [pair for pair in self.evaluated if self.cohort.pair(pair).of_two_modalities]

    def methods_of(self, tool: str) -> list[str]:
        """Return the methods of a tool."""
        return [name for name, chosen in self.baselines.items() if chosen["tool"] == tool]

    @cached_property
    def parameter_files(self) -> list[str]:
        """The parameter files of the affine and of all classical methods, skipped or not."""
        return [
            file
            for chosen in (self.config["prealign"], *self.config["baselines"].values())
            for file in parameter_files(chosen)
        ]

    @cached_property
    def tools(self) -> list[dict[str, Any]]:
        """The affine and the classical methods: ``key`` of the configuration, ``tool`` and parameter ``files``."""
        chosen = {"prealign": {"tool": "elastix"} | self.config["prealign"]}
        chosen |= {f"baselines.{name}": one for name, one in self.baselines.items()}
        return [{"key": key, "tool": one["tool"], "files": parameter_files(one)} for key, one in chosen.items()]

    # ---- images

    def file_of(self, image: Image) -> str:
        """Return the converted image."""
        return self.results.image(image.subject, image.name)

    def labels_of(self, image: Image) -> str | None:
        """Return an image's label map, or None; structures from the clinic are converted first."""
        if sources.is_segmentation(image.labels):
            return self.results.labels(image.subject, image.name)
        return image.labels or None

    def intensity_of(self, image: Image) -> dict[str, Any]:
        """Return how the intensities of an image are prepared."""
        return self.config["intensity"][image.modality]

    def _image(self, subject: str, image: str) -> Image:
        return self.cohort.image(image_id(subject, image))

    def _images_of(self, subject: str) -> list[Image]:
        return [self._image(subject, name) for name in self.cohort.images_of(subject)]

    def data_folder(self, **_: str) -> str:
        """Return the data folder as it was typed. (As a plain string, Snakemake would look for wildcards in it.)"""
        return self.config["data_folder"]

    def cell(self, column: str) -> Any:
        """Return the function (subject, image) → the cell of this column of the table."""
        return lambda subject, image: getattr(self._image(subject, image), column)

    def to_convert(self, subject: str, image: str) -> Files:
        """Return the image's source if the workflow makes it itself: a user's path is no input, see the rule."""
        source = self._image(subject, image).source
        return {"made": source if source.startswith(MADE_HERE) else None}

    def fingerprint(self, column: str) -> Any:
        """Return the function (subject, image) → fingerprint of a user's file, "" for one of the workflow's own."""
        return lambda subject, image: self.fingerprint_of({"": getattr(self._image(subject, image), column)})

    def fingerprints(self, **_: str) -> list[str]:
        """Return the fingerprints of all images of the user's."""
        found = (self.fingerprint_of({"": image.source}) for image in self.cohort.images.values())
        return [fingerprint for fingerprint in found if fingerprint]

    def fingerprint_of(self, files: Files) -> str:
        """Return one fingerprint of those among a job's inputs that are the user's, "" if there are none."""
        listed = {role: [value] if isinstance(value, str) else value or () for role, value in files.items()}
        named = ((role, path) for role, paths in listed.items() for path in paths)
        return self.cohort.on_disk.fingerprint((role, path) for role, path in named if path in self._users_files)

    @cached_property
    def _users_files(self) -> set[str]:
        cells = (getattr(image, column) for image in self.cohort.images.values() for column in PATH_COLUMNS)
        return {*self.parameter_files, *(path for path in cells if path and not path.startswith(MADE_HERE))}

    def fingerprints_of_all(self, **_: str) -> list[str]:
        """Return the fingerprints of everything of the user's that the cohort table names."""
        images = self.cohort.images.values()
        return [self.fingerprint(column)(one.subject, one.name) for column in PATH_COLUMNS for one in images]

    def to_harmonize(self, subject: str) -> Files:
        """Return the images of a subject, in the table's order."""
        return {"images": [self.file_of(image) for image in self._images_of(subject)]}

    def names(self, subject: str) -> list[str]:
        """Return the names of a subject's images, in the table's order."""
        return self.cohort.images_of(subject)

    def intensities_of_subject(self, subject: str) -> list[dict[str, Any]]:
        """Return how the intensities of a subject's images are prepared, in the table's order."""
        return [self.intensity_of(image) for image in self._images_of(subject)]

    # ---- pairs; an alignment is a pair as well: an image and the frame that a network sees it in

    def intensities(self, pair: str) -> list[dict[str, Any]]:
        """Return how the intensities of the fixed and the moving image are prepared."""
        of = self.cohort.pair(pair)
        return [self.intensity_of(of.fixed), self.intensity_of(of.moving)]

    def split(self, pair: str) -> str:
        """Return the split of a pair."""
        return self.cohort.pair(pair).split

    def _is_harmonized(self, pair: Pair) -> bool:
        return self.harmonizes and pair.within_subject

    def harmonizing_transforms(self, pair: str) -> list[str]:
        """Return the transforms harmonized world → image world of the fixed and the moving image, or nothing."""
        of = self.cohort.pair(pair)
        images = (of.fixed, of.moving) if self._is_harmonized(of) else ()
        return [self.results.harmonizing_transform(image.subject, image.name) for image in images]

    def _harmonized(self, pair: Pair) -> str | None:
        return self.results.harmonized(pair.fixed.subject) if self._is_harmonized(pair) else None

    def images(self, pair: Pair) -> Files:
        """Return the fixed and the moving image."""
        return {"fixed": self.file_of(pair.fixed), "moving": self.file_of(pair.moving)}

    def to_align(self, pair: str) -> Files:
        """Return what the affine registration of a pair reads."""
        of = self.cohort.pair(pair)
        return {
            **self.images(of),
            "fixed_mask": of.fixed.mask or None,
            "harmonized": self._harmonized(of),
            "parameters": self.config["prealign"]["parameters"],
        }

    def to_compose(self, pair: str) -> Files:
        """Return the alignments from which a pair's affine is composed, nothing for an image to itself."""
        of = self.cohort.pair(pair)
        if of.fixed == of.moving:
            return {}
        files: Files = {}
        for role, image in (("fixed", of.fixed), ("moving", of.moving)):
            alignment = pair_id(image.id, of.frame.id)
            files[f"to_{role}"] = self.results.affine(alignment)
            files[f"{role}_registration"] = self.results.affine_registration(alignment)
        return files

    def to_start(self, pair: str) -> Files:
        """Return what the methods without a registration of their own are made of."""
        of = self.cohort.pair(pair)
        return {
            "fixed": self.file_of(of.fixed),
            "affine": self.results.affine(pair),
            "registration": self.results.affine_registration(pair),
            "harmonized": self._harmonized(of),
        }

    def to_register(self, tool: str) -> Any:
        """Return the function pair → what a tool's methods read."""
        chosen = [self.baselines[method] for method in self.methods_of(tool)]
        networks = {method.id for method in self.learned}
        starts = [start for start in dict.fromkeys(one["start"] for one in chosen) if start in networks]
        parameters = [file for one in chosen for file in parameter_files(one)]

        def of(pair: str) -> Files:
            files = self.to_align(pair)
            return {
                **files,
                "affine": self.results.affine(pair),
                "start_displacements": self.results.displacements(pair, starts),
                "parameters": parameters,
            }

        return of

    def settings_of(self, tool: str) -> list[dict[str, Any]]:
        """Return the settings of a tool's methods: ``method``, ``parameters`` (paths) and ``start``."""
        return [
            {"method": method, "parameters": parameter_files(chosen), "start": chosen["start"]}
            for method, chosen in self.baselines.items()
            if chosen["tool"] == tool
        ]

    def models_of_points(self) -> list[dict[str, str]]:
        """Return the point-based methods: ``method`` and ``model``, the transform that it fits (rigid or affine)."""
        return [{"method": method, "model": self.baselines[method]["model"]} for method in self.methods_of("points")]

    def to_register_points(self, pair: str) -> Files:
        """Return what the point-based methods read."""
        of = self.cohort.pair(pair)
        return {
            "fixed": self.file_of(of.fixed),
            "fixed_fiducials": of.fixed.fiducials or None,
            "moving_fiducials": of.moving.fiducials or None,
        }

    # ---- what every method did

    def to_warp(self, pair: str) -> Files:
        """Return what is resampled: the moving image and its labels, through each method's displacement."""
        of = self.cohort.pair(pair)
        return {
            "moving": self.file_of(of.moving),
            "moving_labels": self.labels_of(of.moving),
            "displacements": self.results.displacements(pair, self.methods),
        }

    def given(self, pair: Pair) -> Files:
        """Return what the user gave to measure a pair by."""
        return {
            "fixed_labels": self.labels_of(pair.fixed),
            "moving_labels": self.labels_of(pair.moving),
            "fixed_landmarks": pair.fixed.landmarks or None,
            "moving_landmarks": pair.moving.landmarks or None,
            "fixed_mask": pair.fixed.mask or None,
        }

    def to_measure(self, pair: str) -> Files:
        """Return what a pair is measured by."""
        of = self.cohort.pair(pair)
        reverse = pair_id(of.fixed.id, of.moving.id)
        return {
            **self.images(of),
            **self.given(of),
            "affine": self.results.affine(pair),
            "displacements": self.results.displacements(pair, self.methods),
            "registrations": self.results.registrations(pair, self.methods),
            "reverse_displacements": self.results.displacements(reverse, self.methods)
            if reverse in self.cohort.pairs
            else [],
            "true_displacement": self.true_displacement(of),
        }

    def true_displacement(self, pair: Pair) -> str | None:
        """Return the known displacement of a pair (mm, LPS, fixed grid), or None: of a phantom, from its CT."""
        fixed, moving = Path(pair.fixed.source), Path(pair.moving.source)
        reference, *others = PHANTOM_IMAGES
        if moving.parent != fixed.parent:
            return None
        if pair.fixed.source.startswith(PHANTOM) and fixed.name == reference and moving.name in others:
            return self.results.true_displacement(fixed.parent.name, moving.name)
        if pair.fixed.source == self.results.synthetic(fixed.parent.name, "fixed.nii.gz") and moving.name == (
            "moving.nii.gz"
        ):
            return self.results.synthetic(fixed.parent.name, "truth.nii.gz")
        return None

    def to_collect(self) -> Files:
        """Return what the tables of the cohort are made of."""
        results, pairs = self.results, self.evaluated
        return {
            "tables": [results.metrics_of_pair(pair) for pair in pairs],
            "registrations": [path for pair in pairs for path in results.registrations(pair, self.methods)],
            "training_alignments": [results.affine_registration(pair) for pair in self._training_alignments],
        }

    @property
    def _training_alignments(self) -> list[str]:
        """The ids of the alignments that trainings rest on, each once."""
        samples = self.cohort.training_inputs if self.networks else []
        return sorted({id for one in samples for id in ([one] if isinstance(one, str) else one)})

    # ---- experiments

    def to_make_synthetic(self, subject: str) -> Files:
        """Return the real image that a synthetic subject is made of, and its mask."""
        image = self.cohort.image(self._synthetic(subject)["image"])
        return {"image": self.file_of(image), "mask": image.mask or None}

    def synthetic_field(self, subject: str) -> str:
        """Return the kind of displacement of a synthetic subject."""
        return self._synthetic(subject)["field"]

    def _synthetic(self, subject: str) -> Mapping[str, Any]:
        if subject not in self.config["synthetic"]:
            raise UserError(f"`synthetic` in the configuration does not have subject {subject}.")
        return self.config["synthetic"][subject]


def load(
    config: dict[str, Any],
    config_files: Sequence[str | Path],
    needs: Mapping[str, str],
    is_main_run: bool,
    has_environments: bool,
) -> Plan:
    """Check the configuration and its tables, and return the plan.

    Parameters
    ----------
    config : dict
        The merged configuration.
    config_files : sequence of path
        The files it was merged from, the strongest last.
    needs : dict of str to str
        See :func:`cohortmorph.cohort.cohort.load`.
    is_main_run : bool
        Whether this is the run that a user started: it looks for files and tools, and decides which methods are
        skipped. Its jobs trust it: they may see other files and have other tools.
    has_environments : bool
        Whether each rule has an environment of its own, with its tools.

    Raises
    ------
    UserError
        With all problems at once.
    """
    tools_are_here = is_main_run and not has_environments
    cohort = cohorts.load(config, config_files, needs, files_are_here=is_main_run, tools_are_here=tools_are_here)
    complete = with_defaults(config)
    if is_main_run:
        skipped.tell(complete["baselines"], tools_are_here)
    plan = Plan(cohort, complete, skipped.told(), needs=needs)
    asked_for = complete["evaluation"]["selection"]["metric"] != AUTO
    if is_main_run and complete["networks"] and asked_for and "why" in plan.selection:
        log.warning("%s", plan.selection["why"])
    return plan
