"""Stand-ins for what the application gives a panel: ``qt`` (PythonQt), ``ctk``, the qMRML widgets, the module's base.

They run on PySide6 (LGPL, a test-only dependency) and are strict: what PythonQt or the application's widgets reject is
rejected here too, so that a panel that works here has a chance to work there.

- Qt's properties are attributes: ``button.text = "x"``, ``if button.enabled``. Their getters and setters cannot be
  called, unless the setter is a slot of Qt's (``label.setText`` is one, ``button.setText`` is not).
- An attribute that is no property cannot be set; a signal that does not exist cannot be connected, nor can one be by
  another signature than its own.
- A ``.ui`` file may name only known widget classes, and only properties that they have; its
  ``mrmlSceneChanged(vtkMRMLScene*)`` connections are made as written, so that a selector without one stays empty.

They cannot check PythonQt's type conversions, the real widgets' defaults, look and size, module discovery, or the
layout manager's views.
"""

from __future__ import annotations

from .session import PanelHost, panel_host

__all__ = ["PanelHost", "panel_host"]
