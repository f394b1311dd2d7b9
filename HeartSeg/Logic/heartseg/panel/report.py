"""The text behind *Copy report*: what a user pastes into a question, so that others can help."""

from __future__ import annotations

import platform
from typing import Any

from ..version import __version__


def failure_report(what: str, error: BaseException, trace: str, facts: dict[str, Any]) -> str:
    """What happened, in which versions, with which choices.

    Args:
        what: the job's title.
        error: what ended it.
        trace: its traceback as text.
        facts: name -> value, the panel's choices and the scan's size.
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


def one_line(error: BaseException) -> str:
    """What the error box says about an unexpected error."""
    text = (str(error).strip().splitlines() or [""])[0]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
