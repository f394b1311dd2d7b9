"""Off-screen rendering of surfaces with VTK, by :mod:`.draw_surfaces` in a child process.

VTK crashes the process if there is no graphics library.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..anatomy import Structure
from .shading import view_frame

PROGRAM = Path(__file__).with_name("draw_surfaces.py")
PYTHON_VARIABLE = "HEARTSEG_RENDER_PYTHON"
"""Environment variable with a different interpreter for the child process."""

OPACITY = {"MYO": 0.55}
"""The myocardium is translucent, so that the left ventricle inside it is visible."""


def render_surfaces(
    surfaces: Sequence[tuple[Structure, str | Path]],
    size: tuple[int, int],
    background: tuple[float, float, float],
    timeout_s: float = 90.0,
) -> tuple[np.ndarray | None, str]:
    """Render surfaces from the front in a child process.

    Returns:
        RGBA float ``(rows, columns, 4)`` and ``""``; or ``None`` and the reason of the failure.
    """
    with tempfile.TemporaryDirectory() as folder:
        scene, picture = Path(folder) / "scene.json", Path(folder) / "view.png"
        drawn = [
            {"path": str(path), "color": [c / 255 for c in s.color], "opacity": OPACITY.get(s.key, 1.0)}
            for s, path in surfaces
        ]
        content = {"size": size, "background": background, "frame": view_frame().tolist(), "surfaces": drawn}
        scene.write_text(json.dumps(content), encoding="utf-8")
        python = os.environ.get(PYTHON_VARIABLE) or sys.executable
        # run_path leaves sys.path alone: the modules beside the program hide some of Python's own
        start = "import runpy, sys; runpy.run_path(sys.argv.pop(1), run_name='__main__')"
        command = [python, "-c", start, str(PROGRAM), str(scene), str(picture)]
        try:
            run = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s)
        except subprocess.TimeoutExpired:
            return None, f"rendering took more than {timeout_s:g} s"
        except OSError as error:
            return None, f"'{python}' could not be started ({error.strerror or error})"
        if run.returncode != 0 or not picture.is_file():
            last = (run.stderr.strip().splitlines() or ["no message"])[-1][:200]
            return None, f"the rendering process ended with code {run.returncode}: {last}"
        from matplotlib.image import imread

        return np.asarray(imread(picture), float), ""
