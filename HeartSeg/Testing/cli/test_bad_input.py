"""An invalid scan or setting is refused with one line and exit code 2, and leaves no files."""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import SimpleITK as sitk

from command_lines import NRRD_HEAD, patched_nifti
from heartseg.cli.main import main
from tiny_models import write_card, write_pickle_bomb

if TYPE_CHECKING:
    from cli.conftest import Outcome


@pytest.fixture
def try_scan(refuses: Callable[..., None], tmp_path: Path, tiny_model: Path) -> Callable[..., None]:
    """Check that segmenting this path is refused with these words."""

    def check(path: Path, *words: str, more: tuple[str, ...] = ()) -> None:
        refuses(path, "-o", tmp_path / "out" / "case", "--model", tiny_model, *more, words=words)

    return check


def changed(save_scan: Callable[..., Path], change: Callable[[np.ndarray], None]) -> Path:
    """Return a valid scan with changed voxels, in float32."""
    path = save_scan("changed.nrrd")
    image = sitk.ReadImage(str(path))
    values = sitk.GetArrayFromImage(image).astype(np.float32)
    change(values)
    new = sitk.GetImageFromArray(values)
    new.CopyInformation(image)
    sitk.WriteImage(new, str(path))
    return path


def test_a_file_that_is_not_there(try_scan: Callable[..., None], tmp_path: Path) -> None:
    try_scan(tmp_path / "nothing.nii.gz", "nothing.nii.gz", "does not exist", "DICOM")


def test_a_name_too_long(try_scan: Callable[..., None], tmp_path: Path) -> None:
    try_scan(tmp_path / ("x" * 300 + ".nii"), "File name too long")


def test_an_empty_file(try_scan: Callable[..., None], tmp_path: Path) -> None:
    (tmp_path / "empty.nii.gz").touch()
    try_scan(tmp_path / "empty.nii.gz", "'empty.nii.gz' is empty (0 bytes)")


