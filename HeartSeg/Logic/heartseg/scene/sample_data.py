"""Register the included synthetic scan in Slicer's module Sample Data; it loads without a network."""

from __future__ import annotations

import logging
from pathlib import Path

from ..hashes import sha256_of

log = logging.getLogger(__name__)

CATEGORY = "HeartSeg"
"""Heading in Sample Data; by convention the name of the extension."""
SAMPLE_NAME = "HeartSegSyntheticCTA"
"""Argument of ``SampleData.downloadSample``."""
SCAN = "SampleData/HeartSeg-synthetic-CTA.nii.gz"
THUMBNAIL = "Icons/HeartSegSyntheticCTA.png"


def register_sample_data(folder: str | Path) -> bool:
    """Add the included scan to the module Sample Data; repeated calls have no further effect.

    The address of the scan is a ``file:`` URI, which Sample Data copies to its cache like a download. The checksum is
    that of the file, so that a copy of an earlier version in the cache is replaced.

    Args:
        folder: folder ``Resources`` of the module.

    Returns:
        whether it is offered; False (with a line in the log) where Slicer has no module Sample Data or a file is
        missing. Neither keeps the module from working.
    """
    scan, thumbnail = Path(folder).resolve() / SCAN, Path(folder).resolve() / THUMBNAIL
    missing = [str(path) for path in (scan, thumbnail) if not path.is_file()]
    if missing:
        log.warning("the sample scan is not offered: there is no file %s", ", ".join(missing))
        return False
    try:
        import SampleData
    except ImportError:
        log.info("the sample scan is not offered: this application has no module Sample Data")
        return False
    SampleData.SampleDataLogic.registerCustomSampleDataSource(
        category=CATEGORY,
        sampleName=SAMPLE_NAME,
        uris=scan.as_uri(),
        fileNames=scan.name,
        nodeNames=SAMPLE_NAME,
        thumbnailFileName=str(thumbnail),
        checksums=f"SHA256:{sha256_of(scan)}",
    )
    return True
