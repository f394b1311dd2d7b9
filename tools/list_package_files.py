"""Write ``HeartSeg/PackageFiles.cmake``: every file that the Slicer extension packages, by name.

Slicer packages what is listed and nothing else. Run this after adding or removing a file of the package or a resource::

    python tools/list_package_files.py
"""

from __future__ import annotations

from pathlib import Path

MODULE = Path(__file__).resolve().parents[1] / "HeartSeg"
LIST = MODULE / "PackageFiles.cmake"


def scripts() -> list[str]:
    """The module's main file and every Python file of the package, relative to the module's folder."""
    found = sorted(p for p in (MODULE / "Logic" / "heartseg").rglob("*.py") if "__pycache__" not in p.parts)
    return ["HeartSeg.py", *(p.relative_to(MODULE).as_posix() for p in found)]


def resources() -> list[str]:
    """Every resource, and every file of the package that is not Python."""
    found = [p for p in (MODULE / "Resources").rglob("*") if p.is_file()]
    found += [p for p in (MODULE / "Logic" / "heartseg").rglob("*") if p.is_file() and p.suffix not in (".py", ".pyc")]
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
