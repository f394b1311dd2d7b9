"""The packages a fresh Slicer lacks: what, how large, why; installed after one question, in the way Slicer wants it.

Nothing here is run before the user has agreed, and nothing touches Slicer's own numpy, SimpleITK, scipy or requests:
torch comes through the PyTorch extension alone, the rest without its dependencies (those that matter are listed here).
What Slicer offers for this (``slicer.packaging`` of 5.12 and later, ``slicer.util.pip_install`` of 5.10,
``PyTorchUtils``) is behind one small protocol, :class:`Installer`; it belongs to the main thread, as Slicer's own does.

pip and light-the-torch run as child processes of Slicer with its environment, and so respect ``HTTPS_PROXY``,
``NO_PROXY``, ``PIP_INDEX_URL`` and pip's configuration file.
"""

from __future__ import annotations

import collections
import contextlib
import importlib
import importlib.metadata
import importlib.util
import io
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from ..errors import DependencyError
from ..needs import PACKAGES, Missing, Package, explanation, missing_packages

__all__ = [
    "PACKAGES",
    "InstallFailed",
    "Installer",
    "Missing",
    "Outcome",
    "Package",
    "Refused",
    "choose_installer",
    "explanation",
    "install_missing",
    "missing_packages",
]

REQUESTER = "HeartSeg"
KEPT = ("SimpleITK", "numpy", "scipy", "requests", "torch", "torchvision", "timm", "einops")
"""Never installed or changed by pip here: Slicer's own, torch (of the PyTorch extension), and what only other network
classes than ours need (timm, einops)."""

LAST_LINES = 12
"""Lines of pip's output that a failure shows."""


class InstallFailed(DependencyError):
    """A package could not be installed; ``log`` holds the last lines of the installer's output."""

    def __init__(self, message: str, log: str = "") -> None:
        super().__init__(message)
        self.log = log


class Refused(Exception):
    """The user said no; nothing was changed. Not an error."""


@dataclass(frozen=True)
class Outcome:
    """What an installation did.

    Attributes:
        installed: names of the packages that were installed.
        restart: why Slicer must be restarted before they work, one sentence; ``""`` if it need not be.
    """

    installed: tuple[str, ...] = ()
    restart: str = ""


class Installer(Protocol):
    """Who installs packages. Methods block, keep the window alive, and print what the tools print."""

    def obstacle(self, packages: Sequence[Package]) -> str:
        """Why these cannot be installed, one sentence with the way out; ``""`` if they can."""

    def install_torch(self, versions: str) -> bool:
        """Install torch; ``False`` if the user said no."""

    def install(self, requirements: Sequence[str]) -> None:
        """Install these with none of :data:`KEPT`; raises ``RuntimeError`` on refusal, ``CalledProcessError``."""


def install_missing(
    installer: Installer,
    missing: Sequence[Missing] | None = None,
    on_step: Callable[[int, int, str], None] | None = None,
    on_line: Callable[[str], None] | None = None,
) -> Outcome:
    """Install what is missing; call it after the user has agreed to :func:`explanation`. Main thread.

    Args:
        installer: who does it.
        missing: what; all that is missing when omitted.
        on_step: called with (done, total, what comes now).
        on_line: called with every line the tools print.

    Returns:
        What was installed and whether Slicer must be restarted; nothing at all where nothing was missing.

    Raises:
        Refused: the user declined on the way; what was installed before that stays.
        InstallFailed: with the tools' last lines.
    """
    missing = missing_packages() if missing is None else missing
    if not missing:
        return Outcome()
    if obstacle := installer.obstacle([m.package for m in missing]):
        raise InstallFailed(obstacle)
    before = _versions()
    for done, item in enumerate(missing):
        if on_step:
            on_step(done, len(missing), f"Installing {item.package.name}…")
        _install_one(installer, item.package, on_line)
    if on_step:
        on_step(len(missing), len(missing), "Installed.")
    return Outcome(tuple(m.package.name for m in missing), _restart_reason(before))


def _install_one(installer: Installer, package: Package, on_line: Callable[[str], None] | None) -> None:
    with _listening(on_line) as lines:
        try:
            if package.through == "pip":
                installer.install([package.requirement])
            elif not installer.install_torch(package.versions):
                raise Refused(f"{package.name} was not installed")
        except (Refused, InstallFailed):
            raise
        except RuntimeError as error:
            if "declined" in str(error).lower():  # slicer.packaging.pip_ensure: "User declined package installation"
                raise Refused(str(error)) from None
            raise _failed(package, str(error), lines) from error
        except subprocess.CalledProcessError as error:
            raise _failed(package, f"the installer ended with code {error.returncode}", lines) from error
        except Exception as error:  # the tools are others' code: whatever they raise, the user gets a line and the log
            raise _failed(package, f"{type(error).__name__}: {error}", lines) from error
    left = missing_packages([package])
    if left:
        there = f"version {left[0].installed} is there" if left[0].installed else "it is still not there"
        raise _failed(package, f"the installer ended well, but {there}", lines)


def _failed(package: Package, why: str, lines: collections.deque[str]) -> InstallFailed:
    log = "\n".join(lines)
    hint = _hint(log)
    return InstallFailed(f"{package.name} could not be installed ({why}): {hint}", log)


