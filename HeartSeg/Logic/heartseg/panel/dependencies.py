"""Installing the packages that a fresh Slicer lacks, after one question and in the way that Slicer wants it.

torch comes through the PyTorch extension alone; anything else without its dependencies. Slicer's NumPy, SciPy,
SimpleITK and requests, and the metadata of other packages, are never touched: ``slicer.packaging.pip_ensure`` of Slicer
5.12 is not used, because the requirements that it is told to skip are deleted from other packages' metadata for good.

What Slicer offers (``slicer.util.pip_install``, ``PyTorchUtils``) is behind one small protocol, :class:`Installer`; it
belongs to the main thread, as Slicer's own does. pip and light-the-torch run as child processes of Slicer with its
environment, and so respect ``HTTPS_PROXY``, ``NO_PROXY``, ``PIP_INDEX_URL`` and pip's configuration file.
"""

from __future__ import annotations

import collections
import contextlib
import importlib
import importlib.metadata
import importlib.util
import io
import os
import queue
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from ..errors import DependencyError
from ..needs import (
    PACKAGES,
    Missing,
    Package,
    explanation,
    installed_version,
    lacking_space,
    missing_packages,
    unsupported,
)

__all__ = [
    "PACKAGES",
    "InstallCancelled",
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
    "responsive",
    "unsupported",
]

PACKAGE_SERVER = "https://pypi.org/simple/"
REACH_SECONDS = 5.0
"""How long the server may take to answer before the question is asked."""

EXTENSION = "PyTorch"

LAST_LINES = 12
"""Lines of pip's output that a failure shows."""


class InstallFailed(DependencyError):
    """A package could not be installed; ``log`` holds the last lines of the installer's output."""

    def __init__(self, message: str, log: str = "") -> None:
        super().__init__(message)
        self.log = log


class Refused(Exception):
    """The user said no; nothing was changed. Not an error."""


class InstallCancelled(Refused):
    """The user cancelled the installation on the way."""


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

    def obstacle(self, missing: Sequence[Missing]) -> str:
        """Why these cannot be installed, one sentence with the way out; ``""`` if they can."""

    def lacks_extension(self, missing: Sequence[Missing]) -> bool:
        """Whether the PyTorch extension must be installed first, which takes a restart."""

    def install_extension(self) -> None:
        """Install it; raises :class:`InstallFailed`."""

    def install_torch(self, versions: str) -> bool:
        """Install torch; ``False`` if the user said no."""

    def install(self, requirements: Sequence[str]) -> None:
        """Install these without their dependencies; raises ``CalledProcessError``."""


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
    if obstacle := installer.obstacle(missing):
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


# --- while a tool runs ------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def responsive(turn: Callable[[], None], cancelled: Callable[[], bool]) -> Iterator[None]:
    """While this holds, Slicer's child processes do not block the window, and can be cancelled.

    ``slicer.util.logProcessOutput`` waits in ``readline()``: while torch is downloaded, for minutes, nothing is drawn.
    Here a thread reads, and the main thread turns the event loop.

    Args:
        turn: one turn of the event loop.
        cancelled: asked at each turn; the process is ended when it says so.
    """
    import slicer

    original = slicer.util.logProcessOutput

    def follow(process: Any, logCallback: Callable[[str], None] | None = None) -> None:
        for line in _lines_of(process, turn, cancelled):
            print(line)  # noqa: T201 - as the function does that this one replaces
            if logCallback:
                logCallback(line)
        if process.wait():
            raise subprocess.CalledProcessError(process.returncode, process.args)

    slicer.util.logProcessOutput = follow
    try:
        yield
    finally:
        slicer.util.logProcessOutput = original


def _lines_of(process: Any, turn: Callable[[], None], cancelled: Callable[[], bool]) -> Iterator[str]:
    """The lines that a process prints, while the event loop turns.

    Raises:
        InstallCancelled: the process was ended because the user cancelled.
    """
    lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()

    def read() -> None:
        with contextlib.suppress(ValueError, OSError):
            for line in process.stdout:
                lines.put(line.rstrip())
        lines.put(None)

    threading.Thread(target=read, daemon=True, name="HeartSeg installer output").start()
    while True:
        try:
            line = lines.get(timeout=0.03)
        except queue.Empty:
            turn()
            if cancelled():
                _end_tree(process)
                raise InstallCancelled("the installation was cancelled") from None
            continue
        if line is None:
            return
        yield line
        turn()


