"""Training settings in a YAML file that contains every field of the preset; a run reads it and writes it back."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from ...errors import DependencyError, SettingsError
from .presets import LISTS, Preset

NAME = "config.yaml"


def read_config(path: Path, preset: Preset) -> Preset:
    """Return the preset updated with the settings in a file.

    Raises:
        SettingsError: the file cannot be read, or contains an unknown setting or an invalid value.
        DependencyError: PyYAML is not installed.
    """
    yaml = _yaml()
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise SettingsError(f"{str(path)!r} cannot be read ({reason}): give a YAML file of settings") from None
    if not isinstance(content, dict):
        raise SettingsError(f"{str(path)!r} holds no settings: write lines such as 'epochs: 50'")
    known = {f.name for f in fields(Preset)}
    unknown = [str(k) for k in content if k not in known]
    if unknown:
        raise SettingsError(f"{unknown[0]!r} in {str(path)!r} is not a setting: choose from {', '.join(sorted(known))}")
    for name in LISTS:
        if isinstance(content.get(name), list):
            content[name] = tuple(content[name])
    for name, value in content.items():
        _check_type(name, value, getattr(Preset(), name), path)
    return replace(preset, **content).check()


def write_config(preset: Preset, path: Path) -> None:
    """Write every setting of a preset."""
    path.write_text(_yaml().safe_dump(preset.to_dict(), sort_keys=False), encoding="utf-8")


def _check_type(name: str, value: Any, default: Any, path: Path) -> None:
    """Check that a value has the type of the setting; rejects, for example, a word for a number."""
    if name in LISTS and not isinstance(value, tuple | None):
        raise SettingsError(f"{name} in {str(path)!r} is {value!r}: it must be a list")
    numbers = isinstance(default, int | float) and not isinstance(default, bool)
    if default is None or (numbers and isinstance(value, int | float) and not isinstance(value, bool)):
        return
    if not isinstance(value, type(default)):
        raise SettingsError(
            f"{name} in {str(path)!r} is {value!r}: it must be a {type(default).__name__}, such as {default!r}"
        )


def _yaml() -> Any:
    try:
        import yaml
    except ImportError:
        raise DependencyError("settings in a file need PyYAML: pip install 'heartseg[train]'") from None
    return yaml
