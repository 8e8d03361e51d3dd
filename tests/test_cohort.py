"""The cohort table and the configuration: what they become, and what is said of every mistake."""

import re
import shutil
from copy import deepcopy
from functools import partial
from pathlib import Path

import check_cohort
import jsonschema
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cohortmorph import UserError
from cohortmorph.cohort import checks, cohort, configuration, plan
from cohortmorph.cohort.pairs import Pair
from cohortmorph.evaluation import statistics
from cohortmorph.evaluation.measures import SELECTABLE

REPOSITORY = Path(__file__).parents[1]
load = partial(cohort.load, needs={name: measure.needs for name, measure in SELECTABLE.items()})
COLUMNS = ["subject", "image", "modality", "source", "labels", "landmarks", "mask", "split"]
SHIPPED = yaml.safe_load((REPOSITORY / "config/config.yaml").read_text())
BETWEEN = {"design": "between-subjects", "image": "MR", "reference": "H1", "moving_per_fixed": 1}
SPLITS = ["train"] * 3 + ["validation"] * 2 + ["test"] * 3


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A workflow folder of its own: the shipped configuration, with parameter files that exist."""
    shutil.copytree(REPOSITORY / "config", tmp_path / "config")
    for file in (SHIPPED["prealign"]["parameters"], *(one["parameters"] for one in SHIPPED["baselines"].values())):
        (tmp_path / file).touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write_table(rows, path="config/cohort.tsv"):
    Path(path).write_text("".join("\t".join(row) + "\n" for row in rows))


def phantom_rows(subjects=4, splits=("train", "train", "validation", "test"), images=("CT", "T1")):
    """Rows of the phantom; line 1 is the header, subject n has lines 2n and 2n + 1."""
    rows = [list(COLUMNS)]
    for n, split in zip(range(1, subjects + 1), splits, strict=True):
        for image in images:
            path = f"results/phantom/P{n:02}/{image}"
            rows.append([f"P{n:02}", image, image, path, f"{path}_labels.nii.gz", f"{path}_landmarks.tsv", "", split])
    return rows


def write_mr_cohort(splits=SPLITS, table_folder="."):
    """Make a cohort of subjects H1, H2, … with one MR file each."""
    rows = [list(COLUMNS)]
    for n, split in enumerate(splits, 1):
        for name in (f"H{n}.nii.gz", f"H{n}_labels.nii.gz", f"H{n}.csv"):
            Path(table_folder, name).touch()
        rows.append([f"H{n}", "MR", "MR", f"H{n}.nii.gz", f"H{n}_labels.nii.gz", f"H{n}.csv", "", split])
    write_table(rows)
    return rows


def mr_config(pairs=BETWEEN, **changes):
    config = deepcopy(SHIPPED) | {"pairs": pairs, "harmonize": {"enabled": False}}
    return config | {"phantom": None, "intensity": {"MR": {"percentiles": [0.5, 99.5]}}} | changes


def edited(old, new, path="config/config.yaml"):
    text = Path(path).read_text()
    assert old in text
    Path(path).write_text(text.replace(old, new, 1))


def load_files(*files):
    """Load as Snakemake does: the deep merge of the files."""

    def merged(base, over):
        for key, value in over.items():
            nested = isinstance(value, dict) and isinstance(base.get(key), dict)
            base[key] = merged(base[key], value) if nested else value
        return base

    files = files or ("config/config.yaml",)
    config = {}
    for file in files:
        merged(config, yaml.safe_load(Path(file).read_text()))
    return load(config, files)


def problems(call, *arguments):
    """Return the problems that a call raises, one a line."""
    with pytest.raises(UserError) as error:
        call(*arguments)
    first, *lines = str(error.value).splitlines()
    assert int(first.split()[0]) == len(lines)
    return lines


def the_problem(call, *arguments):
    lines = problems(call, *arguments)
    assert len(lines) == 1, lines
    return lines[0]


# ---- what comes with the workflow


def test_shipped_cohort():
    loaded = load_files()
    assert loaded.subjects == ["P01", "P02", "P03", "P04", "P05", "P06"]
    assert loaded.images_of("P04") == ["CT", "T1", "T2"]
    assert loaded.images["P01-T1"].source == "results/phantom/P01/T1"
    assert len(loaded.pairs) == 12
    assert loaded.pairs_in("validation") == ["P04-T1_to_P04-CT", "P04-T2_to_P04-CT"]
    ct, t2 = loaded.images["P05-CT"], loaded.images["P05-T2"]
    assert loaded.pairs["P05-T2_to_P05-CT"] == Pair(fixed=ct, moving=t2, frame=ct, split="test")


@pytest.mark.parametrize("name", ["config", "cohort", "pairs"])
def test_schemas_are_json_schemas(name):
    schema = yaml.safe_load((configuration.SCHEMAS / f"{name}.schema.yaml").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["additionalProperties"] is False
    assert all("description" in part for part in schema["properties"].values())


def test_every_key_of_the_shipped_configuration_has_a_comment():
    lines = Path("config/config.yaml").read_text().splitlines()
    assert lines[0] == "# yaml-language-server: $schema=schemas/config.schema.yaml"
    keys = [line for line in lines if re.match(r"\s*[\w-]+:", line)]
    assert len(keys) > 50
    assert [line for line in keys if not re.search(r"\s# \S", line)] == []


def test_readme_has_every_key_with_its_default():
    readme = Path("config/README.md").read_text()

    def rows_of(text):
        row = r"^\| (`\S+`) \| (.+?) \| (.*?)\| (.*?)\| (.*?)\|$"
        return {found[0].strip("`"): found for found in re.findall(row, text, re.M)}

    def check(keys, schema, rows, before=()):
        for key in keys:
            part = schema
            for name in key:
                part = part["properties"][name] if name in part.get("properties", {}) else part["additionalProperties"]
            if "default" in part:
                told = rows[".".join((*before, *key))][3].strip().strip("`")
                assert yaml.safe_load(told) == part["default"], key

    of_a_network = ("networks", "{network}")
    keys = configuration.configuration_keys()
    assert (*of_a_network, "similarity", "window") in keys
    assert [key for key in keys if ".".join(key) not in rows_of(readme)] == []
    check([key for key in keys if key[:2] != of_a_network], configuration.schema_of("config"), rows_of(readme))
    # A key may have another default in another kind: each stands in the kind's own section.
    common, *sections = re.split(r"^#### Kind `", readme, flags=re.M)
    schema = configuration.schema_of("network")
    check(configuration.key_paths(schema), schema, rows_of(common), of_a_network)
    assert {section.partition("`")[0] for section in sections} == set(configuration.kinds())
    for section in sections:
        schema = configuration.schema_of(f"kinds/{section.partition('`')[0]}")
        check(configuration.key_paths(schema), schema, rows_of(section), of_a_network)
    for name in ("cohort", "pairs"):
        columns = yaml.safe_load((configuration.SCHEMAS / f"{name}.schema.yaml").read_text())["properties"]
        assert [column for column in columns if f"`{column}`" not in readme] == []


def test_examples_of_the_readme_are_valid_designs():
    readme = Path("config/README.md").read_text()
    examples = [yaml.safe_load(text) for text in re.findall(r"```yaml\n(.*?)```", readme, re.S)]
    designs = [example["pairs"] for example in examples if "pairs" in example]
    assert [design["design"] for design in designs] == ["within-subject", "to-reference", "between-subjects", "table"]
    for design in designs:
        assert not [error for error in configuration.validator_of("config").iter_errors(SHIPPED | {"pairs": design})]


def test_the_example_of_networks_in_the_readme_is_valid():
    (example,) = [text for text in re.findall(r"```yaml\n(.*?)```", Path("config/README.md").read_text(), re.S) if
                  text.startswith("networks:")]  # fmt: skip
    Path("mine.yaml").write_text(example)
    load_files("config/config.yaml", "mine.yaml")
    config = configuration.with_defaults(yaml.safe_load(example))
    assert list(config["networks"]) == ["voxelmorph", "voxelmorph-diff"]
    plain, diffeomorphic = config["networks"].values()
    assert {key for key in plain if plain[key] != diffeomorphic[key]} == {"int_steps"}


def test_defaults():
    minimal = {key: SHIPPED[key] for key in ("cohort", "pairs", "intensity", "prealign")}
    of_shipped = SHIPPED["networks"]["voxelmorph"]
    kept = {key: of_shipped[key] for key in ("kind", "weights", "epochs", "kept_epochs")}
    before = deepcopy(minimal)
    baselines = {"a": {"tool": "elastix", "parameters": "a.txt"}, "b": None}
    filled = configuration.with_defaults(minimal | {"networks": {"mine": kept, "no": None}, "baselines": baselines})
    chosen = {"batch_size", "learning_rate", "field_downsampling", "similarity", "threads"}  # for the phantom
    of_phantom = {key: value for key, value in of_shipped.items() if key not in chosen}
    assert list(filled["networks"]) == ["mine"]
    assert filled["networks"]["mine"].items() >= of_phantom.items() and set(filled["networks"]["mine"]) == set(
        of_shipped
    )
    assert filled["evaluation"] == SHIPPED["evaluation"]
    assert filled["harmonize"]["enabled"] is False
    assert filled["baselines"] == {"a": baselines["a"] | {"start": "affine", "missing": "refuse"}}
    assert filled["phantom"] is None
    assert minimal == before
    assert configuration.with_defaults({"phantom": {}})["phantom"] == SHIPPED["phantom"]


# ---- the four designs


def test_between_subjects_each_subject_is_fixed_once_and_the_last_group_takes_who_is_left():
    write_mr_cohort()
    loaded = load(mr_config(BETWEEN), [])
    assert list(loaded.pairs) == [
        "H5-MR_to_H4-MR",
        "H4-MR_to_H5-MR",
        "H7-MR_to_H6-MR",
        "H8-MR_to_H7-MR",
        "H6-MR_to_H8-MR",
    ]
    assert {pair.frame.id for pair in loaded.pairs.values()} == {"H1-MR"}
    assert loaded.training_inputs == ["H1-MR_to_H1-MR", "H2-MR_to_H1-MR", "H3-MR_to_H1-MR"]
    assert loaded.validation_inputs[0] == ("H4-MR_to_H1-MR", "H5-MR_to_H1-MR")
    assert set(loaded.alignments) == {f"H{n}-MR_to_H1-MR" for n in range(1, 9)}
    assert [id for id, pair in loaded.alignments.items() if pair.fixed == pair.moving] == ["H1-MR_to_H1-MR"]
    assert loaded.alignments["H7-MR_to_H1-MR"].split == "test"
    assert "drawn" not in cohort.describe(loaded) and "random from 3 images" in cohort.describe(loaded)


def test_to_reference():
    write_mr_cohort()
    loaded = load(mr_config({"design": "to-reference", "image": "MR", "reference": "H2"}), [])
    pairs = list(loaded.pairs.values())
    assert [pair.moving.id for pair in pairs] == [f"H{n}-MR" for n in (1, 3, 4, 5, 6, 7, 8)]
    assert {pair.fixed.id for pair in pairs} == {pair.frame.id for pair in pairs} == {"H2-MR"}
    assert [pair.split for pair in pairs] == ["train", "train", "validation", "validation", "test", "test", "test"]
    assert loaded.training_inputs == [("H2-MR_to_H2-MR", f"H{n}-MR_to_H2-MR") for n in (1, 3)]


def test_table_of_pairs():
    write_mr_cohort()
    names = ["fixed_subject", "fixed_image", "moving_subject", "moving_image"]
    write_table([names, ["H1", "MR", "H2", "MR"], ["H1", "MR", "H4", "MR"], ["H7", "MR", "H6", "MR"]], "pairs.tsv")
    loaded = load(mr_config({"design": "table", "table": "pairs.tsv"}), [])
    assert list(loaded.pairs) == ["H2-MR_to_H1-MR", "H4-MR_to_H1-MR", "H6-MR_to_H7-MR"]
    assert [pair.split for pair in loaded.pairs.values()] == ["train", "validation", "test"]
    assert all(pair.frame == pair.fixed for pair in loaded.pairs.values())


def test_alignments_within_subject():
    loaded = load_files()
    alignments = loaded.alignments
    assert alignments["P01-CT_to_P01-CT"].moving == alignments["P01-CT_to_P01-CT"].fixed
    assert alignments["P01-T1_to_P01-CT"].moving.id == "P01-T1"
    assert all(pair.fixed == pair.frame for pair in alignments.values())
    assert loaded.training_inputs[0] == ("P01-CT_to_P01-CT", "P01-T1_to_P01-CT")
    for inputs in loaded.training_inputs + loaded.validation_inputs:
        assert set(inputs) <= set(alignments)


@given(
    splits=st.lists(st.sampled_from(["train", "validation", "test"]), max_size=40),
    moving_per_fixed=st.integers(1, 3),
    seed=st.randoms(use_true_random=False),
)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_between_subjects_grows_with_subjects_and_never_mixes_splits(splits, moving_per_fixed, seed):
    enough = ["train", *["validation"] * (moving_per_fixed + 1), *["test"] * (moving_per_fixed + 1), *splits]
    seed.shuffle(enough)
    splits = ["train", *enough]
    write_mr_cohort(splits)
    loaded = load(mr_config(BETWEEN | {"moving_per_fixed": moving_per_fixed}), [])
    judged = sum(split != "train" for split in splits)
    assert len(loaded.pairs) == moving_per_fixed * judged
    # No subject is in two groups, so that statistics have as many independent units as there are groups.
    for split in ("validation", "test"):
        pairs = loaded.pairs_in(split)
        units = statistics.independent_units(pairs)
        assert len(set(units.values())) == splits.count(split) // (moving_per_fixed + 1)
    assert len(loaded.alignments) == len(splits)
    assert len(loaded.training_inputs) == splits.count("train")
    assert set(loaded.training_inputs) <= set(loaded.alignments)
    for pair in loaded.pairs.values():
        assert pair.fixed.split == pair.moving.split == pair.split != "train"
        assert pair.fixed != pair.moving
    assert all(loaded.alignments[name].moving.split == "train" for name in loaded.training_inputs)


# ---- mistakes in the configuration

CONFIG_MISTAKES = {
    "unknown key": (
        "    epochs: 200",
        "    epoch: 200",
        ["line 79, networks.voxelmorph.epoch: unknown key (did you mean 'epochs'?)"],
    ),
    "key of another block": (
        "\nseed: 1 ",
        "\nepochs: 3\nseed: 1 ",
        ["epochs: unknown key (it belongs under networks.{network})"],
    ),
    "missing key": (
        "prealign:",
        "prealigned:",
        ["config/config.yaml line 1, missing key 'prealign'", "prealigned: unknown key"],
    ),
    "number for text": (
        '"1", "2"',
        '1, "2"',
        ["networks.voxelmorph.weights.0: found 1; expected text; put it in quotes"],
    ),
    "negative weight": (
        '"1", "2"',
        '"-1", "2"',
        ["networks.voxelmorph.weights.0: found '-1'; expected a number of at least 0"],
    ),
    "weight that is no number": ('"1", "2"', '"nan", "2"', ["networks.voxelmorph.weights.0: found 'nan'"]),
    "weight twice": ('"1", "2"', '"1", "1.0"', ["networks.voxelmorph.weights.1: found '1.0', the same number as '1'"]),
    "one network and no way to draw λ": (
        'weights: ["1", "2", "3", "4"]  # regularization',
        'weights: ["0", "2"]  # conditional',
        [
            "networks.voxelmorph.conditional: found true; one network for every λ needs at least two",
            "above 0",
            "found 0, 2",
        ],
    ),
    "one network and one λ": (
        'weights: ["1", "2", "3", "4"]  # regularization',
        'weights: ["2"]  # conditional',
        ["networks.voxelmorph.conditional: found true; one network for every λ needs at least two"],
    ),
    "text for number": (
        "learning_rate: 0.004",
        "learning_rate: 1e-3",
        ["found '1e-3'; expected a number; write 0.001"],
    ),
    "not a number": ("learning_rate: 0.004", "learning_rate: .nan", ["found NaN; expected a number"]),
    "no whole number": (
        "epochs: 200 ",
        "epochs: 200.0 ",
        ["networks.voxelmorph.epochs: found 200.0; expected a whole number"],
    ),
    "kept too late": ("[20, 50, 100, 200]", "[20, 200, 300]", ["kept_epochs.2: found 300; the training has only 200"]),
    "last not kept": ("[20, 50, 100, 200]", "[20, 50]", ["found 20, 50, without the last epoch 200"]),
    "kept epoch zero": ("[20, 50, 100, 200]", "[0, 200]", ["kept_epochs.0: found 0; expected at least 1"]),
    "enum": ("plane: axial", "plane: axal", ["harmonize.plane: found 'axal'; allowed: axial", "did you mean 'axial'?"]),
    "similarity": (
        "name: ncc-squared",
        "name: ncc",
        ["networks.voxelmorph.similarity.name: found 'ncc'; allowed: ncc-squared"],
    ),
    "selection": (
        "metric: auto ",
        "metric: tree ",
        ["evaluation.selection.metric: found 'tree'; allowed: auto, tre, dice, ncc, nmi"],
    ),
    "range": ("step_degrees: 1 ", "step_degrees: 0 ", ["harmonize.step_degrees: found 0; expected more than 0"]),
    "even window": (
        "window: 5 ",
        "window: 8 ",
        ["networks.voxelmorph.similarity.window: found 8; expected an odd number"],
    ),
    "nothing incompressible": (
        "      weight: 0  ",
        "      weight: 2  ",
        ["networks.voxelmorph.incompressible.labels: found none, but incompressible.weight is 2"],
    ),
    "short decoder": (
        "[32, 32, 32, 32, 32, 16, 16]",
        "[32]",
        ["networks.voxelmorph.decoder: found 1 numbers; expected at least 4"],
    ),
    "reserved method": ("bspline-1r:", "selected:", ["baselines.selected: this name is not allowed"]),
    "name of a method": ("bspline-1r:", "voxelmorph:", ["networks.voxelmorph: this name is taken by a method of"]),
    "reserved network": ("  voxelmorph:  ", "  elastix:  ", ["networks.elastix: this name is not allowed"]),
    "network's letters": ("  voxelmorph:  ", "  Voxel_Morph:  ", ["networks.Voxel_Morph: this name is not allowed"]),
    "kind": (
        "kind: voxelmorph ",
        "kind: voxelmorf ",
        ["networks.voxelmorph.kind: found 'voxelmorf'; allowed: voxelmorph, matching (did you mean 'voxelmorph'?)"],
    ),
    "no kind": ("    kind: voxelmorph ", "    # ", ["networks.voxelmorph: missing key 'kind'"]),
    "the section of one network": (
        "\nseed: 1 ",
        "\nvoxelmorph: {epochs: 3}\nseed: 1 ",
        ["voxelmorph: networks have names now. Write its keys as an entry of `networks`: {voxelmorph: {kind:"],
    ),
    "reserved affine": ("bspline-1r:", "affine:", ["baselines.affine: this name is not allowed"]),
    "method's letters": ("bspline-1r:", "B_spline:", ["baselines.B_spline: this name is not allowed"]),
    "parameter file": (
        "bspline-3r-mutual-information.txt",
        "bspline-4r.txt",
        ["baselines.bspline-3r.parameters: found 'config/elastix/bspline-4r.txt'"],
    ),
    "tool": ("tool: niftyreg ", "tool: nifty ", ["baselines.niftyreg.tool: found 'nifty'; allowed: elastix, niftyreg"]),
    "start of a tool": (
        "    tool: niftyreg ",
        "    start: voxelmorph_weight-1_epoch-200\n    tool: niftyreg ",
        ["baselines.niftyreg.start: found 'voxelmorph_weight-1_epoch-200'; niftyreg starts from affine or own"],
    ),
    "bending what is bent": (
        "    batch_size: 1  ",
        "    augment: {deformation: 1}\n    batch_size: 1  ",
        ["networks.matching.augment.deformation: found 1; expected 0, as the planted displacements bend the images"],
    ),
    "mirror images that it never saw": (
        "    batch_size: 1  ",
        "    flips: false\n    batch_size: 1  ",
        ["networks.matching.flips: found false; expected true, or `mirrored: false`, as it answers to mirror images"],
    ),
    "start that is not trained": (
        "    tool: niftyreg ",
        "    start: voxelmorph_weight-1_epoch-300\n    tool: instance ",
        [
            "baselines.niftyreg.start: found 'voxelmorph_weight-1_epoch-300' (did you mean "
            "'voxelmorph_weight-1_epoch-200'?); expected affine, own, or a network that is trained: "
            "matching_weight-0_epoch-20, "
        ],
    ),
    "no tool": ("    tool: niftyreg ", "    # tool ", ["baselines.niftyreg: missing key 'tool'"]),
    "points without model": (
        "tool: niftyreg ",
        "tool: points ",
        ["baselines.niftyreg: missing key 'model'"],
    ),
    "several files": (
        "parameters: config/niftyreg/f3d.txt",
        "parameters: [config/niftyreg/f3d.txt, config/niftyreg/f3d-velocity.txt]",
        ["baselines.niftyreg.parameters: found 2 files; niftyreg takes one"],
    ),
    "prealign file": (
        "elastix/affine-mutual-information.txt",
        "affine.txt",
        ["prealign.parameters: found 'config/affine.txt', which is no"],
    ),
    "design": (
        "design: within-subject",
        "design: within",
        ["pairs.design: found 'within'; allowed", "'within-subject'"],
    ),
    "key of the design": (
        "  fixed: CT                      # image id of the fixed",
        "  # ",
        ["pairs: missing key 'fixed'"],
    ),
    "fixed image": (
        "  fixed: CT                      # image id of the fixed",
        "  fixed: CTT # ",
        ["pairs.fixed: found 'CTT'"],
    ),
    "moving image": (
        "moving: [T1, T2]",
        "moving: [T1, T3]",
        ["pairs.moving.1: found 'T3', an image that no subject has"],
    ),
    "fixed moves": (
        "moving: [T1, T2]",
        "moving: [T1, CT]",
        ["pairs.moving.1: found 'CT', which is the fixed image too"],
    ),
    "harmonize.fixed": (
        "  fixed: CT                      # image id to",
        "  fixed: PT # ",
        ["harmonize.fixed: found 'PT'"],
    ),
    "no harmonize.fixed": (
        "  fixed: CT                      # image id to",
        "  # ",
        ["harmonize: missing key 'fixed'"],
    ),
    "modality": ("  T2:  ", "  T3:  ", ["column modality: found 'T2', which intensity in the configuration has not"]),
    "window order": (
        "[-20, 100]",
        "[100, -20]",
        ["intensity.CT.window: found [100, -20]; expected the lower limit first"],
    ),
    "percentile": ("[0.5, 99.5]", "[0.5, 101]", ["intensity.T1.percentiles.1: found 101; expected at most 100"]),
    "both limits": (
        "[-20, 100]",
        "[-20, 100]\n    percentiles: [1, 99]",
        ["intensity.CT: found window and percentiles"],
    ),
    "phantom": ("spacing_mm: 2.0", "spacing_mm: 20", ["phantom.spacing_mm: found 20; expected at most 8"]),
    "key twice": ("\nseed: 1 ", "\nseed: 2\nseed: 1 ", ["seed: stands already in line"]),
    "no table": (
        "cohort: config/cohort.tsv",
        "cohort: config/kohort.tsv",
        ["cohort: found 'config/kohort.tsv', which is no"],
    ),
    "id that YAML reads as false": (
        "moving: [T1, T2]",
        "moving: [T1, NO]",
        ["found false; expected text; put it in quotes, as YAML"],
    ),
    "fused method": (
        "method: selected ",
        "method: selektd ",
        ["fusion.method: found 'selektd' (did you mean 'selected'?)"],
    ),
    "boolean": ("gpu: false", "gpu: 0", ["networks.voxelmorph.gpu: found 0; expected true or false"]),
}


# Mistakes that are told at another key than the one that is changed here.
ELSEWHERE = ("missing key", "name of a method", "one network and one λ", "one network and no way to draw λ")


def make_mistake(mistake):
    """Write it into the shipped configuration; λ for one network alone do not tell yet that there is one."""
    edited(*CONFIG_MISTAKES[mistake][:2])
    if mistake.startswith("one network and"):
        edited("conditional: false ", "conditional: true ")


@pytest.mark.parametrize("mistake", CONFIG_MISTAKES)
def test_mistake_in_the_configuration(mistake):
    old, _, expected = CONFIG_MISTAKES[mistake]
    line = Path("config/config.yaml").read_text()[: Path("config/config.yaml").read_text().index(old)].count("\n") + 1
    make_mistake(mistake)
    message = "\n".join(problems(load_files))
    assert [words for words in expected if words not in message] == [], message
    if "config/config.yaml" in message and mistake not in ELSEWHERE:
        numbers = {int(number) for number in re.findall(r"config\.yaml line (\d+)", message)}
        # A missing key is told at its block, which begins a few lines above; an added line stands below.
        assert any(line - 3 <= number <= line + 2 for number in numbers), message


def test_labels_to_learn_from_are_needed_on_every_train_image_and_on_no_other():
    rows = [line.split("\t") for line in Path("config/cohort.tsv").read_text().splitlines()]
    column, split = rows[[row[0] for row in rows].index("subject")].index("labels"), -1
    for row in rows:
        if row[0] == "P02" or row[split] == "test":
            row[column] = ""
    Path("config/cohort.tsv").write_text("\n".join("\t".join(row) for row in rows) + "\n")
    load_files()
    edited("label_weight: 0  ", "label_weight: 0.5")
    assert "label_weight: found 0.5, which needs labels on every train image; without: P02-CT, P02-T1, P02-T2" in (
        the_problem(load_files)
    )


def test_incompressible_structures_need_labels_of_the_fixed_images_only():
    rows = [line.split("\t") for line in Path("config/cohort.tsv").read_text().splitlines()]
    column = rows[[row[0] for row in rows].index("subject")].index("labels")
    for row in rows:
        if row[0] == "P02" and row[1] != "CT":
            row[column] = ""
    Path("config/cohort.tsv").write_text("\n".join("\t".join(row) for row in rows) + "\n")
    edited("    labels: []  ", "    labels: [3]  ")
    edited("    weight: 0  ", "    weight: 0.5  ")
    load_files()
    without_fixed = "\n".join(
        "\t".join("" if n == column else cell for n, cell in enumerate(row)) for row in rows[-18:]
    )
    Path("config/cohort.tsv").write_text("\n".join("\t".join(row) for row in rows[:-18]) + "\n" + without_fixed + "\n")
    message = the_problem(load_files)
    assert "incompressible.weight: found 0.5, which needs labels on every fixed image of a train pair" in message
    assert "P01-CT" in message and "T1" not in message


def test_masks_to_learn_in_are_needed_on_one_side_that_counts():
    def masked(*images):
        """Give these images of P01 a mask, which is not looked into here."""
        rows = [line.split("\t") for line in Path("config/cohort.tsv").read_text().splitlines()]
        column = rows[[row[0] for row in rows].index("subject")].index("mask")
        for row in rows:
            if row[0] == "P01":
                row[column] = "mask.nii.gz" if row[1] in images else ""
        Path("config/cohort.tsv").write_text("\n".join("\t".join(row) for row in rows) + "\n")

    Path("mask.nii.gz").touch()
    edited("      mask: none ", "      mask: fixed ")
    masked("T1")
    said = "networks.voxelmorph.similarity.mask: found fixed, but no fixed image of a train pair has a mask: give masks"
    assert said in the_problem(load_files)
    masked("CT")
    load_files()
    edited("mask: fixed", "mask: moving")
    assert "found moving, but no moving image of a train pair has a mask" in the_problem(load_files)
    edited("mask: moving", "mask: intersection")
    load_files()
    masked()
    assert "found intersection, but no fixed or moving image of a train pair has a mask" in the_problem(load_files)
    edited("mask: intersection", "mask: none")
    load_files()
    edited("mask: none", "mask: both")
    assert "similarity.mask: found 'both'" in the_problem(load_files)


def test_settings_of_one_similarity_are_refused_beside_another():
    edited("name: ncc-squared  ", "name: nmi  ")
    assert load_files()  # the window stays, and means nothing
    edited("      window: 5  ", "      bins: 16\n      window: 5  ")
    load_files()
    edited("name: nmi  ", "name: mind  ")
    text = "networks.voxelmorph.similarity.bins: found 16; it has no meaning for mind: leave it out"
    assert text in the_problem(load_files)
    edited("      bins: 16\n", "      radius: 2\n      dilation: 1\n")
    load_files()
    edited("name: mind  ", "name: mse  ")
    assert len(problems(load_files)) == 2


def test_only_the_mistake_is_told():
    """What follows from a mistake only is not told beside it."""
    single = set(CONFIG_MISTAKES) - {"missing key", "unknown key", "modality"}
    for mistake in single:
        shutil.copy(REPOSITORY / "config/config.yaml", "config/config.yaml")
        make_mistake(mistake)
        assert len(problems(load_files)) == 1, mistake


def test_missing_keys_hide_nothing():
    edited("prealign:", "prealigned:")
    edited("  epochs: 200 ", "  # ")
    edited("window: 5 ", "window: 8 ")
    edited("\tvalidation\n", "\tvalid\n", "config/cohort.tsv")
    lines = problems(load_files)
    told = [
        "split: found 'valid'",
        "missing key 'prealign'",
        "prealigned: unknown",
        "missing key 'epochs'",
        "window: found 8",
    ]
    assert len(lines) == len(told)
    assert [words for words in told if not any(words in line for line in lines)] == []


def test_last_file_that_holds_the_key_is_named():
    Path("mine.yaml").write_text(
        "# mine\nnetworks:\n  voxelmorph:\n    gpu: true\n    batch_size: 0\n    kept_epochs: [10, 20]\n"
    )
    size, kept = problems(load_files, "config/config.yaml", "mine.yaml")
    assert size == "mine.yaml line 5, networks.voxelmorph.batch_size: found 0; expected at least 1"
    assert kept.startswith(
        "mine.yaml line 6, networks.voxelmorph.kept_epochs: found 10, 20, without the last epoch 200"
    )


def test_command_line_is_named():
    config = deepcopy(SHIPPED)
    config["networks"]["voxelmorph"]["batch_size"] = 0
    config["sed"] = 2
    lines = problems(load, config, ["config/config.yaml"])
    assert lines[::-1] == [
        "command line (--config), sed: unknown key (did you mean 'seed'?); known here: " + ", ".join(json_keys()),
        "command line (--config), networks.voxelmorph.batch_size: found 0; expected at least 1",
    ]


def json_keys():
    return list(yaml.safe_load((configuration.SCHEMAS / "config.schema.yaml").read_text())["properties"])


def test_second_file_can_leave_out_and_change_the_design():
    write_mr_cohort()
    over = {"phantom": None, "harmonize": {"enabled": False}, "pairs": BETWEEN, "baselines": {"bspline-1r": None}}
    over["intensity"] = {"MR": {"window": [0, 1]}, "CT": None, "T1": {"percentiles": None, "window": [0, 5]}}
    Path("mine.yaml").write_text(yaml.safe_dump(over))
    assert load_files("config/config.yaml", "mine.yaml").design == "between-subjects"


def test_no_network_may_still_be_written_as_before():
    """A configuration of before networks had names that trains none keeps its meaning: it needs nothing to train on."""
    write_mr_cohort(["train", "test", "test"])
    networks = {"voxelmorph": SHIPPED["networks"]["voxelmorph"]}
    config = mr_config(voxelmorph=None, networks=networks, baselines={})
    assert "voxelmorph" in config["networks"] and configuration.with_defaults(config)["networks"] == {}
    assert len(load(config, []).pairs) == 2


def test_broken_yaml_is_told():
    Path("mine.yaml").write_text("voxelmorph: [\n")
    assert "mine.yaml, not readable as YAML" in the_problem(load, SHIPPED, ["config/config.yaml", "mine.yaml"])


def shipped_paths(value=SHIPPED, before=()):
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield (*before, key)
        yield from shipped_paths(item, (*before, key))


@given(
    path=st.sampled_from(list(shipped_paths())),
    junk=st.sampled_from([None, True, -1, 0, 2.5, "x", "", [], [None], {}, {1: 2}]),
)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_value_of_a_key_ends_in_anything_but_words(path, junk):
    config = deepcopy(SHIPPED)
    block = config
    for key in path[:-1]:
        block = block[key]
    block[path[-1]] = junk
    try:
        load(config, ["config/config.yaml"])
    except UserError as error:
        assert str(path[0]) in str(error)


# ---- mistakes in the cohort table


def test_all_problems_at_once_with_their_lines():
    """Every kind of mistake in one table and one configuration; one message, sorted by file and line."""
    rows = phantom_rows(6, ["train", "train", "train", "validation", "test", "test"])
    rows.insert(1, ["# a comment"])
    rows[3][7] = "tets"  # P01 T1, line 4
    rows[4][0] = "P 02"  # line 5
    rows[6][2] = "PT"  # P03 CT, line 7
    rows[7][3] = "missing.nii.gz"  # P03 T1, line 8
    rows[8][5] = "points.xlsx"  # P04 CT, line 9
    rows[9][5] = ""  # P04 T1, line 10
    rows[10][1] = "T1"  # P05 is without CT and has T1 twice, lines 11 and 12
    rows[12][4] = "results/phantom/P06/labels.nii"  # P06 CT, line 13
    rows[13][7] = "train"  # P06 T1, line 14
    rows.append(["P07", "CT"])  # line 15
    write_table(rows)
    edited("moving: [T1, T2]", "moving: [T1]")
    edited("batch_size: 16", "batch_size: 0")
    edited("  gpu: false", "  gpus: false")
    edited("[20, 50, 100, 200]", "[20, 50]")
    edited("[-20, 100]", "[100, -20]")
    edited("elastix/affine-mutual-information.txt", "affine.txt")
    lines = problems(load_files)
    expected = [
        "line 4, subject P01, column split: found 'tets'; allowed: train, validation, test (did you mean 'test'?)",
        "line 5, subject P 02, column subject: found 'P 02'; expected letters, digits, - _ and ., the first",
        "line 6, subject P02, column image: no image CT (pairs.fixed), only T1",
        "line 7, subject P03, column modality: found 'PT', which intensity in the configuration has not",
        "line 8, subject P03, column source: found 'missing.nii.gz', which does not exist",
        "line 9, subject P04, column landmarks: found 'points.xlsx', which does not exist",
        "line 9, subject P04, column landmarks: found 'points.xlsx'; expected a file of points ending in .txt",
        "line 10, subject P04, column landmarks: empty, but P04-CT of the same pair has landmarks; give both",
        "line 11, subject P05, column image: no image CT (pairs.fixed), only T1",
        "line 12, subject P05, column image: found 'T1', but P05-T1 stands already in line 11",
        "line 13, subject P06, column labels: found 'results/phantom/P06/labels.nii', but of this kind the phantom",
        "line 14, subject P06, column split: found 'train', but line 13 says 'test'; a subject belongs to one split",
        "line 15, subject P07: found 2 cells; expected 8, separated by single tabs, empty cells too",
        "intensity.CT.window: found [100, -20]; expected the lower limit first",
        "prealign.parameters: found 'config/affine.txt', which is no file",
        "networks.voxelmorph.batch_size: found 0; expected at least 1",
        "networks.voxelmorph.kept_epochs: found 20, 50, without the last epoch 200",
        "networks.voxelmorph.gpus: unknown key (did you mean 'gpu'?)",
    ]
    assert len(lines) == len(expected), "\n".join(lines)
    for line, words in zip(lines, expected, strict=True):
        assert words in line
        assert line.startswith(("config/cohort.tsv line ", "config/config.yaml line "))


@pytest.mark.parametrize(("separator", "name"), [(",", "commas"), (";", "semicolons"), (" ", "spaces")])
def test_wrong_separator_is_explained(separator, name):
    Path("config/cohort.tsv").write_text("\n".join(separator.join(row) for row in phantom_rows()))
    lines = problems(load_files)
    assert (
        f"config/cohort.tsv line 1, the columns are separated by {name}; expected tabs: save the table as" in lines[0]
    )


def test_column_names():
    rows = phantom_rows()
    rows[0] = ["subject", "image", "modality", "sources", "labels", "landmark", "labels", "split"]
    write_table(rows)
    message = "\n".join(problems(load_files))
    assert "line 1, unknown column 'sources' (did you mean 'source'?); known: subject, image" in message
    assert "line 1, missing column 'source': a folder of DICOM slices" in message
    assert "line 1, unknown column 'landmark' (did you mean 'landmarks'?)" in message
    assert "line 1, column 'labels' stands 2 times" in message


def test_tables_as_spreadsheets_save_them():
    """Windows line ends, a byte order mark, empty cells at the end, columns in another order, blank lines."""
    rows = [[*row[::-1], "", ""] for row in phantom_rows(3, ["train", "validation", "test"])]
    text = "\r\n".join("\t".join(row) for row in rows) + "\r\n\t\t\r\n\r\n"
    Path("config/cohort.tsv").write_bytes(b"\xef\xbb\xbf" + text.encode())
    edited("moving: [T1, T2]", "moving: [T1]")
    assert load_files().pairs_in("test") == ["P03-T1_to_P03-CT"]


def test_optional_columns_may_be_missing():
    write_table([[*row[:4], row[7]] for row in phantom_rows()])
    edited("moving: [T1, T2]", "moving: [T1]")
    edited("metric: auto", "metric: ncc")
    assert {image.landmarks for image in load_files().images.values()} == {""}


@pytest.mark.parametrize("content", ["", "# nothing\n", "\t".join(COLUMNS) + "\n"])
def test_empty_table(content):
    Path("config/cohort.tsv").write_text(content)
    assert "no rows" in the_problem(load_files)


def test_other_encoding():
    Path("config/cohort.tsv").write_bytes("\t".join(COLUMNS).encode() + b"\nM\xfcller\n")
    assert "save it as text in UTF-8" in the_problem(load_files)


@pytest.mark.parametrize(
    ("column", "cell", "words"),
    [
        ("source", "dicom", "which is an empty folder; expected DICOM slices in it"),
        ("source", "slice.dcm", "which is neither a folder of DICOM slices nor a file ending in .nii"),
        ("source", "", "found nothing; expected a folder of DICOM slices"),
        ("source", "H3.nii.gz", "line 4 gives to subject H3"),
        ("source", "results/phantom/H1/CT", "the configuration has no `phantom` that would make it"),
        ("labels", "dicom", "expected a label map"),
        ("mask", "mask.nii", "which does not exist"),
        ("landmarks", "slice.dcm", "expected a file of points ending in .txt"),
        ("modality", "M", "(did you mean 'MR'?)"),
        ("image", "M R", "found 'M R'; expected letters, digits, - _ and ., the first a letter or digit"),
    ],
)
def test_mistake_in_a_cell(column, cell, words):
    rows = write_mr_cohort()
    Path("dicom").mkdir()
    Path("slice.dcm").touch()
    rows[4][COLUMNS.index(column)] = cell  # H4
    write_table(rows)
    lines = [line for line in problems(load, mr_config(), []) if words in line]
    assert len(lines) == 1
    assert lines[0].startswith(f"config/cohort.tsv line 5, subject H4, column {column}: ")


@pytest.mark.parametrize(
    ("column", "cell", "words"),
    [
        ("mask", "results/phantom/P01/CT_mask.nii.gz", "the phantom makes no mask"),
        ("source", "results/phantom/P01/PET", "the phantom makes results/phantom/{subject}/{CT, T1 or T2} only"),
    ],
)
def test_phantom_paths(column, cell, words):
    rows = phantom_rows(images=("CT", "T1", "T2"))
    rows[1][COLUMNS.index(column)] = cell
    write_table(rows)
    assert words in the_problem(load_files)


def test_data_folder(monkeypatch, tmp_path):
    (tmp_path / "far away").mkdir()
    write_mr_cohort(table_folder=tmp_path / "far away")
    config = mr_config(data_folder="${COHORTMORPH_TEST}/far away")
    monkeypatch.delenv("COHORTMORPH_TEST", raising=False)
    assert "no variable COHORTMORPH_TEST; export it first" in the_problem(load, config, [])
    monkeypatch.setenv("COHORTMORPH_TEST", str(tmp_path))
    assert load(config, []).images["H2-MR"].source == str(tmp_path / "far away/H2.nii.gz")
    monkeypatch.setenv("COHORTMORPH_TEST", str(tmp_path / "elsewhere"))
    assert "data_folder: found '${COHORTMORPH_TEST}/far away', which is no folder" in the_problem(load, config, [])


def test_data_folder_in_the_home(monkeypatch, tmp_path):
    (tmp_path / "data").mkdir()
    write_mr_cohort(table_folder=tmp_path / "data")
    monkeypatch.setenv("HOME", str(tmp_path))
    loaded = load(mr_config(data_folder="~/data"), [])
    assert loaded.images["H1-MR"].landmarks == str(tmp_path / "data/H1.csv")


def test_consequences_of_a_bad_cell_are_not_told():
    """A CT that is misspelt does not lack, and where splits contradict each other nothing is said of their counts."""
    edited("moving: [T1, T2]", "moving: [T1]")
    rows = phantom_rows()
    rows[3][1] = "C T"
    write_table(rows)
    assert "line 4, subject P02, column image: found 'C T'" in the_problem(load_files)
    rows = phantom_rows()
    rows[5][7] = "test"  # P03, the only validation subject
    write_table(rows)
    assert "line 7, subject P03, column split: found 'validation', but line 6 says 'test'" in the_problem(load_files)


# ---- mistakes in the pairs


@pytest.mark.parametrize("design", ["to-reference", "between-subjects"])
def test_reference(design):
    write_mr_cohort([*SPLITS, "train"])
    config = mr_config(BETWEEN | {"design": design, "reference": "H10"})
    assert "pairs.reference: found 'H10', which is no subject of the table" in the_problem(load, config, [])
    config["pairs"]["reference"] = "H5"
    assert "pairs.reference: found 'H5', a validation subject; expected a train" in the_problem(load, config, [])
    config["pairs"] |= {"reference": "H1", "image": "MRI"}
    assert "pairs.image: found 'MRI', an image that no subject has; known: MR (did" in problems(load, config, [])[0]


def test_ring_needs_enough_subjects():
    write_mr_cohort(["train", "train", "validation", "validation", "test"])
    assert the_problem(load, mr_config(), []) == (
        "config/cohort.tsv line 1, column split: test has 1 subject with image MR; "
        "pairs.moving_per_fixed 1 needs at least 2"
    )
    write_mr_cohort(["train", "train", "validation", "test", "test"])
    assert "column split: validation has 1 subject with image MR" in the_problem(load, mr_config(), [])


@pytest.mark.parametrize(
    ("splits", "words"),
    [
        (["train", "validation", "validation"], "found 1 train subject(s); a network learns from at least 2"),
        (["train", "train", "test", "test"], "found no validation pair; a network's λ and epoch are chosen"),
    ],
)
def test_networks_need_train_and_validation(splits, words):
    write_mr_cohort(splits)
    assert words in the_problem(load, mr_config(), [])
    assert load(mr_config(networks={}, baselines={}), []).design == "between-subjects"


def test_no_pair_at_all():
    write_mr_cohort(["train", "train"])
    assert "these rows and this design make no pair" in the_problem(load, mr_config(networks={}, baselines={}), [])


@pytest.mark.parametrize(("metric", "told"), [("ncc", True), ("nmi", False), ("auto", False), ("tre", False)])
def test_ncc_between_two_modalities_is_warned_of_at_the_start(metric, told, caplog):
    write_table(phantom_rows())
    edited("moving: [T1, T2]", "moving: [T1]")
    edited("metric: auto", f"metric: {metric}")
    config, files = yaml.safe_load(Path("config/config.yaml").read_text()), ["config/config.yaml"]
    needs = {name: measure.needs for name, measure in SELECTABLE.items()}
    plan.load(config, files, needs, is_main_run=True, has_environments=True)
    said = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert [text.partition(" NCC ")[0] for text in said] == ["CT and T1: between two modalities"] * told
    # Its jobs say nothing, nor does a run without networks.
    caplog.clear()
    plan.load(config, files, needs, is_main_run=False, has_environments=True)
    plan.load(config | {"networks": {}, "baselines": {}}, files, needs, is_main_run=True, has_environments=True)
    assert not caplog.records


@pytest.mark.parametrize(("metric", "column"), [("tre", "landmarks"), ("dice", "labels")])
def test_selection_needs_landmarks_or_labels(metric, column):
    rows = write_mr_cohort()
    for row in rows[4:6]:  # H4 and H5, the validation subjects
        row[COLUMNS.index(column)] = ""
    write_table(rows)
    config = mr_config(evaluation={"selection": {"metric": metric}})
    line = the_problem(load, config, [])
    assert (
        f"found '{metric}', which needs {column} on both images of every validation pair; without: H5-MR_to_H4-MR"
        in line
    )
    config["evaluation"]["selection"]["metric"] = "ncc"
    assert len(load(config, []).pairs) == 5


def test_landmarks_on_one_side():
    rows = write_mr_cohort()
    rows[1][5] = ""
    write_table(rows)
    config = mr_config(
        {"design": "to-reference", "image": "MR", "reference": "H1"}, evaluation={"selection": {"metric": "ncc"}}
    )
    line = the_problem(load, config, [])
    assert "line 2, subject H1, column landmarks: empty, but H2-MR, H3-MR, H4-MR and 4 more of the same pair" in line


def test_mistakes_in_the_pairs_table():
    write_mr_cohort()
    rows = [
        ["fixed_subject", "fixed_image", "moving_subject", "moving_image"],
        ["H1", "MR", "H2", "MR"],
        ["H1", "MR", "H2", "MR"],
        ["H1", "MT", "H3", "MR"],
        ["H1", "MR", "h3", "MR"],
        ["H2", "MR", "H2", "MR"],
        ["H4", "MR", "H6", "MR"],
        ["H4", "MR", "", "MR"],
        ["H4", "MR", "H5", "MR"],
    ]
    write_table(rows, "pairs.tsv")
    assert problems(load, mr_config({"design": "table", "table": "pairs.tsv"}), []) == [
        "pairs.tsv line 3, column moving_image: H2-MR_to_H1-MR stands already in line 2",
        "pairs.tsv line 4, column fixed_image: found 'MT'; subject H1 has MR",
        "pairs.tsv line 5, column moving_subject: found 'h3', which is no subject of the cohort table "
        "(did you mean 'H3'?)",
        "pairs.tsv line 6, column moving_image: H2-MR would be registered to itself",
        "pairs.tsv line 7, column fixed_subject: H4-MR is validation, H6-MR is test; expected one split for both, "
        "or a train subject as the fixed one",
        "pairs.tsv line 8, column moving_subject: found nothing; expected a subject id of the cohort table",
    ]
    config = mr_config({"design": "table", "table": "pears.tsv"})
    assert "pairs.table: found 'pears.tsv', which is no file" in "\n".join(problems(load, config, []))


def test_harmonize_needs_its_image_in_each_subject():
    rows = [
        *phantom_rows(images=("CT", "T1", "T2")),
        ["P05", "T1", "T1", "results/phantom/P05/T1", "", "", "", "train"],
    ]
    write_table(rows)
    line = the_problem(load_files)
    assert "line 14, subject P05, column image: no image CT (pairs.fixed), only T1; add its row" in line


# ---- what is told of a cohort


def test_describe():
    lines = cohort.describe(load_files()).splitlines()
    assert lines[0] == "Pair design: within-subject"
    assert lines[2].split() == ["train", "validation", "test", "all"]
    assert lines[-1].split() == ["pairs", "6", "2", "4", "12"]
    assert lines[3].split() == ["subjects", "3", "1", "2", "6"]
    assert len({len(line) for line in lines[2:]}) == 1


def test_check_cohort_writes_the_summary():
    summary = cohort.describe(load_files())
    settings, output = {"dicom": {}, "structures": {}}, "results/check_cohort.txt"
    Path("empty.tsv").write_text("subject\timage\tsource\n")  # what the files hold: tests/test_inspection.py
    check_cohort.main(summary, "empty.tsv", ".", [], settings, [], output)
    assert Path(output).read_text().startswith(summary)


def test_a_job_elsewhere_does_not_look_for_files():
    """A pool's machine without shared files has only the table; whatever else is wrong with it is still told."""
    rows = write_mr_cohort()
    for path in Path().glob("H*"):
        path.unlink()
    config = mr_config(data_folder="not/here")
    assert len(problems(load, config, ["config/config.yaml"])) == 1
    loaded = load(config, ["config/config.yaml"], files_are_here=False)
    assert loaded.images["H1-MR"].source == "not/here/H1.nii.gz"
    write_table([*rows, [*rows[1][:-1], "tets"]])
    with pytest.raises(UserError, match="tets"):
        load(config, ["config/config.yaml"], files_are_here=False)


