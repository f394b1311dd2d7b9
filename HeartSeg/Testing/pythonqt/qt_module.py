"""The module ``qt`` with the behaviour of PythonQt, made from PySide6: every QObject class gets a stricter subclass."""

from __future__ import annotations

import functools
import os
import types
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from typing import Any

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

from PySide6 import QtCore, QtGui, QtUiTools, QtWidgets

QObject = QtCore.QObject

_VIRTUAL = {"sizeHint", "minimumSizeHint"}
"""Properties whose getter is a virtual method that Qt calls; an attribute with that name would be called instead."""

_wrapped: dict[type, type] = {}
_original: dict[type, type] = {}


class _Meta(type(QObject)):  # type: ignore[misc]
    """Make ``isinstance(w, qt.QWidget)`` true for every widget, including those made by Qt itself."""

    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, _original[cls]) if cls in _original else type.__instancecheck__(cls, instance)

    def __subclasscheck__(cls, subclass: type) -> bool:
        return issubclass(subclass, _original[cls]) if cls in _original else type.__subclasscheck__(cls, subclass)


def _normalized(signature: str) -> str:
    return bytes(QtCore.QMetaObject.normalizedSignature(signature).data()).decode()  # type: ignore[arg-type]


def _signal(self: QObject, signature: str) -> Any:
    """Return the bound signal of this C++ signature; a stand-in widget lists its own under ``signals``."""
    wanted = _normalized(signature)
    name, _, arguments = wanted.rstrip(")").partition("(")
    listed = {_normalized(s) for kind in type(self).__mro__ for s in getattr(kind, "signals", ())}
    known = listed | {
        bytes(self.metaObject().method(i).methodSignature().data()).decode()
        for i in range(self.metaObject().methodCount())
        if self.metaObject().method(i).methodType() == QtCore.QMetaMethod.MethodType.Signal
    }
    if wanted not in known:
        raise ValueError(f"{type(self).__name__} has no signal {signature}")
    bound = getattr(self, name)
    if wanted in listed:
        return bound
    for form in (tuple(a for a in arguments.split(",") if a), arguments):
        try:
            return bound[form]
        except (KeyError, IndexError, TypeError):
            continue
    return bound


def _connect(self: QObject, signature: str, receiver: Callable[..., Any]) -> bool:
    if not callable(receiver):
        raise TypeError(f"what {signature} is connected to cannot be called: {receiver!r}")
    arguments = signature.partition("(")[2].rstrip(")")
    if arguments:
        _signal(self, signature).connect(receiver)
        return True
    # PythonQt passes no argument if the requested signature has none.
    slots = self.__dict__.setdefault("_slots_without_arguments", {})
    slots[signature, receiver] = lambda *ignored: receiver()
    _signal(self, signature).connect(slots[signature, receiver])
    return True


def _disconnect(self: QObject, signature: str, receiver: Callable[..., Any] | None = None) -> bool:
    if receiver is None:
        _signal(self, signature).disconnect()
        return True
    kept = self.__dict__.get("_slots_without_arguments", {})
    _signal(self, signature).disconnect(kept.pop((signature, receiver), receiver))
    return True


def _slots_of(cls: type) -> set[str]:
    meta = cls.staticMetaObject  # type: ignore[attr-defined]
    kinds = (QtCore.QMetaMethod.MethodType.Slot, QtCore.QMetaMethod.MethodType.Method)
    methods = [meta.method(i) for i in range(meta.methodCount())]
    return {bytes(m.name().data()).decode() for m in methods if m.methodType() in kinds}


def _property(cls: type, name: str) -> property:
    capital = name[0].upper() + name[1:]
    getters = [getattr(cls, n, None) for n in (name, f"is{capital}", f"has{capital}")]
    getter = next((g for g in getters if callable(g) and not isinstance(g, type)), None)
    setter = getattr(cls, f"set{capital}", None)

    def get(self: QObject) -> Any:
        return getter(self) if getter else QObject.property(self, name)

    def put(self: QObject, value: Any) -> None:
        if setter is None:
            QObject.setProperty(self, name, value)
        else:
            setter(self, value)

    return property(get, put)


