"""The section *Explain*: overlays a heat map of a structure or a confidence map on the scan."""

from __future__ import annotations

from typing import Any

from slicer.i18n import tr as _

from ..anatomy import STRUCTURES
from ..errors import HeartSegError
from ..provenance import Provenance
from ..scene.language import in_language
from ..scene.masks import masks_of
from ..scene.nodes import is_overlay
from ..scene.overlay import (
    CONFIDENCE,
    HEAT_MAP,
    Overlay,
    PreparedOverlay,
    find_overlay,
    remove_overlay,
    show_overlay,
)
from .maps import HeatMap, HeatMapRequest, make_confidence, make_heat_map
from .names import structure_name
from .section import PanelApi, Section, State, no_result, scan_of_segmentation, segmentation_obstacle

_LAYERS = (("last", _("the last before the output")), ("bottleneck", _("the bottleneck, the coarsest")))
_FIRST = "AO"


class Explain(Section):
    """Overlays on the scan of the displayed segmentation."""

    name = "Explain"

    def __init__(self) -> None:
        super().__init__()
        self._state = State()
        self._keys: list[str] = []
        self._layers: list[str] = []
        self._shown: Overlay | None = None

    def setup(self, panel: PanelApi) -> None:
        super().setup(panel)
        ui = self.ui
        ui.explainButton.connect("clicked()", self.explain)
        ui.confidenceButton.connect("clicked()", self.show_confidence)
        ui.undoMapButton.connect("clicked()", self.undo)
        ui.removeMapsButton.connect("clicked()", self.remove)
        names = (
            "structureComboBox",
            "layerComboBox",
            "explainButton",
            "confidenceButton",
            "undoMapButton",
            "removeMapsButton",
        )
        self._tips = {name: getattr(ui, name).toolTip for name in names}
        self._fill_layers(())

    def update(self, state: State) -> None:
        self._state = state
        self._fill_structures()
        self._enable()

    def cleanup(self) -> None:
        self._state, self._shown = State(), None

    # --- buttons -------------------------------------------------------------------------------------------------

    def explain(self) -> None:
        """Compute the heat map on the worker and show it."""
        scan = scan_of_segmentation(self._state)
        try:
            request = HeatMapRequest(
                self.panel.scan_of(scan),
                masks_of(self._state.segmentation, scan),
                self._state.record.provenance if self._state.record is not None else Provenance(),
                self._keys[self.ui.structureComboBox.currentIndex],
                self._layers[self.ui.layerComboBox.currentIndex],
            )
        except HeartSegError as error:
            self.panel.show_error(str(error))
            return

        def show(made: HeatMap) -> None:
            self._fill_layers(made.layers)
            said = _("{key}: contributions at layer {layer}. An illustration, not a validation.")
            text = said.format(key=request.structure, layer=made.layer)
            self._show(made.prepared, scan, " ".join([text, *map(in_language, made.notices)]))

        segmenter = self.panel.chosen_model().segmenter
        self.panel.start(_("Explain"), lambda reporter: make_heat_map(request, segmenter, reporter), show)

    def show_confidence(self) -> None:
        """Show the confidence map; segments the scan again unless the last run has computed the map."""
        scan, result = scan_of_segmentation(self._state), self._state.result
        known = result.confidence_map if result is not None else None
        try:
            view = self.panel.scan_of(scan)
        except HeartSegError as error:
            self.panel.show_error(str(error))
            return

        def show(prepared: PreparedOverlay) -> None:
            self._show(prepared, scan, _("Probability of the label chosen by the network: dark 40 %, bright 100 %."))

        segmenter = self.panel.chosen_model().segmenter
        self.panel.start(_("Confidence map"), lambda reporter: make_confidence(view, known, segmenter, reporter), show)

    def undo(self) -> None:
        """Restore what the last map replaced."""
        if self._shown is not None:
            self._shown.undo()
        self._shown = None
        self.ui.mapLabel.text = ""
        self._enable()

    def remove(self) -> None:
        """Remove the maps of this scan."""
        scan = scan_of_segmentation(self._state)
        for kind in (HEAT_MAP, CONFIDENCE):
            remove_overlay(find_overlay(scan, kind) if scan is not None else None)
        self._shown = None
        self.ui.mapLabel.text = ""
        self._enable()

    # --- display -------------------------------------------------------------------------------------------------

    def _show(self, prepared: PreparedOverlay, scan: Any, text: str) -> None:
        try:
            self._shown = show_overlay(prepared, scan)
        except HeartSegError as error:
            self.panel.show_error(str(error))
            return
        self.ui.mapLabel.text = text
        self._enable()

    def _fill_structures(self) -> None:
        """List the segments and keep the selection."""
        segmentation = self._state.segmentation.GetSegmentation() if self._state.segmentation is not None else None
        there = [s for s in STRUCTURES if segmentation is not None and segmentation.GetSegment(s.key) is not None]
        if [s.key for s in there] == self._keys:
            return
        box = self.ui.structureComboBox
        kept = self._keys[box.currentIndex] if 0 <= box.currentIndex < len(self._keys) else _FIRST
        self._keys = [s.key for s in there]
        box.clear()
        for s in there:
            box.addItem(f"{s.key}: {structure_name(s.key)}")
        box.setCurrentIndex(self._keys.index(kept) if kept in self._keys else 0)

    def _fill_layers(self, names: tuple[str, ...]) -> None:
        """List the two layers that every network has, and those of the model explained last."""
        layers = [*(name for name, _text in _LAYERS), *names]
        if layers == self._layers:
            return
        box = self.ui.layerComboBox
        kept = self._layers[box.currentIndex] if 0 <= box.currentIndex < len(self._layers) else layers[0]
        self._layers = layers
        box.clear()
        for _name, text in _LAYERS:
            box.addItem(text)
        for name in names:
            box.addItem(name)
        box.setCurrentIndex(layers.index(kept) if kept in layers else 0)

    def _enable(self) -> None:
        state, scan = self._state, scan_of_segmentation(self._state)
        why = segmentation_obstacle(state) if self._keys else no_result()
        mapped = scan is not None and any(find_overlay(scan, kind) is not None for kind in (HEAT_MAP, CONFIDENCE))
        can_undo = self._shown is not None and is_overlay(self._shown.node) and self._shown.node.GetScene() is not None
        nothing = _("No map is shown.")
        for name, reason in (
            ("structureComboBox", why),
            ("layerComboBox", why),
            ("explainButton", why),
            ("confidenceButton", why),
            ("undoMapButton", "" if can_undo else nothing),
            ("removeMapsButton", "" if mapped else nothing),
        ):
            widget = getattr(self.ui, name)
            widget.enabled = not reason
            widget.toolTip = reason or self._tips[name]
