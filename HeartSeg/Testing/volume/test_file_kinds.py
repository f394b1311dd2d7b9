"""Kinds of damaged or unusual image files: correct voxels and positions, a warning, or a refusal in one line."""

from __future__ import annotations

import bz2
import gzip
import os
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk

from heartseg.errors import InputError
from heartseg.volume import Volume, read_volume
from heartseg.volume.headers import numbered_files

SHAPE = (40, 36, 44)


def refusal(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        read_volume(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def codes(volume: Volume) -> set[str]:
    return {finding.code for finding in volume.findings}


# --- NIfTI ------------------------------------------------------------------------------------------------------------


def nifti_1(
    path: Path, array: np.ndarray, changes: dict[int, bytes] | None = None, packed: bool = False, order: str = "<"
) -> Path:
    """Write a NIfTI-1 file manually: 2 x 2.5 x 2.25 mm, equal qform and sform; header bytes are replaced afterwards."""
    header = bytearray(352)
    struct.pack_into(order + "i", header, 0, 348)
    struct.pack_into(order + "8h", header, 40, 3, *array.shape[::-1], 1, 1, 1, 1)
    struct.pack_into(order + "hh", header, 70, 4, 16)
    struct.pack_into(order + "8f", header, 76, 1, 2, 2.5, 2.25, 0, 0, 0, 0)
    struct.pack_into(order + "f", header, 108, 352)
    struct.pack_into(order + "f", header, 112, 1)
    header[123] = 2
    struct.pack_into(order + "hh", header, 252, 1, 1)
    struct.pack_into(order + "6f", header, 256, 0, 0, 0, 5, 6, 7)
    struct.pack_into(order + "12f", header, 280, 2, 0, 0, 5, 0, 2.5, 0, 6, 0, 0, 2.25, 7)
    header[344:348] = b"n+1\0"
    for start, value in (changes or {}).items():
        header[start : start + len(value)] = value
    content = bytes(header) + array.astype(order + "i2").tobytes()
    path.write_bytes(gzip.compress(content) if packed else content)
    return path


def nifti_2(path: Path, array: np.ndarray, order: str = "<", packed: bool = False) -> Path:
    """Write a NIfTI-2 file manually, on the grid of :func:`nifti_1`."""
    header = bytearray(544)
    struct.pack_into(order + "i", header, 0, 540)
    header[4:12] = b"n+2\0\r\n\x1a\n"
    struct.pack_into(order + "hh", header, 12, 4, 16)
    struct.pack_into(order + "8q", header, 16, 3, *array.shape[::-1], 1, 1, 1, 1)
    struct.pack_into(order + "8d", header, 104, 1, 2, 2.5, 2.25, 0, 0, 0, 0)
    struct.pack_into(order + "q", header, 168, 544)
    struct.pack_into(order + "d", header, 176, 1)
    struct.pack_into(order + "ii", header, 344, 1, 1)
    struct.pack_into(order + "6d", header, 352, 0, 0, 0, 5, 6, 7)
    struct.pack_into(order + "12d", header, 400, 2, 0, 0, 5, 0, 2.5, 0, 6, 0, 0, 2.25, 7)
    struct.pack_into(order + "i", header, 500, 2)
    content = bytes(header) + array.astype(order + "i2").tobytes()
    path.write_bytes(gzip.compress(content) if packed else content)
    return path


def sform(rows: list[list[float]]) -> dict[int, bytes]:
    return {280: struct.pack("<12f", *np.ravel(rows))}


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("packed", [False, True])
def test_nifti_2_reads_as_nifti_1(tmp_path: Path, scan: Volume, order: str, packed: bool) -> None:
    first = read_volume(nifti_1(tmp_path / "one.nii", scan.array))
    second = read_volume(nifti_2(tmp_path / ("two.nii.gz" if packed else "two.nii"), scan.array, order, packed))
    np.testing.assert_array_equal(second.array, scan.array)
    assert second.geometry.same_grid(first.geometry)
    assert second.source.path.endswith("two.nii.gz" if packed else "two.nii")


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("extension", [b"", bytes(16)])
def test_compressed_voxels_are_decoded_once(
    tmp_path: Path, scan: Volume, monkeypatch: pytest.MonkeyPatch, order: str, extension: bytes
) -> None:
    offset = {108: struct.pack(order + "f", 352 + len(extension))}
    path = nifti_1(tmp_path / "scan.nii.gz", scan.array, offset, order=order)
    data = path.read_bytes()
    path.write_bytes(gzip.compress(data[:352] + extension + data[352:]))
    read_twice = read_volume(nifti_1(tmp_path / "plain.nii", scan.array))
    monkeypatch.delattr(sitk.ImageFileReader, "Execute")
    volume = read_volume(path)
    np.testing.assert_array_equal(volume.array, scan.array)
    assert volume.array.dtype == np.dtype(np.int16) and volume.array.flags.writeable
    assert volume.geometry == read_twice.geometry


@pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
@pytest.mark.parametrize("dtype", ["u1", "i2", "u2", "i4", "f4", "f8"])
def test_compressed_nrrd_and_metaimage_are_decoded_once(
    tmp_path: Path, scan: Volume, monkeypatch: pytest.MonkeyPatch, suffix: str, dtype: str
) -> None:
    values = np.abs(scan.array).astype(dtype)
    image = sitk.GetImageFromArray(values)
    image.SetSpacing((2.0, 2.5, 2.25))
    image.SetDirection((0, 1, 0, 1, 0, 0, 0, 0, -1))
    for name in ("plain", "packed"):
        sitk.WriteImage(image, str(tmp_path / f"{name}{suffix}"), name == "packed")
    plain = read_volume(tmp_path / f"plain{suffix}")
    monkeypatch.delattr(sitk.ImageFileReader, "Execute")
    packed = read_volume(tmp_path / f"packed{suffix}")
    np.testing.assert_array_equal(packed.array, plain.array)
    assert packed.array.dtype == plain.array.dtype and packed.geometry == plain.geometry


@pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
def test_compressed_nrrd_and_metaimage_may_be_big_endian_and_without_a_size(
    tmp_path: Path, scan: Volume, suffix: str
) -> None:
    sizes, data = " ".join(map(str, scan.array.shape[::-1])), scan.array.astype(">i2").tobytes()
    fields = {
        ".nrrd": [
            "NRRD0004",
            "type: short",
            "dimension: 3",
            f"sizes: {sizes}",
            "spacings: 2 2 2",
            "encoding: gzip",
            "endian: big",
            "",
        ],
        ".mha": [
            *("NDims = 3", f"DimSize = {sizes}", "ElementSpacing = 1 1 1", "ElementType = MET_SHORT"),
            *("CompressedData = True", "BinaryDataByteOrderMSB = True", "ElementDataFile = LOCAL"),
        ],
    }
    packed = gzip.compress(data) if suffix == ".nrrd" else zlib.compress(data)
    path = tmp_path / f"scan{suffix}"
    path.write_bytes("".join(f"{line}\n" for line in fields[suffix]).encode() + packed)
    np.testing.assert_array_equal(read_volume(path).array, scan.array)


def test_a_compressed_metaimage_series_without_its_size_is_refused(tmp_path: Path, scan: Volume) -> None:
    path, frames = tmp_path / "scan.mha", np.stack([scan.array] * 2)
    fields = ["NDims = 4", f"DimSize = {' '.join(map(str, frames.shape[::-1]))}", "ElementSpacing = 1 1 1 1"]
    fields += ["ElementType = MET_SHORT", "CompressedData = True", "ElementDataFile = LOCAL", ""]
    path.write_bytes("\n".join(fields).encode() + zlib.compress(frames.tobytes()))
    with pytest.raises(InputError, match="CompressedDataSize: save it again"):
        read_volume(path, frame=0)


def test_compressed_voxels_with_a_slope_are_scaled(tmp_path: Path, scan: Volume) -> None:
    volume = read_volume(nifti_1(tmp_path / "scan.nii.gz", scan.array, {112: struct.pack("<f", 2)}, packed=True))
    np.testing.assert_array_equal(volume.array, 2 * scan.array)


def test_gzip_content_under_the_name_of_a_plain_nifti_is_read(tmp_path: Path, scan: Volume) -> None:
    volume = read_volume(nifti_1(tmp_path / "scan.nii", scan.array, packed=True))
    np.testing.assert_array_equal(volume.array, scan.array)
    assert volume.geometry.spacing == pytest.approx((2, 2.5, 2.25))


@pytest.mark.parametrize(
    "rows",
    [
        [[2, 0, 0, 10], [0, 2.5, 0, 6], [0, 0, 2.25, 7]],
        [[2, 0, 0, 5], [0, 2.5, 0, 6], [0, 0, 2.25, 107]],
        [[2, 0, 0, 5.2], [0, 2.5, 0, 6], [0, 0, 2.25, 7]],
        [[0, 2.5, 0, 5], [2, 0, 0, 6], [0, 0, -2.25, 7]],
    ],
    ids=["shifted", "far", "a little", "turned"],
)
def test_a_qform_and_sform_that_disagree_are_reported_with_their_distance(
    tmp_path: Path, scan: Volume, rows: list[list[float]]
) -> None:
    corners = np.array([(x, y, z, 1) for x in (0, 43) for y in (0, 35) for z in (0, 39)], float)
    other = np.array([[2, 0, 0, 5], [0, 2.5, 0, 6], [0, 0, 2.25, 7]])
    apart = np.linalg.norm(corners @ (np.array(rows) - other).T, axis=1).max()
    volume = read_volume(nifti_1(tmp_path / "scan.nii.gz", scan.array, sform(rows), packed=True))
    (finding,) = [f for f in volume.findings if f.code == "forms-disagree"]
    assert finding.values["apart_mm"] == pytest.approx(apart, rel=0.02)
    used = np.array(rows)[:, 3] if finding.values["used"] == "sform" else np.array([5, 6, 7])
    np.testing.assert_allclose(volume.geometry.origin, used * [-1, -1, 1], atol=1e-4)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_qform_and_sform_that_mirror_each_other_are_refused(tmp_path: Path, scan: Volume, axis: int) -> None:
    rows = np.array([[2, 0, 0, 5], [0, 2.5, 0, 6], [0, 0, 2.25, 7.0]])
    rows[axis, axis] *= -1
    assert "mirror" in refusal(nifti_1(tmp_path / "scan.nii", scan.array, sform(rows.tolist())))


def test_equal_forms_with_rounding_are_silent(tmp_path: Path, scan: Volume) -> None:
    rows = [[2, 1e-5, 0, 5.001], [0, 2.5, 0, 6], [0, 0, 2.25001, 7]]
    assert codes(read_volume(nifti_1(tmp_path / "scan.nii", scan.array, sform(rows)))) == set()


@pytest.mark.parametrize("offset", [0.0, 348.0, 351.0, 64.0, -1.0, float("nan"), 1e30])
def test_voxels_that_begin_inside_the_header_are_refused(tmp_path: Path, scan: Volume, offset: float) -> None:
    path = nifti_1(tmp_path / "scan.nii", scan.array, {108: struct.pack("<f", offset)})
    assert "vox_offset" in refusal(path)


@pytest.mark.parametrize("magic", [b"\0\0\0\0", b"ni1\0", b"n+3\0", b"nope", b"n+1 "])
def test_a_wrong_magic_is_refused(tmp_path: Path, scan: Volume, magic: bytes) -> None:
    assert "magic" in refusal(nifti_1(tmp_path / "scan.nii.gz", scan.array, {344: magic}, packed=True))


# --- MetaImage --------------------------------------------------------------------------------------------------------


def meta(path: Path, data: bytes, **fields: object) -> Path:
    """Write a MetaImage header followed by voxels; later fields replace earlier ones."""
    lines = {
        "ObjectType": "Image",
        "NDims": 3,
        "BinaryData": "True",
        "TransformMatrix": "1 0 0 0 1 0 0 0 1",
        "ElementSpacing": "2 2.5 2.25",
        "DimSize": "44 36 40",
        "ElementType": "MET_SHORT",
        **fields,
    }
    last = lines.pop("ElementDataFile", "LOCAL")
    text = "".join(f"{k} = {v}\n" for k, v in lines.items()) + f"ElementDataFile = {last}\n"
    path.write_bytes(text.encode() + data)
    return path


def test_a_list_of_slices_is_read(tmp_path: Path, scan: Volume) -> None:
    for k, plane in enumerate(scan.array):
        (tmp_path / f"s{k}.raw").write_bytes(plane.astype("<i2").tobytes())
    names = "".join(f"s{k}.raw\n" for k in range(40)).encode()
    volume = read_volume(meta(tmp_path / "scan.mhd", names, ElementDataFile="LIST 2"))
    np.testing.assert_array_equal(volume.array, scan.array)


@pytest.mark.parametrize("fault", ["no names", "absent", "short", "one fewer", "fifo", "folder"])
def test_a_list_whose_files_do_not_hold_the_voxels_is_refused(tmp_path: Path, scan: Volume, fault: str) -> None:
    for k, plane in enumerate(scan.array):
        data = plane.astype("<i2").tobytes()
        (tmp_path / f"s{k}.raw").write_bytes(data[:-100] if fault == "short" and k == 7 else data)
    if fault in ("absent", "fifo", "folder"):
        (tmp_path / "s7.raw").unlink()
    if fault == "fifo":
        os.mkfifo(tmp_path / "s7.raw")
    if fault == "folder":
        (tmp_path / "s7.raw").mkdir()
    count = {"no names": 0, "one fewer": 39}.get(fault, 40)
    names = "".join(f"s{k}.raw\n" for k in range(count)).encode()
    refusal(meta(tmp_path / "scan.mhd", names, ElementDataFile="LIST 2"))


@pytest.mark.parametrize("size", [0, 10, 1000, -1])
def test_a_compressed_size_too_small_is_refused(tmp_path: Path, scan: Volume, size: int) -> None:
    packed = zlib.compress(scan.array.astype("<i2").tobytes())
    path = meta(
        tmp_path / "s.mha", packed, CompressedData="True", CompressedDataSize=len(packed) - 1 if size < 0 else size
    )
    assert "cut short" in refusal(path)


def test_a_compressed_size_larger_than_the_file_is_refused(tmp_path: Path, scan: Volume) -> None:
    packed = zlib.compress(scan.array.astype("<i2").tobytes())
    path = meta(tmp_path / "s.mha", packed, CompressedData="True", CompressedDataSize=len(packed) + 1)
    assert "cut short" in refusal(path)


@pytest.mark.parametrize(
    "fields",
    [
        {"NDims": 10**9},
        {"NDims": 4},
        {"DimSize": "44 36"},
        {"DimSize": "44 36 -40"},
        {"DimSize": "44 36 99999999999"},
        {"ElementDataFile": "%s%n%n%n.raw"},
        {"ElementDataFile": "%999999999d.raw 1 40 1"},
        {"ElementDataFile": "a%d.raw 1 99999999999 1"},
        {"ElementDataFile": ""},
        {"ElementDataFile": "other.raw"},
        {"HeaderSize": 10**9},
        {"ElementNumberOfChannels": 10**9},
        {"BinaryData": "False"},
    ],
    ids=lambda fields: "-".join(f"{k}={v}" for k, v in fields.items()),
)
def test_header_fields_that_crash_itk_or_leave_memory_unset_are_refused(
    tmp_path: Path, scan: Volume, fields: dict[str, Any]
) -> None:
    refusal(meta(tmp_path / "s.mha", scan.array.astype("<i2").tobytes(), **fields))


@pytest.mark.parametrize("header", [-1, 64])
def test_a_header_size_is_taken_into_account(tmp_path: Path, scan: Volume, header: int) -> None:
    (tmp_path / "s.raw").write_bytes(b"x" * 64 + scan.array.astype("<i2").tobytes())
    volume = read_volume(meta(tmp_path / "s.mhd", b"", ElementDataFile="s.raw", HeaderSize=header))
    np.testing.assert_array_equal(volume.array, scan.array)


def test_voxels_as_text_are_refused_with_the_way_out(tmp_path: Path, scan: Volume) -> None:
    text = " ".join(map(str, scan.array.ravel())).encode()
    assert "binary" in refusal(meta(tmp_path / "s.mha", text, BinaryData="False"))


def test_file_name_patterns_hold_one_number_only(tmp_path: Path) -> None:
    assert numbered_files(tmp_path, "s%02d.raw 3 7 2") == tuple(tmp_path / f"s0{k}.raw" for k in (3, 5, 7))
    for pattern in ("%s.raw 1 2 1", "%d%d.raw 1 2 1", "a%n.raw", "s%1000d.raw 1 2 1", "s%d.raw 1 2 0"):
        with pytest.raises(ValueError):
            numbered_files(tmp_path, pattern)


# --- NRRD -------------------------------------------------------------------------------------------------------------


def nrrd(path: Path, data: bytes, **fields: str) -> Path:
    lines = {
        "type": "short",
        "dimension": "3",
        "space": "left-posterior-superior",
        "sizes": "44 36 40",
        "space directions": "(2,0,0) (0,2.5,0) (0,0,2.25)",
        "kinds": "domain domain domain",
        "endian": "little",
        "encoding": "raw",
        "space origin": "(5,6,7)",
        **{name.replace("_", " "): value for name, value in fields.items()},
    }
    path.write_bytes(("NRRD0005\n" + "".join(f"{k}: {v}\n" for k, v in lines.items()) + "\n").encode() + data)
    return path


@pytest.mark.parametrize(("unit", "factor"), [("m", 1e3), ("cm", 10), ("um", 1e-3), ("mm", 1), ("millimeters", 1)])
def test_units_of_a_nrrd_are_converted_to_mm(tmp_path: Path, scan: Volume, unit: str, factor: float) -> None:
    steps = f"({2 / factor},0,0) (0,{2.5 / factor},0) (0,0,{2.25 / factor})"
    path = nrrd(
        tmp_path / "s.nrrd",
        scan.array.astype("<i2").tobytes(),
        space_directions=steps,
        space_origin=f"({5 / factor},{6 / factor},{7 / factor})",
        space_units=f'"{unit}" "{unit}" "{unit}"',
    )
    volume = read_volume(path)
    assert volume.geometry.spacing == pytest.approx((2, 2.5, 2.25))
    assert volume.geometry.origin == pytest.approx((5, 6, 7))


@pytest.mark.parametrize("units", ['"mm" "mm" "m"', '"inch" "inch" "inch"'])
def test_other_units_are_refused(tmp_path: Path, scan: Volume, units: str) -> None:
    assert "units" in refusal(nrrd(tmp_path / "s.nrrd", scan.array.astype("<i2").tobytes(), space_units=units))


def test_bzip2_is_refused_with_the_way_out(tmp_path: Path, scan: Volume) -> None:
    data = bz2.compress(scan.array.astype("<i2").tobytes())
    assert "gzip" in refusal(nrrd(tmp_path / "s.nrrd", data, encoding="bzip2"))


def endless_pipe(path: Path) -> Path:
    os.mkfifo(path)
    return path


@pytest.mark.parametrize("kind", ["nhdr", "mhd", "nii", "dicom", "nhdr list"])
def test_a_pipe_never_blocks(tmp_path: Path, kind: str) -> None:
    """Opening a pipe without a writer would block."""
    pipe = endless_pipe(tmp_path / ("pipe.nii" if kind == "nii" else "pipe.dcm" if kind == "dicom" else "pipe.raw"))
    path = {
        "nhdr": lambda: nrrd(tmp_path / "s.nhdr", b"", data_file="pipe.raw"),
        "mhd": lambda: meta(tmp_path / "s.mhd", b"", ElementDataFile="pipe.raw"),
        "nhdr list": lambda: nrrd(tmp_path / "l.nhdr", b"", data_file="LIST 2\npipe.raw"),
    }.get(kind, lambda: pipe)()
    refusal(path)
    refusal_of_folder = tmp_path / "folder"
    refusal_of_folder.mkdir()
    endless_pipe(refusal_of_folder / "a.dcm")
    refusal(refusal_of_folder)


# --- sizes ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["nifti", "nrrd", "meta"])
def test_a_scan_that_does_not_fit_into_memory_is_refused_at_once(tmp_path: Path, kind: str) -> None:
    start = time.monotonic()
    if kind == "nifti":
        one = np.zeros((2, 2, 2), np.int16)
        path = nifti_1(tmp_path / "s.nii.gz", one, {42: struct.pack("<3h", 30000, 30000, 30000)}, packed=True)
    elif kind == "nrrd":
        path = nrrd(tmp_path / "s.nrrd", b"", sizes="30000 30000 30000", encoding="gzip")
    else:
        path = meta(tmp_path / "s.mha", b"", DimSize="30000 30000 30000", CompressedData="True")
    text = refusal(path)
    assert "GiB" in text and "30000x30000x30000" in text
    assert time.monotonic() - start < 2


def test_what_follows_the_voxels_in_an_archive_is_not_unpacked(tmp_path: Path, scan: Volume) -> None:
    """A gzip file of 1 MB that unpacks to 1 GB, while its header states 127 kB."""
    path = nifti_1(tmp_path / "scan.nii.gz", scan.array, packed=True)
    with gzip.open(path, "ab", compresslevel=1) as stream:
        for _ in range(16):
            stream.write(bytes(1 << 26))
    start = time.process_time()
    np.testing.assert_array_equal(read_volume(path).array, scan.array)
    assert time.process_time() - start < 2


# --- names ------------------------------------------------------------------------------------------------------------

PROGRAM = "import sys; from heartseg.volume import read_volume; print(read_volume(sys.argv[1]).array.shape)"


def test_a_name_that_the_locale_cannot_read_names_the_way_out(tmp_path: Path, scan: Volume, repository: Path) -> None:
    path = nifti_1(tmp_path / "Größe.nii", scan.array)
    environment = {"PATH": os.environ["PATH"], "LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    environment["PYTHONPATH"] = str(repository / "HeartSeg" / "Logic")
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, os.fsencode(path)], env=environment, capture_output=True, check=False
    )
    assert b"PYTHONUTF8=1" in done.stderr
    environment["PYTHONUTF8"] = "1"
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, os.fsencode(path)], env=environment, capture_output=True, check=False
    )
    assert done.stdout.split() == [b"(40,", b"36,", b"44)"]


