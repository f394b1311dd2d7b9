"""``qt`` and ``ctk`` for a process without Qt: module files can be imported, but no panel can be created."""

from __future__ import annotations

from typing import Any

IS_HEARTSEG_STANDIN = True


class NullQtObject:
    """Base class of every attribute of ``qt`` or ``ctk``."""

    def __init__(self, *args: object, **keywords: object) -> None:
        raise RuntimeError(f"{type(self).__name__} cannot be made: there is no Qt in this process")


class QIcon:
    """An icon that is never shown; the application's base class creates one while the module file is loaded."""

    def __init__(self, *args: object) -> None:
        self.made_of = args


def __getattr__(name: str) -> Any:
    if name.startswith("__"):
        raise AttributeError(name)
    made = type(name, (NullQtObject,), {})
    globals()[name] = made
    return made