def test_an_empty_folder(try_scan: Callable[..., None], tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    try_scan(tmp_path / "folder", "is empty", "DICOM series")


def test_a_folder_without_any_scan(try_scan: Callable[..., None], tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "notes.txt").write_text("no scan")
    try_scan(tmp_path / "folder", "holds no DICOM image")


def test_a_file_of_another_kind(try_scan: Callable[..., None], tmp_path: Path) -> None:
    (tmp_path / "scan.txt").write_text("no scan")
    try_scan(tmp_path / "scan.txt", "'scan.txt' is not an image file", ".nii.gz")


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_a_truncated_nifti(try_scan: Callable[..., None], save_scan: Callable[..., Path], suffix: str) -> None:
    path = save_scan(f"short{suffix}")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    try_scan(path, f"'short{suffix}' is cut short", "copy or export it again")


def test_a_2d_image(try_scan: Callable[..., None], tmp_path: Path) -> None:
    path = tmp_path / "flat.nii.gz"
    sitk.WriteImage(sitk.GetImageFromArray(np.arange(1600, dtype=np.int16).reshape(40, 40)), str(path))
    try_scan(path, "'flat.nii.gz' is a 2D image (40x40)", "3D")


def test_a_colour_image(try_scan: Callable[..., None], tmp_path: Path) -> None:
    path = tmp_path / "colour.nrrd"
    values = np.zeros((20, 20, 20, 3), np.uint8)
    sitk.WriteImage(sitk.GetImageFromArray(values, isVector=True), str(path))
    try_scan(path, "'colour.nrrd' holds 3 values a voxel")


def test_a_time_series_says_how_many_frames_and_how_to_pick_one(
    try_scan: Callable[..., None], save_series: Callable[..., Path]
) -> None:
    path = save_series(frames=3)
    try_scan(path, "3 frames", "--frame N (0 to 2)", "--frame all")


def test_a_frame_out_of_range(try_scan: Callable[..., None], save_series: Callable[..., Path]) -> None:
    try_scan(save_series(frames=3), "no frame 7", "0 to 2", more=("--frame", "7"))


def test_a_frame_that_is_no_number(try_scan: Callable[..., None], save_scan: Callable[..., Path]) -> None:
    try_scan(save_scan(), "frame 'first'", "number from 0, or all", more=("--frame", "first"))


def test_a_frame_that_is_no_number_for_a_folder_of_scans(
    try_scan: Callable[..., None], save_scan: Callable[..., Path]
) -> None:
    try_scan(save_scan("scans/a.nii.gz").parent, "frame 'x'", more=("--frame", "x"))


def test_a_series_that_is_not_there(try_scan: Callable[..., None], save_dicom: Callable[..., Path]) -> None:
    try_scan(save_dicom("dicom", number=4), "no series '9'", "--series", "[4: CT", more=("--series", "9"))


def test_a_series_of_a_file(try_scan: Callable[..., None], save_scan: Callable[..., Path]) -> None:
    try_scan(save_scan(), "one file and has no series", "--series", more=("--series", "1"))


def test_one_value_everywhere(try_scan: Callable[..., None], save_scan: Callable[..., Path]) -> None:
    try_scan(changed(save_scan, lambda v: v.fill(40)), "every voxel of 'changed' is 40", "no image")


def test_mostly_nan(try_scan: Callable[..., None], save_scan: Callable[..., Path]) -> None:
    def spoil(values: np.ndarray) -> None:
        values[:30] = np.nan

    try_scan(changed(save_scan, spoil), "NaN or infinite", "at most 1%")


@pytest.mark.parametrize(("spacing", "shown"), [((0.0, 4, 4), "(0, 4, 4)"), ((4, -4.0, 4), "(4, -4, 4)")])
def test_a_spacing_that_is_not_positive(
    try_scan: Callable[..., None], save_scan: Callable[..., Path], spacing: tuple[float, float, float], shown: str
) -> None:
    path = patched_nifti(save_scan("scan.nii"), {80 + 4 * k: struct.pack("<f", v) for k, v in enumerate(spacing)})
    try_scan(path, "spacing of 'scan.nii' is", shown, "every entry must be positive")


def test_a_singular_direction(try_scan: Callable[..., None], tmp_path: Path) -> None:
    path = tmp_path / "singular.nrrd"
    values = np.random.default_rng(0).integers(0, 99, (30, 30, 30)).astype("<i2")
    path.write_bytes(NRRD_HEAD.format(directions="(4,0,0) (4,0,0) (0,0,4)").encode() + values.tobytes())
    try_scan(path, "singular", "three different directions", "convert the scan again")


def test_three_slices(try_scan: Callable[..., None], save_scan: Callable[..., Path]) -> None:
    try_scan(save_scan(shape=(3, 40, 40)), "'scan' has 3 slices along z", "at least 5")


def test_a_list_that_is_not_there(try_scan: Callable[..., None], tmp_path: Path) -> None:
    try_scan(tmp_path / "list.csv", "list.csv' does not exist", '"path"')


def test_a_list_without_the_column(try_scan: Callable[..., None], tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("file\nscan.nii.gz\n")
    try_scan(tmp_path / "list.csv", 'no column "path"')


def test_a_list_that_is_no_text(try_scan: Callable[..., None], tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_bytes(b"path\n\xff\xfe\x00\n")
    try_scan(tmp_path / "list.csv", "cannot be read", "UTF-8")


def test_a_list_with_a_frame_that_is_none(try_scan: Callable[..., None], tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("path,frame\na.nii,1\nb.nii,two\n")
    try_scan(tmp_path / "list.csv", "line 3", "frame 'two'")


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (("--structures", "LV,XY"), ("structure XY is unknown", "LV, RV, LA, RA, MYO, AO, PA")),
        (("--format", "labels,dicom"), ("format dicom is unknown", "seg, labels, stl, ply, obj, print, csv, preview")),
        (("--format", ","), ("format ',' is unknown",)),
        (("--device", "quantum"), ("device 'quantum' is unknown", "auto, cuda, mps, cpu")),
        (("--precision", "double"), ("precision", "'double'", "half")),
        (("--jobs", "0"), ("jobs 0 must be 1 or more",)),
        (("--threads", "0"), ("threads 0 ",)),
        (("--modality", "PET"), ("modality", "'PET'", "CT")),
        (("--labels", "1=Liver"), ("Liver",)),
        (("--colour", "red"), ("--colour", "heartseg segment --help")),
    ],
)
def test_a_setting_that_cannot_work(
    try_scan: Callable[..., None], save_scan: Callable[..., Path], more: tuple[str, str], words: tuple[str, ...]
) -> None:
    try_scan(save_scan(), *words, more=more)


def test_a_device_that_is_not_there(try_scan: Callable[..., None], save_scan: Callable[..., Path]) -> None:
    import torch

    if torch.backends.mps.is_available():
        pytest.skip("this machine has Apple's MPS")
    try_scan(save_scan(), "mps", more=("--device", "mps"))


# --- models -----------------------------------------------------------------------------------------------------------


def test_an_unknown_model(refuses: Callable[..., None], save_scan: Callable[..., Path], tmp_path: Path) -> None:
    refuses(save_scan(), "-o", tmp_path / "out", "--model", "NoSuchModel", words=("NoSuchModel", "models"))


@pytest.fixture
def own_model(tiny_model: Path, tmp_path: Path) -> Path:
    import shutil

    return Path(shutil.copytree(tiny_model, tmp_path / "model"))


def test_a_model_with_another_hash(
    refuses: Callable[..., None], save_scan: Callable[..., Path], tmp_path: Path, own_model: Path
) -> None:
    checkpoint = own_model / "fold_0" / "checkpoint_final.pth"
    checkpoint.write_bytes(checkpoint.read_bytes() + b"\0")
    refuses(save_scan(), "-o", tmp_path / "out", "--model", own_model, words=("checkpoint_final.pth", "SHA-256"))


def test_a_model_with_another_hash_ends_a_batch_before_its_first_scan(
    refuses: Callable[..., None], save_scan: Callable[..., Path], tmp_path: Path, own_model: Path
) -> None:
    checkpoint = own_model / "fold_0" / "checkpoint_final.pth"
    checkpoint.write_bytes(checkpoint.read_bytes() + b"\0")
    save_scan("scans/a.nii.gz")
    scans = save_scan("scans/b.nii.gz").parent
    refuses(scans, "-o", tmp_path / "new" / "out", "--model", own_model, words=("checkpoint_final.pth", "SHA-256"))


@pytest.mark.parametrize("legacy", [False, True])
def test_a_checkpoint_with_code_in_it_is_not_run(
    refuses: Callable[..., None], save_scan: Callable[..., Path], tmp_path: Path, own_model: Path, legacy: bool
) -> None:
    marker = tmp_path / "marker"
    write_pickle_bomb(own_model / "fold_0" / "checkpoint_final.pth", marker, legacy=legacy)
    write_card(own_model, ("LV", "RV", "MYO"))
    refuses(save_scan(), "-o", tmp_path / "out", "--model", own_model, words=("checkpoint_final.pth",))
    assert not marker.exists()


# --- output folder ----------------------------------------------------------------------------------------------------


def test_an_output_folder_that_is_a_file(
    refuses: Callable[..., None], save_scan: Callable[..., Path], tmp_path: Path, tiny_model: Path
) -> None:
    (tmp_path / "out").write_text("mine")
    refuses(save_scan(), "-o", tmp_path / "out", "--model", tiny_model, words=("out is a file", "choose a folder"))


@pytest.mark.parametrize("place", ["file/below", "/proc/heartseg/out", "/sys/out"])
@pytest.mark.parametrize("many", [False, True])
def test_an_output_folder_that_cannot_be_written(
    refuses: Callable[..., None],
    save_scan: Callable[..., Path],
    tmp_path: Path,
    tiny_model: Path,
    place: str,
    many: bool,
) -> None:
    if place.startswith("/") and not Path(place).parents[-2].is_dir():
        pytest.skip(f"this system has no {Path(place).parents[-2]}")
    (tmp_path / "file").touch()
    scan = save_scan("scans/a.nii.gz")
    words = (str(tmp_path / place),)
    refuses(scan.parent if many else scan, "-o", tmp_path / place, "--model", tiny_model, words=words)


@pytest.mark.parametrize("many", [False, True])
def test_an_output_folder_that_is_not_empty(
    refuses: Callable[..., None], save_scan: Callable[..., Path], tmp_path: Path, tiny_model: Path, many: bool
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "report.json").write_text("{}")
    scan = save_scan("scans/a.nii.gz")
    words = ("is not empty", "--overwrite")
    refuses(scan.parent if many else scan, "-o", tmp_path / "out", "--model", tiny_model, words=words)


def test_overwriting_never_deletes_other_files(
    refuses: Callable[..., None], save_scan: Callable[..., Path], tmp_path: Path, tiny_model: Path
) -> None:
    scan = save_scan("patient/scan.nii.gz")
    words = ("scan.nii.gz", "--overwrite")
    refuses(scan, "-o", scan.parent, "--overwrite", "--model", tiny_model, words=words)


def test_results_do_not_go_into_the_folder_of_the_scans(
    refuses: Callable[..., None], save_scan: Callable[..., Path], tiny_model: Path
) -> None:
    scans = save_scan("scans/a.nii.gz").parent
    words = ("folder of the scans", "-o")
    refuses(scans, "-o", scans, "--overwrite", "--model", tiny_model, words=words)


# --- accepted with a finding ------------------------------------------------------------------------------------------


def test_a_few_nan_are_replaced_and_reported(
    heartseg: Callable[..., Outcome], save_scan: Callable[..., Path], tmp_path: Path, tiny_model: Path
) -> None:
    def spoil(values: np.ndarray) -> None:
        values[3, 4, 5:15] = np.nan
        values[3, 5, 5] = np.inf

    path = changed(save_scan, spoil)
    outcome = heartseg("segment", path, "-o", tmp_path / "out", "--model", tiny_model, "--format", "labels")
    assert outcome.code == 0, outcome
    findings = json.loads((tmp_path / "out" / "report.json").read_text())["findings"]
    (finding,) = [f for f in findings if f["code"] == "nan-replaced"]
    assert finding["values"]["voxels"] == 11
    assert re.search("nan-replaced", outcome.out)


def test_the_scan_itself_is_not_touched(
    save_scan: Callable[..., Path], heartseg: Callable[..., Outcome], tmp_path: Path, tiny_model: Path
) -> None:
    path = save_scan()
    before = path.read_bytes()
    assert heartseg("segment", path, "-o", tmp_path / "out", "--model", tiny_model, "--format", "csv").code == 0
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "command"),
    [
        (("segment", "scan.nii.gz", "-o", "out", "--speed", "9"), "heartseg segment"),
        (("models", "info", "Mine", "--speed"), "heartseg models info"),
        (("version", "--speed"), "heartseg version"),
    ],
)
def test_an_unknown_option_leads_to_the_help_of_its_command(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], command: str
) -> None:
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "--speed" in line and line.endswith(f": see {command} --help")