@pytest.mark.parametrize("spoil", [lambda d: d[:400], lambda d: d[:40] + b"\xff" * 16 + d[56:], lambda d: b"\0" * 400])
def test_itk_and_its_libraries_print_nothing(
    tmp_path: Path, scan: Volume, spoil: Callable[[bytes], bytes], capfd: pytest.CaptureFixture[str]
) -> None:
    path = nifti_1(tmp_path / "scan.nii", scan.array)
    path.write_bytes(spoil(path.read_bytes()))
    refusal(path)
    assert capfd.readouterr() == ("", "")


# --- further kinds ----------------------------------------------------------------------------------------------------

NO_FORMS = {252: struct.pack("<hh", 0, 0)}
ONLY_SFORM = {252: struct.pack("<hh", 0, 1)}
ONLY_QFORM = {252: struct.pack("<hh", 1, 0)}


def pixdim(x: float, y: float, z: float) -> dict[int, bytes]:
    return {80: struct.pack("<3f", x, y, z)}


@pytest.mark.parametrize("edges", [(1.0, 1.0, 1.0), (0.0, 0.0, 0.0), (20.0, 25.0, 22.5)])
def test_the_only_form_tells_the_voxel_size(tmp_path: Path, scan: Volume, edges: tuple[float, float, float]) -> None:
    """nifti1.h, method 3: pixdim counts for the qform only. ITK takes pixdim."""
    volume = read_volume(nifti_1(tmp_path / "scan.nii", scan.array, {**ONLY_SFORM, **pixdim(*edges)}))
    assert volume.geometry.spacing == pytest.approx((2, 2.5, 2.25))
    assert volume.geometry.origin == pytest.approx((-5, -6, 7))
    assert ("spacing-disagrees" in codes(volume)) == (edges[0] > 0)


