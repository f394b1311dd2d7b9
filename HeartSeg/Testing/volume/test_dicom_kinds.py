"""Kinds of DICOM input that a scanner or archive may produce: correct voxels and positions, or a refusal.

Each kind of fault (R1 to R9 of docs/reference/reading-faults.md) has several variants.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.uid import (
    UID,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
    generate_uid,
)

from heartseg.errors import InputError
from heartseg.pipeline import input_facts
from heartseg.provenance import Provenance
from heartseg.volume import Geometry, Volume, list_series, read_series, read_volume
from heartseg.volume.dicom.phases import Phase, cover_cycle
from heartseg.volume.patient import Patient
from heartseg.volume.reading import list_dicom
from volume import dicom_files as make
from volume.dicom_files import GRID, OBLIQUE, Image, phantom

SYNTAXES = {
    "explicit": ExplicitVRLittleEndian,
    "implicit": ImplicitVRLittleEndian,
    "big-endian": ExplicitVRBigEndian,
    "rle": RLELossless,
    "jpeg-ls": JPEGLSLossless,
    "jpeg-2000": JPEG2000Lossless,
    "jpeg-lossless": JPEGLosslessSV1,
}


def same(volume: Volume, expected: Volume, tolerance_mm: float = 1e-3) -> None:
    """Check for the same voxels on the same grid."""
    assert volume.geometry.same_grid(expected.geometry, tolerance_mm)
    np.testing.assert_array_equal(volume.array, expected.array)


def codes(volume: Volume) -> set[str]:
    return {finding.code for finding in volume.findings}


def refusal(path: Path, **options: Any) -> str:
    with pytest.raises(InputError) as caught:
        read_volume(path, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def rounded(images: list[Image], digits: int) -> list[Image]:
    return [replace(i, position=tuple(round(float(v), digits) for v in i.position)) for i in images]


def shuffled(images: list, seed: int = 1) -> list:
    return [images[k] for k in np.random.default_rng(seed).permutation(len(images))]


# --- encodings: the same voxels whatever the object and transfer syntax -----------------------------------------------


@pytest.mark.parametrize("syntax", SYNTAXES.values(), ids=SYNTAXES)
@pytest.mark.parametrize("kind", ["classic", "enhanced", "legacy"])
def test_every_object_in_every_transfer_syntax_gives_the_same_voxels(tmp_path: Path, kind: str, syntax: UID) -> None:
    expected = phantom(OBLIQUE)
    images = shuffled(make.planes(expected))
    if kind == "classic":
        path = make.write_classic(tmp_path / "scan", images, syntax=syntax)
    else:
        data = make.enhanced(images, legacy=kind == "legacy")
        path = make.save(data, tmp_path / "scan" / "one.dcm", syntax)
    volume = read_volume(path)
    same(volume, expected)
    assert volume.findings == ()


def test_a_multi_frame_file_reads_the_same_alone_and_from_its_folder(tmp_path: Path) -> None:
    path = make.save(make.enhanced(make.planes(phantom())), tmp_path / "scan" / "one.dcm")
    alone, folder = read_volume(path), read_volume(path.parent)
    same(alone, phantom())
    same(folder, phantom())
    assert alone.source.sha256 == folder.source.sha256


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("bits", [12, 16])
def test_unused_bits_and_signed_values(tmp_path: Path, signed: bool, bits: int) -> None:
    """Bits above BitsStored may have any value (PS3.5, 8.1.1)."""
    expected = phantom()

    def store(k: int, data: Dataset) -> None:
        values = expected.array[k].astype(np.int16) + (0 if signed else 1024)
        mask = (1 << bits) - 1
        stored = values.astype(np.uint16) & mask
        if bits < 16:
            stored |= np.uint16(0x7000 if k % 2 else 0)
        data.PixelRepresentation, data.BitsStored, data.HighBit = int(signed), bits, bits - 1
        data.RescaleIntercept = 0 if signed else -1024
        data.PixelData = stored.tobytes()

    same(read_volume(make.write_classic(tmp_path / "scan", make.planes(expected), change=store)), expected)


# --- R1: multi-frame geometry -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("digits", [2, 1])
@pytest.mark.parametrize("kind", ["classic", "enhanced", "legacy"])
def test_rounded_positions_keep_the_grid(tmp_path: Path, kind: str, digits: int) -> None:
    expected = phantom(OBLIQUE)
    images = shuffled(rounded(make.planes(expected), digits))
    if kind == "classic":
        path = make.write_classic(tmp_path / "scan", images)
    else:
        path = make.save(make.enhanced(images, legacy=kind == "legacy"), tmp_path / "scan.dcm")
    volume = read_volume(path)
    same(volume, expected, tolerance_mm=2 * 10**-digits)
    assert volume.findings == ()


@pytest.mark.parametrize("absent", [1, 6, 14])
@pytest.mark.parametrize("kind", ["classic", "enhanced", "legacy"])
def test_one_absent_image_is_interpolated_in_place_and_reported(tmp_path: Path, kind: str, absent: int) -> None:
    expected = phantom(OBLIQUE)
    images = [image for k, image in enumerate(make.planes(expected)) if k != absent]
    if kind == "classic":
        path = make.write_classic(tmp_path / "scan", images)
    else:
        path = make.save(make.enhanced(shuffled(images), legacy=kind == "legacy"), tmp_path / "scan.dcm")
    volume = read_volume(path)
    assert volume.geometry.same_grid(expected.geometry, 1e-3)
    others = [k for k in range(len(expected.array)) if k != absent]
    np.testing.assert_array_equal(volume.array[others], expected.array[others])
    mean = (expected.array[absent - 1].astype(float) + expected.array[absent + 1]) / 2
    assert np.abs(volume.array[absent] - mean).max() <= 0.5
    assert "slices-uneven" in codes(volume)
    assert volume.source.reading is not None and volume.source.reading.resampled


@pytest.mark.parametrize("where", ["shared", "frame"])
def test_pixel_measures_and_orientation_may_be_shared_or_per_frame(tmp_path: Path, where: str) -> None:
    data = make.enhanced(make.planes(phantom(OBLIQUE)))
    if where == "shared":
        for name in ("PixelMeasuresSequence", "PlaneOrientationSequence", "PixelValueTransformationSequence"):
            setattr(data.SharedFunctionalGroupsSequence[0], name, data.PerFrameFunctionalGroupsSequence[0][name].value)
            for group in data.PerFrameFunctionalGroupsSequence:
                del group[name]
    same(read_volume(make.save(data, tmp_path / "scan.dcm")), phantom(OBLIQUE))


@pytest.mark.parametrize("frames", [15, 17, 1, 10**9])
def test_a_number_of_frames_other_than_that_of_functional_groups_is_refused(tmp_path: Path, frames: int) -> None:
    data = make.enhanced(make.planes(phantom()))
    data.NumberOfFrames = frames
    refusal(make.save(data, tmp_path / "scan.dcm"))


def test_a_slice_displaced_in_its_plane_is_put_back(tmp_path: Path) -> None:
    expected = phantom()
    images = make.planes(expected)
    x, y, z = images[7].position
    images[7].position = (x - 2 * GRID.spacing[0], y, z)
    images[7].stored = np.roll(images[7].stored, 2, axis=1)
    volume = read_volume(make.write_classic(tmp_path / "scan", images))
    assert "slices-uneven" in codes(volume)
    start = np.rint(volume.geometry.world_to_index(np.array(GRID.origin))).astype(int)
    inside = volume.array[:, start[1] : start[1] + GRID.shape[1], start[2] : start[2] + GRID.shape[2]]
    np.testing.assert_array_equal(inside[:, :, :-2], expected.array[:, :, :-2])


def test_a_multi_frame_file_without_positions_is_refused(tmp_path: Path) -> None:
    data = make.enhanced(make.planes(phantom()))
    for group in data.PerFrameFunctionalGroupsSequence:
        del group.PlanePositionSequence
    assert "no position" in refusal(make.save(data, tmp_path / "scan.dcm"))
    data = make.enhanced(make.planes(phantom()))
    del data.PerFrameFunctionalGroupsSequence
    assert "no position" in refusal(make.save(data, tmp_path / "scan.dcm"))


# --- R2, R5: phases ---------------------------------------------------------------------------------------------------

PHASE_GRID = replace(GRID, shape=(8, 20, 22), spacing=(4.0, 4.5, 8.0))
PHASES = [phantom(PHASE_GRID, r, k) for k, r in enumerate((20.0, 24.0, 30.0))]


def in_time(order: str, per_phase: Callable[[int], dict[str, Any]]) -> list[Image]:
    """Return images of three phases, ordered by phase or by position, or shuffled."""
    stacks = [make.planes(volume, **per_phase(k)) for k, volume in enumerate(PHASES)]
    if order == "time-major":
        return [image for stack in stacks for image in stack]
    interleaved = [image for place in zip(*stacks, strict=True) for image in place]
    return interleaved if order == "interleaved" else shuffled(interleaved)


def reads_three_phases(path: Path, text: str = "") -> None:
    (series,) = list_dicom(path)
    assert series.frames == 3
    with pytest.raises(InputError, match="3 frames"):
        read_series(series)
    for k, expected in enumerate(PHASES):
        volume = read_volume(path, frame=k) if k == 1 else read_series(series, frame=k)
        same(volume, expected)
        assert make.ball_ml(volume) == make.ball_ml(expected)
        assert (volume.source.frame, volume.source.frames) == (k, 3)
        assert not volume.source.cardiac_cycle  # too few phases
        assert volume.source.phase
        assert volume.source.reading is not None and volume.source.reading.phase_known_from
        if text:
            assert text.format(*[30 + 20 * k]) in volume.source.phase


ORDERS = ["time-major", "interleaved", "shuffled"]
ENHANCED_TIMES = {
    "temporal position": lambda k: make.temporal(k + 1),
    "cardiac phase": lambda k: make.cardiac(percent=30.0 + 20 * k),
    "trigger delay": lambda k: make.cardiac(delay=100.0 + 250.5 * k),
    "acquisition time": lambda k: {
        "FrameContentSequence": make.nested(FrameAcquisitionDateTime=f"2024020110{30 + k}02.5")
    },
    "time offset": lambda k: {"TemporalPositionSequence": make.nested(TemporalPositionTimeOffset=0.5 * k)},
}


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("told_by", ENHANCED_TIMES)
def test_phases_of_an_enhanced_file(tmp_path: Path, told_by: str, order: str) -> None:
    images = in_time(order, lambda k: {"InstanceNumber": k})
    data = make.enhanced(images, frame=lambda _, image: ENHANCED_TIMES[told_by](image.tags["InstanceNumber"]))
    reads_three_phases(
        make.save(data, tmp_path / "scan.dcm"), "{} % of the heart beat" if told_by == "cardiac phase" else ""
    )


@pytest.mark.parametrize(
    ("percents", "covered"),
    [
        (range(0, 100, 10), True),
        (range(5, 100, 20), True),
        (range(0, 101, 10), True),  # 100 % is 0 % again
        (range(30, 81, 10), False),  # prospective CT of a part of the cycle
        (range(0, 65, 16), False),  # nothing after 64 %
        ((0, 25, 50, 75), False),
        (range(0, 101, 25), False),  # four different phases
        ((0, 10, 10, 20, 30, 40, 50, 60, 70, 80, 90), False),  # one of them twice
    ],
)
def test_phases_in_percent_cover_a_cycle_or_a_part_of_it(percents: Sequence[int], covered: bool) -> None:
    assert cover_cycle([Phase(percent=float(percent)) for percent in percents]) == covered


@pytest.mark.parametrize(
    ("delays", "beat", "covered"),
    [
        (range(0, 800, 40), 800.0, True),
        (range(20, 820, 40), 790.0, True),  # the beat is a mean: the last phase may lie behind it
        (range(0, 800, 40), None, False),  # of a beat of 800 ms, or the first part of a longer one
        (range(0, 400, 40), 1000.0, False),  # systole only
        (range(400, 800, 40), 800.0, False),  # diastole only
        ((0, 40, 80, 120, 700), 800.0, False),  # a gap
        ((20, 20, 20, 20, 20), 800.0, False),  # the same delay in each beat: perfusion
        (range(0, 20000, 800), 800.0, False),  # one image a beat
        (None, 800.0, False),
    ],
)
def test_trigger_delays_cover_a_cycle_if_they_fill_the_beat(
    delays: Sequence[int] | None, beat: float | None, covered: bool
) -> None:
    times = [None] * 20 if delays is None else [float(delay) for delay in delays]
    assert cover_cycle([Phase(delay_ms=time, beat_ms=beat) for time in times]) == covered


@pytest.mark.parametrize(
    ("tags", "covered"),
    [({}, False), ({"NominalInterval": 1000}, True), ({"HeartRate": 60}, True), ({"NominalInterval": 2000}, False)],
)
def test_the_length_of_the_beat_is_read_from_the_interval_or_the_heart_rate(
    tmp_path: Path, tags: dict[str, int], covered: bool
) -> None:
    images = [image for k in range(5) for image in make.planes(PHASES[k % 3], TriggerTime=200.0 * k, **tags)]
    make.write_classic(tmp_path, images)
    assert read_volume(tmp_path, frame=1).source.cardiac_cycle == covered


@pytest.mark.parametrize(("told_by", "covered"), [("cardiac phase", True), ("temporal position", False)])
def test_the_source_of_a_frame_says_how_many_there_are_and_whether_they_are_a_cycle(
    tmp_path: Path, told_by: str, covered: bool
) -> None:
    times = {"cardiac phase": lambda k: make.cardiac(percent=20.0 * k), "temporal position": ENHANCED_TIMES[told_by]}
    images = [image for k in range(5) for image in make.planes(PHASES[k % 3], InstanceNumber=k)]
    data = make.enhanced(images, frame=lambda _, image: times[told_by](image.tags["InstanceNumber"]))
    source = read_volume(make.save(data, tmp_path / "scan.dcm"), frame=1).source
    assert (source.frames, source.cardiac_cycle) == (5, covered)


@pytest.mark.parametrize(
    ("tags", "known"),
    [
        ({"PatientSex": "F", "PatientSize": 1.65, "PatientWeight": 60}, Patient("F", 165.0, 60.0)),
        ({"PatientSex": "O", "PatientSize": 165, "PatientWeight": 0}, Patient()),  # cm instead of m
        ({"PatientSize": "", "PatientWeight": 60000}, Patient()),
        ({}, Patient()),
    ],
)
def test_sex_and_body_size_are_those_of_the_header_or_unknown(
    tmp_path: Path, tags: dict[str, Any], known: Patient
) -> None:
    images = make.planes(phantom(), **tags)
    for k, image in enumerate(images):
        image.tags["HeartRate"] = 60 + k % 3
    volume = read_volume(make.write_classic(tmp_path / "scan", images))
    found = volume.source.patient
    assert found.with_heart_rate(None) == known
    assert (found.heart_rate_bpm, found.heart_rate_spread_bpm, found.heart_rate_source) == (61, 1, "DICOM heart rate")
    named = input_facts(volume.anonymized())
    assert (named.patient, named.name, named.path) == (volume.source.patient, "", "")
    again = Provenance.from_dict(json.loads(json.dumps(Provenance(input=named).to_dict())))
    assert again.input == named
    images[0].tags.update(PatientSex="M", PatientSize=1.8, HeartRate=90)
    odd = read_volume(make.write_classic(tmp_path / "odd", images)).source.patient
    assert (odd.sex, odd.height_cm, odd.heart_rate_bpm) == (None, None, None)


RATES: dict[str, tuple[Callable[[int, int], dict[str, Any]], float | None]] = {
    "R-R interval": (lambda k, z: {"NominalInterval": 800}, 75.0),
    "specified R-R interval": (lambda k, z: {"CardiacRRIntervalSpecified": 1000.0}, 60.0),
    "R-R interval of each slice": (
        lambda k, z: {"NominalInterval": (776, 814, 831, 860)[z % 4]},
        30_000 / 814 + 30_000 / 831,
    ),
    "heart rate and its interval": (lambda k, z: {"HeartRate": 75, "NominalInterval": 810}, 75.0),
    "a contradiction": (lambda k, z: {"HeartRate": 75, "NominalInterval": 400}, None),
    "an arrhythmia": (lambda k, z: {"NominalInterval": (700, 1100)[z % 2]}, None),
    "some images only": (lambda k, z: {"NominalInterval": 800} if z else {}, None),
    "an interval in seconds": (lambda k, z: {"NominalInterval": 1}, None),
    "percentage and delay": (
        lambda k, z: {"NominalPercentageOfCardiacPhase": 20.0 * k, "TriggerTime": 180.0 * k},
        200 / 3,
    ),
    "delays at the start of each window": (
        lambda k, z: {"NominalPercentageOfCardiacPhase": 20.0 * k + 10, "TriggerTime": 180.0 * k},
        None,
    ),
    "delays only": (lambda k, z: {"TriggerTime": 180.0 * k}, None),
}


@pytest.mark.parametrize("told_by", RATES)
def test_the_heart_rate_is_what_the_images_state_and_never_a_guess(tmp_path: Path, told_by: str) -> None:
    tags, expected = RATES[told_by]
    images = []
    for k in range(5):
        images += make.planes(PHASES[k % 3])
        for z, image in enumerate(images[-len(PHASE_SLICES) :]):
            image.tags = tags(k, z) | {"TemporalPositionIdentifier": k + 1}
    patient = read_volume(make.write_classic(tmp_path, images, modality="MR"), frame=1).source.patient
    assert patient.heart_rate_bpm == (None if expected is None else pytest.approx(expected))
    assert bool(patient.heart_rate_source) == (expected is not None)


@pytest.mark.parametrize(("interval", "rate"), [(750.0, 80.0), (None, None)])
def test_the_heart_rate_of_an_enhanced_file_is_that_of_the_interval_of_its_frames(
    tmp_path: Path, interval: float | None, rate: float | None
) -> None:
    def frame(_: int, image: Image) -> dict[str, Dataset]:
        group = make.cardiac(delay=150.0 * image.tags["InstanceNumber"])
        if interval is not None:
            group["CardiacSynchronizationSequence"].RRIntervalTimeNominal = interval
        return group

    images = [image for k in range(5) for image in make.planes(PHASES[k % 3], InstanceNumber=k)]
    source = read_volume(
        make.save(make.enhanced(images, modality="MR", frame=frame), tmp_path / "a.dcm"), frame=1
    ).source
    assert (source.patient.heart_rate_bpm, source.cardiac_cycle) == (rate, rate is not None)
    assert (
        Provenance.from_dict(
            json.loads(json.dumps(Provenance(input=input_facts(read_volume(tmp_path / "a.dcm", frame=1))).to_dict()))
        ).input.patient
        == source.patient
    )


def test_phases_of_a_legacy_converted_file(tmp_path: Path) -> None:
    images = in_time("shuffled", lambda k: {"TriggerTime": 100.0 * k})
    reads_three_phases(make.save(make.enhanced(images, legacy=True), tmp_path / "scan.dcm"))


def test_phases_in_an_enhanced_file_each(tmp_path: Path) -> None:
    series = generate_uid()
    for k, volume in enumerate(PHASES):
        data = make.enhanced(make.planes(volume), series=series, frame=make.at_phase(30.0 + 20 * k))
        make.save(data, tmp_path / "scan" / f"{(2 * k) % 3}.dcm")
    reads_three_phases(tmp_path / "scan", "{} % of the heart beat")


@pytest.mark.parametrize("order", ORDERS)
def test_phases_that_only_dimension_indices_tell_apart(tmp_path: Path, order: str) -> None:
    """PS3.3 C.7.6.17: the standard's own attributes for the position of a frame."""
    images = in_time(order, lambda k: {"InstanceNumber": k})
    places = sorted({image.position[2] for image in images})

    def group(_: int, image: Image) -> dict[str, Any]:
        index = [1, places.index(image.position[2]) + 1, image.tags["InstanceNumber"] + 1]
        return {"FrameContentSequence": make.nested(DimensionIndexValues=index)}

    data = make.enhanced(images, frame=group)
    pointers = ("StackID", "InStackPositionNumber", "NominalPercentageOfCardiacPhase")
    data.DimensionIndexSequence = [make.nested(DimensionIndexPointer=tag_for_keyword(name)) for name in pointers]
    reads_three_phases(make.save(data, tmp_path / "scan.dcm"))


