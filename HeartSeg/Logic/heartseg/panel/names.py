"""Names of structures in the language of the application."""

from __future__ import annotations

from ..anatomy import structure
from ..scene.language import in_language


def structure_name(key: str) -> str:
    """Return the translated name of a structure; without a translation, that of :mod:`heartseg.anatomy`."""
    return in_language(structure(key).name)
