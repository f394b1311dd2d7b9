"""``slicer.ScriptedLoadableModule`` and ``slicer.parameterNodeWrapper`` with a panel, which the headless ones lack.

Behaviour as in Slicer 5.12's own files: exact widget types, a ``Choice`` for combo boxes, a ``callback`` per parameter.
"""

from __future__ import annotations

import enum
import types
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any

from slicer_host.standins import parameter_node as headless_parameters
from slicer_host.standins import scripted_module as headless_module


class ScriptedLoadableModuleWidget:
    """Base class of the panel, created as in the application: with a parent that has a layout and a scene."""

    def __init__(self, parent: Any = None) -> None:
        super().__init__()
        self.moduleName = type(self).__name__.removesuffix("Widget")
        self.developerMode = False
        self.parent = parent
        self.layout = parent.layout()

    def resourcePath(self, filename: str) -> str:
        import slicer

        return str(Path(slicer.util.modulePath(self.moduleName)).parent / "Resources" / filename)

    def setup(self) -> None:
        pass

    def cleanup(self) -> None:
        pass

    def onReload(self) -> None:
        import slicer

        slicer.util.reloadScriptedModule(self.moduleName)


class Connector:
    """One widget and its displayed value."""

    def __init__(self, signal: Any, read: Callable[[], Any], write: Callable[[Any], None]) -> None:
        self._signal, self.read, self.write = signal, read, write
        self._callback: Callable[[], None] | None = None

    def on_changed(self, callback: Callable[[], None] | None) -> None:
        if self._callback is not None:
            self._signal.disconnect(self._changed)
        self._callback = callback
        if callback is not None:
            self._signal.connect(self._changed)

    def _changed(self, *_: Any) -> None:
        if self._callback is not None:
            self._callback()


def _plain(datatype: Any) -> tuple[Any, tuple[Any, ...]]:
    if typing.get_origin(datatype) is typing.Annotated:
        kind, *extras = typing.get_args(datatype)
        return kind, tuple(extras)
    return datatype, ()


def make_connector(widget: Any, datatype: Any) -> Connector:
    """Return the connector for this widget and type, or raise ``RuntimeError`` as in the application."""
    import qt
    import slicer

    kind, extras = _plain(datatype)

    def put(name: str) -> Callable[[Any], None]:
        return lambda value: setattr(widget, name, value)

    if hasattr(kind, "GetNodeTagName") and isinstance(widget, slicer.qMRMLNodeComboBox):
        return Connector(widget.currentNodeChanged, widget.currentNode, widget.setCurrentNode)
    if kind is bool and type(widget) is qt.QCheckBox:
        return Connector(widget.stateChanged, lambda: widget.checked, put("checked"))
    if kind is int and type(widget) in (qt.QSlider, qt.QSpinBox):
        return Connector(widget.valueChanged, lambda: widget.value, put("value"))
    if kind is float and type(widget).__name__ in ("QDoubleSpinBox", "ctkSliderWidget"):
        return Connector(widget.valueChanged, lambda: widget.value, put("value"))
    if kind is str and type(widget) is qt.QLineEdit:
        return Connector(widget.textChanged, lambda: widget.text, put("text"))
    if type(widget) is qt.QComboBox:
        choices = list(kind) if isinstance(kind, type) and issubclass(kind, enum.Enum) else None
        if choices is None:
            choices = next((list(e.choices) for e in extras if isinstance(e, headless_parameters.Choice)), None)
        if choices is None:
            raise RuntimeError("ComboBoxToStringableConnector requires the Choice annotation to be used.")
        widget.clear()
        for choice in choices:
            widget.addItem(choice.name if isinstance(choice, enum.Enum) else str(choice))

        def write(value: Any) -> None:
            widget.currentIndex = choices.index(value)

        return Connector(widget.currentIndexChanged, lambda: choices[widget.currentIndex], write)
    raise RuntimeError(f"Unable to create GUI connector from datatype '{datatype}' to widget type '{type(widget)}'")


def parameterNodeWrapper(wrapped: type) -> type:
    """The headless wrapper with a connection to the widgets of a panel."""
    hints = typing.get_type_hints(wrapped, include_extras=True)
    made = headless_parameters.parameterNodeWrapper(wrapped)
    made.connectGui = _connect_gui  # type: ignore[attr-defined]
    made.connectParametersToGui = _connect_parameters  # type: ignore[attr-defined]
    made.disconnectGui = _disconnect_gui  # type: ignore[attr-defined]
    made._hints = hints  # type: ignore[attr-defined]
    return made


def _connect_gui(self: Any, gui: Any) -> int:
    mapping = {}
    for widget in vars(gui).values():
        name = widget.property("SlicerParameterName")
        if name:
            mapping[name] = widget
    return _connect_parameters(self, mapping)


def _connect_parameters(self: Any, mapping: dict[str, Any]) -> int:
    import vtk

    for name in mapping:
        if name not in self.allParameters:
            raise ValueError(f"Cannot find a param with the given name: {name}")
    connectors = {name: make_connector(widget, self._hints[name]) for name, widget in mapping.items()}
    guis = self.__dict__.setdefault("_guis", {})
    tag = len(guis) + 1
    guis[tag] = connectors

    def from_gui(name: str) -> Callable[[], None]:
        def callback() -> None:
            if not self.__dict__.get("_updating_gui"):
                setattr(self, name, connectors[name].read())

        return callback

    def to_gui(*_: Any) -> None:
        if self.__dict__.get("_updating_gui") or tag not in guis:
            return
        self._updating_gui = True
        try:
            for name, connector in connectors.items():
                connector.write(getattr(self, name))
        finally:
            self._updating_gui = False

    for name, connector in connectors.items():
        connector.write(getattr(self, name))
        connector.on_changed(from_gui(name))
    self.AddObserver(vtk.vtkCommand.ModifiedEvent, to_gui)
    return tag


def _disconnect_gui(self: Any, tag: int) -> None:
    # The observer stays on the node, as in Slicer 5.10: a wrapper without references would crash the process.
    for connector in self.__dict__.get("_guis", {}).pop(tag, {}).values():
        connector.on_changed(None)


def make_modules() -> dict[str, types.ModuleType]:
    """Return new modules ``slicer.ScriptedLoadableModule`` and ``slicer.parameterNodeWrapper``."""
    base = types.ModuleType("slicer.ScriptedLoadableModule")
    vars(base).update({k: v for k, v in vars(headless_module).items() if k.startswith("Scripted")})
    base.ScriptedLoadableModuleWidget = ScriptedLoadableModuleWidget  # type: ignore[attr-defined]
    parameters = types.ModuleType("slicer.parameterNodeWrapper")
    vars(parameters).update(
        {k: v for k, v in vars(headless_parameters).items() if k[0].isupper() and k != "IS_HEARTSEG_STANDIN"}
    )
    parameters.parameterNodeWrapper = parameterNodeWrapper  # type: ignore[attr-defined]
    return {base.__name__: base, parameters.__name__: parameters}