@pytest.mark.parametrize("edges", [(0.0, 2.5, 2.25), (2.0, -2.5, 2.25), (2.0, 2.5, float("nan"))])
def test_a_voxel_size_that_is_none_may_be_given(
    tmp_path: Path, scan: Volume, edges: tuple[float, float, float]
) -> None:
    path = nifti_1(tmp_path / "scan.nii", scan.array, {**ONLY_QFORM, **pixdim(*edges)})
    assert "--spacing" in refusal(path)
    volume = read_volume(path, spacing=(2.0, 2.5, 2.25))
    assert volume.geometry.spacing == (2.0, 2.5, 2.25)
    np.testing.assert_array_equal(volume.array, scan.array)
    assert "spacing-given" in codes(volume)


def test_one_millimetre_without_orientation_is_doubted_and_may_be_replaced(tmp_path: Path, scan: Volume) -> None:
    path = nifti_1(tmp_path / "scan.nii", scan.array, {**NO_FORMS, **pixdim(1, 1, 1)})
    assert "spacing-unknown" in codes(read_volume(path))
    assert read_volume(path, spacing=(2.0, 2.5, 2.25)).geometry.spacing == (2.0, 2.5, 2.25)
    known = read_volume(nifti_1(tmp_path / "known.nii", scan.array, NO_FORMS))
    assert "spacing-unknown" not in codes(known)
    with pytest.raises(InputError, match="--spacing"):
        read_volume(tmp_path / "known.nii", spacing=(1.0, 1.0, 1.0))


