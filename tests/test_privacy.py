"""Nobody's name: what a folder from a PACS holds in tags, private tags and names of files stays in it."""

import gzip
import json
import re
import zlib
from pathlib import Path

import convert_image
import convert_labels
import list_series
import nibabel
import numpy as np
import pydicom
import pytest
from pydicom.datadict import keyword_for_tag

from cohortmorph import UserError
from cohortmorph.clinic.privacy import without_identity
from cohortmorph.clinic.reader import read_series
from cohortmorph.cohort import cohort, sources
from cohortmorph.run import logs
from cohortmorph.simulated.scanner import PROTOCOLS, write_scan
from cohortmorph.spatial.geometry import Grid

CANARY = "KANARI"  # in every text
BIRTH_DATE, UID_ROOT = "19331122", "1.2.276.88887777"
TEXT_VRS = {"AE", "AS", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT"}
pytestmark = pytest.mark.filterwarnings("ignore:.*:UserWarning:pydicom")  # of what is planted
GRID = Grid((9, 8, 6), (1.5, 2.0, 3.3), (-31.5, 12.25, 77.0))
# Codes that decide how a file is read; they leave the converter as words of a fixed list only.
CODES = {"SpecificCharacterSet", "PhotometricInterpretation", "ImageType", "Modality", "BurnedInAnnotation"}
MORE = (
    *(
        "PatientComments",
        "InstitutionName",
        "InstitutionAddress",
        "StationName",
        "PerformingPhysicianName",
        "PatientAge",
    ),
    *("OperatorsName", "ProtocolName", "ImageComments", "OtherPatientIDs", "PatientAddress", "MedicalRecordLocator"),
    *(
        "PatientMotherBirthName",
        "RequestingPhysician",
        "AdditionalPatientHistory",
        "DeviceSerialNumber",
        "SequenceName",
    ),
    *("BodyPartExamined", "StudyDescription", "SeriesDescription", "Manufacturer", "ManufacturerModelName", "StudyID"),
    *("AccessionNumber", "ReferringPhysicianName", "PatientID", "PatientName", "SoftwareVersions", "ScanningSequence"),
)


def plant(path, n):
    """Fill every text of a DICOM file with canaries; return how many."""
    slice_ = pydicom.dcmread(path)
    for keyword in MORE:
        setattr(slice_, keyword, "")
    planted = 0
    for element in slice_:
        if element.VR in TEXT_VRS and element.keyword not in CODES:
            element.value = "077Y" if element.VR == "AS" else f"{CANARY} {keyword_for_tag(element.tag)[:8]} {n}"[:16]
            planted += 1
        elif element.VR == "DA":
            element.value = BIRTH_DATE
        elif element.VR == "UI" and element.keyword != "SOPClassUID":
            element.value = f"{UID_ROOT}.{element.tag.elem}.{n if element.keyword == 'SOPInstanceUID' else 1}"
    slice_.PatientBirthDate = BIRTH_DATE
    slice_.PatientName = f"{CANARY}^Jane " + "x" * 4000
    slice_.file_meta.MediaStorageSOPInstanceUID = slice_.SOPInstanceUID
    block = slice_.private_block(0x0099, f"{CANARY} MAKER", create=True)
    block.add_new(1, "LO", f"{CANARY} private")
    block.add_new(2, "UN", CANARY.encode())
    nested = pydicom.Dataset()
    nested.PatientName = f"{CANARY}^nested"
    slice_.RequestAttributesSequence = [nested]
    slice_.preamble = (CANARY * 30).encode()[:128]
    slice_.save_as(path)
    return planted + 6


def planted_series(folder, image="T1", grid=GRID):
    """Write a series full of canaries, its files named after the patient."""
    values = np.random.default_rng(0).integers(1, 4000, grid.size).astype(np.int16)
    write_scan(values, grid, PROTOCOLS[image], folder, ["p", image], np.random.default_rng(0))
    return plant_folder(folder)


def plant_folder(folder):
    """Fill all files of a folder with canaries, and rename them to hostile names."""
    planted = 0
    for n, path in enumerate(sorted(folder.iterdir())):
        planted = plant(path, n)
        path.rename(folder / (["-rf", f"{CANARY}^Jane\n{n}", f"{CANARY} ; touch x", f"..{CANARY}"][n % 4] + n * "_"))
    (folder / f"{CANARY} letter.pdf").write_text(CANARY)
    return planted


def contents(path):
    """Yield the bytes of a file as they are, unpacked, and those of the texts in a picture."""
    raw = Path(path).read_bytes()
    yield raw
    if raw[:2] == b"\x1f\x8b":
        yield gzip.decompress(raw)
    for match in re.finditer(rb"(zTXt|iTXt)", raw):
        try:
            yield zlib.decompress(raw[match.end() :].split(b"\0", 1)[1][1:])
        except (zlib.error, IndexError):
            continue


def leaks(folder, words=(CANARY, BIRTH_DATE, UID_ROOT)):
    """Return the files below `folder` that hold one of the words, in content, in name, or as the target of a link."""
    found = []
    for path in Path(folder).rglob("*"):
        texts = [str(path.relative_to(folder)).encode()]
        texts += [str(path.readlink()).encode()] if path.is_symlink() else contents(path) if path.is_file() else []
        if any(word.lower().encode() in text.lower() for word in words for text in texts):
            found.append(path)
    return found


@pytest.fixture
def patient(tmp_path):
    """A folder of canaries, and a cohort table that names it."""
    folder = tmp_path / "pacs" / f"{CANARY}^Jane" / "T1"
    assert planted_series(folder) > 35
    table = tmp_path / "cohort.tsv"
    table.write_text(f"subject\timage\tsource\nP01\tT1\t{CANARY}^Jane/T1\n")
    return folder


def test_the_search_finds_what_is_planted(tmp_path, patient):
    assert len(leaks(tmp_path / "pacs")) > 6
    with gzip.open(tmp_path / "x.gz", "wt") as file:
        file.write(CANARY)
    (tmp_path / "link").symlink_to(f"{CANARY}")
    assert {path.name for path in leaks(tmp_path)} >= {"x.gz", "link", "cohort.tsv"}


def test_a_conversion_leaves_no_trace(patient, tmp_path, capfd):
    out = tmp_path / "out"
    with logs.job(out / "convert.log", ["pydicom"]), without_identity("subject P01, image T1"):
        path = sources.path_of(tmp_path / "cohort.tsv", str(tmp_path / "pacs"), "P01", "T1")
        convert_image.main(path, out / "T1.nii.gz", out / "T1.json", "subject P01, image T1")
    with logs.job(out / "list.log"):
        list_series.main(tmp_path / "cohort.tsv", str(tmp_path / "pacs"), [["P01", "T1"]], out / "list_series.tsv")
    assert {path.name for path in out.iterdir()} == {
        "T1.nii.gz",
        "T1.json",
        "convert.log",
        "list.log",
        "list_series.tsv",
    }
    assert leaks(out) == []
    said = capfd.readouterr()
    assert not re.search(f"{CANARY}|{BIRTH_DATE}|{UID_ROOT}", said.out + said.err, re.I)
    header = nibabel.load(out / "T1.nii.gz").header
    assert [header[name].tobytes().strip(b"\0") for name in ("descrip", "aux_file", "intent_name", "db_name")] == [
        b""
    ] * 4
    assert json.loads((out / "T1.json").read_text())["manufacturer"] == "other"


SPOILED = {
    "pixels cut off": lambda one: setattr(one, "PixelData", one.PixelData[:10]),
    "burned in": lambda one: setattr(one, "BurnedInAnnotation", "YES"),
    "position of words": lambda one: setattr(one, "ImagePositionPatient", None),
    "colours": lambda one: setattr(one, "SamplesPerPixel", 3),
    "orientation": lambda one: setattr(one, "ImageOrientationPatient", [1, 0, 0, 0.5, 0.5, 0]),
    "one position": lambda one: setattr(one, "ImagePositionPatient", [0, 0, 0]),
    "codes": lambda one: (setattr(one, "Modality", CANARY), setattr(one, "PhotometricInterpretation", CANARY)),
    "bits": lambda one: setattr(one, "BitsAllocated", 12),
}


@pytest.mark.parametrize("spoil", SPOILED)
def test_a_refusal_leaves_no_trace(patient, tmp_path, capfd, spoil):
    for path in patient.iterdir():
        if "pdf" not in path.name:
            slice_ = pydicom.dcmread(path)
            SPOILED[spoil](slice_)
            slice_.save_as(path)
    out = tmp_path / "out"
    try:
        with logs.job(out / "log", ["pydicom"]), without_identity("subject P01, image T1"):
            convert_image.main(str(patient), out / "T1.nii.gz", out / "T1.json", "subject P01, image T1")
        assert spoil == "codes"
    except (SystemExit, RuntimeError):
        assert not (out / "T1.nii.gz").exists()
    said = capfd.readouterr()
    assert leaks(out) == [] and CANARY not in said.out + said.err
    assert "subject P01, image T1" in said.err or spoil == "codes"


def test_an_unexpected_error_keeps_its_text_to_itself(tmp_path, capfd):
    with pytest.raises(RuntimeError), logs.job(tmp_path / "log"), without_identity("P01"):
        raise KeyError(f"{CANARY}/file.dcm")
    assert leaks(tmp_path) == []
    assert re.search(r"KeyError in .*test_privacy.py line \d+ \(its text is withheld", (tmp_path / "log").read_text())
    with pytest.raises(UserError, match="P01: its files cannot be read: No such file"), without_identity("P01"):
        Path(tmp_path, CANARY).read_text()
    assert CANARY not in capfd.readouterr().err


def test_structures_leave_no_trace(patient, tmp_path, capfd):
    write_rtstruct = pytest.importorskip("test_segmentation").write_rtstruct
    frame = pydicom.dcmread(next(path for path in patient.iterdir() if "pdf" not in path.name)).FrameOfReferenceUID
    square = GRID.to_world([[1, 1, 2], [6, 1, 2], [6, 5, 2], [1, 5, 2]])
    path = patient.parent / f"{CANARY}.dcm"
    write_rtstruct(path, {"GTV": [square], f"{CANARY} node": [square]}, frame=frame)
    plan = pydicom.dcmread(path)
    plan.PatientName, plan.StructureSetLabel = CANARY, CANARY
    plan.save_as(path)
    out = tmp_path / "out"
    with logs.job(out / "log"), without_identity("P01"):
        convert_image.main(str(patient), out / "T1.nii.gz", out / "T1.json", "P01")
        convert_labels.main(
            str(path), str(patient), out / "T1.nii.gz", out / "labels.nii.gz", "P01", {"gtv": 1}, "", []
        )
    assert leaks(out) == [] and CANARY not in capfd.readouterr().err
    assert np.asarray(nibabel.load(out / "labels.nii.gz").dataobj).sum() > 10


def test_burned_in_annotations_are_refused_unless_allowed(patient):
    for path in patient.iterdir():
        if "pdf" not in path.name:
            slice_ = pydicom.dcmread(path)
            slice_.BurnedInAnnotation = "YES"
            slice_.save_as(path)
    with pytest.raises(UserError, match="annotations, perhaps a name, are burned into its pixels"):
        read_series(patient, "P01")
    assert read_series(patient, "P01", allow=["burned-in"])[0].GetSize() == GRID.size


@pytest.mark.parametrize(
    "id_",
    [
        "../../x",
        "P\n01",
        "P\0",
        "-rf",
        "x" * 4000 + "/",
        "P 01",
        "P;01",
        "..",
        ".P01",
        "P01-T1",
        "P01_to_P02",
        "P01_to",
        "P" * 49,
        "",
    ],
)
@pytest.mark.parametrize("column", ["subject", "image"])
def test_hostile_ids_never_become_paths(tmp_path, monkeypatch, id_, column):
    monkeypatch.chdir(tmp_path)
    row = {"subject": "P01", "image": "CT", "modality": "CT", "source": "a.nii", "split": "test"} | {column: id_}
    Path("cohort.tsv").write_bytes(("\t".join(row) + "\n" + "\t".join(row.values()) + "\n").encode())
    config = {
        "cohort": "cohort.tsv",
        "pairs": {"design": "to-reference", "image": "CT", "reference": "P01"},
        "intensity": {"CT": {"window": [0, 1]}},
        "prealign": {"parameters": "a.txt"},
        "networks": {},
    }
    with pytest.raises(UserError):
        cohort.load(config, [], needs={})
    assert [path.name for path in tmp_path.iterdir()] == ["cohort.tsv"]


def test_the_path_is_looked_up_where_the_table_says(tmp_path, monkeypatch):
    monkeypatch.setenv("HOSPITAL", str(tmp_path))
    table = tmp_path / "cohort.tsv"
    table.write_text(
        "\ufeff# comment\n\nimage\tsubject\tsource\tlabels\nT1\tP01\ta b\t\n"
        "T1\tP02\t/abs\t/x.dcm\nCT\tP01\tresults/phantom/P01/CT\nfixed\tS1\tresults/synthetic/S1/fixed.nii.gz\n"
    )
    assert sources.path_of(table, "${HOSPITAL}", "P01", "T1") == f"{tmp_path}/a b"
    assert sources.path_of(table, "${HOSPITAL}", "P02", "T1") == "/abs"
    assert sources.path_of(table, "x", "P02", "T1", "labels") == "/x.dcm"
    assert sources.path_of(table, "x", "P01", "T1", "labels") is None
    assert sources.path_of(table, "x", "P01", "T1", "mask") is None
    assert sources.path_of(table, "x", "P01", "CT") == "results/phantom/P01/CT"
    assert sources.path_of(table, "x", "S1", "fixed") == "results/synthetic/S1/fixed.nii.gz"
    with pytest.raises(UserError, match="no such row"):
        sources.path_of(table, "x", "P03", "CT")
