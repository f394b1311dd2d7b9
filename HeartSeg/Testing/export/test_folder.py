"""An export is written completely or not at all, from a result folder or from an edited segmentation."""

from __future__ import annotations

import csv
import errno
import importlib.util
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from command_lines import patched_nifti
from heartseg.anatomy import KEYS, STRUCTURES
from heartseg.errors import Cancelled, DependencyError, InputError, OutputError, SettingsError
from heartseg.export import FORMATS, ExportOptions, Subject, measured, open_subject, write_export
from heartseg.export import formats as formats_module
from heartseg.output import write_result
from heartseg.pipeline import input_facts
from heartseg.progress import Reporter
from heartseg.provenance import InputFacts
from heartseg.result import Result
from heartseg.volume import Geometry, Volume, read_volume, write_labels, write_volume

EVERYTHING = tuple(name for name in FORMATS if not name.startswith("dicom"))
QUICK = ("seg", "labels", "stl", "csv")


def names(folder: Path) -> set[str]:
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}


# --- content ----------------------------------------------------------------------------------------------------------


def test_everything_is_written_and_listed(subject: Subject, tmp_path: Path) -> None:
    content = write_export(subject, tmp_path / "out", EVERYTHING)
    stated = json.loads((tmp_path / "out" / "export.json").read_text(encoding="utf-8"))
    assert set(content["files"]) == set(stated["files"]) == names(tmp_path / "out")
    top = {p.name for p in (tmp_path / "out").iterdir()}
    assert top == {
        "segmentation.seg.nrrd",
        "labels.nii.gz",
        "surfaces",
        "print",
        "measurements.csv",
        "preview.png",
        "report.html",
        "report.pdf",
        "export.json",
    }
    surfaces = {p.name for p in (tmp_path / "out" / "surfaces").iterdir()}
    assert surfaces == {f"{s.name.replace(' ', '_')}.{x}" for s in STRUCTURES for x in ("stl", "ply", "obj", "mtl")}
    assert set(stated["surfaces"]["structures"]) == set(KEYS)
    assert stated["surfaces"]["smoothing"] == 0.5
    assert all(part["watertight"] for part in stated["print"]["parts"].values())
    assert set(tmp_path.iterdir()) == {tmp_path / "out"}


def test_a_choice_is_written_and_nothing_else(subject: Subject, tmp_path: Path) -> None:
    write_export(subject, tmp_path / "a", ["ply"], ExportOptions(coordinates="RAS"))
    assert names(tmp_path / "a") == {f"surfaces/{s.name.replace(' ', '_')}.ply" for s in STRUCTURES} | {"export.json"}
    assert b"SPACE=RAS" in (tmp_path / "a" / "surfaces" / "left_ventricle.ply").read_bytes()[:200]
    write_export(subject, tmp_path / "b", ["html"])
    assert names(tmp_path / "b") == {"report.html", "export.json"}, "surfaces for the picture do not stay"


def test_it_needs_no_slicer(tmp_path: Path) -> None:
    """Runs in a process that cannot import slicer: every format but the DICOM objects (which require DICOM files)."""
    program = f"""
import sys
sys.modules["slicer"] = None
import numpy as np
from heartseg.export import FORMATS, measured, subject_of, write_export
from heartseg.result import Result
from heartseg.volume import Geometry, Volume
grid = Geometry((20, 22, 24), (3.0, 3.0, 3.0))
labels = np.zeros(grid.shape, np.uint8)
labels[4:15, 4:15, 4:12], labels[4:15, 4:15, 12:18] = 1, 5
subject = measured(subject_of(Result(labels, grid), Volume(labels.astype(np.int16), grid, "scan")))
content = write_export(subject, {str(tmp_path / "out")!r}, [f for f in FORMATS if not f.startswith('dicom')])
assert content["skipped"] == {{}}, content["skipped"]
"""
    logic = str(Path(formats_module.__file__).parents[2])
    environment = {**os.environ, "PYTHONPATH": logic}
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment)
    assert run.returncode == 0, run.stderr
    assert (tmp_path / "out" / "print" / "blood_pool.stl").is_file()


