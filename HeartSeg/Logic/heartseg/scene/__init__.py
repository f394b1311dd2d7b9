"""The scene: from a result to Slicer's nodes and files, and the host that has Slicer's scene without the application.

The only room that imports ``slicer``; it needs 3D Slicer 5.10 or newer, or ``pip install "heartseg[app]"`` and
:func:`heartseg.scene.host.start`. Everything here belongs to the main thread,
but for :func:`owned_volume`.
"""

from __future__ import annotations

from .files import save_segmentation, save_surfaces
from .nodes import geometry_from_node, owned_volume, volume_from_node, volume_view
from .segmentation import enter_segments, fill_segmentation
from .table import fill_table
from .terminology import terminology_context, terminology_entry

__all__ = [
    "enter_segments",
    "fill_segmentation",
    "fill_table",
    "geometry_from_node",
    "owned_volume",
    "save_segmentation",
    "save_surfaces",
    "terminology_context",
    "terminology_entry",
    "volume_from_node",
    "volume_view",
]