def _rejected(cls: type, name: str, instead: str) -> Callable[..., Any]:
    def call(self: QObject, *_: Any, **__: Any) -> Any:
        raise AttributeError(f"{cls.__name__} has no attribute {name!r} in PythonQt: use the property {instead!r}")

    return call


def _attribute_setter(cls: type) -> Callable[[Any, str, Any], None]:
    """Return a ``__setattr__`` that rejects new attributes on Qt's classes and on the stand-ins for ``.ui`` files."""

    def put(self: Any, name: str, value: Any) -> None:
        kind = type(self)
        known = isinstance(getattr(kind, name, None), (property, QtCore.Property)) or name.startswith("_")
        if not known and kind.__module__ == "qt" and not UiLoader.loading:
            raise AttributeError(f"{kind.__name__} has no writable property {name!r}")
        cls.__setattr__(self, name, value)  # type: ignore[call-arg]

    return put


def _keep_connect(made: type, **keywords: Any) -> None:
    """Restore our static ``connect``, because PySide gives every new subclass its own."""
    for name, function in (("connect", _connect), ("disconnect", _disconnect)):
        if name not in made.__dict__:
            setattr(made, name, function)


def _members(cls: type) -> dict[str, Any]:
    members: dict[str, Any] = {
        "connect": _connect,
        "disconnect": _disconnect,
        "className": lambda self: type(self).__name__,
        "delete": lambda self: self.deleteLater(),
        "__setattr__": _attribute_setter(cls),
        "__module__": "qt",
        "__init_subclass__": classmethod(_keep_connect),
        "findChildren": lambda self, kind=QObject, *a: QObject.findChildren(self, _original.get(kind, kind), *a),
        "findChild": lambda self, kind=QObject, *a: QObject.findChild(self, _original.get(kind, kind), *a),
    }
    meta, slots = cls.staticMetaObject, _slots_of(cls)  # type: ignore[attr-defined]
    for i in range(meta.propertyCount()):
        described = meta.property(i)
        name = described.name()
        if not name.isidentifier() or name.startswith("_") or name in _VIRTUAL:
            continue
        if isinstance(getattr(cls, name, None), types.BuiltinFunctionType):  # static, such as QTimer.singleShot
            continue
        members[name] = _property(cls, name)
        setter = f"set{name[0].upper()}{name[1:]}"
        virtual = issubclass(cls, QtWidgets.QLayout)  # called by Qt itself: setSpacing
        if hasattr(cls, setter) and setter not in slots and not virtual:
            members[setter] = _rejected(cls, setter, name)
    members["name"] = property(lambda self: QObject.objectName(self), lambda self, v: QObject.setObjectName(self, v))
    members.pop("setObjectName", None)  # available in PythonQt's QObject wrapper
    return members


def wrap(cls: type) -> type:
    """Return a subclass of a PySide6 class with the behaviour of PythonQt."""
    if cls in _wrapped:
        return _wrapped[cls]
    made: type
    try:
        made = _Meta(cls.__name__, (cls,), _members(cls))
        _original[made] = cls
    except TypeError:  # a class that cannot be subclassed
        made = cls
    _wrapped[cls] = made
    return made


_custom: dict[str, type] = {}


@functools.cache
def _property_names(kind: type) -> frozenset[str]:
    """Return the names of a class's Qt properties; cached, because PySide discards meta objects after use."""
    meta = kind.staticMetaObject  # type: ignore[attr-defined]
    return frozenset(meta.property(i).name() for i in range(meta.propertyCount()))


def custom_widget(cls: type) -> type:
    """Class decorator: ``.ui`` files may use this class. Only its declared properties may be set."""
    cls.__module__ = "qt"
    _custom[cls.__name__] = cls
    return cls