def _end_tree(process: Any) -> None:
    """End a process and its children: PythonSlicer is a launcher."""
    with contextlib.suppress(Exception):
        import psutil

        for child in psutil.Process(process.pid).children(recursive=True):
            child.kill()
    process.kill()
    process.wait()


# --- Slicer -----------------------------------------------------------------------------------------------------------


class SlicerInstaller:
    """Slicer 5.10 and later: torch through the PyTorch extension, which knows which build fits the driver."""

    def obstacle(self, missing: Sequence[Missing]) -> str:
        return unsupported() or lacking_space(missing) or no_connection()

    def lacks_extension(self, missing: Sequence[Missing]) -> bool:
        if all(m.package.through == "pip" for m in missing):
            return False
        # A module that is loaded without a spec makes find_spec raise.
        return "PyTorchUtils" not in sys.modules and importlib.util.find_spec("PyTorchUtils") is None

    def install_extension(self) -> None:
        import slicer

        manager = slicer.app.extensionsManagerModel()
        manager.interactive = False  # it was asked for already
        if not manager.installExtensionFromServer(EXTENSION, False):
            raise InstallFailed(
                f"the extension {EXTENSION} could not be installed: install it in the Extensions Manager (View > "
                "Extensions Manager), restart Slicer, and come back"
            )

    def install_torch(self, versions: str) -> bool:
        import PyTorchUtils

        logic = PyTorchUtils.PyTorchUtilsLogic()
        if _is_installed("torch"):  # in a version that does not work
            logic.uninstallTorch(askConfirmation=False)
        # Asked already: HeartSeg's own question names what, how large and why, once for all packages.
        return logic.installTorch(askConfirmation=False, torchVersionRequirement=versions) is not None

    def install(self, requirements: Sequence[str]) -> None:
        import slicer

        slicer.util.pip_install(["--no-deps", *requirements])


class NoInstaller:
    """Outside of Slicer nothing is installed: the user's environment is theirs."""

    def obstacle(self, missing: Sequence[Missing]) -> str:
        return "packages are missing: install them with: pip install 'heartseg[app]'"

    def lacks_extension(self, missing: Sequence[Missing]) -> bool:
        return False

    def install_extension(self) -> None:
        raise InstallFailed(self.obstacle(()))

    def install_torch(self, versions: str) -> bool:
        raise InstallFailed(self.obstacle(()))

    def install(self, requirements: Sequence[str]) -> None:
        raise InstallFailed(self.obstacle(()))


def no_connection(url: str = PACKAGE_SERVER) -> str:
    """Why the package server cannot be reached, one sentence; ``""`` if it can, or if pip is told to use another one.

    Respects ``HTTPS_PROXY`` and ``NO_PROXY``. Sends nothing but the request itself.
    """
    if any(os.environ.get(name) for name in ("PIP_INDEX_URL", "PIP_NO_INDEX", "PIP_FIND_LINKS", "PIP_CONFIG_FILE")):
        return ""
    request = urllib.request.Request(url, method="HEAD")
    try:
        with urllib.request.urlopen(request, timeout=REACH_SECONDS):
            return ""
    except urllib.error.HTTPError as error:
        if error.code != 407:
            return ""  # it answers, and pip asks in other words
        return (
            "the proxy wants a name and password (407): set HTTPS_PROXY to http://name:password@host:port and restart "
            "Slicer"
        )
    except (OSError, ValueError) as error:
        why = getattr(error, "reason", error)
        proxy = urllib.request.getproxies().get("https", "")
        through = "the proxy that HTTPS_PROXY names" if proxy else "HTTPS_PROXY, if this network has a proxy,"
        return f"the package server pypi.org cannot be reached ({why}): check the network and {through} and try again"


def _is_installed(name: str) -> bool:
    return bool(installed_version(name))


def choose_installer() -> Installer:
    """The installer for this application; the application alone has a version."""
    slicer = sys.modules.get("slicer")
    in_slicer = bool(getattr(getattr(slicer, "app", None), "applicationVersion", ""))
    return SlicerInstaller() if in_slicer else NoInstaller()
