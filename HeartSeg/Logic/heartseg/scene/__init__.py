"""Conversion between results and nodes of Slicer's scene.

Only this package and ``panel`` import ``slicer``, inside functions. It requires 3D Slicer 5.10 or newer. Everything
runs on the main thread, except :func:`owned_volume` and :mod:`heartseg.scene.prepared`.
"""

from __future__ import annotations

from ..export.terminology import terminology_context, terminology_entry
from .nodes import geometry_from_node, owned_volume, volume_from_node, volume_view
from .segmentation import enter_segments, fill_segmentation
from .table import fill_table

__all__ = [
    "enter_segments",
    "fill_segmentation",
    "fill_table",
    "geometry_from_node",
    "owned_volume",
    "terminology_context",
    "terminology_entry",
    "volume_from_node",
    "volume_view",
]
