"""Scenes on their way to another machine: one file that holds those of a working folder, about 0.6 MB each."""

from __future__ import annotations

import zipfile
from pathlib import Path

FOLDERS = ("scenes", "validation")


def pack_scenes(run: Path, file: Path) -> int:
    """Write the whole scenes of a working folder as one ``.zip``; returns how many.

    Raises:
        FileNotFoundError: there are none.
    """
    cards = [card for folder in FOLDERS for card in sorted((run / folder).glob("*.json"))]
    if not cards:
        raise FileNotFoundError(f"'{run}' holds no scenes: make some first (--run-minutes 0 makes them alone)")
    part = file.with_name(file.name + ".part")
    with zipfile.ZipFile(part, "w", zipfile.ZIP_BZIP2) as archive:
        for card in cards:
            stem = card.name.removesuffix(".json")
            for name in (f"{stem}_regions.npy", f"{stem}_target.npy", card.name):
                archive.write(card.with_name(name), f"{card.parent.name}/{name}")
    part.replace(file)
    return len(cards)


def unpack_scenes(file: Path, run: Path) -> int:
    """Put packed scenes into a working folder, except those that it has; returns how many it took.

    Raises:
        ValueError: the file holds something else.
    """
    taken = 0
    with zipfile.ZipFile(file) as archive:
        for entry in archive.infolist():  # a scene's card comes after its maps
            folder, _, name = entry.filename.partition("/")
            if folder not in FOLDERS or Path(name).name != name:
                raise ValueError(f"'{file}' holds '{entry.filename}', which is no scene: give a file of --pack-scenes")
            target = run / folder / name
            if target.exists():
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(archive.read(entry))
            taken += name.endswith(".json")
    return taken
