"""What segmenting needs besides Python and Slicer: which packages, in which versions, how large, and why.

Reads the metadata of what is installed; imports none of it.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Package:
    """A package that segmenting needs and Slicer does not bring.

    Attributes:
        name: on PyPI.
        requirement: with the versions that work, as in ``pyproject.toml``.
        module: import name.
        why: one phrase for the user.
        download_mb, installed_mb: ranges ``(least, most)``, 10^6 bytes.
        through: who installs it: ``"PyTorch extension"`` or ``"pip"``.
    """

    name: str
    requirement: str
    module: str
    why: str
    download_mb: tuple[float, float]
    installed_mb: tuple[float, float]
    through: str

    @property
    def versions(self) -> str:
        """The version part of the requirement, e.g. ``">=2.2,!=2.9.*"``."""
        return self.requirement.removeprefix(self.name)


PACKAGES = (
    Package(
        "torch",
        "torch>=2.2,!=2.9.*",
        "torch",
        "runs the neural network, on the graphics card if there is one",
        (200, 2800),
        (760, 6000),
        "PyTorch extension",
    ),
    Package(
        "dynamic-network-architectures",
        "dynamic-network-architectures>=0.4,<0.6",
        "dynamic_network_architectures",
        "nnU-Net's network classes",
        (0.1, 0.1),
        (0.5, 0.5),
        "pip",
    ),
)
"""In the order in which they are installed. Least: torch for the CPU (Linux wheel 2.13); most: torch with CUDA."""


@dataclass(frozen=True)
class Missing:
    """A package that is not there, or in a version that does not work.

    Attributes:
        package: what is needed.
        installed: the version that is there, ``""`` for none.
    """

    package: Package
    installed: str = ""

    @property
    def text(self) -> str:
        """One line: what, why, how large, through whom."""
        least, most = self.package.download_mb
        size = f"{_mb(least)} to {_mb(most)}" if most > least else _mb(most)
        old = f" (version {self.installed} is there and does not work)" if self.installed else ""
        return f"{self.package.name}{old}: {self.package.why}; download of {size}, by {self.package.through}"


def missing_packages(packages: Sequence[Package] = PACKAGES) -> tuple[Missing, ...]:
    """The packages that are not there in a version that works. Reads metadata only: nothing is imported."""
    importlib.invalidate_caches()
    found = []
    for package in packages:
        version = installed_version(package.name)
        there = bool(version) and importlib.util.find_spec(package.module) is not None
        if not there or not _fits(version, package.versions):
            found.append(Missing(package, version))
    return tuple(found)


def installed_version(name: str) -> str:
    """Version of an installed package, ``""`` for none."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""


def explanation(missing: Sequence[Missing]) -> str:
    """What the user is asked to agree to, once."""
    if not missing:
        return "Everything that segmenting needs is installed."
    least = sum(m.package.installed_mb[0] for m in missing)
    most = sum(m.package.installed_mb[1] for m in missing)
    size = f"{_mb(least)} to {_mb(most)}" if most > least else _mb(most)
    lines = ["HeartSeg needs packages that are not part of Slicer:", *(f"• {m.text}" for m in missing)]
    lines.append(f"They are downloaded from the internet, once, into Slicer's own Python ({size} on the disk).")
    lines.append("No data of yours leave this computer; afterwards no network is needed.")
    return "\n".join(lines)


def _fits(version: str, specifier: str) -> bool:
    """Whether a version is among those of a specifier such as ``">=2.2,!=2.9.*"`` (pip's own rules)."""
    for where in ("packaging.specifiers", "pip._vendor.packaging.specifiers"):
        with contextlib.suppress(ImportError):
            return importlib.import_module(where).SpecifierSet(specifier).contains(version, prereleases=True)
    return True  # neither: a package that does not fit is noticed when it is imported


def _mb(size: float) -> str:
    return f"{size / 1000:.1f} GB" if size >= 1000 else f"{size:.0f} MB" if size >= 10 else f"{size:g} MB"
