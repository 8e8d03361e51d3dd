"""Choosing a series: what a folder holds is listed without identity, and a choice that is not clear is refused."""

import doctest
import tracemalloc
from pathlib import Path

import list_series
import numpy as np
import pandas as pd
import pydicom
import pytest
from pydicom.uid import generate_uid

from cohortmorph import UserError
from cohortmorph.clinic import series
from cohortmorph.clinic.folder import read_folder
from cohortmorph.clinic.reader import read_series
from cohortmorph.clinic.series import ALLOWABLE, LISTED, candidates, known_words, listing, obstacles
from cohortmorph.simulated.scanner import PROTOCOLS, write_scan
from cohortmorph.spatial.geometry import Grid, to_array

GRID = Grid((7, 6, 5), (1.5, 2.0, 3.3), (-31.5, 12.25, 77.0))


def values_of(seed):
    return np.random.default_rng(seed).integers(1, 4000, GRID.size).astype(np.int16)


def change_all(folder, change):
    for path in folder.iterdir():
        slice_ = pydicom.dcmread(path)
        change(slice_)
        slice_.save_as(path)


@pytest.fixture
def study(tmp_path):
    """A folder with CT, T1 and T2, and a localizer of two slices."""
    for n, image in enumerate(("CT", "T1", "T2")):
        folder = tmp_path / "study" / image
        write_scan(values_of(n), GRID, PROTOCOLS[image], folder, ["study", image], np.random.default_rng(n))
    (tmp_path / "study/CT").rename(tmp_path / "study/Doe^Jane")

    def localize(slice_):
        slice_.SeriesInstanceUID, slice_.SeriesNumber = "1.2.3.40404040", 9
        slice_.ImageType, slice_.SeriesDescription = ["ORIGINAL", "PRIMARY", "LOCALIZER"], "LOC Doe^Jane 19331122"

    write_scan(values_of(3), GRID, PROTOCOLS["T1"], tmp_path / "study/loc", ["loc", "T1"], np.random.default_rng(3))
    change_all(tmp_path / "study/loc", localize)
    return tmp_path / "study"


def chosen(study, choice, **options):
    return to_array(read_series(study, "P01", choice, **options)[0])


@pytest.mark.parametrize(
    ("choice", "seed"),
    [
        ("2", 1),
        ("number=3", 2),
        ("description~t2", 2),
        ("description~PHANTOM; echo_time_ms<50", 1),
        ("modality=ct", 0),
        ("modality=MR; kind=original; number>2", 2),
        ("slices>3; orientation=axial; distance_mm=3.3; echo_time_ms=10", 1),
        ("volume=1; number=2", 1),
    ],
)
def test_a_choice_finds_its_series(study, choice, seed):
    np.testing.assert_allclose(chosen(study, choice), values_of(seed))


def test_a_uid_or_its_end_finds_its_series(study):
    uid = next(one for one in read_folder(study, "P01").slices if one.series.number == 3).series.uid
    for choice in (uid, uid[-8:], f"uid={uid[-12:]}", f"uid=…{uid[-8:]}"):
        np.testing.assert_allclose(chosen(study, choice), values_of(2))


@pytest.mark.parametrize(
    ("choice", "words"),
    [
        ("", "found 3 of 4 candidates; expected one"),
        ("modality=MR", "found 2 of 4 candidates for 'modality=MR'"),
        ("7", "found none of 4 candidates for '7'"),
        ("9", "is a localizer (`dicom: allow: [localizer]` takes it)"),
        ("colour=red", "'colour=red' in the column `series` is no condition"),
        ("T1 axial", "is no condition"),
        ("number=2; volume=x", "volume 'x'"),
        ("number=2; volume=2", "found one volume; expected number 2"),
        ("description~__import__('os')", "none of 4"),
    ],
)
def test_a_choice_that_is_not_clear_is_refused(study, choice, words):
    with pytest.raises(UserError) as error:
        chosen(study, choice)
    assert words in str(error.value) and str(error.value).startswith("P01: ")
    assert "Doe" not in str(error.value) and "1933" not in str(error.value)


def test_the_candidates_are_named_in_the_error(study):
    with pytest.raises(UserError) as error:
        chosen(study, "")
    for words in ("number 1", "number 2", "number 3", "number 9", "CT", "5 slices of 7 × 6", "axial", "localizer"):
        assert words in str(error.value)


