"""What check_cohort finds in files: every kind of damage in one list, in the words of the jobs; else nothing."""

import logging
import re
from pathlib import Path

import check_cohort
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from test_privacy import CANARY
from test_segmentation import write_rtstruct

from cohortmorph import UserError
from cohortmorph.clinic.reader import read_geometry, read_series
from cohortmorph.cohort.sources import in_the_list
from cohortmorph.inspection import together
from cohortmorph.simulated.scanner import PROTOCOLS, write_scan
from cohortmorph.spatial import labels
from cohortmorph.spatial.geometry import Grid, to_image, write_image

GRID = Grid((14, 12, 10), (1.5, 2.0, 3.3), (-9.0, 12.0, 77.0))
COLUMNS = ["subject", "image", "modality", "source", "series", "geometry", "labels", "landmarks", "mask", "split"]
SETTINGS = {
    "dicom": {"allow": [], "tilt": "resample", "uneven": "refuse"},
    "structures": {"Brainstem": 1},
}


def values_of(grid, seed=0):
    return np.random.default_rng(seed).integers(0, 900, grid.size).astype(np.int16)


class MadeUp:
    """A cohort of one subject a row and split, in a folder named after a patient, with files of every kind."""

    def __init__(self, folder):
        self.folder = folder / f"{CANARY}^Jane"
        self.folder.mkdir()
        self.table, self.written = folder / "cohort.tsv", folder / "check_cohort.txt"
        self.rows, self.pairs = {}, []
        for subject in "ABCDEFGH":
            for image in ("fixed", "moving"):
                self.add(subject, image)
            self.pairs.append([f"{subject}-fixed", f"{subject}-moving"])

    def path(self, name):
        return self.folder / name

    def add(self, subject, image, grid=GRID):
        base, patient = f"{subject}_{image}", "ABCDEFGH".index(subject) * 2
        if image == "fixed":
            source = f"{base}.nii.gz"
            write_image(to_image(values_of(grid, patient), grid), self.path(source))
        else:
            source = base
            write_scan(
                values_of(grid, patient + 1),
                grid,
                PROTOCOLS["T1"],
                self.path(base),
                [subject, "T1"],
                np.random.default_rng(0),
            )
        labelled = (values_of(grid, patient) > 600).astype(np.uint8) * 3
        write_image(to_image(labelled, grid), self.path(f"{base}_labels.nii.gz"))
        write_image(to_image((values_of(grid) > 300).astype(np.uint8), grid), self.path(f"{base}_mask.nii.gz"))
        points = grid.to_world([[3, 4, 5], [6, 5, 4 + patient / 100]])
        lines = ["landmark,x_lps_mm,y_lps_mm,z_lps_mm"]
        lines += [f"p{n},{x:g},{y:g},{z:g}" for n, (x, y, z) in enumerate(points)]
        self.path(f"{base}.csv").write_text("\n".join(lines) + "\n")
        given = {"labels": f"{base}_labels.nii.gz", "landmarks": f"{base}.csv", "mask": f"{base}_mask.nii.gz"}
        self.rows[subject, image] = {"source": source, "split": "test", "modality": "T1"} | given

    def check(self, tools=(), threads=1, **settings):
        lines = ["\t".join(COLUMNS)]
        for (subject, image), row in self.rows.items():
            cells = {"subject": subject, "image": image} | row
            lines.append("\t".join(cells.get(column, "") for column in COLUMNS))
        self.table.write_text("\n".join(lines) + "\n")
        check_cohort.main(
            "the counts", str(self.table), str(self.folder), self.pairs, SETTINGS | settings, tools,
            str(self.written), threads,
        )  # fmt: skip

    def problems(self, **settings):
        """Return the list of problems, {(subject, image, column): text}, and see that it is one list of so many."""
        with pytest.raises(UserError) as error:
            self.check(**settings)
        said = str(error.value)
        assert not self.written.exists() and CANARY not in said and "Traceback" not in said
        first, *lines, _ = said.split("\n")
        lines = [line for line in lines if not line.startswith("  ")]
        assert re.match(rf"{len(lines)} problems? in the files of the cohort; nothing was computed", first), said
        place = rf"{re.escape(str(self.table))} line (\d+), subject (\w+), image (\w+), column (\w+): (.+)"
        found = {}
        for line in lines:
            number, *key, text = re.fullmatch(place, line).groups()
            assert list(self.rows)[int(number) - 2] == tuple(key[:2])
            found[tuple(key)] = text
        return found


