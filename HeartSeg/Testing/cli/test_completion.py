"""Shell completion: requests of bash after ``eval "$(register-python-argcomplete heartseg)"``."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("argcomplete", reason='pip install "heartseg[complete]"')


@pytest.mark.parametrize(
    ("line", "word"),
    [("heartseg seg", "segment"), ("heartseg segment --mod", "--modality"), ("heartseg models ", "list")],
)
def test_commands_options_and_values_are_offered(line: str, word: str, tmp_path: Path) -> None:
    asked = {"_ARGCOMPLETE": "1", "COMP_LINE": line, "COMP_POINT": str(len(line)), "_ARGCOMPLETE_IFS": "\n"}
    answer = tmp_path / "answer"
    subprocess.run(
        [sys.executable, "-m", "heartseg.cli.main"],
        env={
            **os.environ,
            **asked,
            "_ARGCOMPLETE_STDOUT_FILENAME": str(answer),
            "PYTHONPATH": os.pathsep.join(sys.path),
        },
        check=True,
    )
    assert word in {offered.strip() for offered in answer.read_text(encoding="utf-8").split("\n")}
