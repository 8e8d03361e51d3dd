"""The plan: each input is made by a rule or given by the user, nothing judged is learned from, subjects stand alone."""

import re
from copy import deepcopy
from dataclasses import fields, replace
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from projects import Project
from rules_of import rules_of

from cohortmorph import UserError
from cohortmorph.cohort import skipped
from cohortmorph.cohort.cohort import Cohort
from cohortmorph.cohort.configuration import with_defaults
from cohortmorph.cohort.layout import ENDINGS, Layout
from cohortmorph.cohort.learning_plan import LearningPlan
from cohortmorph.cohort.pairs import Image, Pair
from cohortmorph.cohort.plan import Plan
from cohortmorph.cohort.report_plan import ReportPlan

REPOSITORY = Path(__file__).parents[1]
SHIPPED = yaml.safe_load((REPOSITORY / "config/config.yaml").read_text())
IMAGES = ("CT", "T1", "T2")
# All that a random configuration may have.
BASELINES = {
    "bspline-3r": {"tool": "elastix", "parameters": "config/elastix/bspline-3r.txt"},
    "niftyreg": {"tool": "niftyreg", "parameters": "config/niftyreg/f3d.txt", "missing": "skip"},
    "ants": {"tool": "ants", "parameters": "config/ants/syn-quick.txt", "missing": "skip"},
    "demons": {"tool": "demons", "parameters": "config/demons/symmetric.yaml"},
    "refined": {
        "tool": "instance", "parameters": "config/instance/ncc.yaml", "start": "voxelmorph_weight-2_epoch-20"
    },
    "points": {"tool": "points", "model": "rigid"},
}  # fmt: skip
WEIGHTS, EPOCHS = ["1", "2", "4"], [10, 20]
PREALIGN = SHIPPED["prealign"]
OTHER = {"int_steps": 7, "dimensions": 3, "spacing_mm": [2, 2, 3.5], "kept_epochs": [20], "epochs": 20, "gpu": True}


def written(baselines=BASELINES, weights=WEIGHTS, kept_epochs=EPOCHS, harmonize=True, fusion="selected", **network):
    """Return a configuration as a user would write it, with two networks; without `weights` there is none."""
    config = deepcopy(SHIPPED) | {"baselines": deepcopy(baselines), "synthetic": {}}
    config["harmonize"]["enabled"] = harmonize
    config["fusion"] = fusion and SHIPPED["fusion"] | {"method": fusion}
    chosen = {"weights": weights, "kept_epochs": kept_epochs, "epochs": kept_epochs[-1]}
    plain = SHIPPED["networks"]["voxelmorph"] | chosen | network
    config["networks"] = {"voxelmorph": plain, "diff-3d": plain | OTHER} if weights else {}
    return config


def configuration(*arguments, **options):
    """Return the same with the schema's defaults, as a plan wants it."""
    return with_defaults(written(*arguments, **options))


def image(subject, name, split, own=False, **cells):
    """Return an image: the phantom's, or a file of the user's."""
    made = f"results/phantom/{subject}/{name}"
    source = f"/data/{subject}/{name}.nii.gz" if own else made
    points = {kind: f"{source}{ENDINGS[kind]}" for kind in ("labels", "landmarks", "fiducials")}
    return Image(subject, name, name, source, split=split, **points | cells)


def within_subject(splits, own=False, **cells):
    """Return a cohort of subjects S1, S2, … with CT, T1 and T2, registered to the CT."""
    images, pairs = {}, {}
    for n, split in enumerate(splits, 1):
        ct, *others = (image(f"S{n}", name, split, own, **cells) for name in IMAGES)
        images |= {one.id: one for one in (ct, *others)}
        pairs |= {pair.id: pair for pair in (Pair(ct, other, ct, split) for other in others)}
    return Cohort(images, pairs, "within-subject")


def between_subjects(splits, own=False, **cells):
    """Return a cohort of subjects with a CT each, the first one the reference; judged ones are registered in a ring."""
    subjects = [image(f"S{n}", "CT", split, own, **cells) for n, split in enumerate(["train", *splits], 1)]
    pairs = {}
    for split in ("validation", "test"):
        judged = [one for one in subjects if one.split == split]
        for n, fixed in enumerate(judged if len(judged) > 1 else []):
            pair = Pair(fixed, judged[(n + 1) % len(judged)], subjects[0], split)
            pairs[pair.id] = pair
    return Cohort({one.id: one for one in subjects}, pairs, "between-subjects", subjects[0])


