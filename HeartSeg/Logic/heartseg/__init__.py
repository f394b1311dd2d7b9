"""HeartSeg: whole-heart segmentation of CT and MR volumes.

Research software, not a medical device.

The public API is importable from this package; names are resolved on first use, so that ``import heartseg`` is fast::

    import heartseg

    volume = heartseg.read_volume("scan.nii.gz")
    result = heartseg.segment(volume)
    print(result.measure("LV", "volume"), "mL")
    heartseg.write_result(result, volume, "out/scan")

For several scans, use one :class:`Segmenter`, which keeps its model loaded between calls.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from .version import __version__

_PUBLIC = {
    "read_volume": "volume.reading",
    "list_series": "volume.dicom",
    "Volume": "volume.types",
    "Geometry": "volume.geometry",
    "Settings": "settings",
    "Segmenter": "pipeline",
    "segment": "pipeline",
    "Result": "result",
    "Measure": "result",
    "Finding": "findings",
    "Severity": "findings",
    "write_result": "output",
    "Explainer": "explain",
    "Explanation": "explain",
    "write_explanation": "explain",
    "find_model": "models.store",
    "evaluate": "evaluation",
    "refine": "refinement.mending",
    "Mark": "marks",
    "read_marks": "marks",
    "write_marks": "marks",
    "STRUCTURES": "anatomy",
    "CancelToken": "progress",
    "ProgressEvent": "progress",
    "HeartSegError": "errors",
    "Cancelled": "errors",
}

__all__ = ["__version__", *_PUBLIC]

if TYPE_CHECKING:  # the names of _PUBLIC, for type checkers and editors
    from .anatomy import STRUCTURES
    from .errors import Cancelled, HeartSegError
    from .evaluation import evaluate
    from .explain import Explainer, Explanation, write_explanation
    from .findings import Finding, Severity
    from .marks import Mark, read_marks, write_marks
    from .models.store import find_model
    from .output import write_result
    from .pipeline import Segmenter, segment
    from .progress import CancelToken, ProgressEvent
    from .refinement.mending import refine
    from .result import Measure, Result
    from .settings import Settings
    from .volume.dicom import list_series
    from .volume.geometry import Geometry
    from .volume.reading import read_volume
    from .volume.types import Volume


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(importlib.import_module(f".{_PUBLIC[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_PUBLIC})
