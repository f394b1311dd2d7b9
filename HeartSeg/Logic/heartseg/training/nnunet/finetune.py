"""Fine-tuning: use spacing, patch, normalisation and weights of an existing model in a new training."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...errors import SettingsError
from ...models.loading import load_model
from ...models.store import find_model
from .presets import DIMENSIONS, Preset

START_NAME = "start.pth"


def start_from_model(model: str, preset: Preset, out: Path) -> Mapping[str, Any]:
    """Return plans, configuration and weights of a model for :func:`~.planning.adapted_plans`.

    HeartSeg's safe loader reads the weights. They are written to ``out/start.pth`` without any other content, where
    every process of the training finds them.

    Args:
        model: name of an installed model, or a folder.
        preset: preset of the new training; its dimension must be that of the model.
        out: folder of the training.

    Raises:
        ModelError: the model cannot be read.
        SettingsError: the model has the other dimension.
    """
    import torch

    folder = find_model(model)
    dimension = f"{len(folder.patch_size)}d"
    if dimension != preset.dimension:
        raise SettingsError(
            f"model {folder.name!r} is {dimension} and the training {preset.dimension}: add --dimension {dimension}"
        )
    if DIMENSIONS[preset.dimension] not in folder.plans["configurations"]:
        raise SettingsError(
            f"model {folder.name!r} has no configuration {DIMENSIONS[preset.dimension]!r}: train from another model"
        )
    path = out / START_NAME
    if not path.is_file():
        weights = load_model(folder).networks[0].state_dict()
        part = path.with_suffix(".part")
        torch.save({"network_weights": weights}, part)
        part.replace(path)
    return {"plans": folder.plans, "configuration": folder.configuration, "checkpoint": str(path.resolve())}