def test_a_slope_of_zero_means_no_scaling(tmp_path: Path, scan: Volume) -> None:
    """nifti1.h; ITK adds the intercept nevertheless."""
    scaling = {112: struct.pack("<ff", 0.0, -1024.0)}
    for name in ("scan.nii", "scan.nii.gz"):
        path = nifti_1(tmp_path / name, scan.array, scaling, packed=name.endswith(".gz"))
        np.testing.assert_array_equal(read_volume(path).array, scan.array)


@pytest.mark.parametrize("quaternion", [(0.9, 0.9, 0.9), (float("nan"), 0.0, 0.0), (2.0, 0.0, 0.0)])
def test_a_quaternion_that_is_no_rotation_is_refused(
    tmp_path: Path, scan: Volume, quaternion: tuple[float, float, float]
) -> None:
    changes = {**ONLY_QFORM, 256: struct.pack("<3f", *quaternion)}
    assert "quaternion" in refusal(nifti_1(tmp_path / "scan.nii", scan.array, changes))


def test_voxels_of_a_single_bit_are_refused(tmp_path: Path, scan: Volume) -> None:
    assert "type" in refusal(nifti_1(tmp_path / "scan.nii", scan.array, {70: struct.pack("<hh", 1, 1)}))


def test_centimetres_are_named(tmp_path: Path, scan: Volume) -> None:
    edges = {**ONLY_QFORM, **pixdim(0.2, 0.25, 0.225)}
    assert "centimetres" in refusal(nifti_1(tmp_path / "scan.nii", scan.array, edges))


