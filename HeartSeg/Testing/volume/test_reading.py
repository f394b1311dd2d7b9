"""Image files: valid files are read as stored, damaged files are refused with one line and no other output."""

from __future__ import annotations

import gzip
import hashlib
import os
import struct
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk

from heartseg.errors import InputError
from heartseg.volume import Volume, count_frames, read_volume, write_volume

SUFFIXES = [".nii", ".nii.gz", ".nrrd", ".mha"]


def refused(path: Path, *words: str, **options: Any) -> str:
    with pytest.raises(InputError) as caught:
        read_volume(path, **options)
    text = str(caught.value)
    assert "\n" not in text
    assert path.name in text
    for word in words:
        assert word in text
    return text


def codes(volume: Volume) -> list[str]:
    return [finding.code for finding in volume.findings]


def patched(path: Path, offset: int, layout: str, *values: float) -> Path:
    """Write a NIfTI-1 file with some header bytes overwritten."""
    packed = path.name.endswith(".gz")
    data = bytearray(gzip.decompress(path.read_bytes()) if packed else path.read_bytes())
    struct.pack_into("<" + layout, data, offset, *values)
    path.write_bytes(gzip.compress(bytes(data)) if packed else bytes(data))
    return path


def series_4d(path: Path, frames: np.ndarray) -> Path:
    image = sitk.GetImageFromArray(frames, isVector=False)
    image.SetSpacing((2.0, 2.5, 2.25, 40.0))
    sitk.WriteImage(image, str(path))
    return path


@pytest.fixture
def beating(scan: Volume) -> np.ndarray:
    """Four int16 frames (t, z, y, x)."""
    return np.stack([scan.array + k for k in range(4)])


# --- valid files ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_scan_comes_back_as_it_was_written(saved: Callable[..., Path], scan: Volume, suffix: str) -> None:
    path = saved(f"patient.01{suffix}")
    volume = read_volume(path)
    np.testing.assert_array_equal(volume.array, scan.array)
    assert volume.array.dtype == np.int16
    assert volume.geometry.same_grid(scan.geometry, 1e-4)
    assert volume.name == "patient.01"
    assert volume.modality == ""
    assert volume.findings == ()
    assert volume.source.path == str(path)
    assert volume.source.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("suffix", [".mhd", ".nhdr"])
def test_a_header_with_its_voxels_in_another_file_is_read(tmp_path: Path, scan: Volume, suffix: str) -> None:
    image = sitk.GetImageFromArray(scan.array)
    image.SetSpacing(scan.geometry.spacing)
    sitk.WriteImage(image, str(tmp_path / f"scan{suffix}"))
    volume = read_volume(tmp_path / f"scan{suffix}")
    np.testing.assert_array_equal(volume.array, scan.array)
    data = next(p for p in tmp_path.iterdir() if p.suffix != suffix)
    both = (tmp_path / f"scan{suffix}").read_bytes() + data.read_bytes()
    assert volume.source.sha256 == hashlib.sha256(both).hexdigest()
    data.unlink()
    refused(tmp_path / f"scan{suffix}", "not there")


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.float32])
def test_the_stored_dtype_is_kept(saved: Callable[..., Path], scan: Volume, dtype: type[np.generic]) -> None:
    array = np.abs(scan.array).astype(dtype)
    assert read_volume(saved("scan.nii.gz", array)).array.dtype == dtype


def test_the_array_can_be_written_to_and_outlives_the_image(saved: Callable[..., Path], scan: Volume) -> None:
    volume = read_volume(saved())
    others = [read_volume(saved("other.nrrd", scan.array * 0 + scan.array[::-1])) for _ in range(3)]
    volume.array[0, 0, 0] = 7
    assert volume.array[0, 0, 0] == 7
    np.testing.assert_array_equal(volume.array[1:], scan.array[1:])
    assert len(others) == 3


def test_the_modality_can_be_given(saved: Callable[..., Path]) -> None:
    assert read_volume(saved(), modality="MR").modality == "MR"
    with pytest.raises(InputError, match="'PET'"):
        read_volume(saved(), modality="PET")


def test_a_misnamed_uncompressed_file_is_still_read(saved: Callable[..., Path], scan: Volume) -> None:
    path = saved("scan.nii").rename(saved("scan.nii").with_name("really.nii.gz"))
    np.testing.assert_array_equal(read_volume(path).array, scan.array)


def test_an_oblique_left_handed_grid_is_kept(tmp_path: Path, scan: Volume) -> None:
    turn = np.array([[0.8, -0.6, 0], [0.6, 0.8, 0], [0, 0, -1.0]])
    oblique = replace(scan, geometry=replace(scan.geometry, direction=tuple(turn.ravel())))
    for suffix in SUFFIXES:
        write_volume(oblique, tmp_path / f"o{suffix}")
        assert read_volume(tmp_path / f"o{suffix}").geometry.same_grid(oblique.geometry, 1e-4)


