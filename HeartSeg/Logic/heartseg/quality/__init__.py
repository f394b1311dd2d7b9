"""Quality checks of a result: missing, truncated, implausible or misplaced structures."""

from .checks import check_result
from .measured import measured_and_checked

__all__ = ["check_result", "measured_and_checked"]
