"""Tables as CSV files that appear whole or not at all."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

Cell = str | float | int | bool | None


def plain_cell(value: Cell) -> Cell:
    """A cell that no spreadsheet takes for a formula: text that begins like one gets an apostrophe before it."""
    if isinstance(value, str) and value.lstrip(" ")[:1] in ("=", "+", "-", "@", "\t", "\r"):
        return f"'{value}"
    return value


def write_table(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Cell]]) -> None:
    """Write a table beside ``path`` and put it there when it is complete, so that a kill leaves a complete one.

    UTF-8, comma-separated, ``.`` as decimal sign, CRLF line ends (RFC 4180), empty where there is no value.

    Raises:
        OSError: the file cannot be written; an earlier one is unchanged.
    """
    temporary = path.with_name(f".{path.name}-{os.getpid()}")
    try:
        with temporary.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file:
            writer = csv.DictWriter(file, columns, restval="")
            writer.writeheader()
            for row in rows:
                writer.writerow({name: plain_cell(value) for name, value in row.items()})
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def read_table(path: Path) -> list[dict[str, str]]:
    """The rows of a table; an empty list if there is no file.

    Raises:
        OSError, UnicodeDecodeError, csv.Error: the file cannot be read.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            return [{k: v or "" for k, v in row.items() if isinstance(k, str)} for row in csv.DictReader(file)]
    except FileNotFoundError:
        return []
