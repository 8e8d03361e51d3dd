"""The volumes of a series: told apart by what headers say, called by words, chosen by number or words, never mixed."""

import list_series
import numpy as np
import pandas as pd
import pydicom
import pytest
from pydicom.uid import generate_uid
from scipy.spatial.transform import Rotation

from cohortmorph import UserError
from cohortmorph.clinic import pixels
from cohortmorph.clinic.reader import read_series
from cohortmorph.simulated.scanner import PROTOCOLS, write_scan
from cohortmorph.spatial.geometry import Grid, to_array

OBLIQUE = Rotation.from_euler("zyx", [20, -15, 35], degrees=True).as_matrix()
GRIDS = {"LPS": np.eye(3), "RAS": np.diag([-1.0, -1, 1]), "oblique": OBLIQUE}


def grid_of(direction="LPS", slices=6, shift_mm=0.0):
    axes = GRIDS[direction]
    return Grid((5, 4, slices), (1.5, 2.0, 3.0), tuple(shift_mm * axes[:, 2]), tuple(axes.ravel()))


def values_of(n, slices=6):
    return np.random.default_rng(n).integers(1, 4000, (5, 4, slices)).astype(np.int16)


def write(folder, n, grid, image="MR", **tags):
    """Write volume `n` with values of its own into one series; a tag may be a function of the slice's number."""
    part = folder.parent / f"part{n}"
    values = values_of(n, grid.size[2])
    write_scan(values, grid, PROTOCOLS["CT" if image == "CT" else "T1"], part, ["s", "T1"], np.random.default_rng(0))
    folder.mkdir(exist_ok=True)
    height = grid.axes[:, 2]
    paths = sorted(part.iterdir(), key=lambda path: pydicom.dcmread(path).ImagePositionPatient @ height)
    for k, path in enumerate(paths):
        slice_ = pydicom.dcmread(path)
        slice_.SOPInstanceUID, slice_.SeriesInstanceUID = generate_uid(), "1.2.3.4"
        slice_.SliceThickness = 3
        # Backwards and mixed up: the order of InstanceNumber must tell nothing.
        slice_.InstanceNumber = (7 * (k + 13 * n)) % 101 + 1
        for tag, value in tags.items():
            value = value(k) if callable(value) else value
            if tag.startswith("x"):
                add_private(slice_, int(tag[1:], 16), *value)
            elif value is None:
                delattr(slice_, tag)
            else:
                setattr(slice_, tag, value)
        slice_.save_as(folder / f"{k:02d}{n}.dcm")
        path.unlink()
    part.rmdir()


def add_private(slice_, tag, creator, vr, value):
    slice_.private_block(tag >> 16, creator, create=True).add_new(tag & 0xFF, vr, value)


def read(folder, choice="", **options):
    image, sidecar = read_series(folder, "P01", choice, **options)
    return to_array(image), sidecar


def refusal(folder, choice="", **options):
    with pytest.raises(UserError) as error:
        read(folder, choice, **options)
    return str(error.value)


