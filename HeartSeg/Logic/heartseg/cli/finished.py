"""Whether an earlier result is the one that a run would make now: the key of a finished case."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import __version__
from ..errors import HeartSegError
from ..formats import REPORT_FILE
from ..hashes import add_file
from ..settings import Settings
from ..volume.folders import files_below
from ..volume.headers import image_suffix
from ..volume.image_header import read_header

if TYPE_CHECKING:
    from ..models.folder import ModelFolder
    from .cases import Case

NOT_SHAPING = ("device", "threads")
"""Settings that affect device and speed, but not the result."""


@dataclass(frozen=True)
class CaseKey:
    """Everything that a result depends on.

    Attributes:
        content: SHA-256 of the scan's files.
        marks: hash of their names, sizes and times: equal marks mean equal content, without reading it.
        choices: series, frame, modality, model files, formats, settings, version; JSON-ready.
    """

    content: str
    marks: str
    choices: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready dictionary for the report."""
        return {"content": self.content, "marks": self.marks, "choices": self.choices}


def choices_of(
    case: Case, settings: Settings, model_hash: str, formats: tuple[str, ...] | None, anonymize: bool
) -> dict[str, Any]:
    """What a result depends on besides the scan's content, JSON-ready."""
    shaping = {name: value for name, value in settings.to_dict().items() if name not in NOT_SHAPING}
    choices = {
        "series": case.series,
        "frame": case.frame,
        "modality": case.modality,
        "spacing": case.spacing,
        "model": model_hash,
        "formats": None if formats is None else sorted(set(formats)),
        "settings": shaping,
        "heartseg": __version__,
        "anonymized": anonymize,
    }
    return json.loads(json.dumps(choices))


def key_of(case: Case, choices: dict[str, Any]) -> CaseKey:
    """The key of a case whose scan is there; reads all of its files."""
    files = list(scan_files(case.path))
    return CaseKey(content_of(files, case.path), marks_of(files), choices)


def scan_files(path: Path) -> Iterator[Path]:
    """Every file that a scan may consist of: a folder's files, or an image with the files that hold its voxels."""
    if path.is_dir():
        yield from files_below(path)
    elif image_suffix(path):
        try:
            yield from (file for file in dict.fromkeys(read_header(path).files) if file.is_file())
        except (HeartSegError, OSError):
            yield path
    elif path.is_file():
        yield path


def content_of(files: Iterable[Path], root: Path) -> str:
    """SHA-256 of the files' names (relative to ``root``) and bytes."""
    digest = hashlib.sha256()
    for file in files:
        name = file.relative_to(root).as_posix() if file.is_relative_to(root) else file.name
        digest.update(f"{name}\0".encode("utf-8", "surrogateescape"))
        add_file(digest, file)
    return digest.hexdigest()


def marks_of(files: Iterable[Path]) -> str:
    """Hash of the files' paths, sizes and times of change, which no copy and no edit keeps."""
    digest = hashlib.sha256()
    for file in files:
        status = file.stat()
        facts = (str(file.resolve()), status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)
        digest.update(repr(facts).encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def model_hash(model: ModelFolder) -> str:
    """SHA-256 of every file of a model's folder, and of its finder's."""
    finder = model.open_finder()
    folders = [model.path, *([] if finder is None else [finder.path])]
    return hashlib.sha256("".join(content_of(_model_files(f), f) for f in folders).encode()).hexdigest()


def _model_files(folder: Path) -> Iterator[Path]:
    return (file for file in files_below(folder) if not file.name.startswith("."))


def finished_report(folder: Path, case: Case, choices: dict[str, Any]) -> dict[str, Any] | None:
    """The report of a finished run of this very scan with these very choices, or ``None``.

    Result folders are written atomically, so a readable report indicates a complete result.
    """
    try:
        report = json.loads((folder / REPORT_FILE).read_text(encoding="utf-8"))
        earlier = report["case"]
        _ = report["findings"], report["measures"], report["heart_found"]
        if earlier["choices"] != choices:
            return None
        files = list(scan_files(case.path))
        if not files:
            return None
        same = earlier["marks"] == marks_of(files) or earlier["content"] == content_of(files, case.path)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return report if same else None
