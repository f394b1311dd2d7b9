"""Keys, units and codes of measures."""

from __future__ import annotations

import numpy as np
import pytest

from heartseg.anatomy import STRUCTURES
from heartseg.measure import Circumstances, Patient, measure_labels
from heartseg.measure.study import scan_study
from heartseg.quantities import general_quantity, quantities, quantity
from heartseg.volume.types import Volume
from measured_hearts import LeftVentricle, study_of_frames
from phantoms import heart_phantom

PATIENT = Patient("F", 165.0, 60.0, 60.0)


def test_every_measure_has_a_registered_key_and_unit() -> None:
    labels, geometry, _ = heart_phantom((2.0, 2.0, 2.0))
    measured = measure_labels(Volume(labels, geometry, modality="CT"), labels, STRUCTURES)
    rows = list(scan_study((labels, geometry), measured, PATIENT, Circumstances("CT")).measures)
    still = len(rows)
    frames = [LeftVentricle().shrunk(f).labels((2.5, 2.5, 2.5)) for f in (0.8, 1.0, 0.7)]
    rows += study_of_frames(frames, PATIENT, Circumstances("MR", "cycle")).measures
    seen = {(m.structure, m.quantity) for m in rows}
    for m in rows:
        found = quantity(m.structure, m.quantity)
        assert found is not None, (m.structure, m.quantity)
        assert found.unit in (None, m.unit), m
    assert set(quantities()) - seen == set()
    of_one_map = {(m.structure, m.quantity) for m in rows[:still]}
    assert {key for key in seen if quantities()[key].of_cycle} == seen - of_one_map


def test_a_quantity_of_a_segment_is_known_by_its_site() -> None:
    general = {"wall_thickness_mean", "wall_thickness_min", "wall_thickness_max", "segment_mass", "thickening"}
    of_segments = {q.key for q in quantities().values() if general_quantity(q.key) != q.key}
    assert of_segments == {f"{key}_{number:02d}" for key in general for number in range(1, 18)}
    assert {general_quantity(key) for key in of_segments} == general


def test_no_two_measures_of_a_site_share_a_code() -> None:
    coded = [(q.site, q.code) for q in quantities().values() if q.code is not None]
    assert len(coded) == len(set(coded))


def test_the_codes_are_those_of_dicom() -> None:
    concepts = pytest.importorskip("pydicom.sr._concepts_dict").concepts
    for q in quantities().values():
        for code in (q.code, q.site):
            if code is None:
                continue
            meanings = {m for names in concepts[code.scheme].values() for c, (m, _) in names.items() if c == code.value}
            assert code.meaning.lower() in {m.lower() for m in meanings}, (code, meanings)


def test_a_measure_travels_through_json_with_its_codes() -> None:
    from heartseg.result import Measure

    measure = Measure("MYO", "wall_thickness_mean_07", 9.5, "mm", "mid anterior", 8.5, 10.5)
    content = measure.to_dict()
    assert content["code"] == {"value": "122445", "scheme": "DCM", "meaning": "Wall Thickness"}
    assert content["site"]["value"] == "264848000"
    assert Measure.from_dict(content) == measure
    assert Measure.from_dict({"structure": "LV", "quantity": "volume", "value": np.pi, "unit": "mL"}).low is None
    assert Measure("LV", "own", 1.0, "").to_dict()["code"] is None