def test_variables_of_the_environment_are_named_for_the_jobs():
    assert configuration.variables(mr_config(data_folder="${DATA}/$USER/x")) == ["DATA", "USER"]
    assert configuration.variables(SHIPPED) == []


def test_an_id_that_the_cohort_does_not_have_is_named():
    write_mr_cohort()
    known = load(mr_config(), ["config/config.yaml"])
    assert known.image("H2-MR").subject == "H2" and known.images_of("H1") == ["MR"]
    assert known.pair("H5-MR_to_H4-MR").split == "validation" and known.pair("H2-MR_to_H1-MR").frame.id == "H1-MR"
    for look, id, words in [
        (known.image, "H9-MR", "no image H9-MR; it has 8: H1-MR, H2-MR, H3-MR"),
        (known.pair, "H9-MR_to_H1-MR", "no pair H9-MR_to_H1-MR"),
        (known.images_of, "H9", "no subject H9"),
    ]:
        with pytest.raises(UserError, match=words):
            look(id)


def test_a_missing_tool_is_refused_or_skipped_as_the_config_says(monkeypatch):
    write_mr_cohort()
    monkeypatch.setattr(checks.tools, "find", lambda tool: "" if tool == "niftyreg" else tool)
    method = {"tool": "niftyreg", "parameters": "config/niftyreg/f3d.txt"}
    files = ["config/config.yaml"]
    load(mr_config(baselines={"niftyreg": method | {"missing": "skip"}}), files)
    load(mr_config(baselines={"niftyreg": method}), files, tools_are_here=False)
    said = the_problem(load, mr_config(baselines={"niftyreg": method}), files)
    assert "baselines.niftyreg: NiftyReg's program reg_f3d was not found. Get it in one of three ways" in said
    assert "or set `missing: skip`, or the method to null" in said