@pytest.mark.parametrize("name", ["scan.nii", "scan.mha", "scan.nrrd"])
def test_a_slice_more_than_the_header_promises_is_a_warning(tmp_path: Path, scan: Volume, name: str) -> None:
    path = written(tmp_path / name, scan)
    assert "voxels-left-over" not in codes(read_volume(path))
    path.write_bytes(path.read_bytes() + bytes(2 * 44 * 36))
    volume = read_volume(path)
    np.testing.assert_array_equal(volume.array, scan.array)
    assert "voxels-left-over" in codes(volume)


def written(path: Path, scan: Volume) -> Path:
    import SimpleITK as sitk

    if path.suffix == ".nii":
        return nifti_1(path, scan.array)
    sitk.WriteImage(sitk.GetImageFromArray(scan.array), str(path), False)
    return path


def headed(path: Path, lines: list[str], content: bytes) -> Path:
    """Write a header and the voxels after it."""
    path.write_bytes("".join(f"{line}\n" for line in lines).encode() + content)
    return path


META = ["ObjectType = Image", "NDims = 3", "DimSize = 44 36 40", "ElementType = MET_SHORT"]
NRRD = ["NRRD0005", "type: short", "dimension: 3", "sizes: 44 36 40", "encoding: raw", "endian: little"]