def test_phases_in_a_file_each_told_by_instance_number_alone(tmp_path: Path) -> None:
    series = generate_uid()
    for k, volume in enumerate(PHASES):
        data = make.enhanced(make.planes(volume), series=series)
        data.InstanceNumber = k + 1
        make.save(data, tmp_path / "scan" / f"{(2 * k) % 3}.dcm")
    reads_three_phases(tmp_path / "scan")


def clock(seconds: float) -> str:
    return f"10{int(seconds) // 60:02}{int(seconds) % 60:02}.{int(seconds * 1000) % 1000:03}"


MIDNIGHT = ("20240229235959.9", "20240301000000.2", "20240301000001")
CLASSIC_TIMES: dict[str, Callable[[int, int], dict[str, Any]]] = {
    "temporal position": lambda k, z: {"TemporalPositionIdentifier": k + 1},
    "cardiac phase": lambda k, z: {"NominalPercentageOfCardiacPhase": 30.0 + 20 * k},
    "trigger time": lambda k, z: {"TriggerTime": 100.0 * k},
    "trigger time of each slice": lambda k, z: {"TriggerTime": 100.0 * k * (1 + 0.01 * z)},
    "acquisition time of each phase": lambda k, z: {"AcquisitionTime": clock(60 + 5 * k)},
    "acquisition time, phase after phase": lambda k, z: {"AcquisitionTime": clock(60 + 30 * k + 0.5 * z)},
    "acquisition time, slice after slice": lambda k, z: {"AcquisitionTime": clock(60 + 10 * z + 0.5 * k)},
    "acquisition time over midnight": lambda k, z: {"AcquisitionDateTime": MIDNIGHT[k]},
    "content time": lambda k, z: {"ContentDate": "20240201", "ContentTime": clock(60 + 30 * k + 0.5 * z)},
}


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("told_by", CLASSIC_TIMES)
def test_phases_of_a_classic_series_whose_instance_numbers_repeat(tmp_path: Path, told_by: str, order: str) -> None:
    images = []
    for k, volume in enumerate(PHASES):
        for z, image in enumerate(make.planes(volume)):
            image.tags |= {"InstanceNumber": z + 1, **CLASSIC_TIMES[told_by](k, z)}
            images.append(image)
    if order == "interleaved":
        images = [images[k * len(PHASE_SLICES) + z] for z in PHASE_SLICES for k in range(3)]
    images = shuffled(images) if order == "shuffled" else images
    reads_three_phases(
        make.write_classic(tmp_path / "scan", images), "{} % of the heart beat" if told_by == "cardiac phase" else ""
    )


