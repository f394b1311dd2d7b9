"""Options of commands that read a scan: which one it is, and what its files do not say."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..errors import SettingsError
from ..volume.headers import Spacing


def scan_path(text: str) -> Path:
    """Parse the path of a scan; rejects an empty path, which would mean the current folder."""
    if not text.strip():
        raise argparse.ArgumentTypeError("the path of the scan is empty")
    return Path(text)


def spacing_of(text: str) -> Spacing:
    """Parse ``--spacing X,Y,Z``, mm."""
    try:
        x, y, z = (float(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"spacing {text!r} is not three numbers: give X,Y,Z in mm") from None
    if not all(0.01 <= edge <= 100 for edge in (x, y, z)):
        raise argparse.ArgumentTypeError(f"spacing {text} mm is not the size of a voxel: give X,Y,Z in mm")
    return x, y, z


def add_given_scan(parser: argparse.ArgumentParser, title: str) -> argparse._ArgumentGroup:
    """Add a group of options for the scan of a result; returns the group."""
    group = parser.add_argument_group(title)
    group.add_argument("--scan", metavar="PATH", type=Path, help="the scan that was segmented, file or DICOM folder")
    add_scan_options(group)
    return group


def add_scan_options(group: argparse._ArgumentGroup | argparse.ArgumentParser, all_frames: bool = False) -> None:
    """Add the options that select a scan and state what its files do not.

    Args:
        group: where to add them.
        all_frames: whether ``--frame all`` is possible.
    """
    group.add_argument("--series", metavar="UID|NUMBER", help="series of a DICOM folder")
    group.add_argument("--modality", choices=("CT", "MR"), help="modality, for files that do not store it")
    group.add_argument(
        "--spacing", metavar="X,Y,Z", type=spacing_of, help="voxel size in mm, for files that do not store it"
    )
    text = "frame of a time series, from 0" + "; all writes a folder for each frame" * all_frames
    group.add_argument("--frame", metavar="N|all" if all_frames else "N", help=text)


def parse_frame(text: str | None) -> int | str | None:
    """Parse ``--frame``: a number, ``"all"``, or None if omitted."""
    return text if text == "all" else frame_number(text, ", or all")


def frame_number(text: str | None, else_say: str = "") -> int | None:
    """Parse the number of a frame, or return ``None`` if omitted; raises ``SettingsError``."""
    if text is None:
        return None
    if not text.isdecimal():
        raise SettingsError(f"frame {text!r} is not a number: give a number from 0{else_say}")
    return int(text)
