"""Translating a volume: the exact grid, patches without seams, damaged or malicious models."""

from __future__ import annotations

import copy
import io
import json
import pickle
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from heartseg.errors import Cancelled, InputError, ModelError, SettingsError
from heartseg.hashes import sha256_of
from heartseg.progress import Reporter
from heartseg.translation.apply import Translator, translate_slice
from heartseg.translation.model import CARD, open_model
from heartseg.translation.slices import Scaling
from heartseg.volume import Volume
from triples import triple

from .conftest import oblique, scan


@pytest.fixture(scope="module")
def translator(trained: Path) -> Translator:
    return Translator(trained, device="cpu")


@pytest.fixture
def copied(trained: Path, tmp_path: Path) -> Path:
    """Return a copy of the model that a test may damage."""
    return Path(shutil.copytree(trained / "model", tmp_path / "model"))


def test_a_translation_has_the_scans_grid_exactly(translator: Translator) -> None:
    array = np.abs(np.random.default_rng(0).normal(500, 200, oblique().shape)).astype(np.float32)
    scanned = Volume(array, oblique(), "oblique", "MR")
    made = translator(scanned)
    assert made.geometry == scanned.geometry
    assert made.array.shape == array.shape
    assert made.array.dtype == np.int16
    assert (made.name, made.modality) == ("oblique-as-CT", "CT")
    assert made.array.min() >= -500
    assert made.array.max() <= 1000


def test_a_turned_copy_of_a_scan_gives_the_turned_translation(translator: Translator) -> None:
    volume, _ = scan("MR", 5)
    g = volume.geometry
    mirrored = replace(
        volume,
        array=np.ascontiguousarray(volume.array[:, :, ::-1]),
        geometry=replace(
            g,
            direction=(-1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0),
            origin=triple(g.index_to_world((0, 0, g.shape[2] - 1))),
        ),
    )
    apart = np.abs(translator(mirrored).array[:, :, ::-1].astype(int) - translator(volume).array)
    assert apart.max() <= 1  # HU: rounding


def test_the_other_direction_gives_typical_mr_values(trained: Path) -> None:
    volume, _ = scan("CT", 5)
    made = Translator(trained, "ct2mr", "cpu")(volume)
    low, high = open_model(trained).scaling["MR"].typical
    assert made.array.dtype == np.float32
    assert low <= made.array.min() < made.array.max() <= high
    assert made.modality == "MR"


def test_a_slice_in_several_patches_has_no_seams() -> None:
    """With a network that changes nothing, blended patches equal the slice, whatever its size."""
    for shape in ((70, 100), (32, 33), (20, 90), (9, 7)):
        image = torch.rand(shape, generator=torch.Generator().manual_seed(1)) * 2 - 1
        found = translate_slice(torch.nn.Identity(), image, 32)
        assert found.shape == image.shape
        assert (found - image).abs().max() < 1e-6


def test_a_small_slice_lies_in_the_middle_of_a_patch_of_background() -> None:
    """Padding is -1, as in training; checks the input of the network and the part of its output that is used."""
    seen = []

    class Plus(torch.nn.Module):
        def forward(self, tiles: torch.Tensor) -> torch.Tensor:
            seen.append(tiles)
            return tiles + torch.arange(1024.0).view(1, 1, 32, 32)

    image = torch.rand(9, 20, generator=torch.Generator().manual_seed(1))
    found = translate_slice(Plus(), image, 32)
    (tiles,) = seen
    assert tiles.shape == (1, 1, 32, 32)
    tile = tiles[0, 0]
    assert torch.equal(tile[11:20, 6:26], image)  # 23 rows are missing: 11 above; 12 columns: 6 on the left
    assert (tile == -1).sum() == 1024 - 180
    torch.testing.assert_close(found, image + torch.arange(1024.0).view(32, 32)[11:20, 6:26])


def test_a_large_slice_is_covered_evenly_by_patches_that_overlap_by_a_quarter() -> None:
    """A slice of 70 x 100 pixels in patches of 32: starts at 0, 19, 38 and 0, 23, 45, 68; four tiles at a time."""
    image = torch.arange(7000.0).view(70, 100)
    seen = []

    class Same(torch.nn.Module):
        def forward(self, tiles: torch.Tensor) -> torch.Tensor:
            seen.append(tiles)
            return tiles

    translate_slice(Same(), image, 32)
    assert [len(t) for t in seen] == [4, 4, 4]
    corners = [divmod(int(t[0, 0, 0]), 100) for t in torch.cat(seen)]
    assert corners == [(a, b) for a in (0, 19, 38) for b in (0, 23, 45, 68)]


def test_a_pixels_weight_is_its_distance_to_the_patchs_border() -> None:
    """Two tiles of 32 pixels that begin at 0 and 24: at column 26 the first has weight 5.5, the second 2.5."""

    class Numbered(torch.nn.Module):
        def forward(self, tiles: torch.Tensor) -> torch.Tensor:
            return torch.stack([torch.full_like(t, float(i)) for i, t in enumerate(tiles)])

    found = translate_slice(Numbered(), torch.zeros(32, 56), 32)
    assert found[0, 26].item() == pytest.approx(2.5 / (5.5 + 2.5))
    assert found[16, 30].item() == pytest.approx(6.5 / (1.5 + 6.5))