def test_slicer_reads_the_segmentation_with_everything_that_belongs_to_it(subject: Subject, tmp_path: Path) -> None:
    pytest.importorskip("slicer", reason="needs slicer-core (extra dev)")
    import vtk

    from heartseg.export.terminology import terminology_entry
    from slicer_host import host

    write_export(subject, tmp_path / "out", ["seg"])
    with host.session():
        import slicer

        affine = subject.result.geometry.affine_ras
        scan = slicer.util.addVolumeFromArray(subject.volume.array, ijkToRAS=affine)
        node = slicer.util.loadSegmentation(str(tmp_path / "out" / "segmentation.seg.nrrd"))
        segmentation = node.GetSegmentation()
        assert segmentation.GetSegmentIDs() == KEYS
        for expected in STRUCTURES:
            segment = segmentation.GetSegment(expected.key)
            assert segment.GetName() == expected.name
            assert np.allclose(np.array(segment.GetColor()) * 255, expected.color, atol=0.01)
            assert segment.GetTerminology() == terminology_entry(expected)
            kind, algorithm = vtk.reference(""), vtk.reference("")
            assert segment.GetTag("DICOM.SegmentAlgorithmType", kind) and str(kind) == "AUTOMATIC"
            assert segment.GetTag("DICOM.SegmentAlgorithmName", algorithm) and "made up 1.0" in str(algorithm)
            mask = slicer.util.arrayFromSegmentBinaryLabelmap(node, expected.key, scan)
            assert np.array_equal(mask > 0, subject.result.mask(expected.key))
        matrix, extent = vtk.vtkMatrix4x4(), [0] * 6
        geometry = segmentation.GetConversionParameter("Reference image geometry")
        assert slicer.vtkSegmentationConverter.DeserializeImageGeometry(geometry, matrix, extent)
        assert np.allclose(slicer.util.arrayFromVTKMatrix(matrix), affine)
        assert extent == [v for n in subject.result.geometry.size for v in (0, n - 1)]
        slicer.mrmlScene.RemoveNode(node)
        slicer.mrmlScene.RemoveNode(scan)


def test_surfaces_are_those_that_slicer_shows(subject: Subject, tmp_path: Path) -> None:
    pytest.importorskip("slicer", reason="needs slicer-core (extra dev)")
    from vtk.util.numpy_support import vtk_to_numpy

    from heartseg.export import label_surfaces
    from heartseg.scene import fill_segmentation
    from slicer_host import host

    with host.session():
        import slicer
        import vtk

        result = subject.result
        scan = slicer.util.addVolumeFromArray(subject.volume.array, ijkToRAS=result.geometry.affine_ras)
        node = fill_segmentation(result, scan)
        surfaces = label_surfaces(result.labels, result.geometry, STRUCTURES)
        for key in ("LV", "PA"):
            shown = vtk.vtkPolyData()
            node.GetClosedSurfaceRepresentation(key, shown)
            ras = vtk_to_numpy(shown.GetPoints().GetData())
            ours = surfaces[key].in_coordinates("RAS").points
            assert ours.shape == ras.shape
            assert np.allclose(ours, ras, atol=1e-3)  # 32-bit floats at 100 mm
        slicer.mrmlScene.RemoveNode(node)
        slicer.mrmlScene.RemoveNode(scan)


def test_segment_writes_these_formats_too(subject: Subject, tmp_path: Path) -> None:
    written = write_result(subject.result, subject.volume, tmp_path / "out", ["print", "html"])
    assert names(tmp_path / "out") == set(written["files"])
    assert {"print/blood_pool.stl", "report.html", "report.json"} <= names(tmp_path / "out")


# --- source -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def result_folder(subject: Subject, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Make a result folder and the scan that its report refers to."""
    home = tmp_path_factory.mktemp("result")
    scan = write_volume(subject.volume, home / "scan.nii.gz")
    source = read_volume(scan).source
    said = InputFacts(name="scan", path=str(scan), sha256=source.sha256, modality="CT")
    result = replace(subject.result, provenance=replace(subject.result.provenance, input=said))
    write_result(result, subject.volume, home / "out", ["labels"])
    return home / "out", scan


