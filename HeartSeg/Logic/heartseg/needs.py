"""What HeartSeg needs besides Python and Slicer: which packages, in which versions, how large, and why.

Reads the metadata of what is installed; imports none of it.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import importlib.util
import platform
import shutil
import sys
import sysconfig
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from .errors import DependencyError, one_line
from .wording import _, joined

MIN_PYTHON = (3, 10)
_FINDING = threading.Lock()
_SEARCHED: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True)
class Package:
    """A package that segmentation or an output format needs and Slicer lacks.

    Attributes:
        name: on PyPI.
        requirement: with the versions that work, as in ``pyproject.toml``.
        module: import name.
        why: one phrase for the user.
        download_mb, installed_mb: ranges ``(least, most)``, 10^6 bytes.
        through: who installs it: ``"PyTorch extension"`` or ``"pip"``.
        beside: requirement on a package of Slicer, which is never replaced; ``""`` for none.
    """

    name: str
    requirement: str
    module: str
    why: str
    download_mb: tuple[float, float]
    installed_mb: tuple[float, float]
    through: str = "pip"
    beside: str = ""

    @property
    def versions(self) -> str:
        """The version part of the requirement, e.g. ``">=2.2,!=2.9.*"``."""
        return self.requirement.removeprefix(self.name)


TORCH = Package(
    "torch",
    "torch>=2.2,!=2.9.*",
    "torch",
    _("runs the neural network, on the graphics card if there is one, and makes heat maps"),
    (200, 2800),
    (760, 6000),
    "PyTorch extension",
)
"""Least: torch for the CPU (Linux wheel 2.13); most: torch with CUDA."""

LIGHT = Package(
    "onnxruntime",
    "onnxruntime>=1.19",
    "onnxruntime",
    _("runs the neural network of the included model on the processor"),
    (14, 28),
    (45, 80),
)
"""Wheels of 1.32; it needs NumPy, which Slicer has, and runs without its further dependencies."""

THIS_MODEL = _("this model")
RUNTIMES = (TORCH, LIGHT)
"""The packages that run the network. One of them is needed; the first that is installed is used."""


def _part(name: str, of: str, download: tuple[float, float], installed: tuple[float, float], module: str) -> Package:
    """A package that another one imports. Any version that is there is kept, because it may belong to others."""
    return Package(name, name, module, _("is needed by {package}").format(package=of), download, installed)


PICTURES = (
    Package("matplotlib", "matplotlib>=3.8", "matplotlib", _("draws the pictures of reports"), (9.3, 9.9), (23, 25)),
    _part("contourpy", "matplotlib", (0.2, 0.4), (0.6, 1.1), "contourpy"),
    _part("cycler", "matplotlib", (0.01, 0.01), (0.02, 0.02), "cycler"),
    _part("fonttools", "matplotlib", (2.5, 5.4), (12, 23), "fontTools"),
    _part("kiwisolver", "matplotlib", (0.07, 1.5), (0.2, 5.8), "kiwisolver"),
)
"""What Slicer 5.10 and 5.12 lack for pictures. Sizes here and below: wheels of 3 systems, Python 3.12."""

DICOM = (
    Package(
        "highdicom", "highdicom>=0.26,<1", "highdicom", _("writes DICOM"), (1.1, 1.1), (25, 25), beside="pydicom>=3"
    ),
    _part("pyjpegls", "highdicom", (1.1, 2.7), (1.6, 8.1), "jpeg_ls"),
)
"""Slicer 5.12 has both. Slicer 5.10 has pydicom 2, beside which highdicom does not work."""

PDF = (
    Package(
        "weasyprint",
        "weasyprint>=68",
        "weasyprint",
        _("sets the pages of PDF reports, with the library Pango, which Linux desktops have"),
        (0.3, 0.3),
        (1.3, 1.3),
    ),
    _part("pydyf", "weasyprint", (0.01, 0.01), (0.03, 0.03), "pydyf"),
    _part("pyphen", "weasyprint", (2.1, 2.1), (6.4, 6.4), "pyphen"),
    _part("tinycss2", "weasyprint", (0.03, 0.03), (0.1, 0.1), "tinycss2"),
    _part("cssselect2", "weasyprint", (0.02, 0.02), (0.06, 0.06), "cssselect2"),
    _part("tinyhtml5", "weasyprint", (0.04, 0.04), (0.2, 0.2), "tinyhtml5"),
    _part("webencodings", "weasyprint", (0.01, 0.01), (0.03, 0.03), "webencodings"),
    *PICTURES,
)
"""PDF reports also need the library Pango, which pip cannot install."""


@dataclass(frozen=True)
class Missing:
    """A package that is not there, in a version that does not work, or that cannot be imported.

    Attributes:
        package: what is needed.
        installed: the version that is there, ``""`` for none.
        problem: why it cannot be imported, ``""`` if that was not tried.
    """

    package: Package
    installed: str = ""
    problem: str = ""

    @property
    def text(self) -> str:
        """One line: what, why, how large, through whom."""
        least, most = self.package.download_mb
        why = f" ({self.problem})" if self.problem else ""
        text = (
            _("{name} (version {version} is installed and does not work{problem}): {why}; download of {size}, by {way}")
            if self.installed
            else _("{name}: {why}; download of {size}, by {way}")
        )
        name, size, way = self.package.name, _range(least, most), self.package.through
        return text.format(name=name, version=self.installed, problem=why, why=self.package.why, size=size, way=way)


class PackageNeeded(DependencyError):
    """A package is needed that is not installed or cannot be imported.

    Attributes:
        need: what needs which package, or what is wrong with it.
        name: of the package.
        problem: what Python said when it was imported, one line; ``""`` if it is not installed.
        how: what to do outside of Slicer.
    """

    def __init__(self, need: str, name: str, problem: str, how: str) -> None:
        super().__init__(need, name, problem, how)
        self.need, self.name, self.problem, self.how = need, name, problem, how

    def __str__(self) -> str:
        return joined(": ", (self.need, self.how))


def check_runtime() -> None:
    """Import the package that runs the network; torch takes seconds. Not on the main thread.

    Raises:
        PackageNeeded: one is installed and cannot be imported, for want of a system library or of the right NumPy,
            and no other can.
        ModuleNotFoundError: none is installed.
    """
    first: Exception | None = None
    for package in RUNTIMES:
        try:
            importlib.import_module(package.module)
            return
        except ModuleNotFoundError as error:
            first = first or error
        except (ImportError, OSError, RuntimeError) as error:
            problem = one_line(error)
            text = _("{name} is installed but cannot be imported ({problem})")
            need = text.format(name=package.name, problem=problem)
            first = PackageNeeded(need, package.name, problem, _("install it again"))
    assert first is not None
    raise first


def import_torch(who: str = THIS_MODEL) -> Any:
    """Return the module ``torch``, which takes seconds to load. Not on the main thread.

    Args:
        who: what needs it, for the message.

    Raises:
        PackageNeeded: it is not installed, or cannot be imported.
    """
    try:
        import torch
    except (ImportError, OSError) as error:
        problem = "" if isinstance(error, ModuleNotFoundError) else one_line(error)
        need = _("{who} needs PyTorch ({error})").format(who=who, error=error)
        raise PackageNeeded(need, TORCH.name, problem, "pip install torch") from None
    return torch


def missing_runtimes(unusable: Mapping[str, str] | None = None) -> tuple[Missing, ...]:
    """:data:`RUNTIMES`, of which one must be installed; empty if one is there.

    Args:
        unusable: as for :func:`missing_packages`.
    """
    missing = missing_packages(RUNTIMES, unusable)
    return missing if len(missing) == len(RUNTIMES) else ()


def preferred_runtime() -> Package:
    """torch where there is a graphics card that it can use, else the light one."""
    return TORCH if has_graphics_card() and not unsupported(TORCH) else LIGHT


def has_graphics_card() -> bool:
    """Whether there may be a graphics card for torch; asks the system, since an import of torch takes seconds."""
    nodes = ("/dev/nvidiactl", "/dev/kfd")  # drivers of NVIDIA and AMD
    apple = (platform.system(), platform.machine()) == ("Darwin", "arm64")
    return apple or bool(shutil.which("nvidia-smi")) or any(Path(node).exists() for node in nodes)


def missing_packages(packages: Sequence[Package], unusable: Mapping[str, str] | None = None) -> tuple[Missing, ...]:
    """The packages that are not there in a version that works. Reads metadata only: nothing is imported.

    Args:
        packages: what is needed.
        unusable: name -> problem of packages that were found not to import; they count as missing.
    """
    _notice_installations()
    found = []
    for package in packages:
        version = installed_version(package.name)
        problem = (unusable or {}).get(package.name, "") or unsupported(package)
        there = bool(version) and importlib.util.find_spec(package.module) is not None
        if not there or problem or not _fits(version, package.versions):
            found.append(Missing(package, version, problem))
    return tuple(found)


def unsupported(package: Package, system: str = "", machine: str = "", numpy_version: str = "") -> str:
    """Why a package cannot work on this system, one sentence; ``""`` if it can.

    Slicer for macOS is built for x86-64. PyTorch ended there with 2.2, which needs NumPy below 2; Slicer has NumPy 2.

    Args:
        package: what is needed.
        system, machine, numpy_version: of another machine; this one's when omitted.
    """
    system, machine = system or platform.system(), machine or platform.machine()
    numpy_version = numpy_version or installed_version("numpy")
    major = int(numpy_version.partition(".")[0] or 0) if numpy_version[:1].isdigit() else 0
    if sys.version_info < MIN_PYTHON:
        text = _("Python {version} is too old: use a Slicer with Python 3.10 or newer (5.10 has 3.12)")
        return text.format(version=platform.python_version())
    if package is TORCH and system == "Darwin" and machine == "x86_64" and major >= 2:
        return _(
            "PyTorch does not support macOS with an x86-64 Python and NumPy {version} (it ended there with version "
            "2.2, which needs NumPy 1): choose {other}"
        ).format(version=numpy_version, other=LIGHT.name)
    beside, sign, version = package.beside.partition(">=")
    there = installed_version(beside) if beside else ""
    if there and not _fits(there, sign + version):
        return _(
            "{name} needs {beside}, and {present} is part of this Slicer, which HeartSeg never replaces: use Slicer "
            "5.12 or newer"
        ).format(name=package.name, beside=package.beside, present=f"{beside} {there}")
    return ""


def lacking_space(missing: Sequence[Missing], folder: Path | None = None) -> str:
    """Why the disk is too small for what is missing, one sentence; ``""`` if it is not.

    Args:
        missing: what would be installed; the least that it takes is compared.
        folder: where it would go; the folder of Python's packages when omitted.
    """
    least = 1e6 * sum(m.package.installed_mb[0] + m.package.download_mb[0] for m in missing)
    folder = folder or Path(sysconfig.get_paths()["purelib"])
    try:
        free = shutil.disk_usage(folder).free
    except OSError:
        return ""
    if free >= least:
        return ""
    text = _("{free} are free where Slicer's packages are, and at least {least} are needed: make room")
    return text.format(free=_mb(free / 1e6), least=_mb(least / 1e6))


def _notice_installations() -> None:
    """Let Python look again if folders of packages changed since the last call; a look takes 10 ms and more."""
    global _SEARCHED
    state = _folders_of_packages()
    if state != _SEARCHED:
        forget_found_modules()
        _SEARCHED = state


def _folders_of_packages() -> tuple[tuple[str, int], ...]:
    """Folders in which Python looks, and when each changed; an installation and a removal change one of them."""
    return tuple((entry, _changed_at(entry)) for entry in sys.path)


def _changed_at(entry: str) -> int:
    with contextlib.suppress(OSError):
        return Path(entry or ".").stat().st_mtime_ns
    return 0


def forget_found_modules() -> None:
    """Let Python find packages that were installed meanwhile, as ``importlib.invalidate_caches``, from any thread.

    Python's function raises ``KeyError`` if two threads call it at a time.
    """
    with _FINDING:
        importlib.invalidate_caches()


def installed_version(name: str) -> str:
    """Version of an installed package, ``""`` for none."""
    return _version_in(name, _folders_of_packages())


@lru_cache(maxsize=256)
def _version_in(name: str, folders: tuple[tuple[str, int], ...]) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""


def explanation(missing: Sequence[Missing]) -> str:
    """What the user is asked to agree to, once."""
    if not missing:
        return _("Everything that segmentation needs is installed.")
    least = sum(m.package.installed_mb[0] for m in missing)
    most = sum(m.package.installed_mb[1] for m in missing)
    lines = [_("HeartSeg needs packages that are not part of Slicer:"), *("• " + m.text for m in missing)]
    text = _("They are downloaded once from the internet into Slicer's own Python ({size} on disk).")
    lines.append(text.format(size=_range(least, most)))
    lines.append(_("None of your data leave this computer. Afterwards no network is needed."))
    return joined("\n", lines)


def _fits(version: str, specifier: str) -> bool:
    """Whether a version is among those of a specifier such as ``">=2.2,!=2.9.*"`` (pip's own rules)."""
    for where in ("packaging.specifiers", "pip._vendor.packaging.specifiers"):
        with contextlib.suppress(ImportError):
            return importlib.import_module(where).SpecifierSet(specifier).contains(version, prereleases=True)
    return True  # neither: a package that does not fit is noticed when it is imported


def _range(least: float, most: float) -> str:
    return _("{least} to {most}").format(least=_mb(least), most=_mb(most)) if most > least else _mb(most)


def _mb(size: float) -> str:
    return f"{size / 1000:.1f} GB" if size >= 1000 else f"{size:.0f} MB" if size >= 10 else f"{size:g} MB"