class UiLoader(QtUiTools.QUiLoader):
    """Loads a ``.ui`` file with the classes above, and rejects what the application would silently ignore."""

    module: types.ModuleType
    loading = False
    """True while PySide's loader runs: it sets an attribute of the top widget for each child, unlike PythonQt."""

    def createWidget(self, class_name: str, parent: Any = None, name: str = "") -> Any:
        kind = _custom.get(class_name) or getattr(self.module, class_name, None)
        if kind is None:
            raise RuntimeError(f".ui file names an unknown widget class {class_name}")
        widget = kind(parent)
        QObject.setObjectName(widget, name)
        return widget

    def createLayout(self, class_name: str, parent: Any = None, name: str = "") -> Any:
        kind = getattr(self.module, class_name)
        layout = kind(parent) if isinstance(parent, QtWidgets.QWidget) else kind()
        QObject.setObjectName(layout, name)
        self._kept.append(layout)  # a nested layout has no owner yet
        return layout

    def createAction(self, parent: Any = None, name: str = "") -> Any:
        action = self.module.QAction(parent)
        QObject.setObjectName(action, name)
        return action

    def load(self, file: Any, parent: Any = None) -> Any:
        root = ElementTree.fromstring(bytes(file.readAll().data()))
        self._check_properties(root)
        self._kept: list[Any] = []
        scene_connections = self._take_scene_connections(root)
        buffer = QtCore.QBuffer()
        buffer.setData(ElementTree.tostring(root))
        buffer.open(QtCore.QIODevice.OpenModeFlag.ReadOnly)
        UiLoader.loading = True
        try:
            widget = QtUiTools.QUiLoader.load(self, buffer, parent)
        finally:
            UiLoader.loading = False
        if widget is None:
            raise RuntimeError(f".ui file cannot be loaded: {self.errorString()}")
        for sender, signal, receiver, slot in scene_connections:
            ends = [
                widget if QObject.objectName(widget) == n else QObject.findChild(widget, QObject, n)
                for n in (sender, receiver)
            ]
            if None in ends:
                raise RuntimeError(f".ui file connects {sender} to {receiver}, and one of them does not exist")
            getattr(ends[0], signal.partition("(")[0]).connect(getattr(ends[1], slot.partition("(")[0]))
        return widget

    def _check_properties(self, root: ElementTree.Element) -> None:
        for element in root.iter("widget"):
            kind = _custom.get(element.get("class", "")) or getattr(self.module, element.get("class", ""), None)
            if kind is None:
                continue  # createWidget reports it
            known = _property_names(kind)
            for entry in element.findall("property"):
                name = entry.get("name", "")
                if entry.get("stdset") != "0" and name not in known:
                    raise RuntimeError(f".ui file sets {name} of {element.get('name')}, a {element.get('class')}: none")

    @staticmethod
    def _take_scene_connections(root: ElementTree.Element) -> list[tuple[str, str, str, str]]:
        """Make connections that pass MRML objects, which Qt's own loader cannot find in Python classes."""
        connections, taken = root.find("connections"), []
        for connection in list(connections) if connections is not None else []:
            found = {part: connection.findtext(part) or "" for part in ("sender", "signal", "receiver", "slot")}
            if "*" in found["signal"]:
                taken.append((found["sender"], found["signal"], found["receiver"], found["slot"]))
                connections.remove(connection)  # type: ignore[union-attr]
        return taken


def make_module() -> types.ModuleType:
    """Return a new module ``qt``; creates an application object if there is none."""
    if QtWidgets.QApplication.instance() is None:
        make_module.application = QtWidgets.QApplication(["Slicer"])  # type: ignore[attr-defined]
    module = types.ModuleType("qt")
    for source in (QtCore, QtGui, QtWidgets):
        for name in dir(source):
            if name.startswith("_"):
                continue
            value = getattr(source, name)
            is_object = isinstance(value, type) and issubclass(value, QObject) and hasattr(value, "staticMetaObject")
            setattr(module, name, wrap(value) if is_object and "Application" not in name else value)
    UiLoader.module = module
    module.QUiLoader = UiLoader  # type: ignore[attr-defined]
    return module
