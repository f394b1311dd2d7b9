"""Measurements as a CSV file and as rows for a table."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

from ..errors import writing
from ..quantities import quantity
from ..result import Measure, Result

CSV_COLUMNS = ("structure", "name", "quantity", "value", "unit", "note", "low", "high", "code", "site")

DECIMALS = {"mL": 2, "g": 2, "mm": 2, "HU": 1}
"""Decimal places per unit; finer than the resolution of any scan."""


@dataclass(frozen=True)
class MeasurementRow:
    """Measures of one structure as a table row; ``None`` for missing or inapplicable values.

    Volume in mL, mass in g, diameter in mm, mean and SD of the intensity in ``intensity_unit`` (``"HU"`` or ``""``),
    extents in mm along the left-right, anterior-posterior and inferior-superior axes.
    """

    key: str
    name: str
    color: tuple[int, int, int]
    volume_ml: float | None
    mass_g: float | None
    diameter_mm: float | None
    mean_intensity: float | None
    sd_intensity: float | None
    intensity_unit: str
    extent_mm: tuple[float | None, float | None, float | None]


def measurements_table(result: Result) -> tuple[MeasurementRow, ...]:
    """One row per requested structure, in label order; the row of a missing structure has no values."""
    units = {m.structure: m.unit for m in result.measures if m.quantity == "mean_intensity"}
    rows = []
    for s in sorted(result.structures, key=lambda s: s.label):
        extent = (
            result.measure(s.key, "extent_x"),
            result.measure(s.key, "extent_y"),
            result.measure(s.key, "extent_z"),
        )
        rows.append(
            MeasurementRow(
                s.key,
                s.name,
                s.color,
                result.measure(s.key, "volume"),
                result.measure(s.key, "mass"),
                result.measure(s.key, "diameter"),
                result.measure(s.key, "mean_intensity"),
                result.measure(s.key, "sd_intensity"),
                units.get(s.key, ""),
                extent,
            )
        )
    return tuple(rows)


def write_measurements(result: Result, path: str | Path) -> None:
    """Write one CSV row per measure: :data:`CSV_COLUMNS`.

    ``low`` and ``high`` are the limits of its 90 % interval, ``code`` and ``site`` its codes
    (:mod:`heartseg.quantities`). UTF-8, comma-separated, ``.`` as decimal separator, CRLF line endings (RFC 4180). The
    value of a missing measure is empty.

    Raises:
        OutputError: the file cannot be written.
    """
    names = {s.key: s.name for s in result.structures}
    with writing(path), Path(path).open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(CSV_COLUMNS)
        for m in result.measures:
            value, low, high = (number_text(v, m.unit) for v in (m.value, m.low, m.high))
            name, codes = names.get(m.structure, m.structure), code_texts(m)
            writer.writerow((m.structure, name, m.quantity, value, m.unit, m.note, low, high, *codes))


def number_text(value: float | None, unit: str) -> str:
    """Format a number for a file, with the decimals of its unit; empty if it is unknown."""
    return "" if value is None else f"{value:.{DECIMALS.get(unit, 2)}f}"


def code_texts(measure: Measure) -> tuple[str, str]:
    """Return the codes of a measure and of its site, such as ``"SCT 118565006"``; empty if there are none."""
    known = quantity(measure.structure, measure.quantity)
    return ("", "") if known is None else (str(known.code or ""), str(known.site))


def format_measurements(result: Result) -> str:
    """Format a text table with one row per structure, units in the header, and ``-`` for missing values."""
    rows = measurements_table(result)
    unit = next((r.intensity_unit for r in rows if r.intensity_unit), "")
    intensity = f"mean ± SD ({unit})" if unit else "mean ± SD"
    header = ("structure", "volume (mL)", "mass (g)", "diameter (mm)", intensity)
    lines = [header, *(_cells(row) for row in rows)]
    widths = [max(len(line[k]) for line in lines) for k in range(len(header))]
    return "\n".join(
        "  ".join(
            cell.ljust(w) if k == 0 else cell.rjust(w) for k, (cell, w) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    )


def _cells(row: MeasurementRow) -> tuple[str, ...]:
    def number(value: float | None, digits: int = 1) -> str:
        return "-" if value is None else f"{value:.{digits}f}"

    spread = "-" if row.mean_intensity is None else f"{number(row.mean_intensity, 0)} ± {number(row.sd_intensity, 0)}"
    return f"{row.name} ({row.key})", number(row.volume_ml), number(row.mass_g), number(row.diameter_mm), spread
