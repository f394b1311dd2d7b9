"""Transfer scenes between machines: one archive with the scenes of a working folder, about 0.6 MB per scene."""

from __future__ import annotations

import zipfile
from pathlib import Path

FOLDERS = ("scenes", "validation")


def pack_scenes(run: Path, file: Path) -> int:
    """Write the complete scenes of a working folder to one ``.zip`` file; returns their number.

    Raises:
        FileNotFoundError: the folder has no scenes.
    """
    cards = [card for folder in FOLDERS for card in sorted((run / folder).glob("*.json"))]
    if not cards:
        raise FileNotFoundError(f"folder '{run}' holds no scenes: make some first with --only scenes")
    part = file.with_name(file.name + ".part")
    with zipfile.ZipFile(part, "w", zipfile.ZIP_BZIP2) as archive:
        for card in cards:
            stem = card.name.removesuffix(".json")
            for name in (f"{stem}_regions.npy", f"{stem}_target.npy", card.name):
                archive.write(card.with_name(name), f"{card.parent.name}/{name}")
    part.replace(file)
    return len(cards)


def unpack_scenes(file: Path, run: Path) -> int:
    """Extract packed scenes into a working folder, skipping existing ones; returns the number of new scenes.

    Raises:
        ValueError: the archive contains other files.
    """
    taken = 0
    with zipfile.ZipFile(file) as archive:
        for entry in archive.infolist():  # the card of a scene comes after its maps
            folder, _, name = entry.filename.partition("/")
            if folder not in FOLDERS or Path(name).name != name:
                raise ValueError(
                    f"'{file}' contains '{entry.filename}', which is not a scene: give a file written by --pack-scenes"
                )
            target = run / folder / name
            if target.exists():
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(archive.read(entry))
            taken += name.endswith(".json")
    return taken