def both_ways(splits, own=False, **cells):
    """Return a cohort of a pairs table: T1 and T2 of a subject, each registered to the other."""
    images, pairs = {}, {}
    for n, split in enumerate(splits, 1):
        one, other = (image(f"S{n}", name, split, own, **cells) for name in IMAGES[1:])
        images |= {one.id: one, other.id: other}
        for pair in (Pair(one, other, one, split), Pair(other, one, other, split)):
            pairs[pair.id] = pair
    return Cohort(images, pairs, "table")


@pytest.fixture(scope="session")
def producers(tmp_path_factory):
    """{conditional: [(rule, pattern of one of its outputs)]} of the Snakefile, with all methods."""
    found = {}
    for conditional in (False, True):
        project = Project(tmp_path_factory.mktemp("rules"))
        project.write("config/config.yaml", yaml.safe_dump(written(conditional=conditional)))
        rules = rules_of(project.folder)
        found[conditional] = [(rule.name, re.compile(pattern)) for rule in rules for pattern in rule.outputs]
    return found


def files_of(plan):
    """Yield (name, inputs) of every job that the plan is asked about."""
    shown, learning, pairs = ReportPlan(plan), LearningPlan(plan), [*plan.cohort.pairs]
    for subject in plan.cohort.subjects:
        yield f"harmonize {subject}", plan.to_harmonize(subject)
    for one in plan.cohort.images.values():
        yield f"convert {one.id}", plan.to_convert(one.subject, one.name)
    for pair in [*plan.cohort.alignments, *pairs]:
        composed = re.fullmatch(plan.cohort.composed_pairs, pair)
        yield f"affine {pair}", plan.to_compose(pair) if composed else plan.to_align(pair)
        if plan.networks:
            yield f"prepare {pair}", learning.to_prepare(pair)
            yield f"prepare mask {pair}", learning.to_prepare_mask(pair)
    for pair in plan.evaluated:
        yield f"start {pair}", plan.to_start(pair)
        for tool in {chosen["tool"] for chosen in plan.baselines.values()} - {"points"}:
            yield f"register {pair} by {tool}", plan.to_register(tool)(pair)
        yield f"points {pair}", plan.to_register_points(pair)
        for network in plan.networks:
            yield f"apply {network} to {pair}", learning.to_apply(network)(pair)
        yield f"warp {pair}", plan.to_warp(pair)
        yield f"measure {pair}", plan.to_measure(pair)
        yield f"draw {pair}", shown.to_draw(pair)
    for name, network in plan.networks.items():
        yield f"train {name}", {"files": network.training_files}
        yield f"search {name}", learning.to_search_weight(name)
        yield f"plot {name}", learning.histories(name)
    yield "collect", plan.to_collect()
    yield "report", shown.to_report()
    yield "view", shown.to_view()
    yield "tabulate", shown.to_tabulate()
    for folder in shown.fused:
        subject, name = folder.split("/")[-2:]
        yield f"fuse {folder}", shown.to_fuse(subject, name)


def paths_in(files):
    """Return all paths of a job's inputs."""
    groups = [group if isinstance(group, list) else [group] for group in files.values() if group]
    return {path for group in groups for path in group}


def users_files(plan):
    """Return what the user gives: what the table names, and the parameter files."""
    cells = (getattr(one, field.name) for one in plan.cohort.images.values() for field in fields(one))
    return {cell for cell in cells if cell.startswith("/data/")} | set(plan.parameter_files)


COHORTS = st.builds(
    lambda make, splits, own, mask: make(splits, own, mask="/data/mask.nii.gz" if mask else ""),
    st.sampled_from([within_subject, between_subjects, both_ways]),
    st.lists(st.sampled_from(["train", "validation", "test"]), min_size=1, max_size=8),
    st.booleans(),
    st.booleans(),
)
CONFIGURATIONS = st.builds(
    lambda baselines, weights, epochs, harmonize, fusion, conditional, label_weight, mask: configuration(
        {name: BASELINES[name] for name in baselines},
        sorted(weights),
        sorted(epochs),
        harmonize,
        fusion,
        conditional=conditional and len(weights) > 1,
        label_weight=label_weight,
        similarity={"mask": mask},
    ),
    st.lists(st.sampled_from([name for name in BASELINES if name != "refined"]), unique=True),
    st.sets(st.sampled_from(WEIGHTS)),
    st.sets(st.sampled_from(EPOCHS), min_size=1),
    st.booleans(),
    st.sampled_from(["selected", "affine", None]),
    st.booleans(),
    st.sampled_from([0, 2]),
    st.sampled_from(["none", "union"]),
)
MANY = settings(max_examples=60, deadline=None)


