"""DICOM folders: their series, order and problems."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.uid import EnhancedMRImageStorage

from heartseg.errors import InputError
from heartseg.volume import Volume, count_frames, list_series, read_series, read_volume


def codes(volume: Volume) -> list[str]:
    return [finding.code for finding in volume.findings]


def nested(**items: object) -> pydicom.Dataset:
    """Return a data set; nested data sets become sequences of one item."""
    data = pydicom.Dataset()
    for name, value in items.items():
        setattr(data, name, [value] if isinstance(value, pydicom.Dataset) else value)
    return data


def refused(path: Path, *words: str, **options: Any) -> None:
    with pytest.raises(InputError) as caught:
        read_volume(path, **options)
    text = str(caught.value)
    assert "\n" not in text
    for word in words:
        assert word in text


def heights(volume: Volume) -> list[float]:
    """Read the position that was stored in the values of every slice, mm."""
    return [float(v) + 1000.0 for v in volume.array[:, 0, 0]]


def test_slices_are_ordered_by_position_whatever_the_files_are_called(dicom_series: Callable[..., Path]) -> None:
    folder = dicom_series()
    volume = read_volume(folder)
    assert heights(volume) == [3.0 * k for k in range(30)]
    assert volume.array.shape == (30, 36, 44)
    assert volume.array.dtype == np.int16, "rescaled by whole numbers, so whole numbers stay"
    assert volume.geometry.spacing == (2.0, 2.5, 3.0)
    assert volume.geometry.origin == (-40.0, -50.0, 0.0)
    assert (volume.modality, volume.name, volume.findings) == ("CT", "dicom", ())


def test_the_hash_is_that_of_the_files_in_slice_order(dicom_series: Callable[..., Path]) -> None:
    folder = dicom_series()
    (series,) = list_series(folder)
    whole = b"".join(path.read_bytes() for path in series.files)
    source = read_volume(folder).source
    assert (source.path, source.series_uid) == (str(folder), series.uid)
    assert source.sha256 == hashlib.sha256(whole).hexdigest()


def test_an_oblique_stack_has_its_slices_along_the_normal(dicom_series: Callable[..., Path]) -> None:
    folder = dicom_series(
        ImageOrientationPatient=[0, 1, 0, 0, 0, -1],
        per_slice=lambda k: {"ImagePositionPatient": [-3.0 * k, 10.0, 20.0]},
    )
    volume = read_volume(folder)
    assert volume.geometry.orientation == "PIR"
    np.testing.assert_allclose(volume.geometry.index_to_world([0, 0, 0]), [0, 10, 20], atol=1e-9)
    np.testing.assert_allclose(volume.geometry.index_to_world([29, 0, 0]), [-87, 10, 20], atol=1e-9)
    assert volume.geometry.spacing == (2.0, 2.5, 3.0)


def test_a_series_says_what_it_is(dicom_series: Callable[..., Path]) -> None:
    (series,) = list_series(dicom_series(number=4))
    assert (series.number, series.description, series.modality) == (4, "series 4", "CT")
    assert (series.slices, series.size, series.spacing, series.frames) == (30, (44, 36, 30), (2.0, 2.5, 3.0), 1)
    assert len(series.files) == 30
    assert read_series(series).name == "series 4"


def test_folders_below_and_other_files_are_no_trouble(dicom_series: Callable[..., Path], tmp_path: Path) -> None:
    dicom_series(folder="study/a/b")
    (tmp_path / "study" / "notes.txt").write_text("words")
    (tmp_path / "study" / "DICOMDIR").write_bytes(b"\0" * 128 + b"DICM")
    assert read_volume(tmp_path / "study").findings == ()


# --- several series ---------------------------------------------------------------------------------------------------


def test_of_several_volumes_one_must_be_picked_from_the_list(dicom_series: Callable[..., Path]) -> None:
    dicom_series(number=2)
    folder = dicom_series(number=5, slices=40, step=2.0)
    refused(folder, "2 series", "--series", "[2: CT 'series 2', 30 slices, 44x36x30 voxels of 2x2.5x3 mm]", "[5: CT")
    refused(folder, "no series 7", "[2:", "[5:", series=7)
    assert read_volume(folder, series=5).array.shape[0] == 40
    assert read_volume(folder, series="2").array.shape[0] == 30
    uid = list_series(folder)[1].uid
    assert read_volume(folder, series=uid).source.series_uid == uid


def test_the_only_volume_among_localizers_is_taken_and_the_report_says_so(dicom_series: Callable[..., Path]) -> None:
    dicom_series(number=1, slices=3, step=50.0)
    dicom_series(number=2, slices=12, step=10.0, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    volume = read_volume(dicom_series(number=3))
    assert codes(volume) == ["series-chosen"]
    assert volume.findings[0].values == {"series": "3", "found": 3}
    assert volume.array.shape[0] == 30


def test_stacks_of_different_direction_in_one_series_are_kept_apart(dicom_series: Callable[..., Path]) -> None:
    dicom_series(uid="1.2.9")
    folder = dicom_series(
        number=1,
        slices=4,
        uid="1.2.9",
        folder="dicom/more",
        ImageOrientationPatient=[1, 0, 0, 0, 0, -1],
        per_slice=lambda k: {"ImagePositionPatient": [0.0, 3.0 * k, 0.0]},
    ).parent
    assert sorted(series.key for series in list_series(folder)) == ["1/1", "1/2"]
    assert read_volume(folder).array.shape == (30, 36, 44)
    refused(folder, "4 slices along", series=next(s.key for s in list_series(folder) if s.slices == 4))


def test_slices_of_different_size_are_kept_apart(dicom_series: Callable[..., Path]) -> None:
    odd = {"Rows": 18, "PixelData": np.zeros((18, 44), np.uint16).tobytes()}
    folder = dicom_series(per_slice=lambda k: odd if k == 29 else {})
    assert [series.slices for series in list_series(folder)] in ([29, 1], [1, 29])
    assert codes(read_volume(folder)) == ["series-chosen", "series-divided"]


def test_two_series_that_fill_each_others_gaps_are_joined_and_reported(dicom_series: Callable[..., Path]) -> None:
    away = {3, 4, 5, 11, 12, 20, 21, 22}
    dicom_series(number=2, positions=[3.0 * k for k in range(30) if k not in away])
    folder = dicom_series(number=3, positions=[3.0 * k for k in sorted(away)])
    volume = read_volume(folder)
    assert codes(volume) == ["series-joined"]
    assert heights(volume) == [3.0 * k for k in range(30)]
    assert read_volume(folder, series="2+3").array.shape[0] == 30
    refused(folder, "slices are missing", series=2)


# --- problems ---------------------------------------------------------------------------------------------------------


def test_one_missing_slice_is_reported_with_numbers(dicom_series: Callable[..., Path]) -> None:
    volume = read_volume(dicom_series(positions=[3.0 * k for k in range(30) if k != 12]))
    assert codes(volume) == ["slices-uneven"]
    assert volume.findings[0].values == {"gaps": 1, "usual_mm": 3.0, "widest_mm": 6.0, "position_error_mm": 1.71}
    assert volume.geometry.spacing[2] == 3.0
    whole = read_volume(dicom_series(folder="whole", number=2)).array
    np.testing.assert_array_equal(np.delete(volume.array, 12, 0)[:12], whole[:12])
    np.testing.assert_array_equal(volume.array[12], np.rint((volume.array[11].astype(float) + volume.array[13]) / 2))


def test_many_missing_slices_are_refused(dicom_series: Callable[..., Path]) -> None:
    refused(dicom_series(positions=[3.0 * k for k in range(30) if not 10 < k < 14]), "widest gap is 12 mm", "3 mm")


def test_a_tilted_gantry_is_reported_with_its_angle(dicom_series: Callable[..., Path]) -> None:
    volume = read_volume(dicom_series(shift_per_slice=3.0 * np.tan(np.radians(15.0))))
    assert codes(volume) == ["gantry-tilt"]
    assert volume.findings[0].values["tilt_deg"] == pytest.approx(15.0, abs=0.01)


def test_a_time_series_gives_one_frame(dicom_series: Callable[..., Path]) -> None:
    folder = dicom_series(
        positions=[3.0 * (k % 30) for k in range(90)], per_slice=lambda k: {"TemporalPositionIdentifier": k // 30}
    )
    assert count_frames(folder) == 3
    refused(folder, "3 frames", "--frame N", "--frame all")
    frames = [read_volume(folder, frame=k) for k in range(3)]
    assert [heights(volume) for volume in frames] == [[3.0 * k for k in range(30)]] * 3
    assert len({volume.source.sha256 for volume in frames}) == 3
    assert frames[2].source.frame == 2


def test_an_incomplete_time_series_is_refused(dicom_series: Callable[..., Path]) -> None:
    refused(dicom_series(positions=[3.0 * (k % 30) for k in range(70)]), "from 2 to 3 images")


def test_copies_of_slices_are_left_out(dicom_series: Callable[..., Path]) -> None:
    folder = dicom_series()
    for path in sorted(folder.glob("*"))[:4]:
        shutil.copy(path, folder / f"copy_{path.name}")
    volume = read_volume(folder)
    assert codes(volume) == ["slices-repeated"]
    assert volume.array.shape[0] == 30


def test_a_slope_that_is_no_whole_number_is_applied(dicom_series: Callable[..., Path]) -> None:
    plain = read_volume(dicom_series(folder="plain"))
    scaled = read_volume(dicom_series(folder="scaled", RescaleSlope="0.5", RescaleIntercept="-10.25"))
    assert scaled.array.dtype == np.float32
    np.testing.assert_allclose(scaled.array, (plain.array + 1024.0) * 0.5 - 10.25)


def test_a_slope_that_differs_from_slice_to_slice_is_applied(dicom_series: Callable[..., Path]) -> None:
    plain = read_volume(dicom_series(folder="plain"))
    scaled = read_volume(dicom_series(folder="scaled", per_slice=lambda k: {"RescaleSlope": 1 + k}))
    factor = np.arange(1, 31)[:, None, None]
    np.testing.assert_allclose(scaled.array, (plain.array + 1024.0) * factor - 1024.0)


def test_an_inverted_mr_is_turned_round_and_an_inverted_ct_keeps_its_hu(dicom_series: Callable[..., Path]) -> None:
    tags = {"RescaleIntercept": 0, "Modality": "MR"}
    plain = read_volume(dicom_series(folder="plain", **tags))
    inverted = read_volume(dicom_series(folder="inverted", PhotometricInterpretation="MONOCHROME1", **tags))
    assert codes(inverted) == ["values-inverted"]
    assert inverted.modality == "MR"
    np.testing.assert_array_equal(inverted.array, plain.array.max() + plain.array.min() - plain.array)
    for bits in (12, 16):
        stored = {"PhotometricInterpretation": "MONOCHROME1", "BitsStored": bits, "HighBit": bits - 1}
        ct = read_volume(dicom_series(folder=f"ct{bits}", **stored))
        assert heights(ct) == [3.0 * k for k in range(30)]
        assert ct.array.dtype == np.int16
    signed = read_volume(dicom_series(folder="s", PhotometricInterpretation="MONOCHROME1", PixelRepresentation=1))
    assert heights(signed) == [3.0 * k for k in range(30)]


@pytest.mark.parametrize(
    ("tags", "words"),
    [
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7"}, "secondary capture"),
        ({"Modality": "US"}, "modality is US"),
        ({"ImageOrientationPatient": None}, "no position"),
        (
            {
                "SamplesPerPixel": 3,
                "PhotometricInterpretation": "RGB",
                "PlanarConfiguration": 0,
                "BitsAllocated": 8,
                "BitsStored": 8,
                "HighBit": 7,
                "PixelData": bytes(36 * 44 * 3),
            },
            "colour pictures (RGB)",
        ),
    ],
)
def test_what_is_no_scan_is_refused(dicom_series: Callable[..., Path], tags: dict[str, Any], words: str) -> None:
    refused(dicom_series(**tags), words)


def test_a_single_slice_is_refused_with_the_advice_to_give_the_folder(dicom_series: Callable[..., Path]) -> None:
    folder = dicom_series()
    refused(next(folder.iterdir()), "one slice of a DICOM series", f"give the folder {str(folder)!r}")


def test_a_multi_frame_file_is_read_alone_and_from_its_folder(dicom_series: Callable[..., Path]) -> None:
    folder = dicom_series(slices=1)
    path = next(folder.iterdir())
    data = pydicom.dcmread(path)
    data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = EnhancedMRImageStorage
    data.Modality, data.NumberOfFrames = "MR", 30
    data.PixelData = b"".join(np.full((36, 44), 10 * k, np.uint16).tobytes() for k in range(30))
    for name in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness"):
        delattr(data, name)
    data.SharedFunctionalGroupsSequence = [
        nested(
            PlaneOrientationSequence=nested(ImageOrientationPatient=[1, 0, 0, 0, 1, 0]),
            PixelMeasuresSequence=nested(PixelSpacing=[2.5, 2.0], SliceThickness=3.0),
            PixelValueTransformationSequence=nested(RescaleSlope=1, RescaleIntercept=0, RescaleType="US"),
        )
    ]
    data.PerFrameFunctionalGroupsSequence = [
        nested(PlanePositionSequence=nested(ImagePositionPatient=[-40.0, -50.0, 3.0 * k])) for k in range(30)
    ]
    pydicom.dcmwrite(path, data, enforce_file_format=True)
    for volume in (read_volume(path), read_volume(folder)):
        assert volume.array.shape == (30, 36, 44)
        assert volume.geometry.spacing == pytest.approx((2.0, 2.5, 3.0))
        assert volume.geometry.origin == pytest.approx((-40.0, -50.0, 0.0))
        assert volume.modality == "MR"
        assert [int(v) for v in volume.array[:, 5, 5]] == [10 * k for k in range(30)]


def test_a_folder_without_dicom_is_refused(tmp_path: Path) -> None:
    (tmp_path / "words").mkdir()
    (tmp_path / "words" / "a.txt").write_text("words")
    refused(tmp_path / "words", "holds no DICOM image")


@pytest.mark.parametrize("keep", [0.3, 0.95])
def test_a_slice_cut_short_never_passes_unnoticed(
    dicom_series: Callable[..., Path], keep: float, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = dicom_series()
    path = sorted(folder.iterdir())[7]
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep)])
    try:
        assert "files-left-out" in codes(read_volume(folder))
    except InputError as error:
        assert "\n" not in str(error)
        assert path.name in str(error) or "series 1" in str(error)
    assert capfd.readouterr() == ("", "")


def test_a_real_series_is_read(shared_data: Path, capfd: pytest.CaptureFixture[str]) -> None:
    volume = read_volume(shared_data / "dicom" / "lung-dx-a0002")
    assert (volume.array.shape, volume.array.dtype, volume.modality) == ((30, 512, 512), np.int16, "CT")
    assert volume.geometry.spacing == pytest.approx((0.646484375, 0.646484375, 8.0))
    assert volume.geometry.origin == pytest.approx((-173.1767578125, -294.1767578125, 80.0))
    assert codes(volume) == ["series-joined", "slices-thick"]
    assert volume.array.min() == -1024
    assert capfd.readouterr() == ("", "")
