"""Installation of missing packages: with the real pip, in a real child process, into a separate folder.

Slicer's own functions are not available; stand-ins with their signatures and behaviour (copied from Slicer's sources:
``slicer.packaging`` of 5.12, ``slicer.util.logProcessOutput``, ``PyTorchUtils``) replace them and do run pip.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import re
import subprocess
import sys
import time
import types
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from heartseg import needs
from heartseg.errors import DependencyError
from heartseg.needs import (
    DICOM,
    LIGHT,
    PDF,
    PICTURES,
    RUNTIMES,
    TORCH,
    Missing,
    Package,
    PackageNeeded,
    check_runtime,
    explanation,
    forget_found_modules,
    missing_packages,
    missing_runtimes,
    preferred_runtime,
    unsupported,
)
from heartseg.panel.dependencies import (
    InstallCancelled,
    InstallFailed,
    NoInstaller,
    Refused,
    SlicerInstaller,
    choose_installer,
    install_missing,
    no_connection,
    responsive,
)
from panel.pip_of_slicer import SlicerLike, made_up, write_wheel

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def slicer_like(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SlicerLike]:
    """An application named ``slicer`` for this test; the packages it installs can be imported."""
    wheels, target = tmp_path / "wheels", tmp_path / "installed"
    wheels.mkdir()
    target.mkdir()
    like = SlicerLike(wheels, target)
    slicer = types.ModuleType("slicer")
    app = types.SimpleNamespace(applicationVersion="5.12.0", testingEnabled=lambda: like.testing)
    vars(slicer).update(app=app, util=types.SimpleNamespace(pip_install=like.pip_install))
    monkeypatch.setitem(sys.modules, "slicer", slicer)
    monkeypatch.setattr("heartseg.panel.dependencies.no_connection", lambda: "")
    monkeypatch.setitem(sys.modules, "PyTorchUtils", types.ModuleType("PyTorchUtils"))
    monkeypatch.syspath_prepend(str(target))
    yield like
    for name in [n for n in sys.modules if n.startswith("madeup")]:
        del sys.modules[name]
    importlib.invalidate_caches()


def test_the_list_agrees_with_the_projects_own() -> None:
    """Packages that Slicer lacks are in pyproject.toml with the same versions; Slicer includes all others."""
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    declared = re.findall(r'"([^"]+)"', re.search(r"^dependencies = \[(.*?)^\]", project, re.DOTALL | re.MULTILINE)[1])
    assert {re.split(r"[<>=!]", d)[0] for d in declared} == {"numpy", "scipy", "SimpleITK"}
    for package, extra in ((TORCH, "torch"), (LIGHT, "light")):
        assert f'"{package.requirement}"' in re.search(rf"^{extra} = \[(.*)\]$", project, re.MULTILINE)[1]


def test_the_packages_of_formats_are_complete_and_replace_nothing_of_slicers() -> None:
    """pip installs them without their dependencies: each of those is in the list, or is a part of Slicer."""
    bundled = {"numpy", "pillow", "pydicom", "packaging", "pyparsing", "python-dateutil", "cffi", "typing-extensions"}
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    for packages in (PICTURES, DICOM, PDF):
        assert f'"{packages[0].requirement}"' in project
        listed = {p.name for p in packages}
        assert not listed & (bundled | {"six", "pycparser", "scipy", "simpleitk", "vtk"})
        for package in packages:
            requirements = map(Requirement, importlib.metadata.requires(package.name) or ())
            needed = {
                canonicalize_name(r.name) for r in requirements if not r.marker or r.marker.evaluate({"extra": ""})
            }
            assert needed <= listed | bundled, package.name


def test_an_older_package_of_slicer_is_never_replaced(slicer_like: SlicerLike, monkeypatch: pytest.MonkeyPatch) -> None:
    """Slicer 5.10 has pydicom 2, beside which highdicom does not work; 5.12 has pydicom 3 and highdicom."""
    versions = {"numpy": "2.0.2", "pydicom": "2.4.4"}
    monkeypatch.setattr("heartseg.needs.installed_version", lambda name: versions.get(name, ""))
    assert unsupported(DICOM[0]).startswith("highdicom needs pydicom>=3, and pydicom 2.4.4 is part of this Slicer")
    with pytest.raises(InstallFailed, match="use Slicer 5"):
        install_missing(SlicerInstaller(), missing_packages(DICOM))
    assert slicer_like.calls == []
    versions.update(pydicom="3.0.2")
    assert unsupported(DICOM[0]) == ""


def test_nothing_is_missing_here_and_nothing_is_then_done(slicer_like: SlicerLike) -> None:
    assert missing_runtimes() == ()
    outcome = install_missing(SlicerInstaller(), ())
    assert (outcome.installed, outcome.restart) == ((), "")
    assert slicer_like.calls == []
    assert explanation(()) == "Everything that segmentation needs is installed."


def test_what_is_missing_is_explained_with_size_and_reason() -> None:
    text = explanation([Missing(p) for p in RUNTIMES])
    for word in ("torch", "200 MB to 2.8 GB", "PyTorch extension", "runs the neural network", "None of your data"):
        assert word in text
    old = Missing(TORCH, "1.13.0")
    assert "version 1.13.0 is installed and does not work" in old.text


def test_a_version_that_does_not_work_counts_as_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    for version, fits in (("1.13.1", False), ("2.2.0", True), ("2.9.1+cu130", False), ("2.10.0", True)):
        monkeypatch.setattr("heartseg.needs.installed_version", lambda name, v=version: v)
        assert (missing_packages([TORCH]) == ()) is fits


def test_the_panel_and_its_worker_can_look_for_packages_at_the_same_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python's own ``invalidate_caches`` fails if two threads delete the same entry, here during a slow finder."""

    class SlowFinder:
        def invalidate_caches(self) -> None:
            time.sleep(0.1)

        def find_spec(self, name: str, target: object = None) -> None:
            return None

    monkeypatch.setitem(sys.path_importer_cache, "/nowhere/slow", SlowFinder())  # type: ignore[arg-type]
    monkeypatch.setitem(sys.path_importer_cache, "/nowhere/gone", None)
    with ThreadPoolExecutor(2) as threads:
        for job in [threads.submit(forget_found_modules) for _ in range(2)]:
            job.result()


