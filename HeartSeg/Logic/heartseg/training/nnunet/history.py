"""Training history as numbers: ``history.csv``, and TensorBoard if installed."""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

COLUMNS = {
    "train_losses": "loss",
    "val_losses": "loss of held-out patches",
    "mean_fg_dice": "mean Dice of held-out patches",
    "lrs": "learning rate",
}
"""Column heading of each value that nnU-Net logs per epoch."""


def rows(logged: Mapping[str, Sequence[Any]], keys: Sequence[str]) -> list[dict[str, float]]:
    """Return one row per finished epoch: number, losses, Dice of each structure, learning rate, seconds.

    Args:
        logged: nnU-Net's log, one entry per epoch under each name.
        keys: structures in label order.
    """
    found = []
    for i in range(len(logged["mean_fg_dice"])):
        row = {"epoch": float(i + 1), **{heading: float(logged[name][i]) for name, heading in COLUMNS.items()}}
        each = dict(zip(keys, logged["dice_per_class_or_region"][i], strict=False))
        row |= {f"Dice of {key}": float(value) for key, value in each.items()}
        row["seconds"] = float(logged["epoch_end_timestamps"][i] - logged["epoch_start_timestamps"][i])
        found.append(row)
    return found


def write_history(logged: Mapping[str, Sequence[Any]], keys: Sequence[str], path: Path) -> None:
    """Write ``history.csv`` atomically."""
    table = rows(logged, keys)
    part = path.with_name(f".{path.name}.part-{os.getpid()}")
    with part.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(table[0]) if table else ["epoch"], lineterminator="\n")
        writer.writeheader()
        writer.writerows({k: f"{v:.6g}" for k, v in row.items()} for row in table)
    part.replace(path)


def log_to_tensorboard(row: Mapping[str, float], folder: Path) -> bool:
    """Add an epoch to the TensorBoard files in ``folder``; returns whether ``tensorboard`` is installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return False
    with SummaryWriter(str(folder)) as writer:
        for name, value in row.items():
            if name != "epoch":
                writer.add_scalar(name, value, int(row["epoch"]))
    return True