# --- time series ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_one_frame_of_a_time_series_is_read(tmp_path: Path, beating: np.ndarray, suffix: str) -> None:
    path = series_4d(tmp_path / f"cine{suffix}", beating)
    assert count_frames(path) == 4
    volume = read_volume(path, frame=2)
    assert (volume.source.frame, volume.source.frames, volume.source.cardiac_cycle) == (2, 4, False)
    np.testing.assert_array_equal(volume.array, beating[2])
    assert volume.source.frame == 2
    refused(path, "4 frames", "--frame N", "--frame all")
    refused(path, "no frame 4", "0 to 3", frame=4)


def test_one_frame_of_a_sequence_stored_voxel_by_voxel_is_read(tmp_path: Path, beating: np.ndarray) -> None:
    header = (
        "NRRD0004\ntype: short\ndimension: 4\nspace: left-posterior-superior\nsizes: 4 44 36 40\n"
        "space directions: none (2,0,0) (0,2.5,0) (0,0,2.25)\nkinds: list domain domain domain\n"
        "endian: little\nencoding: raw\nspace origin: (0,0,0)\n\n"
    )
    path = tmp_path / "heart.seq.nrrd"
    path.write_bytes(header.encode() + np.moveaxis(beating, 0, -1).tobytes())
    assert count_frames(path) == 4
    volume = read_volume(path, frame=1)
    np.testing.assert_array_equal(volume.array, beating[1])
    assert volume.geometry.spacing == (2.0, 2.5, 2.25)
    refused(path, "4 frames")


def test_a_plain_volume_has_one_frame(saved: Callable[..., Path], scan: Volume) -> None:
    assert count_frames(saved()) == 1
    np.testing.assert_array_equal(read_volume(saved(), frame=0).array, scan.array)
    refused(saved(), "no frame 3", "one frame only", frame=3)


def test_a_time_series_of_one_frame_is_a_plain_volume(tmp_path: Path, beating: np.ndarray) -> None:
    path = series_4d(tmp_path / "one.nii.gz", beating[:1])
    assert read_volume(path).source.frame is None


# --- files that are not scans -----------------------------------------------------------------------------------------


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    refused(tmp_path / "nothing.nii.gz", "does not exist")


@pytest.mark.parametrize("name", ["empty.nii.gz", "empty.nrrd", "empty.dcm"])
def test_an_empty_file_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    refused(tmp_path / name, "empty (0 bytes)")


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "void").mkdir()
    refused(tmp_path / "void", "is empty")


@pytest.mark.parametrize("name", ["notes.txt", "noextension"])
def test_a_file_of_another_kind_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"just some words " * 20)
    refused(tmp_path / name, ".nii.gz", ".nrrd", "DICOM")


