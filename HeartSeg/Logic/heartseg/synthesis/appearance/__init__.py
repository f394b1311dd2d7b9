"""Grey values: each tissue gets a mean, a mixing amplitude and a texture; then the scanner's blur, noise and habits.

All parameters are drawn first (:func:`draw_appearance`: ``ct``, ``mr`` or ``free``), then applied (:func:`render`, in
``scanner``), so that the same parameters give the same kind of image on any grid and any device.
"""

from .draw import KINDS, draw_appearance
from .scanner import render
from .tables import PARTS, Appearance

__all__ = ["KINDS", "PARTS", "Appearance", "draw_appearance", "render"]