def test_a_package_is_noticed_as_soon_as_it_is_installed_and_nobody_looks_while_nothing_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    package = replace(LIGHT, name="torch-like", module="torch_like", requirement="torch-like>=1")
    looks: list[None] = []
    monkeypatch.setattr(needs, "forget_found_modules", lambda: looks.append(importlib.invalidate_caches()))
    assert missing_packages([package]) and missing_packages([package])
    assert len(looks) == 1
    (tmp_path / "torch_like.py").touch()
    (tmp_path / "torch_like-1.0.dist-info").mkdir()
    (tmp_path / "torch_like-1.0.dist-info" / "METADATA").write_text("Name: torch-like\nVersion: 1.0\n")
    assert missing_packages([package]) == ()
    assert len(looks) == 2


def test_packages_are_installed_with_pip_and_every_line_is_heard(
    slicer_like: SlicerLike, capsys: pytest.CaptureFixture[str]
) -> None:
    write_wheel(slicer_like.wheels, "madeup-one", "1.2", requires=("madeup-unwanted",))
    package = made_up("madeup-one")
    assert [m.package.name for m in missing_packages([package])] == ["madeup-one"]
    steps: list[tuple[int, int, str]] = []
    lines: list[str] = []
    outcome = install_missing(SlicerInstaller(), missing_packages([package]), lambda *s: steps.append(s), lines.append)
    assert (outcome.installed, outcome.restart) == (("madeup-one",), "")
    assert steps == [(0, 1, "Installing madeup-one…"), (1, 1, "Installed.")]
    assert any("Successfully installed madeup-one-1.2" in line for line in lines)
    assert "Successfully installed" in capsys.readouterr().out  # Slicer's console still shows it
    assert importlib.import_module("madeup_one").__version__ == "1.2"


def test_packages_are_installed_without_their_dependencies_and_without_pip_ensure(slicer_like: SlicerLike) -> None:
    """Slicer 5.12's pip_ensure deletes skipped requirements from the metadata of other packages."""
    write_wheel(slicer_like.wheels, "madeup-two", "1.0", requires=("madeup-unwanted",))
    package = made_up("madeup-two")
    install_missing(SlicerInstaller(), missing_packages([package]))
    assert slicer_like.calls == [("pip_install", ["--no-deps", "madeup-two>=1.0"])]
    assert missing_packages([package]) == ()


def test_a_failure_shows_the_last_lines_of_pip_and_a_hint(slicer_like: SlicerLike) -> None:
    package = made_up("madeup-nowhere")
    with pytest.raises(InstallFailed, match="there is no version of it for this system") as failed:
        install_missing(SlicerInstaller(), missing_packages([package]))
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
def test_usual_failures_get_a_hint(slicer_like: SlicerLike, line: str, hint: str) -> None:
    class Prints(SlicerInstaller):
        def install(self, requirements: object) -> None:
            print(line)
            raise subprocess.CalledProcessError(1, "pip")

    with pytest.raises(InstallFailed, match=re.escape(hint)):
        install_missing(Prints(), [Missing(made_up("madeup-three"))])


