"""Real scans in every encoding have the same voxels and grid as their source, and therefore the same labels."""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydicom.uid import (
    UID,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
    generate_uid,
)

from heartseg.volume import Volume, count_frames, read_volume
from volume import dicom_files as make

pytestmark = pytest.mark.shared


@pytest.fixture(scope="module")
def weak(shared_data: Path) -> Volume:
    """The chest CT with weak contrast, HU, every fourth voxel in the plane."""
    whole = read_volume(shared_data / "scans" / "ct_chest_weak_contrast_3mm.nii.gz")
    geometry = whole.geometry
    array = np.ascontiguousarray(whole.array[:, ::4, ::4]).astype(np.int16)
    sx, sy, sz = geometry.spacing
    return Volume(array, replace(geometry, shape=array.shape, spacing=(4 * sx, 4 * sy, sz)), "weak", "CT")


def classic(folder: Path, volume: Volume, syntax: UID = ExplicitVRLittleEndian) -> Path:
    images = make.planes(volume)
    order = np.random.default_rng(0).permutation(len(images))
    return make.write_classic(folder, [images[k] for k in order], syntax=syntax)


def enhanced(folder: Path, volume: Volume, legacy: bool = False, shuffle: bool = False) -> Path:
    images = make.planes(volume)
    order = np.random.default_rng(0).permutation(len(images)) if shuffle else range(len(images))
    make.save(make.enhanced([images[k] for k in order], legacy=legacy), folder / "one.dcm")
    return folder


def rounded(folder: Path, volume: Volume) -> Path:
    images = make.planes(volume)
    for image in images:
        image.position = tuple(round(float(v), 2) for v in image.position)
    make.save(make.enhanced(images), folder / "one.dcm")
    return folder


def two_phases(folder: Path, volume: Volume, files: str) -> Path:
    """The scan as the second of two phases; the first is upside down."""
    series = generate_uid()
    first = make.planes(replace(volume, array=volume.array[::-1]))
    second = make.planes(volume)
    if files == "one each":
        for k, images in enumerate((first, second)):
            data = make.enhanced(images, series=series, frame=make.at_phase(40.0 + 35 * k))
            make.save(data, folder / f"{k}.dcm")
        return folder
    mixed = [image for pair in zip(first, second, strict=True) for image in pair]
    data = make.enhanced(mixed, frame=lambda k, _: make.cardiac(40.0 + 35 * (k % 2)))
    make.save(data, folder / "one.dcm")
    return folder


ENCODINGS: dict[str, Callable[[Path, Volume], Path]] = {
    "classic": classic,
    "enhanced": enhanced,
    "legacy-converted": lambda folder, volume: enhanced(folder, volume, legacy=True),
    "shuffled frames": lambda folder, volume: enhanced(folder, volume, shuffle=True),
    "rounded positions": rounded,
    "rle": lambda folder, volume: classic(folder, volume, RLELossless),
    "jpeg-ls": lambda folder, volume: classic(folder, volume, JPEGLSLossless),
    "jpeg 2000": lambda folder, volume: classic(folder, volume, JPEG2000Lossless),
    "jpeg lossless": lambda folder, volume: classic(folder, volume, JPEGLosslessSV1),
    "big endian": lambda folder, volume: classic(folder, volume, ExplicitVRBigEndian),
    "one file per phase": lambda folder, volume: two_phases(folder, volume, "one each"),
    "phases interleaved": lambda folder, volume: two_phases(folder, volume, "one"),
}


@pytest.mark.parametrize("name", ENCODINGS)
def test_the_weak_contrast_ct_has_the_same_voxels_in_every_encoding(weak: Volume, tmp_path: Path, name: str) -> None:
    folder = ENCODINGS[name](tmp_path / "scan", weak)
    frame = 1 if "phase" in name else None
    assert count_frames(folder) == (2 if frame else 1)
    volume = read_volume(folder, frame=frame)
    assert volume.geometry.same_grid(weak.geometry, 0.02 if name == "rounded positions" else 1e-3)
    np.testing.assert_array_equal(volume.array, weak.array)
    if frame:
        assert volume.source.phase == "75 % of the heart beat"


@pytest.mark.slow
def test_the_default_model_gives_the_same_labels_for_two_encodings(shared_data: Path, tmp_path: Path) -> None:
    from heartseg import segment

    whole = read_volume(shared_data / "scans" / "ct_chest_weak_contrast_3mm.nii.gz")
    whole = replace(whole, array=whole.array.astype(np.int16), modality="CT")
    expected = segment(whole).labels
    for name in ("rounded positions", "phases interleaved"):
        folder = ENCODINGS[name](tmp_path / name, whole)
        volume = read_volume(folder, frame=1 if "phase" in name else None)
        labels = segment(volume).labels
        for label in np.unique(expected[expected > 0]):
            a, b = labels == label, expected == label
            assert 2 * np.count_nonzero(a & b) / (np.count_nonzero(a) + np.count_nonzero(b)) >= 0.999


def test_a_short_axis_study_as_the_scanner_stored_it_is_one_stack_over_time(shared_data: Path) -> None:
    folder = shared_data / "dicom" / "bivme-patient1-sax"
    with (folder / "volumes_of_the_fit.csv").open(newline="") as file:
        assert count_frames(folder) == len(list(csv.DictReader(file))) == 25
    first, last = (read_volume(folder, frame=k) for k in (0, 24))
    assert first.geometry == last.geometry
    assert first.geometry.size == (256, 208, 6)
    assert first.geometry.spacing == pytest.approx((1.40625, 1.40625, 17.7), abs=1e-3)
    assert (first.array != last.array).any()
    assert [f.code for f in first.findings] == ["slices-joined", "phase-taken", "slices-thick"]
    assert last.source.phase == "25 of 25, 745 to 828 ms after the R wave"
    assert last.source.reading is not None and len(last.source.reading.joined) == 6
