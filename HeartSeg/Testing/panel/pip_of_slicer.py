"""Slicer's functions that call pip, with the real pip in a real child process, and wheels for it."""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import sys
import zipfile
from base64 import urlsafe_b64encode
from pathlib import Path

from heartseg.needs import Package


def made_up(name: str, requirement: str = "", through: str = "pip") -> Package:
    module = name.replace("-", "_")
    return Package(name, requirement or f"{name}>=1.0", module, "for a test", (0.1, 0.1), (0.2, 0.2), through)


def write_wheel(folder: Path, name: str, version: str, requires: tuple[str, ...] = ()) -> Path:
    """Build a real wheel of one module with ``__version__``."""
    module = name.replace("-", "_")
    info = f"{module}-{version}.dist-info"
    needs = "".join(f"Requires-Dist: {r}\n" for r in requires)
    files = {
        f"{module}.py": f"__version__ = {version!r}\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }

    def line(path: str, content: str) -> str:
        digest = urlsafe_b64encode(hashlib.sha256(content.encode()).digest()).rstrip(b"=").decode()
        return f"{path},sha256={digest},{len(content.encode())}"

    record = "\n".join([*(line(p, c) for p, c in files.items()), f"{info}/RECORD,,"]) + "\n"
    wheel = folder / f"{module}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as z:
        for path, content in {**files, f"{info}/RECORD": record}.items():
            z.writestr(path, content)
    return wheel


class SlicerLike:
    """The installing part of ``slicer.util``: prints every line of pip; a failure is a ``CalledProcessError`` without
    text, as in ``slicer.util.logProcessOutput``."""

    def __init__(self, wheels: Path, target: Path) -> None:
        self.wheels, self.target = wheels, target
        self.calls: list[tuple[str, object]] = []
        self.testing = False

    def pip_install(self, requirements: str | list[str], **_: object) -> None:
        self.calls.append(("pip_install", requirements))
        self._pip(requirements if isinstance(requirements, list) else requirements.split())

    def _pip(self, arguments: list[str]) -> None:
        for name in (re.split(r"[<>=!]", a)[0].replace("-", "_") for a in arguments if not a.startswith("-")):
            for old in self.target.glob(f"{name}-*.dist-info"):
                shutil.rmtree(old)  # pip does this itself, but not with --target
        command = [
            sys.executable,
            "-m",
            "pip",
            "--disable-pip-version-check",
            "install",
            "--no-index",
            "--find-links",
            str(self.wheels),
            "--target",
            str(self.target),
            "--upgrade",
            *arguments,
        ]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert process.stdout is not None
        for line in process.stdout:
            print(line.rstrip())
        if process.wait():
            raise subprocess.CalledProcessError(process.returncode, command)
