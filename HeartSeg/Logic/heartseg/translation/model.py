"""A trained pair of generators on disk: two weight files and a card that lists them with their SHA-256."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..errors import HeartSegError, ModelError, writing
from ..hashes import sha256_of
from ..models.checkpoint import load_checkpoint
from ..version import __version__
from .networks import ResNetGenerator
from .presets import Settings
from .slices import Scaling

CARD = "translation.json"
FORMAT = 1
DIRECTIONS = {"mr2ct": ("MR", "CT"), "ct2mr": ("CT", "MR")}
"""Source and target modality of each direction."""
_AGAIN = "copy the model folder again or train it again"


@dataclass(frozen=True, eq=False)
class TranslationModel:
    """Content of the card of a model folder; :meth:`load` reads the weights.

    Attributes:
        folder: the model folder.
        settings: settings of the training.
        scaling: scaling of MR and CT.
        files: file name and SHA-256 of the weights of each direction.
        facts: all entries of the card.
    """

    folder: Path
    settings: Settings
    scaling: dict[str, Scaling]
    files: dict[str, tuple[str, str]]
    facts: dict[str, Any]

    def load(self, direction: str = "mr2ct", device: torch.device | str = "cpu") -> nn.Module:
        """Return the generator of a direction, in evaluation mode, without gradients.

        Raises:
            ModelError: the weights are missing, changed, damaged, contain code, or do not match the settings.
        """
        name, sha256 = self.files[direction]
        path = self.folder / name
        weights = load_checkpoint(path, sha256)["network_weights"]
        network = ResNetGenerator(self.settings.filters, self.settings.blocks)
        wanted = {k: tuple(v.shape) for k, v in network.state_dict().items()}
        if wanted != {k: tuple(v.shape) for k, v in weights.items()}:
            raise ModelError(f"the weights in '{path}' do not match the settings of the card: {_AGAIN}")
        if not all(bool(torch.isfinite(v).all()) for v in weights.values()):
            raise ModelError(f"'{path}' contains non-finite weights (the training diverged): train the model again")
        network.load_state_dict(weights)
        return network.eval().requires_grad_(False).to(device)


def write_model(
    folder: Path,
    generators: dict[str, nn.Module],
    settings: Settings,
    scaling: dict[str, Scaling],
    step: int,
    facts: dict[str, Any],
) -> TranslationModel:
    """Write both generators, then the card; an existing model stays valid until the new card replaces the old one.

    Raises:
        OutputError: the folder cannot be written.
    """
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        files = {}
        for direction, network in generators.items():
            path = folder / f"{direction}-{step:07d}.pth"
            part = path.with_suffix(".part")
            weights = {k: v.detach().float().cpu().contiguous() for k, v in network.state_dict().items()}
            torch.save({"network_weights": weights, "trainer_name": "heartseg translate"}, part)
            part.replace(path)
            files[direction] = {"file": path.name, "sha256": sha256_of(path)}
        card = facts | {
            "format": FORMAT,
            "heartseg": __version__,
            "step": step,
            "settings": settings.to_dict(),
            "scaling": {k: vars(v) for k, v in scaling.items()},
            "weights": files,
        }
        part = folder / f"{CARD}.part"
        part.write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
        part.replace(folder / CARD)
        kept = {entry["file"] for entry in files.values()}
        for old in folder.glob("*2*-*.pth"):
            if old.name not in kept:
                old.unlink()
    return open_model(folder)


def open_model(folder: str | Path) -> TranslationModel:
    """Read and check the card of a model folder.

    Raises:
        ModelError: the card is missing or invalid.
    """
    folder = Path(folder)
    if (folder / "model" / CARD).is_file():  # the working folder of a training
        folder = folder / "model"
    path = folder / CARD
    if not path.is_file():
        raise ModelError(
            f"'{folder}' is not a translation model (it contains no {CARD}): give an output folder of "
            "'heartseg translate train'"
        )
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
        if card["format"] != FORMAT:
            raise ModelError(f"'{path}' has format {card['format']!r}: this version reads {FORMAT}; update HeartSeg")
        scaling = {m: _scaling(card["scaling"][m]) for m in ("MR", "CT")}
        files = {d: _weights(card["weights"][d]) for d in DIRECTIONS}
        return TranslationModel(folder, Settings.from_dict(card["settings"]), scaling, files, card)
    except ModelError:
        raise
    except HeartSegError as error:
        raise ModelError(f"'{path}' cannot be used: {error}") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"'{path}' is damaged ({type(error).__name__}: {error!s:.80}): {_AGAIN}") from None


def _scaling(values: dict[str, Any]) -> Scaling:
    low, high = (float(v) for v in values["typical"])
    found = Scaling(str(values["kind"]), float(values["low"]), float(values["high"]), (low, high))
    if found.kind not in ("window", "percentiles") or not (found.low < found.high and low < high):
        raise ValueError(f"scaling {values!r:.60}")
    return found


def _weights(values: dict[str, Any]) -> tuple[str, str]:
    name, sha256 = str(values["file"]), str(values["sha256"])
    if not re.fullmatch(r"[\w.-]+\.pth", name) or not re.fullmatch(r"[0-9a-f]{64}", sha256):
        raise ValueError(f"weights {name!r:.60}")
    return name, sha256
