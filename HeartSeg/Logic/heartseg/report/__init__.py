"""Files about a result: measurements (CSV), report (JSON), preview picture (PNG), and text for the terminal."""

from .measurements import MeasurementRow, format_measurements, measurements_table, write_measurements
from .preview import write_preview
from .report_json import format_findings, report_dict, write_report

__all__ = [
    "MeasurementRow",
    "format_findings",
    "format_measurements",
    "measurements_table",
    "report_dict",
    "write_measurements",
    "write_preview",
    "write_report",
]
