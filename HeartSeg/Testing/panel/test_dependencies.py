"""Installing what is missing: with the real pip, in a real child process, into a folder of its own.

Slicer's own functions are not here; stand-ins with their signatures and manners (copied from Slicer's sources:
``slicer.packaging`` of 5.12, ``slicer.util.logProcessOutput``, ``PyTorchUtils``) take their place and do run pip.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.metadata
import re
import shutil
import subprocess
import sys
import types
import zipfile
from base64 import urlsafe_b64encode
from pathlib import Path

import pytest

from heartseg.errors import DependencyError
from heartseg.needs import PACKAGES, Missing, Package, explanation, missing_packages
from heartseg.panel.dependencies import (
    KEPT,
    InstallFailed,
    NoInstaller,
    Refused,
    SlicerPackaging,
    SlicerPip,
    choose_installer,
    install_missing,
)

ROOT = Path(__file__).resolve().parents[3]


def made_up(name: str, requirement: str = "", through: str = "pip") -> Package:
    module = name.replace("-", "_")
    return Package(name, requirement or f"{name}>=1.0", module, "for a test", (0.1, 0.1), (0.2, 0.2), through)


def write_wheel(folder: Path, name: str, version: str, requires: tuple[str, ...] = ()) -> Path:
    """A real wheel of one module with ``__version__``."""
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
    """``slicer.util`` and ``slicer.packaging`` as far as they install: every line of pip is printed, a failure is a
    ``CalledProcessError`` without text, as in ``slicer.util.logProcessOutput``."""

    def __init__(self, wheels: Path, target: Path) -> None:
        self.wheels, self.target = wheels, target
        self.calls: list[tuple[str, object]] = []
        self.declines = self.testing = False

    def pip_install(self, requirements: str | list[str], **_: object) -> None:
        self.calls.append(("pip_install", requirements))
        self._pip(requirements if isinstance(requirements, list) else requirements.split())

    def pip_ensure(
        self,
        requirements: list,
        constraints: str | Path | None = None,
        skip_packages: list[str] | None = None,
        prompt_install: bool = True,
        prompt_restart: bool = True,
        requester: str | None = None,
        skip_in_testing: bool = True,
        show_progress: bool = True,
    ) -> list[str] | None:
        assert not prompt_install, "the user would be asked a second time"
        self.calls.append(("pip_ensure", {"skip": skip_packages, "requester": requester}))
        if self.declines:
            raise RuntimeError("User declined package installation")
        if self.testing and skip_in_testing:
            return None
        for requirement in requirements:
            self._pip(["--no-deps", f"{requirement.name}{requirement.specifier}"])
        return []

    def _pip(self, arguments: list[str]) -> None:
        for name in (re.split(r"[<>=!]", a)[0].replace("-", "_") for a in arguments if not a.startswith("-")):
            for old in self.target.glob(f"{name}-*.dist-info"):
                shutil.rmtree(old)  # what pip does itself, but not with --target
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


@pytest.fixture
def slicer_like(tmp_path, monkeypatch):
    """An application named ``slicer`` of this test's making; what it installs can be imported."""
    wheels, target = tmp_path / "wheels", tmp_path / "installed"
    wheels.mkdir()
    target.mkdir()
    like = SlicerLike(wheels, target)
    slicer, packaging = types.ModuleType("slicer"), types.ModuleType("slicer.packaging")
    slicer.app = types.SimpleNamespace(applicationVersion="5.12.0", testingEnabled=lambda: like.testing)
    slicer.util = types.SimpleNamespace(pip_install=like.pip_install)
    packaging.pip_ensure = like.pip_ensure
    slicer.packaging = packaging
    monkeypatch.setitem(sys.modules, "slicer", slicer)
    monkeypatch.setitem(sys.modules, "slicer.packaging", packaging)
    monkeypatch.setitem(sys.modules, "PyTorchUtils", types.ModuleType("PyTorchUtils"))
    monkeypatch.syspath_prepend(str(target))
    yield like
    for name in [n for n in sys.modules if n.startswith("madeup")]:
        del sys.modules[name]
    importlib.invalidate_caches()


