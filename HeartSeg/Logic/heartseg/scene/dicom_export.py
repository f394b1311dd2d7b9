"""Export DICOM SEG with 3D Slicer's own exporter, which exists only in the application.

**Not tested**, because ``slicer-core`` lacks the plugin. The calls are those of Slicer's DICOM export dialog
(``DICOMLib/Widgets``: ``examineForExport``, then ``export``).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..errors import OutputError
from ..volume.types import Source
from ..wording import _
from .nodes import subject_item

_SERIES_TAG = "0020,000e"
_PLUGIN = "DICOMSegmentationPlugin"


def has_dicom_exporter() -> bool:
    """Whether the DICOM segmentation plugin of the application is available."""
    import slicer

    return _PLUGIN in (getattr(slicer.modules, "dicomPlugins", None) or {})


def dicom_source(volume_node: Any) -> Source | None:
    """Return folder and series of a scan that was loaded from Slicer's DICOM database; ``None`` for other scans."""
    import slicer

    uids = ((volume_node.GetAttribute("DICOM.instanceUIDs") if volume_node is not None else None) or "").split()
    database = getattr(slicer, "dicomDatabase", None)
    if not uids or database is None:
        return None
    file, series = database.fileForInstance(uids[0]), database.instanceValue(uids[0], _SERIES_TAG)
    return Source(path=str(Path(file).parent), series_uid=str(series)) if file and series else None


def export_dicom_seg(segmentation_node: Any, folder: Path) -> Path:
    """Write a segmentation node as DICOM SEG, blocking the main thread.

    The node must be next to its scan under a patient and study of the subject hierarchy, where
    :func:`~heartseg.scene.segmentation.fill_segmentation` puts it if the scan came from DICOM.

    Args:
        segmentation_node: ``vtkMRMLSegmentationNode``.
        folder: existing, empty folder.

    Returns:
        The file.

    Raises:
        OutputError: the scan did not come from DICOM, or the exporter failed; its words are in the message.
    """
    import slicer

    _hierarchy, item = subject_item(segmentation_node)
    plugin = slicer.modules.dicomPlugins[_PLUGIN]()
    exportables = plugin.examineForExport(item) if item else []
    if not exportables:
        raise OutputError(
            _(
                "DICOM SEG needs a scan that was loaded through Slicer's DICOM module: import it there, "
                "segment it again, or leave DICOM SEG unchecked"
            )
        )
    for exportable in exportables:
        exportable.directory = str(folder)
    problem = plugin.export(exportables)
    files = sorted(p for p in folder.rglob("*.dcm") if p.is_file())
    if problem or not files:
        raise OutputError(
            _("DICOM SEG could not be exported: {problem}").format(problem=problem or _("the exporter wrote no file"))
        )
    return files[0]
