"""Print version, licence and installed size of what HeartSeg uses, from the packages' own metadata.

python tools/list_dependencies.py
"""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

PACKAGES = (
    "torch",
    "onnxruntime",
    "onnx",
    "numpy",
    "scipy",
    "SimpleITK",
    "dynamic-network-architectures",
    "slicer-core",
    "vtk",
    "matplotlib",
    "rich",
    "nnunetv2",
    "openvino",
    "monai",
    "highdicom",
    "PySide6-Essentials",
)


def licence(package: metadata.PackageMetadata) -> str:
    """What the metadata says, most precise first, in one line."""
    classifiers = [c.rpartition(" :: ")[2] for c in package.get_all("Classifier") or [] if c.startswith("License")]
    stated = package["License-Expression"] or ", ".join(classifiers) or package["License"] or "not stated"
    return " ".join(stated.split())[:70]


def megabytes(package: metadata.Distribution) -> float:
    """Size of the package's own files, without what it depends on."""
    paths = [Path(str(package.locate_file(file))) for file in package.files or ()]
    return sum(p.stat().st_size for p in paths if p.is_file()) / 1e6


if __name__ == "__main__":
    for name in PACKAGES:
        try:
            found = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            print(f"{name:<32}not installed")
            continue
        print(f"{name:<32}{found.version:<14}{megabytes(found):7.1f} MB  {licence(found.metadata)}")
