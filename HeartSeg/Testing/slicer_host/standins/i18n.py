"""``slicer.i18n``: texts in the language of the application, which has none but English unless a test gives it one."""

from __future__ import annotations

import sys

IS_HEARTSEG_STANDIN = True


def getContext(source_file: str) -> str:
    """Return the translation context of a module file: its name without extension."""
    return source_file.replace("\\", "/").rsplit("/", 1)[-1].rsplit(".", 1)[0]


def translate(context: str, text: str) -> str:
    from slicer import app

    return app.translate(context, text)


def tr(text: str) -> str:
    return translate(getContext(sys._getframe(1).f_code.co_filename), text)
