"""Quality checks of a result: missing, truncated, implausible or misplaced structures."""

from .checks import check_result

__all__ = ["check_result"]
