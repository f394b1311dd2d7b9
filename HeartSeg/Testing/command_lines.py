"""Helpers for tests of the command line: input files, the environment of a child process, folder content."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil

LOGIC = Path(__file__).resolve().parents[1] / "Logic"
PATIENCE = 240.0  # time limit on a busy machine for about ten seconds of work
NRRD_HEAD = (
    "NRRD0004\ntype: short\ndimension: 3\nspace: left-posterior-superior\nsizes: 30 30 30\n"
    "space directions: {directions}\nkinds: domain domain domain\nendian: little\nencoding: raw\n"
    "space origin: (0,0,0)\n\n"
)


def patched_nifti(path: Path, changes: dict[int, bytes]) -> Path:
    """Replace bytes in the header of an uncompressed NIfTI file: offset -> bytes."""
    content = bytearray(path.read_bytes())
    for offset, value in changes.items():
        content[offset : offset + len(value)] = value
    path.write_bytes(content)
    return path


def write_time_series(path: Path, images: list) -> Path:
    """Write SimpleITK images as the frames of one file."""
    import SimpleITK as sitk

    sitk.WriteImage(sitk.JoinSeries(images), str(path))
    return path


def write_dicom(
    folder: Path, array: np.ndarray, spacing: float, *, number: int = 1, patient: str = "P", study: str = "1.2.3"
) -> Path:
    """Write a CT series with one file per slice into a new folder."""
    import pydicom
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

    folder.mkdir(parents=True, exist_ok=True)
    series = generate_uid()
    for k, pixels in enumerate(array):
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = CTImageStorage, generate_uid()
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        path = folder / f"s{number}_{k:03}.dcm"
        data = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
        data.SOPClassUID, data.SOPInstanceUID = CTImageStorage, meta.MediaStorageSOPInstanceUID
        data.StudyInstanceUID, data.SeriesInstanceUID, data.FrameOfReferenceUID = study, series, f"{study}.9"
        data.Modality, data.SeriesNumber, data.SeriesDescription = "CT", number, f"series {number}"
        data.InstanceNumber, data.PatientName, data.PatientID = k + 1, patient, patient
        data.ImageOrientationPatient, data.ImagePositionPatient = [1, 0, 0, 0, 1, 0], [-80.0, -80.0, spacing * k]
        data.PixelSpacing, data.SliceThickness = [spacing, spacing], spacing
        data.RescaleSlope, data.RescaleIntercept = 1, -1024
        (data.Rows, data.Columns), data.SamplesPerPixel = pixels.shape, 1
        data.PhotometricInterpretation, data.PixelRepresentation = "MONOCHROME2", 0
        data.BitsAllocated, data.BitsStored, data.HighBit = 16, 16, 15
        data.PixelData = (pixels.astype(np.int32) + 1024).astype(np.uint16).tobytes()
        pydicom.dcmwrite(path, data, enforce_file_format=True)
    return folder


def environment() -> dict[str, str]:
    """Environment of a child process: this package, one thread."""
    path = os.environ.get("PYTHONPATH", "")
    own = path if str(LOGIC) in path.split(os.pathsep) else str(LOGIC)
    return {**os.environ, "PYTHONPATH": own, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}


def tree(folder: Path) -> set[str]:
    """All files and folders below a folder, including hidden ones."""
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*")}


def worker_of(pid: int) -> psutil.Process:
    """Return the child process of a command that reads and segments, once it has started."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        children = psutil.Process(pid).children()
        if found := next((p for p in children if "spawn_main" in " ".join(p.cmdline())), None):
            return found
        time.sleep(0.01)
    raise AssertionError("no child process has started")


def end_by(signal_number: int, *given: Any) -> None:
    """End a child process by a signal while it reads a scan; the last of the given values is its reporter."""
    with given[-1].stage("read"):
        os.kill(os.getpid(), signal_number)
        threading.Event().wait(PATIENCE)
