"""Quality checks of a result: missing, truncated, implausible or misplaced structures."""

from .checks import check_result
from .doubtful import without_doubtful_intervals

__all__ = ["check_result", "without_doubtful_intervals"]
