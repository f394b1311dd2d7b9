"""Correct hearts have no errors; each kind of corruption has its finding."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from heartseg.anatomy import STRUCTURES, Structure, structure
from heartseg.findings import Finding, Severity
from heartseg.measure import measure_structures
from heartseg.postprocess import TOO_DARK, clean_labels
from heartseg.quality import check_result
from heartseg.quality.checks import CODES, OPEN_LV_WARNING, _not_enclosed
from heartseg.result import Measure, Removal
from heartseg.volume.geometry import Geometry
from heartseg.volume.types import Volume
from phantoms import Phantom, heart_phantom
from triples import triple


@pytest.fixture(scope="module")
def heart() -> Phantom:
    return heart_phantom((2.0, 2.0, 2.0))


def findings_of(
    labels: np.ndarray,
    geometry: Geometry,
    image: np.ndarray | None = None,
    modality: str = "",
    clean: bool = True,
    structures: tuple[Structure, ...] = STRUCTURES,
) -> tuple[Finding, ...]:
    cleaned, removals = clean_labels(labels, geometry) if clean else (labels, ())
    volume = Volume(labels if image is None else image, geometry, modality=modality)
    return check_result(volume, cleaned, measure_structures(volume, cleaned, structures), removals, structures)


def codes(findings: Iterable[Finding], *severities: Severity) -> set[str]:
    return {f.code for f in findings if not severities or f.severity in severities}


def swapped(labels: np.ndarray, a: str, b: str) -> np.ndarray:
    table = np.arange(8, dtype=np.uint8)
    table[[structure(a).label, structure(b).label]] = structure(b).label, structure(a).label
    return table[labels]


def without(labels: np.ndarray, *keys: str) -> np.ndarray:
    return np.where(np.isin(labels, [structure(k).label for k in keys]), 0, labels).astype(np.uint8)


def shifted(labels: np.ndarray, key: str, zyx_mm: tuple[float, float, float], spacing: float = 2.0) -> np.ndarray:
    """Move a structure; its former voxels become background."""
    label = structure(key).label
    moved = np.roll(labels == label, [round(v / spacing) for v in zyx_mm], (0, 1, 2))
    broken = without(labels, key)
    broken[moved] = label
    return broken


def test_a_correct_heart_has_no_findings(heart: Phantom) -> None:
    labels, geometry, image = heart
    assert findings_of(labels, geometry, image, "CT") == ()


@pytest.mark.parametrize("change", [lambda v: v + 1024, lambda v: (v + 1024) * 16, lambda v: np.clip(v, 0, 255)])
@pytest.mark.parametrize("found", [True, False])
def test_a_ct_that_is_not_in_hounsfield_units_is_reported_after_the_run(
    heart: Phantom, change: Callable[..., Any], found: bool
) -> None:
    labels, geometry, image = heart
    values = change(image.astype(np.int32))
    findings = findings_of(labels if found else np.zeros_like(labels), geometry, values, "CT")
    (finding,) = [f for f in findings if f.code == "not-hounsfield"]
    assert finding.values == {"lowest": values.min(), "highest": values.max()}
    volume = Volume(values, geometry, modality="CT")
    assert {m.unit for m in measure_structures(volume, labels, STRUCTURES) if "intensity" in m.quantity} == {""}
    assert "not-hounsfield" not in codes(findings_of(labels, geometry, image, "CT"))


def test_the_only_finding_of_an_empty_map_is_no_heart(heart: Phantom) -> None:
    labels, geometry, image = heart
    (finding,) = findings_of(np.zeros_like(labels), geometry, image, "CT")
    assert (finding.code, finding.severity) == ("no-heart", Severity.ERROR)


def test_a_fragment_is_reported_as_no_heart_with_its_volume(heart: Phantom) -> None:
    labels, geometry, image = heart
    (finding,) = findings_of(np.where(labels == 6, 6, 0).astype(np.uint8), geometry, image, "CT")
    assert finding.code == "no-heart"
    assert finding.values["volume_ml"] == pytest.approx((labels == 6).sum() * 0.008)
    assert finding.values["limit_ml"] == pytest.approx(0.3 * (40 + 60 + 25 + 25 + 50 / 1.05))


def test_valves_are_checked_with_a_model_of_two_structures() -> None:
    """LA and LV, 30 mm apart."""
    labels, known = np.zeros((70, 30, 30), np.uint8), tuple(structure(key) for key in ("LV", "LA"))
    labels[5:25, 5:25, 5:25], labels[40:60, 5:25, 5:25] = known[0].label, known[1].label
    findings = findings_of(labels, Geometry(labels.shape, (2.0, 2.0, 2.0)), structures=known, clean=False)
    (found,) = [f for f in findings if f.code == "wrong-neighbours"]
    assert (found.structure, found.values["other"]) == ("LA", "LV")
    assert found.values["gap_mm"] == pytest.approx(30, abs=2.0)


@pytest.mark.parametrize(("excess", "expected"), [(0.0, []), (0.01, [Severity.WARNING])])
def test_an_open_share_at_the_limit_is_accepted(excess: float, expected: list[Severity]) -> None:
    contacts: Any = SimpleNamespace(open_share=lambda *keys: OPEN_LV_WARNING + excess)
    assert [f.severity for f in _not_enclosed(contacts, {"LV", "MYO"})] == expected


@pytest.mark.parametrize("key", ["LA", "AO", "PA", "RA"])
def test_a_missing_structure_is_an_error(heart: Phantom, key: str) -> None:
    labels, geometry, image = heart
    errors = [f for f in findings_of(without(labels, key), geometry, image, "CT") if f.severity is Severity.ERROR]
    assert [(f.code, f.structure) for f in errors] == [("structure-missing", key)]


def test_structures_that_the_model_does_not_segment_are_not_missing(heart: Phantom) -> None:
    labels, geometry, image = heart
    known = tuple(s for s in STRUCTURES if s.key != "PA")
    assert findings_of(without(labels, "PA"), geometry, image, "CT", structures=known) == ()


def test_a_mirrored_scan_has_swapped_sides_only(heart: Phantom) -> None:
    labels, geometry, image = heart
    findings = findings_of(labels[:, :, ::-1], geometry, image[:, :, ::-1], "CT")
    assert codes(findings) == {"sides-swapped"}
    assert {(f.structure, f.values["other"]) for f in findings} == {("RA", "LA"), ("RV", "LV")}


def test_an_upside_down_scan_has_swapped_sides(heart: Phantom) -> None:
    labels, geometry, _ = heart
    assert codes(findings_of(labels[::-1], geometry)) == {"sides-swapped"}


@pytest.mark.parametrize(
    ("pair", "expected"),
    [
        (("LV", "RV"), {"sides-swapped", "not-enclosed", "wrong-neighbours"}),
        (("LA", "RA"), {"sides-swapped", "wrong-neighbours"}),
        (("AO", "PA"), {"wrong-neighbours"}),
        (("LV", "MYO"), {"not-enclosed", "wrong-neighbours"}),
        (("LV", "LA"), {"not-enclosed"}),
        (("RV", "RA"), {"wrong-neighbours"}),
    ],
)
def test_swapped_labels_are_errors(heart: Phantom, pair: tuple[str, str], expected: set[str]) -> None:
    labels, geometry, _ = heart
    assert codes(findings_of(swapped(labels, *pair), geometry), Severity.ERROR) == expected


@pytest.mark.parametrize(
    ("key", "zyx_mm", "expected"),
    [
        ("LV", (0, 16, 16), "not-enclosed"),
        ("MYO", (16, 16, -16), "not-enclosed"),
        ("LA", (20, 12, 0), "wrong-neighbours"),
        ("RA", (16, 16, -8), "wrong-neighbours"),
        ("AO", (20, 0, 0), "wrong-neighbours"),
        ("PA", (10, 0, 30), "wrong-neighbours"),
        ("RV", (0, 20, 20), "not-enclosed"),
    ],
)
def test_a_shifted_structure_is_an_error(heart: Phantom, key: str, zyx_mm: tuple[int, int, int], expected: str) -> None:
    labels, geometry, _ = heart
    found = codes(findings_of(shifted(labels, key, zyx_mm), geometry, clean=False), Severity.ERROR)
    assert expected in found


HALVES = {
    "upper": np.s_[40:],
    "lower": np.s_[:40],
    "anterior": np.s_[:, :40],
    "posterior": np.s_[:, 40:],
    "right": np.s_[:, :, :35],
    "left": np.s_[:, :, 40:],
}


@pytest.mark.parametrize("half", HALVES)
def test_half_a_heart_is_an_error(heart: Phantom, half: str) -> None:
    labels, geometry, _ = heart
    broken = labels.copy()
    broken[HALVES[half]] = 0
    assert codes(findings_of(broken, geometry), Severity.ERROR) & {"not-enclosed", "structure-missing"}


def test_a_hole_in_the_myocardium_is_a_warning(heart: Phantom) -> None:
    labels, geometry, _ = heart
    broken = labels.copy()
    world = geometry.index_to_world(np.stack(np.meshgrid(*map(np.arange, labels.shape), indexing="ij"), axis=-1))
    axis = np.array([0.62, -0.52, -0.59])
    broken[(broken == 5) & (world @ (axis / np.linalg.norm(axis)) > 32)] = 0
    (finding,) = findings_of(broken, geometry)
    assert (finding.code, finding.severity) == ("not-enclosed", Severity.WARNING)
    assert 0.10 < finding.values["open_share"] <= 0.18


def test_the_finding_of_a_truncated_heart_names_the_side(heart: Phantom) -> None:
    labels, geometry, _ = heart
    cut = np.s_[:, :, 6:]  # the right border of the scan, the low end of x in LPS
    findings = findings_of(labels[cut], geometry.cropped((slice(None), slice(None), slice(6, None))))
    found = [f for f in findings if f.code == "cut-by-border"]
    assert [(f.structure, f.values["sides"], f.severity) for f in found] == [("RA", ["right"], Severity.WARNING)]


def test_the_side_is_correct_on_a_flipped_grid(heart: Phantom) -> None:
    labels, geometry, _ = heart
    part = labels[:, :, 6:]
    grid = geometry.cropped((slice(None), slice(None), slice(6, None)))
    corner = grid.index_to_world((grid.shape[0] - 1, 0, grid.shape[2] - 1))
    flipped = Geometry(grid.shape, grid.spacing, triple(corner), (-1.0, 0, 0, 0, 1, 0, 0, 0, -1))
    there = findings_of(part, grid)
    back = findings_of(part[::-1, :, ::-1], flipped)
    assert [f.values["sides"] for f in back if f.code == "cut-by-border"] == [["right"]]
    assert there == back


def test_great_arteries_at_the_superior_border_are_informational(heart: Phantom) -> None:
    labels, geometry, _ = heart
    top = 65
    findings = findings_of(labels[:top], geometry.cropped((slice(0, top), slice(None), slice(None))))
    assert [(f.code, f.structure, f.severity) for f in findings] == [
        ("cut-by-border", "AO", Severity.INFO),
        ("cut-by-border", "PA", Severity.INFO),
    ]


def test_volumes_mass_and_diameter_of_a_small_heart_are_implausible() -> None:
    labels, geometry, _ = heart_phantom((2.0, 2.0, 2.0))
    small = Geometry(geometry.shape, (1.4, 1.4, 1.4))
    found = [f for f in findings_of(labels, small) if f.code == "volume-implausible"]
    # Volumes are scaled by 0.343 and diameters by 0.7: LV 33, RV 48, LA 23, RA 22 mL, myocardium 39 g, aorta 19.6 mm.
    # The pulmonary trunk, 16.8 mm, is still plausible.
    assert {f.structure for f in found} == {"LV", "RV", "LA", "RA", "MYO", "AO"}
    assert {f.values["quantity"] for f in found} == {"volume", "mass", "diameter"}


def test_removed_components_are_reported_with_their_volume(heart: Phantom) -> None:
    labels, geometry, _ = heart
    few, much = labels.copy(), labels.copy()
    few[1:6, 1:6, 1:6] = 1  # 1 mL
    much[1:12, 1:12, 1:12] = 1  # 10.6 mL
    for broken, severity, ml in ((few, Severity.INFO, 1.0), (much, Severity.WARNING, 11**3 * 0.008)):
        (finding,) = findings_of(broken, geometry)
        assert (finding.code, finding.severity, finding.structure) == ("several-components", severity, "LV")
        assert finding.values["removed_ml"] == pytest.approx(ml)


def test_filled_holes_are_reported(heart: Phantom) -> None:
    labels, geometry, _ = heart
    broken = labels.copy()
    z, y, x = (int(v) for v in np.round(geometry.world_to_index(np.zeros(3))))
    broken[z, y, x] = 0
    (finding,) = findings_of(broken, geometry)
    assert (finding.code, finding.severity) == ("holes-filled", Severity.INFO)


@pytest.mark.parametrize(
    ("blood_hu", "expected"), [(110.0, Severity.WARNING), (150.0, Severity.WARNING), (300.0, None)]
)
def test_ct_without_contrast_has_a_warning(heart: Phantom, blood_hu: float, expected: Severity | None) -> None:
    labels, geometry, image = heart
    flat = np.where(np.isin(labels, (1, 2, 3, 4, 6, 7)), image - 350.0 + blood_hu, image)
    found = [f for f in findings_of(labels, geometry, flat, "CT") if f.code == "contrast-doubtful"]
    assert [f.severity for f in found] == ([expected] if expected else [])
    if found:
        assert found[0].values["step_LV_hu"] == pytest.approx(blood_hu - 110.0, abs=1.0)
        assert "-0 " not in found[0].message


def test_contrast_missing_in_the_right_heart_only_is_informational(heart: Phantom) -> None:
    labels, geometry, image = heart
    early = np.where(np.isin(labels, (2, 4, 7)), image - 240.0, image)
    (finding,) = findings_of(labels, geometry, early, "CT")
    assert (finding.code, finding.severity) == ("contrast-doubtful", Severity.INFO)
    assert "RV" in finding.message
    assert "LV" not in finding.message


def test_dark_blood_in_mr_has_no_finding(heart: Phantom) -> None:
    labels, geometry, image = heart
    assert findings_of(labels, geometry, -image, "MR") == ()


def test_thick_slices_are_reported() -> None:
    labels, geometry, image = heart_phantom((1.5, 1.5, 5.0))
    (finding,) = findings_of(labels, geometry, image, "CT")
    assert (finding.code, finding.severity) == ("low-resolution", Severity.INFO)
    assert finding.values["spacing_mm"] == 5.0


def test_every_finding_is_one_sentence_with_a_known_code(heart: Phantom) -> None:
    labels, geometry, _ = heart
    broken = swapped(labels, "LV", "RV")
    for finding in findings_of(broken[10:], geometry.cropped((slice(10, None), slice(None), slice(None)))):
        assert finding.code in CODES
        assert finding.message.endswith(".")
        assert "\n" not in finding.message


def test_nineteen_real_hearts_and_the_labelled_ct_raise_no_error(shared_data: Path) -> None:
    from hearts import labelled_ct, model_heart

    for number in range(1, 20):
        labels, geometry = model_heart(shared_data, number)
        findings = findings_of(labels, geometry)
        assert codes(findings, Severity.ERROR) == set(), f"subject {number}"
        assert codes(findings, Severity.WARNING) <= {"volume-implausible"}, (
            "the PA of two subjects is a stump of 14-15 mm"
        )
    volume, labels = labelled_ct(shared_data)
    assert codes(findings_of(labels, volume.geometry, volume.array), Severity.ERROR, Severity.WARNING) == set()


def test_a_corrupted_real_heart_has_errors(shared_data: Path) -> None:
    from hearts import model_heart

    labels, geometry = model_heart(shared_data, 1)
    middle = [int(np.median(i)) for i in np.nonzero(labels)]
    for axis in range(3):
        for half in (slice(0, middle[axis]), slice(middle[axis], None)):
            broken = labels.copy()
            broken[(slice(None),) * axis + (half,)] = 0
            assert codes(findings_of(broken, geometry), Severity.ERROR), f"axis {axis}, {half}"
    for pair in (("LV", "RV"), ("LA", "RA"), ("AO", "PA"), ("LV", "MYO")):
        assert codes(findings_of(swapped(labels, *pair), geometry), Severity.ERROR), pair
    assert "sides-swapped" in codes(findings_of(labels[:, :, ::-1], geometry), Severity.ERROR)


def test_removals_from_dark_regions_have_their_own_finding(heart: Phantom) -> None:
    labels, geometry, _ = heart
    removal = Removal("MYO", 5000, 12.0, (0.0, 0.0, 0.0), TOO_DARK)
    volume = Volume(labels, geometry)
    found = check_result(volume, labels, measure_structures(volume, labels, STRUCTURES), (removal,), STRUCTURES)
    (finding,) = [f for f in found if f.values.get("removed_ml")]
    assert (finding.code, finding.severity) == ("dark-removed", Severity.INFO)
    assert finding.values["removed_ml"] == 12.0


@pytest.mark.parametrize(("value", "outside"), [(39.9996, True), (39.6, True), (12.0, True), (40.2, False)])
def test_a_text_does_not_contradict_its_finding(heart: Phantom, value: float, outside: bool) -> None:
    """The number as printed is on the side of the limit that the finding names."""
    labels, geometry, image = heart
    low = structure("LV").plausible[0]
    measures = (Measure("LV", "volume", value, "mL"),)
    found = check_result(Volume(image, geometry), labels, measures, (), STRUCTURES)
    texts = [f.message for f in found if f.code == "volume-implausible"]
    assert bool(texts) == outside
    assert all(float(re.search(r"is ([0-9.]+) mL", text)[1]) < low for text in texts)
