"""A scan in memory is refused with one line or accepted with findings."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from heartseg.errors import InputError
from heartseg.findings import Severity
from heartseg.volume import Geometry, Volume, check_volume
from heartseg.volume import checks as checks_module
from heartseg.volume.checks import available_memory, check_for_run


def codes(volume: Volume) -> list[str]:
    return [finding.code for finding in volume.findings]


def regrid(scan: Volume, **changes: Any) -> Volume:
    return replace(scan, geometry=replace(scan.geometry, **changes))


def refused(volume: Volume, *words: str) -> None:
    with pytest.raises(InputError) as caught:
        check_volume(volume)
    text = str(caught.value)
    assert "\n" not in text
    for word in (volume.name, *words):
        assert word in text


def sheared(degrees: float) -> tuple[float, ...]:
    tan = np.tan(np.radians(degrees))
    axis = np.array([0.0, tan, 1.0]) / np.hypot(1.0, tan)
    return (1.0, 0.0, axis[0], 0.0, 1.0, axis[1], 0.0, 0.0, axis[2])


def test_a_sound_scan_passes_without_findings_and_without_a_copy(scan: Volume) -> None:
    checked = check_volume(scan)
    assert checked.findings == ()
    assert checked.array is scan.array
    assert checked.geometry == scan.geometry


def test_findings_that_a_volume_already_has_stay(scan: Volume) -> None:
    once = check_volume(regrid(scan, spacing=(2.0, 2.5, 6.0)))
    assert codes(once) == ["slices-thick"]


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.float32, np.float64])
def test_the_dtype_is_kept(scan: Volume, dtype: type[np.generic]) -> None:
    assert check_volume(replace(scan, array=np.abs(scan.array).astype(dtype))).array.dtype == dtype


@pytest.mark.parametrize("dtype", [np.complex64, bool])
def test_what_is_not_real_numbers_is_refused(scan: Volume, dtype: np.typing.DTypeLike) -> None:
    refused(replace(scan, array=scan.array.astype(dtype)), str(np.dtype(dtype)))


def test_a_constant_scan_is_refused(scan: Volume) -> None:
    refused(replace(scan, array=np.full_like(scan.array, -1024)), "-1024")


def test_a_few_nan_are_replaced_by_the_lowest_value_in_a_copy(scan: Volume) -> None:
    array = scan.array.astype(np.float32)
    array[0, 0, :5] = (np.nan, np.inf, -np.inf, np.nan, np.nan)
    checked = check_volume(replace(scan, array=array))
    assert codes(checked) == ["nan-replaced"]
    assert checked.findings[0].values["voxels"] == 5
    assert checked.findings[0].values["share"] == pytest.approx(5 / array.size)
    assert (checked.array[0, 0, :5] == scan.array.min()).all()
    assert np.isnan(array[0, 0, 0]), "the caller's array must stay as it was"


def test_a_scan_with_more_than_one_percent_nan_is_refused(scan: Volume) -> None:
    array = scan.array.astype(np.float32)
    array[0] = np.nan
    refused(replace(scan, array=array), "NaN", "2.5%")


@pytest.mark.parametrize("bad", [0.0, -0.7, float("nan"), float("inf")])
def test_every_spacing_must_be_positive(scan: Volume, bad: float) -> None:
    refused(regrid(scan, spacing=(bad, 0.7, 0.7)), "spacing", "every entry must be positive")


def test_a_singular_direction_is_refused(scan: Volume) -> None:
    refused(regrid(scan, direction=(1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0)), "direction")


def test_rounding_in_the_direction_is_straightened_silently(scan: Volume) -> None:
    checked = check_volume(regrid(scan, direction=(1.0, 1e-5, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)))
    assert checked.findings == ()
    matrix = checked.geometry.direction_matrix
    np.testing.assert_allclose(matrix.T @ matrix, np.eye(3), atol=1e-12)


def test_a_slight_shear_is_straightened_about_the_middle_and_reported(scan: Volume) -> None:
    crooked = regrid(scan, direction=sheared(1.0))
    checked = check_volume(crooked)
    assert codes(checked) == ["direction-sheared"]
    assert checked.findings[0].values["shear_deg"] == pytest.approx(1.0, abs=0.01)
    np.testing.assert_allclose(checked.geometry.center(), crooked.geometry.center(), atol=1e-9)
    matrix = checked.geometry.direction_matrix
    np.testing.assert_allclose(matrix.T @ matrix, np.eye(3), atol=1e-12)


def test_a_gross_shear_is_refused(scan: Volume) -> None:
    refused(regrid(scan, direction=sheared(10.0)), "10.0°", "resample")


def test_a_mirrored_grid_is_fine(scan: Volume) -> None:
    assert check_volume(regrid(scan, direction=(-1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0))).findings == ()


def test_a_stack_of_three_slices_is_refused(scan: Volume) -> None:
    few = Volume(scan.array[:3], replace(scan.geometry, shape=(3, 36, 44), spacing=(2.0, 2.5, 30.0)), "few")
    refused(few, "3 slices", "at least 5")


def test_six_thick_slices_that_cover_the_heart_are_taken(scan: Volume) -> None:
    cine = Volume(scan.array[:6], replace(scan.geometry, shape=(6, 36, 44), spacing=(2.0, 2.5, 17.7)), "cine")
    assert codes(check_volume(cine)) == ["slices-thick"]


def test_a_slab_thinner_than_a_heart_is_taken_with_a_finding(scan: Volume) -> None:
    checked = check_volume(regrid(scan, spacing=(2.0, 2.5, 1.0)))
    assert codes(checked) == ["field-of-view-short"]
    assert checked.findings[0].values == {"extent_mm": 40.0}


def test_a_slab_of_a_few_millimetres_is_refused(scan: Volume) -> None:
    refused(regrid(scan, spacing=(2.0, 2.5, 0.2)), "8 mm along z", "at least 10 mm")


@pytest.mark.parametrize(("factor", "unit"), [(1e-3, "metres"), (1e3, "micrometres")])
def test_a_wrong_unit_is_named(scan: Volume, factor: float, unit: str) -> None:
    refused(regrid(scan, spacing=tuple(factor * s for s in scan.geometry.spacing)), unit, "mm")


def test_a_grid_longer_than_a_patient_is_reported(scan: Volume) -> None:
    assert "field-of-view-implausible" in codes(check_volume(regrid(scan, spacing=(2.0, 2.5, 60.0))))


def test_a_label_map_taken_for_a_scan_is_reported(scan: Volume) -> None:
    labels = (np.abs(scan.array) % 8).astype(np.uint8) * 100  # MM-WHS counts like this
    (finding,) = check_volume(replace(scan, array=labels)).findings
    assert (finding.code, finding.severity, finding.values) == ("looks-like-labels", Severity.WARNING, {"values": 8})


@pytest.mark.parametrize("count", [2, 8, 13])
def test_a_label_map_of_a_heart_is_read_and_not_segmented(scan: Volume, count: int) -> None:
    flat = np.sort(np.abs(scan.array) % count, axis=None).reshape(scan.array.shape)
    labels = replace(scan, array=flat.astype(np.uint8))
    assert check_volume(labels).findings[0].severity is Severity.ERROR
    with pytest.raises(InputError, match=f"{count - 1}.*give the scan"):
        check_for_run(labels)


@pytest.mark.parametrize(("count", "scale", "lowest"), [(14, 1, 0), (14, 0.1, 0), (14, 1, -1), (7, 1, 0)])
def test_images_of_small_values_are_segmented(scan: Volume, count: int, scale: float, lowest: int) -> None:
    """Fourteen whole numbers, fractions, numbers below zero, and noise of seven grey levels are no labels."""
    array = ((np.abs(scan.array) % count) * scale + lowest).astype(np.float32)
    check_for_run(replace(scan, array=array))


@pytest.mark.parametrize(("free_mib", "found"), [(500, ["memory-tight"]), (800, [])])
def test_a_run_that_hardly_fits_into_memory_is_announced(
    scan: Volume, monkeypatch: pytest.MonkeyPatch, free_mib: int, found: list[str]
) -> None:
    monkeypatch.setattr(checks_module, "available_memory", lambda: free_mib * 2**20)
    checked = check_volume(scan)
    monkeypatch.setattr(checks_module, "available_memory", lambda: free_mib * 2**19)
    assert codes(checked) == found
    assert codes(check_volume(check_volume(scan))) == ["memory-tight"]


GIB = 2**30


def system(root: Path, groups: str, files: dict[str, int | str]) -> Path:
    """Make the files of Linux that tell about memory: 16 GiB are free in the machine."""
    told = {"proc/meminfo": f"MemTotal: 99 kB\nMemAvailable: {16 * GIB // 1024} kB", "proc/self/cgroup": groups}
    for name, text in {**told, **files}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(f"{text}\n")
    return root


def group(folder: str, limit: int | str, used: int, cache: int) -> dict[str, int | str]:
    new = not folder.startswith("sys/fs/cgroup/memory")
    names = ("memory.max", "memory.current") if new else ("memory.limit_in_bytes", "memory.usage_in_bytes")
    stat = f"anon 1\n{'' if new else 'total_'}inactive_file {cache}"
    return {f"{folder}/{names[0]}": limit, f"{folder}/{names[1]}": used, f"{folder}/memory.stat": stat}


def test_the_memory_of_a_container_or_job_is_what_its_limit_leaves(tmp_path: Path) -> None:
    free = system(tmp_path / "none", "0::/", {})
    assert available_memory(free) == 16 * GIB
    container = system(tmp_path / "new", "0::/", group("sys/fs/cgroup", 8 * GIB, 3 * GIB, GIB))
    assert available_memory(container) == 6 * GIB
    job = group("sys/fs/cgroup/slurm/job", "max", GIB, 0) | group("sys/fs/cgroup/slurm", 4 * GIB, GIB, 0)
    assert available_memory(system(tmp_path / "above", "0::/slurm/job", job)) == 3 * GIB
    old = group("sys/fs/cgroup/memory/job", 2 * GIB, 3 * GIB, 0)
    assert available_memory(system(tmp_path / "old", "5:cpu:/\n4:memory:/job\n0::/", old)) == 0
    assert available_memory(tmp_path / "another system") is None


@pytest.mark.parametrize(("data", "space", "left"), [(2, None, 1), (None, 8, 5), (2, 8, 1), (None, None, 16)])
def test_the_limits_of_the_process_count(tmp_path: Path, data: int | None, space: int | None, left: int) -> None:
    soft = ["unlimited" if limit is None else str(limit * GIB) for limit in (data, space)]
    lines = [
        "Limit Soft Limit",
        f"Max data size   {soft[0]} unlimited bytes",
        f"Max address space  {soft[1]} {soft[1]} bytes",
    ]
    status = f"Name:\tpython\nVmSize:\t{3 * GIB // 1024} kB\nVmData:\t{GIB // 1024} kB"
    files: dict[str, int | str] = {"proc/self/limits": "\n".join(lines), "proc/self/status": status}
    assert available_memory(system(tmp_path, "0::/", files)) == left * GIB


def test_checking_a_large_ct_takes_less_than_ten_passes_over_its_voxels() -> None:
    array = np.empty((600, 512, 512), np.int16)
    array[...] = np.arange(512, dtype=np.int16)
    volume = Volume(array, Geometry(array.shape, (0.7, 0.7, 0.5)), "large")

    def seconds(call: Callable[[], object]) -> float:
        start = time.process_time()
        call()
        return time.process_time() - start

    one_pass = min(seconds(lambda: np.count_nonzero(array > 100)) for _ in range(3))
    assert min(seconds(lambda: check_volume(volume)) for _ in range(3)) < 10 * one_pass  # sampling takes about one pass


def test_eight_bit_grey_values_are_told_about(scan: Volume) -> None:
    grey = (np.arange(scan.array.size) % 251).astype(np.uint8).reshape(scan.array.shape)
    assert codes(check_volume(replace(scan, array=grey))) == ["grey-values-8-bit"]