@given(cohort=COHORTS, config=CONFIGURATIONS, skip=st.sets(st.sampled_from(["niftyreg", "ants"])))
@MANY
def test_every_input_is_another_rule_s_output_or_a_user_s_file(producers, cohort, config, skip):
    plan = Plan(cohort, config, tuple(skip))
    conditional = any(network.chosen["conditional"] for network in plan.networks.values())
    # One job writes the pages of all pairs: its outputs are this cohort's.
    pages = [("write_reviews", re.compile(re.escape(plan.results.review(f"{pair}.html")))) for pair in plan.evaluated]
    made, given_by_user = [*producers[conditional], *pages], users_files(plan)
    for job, files in files_of(plan):
        for path in paths_in(files) - given_by_user:
            rules = {rule for rule, pattern in made if pattern.fullmatch(path)}
            alignments = {"prealign", "compose_affine"}  # told apart by the wildcard, see below
            assert rules and (len(rules) == 1 or rules == alignments), f"{job}: {path} is made by {rules or 'nobody'}"


@given(cohort=COHORTS)
@MANY
def test_each_affine_is_made_by_one_rule(cohort):
    plan = Plan(cohort, configuration())
    for id, pair in (cohort.alignments | cohort.pairs).items():
        aligned, composed = (re.fullmatch(f"(?P<pair>{pattern})/affine.tfm", f"{id}/affine.tfm") for pattern in
                             (plan.cohort.aligned_pairs, plan.cohort.composed_pairs))  # fmt: skip
        assert bool(aligned) != bool(composed), id
        # Composed is what has a frame of its own between its images, and the identity.
        is_alignment = id in cohort.alignments and pair.fixed != pair.moving
        assert bool(aligned) == is_alignment, id


@given(cohort=COHORTS, config=CONFIGURATIONS)
@MANY
def test_no_file_of_a_judged_subject_is_learned_from(cohort, config):
    plan = Plan(cohort, config)
    judged = {one.subject for one in cohort.images.values() if one.split != "train"}
    test = {one.subject for one in cohort.images.values() if one.split == "test"}
    for name, network in plan.networks.items():
        learned_from = [*network.training_inputs, *network.training_labels, *network.training_masks]
        for path in {path for sample in learned_from for path in ([sample] if isinstance(sample, str) else sample)}:
            subjects = set(re.findall(r"S\d+", path))
            assert subjects and not subjects & judged, path
        for path in [*network.training_files, *LearningPlan(plan).to_search_weight(name)["files"]]:
            assert not set(re.findall(r"S\d+", path)) & test, path


@given(cohort=COHORTS.filter(lambda cohort: cohort.design != "between-subjects"), config=CONFIGURATIONS)
@MANY
def test_a_new_subject_adds_only_its_own_files(cohort, config):
    """What other subjects' jobs read stays as it is, but for what stands for the cohort as a whole."""
    whole = {"train", "search", "plot", "collect", "report", "view", "tabulate"}
    more = Cohort(dict(cohort.images), dict(cohort.pairs), cohort.design)
    images = [image("New", name, "test") for name in IMAGES[1:]]
    more.images.update({one.id: one for one in images})
    added = Pair(*images, images[0], "test")
    more.pairs[added.id] = added
    before, after = (dict(files_of(Plan(one, config))) for one in (cohort, more))
    for job, files in before.items():
        if job.split()[0] not in whole:
            # Labels are warped where every moving image has some, and the newcomer has.
            assert after[job] == files, job
    for job in set(after) - set(before):
        assert "New" in job
        of_all = ("results/models/", "results/evaluation/")  # what a network learned is for everybody
        own = [path for path in paths_in(after[job]) if path.startswith("results/") and not path.startswith(of_all)]
        assert all("New" in path for path in own), job
    before, after = (
        {name: network.training_files for name, network in Plan(one, config).networks.items()} for one in (cohort, more)
    )
    assert before == after


# ---- single answers


@pytest.fixture
def plan():
    return Plan(within_subject(["train", "validation", "test"]), configuration())


