"""Image effects of generator 0.6, one per file; see :func:`~heartseg.synthesis.appearance.render`.

Effects apply in the order of :data:`ALL`.
"""

from __future__ import annotations

import numpy as np

from ..tables import Appearance
from .base import Effect
from .clipping import Clipping
from .clusters import Clusters
from .enhancement import LateEnhancement
from .flow_voids import FlowVoids
from .layering import Layering
from .low_dose import LowDose
from .lung_kernel import LungKernel
from .pulsation import Pulsation
from .random_convolution import RandomConvolution
from .svc_streaks import VenaCavaStreaks
from .trabeculae import Trabeculae

ALL: tuple[type[Effect], ...] = (
    Layering,
    Clusters,
    LateEnhancement,
    FlowVoids,
    Trabeculae,
    VenaCavaStreaks,
    Pulsation,
    LungKernel,
    LowDose,
    RandomConvolution,
    Clipping,
)


def draw_effects(rng: np.random.Generator, look: Appearance, without: frozenset[str]) -> tuple[Effect, ...]:
    """Draw the effects for an appearance; each has its own stream, so switching one off does not change the others."""
    drawn = [(kind.name, kind.draw(np.random.default_rng(int(rng.integers(2**62))), look)) for kind in ALL]
    return tuple(effect for name, effect in drawn if effect is not None and name not in without)


__all__ = ["ALL", "Effect", "draw_effects"]