@pytest.fixture
def cohort(tmp_path):
    return MadeUp(tmp_path)


def cut(path, share=0.6):
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])


def test_a_good_cohort_passes_side_by_side_as_well(cohort, caplog):
    with caplog.at_level(logging.INFO, logger="cohortmorph"):
        cohort.check(threads=2)
    assert "16 images were looked at; no problem was found" in caplog.text
    assert cohort.written.read_text().startswith("the counts\n") and "problem was found" in cohort.written.read_text()
    assert not [record for record in caplog.records if record.levelno > logging.INFO]


def test_what_the_workflow_has_still_to_make_is_said(cohort):
    cohort.rows["A", "moving"] = {"source": "results/phantom/A/T1", "split": "test", "modality": "T1"}
    cohort.check()
    assert "15 images were looked at (1 more are made by the workflow" in cohort.written.read_text()


def test_copies_under_another_subject_are_told(cohort):
    """By their content; masks may be shared, and a subject's own images may be equal."""
    for kind in ("labels.nii.gz", "mask.nii.gz"):
        cohort.path(f"B_fixed_{kind}").write_bytes(cohort.path(f"A_fixed_{kind}").read_bytes())
    cohort.path("C_fixed.csv").write_bytes(cohort.path("A_fixed.csv").read_bytes())
    for slice in cohort.path("D_moving").iterdir():
        slice.unlink()
    for slice in cohort.path("A_moving").iterdir():
        (cohort.path("D_moving") / slice.name).write_bytes(slice.read_bytes())
    told = cohort.problems()
    assert set(told) == {("B", "fixed", "labels"), ("C", "fixed", "landmarks"), ("D", "moving", "source")}
    assert all("in common with subject A, image" in text for text in told.values())


@pytest.mark.parametrize("threads", [1, 2])
def test_one_of_each_mistake_is_told_in_one_list(cohort, threads):
    half = to_image(np.full(GRID.size, 0.5, np.float32), GRID)
    write_image(half, cohort.path("A_fixed_labels.nii.gz"))
    cut(cohort.path("B_fixed_mask.nii.gz"))
    text = cohort.path("C_moving.csv").read_text()
    cohort.path("C_moving.csv").write_text(text.replace("p1,", "p1,7,"))
    slices = sorted(cohort.path("D_moving").iterdir())
    cut(slices[4], 0.95)
    far = Grid(GRID.size, GRID.spacing_mm, (40.0, 12.0, 77.0))
    write_image(to_image(np.ones(GRID.size, np.uint8), far), cohort.path("E_fixed_labels.nii.gz"))
    thin = Grid((14, 12, 5), GRID.spacing_mm, GRID.origin_mm)
    cohort.add("F", "moving", thin)
    for column in ("labels", "landmarks", "mask"):
        cohort.rows["F", "moving"][column] = cohort.rows["F", "fixed"][column] = ""
    frame = next(pydicom.dcmread(path).FrameOfReferenceUID for path in cohort.path("G_moving").iterdir())
    corners = np.array([[3, 3, 4], [8, 3, 4], [8, 8, 4], [3, 8, 4]])
    write_rtstruct(cohort.path("plan.dcm"), {"Liver": [GRID.to_world(corners)]}, frame)
    cohort.rows["G", "moving"]["labels"] = "plan.dcm"
    write_image(to_image(np.zeros(GRID.size, np.uint8), GRID), cohort.path("H_fixed_mask.nii.gz"))
    small = np.zeros(GRID.size, np.uint8)
    small[3:6, 3:6, 3:6] = 1
    write_image(to_image(small, GRID), cohort.path("E_moving_mask.nii.gz"))
    text = cohort.path("H_moving.csv").read_text()
    cohort.path("H_moving.csv").write_text(text.replace("p1,", "q1,"))
    found = cohort.problems(threads=threads)
    assert {key: re.search(words, found[key]) is not None for key, words in EACH.items()} == dict.fromkeys(EACH, True)
    # A mask that cannot be read says nothing more, and of an image that cannot be read, nothing hangs in the air.
    assert set(found) == set(EACH)


