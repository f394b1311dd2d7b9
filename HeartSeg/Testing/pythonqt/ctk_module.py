"""The module ``ctk``: widgets of the Common Toolkit that panels use, with CTK's names and a simple appearance."""

from __future__ import annotations

import types
from typing import Any

from PySide6 import QtCore, QtGui, QtWidgets

from .qt_module import custom_widget, wrap

Property, Signal = QtCore.Property, QtCore.Signal


def stored(kind: Any, default: Any, apply: Any = None) -> Any:
    """A Qt property that stores its value and may call a function when set."""
    key = f"_stored_{id(default)}_{len(_keys)}"
    _keys.append(key)

    def get(self: Any) -> Any:
        return self.__dict__.get(key, default)

    def put(self: Any, value: Any) -> None:
        self.__dict__[key] = value
        if apply is not None:
            apply(self, value)

    return Property(kind, get, put)


_keys: list[str] = []


@custom_widget
class ctkCollapsibleButton(wrap(QtWidgets.QWidget)):  # type: ignore[misc]
    """A collapsible section with a title; hidden children are really hidden, as in CTK."""

    contentsCollapsed = Signal(bool)

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self._text, self._collapsed = "", False
        self._folded: list[Any] = []
        self.setContentsMargins(0, 24, 0, 0)

    def _get_text(self) -> str:
        return self._text

    def _put_text(self, value: str) -> None:
        self._text = value
        self.update()

    def _get_collapsed(self) -> bool:
        return self._collapsed

    def _put_collapsed(self, value: bool) -> None:
        changed, self._collapsed = value != self._collapsed, bool(value)
        if value:
            shown = [c for c in self.children() if isinstance(c, QtWidgets.QWidget) and not c.isHidden()]
            self._folded += [c for c in shown if c not in self._folded]
            for child in shown:
                child.setVisible(False)
        else:
            for child in self._folded:
                child.setVisible(True)
            self._folded = []
        QtWidgets.QWidget.setMaximumHeight(self, 24 if value else 16777215)
        if changed:
            self.contentsCollapsed.emit(bool(value))

    def childEvent(self, event: QtCore.QChildEvent) -> None:
        super().childEvent(event)
        child = event.child()
        if event.added() and self._collapsed and isinstance(child, QtWidgets.QWidget):
            self._folded.append(child)
            child.setVisible(False)

    def mousePressEvent(self, event: QtGui.QMouseEvent) -> None:
        if event.position().y() < 24:
            self.collapsed = not self._collapsed  # type: ignore[assignment]

    def paintEvent(self, event: QtGui.QPaintEvent) -> None:
        painter, full = QtGui.QPainter(self), QtWidgets.QWidget.rect(self)
        bar = QtCore.QRect(0, 0, full.width() - 1, 22)
        painter.fillRect(bar, QtWidgets.QWidget.palette(self).color(QtGui.QPalette.ColorRole.Button))
        painter.setPen(QtWidgets.QWidget.palette(self).color(QtGui.QPalette.ColorRole.Mid))
        painter.drawRect(bar)
        painter.setPen(QtWidgets.QWidget.palette(self).color(QtGui.QPalette.ColorRole.ButtonText))
        arrow = "▸" if self._collapsed else "▾"
        painter.drawText(bar.adjusted(8, 0, -4, 0), int(QtCore.Qt.AlignmentFlag.AlignVCenter), f"{arrow}  {self._text}")
        painter.end()

    text = Property(str, _get_text, _put_text)
    collapsed = Property(bool, _get_collapsed, _put_collapsed)
    flat = stored(bool, False)
    checkable = stored(bool, False)
    contentsFrameShape = stored(int, 0)


@custom_widget
class ctkCollapsibleGroupBox(wrap(QtWidgets.QGroupBox)):  # type: ignore[misc]
    collapsed = stored(bool, False)