def test_methods_stand_in_the_configuration_s_order(plan):
    assert plan.methods[:3] == ["initial", "harmonized", "affine"]
    assert plan.methods[3:9] == list(BASELINES)
    networks = [f"voxelmorph_weight-{weight}_epoch-{epoch}" for weight in WEIGHTS for epoch in EPOCHS]
    assert plan.methods[9:] == networks + [f"diff-3d_weight-{weight}_epoch-20" for weight in WEIGHTS]
    assert Plan(plan.cohort, configuration(harmonize=False)).methods[:2] == ["initial", "affine"]


def test_what_is_skipped_is_nowhere(plan):
    less = Plan(plan.cohort, plan.config, ("niftyreg",))
    assert "niftyreg" in plan.methods and "niftyreg" not in less.methods
    assert less.settings_of("niftyreg") == [] and len(plan.settings_of("niftyreg")) == 1
    assert not any("niftyreg" in path for job, files in files_of(less) for path in paths_in(files) if job != "report")
    fused = ReportPlan(Plan(plan.cohort, configuration(fusion="niftyreg"), ("niftyreg",)))
    with pytest.raises(UserError, match=r"fusion\.method: niftyreg is skipped"):
        fused.to_fuse("S3", "CT")


def test_what_a_pair_is_measured_by(plan):
    pair = "S3-T1_to_S3-CT"
    files = plan.to_measure(pair)
    assert files["fixed"] == "results/images/S3/CT.nii.gz" and files["moving"] == "results/images/S3/T1.nii.gz"
    assert files["true_displacement"] == "results/phantom/S3/truth_T1_to_CT.nii.gz"
    assert files["displacements"][0] == f"results/pairs/{pair}/initial/displacement.nii.gz"
    assert len(files["displacements"]) == len(files["registrations"]) == len(plan.methods)
    assert files["reverse_displacements"] == [] and files["fixed_mask"] is None
    own = Plan(within_subject(["test"], own=True), plan.config)
    assert own.to_measure("S1-T1_to_S1-CT")["true_displacement"] is None
    reverse = Plan(both_ways(["test"]), plan.config).to_measure("S1-T2_to_S1-T1")["reverse_displacements"]
    assert reverse[2] == "results/pairs/S1-T1_to_S1-T2/affine/displacement.nii.gz"


def test_structures_from_the_clinic_are_converted_first(plan):
    cohort = within_subject(["test"], own=True, labels="/data/S1/structures.dcm")
    assert Plan(cohort, plan.config).to_warp("S1-T1_to_S1-CT")["moving_labels"] == "results/images/S1/T1_labels.nii.gz"


def test_a_refined_network_starts_from_its_displacement(plan):
    files = plan.to_register("instance")("S3-T1_to_S3-CT")
    assert files["start_displacements"] == [
        "results/pairs/S3-T1_to_S3-CT/voxelmorph_weight-2_epoch-20/displacement.nii.gz"
    ]
    assert plan.to_register("elastix")("S3-T1_to_S3-CT")["start_displacements"] == []


def test_harmonizing_is_for_pairs_within_a_subject():
    within, between = within_subject(["test"]), between_subjects(["test", "test"])
    assert Plan(within, configuration()).to_align("S1-T1_to_S1-CT")["harmonized"] == "results/harmonized/S1"
    assert Plan(between, configuration()).to_align("S2-CT_to_S1-CT")["harmonized"] is None
    assert Plan(between, configuration()).harmonizing_transforms("S2-CT_to_S1-CT") == []


def test_incompressible_structures_are_the_fixed_image_s(plan):
    kept = configuration(incompressible={"labels": [1], "weight": 1})
    labels = Plan(plan.cohort, kept).networks["voxelmorph"].training_labels
    alignment = "results/pairs/S1-CT_to_S1-CT/network_labels_2d-own-16.nii.gz"
    assert labels == [(alignment, alignment)] * 2
    assert plan.networks["voxelmorph"].training_labels == []


