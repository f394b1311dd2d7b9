"""Clean-up: keep what anatomy allows, list what was taken away."""

from .cleaning import HOLE_FILLED, NOT_CONNECTED, SEPARATE_PIECE, clean_labels
from .darkness import TOO_DARK, remove_dark

__all__ = ["HOLE_FILLED", "NOT_CONNECTED", "SEPARATE_PIECE", "TOO_DARK", "clean_labels", "remove_dark"]
