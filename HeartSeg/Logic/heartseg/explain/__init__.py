"""Show which part of a scan contributes to a structure, as a heat map (Grad-CAM for segmentation).

An illustration, not a validation: a map shows where features that raise a structure's logits lie, not whether the
segmentation is right.
"""

from .explaining import Explainer, Explanation, explain
from .files import check_explanation_folder, write_explanation
from .layers import BOTTLENECK, LAST, Layer, Layers, list_layers
from .picture import write_picture

__all__ = [
    "BOTTLENECK",
    "LAST",
    "Explainer",
    "Explanation",
    "Layer",
    "Layers",
    "check_explanation_folder",
    "explain",
    "list_layers",
    "write_explanation",
    "write_picture",
]