def test_masks_are_learned_in_where_likeness_is_masked_and_nowhere_else(plan):
    """Each where its image is, those of the watched pairs as well; an image without a mask counts as a whole."""
    network = plan.networks["voxelmorph"]
    assert network.training_masks == network.validation_masks == []
    masked = Plan(plan.cohort, configuration(similarity={"mask": "fixed"})).networks["voxelmorph"]
    for masks, inputs in (
        (masked.training_masks, masked.training_inputs),
        (masked.validation_masks, masked.validation_inputs),
    ):
        assert masks == [tuple(path.replace("network_input", "network_mask") for path in pair) for pair in inputs]
        assert {path for pair in masks for path in pair} < set(masked.training_files)
    assert masked.training["training_masks"] and masked.training["validation_masks"]
    assert masked.training_inputs == network.training_inputs
    assert LearningPlan(plan).to_prepare_mask("S1-T1_to_S1-CT")["mask"] is None
    given = LearningPlan(Plan(within_subject(["train"], mask="/data/mask.nii.gz"), plan.config))
    assert given.to_prepare_mask("S1-T1_to_S1-CT")["mask"] == "/data/mask.nii.gz"


def test_networks_on_one_grid_share_what_they_see(plan):
    """A view is a file of its grid alone; what is not of the grid changes no view, what is makes another."""
    network, other = plan.networks.values()
    assert (network.grid, other.grid) == ("2d-own-16", "3d-2x2x3.5-16")
    assert LearningPlan(plan).grid_settings(other.grid) == {"dimensions": 3, "spacing_mm": [2, 2, 3.5], "multiple": 16}
    with pytest.raises(UserError, match="No network of the configuration works on the grid 3d-own-16"):
        LearningPlan(plan).grid_settings("3d-own-16")
    changed = Plan(plan.cohort, configuration(int_steps=7, similarity={"name": "nmi"}, label_weight=1))
    assert changed.networks["voxelmorph"].training_inputs == network.training_inputs
    coarser = Plan(plan.cohort, configuration(encoder=[8, 8])).networks["voxelmorph"]
    assert coarser.grid == "2d-own-4" and coarser.training_inputs != network.training_inputs


def test_settings_hold_what_decides_a_training_and_nothing_else(plan):
    """Which λ there are, and who computes, is none of it: such a change must not train anything anew."""
    settings = plan.networks["voxelmorph"].settings
    assert not {"weights", "conditional", "threads", "gpu", "spacing_mm"} & set(settings)
    assert {"kind", "similarity", "epochs", "int_steps", "dimensions", "augment", "flips"} <= set(settings)
    more = Plan(plan.cohort, configuration(weights=["1", "9"], threads=7, gpu=True))
    assert more.networks["voxelmorph"].training == plan.networks["voxelmorph"].training


def test_a_network_that_the_configuration_does_not_have_is_refused(plan):
    with pytest.raises(UserError, match="does not have voxelmorf; it has voxelmorph, diff-3d"):
        LearningPlan(plan).to_search_weight("voxelmorf")


def test_what_is_made_here_has_no_fingerprint_and_is_an_input(plan):
    assert plan.fingerprint("source")("S1", "CT") == ""
    assert plan.to_convert("S1", "CT") == {"made": "results/phantom/S1/CT"}
    own = Plan(within_subject(["test"], own=True), plan.config)
    assert own.to_convert("S1", "CT") == {"made": None} and len(own.fingerprint("source")("S1", "CT")) == 16


def test_a_folder_of_the_user_s_that_is_called_synthetic_is_nobody_s_experiment():
    """The word in a hospital's path says nothing: what the workflow makes lies in its own folder."""
    cohort = within_subject(["test"], own=True)
    hospital = {id: replace(one, source=f"/data/synthetic/{one.name}.nii.gz") for id, one in cohort.images.items()}
    pairs = [Pair(hospital["S1-CT"], hospital["S1-T1"], hospital["S1-CT"], "test")]
    assert Cohort(hospital, {pair.id: pair for pair in pairs}, "table").synthetic_pairs("test") == []


def test_an_id_that_is_not_in_the_cohort_is_refused(plan):
    with pytest.raises(UserError, match="no pair S9-T1_to_S9-CT;"):
        plan.to_measure("S9-T1_to_S9-CT")
    with pytest.raises(UserError, match="no image S9-CT"):
        plan.to_convert("S9", "CT")


def test_all_paths_lie_in_results():
    layout = Layout()
    named = [layout.displacement("{pair}", "{method}"), layout.log("x"), layout.figure("x.png"), layout.fused("a", "b")]
    assert all(path.startswith("results/") for path in named)


# ---- what a machine lacks