PHASE_SLICES = range(PHASE_GRID.shape[0])


def test_phases_that_instance_numbers_alone_tell_apart(tmp_path: Path) -> None:
    images = in_time("time-major", lambda k: {})
    for number, image in enumerate(images):
        image.tags["InstanceNumber"] = number + 1
    reads_three_phases(make.write_classic(tmp_path / "scan", shuffled(images)))


@pytest.mark.parametrize("kind", ["classic", "enhanced", "unordered times"])
def test_phases_that_nothing_tells_apart_are_refused(tmp_path: Path, kind: str) -> None:
    images = in_time("shuffled", lambda k: {"InstanceNumber": 1})
    if kind == "unordered times":
        rng = np.random.default_rng(0)
        for image in images:
            image.tags["AcquisitionTime"] = clock(float(rng.integers(0, 500)) + 60)
    path = (
        make.save(make.enhanced(images), tmp_path / "scan.dcm")
        if kind == "enhanced"
        else make.write_classic(tmp_path / "scan", images)
    )
    text = refusal(path)
    assert "3 images lie at each of its 8 slice positions" in text


@pytest.mark.parametrize("kind", ["classic", "enhanced"])
def test_a_phase_that_lacks_a_slice_is_read_by_itself(tmp_path: Path, kind: str) -> None:
    images = in_time("interleaved", lambda k: {"TemporalPositionIdentifier": k + 1})
    images = [i for i in images if not (i.tags["TemporalPositionIdentifier"] == 2 and i.position[2] == 140.0)]
    if kind == "classic":
        path = make.write_classic(tmp_path / "scan", images)
    else:
        data = make.enhanced(images, frame=lambda _, i: make.temporal(i.tags["TemporalPositionIdentifier"]))
        path = make.save(data, tmp_path / "scan.dcm")
    same(read_volume(path, frame=0), PHASES[0])
    assert "slices-uneven" not in codes(read_volume(path, frame=0))
    lacking = read_volume(path, frame=1)
    assert "slices-uneven" in codes(lacking)
    np.testing.assert_array_equal(np.delete(lacking.array, 5, 0), np.delete(PHASES[1].array, 5, 0))


