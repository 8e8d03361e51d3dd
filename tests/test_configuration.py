"""The configuration: what comes with the workflow, and what is said of every mistake in one."""

import re
import shutil
from copy import deepcopy
from pathlib import Path

import jsonschema
import pytest
import yaml
from configured import (
    BETWEEN,
    REPOSITORY,
    SHIPPED,
    edited,
    folder,  # noqa: F401, a fixture: each test has a workflow folder of its own
    load,
    load_files,
    mr_config,
    problems,
    the_problem,
    write_mr_cohort,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cohortmorph import UserError
from cohortmorph.cohort import configuration
from cohortmorph.cohort.pairs import Pair

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


# ---- mistakes in the configuration

CONFIG_MISTAKES = {
    "unknown key": (
        "    epochs: 200",
        "    epoch: 200",
        ["line 80, networks.voxelmorph.epoch: unknown key (did you mean 'epochs'?)"],
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
            "matching_weight-0_epoch-12, "
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
        # Or what stands on it is wrong now: a start from the network `matching`, which is not trained any more.
        assert any(str(key) in str(error) for key in path)
