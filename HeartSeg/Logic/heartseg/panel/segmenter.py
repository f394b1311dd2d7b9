"""Create segmenters for the panel, with errors that refer to the panel; makes no Qt and MRML calls."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import DependencyError
from ..needs import check_runtime
from ..settings import Settings
from ..wording import _

if TYPE_CHECKING:
    from ..pipeline import Segmenter

HOW_TO_INSTALL = _("press Segment heart, which installs it")


def make_segmenter(model: str, settings: Settings) -> Segmenter:
    """Create a segmenter.

    Raises:
        DependencyError: a package is missing, or cannot be imported (:class:`~heartseg.needs.PackageNeeded`).
    """
    try:
        check_runtime()
        from ..pipeline import Segmenter

        return Segmenter(model or None, settings)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == "heartseg":
            raise
        raise DependencyError(
            _("a Python package is missing ({name}): {advice}").format(name=error.name, advice=HOW_TO_INSTALL)
        ) from error
