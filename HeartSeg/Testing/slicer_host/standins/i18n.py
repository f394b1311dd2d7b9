"""``slicer.i18n`` without translations: every text is returned unchanged."""

from __future__ import annotations

IS_HEARTSEG_STANDIN = True


def getContext(source_file: str) -> str:
    """Return the translation context of a module file: its name without extension."""
    return source_file.replace("\\", "/").rsplit("/", 1)[-1].rsplit(".", 1)[0]


def translate(context: str, text: str) -> str:
    return text


def tr(text: str) -> str:
    return text
