"""Findings about a result: what is missing, cut off, implausible or in the wrong place."""

from .checks import check_result

__all__ = ["check_result"]
