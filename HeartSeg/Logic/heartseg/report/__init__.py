"""Reports of a result: measurements (CSV), report (JSON and HTML), preview picture (PNG) and text output."""

from .measurements import MeasurementRow, format_measurements, measurements_table, write_measurements
from .page import write_page
from .preview import write_preview
from .report_json import format_findings, report_dict, write_report

__all__ = [
    "MeasurementRow",
    "format_findings",
    "format_measurements",
    "measurements_table",
    "report_dict",
    "write_measurements",
    "write_page",
    "write_preview",
    "write_report",
]
