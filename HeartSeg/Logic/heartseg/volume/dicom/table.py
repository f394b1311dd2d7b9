"""Table of the series in a folder, one row per series, for users who must choose one and for programs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from .series import Series

HEADINGS = ("series", "what it is", "phases", "grid")


@dataclass(frozen=True)
class Row:
    """One series.

    Attributes:
        series: key that selects the series (``--series``).
        what: modality, description, and its problem or the series that it was joined from.
        phases: number and description of the phases, and the attribute that determined them.
        grid: number of voxels, voxel size in mm, and whether slices must be resampled.
        problem: reason why the series cannot be segmented, or ``""``.
    """

    series: str
    what: str
    phases: str
    grid: str
    problem: str = ""

    def to_dict(self) -> dict[str, str]:
        """Return a dictionary ready for JSON."""
        return asdict(self)


def rows_of(found: Sequence[Series]) -> tuple[Row, ...]:
    """Return one row per series, in the order of the list."""
    return tuple(Row(s.key, _what(s), _phases(s), _grid(s), s.problem) for s in found)


def format_rows(rows: Sequence[Row]) -> str:
    """Format the rows as a plain-text table."""
    cells = [HEADINGS, *((row.series, row.what, row.phases, row.grid) for row in rows)]
    widths = [max(len(line[k]) for line in cells) for k in range(len(HEADINGS))]
    return "\n".join("  ".join(text.ljust(w) for text, w in zip(line, widths, strict=True)).rstrip() for line in cells)


def _what(series: Series) -> str:
    text = f"{series.modality or 'no modality'} {series.description!r}"
    if series.joined:
        text += f", joined from {len(series.joined)} series"
    if series.told_by:
        text += f", apart by {series.told_by}"
    return f"{text}: {series.problem}" if series.problem else text


def _phases(series: Series) -> str:
    first, last = series.stacks[0].phase, series.stacks[-1].phase
    if series.frames == 1:
        return first.text or "1"
    span = ""
    if first.percent is not None and last.percent is not None:
        span = f": {first.percent:g} to {last.percent:g} %"
    elif first.delay_ms is not None and last.delay_ms is not None:
        span = f": {first.delay_ms:.0f} to {last.delay_ms:.0f} ms"
    return f"{series.frames}{span} ({first.source})"


def _grid(series: Series) -> str:
    size, spacing = "x".join(map(str, series.size)), "x".join(f"{s:.3g}" for s in series.spacing)
    grid = series.stacks[0].grid
    text = f"{size}, {spacing} mm"
    if grid is None:
        return f"{size[: size.rfind('x')]}, {series.slices} images"
    return f"{text}, resampled (slices up to {grid.error_mm:.1f} mm out of place)" if grid.resample else text
