"""State of a training run on disk, in parts small enough to transfer.

A state is a folder ``state-<step>/`` with ``part-NN.bin`` files and ``state.json``, which lists them with their SHA-256
and is written last. The name of an incomplete folder ends in ``.part``. Folders with a damaged part are skipped.
Networks are stored as float32, their average as float16 and the moments of the optimiser as bfloat16: 10 bytes per
weight, 57 MB for the fine network.
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
    """Write ``state`` (tensors, numbers, strings) of ``step``.

    After writing, keep the newest ``keep`` complete states up to this step and delete incomplete, damaged and later
    ones.
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
    shutil.rmtree(target, ignore_errors=True)  # if stopped here, load_state uses the complete ".part" folder
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
    """Load the newest complete state in ``folder`` with ``weights_only``; None if there is none.

    Raises:
        ValueError: all states are damaged.
    """
    states = sorted(folder.glob("state-*"), reverse=True)
    for target in states:
        data = _whole(target)
        if data is not None:
            return torch.load(io.BytesIO(data), weights_only=True, map_location="cpu")
    damaged = [s for s in states if s.suffix != UNFINISHED]
    if damaged:
        raise ValueError(
            f"training in '{folder}' cannot resume, all saved states are damaged (such as '{damaged[0].name}'): "
            "remove the folder to start again"
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
    """Convert the moments in the state dict of an optimiser to bfloat16 (torch converts them back on loading)."""
    small = {
        index: {k: v.bfloat16() if isinstance(v, torch.Tensor) and v.dim() else v for k, v in entry.items()}
        for index, entry in state["state"].items()
    }
    return {"state": small, "param_groups": state["param_groups"]}
