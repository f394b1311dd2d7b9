"""Text of *Copy report*, which users paste into a question or issue."""

from __future__ import annotations

import platform
from typing import Any

from ..version import __version__


def failure_report(what: str, error: BaseException, trace: str, facts: dict[str, Any]) -> str:
    """Describe a failure with versions and the user's choices.

    Args:
        what: title of the job.
        error: error that ended the job.
        trace: traceback as text.
        facts: choices in the panel and size of the scan, by name.
    """
    from ..pipeline import installed_versions

    lines = [
        f"HeartSeg {__version__}: {what} failed",
        f"{type(error).__name__}: {error}",
        "",
        *(f"{name}: {value}" for name, value in facts.items()),
        f"system: {platform.platform()} ({platform.machine()}), Python {platform.python_version()}",
        "packages: " + ", ".join(f"{name} {version}" for name, version in installed_versions().items()),
        "",
        trace,
    ]
    return "\n".join(lines)