EACH = {
    ("A", "fixed", "labels"): r"^\d+ voxels are not labels \(the first is 0.5\)",
    ("B", "fixed", "mask"): "damaged|cut off",
    ("C", "moving", "landmarks"): r"^line 3 has 5 values",
    ("D", "moving", "source"): r"cannot be read: found \d+ bytes for 12 × 14 pixels",
    ("E", "fixed", "labels"): "^the labels do not lie on their image's grid: the corners of the grids lie up to 49",
    ("F", "moving", "source"): r"the image has 14 × 12 × 5 voxels; at least 8 along each axis",
    ("G", "moving", "labels"): "^none of the structures Brainstem is among the 1 of the file",
    ("H", "fixed", "mask"): "^the mask is empty",
    ("E", "moving", "mask"): "^the mask has 27 voxels; at least 100",
    ("H", "moving", "landmarks"): r"(?s)^The landmarks of subject H, image fixed and subject H, image moving do not",
}


def test_what_is_told_of_a_file_is_what_its_job_says(cohort):
    path = cohort.path("A_fixed_labels.nii.gz")
    cut(path)
    with pytest.raises(UserError) as error:
        labels.read(path, GRID)
    assert cohort.problems()["A", "fixed", "labels"] == str(error.value).removeprefix(f"{path}: ")


def test_a_map_in_another_order_of_axes_and_in_only_one_of_its_forms_is_taken(cohort):
    image = sitk.ReadImage(str(cohort.path("A_fixed_labels.nii.gz")))
    write_image(sitk.PermuteAxes(sitk.Flip(image, (True, False, True)), (2, 0, 1)), cohort.path("turned.nii.gz"))
    cohort.rows["A", "fixed"]["labels"] = "turned.nii.gz"
    cohort.check()


def test_warnings_are_told_but_stop_nothing(cohort, caplog):
    outside = cohort.path("A_fixed.csv").read_text() + "far,900,0,0\n"
    cohort.path("A_fixed.csv").write_text(outside)
    cohort.path("A_moving.csv").write_text(cohort.path("A_moving.csv").read_text() + "far,1,20,80\n")
    write_image(to_image(np.full(GRID.size, 9, np.uint8), GRID), cohort.path("B_moving_labels.nii.gz"))
    cohort.check()
    said = cohort.written.read_text()
    assert "2 warnings:" in said and CANARY not in said and CANARY not in caplog.text
    assert "line 2, subject A, image fixed, column landmarks: 1 of 3 points lie outside of the image" in said
    assert "subject B, image moving, column labels: shares no label with subject B, image fixed" in said
    assert "shares no label" in caplog.text


def test_what_the_workflow_has_still_to_make_is_left_out(cohort):
    cohort.rows = {key: row for key, row in cohort.rows.items() if key[0] == "A"}
    cohort.rows["P", "CT"] = {"source": "results/phantom/P/CT", "labels": "results/phantom/P/CT_labels.nii.gz"}
    cohort.pairs.append(["A-fixed", "P-CT"])
    cohort.check()
    assert "2 images were looked at" in cohort.written.read_text()


def test_a_reader_that_breaks_is_a_line_of_the_list_as_well(cohort, monkeypatch):
    def broken(path, grid=None):
        raise KeyError(f"{CANARY} in {path}")

    monkeypatch.setattr("cohortmorph.inspection.image.labels.read", broken)
    found = cohort.problems()
    assert len(found) == 32  # label maps and masks
    assert found["A", "fixed", "labels"].startswith("a fault of the workflow, not of your data: KeyError in privacy.py")


