"""Clean-up: keep what anatomy allows, list what was taken away."""

from .cleaning import HOLE_FILLED, NOT_CONNECTED, SEPARATE_PIECE, clean_labels

__all__ = ["HOLE_FILLED", "NOT_CONNECTED", "SEPARATE_PIECE", "clean_labels"]
