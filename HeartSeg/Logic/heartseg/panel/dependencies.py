"""Install the packages that Slicer lacks, after a single question and with Slicer's own tools.

torch is installed only by the PyTorch extension, ONNX Runtime by pip without its dependencies. NumPy, SciPy, SimpleITK
and requests of Slicer and the metadata of other packages never change. ``slicer.packaging.pip_ensure`` of Slicer 5.12
is not used, because it permanently deletes skipped requirements from the metadata of other packages.

The protocol :class:`Installer` wraps Slicer's tools (``slicer.util.pip_install``, ``PyTorchUtils``); it runs on the
main thread like these. pip and light-the-torch run as child processes of Slicer with its environment, so they respect
``HTTPS_PROXY``, ``NO_PROXY``, ``PIP_INDEX_URL`` and pip's configuration file.
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
    Missing,
    Package,
    explanation,
    forget_found_modules,
    installed_version,
    lacking_space,
    missing_packages,
    unsupported,
)
from ..wording import _

__all__ = [
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
"""Timeout of the connection test before pip is started."""

EXTENSION = "PyTorch"

LAST_LINES = 12
"""Number of lines of pip's output shown after a failure."""


class InstallFailed(DependencyError):
    """A package could not be installed; ``log`` contains the last lines of the installer's output."""

    def __init__(self, message: str, log: str = "") -> None:
        super().__init__(message)
        self.log = log


class Refused(Exception):
    """The user declined; nothing was changed. Not an error."""


class InstallCancelled(Refused):
    """The user cancelled a running installation."""


@dataclass(frozen=True)
class Outcome:
    """Outcome of an installation.

    Attributes:
        installed: names of the installed packages.
        restart: reason why Slicer must be restarted, one sentence; ``""`` if no restart is necessary.
    """

    installed: tuple[str, ...] = ()
    restart: str = ""


class Installer(Protocol):
    """Installs packages. Methods block but keep the window responsive, and print the output of the tools."""

    def obstacle(self, missing: Sequence[Missing]) -> str:
        """Return why this computer cannot have the packages, one sentence with the solution; ``""`` if it can.

        Uses no network.
        """

    def unreachable(self) -> str:
        """Return why the package server cannot be reached; ``""`` if it can. The user must have agreed before."""

    def lacks_extension(self, missing: Sequence[Missing]) -> bool:
        """Whether the PyTorch extension must be installed first, which requires a restart."""

    def install_extension(self) -> None:
        """Install the PyTorch extension; raises :class:`InstallFailed`."""

    def install_torch(self, versions: str) -> bool:
        """Install torch; returns ``False`` if the user declined."""

    def install(self, requirements: Sequence[str]) -> None:
        """Install the requirements without their dependencies; raises ``CalledProcessError``."""


def install_missing(
    installer: Installer,
    missing: Sequence[Missing],
    on_step: Callable[[int, int, str], None] | None = None,
    on_line: Callable[[str], None] | None = None,
) -> Outcome:
    """Install missing packages on the main thread, after the user has agreed to :func:`explanation`.

    Args:
        installer: the installer.
        missing: packages to install.
        on_step: called with (done, total, description of the next step).
        on_line: called with every line that the tools print.

    Returns:
        The installed packages and whether Slicer must be restarted.

    Raises:
        Refused: the user declined a step; packages installed before remain.
        InstallFailed: a package could not be installed; contains the last lines of the tools.
    """
    if not missing:
        return Outcome()
    if obstacle := installer.obstacle(missing) or installer.unreachable():
        raise InstallFailed(obstacle)
    before = _versions()
    for done, item in enumerate(missing):
        if on_step:
            on_step(done, len(missing), _("Installing {name}…").format(name=item.package.name))
        _install_one(installer, item.package, on_line)
    if on_step:
        on_step(len(missing), len(missing), _("Installed."))
    return Outcome(tuple(m.package.name for m in missing), _restart_reason(before))


