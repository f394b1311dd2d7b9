"""Stand-ins for the application's parts of a panel: ``qt`` (PythonQt), ``ctk``, the qMRML widgets, the module base.

They run on PySide6 (LGPL, a test-only dependency) and are strict: they reject what PythonQt or the application's
widgets reject, so that a panel that works here is likely to work there.

- Qt's properties are attributes: ``button.text = "x"``, ``if button.enabled``. Their getters and setters cannot be
  called, unless the setter is a slot of Qt's (``label.setText`` is one, ``button.setText`` is not).
- An attribute that is not a property cannot be set. Only existing signals can be connected, and only by their own
    signature.
- A ``.ui`` file may contain only known widget classes and their properties; its ``mrmlSceneChanged(vtkMRMLScene*)``
    connections are made as written, so a selector without one stays empty.

They cannot check PythonQt's type conversions, the real widgets' defaults, look and size, module discovery, or the
layout manager's views.
"""

from __future__ import annotations

from .session import PanelHost, panel_host

__all__ = ["PanelHost", "panel_host"]