IMAGE_TYPES = {part: ["ORIGINAL", "PRIMARY", part, "ND"] for part in "MPRI"}
# What differs between two volumes, and how each is called.
DIFFERENCES = {
    "acquisition": ([{"AcquisitionNumber": 1}, {"AcquisitionNumber": 2}], ["acquisition 1", "acquisition 2"]),
    "time point": (
        [{"TemporalPositionIdentifier": 2}, {"TemporalPositionIdentifier": 11}],
        ["time point 2", "time point 11"],
    ),
    "trigger time": ([{"TriggerTime": 40}, {"TriggerTime": 400.5}], ["trigger time 40 ms", "trigger time 400.5 ms"]),
    "time": ([{"AcquisitionTime": "101500"}, {"AcquisitionTime": "101530.5"}], ["time 1", "time 2"]),
    "time past midnight": (
        [
            {"AcquisitionDate": "20200131", "AcquisitionTime": "235959"},
            {"AcquisitionDate": "20200201", "AcquisitionTime": "000030"},
        ],
        ["time 1", "time 2"],
    ),
    "time of content": ([{"ContentTime": "101500"}, {"ContentTime": "101530"}], ["content 1", "content 2"]),
    "echo": (
        [{"EchoNumbers": 1, "EchoTime": 4.92}, {"EchoNumbers": 2, "EchoTime": 7.38}],
        ["echo 1, magnitude", "echo 2, magnitude"],
    ),
    "echo time": ([{"EchoTime": 4.92}, {"EchoTime": 7.38}], ["echo 1, echo time 4.92", "echo 2, echo time 7.38"]),
    "inversion": ([{"InversionTime": 700}, {"InversionTime": 2500}], ["inversion time 700 ms", "time 2500 ms"]),
    "flip angle": ([{"FlipAngle": 5}, {"FlipAngle": 26}], ["flip angle 5°", "flip angle 26°"]),
    "tube voltage": ([{"KVP": 80}, {"KVP": 140}], ["tube voltage 80 kV", "tube voltage 140 kV"]),
    "kernel": ([{"ConvolutionKernel": "B30f"}, {"ConvolutionKernel": "B70f"}], ["kernel 1", "kernel 2"]),
    "agent": ([{}, {"ContrastBolusAgent": "Iomeprol"}], ["no contrast agent", "contrast agent 2"]),
    "description": ([{"SeriesDescription": "art"}, {"SeriesDescription": "ven"}], ["description 1", "description 2"]),
    "frame": ([{"FrameOfReferenceUID": "1.2"}, {"FrameOfReferenceUID": "1.3"}], ["reference 1", "reference 2"]),
    "thickness": ([{"SliceThickness": 1}, {"SliceThickness": 5}], ["slices 1 mm thick", "slices 5 mm thick"]),
    "b-value": ([{"DiffusionBValue": 0.0}, {"DiffusionBValue": 1000.0}], ["b 0 s/mm²", "b 1000 s/mm²"]),
    "b-value of Siemens": (
        [{"x0019100C": ("SIEMENS MR HEADER", "IS", b)} for b in (0, 800)],
        ["b 0 s/mm²", "b 800 s/mm²"],
    ),
    "b-value of GE": (
        [{"x00431039": ("GEMS_PARM_01", "IS", [b, 8, 0, 0])} for b in (0, 1000000800)],
        ["b 0 s/mm²", "b 800 s/mm²"],
    ),
    "b-value of Philips": (
        [{"x20011003": ("Philips Imaging DD 001", "FL", float(b))} for b in (0, 800)],
        ["b 0 s/mm²", "b 800 s/mm²"],
    ),
    "direction": (
        [{"DiffusionGradientOrientation": one} for one in ([0.0, 0, 1], [0.6, 0, 0.8])],
        ["gradient 0 0 1", "gradient 0.6 0 0.8"],
    ),
    "heart": (
        [{"NominalPercentageOfCardiacPhase": 30.0}, {"NominalPercentageOfCardiacPhase": 75.0}],
        ["cardiac phase 30 %", "cardiac phase 75 %"],
    ),
    "breath": (
        [{"NominalPercentageOfRespiratoryPhase": 0.0}, {"NominalPercentageOfRespiratoryPhase": 50.0}],
        ["respiratory phase 0 %", "respiratory phase 50 %"],
    ),
    "real": ([{"ImageType": IMAGE_TYPES["M"]}, {"ImageType": IMAGE_TYPES["R"]}], ["magnitude", "real"]),
    "Dixon": (
        [{"ImageType": ["ORIGINAL", "PRIMARY", "M", "DIXON", one]} for one in ("FAT", "WATER")],
        ["fat", "water"],
    ),
}
CT_ONLY = ("tube voltage", "kernel", "agent")


@pytest.mark.parametrize("direction", GRIDS)
@pytest.mark.parametrize("difference", DIFFERENCES)
def test_volumes_are_told_apart_by_whatever_differs(tmp_path, difference, direction):
    tags, words = DIFFERENCES[difference]
    # The second first: neither names of files nor InstanceNumber order them.
    for n in (1, 0):
        write(tmp_path / "s", n, grid_of(direction), "CT" if difference in CT_ONLY else "MR", **tags[n])
    text = refusal(tmp_path / "s")
    assert "found 2 volumes in one series" in text
    for n in (0, 1):
        assert words[n] in next(line for line in text.splitlines() if f"volume={n + 1}:" in line)
        array, sidecar = read(tmp_path / "s", f"volume={n + 1}")
        np.testing.assert_array_equal(array, values_of(n))
        assert words[n] in sidecar["volume"]
        array, _ = read(tmp_path / "s", f"volume~{words[n]}")
        np.testing.assert_array_equal(array, values_of(n))


