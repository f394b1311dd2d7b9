"""Installing, finding, checking and removing models."""

from __future__ import annotations

import argparse
import json
import re
import shutil
import sys
import zipfile
from pathlib import Path

import pytest

from heartseg.cli.models import add_parser
from heartseg.errors import Cancelled, ModelError, OutputError
from heartseg.findings import Severity
from heartseg.models import archive, install, store
from heartseg.models.card import ModelCard
from heartseg.models.checking import check_model
from heartseg.models.install import install_model, remove_model
from heartseg.models.store import find_model, list_models
from heartseg.progress import CancelToken, ProgressEvent, Reporter
from tiny_models import add_to_zip, make_tiny_model_folder, mark_encrypted, write_card, write_pickle_bomb, zip_folder


def content(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def nothing_is_left(user_models: Path) -> bool:
    return not user_models.exists() or not list(user_models.iterdir())


def test_a_model_is_installed_under_the_name_in_its_card(carded: Path, user_models: Path) -> None:
    model = install_model(carded)
    assert model.path == user_models / "Tiny"
    assert find_model("tiny").path == model.path
    assert find_model().path == model.path
    assert [p.name for p in user_models.iterdir()] == ["Tiny"]


def test_a_model_without_a_card_gets_one_with_its_labels(cardless: Path, user_models: Path) -> None:
    model = install_model(cardless, label_map={1: "PA"})
    assert model.path.name == "Dataset900_Tiny"
    assert model.card is not None
    assert model.card.orientation is None
    assert set(model.card.files) == {"plans.json", "dataset.json", "fold_0/checkpoint_final.pth"}
    assert find_model("Dataset900_Tiny").structure_lut().tolist() == [0, 7, 0, 0]
    assert model.configuration == "3d_fullres"


def test_only_needed_files_are_copied(cardless: Path) -> None:
    for name in ("progress.png", "README.md", "debug.json", "fold_0/validation.nii.gz", "fold_0/checkpoint_best.pth"):
        (cardless / name).write_text("x")
    assert set(content(install_model(cardless, "m").path)) == {
        "plans.json",
        "dataset.json",
        "heartseg.json",
        "fold_0/checkpoint_final.pth",
        "progress.png",
        "README.md",
    }


def test_a_finder_is_installed_and_its_hashes_are_verified(tmp_path: Path, carded: Path) -> None:
    make_tiny_model_folder(carded / "finder", labels=("heart",), full_checkpoint=False)
    write_card(carded, ("LV", "RV", "MYO"), finder="finder")
    model = install_model(carded)
    finder = model.open_finder()
    assert finder is not None
    assert finder.sha256(finder.checkpoints[0]) is not None
    assert [f.code for f in check_model(model)] == ["model-runs", "model-runs"]
    shutil.rmtree(model.path / "finder")
    assert "model-finder" in {f.code for f in check_model(model.path)}


@pytest.mark.parametrize(
    "prefix", ["", "model/", "nnUNet_results/Dataset900_Tiny/nnUNetTrainer__nnUNetPlans__3d_fullres/"]
)
def test_a_zip_file_can_contain_the_model_at_any_depth(tmp_path: Path, cardless: Path, prefix: str) -> None:
    model = install_model(zip_folder(cardless, tmp_path / "heart one.zip", prefix))
    assert model.path.name == "heart-one"
    assert model.structure_lut().tolist() == [0, 1, 2, 5]


def test_a_zip_file_with_two_models_is_refused_with_their_names(
    tmp_path: Path, cardless: Path, user_models: Path
) -> None:
    both = tmp_path / "both"
    shutil.copytree(cardless, both / "a")
    shutil.copytree(cardless, both / "b")
    with pytest.raises(ModelError, match=r"'both\.zip' .*2 models.* a, b"):
        install_model(zip_folder(both, tmp_path / "both.zip"))
    assert nothing_is_left(user_models)


@pytest.mark.parametrize(
    "name", ["../evil.txt", "/evil.txt", "a/../../evil.txt", "..\\evil.txt", "C:\\evil.txt", "C:evil.txt", "a/b:stream"]
)
def test_an_entry_outside_the_model_folder_is_refused(
    tmp_path: Path, cardless: Path, user_models: Path, name: str
) -> None:
    bad = add_to_zip(zip_folder(cardless, tmp_path / "m.zip"), name)
    with pytest.raises(ModelError, match=re.escape(name)):
        install_model(bad)
    assert nothing_is_left(user_models)
    assert not list(tmp_path.rglob("evil*"))


def test_a_link_in_a_zip_file_is_refused(tmp_path: Path, cardless: Path, user_models: Path) -> None:
    bad = add_to_zip(zip_folder(cardless, tmp_path / "m.zip"), "link", b"/etc/passwd", symlink=True)
    with pytest.raises(ModelError, match=r"'m\.zip'.*'link'"):
        install_model(bad)
    assert nothing_is_left(user_models)


def test_an_entry_that_occurs_twice_is_refused(tmp_path: Path, cardless: Path) -> None:
    bad = add_to_zip(zip_folder(cardless, tmp_path / "m.zip"), "PLANS.json")
    with pytest.raises(ModelError, match=r"'m\.zip'.*'PLANS\.json'"):
        install_model(bad)


def test_a_zip_bomb_is_refused(tmp_path: Path, cardless: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bad = add_to_zip(zip_folder(cardless, tmp_path / "m.zip"), "big", bytes(30_000_000), deflate=True)
    with pytest.raises(ModelError, match=r"'m\.zip'.*'big'.* \d+ times"):
        install_model(bad)
    monkeypatch.setattr(archive, "MAX_BYTES", 1000)
    with pytest.raises(ModelError, match="GiB"):
        install_model(bad)
    monkeypatch.setattr(archive, "MAX_ENTRIES", 2)
    with pytest.raises(ModelError, match=r"\d+ entries.* 2$"):
        install_model(bad)


def test_an_encrypted_zip_file_is_refused(tmp_path: Path, cardless: Path) -> None:
    with pytest.raises(ModelError, match=r"'m\.zip'"):
        install_model(mark_encrypted(zip_folder(cardless, tmp_path / "m.zip")))


@pytest.mark.parametrize("data", [b"", b"PK", b"no zip at all"])
def test_a_file_that_is_not_a_zip_file_is_refused(tmp_path: Path, data: bytes, user_models: Path) -> None:
    (tmp_path / "m.zip").write_bytes(data)
    with pytest.raises(ModelError, match=r"m\.zip"):
        install_model(tmp_path / "m.zip")
    assert nothing_is_left(user_models)


def test_a_truncated_or_damaged_zip_file_is_refused(tmp_path: Path, cardless: Path, user_models: Path) -> None:
    good = zip_folder(cardless, tmp_path / "m.zip").read_bytes()
    for data in (good[: len(good) // 2], good[:5000] + b"\xff" * 64 + good[5064:]):
        (tmp_path / "m.zip").write_bytes(data)
        with pytest.raises(ModelError):
            install_model(tmp_path / "m.zip")
    assert nothing_is_left(user_models)


def test_a_pickle_bomb_is_refused_and_not_executed(tmp_path: Path, cardless: Path, user_models: Path) -> None:
    marker = tmp_path / "pwned"
    write_pickle_bomb(cardless / "fold_0" / "checkpoint_final.pth", marker)
    for source in (cardless, zip_folder(cardless, tmp_path / "m.zip")):
        with pytest.raises(ModelError, match="mkdir"):
            install_model(source)
    assert not marker.exists()
    assert nothing_is_left(user_models)


def test_a_pickle_bomb_in_a_finder_or_a_model_for_stock_nnunet_is_refused(
    tmp_path: Path, carded: Path, cardless: Path
) -> None:
    marker = tmp_path / "pwned"
    make_tiny_model_folder(carded / "finder", labels=("heart",))
    write_pickle_bomb(carded / "finder" / "fold_0" / "checkpoint_final.pth", marker)
    write_card(carded, ("LV", "RV", "MYO"), finder="finder")
    write_pickle_bomb(cardless / "fold_0" / "checkpoint_final.pth", marker)
    plans = json.loads((cardless / "plans.json").read_text())
    plans["configurations"]["3d_fullres"]["preprocessor_name"] = "Mine"
    (cardless / "plans.json").write_text(json.dumps(plans))
    for source in (carded, cardless):
        with pytest.raises(ModelError, match="mkdir"):
            install_model(source)
    assert not marker.exists()


@pytest.mark.parametrize("file", ["plans.json", "dataset.json", "fold_0/checkpoint_final.pth"])
def test_a_file_that_differs_from_the_card_is_refused(carded: Path, user_models: Path, file: str) -> None:
    with (carded / file).open("ab") as stream:
        stream.write(b" ")
    with pytest.raises(ModelError, match=f"{file}.*SHA-256"):
        install_model(carded)
    assert nothing_is_left(user_models)


def test_a_missing_file_listed_in_the_card_is_reported(carded: Path, user_models: Path) -> None:
    write_card(carded, ("LV", "RV", "MYO"), files={"extra.bin": "a" * 64})
    with pytest.raises(ModelError, match=r"'extra\.bin'"):
        install_model(carded)
    assert nothing_is_left(user_models)


def test_a_model_without_known_labels_is_refused_with_the_option_to_map_them(tmp_path: Path, user_models: Path) -> None:
    path = make_tiny_model_folder(tmp_path / "x__3d_fullres", labels=("liver", "spleen"))
    with pytest.raises(ModelError, match=r'1=liver, 2=spleen.*--labels "1=LV,2=MYO"'):
        install_model(path)
    assert nothing_is_left(user_models)
    assert install_model(path, label_map={2: "LV"}).unmapped == ("liver",)


def test_replacing_a_model_requires_overwrite(carded: Path, user_models: Path) -> None:
    install_model(carded)
    with pytest.raises(ModelError, match=r"'Tiny'.*--overwrite"):
        install_model(carded)
    write_card(carded, ("LV", "RV", "MYO"), version="2")
    assert install_model(carded, overwrite=True).card.version == "2"
    assert [p.name for p in user_models.iterdir()] == ["Tiny"]


@pytest.mark.parametrize("failing", ["_gather", "_complete_card", "_load_once", "_move_into_place"])
@pytest.mark.parametrize("error", [RuntimeError("killed"), KeyboardInterrupt(), Cancelled("stop")])
def test_a_failure_at_any_step_leaves_the_old_model_unchanged(
    carded: Path,
    user_models: Path,
    monkeypatch: pytest.MonkeyPatch,
    failing: str,
    error: RuntimeError | KeyboardInterrupt | Cancelled,
) -> None:
    install_model(carded)
    before = content(user_models)

    def fail(*args: object) -> None:
        raise error

    monkeypatch.setattr(install, failing, fail)
    with pytest.raises(type(error)):
        install_model(carded, overwrite=True)
    assert content(user_models) == before
    assert [p.name for p in user_models.iterdir()] == ["Tiny"]


def test_the_old_model_is_restored_if_the_last_rename_fails(
    carded: Path, user_models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install_model(carded)
    before = content(user_models)
    rename = Path.replace

    def fail(self: Path, target: Path) -> Path:
        if self.name == "model":
            raise OSError(13, "Permission denied")
        return rename(self, target)

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OutputError, match="Permission denied"):
        install_model(carded, overwrite=True)
    assert content(user_models) == before


def test_a_model_replaced_by_a_killed_installation_is_restored(carded: Path, user_models: Path) -> None:
    model = install_model(carded)
    model.path.rename(user_models / ".replaced-Tiny")
    install_model(carded, "Other")
    assert sorted(p.name for p in user_models.iterdir()) == ["Other", "Tiny"]


def test_cancelling_leaves_no_files(tmp_path: Path, carded: Path, user_models: Path) -> None:
    for source in (carded, zip_folder(carded, tmp_path / "m.zip")):
        token = CancelToken()

        def stop(event: ProgressEvent, token: CancelToken = token) -> None:
            if event.done > 0:
                token.cancel()

        reporter = Reporter(stop, token)
        with pytest.raises(Cancelled):
            install_model(source, reporter=reporter)
        assert nothing_is_left(user_models)


def test_an_unwritable_store_is_reported(tmp_path: Path, carded: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match=r"file.*HEARTSEG_MODELS"):
        install_model(carded, store=tmp_path / "file")


@pytest.mark.parametrize("name", ["../x", "a/b", "", ".hidden", "nul", "CON.txt", "a" * 90, "x.", "a\nb"])
def test_a_name_that_is_not_a_portable_folder_name_is_refused(carded: Path, user_models: Path, name: str) -> None:
    with pytest.raises(ModelError, match=re.escape(f"'{name:.80}'")):
        install_model(carded, name)
    assert nothing_is_left(user_models)


def test_a_missing_source_is_reported(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="nowhere'"):
        install_model(tmp_path / "nowhere")


@pytest.fixture
def shipped(tmp_path: Path, carded: Path) -> Path:
    """A model named HeartSeg-Default next to the module."""
    target = tmp_path / "module" / "Models" / "HeartSeg-Default"
    shutil.copytree(carded, target)
    return target


def test_the_first_model_in_search_order_takes_precedence(
    tmp_path: Path, carded: Path, shipped: Path, user_models: Path
) -> None:
    package = tmp_path / "module" / "Logic" / "heartseg" / "model_store" / "Same"
    clone = tmp_path / "Models"
    for target in (user_models / "Same", user_models / "Mine", clone / "Same", clone / "Cloned", package):
        shutil.copytree(carded, target)
    assert find_model("Same").path == package
    assert find_model("Mine").path == user_models / "Mine"
    assert find_model("Cloned").path == clone / "Cloned"
    assert find_model().path == shipped
    listed = {m.name: m.shipped for m in list_models()}
    assert listed == {"Same": True, "HeartSeg-Default": True, "Cloned": True, "Mine": False}


def test_a_model_is_found_by_the_name_in_its_card(carded: Path, user_models: Path) -> None:
    shutil.copytree(carded, user_models / "folder")
    assert find_model("TINY").path == user_models / "folder"


@pytest.mark.parametrize(
    ("platform", "variables", "expected"),
    [
        ("linux", {"XDG_DATA_HOME": "/data"}, "/data/heartseg/models"),
        ("linux", {}, "/home/me/.local/share/heartseg/models"),
        ("darwin", {}, "/home/me/Library/Application Support/HeartSeg/models"),
        ("win32", {"LOCALAPPDATA": "/local"}, "/local/HeartSeg/models"),
        ("win32", {}, "/home/me/AppData/Local/HeartSeg/models"),
        ("linux", {"HEARTSEG_MODELS": "/mine", "XDG_DATA_HOME": "/data"}, "/mine"),
    ],
)
def test_the_user_folder_depends_on_the_platform(
    monkeypatch: pytest.MonkeyPatch, platform: str, variables: dict[str, str], expected: str
) -> None:
    for name in ("HEARTSEG_MODELS", "XDG_DATA_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(Path, "home", lambda: Path("/home/me"))
    assert store.user_folder() == Path(expected)


def test_an_unknown_name_is_reported_with_models_and_folders(shipped: Path, user_models: Path) -> None:
    with pytest.raises(ModelError) as error:
        find_model("Nope")
    for part in ("'Nope'", "HeartSeg-Default", str(user_models), str(shipped.parent)):
        assert part in str(error.value)


def test_the_error_without_any_model_shows_the_install_command() -> None:
    with pytest.raises(ModelError, match="heartseg models install"):
        find_model()


def test_without_a_default_one_of_several_models_must_be_chosen(carded: Path) -> None:
    install_model(carded, "A")
    install_model(carded, "B")
    with pytest.raises(ModelError, match=r"HeartSeg-Default.* A, B"):
        find_model()


def test_opening_a_zip_file_shows_the_install_command(tmp_path: Path, carded: Path) -> None:
    with pytest.raises(ModelError, match=r"m\.zip.*heartseg models install"):
        find_model(zip_folder(carded, tmp_path / "m.zip"))


def test_a_broken_model_is_listed_with_its_error(carded: Path, user_models: Path) -> None:
    install_model(carded)
    (user_models / "Tiny" / "dataset.json").write_text("{")
    (model,) = list_models()
    assert model.folder is None
    assert "dataset.json'" in (model.problem or "")


def test_only_user_models_can_be_removed(carded: Path, shipped: Path, user_models: Path) -> None:
    install_model(carded)
    assert remove_model("Tiny") == user_models / "Tiny"
    assert nothing_is_left(user_models)
    with pytest.raises(ModelError, match="'HeartSeg-Default'"):
        remove_model("HeartSeg-Default")
    assert shipped.is_dir()
    for name in ("Tiny", "..", "", ".", "../module"):
        with pytest.raises(ModelError, match=re.escape(f"'{name}'")):
            remove_model(name)
    install_model(carded)
    with pytest.raises(ModelError, match=r"choose one of Tiny$"):
        remove_model("tiny")


def test_the_name_of_a_shipped_model_cannot_be_used(carded: Path, shipped: Path) -> None:
    with pytest.raises(ModelError, match=r"'HeartSeg-Default'.*--name"):
        install_model(carded, "HeartSeg-Default", overwrite=True)


def test_a_check_runs_the_network_and_reports_it(carded: Path, cardless: Path) -> None:
    (ran,) = check_model(carded)
    assert (ran.code, ran.severity) == ("model-runs", Severity.INFO)
    assert ran.values["shape"] == [8, 8, 8]
    assert {f.code for f in check_model(cardless)} == {"model-runs", "model-without-card", "model-unhashed"}


def test_a_check_reports_every_damaged_file(carded: Path) -> None:
    with (carded / "fold_0" / "checkpoint_final.pth").open("r+b") as stream:
        stream.seek(2000)
        stream.write(b"damage")
    with (carded / "plans.json").open("a") as stream:
        stream.write("\n")
    findings = check_model(carded)
    assert [f.values.get("file") for f in findings if f.code == "model-hash"] == [
        "fold_0/checkpoint_final.pth",
        "plans.json",
    ]
    assert findings[-1].severity is Severity.ERROR
    (unreadable,) = check_model(carded.parent / "nowhere")
    assert (unreadable.code, unreadable.severity) == ("model-unreadable", Severity.ERROR)


def heartseg_models(*arguments: object) -> int:
    parser = argparse.ArgumentParser("heartseg")
    add_parser(parser.add_subparsers())
    args = parser.parse_args(["models", *map(str, arguments)])
    return args.run(args)


def test_the_models_commands_install_list_show_check_and_remove(
    cardless: Path, user_models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert heartseg_models("list") == 0
    assert str(user_models) in capsys.readouterr().out
    assert heartseg_models("install", cardless, "--name", "Mine", "--labels", "1=PA,2=RV") == 0
    out = capsys.readouterr().out
    assert "'Mine'" in out
    assert "1=PA, 2=RV" in out
    assert "MYO" in out
    assert heartseg_models("list", "--json") == 0
    (listed,) = json.loads(capsys.readouterr().out)
    assert (listed["name"], listed["shipped"], listed["problem"]) == ("Mine", False, None)
    assert listed["structures"] == {"1": "PA", "2": "RV"}
    assert heartseg_models("list") == 0
    assert "Mine" in capsys.readouterr().out
    assert heartseg_models("info") == 0
    assert "3d_fullres" in capsys.readouterr().out
    assert heartseg_models("check", "Mine", "--json") == 0
    assert json.loads(capsys.readouterr().out)["usable"] is True
    (user_models / "Mine" / "plans.json").open("a").write(" ")
    assert heartseg_models("check") == 2
    assert "plans.json" in capsys.readouterr().out
    assert heartseg_models("remove", "Mine") == 0
    assert nothing_is_left(user_models)


def test_the_command_line_refuses_an_invalid_label_map(cardless: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        heartseg_models("info", cardless, "--labels", "1:LV")
    assert stop.value.code == 2
    assert '--labels "1=LV,2=MYO"' in capsys.readouterr().err


@pytest.mark.parametrize("action", ["", "list", "info", "check", "install", "map", "folder", "forget", "remove"])
def test_every_help_text_has_an_example(action: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        heartseg_models(*filter(None, [action]), "--help")
    assert stop.value.code == 0
    assert f"heartseg models {action}" in capsys.readouterr().out.partition("example")[2]


def test_the_installed_card_keeps_the_hashes_of_the_archive(tmp_path: Path, carded: Path) -> None:
    model = install_model(zip_folder(carded, tmp_path / "m.zip", "x/"))
    original = ModelCard.read(carded)
    assert model.card.files == original.files
    assert model.card.configuration == "3d_fullres"
    assert zipfile.is_zipfile(tmp_path / "m.zip")
