"""Reports of a result: measurements (CSV), report (JSON, HTML, PDF), preview picture (PNG) and text output."""

from .build import Material, build_report
from .measurements import MeasurementRow, format_measurements, measurements_table, write_measurements
from .model import Report
from .page import write_page
from .pdf import write_pdf
from .preview import write_preview
from .report_json import format_findings, report_dict, write_report

__all__ = [
    "Material",
    "MeasurementRow",
    "Report",
    "build_report",
    "format_findings",
    "format_measurements",
    "measurements_table",
    "report_dict",
    "write_measurements",
    "write_page",
    "write_pdf",
    "write_preview",
    "write_report",
]