def test_files_without_a_voxel_size_are_refused_unless_it_is_given(tmp_path: Path, scan: Volume) -> None:
    voxels = scan.array.astype("<i2").tobytes()
    paths = [
        headed(tmp_path / "scan.mha", [*META, "ElementDataFile = LOCAL"], voxels),
        headed(tmp_path / "scan.nrrd", [*NRRD, ""], voxels),
        headed(tmp_path / "extent.nrrd", [*NRRD, "axis mins: 0 0 0", "axis maxs: 88 90 90", ""], voxels),
    ]
    for path in paths:
        assert "states no voxel size" in refusal(path) and "--spacing" in refusal(path)
        volume = read_volume(path, spacing=(2.0, 2.5, 2.25))
        assert volume.geometry.spacing == (2.0, 2.5, 2.25)
        np.testing.assert_array_equal(volume.array, scan.array)


def test_a_spacing_for_some_axes_and_a_missing_byte_order_are_named(tmp_path: Path, scan: Volume) -> None:
    voxels = scan.array.astype("<i2").tobytes()
    short = [*META, "ElementSpacing = 2", "ElementDataFile = LOCAL"]
    assert "ElementSpacing" in refusal(headed(tmp_path / "scan.mha", short, voxels))
    assert "endian" in refusal(headed(tmp_path / "scan.nrrd", [*NRRD[:-1], "spacings: 2 2 2", ""], voxels))


