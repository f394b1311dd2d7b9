"""Slicer's own Python files instead of the stand-ins, if ``SLICER_SOURCE`` is set to a checkout of Slicer.

``slicer-core`` contains only Slicer's C++ core and ``slicer/util.py``. With ``SLICER_SOURCE=DIR``, the other parts that
a scripted module uses (``ScriptedLoadableModule``, ``parameterNodeWrapper``, ``i18n``, ``packaging``, the module Sample
Data) are imported from ``DIR``, a clone of https://github.com/Slicer/Slicer at a tag. This repository contains no part
of it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_PACKAGE, _SAMPLE_DATA = Path("Base/Python/slicer"), Path("Modules/Scripted/SampleData")
_REAL = ("i18n", "parameterNodeWrapper", "ScriptedLoadableModule", "packaging")
_WIDGETS = ("qMRMLNodeComboBox", "qMRMLRangeWidget", "qMRMLSliderWidget", "qMRMLSpinBox")
"""Classes in the signatures of ``parameterNodeWrapper``'s connectors; empty classes if there are no widgets."""


def slicer_source() -> Path | None:
    """Return the checkout given by ``SLICER_SOURCE``, or ``None``.

    Raises:
        FileNotFoundError: the folder is not a checkout of Slicer.
    """
    named = os.environ.get("SLICER_SOURCE", "")
    if not named:
        return None
    root = Path(named).resolve()
    if not (root / _PACKAGE / "ScriptedLoadableModule.py").is_file():
        raise FileNotFoundError(f"SLICER_SOURCE={named!r} is no checkout of Slicer: it has no {_PACKAGE}")
    return root


def real_module_names() -> tuple[str, ...]:
    """Return the modules imported from the checkout; empty without a checkout."""
    root = slicer_source()
    if root is None:
        return ()
    there = [name for name in _REAL if (root / _PACKAGE / name).is_dir() or (root / _PACKAGE / f"{name}.py").is_file()]
    return (*(f"slicer.{name}" for name in there), "SampleData")


@contextmanager
def real_files() -> Iterator[tuple[str, ...]]:
    """Make the checkout's modules importable within a ``with`` block; yields their names."""
    root = slicer_source()
    if root is None:
        yield ()
        return
    import slicer

    places = [(slicer.__path__, str(root / _PACKAGE)), (sys.path, str(root / _SAMPLE_DATA))]
    for path, place in places:
        path.append(place)
    for name in _WIDGETS:
        if not hasattr(slicer, name):
            setattr(slicer, name, type(name, (), {}))
    try:
        yield real_module_names()
    finally:
        for path, place in places:
            path.remove(place)
        for name in [n for n in sys.modules if n.partition(".")[0] == "SampleData" or n.startswith(_prefixes())]:
            del sys.modules[name]
        for name in (*_REAL, *_WIDGETS):
            vars(slicer).pop(name, None)


def _prefixes() -> tuple[str, ...]:
    return tuple(f"slicer.{name}" for name in _REAL)