def test_a_single_phase_says_which_it_is(tmp_path: Path) -> None:
    path = make.write_classic(tmp_path / "scan", make.planes(phantom(), NominalPercentageOfCardiacPhase=75.0))
    volume = read_volume(path)
    assert volume.source.phase == "75 % of the heart beat"
    assert volume.source.frame is None


# --- R3: values -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, RLELossless, JPEGLosslessSV1])
@pytest.mark.parametrize("kind", ["classic", "enhanced", "legacy"])
@pytest.mark.parametrize("whole", [True, False])
def test_each_frame_has_its_own_rescaling(tmp_path: Path, kind: str, syntax: UID, whole: bool) -> None:
    expected = phantom()
    images = make.planes(expected)
    for k, image in enumerate(images):
        image.slope = float(1 + k % 4) if whole else 0.25 * (1 + k % 4)
        image.intercept = -1024.0 - 10 * (k % 3)
    want = np.stack([i.stored * i.slope + i.intercept for i in images])
    if kind == "classic":
        path = make.write_classic(tmp_path / "scan", images, syntax=syntax)
    else:
        path = make.save(make.enhanced(images, legacy=kind == "legacy"), tmp_path / "scan.dcm", syntax)
    volume = read_volume(path)
    assert volume.geometry.same_grid(expected.geometry)
    np.testing.assert_array_equal(volume.array, want)


@pytest.mark.parametrize("value", ["0,5", "abc", "0", "1e999"])
def test_a_rescale_slope_that_is_no_number_is_refused(tmp_path: Path, value: str) -> None:
    def spoil(k: int, data: Dataset) -> None:
        data.RescaleSlope = 1
        data["RescaleSlope"]._value = value  # as written by a program with another decimal separator

    try:
        folder = make.write_classic(tmp_path / "scan", make.planes(phantom()), change=spoil)
    except (ValueError, TypeError, AttributeError):
        folder = make.write_classic(tmp_path / "scan", make.planes(phantom()))
        for path in folder.iterdir():
            content = path.read_bytes()
            old = b"\x28\x00\x53\x10DS\x04\x001.0 "
            assert content.count(old) == 1
            path.write_bytes(content.replace(old, b"\x28\x00\x53\x10DS\x06\x00" + value.ljust(6).encode()))
    assert "Rescale Slope" in refusal(folder)


# --- R4: cine studies -------------------------------------------------------------------------------------------------

SAX = Geometry((8, 40, 44), (2.5, 2.5, 10.0), (-50.0, -40.0, 20.0), OBLIQUE.direction)


def cine(folder: Path, style: str, phases: int = 4, **changes: Any) -> list[Volume]:
    """Write a short-axis study with one series per slice, and a long-axis series."""
    volumes = [replace(phantom(SAX, 25.0 + 3 * k, k), modality="MR") for k in range(phases)]
    series = [[make.planes(v)[z] for v in volumes] for z in range(SAX.shape[0])]
    for number, images in enumerate(series, 1):
        for k, image in enumerate(images):
            image.intercept, image.stored = 0.0, image.stored
            image.tags = {"TriggerTime": (40.0 + number) * k, "SeriesDescription": "cine SAX"}
        if style == "classic":
            make.write_classic(folder / f"s{number}", shuffled(images), number=number, modality="MR")
        else:
            data = make.enhanced(
                images, number=number, modality="MR", frame=lambda _, i: make.cardiac(delay=i.tags["TriggerTime"])
            )
            make.save(data, folder / f"s{number}.dcm")
    long_axis = [replace(i, orientation=(1, 0, 0, 0, 0, -1)) for i in series[0]]
    make.write_classic(folder / "4ch", long_axis, number=20, modality="MR")
    return [replace(v, array=v.array + 1024) for v in volumes]


