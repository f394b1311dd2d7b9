"""A training run on disk: everything needed to go on, in pieces small enough to travel.

A state is a folder ``state-<step>/`` of ``part-NN.bin`` files and ``state.json``, which names them with their SHA-256
and is written last; a folder without it, or with a wrong piece, is passed over. Networks are float32, their average
float16, the optimiser's moments bfloat16: 10 bytes a weight, 57 MB for the fine network.
"""

from __future__ import annotations

import hashlib
import io
import json
import shutil
from pathlib import Path
from typing import Any

import torch

PART_BYTES = 15_000_000


def save_state(folder: Path, state: dict[str, Any], step: int, keep: int = 2) -> Path:
    """Write ``state`` (tensors, numbers, texts) of ``step``; older states beyond ``keep`` are removed."""
    target = folder / f"state-{step:07d}"
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    buffer = io.BytesIO()
    torch.save(state, buffer)
    data, parts = buffer.getvalue(), []
    for number, start in enumerate(range(0, len(data), PART_BYTES)):
        piece = data[start : start + PART_BYTES]
        name = f"part-{number:02d}.bin"
        (target / name).write_bytes(piece)
        parts.append({"name": name, "sha256": hashlib.sha256(piece).hexdigest()})
    card = target / "state.json.part"
    card.write_text(json.dumps({"step": step, "parts": parts}, indent=1))
    card.rename(target / "state.json")
    for old in sorted(folder.glob("state-*"))[:-keep]:
        shutil.rmtree(old, ignore_errors=True)
    return target


def load_state(folder: Path) -> dict[str, Any] | None:
    """The newest whole state below ``folder``, read with ``weights_only``; None if there is none."""
    for target in sorted(folder.glob("state-*"), reverse=True):
        data = _whole(target)
        if data is not None:
            return torch.load(io.BytesIO(data), weights_only=True, map_location="cpu")
    return None


def _whole(target: Path) -> bytes | None:
    try:
        card = json.loads((target / "state.json").read_text())
        pieces = []
        for part in card["parts"]:
            piece = (target / Path(part["name"]).name).read_bytes()
            if hashlib.sha256(piece).hexdigest() != part["sha256"]:
                return None
            pieces.append(piece)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return b"".join(pieces)


def shrink_optimiser(state: dict[str, Any]) -> dict[str, Any]:
    """An optimiser's state dict with its moments as bfloat16 (torch turns them back on loading)."""
    small = {
        index: {k: v.bfloat16() if isinstance(v, torch.Tensor) and v.dim() else v for k, v in entry.items()}
        for index, entry in state["state"].items()
    }
    return {"state": small, "param_groups": state["param_groups"]}
