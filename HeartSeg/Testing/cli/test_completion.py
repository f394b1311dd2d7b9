"""Shell completion: what bash offers after ``eval "$(register-python-argcomplete heartseg)"``."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from command_lines import environment

pytest.importorskip("argcomplete", reason='pip install "heartseg[complete]"')
BASH = shutil.which("bash")

PRESS_TAB = r"""
eval "$("$PYTHON" -m argcomplete.scripts.register_python_argcomplete heartseg)"
complete -p heartseg > /dev/null || exit 1
COMP_LINE=$1 COMP_POINT=${#1} COMP_TYPE=9
_python_argcomplete heartseg
printf '%s\n' "${COMPREPLY[@]}"
"""


@pytest.mark.skipif(BASH is None or sys.platform == "win32", reason="needs bash and executable scripts")
@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("heartseg seg", {"segment"}),
        ("heartseg segment --mod", {"--modality", "--model"}),
        ("heartseg segment scan.nrrd --modality ", {"CT", "MR"}),
        ("heartseg nothing --mod", set()),
    ],
)
def test_bash_offers_commands_options_and_values(line: str, words: set[str], tmp_path: Path) -> None:
    program = tmp_path / "heartseg"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m heartseg.cli.main "$@"\n')
    program.chmod(0o755)
    variables = environment() | {"PYTHON": sys.executable, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    asked = [str(BASH), "--norc", "-c", PRESS_TAB, "bash", line]
    done = subprocess.run(asked, env=variables, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert {word.strip() for word in done.stdout.splitlines()} - {""} == words