INTERLEAVED = (
    "agent",
    "description",
    "frame",
    "time of content",
    "acquisition",
    "time point",
    "trigger time",
    "time",
    "echo time",
    "tube voltage",
    "b-value",
    "kernel",
)


@pytest.mark.parametrize("difference", INTERLEAVED)
@pytest.mark.parametrize("direction", ["LPS", "oblique"])
def test_volumes_half_a_slice_apart_never_become_one(tmp_path, difference, direction):
    """Each position is taken once, and the distances are even: only what differs says that there are two."""
    tags, _ = DIFFERENCES[difference]
    for n in (0, 1):
        write(tmp_path / "s", n, grid_of(direction, shift_mm=1.5 * n), "CT", **tags[n])
    assert "found 2 volumes" in refusal(tmp_path / "s")
    for n in (0, 1):
        np.testing.assert_array_equal(read(tmp_path / "s", f"volume={n + 1}")[0], values_of(n))


@pytest.mark.parametrize("difference", ["acquisition", "time", "echo time"])
@pytest.mark.parametrize("shift_mm", [0, -6])
def test_volumes_may_reach_differently_far(tmp_path, difference, shift_mm):
    tags, _ = DIFFERENCES[difference]
    write(tmp_path / "s", 0, grid_of(), **tags[0])
    write(tmp_path / "s", 1, grid_of(slices=9, shift_mm=shift_mm), **tags[1])
    text = refusal(tmp_path / "s")
    assert "6 slices" in text and "9 slices" in text
    np.testing.assert_array_equal(read(tmp_path / "s", "volume=1")[0], values_of(0))
    np.testing.assert_array_equal(read(tmp_path / "s", "volume=2")[0], values_of(1, 9))