def synthetic_cohort(rows=(), **synthetic):
    """A real image H1-MR, and subject S1 made of it."""
    base = "results/synthetic/S1/"
    table = [[*COLUMNS, "fiducials"], ["H1", "MR", "MR", "H1.nii.gz", "", "", "", "test", ""]]
    for role in ("fixed", "moving"):
        table.append(["S1", role, "MR", f"{base}{role}.nii.gz", "", f"{base}{role}_landmarks.tsv", "", "test", ""])
    for line, column, cell in rows:
        table[line - 1][table[0].index(column)] = cell
    Path("H1.nii.gz").touch()
    write_table(table)
    Path("pairs.tsv").write_text("fixed_subject\tfixed_image\tmoving_subject\tmoving_image\nS1\tfixed\tS1\tmoving\n")
    made = synthetic or {"S1": {"image": "H1-MR", "field": "low"}}
    config = mr_config(pairs={"design": "table", "table": "pairs.tsv"}, synthetic=made, networks={}, baselines={})
    return config | {"evaluation": {"selection": {"metric": "ncc"}}}, ["config/config.yaml"]


def test_synthetic_pairs():
    known = load(*synthetic_cohort())
    assert known.synthetic_pairs("test") == ["S1-moving_to_S1-fixed"] and known.synthetic_pairs("train") == []
    config, files = synthetic_cohort([(3, "split", "train"), (4, "split", "train")])
    trained = load(config, files)
    assert trained.trained_on_a_test_subject(config["synthetic"]) and not known.trained_on_a_test_subject({})


@pytest.mark.parametrize(
    ("rows", "synthetic", "words"),
    [
        ([(3, "source", "results/synthetic/S1/first.nii.gz")], {}, "of this kind only .*fixed.nii.gz, .* are made"),
        (
            [(3, "fiducials", "results/synthetic/S1/a.tsv")],
            {},
            "synthetic pairs have no fiducials; leave the cell empty",
        ),
        ([], {"S2": {"image": "H1-MR", "field": "low"}}, "`synthetic` in the configuration does not have subject S1"),
        ([], {"S1": {"image": "H9-MR", "field": "low"}}, "synthetic.S1.image: found 'H9-MR', which is no image of the"),
        ([], {"S1": {"image": "H1-MR", "field": "lowest"}}, "synthetic.S1.field: found 'lowest'; allowed: low, medium"),
    ],
)
def test_mistakes_in_synthetic_pairs(rows, synthetic, words):
    said = "\n".join(problems(load, *synthetic_cohort(rows, **synthetic)))
    assert re.search(words, said), said
