"""What a schema cannot say: settings that depend on each other, files and tools, and what the pairs are used for."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from cohortmorph.cohort.configuration import (
    conditional_problem,
    explained,
    kind_of,
    listed,
    nearest,
    network_validator,
    networks_of,
    parameter_files,
    validator_of,
    value_at,
)
from cohortmorph.cohort.design import Design
from cohortmorph.cohort.methods import STARTS
from cohortmorph.cohort.pairs import Pair
from cohortmorph.cohort.problems import KeyPath, Problems
from cohortmorph.cohort.selection_metric import AUTO, lacking
from cohortmorph.run import tools

Found = Iterator[tuple[KeyPath, str]]  # (key path below the key that is checked, text)


def check_schema(problems: Problems) -> None:
    """Check the configuration against its schema, and each network against that of its kind.

    What breaks them is not relied on later.
    """
    config = problems.config
    _check(validator_of("config"), config, (), problems)
    networks = config.get("networks")
    for name, chosen in networks.items() if isinstance(networks, dict) else ():
        if kind := kind_of(chosen):
            _check(network_validator(kind), chosen, ("networks", name), problems)


def _check(validator: Any, block: dict[str, Any], before: KeyPath, problems: Problems) -> None:
    """Check a block of the configuration, which stands below the key path `before`."""
    for error in validator.iter_errors(block):
        found = explained(error, block)
        for key, text in found:
            problems.in_config((*before, *key), text)
        if error.validator == "required":
            inner = (*before, *map(str, error.absolute_path))
            problems.broken |= {(*inner, name) for name in error.validator_value if name not in error.instance}
        else:
            problems.broken |= {tuple(map(str, (*before, *key))) for key, _ in found}


def check_settings(config: dict[str, Any], problems: Problems, tools_are_here: bool) -> None:
    """Check values that depend on each other, parameter files and tools.

    Parameters
    ----------
    config : dict
        With defaults.
    problems : Problems
    tools_are_here : bool
        Whether registration tools are looked for.
    """
    checks: dict[tuple[str, ...], Any] = {
        ("harmonize.step_degrees", "harmonize.refine_degrees"): _refinement_problems,
    }
    networks = config["networks"] if isinstance(config["networks"], dict) else {}
    for name, chosen in networks.items():
        if kind_of(chosen):  # one that does not take a key has no value there, and is left alone
            for keys, found_in in NETWORK_CHECKS.items():
                checks[tuple(f"networks.{name}.{key}" for key in keys)] = found_in
        if isinstance(config["baselines"], dict) and name in config["baselines"]:
            problems.in_config(("networks", name), "this name is taken by a method of `baselines`; choose another")
    if isinstance(config.get("intensity"), dict):
        checks |= {(f"intensity.{modality}",): _limit_problems for modality in config["intensity"]}
    for keys, found_in in checks.items():
        values = [value_at(config, key.split(".")) for key in keys]
        if problems.sound(*keys) and None not in values:
            for below, text in found_in(*values):
                problems.in_config((*keys[-1].split("."), *below), text)
    if problems.sound("prealign.parameters"):
        _check_parameter_files(("prealign",), "elastix", config["prealign"], problems)
    baselines = config.get("baselines")
    for method, chosen in baselines.items() if isinstance(baselines, dict) else ():
        if problems.sound(f"baselines.{method}"):
            _check_baseline(config, method, chosen, problems, tools_are_here)
    if config.get("fusion") and problems.sound("fusion.method", "networks", "baselines", "harmonize"):
        starts = [start for start in STARTS if start != "harmonized" or config["harmonize"]["enabled"]]
        known = ["selected", *starts, *config["baselines"], *(method.id for method in networks_of(config))]
        if (method := config["fusion"]["method"]) not in known:
            text = f"found {method!r}{nearest(method, known)}; known: {listed(known, 30)}"
            problems.in_config(("fusion", "method"), text)


def _check_baseline(
    config: dict[str, Any], method: str, chosen: dict[str, Any], problems: Problems, tools_are_here: bool
) -> None:
    key = ("baselines", method)
    tool, start = chosen["tool"], chosen["start"]
    _check_parameter_files(key, tool, chosen, problems)
    if start not in ("affine", "own"):
        networks = [network.id for network in networks_of(config)] if problems.sound("networks") else [start]
        if tool != "instance":
            problems.in_config((*key, "start"), f"found {start!r}; {tool} starts from affine or own")
        elif start not in networks:
            text = f"found {start!r}{nearest(start, networks)}; expected affine, own"
            known = listed(networks) or "there is none"
            problems.in_config((*key, "start"), f"{text}, or a network that is trained: {known}")
    if tools_are_here and chosen["missing"] == "refuse" and not tools.find(tool):
        text = f"{tools.HOW_TO_GET[tool]}; or set `missing: skip`, or the method to null"
        problems.in_config(key, text)


def _check_parameter_files(key: KeyPath, tool: str, chosen: dict[str, Any], problems: Problems) -> None:
    files = parameter_files(chosen)
    if len(files) > 1 and tool != "elastix":
        problems.in_config((*key, "parameters"), f"found {len(files)} files; {tool} takes one")
    for file in files:
        if not Path(file).is_file():
            text = f"found {file!r}, which is no file; expected a parameter file of {tool}"
            problems.in_config((*key, "parameters"), text)


def _weight_problems(weights: Sequence[str]) -> Found:
    seen: dict[float, str] = {}
    for n, weight in enumerate(weights):
        if float(weight) in seen:
            yield (n,), f"found {weight!r}, the same number as {seen[float(weight)]!r}"
        seen.setdefault(float(weight), weight)


def _conditional_problems(weights: Sequence[str], conditional: bool) -> Found:
    problem = conditional_problem(weights)
    if conditional and problem:
        yield (), f"found true; {problem}"


def _epoch_problems(epochs: int, kept: Sequence[int]) -> Found:
    for n, epoch in enumerate(kept):
        if epoch > epochs:
            yield (n,), f"found {epoch}; the training has only {epochs} epochs"
    if epochs not in kept:
        yield (), f"found {listed(kept)}, without the last epoch {epochs}; add it"


def _window_problems(window: int) -> Found:
    if window % 2 == 0:
        yield (), f"found {window}; expected an odd number, as a window has a middle voxel"


def _incompressible_problems(weight: float, labels: Sequence[int]) -> Found:
    if weight and not labels:
        yield (), f"found none, but incompressible.weight is {weight}; expected the numbers of the structures"


def _bending_problems(displacements: Mapping[str, Any], strength: float) -> Found:
    if strength:
        yield (), f"found {strength:g}; expected 0, as the planted displacements bend the images already"


def _mirror_problems(mirrored: bool, flips: bool) -> Found:
    if mirrored and not flips:
        yield (), "found false; expected true, or `mirrored: false`, as it answers to mirror images too"


def _level_problems(encoder: Sequence[int], decoder: Sequence[int]) -> Found:
    if len(decoder) < len(encoder):
        yield (), f"found {len(decoder)} numbers; expected at least {len(encoder)}, as many as the encoder has"


# By the keys of a network, of which the last is the one that is wrong.
NETWORK_CHECKS: dict[tuple[str, ...], Any] = {
    ("weights",): _weight_problems,
    ("weights", "conditional"): _conditional_problems,
    ("epochs", "kept_epochs"): _epoch_problems,
    ("similarity.window",): _window_problems,
    ("incompressible.weight", "incompressible.labels"): _incompressible_problems,
    ("encoder", "decoder"): _level_problems,
    ("displacements", "augment.deformation"): _bending_problems,
    ("mirrored", "flips"): _mirror_problems,
}


def _refinement_problems(step_degrees: float, refine_degrees: float) -> Found:
    if refine_degrees >= step_degrees:
        text = f"found {refine_degrees:g}; expected less than harmonize.step_degrees, {step_degrees:g}, between whose "
        yield (), text + "angles it looks, or null for none"


def _limit_problems(settings: dict[str, Any]) -> Found:
    if len(settings) != 1:
        found = " and ".join(settings) or "neither"
        yield (), f"found {found}; expected either window or percentiles" + ("; set one to null" if settings else "")
    for name, (low, high) in settings.items():
        if low >= high:
            yield (name,), f"found [{low}, {high}]; expected the lower limit first, and another upper one"


# ---- what the pairs are used for


def check_use(
    config: dict[str, Any], design: Design, pairs: Sequence[Pair], needs: Mapping[str, str], problems: Problems
) -> None:
    """Check that the pairs can be trained on, judged and chosen by.

    Parameters
    ----------
    config : dict
        With defaults.
    design : Design
        That made the pairs.
    pairs : list of Pair
    needs : dict of str to str
        What a metric of `evaluation.selection` needs of both images of a pair: a column of the table, or "".
    problems : Problems
    """
    _check_landmarks_on_both_sides(design, pairs)
    table = design.table
    if not table.splits_are_sound or not design.pairs_are_known or ("networks",) in problems.broken:
        return
    if config["networks"]:
        _check_learnable(design, Counter(pair.split for pair in pairs))
        for name in config["networks"]:
            training_pairs = [pair for pair in pairs if pair.split == "train"]
            _check_labels_to_learn_from(config, name, design, training_pairs, problems)
            _check_masks_to_learn_in(config, name, design, training_pairs, problems)
        _check_selectable(config, [pair for pair in pairs if pair.split == "validation"], needs, problems)
    elif not pairs and not problems.found:
        problems.in_config(("pairs", "design"), "these rows and this design make no pair")


def _check_landmarks_on_both_sides(design: Design, pairs: Sequence[Pair]) -> None:
    partners: dict[str, list[str]] = {}
    for pair in pairs:
        for image, other in ((pair.fixed, pair.moving), (pair.moving, pair.fixed)):
            if other.landmarks and not image.landmarks:
                partners.setdefault(image.id, []).append(other.id)
    for image_id, others in partners.items():
        text = f"empty, but {listed(others, 3)} of the same pair has landmarks; give both or neither"
        design.table.in_row(design.table.images[image_id], "landmarks", text)


WITHOUT = " (or set every one of `networks` to null)"


def _check_learnable(design: Design, splits: Counter[str]) -> None:
    if design.chosen["design"] == "between-subjects":
        found, needed, kind = len(design.images_to_draw_from()), 2, "train subject(s)"
    else:
        found, needed, kind = splits["train"], 1, "train pair(s)"
    if found < needed:
        text = f"column split: found {found} {kind}; a network learns from at least {needed}"
        design.table.in_header(text + WITHOUT)
    if not splits["validation"]:
        text = "column split: found no validation pair; a network's λ and epoch are chosen on at least 1"
        design.table.in_header(text + WITHOUT)


def _check_labels_to_learn_from(
    config: dict[str, Any], network: str, design: Design, training_pairs: Sequence[Pair], problems: Problems
) -> None:
    # Incompressible structures are those of the fixed image; the label loss compares both.
    roles = {("label_weight",): ("fixed", "moving"), ("incompressible", "weight"): ("fixed",)}
    for key, compared in roles.items():
        chosen = config["networks"][network]
        weight = value_at(chosen, key) if kind_of(chosen) else None
        if not weight or not problems.sound(f"networks.{network}.{'.'.join(key)}"):
            continue
        drawn = design.images_to_draw_from() or [getattr(pair, role) for pair in training_pairs for role in compared]
        wanted = {image.id for image in drawn}
        lacking = [id for id, image in design.table.images.items() if id in wanted and not image.labels]
        if lacking:
            which = "train image" if len(compared) == 2 else "fixed image of a train pair"
            found = f"found {weight}, which needs labels on every {which}"
            problems.in_config(("networks", network, *key), f"{found}; without: {listed(lacking, 5)}")


def _check_masks_to_learn_in(
    config: dict[str, Any], network: str, design: Design, training_pairs: Sequence[Pair], problems: Problems
) -> None:
    key, chosen = ("similarity", "mask"), config["networks"][network]
    mask = value_at(chosen, key) if kind_of(chosen) else None
    if mask in (None, "none") or not problems.sound(f"networks.{network}.{'.'.join(key)}"):
        return
    # An image without a mask counts everywhere; where none has one, nothing is left out.
    roles = (mask,) if mask in ("fixed", "moving") else ("fixed", "moving")
    drawn = design.images_to_draw_from() or [getattr(pair, role) for pair in training_pairs for role in roles]
    if drawn and not any(image.mask for image in drawn):
        which = "train image" if design.images_to_draw_from() else f"{' or '.join(roles)} image of a train pair"
        text = f"found {mask}, but no {which} has a mask: give masks in the column mask of the table, or set it to none"
        problems.in_config(("networks", network, *key), text)


def _check_selectable(
    config: dict[str, Any], validation_pairs: Sequence[Pair], needs: Mapping[str, str], problems: Problems
) -> None:
    if not problems.sound("evaluation.selection.metric"):
        return
    metric = config["evaluation"]["selection"]["metric"]
    if metric != AUTO and (without := lacking(metric, validation_pairs, needs)):
        text = f"found {metric!r}, which needs {needs[metric]} on both images of every validation pair"
        problems.in_config(("evaluation", "selection", "metric"), f"{text}; without: {listed(without, 5)}")