@pytest.mark.parametrize("style", ["classic", "enhanced"])
def test_a_cine_study_with_a_series_per_slice_is_one_stack_over_time(tmp_path: Path, style: str) -> None:
    expected = cine(tmp_path / "study", style)
    (joined,) = (series for series in list_series(tmp_path / "study") if series.joined)
    assert joined.frames == 4
    for k, volume in enumerate(expected):
        same(read_series(joined, frame=k), volume)
    found = read_volume(tmp_path / "study", frame=1)
    same(found, expected[1])
    assert {"slices-joined", "series-chosen", "phase-taken"} <= codes(found)
    assert found.source.reading is not None
    assert len(found.source.reading.joined) == 8
    assert any("20" in text for text in found.source.reading.left_out)


def test_a_slice_that_was_acquired_twice_counts_once(tmp_path: Path) -> None:
    expected = cine(tmp_path / "study", "classic")
    again = [make.planes(replace(v, array=v.array * 0))[2] for v in expected]
    for k, image in enumerate(again):
        image.intercept, image.tags = 0.0, {"TriggerTime": 40.0 * k, "SeriesDescription": "first try"}
    make.write_classic(tmp_path / "study" / "bad", again, number=0, modality="MR")
    volume = read_volume(tmp_path / "study", frame=1)
    same(volume, expected[1])
    assert "series-divided" not in codes(volume)
    (whole,) = (series for series in list_series(tmp_path / "study") if series.joined)
    assert whole.repeated == ("0",)


@pytest.mark.parametrize("other", ["PatientID", "FrameOfReferenceUID", "StudyInstanceUID"])
def test_slices_of_other_patients_studies_and_frames_of_reference_are_not_joined(tmp_path: Path, other: str) -> None:
    cine(tmp_path / "study", "classic")
    for number in range(1, 9, 2):
        for path in (tmp_path / "study" / f"s{number}").iterdir():
            data = pydicom.dcmread(path)
            setattr(data, other, "1.2.3.4")
            data.save_as(path)
    for series in list_series(tmp_path / "study"):
        assert len(series.joined) in (0, 4)
        assert series.problem or series.slices in (1, 4)


def lookup_table(data: Dataset) -> np.ndarray:
    """Give a data set a Modality LUT, beside a slope that does not apply; return its values."""
    stored = np.frombuffer(data.PixelData, np.int16 if data.PixelRepresentation else np.uint16).astype(int)
    lowest, count = int(stored.min()), int(np.ptp(stored)) + 1
    item = Dataset()
    item.add_new("LUTDescriptor", "SS" if lowest < 0 else "US", [count, lowest, 16])
    item.add_new("LUTData", "OW", (2 * np.arange(count)).astype(np.uint16).tobytes())
    item.ModalityLUTType = "US"
    data.ModalityLUTSequence, data.RescaleSlope, data.RescaleIntercept = [item], 7, 100
    return 2 * (stored - lowest)


@pytest.mark.parametrize("kind", ["classic", "multi-frame"])
def test_a_modality_lut_replaces_slope_and_intercept(tmp_path: Path, kind: str) -> None:
    values = []
    if kind == "classic":
        make.write_classic(tmp_path, make.planes(phantom()), change=lambda _, data: values.append(lookup_table(data)))
        volume = read_volume(tmp_path)
    else:
        data = make.enhanced(make.planes(phantom()))
        values.append(lookup_table(data))
        volume = read_volume(make.save(data, tmp_path / "scan.dcm"))
    np.testing.assert_array_equal(volume.array.ravel(), np.concatenate(values))


def test_a_modality_lut_in_some_images_only_is_refused(tmp_path: Path) -> None:
    def change(k: int, data: Dataset) -> None:
        if k % 2:
            lookup_table(data)
        del data.RescaleSlope, data.RescaleIntercept

    assert "8 of its 16 images" in refusal(make.write_classic(tmp_path, make.planes(phantom()), change=change))


# --- R6: scans that share a series UID --------------------------------------------------------------------------------


def two_scans(offset: float, first: dict[str, Any], second: dict[str, Any]) -> tuple[list[Image], list[Volume]]:
    """Write two scans, the second shifted along the slices, with attributes that distinguish them."""
    moved = replace(GRID, origin=(*GRID.origin[:2], GRID.origin[2] + offset))
    volumes = [phantom(GRID, 20.0), phantom(moved, 30.0, 9)]
    return [*make.planes(volumes[0], **first), *make.planes(volumes[1], **second)], volumes


MIXED: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "acquisition": ({"AcquisitionNumber": 1}, {"AcquisitionNumber": 2}),
    "kernel": ({"ConvolutionKernel": "B30f"}, {"ConvolutionKernel": "B60f"}),
    "image type": ({}, {"ImageType": ["DERIVED", "SECONDARY", "AXIAL", "AVERAGE"]}),
    "thickness": ({}, {"SliceThickness": 5.0}),
    "frame of reference": ({}, {"FrameOfReferenceUID": "1.2.3"}),
}


@pytest.mark.parametrize("offset", [0.0, 2.0, 1.0])
@pytest.mark.parametrize("kind", MIXED)
def test_two_scans_under_one_series_uid_are_listed_apart(tmp_path: Path, kind: str, offset: float) -> None:
    images, volumes = two_scans(offset, *MIXED[kind])
    folder = make.write_classic(tmp_path / "scan", shuffled(images))
    assert "2 series, 2 of them volumes" in refusal(folder)
    found = list_series(folder)
    assert [series.key for series in found] == ["1/1", "1/2"]
    read = sorted((read_volume(folder, series="1/1"), read_series(found[1])), key=make.ball_ml)
    for volume, expected in zip(read, volumes, strict=True):
        same(volume, expected)
        assert volume.source.reading is not None and volume.source.reading.split


@pytest.mark.parametrize("kind", MIXED)
def test_the_key_of_a_scan_does_not_depend_on_the_names_of_its_files(tmp_path: Path, kind: str) -> None:
    images, _ = two_scans(0.0, *MIXED[kind])
    folder = make.write_classic(tmp_path / "scan", shuffled(images))
    (renamed := tmp_path / "renamed").mkdir()
    for k, file in enumerate(sorted(folder.iterdir(), reverse=True)):
        shutil.copyfile(file, renamed / f"{k:04}.dcm")
    for series, again in zip(list_series(folder), list_series(renamed), strict=True):
        assert (series.key, series.told_by) == (again.key, again.told_by)
        np.testing.assert_array_equal(read_series(series).array, read_series(again).array)


def test_two_series_with_one_number_have_keys_of_their_own(tmp_path: Path) -> None:
    volumes = {uid: phantom(radius=radius) for uid, radius in (("1.2.7", 20.0), ("1.2.8", 30.0))}
    for start, (uid, volume) in enumerate(volumes.items()):
        make.write_classic(tmp_path, make.planes(volume), series=uid, number=3, start=100 * start)
    assert [series.key for series in list_series(tmp_path)] == list(volumes)
    assert "2 series" in refusal(tmp_path, series=3)
    for key, volume in volumes.items():
        same(read_volume(tmp_path, series=key), volume)


@pytest.mark.parametrize("offset", [0.0, 2.0, 300.0])
@pytest.mark.parametrize(
    "second", [{"PatientID": "T2"}, {"PatientName": "Other^One"}, {"PatientBirthDate": "19710203"}]
)
def test_two_patients_under_one_series_uid_are_refused(tmp_path: Path, offset: float, second: dict[str, str]) -> None:
    images, _ = two_scans(offset, {}, second)
    text = refusal(make.write_classic(tmp_path / "scan", shuffled(images)))
    assert "2 patients" in text