def test_the_list_agrees_with_the_projects_own():
    """What Slicer lacks is in pyproject.toml with the same versions; the rest of it comes with Slicer."""
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    declared = re.findall(r'"([^"]+)"', re.search(r"^dependencies = \[(.*?)^\]", project, re.DOTALL | re.MULTILINE)[1])
    ours = {p.requirement for p in PACKAGES}
    assert ours <= set(declared)
    rest = {re.split(r"[<>=!]", d)[0] for d in set(declared) - ours}
    assert rest <= set(KEPT)


def test_nothing_is_missing_here_and_nothing_is_then_done(slicer_like):
    assert missing_packages() == ()
    outcome = install_missing(SlicerPackaging())
    assert (outcome.installed, outcome.restart) == ((), "")
    assert slicer_like.calls == []
    assert explanation(()) == "Everything that segmenting needs is installed."


def test_what_is_missing_is_explained_with_size_and_reason():
    text = explanation([Missing(p) for p in PACKAGES])
    for word in ("torch", "200 MB to 2.8 GB", "PyTorch extension", "runs the neural network", "No data of yours"):
        assert word in text
    old = Missing(PACKAGES[0], "1.13.0")
    assert "version 1.13.0 is there and does not work" in old.text


def test_a_version_that_does_not_work_counts_as_missing(monkeypatch):
    for version, fits in (("1.13.1", False), ("2.2.0", True), ("2.9.1+cu130", False), ("2.10.0", True)):
        monkeypatch.setattr("heartseg.needs.installed_version", lambda name, v=version: v)
        assert (missing_packages(PACKAGES[:1]) == ()) is fits


def test_packages_are_installed_with_pip_and_every_line_is_heard(slicer_like, capsys):
    write_wheel(slicer_like.wheels, "madeup-one", "1.2", requires=("madeup-unwanted",))
    package = made_up("madeup-one")
    assert [m.package.name for m in missing_packages([package])] == ["madeup-one"]
    steps, lines = [], []
    outcome = install_missing(SlicerPackaging(), missing_packages([package]), lambda *s: steps.append(s), lines.append)
    assert (outcome.installed, outcome.restart) == (("madeup-one",), "")
    assert steps == [(0, 1, "Installing madeup-one…"), (1, 1, "Installed.")]
    assert any("Successfully installed madeup-one-1.2" in line for line in lines)
    assert "Successfully installed" in capsys.readouterr().out  # Slicer's console still shows it
    assert importlib.import_module("madeup_one").__version__ == "1.2"
    name, arguments = slicer_like.calls[0]
    assert name == "pip_ensure"
    assert set(arguments["skip"]) >= {"SimpleITK", "torch", "requests", "numpy"}
    assert arguments["requester"] == "HeartSeg"


def test_slicer_5_10_installs_without_dependencies(slicer_like):
    write_wheel(slicer_like.wheels, "madeup-two", "1.0", requires=("madeup-unwanted",))
    package = made_up("madeup-two")
    install_missing(SlicerPip(), missing_packages([package]))
    assert slicer_like.calls == [("pip_install", ["--no-deps", "madeup-two>=1.0"])]
    assert missing_packages([package]) == ()


def test_a_failure_shows_the_last_lines_of_pip_and_a_hint(slicer_like):
    package = made_up("madeup-nowhere")
    with pytest.raises(InstallFailed, match="there is no version of it for this system") as failed:
        install_missing(SlicerPackaging(), missing_packages([package]))
    assert "No matching distribution found for madeup-nowhere" in failed.value.log
    assert len(failed.value.log.splitlines()) <= 12
    assert isinstance(failed.value, DependencyError)


