"""Write ``HeartSeg/PackageFiles.cmake``: every file that the Slicer extension packages, by name.

Slicer packages what is listed and nothing else. Run this after adding or removing a file of the package or a resource::

    python tools/list_package_files.py
"""

from __future__ import annotations

from pathlib import Path

MODULE = Path(__file__).resolve().parents[1] / "HeartSeg"
LIST = MODULE / "PackageFiles.cmake"
LEFT_OUT = ("workshop", "training", "synthesis", "translation")
"""Packages that make models: in the Python package, not in the Slicer extension."""


def scripts() -> list[str]:
    """The module's main file and every Python file that is packaged, relative to the module's folder."""
    return ["HeartSeg.py", *(p.relative_to(MODULE).as_posix() for p in packaged() if p.suffix == ".py")]


def packaged() -> list[Path]:
    """Every file of the package but those of :data:`LEFT_OUT`."""
    package = MODULE / "Logic" / "heartseg"
    found = (p for p in package.rglob("*") if p.is_file() and "__pycache__" not in p.parts)
    return sorted(p for p in found if p.relative_to(package).parts[0] not in LEFT_OUT)


def resources() -> list[str]:
    """Every resource, and every file of the package that is not Python."""
    found = [p for p in (MODULE / "Resources").rglob("*") if p.is_file()]
    found += [p for p in packaged() if p.suffix not in (".py", ".pyc")]
    return sorted(p.relative_to(MODULE).as_posix() for p in found if not p.name.startswith("."))


def text() -> str:
    """The file's content."""
    lines = ["# Written by tools/list_package_files.py; do not edit."]
    for variable, names in (("MODULE_PYTHON_SCRIPTS", scripts()), ("MODULE_PYTHON_RESOURCES", resources())):
        lines += ["", f"set({variable}", *(f'  "{name}"' for name in names), "  )"]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    LIST.write_text(text(), encoding="utf-8")
    print(f"{LIST}: {len(scripts())} scripts, {len(resources())} resources")