@pytest.mark.parametrize("suffix", [*SUFFIXES, ".mhd", ".nhdr", ".dcm"])
def test_words_under_the_name_of_an_image_are_refused(
    tmp_path: Path, suffix: str, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / f"words{suffix}"
    path.write_bytes(b"just some words " * 50)
    refused(path)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_2d_image_is_refused(tmp_path: Path, scan: Volume, suffix: str) -> None:
    sitk.WriteImage(sitk.GetImageFromArray(scan.array[0]), str(tmp_path / f"flat{suffix}"))
    refused(tmp_path / f"flat{suffix}", "2D image", "44x36")
    sitk.WriteImage(sitk.GetImageFromArray(scan.array[:1]), str(tmp_path / f"one{suffix}"))
    refused(tmp_path / f"one{suffix}", "2D image")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_vectors_and_colours_are_refused(tmp_path: Path, scan: Volume, suffix: str) -> None:
    colours = np.stack([scan.array.astype(np.uint8)] * 3, axis=-1)
    sitk.WriteImage(sitk.GetImageFromArray(colours, isVector=True), str(tmp_path / f"rgb{suffix}"))
    refused(tmp_path / f"rgb{suffix}", "3 values a voxel")


def test_complex_numbers_are_refused(tmp_path: Path, scan: Volume) -> None:
    sitk.WriteImage(sitk.GetImageFromArray(scan.array.astype(np.complex64)), str(tmp_path / "k.nii.gz"))
    refused(tmp_path / "k.nii.gz", "complex", "magnitude")


def test_a_constant_file_is_refused(saved: Callable[..., Path], scan: Volume) -> None:
    with pytest.raises(InputError, match="every voxel of 'blank' is 0"):
        read_volume(saved("blank.nii.gz", np.zeros_like(scan.array)))


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_nan_in_a_file_are_replaced_by_the_lowest_value_and_reported(
    saved: Callable[..., Path], scan: Volume, suffix: str, dtype: type[np.generic]
) -> None:
    array = scan.array.astype(dtype)
    array[5, 5, 5], array[39, 35, 43] = np.nan, np.inf
    volume = read_volume(saved(f"holes{suffix}", array))
    assert codes(volume) == ["nan-replaced"]
    assert volume.findings[0].values["voxels"] == 2
    assert volume.array.dtype == dtype
    array[5, 5, 5] = array[39, 35, 43] = scan.array.min()
    np.testing.assert_array_equal(volume.array, array)


def test_nan_in_another_frame_do_not_matter(tmp_path: Path, beating: np.ndarray) -> None:
    frames = beating.astype(np.float32)
    frames[1, 3, 4, 5] = np.nan
    path = series_4d(tmp_path / "cine.nii.gz", frames)
    assert codes(read_volume(path, frame=0)) == []
    volume = read_volume(path, frame=1)
    assert codes(volume) == ["nan-replaced"]
    assert volume.array[3, 4, 5] == beating[1].min()


def test_a_file_full_of_nan_is_refused(saved: Callable[..., Path], scan: Volume) -> None:
    array = scan.array.astype(np.float32)
    array[:20] = np.nan
    with pytest.raises(InputError, match=r"50\.0%.* NaN"):
        read_volume(saved("holes.nii", array))


# --- truncated and damaged files --------------------------------------------------------------------------------------


@pytest.mark.parametrize("keep", [0.002, 0.3, 0.999])
@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("compressed", [True, False])
def test_a_file_cut_short_is_refused(
    tmp_path: Path, scan: Volume, suffix: str, compressed: bool, keep: float, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / f"cut{suffix}"
    sitk.WriteImage(sitk.GetImageFromArray(scan.array), str(path), compressed)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep)])
    refused(path)
    assert capfd.readouterr() == ("", ""), "ITK's own complaints must not reach the console"


