"""The scanners that see the phantom: their protocols, and the DICOM slices that come out of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from pydicom import uid

from cohortmorph.clinic.export import STORAGE, decimal, write_slices
from cohortmorph.run.files import StrPath, publishing_folder, write_table
from cohortmorph.spatial.geometry import Grid

CT_OFFSET = 1024  # added to HU before they are stored, as scanners do
PLACES = 9  # decimals of positions and directions
# What a header must say of how an MR image was taken, beside its protocol.
SPIN_ECHO = {
    "ScanningSequence": "SE",
    "SequenceVariant": "NONE",
    "ScanOptions": "",
    "MRAcquisitionType": "2D",
    "EchoTrainLength": 1,
}


@dataclass(frozen=True)
class Protocol:
    """How an image is taken.

    Attributes
    ----------
    modality : {"CT", "MR"}
    thickness_mm, distance_mm : float
        Of slices.
    intensities : dict of str to float
        Of each tissue; HU in a CT.
    noise : float
        Its standard deviation.
    bias : float
        How much brighter or darker the coils see a place, as the logarithm of the factor, at most.
    acquisition : dict of str to number
        What the header says of it: value by DICOM keyword.
    """

    modality: str
    thickness_mm: float
    distance_mm: float
    intensities: dict[str, float]
    noise: float
    bias: float
    acquisition: dict[str, float]


PROTOCOLS = {
    "CT": Protocol(
        "CT", 1.0, 1.0, {"air": -1000, "scalp": 40, "bone": 900, "CSF": 5, "GM": 45, "WM": 25}, 2.0, 0.0, {"KVP": 120}
    ),
    "T1": Protocol(
        "MR", 2.0, 1.0, {"air": 0, "scalp": 700, "bone": 40, "CSF": 150, "GM": 500, "WM": 800}, 16.0, 0.15,
        {"EchoTime": 10, "RepetitionTime": 500, "FlipAngle": 90, "MagneticFieldStrength": 3},
    ),
    "T2": Protocol(
        "MR", 2.0, 2.2, {"air": 0, "scalp": 300, "bone": 40, "CSF": 1000, "GM": 600, "WM": 350}, 20.0, 0.15,
        {"EchoTime": 100, "RepetitionTime": 4000, "FlipAngle": 90, "MagneticFieldStrength": 3},
    ),
}  # fmt: skip


def write_scan(
    values: np.ndarray,
    grid: Grid,
    protocol: Protocol,
    folder: StrPath,
    name: Sequence[str],
    rng: np.random.Generator,
    patient: str = "PHANTOM",
) -> None:
    """Write a folder of DICOM slices whose file names and instance numbers tell nothing of their order.

    Parameters
    ----------
    values : int16 array, indexed [i, j, k]
        HU for CT; not negative for MR.
    grid : Grid
    protocol : Protocol
    folder : str or Path
        Made, or replaced as a whole.
    name : sequence of str
        What the series is, for its UIDs and descriptions; the last word is the image.
    rng : numpy Generator
        Shuffles the slices.
    patient : str
        Patient's name; its part after ``^`` is the id.
    """
    names, numbers = rng.permutation(grid.size[2]), rng.permutation(grid.size[2])
    files = {
        f"IM{names[k] + 1:04d}.dcm": {
            "SOPInstanceUID": uid.generate_uid(entropy_srcs=["instance", *name, str(k)]),
            "InstanceNumber": int(numbers[k] + 1),
        }
        for k in range(grid.size[2])
    }
    offset = CT_OFFSET if protocol.modality == "CT" else 0
    stored = (values.astype(np.int32) + offset).astype(np.uint16)
    header = _study(protocol, name, patient) | _series(protocol, grid, offset)
    with publishing_folder(folder) as partial:
        write_slices(stored, grid, header, files, partial, places=PLACES)


def _study(protocol: Protocol, name: Sequence[str], patient: str) -> dict[str, Any]:
    """Return what a header says of patient, study and equipment; whoever reads it sees that it is a phantom."""
    return {
        **dict.fromkeys(("PatientBirthDate", "PatientSex", "ReferringPhysicianName", "AccessionNumber"), ""),
        "PositionReferenceIndicator": "",
        "PatientName": patient,
        "PatientID": patient.split("^")[-1],
        "PatientPosition": "HFS",
        "StudyInstanceUID": uid.generate_uid(entropy_srcs=["study", protocol.modality, *name[:-1]]),
        "SeriesInstanceUID": uid.generate_uid(entropy_srcs=["series", *name]),
        "FrameOfReferenceUID": uid.generate_uid(entropy_srcs=["frame", *name]),
        "StudyID": protocol.modality,
        "StudyDate": "20000101",
        "StudyTime": "120000",
        "StudyDescription": "Digital phantom, not a patient",
        "SeriesNumber": 1 + list(PROTOCOLS).index(name[-1]),
        "SeriesDescription": f"Phantom {name[-1]}",
        "AcquisitionNumber": 1,
        "Manufacturer": "CohortMorph phantom",
    }


def _series(protocol: Protocol, grid: Grid, offset: int) -> dict[str, Any]:
    """Return what a header says of how the image was taken and what its stored values mean."""
    header = {
        "SOPClassUID": STORAGE[protocol.modality],
        "Modality": protocol.modality,
        "SliceThickness": decimal(protocol.thickness_mm, PLACES),
        **protocol.acquisition,
    }
    if protocol.modality == "CT":
        values = {"RescaleIntercept": -offset, "RescaleSlope": 1, "RescaleType": "HU"}
        return header | values | {"ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"]}
    distance = {"SpacingBetweenSlices": decimal(grid.spacing_mm[2], PLACES)}
    return header | SPIN_ECHO | distance | {"ImageType": ["ORIGINAL", "PRIMARY", "OTHER"]}


def write_points(points_lps_mm: np.ndarray, letter: str, path: StrPath) -> None:
    """Write points, shape (n, 3), as a table of landmarks whose ids are the letter and a number from 01."""
    table = pd.DataFrame(points_lps_mm, columns=["x_lps_mm", "y_lps_mm", "z_lps_mm"])
    table.insert(0, "landmark", [f"{letter}{number:02d}" for number in range(1, len(table) + 1)])
    write_table(table, path)
