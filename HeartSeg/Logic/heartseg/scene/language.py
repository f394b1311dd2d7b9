"""Texts of other packages in the language of the application."""

from __future__ import annotations

from ..wording import Wording


def in_language(text: str) -> str:
    """Return a text in the language of the application, if it is a wording; without the application, in English."""
    import slicer

    app = getattr(slicer, "app", None)
    return text.translated(app.translate) if isinstance(text, Wording) and app is not None else text