@pytest.mark.parametrize(
    ("line", "hint"),
    [
        ("ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device", "disk is full"),
        ("ProxyError('Cannot connect to proxy.', OSError('Tunnel failed: 407 Proxy Authentication'))", "the proxy"),
        ("SSLError(SSLCertVerificationError: certificate verify failed: self-signed)", "REQUESTS_CA_BUNDLE"),
        ("NewConnectionError: Failed to establish a new connection: getaddrinfo failed", "no connection"),
        ("ERROR: [WinError 5] Access is denied: 'torch.dll'", "restart Slicer"),
    ],
)
def test_usual_failures_get_a_hint(slicer_like, line, hint):
    class Prints(SlicerPackaging):
        def install(self, requirements):
            print(line)
            raise subprocess.CalledProcessError(1, "pip")

    with pytest.raises(InstallFailed, match=re.escape(hint)):
        install_missing(Prints(), [Missing(made_up("madeup-three"))])


def test_a_refusal_is_no_error_and_changes_nothing(slicer_like):
    slicer_like.declines = True
    with pytest.raises(Refused):
        install_missing(SlicerPackaging(), [Missing(made_up("madeup-four"))])
    assert not list(slicer_like.target.iterdir())


def test_what_was_skipped_silently_is_noticed(slicer_like):
    """Slicer skips pip_ensure while it runs tests."""
    slicer_like.testing = True
    with pytest.raises(InstallFailed, match="ended well, but it is still not there"):
        install_missing(SlicerPackaging(), [Missing(made_up("madeup-five"))])


def test_torch_comes_through_the_pytorch_extension_alone(slicer_like, monkeypatch):
    asked = []

    class Logic:
        answer: object = object()

        def installTorch(self, askConfirmation=False, forceComputationBackend=None, torchVersionRequirement=None):
            asked.append((askConfirmation, torchVersionRequirement))
            if self.answer is not None:
                write_wheel(slicer_like.wheels, "madeup-torch", "2.4")
                slicer_like._pip(["madeup-torch"])
            return self.answer

    monkeypatch.setattr(sys.modules["PyTorchUtils"], "PyTorchUtilsLogic", Logic, raising=False)
    package = made_up("madeup-torch", "madeup-torch>=2.2", "PyTorch extension")
    Logic.answer = None
    with pytest.raises(Refused):
        install_missing(SlicerPackaging(), [Missing(package)])
    Logic.answer = object()
    for installer in (SlicerPackaging(), SlicerPip()):
        assert install_missing(installer, [Missing(package)]).installed == ("madeup-torch",)
    assert asked == [(False, ">=2.2")] * 3
    assert not any(name == "pip_ensure" for name, _ in slicer_like.calls)


def test_without_the_pytorch_extension_the_user_is_told_where_it_is(slicer_like, monkeypatch):
    monkeypatch.delitem(sys.modules, "PyTorchUtils")
    with pytest.raises(InstallFailed, match="the extension PyTorch is not installed: install it in the Extensions"):
        install_missing(SlicerPackaging(), [Missing(PACKAGES[0])])


def test_a_restart_is_asked_for_only_where_an_older_version_is_in_use(slicer_like):
    write_wheel(slicer_like.wheels, "madeup-six", "1.0")
    slicer_like._pip(["madeup-six"])
    old = made_up("madeup-six", "madeup-six>=2.0")
    assert missing_packages([old])[0].installed == "1.0"
    write_wheel(slicer_like.wheels, "madeup-six", "2.0")
    importlib.import_module("madeup_six")
    outcome = install_missing(SlicerPackaging(), missing_packages([old]))
    assert outcome.restart == (
        "Restart Slicer before you segment: madeup-six changed while an older version was in use."
    )


def test_the_installer_fits_the_application(slicer_like, monkeypatch):
    assert isinstance(choose_installer(), SlicerPackaging)
    monkeypatch.delattr(sys.modules["slicer.packaging"], "pip_ensure")
    assert isinstance(choose_installer(), SlicerPip)
    monkeypatch.setitem(sys.modules, "slicer.packaging", None)
    assert isinstance(choose_installer(), SlicerPip)
    monkeypatch.setitem(sys.modules, "slicer", types.ModuleType("slicer"))
    assert isinstance(choose_installer(), NoInstaller)


def test_outside_of_slicer_nothing_is_installed():
    with pytest.raises(InstallFailed, match=re.escape("pip install 'heartseg[app]'")):
        install_missing(NoInstaller(), [Missing(made_up("madeup-seven"))])