@custom_widget
class ctkSliderWidget(wrap(QtWidgets.QWidget)):  # type: ignore[misc]
    """A slider with a spin box."""

    valueChanged = Signal(float)

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self._spin = QtWidgets.QDoubleSpinBox()
        self._slider = QtWidgets.QSlider(QtCore.Qt.Orientation.Horizontal)
        self._slider.setRange(0, 1000)
        row = QtWidgets.QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self._slider, 1)
        row.addWidget(self._spin)
        self._spin.valueChanged.connect(self._spun)
        self._slider.valueChanged.connect(self._slid)

    def _spun(self, value: float) -> None:
        low, high = self._spin.minimum(), self._spin.maximum()
        self._slider.blockSignals(True)
        self._slider.setValue(round(1000 * (value - low) / ((high - low) or 1)))
        self._slider.blockSignals(False)
        self.valueChanged.emit(value)

    def _slid(self, position: int) -> None:
        low, high = self._spin.minimum(), self._spin.maximum()
        self._spin.setValue(low + position / 1000 * (high - low))

    value = Property(float, lambda self: self._spin.value(), lambda self, v: self._spin.setValue(v))
    minimum = Property(float, lambda self: self._spin.minimum(), lambda self, v: self._spin.setMinimum(v))
    maximum = Property(float, lambda self: self._spin.maximum(), lambda self, v: self._spin.setMaximum(v))
    decimals = Property(int, lambda self: self._spin.decimals(), lambda self, v: self._spin.setDecimals(v))
    singleStep = Property(float, lambda self: self._spin.singleStep(), lambda self, v: self._spin.setSingleStep(v))
    suffix = Property(str, lambda self: self._spin.suffix(), lambda self, v: self._spin.setSuffix(v))
    tracking = stored(bool, True)
    pageStep = stored(float, 10.0)


@custom_widget
class ctkPathLineEdit(wrap(QtWidgets.QWidget)):  # type: ignore[misc]
    """A path with a browse button."""

    currentPathChanged = Signal(str)

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self._edit = QtWidgets.QLineEdit()
        row = QtWidgets.QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self._edit)
        browse = QtWidgets.QToolButton()
        browse.setText("…")
        row.addWidget(browse)
        self._edit.textChanged.connect(self.currentPathChanged)

    def setCurrentPath(self, path: str) -> None:
        self._edit.setText(path)

    def addCurrentPathToHistory(self) -> None:
        pass

    currentPath = Property(str, lambda self: self._edit.text(), lambda self, v: self._edit.setText(v))
    filters = stored(int, 0)
    nameFilters = stored("QStringList", [])
    settingKey = stored(str, "")
    label = stored(str, "")


@custom_widget
class ctkDirectoryButton(wrap(QtWidgets.QPushButton)):  # type: ignore[misc]
    directoryChanged = Signal(str)
    directorySelected = Signal(str)

    def _apply(self, value: str) -> None:
        QtWidgets.QPushButton.setText(self, value)
        self.directoryChanged.emit(value)

    directory = stored(str, "", _apply)
    caption = stored(str, "")
    acceptMode = stored(int, 0)


@custom_widget
class ctkComboBox(wrap(QtWidgets.QComboBox)):  # type: ignore[misc]
    defaultText = stored(str, "")


@custom_widget
class ctkCheckBox(wrap(QtWidgets.QCheckBox)):  # type: ignore[misc]
    pass


@custom_widget
class ctkFittedTextBrowser(wrap(QtWidgets.QTextBrowser)):  # type: ignore[misc]
    collapsible = stored(bool, False)


_NAMED_BY_SLICER = (
    "ctkCheckBox",
    "ctkCheckablePushButton",
    "ctkColorPickerButton",
    "ctkComboBox",
    "ctkDoubleRangeSlider",
    "ctkDoubleSlider",
    "ctkDoubleSpinBox",
    "ctkPathLineEdit",
    "ctkRangeWidget",
)
"""Classes with which Slicer's own ``parameterNodeWrapper`` compares widgets; empty, because panels do not use them."""


def make_module() -> types.ModuleType:
    """Return a new module ``ctk``."""
    module = types.ModuleType("ctk")
    for name, value in globals().items():
        if name.startswith("ctk"):
            setattr(module, name, value)
    module.ctkMessageBox = wrap(QtWidgets.QMessageBox)  # type: ignore[attr-defined]
    for name in _NAMED_BY_SLICER:
        if not hasattr(module, name):
            setattr(module, name, type(name, (), {}))
    return module
