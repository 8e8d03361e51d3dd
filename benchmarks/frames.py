"""How the time to read an enhanced multi-frame file grows with its frames.

    python benchmarks/frames.py [FRAMES ...]      made files, of 200 to 6600 frames of 64 × 64 if none are given

A file holds volumes of 25 slices, which either the header tells apart (time points) or nothing does, so that all pixels
have to be compared before it is refused. Ratios to the first file are printed: time per frame should not grow. All are
measured in one run, in processor time, the best of three.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
import pydicom
from convert import best_seconds
from pydicom.uid import EnhancedMRImageStorage, ExplicitVRLittleEndian, generate_uid

from cohortmorph import UserError
from cohortmorph.clinic.reader import read_series

SLICES, SIDE = 25, 64


def item(**values):
    """Return a sequence of one item."""
    dataset = pydicom.Dataset()
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    return [dataset]


def write_file(path, frames, are_told_apart):
    """Write an enhanced MR of so many frames."""
    file = pydicom.Dataset()
    file.file_meta = pydicom.dataset.FileMetaDataset()
    file.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    file.SOPClassUID = file.file_meta.MediaStorageSOPClassUID = EnhancedMRImageStorage
    file.SOPInstanceUID = file.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    file.SeriesInstanceUID, file.Modality, file.ImageType = "1.2.3", "MR", ["ORIGINAL", "PRIMARY", "M", "NONE"]
    file.Rows = file.Columns = SIDE
    file.NumberOfFrames, file.SamplesPerPixel, file.PhotometricInterpretation = frames, 1, "MONOCHROME2"
    file.BitsAllocated, file.BitsStored, file.HighBit, file.PixelRepresentation = 16, 16, 15, 0
    shared = pydicom.Dataset()
    shared.PlaneOrientationSequence = item(ImageOrientationPatient=[1, 0, 0, 0, 1, 0])
    shared.PixelMeasuresSequence = item(PixelSpacing=[2, 2], SliceThickness=3)
    file.SharedFunctionalGroupsSequence = [shared]
    groups = []
    for n in range(frames):
        frame = pydicom.Dataset()
        frame.PlanePositionSequence = item(ImagePositionPatient=[0, 0, 3 * (n % SLICES)])
        frame.FrameContentSequence = item(TemporalPositionIndex=n // SLICES + 1 if are_told_apart else 1)
        groups.append(frame)
    file.PerFrameFunctionalGroupsSequence = groups
    file.PixelData = np.random.default_rng(0).integers(0, 4000, (frames, SIDE, SIDE)).astype(np.uint16).tobytes()
    pydicom.dcmwrite(path, file, enforce_file_format=True)


def read(folder, choice):
    """Read the folder, whether or not it is refused."""
    try:
        read_series(folder, "made", choice)
    except UserError:
        return


def main():
    """Time the files, and print time per frame as a ratio to that of the first."""
    counts = [int(word) for word in sys.argv[1:]] or [200, 800, 3200, 6600]
    for are_told_apart in (True, False):
        first = None
        for frames in counts:
            with tempfile.TemporaryDirectory() as folder:
                write_file(Path(folder, "made.dcm"), frames, are_told_apart)
                seconds = best_seconds(lambda folder=folder: read(folder, "volume=2"))
            first = first or seconds / frames
            kind = "time points" if are_told_apart else "told apart by nothing"
            print(f"{kind}\t{frames} frames\t{seconds:.2f} s\tper frame, to the first: {seconds / frames / first:.2f}")


if __name__ == "__main__":
    main()
