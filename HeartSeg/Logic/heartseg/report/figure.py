"""Figures of matplotlib, which is imported when one is drawn."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

from ..errors import DependencyError, OutputError, writing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SUFFIXES = (".png", ".svg", ".pdf")


def picture_path(path: str | Path) -> Path:
    """Return the path of a picture; raises ``OutputError`` if its suffix is not one of :data:`SUFFIXES`."""
    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise OutputError(f"file {str(path)!r} is not a picture: use one of the suffixes {', '.join(SUFFIXES)}")
    return path


@contextmanager
def saved_figure(
    target: str | Path | IO[bytes],
    size_in: tuple[float, float],
    dpi: int = 150,
    facecolor: str = "#ffffff",
    png: bool = False,
) -> Iterator[Figure]:
    """Yield an empty figure, and save what was drawn.

    Args:
        target: file or stream.
        size_in: width and height, inches.
        dpi: pixels per inch.
        facecolor: background.
        png: whether to write PNG whatever the suffix is.

    Raises:
        DependencyError: matplotlib is not installed.
        OutputError: the file cannot be written.
    """
    try:
        from matplotlib import rc_context
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise DependencyError("pictures need matplotlib: pip install 'heartseg[app]'") from error
    figure = Figure(figsize=size_in, dpi=dpi, facecolor=facecolor)
    FigureCanvasAgg(figure)
    yield figure
    with writing(str(target)), rc_context({"svg.fonttype": "none"}):  # texts stay texts
        figure.savefig(target, format="png" if png else None, facecolor=facecolor)
