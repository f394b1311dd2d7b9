"""Show which parts of a scan contribute to a structure, as a heat map (Grad-CAM for segmentation).

The map is an illustration, not a validation. It shows the location of features that raise the logits of a structure,
not whether the segmentation is correct.
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