def _install_one(installer: Installer, package: Package, on_line: Callable[[str], None] | None) -> None:
    with _listening(on_line) as lines:
        try:
            if package.through == "pip":
                installer.install([package.requirement])
            elif not installer.install_torch(package.versions):
                raise Refused(_("{name} was not installed").format(name=package.name))
        except (Refused, InstallFailed):
            raise
        except subprocess.CalledProcessError as error:
            raise _failed(
                package, _("the installer ended with code {code}").format(code=error.returncode), lines
            ) from error
        except Exception as error:  # external tools may raise anything; the user gets a message and the log
            raise _failed(package, f"{type(error).__name__}: {error}", lines) from error
    left = missing_packages([package])
    if left:
        why = (
            _("the installer reported success, but version {version} is installed")
            if left[0].installed
            else _("the installer reported success, but the package is still missing")
        )
        raise _failed(package, why.format(version=left[0].installed), lines)


def _failed(package: Package, why: str, lines: collections.deque[str]) -> InstallFailed:
    log = "\n".join(lines)
    hint = _hint(log)
    return InstallFailed(
        _("{name} could not be installed ({why}): {hint}").format(name=package.name, why=why, hint=hint), log
    )


_HINTS = (
    (("no space left", "errno 28", "disk quota"), _("the disk is full; make room and try again")),
    (
        ("407 proxy", "proxyerror", "cannot connect to proxy"),
        _(
            "the proxy does not let it through; set HTTPS_PROXY (with user name and password if it wants them) before "
            "Slicer is started"
        ),
    ),
    (
        ("certificate_verify_failed", "certificate verify failed"),
        _("the network opens encrypted traffic; set REQUESTS_CA_BUNDLE or PIP_CERT to its certificate"),
    ),
    (
        ("no matching distribution", "could not find a version"),
        _("there is no version of it for this system and Python"),
    ),
    (
        ("access is denied", "permission denied", "winerror 5"),
        _(
            "Slicer's folder cannot be written, or a file of it is in use; restart Slicer, or install Slicer into a "
            "folder of your own"
        ),
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
        _("there is no connection to the package server; check the network and HTTPS_PROXY"),
    ),
)


def _hint(log: str) -> str:
    text = log.lower()
    return next((hint for words, hint in _HINTS if any(w in text for w in words)), _("see the installer's last lines"))


def _restart_reason(before: dict[str, str]) -> str:
    """Return the reason for a restart: a package changed that this process has loaded in its older version."""
    forget_found_modules()
    after = _versions()
    changed = {name for name, version in after.items() if name in before and before[name] != version}
    loaded = sorted(name for name in changed if any(module in sys.modules for module in _modules_of(name)))
    if not loaded:
        return ""
    text = _("Restart Slicer before you segment: {names} changed while an older version was in use.")
    return text.format(names=loaded)


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
    """Forwards text to the original stream, and every complete line to a listener."""

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
    """Collect the last printed lines.

    ``slicer.util.logProcessOutput`` prints every line of pip and light-the-torch, but its error contains none.
    """
    lines: collections.deque[str] = collections.deque(maxlen=LAST_LINES)

    def heard(line: str) -> None:
        lines.append(line)
        if on_line:
            on_line(line)

    with contextlib.redirect_stdout(_Tee(sys.stdout, heard)):
        yield lines