@pytest.mark.parametrize(
    "tool, text, words",
    [
        ("niftyreg", "reg_f3d -sx\n", "-sx of reg_f3d is followed by nothing"),
        ("demons", "variant: wild\n", "smoothing_mm is missing"),
        ("ants", "# nothing\n", "no options found"),
        ("elastix", " \n", "the file is empty"),
    ],
)
def test_parameter_files_are_opened(tmp_path, tool, text, words):
    (tmp_path / "parameters").write_text(text)
    tools = [{"key": "baselines.one", "tool": tool, "files": [str(tmp_path / "parameters")]}]
    (found,) = together.wrong_parameters(tools)
    assert found.startswith("baselines.one: ") and words in found


def test_parameter_files_that_are_shipped_are_right():
    tools = ("elastix", "niftyreg", "ants", "demons", "instance")
    files = {tool: [str(path) for path in Path("config", tool).iterdir()] for tool in tools}
    assert all(files.values())
    assert not list(together.wrong_parameters([{"key": "k", "tool": t, "files": f} for t, f in files.items()]))


def test_a_path_is_replaced_only_where_it_stands_alone():
    calls = {"ct.csv": "subject A, image CT"}
    text = "ct.csv: expected one direct.csv beside ct.csv, not xct.csv"
    assert in_the_list(text, calls) == "expected one direct.csv beside subject A, image CT, not xct.csv"


# ---- the grid of a series without its pixels


@pytest.mark.parametrize("change", ["nothing", "tilt", "gap"])
def test_the_grid_without_pixels_is_the_grid_of_the_image(tmp_path, change):
    write_scan(values_of(GRID), GRID, PROTOCOLS["T1"], tmp_path / "series", ["A", "T1"], np.random.default_rng(0))
    paths = sorted((tmp_path / "series").iterdir(), key=lambda path: pydicom.dcmread(path).ImagePositionPatient[2])
    for n, path in enumerate(paths):
        slice_ = pydicom.dcmread(path)
        x, y, z = slice_.ImagePositionPatient
        if change == "tilt":
            slice_.ImagePositionPatient = [x, round(float(y) + 0.7 * n, 6), z]
        slice_.save_as(path)
    if change == "gap":
        paths[4].unlink()
    image, _ = read_series(tmp_path / "series", uneven="resample")
    grid, frames = read_geometry(tmp_path / "series", "A", uneven="resample")
    assert grid == Grid.of(image) and len(frames) == 1
    if change != "nothing":
        key = {"tilt": "tilt", "gap": "uneven"}[change]
        with pytest.raises(UserError) as read:
            read_series(tmp_path / "series", "A", **{key: "refuse"})
        with pytest.raises(UserError) as looked:
            read_geometry(tmp_path / "series", "A", **{key: "refuse"})
        assert str(read.value) == str(looked.value)


@pytest.mark.parametrize("syntax", ["little", "big", "implicit", "rle"])
def test_a_file_cut_within_its_pixels_is_refused_in_the_words_of_the_decoder(tmp_path, syntax):
    write_scan(values_of(GRID), GRID, PROTOCOLS["T1"], tmp_path / "series", ["A", "T1"], np.random.default_rng(0))
    path = sorted((tmp_path / "series").iterdir())[3]
    slice_ = pydicom.dcmread(path)
    pixels = slice_.pixel_array
    if syntax == "rle":
        slice_.compress(pydicom.uid.RLELossless)
        slice_.save_as(path)
    elif syntax != "little":
        uid = {"big": pydicom.uid.ExplicitVRBigEndian, "implicit": pydicom.uid.ImplicitVRLittleEndian}[syntax]
        slice_.file_meta.TransferSyntaxUID = uid
        slice_.PixelData = pixels.astype(">i2" if syntax == "big" else "<i2").tobytes()
        slice_["PixelData"].VR = "OW"
        pydicom.dcmwrite(
            path, slice_, implicit_vr=syntax == "implicit", little_endian=syntax != "big", force_encoding=True
        )
    read_geometry(tmp_path / "series", "A")
    whole = path.read_bytes()
    for lost in (20, 60, 200):
        path.write_bytes(whole[:-lost])
        with pytest.raises(UserError, match=r"pixels of .*cannot be read: found \d+ bytes for 12 × 14 pixels"):
            read_geometry(tmp_path / "series", "A")
