"""Clean-up of label maps by anatomical constraints, with a list of the changes."""

from .cleaning import HOLE_FILLED, NOT_CONNECTED, SEPARATE_PIECE, clean_labels
from .darkness import TOO_DARK, remove_dark

__all__ = ["HOLE_FILLED", "NOT_CONNECTED", "SEPARATE_PIECE", "TOO_DARK", "clean_labels", "remove_dark"]
