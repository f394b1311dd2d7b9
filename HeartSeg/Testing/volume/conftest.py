"""Small scans created by the tests, as arrays, files and DICOM series."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from heartseg.volume import Geometry, Volume, write_volume

GRID = Geometry((40, 36, 44), (2.0, 2.5, 2.25), (-30.0, 12.5, 100.0))


@pytest.fixture
def scan() -> Volume:
    """Return an int16 scan of noise, 88 x 90 x 90 mm."""
    array = np.random.default_rng(7).integers(-1000, 1500, GRID.shape).astype(np.int16)
    return Volume(array, GRID, "scan")


@pytest.fixture
def saved(tmp_path: Path, scan: Volume) -> Callable[..., Path]:
    """Return a function that writes the scan (or another array on its grid) under a name and returns the path."""

    def save(name: str = "scan.nii.gz", array: np.ndarray | None = None) -> Path:
        values = scan.array if array is None else array
        return write_volume(Volume(values, scan.geometry), tmp_path / name)

    return save


@pytest.fixture
def dicom_series(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes a CT series slice by slice into ``tmp_path/dicom`` and returns the folder."""

    def make(
        slices: int = 30,
        step: float = 3.0,
        positions: list[float] | None = None,
        number: int = 1,
        folder: str = "dicom",
        shift_per_slice: float = 0.0,
        per_slice: Callable[[int], dict] | None = None,
        uid: str | None = None,
        **tags: object,
    ) -> Path:
        target = tmp_path / folder
        target.mkdir(exist_ok=True, parents=True)
        uid = uid or generate_uid()
        heights = positions if positions is not None else [step * k for k in range(slices)]
        order = np.random.default_rng(number).permutation(len(heights))  # file names do not indicate the order
        for k, height in enumerate(heights):
            own = {"ImagePositionPatient": [-40.0, -50.0 + shift_per_slice * k, height], **tags}
            own.update(per_slice(k) if per_slice else {})
            _write_slice(target / f"s{number}_{order[k]:03}.dcm", k, height, number, uid, own)
        return target

    return make


def _write_slice(path: Path, k: int, height: float, number: int, uid: str, tags: dict) -> None:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    data.SOPClassUID, data.SOPInstanceUID = CTImageStorage, meta.MediaStorageSOPInstanceUID
    data.StudyInstanceUID, data.SeriesInstanceUID, data.FrameOfReferenceUID = "1.2.3", uid, "1.2.4"
    data.Modality, data.SeriesNumber, data.SeriesDescription = "CT", number, f"series {number}"
    data.InstanceNumber, data.PatientName, data.PatientID = k + 1, "Test", "T"
    data.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    data.PixelSpacing, data.SliceThickness = [2.5, 2.0], 3.0
    data.RescaleSlope, data.RescaleIntercept = 1, -1024
    pixels = np.random.default_rng(k).integers(0, 2000, (36, 44)).astype(np.uint16)
    pixels[0, 0] = 24 + round(height)  # in HU: -1000 + height, to check the order
    data.Rows, data.Columns, data.SamplesPerPixel = 36, 44, 1
    data.PhotometricInterpretation, data.PixelRepresentation = "MONOCHROME2", 0
    data.BitsAllocated, data.BitsStored, data.HighBit = 16, 16, 15
    data.PixelData = pixels.tobytes()
    for name, value in tags.items():
        setattr(data, name, value)
    pydicom.dcmwrite(path, data, enforce_file_format=True)
