"""Scans and references are found in every layout and read with all kinds of labels, or refused with advice."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from command_lines import patched_nifti
from heartseg import STRUCTURES
from heartseg.errors import InputError
from heartseg.marks import Mark
from heartseg.pipeline import input_facts
from heartseg.provenance import InputFacts, Mend, Provenance
from heartseg.training.nnunet.checking import check_case, check_cases, load_case, refuse_bad_data
from heartseg.training.nnunet.convert import Layout, convert
from heartseg.training.nnunet.datasets import TRANSLATED, Case, find_cases
from heartseg.training.nnunet.references import read_reference
from heartseg.training.nnunet.run import split
from heartseg.translation.join import RECORD
from heartseg.volume import Geometry, Volume, read_volume, write_labels, write_volume
from labelled_scans import as_mmwhs, make_folder_pair, make_mmwhs, phantom_case, write_slicer_segmentation
from phantoms import Phantom
from volume.dicom_files import phantom, planes, write_classic

NAMES = {s.label: s.name for s in STRUCTURES}


@pytest.fixture(scope="module")
def mmwhs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_mmwhs(tmp_path_factory.mktemp("mmwhs"), 3, (6.0, 6.0, 8.0))


@pytest.fixture(scope="module")
def heart() -> Phantom:
    """Return labels, grid and image of one phantom."""
    return phantom_case(7, (6.0, 6.0, 8.0))


def saved(home: Path, heart: Phantom, name: str = "a") -> Case:
    """Write the phantom as files and return its case."""
    labels, geometry, image = heart
    write_volume(Volume(image, geometry), home / f"{name}_image.nii.gz")
    write_labels(labels, geometry, home / f"{name}_label.nii.gz")
    return Case(name, home / f"{name}_image.nii.gz", home / f"{name}_label.nii.gz")


def test_mmwhs_is_recognised_by_its_names(mmwhs: Path) -> None:
    listing = find_cases(mmwhs)
    assert listing.layout == "MM-WHS"
    assert [c.name for c in listing.cases] == ["ct_train_1001", "ct_train_1002", "ct_train_1003"]
    assert {c.modality for c in listing.cases} == {"CT"}
    assert [p.name for p in listing.unlabelled] == ["ct_test_2001_image.nii.gz"]
    assert not listing.problems


def test_two_folders_with_the_same_names_are_paired(tmp_path: Path) -> None:
    make_folder_pair(tmp_path, 2, (8.0, 8.0, 10.0))
    assert [c.name for c in find_cases(tmp_path).cases] == ["heart_00", "heart_01"]


def test_cases_of_the_record_of_translate_join_are_known_as_translated(tmp_path: Path) -> None:
    home = make_folder_pair(tmp_path, 2, (8.0, 8.0, 10.0))
    names = [c.name for c in find_cases(home).cases]
    (home / TRANSLATED).write_text(json.dumps({names[1]: {}, "gone": {}}))
    assert [(c.translated, c.train_only) for c in find_cases(home).cases] == [(False, False), (True, True)]
    (home / TRANSLATED).write_text("{")
    with pytest.raises(InputError, match=r"translated\.json' cannot be read"):
        find_cases(home)


def test_the_name_of_the_record_is_that_of_translate_join() -> None:
    assert TRANSLATED == RECORD


def test_folders_of_nnunet_are_paired_without_the_channel_number(tmp_path: Path, heart: Phantom) -> None:
    labels, geometry, image = heart
    for folder in ("imagesTr", "labelsTr"):
        (tmp_path / folder).mkdir()
    write_volume(Volume(image, geometry), tmp_path / "imagesTr" / "p1_0000.nii.gz")
    write_labels(labels, geometry, tmp_path / "labelsTr" / "p1.nii.gz")
    (case,) = find_cases(tmp_path).cases
    assert (case.name, case.label.name) == ("p1", "p1.nii.gz")


@pytest.mark.parametrize("name", ["scan.seg.nrrd", "scan Segmentation.seg.nrrd", "scan-segmentation.seg.nrrd"])
def test_slicer_segmentations_are_paired_with_the_scan_beside_them(tmp_path: Path, heart: Phantom, name: str) -> None:
    labels, geometry, image = heart
    write_volume(Volume(image, geometry), tmp_path / "scan.nrrd")
    write_slicer_segmentation(labels, geometry, tmp_path / name, NAMES)
    (case,) = find_cases(tmp_path).cases
    assert (case.name, case.image.name) == ("scan", "scan.nrrd")
    assert np.array_equal(load_case(case, None, None)[1].labels, labels)


@pytest.mark.parametrize("swapped", [False, True])
def test_mended_results_are_taken_in_the_order_of_their_names_wherever_they_lie(tmp_path: Path, swapped: bool) -> None:
    names = ("b", "a", "c")
    for home, name in zip(("3", "2", "1") if swapped else ("1", "2", "3"), names, strict=True):
        (scan := tmp_path / f"{name}.nii.gz").touch()
        (folder := tmp_path / "out" / home / name).mkdir(parents=True)
        (folder / "labels.nii.gz").touch()
        made = Provenance(input=InputFacts(path=str(scan)), mends=(Mend(marks=(Mark("LV", ((0.0, 0.0, 0.0),)),)),))
        (folder / "report.json").write_text(json.dumps({"provenance": made.to_dict()}), encoding="utf-8")
    cases = find_cases(tmp_path / "out").cases
    assert [(case.name, case.image.name) for case in cases] == [(n, f"{n}.nii.gz") for n in sorted(names)]


def write_mended(out: Path, volume: Volume, labels: np.ndarray) -> None:
    """Write the label map and the report of a mended result of a scan."""
    out.mkdir(parents=True)
    write_labels(labels, volume.geometry, out / "labels.nii.gz")
    made = Provenance(input=input_facts(volume), mends=(Mend(marks=(Mark("LV", ((0.0, 0.0, 0.0),)),)),))
    (out / "report.json").write_text(json.dumps({"provenance": made.to_dict()}), encoding="utf-8")


def test_a_mended_result_is_trained_with_the_series_that_was_segmented(tmp_path: Path) -> None:
    without, contrast = phantom(radius=20.0), phantom(radius=28.0)
    for number, volume in enumerate((without, contrast), 1):
        write_classic(tmp_path / "study", planes(volume), series=f"1.2.{number}", number=number)
    for number in (1, 2):
        scan = read_volume(tmp_path / "study", series=f"1.2.{number}")
        write_mended(tmp_path / "out" / f"r{number}", scan, (scan.array > 170).astype(np.uint8))
    found = [load_case(case, None, None) for case in find_cases(tmp_path / "out").cases]
    assert [np.array_equal(v.array > 170, r.labels == 1) for v, r in found] == [True, True]
    assert found[0][1].labels.sum() < found[1][1].labels.sum()


def test_a_mended_result_keeps_the_voxel_size_that_the_user_gave(tmp_path: Path, heart: Phantom) -> None:
    labels, geometry, image = heart
    path = write_volume(Volume(image, geometry), tmp_path / "scan.nii")
    patched_nifti(path, {80: bytes(12), 254: bytes(2)})  # no pixdim, no sform
    (tmp_path / "scan.nii.gz").write_bytes(gzip.compress(path.read_bytes()))
    for name in ("a", "b"):
        scan = read_volume(tmp_path / "scan.nii.gz", modality="CT", spacing=geometry.spacing)
        write_mended(tmp_path / "out" / name, scan, labels)
    home = convert(check_cases(find_cases(tmp_path / "out"), None, None), Layout(("LV",), "CT"), tmp_path / "raw")
    assert read_volume(home / "imagesTr" / "a_0000.nii.gz").geometry.spacing == geometry.spacing


def test_a_mended_result_whose_scan_has_changed_is_refused(tmp_path: Path, heart: Phantom) -> None:
    labels, geometry, image = heart
    write_volume(Volume(image, geometry), tmp_path / "scan.nii.gz")
    write_mended(tmp_path / "out" / "r", read_volume(tmp_path / "scan.nii.gz", modality="CT"), labels)
    (case,) = find_cases(tmp_path / "out").cases
    assert load_case(case, None, None)[0].modality == "CT"
    write_volume(Volume(image + 1, geometry), tmp_path / "scan.nii.gz")
    with pytest.raises(InputError, match=r"scan\.nii\.gz' has changed since it was segmented"):
        load_case(case, None, None)


def test_a_monai_data_list_keeps_its_folds(tmp_path: Path) -> None:
    make_folder_pair(tmp_path, 2, (8.0, 8.0, 10.0))
    entries = [
        {"image": f"images/heart_0{k}.nii.gz", "label": [f"labels/heart_0{k}.nii.gz"], "fold": 1 - k} for k in range(2)
    ]
    listing = tmp_path / "list.json"
    listing.write_text(json.dumps({"training": entries, "testing": ["images/x.nii.gz"]}))
    found = find_cases(listing)
    assert [(c.name, c.fold) for c in found.cases] == [("heart_00", 1), ("heart_01", 0)]
    assert all(c.image.is_file() and c.label.is_file() for c in found.cases)
    assert len(found.unlabelled) == 1


def test_train_only_cases_of_a_data_list_are_never_held_out(tmp_path: Path) -> None:
    make_folder_pair(tmp_path, 3, (8.0, 8.0, 10.0))
    places: list[dict[str, Any]] = [{"fold": 0}, {"train_only": True}, {"fold": 1}]
    entries = [
        {"image": f"images/heart_0{k}.nii.gz", "label": f"labels/heart_0{k}.nii.gz"} | p for k, p in enumerate(places)
    ]
    listing = tmp_path / "list.json"
    listing.write_text(json.dumps({"training": entries}))
    data = check_cases(find_cases(listing), None, None)
    refuse_bad_data(data, 2, skip_bad=False)
    assert split(data, 2, seed=5) == [
        {"train": ["heart_02", "heart_01"], "val": ["heart_00"]},
        {"train": ["heart_00", "heart_01"], "val": ["heart_02"]},
    ]
    listing.write_text(json.dumps({"training": [entries[0] | {"train_only": True}]}))
    assert "a case that is held out in a fold has none" in find_cases(listing).problems[0]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "is not a MONAI data list"),
        ('{"validation": []}', "has no list 'training'"),
    ],
)
def test_a_file_that_is_no_data_list_is_refused(tmp_path: Path, content: str, said: str) -> None:
    (tmp_path / "list.json").write_text(content)
    with pytest.raises(InputError, match=said):
        find_cases(tmp_path / "list.json")


def test_an_entry_without_label_is_a_problem_and_the_others_stay(tmp_path: Path) -> None:
    (tmp_path / "list.json").write_text('{"training": [{"image": "a.nii.gz"}, {"image": "b.nii", "label": "b_l.nii"}]}')
    found = find_cases(tmp_path / "list.json")
    assert [c.name for c in found.cases] == ["b"]
    assert "it needs 'image' and 'label'" in found.problems[0]


def test_a_scan_without_reference_and_a_reference_without_scan_are_problems(tmp_path: Path) -> None:
    make_folder_pair(tmp_path, 3, (8.0, 8.0, 10.0))
    (tmp_path / "labels" / "heart_01.nii.gz").unlink()
    (tmp_path / "images" / "heart_02.nii.gz").unlink()
    found = find_cases(tmp_path)
    assert [c.name for c in found.cases] == ["heart_00"]
    assert "heart_01.nii.gz' has no reference" in found.problems[0]
    assert "heart_02.nii.gz' has no scan" in found.problems[1]


def test_an_empty_folder_is_refused_with_the_known_layouts(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="ct_train_1001_image"):
        find_cases(tmp_path)
    with pytest.raises(InputError, match="does not exist"):
        find_cases(tmp_path / "nowhere")


def test_label_values_of_mmwhs_are_converted_and_421_is_the_left_atrium(tmp_path: Path, heart: Phantom) -> None:
    labels, geometry, _ = heart
    stored = as_mmwhs(labels, stray=True)
    assert set(np.unique(stored)) == {0, 205, 420, 421, 500, 550, 600, 820, 850}
    write_volume(Volume(stored, geometry), tmp_path / "l.nii.gz")
    assert np.array_equal(read_reference(tmp_path / "l.nii.gz").labels, labels)


def test_segments_are_recognised_by_their_terminology(tmp_path: Path, heart: Phantom) -> None:
    labels, geometry, _ = heart
    path = write_slicer_segmentation(labels, geometry, tmp_path / "a.seg.nrrd", {s.label: "X" for s in STRUCTURES})
    import SimpleITK as sitk

    image = sitk.ReadImage(str(path))
    for number, s in enumerate(STRUCTURES):
        tag = f"TerminologyEntry:x~SCT^123037004^Anatomical Structure~SCT^{s.snomed_code}^{s.snomed_meaning}~"
        image.SetMetaData(f"Segment{number}_Tags", tag)
    sitk.WriteImage(image, str(path), True)
    assert np.array_equal(read_reference(path).labels, labels)


def test_unknown_segments_become_background_with_a_notice_and_a_file_without_known_ones_is_refused(
    tmp_path: Path, heart: Phantom
) -> None:
    labels, geometry, _ = heart
    names = {**NAMES, 6: "spine"}
    found = read_reference(write_slicer_segmentation(labels, geometry, tmp_path / "a.seg.nrrd", names))
    assert np.array_equal(found.labels, np.where(labels == 6, 0, labels))
    assert "spine" in found.notices[0]
    with pytest.raises(InputError, match="name no structure"):
        read_reference(write_slicer_segmentation(labels, geometry, tmp_path / "b.seg.nrrd", {1: "spine"}))


def test_of_overlapping_segments_the_later_one_wins_with_a_notice(tmp_path: Path, heart: Phantom) -> None:
    labels, geometry, _ = heart
    path = write_slicer_segmentation(labels, geometry, tmp_path / "a.seg.nrrd", NAMES)
    import SimpleITK as sitk

    image = sitk.ReadImage(str(path))
    layers = sitk.GetArrayFromImage(image)
    both = np.argwhere(labels == 1)[:10]
    z, y, x = both.T
    layers[z, y, x, 1] = 2  # layer of the right ventricle, over the left ventricle
    changed = sitk.GetImageFromArray(layers, isVector=True)
    changed.CopyInformation(image)
    for key in image.GetMetaDataKeys():
        if key.startswith("Segment"):
            changed.SetMetaData(key, image.GetMetaData(key))
    sitk.WriteImage(changed, str(path), True)
    found = read_reference(path)
    assert (found.labels[tuple(both.T)] == 2).all()
    assert "overlap in 10 voxels" in found.notices[0]


def test_unknown_label_values_are_refused_without_a_label_map(tmp_path: Path, heart: Phantom) -> None:
    labels, geometry, image = heart
    write_labels(np.where(labels == 7, 13, labels).astype(np.uint8), geometry, tmp_path / "l.nii.gz")
    with pytest.raises(InputError, match=r"labels 13 of 'l.nii.gz' mean no structure.*--labels"):
        read_reference(tmp_path / "l.nii.gz")
    found = read_reference(tmp_path / "l.nii.gz", {1: "LV", 13: "PA"})
    assert set(np.unique(found.labels)) == {0, 1, 7}
    write_volume(Volume(image, geometry), tmp_path / "i.nii.gz")
    with pytest.raises(InputError, match="is not a label map"):
        read_reference(tmp_path / "i.nii.gz")


def test_a_reference_on_another_grid_is_refused_with_both_grids(tmp_path: Path, heart: Phantom) -> None:
    case = saved(tmp_path, heart)
    labels, geometry, _ = heart
    moved = Geometry(geometry.shape, geometry.spacing, (geometry.origin[0] + 3, *geometry.origin[1:]))
    write_labels(labels, moved, case.label)
    with pytest.raises(InputError) as error:
        check_case(case, None, None)
    said = str(error.value)
    assert "a_label.nii.gz" in said and "a_image.nii.gz" in said
    assert f"{geometry.origin[0]:.1f}" in said and f"{geometry.origin[0] + 3:.1f}" in said


def test_a_reference_without_foreground_is_refused(tmp_path: Path, heart: Phantom) -> None:
    case = saved(tmp_path, heart)
    labels, geometry, _ = heart
    with pytest.raises(InputError, match="nothing can be learnt"):
        check_case(case, {1: "LV"}, ["PA"])
    write_labels(np.zeros_like(labels), geometry, case.label)
    with pytest.raises(InputError, match="nothing can be learnt"):
        check_case(case, None, None)


def test_an_unreadable_file_is_a_problem_of_its_case_only(tmp_path: Path) -> None:
    make_folder_pair(tmp_path, 3, (8.0, 8.0, 10.0))
    broken = tmp_path / "images" / "heart_01.nii.gz"
    broken.write_bytes(broken.read_bytes()[:200])
    data = check_cases(find_cases(tmp_path), None, None)
    assert [c.case.name for c in data.cases] == ["heart_00", "heart_02"]
    assert list(data.problems) == ["heart_01"]
    with pytest.raises(InputError, match=r"heart_01.*--skip-bad"):
        refuse_bad_data(data, 2, skip_bad=False)
    refuse_bad_data(data, 2, skip_bad=True)


def as_mr(path: Path) -> None:
    """Convert a CT scan in HU to magnitudes without negative values."""
    volume = read_volume(path)
    write_volume(Volume((volume.array + 1000).clip(0).astype(np.int16), volume.geometry), path)


def test_mr_among_ct_is_refused_by_name(tmp_path: Path) -> None:
    make_folder_pair(tmp_path, 4, (8.0, 8.0, 10.0))
    as_mr(tmp_path / "images" / "heart_02.nii.gz")
    for modality in ("", "CT"):
        data = check_cases(find_cases(tmp_path), None, None, modality=modality)
        assert list(data.problems) == ["heart_02"]
        assert [c.case.name for c in data.cases] == ["heart_00", "heart_01", "heart_03"]
        assert {c.modality for c in data.cases} == {"CT"}
        with pytest.raises(InputError, match=r"heart_02.*--skip-bad"):
            refuse_bad_data(data, 2, skip_bad=False)
    mr = check_cases(find_cases(tmp_path), None, None, modality="MR")
    assert [c.case.name for c in mr.cases] == ["heart_02"]


def test_both_modalities_are_accepted_if_file_names_state_them(tmp_path: Path) -> None:
    make_mmwhs(tmp_path, 2, (8.0, 8.0, 10.0))
    for k in (1001, 1002):
        for kind in ("image", "label"):
            path = tmp_path / f"ct_train_{k}_{kind}.nii.gz"
            (tmp_path / f"mr_train_{k}_{kind}.nii.gz").write_bytes(path.read_bytes())
        as_mr(tmp_path / f"mr_train_{k}_image.nii.gz")
    data = check_cases(find_cases(tmp_path), None, None)
    assert not data.problems
    assert sorted(c.modality for c in data.cases) == ["CT", "CT", "MR", "MR"]
    as_mr(tmp_path / "ct_train_1002_image.nii.gz")
    assert list(check_cases(find_cases(tmp_path), None, None).problems) == ["ct_train_1002"]


def test_one_case_or_fewer_cases_than_folds_are_refused(tmp_path: Path) -> None:
    make_folder_pair(tmp_path, 2, (8.0, 8.0, 10.0))
    data = check_cases(find_cases(tmp_path), None, None)
    with pytest.raises(InputError, match="5 folds need 5 cases and there are 2: lower --folds"):
        refuse_bad_data(data, 5, skip_bad=False)
    (tmp_path / "images" / "heart_01.nii.gz").unlink()
    (tmp_path / "labels" / "heart_01.nii.gz").unlink()
    with pytest.raises(InputError, match="one case only"):
        refuse_bad_data(check_cases(find_cases(tmp_path), None, None), 2, skip_bad=False)


@pytest.mark.parametrize(
    ("given", "folds", "said"),
    [
        ([0, 1, 2], 3, None),
        ([0, 1, None], 3, None),
        ([0, 1, 1], 3, "fold 0, 1, which are not 3 folds from 0: give --folds 2"),
        ([0, 1, 2], 2, "give --folds 3"),
        ([1, 2, 3], 3, "number two or more from 0 without gaps"),
        ([0, 0, 0], 2, "number two or more from 0 without gaps"),
    ],
)
def test_folds_of_a_data_list_are_used_or_refused_but_never_replaced(
    tmp_path: Path, given: list[int | None], folds: int, said: str | None
) -> None:
    make_folder_pair(tmp_path, 3, (8.0, 8.0, 10.0))
    entries: list[dict[str, Any]] = [
        {"image": f"images/heart_0{k}.nii.gz", "label": f"labels/heart_0{k}.nii.gz"} for k in range(3)
    ]
    entries = [e if f is None else {**e, "fold": f} for e, f in zip(entries, given, strict=True)]
    (tmp_path / "list.json").write_text(json.dumps({"training": entries}))
    data = check_cases(find_cases(tmp_path / "list.json"), None, None)
    if said is None:
        refuse_bad_data(data, folds, skip_bad=False)
        return
    with pytest.raises(InputError, match=said):
        refuse_bad_data(data, folds, skip_bad=False)


def test_volumes_and_orientations_are_listed(mmwhs: Path) -> None:
    data = check_cases(find_cases(mmwhs), None, None)
    assert data.orientations == {"LPS": 1, "PIL": 1, "RAS": 1}
    assert data.structures == ("LV", "RV", "LA", "RA", "MYO", "AO", "PA")
    assert all(40 < c.volumes_ml["LV"] < 200 for c in data.cases)
