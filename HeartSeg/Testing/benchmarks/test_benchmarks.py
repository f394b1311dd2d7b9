"""Command lines and calculations of the benchmarks; their measurements are not tested."""

from __future__ import annotations

import importlib
import io
import json
import plistlib
import sys
import tarfile
from argparse import Namespace
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from scipy import ndimage

from heartseg import Geometry, Volume
from heartseg.volume.writing import write_labels, write_volume
from phantoms import heart_phantom

ROOT = Path(__file__).resolve().parents[3]
FOLDER = ROOT / "benchmarks"
PROGRAMS = sorted(p.stem for p in FOLDER.glob("[!_]*.py"))


@pytest.fixture(scope="module")
def benchmark() -> Iterator[Callable[[str], ModuleType]]:
    """Import a benchmark program as a module."""
    sys.path.insert(0, str(FOLDER))
    yield importlib.import_module
    sys.path.remove(str(FOLDER))


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_help_text_contains_the_command(
    benchmark: Callable[[str], ModuleType],
    name: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", [f"benchmarks/{name}.py", "--help"])
    with pytest.raises(SystemExit) as stop:
        benchmark(name).main()
    assert stop.value.code == 0
    assert f"benchmarks/{name}.py" in capsys.readouterr().out


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_readme_lists_each_program_with_its_command(name: str) -> None:
    readme = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert f"| `{name}.py` |" in readme
    assert f"python benchmarks/{name}.py " in readme


def test_dice_uses_the_kept_voxels_only(benchmark: Callable[[str], ModuleType]) -> None:
    common = benchmark("_common")
    found, truth = np.array([True, True, False, False]), np.array([True, False, True, False])
    assert common.dice(found, truth) == pytest.approx(0.5)
    assert common.dice(found, truth, np.array([True, False, False, True])) == 1.0
    assert common.dice(found & False, truth & False) == 1.0
    assert common.dice(found & False, truth) == 0.0


def test_structures_missing_in_the_truth_are_not_scored(benchmark: Callable[[str], ModuleType]) -> None:
    common = benchmark("_common")
    scores = common.structure_dice(np.array([1, 1, 2, 7]), np.array([1, 0, 2, 0]))
    assert scores == {"LV": pytest.approx(2 / 3), "RV": 1.0}


def test_summaries_contain_n_mean_and_sample_sd(benchmark: Callable[[str], ModuleType]) -> None:
    common = benchmark("_common")
    assert common.summarise([1.0, 2.0, 3.0]) == {"n": 3, "mean": 2.0, "sd": 1.0}
    assert np.isnan(common.summarise([1.0])["sd"])
    cases = common.summarise_cases([{"LV": 1.0, "RV": 0.5}, {"LV": 0.5}])
    assert (cases["LV"]["n"], cases["RV"]["n"], cases["mean"]["mean"]) == (2, 1, 0.625)
    assert "| LV | 2 | 0.750 | 0.354 |" in common.summary_table(cases)


def test_a_record_is_plain_json(benchmark: Callable[[str], ModuleType], tmp_path: Path) -> None:
    path = tmp_path / "new" / "record.json"
    benchmark("_common").write_json(path, {"a": np.float32(0.123456), "b": float("nan"), "c": (np.int64(1), True)})
    assert json.loads(path.read_text()) == {"a": 0.1235, "b": None, "c": [1, True]}


def test_all_candidate_orientations_are_rotations_of_the_same_handedness(
    benchmark: Callable[[str], ModuleType],
) -> None:
    sunnybrook = benchmark("sunnybrook")
    assert len(sunnybrook.ASSIGNMENTS) == 8
    standard = np.sign(np.linalg.det(sunnybrook.Orientation().matrix()))
    for order, signs in sunnybrook.ASSIGNMENTS:
        for axis in sunnybrook.LONG_AXES:
            matrix = sunnybrook.Orientation(order, signs, 30.0, axis).matrix()
            assert np.allclose(matrix.T @ matrix, np.eye(3), atol=1e-12)
            assert np.sign(np.linalg.det(matrix)) == standard


def test_the_standard_view_runs_left_posterior_and_to_the_apex(benchmark: Callable[[str], ModuleType]) -> None:
    columns = benchmark("sunnybrook").Orientation().matrix().T
    assert columns[0, 0] > 0.7  # stored x: towards the patient's left
    assert columns[1, 1] > 0.6  # stored y: backwards ...
    assert columns[1, 2] < -0.6  # ... and down
    assert columns[2, 0] > 0 > columns[2, 1]  # slices: to the left, forwards,
    assert columns[2, 2] < 0  # and down


def test_an_orientation_is_restored_from_json(benchmark: Callable[[str], ModuleType]) -> None:
    from dataclasses import asdict

    sunnybrook = benchmark("sunnybrook")
    orientation = sunnybrook.Orientation((1, 0), (1, -1, 1), 45.0, "lying")
    assert sunnybrook.Orientation.from_dict(json.loads(json.dumps(asdict(orientation)))) == orientation


def test_a_placed_stack_is_centred_on_the_origin(benchmark: Callable[[str], ModuleType]) -> None:
    sunnybrook = benchmark("sunnybrook")
    stack = Volume(np.zeros((9, 20, 30), np.int16), Geometry((9, 20, 30), (1.3, 1.3, 8.0)))
    laid = sunnybrook.laid(stack, sunnybrook.Orientation(turn=15.0))
    assert np.allclose(laid.geometry.center(), 0, atol=1e-9)
    assert laid.modality == "MR"


def test_slices_without_a_contour_are_ignored(benchmark: Callable[[str], ModuleType]) -> None:
    truth = np.zeros((3, 4, 4), bool)
    truth[1, :2] = True
    found = truth.copy()
    found[0] = True
    assert benchmark("sunnybrook").contoured_dice(found, truth) == 1.0


def test_the_search_selects_the_best_mean(benchmark: Callable[[str], ModuleType]) -> None:
    """A score with a maximum at one rotation and one long axis; the search ends there."""
    sunnybrook: Any = benchmark("sunnybrook")

    class Liking(sunnybrook.Scorer):
        def score(self, patient: Any, orientation: Any) -> float:
            right = (orientation.order, orientation.signs) == ((0, 1), (1, 1, 1))
            return right - abs(orientation.turn - 15) / 100 - 0.1 * (orientation.long_axis != "lying")

    patients = [Namespace(name="a"), Namespace(name="b")]
    best, rows = sunnybrook.search(Liking(None), patients)
    assert best == sunnybrook.Orientation(turn=15.0, long_axis="lying")
    assert len(rows) == 24 + 8
    assert set(rows[0]["dice"]) == {"a", "b"}


def test_the_fit_is_scored_on_both_cavities(benchmark: Callable[[str], ModuleType]) -> None:
    fit = np.array([[[1, 1, 2, 5]]])
    assert benchmark("bivme").score(np.array([[[1, 5, 2, 2]]]), fit) == {
        "LV": pytest.approx(2 / 3),
        "RV": pytest.approx(2 / 3),
    }


def test_random_crops_keep_position_and_minimum_extent(benchmark: Callable[[str], ModuleType]) -> None:
    heart_free = benchmark("heart_free")
    whole = Volume(np.arange(20 * 30 * 40).reshape(20, 30, 40), Geometry((20, 30, 40), (1.0, 2.0, 3.0)))
    rng = np.random.default_rng(0)
    for _ in range(20):
        part = heart_free.random_crop(whole, rng, least=0.6)
        assert all(n >= 0.6 * m for n, m in zip(part.array.shape, whole.array.shape, strict=True))
        first = np.rint(whole.geometry.world_to_index(part.geometry.index_to_world(np.zeros(3)))).astype(int)
        assert part.array[0, 0, 0] == whole.array[tuple(first)]


def test_an_invesalius_project_is_read_with_its_spacing(benchmark: Callable[[str], ModuleType], tmp_path: Path) -> None:
    voxels = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    project = {
        "matrix": {"dtype": "int16", "filename": "matrix.dat", "shape": [2, 3, 4]},
        "modality": "CT",
        "spacing": [0.5, 0.6, 1.5],
    }
    path = tmp_path / "head.inv3"
    with tarfile.open(path, "w:gz") as archive:
        for name, content in (("main.plist", plistlib.dumps(project)), ("matrix.dat", voxels.tobytes())):
            member = tarfile.TarInfo(f"folder/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    volume = benchmark("heart_free").read_inv3(path)
    assert np.array_equal(volume.array, voxels)
    assert volume.geometry.spacing == (0.5, 0.6, 1.5)
    assert volume.geometry.orientation == "LAS"


def test_a_synthetic_foot_is_plausible_and_reproducible(
    benchmark: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch
) -> None:
    heart_free = benchmark("heart_free")
    monkeypatch.setattr(heart_free, "FOOT_SPACING", 3.0)  # an eighth of the voxels
    foot, again = (heart_free.synthetic_foot(np.random.default_rng(1)) for _ in range(2))
    assert np.array_equal(foot.array, again.array)
    litres = float((foot.array > -300).sum()) * foot.geometry.voxel_volume_ml / 1000
    assert 0.8 < litres < 3.0  # a foot has about 1 L, and the lower half of a shank another
    assert (foot.array > 500).sum() * foot.geometry.voxel_volume_ml > 50  # cortex


def test_false_positives_are_counted_per_kind_and_in_total(benchmark: Callable[[str], ModuleType]) -> None:
    cases = [
        {"kind": k, "heart": h, "ml": ml} for k, h, ml in (("a", True, 90.0), ("a", False, 0.0), ("b", False, 0.0))
    ]
    tally = benchmark("heart_free").tally(cases)
    assert [(tally[k]["n"], tally[k]["false_hearts"]) for k in ("a", "b", "all")] == [(2, 1), (1, 0), (3, 1)]
    assert tally["all"]["ml_max"] == 90.0


def test_ignored_voxels_of_the_prototype_are_masked(benchmark: Callable[[str], ModuleType]) -> None:
    labels, mask = benchmark("prototype_scenes").split_target(np.array([0, 5, 255], np.uint8))
    assert labels.tolist() == [0, 5, 0]
    assert mask.tolist() == [1, 1, 0]


def test_values_of_the_prototype_are_converted_to_hu(benchmark: Callable[[str], ModuleType]) -> None:
    assert benchmark("prototype_scenes").to_hu(np.array([-1.8, -1.0, 0.0, 1.8, 2.5])).tolist() == [
        -200,
        0,
        250,
        700,
        700,
    ]


def test_the_first_seed_with_cta_contrast_is_selected(benchmark: Callable[[str], ModuleType]) -> None:
    prototype = benchmark("prototype_scenes")

    def luts(rng: np.random.Generator) -> tuple[np.ndarray]:
        mean = np.zeros(64)
        mean[1], mean[5] = (300.0, 100.0) if rng.random() < 0.5 else (120.0, 100.0)
        return (mean,)

    first = next(s for s in range(2000, 3000) if np.random.default_rng(s).random() < 0.5)
    assert prototype.cta_seed(Namespace(luts=luts), 2) == first


def test_the_frozen_list_contains_all_files(benchmark: Callable[[str], ModuleType]) -> None:
    prototype = benchmark("prototype_scenes")
    listed = prototype.FROZEN.read_text(encoding="utf-8").splitlines()
    assert [line.split("  ")[1] for line in listed] == [
        prototype.file_name(scene, kind) for scene in range(prototype.SCENES) for kind in prototype.KINDS
    ]
    assert all(len(line.split("  ")[0]) == 64 for line in listed)


def test_the_simulated_user_marks_the_middle_of_the_largest_error_with_the_right_label(
    benchmark: Callable[[str], ModuleType],
) -> None:
    mending = benchmark("mending")
    from heartseg.refinement import Prior

    truth = np.zeros((20, 20, 20), np.uint8)
    truth[2:9, 2:9, 2:9], truth[12:17, 12:17, 12:17] = 4, 1
    geometry = Geometry(truth.shape, (1.0, 1.0, 1.0))
    labels = np.where(truth == 4, 2, 0).astype(np.uint8)
    case = mending.Case(
        "a", "b", Volume(truth, geometry), labels, truth, np.ones(truth.shape, bool), ("LV", "RA"), Prior.unknown()
    )
    mark = case.next_mark(labels)
    assert mark is not None and (mark.text, mark.points) == ("RA", ((5.0, 5.0, 5.0),))
    assert case.next_mark(truth) is None
    for method in mending.METHODS.values():
        record = mending.simulate(case, method, 2)
        dice = [np.mean(list(d.values())) for d in record["dice"]]
        assert dice[0] == 0 and min(dice[1:]) > 0
        assert record["marks"][0] == "RA"


def test_a_random_walker_stops_at_an_edge(benchmark: Any) -> None:
    walk = benchmark("mending").walk
    image = np.zeros((5, 5, 12), np.float32)
    image[..., 7:] = 50.0
    seeds = np.full(image.shape, -1)
    seeds[2, 2, 0], seeds[2, 2, 11] = 3, 6
    found = walk(image, seeds)
    assert (found[..., :7] == 3).all() and (found[..., 7:] == 6).all()


def test_errors_that_a_finding_names_are_counted(benchmark: Callable[[str], ModuleType], tmp_path: Path) -> None:
    """Of three results, one is right, one lacks an artery, and one has an atrium without its outer layer."""
    labels, geometry, image = heart_phantom((2.5, 2.5, 2.5))
    missing, small = labels.copy(), labels.copy()
    missing[labels == 7] = 0
    small[ndimage.binary_erosion(labels == 3, iterations=2) ^ (labels == 3)] = 0
    (tmp_path / "predictions").mkdir()
    for name, found in (("cta_right", labels), ("cta_missing", missing), ("cta_small", small)):
        write_volume(Volume(image, geometry, modality="CT"), tmp_path / f"{name}.nii.gz")
        write_labels(labels, geometry, tmp_path / f"{name}_labels.nii.gz")
        write_labels(np.ones_like(labels), geometry, tmp_path / f"{name}_mask.nii.gz")
        write_labels(found, geometry, tmp_path / "predictions" / f"{name}.nii.gz")
    found = benchmark("findings").summary(benchmark("findings").outcomes(tmp_path, {}))
    assert [found[k] for k in ("results", "failed", "failed_with_finding", "right")] == [3, 2, 1, 1]
    assert found["failed_without_finding"].keys() == {f"{tmp_path.name}/cta_small"}


@pytest.mark.parametrize("kind", ["cut", "scale", "shifted", "thick", "noise"])
def test_labels_of_a_degraded_scan_lie_on_its_structures(benchmark: Callable[[str], ModuleType], kind: str) -> None:
    labels, geometry, _ = heart_phantom((2.5, 2.5, 2.5))
    images = [sitk.GetImageFromArray(a) for a in (100 * labels.astype(np.int16), labels, np.ones_like(labels))]
    for image in images:
        image.SetSpacing(geometry.spacing)
    new = benchmark("findings").degraded(images, kind, np.random.default_rng(5))
    values, found, mask = (sitk.GetArrayFromImage(image) for image in new)
    assert values.shape == found.shape == mask.shape
    assert len({(i.GetSpacing(), i.GetOrigin()) for i in new}) == 1
    right = np.abs(values / 100 - found) < 0.5
    assert right[found > 0].mean() > (0.3 if kind in ("noise", "thick") else 0.99)
    changed = {"cut": values.size < labels.size, "scale": new[0].GetSpacing() != images[0].GetSpacing()}
    assert changed.get(kind, not np.array_equal(values, 100 * labels))


def test_the_views_of_a_heart_are_one_heart_and_each_half_is_tested_with_the_other(
    benchmark: Callable[[str], ModuleType],
) -> None:
    names = [f"pval/{kind}_15_{k}" for k in range(8) for kind in ("cta", "mr")]
    hearts = np.array([benchmark("_common").heart_of(f"{name}_sax") for name in names])
    assert len(set(hearts)) == 8 and benchmark("_common").heart_of("more/cta_16_03b") == "more/16_03"
    values = np.where(np.isin(hearts, ["pval/15_0", "pval/15_1", "pval/15_4", "pval/15_5"]), 1.0, 3.0)
    assert benchmark("intervals").crossed_coverage(hearts, values) == 0.5


def test_figures_of_a_card_have_three_decimals(benchmark: Callable[[str], ModuleType]) -> None:
    figures = {"LV": {"mean": 0.5362, "sd": 0.0359}, "EF error, points": 13.1908, "found": 20}
    expected = {"LV": {"mean": 0.536, "sd": 0.036}, "EF error, points": 13.191, "found": 20}
    assert benchmark("all").rounded(figures) == expected