# --- running a tool ---------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def responsive(turn: Callable[[], None], cancelled: Callable[[], bool]) -> Iterator[None]:
    """Keep the window responsive while Slicer's child processes run, and make them cancellable.

    ``slicer.util.logProcessOutput`` blocks in ``readline()``, so the window freezes for minutes during the download of
    torch. In this context a thread reads the output, and the main thread processes events.

    Args:
        turn: processes the events of the application.
        cancelled: called repeatedly; if it returns True, the process is ended.
    """
    import slicer

    original = slicer.util.logProcessOutput

    def follow(process: Any, logCallback: Callable[[str], None] | None = None) -> None:
        for line in _lines_of(process, turn, cancelled):
            print(line)  # noqa: T201 - like the replaced function
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
    """Yield the lines that a process prints while processing events.

    Raises:
        InstallCancelled: the user cancelled, and the process was ended.
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
    """End a process and its children (PythonSlicer is a launcher)."""
    with contextlib.suppress(Exception):
        import psutil

        for child in psutil.Process(process.pid).children(recursive=True):
            child.kill()
    process.kill()
    process.wait()


# --- Slicer -----------------------------------------------------------------------------------------------------------


class SlicerInstaller:
    """Installer for Slicer 5.10 and later; installs torch with the PyTorch extension, which selects the build."""

    def obstacle(self, missing: Sequence[Missing]) -> str:
        hindered = (unsupported(m.package) for m in missing)
        return next(filter(None, hindered), "") or lacking_space(missing)

    def unreachable(self) -> str:
        return no_connection()

    def lacks_extension(self, missing: Sequence[Missing]) -> bool:
        if all(m.package.through == "pip" for m in missing):
            return False
        # find_spec raises for a module that was loaded without a spec.
        return "PyTorchUtils" not in sys.modules and importlib.util.find_spec("PyTorchUtils") is None

    def install_extension(self) -> None:
        import slicer

        manager = slicer.app.extensionsManagerModel()
        manager.interactive = False  # the user has already agreed
        if not manager.installExtensionFromServer(EXTENSION, False):
            raise InstallFailed(
                _(
                    "the extension {extension} could not be installed: install it in the Extensions Manager "
                    "(View > Extensions Manager), restart Slicer, and come back"
                ).format(extension=EXTENSION)
            )

    def install_torch(self, versions: str) -> bool:
        import PyTorchUtils

        logic = PyTorchUtils.PyTorchUtilsLogic()
        if _is_installed("torch"):  # an unusable version
            logic.uninstallTorch(askConfirmation=False)
        # The user has already agreed to HeartSeg's question, which covers all packages.
        return logic.installTorch(askConfirmation=False, torchVersionRequirement=versions) is not None

    def install(self, requirements: Sequence[str]) -> None:
        import slicer

        slicer.util.pip_install(["--no-deps", *requirements])


class NoInstaller:
    """Installer outside Slicer, which installs nothing in the user's environment."""

    def obstacle(self, missing: Sequence[Missing]) -> str:
        return _("packages are missing: install them with: pip install 'heartseg[app]' or 'heartseg[light]'")

    def unreachable(self) -> str:
        return ""

    def lacks_extension(self, missing: Sequence[Missing]) -> bool:
        return False

    def install_extension(self) -> None:
        raise InstallFailed(self.obstacle(()))

    def install_torch(self, versions: str) -> bool:
        raise InstallFailed(self.obstacle(()))

    def install(self, requirements: Sequence[str]) -> None:
        raise InstallFailed(self.obstacle(()))


def no_connection(url: str = PACKAGE_SERVER) -> str:
    """Return why the package server is unreachable; ``""`` if it is reachable or pip is configured for another server.

    Respects ``HTTPS_PROXY`` and ``NO_PROXY``. Sends only the request itself.
    """
    if any(os.environ.get(name) for name in ("PIP_INDEX_URL", "PIP_NO_INDEX", "PIP_FIND_LINKS", "PIP_CONFIG_FILE")):
        return ""
    request = urllib.request.Request(url, method="HEAD")
    try:
        with urllib.request.urlopen(request, timeout=REACH_SECONDS):
            return ""
    except urllib.error.HTTPError as error:
        if error.code != 407:
            return ""  # the server responds, and pip sends a different request
        return _(
            "the proxy wants a name and password (407): set HTTPS_PROXY to http://name:password@host:port and restart "
            "Slicer"
        )
    except (OSError, ValueError) as error:
        why = getattr(error, "reason", error)
        proxy = urllib.request.getproxies().get("https", "")
        text = (
            _(
                "the package server pypi.org cannot be reached ({why}): check the network and the proxy that "
                "HTTPS_PROXY names and try again"
            )
            if proxy
            else _(
                "the package server pypi.org cannot be reached ({why}): check the network and HTTPS_PROXY, if this "
                "network has a proxy, and try again"
            )
        )
        return text.format(why=why)


def _is_installed(name: str) -> bool:
    return bool(installed_version(name))


def choose_installer() -> Installer:
    """Return the installer for this environment; only the Slicer application has a version."""
    slicer = sys.modules.get("slicer")
    in_slicer = bool(getattr(getattr(slicer, "app", None), "applicationVersion", ""))
    return SlicerInstaller() if in_slicer else NoInstaller()
