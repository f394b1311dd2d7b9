"""Import networks, losses and augmentations of the user by dotted name."""

from __future__ import annotations

import importlib
import re
from typing import Any

from ...errors import SettingsError

_DOTTED = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+")


def is_dotted(name: str) -> bool:
    """Return whether a name is like ``package.module.Thing``."""
    return _DOTTED.fullmatch(name) is not None


def named_object(name: str, what: str) -> Any:
    """Import ``package.module.Thing`` and return ``Thing``.

    Args:
        name: dotted name; the module must be importable, for example because its folder is in ``PYTHONPATH``.
        what: kind of the setting, for messages.

    Raises:
        SettingsError: the module cannot be imported, or does not contain a callable with this name.
    """
    module_name, _, attribute = name.rpartition(".")
    try:
        found = getattr(importlib.import_module(module_name), attribute)
    except ImportError as error:
        raise SettingsError(
            f"{what} {name!r} cannot be imported ({error}): put the folder of its module into PYTHONPATH"
        ) from None
    except AttributeError:
        raise SettingsError(f"{what} {name!r} does not exist: {module_name!r} has no attribute {attribute!r}") from None
    if not callable(found):
        raise SettingsError(f"{what} {name!r} is a {type(found).__name__}: name a class or a function")
    return found
