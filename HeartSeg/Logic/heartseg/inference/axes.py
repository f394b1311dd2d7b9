"""From world-aligned arrays to the axes in which a network was trained."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..errors import ModelError
from ..wording import _

_WORLD = {"L": (0, 1), "R": (0, -1), "P": (1, 1), "A": (1, -1), "S": (2, 1), "I": (2, -1)}


@dataclass(frozen=True)
class NetworkAxes:
    """How a network's array ``(a, b, c)`` lies in the patient.

    Attributes:
        order: for each network axis the LPS array axis (0 = z to Superior, 1 = y to Posterior, 2 = x to Left).
        flipped: network axes that run against the LPS axis.
    """

    order: tuple[int, int, int]
    flipped: tuple[int, ...]

    @classmethod
    def of(cls, orientation: str, transpose: tuple[int, ...] = (0, 1, 2)) -> NetworkAxes:
        """Axes for a card's orientation and the plans' ``transpose_forward``.

        Args:
            orientation: world directions of the index axes x, y, z, e.g. ``"LPS"`` or ``"RAS"``.
            transpose: permutation of the stored array's axes (z, y, x) that nnU-Net applied.
        """
        letters = orientation.upper()
        if len(letters) != 3 or {_WORLD.get(c, (9, 0))[0] for c in letters} != {0, 1, 2}:
            raise ModelError(
                _("orientation {orientation!r} is not one: use three letters such as LPS or RAS").format(
                    orientation=orientation
                )
            )
        stored = [_WORLD[c] for c in reversed(letters)]  # z, y, x
        axes = [stored[t] for t in transpose]
        order = tuple(2 - world for world, _ in axes)
        return cls((order[0], order[1], order[2]), tuple(k for k, (_, sign) in enumerate(axes) if sign < 0))

    def to_network(self, image: np.ndarray) -> np.ndarray:
        """``(…, z, y, x)`` LPS-aligned → network axes."""
        lead = image.ndim - 3
        turned = image.transpose(*range(lead), *(lead + k for k in self.order))
        return np.ascontiguousarray(np.flip(turned, tuple(lead + k for k in self.flipped)))

    def from_network(self, image: np.ndarray) -> np.ndarray:
        """Network axes → ``(…, z, y, x)`` LPS-aligned."""
        lead = image.ndim - 3
        back = [self.order.index(k) for k in range(3)]
        turned = np.flip(image, tuple(lead + k for k in self.flipped))
        return np.ascontiguousarray(turned.transpose(*range(lead), *(lead + k for k in back)))

    def in_lps(self, values: tuple) -> tuple:
        """Per-axis values (patch, spacing) of the network, in LPS ``(z, y, x)`` order."""
        return tuple(values[self.order.index(k)] for k in range(3))