def test_grey_values_are_rounded_and_kept_inside_int16(translator: Translator) -> None:
    wide = replace(translator.model, scaling={"CT": Scaling("window", -50_000.0, 50_000.0, (-50_000.0, 50_000.0))})
    other = copy.copy(translator)
    other.model = wide
    unit = np.array([-3.0, -1.0, 0.0, 0.300009, 1.0, 2.0])
    assert other._grey_values(unit, "CT").tolist() == [-32768, -32768, 0, 15000, 32767, 32767]
    assert other._grey_values(unit, "CT").dtype == np.int16


def test_patches_are_blended_where_they_overlap() -> None:
    """A network that returns a different constant for each patch: values change gradually between two patches."""

    class Numbered(torch.nn.Module):
        def forward(self, tiles: torch.Tensor) -> torch.Tensor:
            return torch.stack([torch.full_like(t, float(i)) for i, t in enumerate(tiles)])

    found = translate_slice(Numbered(), torch.zeros(32, 56), 32)[16]
    assert found[0] == 0
    assert found[-1] == 1
    assert (found.diff() >= -1e-6).all()
    assert found.diff().max() < 0.15  # over 8 shared pixels, not abruptly


def test_a_ct_scan_is_not_taken_for_mr(translator: Translator) -> None:
    volume, _ = scan("CT", 1)
    with pytest.raises(InputError, match="CT in HU, not MR: use direction ct2mr"):
        translator(volume)
    with pytest.raises(InputError, match="is CT by its DICOM tag, not MR"):
        translator(replace(scan("MR", 1)[0], modality="CT"))


def test_it_can_be_cancelled(translator: Translator) -> None:
    reporter = Reporter()
    reporter.cancel.cancel()
    with pytest.raises(Cancelled):
        translator(scan("MR", 1)[0], reporter)


def test_a_direction_that_is_unknown_is_refused(trained: Path) -> None:
    with pytest.raises(SettingsError, match="direction is 'pet2ct'"):
        Translator(trained, "pet2ct")


def test_the_card_holds_the_hash_of_the_weights(trained: Path) -> None:
    model = open_model(trained)
    assert model.files["mr2ct"][1] == sha256_of(model.folder / model.files["mr2ct"][0])
    assert model.facts["scans"] == {"MR": 3, "CT": 3}


def test_truncated_weights_are_refused_by_their_hash(copied: Path) -> None:
    path = next(copied.glob("mr2ct-*.pth"))
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ModelError, match=r"has SHA-256 .* the file was modified or damaged"):
        Translator(copied, device="cpu")


def with_weights(folder: Path, content: bytes) -> Path:
    """Return a model with other weights and a card with their hash, as an attacker would make it."""
    card = json.loads((folder / CARD).read_text())
    path = folder / card["weights"]["mr2ct"]["file"]
    path.write_bytes(content)
    card["weights"]["mr2ct"]["sha256"] = sha256_of(path)
    (folder / CARD).write_text(json.dumps(card))
    return folder


class Harm:
    """Creates a file when unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_code_in_the_weights_is_not_run(copied: Path, tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    buffer = io.BytesIO()
    torch.save({"network_weights": {"body.1.weight": Harm(trap)}}, buffer)
    for content in (buffer.getvalue(), pickle.dumps(Harm(trap), protocol=2)):
        with pytest.raises(ModelError, match="contains code"):
            Translator(with_weights(copied, content), device="cpu")
    assert not trap.exists()


def test_weights_of_another_network_or_without_sense_are_refused(copied: Path, trained: Path) -> None:
    good = torch.load(next((trained / "model").glob("mr2ct-*.pth")), weights_only=True)
    for change, said in (
        ({k: v for k, v in good["network_weights"].items() if k != "body.1.bias"}, "do not match the settings"),
        ({k: v * float("nan") for k, v in good["network_weights"].items()}, "non-finite"),
    ):
        buffer = io.BytesIO()
        torch.save({"network_weights": change}, buffer)
        with pytest.raises(ModelError, match=said):
            Translator(with_weights(copied, buffer.getvalue()), device="cpu")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda card: card["weights"]["mr2ct"].update(file="../../etc/passwd.pth"), "is damaged"),
        (lambda card: card.update(format=99), "format 99: this version reads 1"),
        (lambda card: card["settings"].update(filters=100_000), "filters is 100000"),
        (lambda card: card["scaling"]["CT"].update(typical=[5]), "is damaged"),
        (lambda card: card.pop("scaling"), "is damaged"),
        (lambda card: card["scaling"]["MR"].update(kind="gamma"), "is damaged"),
        (lambda card: card["scaling"]["CT"].update(low=1000.0, high=-500.0), "is damaged"),
        (lambda card: card["scaling"]["CT"].update(typical=[5.0, 5.0]), "is damaged"),
        (lambda card: card["weights"]["ct2mr"].update(sha256="abc"), "is damaged"),
    ],
)
def test_a_card_that_cannot_be_is_refused(copied: Path, change: Callable[..., Any], said: str) -> None:
    card = json.loads((copied / CARD).read_text())
    change(card)
    (copied / CARD).write_text(json.dumps(card))
    with pytest.raises(ModelError, match=said):
        Translator(copied, device="cpu")


def test_a_folder_without_a_card_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"is not a translation model .*translation\.json"):
        open_model(tmp_path)
