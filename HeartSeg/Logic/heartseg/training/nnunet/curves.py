"""Draw the course of a training: losses, Dice of validation patches, learning rate."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...anatomy import structure


def draw_progress(logged: Mapping[str, Sequence[Any]], keys: Sequence[str], title: str, path: Path) -> None:
    """Draw nnU-Net's log of the epochs as a PNG file (1400 x 450 pixels), written atomically.

    Args:
        logged: nnU-Net's log: ``train_losses``, ``val_losses``, ``dice_per_class_or_region``, ``mean_fg_dice``,
            ``lrs``, one entry per epoch.
        keys: structures in label order, for names and colours.
        title: title of the figure.
        path: output file.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(14.0, 4.5), dpi=100, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    losses, dice, rates = figure.subplots(1, 3, width_ratios=(3, 3, 1.4))
    epochs = np.arange(1, len(logged["mean_fg_dice"]) + 1)
    for name, label, color in (("train_losses", "training", "#33658a"), ("val_losses", "held out", "#c1440e")):
        losses.plot(
            epochs, logged[name][: len(epochs)], label=label, color=color, marker="." if len(epochs) < 30 else ""
        )
    each = np.array(logged["dice_per_class_or_region"], float).reshape(len(epochs), -1)
    for column, key in enumerate(keys[: each.shape[1]]):
        own = tuple(c / 255 for c in structure(key).color)
        dice.plot(epochs, each[:, column], label=key, color=own, linewidth=1.2)
    dice.plot(epochs, logged["mean_fg_dice"], label="mean", color="black", linewidth=2)
    rates.plot(epochs, logged["lrs"][: len(epochs)], color="#555555")
    dice.set_ylim(0, 1)
    rates.set_ylim(bottom=0)
    for axes, name in ((losses, "loss"), (dice, "Dice of held-out patches"), (rates, "learning rate")):
        axes.set_title(name, loc="left")
        axes.set_xlabel("epoch")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(color="#e3e6ea")
    losses.legend()
    dice.legend(ncols=4, fontsize="small")
    figure.suptitle(title, x=0.01, ha="left")
    part = path.with_name(f".{path.name}.part-{os.getpid()}")
    figure.savefig(part, format="png")
    part.replace(path)