STEPS = "(2,0,0) (0,2.5,0) (0,0,2.25)"


@pytest.mark.parametrize("packed", [False, True], ids=["raw", "gzip"])
@pytest.mark.parametrize("detached", [False, True], ids=["attached", "detached"])
@pytest.mark.parametrize("kinds", ["space space space time", "domain domain domain list", ""])
def test_a_nrrd_series_with_time_last(tmp_path: Path, scan: Volume, kinds: str, detached: bool, packed: bool) -> None:
    frames = np.stack([scan.array, scan.array + 7, scan.array - 9])
    content = gzip.compress(frames.astype("<i2").tobytes()) if packed else frames.astype("<i2").tobytes()
    path = headed_series(tmp_path, "44 36 40 3", f"{STEPS} none", kinds, content, detached, packed)
    with pytest.raises(InputError, match="3 frames"):
        read_volume(path)
    for k, expected in enumerate(frames):
        volume = read_volume(path, frame=k)
        np.testing.assert_array_equal(volume.array, expected)
        assert volume.geometry.spacing == (2.0, 2.5, 2.25) and volume.geometry.origin == (5.0, 6.0, 7.0)


@pytest.mark.parametrize("kind", ["time", "list"])
def test_a_nrrd_series_with_time_first(tmp_path: Path, scan: Volume, kind: str) -> None:
    frames = np.stack([scan.array, scan.array + 7])
    content = np.moveaxis(frames, 0, -1).astype("<i2").tobytes()
    path = headed_series(tmp_path, "2 44 36 40", f"none {STEPS}", f"{kind} space space space", content)
    for k, expected in enumerate(frames):
        volume = read_volume(path, frame=k)
        np.testing.assert_array_equal(volume.array, expected)
        assert volume.geometry.spacing == (2.0, 2.5, 2.25)


