"""Grey values: tissues get a mean, slow variation and texture; the scanner adds blur, noise and artefacts.

:func:`draw_appearance` draws all parameters (modules ``ct``, ``mr``, ``free``), then :func:`render` (module
``scanner``) applies them, so that the same parameters give the same kind of image on any grid and any device.
"""

from .draw import KINDS, draw_appearance
from .scanner import render
from .tables import PARTS, Appearance

__all__ = ["KINDS", "PARTS", "Appearance", "draw_appearance", "render"]