def test_the_main_run_decides_what_is_skipped_and_jobs_are_told(monkeypatch):
    monkeypatch.setenv(skipped.VARIABLE, "left over from the user's shell")
    monkeypatch.setattr(skipped.tools, "find", lambda tool: "" if tool in ("niftyreg", "demons") else tool)
    skipped.tell(configuration()["baselines"], tools_are_here=True)
    # Demons may not be skipped: that they lack is a problem of the configuration, told elsewhere.
    assert skipped.told() == ("niftyreg",)
    monkeypatch.setattr(skipped.tools, "find", lambda tool: pytest.fail("a job looks for tools"))
    assert skipped.told() == ("niftyreg",)
    skipped.tell(configuration()["baselines"], tools_are_here=False)
    assert skipped.told() == ()


def test_a_job_that_was_told_nothing_says_so(monkeypatch):
    monkeypatch.delenv(skipped.VARIABLE, raising=False)
    with pytest.raises(UserError, match="was not told which methods are skipped"):
        skipped.told()


NEEDS = {"tre": "landmarks", "dice": "labels", "ncc": "", "nmi": ""}
SPLIT = ("train", "validation", "validation", "test")


def judged_by(metric, cohort):
    """Return what λ and epoch are chosen by."""
    config = configuration()
    config["evaluation"]["selection"]["metric"] = metric
    return Plan(cohort, config, needs=NEEDS).selection


@pytest.mark.parametrize(
    ("cohort", "cells", "metric", "words"),
    [
        (within_subject, {}, "tre", "every validation pair has landmarks"),
        (within_subject, {"landmarks": ""}, "dice", "every validation pair has labels"),
        (within_subject, {"landmarks": "", "labels": ""}, "nmi", "two modalities (CT and T1, CT and T2)"),
        (both_ways, {"landmarks": "", "labels": ""}, "nmi", "(T1 and T2, T2 and T1)"),
        (between_subjects, {"landmarks": "", "labels": ""}, "ncc", "of one modality"),
    ],
)
def test_auto_takes_what_says_most_and_why(cohort, cells, metric, words):
    found = judged_by("auto", cohort(SPLIT, **cells))
    assert (found["metric"], found["folding_percent_max"]) == (metric, 0.5)
    assert found["why"].startswith(f"`auto` took {metric}, as ") and words in found["why"]


def test_auto_looks_at_every_validation_pair_and_at_no_other():
    whole = within_subject(SPLIT)

    def of(wanted, **lost):
        """Return what is taken where the pairs `wanted` lack something, by image."""
        pairs = {
            id: replace(pair, **{image: replace(getattr(pair, image), **cells) for image, cells in lost.items()})
            if wanted(pair)
            else pair
            for id, pair in whole.pairs.items()
        }
        return judged_by("auto", Cohort(whole.images, pairs, whole.design))["metric"]

    def one(pair):
        return pair.id == "S3-T2_to_S3-CT"

    assert of(lambda pair: pair.split != "validation", moving={"landmarks": "", "labels": ""}) == "tre"
    assert of(one, moving={"landmarks": ""}) == of(one, fixed={"landmarks": ""}) == "dice"
    assert of(one, moving={"landmarks": ""}, fixed={"labels": ""}) == "nmi"


def test_ncc_between_two_modalities_is_taken_and_told():
    found = judged_by("ncc", within_subject(SPLIT))
    assert found["metric"] == "ncc" and found["why"].startswith("CT and T1, CT and T2: between two modalities NCC may")
    for metric, cohort in (("ncc", between_subjects), ("nmi", within_subject), ("tre", within_subject)):
        # As it stands in the configuration: what was chosen before stays up to date.
        assert judged_by(metric, cohort(SPLIT)) == {"metric": metric, "folding_percent_max": 0.5}


def test_the_pairs_of_two_modalities_are_those_that_are_measured():
    pairs = ["S2-T1_to_S2-CT", "S2-T2_to_S2-CT", "S3-T1_to_S3-CT", "S3-T2_to_S3-CT"]
    cohort = within_subject(("train", "validation", "test"))
    assert Plan(cohort, configuration()).of_two_modalities == pairs
    first = cohort.pairs[pairs[0]]
    of_one = {first.id: replace(first, moving=replace(first.moving, modality="CT"))}
    changed = Cohort(cohort.images, cohort.pairs | of_one, cohort.design)
    assert Plan(changed, configuration()).of_two_modalities == pairs[1:]
    assert not Plan(between_subjects(SPLIT), configuration()).of_two_modalities