def test_a_result_folder_keeps_its_numbers_and_finds_its_scan(
    result_folder: tuple[Path, Path], subject: Subject
) -> None:
    folder, _ = result_folder
    opened = open_subject(folder)
    assert opened.result.measures == subject.result.measures
    assert opened.result.findings == subject.result.findings
    assert np.array_equal(opened.result.labels, subject.result.labels)
    assert opened.volume is not None and opened.volume.modality == "CT"
    assert opened.notices == ()
    assert opened.name == "scan"


def test_a_scan_that_has_changed_or_gone_is_not_used_and_the_reader_is_told(
    result_folder: tuple[Path, Path], subject: Subject
) -> None:
    folder, scan = result_folder
    before = scan.read_bytes()
    try:
        write_volume(Volume(subject.volume.array + np.int16(1), subject.volume.geometry), scan)
        changed = open_subject(folder)
        scan.unlink()
        gone = open_subject(folder)
    finally:
        scan.write_bytes(before)
    assert changed.volume is None and "--scan" in changed.notices[0]
    assert gone.volume is None and "--scan" in gone.notices[0]


@pytest.mark.parametrize("moved", [False, True])
def test_a_scan_whose_voxel_size_the_user_gave_is_found_and_read_with_it(
    subject: Subject, tmp_path: Path, moved: bool
) -> None:
    assert subject.volume is not None
    path = write_volume(subject.volume, tmp_path / "scan.nii")
    spacing = subject.volume.geometry.spacing
    assert not input_facts(read_volume(path)).spacing_given
    patched_nifti(path, {80: bytes(12), 254: bytes(2)})  # no pixdim, no sform
    volume = read_volume(path, modality="CT", spacing=spacing)
    facts = input_facts(volume)
    assert facts.spacing_given
    provenance = replace(subject.result.provenance, input=facts)
    result = replace(subject.result, geometry=volume.geometry, findings=(), provenance=provenance)
    write_result(result, volume, tmp_path / "out", ["labels"])
    other = path.rename(tmp_path / "moved.nii") if moved else None
    opened = open_subject(tmp_path / "out", other, modality="CT")
    assert opened.volume is not None and opened.notices == ()
    assert opened.volume.geometry.spacing == spacing
    assert opened.volume.source.spacing_given
    opened = open_subject(tmp_path / "out" / "labels.nii.gz", other or path, spacing=spacing)
    assert opened.volume is not None and opened.volume.geometry.spacing == spacing
    assert opened.volume.source.spacing_given


def test_an_edited_segmentation_is_measured_anew(subject: Subject, tmp_path: Path) -> None:
    labels = subject.result.labels.copy()
    labels[labels == 2] = 0
    path = write_labels(labels, subject.result.geometry, tmp_path / "edited.nii.gz")
    scan = write_volume(subject.volume, tmp_path / "scan.nii.gz")
    with_scan, without = open_subject(path, scan, modality="CT"), open_subject(path)
    assert with_scan.result.measure("LV", "volume") == pytest.approx(subject.result.measure("LV", "volume"), rel=1e-5)
    assert with_scan.result.measure("LV", "mean_intensity") is not None
    assert "RV" not in {s.key for s in with_scan.result.structures}
    assert without.result.measure("LV", "mean_intensity") is None
    assert without.result.measure("MYO", "mass") is not None
    write_export(without, tmp_path / "out", ["csv", "html"])
    with (tmp_path / "out" / "measurements.csv").open(encoding="utf-8", newline="") as file:
        assert {row["quantity"] for row in csv.DictReader(file)}.isdisjoint({"mean_intensity", "sd_intensity"})