def test_an_acquisition_number_per_slice_is_one_scan(tmp_path: Path) -> None:
    images = make.planes(phantom())
    for k, image in enumerate(images):
        image.tags["AcquisitionNumber"] = k // 4
    volume = read_volume(make.write_classic(tmp_path / "scan", images))
    same(volume, phantom())
    assert volume.findings == ()


def test_mr_slices_acquired_alternately_are_one_scan(tmp_path: Path) -> None:
    images = make.planes(phantom())
    for k, image in enumerate(images):
        image.tags |= {"AcquisitionNumber": k % 2 + 1, "SliceThickness": 4.0}
    volume = read_volume(make.write_classic(tmp_path / "scan", images, modality="MR"))
    assert volume.array.shape == GRID.shape


# --- R7: uneven positions ---------------------------------------------------------------------------------------------


def ramp(positions: np.ndarray) -> list[Image]:
    """Write slices whose value is their height, so that the correct interpolated value is known everywhere."""
    geometry = replace(GRID, shape=(len(positions), *GRID.shape[1:]))
    images = make.planes(Volume(np.zeros(geometry.shape, np.int16), geometry))
    for image, z in zip(images, positions, strict=True):
        image.position = (*image.position[:2], float(z))
        image.stored = np.full(image.stored.shape, round(1000 + 10 * z), np.uint16)
        image.stored[0, 0] = 0
        image.intercept = 0.0
    return images


@pytest.mark.parametrize(
    "steps",
    [
        [3.0] * 10 + [4.0] * 10,
        [2.0, 4.0] * 10,
        list(np.linspace(2.0, 4.5, 20)),
        [3.0] * 7 + [6.0] + [3.0] * 12,
        [3.0] * 4 + [6.0] + [3.0] * 6 + [6.0] + [3.0] * 8,
        list(3 + np.random.default_rng(0).uniform(-0.8, 0.8, 20)),
    ],
    ids=["two distances", "alternating", "growing", "one missing", "two missing", "random"],
)
def test_uneven_slices_are_resampled_from_their_true_positions(tmp_path: Path, steps: list[float]) -> None:
    heights = np.concatenate([[0.0], np.cumsum(steps)])
    volume = read_volume(make.write_classic(tmp_path / "scan", ramp(heights)))
    geometry = volume.geometry
    z = geometry.index_to_world(np.array([[k, 5, 5] for k in range(geometry.shape[0])]))[:, 2]
    assert z[0] == pytest.approx(0) and z[-1] == pytest.approx(heights[-1])
    np.testing.assert_allclose(volume.array[:, 5, 5], 1000 + 10 * z, atol=1.1)
    assert "slices-uneven" in codes(volume)


@pytest.mark.parametrize(
    "steps",
    [
        [3.0] * 10 + [100.0] + [3.0] * 10,
        [3.0] * 10 + [9.0] + [3.0] * 10,
        [1.0] * 10 + [5.0] * 10,
        [3.0, 0.4] * 12,
        [14.0] * 5 + [28.0] + [14.0] * 3,
    ],
    ids=["far apart", "two missing in a row", "two scans", "pairs", "too wide to bridge"],
)
def test_slices_that_cannot_be_put_on_a_grid_are_refused(tmp_path: Path, steps: list[float]) -> None:
    heights = np.concatenate([[0.0], np.cumsum(steps)])
    assert "mm" in refusal(make.write_classic(tmp_path / "scan", ramp(heights)))


@pytest.mark.parametrize("degrees", [2.0, 10.0, 20.0, -15.0])
def test_a_tilted_gantry_is_straightened(tmp_path: Path, degrees: float) -> None:
    """Each slice is shifted along its columns by the tilt; values depend on the height above the table."""
    shift = np.tan(np.radians(degrees)) * GRID.spacing[2]
    images = make.planes(phantom())
    y = np.arange(GRID.shape[1]) * GRID.spacing[1]
    for k, image in enumerate(images):
        image.position = (image.position[0], image.position[1] + k * shift, image.position[2])
        image.stored = np.tile(np.rint(2000 + 5 * (y + k * shift))[:, None], (1, GRID.shape[2])).astype(np.uint16)
        image.intercept = 0.0
    volume = read_volume(make.write_classic(tmp_path / "scan", images))
    assert "gantry-tilt" in codes(volume)
    grid = volume.geometry
    for z in (1, 8, 14):
        world_y = grid.index_to_world(np.array([[z, j, 5] for j in range(grid.shape[1])]))[:, 1] - GRID.origin[1]
        inside = (world_y > z * shift + 1) & (world_y < z * shift + y[-1] - 1)
        assert inside.sum() >= len(y) - 2
        np.testing.assert_allclose(volume.array[z, inside, 5], 2000 + 5 * world_y[inside], atol=1.1)


# --- R8, R9: missing and truncated ------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [None, "", [0, 0], [0.7, 0], [-1, 1], "absent"])
@pytest.mark.parametrize("kind", ["classic", "enhanced", "one slice"])
def test_a_missing_or_zero_pixel_spacing_is_never_taken_for_1_mm(
    tmp_path: Path, kind: str, value: str | list[int] | list[float] | None
) -> None:
    def spoil(data: Dataset) -> None:
        if value == "absent":
            del data.PixelSpacing
        else:
            data.PixelSpacing = value

    if kind == "enhanced":
        data = make.enhanced(make.planes(phantom()))
        for group in data.PerFrameFunctionalGroupsSequence:
            spoil(group.PixelMeasuresSequence[0])
        assert "Pixel Spacing" in refusal(make.save(data, tmp_path / "scan.dcm"))
        return
    only = 5 if kind == "one slice" else None
    folder = make.write_classic(
        tmp_path / "scan", make.planes(phantom()), change=lambda k, d: spoil(d) if only in (None, k) else None
    )
    if only is None:
        assert "Pixel Spacing" in refusal(folder)
    else:
        volume = read_volume(folder)
        assert volume.geometry.same_grid(GRID, 1e-3)
        assert {"series-chosen", "slices-uneven"} <= codes(volume)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.999])
