"""A training run on disk: everything needed to go on, in pieces small enough to travel.

A state is a folder ``state-<step>/`` of ``part-NN.bin`` files and ``state.json``, which names them with their SHA-256
and is written last; until it is whole its name ends in ``.part``. A folder with a wrong piece is passed over. Networks
are float32, their average float16, the optimiser's moments bfloat16: 10 bytes a weight, 57 MB for the fine network.
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
UNFINISHED = ".part"


def save_state(folder: Path, state: dict[str, Any], step: int, keep: int = 2) -> Path:
    """Write ``state`` (tensors, numbers, texts) of ``step``.

    Once it is whole, the newest ``keep`` whole states up to this step stay; unfinished, damaged and later ones go.
    """
    target = folder / f"state-{step:07d}"
    part = target.with_suffix(UNFINISHED)
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    buffer = io.BytesIO()
    torch.save(state, buffer)
    data, parts = buffer.getvalue(), []
    for number, start in enumerate(range(0, len(data), PART_BYTES)):
        piece = data[start : start + PART_BYTES]
        name = f"part-{number:02d}.bin"
        (part / name).write_bytes(piece)
        parts.append({"name": name, "sha256": hashlib.sha256(piece).hexdigest()})
    card = part / "state.json.part"
    card.write_text(json.dumps({"step": step, "parts": parts}, indent=1))
    card.rename(part / "state.json")
    shutil.rmtree(target, ignore_errors=True)  # stopped here, the whole one under its temporary name is taken
    part.rename(target)
    kept = 1
    for old in sorted(folder.glob("state-*"), reverse=True):
        if old == target:
            continue
        if old.name < target.name and kept < keep and _whole(old) is not None:
            kept += 1
        else:
            shutil.rmtree(old, ignore_errors=True)
    return target


def load_state(folder: Path) -> dict[str, Any] | None:
    """The newest whole state below ``folder``, read with ``weights_only``; None if none was ever finished.

    Raises:
        ValueError: there are states and all are damaged.
    """
    states = sorted(folder.glob("state-*"), reverse=True)
    for target in states:
        data = _whole(target)
        if data is not None:
            return torch.load(io.BytesIO(data), weights_only=True, map_location="cpu")
    damaged = [s for s in states if s.suffix != UNFINISHED]
    if damaged:
        raise ValueError(
            f"the training in '{folder}' cannot go on: no state is whole ('{damaged[0].name}' is "
            "damaged); remove the folder to begin anew"
        )
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
