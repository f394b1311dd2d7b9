"""Time series: choice of the frame to segment, or of all frames.

In Slicer a time series is a sequence node with a browser. The user chooses the proxy volume of the browser, which shows
one frame at a time, like any other scan; then the row *Frames* appears.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from slicer.i18n import tr as _

from ..scene.frames import browser_of, go_to_frame
from .section import busy


class Frames:
    """The row *Frames*, visible only for the proxy volume of a sequence browser.

    Args:
        ui: named widgets of ``HeartSeg.ui``.
    """

    def __init__(self, ui: Any) -> None:
        self._row = (ui.framesLabel, ui.framesWidget)
        self._spin, self._all = ui.frameSpinBox, ui.allFramesCheckBox
        self._tips = [(w, w.toolTip) for w in (self._spin, self._all)]
        self._browser: Any = None

    def connect(self, changed: Callable[[], None]) -> None:
        """Call ``changed()`` after the user has chosen another frame, which is then displayed."""

        def choose(number: int) -> None:
            self.go_to(number - 1)
            changed()

        self._spin.connect("valueChanged(int)", choose)

    def show(self, volume_node: Any, enabled: bool) -> None:
        """Show the row for this volume, or hide it."""
        self._browser = browser_of(volume_node)
        count = self.count
        for widget in self._row:
            widget.visible = count > 1
        for widget, tip in self._tips:
            widget.enabled = enabled
            widget.toolTip = tip if enabled else busy()
        if count > 1:
            was = self._spin.blockSignals(True)
            self._spin.minimum, self._spin.maximum = 1, count
            self._spin.suffix = _(" of {count}").format(count=count)
            self._spin.value = self.index + 1
            self._spin.blockSignals(was)

    @property
    def browser(self) -> Any:
        """The ``vtkMRMLSequenceBrowserNode`` of the chosen scan; ``None`` if it is not a time series."""
        return self._browser

    @property
    def count(self) -> int:
        """Number of frames; 1 if the scan is not a time series."""
        return self._browser.GetNumberOfItems() if self._browser is not None else 1

    @property
    def index(self) -> int:
        """Number of the displayed frame, from 0."""
        return self._browser.GetSelectedItemNumber() if self._browser is not None else 0

    def go_to(self, index: int) -> None:
        """Show another frame; the proxy volume then contains its voxels."""
        if self._browser is not None:
            go_to_frame(self._browser, index)