@pytest.mark.parametrize("kind", ["classic", "enhanced"])
@pytest.mark.parametrize("how", ["value", "file"])
def test_pixel_data_shorter_than_the_header_says_are_refused(tmp_path: Path, kind: str, share: float, how: str) -> None:
    if kind == "classic":
        folder = make.write_classic(tmp_path / "scan", make.planes(phantom()))
        path = sorted(folder.iterdir())[4]
    else:
        path = make.save(make.enhanced(make.planes(phantom())), tmp_path / "scan" / "one.dcm")
    data = pydicom.dcmread(path)
    if how == "value":
        data.PixelData = data.PixelData[: int(len(data.PixelData) * share) // 2 * 2]
        data.save_as(path)
    else:
        whole = path.read_bytes()
        path.write_bytes(whole[: len(whole) - int(len(data.PixelData) * (1 - share)) - (share > 0)])
    text = refusal(path.parent)
    assert path.name in text


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless, JPEG2000Lossless, JPEGLosslessSV1])
def test_damaged_compressed_pixel_data_are_refused(
    tmp_path: Path, syntax: UID, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("PIL.ImageFile.LOAD_TRUNCATED_IMAGES", True)  # as after an import of WeasyPrint
    folder = make.write_classic(tmp_path / "scan", make.planes(phantom()), syntax=syntax)
    path = sorted(folder.iterdir())[4]
    data = pydicom.dcmread(path)
    frame = pydicom.encaps.get_frame(data.PixelData, 0, number_of_frames=1)
    data.PixelData = pydicom.encaps.encapsulate([frame[: len(frame) // 3]])
    data["PixelData"].is_undefined_length = True
    data.save_as(path)
    text = refusal(folder)
    assert path.name in text
    assert capfd.readouterr() == ("", "")


# --- other ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
@pytest.mark.parametrize("suffix", ["", ".img", ".dcm"])
@pytest.mark.parametrize("kind", ["classic", "enhanced"])
def test_files_without_a_preamble_are_recognised(tmp_path: Path, syntax: UID, suffix: str, kind: str) -> None:
    folder = tmp_path / "scan"
    images = make.planes(phantom())
    data = (
        [make.enhanced(images)]
        if kind == "enhanced"
        else [make.classic(image, k, "1.2.3", 1, "CT") for k, image in enumerate(images)]
    )
    for k, one in enumerate(data):
        make.save(one, folder / f"image{k}{suffix}", syntax, preamble=False)
    same(read_volume(folder), phantom())


def test_linked_folders_and_files_are_followed_once(tmp_path: Path) -> None:
    make.write_classic(tmp_path / "archive" / "ct", make.planes(phantom()))
    (tmp_path / "scan").mkdir()
    (tmp_path / "scan" / "series").symlink_to(tmp_path / "archive" / "ct")
    (tmp_path / "archive" / "ct" / "up").symlink_to(tmp_path / "scan")
    (tmp_path / "scan" / "again").symlink_to(tmp_path / "archive" / "ct")
    (tmp_path / "scan" / "gone").symlink_to(tmp_path / "nowhere")
    volume = read_volume(tmp_path / "scan")
    same(volume, phantom())
    assert volume.findings == ()


@pytest.mark.parametrize("kind", ["88.11", "11.1", "481.3"], ids=["report", "presentation state", "structure set"])
def test_objects_that_are_no_images_are_no_missing_slices(tmp_path: Path, kind: str) -> None:
    folder = make.write_classic(tmp_path / "scan", make.planes(phantom()))
    other = Dataset()
    other.SOPClassUID, other.SOPInstanceUID = f"1.2.840.10008.5.1.4.1.1.{kind}", generate_uid()
    other.SeriesInstanceUID, other.Modality, other.PatientID = "1.2.3", "SR", "T1"
    make.save(other, folder / "object.dcm")
    volume = read_volume(folder)
    same(volume, phantom())
    assert volume.findings == ()
    assert volume.source.reading is not None and len(volume.source.reading.left_out) == 1


@pytest.mark.parametrize("name", ["DICOMDIR", "dicomdir", "index.dcm"])
def test_a_dicomdir_stands_for_the_files_beside_it(tmp_path: Path, name: str) -> None:
    make.write_classic(tmp_path / "disc" / "images", make.planes(phantom()))
    index = Dataset()
    index.SOPClassUID, index.SOPInstanceUID = "1.2.840.10008.1.3.10", generate_uid()
    index.FileSetID = "DISC"
    make.save(index, tmp_path / "disc" / name)
    same(read_volume(tmp_path / "disc" / name), phantom())
    same(read_volume(tmp_path / "disc"), phantom())


@pytest.mark.parametrize("copies", [[3], [0, 5, 6, 15], list(range(16))])
def test_equal_images_under_new_uids_count_once(tmp_path: Path, copies: list[int]) -> None:
    images = make.planes(phantom())
    series = generate_uid()
    folder = make.write_classic(tmp_path / "scan", images, series=series)
    make.write_classic(folder, [images[k] for k in copies], series=series, start=100)
    volume = read_volume(folder)
    same(volume, phantom())
    assert "slices-repeated" in codes(volume)


def test_other_images_under_the_same_uid_are_no_copies(tmp_path: Path) -> None:
    """As written by a program that gives every image the same UID."""
    images = in_time("time-major", lambda k: {"SOPInstanceUID": "1.2.3", "InstanceNumber": 1})
    assert "3 images lie at each" in refusal(make.write_classic(tmp_path / "scan", images))


def test_copied_files_count_once(tmp_path: Path) -> None:
    folder = make.write_classic(tmp_path / "scan", make.planes(phantom()))
    shutil.copytree(folder, folder / "backup")
    same(read_volume(folder), phantom())


@pytest.mark.parametrize("modality", ["", "OT"])
def test_the_modality_can_be_named_where_dicom_has_none(tmp_path: Path, modality: str) -> None:
    folder = make.write_classic(
        tmp_path / "scan", make.planes(phantom()), change=lambda k, data: setattr(data, "Modality", modality)
    )
    assert "HeartSeg reads CT and MR" in refusal(folder)
    volume = read_volume(folder, modality="CT")
    same(volume, phantom())
    assert volume.modality == "CT"


def test_another_series_is_advised_only_where_there_is_one(tmp_path: Path) -> None:
    images = make.planes(phantom())
    folder = make.write_classic(tmp_path / "scan", images, change=lambda k, data: setattr(data, "Modality", "US"))
    assert "another series" not in refusal(folder)
    make.write_classic(folder, images, number=2)
    assert "another series" in refusal(folder, series=1)


@pytest.mark.parametrize(
    ("age", "child"), [("004Y", True), ("010M", True), ("017Y", True), ("018Y", False), ("", False)]
)
def test_a_childs_scan_is_taken_with_a_warning(tmp_path: Path, age: str, child: bool) -> None:
    volume = read_volume(make.write_classic(tmp_path / "scan", make.planes(phantom(), PatientAge=age)))
    assert ("patient-is-child" in codes(volume)) == child


def test_a_short_stack_is_taken_with_a_finding(tmp_path: Path) -> None:
    short = phantom(replace(GRID, shape=(7, 20, 22), spacing=(4.0, 4.5, 8.0)))
    volume = read_volume(make.write_classic(tmp_path / "scan", make.planes(short)))
    same(volume, short)
    assert "field-of-view-short" in codes(volume)


def test_twenty_thousand_nested_sequences_are_a_damaged_file(tmp_path: Path) -> None:
    folder = make.write_classic(tmp_path / "scan", make.planes(phantom()))
    item = b"\xfe\xff\x00\xe0\xff\xff\xff\xff" + b"\x08\x00\x15\x11SQ\x00\x00\xff\xff\xff\xff"
    head = b"\0" * 128 + b"DICM" + b"\x08\x00\x15\x11SQ\x00\x00\xff\xff\xff\xff"
    (folder / "deep.dcm").write_bytes(head + item * 20000)
    volume = read_volume(folder)
    same(volume, phantom())
    assert codes(volume) == {"files-left-out"}


# --- further kinds ----------------------------------------------------------------------------------------------------


def classic(folder: Path, change: Callable[[int, Dataset], None], **options: Any) -> Path:
    return make.write_classic(folder / "scan", make.planes(phantom()), change=change, **options)


def test_spacing_may_be_given_where_there_is_none(tmp_path: Path) -> None:
    folder = classic(tmp_path, lambda k, data: data.__delitem__("PixelSpacing"))
    assert "--spacing" in refusal(folder)
    volume = read_volume(folder, spacing=GRID.spacing)
    same(volume, phantom())
    assert codes(volume) == {"spacing-given"}
    assert "4 mm apart" in refusal(folder, spacing=(4.0, 4.5, 5.0)), "positions tell the distance of the slices"


def test_a_given_spacing_never_replaces_a_stated_one(tmp_path: Path) -> None:
    folder = make.write_classic(tmp_path / "scan", make.planes(phantom()))
    assert "--spacing" in refusal(folder, spacing=(1.0, 1.0, 1.0))
    alone = make.save(make.enhanced(make.planes(phantom())), tmp_path / "one.dcm")
    assert "--spacing" in refusal(alone, spacing=(1.0, 1.0, 1.0))


@pytest.mark.parametrize("kind", ["classic", "enhanced"])
def test_a_rescaling_that_some_images_lack_is_refused(tmp_path: Path, kind: str) -> None:
    def strip(k: int, data: Dataset) -> None:
        if 5 <= k < 11:
            del data.RescaleSlope, data.RescaleIntercept

    if kind == "classic":
        path = classic(tmp_path, strip)
    else:
        data = make.enhanced(make.planes(phantom()))
        for group in data.PerFrameFunctionalGroupsSequence[5:11]:
            del group.PixelValueTransformationSequence
        path = make.save(data, tmp_path / "scan.dcm")
    assert "6 of its 16 images" in refusal(path)


def other_frame_of_reference(k: int, data: Dataset) -> None:
    if k >= 12:
        data.FrameOfReferenceUID = f"1.2.3.{k}"


def other_orientation(k: int, data: Dataset) -> None:
    if k >= 12:
        data.ImageOrientationPatient = [-1, 0, 0, 0, -1, 0]


def no_spacing(k: int, data: Dataset) -> None:
    if k >= 12:
        del data.PixelSpacing


@pytest.mark.parametrize("change", [other_frame_of_reference, other_orientation, no_spacing])
def test_images_of_the_same_series_that_are_left_out_are_a_warning(tmp_path: Path, change: Callable[..., Any]) -> None:
    volume = read_volume(classic(tmp_path, change))
    np.testing.assert_array_equal(volume.array, phantom().array[:12])
    assert "series-divided" in codes(volume)


@pytest.mark.parametrize("name", ["SliceThickness", "ConvolutionKernel", "EchoTime", "AcquisitionNumber"])
def test_an_attribute_that_every_second_image_lacks_does_not_divide_a_series(tmp_path: Path, name: str) -> None:
    def strip(k: int, data: Dataset) -> None:
        setattr(data, name, "B30f" if name == "ConvolutionKernel" else 3)
        if k % 2:
            delattr(data, name)

    volume = read_volume(classic(tmp_path, strip))
    same(volume, phantom())
    assert volume.findings == ()


@pytest.mark.parametrize(
    ("name", "values", "modality"),
    [("KVP", ("80", "140"), "CT"), ("ComplexImageComponent", ("MAGNITUDE", "PHASE"), "MR")],
    ids=["dual energy", "flow"],
)
def test_two_energies_and_magnitude_and_phase_are_two_scans(
    tmp_path: Path, name: str, values: tuple[str, str], modality: str
) -> None:
    both = [phantom(radius=20.0), phantom(radius=30.0)]
    images = [i for volume, value in zip(both, values, strict=True) for i in make.planes(volume, **{name: value})]
    folder = make.write_classic(tmp_path / "scan", shuffled(images), modality=modality)
    assert "2 of them volumes" in refusal(folder)
    for key, expected in zip(("1/1", "1/2"), sorted(list_series(folder), key=lambda s: s.key), strict=True):
        assert expected.key == key
        assert any(np.array_equal(read_volume(folder, series=key).array, volume.array) for volume in both)


def test_images_at_one_place_are_no_volume(tmp_path: Path) -> None:
    def stack(k: int, data: Dataset) -> None:
        data.ImagePositionPatient, data.SliceLocation = [0, 0, 0], 4.0 * k

    text = refusal(classic(tmp_path, stack))
    assert "16 images" in text and "--frame" not in text


def test_mosaics_are_refused(tmp_path: Path) -> None:
    assert "mosaic" in refusal(classic(tmp_path, lambda k, d: setattr(d, "ImageType", ["ORIGINAL", "MOSAIC"])))


def test_a_series_uid_for_every_slice_is_one_scan_with_a_warning(tmp_path: Path) -> None:
    def anonymise(k: int, data: Dataset) -> None:
        data.SeriesInstanceUID, data.SeriesNumber = generate_uid(), k

    volume = read_volume(classic(tmp_path, anonymise))
    same(volume, phantom())
    assert "series-joined" in codes(volume)


def test_a_rotated_stack_is_refused_in_one_short_line(tmp_path: Path) -> None:
    images = make.planes(phantom())
    for k, image in enumerate(images):
        angle = np.pi * k / len(images)
        image.orientation = (np.cos(angle), np.sin(angle), 0, 0, 0, -1)
    text = refusal(make.write_classic(tmp_path / "scan", images, modality="MR"))
    assert "16 series, none of them a volume" in text and "8 more" in text


@pytest.mark.parametrize("kind", ["phases", "orientation"])
def test_a_cine_slice_that_is_not_joined_is_a_warning(tmp_path: Path, kind: str) -> None:
    expected = cine(tmp_path / "study", "classic")
    last = tmp_path / "study" / "s8"
    if kind == "phases":
        next(iter(last.iterdir())).unlink()
    for path in last.iterdir() if kind == "orientation" else ():
        data = pydicom.dcmread(path)
        data.ImageOrientationPatient = [*np.cos([0.45]), 0, *-np.sin([0.45]), 0, 1, 0]
        data.save_as(path)
    volume = read_volume(tmp_path / "study", frame=0)
    np.testing.assert_array_equal(volume.array, expected[0].array[:7])
    assert "series-divided" in codes(volume)
    assert any("8" in str(f.values.get("series")) for f in volume.findings if f.code == "series-divided")


def test_archives_and_pictures_in_a_folder_name_the_way_out(tmp_path: Path) -> None:
    (tmp_path / "zip").mkdir()
    folder = make.write_classic(tmp_path / "s", make.planes(phantom()))
    shutil.make_archive(str(tmp_path / "zip" / "scan"), "zip", folder)
    assert "unpack" in refusal(tmp_path / "zip")
    (tmp_path / "png").mkdir()
    (tmp_path / "png" / "001.png").write_bytes(b"x")
    assert "voxel size" in refusal(tmp_path / "png")


@pytest.mark.parametrize("kept", [4, 10, 20, 24])
def test_a_file_that_ends_within_its_class_is_damaged_and_no_other_object(tmp_path: Path, kept: int) -> None:
    """The last slice: a gap in the stack would be noticed anyway."""
    folder = make.write_classic(tmp_path / "scan", make.planes(phantom()))
    last = max(folder.iterdir(), key=lambda path: pydicom.dcmread(path).InstanceNumber)
    content = last.read_bytes()
    start = content.rindex(b"1.2.840.10008.5.1.4.1.1.2\0", 0, 600)
    last.write_bytes(content[: start + kept])
    volume = read_volume(folder)
    np.testing.assert_array_equal(volume.array, phantom().array[:15])
    assert "files-left-out" in codes(volume)
