"""The included scan in the module Sample Data (a stand-in with the same signature, cache and checksum)."""

from __future__ import annotations

import hashlib
import inspect
import logging
import shutil
import socket
import struct
import sys
import types
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import slicer

from heartseg.scene import volume_from_node
from heartseg.scene.sample_data import CATEGORY, SAMPLE_NAME, SCAN, THUMBNAIL, register_sample_data
from heartseg.volume import read_volume


@dataclass(frozen=True)
class Source:
    """Properties of a sample stored by Sample Data; equal if all fields are equal."""

    sampleName: str
    uris: str
    fileNames: str
    nodeNames: str
    thumbnailFileName: str
    checksums: str


class SampleDataLogic:
    """``SampleData.SampleDataLogic`` of Slicer 5.10 to 5.13, as far as needed for one scan."""

    def __init__(self, cache: Path) -> None:
        self.cache = cache
        self.sources: dict[str, list[Source]] = {}

    def registerCustomSampleDataSource(
        self,
        category: str,
        sampleName: str,
        uris: str,
        fileNames: str,
        nodeNames: str,
        thumbnailFileName: str,
        checksums: str,
    ) -> None:
        source = Source(sampleName, uris, fileNames, nodeNames, thumbnailFileName, checksums)
        if source not in self.sources.setdefault(category, []):
            self.sources[category].append(source)

    def downloadSample(self, name: str) -> Any:
        """Download unless the cache has a file with this checksum, then load a volume, like the application."""
        source = next(s for sources in self.sources.values() for s in sources if s.sampleName == name)
        path = self.cache / source.fileNames
        algorithm, _, digest = source.checksums.partition(":")
        if not path.exists() or hashlib.new(algorithm, path.read_bytes()).hexdigest() != digest:
            urllib.request.urlretrieve(source.uris, path)
        assert hashlib.new(algorithm, path.read_bytes()).hexdigest() == digest
        return slicer.util.loadVolume(str(path), {"name": source.nodeNames})


@pytest.fixture
def logic(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> SampleDataLogic:
    """Make Slicer's module Sample Data importable; network connections fail."""

    def refuse(*_args: object, **_more: object) -> None:
        raise AssertionError("a network connection was opened")

    module = types.ModuleType("SampleData")
    (tmp_path / "cache").mkdir()
    logic = SampleDataLogic(tmp_path / "cache")
    vars(module)["SampleDataLogic"] = logic
    monkeypatch.setitem(sys.modules, "SampleData", module)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    return logic


@pytest.fixture
def resources(repository: Path) -> Path:
    return repository / "HeartSeg" / "Resources"


def test_the_scan_loads_from_the_sample_data_module_without_a_network(
    scene: Any, logic: SampleDataLogic, resources: Path
) -> None:
    assert register_sample_data(resources)
    node = logic.downloadSample(SAMPLE_NAME)
    shipped = read_volume(resources / SCAN)
    assert node.GetName() == SAMPLE_NAME
    volume = volume_from_node(node)
    assert np.array_equal(volume.array, shipped.array)
    # NIfTI stores float32 positions; a micrometre on 300 mm is much larger than their rounding
    assert np.allclose(volume.geometry.affine_ras, shipped.geometry.affine_ras, atol=1e-3)


def test_it_stands_under_the_extensions_name_with_a_picture_and_once_only(
    logic: SampleDataLogic, resources: Path
) -> None:
    assert register_sample_data(resources)
    assert register_sample_data(str(resources))
    assert list(logic.sources) == [CATEGORY]
    (source,) = logic.sources[CATEGORY]
    header = Path(source.thumbnailFileName).read_bytes()[:24]
    assert header[:8] == b"\x89PNG\r\n\x1a\n"
    assert struct.unpack(">II", header[16:]) == (260, 280)


def test_a_cached_copy_of_an_earlier_version_is_replaced(scene: Any, logic: SampleDataLogic, resources: Path) -> None:
    stale = logic.cache / Path(SCAN).name
    stale.write_bytes(b"an earlier version")
    register_sample_data(resources)
    logic.downloadSample(SAMPLE_NAME)
    assert stale.read_bytes() == (resources / SCAN).read_bytes()


def test_a_folder_with_blanks_and_letters_beyond_ascii_is_a_valid_address(
    scene: Any, logic: SampleDataLogic, resources: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "Größe 1 & more"
    for name in (SCAN, THUMBNAIL):
        (copy / name).parent.mkdir(parents=True)
        shutil.copy(resources / name, copy / name)
    assert register_sample_data(copy)
    assert logic.downloadSample(SAMPLE_NAME) is not None


@pytest.mark.parametrize("lost", [SCAN, THUMBNAIL])
def test_a_missing_file_is_told_in_the_log_and_nothing_is_offered(
    logic: SampleDataLogic, resources: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, lost: str
) -> None:
    copy = tmp_path / "Resources"
    for name in {SCAN, THUMBNAIL} - {lost}:
        (copy / name).parent.mkdir(parents=True)
        shutil.copy(resources / name, copy / name)
    assert not register_sample_data(copy)
    assert Path(lost).name in caplog.text
    assert not logic.sources


def test_an_application_without_the_module_is_no_error(
    monkeypatch: pytest.MonkeyPatch, resources: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "SampleData", None)
    with caplog.at_level(logging.INFO):
        assert not register_sample_data(resources)
    assert "no module Sample Data" in caplog.text


def test_the_stand_in_takes_what_slicer_takes() -> None:
    """Parameter names of ``registerCustomSampleDataSource`` in Slicer 5.10 and 5.12 that are used here."""
    used = set(inspect.signature(SampleDataLogic.registerCustomSampleDataSource).parameters) - {"self"}
    known = {"category", "sampleName", "uris", "fileNames", "nodeNames", "customDownloader", "thumbnailFileName"}
    assert used <= known | {"loadFileTypes", "loadFiles", "loadFileProperties", "checksums", "loadFileType"}