def test_what_cannot_be_opened_is_one_line(subject: Subject, result_folder: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "report.json").write_text("{}")
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare" / "report.json").write_bytes((result_folder[0] / "report.json").read_bytes())
    noise = np.random.default_rng(0).integers(0, 99, (40, 40, 40)).astype(np.int16)
    scan = write_volume(Volume(noise, Geometry(noise.shape, (3.0, 3.0, 3.0))), tmp_path / "other.nii.gz")
    for source, given, words in (
        (tmp_path / "empty", None, "empty.*report.json"),
        (tmp_path / "broken", None, "broken.*report.json"),
        (tmp_path / "bare", None, "bare.*labels.nii.gz.*segmentation.seg.nrrd"),
        (result_folder[0], scan, "'other'"),
    ):
        with pytest.raises(InputError, match=words) as caught:
            open_subject(source, given)
        assert "\n" not in str(caught.value)


# --- complete or absent -----------------------------------------------------------------------------------------------


def test_overwriting_is_asked_for_and_replaces_an_export_only(subject: Subject, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    write_export(subject, folder, ["labels"])
    with pytest.raises(OutputError, match="add --overwrite"):
        write_export(subject, folder, ["csv"])
    write_export(subject, folder, ["csv"], overwrite=True)
    assert names(folder) == {"measurements.csv", "export.json"}
    (folder / "thesis.docx").touch()
    with pytest.raises(OutputError, match=r"thesis\.docx"):
        write_export(subject, folder, ["csv"], overwrite=True)
    assert (folder / "thesis.docx").exists()


@pytest.mark.parametrize(
    ("kilobytes", "formats"),
    [(4, EVERYTHING), (40, EVERYTHING), (300, EVERYTHING), (4, ["seg"]), (8, ["labels", "csv"]), (1000, ["print"])],
)
def test_a_disk_that_gets_full_at_any_step(
    subject: Subject, small_disk: Callable[[int], Path], kilobytes: int, formats: Sequence[str]
) -> None:
    disk = small_disk(kilobytes)
    (disk / "keep").mkdir()
    with pytest.raises(OutputError, match=rf"{re.escape(str(disk / 'keep' / 'out'))}\b"):
        write_export(subject, disk / "keep" / "out", formats)
    assert [p.name for p in disk.rglob("*")] == ["keep"]


WRITERS = {
    "seg": "write_segmentation",
    "labels": "write_labels",
    "stl": "write_surfaces",
    "print": "write_print_set",
    "csv": "write_measurements",
    "preview": "write_preview",
    "html": "write_page",
    "pdf": "write_pdf",
    "dicom-seg": "write_dicom_seg",
    "dicom-sr": "write_dicom_seg",
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_disk_that_is_full_at_each_writer_leaves_the_earlier_export(
    subject: Subject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    if name.startswith("dicom"):
        pytest.importorskip("highdicom", reason='needs highdicom: pip install "heartseg[dicom]"')
    if name == "pdf":
        pytest.importorskip("weasyprint", reason='needs WeasyPrint: pip install "heartseg[report]"')
    write_export(subject, tmp_path / "out", ["labels"])
    before = names(tmp_path / "out")

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(formats_module, WRITERS[name], full)
    with pytest.raises(OutputError, match=rf"{re.escape(str(tmp_path / 'out'))}\b"):
        write_export(subject, tmp_path / "out", ["csv", name] if name != "csv" else [name], overwrite=True)
    assert names(tmp_path / "out") == before
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_a_cancel_leaves_nothing(subject: Subject, tmp_path: Path) -> None:
    reporter = Reporter(lambda event: reporter.cancel.cancel() if event.done == 2 else None)
    with pytest.raises(Cancelled):
        write_export(subject, tmp_path / "out", QUICK, reporter=reporter)
    assert list(tmp_path.iterdir()) == []


def test_files_that_somebody_else_made_are_taken_in(subject: Subject, tmp_path: Path) -> None:
    (tmp_path / "made.dcm").write_bytes(b"DICM")
    write_export(subject, tmp_path / "out", ["csv", "dicom-seg"], made={"dicom-seg": tmp_path / "made.dcm"})
    assert (tmp_path / "out" / "segmentation.dcm").read_bytes() == b"DICM"
    assert names(tmp_path / "out") == {"measurements.csv", "segmentation.dcm", "export.json"}


# --- errors -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    def hide(*packages: str) -> None:
        find = importlib.util.find_spec
        monkeypatch.setattr(importlib.util, "find_spec", lambda n, *a: None if n in packages else find(n, *a))

    return hide


@pytest.mark.parametrize(
    ("name", "package", "extra"),
    [
        ("ply", "vtk", "app"),
        ("print", "vtk", "app"),
        ("html", "matplotlib", "app"),
        ("pdf", "WeasyPrint", "report"),
        ("dicom-seg", "highdicom", "dicom"),
        ("dicom-sr", "highdicom", "dicom"),
    ],
)
def test_a_format_that_was_asked_for_must_be_possible(
    subject: Subject, tmp_path: Path, without: Callable[..., None], name: str, package: str, extra: str
) -> None:
    without(package.lower())
    with pytest.raises(DependencyError, match=rf"format {name} needs {package}.*pip install 'heartseg\[{extra}\]'"):
        write_export(subject, tmp_path / "out", [name])
    assert list(tmp_path.iterdir()) == []


def test_what_nobody_asked_for_is_left_out_and_named(
    subject: Subject, tmp_path: Path, without: Callable[..., None]
) -> None:
    without("vtk", "matplotlib")
    content = write_export(subject, tmp_path / "out")
    assert set(content["skipped"]) == {"stl", "html"}
    assert names(tmp_path / "out") == {"segmentation.seg.nrrd", "labels.nii.gz", "measurements.csv", "export.json"}


def test_options_and_formats_that_make_no_sense_are_refused(subject: Subject, tmp_path: Path) -> None:
    for formats, options, error, words in (
        (["fbx"], ExportOptions(), OutputError, "fbx.* seg, labels"),
        ([], ExportOptions(), OutputError, " seg, labels"),
        (["stl"], ExportOptions(coordinates="ABC"), SettingsError, "'ABC'.* LPS or RAS"),
        (["stl"], ExportOptions(smoothing=-1), SettingsError, "-1 .* 0 to 1"),
        (["print"], ExportOptions(wall_mm=0.1), SettingsError, "0.1 .* 0.8 to 10 mm"),
    ):
        with pytest.raises(error, match=words):
            write_export(subject, tmp_path / "out", formats, options)
    assert list(tmp_path.iterdir()) == []


def test_an_empty_segmentation_has_no_surfaces_but_everything_else(subject: Subject, tmp_path: Path) -> None:
    empty = Result(np.zeros_like(subject.result.labels), subject.result.geometry)
    write_export(
        measured(type(subject)(empty, None, "empty")), tmp_path / "out", ["seg", "labels", "stl", "csv", "html"]
    )
    assert not (tmp_path / "out" / "surfaces").exists()
    assert (
        sitk.ReadImage(str(tmp_path / "out" / "segmentation.seg.nrrd")).GetMetaData("Segment0_Name") == "left ventricle"
    )


# --- the command ------------------------------------------------------------------------------------------------------


def test_the_command_exports_a_result_folder(
    result_folder: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from heartseg.cli.main import main

    folder, _ = result_folder
    assert (
        main(["export", str(folder), "-o", str(tmp_path / "out"), "--format", "ply,csv", "--coordinates", "ras"]) == 0
    )
    assert "surfaces/left_ventricle.ply" in names(tmp_path / "out")
    assert "written to" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--format", "print", "--wall", "99"], "99 mm is outside 0.8 to 10 mm"),
        (["--format", "gcode"], "format gcode is unknown"),
        (["--frame", "last"], "frame 'last'"),
        (["--format", "dicom-seg"], "DICOM SEG needs the DICOM series"),
    ],
)
def test_the_command_says_in_one_line_what_is_wrong(
    result_folder: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str], words: str
) -> None:
    from heartseg.cli.main import main

    if "dicom-seg" in more:
        pytest.importorskip("highdicom", reason='needs highdicom: pip install "heartseg[dicom]"')
    assert main(["export", str(result_folder[0]), "-o", str(tmp_path / "out"), *more]) == 2
    said = capsys.readouterr().err.strip()
    assert words in said.splitlines()[-1]
    assert list(tmp_path.iterdir()) == []