def test_a_nrrd_series_with_time_between_the_axes_of_space_is_refused(tmp_path: Path, scan: Volume) -> None:
    content = np.stack([scan.array] * 2, 1).astype("<i2").tobytes()
    steps = "(2,0,0) (0,2.5,0) none (0,0,2.25)"
    assert "time last" in refusal(headed_series(tmp_path, "44 36 2 40", steps, "space space time space", content))


def headed_series(
    folder: Path, sizes: str, steps: str, kinds: str, content: bytes, detached: bool = False, packed: bool = False
) -> Path:
    lines = ["NRRD0005", "# a comment", "type: short", "dimension: 4", f"sizes: {sizes}", "endian: little"]
    lines += ["space: left-posterior-superior", f"space directions: {steps}", "space origin: (5,6,7)"]
    lines += [f"encoding: {'gzip' if packed else 'raw'}", *([f"kinds: {kinds}"] if kinds else [])]
    if not detached:
        return headed(folder / "scan.nrrd", [*lines, ""], content)
    (folder / "scan.raw").write_bytes(content)
    return headed(folder / "scan.nhdr", [*lines, "data file: scan.raw", ""], b"")


@pytest.mark.parametrize(
    ("name", "word"),
    [("scan.zip", "unpack"), ("scan.nii.bz2", "unpack"), ("scan.png", "voxel size"), ("scan.hdr", ".nii")],
)
def test_other_files_name_the_way_out(tmp_path: Path, name: str, word: str) -> None:
    (tmp_path / name).write_bytes(b"x" * 400)
    assert word in refusal(tmp_path / name)


def test_a_negative_compressed_size_is_refused(tmp_path: Path, scan: Volume) -> None:
    lines = [*META, "ElementSpacing = 2 2 2", "CompressedData = True", "CompressedDataSize = -5"]
    content = zlib.compress(scan.array.astype("<i2").tobytes())
    assert "CompressedDataSize" in refusal(headed(tmp_path / "scan.mha", [*lines, "ElementDataFile = LOCAL"], content))