def test_a_whole_archive_with_half_the_voxels_is_refused(saved: Callable[..., Path]) -> None:
    path = saved()
    data = gzip.decompress(path.read_bytes())
    path.write_bytes(gzip.compress(data[: len(data) // 2]))
    refused(path, "cut short", f"{len(data)} bytes", f"{len(data) // 2} are there")


def test_a_damaged_archive_is_refused(tmp_path: Path, scan: Volume) -> None:
    path = write_volume(scan, tmp_path / "bad.nii.gz")
    data = bytearray(path.read_bytes())
    data[-6] ^= 0xFF  # the checksum; nothing else shows that a voxel changed
    path.write_bytes(data)
    refused(path, "damaged")


# --- broken geometry --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("bad", [0.0, -0.7, float("nan")])
def test_a_nifti_spacing_that_is_not_positive_is_refused(saved: Callable[..., Path], suffix: str, bad: float) -> None:
    path = patched(saved(f"flat{suffix}"), 80, "3f", bad, 0.7, 0.7)
    refused(path, f"spacing of 'flat{suffix}' is ({bad:.4g}, 0.7, 0.7) mm: every entry must be positive")


@pytest.mark.parametrize("bad", ["0", "-2", "nan"])
def test_a_nrrd_or_metaimage_spacing_that_is_not_positive_is_refused(
    tmp_path: Path, scan: Volume, bad: str, capfd: pytest.CaptureFixture[str]
) -> None:
    nrrd = (
        f"NRRD0004\ntype: short\ndimension: 3\nsizes: 44 36 40\nspacings: {bad} 1 1\nendian: little\nencoding: raw\n\n"
    )
    (tmp_path / "s.nrrd").write_bytes(nrrd.encode() + scan.array.tobytes())
    refused(tmp_path / "s.nrrd", "every entry must be positive")
    meta = f"ObjectType = Image\nNDims = 3\nElementSpacing = {bad} 1 1\nDimSize = 44 36 40\nElementType = MET_SHORT\n"
    (tmp_path / "s.mha").write_bytes((meta + "ElementDataFile = LOCAL\n").encode() + scan.array.tobytes())
    refused(tmp_path / "s.mha", "every entry must be positive")
    assert capfd.readouterr() == ("", "")


def sform(path: Path, rows: list[list[float]], qform: int = 0) -> Path:
    patched(path, 252, "hh", qform, 1)
    return patched(path, 280, "12f", *np.ravel(rows))


def test_a_singular_sform_is_refused(saved: Callable[..., Path]) -> None:
    refused(sform(saved(), [[2, 2, 0, 0], [2, 2, 0, 0], [0, 0, 2, 0]]), "singular")


def test_a_slightly_sheared_sform_is_straightened_and_reported(saved: Callable[..., Path], scan: Volume) -> None:
    path = sform(saved(), [[2, 0, 0.04, 0], [0, 2.5, 0, 0], [0, 0, 2.25, 0]])
    volume = read_volume(path)
    assert codes(volume) == ["direction-sheared"]
    np.testing.assert_array_equal(volume.array, scan.array)
    assert volume.geometry.orientation == "RAS"
    # the centre stays: index (z, y, x) = (19.5, 17.5, 21.5), and the sform is RAS
    np.testing.assert_allclose(volume.geometry.center(), [-(43 + 0.78), -43.75, 43.875], atol=1e-3)
    assert "ITK_NIFTI_SFORM_PERMISSIVE" not in os.environ


def test_a_grossly_sheared_sform_is_refused(saved: Callable[..., Path]) -> None:
    with pytest.raises(InputError, match=r"sheared by 24\.0°"):
        read_volume(sform(saved(), [[2, 0, 1, 0], [0, 2.5, 0, 0], [0, 0, 2.25, 0]]))


@pytest.mark.parametrize(
    ("directions", "expected"),
    [
        ("(2,0,0) (0,2.5,0) (0.03,0,2.25)", None),
        ("(2,0,0) (0,2.5,0) (1,0,2.25)", "sheared"),
        ("(2,0,0) (2,0,0) (0,0,2.25)", "singular"),
        ("(0,0,0) (0,2.5,0) (0,0,2.25)", "every entry must be positive"),
    ],
)
def test_space_directions_of_a_nrrd_are_judged(
    tmp_path: Path, scan: Volume, directions: str, expected: str | None
) -> None:
    header = (
        "NRRD0004\ntype: short\ndimension: 3\nspace: left-posterior-superior\nsizes: 44 36 40\n"
        f"space directions: {directions}\nkinds: domain domain domain\nendian: little\nencoding: raw\n\n"
    )
    (tmp_path / "d.nrrd").write_bytes(header.encode() + scan.array.tobytes())
    if expected is None:
        assert codes(read_volume(tmp_path / "d.nrrd")) == ["direction-sheared"]
    else:
        with pytest.raises(InputError, match=expected):
            read_volume(tmp_path / "d.nrrd")


def test_a_file_without_orientation_is_read_and_reported(saved: Callable[..., Path]) -> None:
    assert codes(read_volume(patched(saved(), 252, "hh", 0, 0))) == ["orientation-unknown"]


def test_a_header_that_contradicts_itself_is_reported(saved: Callable[..., Path]) -> None:
    path = sform(saved(), [[3, 0, 0, 0], [0, 3, 0, 0], [0, 0, 3, 0]])
    assert "spacing-disagrees" in codes(read_volume(path))


# --- memory -----------------------------------------------------------------------------------------------------------


def test_importing_the_room_does_not_import_simpleitk(repository: Path) -> None:
    program = "import heartseg.volume, sys; sys.exit('SimpleITK' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": str(repository / "HeartSeg" / "Logic")}
    assert subprocess.run([sys.executable, "-c", program], env=environment, check=False).returncode == 0


def test_real_scans_are_read_as_they_are(shared_data: Path) -> None:
    expected = {
        "ct_chest_arterial_windowed_uint8.nii.gz": ((133, 256, 256), np.uint8, ["grey-values-8-bit"]),
        "ct_chest_weak_contrast_3mm.nii.gz": ((102, 512, 512), np.int16, []),
        "bivme_patient1_SAX_frame00_img.nii.gz": ((6, 208, 256), np.int16, ["slices-thick"]),
        "mr_sunnybrook/SC-HF-I-01_phase.nii.gz": ((9, 256, 256), np.int16, ["slices-thick"]),
        "ct_chest_arterial_windowed_uint8_reference.nii.gz": ((133, 256, 256), np.uint8, ["looks-like-labels"]),
    }
    for name, (shape, dtype, findings) in expected.items():
        volume = read_volume(shared_data / "scans" / name)
        assert (volume.array.shape, volume.array.dtype, codes(volume)) == (shape, dtype, findings)


def test_voxels_lie_where_simpleitk_puts_them(shared_data: Path) -> None:
    path = shared_data / "scans" / "bivme_patient1_SAX_frame00_img.nii.gz"
    image, volume = sitk.ReadImage(str(path)), read_volume(path)
    for index in [(0, 0, 0), (5, 100, 30), (2, 207, 255)]:
        there = image.TransformIndexToPhysicalPoint(index[::-1])
        np.testing.assert_allclose(volume.geometry.index_to_world(index), there, atol=1e-6)
        assert volume.array[index] == image[index[::-1]]
