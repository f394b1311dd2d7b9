"""Stand-ins for the Python parts of the application that ``slicer-core`` lacks.

They have the interface that a scripted module relies on, so that its file can be imported and its logic runs unchanged.
They cannot show a panel: ``qt`` and ``ctk`` are :mod:`null <.null_qt>`. Existing modules (the application's own files,
or other stand-ins on ``sys.path``) take precedence.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys

_STANDINS = {
    "slicer.i18n": "i18n",
    "slicer.parameterNodeWrapper": "parameter_node",
    "slicer.ScriptedLoadableModule": "scripted_module",
    "qt": "null_qt",
    "ctk": "null_qt",
}
"""Name of the imported module -> stand-in module."""


def install_standins() -> list[str]:
    """Make each missing module importable; returns the names that stand-ins provide."""
    import slicer

    if not hasattr(slicer, "selfTests"):
        slicer.selfTests = {}
    served = []
    for name, ours in _STANDINS.items():
        standin = importlib.import_module(f".{ours}", __name__)
        present = sys.modules.get(name)
        if present is not None and not getattr(present, "IS_HEARTSEG_STANDIN", False):
            continue
        if present is None and importlib.util.find_spec(name) is not None:
            continue
        sys.modules[name] = standin
        if name.startswith("slicer."):
            setattr(slicer, name.removeprefix("slicer."), standin)
        served.append(name)
    return served