def test_what_may_not_be_read_does_not_make_the_choice_unclear(study, caplog):
    with caplog.at_level("INFO", logger="cohortmorph"):
        np.testing.assert_allclose(chosen(study, "echo_time_ms=10"), values_of(1))
    assert "left out 1 other(s) in the folder: localizer" in caplog.text
    with pytest.raises(UserError, match="found 2 of 4"):
        chosen(study, "echo_time_ms=10", allow=["localizer"])


def test_the_listing_shows_geometry_and_no_identity(study):
    listed = listing(candidates(read_folder(study, "P01").slices))
    assert list(listed.columns) == list(LISTED)
    assert listed["number"].tolist() == [1, 2, 3, 9]
    assert listed["kind"].tolist() == ["original"] * 3 + ["localizer"]
    assert listed["description"].tolist() == ["Phantom CT", "Phantom T1", "Phantom T2", "LOC …"]
    assert listed["distance_mm"].unique().tolist() == ["3.300"] and listed["slices"].unique().tolist() == [5]
    assert listed["sequence"].tolist() == ["", *["spin echo"] * 3]
    assert "Doe" not in listed.to_csv() and "1933" not in listed.to_csv()


def test_the_listing_names_tilt_and_uneven_distances(study):
    change_all(
        study / "T1",
        lambda one: setattr(
            one,
            "ImagePositionPatient",
            [one.ImagePositionPatient[0], one.ImagePositionPatient[1] + 0.3 * (one.ImagePositionPatient[2] - 77)]
            + [one.ImagePositionPatient[2] + (one.ImagePositionPatient[2] > 89)],
        ),
    )
    listed = listing(candidates(read_folder(study / "T1", "P01").slices))
    assert listed.loc[0, "distance_mm"] == "3.300 to 4.300" and listed.loc[0, "note"] == "uneven distances, tilted"
    assert listed.loc[0, "tilt_degrees"] == pytest.approx(15.5, abs=0.2)


def test_words_of_a_description_are_shown_from_a_list():
    results = doctest.testmod(series)
    assert results.attempted and not results.failed
    assert known_words("DOE^JANE_t2_tse_cor 384 Dr. Müller 01.02.1933 0123456") == "… t2 tse cor …"


def test_a_choice_that_can_never_be_read_says_so(study):
    change_all(study / "T1", lambda one: setattr(one, "ImageType", ["ORIGINAL", "PRIMARY", "M", "MOSAIC"]))
    (only,) = candidates(read_folder(study / "T1", "P01").slices)
    ((kind, text),) = obstacles(only, ALLOWABLE)
    assert kind == "mosaic" and "several slices in one picture" in text


def test_the_rule_lists_every_folder_once(study, tmp_path):
    table = tmp_path / "cohort.tsv"
    rows = [("P01", "T1", "study"), ("P01", "T2", "study"), ("P02", "T1", "study/T1"), ("P03", "T1", "x.nii.gz")]
    table.write_text("# a comment\nsubject\timage\tsource\n" + "".join("\t".join(row) + "\n" for row in rows))
    list_series.main(table, str(tmp_path), [row[:2] for row in rows], tmp_path / "out/list_series.tsv")
    listed = pd.read_csv(tmp_path / "out/list_series.tsv", sep="\t")
    assert listed.groupby("subject", sort=False).size().to_dict() == {"P01": 4, "P02": 1}
    assert "Doe" not in Path(tmp_path / "out/list_series.tsv").read_text()


def test_memory_hardly_grows_with_the_series_in_a_folder(tmp_path):
    """Of each further slice less than 3 kB are kept, whatever its pixels weigh."""
    write_scan(values_of(0), GRID, PROTOCOLS["T1"], tmp_path / "series", ["study", "T1"], np.random.default_rng(0))
    slice_ = pydicom.dcmread(next((tmp_path / "series").iterdir()))
    slice_.Rows = slice_.Columns = 64
    slice_.PixelData = bytes(2 * 64**2)
    for n in range(35):
        slice_.SeriesInstanceUID = generate_uid(entropy_srcs=[str(n)])
        slice_.save_as(tmp_path / "series" / f"more{n}.dcm")
    read_folder(tmp_path / "series", "P01")
    tracemalloc.start()
    kept = read_folder(tmp_path / "series", "P01")
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(kept.slices) == 40 and size / 40 < 3000
