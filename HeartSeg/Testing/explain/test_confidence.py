"""The confidence map in the whole pipeline: requested and written, or omitted."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from cli.conftest import heartseg, temporary  # noqa: F401
from command_lines import tree
from heartseg import Segmenter, Settings, read_volume, write_result
from heartseg.anatomy import STRUCTURES
from heartseg.errors import OutputError, SettingsError
from heartseg.inference.around_heart import AroundHeart
from heartseg.progress import Reporter
from heartseg.result import Result
from heartseg.volume import Volume, write_volume
from tiny_models import make_tiny_model_folder

if TYPE_CHECKING:
    from cli.conftest import Outcome


@pytest.fixture(scope="module", params=["window_model", "bare_model"])
def results(request: pytest.FixtureRequest, volume: Volume) -> tuple[Result, Result, Segmenter]:
    """Results with and without a confidence map, in a window and in stored axes."""
    model = request.getfixturevalue(request.param)
    plain = Segmenter(model, Settings(device="cpu", clean_up=False))
    asked = Segmenter(model, Settings(device="cpu", clean_up=False, confidence_map=True))
    return plain.segment(volume), asked.segment(volume), plain


def test_it_is_made_only_when_asked_for_and_changes_nothing_else(results: tuple[Result, Result, Segmenter]) -> None:
    plain, asked, _ = results
    assert plain.confidence_map is None
    assert asked.confidence_map.dtype == np.uint8 and asked.confidence_map.shape == asked.labels.shape
    assert np.array_equal(plain.labels, asked.labels)


def test_it_agrees_with_the_mean_probabilities_of_the_report(results: tuple[Result, Result, Segmenter]) -> None:
    """The probabilities are the same, at the voxels of the scan instead of the network's, in integer percent."""
    _, asked, _ = results
    for s in STRUCTURES:
        mask = asked.labels == s.label
        if mask.sum() > 500:
            stated = asked.provenance.confidence[s.key]
            assert asked.confidence_map[mask].mean() / 100 == pytest.approx(stated, abs=0.05), s.key


def test_a_warm_segmenter_makes_it_afterwards(results: tuple[Result, Result, Segmenter], volume: Volume) -> None:
    _, asked, segmenter = results
    assert np.array_equal(segmenter.confidence_map(volume, Reporter()), asked.confidence_map)
    assert not segmenter.settings.confidence_map and not segmenter.engine.settings.confidence_map


def test_a_scan_without_a_heart_has_an_empty_map(
    window_model: Path, volume: Volume, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(AroundHeart, "_candidates", lambda *_: iter(()))
    result = Segmenter(window_model, Settings(device="cpu", confidence_map=True)).segment(volume)
    assert not result.heart_found
    assert result.confidence_map is not None and not result.confidence_map.any()


def test_files(results: tuple[Result, Result, Segmenter], volume: Volume, tmp_path: Path) -> None:
    plain, asked, _ = results
    write_result(asked, volume, tmp_path / "asked", ["labels", "confidence"])
    assert tree(tmp_path / "asked") == {"labels.nii.gz", "confidence.nii.gz", "report.json"}
    back = read_volume(tmp_path / "asked" / "confidence.nii.gz")
    assert np.array_equal(back.array, asked.confidence_map) and back.geometry.same_grid(volume.geometry)
    with pytest.raises(OutputError, match="setting confidence_map"):
        write_result(plain, volume, tmp_path / "plain", ["confidence"])
    assert not (tmp_path / "plain").exists()


def test_the_command_line_asks_for_it_by_its_format(
    heartseg: Callable[..., Outcome],  # noqa: F811
    volume: Volume,
    window_model: Path,
    tmp_path: Path,
) -> None:
    file = write_volume(volume, tmp_path / "scan.nii.gz")
    arguments = ("segment", file, "--model", window_model)
    assert heartseg(*arguments, "-o", tmp_path / "a", "--format", "labels,confidence").code == 0
    assert tree(tmp_path / "a") == {"labels.nii.gz", "confidence.nii.gz", "report.json"}
    assert json.loads((tmp_path / "a" / "report.json").read_text())["provenance"]["settings"]["confidence_map"] is True
    assert heartseg(*arguments, "-o", tmp_path / "b", "--format", "labels").code == 0
    assert tree(tmp_path / "b") == {"labels.nii.gz", "report.json"}


def test_a_model_that_only_nnu_net_can_run_has_none(tmp_path: Path) -> None:
    regions = make_tiny_model_folder(
        tmp_path / "m__3d_fullres",
        features=(4, 8),
        patch=(8, 8, 8),
        dataset_changes={"labels": {"background": 0, "LV": [1, 2], "MYO": 2}, "regions_class_order": [1, 2]},
    )
    with pytest.raises(SettingsError, match="leave out the confidence map"):
        Segmenter(regions, Settings(device="cpu", confidence_map=True))
    with pytest.raises(SettingsError, match="leave out the confidence map"):
        Segmenter(regions, Settings(device="cpu")).engine.with_confidence_map()
