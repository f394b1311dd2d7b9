"""Bull's-eye plot drawn with Qt, because Slicer has no matplotlib."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import qt

from ..measure.bullseye import SCALES, color_of, ink_on, sectors, text_of

SIZE = 250
_CENTERED = 0x84  # Qt.AlignCenter as a number
_FULL_TURN = 16  # Qt measures angles in sixteenths of a degree


def bullseye_pixmap(values: Mapping[int, float | None], quantity: str) -> Any:
    """Return a ``QPixmap`` of :data:`SIZE` pixels with a transparent background.

    Args:
        values: segment (1-17) -> value.
        quantity: a key of :data:`~heartseg.measure.bullseye.SCALES`.
    """
    pixmap = qt.QPixmap(SIZE, SIZE)
    pixmap.fill(qt.QColor(0, 0, 0, 0))
    painter = qt.QPainter()
    painter.begin(pixmap)
    painter.setRenderHint(qt.QPainter.Antialiasing)
    for sector in sectors():  # from the outside to the inside, each over the last
        color = color_of(values.get(sector.segment), SCALES[quantity])
        painter.setPen(qt.QPen(qt.QColor(255, 255, 255), 2))
        painter.setBrush(qt.QBrush(_qcolor(color)))
        radius = round(sector.outer * (SIZE / 2 - 2))
        place = (SIZE // 2 - radius, SIZE // 2 - radius, 2 * radius, 2 * radius)
        if sector.inner == 0:
            painter.drawEllipse(*place)
        else:
            start, span = sector.start_deg, sector.stop_deg - sector.start_deg
            painter.drawPie(*place, round(start * _FULL_TURN), round(span * _FULL_TURN))
    for sector in sectors():
        value = values.get(sector.segment)
        painter.setPen(qt.QPen(_qcolor(ink_on(color_of(value, SCALES[quantity])))))
        right, up = sector.middle
        x, y = round(SIZE / 2 + right * SIZE / 2), round(SIZE / 2 - up * SIZE / 2)
        painter.drawText(x - 24, y - 10, 48, 20, _CENTERED, text_of(value, quantity))
    painter.end()
    return pixmap


def _qcolor(color: tuple[float, float, float]) -> Any:
    return qt.QColor(*(round(255 * c) for c in color))
