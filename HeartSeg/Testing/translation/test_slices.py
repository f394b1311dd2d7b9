"""Volumes as slices: scaling and its inverse, resampling, samples of a step, refused scans."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from heartseg.errors import InputError
from heartseg.progress import Reporter
from heartseg.translation.slices import Scaling, fit, prepare, resample, stack_of, to_unit
from heartseg.volume import Volume, read_volume, write_volume
from triples import triple

from .conftest import TINY, oblique, scan


def test_hu_come_back_from_the_unit_scale() -> None:
    scaling = Scaling("window", -500.0, 1000.0, (-500.0, 1000.0))
    hu = np.linspace(-500, 1000, 301, dtype=np.float32)
    unit = to_unit(hu, scaling.limits(hu))
    assert unit[[0, -1]].tolist() == [-1, 1]
    assert np.abs(scaling.back(unit) - hu).max() < 1500 * 2**-22  # float32
    assert scaling.back(to_unit(np.array([-1000.0, 3000.0]), (-500.0, 1000.0))).tolist() == [-500, 1000]


def test_mr_is_scaled_by_its_own_percentiles_whatever_its_unit() -> None:
    volume, _ = scan("MR", 1)
    scaling = Scaling("percentiles", 0.5, 99.5, (0.0, 1000.0))
    once, limits = stack_of(volume, scaling, 5.0)
    other, _ = stack_of(replace(volume, array=volume.array * 37 + 5), scaling, 5.0)
    assert np.abs(once - other).max() < 1e-4
    assert limits == pytest.approx(np.percentile(volume.array, (0.5, 99.5)), rel=1e-6)
    assert 0.005 <= (once == -1).mean() < 0.01  # 0.5 % are clipped below; some equal the limit


def test_slices_are_axial_however_the_volume_is_stored() -> None:
    volume, _ = scan("CT", 3)
    scaling = Scaling("window", -500.0, 1000.0, (-500.0, 1000.0))
    plain, _ = stack_of(volume, scaling, 5.0)
    g = volume.geometry
    turned_array = np.ascontiguousarray(volume.array.transpose(2, 0, 1)[:, ::-1])  # x, -z, y
    z, y, x = g.shape
    direction = g.direction_matrix[:, [1, 2, 0]] * [1, -1, 1]
    origin = g.index_to_world(np.array([z - 1, 0, 0]))
    geometry = replace(
        g,
        shape=(x, z, y),
        spacing=(g.spacing[1], g.spacing[2], g.spacing[0]),
        origin=triple(origin),
        direction=tuple(map(float, direction.ravel())),
    )
    again, _ = stack_of(Volume(turned_array, geometry, "turned"), scaling, 5.0)
    assert np.array_equal(again, plain)


def test_resampling_keeps_the_field_of_view() -> None:
    y, x = np.mgrid[0:60, 0:40].astype(np.float32)
    ramp = (0.01 * y + 0.02 * x)[None]
    small = resample(ramp, (30, 20))  # the mean of a ramp over 2 x 2 pixels is its value at their centre
    means = ramp[0].reshape(30, 2, 20, 2).mean((1, 3))
    assert np.abs(small[0] - means)[2:-2, 2:-2].max() < 1e-5
    back = resample(small, (60, 40))
    assert np.abs(back - ramp)[0, 4:-4, 4:-4].max() < 1e-5


def test_a_smaller_slice_lies_in_the_middle_and_a_larger_one_is_cut() -> None:
    rng = np.random.default_rng(0)
    small = fit(np.full((10, 40), 0.5, np.float32), 32, rng)
    assert small.shape == (32, 32)
    assert (small[11:21] == 0.5).all()
    assert (small[:11] == -1).all()
    big = np.arange(40 * 50, dtype=np.float32).reshape(40, 50)
    cut = fit(big, 32, rng)
    row, column = divmod(int(cut[0, 0]), 50)
    assert np.array_equal(cut, big[row : row + 32, column : column + 32])


def test_samples_depend_on_seed_and_step_alone(scans: dict[str, list[Path]], tmp_path: Path) -> None:
    domain = prepare(scans["MR"], "MR", TINY, tmp_path, Reporter())
    batch = domain.batch(3, 17, 2, 32)
    assert batch.shape == (2, 1, 32, 32)
    assert np.array_equal(batch, prepare(scans["MR"], "MR", TINY, tmp_path, Reporter()).batch(3, 17, 2, 32))
    assert not np.array_equal(batch, domain.batch(3, 18, 2, 32))
    assert not np.array_equal(batch, domain.batch(4, 17, 2, 32))


def test_slices_are_read_once_and_again_when_the_scan_changes(tmp_path: Path) -> None:
    files = [write_volume(scan("CT", s)[0], tmp_path / f"{s}.nii.gz") for s in (1, 2)]
    kept = tmp_path / "kept"
    first = prepare(files, "CT", TINY, kept, Reporter())
    times = {f: f.stat().st_mtime_ns for f in first.files}
    assert {f: f.stat().st_mtime_ns for f in prepare(files, "CT", TINY, kept, Reporter()).files} == times
    write_volume(scan("CT", 7)[0], files[0])
    after = prepare(files, "CT", TINY, kept, Reporter())
    assert after.files[0] not in times
    assert after.files[1] in times


def test_typical_mr_values_are_the_mean_of_the_scans(scans: dict[str, list[Path]], tmp_path: Path) -> None:
    domain = prepare(scans["MR"], "MR", TINY, tmp_path, Reporter())
    each = [np.percentile(read_volume(f).array, (0.5, 99.5)) for f in scans["MR"]]
    assert domain.scaling.typical == pytest.approx(np.mean(each, 0), rel=1e-5)


def test_a_scan_of_the_wrong_modality_is_refused_with_the_order(scans: dict[str, list[Path]], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"CT in HU, not MR: give MR scans first"):
        prepare(scans["CT"], "MR", TINY, tmp_path, Reporter())
    with pytest.raises(InputError, match=r"is not CT in HU"):
        prepare(scans["MR"], "CT", TINY, tmp_path, Reporter())


def test_one_scan_is_too_few(scans: dict[str, list[Path]], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"number of CT scans is 1 .* at least 2"):
        prepare(scans["CT"][:1], "CT", TINY, tmp_path, Reporter())


def test_a_scan_full_of_nan_is_refused_and_leaves_nothing(scans: dict[str, list[Path]], tmp_path: Path) -> None:
    volume, _ = scan("MR", 1)
    array = volume.array.copy()
    array[:6] = np.nan
    bad = write_volume(replace(volume, array=array), tmp_path / "nan.nii.gz")
    kept = tmp_path / "kept"
    with pytest.raises(InputError, match="NaN or infinite"):
        prepare([bad, *scans["MR"]], "MR", TINY, kept, Reporter())
    assert not kept.exists()


def test_a_window_that_shows_nothing_is_refused(scans: dict[str, list[Path]], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no slice with content inside its grey scale"):
        prepare(scans["CT"], "CT", replace(TINY, ct_window=(2000.0, 3000.0)), tmp_path, Reporter())


def test_an_oblique_grid_is_taken_along_its_nearest_axes() -> None:
    array = np.random.default_rng(0).normal(0, 100, oblique().shape).astype(np.float32)
    scaling = Scaling("window", -500.0, 1000.0, (-500.0, 1000.0))
    slices, _ = stack_of(Volume(array, oblique(), "oblique"), scaling, 5.0)
    assert slices.shape[0] in oblique().shape
    assert np.abs(slices).max() <= 1
