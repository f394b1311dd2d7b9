"""Render an image from a region map and imaging parameters: anatomy, artefacts, resolution, noise, grey scale."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from ..fields import apply_lines, smooth_field
from ..stacks import scan_stack
from .artefacts import add_ghosts, add_streaks, coil_gain, harden_beam, misregister, move_heart
from .effects.base import SCANNED, SHOWN, TISSUE, Effect
from .grey_scale import to_grey_scale
from .resolution import add_noise, point_spread
from .slices import stack_oblique, stack_slices
from .tables import Appearance
from .tissue import Body, paint_tissues

_STEPS = (
    "mixing",
    "inflow",
    "texture",
    "motion",
    "streaks",
    "beam_hardening",
    "steps",
    "coil",
    "ghosts",
    "noise",
    "bias",
)


def render(
    rng: np.random.Generator,
    regions: torch.Tensor | np.ndarray,
    appearance: Appearance,
    spacing: float,
    subdivisions: int = 2,
) -> torch.Tensor:
    """Render a region map as an image ``subdivisions`` times coarser; averaging grey values gives the partial volume.

    Args:
        rng: source of randomness of textures, artefacts and noise. Each has its own stream, so that switching one off
            does not change the others. The same state gives the same image on one device, and a similar image on
            another.
        regions: (z, y, x) uint8 (:class:`~heartseg.synthesis.regions.Region`), LPS axes, on any device; the length of
            every axis is a multiple of ``subdivisions``.
        appearance: imaging parameters.
        spacing: voxel size of the image in mm (that of the map is ``spacing / subdivisions``).
        subdivisions: map voxels per image voxel along each axis.

    Returns:
        float32 image on the device of the map, each axis ``subdivisions`` times shorter.
    """
    if isinstance(regions, np.ndarray):
        regions = torch.from_numpy(np.array(regions, dtype=np.uint8))
    a = appearance
    streams = {name: np.random.default_rng(int(rng.integers(2**62))) for name in _STEPS}
    effects = [(effect, np.random.default_rng(int(rng.integers(2**62)))) for effect in a.effects]
    image, body = paint_tissues(streams, regions, a, spacing, subdivisions)
    middle = body.middle
    image = _apply(effects, TISSUE, image, body)
    if a.motion:
        image = move_heart(streams["motion"], image, middle, a.motion / spacing, spacing)
    if a.streak:
        add_streaks(streams["streaks"], image, middle, a, spacing)
    if a.beam_hardening:
        harden_beam(image, a.beam_hardening, spacing)
    if a.step:
        misregister(streams["steps"], image, a.step / spacing, spacing)
    if a.gain or a.front_gain or a.banding:
        image *= coil_gain(streams["coil"], image, a)
    if a.ghost:
        add_ghosts(streams["ghosts"], image, middle, a, spacing)
    image = apply_lines(image, point_spread(image.shape, a, spacing))
    if a.noise:
        image = add_noise(streams["noise"], image, a, spacing)
    image = _apply(effects, SCANNED, image, body)
    if a.stack is not None:
        image = scan_stack(image, a.stack, spacing)
    elif a.slice_mm > spacing * 1.2:
        image = stack_slices(image, a, spacing) if a.slice_turn is None else stack_oblique(image, a, spacing)
    if a.bias:
        image += a.bias * smooth_field(streams["bias"], image.shape, max(image.shape) / 2.5, image.device)
    return _apply(effects, SHOWN, to_grey_scale(image, a), body)


def _apply(
    effects: Sequence[tuple[Effect, np.random.Generator]], when: str, image: torch.Tensor, body: Body
) -> torch.Tensor:
    """Apply the effects of one stage, in order."""
    for effect, rng in effects:
        if effect.when == when:
            image = effect.apply(rng, image, body)
    return image