@pytest.mark.parametrize("modality", ["CT", "MR"])
def test_steps_through_the_patient_are_one_volume(tmp_path, modality):
    tags = {"AcquisitionNumber": lambda k: k // 2 + 1, "AcquisitionTime": lambda k: f"1000{10 + k // 2}"}
    write(tmp_path / "s", 0, grid_of(), modality, **tags)
    array, sidecar = read(tmp_path / "s")
    np.testing.assert_array_equal(array, values_of(0))
    assert "volume" not in sidecar


def test_passes_of_an_mr_that_fill_each_others_gaps_are_one_volume(tmp_path):
    tags = {"AcquisitionNumber": lambda k: k % 2 + 1, "AcquisitionTime": lambda k: f"1000{10 + 20 * (k % 2)}"}
    write(tmp_path / "s", 0, grid_of(), **tags)
    np.testing.assert_array_equal(read(tmp_path / "s")[0], values_of(0))
    # Slices that would overlap by half were not taken so.
    write(tmp_path / "t", 0, grid_of(), **tags | {"SliceThickness": 6})
    assert "found 2 volumes" in refusal(tmp_path / "t")


def test_slices_that_all_have_a_time_of_their_own_are_one_volume(tmp_path):
    write(
        tmp_path / "s", 0, grid_of(), AcquisitionTime=lambda k: f"1000{(5 * k) % 6 + 10}", TriggerTime=lambda k: k % 5
    )
    np.testing.assert_array_equal(read(tmp_path / "s")[0], values_of(0))


def test_a_heart_that_beats_unevenly_is_ordered_by_time_at_each_position(tmp_path):
    for n in (2, 0, 1):
        write(tmp_path / "s", n, grid_of(), TriggerTime=lambda k, n=n: 300 * n + (k * 37) % 11)
    for n in range(3):
        array, sidecar = read(tmp_path / "s", f"volume={n + 1}")
        np.testing.assert_array_equal(array, values_of(n))
        assert sidecar["volume"] == f"trigger time {n + 1}, magnitude"


def test_two_properties_make_four_volumes(tmp_path):
    echoes = [{"EchoNumbers": n + 1, "EchoTime": 5.0 * (n + 1)} for n in (0, 1)]
    for n in range(4):
        write(tmp_path / "s", n, grid_of(), ImageType=IMAGE_TYPES["MR"[n // 2]], **echoes[n % 2])
    text = refusal(tmp_path / "s")
    assert "volume=4: echo 2, real, 6 slices" in text
    array, sidecar = read(tmp_path / "s", "volume~echo 1; volume~real")
    np.testing.assert_array_equal(array, values_of(2))
    assert sidecar["volume"] == "echo 1, real"
    assert "found 2 of 4 volumes for echo 1" in refusal(tmp_path / "s", "volume~echo 1")
    assert "found none of 4 volumes for echo" in refusal(tmp_path / "s", "volume~echo 12")
    assert "found none of 4 volumes for number 5" in refusal(tmp_path / "s", "volume=5")


def test_volumes_that_nothing_tells_apart_are_refused_whatever_their_instance_numbers(tmp_path):
    for n in (0, 1):
        write(tmp_path / "s", n, grid_of(), InstanceNumber=lambda k, n=n: 100 * n + k)
    for choice in ("", "volume=1"):
        assert "6 of 12 slices lie at the position of another" in refusal(tmp_path / "s", choice)
    assert "found one volume" in refusal(tmp_path / "s", "volume=2")


@pytest.mark.parametrize("when", ["101500", None])
def test_copies_sent_at_another_time_are_dropped(tmp_path, when, caplog):
    write(tmp_path / "s", 0, grid_of(), ContentTime="100000")
    for path in sorted((tmp_path / "s").iterdir()):
        copy = pydicom.dcmread(path)
        copy.SOPInstanceUID, copy.ContentTime = generate_uid(), when or copy.ContentTime
        copy.save_as(path.with_name(f"copy{path.name}"))
    np.testing.assert_array_equal(read(tmp_path / "s")[0], values_of(0))
    assert "6 of 12 slices are copies" in caplog.text


def test_a_slice_whose_header_differs_is_not_missed_by_nobody(tmp_path):
    """The last slice of one echo says another echo time, so that the echo would end a slice early."""
    for n in (0, 1):
        write(tmp_path / "s", n, grid_of(), EchoTime=lambda k, n=n: 99 if (k, n) == (5, 1) else 5 * (n + 1))
    for choice in ("volume=1", "volume=2", "volume=3"):
        assert "make a volume of one slice" in refusal(tmp_path / "s", choice)


PHASES = {
    "Siemens": {"ImageType": ["ORIGINAL", "PRIMARY", "P", "ND"]},
    "Philips": {"ImageType": ["ORIGINAL", "PRIMARY", "PHASE MAP", "P", "FFE"]},
    "GE": {"x0043102F": ("GEMS_PARM_01", "SS", 1)},
    "GE, imaginary": {"x0043102F": ("GEMS_PARM_01", "SS", 3)},
    "imaginary": {"ImageType": ["ORIGINAL", "PRIMARY", "I", "ND"]},
    "standard": {"ComplexImageComponent": "PHASE"},
}


@pytest.mark.parametrize("vendor", PHASES)
def test_phase_is_never_taken_silently(tmp_path, vendor):
    write(tmp_path / "s", 0, grid_of(), **PHASES[vendor])
    text = refusal(tmp_path / "s")
    assert "`dicom: allow: [phase]` takes it" in text
    array, sidecar = read(tmp_path / "s", allow=["phase"])
    np.testing.assert_array_equal(array, values_of(0))
    assert sidecar["volume"] == ("imaginary" if "imaginary" in vendor else "phase")


def test_magnitude_is_taken_from_beside_phase_and_both_are_named(tmp_path, caplog):
    for n, part in enumerate("MP"):
        for echo in (1, 2):
            write(
                tmp_path / "s",
                2 * n + echo,
                grid_of(),
                ImageType=IMAGE_TYPES[part],
                EchoNumbers=echo,
                EchoTime=5 * echo,
            )
    with caplog.at_level("INFO", logger="cohortmorph"):
        array, sidecar = read(tmp_path / "s", "volume~echo 2")
    np.testing.assert_array_equal(array, values_of(2))
    assert sidecar["volume"] == "echo 2, magnitude"
    assert "left out 1 other(s) in the folder: phase" in caplog.text
    assert "volume 2 of 2: echo 2, magnitude" in caplog.text
    array, sidecar = read(tmp_path / "s", "kind=phase; volume=2", allow=["phase"])
    np.testing.assert_array_equal(array, values_of(4))
    assert sidecar["volume"] == "echo 2, phase"
    text = refusal(tmp_path / "s", allow=["phase"])
    assert "2: echo 2, phase" in text and "2: echo 2, magnitude" in text


def test_the_listing_says_which_volume_is_which(tmp_path):
    for n, part in enumerate("MP"):
        for echo in (1, 2):
            write(tmp_path / "s", 2 * n + echo, grid_of(), ImageType=IMAGE_TYPES[part], EchoNumbers=echo)
    table = tmp_path / "cohort.tsv"
    table.write_text("subject\timage\tsource\nP01\tT1\ts\n")
    list_series.main(table, str(tmp_path), [("P01", "T1")], tmp_path / "list.tsv")
    listed = pd.read_csv(tmp_path / "list.tsv", sep="\t")
    assert listed["which_volume"].tolist() == [
        "1: echo 1, magnitude; 2: echo 2, magnitude",
        "1: echo 1, phase; 2: echo 2, phase",
    ]
    assert listed["kind"].tolist() == ["original", "phase"] and listed["volumes"].tolist() == [2, 2]


MAPS = ["ADC", "EADC", "FA", "T1 MAP", "T2_STAR_MAP", "T1_MAPPED", "R2", "CBF", "MTT", "B0 MAP", "VELOCITY MAP", "FF"]


@pytest.mark.parametrize("code", MAPS)
def test_computed_maps_are_never_taken_silently(tmp_path, code):
    write(tmp_path / "s", 0, grid_of(), ImageType=["ORIGINAL", "PRIMARY", code, "ND"])
    assert "`dicom: allow: [derived]` takes it" in refusal(tmp_path / "s")
    _, sidecar = read(tmp_path / "s", allow=["derived"])
    assert "map" in sidecar["volume"]


def test_a_map_among_its_source_images_is_another_candidate(tmp_path):
    for n, b_value in enumerate((0.0, 1000.0)):
        write(tmp_path / "s", n, grid_of(), DiffusionBValue=b_value)
    write(tmp_path / "s", 2, grid_of(), ImageType=["DERIVED", "PRIMARY", "DIFFUSION", "ADC"], DiffusionBValue=1000.0)
    np.testing.assert_array_equal(read(tmp_path / "s", "volume~b 1000")[0], values_of(1))
    np.testing.assert_array_equal(read(tmp_path / "s", "kind=derived", allow=["derived"])[0], values_of(2))


@pytest.mark.parametrize("mode", [0, 1, 2, 3, None])
def test_reversed_volumes_of_ge_are_refused(tmp_path, mode):
    tags = {"x0019109C": ("GEMS_ACQU_01", "LO", "research/ABCD/epi_pepolar")}
    tags |= {} if mode is None else {"x001910B3": ("GEMS_ACQU_01", "DS", f"{mode}.000000")}
    write(tmp_path / "s", 0, grid_of(), **tags)
    if mode == 0:
        np.testing.assert_array_equal(read(tmp_path / "s")[0], values_of(0))
    else:
        assert "rows are upside down" in refusal(tmp_path / "s", allow=["derived", "phase"])


def test_words_of_a_header_never_name_a_volume(tmp_path):
    for n in (0, 1):
        write(
            tmp_path / "s", n, grid_of(), "CT", ConvolutionKernel=f"DOE^JANE {n}",
            ImageType=["ORIGINAL", "PRIMARY", f"DOE{n} MAP"],
        )  # fmt: skip
    for options in ({}, {"allow": ["derived"]}):
        assert "DOE" not in refusal(tmp_path / "s", **options).upper()
    assert "DOE" not in str(read(tmp_path / "s", "volume=1", allow=["derived"])[1])


ANGLES = {"three": (0, 12, 25), "around one place": (0, 12, 25), "nearly alike": (0, 1, 2)}


@pytest.mark.parametrize("angles", ANGLES)
def test_angled_stacks_of_one_series_can_be_chosen(tmp_path, angles):
    for n, angle in enumerate(ANGLES[angles]):
        axes = Rotation.from_euler("x", angle, degrees=True).as_matrix()
        origin_mm = (-30.0, -30.0, 40.0 * n if angles == "three" else 0.0)
        write(tmp_path / "s", n, Grid((5, 4, 6), (1.5, 2.0, 3.0), origin_mm, tuple(axes.ravel())))
    text = refusal(tmp_path / "s")
    for n in (1, 2, 3):
        assert f"stack {n} with normal" in text
    found = [read(tmp_path / "s", f"stack={n}")[0] for n in (1, 2, 3)]
    if angles == "three":  # from the head down
        found = found[::-1]
    assert sorted(one.tobytes() for one in found) == sorted(values_of(n).tobytes() for n in range(3))
    if angles == "three":
        np.testing.assert_array_equal(found, [values_of(n) for n in range(3)])


def enhanced(folder, frames):
    """Write the slices of a folder as one enhanced file, `frames` functional groups for each in the order of names."""
    slices = [pydicom.dcmread(path) for path in sorted(folder.iterdir())]
    file = pydicom.Dataset(slices[0])
    file.file_meta = slices[0].file_meta
    file.SOPClassUID = file.file_meta.MediaStorageSOPClassUID = pydicom.uid.EnhancedMRImageStorage
    file.NumberOfFrames, file.PixelData = len(slices), b"".join(slice_.PixelData for slice_ in slices)
    file.SharedFunctionalGroupsSequence = [groups({})]
    file.PerFrameFunctionalGroupsSequence = [
        groups(
            {
                "PlanePositionSequence": {"ImagePositionPatient": slice_.ImagePositionPatient},
                "PlaneOrientationSequence": {"ImageOrientationPatient": slice_.ImageOrientationPatient},
                "PixelMeasuresSequence": {"PixelSpacing": slice_.PixelSpacing},
            }
            | frames(slice_)
        )
        for slice_ in slices
    ]
    for path in folder.iterdir():
        path.unlink()
    pydicom.dcmwrite(folder / "enhanced.dcm", file, enforce_file_format=True)


def groups(sequences):
    dataset = pydicom.Dataset()
    for sequence, values in sequences.items():
        item = pydicom.Dataset()
        for keyword, value in values.items():
            setattr(item, keyword, value)
        setattr(dataset, sequence, [item])
    return dataset


FRAMES = {  # what a frame says of volume n, and how the volumes are called
    "time point": (lambda n: {"FrameContentSequence": {"TemporalPositionIndex": n + 1}}, "time point {}"),
    "acquisition": (lambda n: {"FrameContentSequence": {"FrameAcquisitionNumber": n + 1}}, "acquisition {}"),
    "stack": (lambda n: {"FrameContentSequence": {"StackID": str(n + 1)}}, "stack {}"),
    "time": (
        lambda n: {"FrameContentSequence": {"FrameAcquisitionDateTime": f"2020010110000{n}.5"}},
        "time {}",
    ),
    "echo": (lambda n: {"MREchoSequence": {"EffectiveEchoTime": 5.0 * (n + 1)}}, "echo {}"),
    "b-value": (lambda n: {"MRDiffusionSequence": {"DiffusionBValue": 400.0 * (n + 1)}}, "b {}00 s/mm²"),
    "inversion": (lambda n: {"MRModifierSequence": {"InversionTimes": [100.0 * (n + 1)]}}, "inversion time {}00 ms"),
    "trigger": (
        lambda n: {"CardiacSynchronizationSequence": {"NominalCardiacTriggerDelayTime": 100.0 * (n + 1)}},
        "trigger time {}00 ms",
    ),
    "part": (
        lambda n: {"MRImageFrameTypeSequence": {"ComplexImageComponent": ("MAGNITUDE", "REAL", "MIXED")[n % 2]}},
        ("magnitude", "real"),
    ),
}


@pytest.mark.parametrize("difference", FRAMES)
def test_frames_are_told_apart_by_whatever_differs_and_decoded_at_most_twice(tmp_path, monkeypatch, difference):
    frame, words = FRAMES[difference]
    for n in (1, 0):
        write(tmp_path / "s", n, grid_of("oblique"), AcquisitionNumber=1, SeriesNumber=n)
    enhanced(tmp_path / "s", lambda slice_: frame(int(slice_.SeriesNumber)))
    decoded = []
    monkeypatch.setattr(pixels, "_decoded", lambda *all_, read=pixels._decoded: decoded.append(1) or read(*all_))
    for n in (0, 1):
        decoded.clear()
        array, sidecar = read(tmp_path / "s", f"volume={n + 1}")
        np.testing.assert_array_equal(array, values_of(n))
        said = words[n] if isinstance(words, tuple) else words.format(4 * (n + 1) if difference == "b-value" else n + 1)
        assert said in sidecar["volume"]
        # Where only times differ, pixels are compared before: equal ones would be copies.
        assert len(decoded) == (2 if difference in ("time", "trigger") else 1)


def test_frames_that_nothing_tells_apart_are_decoded_once(tmp_path, monkeypatch):
    for n in range(4):
        write(tmp_path / "s", n, grid_of())
    enhanced(tmp_path / "s", lambda _: {})
    decoded = []
    monkeypatch.setattr(pixels, "_decoded", lambda *all_, read=pixels._decoded: decoded.append(1) or read(*all_))
    assert "18 of 24 slices lie at the position of another" in refusal(tmp_path / "s")
    assert len(decoded) == 1


@pytest.mark.parametrize(("frame_type", "allow"), [("ADC", "derived"), ("PHASE", "phase")])
def test_frames_that_are_maps_or_phase_are_not_taken_silently(tmp_path, frame_type, allow):
    for n in (0, 1):
        write(tmp_path / "s", n, grid_of(), SeriesNumber=n)

    def frame(slice_):
        types = ["ORIGINAL", "PRIMARY", (frame_type if slice_.SeriesNumber else "M"), "NONE"]
        return {"MRImageFrameTypeSequence": {"FrameType": types}}

    enhanced(tmp_path / "s", frame)
    np.testing.assert_array_equal(read(tmp_path / "s")[0], values_of(0))
    np.testing.assert_array_equal(read(tmp_path / "s", f"kind={allow}", allow=[allow])[0], values_of(1))


def test_stacks_of_one_angle_beside_one_another_can_be_chosen(tmp_path):
    axes = Rotation.from_euler("x", 20, degrees=True).as_matrix()
    for n in (0, 1):
        grid = Grid((5, 4, 6), (1.5, 2.0, 3.0), (-30.0, -30.0, 50.0 * n), tuple(axes.ravel()))
        write(tmp_path / "s", n, grid)
    assert "stack 2 with normal" in refusal(tmp_path / "s")
    np.testing.assert_array_equal(read(tmp_path / "s", "stack=2")[0], values_of(0))
    np.testing.assert_array_equal(read(tmp_path / "s", "stack=1")[0], values_of(1))


def test_slices_reconstructed_side_by_side_may_share_a_second(tmp_path):
    write(tmp_path / "s", 0, grid_of(slices=8), "CT", ContentTime=lambda k: f"10000{(0, 1, 0, 0, 1, 1, 0, 1)[k]}")
    np.testing.assert_array_equal(read(tmp_path / "s")[0], values_of(0, 8))


def test_each_candidate_says_what_must_be_allowed(tmp_path):
    write(tmp_path / "s", 0, grid_of(), ImageType=["DERIVED", "PRIMARY", "P"])
    write(tmp_path / "s", 1, grid_of(), ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    text = refusal(tmp_path / "s")
    assert "allow: [derived, phase]` takes it" in text and "allow: [localizer]` takes it" in text


APART = {
    "beside, the same heights": [(-30.0, -30.0, 0.0), (20.0, -30.0, 0.0), (70.0, -30.0, 0.0)],
    "beside, heights that overlap": [(-30.0, -30.0, 4.5), (20.0, -30.0, 0.0), (-30.0, 40.0, -3.0)],
    "far above": [(0.0, 0.0, 120.0), (0.0, 0.0, 60.0), (0.0, 0.0, 0.0)],
}


@pytest.mark.parametrize("apart", APART)
@pytest.mark.parametrize("direction", GRIDS)
def test_stacks_of_one_angle_that_lie_apart_can_be_chosen(tmp_path, apart, direction):
    axes = GRIDS[direction]
    for n, place in enumerate(APART[apart]):
        grid = Grid((5, 4, 6), (1.5, 2.0, 3.0), tuple(axes @ place), tuple(axes.ravel()))
        write(tmp_path / "s", n, grid, "CT", AcquisitionTime="100000", ContentTime="100000")
    text = refusal(tmp_path / "s")
    places = {line.split("around")[1].split("mm")[0] for line in text.splitlines()[1:]}
    assert len(places) == 3 and "3 of 3 candidates" in text
    found = [read(tmp_path / "s", f"stack={n}")[0] for n in (1, 2, 3)]
    assert sorted(one.tobytes() for one in found) == sorted(values_of(n).tobytes() for n in range(3))


def test_a_gap_of_a_few_slices_makes_no_stacks(tmp_path):
    write(tmp_path / "s", 0, grid_of(slices=12), "CT")
    paths = sorted((tmp_path / "s").iterdir())
    for path in paths[5:8]:
        path.unlink()
    assert "slices are missing, 3 by the positions" in refusal(tmp_path / "s")


PROTOCOLS_APART = {
    "exposure": [{"XRayTubeCurrent": 100}, {"XRayTubeCurrent": 200}],
    "comments": [{"ImageComments": "early Doe"}, {"ImageComments": "late Doe"}],
    "time of the series": [{"SeriesTime": "100000"}, {"SeriesTime": "100500"}],
    "study": [{"StudyInstanceUID": "1.2.3"}, {"StudyInstanceUID": "1.2.4"}],
}
SAME_TIME = {"AcquisitionTime": "100000", "ContentTime": "100000"}


@pytest.mark.parametrize("difference", PROTOCOLS_APART)
@pytest.mark.parametrize("shift_mm", [0.0, 1.5])
def test_volumes_are_told_apart_by_what_else_differs_if_each_is_even(tmp_path, difference, shift_mm):
    for n, tags in enumerate(PROTOCOLS_APART[difference]):
        write(tmp_path / "s", n, grid_of(shift_mm=n * shift_mm), "CT", **SAME_TIME, **tags)
    text = refusal(tmp_path / "s")
    assert "found 2 volumes in one series" in text and "Doe" not in text
    found = [read(tmp_path / "s", f"volume={n}")[0] for n in (1, 2)]
    assert sorted(one.tobytes() for one in found) == sorted(values_of(n).tobytes() for n in range(2))


def test_an_exposure_that_follows_the_body_makes_no_volumes(tmp_path):
    write(tmp_path / "s", 0, grid_of(slices=9), "CT", **SAME_TIME, XRayTubeCurrent=lambda k: (100, 120, 90)[k * k % 3])
    np.testing.assert_array_equal(read(tmp_path / "s")[0], values_of(0, 9))


@pytest.mark.parametrize("shift_mm", [1.5, 18.0])
def test_slices_that_are_numbered_twice_are_two_volumes(tmp_path, shift_mm):
    """Unless they follow one another, as steps through the patient do."""
    for n in (0, 1):
        tags = SAME_TIME | {"InstanceNumber": lambda k: k + 1}
        write(tmp_path / "s", n, grid_of(shift_mm=n * shift_mm), "CT", **tags)
    if shift_mm < 3:
        assert "each InstanceNumber stands there 2 times" in refusal(tmp_path / "s")
    else:
        both = np.concatenate([values_of(0), values_of(1)], axis=2)
        np.testing.assert_array_equal(read(tmp_path / "s")[0], both)


def test_enhanced_files_of_one_frame_each_make_a_volume(tmp_path):
    """As Siemens' XA writes them: pydicom gives their pixels without an axis of frames."""
    write(tmp_path / "s", 0, grid_of())
    folders = []
    for n, path in enumerate(sorted((tmp_path / "s").iterdir())):
        folders.append(tmp_path / f"f{n}")
        folders[-1].mkdir()
        path.rename(folders[-1] / path.name)
        enhanced(folders[-1], lambda _: {})
    for n, folder in enumerate(folders):
        (folder / "enhanced.dcm").rename(tmp_path / "s" / f"{n}.dcm")
    np.testing.assert_array_equal(read(tmp_path / "s")[0], values_of(0))


@pytest.mark.parametrize("frames", [1, 5, 7])
def test_an_enhanced_file_that_miscounts_its_frames_is_refused(tmp_path, frames):
    write(tmp_path / "s", 0, grid_of())
    enhanced(tmp_path / "s", lambda _: {})
    file = pydicom.dcmread(tmp_path / "s/enhanced.dcm")
    file.NumberOfFrames = frames
    file.save_as(tmp_path / "s/enhanced.dcm")
    assert f"a file of {frames} frames describes 6" in refusal(tmp_path / "s")