def test_torch_comes_through_the_pytorch_extension_alone(
    slicer_like: SlicerLike, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []

    class Logic:
        answer: object = object()

        def uninstallTorch(self, askConfirmation: bool = False) -> None:
            asked.append("uninstall")

        def installTorch(
            self,
            askConfirmation: bool = False,
            forceComputationBackend: str | None = None,
            torchVersionRequirement: str | None = None,
        ) -> object:
            asked.append((askConfirmation, torchVersionRequirement))
            if self.answer is not None:
                write_wheel(slicer_like.wheels, "madeup-torch", "2.4")
                slicer_like._pip(["madeup-torch"])
            return self.answer

    monkeypatch.setattr(sys.modules["PyTorchUtils"], "PyTorchUtilsLogic", Logic, raising=False)
    package = made_up("madeup-torch", "madeup-torch>=2.2", "PyTorch extension")
    Logic.answer = None
    with pytest.raises(Refused):
        install_missing(SlicerInstaller(), [Missing(package)])
    Logic.answer = object()
    assert install_missing(SlicerInstaller(), [Missing(package)]).installed == ("madeup-torch",)
    assert asked == ["uninstall", (False, ">=2.2")] * 2  # the installed torch does not work
    assert slicer_like.calls == []


def test_the_pytorch_extension_is_installed_without_a_further_question(
    slicer_like: SlicerLike, monkeypatch: pytest.MonkeyPatch
) -> None:
    installer, done = SlicerInstaller(), []
    assert not installer.lacks_extension([Missing(TORCH)])
    monkeypatch.delitem(sys.modules, "PyTorchUtils")
    assert installer.lacks_extension([Missing(TORCH)])
    manager = types.SimpleNamespace(interactive=True)
    manager.installExtensionFromServer = lambda name, restart: done.append((name, restart, manager.interactive)) or True
    sys.modules["slicer"].app.extensionsManagerModel = lambda: manager
    installer.install_extension()
    assert done == [("PyTorch", False, False)]
    manager.installExtensionFromServer = lambda name, restart: False
    with pytest.raises(InstallFailed, match="Extensions Manager"):
        installer.install_extension()


@pytest.mark.parametrize(
    ("system", "machine", "numpy", "works"),
    [
        ("Darwin", "x86_64", "2.0.2", False),  # Slicer 5.10 and 5.12 for macOS
        ("Darwin", "x86_64", "1.26.4", True),
        ("Darwin", "arm64", "2.4.6", True),
        ("Linux", "x86_64", "2.4.6", True),
        ("Windows", "AMD64", "2.4.6", True),
    ],
)
def test_a_mac_whose_torch_cannot_work_with_numpy_2_is_told_so(
    slicer_like: SlicerLike, monkeypatch: pytest.MonkeyPatch, system: str, machine: str, numpy: str, works: bool
) -> None:
    assert (unsupported(TORCH, system, machine, numpy) == "") is works
    assert unsupported(LIGHT, system, machine, numpy) == ""
    monkeypatch.setattr("platform.system", lambda: system)
    monkeypatch.setattr("platform.machine", lambda: machine)
    monkeypatch.setattr("heartseg.needs.installed_version", lambda name: numpy)
    obstacle = SlicerInstaller().obstacle([Missing(TORCH)])
    assert ("does not support" in obstacle) is not works


def test_a_disk_without_room_is_an_obstacle(slicer_like: SlicerLike, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda folder: types.SimpleNamespace(free=100_000_000))
    assert SlicerInstaller().obstacle([Missing(TORCH)]).startswith("100 MB are free")


def test_a_server_that_cannot_be_reached_is_an_obstacle_unless_pip_has_another_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("PIP_INDEX_URL", "PIP_NO_INDEX", "PIP_FIND_LINKS", "PIP_CONFIG_FILE"):
        monkeypatch.delenv(name, raising=False)
    assert "cannot be reached" in no_connection("http://127.0.0.1:1/")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:1/")
    assert no_connection("http://127.0.0.1:1/") == ""


def test_a_torch_that_cannot_be_imported_counts_as_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its metadata exists, but a system library is missing."""
    (tmp_path / "torch.py").write_text("raise OSError('libcudnn.so.9: cannot open shared object file')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    check_runtime()  # the other one can be imported
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(PackageNeeded, match="libcudnn") as caught:
        check_runtime()
    (found,) = missing_packages([TORCH], {caught.value.name: caught.value.problem})
    assert "libcudnn.so.9" in found.text


@pytest.fixture
def slow_tool() -> Iterator[subprocess.Popen[str]]:
    """A tool that prints a line and then waits for a minute, like pip during a download."""
    code = "import time; print('Downloading torch', flush=True); time.sleep(60)"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_the_window_lives_while_a_tool_is_silent_and_a_cancel_ends_it(
    slicer_like: SlicerLike, slow_tool: subprocess.Popen[str], capsys: pytest.CaptureFixture[str]
) -> None:
    sys.modules["slicer"].util.logProcessOutput = original = lambda process: None
    turns = []
    with (
        pytest.raises(InstallCancelled),
        responsive(lambda: turns.append(1), lambda: len(turns) > 5),
    ):
        sys.modules["slicer"].util.logProcessOutput(slow_tool)
    assert slow_tool.poll() is not None
    assert "Downloading torch" in capsys.readouterr().out
    assert sys.modules["slicer"].util.logProcessOutput is original


def test_a_tool_that_fails_raises_as_slicers_own_function(slicer_like: SlicerLike) -> None:
    with subprocess.Popen([sys.executable, "-c", "raise SystemExit(3)"], stdout=subprocess.PIPE, text=True) as process:
        sys.modules["slicer"].util.logProcessOutput = None
        with pytest.raises(subprocess.CalledProcessError), responsive(lambda: None, lambda: False):
            sys.modules["slicer"].util.logProcessOutput(process, lambda line: None)


def test_a_restart_is_asked_for_only_where_an_older_version_is_in_use(slicer_like: SlicerLike) -> None:
    write_wheel(slicer_like.wheels, "madeup-six", "1.0")
    slicer_like._pip(["madeup-six"])
    old = made_up("madeup-six", "madeup-six>=2.0")
    assert missing_packages([old])[0].installed == "1.0"
    write_wheel(slicer_like.wheels, "madeup-six", "2.0")
    importlib.import_module("madeup_six")
    outcome = install_missing(SlicerInstaller(), missing_packages([old]))
    assert outcome.restart == (
        "Restart Slicer before you segment: madeup-six changed while an older version was in use."
    )


def test_the_installer_fits_the_application(slicer_like: SlicerLike, monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(choose_installer(), SlicerInstaller)
    monkeypatch.setitem(sys.modules, "slicer", types.ModuleType("slicer"))
    assert isinstance(choose_installer(), NoInstaller)


def test_outside_of_slicer_nothing_is_installed() -> None:
    with pytest.raises(InstallFailed, match=re.escape("pip install 'heartseg[app]'")):
        install_missing(NoInstaller(), [Missing(made_up("madeup-seven"))])


@pytest.mark.parametrize(("installed", "missing"), [("torch", 0), ("onnxruntime", 0), ("", 2)])
def test_one_package_that_runs_the_network_is_enough(
    monkeypatch: pytest.MonkeyPatch, installed: str, missing: int
) -> None:
    versions = {"torch": "2.13.0", "onnxruntime": "1.32.0", "numpy": "2.4.6"}
    monkeypatch.setattr("heartseg.needs.installed_version", lambda name: versions[name] if name == installed else "")
    assert len(missing_runtimes()) == missing
    assert len(missing_runtimes({installed: "a library is missing"})) == 2


@pytest.mark.parametrize(
    ("system", "machine", "numpy", "nvidia", "wanted"),
    [
        ("Linux", "x86_64", "2.4.6", "", LIGHT),
        ("Linux", "x86_64", "2.4.6", "/usr/bin/nvidia-smi", TORCH),
        ("Windows", "AMD64", "2.4.6", "", LIGHT),
        ("Darwin", "x86_64", "2.0.2", "", LIGHT),  # Slicer for macOS
        ("Darwin", "arm64", "2.4.6", "", TORCH),
    ],
)
def test_torch_is_offered_first_where_it_finds_a_graphics_card(
    monkeypatch: pytest.MonkeyPatch, system: str, machine: str, numpy: str, nvidia: str, wanted: Package
) -> None:
    monkeypatch.setattr("platform.system", lambda: system)
    monkeypatch.setattr("platform.machine", lambda: machine)
    monkeypatch.setattr("shutil.which", lambda name: nvidia or None)
    monkeypatch.setattr("heartseg.needs.installed_version", lambda name: numpy)
    assert preferred_runtime() is wanted


def test_the_light_package_is_installed_by_pip_alone(slicer_like: SlicerLike) -> None:
    """Without its dependencies, so that no package of Slicer changes; and without the PyTorch extension."""
    assert not SlicerInstaller().lacks_extension([Missing(LIGHT)])
    write_wheel(slicer_like.wheels, "onnxruntime", "99.0", requires=("numpy<2", "protobuf"))
    SlicerInstaller().install([LIGHT.requirement])
    assert slicer_like.calls == [("pip_install", ["--no-deps", LIGHT.requirement])]
    assert [f.name for f in slicer_like.target.glob("*.py")] == ["onnxruntime.py"]
