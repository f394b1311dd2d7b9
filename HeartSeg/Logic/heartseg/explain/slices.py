"""2D models: their network goes through the slices one by one, as nnU-Net has it."""

from __future__ import annotations

from dataclasses import replace

from ..models.folder import ModelFolder
from ..models.plans import fallback_reason


def is_slicewise(folder: ModelFolder) -> bool:
    """Whether a model differs from one that our own loop runs only in that it is 2D."""
    if len(folder.patch_size) != 2:
        return False
    plan = replace(folder.configuration_plan, patch_size=(1, *folder.patch_size))
    return fallback_reason(plan, folder.plans, folder.heads.regions) is None


def as_3d(folder: ModelFolder, spacing: tuple[float, ...]) -> ModelFolder:
    """A 2D model with patches of one slice and the scan's own distance of slices, which nnU-Net leaves as it is.

    Args:
        spacing: of the scan's stored ``(z, y, x)`` axes, mm.
    """
    between = spacing[folder.transpose_forward[0]]
    plan = replace(
        folder.configuration_plan, patch_size=(1, *folder.patch_size), spacing=(between, *folder.spacing)
    )  # fmt: skip
    return replace(folder, configuration_plan=plan)
