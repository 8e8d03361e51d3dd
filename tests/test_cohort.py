"""The cohort table and its pairs: what they become, and what is said of every mistake."""

import re
from pathlib import Path

import check_cohort
import pytest
import yaml
from configured import (
    BETWEEN,
    COLUMNS,
    SHIPPED,
    SPLITS,
    edited,
    folder,  # noqa: F401, a fixture: each test has a workflow folder of its own
    load,
    load_files,
    mr_config,
    phantom_rows,
    problems,
    the_problem,
    write_mr_cohort,
    write_table,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cohortmorph import UserError
from cohortmorph.cohort import checks, cohort, configuration, plan
from cohortmorph.evaluation import statistics
from cohortmorph.evaluation.measures import SELECTABLE

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
