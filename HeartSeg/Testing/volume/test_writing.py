"""Label maps and images are written exactly and atomically."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heartseg.errors import OutputError
from heartseg.volume import Geometry, Volume, read_volume, write_labels, write_volume, writing
from heartseg.volume.itk import write_picture


@pytest.fixture
def labels(scan: Volume) -> np.ndarray:
    return (np.abs(scan.array) % 8).astype(np.uint8)


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("suffix", [".nii.gz", ".nii", ".nrrd", ".mha"])
def test_labels_come_back_exactly(tmp_path: Path, scan: Volume, labels: np.ndarray, suffix: str) -> None:
    path = write_labels(labels, scan.geometry, tmp_path / f"heart{suffix}")
    back = read_volume(path)
    np.testing.assert_array_equal(back.array, labels)
    assert back.array.dtype == np.uint8
    assert back.geometry.same_grid(scan.geometry, 1e-4)
    assert left(tmp_path) == [path.name]


def test_labels_are_compressed(tmp_path: Path, scan: Volume, labels: np.ndarray) -> None:
    for suffix in (".nii.gz", ".nrrd", ".mha"):
        path = write_labels(np.zeros_like(labels), scan.geometry, tmp_path / f"zero{suffix}")
        assert path.stat().st_size < labels.size / 20


@given(
    angle=st.floats(-0.5, 0.5),
    spacing=st.tuples(*[st.floats(2.5, 4.0)] * 3),
    origin=st.tuples(*[st.floats(-800.0, 800.0)] * 3),
    mirrored=st.booleans(),
)
@settings(max_examples=25, deadline=None)
@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd"])
def test_the_grid_comes_back_within_a_ten_thousandth_of_a_millimetre(
    tmp_path_factory: pytest.TempPathFactory,
    suffix: str,
    angle: float,
    spacing: tuple[float, float, float],
    origin: tuple[float, float, float],
    mirrored: bool,
) -> None:
    c, s = np.cos(angle), np.sin(angle)
    turn = np.array([[c, -s, 0], [s * c, c * c, -s], [s * s, s * c, c]])
    turn[:, 0] *= -1 if mirrored else 1
    grid = Geometry((24, 25, 26), spacing, origin, tuple(turn.ravel()))
    path = tmp_path_factory.mktemp("grid") / f"labels{suffix}"
    values = np.random.default_rng(0).integers(0, 255, grid.shape).astype(np.uint8)
    write_labels(values, grid, path)
    assert read_volume(path).geometry.same_grid(grid, 1e-4)


def test_a_view_with_turned_axes_is_written_as_it_looks(tmp_path: Path, scan: Volume, labels: np.ndarray) -> None:
    turned = labels[::-1].transpose(2, 1, 0)
    grid = replace(scan.geometry, shape=turned.shape)
    np.testing.assert_array_equal(read_volume(write_labels(turned, grid, tmp_path / "t.nrrd")).array, turned)


def test_a_scan_is_written_in_its_dtype(tmp_path: Path, scan: Volume) -> None:
    for dtype in (np.int16, np.float32, np.uint16):
        volume = replace(scan, array=np.abs(scan.array).astype(dtype))
        assert read_volume(write_volume(volume, tmp_path / "v.nii.gz")).array.dtype == dtype


def test_an_existing_file_is_replaced(tmp_path: Path, scan: Volume, labels: np.ndarray) -> None:
    path = tmp_path / "labels.nii.gz"
    path.write_bytes(b"old")
    write_labels(labels, scan.geometry, path)
    np.testing.assert_array_equal(read_volume(path).array, labels)


def test_others_may_read_what_was_written(tmp_path: Path, scan: Volume, labels: np.ndarray) -> None:
    mask = os.umask(0o022)
    try:
        path = write_labels(labels, scan.geometry, tmp_path / "l.nii.gz")
    finally:
        os.umask(mask)
    assert path.stat().st_mode & 0o777 == 0o644


def test_labels_that_do_not_fit_their_grid_are_a_mistake_of_the_caller(
    tmp_path: Path, scan: Volume, labels: np.ndarray
) -> None:
    with pytest.raises(ValueError, match="shape"):
        write_labels(labels[1:], scan.geometry, tmp_path / "l.nii.gz")
    with pytest.raises(ValueError, match="uint8"):
        write_labels(labels.astype(np.int16), scan.geometry, tmp_path / "l.nii.gz")


@pytest.mark.parametrize(
    ("name", "words"),
    [("labels.txt", ".nii.gz"), ("missing/labels.nii.gz", "does not exist"), ("folder.nii.gz", "it is a folder")],
)
def test_a_place_where_nothing_can_be_written_is_named(
    tmp_path: Path, scan: Volume, labels: np.ndarray, name: str, words: str
) -> None:
    (tmp_path / "folder.nii.gz").mkdir()
    with pytest.raises(OutputError) as caught:
        write_labels(labels, scan.geometry, tmp_path / name)
    assert words in str(caught.value)
    assert Path(name).name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_folder_that_refuses_writing_is_named(scan: Volume, labels: np.ndarray) -> None:
    folder = Path("/proc/self")  # no user can create files there, including root
    if not folder.is_dir():
        pytest.skip("no /proc on this system")
    with pytest.raises(OutputError, match=r"cannot write /proc/self/labels\.nii\.gz \(.*another folder") as caught:
        write_labels(labels, scan.geometry, folder / "labels.nii.gz")
    assert "\n" not in str(caught.value)


def test_a_picture_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    pixels = np.zeros((4, 4), np.uint8)
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(OutputError, match=r"cannot write .*folder\.png \(.*another folder"):
        write_picture(pixels, tmp_path / "folder.png")
    assert left(tmp_path) == ["folder.png"]
    with pytest.raises(OutputError, match=r"cannot write .*nowhere/a\.png"):
        write_picture(pixels, tmp_path / "nowhere" / "a.png")


_ON_A_FULL_DISK = """
import resource, signal, sys
import numpy as np
from heartseg.errors import OutputError
from heartseg.volume import Geometry, write_labels

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20000, resource.RLIM_INFINITY))
values = np.random.default_rng(0).integers(0, 255, (40, 40, 40)).astype(np.uint8)
try:
    write_labels(values, Geometry(values.shape, (2.0, 2.0, 2.0)), sys.argv[1])
except OutputError as error:
    print(error)
    sys.exit(2)
"""


@pytest.mark.parametrize("suffix", [".nii.gz", ".nii", ".nrrd", ".mha"])
def test_a_full_disk_leaves_the_old_file_and_one_line(tmp_path: Path, repository: Path, suffix: str) -> None:
    assert hasattr(signal, "SIGXFSZ")
    assert hasattr(resource, "RLIMIT_FSIZE")
    path = tmp_path / f"labels{suffix}"
    path.write_bytes(b"old")
    environment = {**os.environ, "PYTHONPATH": str(repository / "HeartSeg" / "Logic")}
    command = [sys.executable, "-c", _ON_A_FULL_DISK, str(path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert done.stdout.count("\n") == 1
    assert str(path) in done.stdout
    assert done.stdout.startswith("the disk is full")
    assert path.read_bytes() == b"old"
    assert left(tmp_path) == [path.name]


def test_a_crash_while_writing_leaves_nothing_behind(
    tmp_path: Path, scan: Volume, labels: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(writing, "check_data", crash)
    with pytest.raises(KeyboardInterrupt):
        write_labels(labels, scan.geometry, tmp_path / "l.nii.gz")
    assert left(tmp_path) == []