_HINTS = (
    (("no space left", "errno 28", "disk quota"), "the disk is full; make room and try again"),
    (
        ("407 proxy", "proxyerror", "cannot connect to proxy"),
        "the proxy does not let it through; set HTTPS_PROXY (with user name and password if it wants them) before "
        "Slicer is started",
    ),
    (
        ("certificate_verify_failed", "certificate verify failed"),
        "the network opens encrypted traffic; set REQUESTS_CA_BUNDLE or PIP_CERT to its certificate",
    ),
    (("no matching distribution", "could not find a version"), "there is no version of it for this system and Python"),
    (
        ("access is denied", "permission denied", "winerror 5"),
        "Slicer's folder cannot be written, or a file of it is in use; restart Slicer, or install Slicer into a folder "
        "of your own",
    ),
    (
        (
            "connectionerror",
            "newconnectionerror",
            "name or service not known",
            "getaddrinfo",
            "temporary failure in name",
            "timed out",
            "max retries exceeded",
        ),
        "there is no connection to the package server; check the network and HTTPS_PROXY",
    ),
)


def _hint(log: str) -> str:
    text = log.lower()
    return next((hint for words, hint in _HINTS if any(w in text for w in words)), "see the installer's last lines")


def _restart_reason(before: dict[str, str]) -> str:
    """A restart is needed where a package changed that this process has already loaded in its older version."""
    importlib.invalidate_caches()
    after = _versions()
    changed = {name for name, version in after.items() if name in before and before[name] != version}
    loaded = sorted(name for name in changed if any(module in sys.modules for module in _modules_of(name)))
    if not loaded:
        return ""
    return f"Restart Slicer before you segment: {', '.join(loaded)} changed while an older version was in use."


def _modules_of(distribution: str) -> set[str]:
    return {module for module, names in importlib.metadata.packages_distributions().items() if distribution in names}


def _versions() -> dict[str, str]:
    found = {}
    for distribution in importlib.metadata.distributions():
        name = distribution.metadata["Name"]
        if name:
            found[name] = distribution.version
    return found


class _Tee(io.TextIOBase):
    """Passes text on to where it would have gone, and every whole line to a listener."""

    def __init__(self, target: Any, heard: Callable[[str], None]) -> None:
        self._target, self._heard, self._rest = target, heard, ""

    def write(self, text: str) -> int:
        if self._target is not None:
            self._target.write(text)
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            if line.strip():
                self._heard(line.rstrip())
        return len(text)

    def flush(self) -> None:
        if self._target is not None:
            self._target.flush()


@contextlib.contextmanager
def _listening(on_line: Callable[[str], None] | None) -> Iterator[collections.deque[str]]:
    """The last lines that are printed meanwhile.

    ``slicer.util.logProcessOutput`` prints every line of pip and light-the-torch; the error it raises holds none.
    """
    lines: collections.deque[str] = collections.deque(maxlen=LAST_LINES)

    def heard(line: str) -> None:
        lines.append(line)
        if on_line:
            on_line(line)

    with contextlib.redirect_stdout(_Tee(sys.stdout, heard)):
        yield lines


# --- Slicer -----------------------------------------------------------------------------------------------------------


class _TorchExtension:
    """torch through the PyTorch extension, which knows which build fits the machine's driver."""

    def obstacle(self, packages: Sequence[Package]) -> str:
        if all(package.through == "pip" for package in packages):
            return ""
        loaded = "PyTorchUtils" in sys.modules  # and find_spec refuses to look at some modules that are loaded
        if not loaded and importlib.util.find_spec("PyTorchUtils") is None:
            return (
                "the extension PyTorch is not installed: install it in the Extensions Manager (View > Extensions "
                "Manager, search for PyTorch), restart Slicer, and come back"
            )
        return ""

    def install_torch(self, versions: str) -> bool:
        import PyTorchUtils

        # Asked already: HeartSeg's own question names what, how large and why, once for all packages.
        torch = PyTorchUtils.PyTorchUtilsLogic().installTorch(askConfirmation=False, torchVersionRequirement=versions)
        return torch is not None


class SlicerPackaging(_TorchExtension):
    """Slicer 5.12 and later: ``slicer.packaging``, with its own progress window."""

    def install(self, requirements: Sequence[str]) -> None:
        import slicer.packaging
        from packaging.requirements import Requirement

        slicer.packaging.pip_ensure(
            [Requirement(text) for text in requirements],
            skip_packages=list(KEPT),
            prompt_install=False,
            prompt_restart=False,  # asked for by the caller, where it is needed
            requester=REQUESTER,
        )


class SlicerPip(_TorchExtension):
    """Slicer 5.10: ``slicer.util.pip_install``, without the packages' dependencies."""

    def install(self, requirements: Sequence[str]) -> None:
        import slicer

        slicer.util.pip_install(["--no-deps", *requirements])


class NoInstaller:
    """Outside of Slicer nothing is installed: the user's environment is theirs."""

    def obstacle(self, packages: Sequence[Package]) -> str:
        return "packages are missing: install them with: pip install 'heartseg[app]'"

    def install_torch(self, versions: str) -> bool:
        raise InstallFailed(self.obstacle(()))

    def install(self, requirements: Sequence[str]) -> None:
        raise InstallFailed(self.obstacle(()))


def choose_installer() -> Installer:
    """The installer for this application."""
    slicer = sys.modules.get("slicer")
    if not getattr(getattr(slicer, "app", None), "applicationVersion", ""):
        return NoInstaller()
    try:
        packaging = importlib.import_module("slicer.packaging")
    except ImportError:
        return SlicerPip()
    return SlicerPackaging() if hasattr(packaging, "pip_ensure") else SlicerPip()
