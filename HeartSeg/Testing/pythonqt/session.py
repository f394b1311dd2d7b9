"""A session with a panel: installs the stand-ins, loads the real module file, opens its panel; undone at the end."""

from __future__ import annotations

import sys
import tempfile
import time
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from slicer_host import host
from slicer_host.source import real_files
from slicer_host.standins import install_standins

from . import ctk_module, module_base, mrml_widgets, qt_module

_MISSING = object()


class PanelHost:
    """The tested module, and the actions of its user.

    Attributes:
        module: the Python module ``HeartSeg``.
        messages: message boxes that were shown: ``(kind, text)``.
        answers: answers of the user to the next questions, in order; ``True`` if there are none left.
        layout_manager: return value of ``slicer.app.layoutManager()``; ``None`` (as without a main window) until it is
            set.
        selected_modules: names passed to ``slicer.util.selectModule``.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.module: types.ModuleType = types.ModuleType("none")
        self.messages: list[tuple[str, str]] = []
        self.answers: list[bool] = []
        self.layout_manager: Any = None
        self.selected_modules: list[str] = []
        self.panel: Any = None
        self.parent: Any = None
        self.title = ""

    def load(self) -> types.ModuleType:
        """Import the module file as at start-up of the application."""
        self.module = host.load_module(self.path)
        return self.module

    def open(self) -> Any:
        """Select the module: its panel is created, set up and entered. Returns the ``…Widget``."""
        import qt
        import slicer

        name = self.path.stem
        self.parent = slicer.qSlicerScriptedLoadableModuleWidget()
        self.parent.setLayout(qt.QVBoxLayout())
        self.parent.setMRMLScene(slicer.mrmlScene)
        self.parent._reload = self._make_panel
        getattr(slicer.modules, name.lower()).widgetRepresentation = lambda: self.parent
        self._make_panel()
        self.parent.setAttribute(qt.Qt.WA_DontShowOnScreen, True)
        self.parent.show()
        return self.panel

    def _make_panel(self) -> None:
        import slicer

        name = self.path.stem
        self.module = sys.modules[name]
        self.panel = getattr(self.module, f"{name}Widget")(self.parent)
        setattr(slicer.modules, f"{name}Widget", self.panel)
        self.panel.setup()
        self.parent._entered = True
        self.panel.enter()

    def reload(self) -> Any:
        """Press *Reload*; returns the new ``…Widget``."""
        self.panel.onReload()
        return self.panel

    def close(self) -> None:
        """Close the application: the panel is cleaned up and deleted."""
        import slicer

        name = f"{self.path.stem}Widget"
        panel = getattr(slicer.modules, name, None)
        if panel is not None:
            panel.cleanup()
            delattr(slicer.modules, name)
        if self.parent is not None:
            self.parent.deleteLater()
        self.panel = self.parent = None
        self.turn()

    def turn(self) -> None:
        """Process the events of one turn of the event loop."""
        from PySide6 import QtCore, QtWidgets

        QtWidgets.QApplication.processEvents()
        QtCore.QCoreApplication.sendPostedEvents(None, int(QtCore.QEvent.Type.DeferredDelete))

    def wait_until(self, condition: Callable[[], bool], seconds: float = 60.0) -> None:
        """Process events until a condition is true; ``TimeoutError`` if it never is."""
        until = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > until:
                raise TimeoutError(f"nothing happened within {seconds:g} s")
            self.turn()
            time.sleep(0.005)

    def _show(self, kind: str, text: str, answer: bool | None = None) -> Any:
        self.messages.append((kind, str(text)))
        return self.answers.pop(0) if answer is None and self.answers else (True if answer is None else answer)


@contextmanager
def panel_host(path: str | Path) -> Iterator[PanelHost]:
    """Install the stand-ins and load the module file ``path``; the end of the ``with`` block restores everything."""
    with host.session(), real_files() as real:
        import slicer

        session = PanelHost(Path(path).resolve())
        qt, ctk = qt_module.make_module(), ctk_module.make_module()
        bases = {name: base for name, base in module_base.make_modules().items() if name not in real}
        modules = {"qt": qt, "ctk": ctk, **bases}
        install_standins()
        added = [
            *((slicer, name, value) for name, value in mrml_widgets.widgets().items()),
            *((slicer, name.partition(".")[2], module) for name, module in modules.items() if "." in name),
            *((slicer.app, name, value) for name, value in _application(session, qt).items()),
            *((slicer.util, name, value) for name, value in _message_boxes(session).items()),
        ]
        before = {name: sys.modules.get(name, _MISSING) for name in (*modules, session.path.stem)}
        values = [(owner, name, getattr(owner, name, _MISSING)) for owner, name, _ in added]
        _forget_panel()
        try:
            sys.modules.update(modules)
            for owner, name, value in added:
                setattr(owner, name, value)
            session.load()
            yield session
        finally:
            session.close()
            for owner, name, value in values:
                delattr(owner, name) if value is _MISSING else setattr(owner, name, value)
            for name, old in before.items():
                if old is _MISSING:
                    sys.modules.pop(name, None)
                else:
                    sys.modules[name] = old  # type: ignore[assignment]
            _forget_panel()


def _forget_panel() -> None:
    """Return modules of the panel that refer to the ``qt`` or ``ctk`` with which they were imported."""
    held = [n for n, m in sys.modules.items() if n.startswith("heartseg.panel.") and {"qt", "ctk"} & set(vars(m))]
    for name in held:
        del sys.modules[name]


def _application(session: PanelHost, qt: types.ModuleType) -> dict[str, Any]:
    """Attributes of ``slicer.app`` in an application with windows."""
    manager = mrml_widgets.qSlicerModuleManager()
    settings = qt.QSettings(str(Path(tempfile.mkdtemp(prefix="heartseg-ini-")) / "Slicer.ini"), qt.QSettings.IniFormat)
    return {
        "moduleManager": lambda: manager,
        "processEvents": lambda *_: session.turn(),
        "layoutManager": lambda: session.layout_manager,
        "userSettings": lambda: settings,
        "settings": lambda: settings,
        "clipboard": lambda: qt.QApplication.clipboard(),
        "setOverrideCursor": qt.QApplication.setOverrideCursor,
        "restoreOverrideCursor": qt.QApplication.restoreOverrideCursor,
        "restart": lambda: session.messages.append(("restart", "")),
    }


def _message_boxes(session: PanelHost) -> dict[str, Callable[..., Any]]:
    """Message boxes of ``slicer.util``, answered by the test instead of a person."""
    return {
        "errorDisplay": lambda text, *_, **__: session._show("error", text, False),
        "warningDisplay": lambda text, *_, **__: session._show("warning", text, False),
        "infoDisplay": lambda text, *_, **__: session._show("info", text, False),
        "confirmOkCancelDisplay": lambda text, *_, **__: session._show("question", text),
        "confirmYesNoDisplay": lambda text, *_, **__: session._show("question", text),
        "selectModule": lambda module: session.selected_modules.append(getattr(module, "name", module)),
    }
